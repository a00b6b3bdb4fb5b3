//! Everything that the server and one site ever held of a round, given to an attacker. It opens the sum
//! that was agreed on; it opens no single upload and no sum over other sites.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use privet_core::aggregate::{Complaint, UploadHeader};
use privet_core::channel::Channel;
use privet_core::message::Sealed;
use privet_core::seal::{Certified, Scheme, ServerSeal, SiteSeal, Terms, Vouching};
use privet_core::sensitivity::{Lattice, LatticeTensor, Step};
use privet_core::tensor::{Dtype, Schema, Shape, Slot, Values};
use privet_core::{Code, DataKind, Reason};
use privet_crypto::transcript::Stream;
use privet_crypto::{Digest, Seed, SigningKey};
use privet_store::Store;

use crate::coding::{Decoder, Layout};
use crate::protocol::closing::Agreed;
use crate::protocol::hello::Greeting;
use crate::protocol::party::Party;
use crate::protocol::survivors::{Answer, Said};
use crate::protocol::tree;
use crate::protocol::upload::{Dealt, Statement};
use crate::rlwe::block::add_into;
use crate::rlwe::{KeySum, Opener, Ring};
use crate::scheme::threshold::Threshold;
use crate::server::Server;
use crate::shamir::{Share, reconstruct};
use crate::site::{Identity, Site};

pub(crate) const SITES: u8 = 5;
const TASK: [u8; 32] = [3; 32];

pub(crate) struct Names;

impl Vouching for Names {
    fn certified(&self, credential: &[u8]) -> Result<Certified, Reason> {
        match credential {
            [site @ 0..SITES] => Ok(Certified {
                name: site.to_string(),
                key: [*site; 32],
                signing: signer(*site).public().0,
            }),
            _ => Err(Reason::new(Code::NotAdmitted, "nobody")),
        }
    }
}

pub(crate) fn signer(site: u8) -> SigningKey {
    SigningKey::from_seed(&Seed::from_bytes([site; 32]))
}

/// The network, which keeps all it carries.
pub(crate) struct Tapped<'a> {
    sites: &'a mut [Site],
    waiting: VecDeque<(String, Vec<u8>)>,
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Sites that answer with a share of nothing, signed.
    liars: Vec<u8>,
}

impl Channel for Tapped<'_> {
    fn send(&mut self, to: &str, frame: Vec<u8>) {
        let site: usize = to.parse().unwrap();
        let Ok(reply) = self.sites[site].frame(&frame) else { return };
        let mut answer = reply.bytes;
        if self.liars.contains(&(site as u8)) {
            let Answer { context, index, survivors, said, .. } = Answer::decode(&answer).unwrap();
            let Said::Help(share) = said else { panic!("a share") };
            let said = Said::Help(vec![0; share.len()]);
            answer = Answer::new(context, index, survivors, said, &signer(site as u8)).encode();
        }
        self.answers.lock().unwrap().push(answer.clone());
        self.waiting.push_back((to.to_owned(), answer));
    }

    fn receive(&mut self) -> Option<(String, Vec<u8>)> {
        self.waiting.pop_front()
    }
}

/// What the attacker has: the session, each upload with what was said beside it, the answers, and how
/// to open what was sealed to its own site.
struct Loot {
    party: Party,
    layout: Layout,
    context: Digest,
    uploads: BTreeMap<u32, (Dealt, Vec<u32>)>,
    answers: Vec<Answer>,
    /// Shares that its site holds of each other's key.
    own: BTreeMap<u32, Share>,
    index: u32,
}

pub(crate) fn schema() -> Schema {
    let slot = Slot { shape: Shape::new(vec![3]).unwrap(), dtype: Dtype::F32 };
    [("w".to_owned(), slot)].into_iter().collect()
}

fn update(site: u32) -> Vec<i64> {
    vec![i64::from(site) * 1000 + 1, -77, 5]
}

