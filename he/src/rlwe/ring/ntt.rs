//! The negacyclic number-theoretic transform: polynomials modulo X^N + 1 to their values at the
//! N roots, where a product is N products.
//!
//! ```text
//!   coefficients x[16c + i]                    values v[i·N/16 + c]
//!   natural order          ─── forward ──▶     row i holds places 16c + i of the usual
//!                          ◀── inverse ───     bit-reversed order
//!
//!   forward:  layers of stride N/2 … 16 │ transpose │ layers of stride 8 … 1, along the rows
//! ```
//! A layer of stride t pairs places t apart. Strides below 16 would pair numbers of one vector;
//! transposed, they pair rows of N/16 numbers. So every inner loop runs over neighbours, and the
//! compiler makes vectors of it. The order of values is ours to choose: nobody sees them, masks are
//! drawn in this order, and sums and products do not ask.
//!
//! Butterflies: Cooley–Tukey forward, Gentleman–Sande back, with the powers of a 2N-th root ψ in
//! bit-reversed order (Longa and Naehrig, 2016). All numbers stay canonical: 31-bit primes leave no
//! room for laziness in 32 bits, and `min` makes it cheap.

use super::modulus::{Factor, Modulus};
use super::transpose::transpose;
use crate::rlwe::backend::{Backend, kernel};

/// Rows of the transformed order.
const ROWS: usize = 16;

/// The transform for one degree and prime.
pub(crate) struct Ntt {
    pub(crate) modulus: Modulus,
    degree: usize,
    /// 1 / N, which the inverse leaves out.
    pub(crate) scale: u32,
    forward: Tables,
    inverse: Tables,
}

struct Tables {
    /// Factor m + b is that of block b of the layer of stride N / 2m, for strides from 16 up.
    columns: Vec<Factor>,
    /// Factors of the layers of stride 8, 4, 2, 1, pair of rows by pair, N/16 for each.
    rows: Factors,
}

/// Many factors, as two arrays for vectors.
pub(crate) struct Factors {
    pub(crate) w: Vec<u32>,
    pub(crate) quotient: Vec<u32>,
}

impl FromIterator<Factor> for Factors {
    fn from_iter<I: IntoIterator<Item = Factor>>(factors: I) -> Self {
        let factors = factors.into_iter();
        // At once as long as they will be: growing would leave copies of secret ones behind.
        let room = factors.size_hint().0;
        let mut all = Self { w: Vec::with_capacity(room), quotient: Vec::with_capacity(room) };
        for Factor { w, quotient } in factors {
            all.w.push(w);
            all.quotient.push(quotient);
        }
        all
    }
}

impl Tables {
    /// Tables of the powers of `root`, which has order 2N.
    fn new(modulus: Modulus, degree: usize, root: u32) -> Self {
        let powers = powers(modulus, degree, root);
        let rows = [8, 4, 2, 1].into_iter().flat_map(|t| {
            let (layer, blocks) = (degree / (2 * t), 8 / t);
            (0..blocks)
                .flat_map(move |block| (0..degree / ROWS).map(move |c| layer + c * blocks + block))
        });
        Self {
            rows: rows.map(|place| powers[place]).collect(),
            columns: powers[..degree / ROWS].to_vec(),
        }
    }
}

/// Powers of a root, at their reversed numbers.
fn powers(modulus: Modulus, degree: usize, root: u32) -> Vec<Factor> {
    let bits = degree.trailing_zeros();
    let mut powers = vec![modulus.factor(1); degree];
    let mut power = 1;
    for i in 0..degree as u32 {
        powers[(i.reverse_bits() >> (32 - bits)) as usize] = modulus.factor(power);
        power = modulus.product(power, root);
    }
    powers
}

