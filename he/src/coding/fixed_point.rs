//! Plain floats as integers, with a public clip, and sums back as means.
//!
//! An integer v stands for v·clip/steps. Values beyond ±clip are clamped, so the clip belongs to
//! the job, one a group of tensors, and never to a site's data. Where values are weighted, give
//! w·x and clip·w_max: to weight the integers would cost log2 w_max bits of range.

/// Most steps from 0 to the clip: beyond the precision of any float given.
const MAX_STEPS: u64 = 1 << 48;

/// 1.5·2^52: added to a float below 2^51 and taken off again, it rounds to the nearest integer,
/// ties to even.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Why floats have no integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FixedPointError {
    /// The clip is zero, negative or no number.
    #[error("a clip must be a positive finite number")]
    Clip,
    /// A value is NaN or infinite.
    #[error("an update holds NaN or infinity; check the training for divergence")]
    NotFinite,
}

/// A scale of integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedPoint {
    clip: f64,
    steps: f64,
}

impl FixedPoint {
    /// A scale on which `clip` is the integer `most`, or 2^48 if that is less.
    ///
    /// # Errors
    /// When the clip is not positive and finite.
    pub fn new(clip: f32, most: u64) -> Result<Self, FixedPointError> {
        if clip > 0.0 && clip.is_finite() {
            Ok(Self { clip: clip.into(), steps: most.clamp(1, MAX_STEPS) as f64 })
        } else {
            Err(FixedPointError::Clip)
        }
    }

    /// Appends the nearest integers, clamped to ±`most`, and returns how many were clamped.
    ///
    /// # Errors
    /// When a value is NaN or infinite; nothing is appended then.
    pub fn integers(&self, values: &[f32], out: &mut Vec<i64>) -> Result<usize, FixedPointError> {
        let (scale, most) = (self.steps / self.clip, self.steps);
        let start = out.len();
        out.resize(start + values.len(), 0);
        let integers = out.get_mut(start..).unwrap_or_default();
        // One pass without branches, which becomes vector instructions.
        let (mut finite, mut clamped) = (true, 0);
        for (integer, &x) in integers.iter_mut().zip(values) {
            let scaled = f64::from(x) * scale;
            finite &= x.is_finite();
            clamped += usize::from(scaled.abs() > most);
            let below = if scaled > most { most } else { scaled };
            let kept = if below < -most { -most } else { below };
            // The sum rounds to an integer, which is then in its low bits: `steps` is below 2^51.
            *integer = (kept + ROUND).to_bits() as i64 - ROUND.to_bits() as i64;
        }
        if !finite {
            out.truncate(start);
            return Err(FixedPointError::NotFinite);
        }
        Ok(clamped)
    }

    /// The sums in units of the floats, divided by `by`: 1 for the sum itself, the number of sites
    /// or the sum of the weights for the mean.
    pub fn floats(&self, sums: &[i64], by: f64) -> impl Iterator<Item = f32> {
        let unit = self.clip / self.steps / by;
        sums.iter().map(move |&sum| (sum as f64 * unit) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_rounded_and_clamped() {
        let scale = FixedPoint::new(2.0, 4).unwrap();
        let mut out = Vec::new();
        let values = [0.0, -0.0, 0.24, 0.26, -0.3, 2.0, -2.0, 2.1, f32::MAX, f32::MIN, 1e-40];
        assert_eq!(scale.integers(&values, &mut out), Ok(3));
        assert_eq!(out, [0, 0, 0, 1, -1, 4, -4, 4, 4, -4, 0]);
        let means: Vec<_> = scale.floats(&[12, -3], 3.0).collect();
        assert_eq!(means, [2.0, -0.5]);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let scale = FixedPoint::new(1.0, 100).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut out = Vec::new();
            let refused = scale.integers(&[0.5, bad], &mut out);
            assert_eq!((refused, out.len()), (Err(FixedPointError::NotFinite), 0));
            assert_eq!(FixedPoint::new(bad, 100), Err(FixedPointError::Clip));
        }
        for clip in [0.0, -1.0] {
            assert_eq!(FixedPoint::new(clip, 100), Err(FixedPointError::Clip));
        }
    }

    proptest! {
        #[test]
        fn the_error_is_half_a_step(
            x in -1f32..=1.0, clip in 1e-30f32..1e30, most in 1u64..1 << 60,
        ) {
            let scale = FixedPoint::new(clip, most).unwrap();
            let (mut out, x) = (Vec::new(), x * clip);
            prop_assert_eq!(scale.integers(&[x], &mut out), Ok(0));
            prop_assert!(out[0].unsigned_abs() <= most);
            let back = scale.floats(&out, 1.0).next().unwrap();
            let step = f64::from(clip) / most.min(MAX_STEPS) as f64;
            let error = (f64::from(back) - f64::from(x)).abs();
            prop_assert!(error <= 0.501 * step + 1e-7 * f64::from(x.abs()));
        }
    }
}