/// The header of an upload, as a gate makes it.
fn header(sealed: &Sealed, body: &[u8]) -> UploadHeader {
    let mut digest = Stream::default();
    digest.update(body);
    UploadHeader {
        task: "train".into(),
        round: 1,
        kind: DataKind::Gradient,
        schema: sealed.schema.clone(),
        step: Some(sealed.step),
        weight: 1.0,
        metrics: BTreeMap::new(),
        receipt: None,
        seal: Some(sealed.statement.clone()),
        len: body.len() as u64,
        digest: digest.finish().0,
    }
}

pub(crate) fn tap<'a>(sites: &'a mut [Site], answers: &Arc<Mutex<Vec<Vec<u8>>>>) -> Tapped<'a> {
    Tapped { sites, waiting: VecDeque::new(), answers: answers.clone(), liars: Vec::new() }
}

fn step() -> Step {
    Step::new(12).unwrap()
}

pub(crate) fn terms(min_sites: u32, colluders: u32) -> Terms {
    Terms {
        scheme: Scheme::Threshold,
        min_sites,
        colluders,
        most: 1 << 20,
        step: step(),
        noise: 0,
        shares: false,
        exact: true,
        verify: false,
        weight_bits: None,
        stable: false,
        sessions: 10,
        pins: None,
    }
}

pub(crate) fn parties(min_sites: u32, colluders: u32) -> (Vec<Site>, Server) {
    let terms = terms(min_sites, colluders);
    let site = |site| {
        let identity = Identity { credential: vec![site], signer: signer(site) };
        let store = Store::in_memory().unwrap();
        Site::new("run".into(), terms.clone(), identity, Arc::new(Names), store).unwrap()
    };
    let server = Server::new("run".into(), Arc::new(Names), Store::in_memory().unwrap());
    ((0..SITES).map(site).collect(), server)
}

/// A site's sealed update, and its body's bytes.
pub(crate) fn sealed(site: &mut Site, index: u32, session: &[u8]) -> (Sealed, Vec<u8>) {
    site.begin(TASK, session, &schema()).unwrap();
    let tensor = LatticeTensor::new(Shape::new(vec![3]).unwrap(), update(index)).unwrap();
    let lattice = Lattice::new(step(), [("w".to_owned(), tensor)].into());
    let sealed = site.seal(lattice, 1.0).unwrap();
    let body = sealed.body.iter().flat_map(|word| word.to_le_bytes()).collect();
    (sealed, body)
}

fn round() -> Loot {
    round_with(&[]).unwrap()
}

/// A round in which some sites lie when they answer.
fn round_with(liars: &[u8]) -> Result<Loot, Reason> {
    let (mut sites, mut server) = parties(4, 1);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let names: BTreeSet<String> = (0..SITES).map(|site| site.to_string()).collect();
    let session = server.greet(&names, &mut tap(&mut sites, &answers)).unwrap();
    let mut sum = server.sum(TASK, &schema()).unwrap();
    let mut uploads = BTreeMap::new();
    for (index, site) in sites.iter_mut().enumerate() {
        let (sealed, body) = sealed(site, index as u32, &session.bytes);
        let header = header(&sealed, &body);
        sum.add(&index.to_string(), &header, &mut &body[..]).unwrap();
        let dealt = Dealt::decode(&sealed.statement).unwrap();
        uploads.insert(index as u32, (dealt, sealed.body));
    }
    let index = u32::from(SITES) - 1;
    let own = sites[index as usize].loot(&uploads);
    answers.lock().unwrap().clear();
    let mut network = Tapped { liars: liars.to_vec(), ..tap(&mut sites, &answers) };
    let opened = sum.finish(&mut network)?;
    let Values::F64(sums) = opened.sum.0["w"].values() else { panic!("f64") };
    let total: i64 = (0..u32::from(SITES)).map(|site| update(site)[0]).sum();
    assert_eq!(sums[0], total as f64 * step().value());
    let answers: Vec<Vec<u8>> = std::mem::take(&mut *answers.lock().unwrap());
    let answers = answers.iter().map(|bytes| Answer::decode(bytes).unwrap()).collect();
    let (greeting, party) = Party::new(&session.bytes, None, &Names).unwrap();
    let scheme = Threshold::new(&party, 3).unwrap();
    let context = party.context(&greeting, &TASK, &scheme);
    let layout = scheme.layout;
    let degree = layout.encoding().set().degree();
    let own =
        own.iter().map(|(&from, bytes)| (from, Share::decode(bytes, degree).unwrap())).collect();
    Ok(Loot { party, layout, context, uploads, answers, own, index })
}

