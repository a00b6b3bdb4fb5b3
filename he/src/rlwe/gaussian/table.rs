//! The thresholds of the sampler, computed by the compiler in fixed point with 192 bits after the
//! point.
//!
//! With ρ(x) = exp(−x²/2σ²) and σ = 32/5, ρ(x) = q^(x²) for q = exp(−25/2048). One Taylor series
//! gives q, and products the rest: ρ(j+1) = ρ(j)·q^(2j+1). Each product is cut off below, so ρ(j) is
//! short by less than (j+1)²·2^-191 and every tail probability wrong by less than 2^-170, against
//! steps of 2^-127 to which it is then rounded down.

/// Largest magnitude: beyond lie 2^-130 of the untruncated law. (It is itself never drawn: its
/// probability, below 2^-127, is rounded to 0.)
pub(super) const CUT: usize = 84;

/// Samples whose first word lies below `HIGH[k]` are at least k + 1 in magnitude, those above it
/// are less, and those equal to it are decided by a second word below `LOW[k]`.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "limbs are for vectors"))]
pub(super) struct Table {
    /// Bits 64 … 126 of ⌊2^127 · Pr(|x| > k)⌋, shifted left by one: the lowest bit of a first word
    /// is the sign.
    pub(super) high: [u64; CUT],
    /// Bits 0 … 63.
    pub(super) low: [u64; CUT],
    /// Thresholds whose `high` is not zero.
    pub(super) scanned: usize,
    /// Limbs of 16 bits of `high`, the most significant first.
    pub(super) limbs: [[u16; 64]; 4],
    /// The first limb of `high` that is not zero.
    pub(super) leading: [u16; 64],
    /// Thresholds before the first that has 0, 1, 2, 3 limbs of zero, and all scanned.
    pub(super) classes: [usize; 5],
}

pub(super) const TABLE: &Table = &Table::new();

impl Table {
    const fn new() -> Self {
        let thresholds = thresholds();
        let (mut high, mut low) = ([0; CUT], [0; CUT]);
        let (mut limbs, mut leading) = ([[0; 64]; 4], [0; 64]);
        let mut classes = [0; 5];
        let (mut scanned, mut k) = (0, 0);
        while k < CUT {
            high[k] = ((thresholds[k] >> 64) as u64) << 1;
            low[k] = thresholds[k] as u64;
            assert!(k == 0 || thresholds[k] < thresholds[k - 1]);
            if high[k] > 0 {
                let zeros = high[k].leading_zeros() as usize / 16;
                leading[k] = (high[k] >> (48 - 16 * zeros)) as u16;
                // One limb decides all but one threshold: no two share class and leading limb.
                assert!(k == classes[zeros] || leading[k] < leading[k - 1]);
                scanned = k + 1;
                let mut class = zeros + 1;
                while class < 5 {
                    classes[class] = scanned;
                    class += 1;
                }
            }
            let mut limb = 0;
            while limb < 4 && k < 64 {
                limbs[limb][k] = (high[k] >> (48 - 16 * limb)) as u16;
                limb += 1;
            }
            k += 1;
        }
        assert!(scanned < 63);
        Self { high, low, scanned, limbs, leading, classes }
    }
}

/// ⌊2^127 · Pr(|x| > k)⌋ for k = 0 … 83.
const fn thresholds() -> [u128; CUT] {
    let q = exp_minus_25_over_2048();
    let q2 = product(q, q);
    let mut rho = [[0; 4]; CUT + 1];
    rho[0] = ONE;
    let (mut odd, mut j) = (q, 0);
    while j < CUT {
        rho[j + 1] = product(rho[j], odd);
        odd = product(odd, q2);
        j += 1;
    }
    let mut tails = [[0; 4]; CUT + 1];
    let (mut tail, mut j) = ([0; 4], CUT);
    while j > 0 {
        tail = sum(tail, sum(rho[j], rho[j]));
        tails[j - 1] = tail;
        j -= 1;
    }
    let all = sum(ONE, tail);
    let mut thresholds = [0; CUT];
    let mut k = 0;
    while k < CUT {
        let (mut rest, mut bit) = (tails[k], 0);
        while bit < 127 {
            rest = sum(rest, rest);
            thresholds[k] <<= 1;
            if let Some(less) = difference(rest, all) {
                rest = less;
                thresholds[k] |= 1;
            }
            bit += 1;
        }
        k += 1;
    }
    thresholds
}

/// A number below 2^64 with 192 bits after the point, the least significant limb first.
type Fixed = [u64; 4];

const ONE: Fixed = [0, 0, 0, 1];

/// Σ (−x)^k / k!, until a term is zero.
const fn exp_minus_25_over_2048() -> Fixed {
    let (mut even, mut odd, mut term, mut k) = (ONE, [0; 4], ONE, 1);
    while term[0] | term[1] | term[2] | term[3] != 0 {
        term = ratio(term, 25, 2048 * k);
        if k % 2 == 0 {
            even = sum(even, term);
        } else {
            odd = sum(odd, term);
        }
        k += 1;
    }
    match difference(even, odd) {
        Some(exp) => exp,
        None => panic!("the odd terms are the smaller"),
    }
}

const fn sum(a: Fixed, b: Fixed) -> Fixed {
    let (mut out, mut carry, mut i) = ([0; 4], 0, 0);
    while i < 4 {
        let limb = a[i] as u128 + b[i] as u128 + carry;
        out[i] = limb as u64;
        carry = limb >> 64;
        i += 1;
    }
    assert!(carry == 0);
    out
}

/// a − b, unless that is negative.
const fn difference(a: Fixed, b: Fixed) -> Option<Fixed> {
    let (mut out, mut borrow, mut i) = ([0; 4], false, 0);
    while i < 4 {
        let (limb, under) = a[i].overflowing_sub(b[i]);
        let (limb, under_too) = limb.overflowing_sub(borrow as u64);
        out[i] = limb;
        borrow = under | under_too;
        i += 1;
    }
    if borrow { None } else { Some(out) }
}

/// a · b, cut off.
const fn product(a: Fixed, b: Fixed) -> Fixed {
    let (mut wide, mut i) = ([0u64; 8], 0);
    while i < 4 {
        let (mut carry, mut j) = (0, 0);
        while j < 4 {
            let limb = a[i] as u128 * b[j] as u128 + wide[i + j] as u128 + carry;
            wide[i + j] = limb as u64;
            carry = limb >> 64;
            j += 1;
        }
        wide[i + 4] = carry as u64;
        i += 1;
    }
    assert!(wide[7] == 0);
    [wide[3], wide[4], wide[5], wide[6]]
}

/// a · by / over, cut off.
const fn ratio(a: Fixed, by: u64, over: u64) -> Fixed {
    let (mut scaled, mut carry, mut i) = ([0; 4], 0, 0);
    while i < 4 {
        let limb = a[i] as u128 * by as u128 + carry;
        scaled[i] = limb as u64;
        carry = limb >> 64;
        i += 1;
    }
    assert!(carry == 0);
    let (mut out, mut rest) = ([0; 4], 0);
    while i > 0 {
        i -= 1;
        let limb = rest << 64 | scaled[i] as u128;
        out[i] = (limb / over as u128) as u64;
        rest = limb % over as u128;
    }
    out
}
