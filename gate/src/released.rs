//! What may leave, and what has arrived.
//!
//! A [`Released`] is made by a gate and by nothing else; its bytes can be read only after
//! [`Released::handover`] has made the budget's commitment, the outbox entry and the audit line
//! durable. What it gives, a [`Parcel`], is the only thing that `fed/wire` can send.
//!
//! ```
//! // What a gate let out can be handed over and read …
//! fn read(released: privet_gate::Released) -> Option<bytes::Bytes> {
//!     Some(released.handover().ok()?.head().clone())
//! }
//! ```
//! ```compile_fail,E0451
//! // … a parcel cannot be made of bytes …
//! fn forge(head: bytes::Bytes) -> privet_gate::Parcel {
//!     privet_gate::Parcel { head, body: vec![], status: None, of: todo!() }
//! }
//! ```
//! ```compile_fail,E0624
//! // … nor a release of a message's bytes …
//! fn forge(head: bytes::Bytes) -> privet_gate::Released {
//!     privet_gate::Released::update(head, vec![])
//! }
//! ```
//! ```compile_fail,E0599
//! // … and it cannot be read before it is handed over.
//! fn early(released: privet_gate::Released) -> bytes::Bytes {
//!     released.head().clone()
//! }
//! ```

use std::sync::Arc;

use bytes::Bytes;
use privet_core::aggregate::UploadHeader;
use privet_core::audit::{Audit, AuditEntry};
use privet_core::filter::Charge;
use privet_core::ledger::{Ledger, ReservationId};
use privet_core::sensitivity::Prover;
use privet_core::{Code, Message, Reason, Stage};
use privet_crypto::Digest;

use crate::envelope::{Head, TaskId};
use crate::outbox::{Key, Outbox};

/// A site's state, without text: numbers and codes of closed lists. Always has leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The site waits for a task, and says whether its rule seals what it answers.
    Ready {
        /// Whether its updates will be sealed.
        sealed: bool,
    },
    /// The site does not take part in a job, or in a round of it.
    Refused {
        /// At which point.
        stage: Stage,
        /// The round; absent for the whole job.
        round: Option<u32>,
        /// Why, as far as a peer may know.
        code: Code,
    },
}

/// Something that a gate lets out.
pub struct Released(Kind);

enum Kind {
    Update(Box<Update>),
    Status(Status),
    Frame(Box<Frame>),
    Evidence(Box<Frame>),
}

/// Bytes of a protocol session.
struct Frame {
    bytes: Bytes,
    audit: Option<(Arc<dyn Audit>, AuditEntry)>,
}

struct Update {
    parcel: Parcel,
    pending: Pending,
}

/// What must be durable before the bytes of an update can be read.
#[derive(Default)]
struct Pending {
    outbox: Option<(Outbox, Key)>,
    reservation: Option<Reservation>,
    audit: Option<(Arc<dyn Audit>, AuditEntry)>,
}

/// Bytes that may be sent, any number of times.
#[derive(Debug, Clone)]
pub struct Parcel {
    head: Bytes,
    body: Vec<Bytes>,
    status: Option<Status>,
    of: Of,
}

/// What the bytes of a parcel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Update,
    Frame,
    Evidence,
}

impl Released {
    /// A site's state.
    pub(crate) fn status(status: Status) -> Self {
        Self(Kind::Status(status))
    }

    /// An update that no budget pays for.
    pub(crate) fn update(head: Bytes, body: Vec<Bytes>) -> Self {
        let parcel = Parcel { head, body, status: None, of: Of::Update };
        Self(Kind::Update(Box::new(Update { parcel, pending: Pending::default() })))
    }

    /// Bytes of a protocol session that a rule admitted.
    pub(crate) fn frame(bytes: Vec<u8>, audit: Option<(Arc<dyn Audit>, AuditEntry)>) -> Self {
        Self(Kind::Frame(Box::new(Frame { bytes: bytes.into(), audit })))
    }

    /// What this machine shows of itself.
    pub(crate) fn evidence(bytes: Vec<u8>, audit: (Arc<dyn Audit>, AuditEntry)) -> Self {
        Self(Kind::Evidence(Box::new(Frame { bytes: bytes.into(), audit: Some(audit) })))
    }

    /// The same, to be audited.
    pub(crate) fn audited(mut self, audit: Arc<dyn Audit>, entry: AuditEntry) -> Self {
        if let Kind::Update(update) = &mut self.0 {
            update.pending.audit = Some((audit, entry));
        }
        self
    }

    /// The same, to be paid for and kept until it is acknowledged.
    pub(crate) fn paid(mut self, reservation: Reservation, outbox: Outbox, key: Key) -> Self {
        if let Kind::Update(update) = &mut self.0 {
            update.pending.reservation = Some(reservation);
            update.pending.outbox = Some((outbox, key));
        }
        self
    }

