//! The text that the driver gets, run by an interpreter, against the processor's code.

mod machine;
mod program;

use std::panic::catch_unwind;

use chacha20::ChaCha12Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use super::check::{BLOCKS, CONTEXT, Trial, key, key_sum, seed};
use super::device::{PTX, driver_present, launch_config, names};
use super::tables::{mask_keys, parts, powers};
use super::*;
use crate::rlwe::block::draw_errors;
use crate::rlwe::key::Image;
use crate::rlwe::mask::Mask;
use crate::rlwe::{self, Ring, Set};
use machine::{Access, Memory, launch};
use program::Program;

fn kernel(text: &str, name: &str) -> Program {
    program::read(text).into_iter().find(|program| program.name == name).unwrap()
}

/// Buffers that sealing and opening both read.
fn inputs(memory: &mut Memory, ring: &Ring, image: &Image) -> [u64; 3] {
    let image: Vec<u32> = parts(image.factors()).flatten().copied().collect();
    [
        memory.add(Access::Read, &mask_keys(ring.set(), &CONTEXT)),
        memory.add(Access::Read, &powers(ring)),
        memory.add(Access::ReadSecret, &image),
    ]
}

/// Seals blocks with the key and the errors of the trial, as [`super::Sealer`] does.
fn seal(ring: &Ring, messages: &[i64]) -> Vec<u32> {
    seal_by(PTX, ring, 0, messages)
}

fn seal_by(text: &str, ring: &Ring, first: u64, messages: &[i64]) -> Vec<u32> {
    let set = ring.set();
    let blocks = set.blocks(messages.len());
    let mut padded = messages.to_vec();
    padded.resize(blocks * set.degree(), 0);
    let mut drawn = vec![0; padded.len()];
    for (block, drawn) in (first..).zip(drawn.chunks_exact_mut(set.degree())) {
        draw_errors(ring, &seed(), block, drawn);
    }
    let mut memory = Memory::default();
    let [keys, powers, image] = inputs(&mut memory, ring, &Image::of(ring, &key(ring)));
    let messages = memory.add(Access::ReadSecret, &padded);
    let errors = memory.add(Access::ReadSecret, &drawn);
    let out = memory.add(Access::Write, &vec![u32::MAX; blocks * set.block()]);
    let parameters = [keys, powers, image, first, messages, errors, out];
    let left = launch(&kernel(text, names(set)[0]), &mut memory, &parameters, blocks as u64);
    assert!(!left, "secrets are left in shared memory");
    memory.values(out)
}

/// Opens all of some blocks from number `first` on, as [`super::Opener`] does. False if refused.
fn open(ring: &Ring, first: u64, sealed: &[u32]) -> (bool, Vec<i64>) {
    let set = ring.set();
    let blocks = sealed.len() / set.block();
    let mut memory = Memory::default();
    let key = key_sum(ring).unwrap();
    let [keys, powers, image] = inputs(&mut memory, ring, key.image());
    let sealed = memory.add(Access::Read, sealed);
    let sums = memory.add(Access::Write, &vec![i64::MIN; blocks * set.degree()]);
    let refused = memory.add(Access::Write, &[0u32]);
    let parameters = [keys, powers, image, first, sealed, sums, refused];
    launch(&kernel(PTX, names(set)[1]), &mut memory, &parameters, blocks as u64);
    (memory.values::<u32>(refused) == [0], memory.values(sums))
}

/// The mask of a block by its definition, with words rejected from `limit` on; and how many were.
fn mask(set: Set, block: u64, prime: usize, limit: u32) -> (Vec<u32>, usize) {
    let mut words = ChaCha12Rng::from_seed(Mask::new(set, &CONTEXT).keys()[prime]);
    words.set_stream(block);
    let (mut values, mut rejected) = (Vec::new(), 0);
    while values.len() < set.degree() {
        match words.next_u32() & u32::MAX >> 1 {
            word if word < limit => values.push(word),
            _ => rejected += 1,
        }
    }
    (values, rejected)
}

