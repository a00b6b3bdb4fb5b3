//! What may be believed, of all that verifiers saw.

use std::collections::BTreeSet;

use super::{GpuRules, Policy, Profile, RevocationMode, version};
use crate::appraisal::{Appraisal, Device, Examined, Kind, Name, Verdict};
use crate::refusal::{Code, Refusal};

/// Kinds that speak of GPUs. Switches only join them.
const GPU: [Kind; 2] = [Kind::NvidiaGpu, Kind::Nras];
/// Kinds that speak of a whole machine.
const CPU: [Kind; 2] = [Kind::Snp, Kind::Tdx];
const SWITCH: [Kind; 1] = [Kind::NvidiaSwitch];

impl Profile {
    /// Of each of these lists a kind must be there.
    fn required(self) -> Vec<Vec<Kind>> {
        match self {
            Self::GpuOnly => vec![[&GPU[..], &SWITCH].concat()],
            Self::GpuCc => vec![GPU.to_vec(), CPU.to_vec()],
            Self::Snp => vec![vec![Kind::Snp]],
            Self::Tdx => vec![vec![Kind::Tdx]],
            Self::Nras => vec![vec![Kind::Nras]],
        }
    }
}

/// Judges all that was seen. Any refusal contraindicates, except that of bytes that could not be read at all,
/// of which nothing can be said.
pub fn appraise(policy: &Policy, seen: &[Examined]) -> Appraisal {
    let mut refusals: Vec<Refusal> = seen.iter().flat_map(|one| one.refusals.clone()).collect();
    let devices =
        || seen.iter().flat_map(|one| one.devices.iter().map(move |device| (one.kind, device)));
    refusals.extend(missing(policy, seen));
    refusals.extend(unbound(policy, seen));
    refusals.extend(twice(devices()));
    for (kind, device) in devices() {
        if device.simulated && !policy.allow_simulated {
            let detail =
                format!("{} is a device in software, and policy allows none", named(device));
            refusals.push(Refusal::new(Code::SimulatedNotAllowed, detail));
        }
        if GPU.contains(&kind) || SWITCH.contains(&kind) {
            refusals.extend(below(&policy.gpu, kind, device));
        }
    }
    // A reference file that says nothing is refused with every device.
    let mut told = BTreeSet::new();
    refusals.retain(|refusal| told.insert((refusal.code, refusal.detail.clone())));
    let verdict = if refusals.is_empty() {
        let all = devices().all(|(kind, device)| affirms(policy, kind, device));
        let alone = matches!(policy.profile, Profile::GpuOnly | Profile::Nras);
        if all && !alone { Verdict::Affirming } else { Verdict::Warning }
    } else if refusals.iter().all(|refusal| unreadable(refusal.code)) {
        Verdict::None
    } else {
        Verdict::Contraindicated
    };
    let kinds: BTreeSet<Kind> = seen.iter().map(|one| one.kind).collect();
    let kind = kinds.first().copied().filter(|_| kinds.len() == 1);
    Appraisal {
        verdict,
        kind,
        devices: devices().map(|(_, device)| device.clone()).collect(),
        refusals,
    }
}

/// Reasons that say that evidence was none, and nothing of the device.
fn unreadable(code: Code) -> bool {
    matches!(
        code,
        Code::TooLarge
            | Code::Malformed
            | Code::TrailingData
            | Code::UnsupportedArch
            | Code::WrongSpdmVersion
            | Code::DuplicateOpaque
    )
}

fn named(device: &Device) -> String {
    let name = device.ueid.as_deref().or(device.hwmodel.as_deref()).or(device.arch.as_deref());
    // It may come from a token, which may say anything.
    format!("`{:.40}`", name.unwrap_or("a device"))
}

/// Evidence that is not there is a refusal: a list without devices, or with none of a kind that is required.
fn missing(policy: &Policy, seen: &[Examined]) -> Vec<Refusal> {
    let there = |kinds: &Vec<Kind>| {
        seen.iter().any(|one| {
            kinds.contains(&one.kind) && !(one.devices.is_empty() && one.refusals.is_empty())
        })
    };
    let refusal = |kinds: Vec<Kind>| {
        let wanted: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
        let profile = policy.profile.as_str();
        let detail = format!(
            "profile `{profile}` wants evidence of {}, and there is none",
            wanted.join(" or ")
        );
        Refusal::new(Code::DowngradeMissingKind, detail)
    };
    policy.profile.required().into_iter().filter(|kinds| !there(kinds)).map(refusal).collect()
}

