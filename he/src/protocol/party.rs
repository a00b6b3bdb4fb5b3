//! Who takes part in a round, and what follows from it: worked out alike by every site and by the
//! server, from the hellos alone.

use std::collections::BTreeSet;

use privet_core::seal::{Certified, Scheme, Terms, Vouching};
use privet_core::tensor::{Dtype, Schema, Slot};
use privet_core::{Code, Reason};
use privet_crypto::{DecodeError, Digest, Reader, Transcript, Writer};

use super::group::Group;
use super::hello::{Common, Greeting, Hello};
use super::{GREETING, MAX_CREDENTIAL, malformed};
use crate::coding::header::MAX_WEIGHT;
use crate::coding::params::MAX_SITES;
use crate::scheme;

/// The sites of a job, frozen when its first round begins: only these can ever be in a sum, and
/// their number is what a threshold is taken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roster(Vec<Certified>);

impl Roster {
    /// These sites, by name.
    ///
    /// # Errors
    /// When two have one name or one key.
    pub(crate) fn of(sites: Vec<Certified>) -> Result<Self, Reason> {
        let distinct = |keys: BTreeSet<&[u8]>| keys.len() == sites.len();
        let ascending = sites.windows(2).all(|pair| pair[0].name < pair[1].name);
        let keys = distinct(sites.iter().map(|site| &site.signing[..]).collect());
        let certified = distinct(sites.iter().map(|site| &site.key[..]).collect());
        if !(ascending && keys && certified) {
            let detail = "the sites of a round are not one key a site, in the order of their names";
            return Err(Reason::new(Code::RosterChanged, detail));
        }
        Ok(Self(sites))
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.len() as u32
    }

    pub(crate) fn sites(&self) -> &[Certified] {
        &self.0
    }

    /// Whether a site is of it.
    pub(crate) fn holds(&self, site: &Certified) -> bool {
        self.position(site).is_some()
    }

    /// Whether it has a site of this name.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.0.iter().any(|site| site.name == name)
    }

    fn position(&self, site: &Certified) -> Option<u32> {
        // A certificate may be renewed during a job; who signs stays the same.
        let same = |known: &Certified| known.name == site.name && known.signing == site.signing;
        self.0.iter().position(same).map(|at| at as u32)
    }

    fn digest(&self) -> Digest {
        let mut transcript = Transcript::new("privet/he/roster/v1").number(self.0.len() as u64);
        for site in &self.0 {
            transcript = transcript.bytes(site.name.as_bytes()).bytes(&site.signing);
        }
        transcript.finish()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.count(self.0.len());
        for site in &self.0 {
            writer.text(&site.name).raw(&site.key).raw(&site.signing);
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count(MAX_SITES as usize, "roster")?;
        let mut sites = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.text(MAX_CREDENTIAL, "name")?.to_owned();
            sites.push(Certified {
                name,
                key: reader.digest("key")?,
                signing: reader.digest("signing key")?,
            });
        }
        reader.end()?;
        Ok(Self(sites))
    }
}

/// log2 of the largest weight.
const MAX_WEIGHT_BITS: u8 = MAX_WEIGHT.ilog2() as u8;
/// Peers may have 2^10 times as many records as a site, and no more: what it seals is divided by theirs.
pub(crate) const WEIGHT_SLACK: u8 = 10;

/// Most bytes of all hellos of a round.
const MAX_HELLOS: usize = 8 << 20;
/// Most bytes of a group's secret, dealt.
const MAX_GROUP: usize = 64 << 10;

/// What a task brings: the hellos, and the secret of the session where it needs one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invitation {
    pub(crate) hellos: Vec<u8>,
    pub(crate) group: Option<Group>,
}

impl Invitation {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let group = self.group.as_ref().map(Group::encode).unwrap_or_default();
        let mut writer = Writer::default();
        writer.bytes(&self.hellos).bytes(&group);
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let hellos = reader.bytes(MAX_HELLOS, "hellos")?.to_vec();
        let group = match reader.bytes(MAX_GROUP, "group")? {
            [] => None,
            bytes => Some(Group::decode(bytes)?),
        };
        reader.end()?;
        Ok(Self { hellos, group })
    }
}

