//! An alias table over strips of integers, in exact integer tokens.
//!
//! The integers −K·2^b … K·2^b − 1 are cut into 2K *strips* of 2^b each; one more bin, the last,
//! stands for all integers outside. Each has a whole number of *tokens*, M = 2^32 in all, at least
//! S·max ρ of its integers (ρ = exp(−y), S one fixed number). Walker's method in Vose's form deals
//! the tokens to N = 2^12 columns of 2^20, each holding at most two bins. A column is one word:
//!
//! ```text
//!   63          44 43       32 31             16 15              0
//!   ┌─────────────┬───────────┬─────────────────┬─────────────────┐
//!   │ own tokens  │ other bin │ squeeze of own  │ squeeze of other│
//!   └─────────────┴───────────┴─────────────────┴─────────────────┘
//! ```
//! so that the table fits a first-level cache. The *squeeze* of a strip is ⌊2^16·min a⌋, where
//! a(x) = S·ρ(x)/tokens is the chance with which an x of it is to be accepted.

use super::decide::exp_minus;
use super::law::Law;

/// Columns.
pub(super) const COLUMNS: usize = 1 << 12;
/// Tokens of a column.
const COLUMN: u64 = 1 << 20;
/// Tokens of a table.
pub(super) const TOKENS: u64 = COLUMN << 12;
/// More strips than this on a side do not fit the table.
const MOST_STRIPS: u64 = COLUMNS as u64 / 2 - 1;

/// See the module.
pub(super) struct Table {
    pub(super) columns: Box<[u64; COLUMNS]>,
    /// Tokens of each bin.
    pub(super) tokens: Vec<u32>,
    /// S.
    pub(super) scale: f64,
    /// b.
    pub(super) strip_bits: u32,
    /// Shells of the outside are 2^`shell_bits` integers wide: one to two spreads.
    pub(super) shell_bits: u32,
    /// K.
    pub(super) strips: i64,
}

impl Table {
    /// The table of a law.
    pub(super) fn new(law: Law) -> Self {
        Self::reaching(law, law.reach())
    }

    /// A table whose strips reach this many spreads to either side, if so many fit.
    pub(super) fn reaching(law: Law, reach: f64) -> Self {
        let spread = law.spread();
        let strip_bits = spread.log2().floor().max(7.0) as u32 - 7;
        let shell_bits = (spread.log2().floor() + 1.0).max(0.0) as u32;
        let width = 1i64 << strip_bits;
        let wanted = (reach * spread / width as f64).ceil() as u64;
        let strips = wanted.clamp(1, MOST_STRIPS) as i64;

        // Largest and least ρ of each strip; the law falls on either side of 0.
        let rho = |x: i64| match law.exponent(x) {
            y if y < 700.0 => exp_minus(y),
            _ => 0.0,
        };
        let ends = |strip: i64| {
            let first = (strip - strips) * width;
            let (a, b) = (rho(first), rho(first + width - 1));
            if a > b { (a, b) } else { (b, a) }
        };
        let outside = rho(strips * width);

        // A trial outside accepts with S·2^(shell + 2 + shell_bits − b)·ρ/tokens, which must stay
        // below one in the first shell; further out ρ falls faster than 2^-shell.
        let tail = 2f64.powi((shell_bits + 2 - strip_bits) as i32) * outside;
        let mass: f64 = (0..2 * strips).map(|strip| ends(strip).0).sum::<f64>() + tail;
        let bins = 2 * strips as u64 + 1;
        // Rounding every bin up takes less than one token a bin; 2^-30 covers the floats.
        let scale = (TOKENS - bins) as f64 / mass * (1.0 - 2f64.powi(-30));
        let enough = |mass: f64| ((scale * mass * (1.0 + 2f64.powi(-40))).ceil() as u64).max(1);
        let mut tokens: Vec<u64> = (0..2 * strips).map(|strip| enough(ends(strip).0)).collect();
        tokens.push(enough(tail));
        // Tokens that are left go to the middle: exactness does not mind.
        tokens[strips as usize] += TOKENS - tokens.iter().sum::<u64>();

        let squeeze = |bin: usize| {
            let least = scale * ends(bin as i64).1 / tokens[bin] as f64;
            (least * (1.0 - 2f64.powi(-40)) * 65536.0).min(65535.0) as u64
        };
        let squeezes: Vec<u64> = (0..tokens.len())
            .map(|bin| if bin + 1 == tokens.len() { 0 } else { squeeze(bin) })
            .chain(std::iter::repeat(0))
            .take(COLUMNS)
            .collect();
        let columns = pack(&deal(&tokens), &squeezes);
        let tokens = tokens.into_iter().map(|tokens| tokens as u32).collect();
        Self { columns, tokens, scale, strip_bits, shell_bits, strips }
    }

