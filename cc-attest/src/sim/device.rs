//! A device that signs reports.

use data_encoding::BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};

use zeroize::Zeroizing;

use super::reference::Values;
use super::{Dates, Maker, SimError};
use crate::nvidia::chip::Family;
use crate::nvidia::opaque::{Mode, Pdi, kind};
use crate::nvidia::spdm::MEASUREMENT;
use crate::rim::{Measurement, Role};

/// What a device is to be.
#[derive(Debug, Clone)]
pub struct Model {
    /// The chip, as `GH100`.
    pub chip: String,
    /// Its family.
    pub family: Family,
    /// Version of its driver; none for a switch.
    pub driver: Option<String>,
    /// Version of its firmware: five bytes in hex with dots between.
    pub vbios: String,
    /// The firmware that its certificate names; none for none.
    pub fwid: Option<[u8; MEASUREMENT]>,
    /// When its certificate holds.
    pub dates: Dates,
}

impl Model {
    fn new(chip: &str, family: Family, driver: Option<&str>, vbios: &str) -> Self {
        let driver = driver.map(str::to_owned);
        let (chip, vbios) = (chip.to_owned(), vbios.to_owned());
        Self {
            chip,
            family,
            driver,
            vbios,
            fwid: Some([0x5a; MEASUREMENT]),
            dates: Dates::default(),
        }
    }

    /// A GPU of the Hopper family.
    pub fn hopper() -> Self {
        Self::new("GH100", Family::Hopper, Some("550.90.07"), "96.00.9f.00.01")
    }

    /// A GPU of the Blackwell family.
    pub fn blackwell() -> Self {
        Self::new("GB100", Family::Blackwell, Some("575.32"), "97.00.88.00.0f")
    }

    /// A switch.
    pub fn switch() -> Self {
        Self { fwid: None, ..Self::new("LS10", Family::Ls10, None, "96.10.55.00.01") }
    }
}

/// A device in software. What it reports can be changed, as firmware changes; its certificate cannot.
pub struct Device {
    model: Model,
    key: EcdsaKeyPair,
    /// The same as PKCS #8.
    secret: Zeroizing<Vec<u8>>,
    chain: Vec<Vec<u8>>,
    /// What it measures.
    pub measurements: Vec<[u8; MEASUREMENT]>,
    /// The version of the driver that it reports.
    pub driver: Option<String>,
    /// The version of the firmware that it reports.
    pub vbios: String,
    /// The firmware that it reports to sign with.
    pub fwid: Option<[u8; MEASUREMENT]>,
    /// The mode that it reports.
    pub mode: Option<Mode>,
    /// Names of switches.
    pub pdis: Vec<Pdi>,
    /// Fields beside these.
    pub fields: Vec<(u16, Vec<u8>)>,
}

/// Measurements of a GPU, and of a switch.
const BLOCKS: (usize, usize) = (64, 31);
/// Active ones of the firmware of a GPU, and of its driver.
const VBIOS: std::ops::Range<usize> = 0..12;
const DRIVER: std::ops::Range<usize> = 20..41;

impl Maker {
    /// A new device with its own key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn device(&self, model: Model) -> Result<Device, SimError> {
        let (key, chain) =
            self.identity(&model.chip, model.family, model.fwid.as_ref(), model.dates)?;
        let mut device = Device::of(model, key.serialized_der(), chain)?;
        let random = SystemRandom::new();
        for value in &mut device.measurements {
            random.fill(value)?;
        }
        Ok(device)
    }
}

