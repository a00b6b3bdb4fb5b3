//! The seam to frames of a protocol session.

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
