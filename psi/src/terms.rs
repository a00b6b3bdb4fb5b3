//! What sites must want alike, and what each of them allows.

use privet_core::intersect::{Bounds, Guard, Protocol, Reveal};
use privet_core::{Code, Message, Reason};
use privet_crypto::{Digest, Reader, Transcript, Writer};

use crate::pipe::malformed;
use crate::session::Session;
use crate::vole::params::{Assurance, Bins, MAX_ITEMS, Sizes};

/// What all sites of a run must want alike.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What the run is about: the job, its sites in their order, their certified keys.
    pub about: Digest,
    /// How items were made.
    pub normalisation: Digest,
    /// How the intersection is computed.
    pub protocol: Protocol,
    /// Who learns what.
    pub reveal: Reveal,
    /// Whether a peer that cheats is looked for; two sites and `vole` only.
    pub malicious: bool,
    /// How far the code is from known attacks.
    pub assurance: Assurance,
}

impl Terms {
    fn digest(&self, sites: usize) -> Digest {
        Transcript::new("privet/psi/terms/v1")
            .bytes(&self.about.0)
            .number(sites as u64)
            .bytes(self.protocol.as_str().as_bytes())
            .bytes(self.reveal.as_str().as_bytes())
            .number(self.malicious.into())
            .number(self.assurance.weight() as u64)
            .finish()
    }
}

/// A guard that allows everything.
pub struct Unguarded;

impl Guard for Unguarded {
    fn counts(&self) -> bool {
        false
    }

    fn sizes(&mut self, _: u64, _: &[u64]) -> Result<Bounds, Reason> {
        Ok(Bounds { least: 0, most: u64::MAX })
    }

    fn noise(&self) -> f64 {
        0.0
    }

    fn pays(&mut self) -> Result<(), Reason> {
        Ok(())
    }

    fn noised(&mut self, size: Message) -> Result<Message, Reason> {
        Ok(size)
    }
}

const VERSION: u8 = 1;

/// What a site says first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hello {
    terms: [u8; 32],
    normalisation: [u8; 32],
    /// Items of its set, dummies included.
    pub(crate) size: u64,
    /// Whether it wants the size before rows.
    pub(crate) counts: bool,
    /// See [`Guard::noise`].
    pub(crate) noise: f64,
    /// Of its nonce.
    pub(crate) commitment: [u8; 32],
}

impl Hello {
    pub(crate) fn new(
        terms: &Terms,
        sites: usize,
        size: u64,
        guard: &dyn Guard,
        commitment: [u8; 32],
    ) -> Self {
        let (terms, normalisation) = (terms.digest(sites).0, terms.normalisation.0);
        let (counts, noise) = (guard.counts(), guard.noise());
        Self { terms, normalisation, size, counts, noise, commitment }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(VERSION).raw(&self.terms).raw(&self.normalisation).u64(self.size);
        writer.u8(self.counts.into()).u64(self.noise.to_bits()).raw(&self.commitment);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let broken = |error: privet_crypto::DecodeError| malformed(&error.to_string());
        let mut reader = Reader::new(bytes);
        if reader.u8("version").map_err(broken)? != VERSION {
            return Err(Reason::new(Code::TermsMismatch, "another version of the protocol"));
        }
        let mut read = || {
            let hello = Self {
                terms: reader.digest("terms")?,
                normalisation: reader.digest("normalisation")?,
                size: reader.u64("size")?,
                counts: match reader.u8("counts")? {
                    0 => false,
                    1 => true,
                    _ => return Err(privet_crypto::DecodeError::Invalid("counts")),
                },
                // One form of 0, and no number that is none.
                noise: match reader.u64("noise").map(f64::from_bits)? {
                    noise if noise.is_finite() && noise.is_sign_positive() => noise,
                    _ => return Err(privet_crypto::DecodeError::Invalid("noise")),
                },
                commitment: reader.digest("commitment")?,
            };
            Ok(hello)
        };
        let hello = read().map_err(broken)?;
        reader.end().map_err(broken)?;
        Ok(hello)
    }

    /// Whether two sites want the same.
    pub(crate) fn fits(&self, other: &Self) -> Result<(), Reason> {
        if self.normalisation != other.normalisation {
            let detail = "another site reads its keys in another way, or has more or fewer columns";
            return Err(Reason::new(Code::NormalisationMismatch, detail));
        }
        if self.terms != other.terms {
            let detail = "another site has other terms: protocol, reveal, malicious, or sites";
            return Err(Reason::new(Code::TermsMismatch, detail));
        }
        if !(1..=MAX_ITEMS).contains(&other.size) {
            return Err(malformed("a set of no items or of too many"));
        }
        Ok(())
    }
}

