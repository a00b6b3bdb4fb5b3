//! The loss of many rounds, by FFT.
//!
//! **Small probabilities.** An FFT is good to a fraction of its largest value, and δ lives in the
//! tail. So each loss is tilted first, to p(ℓ)·e^{θℓ}/M(θ) with M(θ) the mean of e^{θℓ}, and the
//! sum scaled back. With the θ at which Chernoff's bound e^{−θε}·∏M(θ) is least, the tilted sum
//! peaks near the ε in question, and its noise is small *relative to δ*.
//!
//! **Errors**, each of them added to δ:
//!
//! - Losses off the grid have probability 10^-18 in all rounds together and at either end. Those
//!   at the left are moved up, those at the right count as infinite.
//! - The FFT adds up modulo its length, so sums above its top reappear below. Their probability is
//!   at most 10^-18 by Chernoff's bound, and 10^-10 of the tilted sum. (Sums below its bottom
//!   reappear at the top and only add to δ.)
//! - A transform of n points is off by at most 4u·log₂(4n) of its result in the 2-norm, u = 2^-52
//!   (Higham 2002, Theorem 24.2, for radix 2; higher radices do less). Taking the power T makes
//!   this T times as much, and Cauchy–Schwarz turns it into an error of δ(ε): some 10^-10 of it
//!   for 1000 rounds. The theorem is about the algorithm and not about this library; so every run
//!   checks that the masses sum to 1, and that none is more negative than the bound allows.
//! - All else is sums and products of positive numbers; a factor 1 + O(T·u) covers them.
//!
//! What the grid itself costs is no error, as `loss` discretises upwards: T rounds move ε by about
//! T·h²(1+θ)/12, and h is chosen for this to be half a part in 10^5.

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use super::Error;
use super::loss::{GridLoss, MAX_POINTS, Pair};
use crate::accounting::renyi::minimum;

/// What may be off the grid at either end, in all rounds together.
pub(crate) const CUT: f64 = 1e-18;
/// What part of the tilted sum may be off the FFT at either end.
const OFF: f64 = 1e-10;
/// How far the grid may raise ε, relative to ε and to 1/θ, over which δ falls by e; and ten times
/// this is how far it may raise δ, relatively.
const TOLERANCE: f64 = 5e-6;
/// How far it may raise ε where a finer grid has too many points.
const LAST_TOLERANCE: f64 = 1e-2;
/// With more rounds, the bounds on rounding errors grow too large.
const MAX_ROUNDS: f64 = 1e7;

/// What is asked: ε at this δ, or δ at this ε.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Query {
    Delta(f64),
    Epsilon(f64),
}

/// The losses of all rounds, on one grid.
struct Rounds {
    step: f64,
    losses: Vec<(GridLoss, u32)>,
}

/// At which tilt the sum of all rounds is computed, and where.
struct Window {
    tilt: f64,
    bottom: f64,
    top: f64,
}

/// An upper bound of δ at ε = `first`·h, (`first` + 1)·h, … . As δ is convex in e^ε, the chord
/// between two points bounds it there.
struct Curve {
    step: f64,
    first: i64,
    delta: Vec<f64>,
}

/// The answer to a query, for pairs and how many times each is used; or some lesser one than
/// `floor`.
pub(crate) fn answer(pairs: &[(Pair, u32)], query: Query, floor: f64) -> Result<f64, Error> {
    let total: f64 = pairs.iter().map(|(_, times)| f64::from(*times)).sum();
    if total > MAX_ROUNDS {
        return Err(Error::TooLarge);
    }
    let ranges = pairs.iter().map(|(pair, _)| pair.range(CUT / total));
    let ranges = ranges.collect::<Result<Vec<_>, _>>()?;
    let width: f64 = ranges.iter().map(|(low, high)| high - low).sum();
    // The most that can be lost, where nothing is cut off above.
    let most = pairs.iter().zip(&ranges).map(|((_, times), (_, high))| f64::from(*times) * high);
    let most = most.sum::<f64>() * (1.0 + 8.0 * f64::EPSILON);
    // How fine the grid must be shows on a grid: start with a coarse one.
    let mut step = width / 256.0;
    loop {
        let losses = pairs.iter().zip(&ranges);
        let losses = losses.map(|((pair, times), range)| Ok((pair.on_grid(step, *range)?, *times)));
        let rounds = Rounds { step, losses: losses.collect::<Result<_, _>>()? };
        let window = rounds.window(query);
        let finest = 2.0 * width.max(window.top - window.bottom) / MAX_POINTS as f64;
        if step < finest {
            step = 1.1 * finest;
            continue;
        }
        let curve = rounds.add_up(&window)?.curve(step, &window);
        let epsilon = match query {
            Query::Delta(delta) => curve.epsilon(delta).ok_or(Error::SelfCheck)?,
            Query::Epsilon(epsilon) => epsilon,
        };
        let answer = match query {
            Query::Delta(_) if rounds.losses.iter().all(|(loss, _)| loss.infinite == 0.0) => {
                epsilon.min(most)
            }
            Query::Delta(_) => epsilon,
            Query::Epsilon(epsilon) => curve.delta(epsilon),
        };
        // A coarse grid's answer is a bound as well.
        if answer <= floor {
            return Ok(answer);
        }
        let (decay, bend) = curve.shape(epsilon);
        let excess = total * step * step / 12.0 * (1.0 + bend);
        let near = epsilon + 1.0 / decay;
        let room = match query {
            Query::Delta(_) => TOLERANCE * near,
            Query::Epsilon(_) => 10.0 * TOLERANCE / decay,
        };
        // Where the curve is at its cap its slope tells nothing yet.
        let capped = curve.delta(epsilon) > 0.99 && step > 1e-3 * rounds.deviation();
        let enough = if capped { step / 16.0 } else { step * (room / excess).sqrt() };
        if step <= 1.2 * enough.max(finest) {
            return if excess <= LAST_TOLERANCE * near { Ok(answer) } else { Err(Error::TooLarge) };
        }
        step = enough.max(finest).max(step / 16.0);
    }
}

