//! One product a tree: aᵢ = bᵢ + cᵢ·Δ from oblivious transfers by the bits of Δ (Gilboa).
//!
//! The receiver R has a and c, the sender S has b and Δ. A receiver that uses another c for some bit of Δ would
//! learn that bit when its tags do not match; so where cheating is looked for, R shows one random combination of
//! its rows, under one more row that masks it.

use privet_core::Reason;
use zeroize::Zeroizing;

use crate::pipe::malformed;
use crate::session::Session;
use crate::vole::gf128::{double, masked_sum, mul};
use crate::vole::prg::{Prg, Use};

const BITS: usize = 128;

/// Rows of the receiver.
pub(crate) struct Receiver {
    pub(crate) a: Zeroizing<Vec<u128>>,
    pub(crate) c: Zeroizing<Vec<u128>>,
}

impl Receiver {
    /// Takes both keys of each bit of Δ and the values c; gives what the sender must have.
    pub(crate) fn new(
        keys: &[[u128; 2]],
        chunk: u32,
        c: Zeroizing<Vec<u128>>,
    ) -> (Self, Vec<u128>) {
        let mut message = Vec::with_capacity(BITS * c.len());
        let mut a = Zeroizing::new(vec![0; c.len()]);
        // c·x^k
        let mut scaled = c.clone();
        for pair in keys {
            let [zero, one] = pair.map(|key| Prg::new(key).blocks(Use::BaseVole, chunk, c.len()));
            for (i, scaled) in scaled.iter_mut().enumerate() {
                message.push(zero[i] ^ one[i] ^ *scaled);
                a[i] ^= zero[i];
                *scaled = double(*scaled);
            }
        }
        (Self { a, c }, message)
    }

    /// Σ ρ^(i+1)·cᵢ and Σ ρ^(i+1)·aᵢ, each with the last row as it is.
    pub(crate) fn check(&self, challenge: u128) -> [u128; 2] {
        [masked_sum(&self.c, challenge), masked_sum(&self.a, challenge)]
    }
}

/// The challenge, by what was said before.
pub(crate) fn challenge(session: &Session) -> u128 {
    session.key("base-vole/challenge", 0)
}

/// Rows of the sender, from its key of each bit of Δ and the receiver's message.
pub(crate) fn sender(
    keys: &[u128],
    delta: u128,
    chunk: u32,
    rows: usize,
    message: &[u128],
) -> Result<Zeroizing<Vec<u128>>, Reason> {
    if message.len() != BITS * rows || keys.len() != BITS {
        return Err(malformed("products of another length"));
    }
    let mut b = Zeroizing::new(vec![0; rows]);
    for (k, (key, corrections)) in keys.iter().zip(message.chunks_exact(rows.max(1))).enumerate() {
        let bit = (delta >> k & 1).wrapping_neg();
        let stream = Prg::new(*key).blocks(Use::BaseVole, chunk, rows);
        for ((b, own), correction) in b.iter_mut().zip(&*stream).zip(corrections) {
            *b ^= own ^ (bit & correction);
        }
    }
    Ok(b)
}

/// Looks at a receiver's check.
pub(crate) fn verify(
    b: &[u128],
    delta: u128,
    challenge: u128,
    check: [u128; 2],
) -> Result<(), Reason> {
    match masked_sum(b, challenge) ^ mul(check[0], delta) == check[1] {
        true => Ok(()),
        false => Err(crate::pipe::cheated("its products are not of one value")),
    }
}

/// c of the row by which the receiver sees that trees are right: Σ χ^(position+1)·cᵢ.
pub(crate) fn position_sum(c: &[u128], positions: &[u64], challenge: u128) -> u128 {
    // Positions are secret: as many steps for each, and none of them skipped.
    let power = |exponent: u64| {
        let (mut base, mut result) = (challenge, 1);
        for bit in 0..u64::BITS {
            let take = u128::from(exponent >> bit & 1).wrapping_neg();
            result = mul(result, (take & base) | (!take & 1));
            base = mul(base, base);
        }
        result
    };
    c.iter().zip(positions).fold(0, |sum, (c, at)| sum ^ mul(power(at + 1), *c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Random;

    struct Both {
        keys: Vec<[u128; 2]>,
        chosen: Vec<u128>,
        delta: u128,
        c: Zeroizing<Vec<u128>>,
    }

    fn both(seed: u8, rows: usize) -> Both {
        let mut random = Random::known(seed);
        let keys: Vec<[u128; 2]> = (0..BITS).map(|_| [random.block(), random.block()]).collect();
        let delta = random.block();
        let of = |(k, pair): (usize, &[u128; 2])| pair[(delta >> k & 1) as usize];
        let chosen = keys.iter().enumerate().map(of).collect();
        let c = Zeroizing::new((0..rows).map(|_| random.block()).collect());
        Both { keys, chosen, delta, c }
    }

    #[test]
    fn rows_are_products_of_delta() {
        for rows in [1, 2, 250] {
            let Both { keys, chosen, delta, c } = both(1, rows);
            let (receiver, message) = Receiver::new(&keys, 0, c);
            let b = sender(&chosen, delta, 0, rows, &message).unwrap();
            for i in 0..rows {
                assert_eq!(receiver.a[i], b[i] ^ mul(receiver.c[i], delta));
            }
            let challenge = 77;
            verify(&b, delta, challenge, receiver.check(challenge)).unwrap();
            let [xi, z] = receiver.check(challenge);
            assert!(verify(&b, delta, challenge, [xi ^ 1, z]).is_err());
            assert!(sender(&chosen, delta, 0, rows + 1, &message).is_err());
        }
    }

    /// Another c for one bit of Δ passes only if that bit is 0; for forty bits, practically never.
    #[test]
    fn a_receiver_that_lies_about_some_bits_is_seen() {
        let passes = |seed: u8, bits: &[usize]| {
            let Both { keys, chosen, delta, c } = both(seed, 10);
            let (receiver, mut message) = Receiver::new(&keys, 0, c);
            let wrong = |bit: &usize| mul(1 << 9, 1 << *bit);
            bits.iter().for_each(|bit| message[bit * 10 + 3] ^= wrong(bit));
            let b = sender(&chosen, delta, 0, 10, &message).unwrap();
            (verify(&b, delta, 5, receiver.check(5)).is_ok(), delta)
        };
        for seed in 0..60 {
            let (ok, delta) = passes(seed, &[17]);
            assert_eq!(ok, delta >> 17 & 1 == 0);
        }
        let many: Vec<usize> = (40..80).collect();
        assert!((0..200).all(|seed| !passes(seed, &many).0));
    }
}