/// How a run goes, which all sites work out alike.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// [`Protocol::Ecdh`] or [`Protocol::Vole`].
    pub(crate) protocol: Protocol,
    /// Who evaluates: the first site if it alone is to learn, else the one with the fewest items.
    pub(crate) leader: usize,
    /// Whether the size comes before rows.
    pub(crate) counts: bool,
    /// Who counts where the size comes first: whoever cannot tell which items they are. Where the size is told
    /// with noise, it is the site that asks for the most of it.
    pub(crate) counter: usize,
    /// Standard deviation of the noise on the size that is told.
    pub(crate) noise: f64,
    pub(crate) sizes: Vec<u64>,
}

impl Plan {
    /// What all sites must have come to: everything said so far, and the sizes that follow from it.
    pub(crate) fn state(&self, terms: &Terms, session: &Session) -> [u8; 32] {
        let least = self.sizes.get(self.leader).copied().unwrap_or_default();
        let vole = Sizes::of(least, terms.assurance, terms.malicious).digest();
        let transcript = session.transcript("privet/psi/plan/v1").bytes(&vole.0);
        let others = self.sizes.iter().map(|&size| Bins::of(size, extra(self.sizes.len())).cells());
        others.fold(transcript, privet_crypto::Transcript::number).finish().0
    }

    /// Among three sites or more: who masks what is counted.
    pub(crate) fn masker(&self) -> usize {
        (0..self.sizes.len())
            .find(|&site| site != self.leader && site != self.counter)
            .unwrap_or_default()
    }
}

/// log2 of the OKVS that a run of so many sites encodes at most.
pub(crate) fn extra(sites: usize) -> u32 {
    sites.next_power_of_two().trailing_zeros()
}

/// From so many items of the smallest set on, `vole` costs less than `ecdh`.
const VOLE_FROM: u64 = 1 << 12;

impl Plan {
    pub(crate) fn new(terms: &Terms, hellos: &[Hello]) -> Result<Self, Reason> {
        let sizes: Vec<u64> = hellos.iter().map(|hello| hello.size).collect();
        let counts = terms.reveal == Reveal::Size || hellos.iter().any(|hello| hello.counts);
        let noise: Vec<f64> = hellos.iter().map(|hello| hello.noise).collect();
        Self::of(terms.protocol, terms.reveal, terms.malicious, counts, sizes, &noise)
    }

