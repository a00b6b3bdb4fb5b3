//! An oblivious key-value store for one bin: cells of which linear combinations, given by keys, are the values
//! (PaXoS with three sparse columns and dense ones of GF(2^128), Garimella and others, eprint 2021/883).
//!
//! Encoding peels: a column that one row alone has is left to that row and solved last. Rows that remain, almost
//! always none, are solved with the dense columns by Gauss.

use privet_core::{Code, Reason};

use crate::records::Record;
use crate::vole::gf128::{Multiplier, invert, mul, with_multiplier};
use crate::vole::params::Bin;
use crate::vole::prg::{Permutation, Prg, Use};

/// Rows that remain after peeling are solved up to so many.
const MAX_CORE: usize = 64;
/// Times that encoding is tried.
pub(crate) const ATTEMPTS: u8 = 4;

/// How keys become rows.
pub(crate) struct Rows<'a> {
    pub(crate) permutation: &'a Permutation,
    pub(crate) bin: Bin,
    /// Another one gives other rows.
    pub(crate) attempt: u8,
}

struct Row {
    columns: [u32; 3],
    dense: u128,
}

impl Rows<'_> {
    /// One random block a key.
    fn seeds(&self, records: &[Record]) -> Vec<u128> {
        let tweaked = |record: &Record| record.key ^ u128::from(self.attempt);
        let mut seeds: Vec<u128> = records.iter().map(tweaked).collect();
        self.permutation.apply(&mut seeds);
        seeds.iter_mut().zip(records).for_each(|(seed, record)| *seed ^= tweaked(record));
        seeds
    }

    /// The row of a seed: three different columns.
    #[inline(always)]
    fn row(&self, seed: u128) -> Row {
        let word =
            |at: u32, range: u64| ((u64::from((seed >> (32 * at)) as u32) * range) >> 32) as u32;
        let sparse = self.bin.sparse;
        let first = word(0, sparse);
        let mut second = word(1, sparse - 1);
        second += u32::from(second >= first);
        let mut third = word(2, sparse - 2);
        third += u32::from(third >= first.min(second));
        third += u32::from(third >= first.max(second));
        Row { columns: [first, second, third], dense: seed }
    }
}

#[inline(always)]
fn dense_part<M: Multiplier>(m: M, dense: &[u128], r: u128) -> u128 {
    dense.iter().rev().fold(0, |sum, cell| m.mul(sum ^ cell, r))
}

#[inline(always)]
fn decode_body<M: Multiplier>(
    m: M,
    rows: &Rows<'_>,
    cells: &[u128],
    records: &[Record],
    out: &mut [u128],
) {
    let (sparse, dense) = cells.split_at(rows.bin.sparse as usize);
    for (seed, out) in rows.seeds(records).into_iter().zip(out) {
        let Row { columns, dense: r } = rows.row(seed);
        let of = |sum, column: u32| sum ^ sparse[column as usize];
        *out = columns.into_iter().fold(dense_part(m, dense, r), of);
    }
}

with_multiplier! {
    /// The values at keys.
    pub(crate) fn decode(rows: &Rows<'_>, cells: &[u128], records: &[Record], out: &mut [u128]) = decode_body;
}

/// Why a bin was not encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// More keys than it has room for.
    Overflow,
    /// Its rows depend on each other: another attempt has others.
    Dependent,
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        let detail = match failure {
            Failure::Overflow => "a bin of the set overflows, which happens once in 2^41 runs",
            Failure::Dependent => "a set could not be encoded, which happens once in 2^41 runs",
        };
        Reason::new(Code::Overflow, detail)
    }
}

/// The first attempt that succeeds.
pub(crate) fn first_of<T>(attempt: impl Fn(u8) -> Result<T, Failure>) -> Result<T, Failure> {
    let tried = (0..ATTEMPTS).map(attempt).find(|done| !matches!(done, Err(Failure::Dependent)));
    tried.unwrap_or(Err(Failure::Dependent))
}

/// Cells that give `values` at the keys of `records`, which are all different. Cells that nothing fixes are
/// zero, or random with `free` (a stream and its number), without which the cells tell which keys are in them.
pub(crate) fn encode(
    rows: &Rows<'_>,
    records: &[Record],
    values: &[u128],
    free: Option<(&Prg, u32)>,
) -> Result<Vec<u128>, Failure> {
    if records.len() as u64 > rows.bin.items {
        return Err(Failure::Overflow);
    }
    let mut cells = vec![0; rows.bin.cells() as usize];
    if let Some((prg, number)) = free {
        prg.fill(Use::Free, number, 0, &mut cells);
    }
    let list: Vec<Row> = rows.seeds(records).into_iter().map(|seed| rows.row(seed)).collect();
    let Peeled { order, core } = peel(&list, rows.bin.sparse as usize);
    if core.len() > MAX_CORE {
        return Err(Failure::Dependent);
    }
    solve(&list, &core, values, rows.bin.sparse as usize, &mut cells)?;
    substitute(&list, &order, values, rows.bin.sparse as usize, &mut cells);
    Ok(cells)
}

