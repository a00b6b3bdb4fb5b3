//! ristretto255, as both protocols take it from a peer and draw from it.

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::traits::IsIdentity;
use curve25519_dalek::{RistrettoPoint, Scalar};
use privet_core::Reason;
use zeroize::Zeroize;

use crate::pipe::malformed;
use crate::session::Random;

/// A secret scalar other than zero.
pub(crate) fn scalar(random: &mut Random) -> Scalar {
    loop {
        let mut bytes = random.bytes::<64>();
        let scalar = Scalar::from_bytes_mod_order_wide(&bytes);
        bytes.zeroize();
        if scalar != Scalar::ZERO {
            return scalar;
        }
    }
}

/// A point of a peer: of the group, in its one form, and not the one that gives everybody the same secret.
pub(crate) fn point(bytes: &[u8]) -> Result<(CompressedRistretto, RistrettoPoint), Reason> {
    let compressed = CompressedRistretto::from_slice(bytes)
        .map_err(|_| malformed("a point of another length"))?;
    match compressed.decompress() {
        Some(point) if !point.is_identity() => Ok((compressed, point)),
        _ => Err(malformed("a point that is none, is not in its one form, or is the neutral one")),
    }
}
