//! Evidence as it is carried, and as people have it in files.
//!
//! ```text
//!   file: report │ quote │ [{arch, evidence, certificate}, …] │ {nvidia, snp, tdx, nras} │ token ─ read ─▶ Bundle
//!   Bundle ─ encode ─▶ 1, n, n × (kind, body, certificates, collateral?, arch?, developer mode) ─ decode ─▶ Bundle
//! ```
//! What a bundle says of itself is a hint of where to look. Nothing of it is believed: which device it is, its
//! certificate says, and which challenge it answers, what is signed.

mod files;

use privet_crypto::{DecodeError, Digest, Reader, Writer};

use crate::appraisal::Kind;
use crate::refusal::{Code, Refusal};

/// Most bytes of a bundle.
pub const MAX_BUNDLE: usize = 1 << 20;
/// Most pieces of one.
pub const MAX_PIECES: usize = 64;
/// Most files with certificates of a piece.
const MAX_FILES: usize = 16;
/// Most bytes of the name of an architecture.
const MAX_ARCH: usize = 32;
/// The form of the encoding.
const VERSION: u8 = 1;

/// Evidence of one device or one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What it is said to be.
    pub kind: Kind,
    /// The report, the quote or the token.
    pub body: Vec<u8>,
    /// Certificates that came with it, each PEM or DER, the device's own first.
    pub certificates: Vec<Vec<u8>>,
    /// What Intel says of a platform.
    pub collateral: Option<Vec<u8>>,
    /// The architecture that it is said to be of.
    pub arch: Option<String>,
    /// Whether the driver says that the device is in developer mode. Nobody signs it: it only speaks against.
    pub developer_mode: bool,
}

impl Evidence {
    /// Evidence of a kind and nothing beside it.
    pub fn new(kind: Kind, body: Vec<u8>) -> Self {
        Self {
            kind,
            body,
            certificates: Vec::new(),
            collateral: None,
            arch: None,
            developer_mode: false,
        }
    }
}

/// Evidence of all devices of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle(pub Vec<Evidence>);

const KINDS: [Kind; 5] = [Kind::NvidiaGpu, Kind::NvidiaSwitch, Kind::Snp, Kind::Tdx, Kind::Nras];

impl Bundle {
    /// All of it, in its one form.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(VERSION).count(self.0.len());
        for piece in &self.0 {
            let kind = KINDS.iter().position(|kind| *kind == piece.kind).unwrap_or(KINDS.len());
            writer.u8(kind as u8).bytes(&piece.body).count(piece.certificates.len());
            for file in &piece.certificates {
                writer.bytes(file);
            }
            for optional in [piece.collateral.as_deref(), piece.arch.as_ref().map(String::as_bytes)]
            {
                writer.u8(optional.is_some().into());
                if let Some(bytes) = optional {
                    writer.bytes(bytes);
                }
            }
            writer.u8(piece.developer_mode.into());
        }
        writer.finish()
    }

    /// Reads a peer's.
    ///
    /// # Errors
    /// `TooLarge`, `Malformed` or `TrailingData`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_BUNDLE {
            let detail = format!("evidence of {} bytes, at most {MAX_BUNDLE}", bytes.len());
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let mut reader = Reader::new(bytes);
        let pieces = pieces(&mut reader).and_then(|pieces| reader.end().map(|()| pieces));
        pieces.map(Self).map_err(|error| {
            let code = match error {
                DecodeError::TooLong(_) => Code::TooLarge,
                DecodeError::Trailing => Code::TrailingData,
                DecodeError::Short(_) | DecodeError::Invalid(_) => Code::Malformed,
            };
            Refusal::new(code, format!("a bundle of evidence: {error}"))
        })
    }

    /// Takes a file of a user's, whose kind shows in its first bytes, with the certificates that belong to what of
    /// it has none, and collateral for a quote.
    ///
    /// # Errors
    /// `TooLarge` or `Malformed`, when it is of no kind that is known.
    pub fn read(
        evidence: &[u8],
        chains: &[Vec<u8>],
        collateral: Option<&[u8]>,
    ) -> Result<Self, Refusal> {
        files::read(evidence, chains, collateral)
    }

    /// SHA-256 of its encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// Kinds that it is said to hold, each once.
    pub fn kinds(&self) -> std::collections::BTreeSet<Kind> {
        self.0.iter().map(|piece| piece.kind).collect()
    }
}

fn pieces(reader: &mut Reader<'_>) -> Result<Vec<Evidence>, DecodeError> {
    if reader.u8("version")? != VERSION {
        return Err(DecodeError::Invalid("version"));
    }
    (0..reader.count(MAX_PIECES, "pieces")?).map(|_| piece(reader)).collect()
}