struct Peeled {
    /// Rows with the column that was left to each, in the order of peeling.
    order: Vec<(u32, u32)>,
    /// Rows that remain.
    core: Vec<u32>,
}

fn peel(list: &[Row], sparse: usize) -> Peeled {
    // Of each column: how many rows have it, and the XOR of their numbers, which is the last one's number.
    let mut columns = vec![(0u32, 0u32); sparse];
    for (number, row) in (0u32..).zip(list) {
        for &column in &row.columns {
            let (degree, rows) = &mut columns[column as usize];
            *degree += 1;
            *rows ^= number;
        }
    }
    let mut stack: Vec<u32> =
        (0u32..).zip(&columns).filter(|(_, (degree, _))| *degree == 1).map(|(c, _)| c).collect();
    let mut order = Vec::with_capacity(list.len());
    let mut peeled = vec![false; list.len()];
    while let Some(column) = stack.pop() {
        let (degree, number) = columns[column as usize];
        if degree != 1 {
            continue;
        }
        order.push((number, column));
        peeled[number as usize] = true;
        for &other in &list[number as usize].columns {
            let (degree, rows) = &mut columns[other as usize];
            *degree -= 1;
            *rows ^= number;
            if *degree == 1 {
                stack.push(other);
            }
        }
    }
    let core =
        (0u32..).zip(peeled).filter(|(_, peeled)| !peeled).map(|(number, _)| number).collect();
    Peeled { order, core }
}

/// Solves the rows that remain over their columns and the dense ones; unknowns that stay free keep their cells.
fn solve(
    list: &[Row],
    core: &[u32],
    values: &[u128],
    sparse: usize,
    cells: &mut [u128],
) -> Result<(), Failure> {
    let mut unknowns: Vec<usize> = core
        .iter()
        .flat_map(|&row| list[row as usize].columns.map(|column| column as usize))
        .collect();
    unknowns.sort_unstable();
    unknowns.dedup();
    unknowns.extend(sparse..cells.len());
    let dense = cells.len() - sparse;
    let equation = |&number: &u32| {
        let row = &list[number as usize];
        let mut factors = vec![0; unknowns.len()];
        for (factor, unknown) in factors.iter_mut().zip(&unknowns) {
            *factor = u128::from(row.columns.iter().any(|&column| column as usize == *unknown));
        }
        let mut power = 1;
        for factor in &mut factors[unknowns.len() - dense..] {
            power = mul(power, row.dense);
            *factor = power;
        }
        (factors, values[number as usize])
    };
    let mut pivots: Vec<(usize, Vec<u128>, u128)> = Vec::new();
    for (mut factors, mut value) in core.iter().map(equation) {
        for (pivot, other, other_value) in &pivots {
            let by = factors[*pivot];
            if by != 0 {
                factors.iter_mut().zip(other).for_each(|(own, other)| *own ^= mul(by, *other));
                value ^= mul(by, *other_value);
            }
        }
        let pivot = factors.iter().position(|factor| *factor != 0).ok_or(Failure::Dependent)?;
        let by = invert(factors[pivot]);
        factors.iter_mut().for_each(|factor| *factor = mul(by, *factor));
        pivots.push((pivot, factors, mul(by, value)));
    }
    for (pivot, factors, value) in pivots.iter().rev() {
        let others = factors.iter().zip(&unknowns).enumerate().filter(|(at, _)| at != pivot);
        let sum = others.fold(*value, |sum, (_, (by, unknown))| sum ^ mul(*by, cells[*unknown]));
        cells[unknowns[*pivot]] = sum;
    }
    Ok(())
}

#[inline(always)]
fn substitute_body<M: Multiplier>(
    m: M,
    list: &[Row],
    order: &[(u32, u32)],
    values: &[u128],
    sparse: usize,
    cells: &mut [u128],
) {
    let (cells, dense) = cells.split_at_mut(sparse);
    let empty = dense.iter().all(|cell| *cell == 0);
    for &(number, column) in order.iter().rev() {
        let row = &list[number as usize];
        let start = if empty { 0 } else { dense_part(m, dense, row.dense) };
        cells[column as usize] = 0;
        let others = row.columns.iter().fold(start, |sum, &column| sum ^ cells[column as usize]);
        cells[column as usize] = values[number as usize] ^ others;
    }
}