impl Loot {
    /// Tries to open the sum of some uploads with a key.
    fn open(&self, sites: &[u32], key: &[i32]) -> Option<Vec<i64>> {
        let ring = Ring::new(self.layout.encoding().set());
        let mut sum = vec![0u32; self.uploads[&0].1.len()];
        for site in sites {
            add_into(&ring, &mut sum, &self.uploads[site].1).unwrap();
        }
        let key = KeySum::new(&ring, u32::from(SITES), key).ok()?;
        let mut opened = vec![0; ring.set().degree()];
        Opener::new(&ring, &self.context.0, key).open(0, &sum, &mut opened).ok()?;
        let mut decoder = Decoder::new(self.layout, sites.len() as u32).ok()?;
        let mut values = Vec::new();
        decoder.block(&opened, &mut values).ok()?;
        decoder.finish().ok().map(|_| values)
    }

    /// Every key that it can put together for some sites: of the answers, of the answers less what its
    /// own site dealt, of its own shares, and of mixtures.
    fn keys(&self, sites: &[u32]) -> Vec<Vec<i32>> {
        let degree = self.layout.encoding().set().degree();
        let mut keys = vec![vec![0; degree]];
        let answers = || {
            let share = |answer: &Answer| {
                let Said::Help(share) = &answer.said else { panic!("a share") };
                (answer.index + 1, Share::decode(share, degree).unwrap())
            };
            self.answers.iter().map(share).collect::<Vec<_>>()
        };
        let t = self.party.threshold as usize;
        keys.extend(reconstruct(&answers(), t, u32::from(SITES)));
        // Its own shares of these sites' keys, in the place of its answer.
        let mut forged = answers();
        let mut own: Option<Share> = None;
        for site in sites {
            if let Some(share) = self.own.get(site) {
                match &mut own {
                    None => own = Share::decode(&share.encode(), degree).ok(),
                    Some(own) => own.add(share).unwrap(),
                }
            }
        }
        if let Some(own) = own {
            let alone = [(self.index + 1, Share::decode(&own.encode(), degree).unwrap())];
            for t in 1..=t {
                keys.extend(reconstruct(&alone, t, u32::from(SITES)));
            }
            forged.retain(|(point, _)| *point != self.index + 1);
            forged.truncate(t - 1);
            forged.push((self.index + 1, own));
            keys.extend(reconstruct(&forged, t, u32::from(SITES)));
        }
        keys
    }
}

#[test]
fn the_agreed_sum_opens_and_nothing_else() {
    let loot = round();
    let all: Vec<u32> = (0..u32::from(SITES)).collect();
    let wanted: Vec<i64> =
        (0..3).map(|at| all.iter().map(|&site| update(site)[at]).sum()).collect();
    let mut opened = 0;
    for mask in 1u32..1 << SITES {
        let sites: Vec<u32> = all.iter().copied().filter(|site| mask >> site & 1 == 1).collect();
        for key in loot.keys(&sites) {
            if let Some(values) = loot.open(&sites, &key) {
                assert_eq!(sites, all, "a sum over {sites:?} opened");
                assert_eq!(values, wanted);
                opened += 1;
            }
        }
    }
    assert!(opened > 0, "the agreed sum did not open");
}

/// One wrong answer of five is left out where four open the sum; with two, nothing opens.
#[test]
fn a_wrong_answer_is_left_out() {
    for liar in 0..SITES {
        assert!(round_with(&[liar]).is_ok(), "{liar}");
    }
    let refused = round_with(&[1, 3]).err().map(|reason| reason.code);
    assert_eq!(refused, Some(Code::SharesInconsistent));
}

