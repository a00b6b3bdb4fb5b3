//! The two laws that noise is drawn from, as far as a sampler must know them.

use dashu::integer::UBig;

/// A law on the integers, P(x) ∝ exp(−y(x)), symmetric around 0 and falling on either side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// y(x) = x²/2σ²: the discrete Gaussian (Canonne, Kamath, Steinke 2020).
    Gaussian {
        /// σ, in lattice units.
        sigma: f64,
    },
    /// y(x) = |x|/s: the discrete Laplace law.
    Laplace {
        /// s, in lattice units.
        scale: f64,
    },
}

impl Law {
    /// σ or s. It is an f64, hence an exact dyadic rational: there is no other σ that is "meant".
    pub(crate) fn spread(&self) -> f64 {
        match *self {
            Law::Gaussian { sigma } => sigma,
            Law::Laplace { scale } => scale,
        }
    }

    /// How many spreads the strips of a table cover on either side, where they are enough.
    pub(super) fn reach(&self) -> f64 {
        match self {
            Law::Gaussian { .. } => 7.0,
            Law::Laplace { .. } => 32.0,
        }
    }

    /// y(x) in floats, for |x| < 2^53: at most four roundings, so the relative error is below
    /// 2^-50.
    pub(super) fn exponent(&self, x: i64) -> f64 {
        let x = x.unsigned_abs() as f64;
        match *self {
            Law::Gaussian { sigma } => x * x * (0.5 / (sigma * sigma)),
            Law::Laplace { scale } => x / scale,
        }
    }

    /// y(x) = p/q exactly.
    pub(super) fn exact_exponent(&self, x: i64) -> (UBig, UBig) {
        let x = UBig::from(x.unsigned_abs());
        let (mantissa, exponent) = dyadic(self.spread());
        let (mut p, mut q, power) = match self {
            Law::Gaussian { .. } => {
                (x.clone() * x, UBig::from(2u8) * mantissa * mantissa, 2 * exponent)
            }
            Law::Laplace { .. } => (x, UBig::from(mantissa), exponent),
        };
        if power < 0 {
            p <<= power.unsigned_abs() as usize;
        } else {
            q <<= power as usize;
        }
        (p, q)
    }
}

/// m and e of a positive, finite, normal x = m·2^e.
pub(super) fn dyadic(x: f64) -> (u64, i32) {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1075;
    ((bits & ((1 << 52) - 1)) | (1 << 52), exponent)
}
