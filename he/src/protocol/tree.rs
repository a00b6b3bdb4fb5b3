//! A hash tree over the shares that one site deals, so that one signature covers them all and each
//! receiver can check its own (RFC 9162, section 2.1, with domain-separated hashes of our own).

use privet_crypto::{Digest, Transcript};

fn node(left: &Digest, right: &Digest) -> Digest {
    Transcript::new("privet/he/node/v1").bytes(&left.0).bytes(&right.0).finish()
}

/// The digest of a sealed share on its way from one site to another.
pub(crate) fn leaf(from: u32, to: u32, sealed: &[u8]) -> Digest {
    let transcript = Transcript::new("privet/he/leaf/v1").number(from.into()).number(to.into());
    transcript.bytes(sealed).finish()
}

/// The level above: of an odd number the last stands for itself.
fn above(level: &[Digest]) -> Vec<Digest> {
    let pair = |pair: &[Digest]| match pair {
        [left, right] => node(left, right),
        [one, ..] => *one,
        [] => Digest([0; 32]),
    };
    level.chunks(2).map(pair).collect()
}

/// The root over some leaves.
pub(crate) fn root(leaves: &[Digest]) -> Digest {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = above(&level);
    }
    level.first().copied().unwrap_or(Digest([0; 32]))
}

/// The neighbours on the way from a leaf to the root.
pub(crate) fn path(leaves: &[Digest], at: usize) -> Vec<Digest> {
    let (mut level, mut at) = (leaves.to_vec(), at);
    let mut path = Vec::new();
    while level.len() > 1 {
        path.extend(level.get(at ^ 1));
        (level, at) = (above(&level), at / 2);
    }
    path
}

/// Whether a leaf is number `at` of `count` under a root.
pub(crate) fn holds(root: &Digest, leaf: Digest, at: usize, count: usize, path: &[Digest]) -> bool {
    let (mut at, mut count, mut digest) = (at, count, leaf);
    if at >= count {
        return false;
    }
    let mut path = path.iter();
    while count > 1 {
        if at ^ 1 < count {
            let Some(neighbour) = path.next() else { return false };
            digest = if at % 2 == 0 { node(&digest, neighbour) } else { node(neighbour, &digest) };
        }
        (at, count) = (at / 2, count.div_ceil(2));
    }
    path.next().is_none() && digest == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_under_its_root_at_its_place_alone() {
        for count in 1..20usize {
            let leaves: Vec<Digest> = (0..count).map(|i| leaf(0, i as u32, &[i as u8])).collect();
            let root = root(&leaves);
            for at in 0..count {
                let path = path(&leaves, at);
                assert!(holds(&root, leaves[at], at, count, &path));
                let elsewhere = (at + 1) % count;
                assert!(count == 1 || !holds(&root, leaves[at], elsewhere, count, &path));
                assert!(!holds(&root, leaf(1, at as u32, &[at as u8]), at, count, &path));
                assert!(!holds(&root, leaves[at], at + count, count, &path));
                let longer = [&path[..], &[root]].concat();
                assert!(!holds(&root, leaves[at], at, count, &longer));
            }
        }
    }
}
