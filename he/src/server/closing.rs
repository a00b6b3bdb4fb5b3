//! What the server shows after the answers: the opened sum, to sites that check it; the sealed one, to a
//! site that opens it.

use std::collections::BTreeSet;

use privet_core::channel::{Channel, MAX_FRAME};
use privet_core::{Code, Reason};

use super::SealedSum;
use zeroize::Zeroizing;

use crate::coding::HeaderSum;
use crate::protocol::closing::{Agreed, HEADER, Piece, decode_header, read};
use crate::protocol::survivors::Answer;
use crate::protocol::{OPENED, TO_OPEN};
use crate::scheme::Opened;

/// Sends a frame to one site and waits for its answer.
fn ask(channel: &mut dyn Channel, site: &str, frame: Vec<u8>) -> Option<Vec<u8>> {
    channel.send(site, frame);
    loop {
        // Another site may still answer what it was asked before.
        let (from, answer) = channel.receive()?;
        if from == site {
            return Some(answer);
        }
    }
}

impl SealedSum {
    /// Shows the sum to those who answered and asked to see it, and gives how many say that it is the right
    /// one. The site that opened it has checked it before.
    pub(super) fn show(
        &self,
        header: &HeaderSum,
        sums: &[i64],
        answers: &[Answer],
        opener: Option<u32>,
        channel: &mut dyn Channel,
    ) -> u32 {
        if !self.party.verify {
            return opener.is_some().into();
        }
        let agreed = Agreed::new(answers, Some(*header)).encode();
        let wants = |index: u32| self.party.member(index).is_some_and(|m| m.hello.verify);
        let others =
            answers.iter().filter(|answer| wants(answer.index) && Some(answer.index) != opener);
        let mut present: BTreeSet<&str> = others.map(|answer| self.name(answer.index)).collect();
        let mut at = 0;
        // The last piece is empty: it says that there are no more.
        let pieces = sums.chunks(MAX_FRAME / 8).chain([&[][..]]);
        let frames = pieces.map(|piece| {
            let bytes: Vec<u8> = piece.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            let frame = Piece { at, bytes: &bytes }.encode(OPENED);
            at += bytes.len() as u64;
            frame
        });
        for frame in std::iter::once(agreed).chain(frames) {
            present.iter().for_each(|site| channel.send(site, frame.clone()));
            let mut taken = BTreeSet::new();
            while taken.len() < present.len() {
                let Some((from, _)) = channel.receive() else { break };
                taken.extend(present.get(from.as_str()).copied());
            }
            present = taken;
        }
        present.len() as u32 + u32::from(opener.is_some())
    }

    /// Has a site open the sum: the first that does.
    pub(super) fn open_at_site(
        &self,
        sealed: &[u8],
        answers: &[Answer],
        channel: &mut dyn Channel,
    ) -> Result<(Opened, Option<u32>), Reason> {
        for answer in answers {
            if let Some(opened) = self.opened_by(answer, sealed, answers, channel) {
                return Ok((opened, Some(answer.index)));
            }
        }
        let detail = "no site opened the sum: they see another one than they sealed, or have gone";
        Err(Reason::new(Code::TooFewSites, detail))
    }

    fn opened_by(
        &self,
        answer: &Answer,
        sealed: &[u8],
        answers: &[Answer],
        channel: &mut dyn Channel,
    ) -> Option<Opened> {
        let site = self.name(answer.index).to_owned();
        ask(channel, &site, Agreed::new(answers, None).encode())?;
        let mut at = 0;
        for bytes in sealed.chunks(4 * MAX_FRAME) {
            ask(channel, &site, Piece { at, bytes }.encode(TO_OPEN))?;
            at += bytes.len() as u64;
        }
        let values = self.schema.elements() as usize;
        let whole = HEADER + 8 * values;
        let mut opened = Vec::with_capacity(whole);
        while opened.len() < whole {
            let piece = ask(channel, &site, read(opened.len() as u64))?;
            if piece.is_empty() || opened.len() + piece.len() > whole {
                return None;
            }
            opened.extend_from_slice(&piece);
        }
        let (header, values) = opened.split_at(HEADER);
        let header = decode_header(header, self.dealt.len() as u32).ok()?;
        let numbers = values.as_chunks::<8>().0.iter();
        let numbers: Vec<i64> = numbers.map(|&number| i64::from_le_bytes(number)).collect();
        Some((header, Zeroizing::new(numbers)))
    }
}