#[test]
fn the_kernels_seal_and_open_as_the_processor_does() {
    for set in Set::ALL {
        let p = set.primes()[0];
        let rejected: usize = (0..BLOCKS as u64).map(|block| mask(set, block, 0, p).1).sum();
        assert!(rejected > 1, "the rare path is taken: {rejected}");
        let trial = Trial::new(set).unwrap();
        let ring = &trial.ring;
        assert!(seal(ring, &trial.messages) == trial.sealed);
        let (whole, sums) = open(ring, 0, &trial.sealed);
        assert!(whole && sums[..trial.sums.len()] == trial.sums);
    }
}

/// Where words are rejected in [`limited`] text.
const LIMIT: u32 = 1_431_655_765;

/// The text with other numbers where sealing compares with the primes: only the drawing of masks
/// does. A third of all words are rejected, so that many blocks of the cipher come after those that
/// the threads have; with the primes themselves, hardly a block has two such words.
fn limited(set: Set) -> String {
    let limited = |line: &str| match line.contains("setp.") {
        true => set.primes().iter().fold(line.to_owned(), |line, p| {
            line.replace(&format!(" {p};"), &format!(" {LIMIT};"))
                .replace(&format!(" {};", p - 1), &format!(" {};", LIMIT - 1))
        }),
        false => line.to_owned(),
    };
    PTX.lines().map(limited).collect::<Vec<_>>().join("\n")
}

#[test]
fn many_rejected_words_keep_the_order() {
    for set in Set::ALL {
        let ring = Ring::new(set);
        let sealed = seal_by(&limited(set), &ring, 3, &vec![0; set.degree()]);

        let mut errors = vec![0; set.degree()];
        draw_errors(&ring, &seed(), 3, &mut errors);
        let image = Image::of(&ring, &key(&ring));
        for (prime, ntt) in ring.transforms().iter().enumerate() {
            let (mut values, rejected) = mask(set, 3, prime, LIMIT);
            assert!(rejected > set.degree() / 3);
            let mut expected = vec![0; set.degree()];
            let factors = &image.factors()[prime];
            ntt.inverse_of_product(ring.backend(), &mut values, factors, &mut expected);
            for (x, &error) in expected.iter_mut().zip(&errors) {
                *x = ntt.modulus.add(*x, ntt.modulus.signed(error.into()));
            }
            assert!(sealed[prime * set.degree()..][..set.degree()] == expected);
        }
    }
}

#[test]
fn extreme_messages_and_late_blocks_agree() {
    for set in Set::ALL {
        let ring = Ring::new(set);
        let bound = set.bound();
        let edges = [bound, -bound, 0, 1, -1, bound / 2, -bound / 2 - 1];
        let messages: Vec<i64> = edges.iter().copied().cycle().take(set.degree()).collect();
        let sealed = seal(&ring, &messages);
        let mut expected = vec![0; set.block()];
        let mut sealer = rlwe::Sealer::new(&ring, &CONTEXT, key(&ring), seed());
        sealer.seal(&messages, &mut expected).unwrap();
        assert!(sealed == expected);

        // All 64 bits of a block's number count.
        let late = 0x1234_5678_9abc_def0;
        let (whole, sums) = open(&ring, late, &sealed);
        let mut expected = vec![0; set.degree()];
        let mut opener = rlwe::Opener::new(&ring, &CONTEXT, key_sum(&ring).unwrap());
        opener.open(late, &sealed, &mut expected).unwrap();
        assert!(whole && sums == expected);
    }
}

#[test]
fn what_is_no_residue_is_refused() {
    for set in Set::ALL {
        let ring = Ring::new(set);
        let last = set.primes()[set.primes().len() - 1];
        for (place, word) in [(0, u32::MAX), (set.block() - 1, last), (set.block() / 2, 1 << 31)] {
            let mut sealed = vec![0; set.block()];
            sealed[place] = word;
            assert!(!open(&ring, 0, &sealed).0);
        }
        let ends = set.primes().iter().flat_map(|p| vec![p - 1; set.degree()]);
        assert!(open(&ring, 0, &ends.collect::<Vec<_>>()).0);
    }
}

