//! Many products from few: A = B + C·Δ for as many cells as a chunk of a set needs.
//!
//! The receiver R ends with A and C, the sender S with B, and S has Δ throughout. C looks random to S.
//! ```text
//!   once        S: choices by the bits of s and Δ ──▶   R: offer ──▶                         (base)
//!   each chunk  R: columns, [check], products, [check] ──▶   S: trees ──▶   [R: χ ──▶  S: hash ──▶]
//!               both: the code on what the trees gave
//! ```
//! What stands in brackets is said where cheating is looked for.

use privet_core::Reason;
use privet_crypto::Digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::pipe::{Pipe, cheated};
use crate::session::{Random, Session};
use crate::vole::code::Code;
use crate::vole::gf128::{masked_sum, polynomial};
use crate::vole::params::{Assurance, Trees};
use crate::vole::prg::{Prg, Use};
use crate::vole::{base, base_vole, extension, pprf};

/// Base transfers of which the first half is for the extension, the second for Δ.
const HALF: usize = base::COUNT / 2;

/// Rows of a base VOLE besides those of trees, where cheating is looked for: one shows that trees are right, one
/// masks what shows that the rows are.
const CHECK_ROWS: usize = 2;

/// What a chunk needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) trees: Trees,
    /// Values that come out.
    pub(crate) cells: usize,
    pub(crate) assurance: Assurance,
    pub(crate) malicious: bool,
    /// Number of the chunk.
    pub(crate) chunk: u32,
}

impl Shape {
    fn rows(&self) -> usize {
        self.trees.count as usize + if self.malicious { CHECK_ROWS } else { 0 }
    }

    fn blocks(&self) -> usize {
        extension::blocks(self.trees.transfers() as usize, self.malicious)
    }
}

fn absorb(session: &mut Session, blocks: &[u128]) {
    session.absorb(bytemuck::cast_slice(blocks));
}

/// What shows that trees are right.
fn proof(session: &Session, sum: u128) -> Digest {
    session.transcript("privet/psi/vole/trees/v1").bytes(&sum.to_le_bytes()).finish()
}

/// The side that learns A and C.
pub(crate) struct Receiver(base::Offered);

impl Receiver {
    /// Answers the sender's choices.
    pub(crate) fn start(
        session: &mut Session,
        pipe: &mut Pipe<'_>,
        random: &mut Random,
    ) -> Result<Self, Reason> {
        let choices = pipe.bytes(base::CHOICE_BYTES)?;
        let (offered, offer) = base::offer(session, random, &choices)?;
        session.absorb(&choices);
        session.absorb(&offer);
        pipe.write(&offer)?;
        Ok(Self(offered))
    }

    /// Pairs [A, C] of a chunk.
    pub(crate) fn chunk(
        &self,
        session: &mut Session,
        pipe: &mut Pipe<'_>,
        random: &mut Random,
        shape: &Shape,
    ) -> Result<Zeroizing<Vec<[u128; 2]>>, Reason> {
        let Shape { trees, chunk, malicious, .. } = *shape;
        let (for_extension, for_delta) = self.0.0.split_at(HALF);
        let paths: Zeroizing<Vec<u64>> =
            Zeroizing::new((0..trees.count).map(|_| random.below(trees.leaves)).collect());

        let mut choices = pprf::choices(&trees, &paths);
        choices.resize_with(shape.blocks(), || random.block());
        let (extended, columns) = extension::Receiver::new(for_extension, chunk, choices);
        pipe.write_blocks(&columns)?;
        absorb(session, &columns);
        if malicious {
            let check = extended.check(extension::challenge(session));
            pipe.write_blocks(&check)?;
            absorb(session, &check);
        }

        // Zero would say where it is; it comes once in 2^128.
        let mut c = Zeroizing::new(Vec::with_capacity(shape.rows()));
        c.extend((0..trees.count).map(|_| random.block().max(1)));
        let challenge = random.block();
        if malicious {
            let positions = (0..).zip(paths.iter()).map(|(tree, path)| tree * trees.leaves + path);
            let positions = Zeroizing::new(positions.collect::<Vec<u64>>());
            let sum = base_vole::position_sum(&c, &positions, challenge);
            c.extend([sum, random.block()]);
        }
        let (rows, corrections) = base_vole::Receiver::new(for_delta, chunk, c);
        pipe.write_blocks(&corrections)?;
        absorb(session, &corrections);
        if malicious {
            let check = rows.check(base_vole::challenge(session));
            pipe.write_blocks(&check)?;
            absorb(session, &check);
        }

        let functions = pprf::Functions::new(session);
        let code = Code::new(session, shape.assurance);
        let message = pipe.blocks(pprf::message_blocks(&trees))?;
        let transfers = extended.rows();
        let products = (&rows.a[..], &rows.c[..]);
        let mut pairs = pprf::receive(&functions, &trees, &paths, products, &transfers, &message)?;
        absorb(session, &message);
        if malicious {
            let a: Zeroizing<Vec<u128>> = Zeroizing::new(
                pairs.iter().map(|[a, _]| *a).chain([rows.a[trees.count as usize]]).collect(),
            );
            pipe.write_blocks(&[challenge])?;
            absorb(session, &[challenge]);
            let expected = proof(session, masked_sum(&a, challenge));
            let shown: [u8; 32] = pipe.array()?;
            if !bool::from(shown.ct_eq(&expected.0)) {
                return Err(cheated("its trees are not those of its values"));
            }
        }
        code.encode_pairs(&mut pairs, shape.cells);
        pairs.truncate(shape.cells);
        Ok(pairs)
    }
}