impl Ntt {
    /// `degree` is a power of two from 256 up, `p` ≡ 1 modulo twice that.
    pub(crate) fn new(degree: usize, p: u32) -> Self {
        let modulus = Modulus::new(p);
        let root = modulus.root(2 * degree as u32);
        Self {
            modulus,
            degree,
            scale: modulus.inverse(degree as u32),
            forward: Tables::new(modulus, degree, root),
            inverse: Tables::new(modulus, degree, modulus.inverse(root)),
        }
    }

    /// Factors of the inverse in the usual order: m + b is that of block b of the layer of stride
    /// N / 2m.
    #[cfg(feature = "cuda")]
    pub(crate) fn inverse_powers(&self) -> Factors {
        let m = self.modulus;
        powers(m, self.degree, m.inverse(m.root(2 * self.degree as u32))).into_iter().collect()
    }

    /// Values of the polynomial `x`, which is overwritten.
    pub(crate) fn forward(&self, backend: Backend, x: &mut [u32], values: &mut [u32]) {
        assert!(x.len() == self.degree && values.len() == self.degree);
        forward_columns(backend, self.modulus, &self.forward.columns, x);
        transpose(backend, x, self.degree / ROWS, values);
        forward_rows(backend, self.modulus, &self.forward.rows, values);
    }

    /// N times the polynomial that has the values `values · by`; `values` is overwritten.
    pub(crate) fn inverse_of_product(
        &self,
        backend: Backend,
        values: &mut [u32],
        by: &Factors,
        x: &mut [u32],
    ) {
        assert!(x.len() == self.degree && values.len() == self.degree);
        assert!(by.w.len() == self.degree && by.quotient.len() == self.degree);
        multiply(backend, self.modulus, values, by);
        inverse_rows(backend, self.modulus, &self.inverse.rows, values);
        transpose(backend, values, ROWS, x);
        inverse_columns(backend, self.modulus, &self.inverse.columns, x);
    }
}

kernel! {
    fn multiply(m: Modulus, values: &mut [u32], by: &Factors) = product;
}
kernel! {
    fn forward_columns(m: Modulus, table: &[Factor], x: &mut [u32]) = columns_down;
}
kernel! {
    fn forward_rows(m: Modulus, table: &Factors, x: &mut [u32]) = rows_down;
}
kernel! {
    fn inverse_rows(m: Modulus, table: &Factors, x: &mut [u32]) = rows_up;
}
kernel! {
    fn inverse_columns(m: Modulus, table: &[Factor], x: &mut [u32]) = columns_up;
}

#[inline(always)]
fn product(m: Modulus, values: &mut [u32], by: &Factors) {
    for ((x, &w), &quotient) in values.iter_mut().zip(&by.w).zip(&by.quotient) {
        *x = m.mul(*x, w, quotient);
    }
}

#[inline(always)]
fn columns_down(m: Modulus, table: &[Factor], x: &mut [u32]) {
    let mut t = x.len() / 2;
    let mut layer = 1;
    while t >= ROWS {
        for (pair, &by) in x.chunks_exact_mut(2 * t).zip(&table[layer..2 * layer]) {
            let (u, v) = pair.split_at_mut(t);
            cooley_tukey(m, by, u, v);
        }
        t /= 2;
        layer *= 2;
    }
}

#[inline(always)]
fn cooley_tukey(m: Modulus, by: Factor, u: &mut [u32], v: &mut [u32]) {
    for (u, v) in u.iter_mut().zip(v) {
        let product = m.mul(*v, by.w, by.quotient);
        (*u, *v) = (m.add(*u, product), m.sub(*u, product));
    }
}

#[inline(always)]
fn rows_down(m: Modulus, table: &Factors, x: &mut [u32]) {
    let row = x.len() / ROWS;
    let mut factors = table.w.chunks_exact(row).zip(table.quotient.chunks_exact(row));
    for t in [8, 4, 2, 1] {
        for pair in x.chunks_exact_mut(2 * t * row) {
            let (u, v) = pair.split_at_mut(t * row);
            let Some((w, quotient)) = factors.next() else { return };
            for (u, v) in u.chunks_exact_mut(row).zip(v.chunks_exact_mut(row)) {
                for (((u, v), &w), &quotient) in u.iter_mut().zip(v).zip(w).zip(quotient) {
                    let product = m.mul(*v, w, quotient);
                    (*u, *v) = (m.add(*u, product), m.sub(*u, product));
                }
            }
        }
    }
}

