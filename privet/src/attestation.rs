//! Verifiers and sources of evidence, put together from what a kit says.
//!
//! ```text
//!   NAME.toml, reference files, lists ─▶ Verifier for each profile ─▶ Attested
//!   show ─▶ sources ─▶ Prover
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use privet_cc_attest::binding::Role;
use privet_cc_attest::federation::{Attested, Prover, Results};
use privet_cc_attest::policy::{Policy, Profile};
use privet_cc_attest::sim::SavedDevice;
use privet_cc_attest::source::{Folder, Nvml, Source, Tsm};
use privet_cc_attest::verifier::Verifier;
use privet_core::admission::{Attestation, Attester, CertificateOnly, Required, Shown};
use privet_core::clock::SystemClock;
use privet_core::{Code, Reason};
use privet_gate::Finding;
use privet_wire::Opening;

/// In a kit: policies, reference files and lists beside those of the owner's own folder.
pub(crate) const KIT_FOLDER: &str = "attest";
/// In a kit: a device in software.
pub(crate) const DEVICE_FILE: &str = "device.json";
/// In a kit: results of attestation, one a line.
const RESULTS_FILE: &str = "attestations.jwt";

fn invalid(detail: String) -> Reason {
    Reason::new(Code::InvalidPolicy, detail)
}

/// The policy that a profile's name stands for: a file of this name, or one that is built in.
fn policy(name: &str, folders: &[&Path], allow_simulated: bool) -> Result<Policy, Reason> {
    for folder in folders {
        let Ok(text) = std::fs::read_to_string(folder.join(format!("{name}.toml"))) else {
            continue;
        };
        let read: Policy = toml::from_str(&text)
            .map_err(|error| invalid(format!("{name}.toml: {}", error.message())))?;
        let allow_simulated = allow_simulated && read.allow_simulated;
        return Ok(Policy { allow_simulated, ..read });
    }
    let profile: Profile = name.parse().map_err(|why: String| {
        invalid(format!("{why}; or write the policy as {name}.toml into the folder of [attest]"))
    })?;
    Ok(Policy { allow_simulated, ..Policy::named(profile) })
}

/// A verifier of a profile, with all files of these folders.
fn verifier(name: &str, folders: &[&Path], allow_simulated: bool) -> Result<Verifier, Reason> {
    let mut verifier = Verifier::new(policy(name, folders, allow_simulated)?);
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            if !path.is_file() || path.extension().is_some_and(|extension| extension == "toml") {
                continue;
            }
            let told = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path)
                .map_err(|error| invalid(format!("{told}: {}", error.kind())))?;
            // A root of devices in software is no file of a policy that allows none.
            let added = verifier.add(&told, &bytes);
            if verifier.policy().allow_simulated || !told.starts_with("simulated-") {
                added.map_err(|refusal| invalid(format!("{told}: {refusal}")))?;
            }
        }
    }
    Ok(verifier)
}

fn source(shown: Shown, folder: &Path, kit: &Path) -> Box<dyn Source> {
    match shown {
        Shown::Nvml => Box::new(Nvml),
        Shown::Tsm => Box::new(Tsm::default()),
        Shown::Files => Box::new(Folder::new(folder.join("evidence"))),
        Shown::Software => Box::new(SavedDevice::at(kit.join(DEVICE_FILE))),
    }
}

/// What a policy asks its server to fit, and is no profile.
pub(crate) fn check(policy: &privet_gate::Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in &policy.rules {
        let Some(attested) = &rule.attested else { continue };
        for name in &attested.server {
            if let Err(reason) = self::policy(name, &[&policy.attest.folder], false) {
                let finding = policy.source.error("invalid", reason.detail, rule.span.clone());
                findings.push(finding.help("see docs/attestation.md"));
            }
        }
    }
    findings
}

/// Opens who judges the peers of a kit, and who proves things to them.
pub(crate) fn open(opening: Opening<'_>) -> Result<Attestation, Reason> {
    let Opening { role, kit, identity, roster, folder, show, required, audit } = opening;
    let (own, peers) = match role {
        privet_wire::Role::Server => (Role::Server, Role::Site),
        privet_wire::Role::Site => (Role::Site, Role::Server),
    };
    let own_key = identity.key_digest().map_err(|error| invalid(error.to_string()))?;
    let in_kit = kit.join(KIT_FOLDER);
    let mut folders = vec![folder];
    if in_kit != folder {
        folders.push(&in_kit);
    }
    let required = required.unwrap_or_else(|| Required {
        profiles: Vec::new(),
        max_age: Duration::from_secs(600),
        allow_simulated: false,
    });
    let verifiers = required
        .profiles
        .iter()
        .map(|name| verifier(name, &folders, required.allow_simulated))
        .collect::<Result<Vec<_>, _>>()?;
    let results = Results { key: identity.signing(), file: Some(kit.join(RESULTS_FILE)), audit };
    let roster = CertificateOnly { roster: roster.to_vec() };
    let clock = Arc::new(SystemClock);
    let max_age = required.max_age;
    let admission = Attested::new(peers, own_key, roster, verifiers, max_age, results, clock);
    let sources: Vec<Box<dyn Source>> =
        show.iter().map(|shown| source(*shown, folder, kit)).collect();
    let attester = (!sources.is_empty()).then(|| {
        Arc::new(Prover { role: own, own_key, source: Box::new(sources) }) as Arc<dyn Attester>
    });
    Ok(Attestation { admission: Arc::new(admission), attester })
}
