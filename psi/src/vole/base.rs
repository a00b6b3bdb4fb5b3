//! Oblivious transfer of 256 pairs of keys: Masny and Rindal, eprint 2019/706, on ristretto255.
//!
//! The chooser has one key of each pair, of its choice; the offerer has both and does not know which.
//! ```text
//!   chooser   p₁₋ᵦ random, pᵦ = a·G − H(i, b, p₁₋ᵦ)      ── p₀, p₁ ──▶
//!   offerer   M = y·G, keyⱼ = KDF(y·(pⱼ + H(i, j, p₁₋ⱼ)))  ◀── M ──    chooser: keyᵦ = KDF(a·M)
//! ```

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::{RistrettoPoint, Scalar};
use privet_core::Reason;
use sha2::{Digest as _, Sha512};
use subtle::{Choice, ConditionallySelectable};
use zeroize::Zeroizing;

use crate::group::{point, scalar};
use crate::pipe::malformed;
use crate::session::{Random, Session, first_half};

/// Transfers of a session.
pub(crate) const COUNT: usize = 256;
/// Bytes that a chooser sends.
pub(crate) const CHOICE_BYTES: usize = COUNT * 64;
/// Bytes that an offerer sends.
pub(crate) const OFFER_BYTES: usize = COUNT * 32;

/// Both keys of each transfer.
pub(crate) struct Offered(pub(crate) Zeroizing<Vec<[u128; 2]>>);

/// The chosen key of each transfer.
pub(crate) struct Chosen(pub(crate) Zeroizing<Vec<u128>>);

/// A chooser that waits for the offer.
pub(crate) struct Chooser {
    secrets: Zeroizing<Vec<Scalar>>,
    choices: Zeroizing<Vec<u8>>,
    points: Vec<[CompressedRistretto; 2]>,
}

/// The group hash of a session, a transfer and a side, at a point.
fn hash(
    session: &Session,
    transfer: usize,
    side: u8,
    point: &CompressedRistretto,
) -> RistrettoPoint {
    let seed = session.derive("base-ot/group", transfer as u64);
    let wide: [u8; 64] = Sha512::new()
        .chain_update(b"privet/psi/base-ot/v1")
        .chain_update(seed)
        .chain_update([side])
        .chain_update(point.as_bytes())
        .finalize()
        .into();
    RistrettoPoint::from_uniform_bytes(&wide)
}

fn key(
    session: &Session,
    transfer: usize,
    side: u8,
    offer: &CompressedRistretto,
    points: &[CompressedRistretto; 2],
    shared: &RistrettoPoint,
) -> u128 {
    let digest = session
        .transcript("privet/psi/base-ot/key/v1")
        .number(transfer as u64)
        .number(side.into())
        .bytes(offer.as_bytes())
        .bytes(points[0].as_bytes())
        .bytes(points[1].as_bytes())
        .bytes(shared.compress().as_bytes());
    first_half(&digest.finish().0)
}

impl Chooser {
    /// Chooses by the bits of two numbers, 128 each, the lowest first.
    pub(crate) fn new(session: &Session, random: &mut Random, by: [u128; 2]) -> (Self, Vec<u8>) {
        let mut message = Vec::with_capacity(CHOICE_BYTES);
        let mut chooser = Self {
            secrets: Zeroizing::new(Vec::with_capacity(COUNT)),
            choices: Zeroizing::new(Vec::with_capacity(COUNT)),
            points: Vec::with_capacity(COUNT),
        };
        for transfer in 0..COUNT {
            let bit = (by[transfer / 128] >> (transfer % 128) & 1) as u8;
            let choice = Choice::from(bit);
            let secret = scalar(random);
            // Its discrete logarithm is known to nobody.
            let other = RistrettoPoint::from_uniform_bytes(&random.bytes());
            let other_bytes = other.compress();
            let sides = [0, 1].map(|side| hash(session, transfer, side, &other_bytes));
            let mask = RistrettoPoint::conditional_select(&sides[0], &sides[1], choice);
            let mine = RistrettoPoint::mul_base(&secret) - mask;
            let points = [
                RistrettoPoint::conditional_select(&mine, &other, choice).compress(),
                RistrettoPoint::conditional_select(&other, &mine, choice).compress(),
            ];
            points.iter().for_each(|point| message.extend_from_slice(point.as_bytes()));
            chooser.secrets.push(secret);
            chooser.choices.push(bit);
            chooser.points.push(points);
        }
        (chooser, message)
    }