#[inline(always)]
fn gentleman_sande(m: Modulus, by: Factor, u: u32, v: u32) -> (u32, u32) {
    // The difference may stay below 2p: a product takes any 32-bit number.
    let difference = u.wrapping_add(m.p).wrapping_sub(v);
    (m.add(u, v), m.mul(difference, by.w, by.quotient))
}

#[inline(always)]
fn rows_up(m: Modulus, table: &Factors, x: &mut [u32]) {
    let row = x.len() / ROWS;
    let mut end = table.w.len() / row;
    for t in [1, 2, 4, 8] {
        let blocks = 8 / t;
        for (block, pair) in x.chunks_exact_mut(2 * t * row).enumerate() {
            let (u, v) = pair.split_at_mut(t * row);
            let factors = (end - blocks + block) * row;
            let w = &table.w[factors..][..row];
            let quotient = &table.quotient[factors..][..row];
            for (u, v) in u.chunks_exact_mut(row).zip(v.chunks_exact_mut(row)) {
                rows_pair(m, w, quotient, u, v);
            }
        }
        end -= blocks;
    }
}

#[inline(always)]
fn rows_pair(m: Modulus, w: &[u32], quotient: &[u32], u: &mut [u32], v: &mut [u32]) {
    for (((u, v), &w), &quotient) in u.iter_mut().zip(v).zip(w).zip(quotient) {
        (*u, *v) = gentleman_sande(m, Factor { w, quotient }, *u, *v);
    }
}

/// Two layers at a time while there are two: numbers are loaded and stored half as often. Arrays of
/// 16, not slices, let the compiler see vectors.
#[inline(always)]
fn columns_up(m: Modulus, table: &[Factor], x: &mut [u32]) {
    let mut layer = table.len() / 2;
    while layer > 1 {
        let (near, far) = (&table[layer..2 * layer], &table[layer / 2..layer]);
        let t = x.len() / (2 * layer);
        for ((block, near), &far) in x.chunks_exact_mut(4 * t).zip(near.as_chunks().0).zip(far) {
            quads_up(m, near, far, block);
        }
        layer /= 4;
    }
    if layer == 1 {
        let (u, v) = x.split_at_mut(x.len() / 2);
        for (u, v) in u.as_chunks_mut::<ROWS>().0.iter_mut().zip(v.as_chunks_mut::<ROWS>().0) {
            for (u, v) in u.iter_mut().zip(v) {
                (*u, *v) = gentleman_sande(m, table[1], *u, *v);
            }
        }
    }
}

#[inline(always)]
fn quads_up(m: Modulus, near: &[Factor; 2], far: Factor, block: &mut [u32]) {
    let (left, right) = block.split_at_mut(block.len() / 2);
    let (a, b) = left.split_at_mut(left.len() / 2);
    let (c, d) = right.split_at_mut(right.len() / 2);
    let (a, b) = (a.as_chunks_mut::<ROWS>().0, b.as_chunks_mut::<ROWS>().0);
    let (c, d) = (c.as_chunks_mut::<ROWS>().0, d.as_chunks_mut::<ROWS>().0);
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        for lane in 0..ROWS {
            let (ab, ba) = gentleman_sande(m, near[0], a[lane], b[lane]);
            let (cd, dc) = gentleman_sande(m, near[1], c[lane], d[lane]);
            (a[lane], c[lane]) = gentleman_sande(m, far, ab, cd);
            (b[lane], d[lane]) = gentleman_sande(m, far, ba, dc);
        }
    }
}

#[cfg(test)]
mod tests;