/// Devices of one machine answer one and the same report data; else they may be those of several.
fn unbound(policy: &Policy, seen: &[Examined]) -> Option<Refusal> {
    let joined = policy.profile == Profile::GpuCc && seen.len() > 1;
    let mut all = seen.iter().map(|one| one.bound);
    let first = all.next().flatten();
    let same = first.is_some() && all.all(|bound| bound == first);
    (joined && !same).then(|| {
        let detail = "the machine and its GPUs are not bound to one report data";
        Refusal::new(Code::KeyBindingMismatch, detail)
    })
}

/// No device counts twice.
fn twice<'a>(devices: impl Iterator<Item = (Kind, &'a Device)>) -> Vec<Refusal> {
    let mut known = BTreeSet::new();
    let again = |(_, device): &(Kind, &Device)| {
        device.ueid.as_ref().is_some_and(|ueid| !known.insert(ueid.clone()))
    };
    let refusal = |(_, device): (Kind, &Device)| {
        Refusal::new(Code::DuplicateDevice, format!("{} is there twice", named(device)))
    };
    devices.filter(again).map(refusal).collect()
}

/// Floors of driver and firmware. What has no version is below every floor.
fn below(rules: &GpuRules, kind: Kind, device: &Device) -> Vec<Refusal> {
    let driver = rules.driver_floor.as_ref().filter(|_| kind != Kind::NvidiaSwitch);
    let pairs = [
        ("driver", &device.driver, driver),
        ("firmware", &device.vbios, rules.vbios_floor.as_ref()),
    ];
    let judge = |(what, found, floor): (&str, &Option<String>, Option<&String>)| {
        let floor = floor?;
        let found = found.as_deref().unwrap_or("");
        let low = version::older(found, floor).unwrap_or(true);
        let detail =
            || format!("{}: {what} `{found:.30}`, policy wants {floor} or newer", named(device));
        low.then(|| Refusal::new(Code::DriverBelowFloor, detail()))
    };
    pairs.into_iter().filter_map(judge).collect()
}

