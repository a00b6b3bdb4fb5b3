//! Which reference values a device needs, whether they were given, and what its measurements are beside them.
//!
//! Files are found by what they say of themselves, signed: chip, driver or firmware, version. What they are called
//! does not matter.

use crate::appraisal::{Findings, Name};
use crate::refusal::{Code, Refusal};
use crate::rim::{References, Rim, Role};
use crate::x509::short;

use super::compare::compare;
use super::verify::{Demands, Subject, UNREAD};

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

/// Makes the checks of reference values and measurements. Gives mismatches that were let pass.
pub(crate) fn check(
    findings: &mut Findings,
    subject: &Subject<'_>,
    references: &References,
    demands: &Demands,
    now: i64,
) -> Vec<String> {
    let switch = subject.chip.is_some_and(|chip| chip.family.is_switch());
    let roles: &[Role] = if switch { &[Role::Vbios] } else { &[Role::Driver, Role::Vbios] };
    let mut all: Vec<_> =
        roles.iter().map(|role| look(*role, subject, references, demands, now)).collect();
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
    measurements(findings, subject, &rims, roles.len(), demands)
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
fn look<'r>(
    role: Role,
    subject: &Subject<'_>,
    references: &'r References,
    demands: &Demands,
    now: i64,
) -> Found<'r> {
    let mut found = Found { role, rim: None, refusals: Vec::new() };
    let Some(report) = subject.report else { return found };
    let (version, floor) = match role {
        Role::Driver => (&subject.fields.driver, &demands.driver_floor),
        Role::Vbios => (&subject.fields.vbios, &demands.vbios_floor),
    };
    let Some(version) = version else {
        let detail = format!("the report names no {}", role.as_str());
        found.refusals.push(Refusal::new(Code::RimMissing, detail));
        return found;
    };
    if let Some(floor) = floor
        && !reaches(role, version, floor)
    {
        let detail = format!("{} {version} is older than {floor}", role.as_str());
        found.refusals.push(Refusal::new(Code::DriverBelowFloor, detail));
    }
    let fits = |rim: &&Rim| {
        rim.role == role
            && subject.chip.is_none_or(|chip| rim.product == chip.name)
            // Values of devices in software hold for those alone.
            && (subject.simulated || !rim.simulated)
    };
    let same = |rim: &&Rim| rim.version.eq_ignore_ascii_case(version);
    let of_chip = || references.rims().iter().filter(fits);
    // Of two issues of one file, one that holds now and matches is taken before others.
    let weight = |rim: &&Rim| {
        let missed = compare(&report.blocks, &[rim], |_, _| false).refusals.len();
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

/// Whether a version is a floor or newer. Versions of drivers are decimal, those of firmware hex; what is neither
/// reaches no floor.
fn reaches(role: Role, version: &str, floor: &str) -> bool {
    let radix = if role == Role::Driver { 10 } else { 16 };
    let parts = |text: &str| {
        text.split('.')
            .map(|part| u32::from_str_radix(part, radix).ok())
            .collect::<Option<Vec<_>>>()
    };
    match (parts(version), parts(floor)) {
        (Some(version), Some(floor)) => version >= floor,
        _ => false,
    }
}

fn measurements(
    findings: &mut Findings,
    subject: &Subject<'_>,
    rims: &[&Rim],
    wanted: usize,
    demands: &Demands,
) -> Vec<String> {
    let Some(report) = subject.report else {
        findings.skipped(Name::Measurements, UNREAD);
        return Vec::new();
    };
    if rims.is_empty() {
        findings.skipped(Name::Measurements, "there are no reference values");
        return Vec::new();
    }
    let chip = subject.chip.map(|chip| chip.name.as_str());
    let tolerated = |role, index| {
        demands.tolerated.iter().any(|let_pass| {
            chip == Some(let_pass.chip.as_str())
                && let_pass.driver == subject.fields.driver
                && (let_pass.role, let_pass.index) == (role, index)
        })
    };
    let compared = compare(&report.blocks, rims, tolerated);
    let mut detail = format!("{} active measurements are equal", compared.equal);
    if !compared.tolerated.is_empty() {
        detail = format!("{detail}; let pass by policy: {}", compared.tolerated.join("; "));
    }
    match compared.refusals.is_empty() && rims.len() < wanted {
        true => {
            let detail = format!("{detail}; other reference values are missing");
            findings.skipped(Name::Measurements, detail);
        }
        false => findings.judged(Name::Measurements, compared.refusals, detail),
    }
    compared.tolerated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let driver = |version, floor| reaches(Role::Driver, version, floor);
        assert!(driver("550.90.07", "550.90.07") && driver("1000.1", "550.90"));
        assert!(!driver("550.90", "550.90.07") && !driver("545.00", "550.90.07"));
        assert!(!driver("x", "1") && !driver("1", "x") && !driver("", "0"));
        assert!(reaches(Role::Vbios, "96.00.9f.00.01", "96.00.5E.00.01"));
        assert!(!reaches(Role::Vbios, "96.00.5E.00.01", "96.00.9f.00.01"));
    }
}
