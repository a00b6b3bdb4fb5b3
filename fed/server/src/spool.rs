//! Uploads, kept whole until their round is over.
//!
//! An upload is written to memory, past a limit to disk; its length and digest are checked when it
//! ends. Only then does it count.

use std::io::{Read, Seek, SeekFrom, Write};

use privet_core::aggregate::UploadHeader;
use privet_core::tensor::{Dtype, Schema};
use privet_core::{Code, Reason};
use privet_gate::{BodyCheck, Head};
use tempfile::SpooledTempFile;

/// Bytes of an upload that stay in memory.
const IN_MEMORY: usize = 4 << 20;

/// An upload that is coming in.
pub(crate) struct Incoming {
    head: Head,
    check: BodyCheck,
    file: SpooledTempFile,
}

/// An upload that has arrived whole.
pub(crate) struct Whole {
    header: UploadHeader,
    file: SpooledTempFile,
}

fn storage(error: std::io::Error) -> Reason {
    Reason::new(Code::StorageFailed, format!("the spool: {error}"))
}

impl Incoming {
    pub(crate) fn new(head: Head) -> Self {
        Self { check: head.body(), head, file: SpooledTempFile::new(IN_MEMORY) }
    }

    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), Reason> {
        self.check.update(piece)?;
        self.file.write_all(piece).map_err(storage)
    }

    pub(crate) fn finish(mut self) -> Result<Whole, Reason> {
        self.check.finish()?;
        self.file.seek(SeekFrom::Start(0)).map_err(storage)?;
        // What is sealed holds no floats, and can be looked at by nobody.
        if !self.head.is_sealed() {
            finite(&self.head.header.schema, &mut self.file)?;
            self.file.seek(SeekFrom::Start(0)).map_err(storage)?;
        }
        Ok(Whole { header: self.head.header, file: self.file })
    }
}

/// One site's NaN must not become everybody's: floats are looked at before they count. Doubles
/// stay within the range of singles, so that no sum of them overflows.
fn finite(schema: &Schema, body: &mut impl Read) -> Result<(), Reason> {
    let mut block = vec![0u8; 64 << 10];
    for slot in schema.0.values() {
        let mut left = slot.shape.elements() * slot.dtype.size() as u64;
        while left > 0 {
            let len = left.min(block.len() as u64) as usize;
            let bytes = &mut block[..len];
            body.read_exact(bytes).map_err(storage)?;
            left -= len as u64;
            let single = |&b: &[u8; 4]| f32::from_le_bytes(b).is_finite();
            let double = |&b: &[u8; 8]| f64::from_le_bytes(b).abs() <= f64::from(f32::MAX);
            let fine = match slot.dtype {
                Dtype::F32 => bytes.as_chunks().0.iter().fold(true, |fine, b| fine & single(b)),
                Dtype::F64 => bytes.as_chunks().0.iter().fold(true, |fine, b| fine & double(b)),
                Dtype::I32 | Dtype::I64 => true,
            };
            if !fine {
                return Err(Reason::new(Code::NotFinite, "an upload holds NaN or an infinity"));
            }
        }
    }
    Ok(())
}

impl Whole {
    pub(crate) fn header(&self) -> &UploadHeader {
        &self.header
    }

    /// Bytes of the body.
    pub(crate) fn len(&self) -> u64 {
        self.header.len
    }

    pub(crate) fn into_parts(self) -> (UploadHeader, impl Read) {
        (self.header, self.file)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use privet_core::message::DataKind;

    fn head(body: &[u8]) -> Head {
        let header = UploadHeader {
            task: "train".into(),
            round: 1,
            kind: DataKind::WeightDiff,
            schema: Default::default(),
            step: None,
            weight: 1.0,
            metrics: Default::default(),
            receipt: None,
            seal: None,
            len: 0,
            digest: [0; 32],
        };
        Head::new(header, [body])
    }

    /// An upload of these bytes.
    pub(crate) fn whole(body: &[u8]) -> Whole {
        let mut incoming = Incoming::new(head(body));
        incoming.write(body).unwrap();
        incoming.finish().unwrap()
    }

    #[test]
    fn a_float_that_is_none_does_not_count() {
        use privet_core::tensor::{Shape, Slot};
        let spool = |dtype, body: Vec<u8>| {
            let mut head = head(&body);
            let shape = Shape::new(vec![2]).unwrap();
            head.header.schema.0.insert("w".into(), Slot { shape, dtype });
            let mut incoming = Incoming::new(head);
            incoming.write(&body).unwrap();
            incoming.finish().err().map(|reason| reason.code)
        };
        let singles = |x: f32| [1.0, x].iter().flat_map(|x| x.to_le_bytes()).collect();
        let doubles = |x: f64| [1.0, x].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(spool(Dtype::F32, singles(f32::MAX)), None);
        assert_eq!(spool(Dtype::F32, singles(f32::NAN)), Some(Code::NotFinite));
        assert_eq!(spool(Dtype::F64, doubles(-1e38)), None);
        assert_eq!(spool(Dtype::F64, doubles(1e308)), Some(Code::NotFinite));
        assert_eq!(spool(Dtype::I32, vec![255; 8]), None);
    }

    #[test]
    fn an_upload_counts_only_whole_and_unchanged() {
        let body = vec![7u8; IN_MEMORY + 10];
        let spool = |pieces: &[&[u8]]| {
            let mut incoming = Incoming::new(head(&body));
            for piece in pieces {
                incoming.write(piece)?;
            }
            incoming.finish()
        };
        let (_, mut read) = spool(&[&body[..100], &body[100..]]).unwrap().into_parts();
        let mut back = Vec::new();
        read.read_to_end(&mut back).unwrap();
        assert_eq!(back, body);
        for bad in [&[&body[..100]][..], &[&body[..], b"x"], &[&[8; 10], &body[10..]], &[]] {
            assert_eq!(spool(bad).err().unwrap().code, Code::Malformed);
        }
    }
}
