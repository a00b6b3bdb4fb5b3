#!/usr/bin/env python3
"""What others take to add encrypted or masked updates, beside Privet's sealed sums, in the same run.

    python3 bench/peers/he.py --privet target/release/privet --params 1000000 --sites 10

Peers that are not installed are left out, with the reason. `pip install numpy tenseal openfhe phe gmpy2`
brings them; nothing of Privet needs them. Each peer does what its users do: TenSEAL with the settings that NVFlare
provisions, python-phe on a sample of the vector (it would take hours), Flower's SecAgg+ arithmetic as numpy
does it. The times of one column are comparable, those of two runs are not.
"""

import argparse
import json
import subprocess
import time


def best(work, seconds=2.0, least=2):
    """The best time of several runs of `work`, in seconds, and what the last run gave."""
    times, began, result = [], time.perf_counter(), None
    while len(times) < least or (time.perf_counter() - began < seconds and len(times) < 10):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def ours(binary, params, sites, more=()):
    command = [binary, "bench", "he", "--params", str(params), "--sites", str(sites),
               "--scheme", "threshold", "--json", *more]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured = json.loads(text)
    return {
        "name": f"Privet threshold, {measured['bits']} bits",
        "seal": measured["encrypt_ns_per_param"],
        "add": measured["add_ns_per_param_per_site"],
        "open": measured["open_ns_per_param"],
        "bytes": measured["wire_bytes_per_param"],
        "note": f"nobody holds a key; error {measured['max_abs_error']:.1e}",
    }


def tenseal(params, sites):
    import numpy as np
    import tenseal as ts

    context = ts.context(
        ts.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = 2**40
    values = np.random.default_rng(1).uniform(-1, 1, params)
    seal, wire = best(lambda: ts.ckks_vector(context, values).serialize())
    total = ts.ckks_vector_from(context, wire)

    def add():
        return total + ts.ckks_vector_from(context, wire)

    added, total = best(add)
    opened, back = best(total.decrypt)
    error = float(np.abs(np.array(back) / 2 - values).max())
    yield {
        "name": "TenSEAL as NVFlare sets it up", "seal": seal * 1e9 / params, "add": added * 1e9 / params,
        "open": opened * 1e9 / params, "bytes": len(wire) / params,
        "note": f"every site holds the key; error {error:.1e}",
    }


def openfhe(params, sites):
    import numpy as np
    import openfhe as fhe

    settings = fhe.CCParamsCKKSRNS()
    settings.SetRingDim(8192)
    settings.SetKeySwitchTechnique(fhe.KeySwitchTechnique.BV)
    settings.SetMultiplicativeDepth(1)
    settings.SetFirstModSize(60)
    settings.SetScalingModSize(40)
    settings.SetBatchSize(4096)
    context = fhe.GenCryptoContext(settings)
    for feature in (fhe.PKESchemeFeature.PKE, fhe.PKESchemeFeature.LEVELEDSHE):
        context.Enable(feature)
    keys = context.KeyGen()
    sample = min(params, 1 << 18)
    values = np.random.default_rng(1).uniform(-1, 1, sample)
    blocks = [values[at:at + 4096].tolist() for at in range(0, sample, 4096)]

    def encrypt():
        plain = (context.MakeCKKSPackedPlaintext(block) for block in blocks)
        return [context.Encrypt(keys.publicKey, p) for p in plain]

    seal, wire = best(lambda: [fhe.Serialize(c, fhe.BINARY) for c in encrypt()])
    sealed = encrypt()
    added, total = best(lambda: [context.EvalAdd(a, b) for a, b in zip(sealed, sealed)])
    opened, back = best(lambda: [context.Decrypt(c, keys.secretKey).GetRealPackedValue() for c in total])
    error = float(np.abs(np.concatenate(back)[:sample] / 2 - values).max())
    yield {
        "name": "OpenFHE, CKKS, the same settings", "seal": seal * 1e9 / sample, "add": added * 1e9 / sample,
        "open": opened * 1e9 / sample, "bytes": sum(map(len, wire)) / sample,
        "note": f"one key; {sample} numbers measured; error {error:.1e}",
    }


def paillier(params, sites):
    from phe import paillier as phe

    sample = min(params, 100)
    public, private = phe.generate_paillier_keypair(n_length=2048)
    values = [i / sample for i in range(sample)]
    seal, sealed = best(lambda: [public.encrypt(x) for x in values], least=1)
    added, _ = best(lambda: [a + b for a, b in zip(sealed, sealed)], least=1)
    opened, _ = best(lambda: [private.decrypt(x) for x in sealed], least=1)
    size = (public.n ** 2).bit_length() / 8
    yield {
        "name": "python-phe, Paillier 2048", "seal": seal * 1e9 / sample, "add": added * 1e9 / sample,
        "open": opened * 1e9 / sample, "bytes": size,
        "note": f"one key; {sample} numbers measured",
    }


def secagg(params, sites):
    import numpy as np

    values = np.random.default_rng(1).uniform(-1, 1, params)
    target, clip = 1 << 22, 1.0
    modulus = 1 << 32
    neighbours = sites - 1

    def mask(seed):
        return np.random.RandomState(seed).randint(0, modulus, params, dtype=np.int64)

    def seal():
        clipped = np.clip(values, -clip, clip)
        scaled = (clipped + clip) * (target / (2 * clip))
        rounded = np.floor(scaled + np.random.random(params)).astype(np.int64)
        total = rounded + mask(0)
        for seed in range(1, neighbours + 1):
            total = total + mask(seed) if seed % 2 else total - mask(seed)
        return total % modulus

    sealed, upload = best(seal, least=1)
    total = upload.copy()

    def add():
        return np.mod(np.add(total, upload, out=total), modulus, out=total)

    added, _ = best(add)
    opened, _ = best(lambda: (total - mask(0)) % modulus)
    yield {
        "name": "SecAgg+ arithmetic in numpy", "seal": sealed * 1e9 / params, "add": added * 1e9 / params,
        "open": opened * 1e9 / params, "bytes": 8.0,
        "note": f"masks, no encryption: {neighbours} neighbours, 32-bit seeds, int64 on the wire; open is per mask to remove",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--privet", default="target/release/privet")
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--sites", type=int, default=10)
    arguments = parser.parse_args()
    params, sites = arguments.params, arguments.sites
    base = ours(arguments.privet, params, sites)
    rows = [base, ours(arguments.privet, params, sites, ("--bits", "12"))]
    skipped = []
    for peer in (tenseal, openfhe, secagg, paillier):
        try:
            rows.extend(peer(params, sites))
        except Exception as error:  # a peer that cannot run is no reason to stop
            skipped.append(f"{peer.__name__}: {type(error).__name__}: {error}")
    print(f"{params} numbers, {sites} sites, one thread; nanoseconds and bytes a number\n")
    print(f"{'':32}{'seal':>12}{'add':>12}{'open':>12}{'bytes':>9}{'seal ×':>10}{'bytes ×':>9}")
    for row in rows:
        print(
            f"{row['name']:32}{row['seal']:12.2f}{row['add']:12.2f}{row['open']:12.2f}{row['bytes']:9.2f}"
            f"{row['seal'] / base['seal']:10.1f}{row['bytes'] / base['bytes']:9.1f}   {row['note']}"
        )
    for reason in skipped:
        print(f"left out: {reason}")


if __name__ == "__main__":
    main()
