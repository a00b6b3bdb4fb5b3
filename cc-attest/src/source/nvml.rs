//! GPUs through NVIDIA's library, which is looked for when it is used.
//!
//! The library's sizes are its own word: the wrapper slices its buffers by them, and would panic at a size that
//! does not fit. That is caught here, and is a driver that gives no evidence.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Source, Unavailable};
use crate::appraisal::Kind;
use crate::binding::ReportData;
use crate::evidence::{Bundle, Evidence, MAX_PIECES};

/// All GPUs that the driver shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nvml;

impl Source for Nvml {
    fn collect(&self, data: &ReportData) -> Result<Bundle, Unavailable> {
        let nonce = data.for_gpu();
        let asked = catch_unwind(AssertUnwindSafe(|| ask(nonce)));
        asked.unwrap_or_else(|_| {
            Err(Unavailable("the driver names sizes that do not fit its own buffers".into()))
        })
    }
}

fn ask(nonce: [u8; 32]) -> Result<Bundle, Unavailable> {
    let library = nvml_wrapper::Nvml::init().map_err(|error| {
        Unavailable(format!("NVIDIA's management library is not available: {error}"))
    })?;
    let told = |what: &'static str| move |error| Unavailable(format!("{what}: {error}"));
    let count = library.device_count().map_err(told("the number of GPUs"))?;
    if count == 0 {
        return Err(Unavailable("the driver shows no GPU".into()));
    }
    if count as usize > MAX_PIECES {
        return Err(Unavailable(format!("the driver shows {count} GPUs, at most {MAX_PIECES}")));
    }
    let mut pieces = Vec::new();
    for index in 0..count {
        let device = library.device_by_index(index).map_err(told("a GPU"))?;
        let on = device.is_cc_enabled().map_err(told("whether confidential computing is on"))?;
        let joined = device.is_multi_gpu_protected_pcie_enabled().unwrap_or(false);
        if !on && !joined {
            let detail =
                "confidential computing is not available: it is off on this machine's GPUs";
            return Err(Unavailable(detail.into()));
        }
        let report = device
            .confidential_compute_gpu_attestation_report(nonce)
            .map_err(told("the report of a GPU"))?;
        let chain = device
            .confidential_compute_gpu_certificate()
            .map_err(told("the certificates of a GPU"))?;
        // Not to be told is as good as to be told that it is on.
        let developer_mode = device.is_cc_dev_mode_enabled().unwrap_or(true);
        pieces.push(Evidence {
            certificates: vec![chain.attestation_cert_chain],
            developer_mode,
            ..Evidence::new(Kind::NvidiaGpu, report.attestation_report)
        });
    }
    Ok(Bundle(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::report_data;

    /// Where there is no driver, or one without confidential computing, which is everywhere that this was run.
    #[test]
    fn a_machine_without_confidential_gpus_says_so() {
        match Nvml.collect(&report_data(1)) {
            Err(Unavailable(why)) => assert!(why.contains("not available") || !why.is_empty()),
            Ok(bundle) => assert!(!bundle.0.is_empty()),
        }
    }
}
