//! The privacy loss of one mechanism, on a grid, never understated.
//!
//! A mechanism is as private as a pair of distributions (P, Q): its (ε, δ) are those of telling P
//! from Q, and pairs compose as their mechanisms do (Zhu, Dong, Wang 2022). For sensitivity 1,
//! noise N and sampling rate q the pairs are
//!
//! ```text
//!   remove    (1−q)·N(0) + q·N(1)   against   N(0)
//!   add       N(0)                  against   (1−q)·N(0) + q·N(1)
//!   replace   (1−q)·N(0) + q·N(1)   against   (1−q)·N(0) + q·N(−1)
//! ```
//!
//! For the last, let P and Q sample N(u) and N(v), |u|, |v| ≤ 1, in any dimension. With densities
//! a and b relative to N(0), δ(ε) is the mean under N(0) of max(0, (1−q)(1−e^ε) + q·a − q·e^ε·b),
//! a submodular function of (a, b), convex in each. For Gaussian noise, ln a and ln b are jointly
//! Gaussian: submodularity makes the mean largest at correlation −1, that is v = −u, and
//! convexity at full length. (The argument does not cover Laplace
//! noise, which is not offered with both sampling and replacement.)
//!
//! **On the grid.** The loss ℓ = ln P/Q is put on the multiples of a step h by connecting the dots
//! (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022): the mass p that P and q that Q have where
//! jh < ℓ ≤ (j+1)h is split between the ends of the cell so that both p and q are kept,
//!
//! ```text
//!   (p − q·e^{jh}) / (1 − e^{−h})   at (j+1)h,   the rest of p at jh
//! ```
//!
//! which spreads e^{−ℓ} and keeps its mean, so that δ(ε), a mean of convex functions of it, only
//! grows. A loss grows by about h²/8 on average, at most, where rounding up would cost h/2.
//!
//! **In floating point.** Masses are differences of tail probabilities, always on the side where
//! these are small. Every tail carries a bound on its rounding error; a cell gets the sum of them
//! as extra mass, all of it at its upper end. Mass too far left moves right to the first point,
//! mass too far right counts as infinite loss.

use std::f64::consts::SQRT_2;

use super::Error;

/// The most points a grid may have.
pub(crate) const MAX_POINTS: usize = 1 << 22;
/// The largest loss of one round: e^ℓ must be a float. Whoever can lose more has no privacy.
const MAX_LOSS: f64 = 600.0;

/// Noise for a query of sensitivity 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Noise {
    /// Gaussian of this standard deviation, the noise multiplier.
    Gaussian(f64),
    /// Laplace of this scale.
    Laplace(f64),
}

/// One round: noise added to the sum over a Poisson sample of the records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mechanism {
    /// The noise.
    pub noise: Noise,
    /// The probability with which each record takes part, 1 for all of them.
    pub rate: f64,
}

/// In which way the neighbour differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Remove,
    Add,
    Replace,
}

/// A pair of distributions that dominates a mechanism.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    noise: Noise,
    rate: f64,
    direction: Direction,
    /// The largest number, but for the loss itself, in the making of a threshold.
    offset: f64,
}

/// A distribution of losses: masses at `first`·h, (`first` + 1)·h, … and at infinity.
#[derive(Debug)]
pub(crate) struct GridLoss {
    pub(crate) first: i64,
    pub(crate) mass: Vec<f64>,
    pub(crate) infinite: f64,
}

/// The probabilities of the two sides of a point. `error` bounds the rounding error of the
/// smaller; the larger is 1 less the smaller.
#[derive(Debug, Clone, Copy)]
struct Split {
    below: f64,
    above: f64,
    error: f64,
}

impl Split {
    fn swapped(self) -> Self {
        Self { below: self.above, above: self.below, error: self.error }
    }

    /// (1−q) of one distribution and q of another.
    fn mixed(self, other: Self, q: f64) -> Self {
        Self {
            below: (1.0 - q) * self.below + q * other.below,
            above: (1.0 - q) * self.above + q * other.above,
            error: (1.0 - q) * self.error + q * other.error,
        }
    }