/// The hellos of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hellos {
    pub(crate) greeting: Greeting,
    /// Credentials of the whole roster, by name, for sites that have no memory of it.
    pub(crate) roster: Vec<Vec<u8>>,
    /// log2 of what weighted integers are divided by: the same in all sessions of a run.
    pub(crate) weight_bits: u8,
    pub(crate) hellos: Vec<Hello>,
}

impl Hellos {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.bytes(&self.greeting.encode()).count(self.roster.len());
        for credential in &self.roster {
            writer.bytes(credential);
        }
        writer.u8(self.weight_bits).count(self.hellos.len());
        self.hellos.iter().for_each(|hello| hello.write(&mut writer));
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(bytes);
        let greeting = reader.bytes(MAX_CREDENTIAL, "greeting").map_err(malformed)?;
        let mut inner = Reader::new(greeting);
        if inner.u8("greeting").map_err(malformed)? != GREETING {
            return Err(malformed(DecodeError::Invalid("greeting")));
        }
        let greeting = Greeting::decode(inner)?;
        let mut roster = Vec::new();
        for _ in 0..reader.count(MAX_SITES as usize, "roster").map_err(malformed)? {
            let credential = reader.bytes(MAX_CREDENTIAL, "credential").map_err(malformed)?;
            roster.push(credential.to_vec());
        }
        let weight_bits = reader.u8("weight").map_err(malformed)?;
        let count = reader.count(MAX_SITES as usize, "hellos").map_err(malformed)?;
        let mut hellos = Vec::new();
        for _ in 0..count {
            hellos.push(Hello::read(&mut reader).map_err(malformed)?);
        }
        reader.end().map_err(malformed)?;
        Ok(Self { greeting, roster, weight_bits, hellos })
    }
}

/// One site of a round.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its place in the roster.
    pub(crate) index: u32,
    pub(crate) site: Certified,
    pub(crate) hello: Hello,
}

/// A round that can be sealed for.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    pub(crate) roster: Roster,
    /// In the order of the roster.
    pub(crate) members: Vec<Member>,
    /// Shares that open a sum, and members that a sum has at least.
    pub(crate) threshold: u32,
    /// What all members have in common.
    pub(crate) common: Common,
    /// log2 of what weights are divided by; 0 where integers are not multiplied by them.
    pub(crate) weight_bits: u8,
    /// The dealt secret of the session; absent until it was dealt, or where none is needed.
    pub(crate) group: Option<Group>,
    /// Whether a member wants to check the sum.
    pub(crate) verify: bool,
    most: u64,
    hellos: Digest,
    invitation: Digest,
}