/// A dealer that signs what does not open is named by those who got it, and the sum does not open without
/// enough others; a server that loses what was dealt is not taken for its dealer's fault.
#[test]
fn a_bad_dealer_is_named_by_its_receivers() {
    let complaints = |spoilt: &[u32]| {
        // The dealer does not answer: three of five open the sum.
        let (mut sites, mut server) = parties(3, 0);
        let answers = Arc::new(Mutex::new(Vec::new()));
        let names: BTreeSet<String> = (0..SITES).map(|site| site.to_string()).collect();
        let session = server.greet(&names, &mut tap(&mut sites, &answers)).unwrap();
        let mut sum = server.sum(TASK, &schema()).unwrap();
        for (index, site) in sites.iter_mut().enumerate() {
            let (mut sealed, body) = sealed(site, index as u32, &session.bytes);
            if index == 2 {
                let Dealt { mut statement, mut messages } =
                    Dealt::decode(&sealed.statement).unwrap();
                let receivers = messages.iter_mut().filter(|(to, _)| spoilt.contains(to));
                receivers.for_each(|(_, message)| message[7] ^= 1);
                let Statement { context, index, body, salt, .. } = statement;
                let root = tree::root(&Dealt::leaves(index, &messages));
                statement = Statement::new(context, index, body, salt, root, &signer(2));
                sealed.statement = Dealt { statement, messages }.encode();
            }
            sum.add(&index.to_string(), &header(&sealed, &body), &mut &body[..]).unwrap();
        }
        sum.finish(&mut tap(&mut sites, &answers))
    };
    let named = complaints(&[4]).unwrap();
    let complaint = |by: u8| Complaint { by: by.to_string(), about: "2".into() };
    assert_eq!((named.uploads, named.complaints), (5, vec![complaint(4)]));
    let refused = complaints(&[0, 4]).unwrap_err();
    assert_eq!(refused.code, Code::TooFewSites);
    assert!(refused.detail.contains("`0` cannot open what `2` dealt"), "{}", refused.detail);
}

/// A server that asks two camps of one round for different sums, and shows one of them the other's answer.
#[test]
fn an_answer_for_another_set_is_evidence() {
    let (mut sites, mut server) = parties(4, 1);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let names: BTreeSet<String> = (0..SITES).map(|site| site.to_string()).collect();
    let session = server.greet(&names, &mut tap(&mut sites, &answers)).unwrap();
    let mut sum = server.sum(TASK, &schema()).unwrap();
    for (index, site) in sites.iter_mut().enumerate() {
        let (sealed, body) = sealed(site, index as u32, &session.bytes);
        sum.add(&index.to_string(), &header(&sealed, &body), &mut &body[..]).unwrap();
    }
    answers.lock().unwrap().clear();
    sum.finish(&mut tap(&mut sites, &answers)).unwrap();
    let answers: Vec<Answer> =
        answers.lock().unwrap().iter().map(|bytes| Answer::decode(bytes).unwrap()).collect();
    let mut shown = |answers: &[Answer]| {
        sites[0].frame(&Agreed::new(answers, None).encode()).map(drop).map_err(|r| r.code)
    };
    let Answer { context, index, said, .. } = answers[3].clone();
    let other = Answer::new(context, index, Digest([1; 32]), said, &signer(3));
    // With a wrong signature it says nothing, and counts for nothing.
    let forged = Answer { signature: answers[2].signature, ..other.clone() };
    let mut some = answers[..3].to_vec();
    some.push(forged);
    assert_eq!(shown(&some), Err(Code::TooFewHonest));
    // The frame before has ended what this site takes part in; another one sees the evidence.
    some[3] = other;
    let seen = sites[1].frame(&Agreed::new(&some, None).encode()).unwrap_err();
    assert_eq!(seen.code, Code::Equivocation);
    assert!(seen.detail.contains("`3`"), "{}", seen.detail);
    // It says hello to this server no more.
    let greeting = Greeting { run: "run".into(), session: 9 }.encode();
    assert_eq!(sites[1].frame(&greeting).unwrap_err().code, Code::Equivocation);
    assert!(sites[2].frame(&greeting).is_ok());
}