/// Whether all that policy asks of a device was shown. What was not looked at is not shown.
fn affirms(policy: &Policy, kind: Kind, device: &Device) -> bool {
    let gpu = GPU.contains(&kind);
    let switch = SWITCH.contains(&kind);
    let asked = Name::ALL.into_iter().filter(|name| match name {
        Name::Revocation => policy.revocation.mode != RevocationMode::Off,
        // Switches never name their firmware.
        Name::Fwid => !switch && (!gpu || policy.gpu.require_fwid),
        Name::RimDriver => gpu,
        Name::RimVbios => gpu || switch,
        _ => true,
    });
    let held = asked.into_iter().all(|name| device.holds(name));
    let excused = device.checks.iter().any(|check| check.ok == Some(false));
    held && !excused && !device.simulated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::Check;
    use crate::policy::{Policy, RevocationRules};

    fn device(ueid: &str) -> Device {
        let checks = Name::ALL.map(|name| Check { name, ok: Some(true), detail: String::new() });
        Device {
            arch: None,
            hwmodel: None,
            driver: Some("550.90.07".into()),
            vbios: Some("96.00.9F.00.01".into()),
            ueid: Some(ueid.into()),
            checks: checks.into(),
            simulated: false,
        }
    }

    fn seen(kind: Kind, devices: Vec<Device>) -> Examined {
        Examined { kind, bound: Some([1; 48]), devices, refusals: Vec::new() }
    }

    fn one(kind: Kind) -> Examined {
        seen(kind, vec![device(&format!("{kind:?}"))])
    }

    fn judge(policy: &Policy, seen: &[Examined]) -> (Verdict, Vec<Code>) {
        let appraisal = appraise(policy, seen);
        (appraisal.verdict, appraisal.refusals.iter().map(|refusal| refusal.code).collect())
    }

    /// A check of the only device, not made or not good.
    fn with(kind: Kind, name: Name, ok: Option<bool>) -> Examined {
        let mut examined = one(kind);
        let checks = &mut examined.devices[0].checks;
        checks.iter_mut().filter(|check| check.name == name).for_each(|check| check.ok = ok);
        examined
    }

    const EVERY: [Kind; 5] =
        [Kind::NvidiaGpu, Kind::NvidiaSwitch, Kind::Snp, Kind::Tdx, Kind::Nras];

    #[test]
    fn gpus_alone_never_affirm() {
        for kind in [Kind::NvidiaGpu, Kind::NvidiaSwitch, Kind::Nras] {
            assert_eq!(
                judge(&Policy::named(Profile::GpuOnly), &[one(kind)]),
                (Verdict::Warning, vec![])
            );
        }
        assert_eq!(
            judge(&Policy::named(Profile::Nras), &[one(Kind::Nras)]),
            (Verdict::Warning, vec![])
        );
    }

    #[test]
    fn a_machine_and_its_gpus_affirm_together() {
        let policy = Policy::named(Profile::GpuCc);
        for cpu in CPU {
            for gpu in GPU {
                assert_eq!(judge(&policy, &[one(cpu), one(gpu)]), (Verdict::Affirming, vec![]));
            }
        }
        let all = [one(Kind::Tdx), one(Kind::NvidiaSwitch), one(Kind::NvidiaGpu)];
        let appraisal = appraise(&policy, &all);
        assert_eq!(
            (appraisal.verdict, appraisal.kind, appraisal.devices.len()),
            (Verdict::Affirming, None, 3)
        );
    }

    #[test]
    fn a_kind_that_is_not_there_is_a_refusal() {
        let refused = (Verdict::Contraindicated, vec![Code::DowngradeMissingKind]);
        for profile in Profile::ALL {
            let policy = Policy::named(profile);
            assert!(judge(&policy, &[]).1.contains(&Code::DowngradeMissingKind));
            for kind in EVERY {
                let enough = profile.required().iter().all(|kinds| kinds.contains(&kind));
                let (verdict, codes) = judge(&policy, &[one(kind)]);
                assert_eq!(codes.is_empty(), enough, "{profile:?} {kind:?}");
                assert_eq!(verdict == Verdict::Contraindicated, !enough);
                // As good as not there.
                assert!(
                    judge(&policy, &[seen(kind, vec![])]).1.contains(&Code::DowngradeMissingKind)
                );
            }
        }
        assert_eq!(judge(&Policy::named(Profile::GpuCc), &[one(Kind::NvidiaGpu)]), refused);
        assert_eq!(judge(&Policy::named(Profile::GpuOnly), &[one(Kind::Snp)]), refused);
    }

    #[test]
    fn evidence_under_other_report_data_is_refused() {
        let policy = Policy::named(Profile::GpuCc);
        let refused = (Verdict::Contraindicated, vec![Code::KeyBindingMismatch]);
        for bound in [Some([2; 48]), None] {
            let gpu = Examined { bound, ..one(Kind::NvidiaGpu) };
            assert_eq!(judge(&policy, &[one(Kind::Snp), gpu.clone()]), refused);
            assert_eq!(judge(&policy, &[gpu, one(Kind::Snp)]), refused);
        }
        let nothing = |kind| Examined { bound: None, ..one(kind) };
        assert_eq!(judge(&policy, &[nothing(Kind::Snp), nothing(Kind::NvidiaGpu)]), refused);
    }

    #[test]
    fn devices_in_software_need_leave_and_never_affirm() {
        let software = |kind| {
            let mut examined = one(kind);
            examined.devices[0].simulated = true;
            examined
        };
        let mut policy = Policy::named(Profile::GpuCc);
        let evidence = [one(Kind::Snp), software(Kind::NvidiaGpu)];
        let refused = (Verdict::Contraindicated, vec![Code::SimulatedNotAllowed]);
        assert_eq!(judge(&policy, &evidence), refused);
        policy.allow_simulated = true;
        assert_eq!(judge(&policy, &evidence), (Verdict::Warning, vec![]));
    }

    #[test]
    fn what_was_not_shown_does_not_affirm() {
        let policy = Policy::named(Profile::GpuCc);
        for (kind, other) in
            [(Kind::Snp, Kind::NvidiaGpu), (Kind::NvidiaGpu, Kind::Snp), (Kind::Nras, Kind::Tdx)]
        {
            for name in Name::ALL {
                let verdict = judge(&policy, &[with(kind, name, None), one(other)]).0;
                let asked =
                    GPU.contains(&kind) || ![Name::RimDriver, Name::RimVbios].contains(&name);
                let expected = if asked { Verdict::Warning } else { Verdict::Affirming };
                assert_eq!(verdict, expected, "{kind:?} {name:?}");
            }
            let excused = with(kind, Name::Measurements, Some(false));
            assert_eq!(judge(&policy, &[excused, one(other)]).0, Verdict::Warning);
        }
        let switch = |name| {
            judge(&policy, &[one(Kind::Snp), one(Kind::Nras), with(Kind::NvidiaSwitch, name, None)])
                .0
        };
        assert_eq!(switch(Name::Fwid), Verdict::Affirming);
        assert_eq!(switch(Name::RimVbios), Verdict::Warning);
    }

    #[test]
    fn what_policy_does_not_ask_for_need_not_be_shown() {
        let mut policy = Policy::named(Profile::GpuCc);
        policy.revocation =
            RevocationRules { mode: RevocationMode::Off, ..RevocationRules::default() };
        policy.gpu.require_fwid = false;
        let gpu = with(Kind::NvidiaGpu, Name::Fwid, None);
        assert_eq!(
            judge(&policy, &[with(Kind::Snp, Name::Revocation, None), gpu]).0,
            Verdict::Affirming
        );
        // Of a machine the firmware is always asked.
        let snp = with(Kind::Snp, Name::Fwid, None);
        assert_eq!(judge(&policy, &[snp, one(Kind::NvidiaGpu)]).0, Verdict::Warning);
    }

    #[test]
    fn a_machine_without_reference_value_is_a_warning() {
        for (profile, kind) in [(Profile::Snp, Kind::Snp), (Profile::Tdx, Kind::Tdx)] {
            let policy = Policy::named(profile);
            assert_eq!(judge(&policy, &[one(kind)]).0, Verdict::Affirming);
            assert_eq!(judge(&policy, &[with(kind, Name::Measurements, None)]).0, Verdict::Warning);
        }
    }

    #[test]
    fn any_refusal_contraindicates_but_bytes_that_say_nothing() {
        let policy = Policy::named(Profile::Snp);
        for code in Code::ALL {
            let refused = Examined { refusals: vec![Refusal::new(*code, "")], ..one(Kind::Snp) };
            let expected = if unreadable(*code) { Verdict::None } else { Verdict::Contraindicated };
            assert_eq!(judge(&policy, std::slice::from_ref(&refused)), (expected, vec![*code]));
            let both = [
                refused,
                Examined { refusals: vec![Refusal::new(Code::DebugEnabled, "")], ..one(Kind::Tdx) },
            ];
            assert_eq!(judge(&policy, &both).0, Verdict::Contraindicated);
        }
    }

    #[test]
    fn one_device_does_not_count_twice() {
        let policy = Policy::named(Profile::GpuOnly);
        let twice = seen(Kind::NvidiaGpu, vec![device("a"), device("b"), device("a")]);
        assert_eq!(
            judge(&policy, &[twice]),
            (Verdict::Contraindicated, vec![Code::DuplicateDevice])
        );
        // Told once, however often it is there.
        let thrice = seen(Kind::NvidiaGpu, vec![device("a"), device("a"), device("a")]);
        assert_eq!(judge(&policy, &[thrice]).1, [Code::DuplicateDevice]);
        let mut nameless = device("");
        nameless.ueid = None;
        let two = seen(Kind::NvidiaGpu, vec![nameless.clone(), nameless]);
        assert_eq!(judge(&policy, &[two]), (Verdict::Warning, vec![]));
    }

    #[test]
    fn drivers_and_firmware_below_their_floor_are_refused() {
        let judge = |driver: &str, vbios: &str, kind| {
            let mut policy = Policy::named(Profile::GpuOnly);
            policy.gpu.driver_floor = Some(driver.into());
            policy.gpu.vbios_floor = Some(vbios.into());
            judge(&policy, &[one(kind)]).1
        };
        assert_eq!(judge("550.90.07", "96.00.9F.00.01", Kind::NvidiaGpu), []);
        assert_eq!(judge("550.90.08", "96.00.9F.00.01", Kind::NvidiaGpu), [Code::DriverBelowFloor]);
        assert_eq!(judge("550.90.07", "96.00.A0.00.01", Kind::Nras), [Code::DriverBelowFloor]);
        assert_eq!(
            judge("550.90.08", "96.00.A0.00.01", Kind::NvidiaSwitch),
            [Code::DriverBelowFloor]
        );
        assert_eq!(judge("latest", "96.00.9F.00.01", Kind::NvidiaGpu), [Code::DriverBelowFloor]);
    }
}
