//! Trees of pseudorandom leaves (GGM), of which the receiver R learns all but one; that one it learns plus a
//! value of the sender S.
//!
//! ```text
//!   level l   S: sums of all left and of all right children, under the keys of a transfer ──▶
//!             R: takes the sum of the side that its path leaves, and has the sibling from it
//!   at last   S: the sum of all leaves + b ──▶   R: leaf + b where its path ends
//! ```
//! Of a level of `width` nodes the first `width / 2` nodes above have children.

use privet_core::Reason;
use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::pipe::malformed;
use crate::session::Session;
use crate::vole::params::Trees;
use crate::vole::prg::Permutation;

/// The public functions of a session's trees.
#[derive(Clone)]
pub(crate) struct Functions {
    sides: [Permutation; 2],
    transfer: Permutation,
}

impl Functions {
    pub(crate) fn new(session: &Session) -> Self {
        let of = |name: &str| Permutation::new(session.key(name, 0));
        Self { sides: [of("pprf/left"), of("pprf/right")], transfer: of("pprf/transfer") }
    }

    /// Children of nodes: πⱼ(x) ⊕ x.
    fn grow(&self, nodes: &[u128], children: &mut [u128], scratch: &mut Vec<u128>) {
        for (side, permutation) in self.sides.iter().enumerate() {
            scratch.clear();
            scratch.extend_from_slice(nodes);
            permutation.apply(scratch);
            for ((to, own), node) in
                children[side..].iter_mut().step_by(2).zip(&*scratch).zip(nodes)
            {
                *to = own ^ node;
            }
        }
    }
}

/// Blocks that a sender sends.
pub(crate) fn message_blocks(trees: &Trees) -> usize {
    trees.count as usize * per_tree(trees)
}

fn per_tree(trees: &Trees) -> usize {
    2 * trees.depth as usize + 1
}

/// Sums of the left and of the right nodes.
fn sums(nodes: &[u128]) -> [u128; 2] {
    nodes
        .as_chunks::<2>()
        .0
        .iter()
        .fold([0, 0], |sums, pair| [sums[0] ^ pair[0], sums[1] ^ pair[1]])
}

/// All leaves of all trees, tree by tree, and the message for the receiver.
///
/// `transfers` are the sender's rows of the OT extension under `s`, `payloads` the values b.
pub(crate) fn send(
    functions: &Functions,
    trees: &Trees,
    roots: &[u128],
    payloads: &[u128],
    transfers: &[u128],
    s: u128,
) -> (Zeroizing<Vec<u128>>, Vec<u128>) {
    let (leaves, depth) = (trees.leaves as usize, trees.depth as usize);
    let mut all = Zeroizing::new(vec![0; trees.length() as usize]);
    let mut message = vec![0; message_blocks(trees)];
    let per_tree = all.par_chunks_mut(leaves).zip(message.par_chunks_mut(per_tree(trees)));
    per_tree.enumerate().for_each(|(tree, (out, message))| {
        let (mut level, mut scratch) = (Zeroizing::new(vec![roots[tree]]), Vec::new());
        for l in 1..=depth {
            let width = trees.width(l as u32) as usize;
            let mut children = Zeroizing::new(vec![0; width]);
            functions.grow(&level[..width / 2], &mut children, &mut scratch);
            level = children;
            let number = tree * depth + l - 1;
            let masks =
                [0, s].map(|s| functions.transfer.hash(number as u128, transfers[number] ^ s));
            let sums = sums(&level);
            message[2 * (l - 1)] = masks[0] ^ sums[0];
            message[2 * (l - 1) + 1] = masks[1] ^ sums[1];
        }
        let [left, right] = sums(&level);
        message[2 * depth] = left ^ right ^ payloads[tree];
        out.copy_from_slice(&level);
        zeroize::Zeroize::zeroize(&mut scratch);
    });
    (all, message)
}

/// The choices of a receiver whose paths end at these leaves: of each level the side that is left, one bit
/// each, 128 in a block, tree by tree.
pub(crate) fn choices(trees: &Trees, paths: &[u64]) -> Zeroizing<Vec<u128>> {
    // Room for one more, which a checked run adds.
    let mut blocks =
        Zeroizing::new(Vec::with_capacity(trees.transfers().div_ceil(128) as usize + 1));
    blocks.resize(trees.transfers().div_ceil(128) as usize, 0u128);
    let bits =
        paths.iter().flat_map(|path| (0..trees.depth).rev().map(move |below| !(path >> below) & 1));
    for (number, bit) in bits.enumerate() {
        blocks[number / 128] |= u128::from(bit) << (number % 128);
    }
    blocks
}

/// All ones where both are equal; takes the same time for all values.
fn equal(a: u64, b: u64) -> u128 {
    let differ = a ^ b;
    let one = (differ | differ.wrapping_neg()) >> 63;
    u128::from(one ^ 1).wrapping_neg()
}