/// The interpreter is worth something: no barrier can be left out, and no word left unerased,
/// without its noticing.
#[test]
fn what_is_wrong_with_a_text_is_noticed() {
    let set = Set::Narrow;
    let (ring, messages) = (Ring::new(set), vec![0; set.degree()]);
    let text = limited(set);
    let fine = |text: &str| catch_unwind(|| seal_by(text, &ring, 0, &messages)).is_ok();
    assert!(fine(PTX) && fine(&text));
    let end = PTX.find("privet_seal_wide(").unwrap();
    let mut faults = 0;
    for needle in ["bar.sync", "st.volatile"] {
        for (place, _) in PTX[..end].match_indices(needle) {
            let line = PTX[..place].lines().count() - 1;
            let without = |text: &str| {
                let kept = text.lines().enumerate().filter(|(i, _)| *i != line);
                kept.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
            };
            // A barrier of the rare path is missed only there.
            assert!(!fine(&without(PTX)) || !fine(&without(&text)), "line {line}");
            faults += 1;
        }
    }
    assert!(faults > 16);
}

/// By its fingerprint, FNV-1a. Whether the compiler makes this of it, `make_ptx.py --check` tells.
#[test]
fn the_text_is_of_the_source() {
    let hash = include_bytes!("kernels.cu").iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert!(PTX.starts_with(&format!("// of kernels.cu {hash:016x}\n")), "run make_ptx.py");
}

#[test]
fn the_text_has_the_kernels_that_are_called() {
    assert!(PTX.contains(".version 8.0\n") && PTX.contains(".target sm_80\n"));
    assert!(!PTX.contains(".local"), "registers suffice");
    let programs = program::read(PTX);
    assert_eq!(programs.len(), 4);
    for set in Set::ALL {
        for name in names(set) {
            let program = programs.iter().find(|program| program.name == name).unwrap();
            assert_eq!(program.parameters, [".u64"; 7]);
            let config = launch_config(set, 5);
            assert_eq!(config.block_dim, (program.threads as u32, 1, 1));
            assert_eq!(config.grid_dim, (5, 1, 1));
            // Every thread's 17 words and one more: within what each GPU gives without asking.
            assert_eq!(program.shared, 4 * 18 * program.threads);
            assert!(program.shared <= 48 << 10);
        }
    }
}

#[test]
fn a_machine_without_a_driver_is_told_so() {
    let opened = Device::open().map(drop);
    match driver_present() {
        false => assert_eq!(opened, Err(CudaError::NoDriver)),
        true => assert_ne!(opened, Err(CudaError::NoDriver)),
    }
    assert_eq!(CudaError::NoDriver.to_string(), "no NVIDIA driver on this machine");
}

/// Needs a GPU: `cargo test -p privet-he --features cuda -- --ignored on_a_gpu`.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn blocks_agree_on_a_gpu() {
    let device = Device::open().unwrap();
    println!("{}", device.name().unwrap());
    for set in Set::ALL {
        let ring = Ring::new(set);
        // More than two portions, the last block not full.
        let n = (2 * super::device::PORTION + 3) * set.degree() - 7;
        let half = set.bound() / 2;
        let messages: Vec<i64> = (0..n as i64).map(|i| (i * 0x9e37_79b9) % half).collect();
        let (mut ours, mut theirs) = (vec![0; set.blocks(n) * set.block()], Vec::new());
        theirs.resize(ours.len(), 0);
        let mut sealer = device.sealer(&ring, &CONTEXT, key(&ring), seed()).unwrap();
        sealer.seal_blocks(&messages, &mut ours).unwrap();
        let mut reference = rlwe::Sealer::new(&ring, &CONTEXT, key(&ring), seed());
        reference.par_seal(&messages, &mut theirs).unwrap();
        assert!(ours == theirs);
        // The next blocks, in a second call.
        sealer.seal_blocks(&[5], &mut ours[..set.block()]).unwrap();
        reference.seal(&[5], &mut theirs[..set.block()]).unwrap();
        assert!(ours == theirs);

        let mut opener = device.opener(&ring, &CONTEXT, key_sum(&ring).unwrap()).unwrap();
        let reference = rlwe::Opener::new(&ring, &CONTEXT, key_sum(&ring).unwrap());
        let (mut sums, mut expected) = (vec![0; n], vec![0; n]);
        opener.open_blocks(7, &ours, &mut sums).unwrap();
        reference.par_open(7, &theirs, &mut expected).unwrap();
        assert!(sums == expected);
        *ours.last_mut().unwrap() = u32::MAX;
        let refused = Err(CudaError::Ring(RingError::Residue));
        assert_eq!(opener.open_blocks(7, &ours, &mut sums), refused);
    }
}