impl Curve {
    /// The least ε ≥ 0 at this δ, unless this is below all of them.
    fn epsilon(&self, delta: f64) -> Option<f64> {
        let end = self.delta.partition_point(|bound| *bound > delta);
        let right = *self.delta.get(end)?;
        let at_end = self.step * (self.first + end as i64) as f64;
        if end == 0 {
            return Some(at_end);
        }
        let weight = (delta - right) / (self.delta[end - 1] - right);
        Some((at_end + (-weight * self.share()).ln_1p()).max(0.0) * (1.0 + 8.0 * f64::EPSILON))
    }

    /// δ at this ε ≥ 0.
    fn delta(&self, epsilon: f64) -> f64 {
        let start = (epsilon / self.step).floor() - self.first as f64;
        if start < 0.0 {
            return 1.0;
        }
        // The last point bounds whatever is to its right.
        let last = self.delta.len() - 1;
        let start = (start as usize).min(last);
        let (left, right) = (self.delta[start], self.delta[(start + 1).min(last)]);
        let at_end = self.step * (self.first + start as i64 + 1) as f64;
        let weight = (-(epsilon - at_end).exp_m1() / self.share()).clamp(0.0, 1.0);
        ((right + weight * (left - right)) * (1.0 + 8.0 * f64::EPSILON)).min(1.0)
    }

    /// The part of e^ε that is lost from one point to the one before.
    fn share(&self) -> f64 {
        -(-self.step).exp_m1()
    }

    /// −δ'/δ and −δ''/δ' at this ε, from the three points nearest to it.
    fn shape(&self, epsilon: f64) -> (f64, f64) {
        let nearest = (epsilon / self.step).round() - self.first as f64;
        let middle = nearest.clamp(1.0, self.delta.len() as f64 - 2.0) as usize;
        let [left, here, right] = [middle - 1, middle, middle + 1].map(|i| self.delta[i]);
        let fall = (left - right) / 2.0;
        let bend = (left - 2.0 * here + right) / (fall * self.step);
        (fall / (here * self.step), bend.max(0.0))
    }
}

/// The tilted sum of all rounds, as its transform gives it: the sum at jh, where it is
/// e^{θjh}/∏M times as large, stands at j modulo the length.
struct Sum {
    masses: Vec<f64>,
    /// ln ∏M.
    log_scale: f64,
    /// A bound on the 2-norm of the error.
    noise: f64,
    /// A bound on all other, relative errors.
    rounding: f64,
    infinite: f64,
}

impl Rounds {
    /// ln of the mean of e^{order·ℓ}.
    fn log_moment(&self, order: f64) -> f64 {
        let one = |(loss, n): &(GridLoss, u32)| f64::from(*n) * loss.log_moment(order, self.step);
        self.losses.iter().map(one).sum()
    }

    fn deviation(&self) -> f64 {
        let one = |(loss, n): &(GridLoss, u32)| f64::from(*n) * loss.variance();
        self.step * self.losses.iter().map(one).sum::<f64>().sqrt()
    }

