//! Bytes over a link: what is written leaves in large frames, and as much is read as was agreed on.

use privet_core::channel::{Link, MAX_FRAME};
use privet_core::{Code, Reason};

/// A stream of bytes to and from another site. Lengths of all messages follow from agreed sizes, so that no
/// peer decides how much memory is taken.
pub(crate) struct Pipe<'a> {
    link: &'a mut dyn Link,
    out: Vec<u8>,
    input: Vec<u8>,
    at: usize,
}

impl<'a> Pipe<'a> {
    pub(crate) fn new(link: &'a mut dyn Link) -> Self {
        Self { link, out: Vec::new(), input: Vec::new(), at: 0 }
    }

    /// Sends bytes, some of them later.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        while !bytes.is_empty() {
            let room = MAX_FRAME - self.out.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.out.extend_from_slice(now);
            bytes = later;
            if self.out.len() == MAX_FRAME {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Sends what was written.
    pub(crate) fn flush(&mut self) -> Result<(), Reason> {
        match self.out.is_empty() {
            true => Ok(()),
            false => self.link.send(std::mem::take(&mut self.out)),
        }
    }

    /// Fills `out` with what the other site sends; what this one wrote leaves before.
    pub(crate) fn read(&mut self, mut out: &mut [u8]) -> Result<(), Reason> {
        self.flush()?;
        while !out.is_empty() {
            if self.at == self.input.len() {
                self.input = self.link.receive()?;
                self.at = 0;
                if self.input.is_empty() || self.input.len() > MAX_FRAME {
                    return Err(malformed("an empty or an overlong frame"));
                }
            }
            let ready = &self.input[self.at..];
            let len = ready.len().min(out.len());
            out[..len].copy_from_slice(&ready[..len]);
            self.at += len;
            out = &mut out[len..];
        }
        Ok(())
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Result<u8, Reason> {
        match self.input.get(self.at) {
            Some(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => self.array().map(|[byte]| byte),
        }
    }

    /// The next `len` bytes. Memory is taken as they come, however many were announced.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<Vec<u8>, Reason> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let have = bytes.len();
            bytes.resize(len.min(have + (4 * MAX_FRAME).max(have)), 0);
            self.read(&mut bytes[have..])?;
        }
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let mut bytes = [0; N];
        self.read(&mut bytes).map(|()| bytes)
    }

    /// Sends blocks of 16 bytes, the lowest first.
    pub(crate) fn write_blocks(&mut self, blocks: &[u128]) -> Result<(), Reason> {
        self.write(bytemuck::cast_slice(blocks))
    }

    /// Fills `out` with blocks.
    pub(crate) fn read_blocks(&mut self, out: &mut [u128]) -> Result<(), Reason> {
        self.read(bytemuck::cast_slice_mut(out))
    }

    /// The next `len` blocks.
    pub(crate) fn blocks(&mut self, len: usize) -> Result<Vec<u128>, Reason> {
        let mut blocks = vec![0; len];
        self.read_blocks(&mut blocks).map(|()| blocks)
    }

    /// Ends the conversation: nothing may be left on either side.
    pub(crate) fn finish(mut self) -> Result<(), Reason> {
        self.flush()?;
        match self.at == self.input.len() {
            true => Ok(()),
            false => Err(malformed("bytes after the last message")),
        }
    }
}

/// Bytes that are no message of the protocol.
pub(crate) fn malformed(what: &str) -> Reason {
    Reason::new(Code::Malformed, what)
}

/// A check that an honest peer passes did not hold.
pub(crate) fn cheated(how: &str) -> Reason {
    Reason::new(Code::PeerCheated, how)
}

/// Two ends of a link in one process.
#[cfg(test)]
pub(crate) mod memory {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// One end.
    pub(crate) struct End {
        to: Sender<Vec<u8>>,
        from: Receiver<Vec<u8>>,
        /// Bytes that it sent.
        pub(crate) sent: u64,
    }

    /// Both ends.
    pub(crate) fn pair() -> (End, End) {
        let ((a, from_a), (b, from_b)) = (channel(), channel());
        (End { to: a, from: from_b, sent: 0 }, End { to: b, from: from_a, sent: 0 })
    }

    fn gone<E>(_: E) -> Reason {
        Reason::new(Code::TooFewSites, "the other end is gone")
    }

    impl Link for End {
        fn send(&mut self, frame: Vec<u8>) -> Result<(), Reason> {
            assert!(!frame.is_empty() && frame.len() <= MAX_FRAME);
            self.sent += frame.len() as u64;
            self.to.send(frame).map_err(gone)
        }

        fn receive(&mut self) -> Result<Vec<u8>, Reason> {
            self.from.recv().map_err(gone)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_in_frames_and_in_order() {
        let (mut a, mut b) = memory::pair();
        let mut pipe = Pipe::new(&mut a);
        let long: Vec<u8> = (0..MAX_FRAME as u32 + 100).map(|i| i as u8).collect();
        pipe.write(b"abc").unwrap();
        pipe.write(&long).unwrap();
        pipe.write_blocks(&[1, 2 << 64]).unwrap();
        pipe.finish().unwrap();
        let mut pipe = Pipe::new(&mut b);
        assert_eq!(pipe.array(), Ok(*b"abc"));
        assert_eq!(pipe.bytes(long.len()).unwrap(), long);
        assert_eq!(pipe.blocks(2).unwrap(), [1, 2 << 64]);
        pipe.finish().unwrap();
    }

    #[test]
    fn what_was_not_agreed_on_is_refused() {
        let (mut a, mut b) = memory::pair();
        a.send(vec![1, 2, 3]).unwrap();
        let mut pipe = Pipe::new(&mut b);
        pipe.array::<2>().unwrap();
        assert_eq!(pipe.finish().unwrap_err().code, Code::Malformed);
        drop(a);
        assert!(Pipe::new(&mut b).array::<1>().is_err());
    }
}