    /// The mass between this point and a higher one, and a bound on its error.
    fn until(self, higher: Self) -> (f64, f64) {
        let (mass, size) = if higher.below < self.above {
            (higher.below - self.below, higher.below)
        } else {
            (self.above - higher.above, self.above)
        };
        (mass, self.error + higher.error + 4.0 * f64::EPSILON * size)
    }
}

impl Noise {
    fn scale(self) -> f64 {
        match self {
            Noise::Gaussian(scale) | Noise::Laplace(scale) => scale,
        }
    }

    /// The noise split at `x`, which is a point of the real line moved by at most 1.
    fn split(self, x: f64) -> Split {
        let y = (x / self.scale()).abs();
        let tail = match self {
            Noise::Gaussian(_) => 0.5 * libm::erfc(y / SQRT_2),
            Noise::Laplace(_) => 0.5 * (-y).exp(),
        };
        // y is off by 2u·Y, with u = 2^-52 and Y, below, the largest number in its making; ln(tail)
        // has a slope of at most 1 + y; erfc and exp are good to an ulp. Where Y is cut off the
        // Gaussian tail is 0, and the slope of the other is 1.
        let most = ((x.abs() + 2.0) / self.scale()).min(1e3);
        let error = f64::EPSILON * (8.0 + 4.0 * most * most) * tail;
        let split = Split { below: 1.0 - tail, above: tail, error };
        if x > 0.0 { split } else { split.swapped() }
    }
}

impl Mechanism {
    /// Whether the losses are floats, and well above the rounding of 1 + ℓ.
    pub(crate) fn is_valid(&self) -> bool {
        let scale = self.noise.scale();
        scale > 0.0 && scale <= 1e6 && self.rate >= 1e-9 && self.rate <= 1.0
    }
}

impl Pair {
    pub(crate) fn new(mechanism: Mechanism, direction: Direction) -> Result<Self, Error> {
        let Mechanism { noise, rate } = mechanism;
        if !mechanism.is_valid() {
            return Err(Error::Invalid);
        }
        let (noise, direction) = match (noise, direction) {
            // Without sampling, exchanging a record is twice the sensitivity.
            (Noise::Gaussian(z), Direction::Replace) if rate == 1.0 => {
                (Noise::Gaussian(z / 2.0), Direction::Remove)
            }
            (Noise::Laplace(b), Direction::Replace) if rate == 1.0 => {
                (Noise::Laplace(b / 2.0), Direction::Remove)
            }
            (Noise::Laplace(_), Direction::Replace) => return Err(Error::Unsupported),
            other => other,
        };
        let offset = match noise {
            Noise::Gaussian(z) => 0.5 / (z * z),
            Noise::Laplace(b) => 1.0 / b,
        };
        if offset > MAX_LOSS / 2.0 {
            return Err(Error::TooLarge);
        }
        Ok(Self { noise, rate, direction, offset: 1.0 + offset - rate.ln() })
    }

    /// Where P and Q are to be split for the loss to exceed `t` above, in the direction `remove`
    /// or `replace`: the loss grows with x.
    fn threshold(&self, t: f64) -> f64 {
        let q = self.rate;
        if let (Noise::Gaussian(z), Direction::Replace) = (self.noise, self.direction) {
            // e^t = (1−q + q·e^{(2x−1)/2z²}) / (1−q + q·e^{(−2x−1)/2z²}) is quadratic in e^{x/z²}.
            let odds = (1.0 - q) / q * (0.5 / (z * z)).exp();
            return z * z * (t / 2.0 + (odds * (t / 2.0).sinh()).asinh());
        }
        // e^t = 1−q + q·e^s, where s is the loss without sampling.
        let s = t + (-(1.0 - q) * (-t).exp()).ln_1p() - q.ln();
        match self.noise {
            // ln_1p of less than −1: below the least loss.
            _ if s.is_nan() => f64::NEG_INFINITY,
            Noise::Gaussian(z) => z * z * s + 0.5,
            // s = (|x| − |x−1|)/b, with a mass at either end.
            Noise::Laplace(b) if s >= 1.0 / b => f64::INFINITY,
            Noise::Laplace(b) if s < -1.0 / b => f64::NEG_INFINITY,
            Noise::Laplace(b) => 0.5 * (1.0 + b * s),
        }
    }