    /// Number of the bin that stands for what is outside the strips.
    pub(super) fn outside(&self) -> usize {
        2 * self.strips as usize
    }
}

/// A column: its own tokens, and the bin that holds the others.
type Column = (u64, usize);

/// Deals the tokens of each bin to columns (Vose 1991, in integers, hence exact).
///
/// # Panics
/// When the columns do not add up to the tokens again: an error in this code, found before any
/// noise is drawn.
fn deal(tokens: &[u64]) -> Vec<Column> {
    let mut left = tokens.to_vec();
    left.resize(COLUMNS, 0);
    let mut columns: Vec<Column> = (0..COLUMNS).map(|bin| (COLUMN, bin)).collect();
    let (mut short, mut long): (Vec<usize>, Vec<usize>) =
        (0..COLUMNS).partition(|&bin| left[bin] < COLUMN);
    while let (Some(&from), Some(to)) = (long.last(), short.pop()) {
        columns[to] = (left[to], from);
        left[from] -= COLUMN - left[to];
        if left[from] < COLUMN {
            short.extend(long.pop());
        }
    }
    let mut dealt = vec![0; COLUMNS];
    for (bin, &(own, other)) in columns.iter().enumerate() {
        dealt[bin] += own;
        dealt[other] += COLUMN - own;
    }
    assert!(dealt.iter().zip(tokens).all(|(a, b)| a == b), "the tokens were not all dealt");
    columns
}

fn pack(columns: &[Column], squeezes: &[u64]) -> Box<[u64; COLUMNS]> {
    let mut packed = Box::new([0; COLUMNS]);
    for (bin, (word, &(own, other))) in packed.iter_mut().zip(columns).enumerate() {
        // A full column needs 21 bits: it is one whose other bin is itself.
        let (own, other) = if own == COLUMN { (0, bin) } else { (own, other) };
        *word = own << 44 | (other as u64) << 32 | squeezes[bin] << 16 | squeezes[other];
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laws() -> impl Iterator<Item = Law> {
        [0.0625, 0.3, 1.0, 2.5, 100.0, 127.9, 128.0, 4096.0, 65_535.5, 1e6, 1e7, 2f64.powi(40)]
            .into_iter()
            .flat_map(|spread| [Law::Gaussian { sigma: spread }, Law::Laplace { scale: spread }])
    }

    /// (C1) the tokens add up; (C2) each strip has enough of them; (C3) no squeeze is too large.
    #[test]
    fn strips_have_enough_tokens_and_no_squeeze_is_too_large() {
        for law in laws() {
            let table = Table::new(law);
            assert_eq!(table.tokens.iter().map(|&t| u64::from(t)).sum::<u64>(), TOKENS);
            let width = 1i64 << table.strip_bits;
            let mut squeeze = vec![None; table.tokens.len()];
            for (bin, &word) in table.columns.iter().enumerate() {
                let (own, other) = (word >> 44, (word >> 32) as usize % COLUMNS);
                if own > 0 {
                    squeeze[bin] = Some(word >> 16 & 0xffff);
                }
                squeeze[other] = Some(word & 0xffff);
            }
            for (strip, &tokens) in table.tokens[..table.outside()].iter().enumerate() {
                let first = (strip as i64 - table.strips) * width;
                let a = |x: i64| table.scale * (-law.exponent(x)).exp() / f64::from(tokens);
                let (one, two) = (a(first), a(first + width - 1));
                assert!(one.max(two) <= 1.0 + 1e-13, "{law:?} {strip}");
                let squeeze = squeeze[strip].unwrap() as f64 / 65536.0;
                assert!(squeeze <= one.min(two) * (1.0 + 1e-13), "{law:?} {strip}");
            }
        }
    }

    /// Where a tail's trials accept, they do with a chance below one, shell by shell.
    #[test]
    fn tails_are_reachable() {
        for law in laws() {
            let table = Table::new(law);
            let tokens = f64::from(table.tokens[table.outside()]);
            let edge = table.strips << table.strip_bits;
            for shell in 0..12u32 {
                let x = edge + (i64::from(shell) << table.shell_bits);
                let power = shell + 2 + table.shell_bits - table.strip_bits;
                let factor = table.scale * 2f64.powi(power as i32) / tokens;
                assert!(factor * (-law.exponent(x)).exp() <= 1.0 + 1e-12, "{law:?} {shell}");
            }
        }
    }
}
