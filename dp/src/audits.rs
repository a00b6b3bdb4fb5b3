//! Black-box audits: what an attacker who sees releases can tell, against what is promised.
//!
//! A release hides which of two worlds it comes from. If it is μ-Gaussian-private, then for every
//! event E (Dong, Roth, Su 2022)
//!
//! ```text
//!   P₁(E) ≤ Φ(Φ⁻¹(P₀(E)) + μ)
//! ```
//! An audit draws many releases of either world, bounds both probabilities of many events from the
//! counts (Chernoff, with all events together wrong once in a thousand audits), and looks for one
//! that breaks this. The honest filters must pass; each of the *broken twins* below, with a mistake
//! that was made elsewhere or could be made here, must not.

use privet_core::filter::Charge;
use privet_core::params::RawValue;
use privet_core::sensitivity::{Adjacency, Norm, Prover, Unit};
use privet_core::tensor::{Dtype, Schema, Shape, Slot, Tensor, Tensors};
use privet_core::{Content, Filter, Reason};

use crate::accounting::gaussian::phi;
use crate::clip::tests::{apply, build_filter, prover, shared_filter};
use crate::lattice::{RecordSum, bound_for};
use crate::noise::{Law, Sampler, Session};

const RELEASES: usize = 30_000;

struct Free;

impl Charge for Free {
    fn draw(&mut self, _: &Prover) -> Result<(), Reason> {
        Ok(())
    }
}

/// The largest p with n·KL(k/n ‖ p) ≤ ln(1/α): P(count ≤ k) ≤ α for any larger p.
fn upper(count: usize, alpha: f64) -> f64 {
    let n = RELEASES as f64;
    let share = count as f64 / n;
    let term = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
    let unlikely = |p: f64| n * (term(share, p) + term(1.0 - share, 1.0 - p)) > -alpha.ln();
    let (mut low, mut high) = (share, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if unlikely(middle) { high = middle } else { low = middle }
    }
    high
}

fn lower(count: usize, alpha: f64) -> f64 {
    1.0 - upper(RELEASES - count, alpha)
}

/// Φ(Φ⁻¹(p) + μ).
fn most(p: f64, mu: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if phi(middle) < p { low = middle } else { high = middle }
    }
    phi(high + mu)
}

/// Whether releases tell more of the world than μ allows. `scale` is the size of a release's noise;
/// events are thresholds on the release and on its magnitude, from −6 to 6 of it.
fn tells_too_much(mu: f64, scale: f64, release: impl FnMut(bool) -> f64) -> bool {
    tells_more_than(|p| most(p, mu), scale, release)
}

/// The same for any limit on an event's chance in one world, by its chance in the other.
fn tells_more_than(
    limit: impl Fn(f64) -> f64,
    scale: f64,
    mut release: impl FnMut(bool) -> f64,
) -> bool {
    let mut draw = |world| -> Vec<f64> { (0..RELEASES).map(|_| release(world)).collect() };
    let (zero, one) = (draw(false), draw(true));
    let thresholds: Vec<f64> = (-30..=30).map(|i| f64::from(i) * scale / 5.0).collect();
    let views: [fn(f64) -> f64; 3] = [|x| x, |x| -x, f64::abs];
    let alpha = 1e-3 / (thresholds.len() * views.len() * 4) as f64;
    views.iter().any(|view| {
        thresholds.iter().any(|&threshold| {
            let count = |world: &[f64]| world.iter().filter(|&&x| view(x) > threshold).count();
            let (in_zero, in_one) = (count(&zero), count(&one));
            let breaks = |a, b| lower(a, alpha) > limit(upper(b, alpha));
            breaks(in_one, in_zero) || breaks(in_zero, in_one)
        })
    })
}

/// The first number of a release, in the update's scale.
fn first(content: Content) -> f64 {
    let Content::Lattice(lattice) = content else { panic!("a lattice was expected") };
    lattice.tensors()["w"].values()[0] as f64 * lattice.step().value()
}

fn update(first: f32) -> Content {
    let tensor = Tensor::vector(vec![first, 0.0, 0.0, 0.0]);
    Content::Plain(Tensors::from_iter([("w".to_owned(), tensor)]))
}

fn clip() -> Box<dyn Filter> {
    build_filter("clip", &[("l2", RawValue::Float(1.0))], Adjacency::AddRemove).unwrap()
}

fn gaussian(z: f64, adjacency: Adjacency) -> Box<dyn Filter> {
    build_filter("gaussian", &[("noise-multiplier", RawValue::Float(z))], adjacency).unwrap()
}