    /// P and Q, each split where the loss exceeds `t`.
    fn splits(&self, t: f64) -> (Split, Split) {
        // Lower by more than the rounding of the threshold, so that a loss concentrated there is
        // taken for the higher one.
        let t = t - self.rounding(t);
        if self.direction == Direction::Add {
            let (p, q) = self.splits_at(self.threshold(-t));
            return (q.swapped(), p.swapped());
        }
        self.splits_at(self.threshold(t))
    }

    /// More than the rounding error of a threshold, as a loss, and of e^t, relatively.
    fn rounding(&self, t: f64) -> f64 {
        8.0 * f64::EPSILON * (self.offset + t.abs())
    }

    fn splits_at(&self, x: f64) -> (Split, Split) {
        let without = self.noise.split(x);
        let p = without.mixed(self.noise.split(x - 1.0), self.rate);
        let q = match self.direction {
            Direction::Replace => without.mixed(self.noise.split(x + 1.0), self.rate),
            Direction::Remove | Direction::Add => without,
        };
        (p, q)
    }

    /// Losses outside of which P has at most `tail` on either side.
    pub(crate) fn range(&self, tail: f64) -> Result<(f64, f64), Error> {
        let too_high = |t| self.splits(t).0.above > tail;
        let too_low = |t| self.splits(t).0.below <= tail;
        if too_high(MAX_LOSS) {
            return Err(Error::TooLarge);
        }
        // P(ℓ ≤ t) ≤ e^t, since P ≤ e^t·Q there.
        let low = boundary(tail.ln(), MAX_LOSS, too_low).0;
        let high = boundary(low.max(0.0), MAX_LOSS, too_high).1;
        // A loss all at one point gets a grid as well.
        Ok((low.min(high - 1e-6 * high), high))
    }

    /// The loss on the multiples of `step` that cover `low` to `high`.
    pub(crate) fn on_grid(&self, step: f64, (low, high): (f64, f64)) -> Result<GridLoss, Error> {
        let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
        if last - first >= MAX_POINTS as i64 {
            return Err(Error::TooLarge);
        }
        let mut mass = vec![0.0; (last - first + 1) as usize];
        let (mut p, mut q) = self.splits(first as f64 * step);
        mass[0] = p.below + p.error;
        let width = -(-step).exp_m1();
        for (cell, j) in (first..last).enumerate() {
            let t = j as f64 * step;
            let (p_end, q_end) = self.splits((j + 1) as f64 * step);
            let (p_mass, p_error) = p.until(p_end);
            let (q_mass, q_error) = q.until(q_end);
            let growth = t.exp();
            let slack = p_error + growth * q_error + 2.0 * self.rounding(t) * p_mass;
            let all = (p_mass + slack).max(0.0);
            let upper = ((p_mass - growth * q_mass + slack) / width).clamp(0.0, all);
            mass[cell] += all - upper;
            mass[cell + 1] += upper;
            (p, q) = (p_end, q_end);
        }
        Ok(GridLoss { first, mass, infinite: p.above + p.error })
    }
}

