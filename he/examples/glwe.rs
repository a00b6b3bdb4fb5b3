//! Times a sealed sum of 1 M values over 10 sites under a group key, for each candidate:
//! `cargo run --release -p privet-he --features tfhe --example glwe`. One thread if
//! `RAYON_NUM_THREADS=1`.
#![allow(clippy::print_stdout)] // an example

use std::error::Error;
use std::time::Instant;

use privet_crypto::Seed;
use privet_he::glwe::{GroupKey, Packing, Sum, open, seal};

const SITES: u32 = 10;
const VALUES: u64 = 1_000_000;
const CONTEXT: [u8; 32] = [1; 32];

fn main() -> Result<(), Box<dyn Error>> {
    println!("bits set   slots  seal   add  open   ns a value   up  down  bytes a value");
    let group = Seed::from_os().map_err(|error| error.to_string())?;
    for bits in [10, 15, 18, 24, 39, 52] {
        let most = (1i64 << (bits - 1)) - 1;
        let packing = Packing::within(most.unsigned_abs(), SITES, VALUES)?;
        let key = GroupKey::new(packing.set(), &group)?;
        let (mut sealing, mut adding) = (0.0, 0.0);
        let mut sum = Sum::new(packing, &CONTEXT)?;
        let mut expected = vec![0; VALUES as usize];
        let mut up = 0;
        for site in 1..=i64::from(SITES) {
            let values: Vec<i64> =
                (0..VALUES as i64).map(|i| (i * 7919 * site) % (most + 1) - i % 2).collect();
            expected.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
            let fresh = Seed::from_os().map_err(|error| error.to_string())?;
            let start = Instant::now();
            let upload = seal(&key, &packing, &CONTEXT, &values, fresh)?;
            sealing += start.elapsed().as_secs_f64();
            let start = Instant::now();
            sum.add(&upload)?;
            adding += start.elapsed().as_secs_f64();
            up = upload.len();
        }
        let down = sum.encode().len();
        let start = Instant::now();
        let opened = open(&key, &sum)?;
        let opening = start.elapsed().as_secs_f64();
        assert!(*opened == expected);
        let each = |seconds: f64| seconds * 1e9 / VALUES as f64;
        let bytes = |bytes: usize| bytes as f64 / VALUES as f64;
        println!(
            "{bits:4} {:?} {:5}  {:5.1} {:5.1} {:5.1}           {:6.3} {:6.3}",
            packing.set(),
            packing.slots(),
            each(sealing / f64::from(SITES)),
            each(adding / f64::from(SITES)),
            each(opening),
            bytes(up),
            bytes(down),
        );
    }
    Ok(())
}
