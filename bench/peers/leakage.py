#!/usr/bin/env python3
"""Questions about what masked uploads tell a server, put to Privet and to other toolkits as they are installed.

    python3 bench/peers/leakage.py

Does an upload go with its update? Does a mask come again? How many bits of a key count? Can a server have two
sums of one round opened? Privet answers in `he/tests/leakage.rs`, which this runs; of the others, the functions
that their clients call are called. A toolkit that is not installed is left out, with the reason.
`pip install numpy flwr` brings Flower; `pip install --no-deps openfl && pip install pycryptodome` what is needed
of OpenFL.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess


def privet():
    root = pathlib.Path(__file__).resolve().parents[2]
    command = ["cargo", "test", "--quiet", "-p", "privet-he", "--test", "leakage", "--",
               "--nocapture", "--test-threads=1"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    for line in run.stdout.splitlines():
        _, found, rest = line.partition("leakage: ")
        if found:
            question, answer = rest.split(": ", 1)
            yield question, answer, False
    if run.returncode != 0:
        yield "a question of he/tests/leakage.rs", "is not answered as it should be", True


def openfl():
    """What `collaborator._apply_masks` adds to every tensor of every round."""
    import numpy as np

    # The module alone: the package brings much that is of no use here.
    module = "openfl/utilities/secagg/crypto.py"
    path = importlib.metadata.distribution("openfl").locate_file(module)
    spec = importlib.util.spec_from_file_location("openfl_crypto", path)
    crypto = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(crypto)

    rng = np.random.default_rng(1)
    private = crypto.pseudo_random_generator(os.urandom(32))
    shared = crypto.calculate_shared_mask([(1, 2, os.urandom(32)), (1, 3, os.urandom(32))])
    updates = [rng.normal(size=6000) for _ in range(2)]
    uploads = [np.add(np.add(private, update), shared) for update in updates]
    correlation = np.corrcoef(updates[0], uploads[0])[0, 1]
    yield "correlation of upload and update", f"{correlation:.3f}", abs(correlation) > 0.1
    # The masks are made once, when the experiment begins.
    gap = np.ptp((uploads[0] - uploads[1]) - (updates[0] - updates[1]))
    again = gap < 1e-12
    yield "masks that come again", "the same in every round" if again else "none", again
    one = np.ptp(uploads[0] - updates[0]) < 1e-12
    yield "numbers that the mask of a whole update has", "one" if one else "as many as the update", one


def flower():
    import numpy as np
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    shape, modulus = [(4096,)], 1 << 32
    key = bytearray(os.urandom(32))
    update = np.random.default_rng(1).integers(0, 1 << 22, 4096)
    upload = (update + pseudo_rand_gen(bytes(key), modulus, shape)[0]) % modulus
    correlation = np.corrcoef(update, upload)[0, 1]
    yield "correlation of upload and update", f"{correlation:.3f}", abs(correlation) > 0.1

    # The key is folded to 32 bits: what is taken from one word and put into another changes nothing.
    other = bytearray(key)
    flip = os.urandom(4)
    for at in range(4):
        other[at] ^= flip[at]
        other[28 + at] ^= flip[at]
    mask = [pseudo_rand_gen(bytes(k), modulus, shape)[0] for k in (key, other)]
    same = (mask[0] == mask[1]).all()
    yield "bits of a key that count", "32 of 256" if same else "more than 32", same

    # So an upload can be unmasked by trying: here only the low 16 bits of the folded key are unknown.
    folded = 0
    for at in range(0, 32, 4):
        folded ^= int.from_bytes(key[at:at + 4], "little")
    high, found = folded & ~0xFFFF, None
    for low in range(1 << 16):
        guess = np.random.RandomState(high | low).randint(0, modulus - 1, 8, dtype=np.int64)
        if (((upload[:8] - guess) % modulus) < 1 << 22).all():
            found = high | low
            break
    yield "an upload whose folded key has 16 unknown bits", "is unmasked" if found == folded else "stays", found == folded

    # The last step of a client, told that its neighbour has both gone and stayed.
    mod = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
    state = mod.SecAggPlusState(nid=1, threshold=2)
    state.rd_seed_share_dict = {1: b"seed 1", 2: b"seed 2"}
    state.sk1_share_dict = {1: b"key 1", 2: b"key 2"}
    try:
        told = {mod.Key.ACTIVE_NODE_ID_LIST: [1, 2], mod.Key.DEAD_NODE_ID_LIST: [2]}
        shares = mod._unmask(state, told)[mod.Key.SHARE_LIST]
        both = b"seed 2" in shares and b"key 2" in shares
    except Exception:
        both = False
    answer = "shares of both its masks: its update alone opens" if both else "one share at most"
    yield "what a server gets of a site that it calls both gone and present", answer, both


def main():
    for peer in (privet, openfl, flower):
        print(peer.__name__)
        try:
            for question, answer, leaks in peer():
                print(f"  {'leak ' if leaks else '     '} {question}: {answer}")
        except Exception as error:  # a peer that cannot run is no reason to stop
            print(f"  left out: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