/// The side that has Δ and learns B.
pub(crate) struct Sender {
    chosen: base::Chosen,
    s: Zeroizing<u128>,
    pub(crate) delta: Zeroizing<u128>,
}

impl Sender {
    /// Draws s and Δ and has the keys that they choose.
    pub(crate) fn start(
        session: &mut Session,
        pipe: &mut Pipe<'_>,
        random: &mut Random,
    ) -> Result<Self, Reason> {
        let (s, delta) = (Zeroizing::new(random.block()), Zeroizing::new(random.block()));
        let (chooser, choices) = base::Chooser::new(session, random, [*s, *delta]);
        pipe.write(&choices)?;
        let offer = pipe.bytes(base::OFFER_BYTES)?;
        let chosen = chooser.finish(session, &offer)?;
        session.absorb(&choices);
        session.absorb(&offer);
        Ok(Self { chosen, s, delta })
    }

    /// B of a chunk.
    pub(crate) fn chunk(
        &self,
        session: &mut Session,
        pipe: &mut Pipe<'_>,
        random: &mut Random,
        shape: &Shape,
    ) -> Result<Zeroizing<Vec<u128>>, Reason> {
        let Shape { trees, chunk, malicious, .. } = *shape;
        let (for_extension, for_delta) = self.chosen.0.split_at(HALF);
        let columns = pipe.blocks(HALF * shape.blocks())?;
        let extended =
            extension::Sender::new(for_extension, *self.s, chunk, shape.blocks(), &columns)?;
        absorb(session, &columns);
        if malicious {
            let check = pipe.blocks(extension::CHECK)?;
            extended.verify(extension::challenge(session), &check)?;
            absorb(session, &check);
        }
        let corrections = pipe.blocks(HALF * shape.rows())?;
        let b = base_vole::sender(for_delta, *self.delta, chunk, shape.rows(), &corrections)?;
        absorb(session, &corrections);
        if malicious {
            let mut check = [0; 2];
            pipe.read_blocks(&mut check)?;
            base_vole::verify(&b, *self.delta, base_vole::challenge(session), check)?;
            absorb(session, &check);
        }

        let functions = pprf::Functions::new(session);
        let code = Code::new(session, shape.assurance);
        let roots = Prg::new(random.block()).blocks(Use::Roots, chunk, trees.count as usize);
        let (mut leaves, message) =
            pprf::send(&functions, &trees, &roots, &b, &extended.rows(), *self.s);
        pipe.write_blocks(&message)?;
        absorb(session, &message);
        if malicious {
            let mut challenge = [0];
            pipe.read_blocks(&mut challenge)?;
            absorb(session, &challenge);
            let sum = polynomial(&leaves, challenge[0]) ^ b[trees.count as usize];
            pipe.write(&proof(session, sum).0)?;
        }
        pipe.flush()?;
        code.encode(&mut leaves, shape.cells);
        leaves.truncate(shape.cells);
        Ok(leaves)
    }
}

