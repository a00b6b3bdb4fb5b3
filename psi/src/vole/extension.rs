//! As many oblivious transfers as trees need, from 128 base transfers: IKNP, with the column-wise check of
//! SoftSpoken (Roy, eprint 2022/192, k = 1) where cheating is looked for.
//!
//! ```text
//!   column c   R: T = G(k₀), U = G(k₀) ⊕ G(k₁) ⊕ choices   ── U ──▶   S: Q = G(k_s) ⊕ s·U
//!   row i      R: tᵢ                                                  S: qᵢ = tᵢ ⊕ rᵢ·s
//! ```

use privet_core::Reason;
use zeroize::Zeroizing;

use crate::pipe::malformed;
use crate::session::Session;
use crate::vole::gf128::masked_sum;
use crate::vole::prg::{Prg, Use};

const COLUMNS: usize = 128;

/// Blocks of a column: 128 choices each, and in a checked run one more of random ones.
pub(crate) fn blocks(transfers: usize, malicious: bool) -> usize {
    transfers.div_ceil(128) + usize::from(malicious)
}

/// Blocks that a receiver's check takes.
pub(crate) const CHECK: usize = 1 + COLUMNS;

/// Rows of 128 columns.
fn rows(columns: &[Zeroizing<Vec<u128>>], blocks: usize) -> Zeroizing<Vec<u128>> {
    let mut rows = Zeroizing::new(vec![0; 128 * blocks]);
    for (c, column) in columns.iter().enumerate() {
        for (block, rows) in column.iter().zip(rows.chunks_exact_mut(128)) {
            rows.iter_mut().enumerate().for_each(|(at, row)| *row |= (block >> at & 1) << c);
        }
    }
    rows
}

/// The receiver's side: it has both keys of each column.
pub(crate) struct Receiver {
    columns: Vec<Zeroizing<Vec<u128>>>,
    choices: Zeroizing<Vec<u128>>,
}

impl Receiver {
    /// Chooses by the bits of blocks, as many as [`blocks`] says; the last is random where there is a check.
    /// Gives what the sender must have as well.
    pub(crate) fn new(
        keys: &[[u128; 2]],
        chunk: u32,
        choices: Zeroizing<Vec<u128>>,
    ) -> (Self, Vec<u128>) {
        let len = choices.len();
        let mut message = Vec::with_capacity(COLUMNS * len);
        let stream = |key: u128| Prg::new(key).blocks(Use::Extension, chunk, len);
        let column = |pair: &[u128; 2]| {
            let (zero, one) = (stream(pair[0]), stream(pair[1]));
            let sums =
                zero.iter().zip(&*one).zip(&*choices).map(|((zero, one), by)| zero ^ one ^ by);
            message.extend(sums);
            zero
        };
        let columns = keys.iter().map(column).collect();
        (Self { columns, choices }, message)
    }

    /// tᵢ of each transfer.
    pub(crate) fn rows(&self) -> Zeroizing<Vec<u128>> {
        rows(&self.columns, self.choices.len())
    }

    /// What shows that all columns hold the same choices, under a challenge that came after them.
    pub(crate) fn check(&self, challenge: u128) -> Vec<u128> {
        let columns = self.columns.iter().map(|column| masked_sum(column, challenge));
        std::iter::once(masked_sum(&self.choices, challenge)).chain(columns).collect()
    }
}

/// The challenge, by what was said before.
pub(crate) fn challenge(session: &Session) -> u128 {
    session.key("extension/challenge", 0)
}

/// The sender's side: it has one key of each column, by the bits of `s`.
pub(crate) struct Sender {
    columns: Vec<Zeroizing<Vec<u128>>>,
    s: Zeroizing<u128>,
    len: usize,
}