impl Party {
    /// What hellos make, with the roster as it is remembered, if it is.
    ///
    /// # Errors
    /// When a hello is not good, is not of the roster, or their terms cannot be met together.
    pub(crate) fn new(
        session: &[u8],
        roster: Option<&Roster>,
        vouching: &dyn Vouching,
    ) -> Result<(Greeting, Self), Reason> {
        let Invitation { hellos, group } = Invitation::decode(session).map_err(malformed)?;
        let digest = Digest::of(&hellos);
        let Hellos { greeting, roster: credentials, weight_bits, hellos } =
            Hellos::decode(&hellos)?;
        let mut members = Vec::with_capacity(hellos.len());
        for hello in hellos {
            let site = hello.check(&greeting, vouching)?;
            members.push(Member { index: 0, site, hello });
        }
        // A site's own memory of the roster comes before what the server says of it.
        let roster = match roster {
            Some(roster) => roster.clone(),
            None => {
                let certified = credentials.iter().map(|bytes| vouching.certified(bytes));
                Roster::of(certified.collect::<Result<_, _>>()?)?
            }
        };
        let mut last = None;
        for member in &mut members {
            let position = roster.position(&member.site);
            member.index =
                position.filter(|&at| last.is_none_or(|last| at > last)).ok_or_else(|| {
                    Reason::new(Code::RosterChanged, "a site is not of this job, or is there twice")
                })?;
            last = Some(member.index);
        }
        let Some(first) = members.first() else {
            return Err(Reason::new(Code::TooFewSites, "no site takes part"));
        };
        let common = first.hello.common();
        if members.iter().any(|member| member.hello.common() != common) {
            let detail = "the sites' integers have different steps, weights or precision, or another \
                          scheme: their policies differ";
            return Err(Reason::new(Code::LatticeTooCoarse, detail));
        }
        let threshold = threshold(roster.len(), members.iter().map(|member| &member.hello))?;
        if (members.len() as u32) < threshold {
            let detail = format!("{} sites take part, a sum needs {threshold}", members.len());
            return Err(Reason::new(Code::TooFewSites, detail));
        }
        let hellos = || members.iter().map(|member| &member.hello);
        let fits = |hello: &Hello| match hello.weight_bits {
            Some(bits) => bits <= weight_bits,
            None => weight_bits == 0,
        };
        if weight_bits > MAX_WEIGHT_BITS || !hellos().all(fits) {
            let detail = "the session divides by another power of two than its sites' weights need";
            return Err(Reason::new(Code::ContextMismatch, detail));
        }
        let party = Self {
            threshold,
            common,
            weight_bits,
            verify: hellos().any(|hello| hello.verify),
            most: hellos().map(|hello| hello.most).max().unwrap_or_default(),
            group,
            hellos: digest,
            invitation: Digest::of(session),
            roster,
            members,
        };
        Ok((greeting, party))
    }

    /// Whether the members share a secret: somebody wants to check the sum, or the scheme has one key.
    pub(crate) fn needs_group(&self) -> bool {
        self.verify || self.common.scheme == Scheme::Tfhe
    }

    /// Names the hellos.
    pub(crate) fn hellos(&self) -> &Digest {
        &self.hellos
    }

    /// The largest magnitude of a member's integers.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// The hash of everything that a round depends on.
    pub(crate) fn context(
        &self,
        greeting: &Greeting,
        task: &[u8; 32],
        scheme: &dyn scheme::Scheme,
    ) -> Digest {
        let transcript = Transcript::new("privet/he/context/v1")
            .bytes(greeting.run.as_bytes())
            .number(greeting.session)
            .bytes(&self.roster.digest().0)
            .bytes(&self.invitation.0)
            .number(self.threshold.into())
            .bytes(&self.common.step.exponent().to_le_bytes())
            .bytes(task);
        scheme.bind(transcript).finish()
    }

    /// The member at a place of the roster.
    pub(crate) fn member(&self, index: u32) -> Option<&Member> {
        self.members.iter().find(|member| member.index == index)
    }

    /// Whether a site's own terms allow this round: what peers that it does not know by key could do
    /// together with those that may collude stays below the threshold.
    ///
    /// # Errors
    /// When they do not.
    pub(crate) fn allowed_by(&self, terms: &Terms, own: &Certified) -> Result<(), Reason> {
        let unknown = self.roster.sites().iter().filter(|site| !pinned(terms, own, site)).count();
        if terms.scheme == Scheme::Tfhe && unknown > 0 {
            let detail =
                format!("{unknown} sites would hold the key of all sites, and are not pinned");
            return Err(Reason::new(Code::RosterUnpinned, detail));
        }
        if let Some(bits) = terms.weight_bits
            && self.weight_bits > bits.saturating_add(WEIGHT_SLACK)
        {
            let detail = format!(
                "a site would weigh 2^{} times this one or more: of this one's update nothing is left",
                self.weight_bits - bits
            );
            return Err(Reason::new(Code::ContextMismatch, detail));
        }
        let hostile = u64::from(terms.colluders) + unknown as u64;
        let (n, t) = (u64::from(self.roster.len()), u64::from(self.threshold));
        if hostile >= t || n + hostile >= 2 * t {
            let detail = format!(
                "{} of {n} sites are pinned and {} may collude: {t} shares do not protect a sum",
                n - unknown as u64,
                terms.colluders
            );
            return Err(Reason::new(Code::RosterUnpinned, detail));
        }
        // Every set that reaches the threshold then has enough members that count, whoever of the others
        // is in it: this site's refusal to answer would not keep others from opening its sum.
        let short = self.members.iter().filter(|member| !counts(terms, own, member)).count();
        if t < u64::from(terms.min_sites) + short as u64 {
            let detail = format!(
                "{short} sites are not pinned or add less noise than this one: a sum of {t} sites could \
                 have fewer than {} that count",
                terms.min_sites
            );
            return Err(Reason::new(Code::TooFewHonest, detail));
        }
        self.enough(terms, own, self.members.iter())
    }