/// Both sides of the point where `is_low` turns from true to false.
fn boundary(mut low: f64, mut high: f64, is_low: impl Fn(f64) -> bool) -> (f64, f64) {
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if is_low(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIRECTIONS: [Direction; 3] = [Direction::Remove, Direction::Add, Direction::Replace];

    fn on_grid(pair: &Pair, step: f64) -> GridLoss {
        pair.on_grid(step, pair.range(1e-18).unwrap()).unwrap()
    }

    fn mean(loss: &GridLoss, step: f64, f: impl Fn(f64) -> f64) -> f64 {
        let losses = (loss.first..).map(|j| j as f64 * step);
        losses.zip(&loss.mass).map(|(l, mass)| mass * f(l)).sum()
    }

    /// P and Q of the mass that is not cut off, which connecting the dots keeps.
    #[test]
    fn both_distributions_are_kept() {
        for direction in DIRECTIONS {
            for rate in [0.01, 0.5, 1.0] {
                let noise = Noise::Gaussian(0.7);
                let pair = Pair::new(Mechanism { noise, rate }, direction).unwrap();
                let loss = on_grid(&pair, 1e-3);
                assert!((mean(&loss, 1e-3, |_| 1.0) - 1.0).abs() < 1e-9);
                assert!((mean(&loss, 1e-3, |l| (-l).exp()) - 1.0).abs() < 1e-9);
            }
        }
    }

    /// The masses at ±1/b: half of P at the top, e^{−1/b} of it at the bottom.
    #[test]
    fn laplace_losses_end_in_masses() {
        let pair =
            Pair::new(Mechanism { noise: Noise::Laplace(0.5), rate: 1.0 }, Direction::Remove);
        let (p, _) = pair.as_ref().unwrap().splits(2.0 - 1e-9);
        assert!((p.above - 0.5).abs() < 1e-8);
        let (p, _) = pair.as_ref().unwrap().splits(-2.0 + 1e-9);
        assert!((p.below - 0.5 * (-2.0f64).exp()).abs() < 1e-8);
        assert_eq!(pair.unwrap().splits(2.0 + 1e-9).0.above, 0.0);
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        let pair = |noise, rate, direction| Pair::new(Mechanism { noise, rate }, direction).err();
        for noise in [Noise::Gaussian(f64::NAN), Noise::Gaussian(0.0), Noise::Laplace(1e7)] {
            assert_eq!(pair(noise, 1.0, Direction::Remove), Some(Error::Invalid));
        }
        for rate in [0.0, 1e-10, 1.5, f64::NAN] {
            assert_eq!(pair(Noise::Gaussian(1.0), rate, Direction::Add), Some(Error::Invalid));
        }
        assert_eq!(pair(Noise::Gaussian(0.03), 0.5, Direction::Add), Some(Error::TooLarge));
        assert_eq!(pair(Noise::Laplace(1.0), 0.5, Direction::Replace), Some(Error::Unsupported));
    }

    proptest! {
        /// δ(ε) of the grid is at least P(ℓ > ε) − e^ε·Q(ℓ > ε), at any ε and on any grid, and for
        /// a fine one close to it.
        #[test]
        fn the_grid_only_adds(
            scale in 0.2f64..20.0,
            gaussian: bool,
            rate in prop_oneof![Just(1.0), 1e-4..1.0],
            which in 0usize..3,
            coarse in 0.0f64..1.0,
            at in -1.0f64..1.0,
        ) {
            let noise = if gaussian { Noise::Gaussian(scale) } else { Noise::Laplace(scale) };
            let pair = Pair::new(Mechanism { noise, rate }, DIRECTIONS[which]);
            prop_assume!(pair.is_ok());
            let pair = pair.unwrap();
            let (low, high) = pair.range(1e-18).unwrap();
            let epsilon = if at < 0.0 { -at * low } else { at * high };
            let (p, q) = pair.splits(epsilon);
            let exact = p.above - epsilon.exp() * q.above;
            let of_grid = |step: f64| {
                let loss = on_grid(&pair, step);
                mean(&loss, step, |l| (-(epsilon - l).exp_m1()).max(0.0)) + loss.infinite
            };
            let step = (high - low) * 1e-4f64.powf(1.0 - coarse);
            prop_assert!(of_grid(step) >= exact - 1e-15);
            prop_assert!(of_grid((high - low) / 1e5) <= exact + 1e-5 * (high - low));
        }
    }
}