impl Sender {
    /// Takes the receiver's message of so many blocks a column.
    pub(crate) fn new(
        keys: &[u128],
        s: u128,
        chunk: u32,
        len: usize,
        message: &[u128],
    ) -> Result<Self, Reason> {
        if message.len() != COLUMNS * len || keys.len() != COLUMNS {
            return Err(malformed("columns of another length"));
        }
        let column = |(c, (key, sums)): (usize, (&u128, &[u128]))| {
            let bit = (s >> c & 1).wrapping_neg();
            let mut column = Prg::new(*key).blocks(Use::Extension, chunk, len);
            column.iter_mut().zip(sums).for_each(|(own, sum)| *own ^= bit & sum);
            column
        };
        let pairs = keys.iter().zip(message.chunks_exact(len.max(1)));
        Ok(Self { columns: pairs.enumerate().map(column).collect(), s: Zeroizing::new(s), len })
    }

    /// qᵢ of each transfer.
    pub(crate) fn rows(&self) -> Zeroizing<Vec<u128>> {
        rows(&self.columns, self.len)
    }

    /// Looks at a receiver's check.
    pub(crate) fn verify(&self, challenge: u128, check: &[u128]) -> Result<(), Reason> {
        let [choices, columns @ ..] = check else { return Err(malformed("a check of no blocks")) };
        let agrees = |(c, (own, claimed)): (usize, (&Zeroizing<Vec<u128>>, &u128))| {
            let bit = (*self.s >> c & 1).wrapping_neg();
            masked_sum(own, challenge) ^ claimed ^ (bit & choices)
        };
        let pairs = self.columns.iter().zip(columns);
        let wrong = pairs.enumerate().map(agrees).fold(0, |all, one| all | one);
        match columns.len() == COLUMNS && wrong == 0 {
            true => Ok(()),
            false => Err(crate::pipe::cheated("its transfers do not choose alike")),
        }
    }
}

#[cfg(test)]
mod tests {
    use privet_core::Code;

    use super::*;
    use crate::session::Random;

    struct Both {
        receiver: Receiver,
        message: Vec<u128>,
        chosen: Vec<u128>,
        s: u128,
        choices: Vec<u128>,
    }

    fn both(transfers: usize, malicious: bool) -> Both {
        let mut random = Random::known(5);
        let keys: Vec<[u128; 2]> = (0..COLUMNS).map(|_| [random.block(), random.block()]).collect();
        let s = random.block();
        let chosen = keys.iter().enumerate().map(|(c, pair)| pair[(s >> c & 1) as usize]).collect();
        let choices: Vec<u128> =
            (0..blocks(transfers, malicious)).map(|_| random.block()).collect();
        let (receiver, message) = Receiver::new(&keys, 2, Zeroizing::new(choices.clone()));
        Both { receiver, message, chosen, s, choices }
    }

    #[test]
    fn rows_differ_by_the_secret_where_a_bit_was_chosen() {
        for transfers in [1, 127, 128, 129, 5000] {
            let Both { receiver, message, chosen, s, choices } = both(transfers, false);
            let sender = Sender::new(&chosen, s, 2, choices.len(), &message).unwrap();
            let (t, q) = (receiver.rows(), sender.rows());
            assert!(t.len() >= transfers);
            for (i, (t, q)) in t.iter().zip(&*q).enumerate() {
                let bit = choices[i / 128] >> (i % 128) & 1;
                assert_eq!(*q, t ^ (bit * s));
            }
        }
    }

    #[test]
    fn columns_that_choose_differently_are_refused() {
        let Both { receiver, message, chosen, s, choices } = both(1000, true);
        let challenge = 0x1234_5678_9abc_def0_0fed_cba9_8765_4321;
        let check = receiver.check(challenge);
        assert_eq!(check.len(), CHECK);
        let of = |message: &[u128]| Sender::new(&chosen, s, 2, choices.len(), message);
        let sender = of(&message).unwrap();
        sender.verify(challenge, &check).unwrap();
        assert_eq!(sender.verify(challenge ^ 1, &check).unwrap_err().code, Code::PeerCheated);
        assert_eq!(sender.verify(challenge, &check[1..]).unwrap_err().code, Code::PeerCheated);
        // A bit of a column: seen where the secret picks that column.
        let column = s.trailing_zeros() as usize;
        let mut bad = message.clone();
        bad[column * choices.len() + 3] ^= 1 << 17;
        assert_eq!(
            of(&bad).unwrap().verify(challenge, &check).unwrap_err().code,
            Code::PeerCheated
        );
        assert!(of(&message[1..]).is_err());
    }
}
