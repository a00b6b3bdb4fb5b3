//! Roots that are made at run time, and what they issue.

pub use rcgen::RevocationReason;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CustomExtension, DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PublicKeyData, RevokedCertParams, SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};

use super::SimError;
use crate::nvidia::chip::Family;
use crate::nvidia::spdm::MEASUREMENT;
use crate::roots::Root;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// From when to when a certificate holds: years, months, days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dates {
    /// The first day.
    pub from: (i32, u8, u8),
    /// The last.
    pub to: (i32, u8, u8),
}

impl Default for Dates {
    /// As devices have them: they do not end.
    fn default() -> Self {
        Self { from: (2020, 1, 1), to: (9999, 12, 31) }
    }
}

/// Makes devices in software and their reference files.
pub struct Maker {
    devices: Issuer,
    references: Issuer,
    /// Who signs reference files; the last to be asked for.
    pub(super) signer: KeyPair,
    pub(super) signer_chain: Vec<Vec<u8>>,
}

impl Maker {
    /// A maker with new roots, whose reference files do not expire.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> Result<Self, SimError> {
        Self::dated(Dates::default())
    }

    /// A maker whose reference files are signed with a certificate of these dates.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn dated(dates: Dates) -> Result<Self, SimError> {
        let root = |name| {
            Ok::<_, SimError>(Issuer::self_signed(authority(name, Dates::default())?, key()?)?)
        };
        let devices = root("Simulated Device Identity CA")?;
        let references = root("Simulated RIM signing Root CA")?;
        let signer = key()?;
        let certificate = leaf("Simulated RIM Signer", dates)?.signed_by(&signer, &references)?;
        let signer_chain = vec![certificate.der().to_vec(), references.der().to_vec()];
        Ok(Self { devices, references, signer, signer_chain })
    }

    /// The root of its devices.
    pub fn device_root(&self) -> Root {
        Root::simulated(self.devices.der().to_vec())
    }

    /// The root of its reference files.
    pub fn rim_root(&self) -> Root {
        Root::simulated(self.references.der().to_vec())
    }

    /// Revocation lists of both roots, that of devices first, with these serial numbers on them.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn revocation_lists(
        &self,
        revoked: &[(&[u8], Option<RevocationReason>)],
        dates: Dates,
    ) -> Result<[Vec<u8>; 2], SimError> {
        let ((year, month, day), (last_year, last_month, last_day)) = (dates.from, dates.to);
        let this_update = date_time_ymd(year, month, day);
        let entry = |(serial, reason): &(&[u8], Option<RevocationReason>)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: this_update,
            reason_code: *reason,
            invalidity_date: None,
        };
        let list = |issuer: &Issuer| {
            let params = CertificateRevocationListParams {
                this_update,
                next_update: date_time_ymd(last_year, last_month, last_day),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: revoked.iter().map(entry).collect(),
                key_identifier_method: KeyIdMethod::Sha384,
            };
            Ok::<_, SimError>(params.signed_by(issuer)?.der().to_vec())
        };
        Ok([list(&self.devices)?, list(&self.references)?])
    }

    /// A key and its chain, the leaf first, for a chip with a firmware.
    pub(super) fn identity(
        &self,
        chip: &str,
        family: Family,
        fwid: Option<&[u8; MEASUREMENT]>,
        dates: Dates,
    ) -> Result<(KeyPair, Vec<Vec<u8>>), SimError> {
        let wide = Dates::default();
        let issue = |name: &str, issuer: &Issuer| {
            Ok::<_, SimError>(Issuer::signed_by(authority(name, wide)?, key()?, issuer)?)
        };
        let unit = if family.is_switch() { "FSP" } else { "GSP" };
        let identity = issue(&format!("Simulated {chip} Identity"), &self.devices)?;
        let brom = issue(&format!("{chip} A01 {unit} BROM"), &identity)?;
        let own = key()?;
        let mut params = leaf(&format!("{chip} A01 {unit} FMC LF"), dates)?;
        if let Some(fwid) = fwid {
            params.custom_extensions.push(match family {
                Family::Blackwell => tcb_info(chip, fwid),
                Family::Hopper | Family::Ls10 => composite(&own, fwid),
            });
        }
        let certificate = params.signed_by(&own, &brom)?;
        let chain = [certificate.der(), brom.der(), identity.der(), self.devices.der()];
        Ok((own, chain.iter().map(|der| der.to_vec()).collect()))
    }
}

fn key() -> Result<KeyPair, SimError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?)
}

fn named(name: &str, dates: Dates) -> Result<CertificateParams, SimError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let ((year, month, day), (last_year, last_month, last_day)) = (dates.from, dates.to);
    params.not_before = date_time_ymd(year, month, day);
    params.not_after = date_time_ymd(last_year, last_month, last_day);
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial)?;
    if let Some(first) = serial.first_mut() {
        // A positive number of 16 bytes.
        *first = *first & 0x3f | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn authority(name: &str, dates: Dates) -> Result<CertificateParams, SimError> {
    let mut params = named(name, dates)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf(name: &str, dates: Dates) -> Result<CertificateParams, SimError> {
    let mut params = named(name, dates)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

const SEQUENCE: u8 = 0x30;

/// An element of DER whose contents are shorter than 64 KiB.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = match contents.len() {
        short @ 0..=0x7f => vec![short as u8],
        long => [&[0x82][..], &(long as u16).to_be_bytes()].concat(),
    };
    // The shortest form of a length of one byte.
    let length = match length.as_slice() {
        [0x82, 0, one] => vec![0x81, *one],
        _ => length,
    };
    [&[tag][..], &length, contents].concat()
}

/// SEQUENCE { sha384, digest }.
fn digest(value: &[u8]) -> Vec<u8> {
    let sha384 = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
    der(SEQUENCE, &[&sha384[..], &der(4, value)].concat())
}

/// As Hopper GPUs have it.
fn composite(key: &KeyPair, fwid: &[u8]) -> CustomExtension {
    let contents = [&[2, 1, 1][..], &key.subject_public_key_info(), &digest(fwid)].concat();
    CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], der(SEQUENCE, &contents))
}

/// As Blackwell GPUs have it: a second FWID of zeros.
fn tcb_info(chip: &str, fwid: &[u8]) -> CustomExtension {
    let model = format!("{chip} A01 GSP");
    let contents = [
        der(0x80, b"NVIDIA"),
        der(0x81, model.as_bytes()),
        der(0x82, b"01"),
        der(0x83, &[1]),
        der(0x84, &[0]),
        der(0x85, &[0]),
        der(0xa6, &[digest(fwid), digest(&[0; MEASUREMENT])].concat()),
        der(0x87, &[0, 0x80, 0, 0, 1]),
    ];
    CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1, 1], der(SEQUENCE, &contents.concat()))
}
