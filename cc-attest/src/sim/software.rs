//! Devices in software as a source of evidence: they answer whatever is asked.

use std::sync::{Mutex, PoisonError};

use super::{Device, Maker, Model, SimError};
use crate::appraisal::Kind;
use crate::binding::ReportData;
use crate::evidence::{Bundle, Evidence};
use crate::source::{Source, Unavailable};

/// When firmware changes, and at which measurement.
#[derive(Debug, Clone, Copy)]
struct Change {
    after: u64,
    index: usize,
}

struct Machine {
    devices: Vec<Device>,
    collected: u64,
    change: Option<Change>,
}

/// Devices of one machine, with roots of their own that nobody trusts who was not handed them.
pub struct Software {
    machine: Mutex<Machine>,
    files: Vec<(String, Vec<u8>)>,
}

impl Software {
    /// One GPU of the Hopper family.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> Result<Self, SimError> {
        Self::of(&[Model::hopper()])
    }

    /// Devices of these models; those of one model run the same driver and firmware.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn of(models: &[Model]) -> Result<Self, SimError> {
        let maker = Maker::new()?;
        let mut devices: Vec<Device> = Vec::new();
        let mut files = vec![
            ("simulated-devices.der".to_owned(), maker.device_root().der().to_vec()),
            ("simulated-rims.der".to_owned(), maker.rim_root().der().to_vec()),
        ];
        for model in models {
            let mut device = maker.device(model.clone())?;
            let same = |other: &&Device| {
                other.model().chip == model.chip
                    && (&other.driver, &other.vbios) == (&device.driver, &device.vbios)
            };
            if let Some(first) = devices.iter().find(same) {
                device.measurements.clone_from(&first.measurements);
            } else {
                let driver = device.driver.is_some().then(|| device.driver_values());
                for values in driver.into_iter().chain([device.vbios_values()]) {
                    let name = format!("simulated-{}-{}.xml", values.product, values.version);
                    files.push((name, maker.reference(&values)?));
                }
            }
            devices.push(device);
        }
        let machine = Machine { devices, collected: 0, change: None };
        Ok(Self { machine: Mutex::new(machine), files })
    }

    /// Changes the firmware of all devices, as it shows in one measurement (from 0, as in reference values), once
    /// evidence was collected so many times.
    #[must_use]
    pub fn changing(self, after: u64, index: usize) -> Self {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).change =
            Some(Change { after, index });
        self
    }

    /// Its roots and reference files, by name: what a verifier whose policy allows devices in software is handed.
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }
}

impl Source for Software {
    fn collect(&self, data: &ReportData) -> Result<Bundle, Unavailable> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(change) = machine.change
            && machine.collected == change.after
        {
            for device in &mut machine.devices {
                if let Some([first, ..]) = device.measurements.get_mut(change.index) {
                    *first ^= 1;
                }
            }
        }
        machine.collected += 1;
        let nonce = data.for_gpu();
        let piece = |device: &Device| {
            let report = device.report(&nonce).map_err(|error| Unavailable(error.to_string()))?;
            let family = device.model().family;
            let kind = if family.is_switch() { Kind::NvidiaSwitch } else { Kind::NvidiaGpu };
            Ok(Evidence {
                certificates: device.certificates().to_vec(),
                arch: Some(family.as_str().to_owned()),
                ..Evidence::new(kind, report)
            })
        };
        machine.devices.iter().map(piece).collect::<Result<_, _>>().map(Bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::Verdict;
    use crate::policy::{Policy, Profile};
    use crate::refusal::Code;
    use crate::testing::{at, report_data};
    use crate::verifier::{Expected, Verifier};

    fn verifier(software: &Software) -> Verifier {
        let mut verifier =
            Verifier::new(Policy { allow_simulated: true, ..Policy::named(Profile::GpuOnly) });
        for (name, file) in software.files() {
            verifier.add(name, file).unwrap();
        }
        verifier
    }

    fn codes(software: &Software, verifier: &Verifier, number: u8) -> (Verdict, Vec<Code>) {
        let data = report_data(number);
        let bundle = software.collect(&data).unwrap();
        let bundle = Bundle::decode(&bundle.encode()).unwrap();
        let now = at("2026-11-26T00:00:00Z");
        let appraisal = verifier.appraise(&bundle, &Expected::Data(data), now);
        assert!(appraisal.devices.iter().all(|device| device.simulated));
        (appraisal.verdict, appraisal.refusals.iter().map(|refusal| refusal.code).collect())
    }

    #[test]
    fn devices_in_software_answer_every_challenge_and_never_affirm() {
        let models = [Model::hopper(), Model::hopper(), Model::blackwell()];
        let software = Software::of(&models).unwrap();
        let verifier = verifier(&software);
        for number in 0..3 {
            assert_eq!(codes(&software, &verifier, number), (Verdict::Warning, vec![]));
        }
    }

    #[test]
    fn firmware_changes_when_it_was_told_to() {
        let software = Software::new().unwrap().changing(2, 25);
        let verifier = verifier(&software);
        for number in 0..4 {
            let expected = match number {
                0 | 1 => (Verdict::Warning, vec![]),
                _ => (Verdict::Contraindicated, vec![Code::MeasurementMismatch]),
            };
            assert_eq!(codes(&software, &verifier, number), expected, "{number}");
        }
    }
}