impl Device {
    /// A device of a key (PKCS #8) and its chain, which measures nothing but zeros.
    pub(super) fn of(model: Model, secret: &[u8], chain: Vec<Vec<u8>>) -> Result<Self, SimError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, secret, &random)?;
        let secret = Zeroizing::new(secret.to_vec());
        let count = if model.family.is_switch() { BLOCKS.1 } else { BLOCKS.0 };
        let measurements = vec![[0; MEASUREMENT]; count];
        let text = |text: &str| [text.as_bytes(), &[0]].concat();
        let fields = match model.family {
            Family::Ls10 => Vec::new(),
            Family::Hopper | Family::Blackwell => vec![
                (kind::CHIP_SKU, text("882")),
                (kind::PROJECT, text("1010")),
                (kind::PROJECT_SKU, text("0200")),
                (kind::NVDEC0, vec![0x55]),
            ],
        };
        let (driver, vbios, fwid) = (model.driver.clone(), model.vbios.clone(), model.fwid);
        let (mode, pdis) = (None, Vec::new());
        Ok(Self {
            model,
            key,
            secret,
            chain,
            measurements,
            driver,
            vbios,
            fwid,
            mode,
            pdis,
            fields,
        })
    }

    /// Its key as PKCS #8: whoever has it is the device.
    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// What it was made as.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Its certificates in DER, the leaf first.
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The same in PEM.
    pub fn chain(&self) -> Vec<u8> {
        let mut pem = String::new();
        for der in &self.chain {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in BASE64.encode(der).as_bytes().chunks(64) {
                pem.push_str(&String::from_utf8_lossy(line));
                pem.push('\n');
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem.into_bytes()
    }

    /// A report that answers a challenge.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn report(&self, nonce: &[u8; 32]) -> Result<Vec<u8>, SimError> {
        let mut report = vec![0x11, 0xe0, 0x01, 0xff];
        report.extend(nonce);
        report.extend([0, 0x11, 0x60, 0, 0]);
        let record: Vec<u8> = (1u8..).zip(&self.measurements).flat_map(block).collect();
        report.push(self.measurements.len() as u8);
        report.extend((record.len() as u32).to_le_bytes().iter().take(3));
        report.extend(record);
        let mut own = [0; 32];
        SystemRandom::new().fill(&mut own)?;
        report.extend(own);
        let mut fields = Vec::new();
        for (kind, value) in self.all_fields() {
            fields.extend(kind.to_le_bytes());
            fields.extend((value.len() as u16).to_le_bytes());
            fields.extend(value);
        }
        report.extend((fields.len() as u16).to_le_bytes());
        report.extend(fields);
        self.sign(report)
    }

    /// Signs the bytes of a report as they are.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn sign(&self, mut report: Vec<u8>) -> Result<Vec<u8>, SimError> {
        let signature = self.key.sign(&SystemRandom::new(), &report)?;
        report.extend(signature.as_ref());
        Ok(report)
    }

    fn all_fields(&self) -> Vec<(u16, Vec<u8>)> {
        let mut fields = vec![(kind::VBIOS, self.vbios_bytes())];
        if let Some(driver) = &self.driver {
            fields.push((kind::DRIVER, [driver.as_bytes(), &[0]].concat()));
        }
        fields.extend(self.fields.iter().cloned());
        fields.extend(self.fwid.map(|fwid| (kind::FWID, fwid.to_vec())));
        if !self.pdis.is_empty() {
            fields.push((kind::SWITCH_PDI, self.pdis.concat()));
        }
        if let Some(mode) = self.mode {
            let flag = match mode {
                Mode::SinglePassthrough => 0,
                Mode::MultiPassthrough => 1,
                Mode::ProtectedPcie => 2,
            };
            fields.extend([(kind::VERSION, vec![1, 0]), (kind::FEATURE_FLAG, vec![flag, 0])]);
        }
        fields
    }

    fn vbios_bytes(&self) -> Vec<u8> {
        if self.model.family.is_switch() {
            return self.vbios.as_bytes().to_vec();
        }
        let byte = |part| u8::from_str_radix(part, 16).unwrap_or_default();
        let mut parts: Vec<u8> = self.vbios.split('.').map(byte).collect();
        parts.resize(5, 0);
        let last = parts.split_off(4);
        parts.reverse();
        [parts, last, vec![0; 3]].concat()
    }

    fn values(&self, role: Role, active: std::ops::Range<usize>) -> Values {
        let version = match role {
            Role::Driver => self.driver.clone().unwrap_or_default(),
            Role::Vbios => self.vbios.to_ascii_uppercase(),
        };
        let measurements = self.measurements.iter().enumerate().map(|(index, value)| {
            let active = active.contains(&index);
            let value = if active { *value } else { [0; MEASUREMENT] };
            Measurement { index, active, alternatives: vec![value] }
        });
        let edition = if self.model.family.is_switch() { "SWITCH" } else { "GPU" };
        Values {
            product: self.model.chip.clone(),
            edition: edition.to_owned(),
            version,
            measurements: measurements.collect(),
        }
    }

    /// Reference values that its driver meets.
    pub fn driver_values(&self) -> Values {
        self.values(Role::Driver, DRIVER)
    }

    /// Reference values that its firmware meets.
    pub fn vbios_values(&self) -> Values {
        let active = if self.model.family.is_switch() { 0..BLOCKS.1 } else { VBIOS };
        self.values(Role::Vbios, active)
    }
}

fn block((index, value): (u8, &[u8; MEASUREMENT])) -> Vec<u8> {
    [&[index, 1, 51, 0, 1, 48, 0][..], value].concat()
}
