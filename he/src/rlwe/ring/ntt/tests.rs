use super::*;
use crate::rlwe::ring::Set;

/// Weyl's residues: any will do.
fn residues(n: usize, p: u32, seed: u64) -> Vec<u32> {
    let word = |i: usize| (i as u64 + 1 + seed * 7919).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..n)
        .map(|i| {
            ((word(i) ^ word(i) >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20) % u64::from(p)
        })
        .map(|x| x as u32)
        .collect()
}

fn schoolbook(a: &[u32], b: &[u32], p: u32) -> Vec<u32> {
    let n = a.len();
    let mut product = vec![0u64; n];
    let p = u64::from(p);
    for (i, &a) in a.iter().enumerate() {
        for (j, &b) in b.iter().enumerate() {
            let term = u64::from(a) * u64::from(b) % p;
            let term = if i + j < n { term } else { p - term };
            product[(i + j) % n] = (product[(i + j) % n] + term) % p;
        }
    }
    product.iter().map(|&x| x as u32).collect()
}

fn scaled(ntt: &Ntt, values: &[u32]) -> Factors {
    values.iter().map(|&x| ntt.modulus.factor(ntt.modulus.product(x, ntt.scale))).collect()
}

fn multiply_polynomials(ntt: &Ntt, backend: Backend, a: &[u32], b: &[u32]) -> Vec<u32> {
    let zeros = || vec![0; a.len()];
    let (mut values, mut others, mut product) = (zeros(), zeros(), zeros());
    ntt.forward(backend, &mut a.to_vec(), &mut values);
    ntt.forward(backend, &mut b.to_vec(), &mut others);
    ntt.inverse_of_product(backend, &mut values, &scaled(ntt, &others), &mut product);
    product
}

#[test]
fn products_are_the_schoolbook_ones() {
    for set in [Set::Narrow, Set::Wide] {
        for &p in set.primes() {
            let n = set.degree();
            let ntt = Ntt::new(n, p);
            let (a, b) = (residues(n, p, 1), residues(n, p, 2));
            let expected = schoolbook(&a, &b, p);
            for backend in Backend::ALL {
                assert_eq!(multiply_polynomials(&ntt, backend, &a, &b), expected, "{backend:?}");
            }
        }
    }
}

#[test]
fn extreme_residues_stay_exact() {
    let (n, p) = (256, Set::Narrow.primes()[0]);
    let ntt = Ntt::new(n, p);
    for (a, b) in [(p - 1, p - 1), (p - 1, 1), (0, p - 1), (p / 2, p / 2 + 1)] {
        let (a, b) = (vec![a; n], vec![b; n]);
        let expected = schoolbook(&a, &b, p);
        for backend in Backend::ALL {
            assert_eq!(multiply_polynomials(&ntt, backend, &a, &b), expected, "{backend:?}");
        }
    }
}

#[test]
fn backends_agree_on_values() {
    for set in [Set::Narrow, Set::Wide] {
        let (n, p) = (set.degree(), set.primes()[0]);
        let ntt = Ntt::new(n, p);
        let values = |backend| {
            let mut values = vec![0; n];
            ntt.forward(backend, &mut residues(n, p, 3), &mut values);
            values
        };
        let expected = values(Backend::Scalar);
        assert!(expected.iter().all(|&x| x < p));
        assert!(Backend::ALL.iter().all(|&backend| values(backend) == expected));
    }
}

/// Run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a benchmark"]
fn speed() {
    use std::time::{Duration, Instant};
    for set in [Set::Narrow, Set::Wide] {
        let (n, p) = (set.degree(), set.primes()[0]);
        let ntt = Ntt::new(n, p);
        let by = scaled(&ntt, &residues(n, p, 5));
        for backend in Backend::ALL {
            let (mut values, mut x) = (residues(n, p, 4), vec![0; n]);
            let mut best = [Duration::MAX; 2];
            for _ in 0..3000 {
                let start = Instant::now();
                ntt.inverse_of_product(backend, &mut values, &by, &mut x);
                let middle = Instant::now();
                ntt.forward(backend, &mut x, &mut values);
                best = [best[0].min(middle - start), best[1].min(middle.elapsed())];
            }
            println!(
                "{n} {}: product and inverse {:?}, forward {:?}",
                backend.as_str(),
                best[0],
                best[1]
            );
        }
    }
}