    /// Makes the outbox entry, the budget's commitment and the audit line durable, in this order,
    /// and gives the bytes.
    ///
    /// # Errors
    /// When one of them could not be made durable. Nothing may leave then; what was reserved
    /// stays spent if noise was drawn for it.
    pub fn handover(self) -> Result<Parcel, Reason> {
        let of = match self.0 {
            Kind::Evidence(_) => Of::Evidence,
            _ => Of::Frame,
        };
        let update = match self.0 {
            Kind::Update(update) => *update,
            Kind::Status(status) => {
                let (head, body) = (Bytes::new(), Vec::new());
                return Ok(Parcel { head, body, status: Some(status), of: Of::Update });
            }
            Kind::Frame(frame) | Kind::Evidence(frame) => {
                let Frame { bytes, audit } = *frame;
                if let Some((audit, entry)) = audit {
                    audit.append(entry)?;
                }
                return Ok(Parcel { head: bytes, body: Vec::new(), status: None, of });
            }
        };
        let Update { parcel, pending } = update;
        if let Some((outbox, key)) = &pending.outbox {
            outbox.put(*key, &parcel.head, &parcel.body)?;
        }
        if let Some(reservation) = pending.reservation {
            reservation.commit()?;
        }
        if let Some((audit, entry)) = pending.audit {
            audit.append(entry)?;
        }
        Ok(parcel)
    }
}

impl Parcel {
    /// Bytes that were handed over before and are sent again.
    pub(crate) fn kept(head: Bytes, body: Bytes) -> Self {
        Self { head, body: vec![body], status: None, of: Of::Update }
    }

    /// The state, when this is one.
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// The bytes of a protocol session, when these are some.
    pub fn frame(&self) -> Option<&Bytes> {
        (self.of == Of::Frame).then_some(&self.head)
    }

    /// What a machine shows of itself, when this is it.
    pub fn evidence(&self) -> Option<&Bytes> {
        (self.of == Of::Evidence).then_some(&self.head)
    }

    /// Names the very message that this is of.
    pub fn id(&self) -> TaskId {
        TaskId::of(&self.head)
    }

    /// The head of an update.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The body of an update, in pieces.
    pub fn body(&self) -> &[Bytes] {
        &self.body
    }

    /// Bytes of head and body.
    pub fn len(&self) -> u64 {
        let body: usize = self.body.iter().map(Bytes::len).sum();
        (self.head.len() + body) as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A reservation in a ledger that ends one way or the other. Dropped before noise was drawn, it
/// is given back; dropped after, it is spent.
pub(crate) struct Reservation {
    ledger: Arc<dyn Ledger>,
    id: Option<ReservationId>,
    drawn: bool,
}

impl Reservation {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, id: ReservationId) -> Self {
        Self { ledger, id: Some(id), drawn: false }
    }

    /// Whether noise was drawn.
    pub(crate) fn drawn(&self) -> bool {
        self.drawn
    }

    /// Makes it final.
    pub(crate) fn commit(mut self) -> Result<(), Reason> {
        match self.id.take() {
            Some(id) => self.ledger.commit(id),
            None => Ok(()),
        }
    }
}

impl Charge for Reservation {
    fn draw(&mut self, _: &Prover) -> Result<(), Reason> {
        self.drawn = true;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            // A failure leaves the reservation open, which counts as spent.
            let _ = match self.drawn {
                true => self.ledger.commit(id),
                false => self.ledger.release(id),
            };
        }
    }
}

/// A message that arrived whole: its length, digest and form were checked, no filter has seen it.
#[derive(Debug)]
pub struct Arrived {
    pub(crate) header: UploadHeader,
    pub(crate) message: Message,
    pub(crate) identity: TaskId,
}

impl Arrived {
    /// Decodes and checks bytes from a peer.
    ///
    /// # Errors
    /// `malformed`, when they are no message.
    pub fn new(head: &[u8], body: &[u8]) -> Result<Self, Reason> {
        let malformed =
            |error: privet_crypto::DecodeError| Reason::new(Code::Malformed, error.to_string());
        let identity = TaskId(Digest::of(head));
        let head = Head::decode(head).map_err(malformed)?;
        let header = head.header.clone();
        Ok(Self { header, message: head.message(body)?, identity })
    }

    /// What it holds.
    pub fn content(&self) -> &privet_core::Content {
        &self.message.content
    }

    /// Names this very message.
    pub fn id(&self) -> TaskId {
        self.identity
    }

    /// The round it is for.
    pub fn round(&self) -> u32 {
        self.header.round
    }
}
