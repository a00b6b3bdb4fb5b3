#!/usr/bin/env python3
"""Questions about what masked uploads tell, put to other toolkits as they are installed.

    python3 bench/peers/leakage.py

`he/tests/rounds.rs` (`uploads_look_like_noise`, `a_round_opens_one_sum`) and `he/src/opener.rs` put the same
questions to Privet. A toolkit that is not installed is left out, with the reason. `pip install numpy flwr`
brings Flower.
"""

import os


def flower():
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    shape, modulus = [(4096,)], 1 << 32
    key = bytearray(os.urandom(32))
    other = bytearray(key)
    # The key is folded to 32 bits: what is taken from one word and put into another changes nothing.
    flip = os.urandom(4)
    for at in range(4):
        other[at] ^= flip[at]
        other[28 + at] ^= flip[at]
    same = (pseudo_rand_gen(bytes(key), modulus, shape)[0]
            == pseudo_rand_gen(bytes(other), modulus, shape)[0]).all()
    yield "two 256-bit keys that differ in 64 bits give", "the same mask" if same else "different masks", same

    # So an upload can be unmasked by trying: here only the low 16 bits of the folded key are unknown.
    import numpy as np

    secret = int.from_bytes(os.urandom(2), "little")
    update = np.arange(64) * 1000
    upload = (update + np.random.RandomState(secret).randint(0, modulus - 1, 64, dtype=np.int64)) % modulus
    found = None
    for seed in range(1 << 16):
        guess = (upload - np.random.RandomState(seed).randint(0, modulus - 1, 64, dtype=np.int64)) % modulus
        if (guess < 1 << 22).all():
            found = seed
            break
    yield "a mask whose folded key is one of 2^16 is", "found" if found == secret else "not found", found == secret


def main():
    for peer in (flower,):
        print(peer.__name__)
        try:
            for question, answer, leaks in peer():
                print(f"  {'leak ' if leaks else '     '} {question} {answer}")
        except Exception as error:  # a peer that cannot run is no reason to stop
            print(f"  left out: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