/// A site's update of norm `size` along the first coordinate, or none at all.
fn site(filters: &[&dyn Filter], size: f32) -> f64 {
    first(
        filters
            .iter()
            .fold(update(size), |content, filter| apply(*filter, content, &mut Free).unwrap()),
    )
}

#[test]
fn a_sites_update_tells_what_is_promised() {
    // Little noise can be measured better than much.
    for (z, seen) in [(0.5, 0.85), (1.0, 0.85), (4.0, 0.4)] {
        let (clip, noise) = (clip(), gaussian(z, Adjacency::AddRemove));
        let filters = [&*clip, &*noise];
        // A site that is absent, and one whose update is a thousand times too long.
        let release = |world| site(&filters, if world { 1000.0 } else { 0.0 });
        assert!(!tells_too_much(1.0 / z, z, release), "z = {z}");
        assert!(tells_too_much(seen / z, z, release), "the audit is blind at z = {z}");
    }
}

/// Laplace noise is purely private: no event is e^ε times as likely in one world as in the other.
#[test]
fn laplace_noise_tells_what_is_promised() {
    let clip = build_filter("clip", &[("l1", RawValue::Float(1.0))], Adjacency::AddRemove).unwrap();
    let value = [("noise-multiplier", RawValue::Float(1.0))];
    let noise = build_filter("laplace", &value, Adjacency::AddRemove).unwrap();
    let filters = [&*clip, &*noise];
    let release = |world| site(&filters, if world { 50.0 } else { 0.0 });
    let limit = |epsilon: f64| move |p: f64| epsilon.exp() * p;
    assert!(!tells_more_than(limit(1.0), 1.0, release));
    assert!(tells_more_than(limit(0.85), 1.0, release), "the audit is blind");
}

/// Six numbers of which all move, and the first that is said to reach ½: purely private as a whole.
#[test]
fn sparse_answers_tell_what_is_promised() {
    let clip =
        build_filter("clip", &[("linf", RawValue::Float(1.0))], Adjacency::AddRemove).unwrap();
    let sparse = |z: f64| {
        let values = [
            ("threshold", RawValue::Float(0.5)),
            ("answers", RawValue::Integer(1)),
            ("noise-multiplier", RawValue::Float(z)),
        ];
        build_filter("sparse-vector", &values, Adjacency::AddRemove).unwrap()
    };
    let promised = sparse(0.5);
    let answer = |filter: &dyn Filter, world: bool| {
        let numbers = if world { vec![-1.0, -1.0, 1.0, -1.0, -1.0, -1.0] } else { vec![0.0; 6] };
        let update = Tensors::from_iter([("w".to_owned(), Tensor::vector(numbers))]);
        let clipped = apply(&*clip, Content::Plain(update), &mut Free).unwrap();
        let Content::Lattice(lattice) = apply(filter, clipped, &mut Free).unwrap() else {
            panic!("a lattice was expected")
        };
        let found = lattice.tensors()["w"].values().iter().position(|&q| q != 0);
        found.unwrap_or(6) as f64 - 3.0
    };
    let limit = |epsilon: f64| move |p: f64| epsilon.exp() * p;
    assert!(!tells_more_than(limit(2.0), 1.0, |world| answer(&*promised, world)));
    // Half of the noise on a threshold and on questions.
    let thin = sparse(0.05);
    assert!(tells_more_than(limit(2.0), 1.0, |world| answer(&*thin, world)), "the audit is blind");

    // Answers without end, which is what several published variants give (Lyu, Su, Li 2017, section 3).
    let laplace = Sampler::new(Law::Laplace { scale: 4.0 * f64::from(1 << 20) }).unwrap();
    let endless = |world: bool| {
        let mut noise = [0i64; 200];
        let mut session = Session::open().unwrap();
        session.add(&laplace, &mut noise, &Default::default()).unwrap();
        let q = if world { 1i64 << 20 } else { 0 };
        (noise.iter().filter(|&&noise| q + noise >= 1 << 19).count() as f64 - 90.0) / 10.0
    };
    assert!(tells_more_than(limit(2.0), 1.0, endless), "not caught: answers without end");
}

#[test]
fn an_exchange_tells_what_is_promised() {
    let (clip, noise) = (clip(), gaussian(1.0, Adjacency::Replace));
    let filters = [&*clip, &*noise];
    let release = |world| site(&filters, if world { 9.0 } else { -9.0 });
    assert!(!tells_too_much(1.0, 2.0, release));
    assert!(tells_too_much(0.85, 2.0, release), "the audit is blind");
}

