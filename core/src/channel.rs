//! The seam to frames of a protocol session.

use crate::Reason;

/// Most bytes of one frame of a site, and of numbers that are sent to one in a frame.
pub const MAX_FRAME: usize = 256 << 10;

/// Carries frames between a server and sites, which it knows by name. It blocks.
pub trait Channel {
    /// Sends a frame to a site. A site that is gone does not answer; that is all that is seen of it.
    fn send(&mut self, to: &str, frame: Vec<u8>);

    /// The next frame from a site that was sent one; `None` when the time for it is over or nobody is
    /// left who could answer.
    fn receive(&mut self) -> Option<(String, Vec<u8>)>;
}

/// Carries frames between this site and one other, in the order in which they were sent. It blocks.
pub trait Link: Send {
    /// Sends a frame of at most [`MAX_FRAME`] bytes.
    ///
    /// # Errors
    /// When the other site is gone, or this one may not send so much.
    fn send(&mut self, frame: Vec<u8>) -> Result<(), Reason>;

    /// The next frame.
    ///
    /// # Errors
    /// When the other site is gone or said nothing in time.
    fn receive(&mut self) -> Result<Vec<u8>, Reason>;
}
