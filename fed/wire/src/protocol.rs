//! The generated protocol, and closed lists as numbers.

use privet_core::{Code, Stage};
use privet_gate::{Parcel, Status};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    tonic::include_proto!("privet.v1");
}

pub(crate) use generated::federation_client::FederationClient;
pub(crate) use generated::federation_server::{Federation, FederationServer};
pub(crate) use generated::frame::Part;
pub(crate) use generated::{
    AttestReply, AttestRequest, Frame, JoinReply, JoinRequest, ReplyRequest, ReportReply,
    Status as StatusMessage, SubmitReply, Turn as TurnNumber,
};

const STAGES: [Stage; 7] = [
    Stage::Compile,
    Stage::Join,
    Stage::Job,
    Stage::TaskData,
    Stage::TaskResult,
    Stage::KeyShare,
    Stage::Psi,
];

/// A code as a number above 0.
pub(crate) fn code_number(code: Code) -> u32 {
    let at = Code::ALL.iter().position(|&candidate| candidate == code);
    at.map_or(0, |at| at as u32 + 1)
}

/// The code of a number above 0.
pub(crate) fn code(number: u32) -> Option<Code> {
    Code::ALL.get((number as usize).checked_sub(1)?).copied()
}

pub(crate) fn encode_status(status: Status) -> StatusMessage {
    match status {
        Status::Ready { sealed: false } => StatusMessage::default(),
        Status::Ready { sealed: true } => StatusMessage { kind: 2, ..StatusMessage::default() },
        Status::Refused { stage, round, code } => StatusMessage {
            kind: 1,
            stage: STAGES.iter().position(|&s| s == stage).unwrap_or_default() as u32,
            round: round.unwrap_or_default(),
            code: code_number(code),
        },
    }
}

/// A state from a peer; `None` when its numbers are not on the lists.
pub(crate) fn decode_status(message: &StatusMessage) -> Option<Status> {
    match message.kind {
        0 => Some(Status::Ready { sealed: false }),
        2 => Some(Status::Ready { sealed: true }),
        1 => Some(Status::Refused {
            stage: *STAGES.get(message.stage as usize)?,
            round: (message.round > 0).then_some(message.round),
            code: code(message.code)?,
        }),
        _ => None,
    }
}

/// A parcel as frames; chunks are slices of its own memory.
pub(crate) fn frames(parcel: &Parcel) -> Vec<Frame> {
    let part = |part| Frame { part: Some(part) };
    let mut frames = vec![part(Part::Head(parcel.head().clone()))];
    for piece in parcel.body() {
        let mut at = 0;
        while at < piece.len() {
            let end = (at + crate::CHUNK).min(piece.len());
            frames.push(part(Part::Body(piece.slice(at..end))));
            at = end;
        }
    }
    frames
}

/// A frame of a protocol session, in pieces.
pub(crate) fn session(parcel: &Parcel) -> Vec<Frame> {
    let bytes = parcel.frame().cloned().unwrap_or_default();
    let starts = (0..bytes.len()).step_by(crate::CHUNK);
    let piece = |at: usize| bytes.slice(at..bytes.len().min(at + crate::CHUNK));
    starts.map(|at| Frame { part: Some(Part::Body(piece(at))) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_state_survives_the_wire() {
        for &code in Code::ALL {
            for stage in STAGES {
                for round in [None, Some(7)] {
                    let status = Status::Refused { stage, round, code };
                    assert_eq!(decode_status(&encode_status(status)), Some(status));
                }
            }
        }
        for sealed in [false, true] {
            let ready = Status::Ready { sealed };
            assert_eq!(decode_status(&encode_status(ready)), Some(ready));
        }
    }

    proptest! {
        #[test]
        fn numbers_off_the_lists_are_refused(kind: u32, stage: u32, round: u32, code in 100u32..) {
            let message = StatusMessage { kind, stage, round, code };
            prop_assert!(kind == 0 || kind == 2 || decode_status(&message).is_none());
        }
    }
}