/// A record among others, at its clip.
#[test]
fn a_record_tells_what_is_promised() {
    let bound = bound_for(Unit::Record, Norm::L2, 0.5).unwrap();
    let shape = Shape::new(vec![2]).unwrap();
    let schema = Schema::from_iter([("w".to_owned(), Slot { shape, dtype: Dtype::F32 })]);
    let noise = gaussian(1.0, Adjacency::AddRemove);
    let prover = prover();
    let release = |world| {
        let mut sum = RecordSum::new(bound, 2).unwrap();
        sum.add(&[0.1, 0.2]);
        sum.add(&[-3.0, 0.2]);
        if world {
            sum.add(&[77.0, 0.0]);
        }
        let lattice = sum.finish(&prover, &schema).unwrap();
        first(apply(&*noise, Content::Lattice(lattice), &mut Free).unwrap()) + 0.39
    };
    assert!(!tells_too_much(1.0, 0.5, release));
    assert!(tells_too_much(0.85, 0.5, release), "the audit is blind");
}

/// Two rounds, or two sites: nothing of the noise of one is in the other.
#[test]
fn two_releases_share_no_noise() {
    let (clip, noise) = (clip(), gaussian(1.0, Adjacency::AddRemove));
    let filters = [&*clip, &*noise];
    let other = gaussian(1.0, Adjacency::AddRemove);
    for second in [&noise, &other] {
        let release = |world| {
            let with = site(&filters, if world { 1.0 } else { 0.0 });
            with - site(&[&*clip, &**second], 0.0)
        };
        // A difference has √2 times the noise.
        assert!(!tells_too_much(0.5f64.sqrt(), 2f64.sqrt(), release));
    }
}

/// Prints releases of nothing at all, for the test below, which runs it in processes of its own.
#[test]
#[ignore = "the other half of `restarts_share_no_noise`"]
fn prints_releases() {
    let (clip, noise) = (clip(), gaussian(1.0, Adjacency::AddRemove));
    for _ in 0..RELEASES {
        println!("release {}", site(&[&*clip, &*noise], 0.0));
    }
}

