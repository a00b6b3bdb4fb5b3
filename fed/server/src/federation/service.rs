//! What sites call, and what comes of it.

use privet_wire::{Relayed, Service, Sink};

use super::*;
use crate::spool::Incoming;

#[tonic::async_trait]
impl Service for Shared {
    fn join(&self, peer: &Peer) -> Result<Offer, Reason> {
        self.0.admit(Moment::Join, peer)?;
        self.0.change(|state| {
            state.sites.entry(peer.name.clone()).or_default();
        });
        Ok(self.0.offer.clone())
    }

    async fn next(&self, peer: &Peer, status: Status) -> Result<Turn, Reason> {
        if let Err(reason) = self.0.admit(Moment::Job, peer) {
            let quarantined = self.0.lock().quarantined.contains_key(&peer.name);
            // On another connection, or after a while, a site proves itself anew.
            return match reason.code == Code::NotAttested && !quarantined {
                true => Ok(Turn::Attest),
                false => Err(reason),
            };
        }
        self.0.note(&peer.name, status);
        let until = Instant::now() + LONG_POLL;
        let turn = self.0.wait(until, || self.0.turn(peer)).await;
        if matches!(turn, Some(Turn::Finished)) {
            self.0.changed.send_replace(());
        }
        Ok(turn.unwrap_or(Turn::Wait))
    }

    fn attest(&self, peer: &Peer, asked: Attest<'_>) -> Result<Attested, Reason> {
        if self.0.lock().quarantined.contains_key(&peer.name) {
            return Err(Reason::new(Code::NotAttested, "this site is in quarantine"));
        }
        let exchanged = self.0.exchange(peer, asked);
        match &exchanged {
            // Whoever asks more of this server than it has is not to blame.
            Err(reason) if asked.answer.is_some() => self.0.quarantine(peer, asked.job, reason),
            Ok(_) if asked.answer.is_some() => drop(self.0.changed.send_replace(())),
            _ => {}
        }
        exchanged
    }

    fn upload(&self, peer: &Peer, head: Bytes) -> Result<Box<dyn Sink>, Reason> {
        self.0.admit(Moment::Job, peer)?;
        let unexpected = || Reason::new(Code::UnexpectedUpload, "the upload answers no open round");
        let number = {
            let state = self.0.lock();
            let round = state.round.as_ref().ok_or_else(unexpected)?;
            let uploading = state.sites.get(&peer.name).is_some_and(|site| site.uploading);
            let answered = round.answers.contains_key(&peer.name);
            if !round.asked.contains(&peer.name) || answered || uploading {
                return Err(unexpected());
            }
            round.number
        };
        let head_len = head.len() as u64;
        let checked = self.0.gate.admit(&head, number).and_then(|head| {
            let state = self.0.lock();
            let round = state.round.as_ref().ok_or_else(unexpected)?;
            round.aggregator.admit(&peer.name, &head.header)?;
            let known = state.sites.get(&peer.name).and_then(|site| site.weight);
            if known.is_some_and(|weight| weight != head.header.weight) {
                let detail = "a site's weight is the same in every round";
                return Err(Reason::new(Code::Malformed, detail));
            }
            Ok(head)
        });
        let head = checked.inspect_err(|reason| self.0.reject(&peer.name, number, reason))?;
        self.0.change(|state| state.sites.entry(peer.name.clone()).or_default().uploading = true);
        Ok(Box::new(Upload {
            federation: self.clone(),
            site: peer.name.clone(),
            number,
            head_len,
            incoming: Some(Incoming::new(head)),
        }))
    }

