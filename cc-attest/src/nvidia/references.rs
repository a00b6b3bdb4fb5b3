//! Which reference values a device needs, whether they were given, and what its measurements are beside them.
//!
//! Files are found by what they say of themselves, signed: chip, driver or firmware, version. What they are called
//! does not matter.

use crate::appraisal::{Findings, Name};
use crate::encoding::short;
use crate::policy::Mismatches;
use crate::refusal::{Code, Refusal};
use crate::rim::{References, Rim, Role};
use crate::time::seconds;

use super::compare::compare;
use super::verify::{Setting, Subject, UNREAD};

/// What came of looking for the reference values of one role.
struct Found<'r> {
    role: Role,
    rim: Option<&'r Rim>,
    refusals: Vec<Refusal>,
}

const fn row(role: Role) -> Name {
    match role {
        Role::Driver => Name::RimDriver,
        Role::Vbios => Name::RimVbios,
    }
}

/// Makes the checks of reference values and measurements. Gives the values that were compared.
pub(crate) fn check<'r>(
    findings: &mut Findings,
    subject: &Subject<'_>,
    setting: &Setting<'r>,
) -> Vec<&'r Rim> {
    let (references, now) = (setting.references, seconds(setting.now));
    let switch = subject.is_switch();
    let roles: &[Role] = if switch { &[Role::Vbios] } else { &[Role::Driver, Role::Vbios] };
    let mut all: Vec<_> = roles.iter().map(|role| look(*role, subject, references, now)).collect();
    // A file that was given and does not hold is refused also where it is not needed. Of which role it would have
    // been cannot be known: it is told where one is missing.
    let place = all.iter().position(|found| found.rim.is_none()).unwrap_or(0);
    if let Some(found) = all.get_mut(place) {
        found.refusals.splice(0..0, references.refused().iter().cloned());
    }
    for rim in references.rims() {
        if let Err(refusal) = rim.valid_at(now) {
            let place = all.iter().position(|found| found.role == rim.role).unwrap_or(0);
            if let Some(found) = all.get_mut(place) {
                found.refusals.push(refusal);
            }
        }
    }
    if switch {
        findings.skipped(Name::RimDriver, "a switch has no driver");
    }
    let mut rims = Vec::new();
    for found in all {
        let name = row(found.role);
        match found.rim {
            _ if !found.refusals.is_empty() => {
                findings.judged(name, found.refusals, String::new());
            }
            Some(rim) => findings.passed(name, describe(rim)),
            None => findings.skipped(name, UNREAD),
        }
        rims.extend(found.rim);
    }
    measurements(findings, subject, &rims, roles.len(), &setting.rules.allowed_mismatches);
    rims
}

fn describe(rim: &Rim) -> String {
    let active = rim.measurements.iter().filter(|measurement| measurement.active).count();
    let dates = match rim.pinned {
        true => "; named by its digest: its signer's dates were not looked at",
        false => "",
    };
    format!(
        "{} {} for {}, {active} active, SHA-256 {}{dates}",
        rim.role.as_str(),
        rim.version,
        rim.product,
        short(&rim.sha256)
    )
}

/// Looks for what a device needs of one role.
fn look<'r>(role: Role, subject: &Subject<'_>, references: &'r References, now: u64) -> Found<'r> {
    let mut found = Found { role, rim: None, refusals: Vec::new() };
    let Some(report) = subject.report else { return found };
    let version = match role {
        Role::Driver => &subject.fields.driver,
        Role::Vbios => &subject.fields.vbios,
    };
    let Some(version) = version else {
        let detail = format!("the report names no {}", role.as_str());
        found.refusals.push(Refusal::new(Code::RimMissing, detail));
        return found;
    };
    let fits = |rim: &&Rim| {
        rim.role == role
            && subject.chip.is_none_or(|chip| rim.product == chip.name)
            // Values of devices in software hold for those alone.
            && (subject.simulated || !rim.root().is_simulated())
    };
    let same = |rim: &&Rim| rim.version.eq_ignore_ascii_case(version);
    let of_chip = || references.rims().iter().filter(fits);
    // Of two issues of one file, one that holds now and matches is taken before others.
    let weight = |rim: &&Rim| {
        let missed = compare(&report.blocks, &[rim], |_| false).refusals.len();
        (rim.valid_at(now).is_err(), missed)
    };
    found.rim = of_chip().filter(same).min_by_key(weight);
    if found.rim.is_none() {
        let id = subject.chip.and_then(|chip| match role {
            Role::Driver => chip.driver_rim(subject.fields),
            Role::Vbios => chip.vbios_rim(subject.fields),
        });
        let id = id.unwrap_or_else(|| format!("{} {version}", role.as_str()));
        found.refusals.push(Refusal::new(Code::RimMissing, format!("wanted {id}")));
        found.refusals.extend(of_chip().map(|rim| {
            let detail = format!(
                "{}: {} {}, and the device runs {version}",
                rim.name,
                role.as_str(),
                rim.version
            );
            Refusal::new(Code::RimVersionMismatch, detail)
        }));
    }
    found
}

fn measurements(
    findings: &mut Findings,
    subject: &Subject<'_>,
    rims: &[&Rim],
    wanted: usize,
    allowed: &[Mismatches],
) {
    let Some(report) = subject.report else {
        return findings.skipped(Name::Measurements, UNREAD);
    };
    if rims.is_empty() {
        return findings.skipped(Name::Measurements, "there are no reference values");
    }
    let arch = subject.chip.map(|chip| chip.family.as_str());
    let software = match subject.is_switch() {
        true => subject.fields.vbios.as_deref(),
        false => subject.fields.driver.as_deref(),
    };
    let let_pass = |index| {
        allowed.iter().any(|allowed| {
            arch == Some(allowed.arch.as_str())
                && software.is_some_and(|version| version.eq_ignore_ascii_case(&allowed.driver))
                && allowed.indices.iter().any(|allowed| *allowed as usize == index)
        })
    };
    let compared = compare(&report.blocks, rims, let_pass);
    let detail = format!("{} active measurements are equal", compared.equal);
    if !compared.refusals.is_empty() {
        findings.judged(Name::Measurements, compared.refusals, detail);
    } else if !compared.let_pass.is_empty() {
        let detail = format!("{detail}; let pass by policy: {}", compared.let_pass.join("; "));
        findings.excused(Name::Measurements, detail);
    } else if rims.len() < wanted {
        let detail = format!("{detail}; other reference values are missing");
        findings.skipped(Name::Measurements, detail);
    } else {
        findings.passed(Name::Measurements, detail);
    }
}