/// The leaves of all trees beside `values`, tree by tree: [leaf, 0], and [leaf + b + a, c] where a path ends.
///
/// `transfers` are the receiver's rows of the OT extension for its [`choices`]; a and c are those of the base
/// VOLE.
pub(crate) fn receive(
    functions: &Functions,
    trees: &Trees,
    paths: &[u64],
    (a, c): (&[u128], &[u128]),
    transfers: &[u128],
    message: &[u128],
) -> Result<Zeroizing<Vec<[u128; 2]>>, Reason> {
    if message.len() != message_blocks(trees) {
        return Err(malformed("trees of another length"));
    }
    let (leaves, depth) = (trees.leaves as usize, trees.depth as usize);
    let mut all = Zeroizing::new(vec![[0; 2]; trees.length() as usize]);
    let per_tree = all.par_chunks_mut(leaves).zip(message.par_chunks(per_tree(trees)));
    per_tree.enumerate().for_each(|(tree, (out, message))| {
        let path = paths[tree];
        let (mut level, mut scratch) = (Zeroizing::new(vec![0]), Vec::new());
        for l in 1..=depth {
            let width = trees.width(l as u32) as usize;
            let mut children = Zeroizing::new(vec![0; width]);
            functions.grow(&level[..width / 2], &mut children, &mut scratch);
            // Below a node that is not known nothing is known yet.
            let parent = path >> (depth - l + 1);
            for (at, pair) in children.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let known = !equal(at as u64, parent);
                pair.iter_mut().for_each(|child| *child &= known);
            }
            let number = tree * depth + l - 1;
            let left_behind = !(path >> (depth - l)) & 1;
            let side = u128::from(left_behind).wrapping_neg();
            let select = |pair: [u128; 2]| pair[0] ^ (side & (pair[0] ^ pair[1]));
            let sealed = select([message[2 * (l - 1)], message[2 * (l - 1) + 1]]);
            let sum = sealed ^ functions.transfer.hash(number as u128, transfers[number]);
            let sibling = sum ^ select(sums(&children));
            for (at, pair) in children.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let here = equal(at as u64, parent);
                pair[0] ^= here & !side & sibling;
                pair[1] ^= here & side & sibling;
            }
            level = children;
        }
        let [left, right] = sums(&level);
        let last = message[2 * depth] ^ left ^ right ^ a[tree];
        for (at, (out, leaf)) in out.iter_mut().zip(&*level).enumerate() {
            let here = equal(at as u64, path);
            *out = [leaf ^ (here & last), here & c[tree]];
        }
        zeroize::Zeroize::zeroize(&mut scratch);
    });
    Ok(all)
}

#[cfg(test)]
mod tests {
    use privet_crypto::Digest;

    use super::*;
    use crate::session::Random;
    use crate::vole::gf128::mul;

    fn trees(count: u64, leaves: u64) -> Trees {
        Trees { count, leaves, depth: leaves.next_power_of_two().trailing_zeros() }
    }

    #[test]
    fn a_level_has_whole_pairs_and_no_more_than_it_needs() {
        for leaves in [4, 6, 12, 682, 11_068] {
            let trees = trees(1, leaves);
            assert_eq!(trees.width(trees.depth), leaves);
            for l in 1..=trees.depth {
                assert!(
                    trees.width(l).is_multiple_of(2) && trees.width(l - 1) >= trees.width(l) / 2
                );
                assert!(trees.width(l) <= leaves.div_ceil(1 << (trees.depth - l)) + 1);
            }
        }
    }

    #[test]
    fn all_leaves_but_one_are_learnt_and_that_one_with_its_payload() {
        let session = Session::new(&Digest([9; 32]));
        let functions = Functions::new(&session);
        for leaves in [4, 6, 12, 168, 682, 11_068] {
            let trees = trees(5, leaves);
            let mut random = Random::known(leaves as u8);
            let mut blocks = |n: usize| -> Vec<u128> { (0..n).map(|_| random.block()).collect() };
            let (roots, b, c, s) = (blocks(5), blocks(5), blocks(5), blocks(1)[0]);
            let delta = blocks(1)[0];
            let a: Vec<u128> = b.iter().zip(&c).map(|(b, c)| b ^ mul(*c, delta)).collect();
            let q = blocks(trees.transfers() as usize);
            let paths = [0, leaves - 1, leaves / 2, 1, leaves / 3];
            let choices = choices(&trees, &paths);
            let t: Vec<u128> = q
                .iter()
                .enumerate()
                .map(|(i, q)| q ^ ((choices[i / 128] >> (i % 128) & 1).wrapping_neg() & s))
                .collect();
            let (own, message) = send(&functions, &trees, &roots, &b, &q, s);
            let got = receive(&functions, &trees, &paths, (&a, &c), &t, &message).unwrap();
            let mut holes = 0;
            for (i, ([leaf, factor], own)) in got.iter().zip(&*own).enumerate() {
                let (tree, at) = (i as u64 / leaves, i as u64 % leaves);
                let expected = if at == paths[tree as usize] { c[tree as usize] } else { 0 };
                assert_eq!(*factor, expected);
                assert_eq!(*leaf, own ^ mul(*factor, delta));
                holes += usize::from(*factor != 0);
            }
            assert_eq!(holes, 5);
            assert!(receive(&functions, &trees, &paths, (&a, &c), &t, &message[1..]).is_err());
        }
    }
}