#[cfg(test)]
mod tests {
    use privet_core::channel::Link;

    use super::*;
    use crate::pipe::memory;
    use crate::vole::gf128::mul;

    fn shape(cells: usize, malicious: bool) -> Shape {
        let assurance = Assurance::Standard;
        let trees = Trees::of(cells as u64, assurance);
        Shape { trees, cells, assurance, malicious, chunk: 1 }
    }

    fn session() -> Session {
        Session::new(&Digest([8; 32]))
    }

    type Pairs = Result<Zeroizing<Vec<[u128; 2]>>, Reason>;
    type Values = Result<(Zeroizing<Vec<u128>>, u128), Reason>;

    fn run(shape: Shape, mut ends: (impl Link, impl Link)) -> (Pairs, Values) {
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let (mut session, mut random) = (session(), Random::known(1));
                let mut pipe = Pipe::new(&mut ends.0);
                let sender = Sender::start(&mut session, &mut pipe, &mut random)?;
                let b = sender.chunk(&mut session, &mut pipe, &mut random, &shape)?;
                Ok((b, *sender.delta))
            });
            let receiver = scope.spawn(move || {
                let (mut session, mut random) = (session(), Random::known(2));
                let mut pipe = Pipe::new(&mut ends.1);
                let receiver = Receiver::start(&mut session, &mut pipe, &mut random)?;
                receiver.chunk(&mut session, &mut pipe, &mut random, &shape)
            });
            (receiver.join().unwrap(), sender.join().unwrap())
        })
    }

    #[test]
    fn every_cell_is_a_product_of_delta() {
        for malicious in [false, true] {
            for cells in [40, 1472, 84_516] {
                let (pairs, values) = run(shape(cells, malicious), memory::pair());
                let (pairs, (b, delta)) = (pairs.unwrap(), values.unwrap());
                assert_eq!((pairs.len(), b.len()), (cells, cells));
                assert!(pairs.iter().zip(&*b).all(|([a, c], b)| *a == b ^ mul(*c, delta)));
                // C looks random: bits are set half of the time, bytes evenly.
                let ones: u32 = pairs.iter().map(|[_, c]| c.count_ones()).sum();
                let bits = 128.0 * cells as f64;
                assert!((f64::from(ones) - bits / 2.0).abs() < 3.0 * bits.sqrt(), "{ones}");
            }
        }
    }

    /// Changes one bit of what it carries.
    struct Tampering<L> {
        inner: L,
        sent: usize,
        at: usize,
    }

    impl<L: Link> Link for Tampering<L> {
        fn send(&mut self, mut frame: Vec<u8>) -> Result<(), Reason> {
            if (self.sent..self.sent + frame.len()).contains(&self.at) {
                frame[self.at - self.sent] ^= 4;
            }
            self.sent += frame.len();
            self.inner.send(frame)
        }

        fn receive(&mut self) -> Result<Vec<u8>, Reason> {
            self.inner.receive()
        }
    }

    /// Where cheating is looked for, a changed tree or row stops the run; and no length is ever wrong.
    #[test]
    fn changed_messages_are_seen() {
        let shape = shape(1472, true);
        let codes = |(pairs, values): (Pairs, Values)| {
            [pairs.err().map(|reason| reason.code), values.err().map(|reason| reason.code)]
        };
        // The sender's: its trees. One of both sums of a level is never read, so two are tried.
        let trees = [1, 17].map(|block| {
            let (a, b) = memory::pair();
            let at = base::CHOICE_BYTES + 16 * block;
            codes(run(shape, (Tampering { inner: a, sent: 0, at }, b)))
        });
        assert!(
            trees.iter().any(|codes| codes[0] == Some(privet_core::Code::PeerCheated)),
            "{trees:?}"
        );
        // The receiver's: its columns, its check, the products.
        let columns = 16 * HALF * shape.blocks();
        for at in [columns + 3, columns + 16 * 129 + 16 * shape.rows() * 128 + 3] {
            let (a, b) = memory::pair();
            let at = base::OFFER_BYTES + at;
            let codes = codes(run(shape, (a, Tampering { inner: b, sent: 0, at })));
            assert_eq!(codes[1], Some(privet_core::Code::PeerCheated));
        }
    }
}
