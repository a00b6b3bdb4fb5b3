//! A device in software that outlives its process: its key, certificates and measurements in a file.
//!
//! It may be told to change its firmware after so many reports, as firmware does that somebody updates.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::{Device, Maker, Model, SimError};
use crate::appraisal::Kind;
use crate::binding::ReportData;
use crate::evidence::{Bundle, Evidence};
use crate::source::{Source, Unavailable};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Saved {
    key: String,
    chain: Vec<String>,
    measurements: Vec<String>,
    changes_after: Option<u64>,
}

/// One vendor of devices in software, its root and its reference files: all devices of it measure the same.
pub struct Vendor {
    maker: Maker,
    template: Device,
}

impl Vendor {
    /// A new one, of GPUs of the Hopper family.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> Result<Self, SimError> {
        let maker = Maker::new()?;
        let template = maker.device(Model::hopper())?;
        Ok(Self { maker, template })
    }

    /// What a verifier of its devices is given, by name: their root, the root of its reference files, and those.
    ///
    /// # Errors
    /// When a file could not be signed.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, SimError> {
        Ok(vec![
            ("simulated-root.der", self.maker.device_root().der().to_vec()),
            ("simulated-signer.der", self.maker.rim_root().der().to_vec()),
            ("simulated-driver.xml", self.maker.reference(&self.template.driver_values())?),
            ("simulated-vbios.xml", self.maker.reference(&self.template.vbios_values())?),
        ])
    }

    /// Writes a new device, whose firmware changes after so many reports of one process.
    ///
    /// # Errors
    /// When it could not be made or written.
    pub fn device(&self, path: &Path, changes_after: Option<u64>) -> Result<(), SimError> {
        let device = self.maker.device(Model::hopper())?;
        Saved {
            key: BASE64.encode(device.secret()),
            chain: device.certificates().iter().map(|der| BASE64.encode(der)).collect(),
            measurements: self.template.measurements.iter().map(|m| HEXLOWER.encode(m)).collect(),
            changes_after,
        }
        .write(path)
    }
}

impl Saved {
    fn read(path: &Path) -> Result<Self, SimError> {
        let text = std::fs::read(path).map_err(|error| SimError(error.kind().to_string()))?;
        serde_json::from_slice(&text).map_err(|_| SimError("the file is none of a device".into()))
    }

    fn write(&self, path: &Path) -> Result<(), SimError> {
        let failed = |error: std::io::Error| SimError(error.kind().to_string());
        let text = serde_json::to_vec(self).map_err(std::io::Error::other).map_err(failed)?;
        std::fs::write(path, text).map_err(failed)
    }
}

/// Evidence of a saved device.
pub struct SavedDevice {
    path: PathBuf,
    reports: AtomicU64,
}

impl SavedDevice {
    /// The device in a file.
    pub fn at(path: PathBuf) -> Self {
        Self { path, reports: AtomicU64::new(0) }
    }

    fn device(&self) -> Result<Device, SimError> {
        let saved = Saved::read(&self.path)?;
        let broken = || SimError("the file is none of a device".into());
        let base64 = |text: &String| BASE64.decode(text.as_bytes()).map_err(|_| broken());
        let measured = |text: &String| {
            let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| broken())?;
            bytes.try_into().map_err(|_| broken())
        };
        let chain = saved.chain.iter().map(base64).collect::<Result<_, _>>()?;
        let mut device = Device::of(Model::hopper(), &base64(&saved.key)?, chain)?;
        device.measurements = saved.measurements.iter().map(measured).collect::<Result<_, _>>()?;
        let made = self.reports.fetch_add(1, Ordering::SeqCst);
        if saved.changes_after.is_some_and(|after| made >= after)
            && let Some([first, ..]) = device.measurements.first_mut()
        {
            *first ^= 1;
        }
        Ok(device)
    }
}

impl Source for SavedDevice {
    fn collect(&self, data: &ReportData) -> Result<Bundle, Unavailable> {
        let shown = || {
            let device = self.device()?;
            let report = device.report(&data.for_gpu())?;
            let evidence = Evidence {
                certificates: vec![device.chain()],
                arch: Some("HOPPER".to_owned()),
                ..Evidence::new(Kind::NvidiaGpu, report)
            };
            Ok::<_, SimError>(Bundle(vec![evidence]))
        };
        shown().map_err(|error| Unavailable(error.to_string()))
    }
}