with_multiplier! {
    fn substitute(
        list: &[Row],
        order: &[(u32, u32)],
        values: &[u128],
        sparse: usize,
        cells: &mut [u128],
    ) = substitute_body;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Random;

    fn records(n: usize, seed: u8) -> Vec<Record> {
        let mut random = Random::known(seed);
        (0..n).map(|_| Record { key: random.block(), value: random.block() }).collect()
    }

    fn values(records: &[Record]) -> Vec<u128> {
        records.iter().map(|record| record.value).collect()
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let permutation = Permutation::new(4);
        for n in [0, 1, 2, 3, 64, 1 << 10, 1 << 15] {
            let bin = Bin::of((n as u64).max(1024), 41.0);
            let rows = Rows { permutation: &permutation, bin, attempt: 0 };
            let records = records(n, 1);
            let values = values(&records);
            for free in [None, Some((&Prg::new(8), 3))] {
                let cells = encode(&rows, &records, &values, free).unwrap();
                assert_eq!(cells.len() as u64, bin.cells());
                assert_eq!(cells.iter().filter(|cell| **cell == 0).count() > 10, free.is_none());
                let mut got = vec![0; n];
                decode(&rows, &cells, &records, &mut got);
                assert_eq!(got, values);
            }
        }
    }

    /// So tight that many rows remain after peeling.
    #[test]
    fn rows_that_remain_are_solved() {
        let permutation = Permutation::new(4);
        let bin = Bin { items: 40, sparse: 46, dense: 4 };
        let mut solved = 0;
        for attempt in 0..200 {
            let rows = Rows { permutation: &permutation, bin, attempt };
            let records = records(40, 2);
            let list: Vec<Row> =
                rows.seeds(&records).into_iter().map(|seed| rows.row(seed)).collect();
            let core = peel(&list, 46).core.len();
            match encode(&rows, &records, &values(&records), Some((&Prg::new(1), 0))) {
                Ok(cells) => {
                    let mut got = vec![0; 40];
                    decode(&rows, &cells, &records, &mut got);
                    assert_eq!(got, values(&records));
                    solved += usize::from(core > 10);
                }
                Err(failure) => assert_eq!(failure, Failure::Dependent),
            }
        }
        assert!(solved > 50, "{solved}");
    }

    #[test]
    fn what_does_not_fit_or_is_there_twice_is_refused() {
        let permutation = Permutation::new(4);
        let bin = Bin::of(1024, 41.0);
        let rows = Rows { permutation: &permutation, bin, attempt: 0 };
        let many = records(1025, 1);
        assert_eq!(encode(&rows, &many, &values(&many), None), Err(Failure::Overflow));
        let mut twice = records(10, 1);
        twice[9] = Record { key: twice[0].key, value: 5 };
        assert_eq!(encode(&rows, &twice, &values(&twice), None), Err(Failure::Dependent));
    }

    #[test]
    fn rows_have_three_columns_in_range() {
        let permutation = Permutation::new(1);
        let bin = Bin { items: 3, sparse: 5, dense: 2 };
        let rows = Rows { permutation: &permutation, bin, attempt: 0 };
        let mut seen = [0; 5];
        for seed in rows.seeds(&records(10_000, 3)) {
            let Row { columns: [a, b, c], .. } = rows.row(seed);
            assert!(a != b && b != c && a != c);
            [a, b, c].into_iter().for_each(|column| seen[column as usize] += 1);
        }
        assert!(seen.iter().all(|&n| (5700..6300).contains(&n)), "{seen:?}");
    }

    /// At sizes priced at 2^-8 the rate of failures is near that, so that the prices below can be trusted.
    #[test]
    #[ignore = "a minute"]
    fn failures_are_as_rare_as_their_price() {
        let permutation = Permutation::new(11);
        for (bits, tries) in [(8.0, 20_000u32), (11.0, 60_000)] {
            let bin = Bin { dense: 2, ..Bin::of(1024, bits) };
            let mut failed = 0;
            for i in 0..tries {
                let mut random = Random::known((i % 251) as u8);
                let shift = u128::from(i);
                let records: Vec<Record> = (0..1024)
                    .map(|_| Record { key: random.block() ^ (shift << 64), value: 1 })
                    .collect();
                let rows = Rows { permutation: &permutation, bin, attempt: 0 };
                failed += u32::from(encode(&rows, &records, &values(&records), None).is_err());
            }
            let expected = f64::from(tries) * (-bits).exp2();
            let ratio = f64::from(failed) / expected;
            assert!((0.2..2.5).contains(&ratio), "{bits} bits: {failed} of {tries}");
        }
    }

    /// At real sizes.
    #[test]
    #[ignore = "half a minute"]
    fn ten_thousand_encodings_do_not_fail() {
        let permutation = Permutation::new(12);
        let bin = Bin::of(1024, 41.0);
        for i in 0..10_000u32 {
            let rows = Rows { permutation: &permutation, bin, attempt: 0 };
            let records: Vec<Record> = records(1024, (i % 256) as u8)
                .into_iter()
                .map(|record| Record { key: record.key ^ (u128::from(i) << 64), ..record })
                .collect();
            encode(&rows, &records, &values(&records), None).unwrap();
        }
    }
}
