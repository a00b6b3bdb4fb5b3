//! Adaptive clipping: what a server and the trainers of sites agree on.
//!
//! ```text
//!   server ──clip C──▶ trainer: Σ over records of clip(g/C), and of ±1 for "within C" ─▶ noise ─▶ server
//!          C ← C·exp(−η·(b̄ − q)), b̄ the noisy share of records within C
//! ```
//! The clip follows the q-quantile of the records' gradient norms geometrically (Andrew, Thakkar,
//! McMahan, Ramaswamy 2021, "Differentially Private Learning with Adaptive Clipping"). Gradients
//! travel in units of the clip, so that what one record can add, and with it the noise, is the same
//! in every round. The indicator is one more number of the same vector and takes its part of the same
//! bound: it is paid for.

/// Name of the tensor that brings the clip to a site, and its indicators back.
pub const TENSOR: &str = "privet.clip";

/// What one record's indicator is worth, in units of the whole bound. The gradient keeps
/// √(1 − 0.04) = 0.98 of it.
pub const SHARE: f64 = 0.2;

/// Contributors below which the noise drowns the indicators: a fifth of the bound against noise of
/// several times that.
pub const LEAST_RECORDS: f64 = 50.0;

/// η: how fast the clip moves.
const RATE: f64 = 0.2;

/// The next clip, of the sum of indicators over this many records.
pub fn next(clip: f64, quantile: f64, indicators: f64, records: f64) -> f64 {
    // ±SHARE a record; noise may lead outside of what a share can be.
    let within = (0.5 * (1.0 + indicators / (SHARE * records))).clamp(0.0, 1.0);
    let next = clip * (-RATE * (within - quantile)).exp();
    if next.is_finite() { next.clamp(1e-12, 1e12) } else { clip }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Norms spread from 1 to 3: the clip finds their median from either side, and stays.
    #[test]
    fn the_clip_finds_the_quantile() {
        let norms: Vec<f64> = (0..1000).map(|i| 1.0 + f64::from(i) / 500.0).collect();
        for (start, quantile, end) in [(0.01, 0.5, 2.0), (100.0, 0.5, 2.0), (1.0, 0.9, 2.8)] {
            let mut clip = start;
            for _ in 0..300 {
                let sign = |norm: &f64| if *norm <= clip { SHARE } else { -SHARE };
                clip = next(clip, quantile, norms.iter().map(sign).sum(), 1000.0);
            }
            assert!((clip / end - 1.0).abs() < 0.02, "{clip} {end}");
        }
    }

    #[test]
    fn noise_cannot_lead_far() {
        for indicators in [f64::NAN, f64::INFINITY, -1e300, 1e300] {
            let clip = next(1.0, 0.5, indicators, 100.0);
            assert!((0.9..=1.11).contains(&clip), "{indicators} {clip}");
        }
        assert_eq!(next(1e-12, 0.0, 1e300, 1.0), 1e-12);
    }
}