    fn reply(&self, peer: &Peer, to: &[u8], answer: Result<Bytes, Code>) {
        let too_long = answer.as_ref().is_ok_and(|frame| frame.len() > MAX_REPLY);
        if self.0.admit(Moment::KeyShare, peer).is_err() || too_long {
            return;
        }
        self.0.change(|state| {
            // An answer to nothing, or to what was asked before, is nothing: it may have been sent again.
            let asked = state.mail.out.get(&peer.name);
            if asked.is_none_or(|frame| frame.id().bytes() != to) {
                return;
            }
            state.mail.out.remove(&peer.name);
            match answer {
                Ok(frame) => {
                    let site = state.sites.entry(peer.name.clone()).or_default();
                    site.record.bytes_up += frame.len() as u64;
                    state.mail.answers.push_back((peer.name.clone(), frame.to_vec()));
                }
                Err(code) => {
                    state.relays.leave(&peer.name);
                    state.refused_frames.insert(peer.name.clone(), (self.0.frames, code));
                }
            }
        });
    }

    fn relay(&self, peer: &Peer, to: &str) -> Result<Relayed, Reason> {
        self.0.admit(Moment::Job, peer)?;
        let (sender, from) = self.0.converse(&peer.name, to)?;
        let (federation, name, other) = (self.0.clone(), peer.name.clone(), to.to_owned());
        let counted = move |bytes| {
            let mut state = federation.lock();
            state.sites.entry(name.clone()).or_default().record.bytes_up += bytes;
            state.sites.entry(other.clone()).or_default().record.bytes_down += bytes;
        };
        Ok(Relayed { to: sender, from, counted: Arc::new(counted) })
    }

    fn report(&self, peer: &Peer, status: Status) {
        // Who has proved nothing may still say that it does not take part.
        let refused = matches!(status, Status::Refused { round: None, .. });
        let moment = if refused { Moment::Leave } else { Moment::Job };
        if self.0.judge(moment, peer).is_ok() {
            self.0.note(&peer.name, status);
        }
    }

    fn connected(&self, peer: &Peer) {
        self.0.change(|state| state.connections.entry(peer.name.clone()).or_default().open += 1);
    }

    fn lost(&self, peer: &Peer) {
        self.0.change(|state| {
            let connections = state.connections.entry(peer.name.clone()).or_default();
            connections.open = connections.open.saturating_sub(1);
            connections.lost = Some(Instant::now());
            if connections.open == 0 {
                state.relays.leave(&peer.name);
            }
        });
    }
}

struct Upload {
    federation: Shared,
    site: String,
    number: u32,
    head_len: u64,
    /// Taken when the upload ends.
    incoming: Option<Incoming>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.federation.0.change(|state| {
            if let Some(site) = state.sites.get_mut(&self.site) {
                site.uploading = false;
            }
        });
    }
}

impl Sink for Upload {
    fn write(&mut self, piece: &[u8]) -> Result<(), Reason> {
        let written = match &mut self.incoming {
            Some(incoming) => incoming.write(piece),
            None => Err(Reason::new(Code::Malformed, "the upload has ended")),
        };
        written.inspect_err(|reason| self.federation.0.reject(&self.site, self.number, reason))
    }

    fn finish(mut self: Box<Self>) -> Result<(), Reason> {
        let incoming = self.incoming.take();
        let gone = || Reason::new(Code::Malformed, "the upload has ended");
        let whole = incoming
            .ok_or_else(gone)
            .and_then(Incoming::finish)
            .inspect_err(|reason| self.federation.0.reject(&self.site, self.number, reason))?;
        self.federation.0.change(|state| {
            let round = state.round.as_mut().filter(|round| round.number == self.number);
            let Some(round) = round else {
                let detail = "the round was closed before the upload ended";
                return Err(Reason::new(Code::UnexpectedUpload, detail));
            };
            let bytes = self.head_len + whole.len();
            let site = state.sites.entry(self.site.clone()).or_default();
            site.record.bytes_up += bytes;
            site.record.receipt.clone_from(&whole.header().receipt);
            site.weight = Some(whole.header().weight);
            round.bytes_up += bytes;
            round.answers.insert(self.site.clone(), whole);
            Ok(())
        })
    }
}