    /// The keys, from the offer.
    pub(crate) fn finish(self, session: &Session, offer: &[u8]) -> Result<Chosen, Reason> {
        if offer.len() != OFFER_BYTES {
            return Err(malformed("an offer of another length"));
        }
        let of = |(transfer, bytes): (usize, &[u8])| {
            let (offer, at) = point(bytes)?;
            let shared = at * self.secrets[transfer];
            let keys = [0, 1]
                .map(|side| key(session, transfer, side, &offer, &self.points[transfer], &shared));
            let by = u128::from(self.choices[transfer]).wrapping_neg();
            Ok(keys[0] ^ (by & (keys[0] ^ keys[1])))
        };
        let keys = offer.chunks_exact(32).enumerate().map(of).collect::<Result<_, Reason>>()?;
        Ok(Chosen(Zeroizing::new(keys)))
    }
}

/// Both keys of each transfer, and the offer for the chooser.
pub(crate) fn offer(
    session: &Session,
    random: &mut Random,
    choices: &[u8],
) -> Result<(Offered, Vec<u8>), Reason> {
    if choices.len() != CHOICE_BYTES {
        return Err(malformed("choices of another length"));
    }
    let mut message = Vec::with_capacity(OFFER_BYTES);
    let mut keys = Zeroizing::new(Vec::with_capacity(COUNT));
    for (transfer, bytes) in choices.chunks_exact(64).enumerate() {
        let ((bytes0, p0), (bytes1, p1)) = (point(&bytes[..32])?, point(&bytes[32..])?);
        let secret = scalar(random);
        let offer = RistrettoPoint::mul_base(&secret).compress();
        let points = [bytes0, bytes1];
        keys.push([(0, p0, bytes1), (1, p1, bytes0)].map(|(side, own, other)| {
            let shared = (own + hash(session, transfer, side, &other)) * secret;
            key(session, transfer, side, &offer, &points, &shared)
        }));
        message.extend_from_slice(offer.as_bytes());
    }
    Ok((Offered(keys), message))
}

#[cfg(test)]
mod tests {
    use privet_core::Code;
    use privet_crypto::Digest;

    use super::*;

    fn session() -> Session {
        Session::new(&Digest([3; 32]))
    }

    #[test]
    fn the_chosen_key_agrees_and_the_other_does_not() {
        let by = [0x0123_4567_89ab_cdef_1122_3344_5566_7788, !0x0f0f];
        let (mut own, mut peer) = (Random::known(1), Random::known(2));
        let (chooser, choices) = Chooser::new(&session(), &mut own, by);
        let (offered, offer) = offer(&session(), &mut peer, &choices).unwrap();
        let chosen = chooser.finish(&session(), &offer).unwrap();
        for i in 0..COUNT {
            let bit = (by[i / 128] >> (i % 128) & 1) as usize;
            assert_eq!(chosen.0[i], offered.0[i][bit]);
            assert_ne!(chosen.0[i], offered.0[i][1 - bit]);
        }
        // Another session gives other keys.
        let (chooser, choices) = Chooser::new(&session(), &mut own, by);
        let other = Session::new(&Digest([4; 32]));
        let (offered, offer) = super::offer(&other, &mut peer, &choices).unwrap();
        let chosen = chooser.finish(&session(), &offer).unwrap();
        assert!(chosen.0.iter().zip(offered.0.iter()).all(|(key, pair)| !pair.contains(key)));
    }

    #[test]
    fn bad_points_and_lengths_are_refused() {
        let (mut own, mut peer) = (Random::known(1), Random::known(2));
        let (_, choices) = Chooser::new(&session(), &mut own, [1, 2]);
        let mut refuse =
            |choices: &[u8]| offer(&session(), &mut peer, choices).map(drop).unwrap_err().code;
        assert_eq!(refuse(&choices[32..]), Code::Malformed);
        for (at, value) in [(5 * 64, [0; 32]), (7 * 64 + 32, [0xff; 32])] {
            let mut bad = choices.clone();
            bad[at..at + 32].copy_from_slice(&value);
            assert_eq!(refuse(&bad), Code::Malformed);
        }
        let (chooser, _) = Chooser::new(&session(), &mut own, [1, 2]);
        assert!(chooser.finish(&session(), &[0; OFFER_BYTES]).is_err());
        let (chooser, _) = Chooser::new(&session(), &mut own, [1, 2]);
        assert!(chooser.finish(&session(), &[0; 32]).is_err());
    }
}