/// A process that starts anew draws anew, though it does all that the one before it did.
#[test]
fn restarts_share_no_noise() {
    let process = || -> Vec<f64> {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["audits::prints_releases", "--exact", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let release = |line: &str| line.split_once("release ")?.1.parse().ok();
        text.lines().filter_map(release).collect()
    };
    let (before, after) = (process(), process());
    assert_eq!((before.len(), after.len()), (RELEASES, RELEASES));
    // Two draws at the same place differ by √2 times the noise, within 1/√(2·30 000) six times over.
    let square: f64 = before.iter().zip(&after).map(|(a, b)| (a - b).powi(2)).sum();
    let deviation = (square / RELEASES as f64).sqrt();
    assert!((deviation / 2f64.sqrt() - 1.0).abs() < 0.025, "{deviation}");
}

/// A thousand canaries, each a record of its own direction and in the sum with chance ½, and one
/// release (Steinke, Nasr, Jagielski 2023): of the guesses who was in, an (ε, δ)-private release lets
/// no more be right than a coin of e^ε/(1 + e^ε) would, but for δ. Looser than many releases, but it is one run
/// of the whole trainer's sum.
#[test]
fn one_release_tells_little_of_a_thousand_records() {
    const CANARIES: usize = 1000;
    let bound = bound_for(Unit::Record, Norm::L2, 0.5).unwrap();
    let shape = Shape::new(vec![CANARIES as u64]).unwrap();
    let schema = Schema::from_iter([("w".to_owned(), Slot { shape, dtype: Dtype::F32 })]);
    let right = |z: f64| {
        let mut words = privet_crypto::Words::new(&privet_crypto::Seed::from_os().unwrap());
        let mut sum = RecordSum::new(bound, CANARIES).unwrap();
        let present: Vec<bool> = (0..CANARIES).map(|_| words.word() & 1 == 1).collect();
        for at in present.iter().enumerate().filter_map(|(at, &is)| is.then_some(at)) {
            let mut canary = vec![0.0; CANARIES];
            canary[at] = 9.0;
            sum.add(&canary);
        }
        let lattice = Content::Lattice(sum.finish(&prover(), &schema).unwrap());
        let noise = gaussian(z, Adjacency::AddRemove);
        let Content::Lattice(noisy) = apply(&*noise, lattice, &mut Free).unwrap() else {
            panic!("a lattice was expected")
        };
        let half = bound.lattice_units as i64 / 2;
        let guesses = noisy.tensors()["w"].values().iter().map(|&q| q > half);
        guesses.zip(&present).filter(|(guess, is)| guess == *is).count() as f64
    };
    // z = 4 is (0.927, 1e-5)-private; six deviations of the coin.
    let coin = 0.927f64.exp() / (1.0 + 0.927f64.exp());
    let n = CANARIES as f64;
    let most = n * coin + 6.0 * (n * coin * (1.0 - coin)).sqrt();
    assert!(right(4.0) < most);
    assert!(right(0.25) > most, "the audit is blind");
}

/// Three sites' shares in a sum.
#[test]
fn a_sealed_sum_tells_what_is_promised() {
    let clip = clip();
    let value = [("noise-multiplier", RawValue::Float(1.0))];
    let share = shared_filter("gaussian", &value, Some(3)).unwrap();
    let filters = [&*clip, &*share];
    let release = |world| {
        site(&filters, if world { 1.0 } else { 0.0 }) + site(&filters, 0.0) + site(&filters, 0.0)
    };
    assert!(!tells_too_much(1.0, 1.0, release));
}

/// Each has one mistake. The promise is that of z = 1.
#[test]
fn broken_twins_are_caught() {
    let (clip, noise) = (clip(), gaussian(1.0, Adjacency::AddRemove));
    let honest = [&*clip, &*noise];
    let canary = |world: bool| if world { 1.0 } else { 0.0 };
    let sampler = Sampler::new(Law::Gaussian { sigma: f64::from(1 << 20) }).unwrap();
    let unit = 1.0 / f64::from(1 << 20);
    let draw = |session: &mut Session| {
        let mut value = [0];
        session.add(&sampler, &mut value, &Default::default()).unwrap();
        value[0] as f64 * unit
    };
    let caught = |what: &str, release: &mut dyn FnMut(bool) -> f64| {
        assert!(tells_too_much(1.0, 1.0, release), "not caught: {what}");
    };

    // A bound for add/remove, and neighbours that exchange.
    caught("Δ halved", &mut |world| site(&honest, if world { 1.0 } else { -1.0 }));
    caught("noise before clip", &mut |world| {
        let noisy = 1000.0 * canary(world) + draw(&mut Session::open().unwrap());
        noisy.clamp(-1.0, 1.0)
    });
    caught("no clip", &mut |world| 3.0 * canary(world) + site(&honest, 0.0));
    let fifth = gaussian(1.0 / 5f64.sqrt(), Adjacency::AddRemove);
    caught("σ/√n without a seal", &mut |world| site(&[&*clip, &*fifth], canary(world) as f32));
    caught("σ in lattice units", &mut |world| {
        canary(world) + unit * draw(&mut Session::open().unwrap())
    });
    // The weight of an average multiplies noise and all.
    caught("a weight after the noise", &mut |world| (1.0 + canary(world)) * site(&honest, 0.0));
    caught("noise cut off at 1.5 σ", &mut |world| {
        canary(world) + draw(&mut Session::open().unwrap()).clamp(-1.5, 1.5)
    });
    caught("a seed used twice", &mut |world| {
        let with = canary(world) + draw(&mut Session::seeded([7; 32]));
        with - draw(&mut Session::seeded([7; 32]))
    });
    // Noise that is smaller on smaller updates hides nothing about their size.
    caught("noise scaled to the update", &mut |world| {
        let norm = 0.2 + 0.8 * canary(world);
        norm * draw(&mut Session::open().unwrap())
    });
    // A NaN that is refused where all can see it.
    caught("a refusal that depends on the data", &mut |world| {
        if world { f64::MAX } else { site(&honest, 0.0) }
    });
}

/// Keeping the largest coordinates of a sum over records is no projection: which they are depends on
/// every record, so one record moves the result by more than its clip. The noise that follows is
/// scaled to a proof, and a filter that changes numbers loses it; without that check, this.
#[test]
fn top_k_after_a_record_sum_is_caught() {
    let sum = |with: bool| -> [f64; 2] { if with { [10.1, 10.0] } else { [9.9, 10.0] } };
    let top_1 = |[a, b]: [f64; 2]| if a > b { [a, 0.0] } else { [0.0, b] };
    let release = |world| {
        let [a, _] = top_1(sum(world));
        let mut value = [0];
        let sampler = Sampler::new(Law::Gaussian { sigma: f64::from(1 << 20) }).unwrap();
        Session::open().unwrap().add(&sampler, &mut value, &Default::default()).unwrap();
        a + value[0] as f64 / f64::from(1 << 20)
    };
    assert!(tells_too_much(1.0, 1.0, release));
}
