//! The parts of differential privacy, one by one: `cargo bench -p privet-bench --bench dp`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use privet::core::filter::Cancel;
use privet::core::sensitivity::{Adjacency, Norm, Unit};
use privet::dp::lattice::{bound_for, quantise};
use privet::dp::noise::{Backend, Law, Sampler, Session};
use privet::dp::pld::{self, Mechanism, Noise};

const DRAWS: usize = 1 << 16;

/// A draw, by law, instructions and cipher; the values stay in cache.
fn draws(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("draw");
    group.throughput(Throughput::Elements(DRAWS as u64));
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut values = vec![0i64; DRAWS];
    let laws = [1.0, 100.0, 4096.0, 1e6, 3e7]
        .map(|sigma| (format!("gaussian {sigma}"), Law::Gaussian { sigma }));
    let laplace = ("laplace 4096".to_owned(), Law::Laplace { scale: 4096.0 });
    for (name, law) in laws.into_iter().chain([laplace]) {
        for backend in Backend::ALL {
            let Some(sampler) = Sampler::new(law).unwrap().on(backend) else { continue };
            type Open = fn() -> Session;
            let ways: [(&str, Open); 2] = [
                ("aes", || Session::open().unwrap()),
                ("chacha12", || Session::portable().unwrap()),
            ];
            for (cipher, session) in ways {
                let id = format!("{name}/{}/{cipher}", backend.as_str());
                group.bench_function(id, |bencher| {
                    one_thread.install(|| {
                        bencher.iter(|| {
                            session().add(&sampler, &mut values, &Cancel::default()).unwrap();
                        });
                    });
                });
            }
        }
    }
    group.finish();
}

/// A table for a new width of noise.
fn tables(criterion: &mut Criterion) {
    for sigma in [100.0, 4096.0, 1e6] {
        criterion.bench_function(&format!("table {sigma}"), |bencher| {
            bencher.iter(|| Sampler::new(black_box(Law::Gaussian { sigma })).unwrap());
        });
    }
}

/// A vector onto the lattice, with the check of its norm.
fn lattice(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quantise");
    group.throughput(Throughput::Elements(DRAWS as u64));
    let values: Vec<f32> = (0..DRAWS).map(|i| (i % 1024) as f32 * 1e-3).collect();
    let mut out = vec![0i64; DRAWS];
    for norm in [Norm::L1, Norm::L2, Norm::Linf] {
        let bound = bound_for(Unit::Site, norm, 1.0).unwrap();
        group.bench_function(format!("{norm:?}"), |bencher| {
            bencher.iter(|| assert!(quantise(&[&values], &bound, &mut [&mut out])));
        });
    }
    group.finish();
}

/// ε of a thousand rounds.
fn plans(criterion: &mut Criterion) {
    for (rate, z) in [(0.01, 0.8), (0.01, 4.0), (0.1, 2.0)] {
        let plan = [(Mechanism { noise: Noise::Gaussian(z), rate }, 1000)];
        criterion.bench_function(&format!("pld q={rate} z={z} T=1000"), |bencher| {
            bencher.iter(|| pld::epsilon(&plan, Adjacency::AddRemove, 1e-5).unwrap());
        });
    }
}

criterion_group!(dp, draws, tables, lattice, plans);
criterion_main!(dp);