    fn window(&self, query: Query) -> Window {
        let deviation = self.deviation();
        let least = |f: &dyn Fn(f64) -> f64| minimum(1e-6 / deviation, 20.0 / deviation, 0.05, f);
        // δ(ε) ≤ e^{−θε}·∏M·θ^θ/(1+θ)^{1+θ} (Canonne, Kamath, Steinke 2020).
        let gain = |order: f64| (1.0 + order) * order.ln_1p() - order * order.ln();
        let (tilt, _) = match query {
            Query::Delta(delta) => {
                least(&|order| (self.log_moment(order) - gain(order) - delta.ln()) / order)
            }
            Query::Epsilon(epsilon) => {
                least(&|order| self.log_moment(order) - gain(order) - order * epsilon)
            }
        };
        // P(ℓ ≥ t) ≤ e^{−λt}·(mean of e^{λℓ}) for every λ > 0; half of CUT covers the rounding.
        let (_, top) = least(&|order| (self.log_moment(order) - (CUT / 2.0).ln()) / order);
        // For the tilted sum the mean is M(θ+λ)/M(θ); and so for −ℓ.
        let log_off = self.log_moment(tilt) + OFF.ln();
        let (_, tilted) = least(&|order| (self.log_moment(tilt + order) - log_off) / order);
        let (_, depth) = least(&|order| (self.log_moment(tilt - order) - log_off) / order);
        let top = top.max(tilted);
        Window { tilt, bottom: -depth, top }
    }

    /// The tilted sum of all rounds.
    fn add_up(&self, window: &Window) -> Result<Sum, Error> {
        let length = ((window.top - window.bottom) / self.step).ceil() as usize;
        let points = length.max(2).next_power_of_two();
        let mut planner = RealFftPlanner::<f64>::new();
        let forward = planner.plan_fft_forward(points);
        let inverse = planner.plan_fft_inverse(points);
        let mut masses = forward.make_input_vec();
        let mut spectrum = forward.make_output_vec();
        let mut product = vec![Complex::new(1.0, 0.0); spectrum.len()];

        let (mut log_scale, mut infinite) = (0.0, 0.0);
        let (mut rounds, mut norms, mut rounding) = (0.0, 0.0, 8.0 * points as f64);
        for (loss, times) in &self.losses {
            let (log_moment, largest) = loss.tilted(window.tilt * self.step, &mut masses);
            let norm = masses.iter().map(|mass| mass * mass).sum::<f64>().sqrt();
            forward.process(&mut masses, &mut spectrum).map_err(|_| Error::SelfCheck)?;
            product.iter_mut().zip(&spectrum).for_each(|(all, one)| *all *= one.powu(*times));

            let times = f64::from(*times);
            log_scale += times * log_moment;
            infinite += times * loss.infinite;
            rounds += times;
            norms += times * norm;
            rounding += times * (4.0 + 2.0 * largest + 3.0 * log_moment.abs());
        }
        inverse.process(&mut product, &mut masses).map_err(|_| Error::SelfCheck)?;
        masses.iter_mut().for_each(|mass| *mass /= points as f64);

        // One transform for the way back, and twice all for what is of higher order.
        let transform = 4.0 * f64::EPSILON * (4.0 * points as f64).log2();
        let noise = 2.0 * transform * (norms + 1.0);
        let off = (masses.iter().sum::<f64>() - 1.0).abs();
        let most = (points as f64).sqrt() * noise + rounds * f64::EPSILON * points as f64;
        let sound = off <= most && masses.iter().all(|mass| *mass >= -noise);
        rounding *= f64::EPSILON;
        let sum = Sum { masses, log_scale, noise, rounding, infinite };
        if sound { Ok(sum) } else { Err(Error::SelfCheck) }
    }
}

impl Sum {
    /// δ at the points from `top` down, as far as they are positive: three at least.
    fn curve(&self, step: f64, window: &Window) -> Curve {
        let Window { tilt, top, .. } = *window;
        let points = self.masses.len() as i64;
        let last = ((top / step).ceil() as i64).max(2);
        // The 2-norm of (1 − e^{−s})·e^{−θs} over the points s > 0.
        let norm = (1.0 + 0.5 / (tilt * (2.0 * tilt + 1.0) * (tilt + 1.0) * step)).sqrt();
        let noise = self.noise * norm.min((points as f64).sqrt());
        let rounding = self.rounding + 4.0 * f64::EPSILON * tilt * top.abs();
        let (tilted, share) = ((-tilt * step).exp(), -(-step).exp_m1());
        let lost = self.infinite + CUT;
        let bound = |j: i64, delta: f64| {
            let scale = (self.log_scale - tilt * step * j as f64).exp() * (1.0 + rounding);
            (scale * (delta + noise) + lost).min(1.0)
        };
        // δ at j, and the mass at j + 1 and above, both times e^{θjh}/∏M.
        let (mut delta, mut above) = (0.0, 0.0);
        let mut curve = vec![bound(last, delta)];
        for j in ((last - points).max(0)..last).rev() {
            delta = tilted * ((1.0 - share) * delta + share * above);
            above = tilted * above + self.masses[j.rem_euclid(points) as usize].max(0.0);
            curve.push(bound(j, delta));
        }
        curve.reverse();
        Curve { step, first: last + 1 - curve.len() as i64, delta: curve }
    }
}

