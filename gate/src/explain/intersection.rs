//! The letter about an intersection.

use privet_core::intersect::{Reveal, Wanted};
use privet_core::ledger::{Ledger, rounded_up};
use privet_core::{Reason, Refusal, Registry, Stage};

use super::{Explanation, Privacy, refused};
use crate::intersection::{Noise, PsiRule, admitted};
use crate::job::Job;
use crate::policy::Policy;

/// Explains what a policy makes of an intersection.
pub(super) fn explain(
    policy: &Policy,
    job: &Job,
    wanted: &Wanted,
    registry: &Registry,
    ledger: &dyn Ledger,
) -> Result<Explanation, Reason> {
    let (dataset, rule) = match admitted(policy, job, wanted) {
        // Sections that admit are at least one.
        Ok((dataset, rules)) => match rules.into_iter().next() {
            Some(rule) => (dataset, rule),
            None => return Ok(Explanation::default()),
        },
        Err(reason) => {
            let refusal = Refusal::new(&policy.site, Stage::Compile, reason);
            return Ok(refused(policy, job, refusal));
        }
    };
    let noise = Noise::compile(&rule, &dataset, registry).map_err(|(_, reason)| reason)?;
    let privacy = match &noise {
        Some(noise) => Some(Privacy::local(&dataset, noise.events(), ledger, 1)?),
        None => None,
    };
    let mut explained = allowed(policy, job, wanted, &rule);
    if let Some(attested) = &rule.attested {
        let at = explained.paragraphs.len().saturating_sub(1);
        explained.paragraphs.insert(at, ("Attestation", super::attestation(attested)));
    }
    Ok(match (noise, privacy) {
        (Some(noise), Some(privacy)) => with_noise(explained, &noise, privacy),
        _ => explained,
    })
}

/// The letter where a size is told with noise.
fn with_noise(mut letter: Explanation, noise: &Noise, privacy: Privacy) -> Explanation {
    let epsilon = privacy.epsilon.map(rounded_up).unwrap_or_default();
    let before_told = format!(
        "Before anybody is told, the size passes the section's filters: it {}. That is a standard deviation of {:.1} \
         items; the site that asks for the most noise, this one or another, counts and adds it, and its process alone sees \
         the size without.",
        noise.describe(),
        noise.deviation(),
    );
    let costs = format!(
        "Each run costs ε ≤ {epsilon} at δ = {:e}; {} of {} are spent ({}).{}",
        privacy.delta,
        rounded_up(privacy.spent),
        rounded_up(privacy.budget),
        privacy.window,
        match privacy.refused_from_round {
            Some(1) => " The next run is refused.".to_owned(),
            Some(run) => format!(" The budget ends before run {run}."),
            None => String::new(),
        }
    );
    let at = letter.paragraphs.len().saturating_sub(1);
    letter.paragraphs.splice(at..at, [("Noise", before_told), ("Budget", costs)]);
    let exact = "How many items the set has is told as it is, without noise, and not counted in the budget.";
    letter.not_covered.push(exact.to_owned());
    if let Some((_, text)) = letter.paragraphs.last_mut() {
        *text = letter.not_covered.join(" ");
    }
    letter.privacy = vec![privacy];
    letter
}

fn allowed(policy: &Policy, job: &Job, wanted: &Wanted, rule: &PsiRule) -> Explanation {
    let peers: Vec<&str> = rule.peers.iter().map(String::as_str).collect();
    let among = match rule.all_peers {
        true => format!("all of {}", peers.join(", ")),
        false => format!("{} or some of them", peers.join(", ")),
    };
    let site = &policy.site;
    let told = match wanted.reveal {
        Reveal::All => format!(
            "Each site learns which of its own rows all sites have; so the others learn which of theirs are also \
             {site}'s, where all the others have them too."
        ),
        Reveal::First => format!(
            "The first site of the job learns which of its own rows all sites have, {site} among them. The others \
             learn nothing."
        ),
        Reveal::Size => "Each site learns how many items all sites have, and not which.".to_owned(),
    };
    let most = match rule.max_fraction {
        fraction if fraction >= 1.0 => String::new(),
        fraction => format!(" and at most {:.0} % of {site}'s", fraction * 100.0),
    };
    let limits = match (rule.min_intersection, most.is_empty()) {
        (0, true) => "Nothing bounds how many items may be told.".to_owned(),
        (least, _) => format!(
            "Nothing is told unless at least {least} items{most} are common. The size is counted first, and told to \
             nobody where a site does not allow it."
        ),
    };
    let runs = format!(
        "At most {} with each peer ({}); each counts when it begins, failed ones too.",
        match rule.runs {
            1 => "one run".to_owned(),
            runs => format!("{runs} runs"),
        },
        rule.window
    );
    let malicious = match wanted.malicious {
        true => {
            "A peer that leaves the protocol is looked for, but may ask for up to 2.6 times the items it declares."
        }
        false => "Sites are taken to follow the protocol.",
    };
    let not_covered = vec![
        "A peer may enter items that it does not have, and so ask whether they are here."
            .to_owned(),
        format!(
            "The size of {site}'s set is seen by the other sites{}.",
            match wanted.pad {
                true => ", rounded up to a power of two",
                false => "",
            }
        ),
        malicious.to_owned(),
    ];
    let key = format!(
        "{} ({})",
        wanted.columns.join(" and "),
        match wanted.normalise.is_empty() {
            true => "as it is written".to_owned(),
            false => format!("normalised: {}", wanted.normalise.join(", ")),
        }
    );
    Explanation {
        decision: "allowed",
        rule: Some(rule.name()),
        line: Some(rule.line),
        seen_by: "the other sites; the server sees lengths of sealed bytes".to_owned(),
        first_line: format!(
            "{site} ALLOWS job `{}` by its [[psi]] ({}:{}).",
            job.name, policy.source.name, rule.line
        ),
        paragraphs: vec![
            (
                "What leaves",
                format!(
                    "Hashes under keys of one run, of the column {key} of data set `{}`. No row and no key leaves.",
                    rule.dataset
                ),
            ),
            ("What it tells", told),
            ("With whom", format!("{among}; the server carries what they seal for each other.")),
            ("Limits", format!("{limits} {runs}")),
            ("Not covered", not_covered.join(" ")),
        ],
        not_covered,
        ..Explanation::default()
    }
}