fn piece(reader: &mut Reader<'_>) -> Result<Evidence, DecodeError> {
    let kind = KINDS.get(usize::from(reader.u8("kind")?)).ok_or(DecodeError::Invalid("kind"))?;
    let body = reader.bytes(MAX_BUNDLE, "body")?.to_vec();
    let files = reader.count(MAX_FILES, "certificates")?;
    let certificates = (0..files)
        .map(|_| reader.bytes(MAX_BUNDLE, "certificate").map(<[u8]>::to_vec))
        .collect::<Result<_, _>>()?;
    let collateral = match flag(reader, "collateral")? {
        true => Some(reader.bytes(MAX_BUNDLE, "collateral")?.to_vec()),
        false => None,
    };
    let arch = match flag(reader, "arch")? {
        true => Some(reader.text(MAX_ARCH, "arch")?.to_owned()),
        false => None,
    };
    let developer_mode = flag(reader, "developer mode")?;
    Ok(Evidence { kind: *kind, body, certificates, collateral, arch, developer_mode })
}

fn flag(reader: &mut Reader<'_>, field: &'static str) -> Result<bool, DecodeError> {
    match reader.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid(field)),
    }
}

/// Each encoding is that of one bundle, for fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_decode(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::decode(bytes) {
        assert_eq!(bundle.encode(), bytes);
    }
    let _ = Bundle::read(bytes, &[], None);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece() -> impl Strategy<Value = Evidence> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        (
            proptest::sample::select(&KINDS[..]),
            bytes(),
            proptest::collection::vec(bytes(), 0..4),
            proptest::option::of(bytes()),
            proptest::option::of("[A-Z]{0,32}"),
            any::<bool>(),
        )
            .prop_map(|(kind, body, certificates, collateral, arch, developer_mode)| {
                Evidence { kind, body, certificates, collateral, arch, developer_mode }
            })
    }

    proptest! {
        #[test]
        fn bundles_come_back_and_have_one_form(pieces in proptest::collection::vec(piece(), 0..5)) {
            let bundle = Bundle(pieces);
            prop_assert_eq!(Bundle::decode(&bundle.encode()), Ok(bundle));
        }

        #[test]
        fn other_bytes_are_one_bundle_or_none(
            pieces in proptest::collection::vec(piece(), 1..3),
            at: usize,
            with in proptest::collection::vec(any::<u8>(), 1..6),
        ) {
            let mut bytes = Bundle(pieces).encode();
            let at = at % bytes.len();
            bytes.splice(at..(at + with.len()).min(bytes.len()), with);
            try_decode(&bytes);
        }
    }

    #[test]
    fn what_is_too_much_cut_short_or_longer_is_refused() {
        let code = |bytes: &[u8]| Bundle::decode(bytes).unwrap_err().code;
        let one =
            Evidence { certificates: vec![vec![2; 9]], ..Evidence::new(Kind::Snp, vec![1; 9]) };
        let bytes = Bundle(vec![one.clone()]).encode();
        for len in 0..bytes.len() {
            assert_eq!(code(&bytes[..len]), Code::Malformed, "{len}");
        }
        assert_eq!(code(&[&bytes[..], &[0]].concat()), Code::TrailingData);
        assert_eq!(code(&Bundle(vec![one.clone(); MAX_PIECES + 1]).encode()), Code::TooLarge);
        assert!(Bundle::decode(&Bundle(vec![one.clone(); MAX_PIECES]).encode()).is_ok());
        let files = Evidence { certificates: vec![vec![2]; MAX_FILES + 1], ..one.clone() };
        assert_eq!(code(&Bundle(vec![files]).encode()), Code::TooLarge);
        let arch = Evidence { arch: Some("A".repeat(MAX_ARCH + 1)), ..one.clone() };
        assert_eq!(code(&Bundle(vec![arch]).encode()), Code::TooLarge);
        assert_eq!(code(&vec![1; MAX_BUNDLE + 1]), Code::TooLarge);
        let mut other = bytes.clone();
        other[0] = 2;
        assert_eq!(code(&other), Code::Malformed);
        other = bytes.clone();
        other[5] = 5;
        assert_eq!(code(&other), Code::Malformed);
        other = bytes.clone();
        *other.last_mut().unwrap() = 2;
        assert_eq!(code(&other), Code::Malformed);
        assert_ne!(Bundle(vec![one]).digest(), Bundle::default().digest());
    }
}