    pub(crate) fn of(
        protocol: Protocol,
        reveal: Reveal,
        malicious: bool,
        counts: bool,
        sizes: Vec<u64>,
        noise: &[f64],
    ) -> Result<Self, Reason> {
        let two = sizes.len() == 2;
        let refuse = |code, detail| Err(Reason::new(code, detail));
        let protocol = match (protocol, counts && two) {
            (Protocol::Vole, true) => {
                let detail = "between two sites `vole` shows rows as it counts them, and a site wants the \
                              size first";
                return refuse(Code::CannotCount, detail);
            }
            (Protocol::Auto, true) => Protocol::Ecdh,
            (Protocol::Auto, false) => match sizes.iter().min() {
                Some(&least) if least < VOLE_FROM && !malicious => Protocol::Ecdh,
                _ => Protocol::Vole,
            },
            (named, _) => named,
        };
        if malicious && !(two && protocol == Protocol::Vole) {
            let detail =
                "cheating is looked for between two sites under `vole`, without a size first";
            return refuse(Code::NotBuilt, detail);
        }
        let loudest = (0..noise.len()).rev().max_by(|&a, &b| noise[a].total_cmp(&noise[b]));
        let loudest = loudest.filter(|&site| noise[site] > 0.0);
        if loudest.is_some() && reveal != Reveal::Size {
            return refuse(
                Code::TermsMismatch,
                "a site tells sizes with noise, and the job wants rows",
            );
        }
        let smallest = |but: Option<usize>| {
            let sites = (0..sizes.len()).filter(|&site| Some(site) != but);
            sites.min_by_key(|&site| (sizes[site], site)).unwrap_or(0)
        };
        let (leader, counter) = match (loudest, two) {
            (Some(site), true) => (site, site),
            (Some(site), false) => (smallest(Some(site)), site),
            (None, two) => {
                let leader = if reveal == Reveal::First { 0 } else { smallest(None) };
                let second = (0..sizes.len()).filter(|&site| site != leader).nth(1);
                (leader, if two { leader } else { second.unwrap_or_default() })
            }
        };
        let noise = loudest.map_or(0.0, |site| noise[site]);
        Ok(Self { protocol, leader, counts, counter, noise, sizes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(protocol: Protocol, reveal: Reveal, malicious: bool) -> Terms {
        let (about, normalisation) = (Digest([1; 32]), Digest([2; 32]));
        Terms { about, normalisation, protocol, reveal, malicious, assurance: Assurance::Standard }
    }

    fn hello(size: u64, counts: bool) -> Hello {
        let hello =
            Hello::new(&terms(Protocol::Auto, Reveal::All, false), 2, size, &Unguarded, [3; 32]);
        Hello { counts, ..hello }
    }

    #[test]
    fn hellos_come_back_and_nothing_else_does() {
        let bytes = hello(77, true).encode();
        assert_eq!(Hello::decode(&bytes).unwrap(), hello(77, true));
        for len in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..len]).is_err());
        }
        assert!(Hello::decode(&[&bytes[..], &[0]].concat()).is_err());
        for (at, value) in [(0, 2), (73, 2), (81, 0x80), (81, 0x7f)] {
            let mut bad = bytes.clone();
            bad[at] = value;
            if at == 81 {
                bad[80] = 0xf0;
            }
            assert!(Hello::decode(&bad).is_err(), "{at}");
        }
    }

    #[test]
    fn sites_that_want_other_things_are_told_apart() {
        let of = |terms: &Terms| Hello::new(terms, 2, 5, &Unguarded, [0; 32]);
        let base = terms(Protocol::Auto, Reveal::All, false);
        let own = of(&base);
        own.fits(&of(&base)).unwrap();
        let code = |other: Hello| own.fits(&other).unwrap_err().code;
        let other = Terms { normalisation: Digest([9; 32]), ..base.clone() };
        assert_eq!(code(of(&other)), Code::NormalisationMismatch);
        for other in [
            terms(Protocol::Ecdh, Reveal::All, false),
            terms(Protocol::Auto, Reveal::First, false),
            terms(Protocol::Auto, Reveal::All, true),
            Terms { about: Digest([9; 32]), ..base.clone() },
            Terms { assurance: Assurance::Conservative, ..base.clone() },
        ] {
            assert_eq!(code(of(&other)), Code::TermsMismatch);
        }
        assert_eq!(code(Hello::new(&base, 3, 5, &Unguarded, [0; 32])), Code::TermsMismatch);
        assert_eq!(code(Hello { size: 0, ..own.clone() }), Code::Malformed);
        assert_eq!(code(Hello { size: MAX_ITEMS + 1, ..own.clone() }), Code::Malformed);
    }

    #[test]
    fn a_plan_follows_from_sizes_guards_and_terms() {
        let plan = |protocol, reveal, malicious, hellos: &[Hello]| {
            Plan::new(&terms(protocol, reveal, malicious), hellos)
        };
        let auto = |reveal, hellos: &[Hello]| {
            let plan = plan(Protocol::Auto, reveal, false, hellos).unwrap();
            (plan.protocol, plan.leader, plan.counts)
        };
        let (small, large) = (hello(100, false), hello(1 << 20, false));
        let pair = [large.clone(), large.clone()];
        assert_eq!(auto(Reveal::All, &pair), (Protocol::Vole, 0, false));
        assert_eq!(auto(Reveal::All, &[large.clone(), small.clone()]), (Protocol::Ecdh, 1, false));
        assert_eq!(
            auto(Reveal::First, &[large.clone(), small.clone()]),
            (Protocol::Ecdh, 0, false)
        );
        assert_eq!(auto(Reveal::Size, &pair), (Protocol::Ecdh, 0, true));
        let gated = [large.clone(), hello(1 << 20, true)];
        assert_eq!(auto(Reveal::All, &gated), (Protocol::Ecdh, 0, true));
        // Among three a third can count.
        let three = [large.clone(), large.clone(), hello(1 << 19, true)];
        assert_eq!(auto(Reveal::All, &three), (Protocol::Vole, 2, true));
        let code = |plan: Result<Plan, Reason>| plan.unwrap_err().code;
        assert_eq!(code(plan(Protocol::Vole, Reveal::Size, false, &pair)), Code::CannotCount);
        assert_eq!(code(plan(Protocol::Ecdh, Reveal::All, true, &pair)), Code::NotBuilt);
        assert_eq!(code(plan(Protocol::Vole, Reveal::All, true, &three)), Code::NotBuilt);
        let careful = plan(Protocol::Auto, Reveal::All, true, &[small.clone(), small]);
        assert_eq!(careful.unwrap().protocol, Protocol::Vole);
    }

    /// Who asks for the most noise counts: its noise is enough for all.
    #[test]
    fn the_loudest_site_counts() {
        let plan = |reveal, noise: &[f64]| {
            let hellos: Vec<Hello> =
                noise.iter().map(|&noise| Hello { noise, ..hello(10, false) }).collect();
            Plan::new(&terms(Protocol::Auto, reveal, false), &hellos)
        };
        let roles = |noise: &[f64]| {
            let plan = plan(Reveal::Size, noise).unwrap();
            (plan.leader, plan.counter, plan.masker(), plan.noise)
        };
        assert_eq!(roles(&[0.0, 2.0]), (1, 1, 0, 2.0));
        assert_eq!(roles(&[2.0, 2.0]), (0, 0, 1, 2.0));
        assert_eq!(roles(&[0.0, 0.0, 0.0]), (0, 2, 1, 0.0));
        assert_eq!(roles(&[4.0, 0.0, 2.0]), (1, 0, 2, 4.0));
        assert_eq!(roles(&[1.0, 5.0, 2.0, 0.0]), (0, 1, 2, 5.0));
        let refused = plan(Reveal::All, &[0.0, 2.0]).unwrap_err();
        assert_eq!(refused.code, Code::TermsMismatch);
    }
}