impl GridLoss {
    /// ln of the mean of e^{order·ℓ}: Horner's rule from the end where the powers are small.
    fn log_moment(&self, order: f64, step: f64) -> f64 {
        let ratio = (-(order * step).abs()).exp();
        let horner = |sum: f64, mass: &f64| sum * ratio + mass;
        let (sum, end) = if order > 0.0 {
            (self.mass.iter().fold(0.0, horner), self.first + self.mass.len() as i64 - 1)
        } else {
            (self.mass.iter().rev().fold(0.0, horner), self.first)
        };
        sum.ln() + order * step * end as f64
    }

    /// Fills `masses` with p(jh)·e^{xj}/M at j modulo their number. Returns ln M, for which they
    /// sum to 1, and the largest exponent, which is as much as its rounding costs.
    fn tilted(&self, x: f64, masses: &mut [f64]) -> (f64, f64) {
        let exponent = |j: i64| x * j as f64;
        let last = self.first + self.mass.len() as i64 - 1;
        // Roughly ln M, to have no exponential overflow.
        let log_moment = self.log_moment(x, 1.0);
        masses.fill(0.0);
        for (j, mass) in (self.first..).zip(&self.mass) {
            let slot = j.rem_euclid(masses.len() as i64) as usize;
            masses[slot] += mass * (exponent(j) - log_moment).exp();
        }
        let sum: f64 = masses.iter().sum();
        masses.iter_mut().for_each(|mass| *mass /= sum);
        (log_moment + sum.ln(), exponent(self.first.abs().max(last.abs())))
    }

    /// In units of step².
    fn variance(&self) -> f64 {
        let indexed = || self.mass.iter().enumerate().map(|(j, mass)| (j as f64, mass));
        let mean: f64 = indexed().map(|(j, mass)| j * mass).sum();
        indexed().map(|(j, mass)| (j - mean).powi(2) * mass).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pld::loss::{Direction, Mechanism, Noise};

    fn rounds(step: f64, mechanisms: &[(Noise, f64, u32)]) -> Rounds {
        let one = |&(noise, rate, times): &(Noise, f64, u32)| {
            let pair = Pair::new(Mechanism { noise, rate }, Direction::Remove).unwrap();
            (pair.on_grid(step, pair.range(CUT).unwrap()).unwrap(), times)
        };
        Rounds { step, losses: mechanisms.iter().map(one).collect() }
    }

    /// δ at the points of the grid by adding up losses one pair at a time.
    fn by_hand(rounds: &Rounds, epsilon: f64) -> f64 {
        let (mut first, mut masses) = (0, vec![1.0]);
        for (loss, times) in &rounds.losses {
            for _ in 0..*times {
                let mut sum = vec![0.0; masses.len() + loss.mass.len() - 1];
                for (i, a) in masses.iter().enumerate() {
                    for (j, b) in loss.mass.iter().enumerate() {
                        sum[i + j] += a * b;
                    }
                }
                (first, masses) = (first + loss.first, sum);
            }
        }
        let losses = (first..).map(|j: i64| j as f64 * rounds.step);
        losses.zip(&masses).map(|(l, mass)| mass * (-(epsilon - l).exp_m1()).max(0.0)).sum()
    }

    /// To parts in 10^7 also where δ is far below the rounding of an FFT.
    #[test]
    fn the_fft_adds_up() {
        let step = 0.05;
        let rounds = rounds(
            step,
            &[
                (Noise::Gaussian(1.0), 1.0, 3),
                (Noise::Laplace(0.7), 0.3, 2),
                (Noise::Gaussian(2.0), 0.1, 4),
            ],
        );
        for epsilon in [0.0, 1.0, 5.0, 10.0, 15.0, 20.0] {
            let window = rounds.window(Query::Epsilon(epsilon));
            let got = rounds.add_up(&window).unwrap().curve(step, &window).delta(epsilon);
            let exact = by_hand(&rounds, epsilon);
            assert!(got >= exact, "{epsilon}: {got} < {exact}");
            assert!(got <= exact * (1.0 + 1e-7) + 20.0 * CUT, "{epsilon}: {got} > {exact}");
        }
    }

    /// Any tilt gives a bound; one far off gives a poor one.
    #[test]
    fn the_tilt_is_free() {
        let rounds = rounds(0.05, &[(Noise::Gaussian(1.0), 0.2, 5)]);
        let exact = by_hand(&rounds, 3.0);
        let window = rounds.window(Query::Epsilon(3.0));
        for factor in [0.2, 0.5, 1.0, 1.5] {
            let tilt = factor * window.tilt;
            let window = Window { tilt, bottom: -20.0, top: 60.0 };
            let got = rounds.add_up(&window).unwrap().curve(0.05, &window).delta(3.0);
            assert!(got >= exact && got <= 1.001 * exact, "{factor}: {got} {exact}");
        }
    }
}
