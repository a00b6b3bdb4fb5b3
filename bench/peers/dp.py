#!/usr/bin/env python3
"""What others' noise costs, beside Privet's, on the same vector in the same run.

    python3 bench/peers/dp.py --privet target/release/privet --params 1000000

Peers that are not installed are left out, with the reason. `pip install numpy opendp flwr nvflare`
brings all of them; nothing of Privet needs them. The times of one column are comparable, those of two
runs are not.
"""

import argparse
import json
import subprocess
import sys
import time


def best(work, seconds=2.0, least=3):
    """The best time of several runs of `work`, in seconds."""
    times, began = [], time.perf_counter()
    while len(times) < least or (time.perf_counter() - began < seconds and len(times) < 20):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def ours(binary, params):
    text = subprocess.run(
        [binary, "bench", "dp", "--params", str(params), "--json"],
        check=True, capture_output=True, text=True,
    ).stdout
    return json.loads(text)


def numpy_normal(params):
    import numpy as np

    update = np.zeros(params, dtype=np.float32)
    legacy = best(lambda: update + np.random.normal(0.0, 1.0, params))
    generator = np.random.default_rng()
    modern = best(lambda: update + generator.standard_normal(params))
    yield "numpy.random.normal", legacy, params, "float noise of a Mersenne Twister that any job can seed"
    yield "numpy Generator", modern, params, "float noise, PCG64"


def flower(params):
    import numpy as np
    from flwr.supercore.differential_privacy import (
        add_gaussian_noise_inplace,
        compute_clip_model_update,
    )

    received = [np.zeros(params, dtype=np.float32)]
    update = np.resize(np.arange(1024, dtype=np.float32) * 1e-6, params)

    def work():
        sent = [update.copy()]
        compute_clip_model_update(sent, received, 1.0)
        add_gaussian_noise_inplace(sent, 1.0)

    yield "Flower LocalDpMod", best(work), params, "clip and float noise; sensitivity typed in, no budget"


def nvflare(params):
    import logging

    import numpy as np
    from nvflare.apis.dxo import DXO, DataKind
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from nvflare.app_common.filters.svt_privacy import SVTPrivacy

    logging.disable(logging.CRITICAL)
    update = np.resize(np.arange(1024, dtype=np.float32) * 1e-6, params)
    context = FLContext()

    def work():
        dxo = DXO(data_kind=DataKind.WEIGHT_DIFF, data={"update": update.copy()})
        SVTPrivacy().process_dxo(dxo, Shareable(), context)

    yield "NVFlare SVTPrivacy", best(work), params, "its defaults; a tenth of the numbers, float noise"


def opendp(params):
    import opendp.prelude as dp

    dp.enable_features("contrib")
    few = min(params, 20_000)
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
    measurement = dp.m.make_gaussian(*space, scale=4096.0)
    update = [0] * few
    yield "OpenDP make_gaussian", best(lambda: measurement(update)), few, "exact discrete noise"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--privet", default="target/release/privet", help="the binary")
    parser.add_argument("--params", type=int, default=1_000_000, help="numbers of the update")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()

    privet = ours(arguments.privet, arguments.params)
    whole, sampler = privet["filter_ns_per_param"], privet["sampler_ns_per_draw"]["4096"]
    rows = [
        ("Privet, sampler", sampler, "exact discrete noise, σ = 4096"),
        ("Privet, clip + gaussian", whole, "exact, on a proved bound, charged to a budget"),
    ]
    skipped = []
    for peer in (numpy_normal, flower, nvflare, opendp):
        try:
            for name, seconds, numbers, what in peer(arguments.params):
                rows.append((name, seconds * 1e9 / numbers, what))
        except Exception as error:  # a peer that cannot run is no reason to stop
            skipped.append((peer.__name__, f"{type(error).__name__}: {error}"))
    if arguments.json:
        document = {
            "params": arguments.params,
            "privet": privet,
            "ns_per_number": {name: ns for name, ns, _ in rows},
            "over_privets_filter": {name: ns / whole for name, ns, _ in rows},
            "skipped": dict(skipped),
        }
        print(json.dumps(document, indent=2))
        return
    print(f"{arguments.params} numbers, {privet['machine']['cpu']}, one thread, {privet['backend']}")
    for name, ns, what in rows:
        print(f"{name:26} {ns:10.2f} ns each  {ns / whole:9.2f} × ours  {what}")
    for name, reason in skipped:
        print(f"{name:26} left out: {reason}")


if __name__ == "__main__":
    sys.exit(main())
