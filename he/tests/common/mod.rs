//! Sites, a server and the network between them, in memory.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)] // each suite uses a part; a test fails by panicking

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use privet_core::aggregate::{Aggregate, Aggregator, UploadHeader};
use privet_core::channel::Channel;
use privet_core::message::{DataKind, Sealed};
use privet_core::seal::{Certified, Note, Scheme, ServerSeal, Session, SiteSeal, Terms, Vouching};
use privet_core::sensitivity::{Lattice, LatticeTensor, Step};
use privet_core::tensor::{Dtype, Schema, Shape, Slot, Values};
use privet_core::{Code, Reason};
use privet_crypto::transcript::Stream;
use privet_crypto::{Seed, SigningKey};
use privet_he::server::Server;
use privet_he::site::{Identity, Site};
use privet_store::Store;

/// Vouches for whoever it has a name for.
#[derive(Default)]
pub(crate) struct Names(pub(crate) Mutex<BTreeMap<Vec<u8>, Certified>>);

impl Vouching for Names {
    fn certified(&self, credential: &[u8]) -> Result<Certified, Reason> {
        let names = self.0.lock().unwrap();
        names.get(credential).cloned().ok_or_else(|| Reason::new(Code::NotAdmitted, "nobody"))
    }
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Seed::from_bytes([seed; 32]))
}

pub(crate) fn name(site: usize) -> String {
    format!("site-{site}")
}

pub(crate) fn schema(values: u64) -> Schema {
    let shape = Shape::new(vec![values]).unwrap();
    [("w".to_owned(), Slot { shape, dtype: Dtype::F32 })].into_iter().collect()
}

pub(crate) fn update(values: &[i64]) -> Lattice {
    let shape = Shape::new(vec![values.len() as u64]).unwrap();
    let tensor = LatticeTensor::new(shape, values.to_vec()).unwrap();
    Lattice::new(Step::new(12).unwrap(), [("w".to_owned(), tensor)].into())
}

pub(crate) struct World {
    pub(crate) names: Arc<Names>,
    pub(crate) sites: Vec<Site>,
    pub(crate) stores: Vec<Store>,
    pub(crate) server: Server,
    pub(crate) terms: Vec<Terms>,
}

pub(crate) fn terms(min_sites: u32, colluders: u32) -> Terms {
    let step = Step::new(12).unwrap();
    Terms {
        scheme: Scheme::Threshold,
        min_sites,
        colluders,
        most: 1 << 20,
        step,
        noise: 0,
        shares: false,
        exact: true,
        verify: false,
        weight_bits: None,
        stable: false,
        sessions: 1000,
        pins: None,
    }
}

impl World {
    pub(crate) fn new(sites: usize, terms: Terms) -> Self {
        Self::with(vec![terms; sites])
    }

    /// Sites with terms of their own.
    pub(crate) fn with(terms: Vec<Terms>) -> Self {
        let sites = terms.len();
        let names = Arc::new(Names::default());
        for site in 0..sites {
            let signing = key(site as u8).public().0;
            let certified = Certified { name: name(site), key: [site as u8; 32], signing };
            names.0.lock().unwrap().insert(vec![site as u8], certified);
        }
        let stores: Vec<_> = (0..sites).map(|_| Store::in_memory().unwrap()).collect();
        let server = Server::new("run".into(), names.clone(), Store::in_memory().unwrap());
        let mut world = Self { names, sites: Vec::new(), stores, server, terms };
        for site in 0..sites {
            let made = world.site(site);
            world.sites.push(made);
        }
        world
    }

    /// A site as a process starts it: with what it kept on disk and nothing else.
    pub(crate) fn site(&self, site: usize) -> Site {
        let identity = Identity { credential: vec![site as u8], signer: key(site as u8) };
        let (terms, names) = (self.terms[site].clone(), self.names.clone());
        Site::new("run".into(), terms, identity, names, self.stores[site].clone()).unwrap()
    }

    pub(crate) fn greet(&mut self, present: &[usize]) -> Result<Session, Reason> {
        let sites = (0..self.sites.len()).map(name).collect();
        let mut network = Network::new(&mut self.sites, present);
        self.server.greet(&sites, &mut network)
    }

    /// Begins a round with those who say hello, and adds the uploads of some.
    pub(crate) fn uploads(
        &mut self,
        round: u32,
        hello: &[usize],
        upload: &[usize],
        values: impl Fn(usize) -> Vec<i64>,
    ) -> Result<Box<dyn Aggregator>, Reason> {
        let session = self.greet(hello)?;
        let schema = schema(values(0).len() as u64);
        let mut sum = self.server.sum([round as u8; 32], &schema)?;
        for &site in hello {
            self.sites[site].begin([round as u8; 32], &session.bytes, &schema)?;
        }
        for &site in upload {
            let sealed = self.sites[site].seal(update(&values(site)), 100.0 + site as f64)?;
            let (header, body) = header(&sealed, round);
            sum.admit(&name(site), &header)?;
            sum.add(&name(site), &header, &mut &body[..])?;
        }
        Ok(sum)
    }