    /// Whether so many sites that count are in a sum.
    ///
    /// # Errors
    /// When there are too few.
    pub(crate) fn enough<'a>(
        &self,
        terms: &Terms,
        own: &Certified,
        members: impl Iterator<Item = &'a Member>,
    ) -> Result<(), Reason> {
        let known = members.filter(|member| counts(terms, own, member)).count();
        if (known as u64) < u64::from(terms.min_sites) {
            let detail =
                format!("{known} sites that count are in the sum, at least {}", terms.min_sites);
            return Err(Reason::new(Code::TooFewHonest, detail));
        }
        Ok(())
    }
}

/// Whether a member counts for a site's terms: it is known by its key, and where noise is shared it adds no
/// less.
fn counts(terms: &Terms, own: &Certified, member: &Member) -> bool {
    pinned(terms, own, &member.site) && (!terms.shares || member.hello.noise >= terms.noise)
}

/// Whether a site is known to another by its key; itself is.
fn pinned(terms: &Terms, own: &Certified, site: &Certified) -> bool {
    site.signing == own.signing || terms.pins.as_ref().is_none_or(|pins| pins.contains(&site.key))
}

/// The fewest shares that open a sum: no fewer than anybody's `min-sites`, and so many that two
/// disjoint halves of the honest sites cannot open two sums, 2t > n + c.
///
/// # Errors
/// When a site's terms cannot be met by so many sites.
fn threshold<'a>(n: u32, hellos: impl Iterator<Item = &'a Hello> + Clone) -> Result<u32, Reason> {
    let t = hellos.clone().map(|hello| threshold_of(n, hello.min_sites, hello.colluders)).max();
    let t = t.unwrap_or(n);
    for hello in hellos {
        if t > n || hello.colluders >= t || hello.min_sites < hello.colluders.saturating_add(2) {
            let detail = format!(
                "of {n} sites, {} cannot be in every sum while {} collude",
                hello.min_sites, hello.colluders
            );
            return Err(Reason::new(Code::ThresholdUnsafe, detail));
        }
    }
    Ok(t)
}

/// t = max(min-sites, ⌊(n + colluders)/2⌋ + 1).
pub(crate) fn threshold_of(n: u32, min_sites: u32, colluders: u32) -> u32 {
    min_sites.max((u64::from(n).midpoint(u64::from(colluders)) + 1) as u32)
}

/// How many numbers are summed.
pub(crate) fn values(schema: &Schema) -> Result<u64, Reason> {
    match schema.elements() {
        0 => Err(Reason::new(Code::MissingTensor, "there is nothing to seal")),
        values => Ok(values),
    }
}

/// The members that a dealer deals to, besides itself.
pub(crate) fn receivers(party: &Party, dealer: u32) -> Vec<u32> {
    let others = party.members.iter().map(|member| member.index);
    others.filter(|&index| index != dealer).collect()
}

/// The names and shapes of a schema as integers have them.
pub(crate) fn wide(schema: &Schema) -> Schema {
    let slots = schema.0.iter();
    let wide = |slot: &Slot| Slot { dtype: Dtype::I64, ..slot.clone() };
    slots.map(|(name, slot)| (name.clone(), wide(slot))).collect()
}