    /// A whole round: who says hello, who uploads, who answers.
    pub(crate) fn round(
        &mut self,
        round: u32,
        hello: &[usize],
        upload: &[usize],
        answer: &[usize],
        values: impl Fn(usize) -> Vec<i64>,
    ) -> Result<Aggregate, Reason> {
        let sum = self.uploads(round, hello, upload, values)?;
        sum.finish(&mut Network::new(&mut self.sites, answer))
    }
}

pub(crate) fn header(sealed: &Sealed, round: u32) -> (UploadHeader, Vec<u8>) {
    let body: Vec<u8> = sealed.body.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut digest = Stream::default();
    digest.update(&body);
    let header = UploadHeader {
        task: "train".into(),
        round,
        kind: DataKind::Gradient,
        schema: sealed.schema.clone(),
        step: Some(sealed.step),
        weight: 1.0,
        metrics: BTreeMap::new(),
        receipt: None,
        seal: Some(sealed.statement.clone()),
        len: body.len() as u64,
        digest: digest.finish().0,
    };
    (header, body)
}

/// Delivers frames to the sites that are present, and what they answer.
pub(crate) struct Network<'a> {
    pub(crate) sites: &'a mut [Site],
    pub(crate) present: BTreeSet<usize>,
    answers: VecDeque<(String, Vec<u8>)>,
    pub(crate) refusals: Vec<Code>,
    /// What sites noted, besides answering.
    pub(crate) notes: Vec<(usize, Note)>,
    pub(crate) change: Box<dyn FnMut(usize, Vec<u8>) -> Vec<u8>>,
}

impl<'a> Network<'a> {
    pub(crate) fn new(sites: &'a mut [Site], present: &[usize]) -> Self {
        let present = present.iter().copied().collect();
        let (answers, refusals, notes) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { sites, present, answers, refusals, notes, change: Box::new(|_, frame| frame) }
    }
}

impl Channel for Network<'_> {
    fn send(&mut self, to: &str, frame: Vec<u8>) {
        let site: usize = to.strip_prefix("site-").unwrap().parse().unwrap();
        if !self.present.contains(&site) {
            return;
        }
        match self.sites[site].frame(&(self.change)(site, frame)) {
            Ok(reply) => {
                self.notes.extend(reply.note.map(|note| (site, note)));
                self.answers.push_back((to.to_owned(), reply.bytes));
            }
            Err(reason) => self.refusals.push(reason.code),
        }
    }

    fn receive(&mut self) -> Option<(String, Vec<u8>)> {
        self.answers.pop_front()
    }
}

pub(crate) fn opened(aggregate: &Aggregate) -> Vec<i64> {
    let Values::F64(values) = aggregate.sum.0["w"].values() else { panic!("f64") };
    values.iter().map(|x| (x * 4096.0) as i64).collect()
}

pub(crate) fn values(site: usize) -> Vec<i64> {
    (0..5000).map(|i| (i * 7919 + site as i64 * 104_729) % 2_000_001 - 1_000_000).collect()
}

pub(crate) fn expected(sites: &[usize]) -> Vec<i64> {
    let all: Vec<Vec<i64>> = sites.iter().map(|&site| values(site)).collect();
    (0..5000).map(|at| all.iter().map(|values| values[at]).sum()).collect()
}

/// Gives a server the hellos of a session that it has seen.
pub(crate) struct Replay(Vec<u8>, VecDeque<(String, Vec<u8>)>);

impl Replay {
    pub(crate) fn of(session: &Session) -> Self {
        Self(session.bytes.clone(), VecDeque::new())
    }
}

impl Channel for Replay {
    fn send(&mut self, to: &str, _: Vec<u8>) {
        // A session is a greeting, a roster and hellos, in the order of names; each has one length.
        let site: usize = to.strip_prefix("site-").unwrap().parse().unwrap();
        let hellos = &self.0[4..self.0.len() - 4];
        let greeting = 4 + u32::from_le_bytes(hellos[..4].try_into().unwrap()) as usize;
        // The roster's credentials are a byte each.
        let hellos = &hellos[greeting + 4 + 4 * 5 + 1 + 4..];
        let size = hellos.len() / 4;
        self.1.push_back((to.to_owned(), hellos[site * size..(site + 1) * size].to_vec()));
    }

    fn receive(&mut self) -> Option<(String, Vec<u8>)> {
        self.1.pop_front()
    }
}
