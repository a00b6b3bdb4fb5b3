//! What Intel says of a platform, and whether that is good enough.

use std::time::SystemTime;

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use serde::Deserialize;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::json;
use crate::policy::{TdxRules, TdxStatus};
use crate::refusal::{Code, Refusal};
use crate::time::{date, rfc3339, seconds};

/// Most bytes of collateral. Recorded: 16 KiB.
const MAX: usize = 1 << 20;

pub(super) fn read(bytes: &[u8]) -> Result<QuoteCollateralV3, Refusal> {
    let mut collateral: QuoteCollateralV3 = json::read(bytes, MAX, "collateral")?;
    // The quote's own certificates are the ones that are looked at.
    collateral.pck_certificate_chain = None;
    Ok(collateral)
}

/// The dates of a signed JSON document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dates {
    issue_date: String,
    next_update: String,
}

/// What of collateral is not within its dates, by name.
pub(super) fn outside(collateral: &QuoteCollateralV3, now: SystemTime) -> Vec<Refusal> {
    let now = seconds(now);
    let document = |text: &str| {
        let dates: Dates = json::read(text.as_bytes(), MAX, "a document").ok()?;
        Some((rfc3339(&dates.issue_date)?, rfc3339(&dates.next_update)?))
    };
    let list = |der: &[u8]| {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        let at = |seconds: i64| seconds.max(0).unsigned_abs();
        Some((at(list.last_update().timestamp()), at(list.next_update()?.timestamp())))
    };
    let parts = [
        ("TCB info", document(&collateral.tcb_info)),
        ("QE identity", document(&collateral.qe_identity)),
        ("the root's revocation list", list(&collateral.root_ca_crl)),
        ("the PCK CA's revocation list", list(&collateral.pck_crl)),
    ];
    let judge = |(what, dates): (&str, Option<(u64, u64)>)| match dates {
        None => Some(Refusal::new(Code::Malformed, format!("collateral: {what} has no dates"))),
        Some((from, to)) if (from..=to).contains(&now) => None,
        Some((from, to)) => {
            let (from, to, now) = (date(from), date(to), date(now));
            let detail = format!("collateral: {what} is good from {from} to {to}; it is {now}");
            Some(Refusal::new(Code::CertExpired, detail))
        }
    };
    parts.into_iter().filter_map(judge).collect()
}

/// Intel's judgement of a genuine quote's platform, if it is good enough.
pub(super) fn judge(
    quote: &[u8],
    collateral: &QuoteCollateralV3,
    root: &[u8],
    rules: &TdxRules,
    now: SystemTime,
) -> Result<String, Refusal> {
    // Whether it may be debugged is looked at elsewhere, and told on its own.
    let verifier = QuoteVerifier::new(root.to_vec()).allow_debug(true);
    let judged = verifier
        .verify(quote, collateral, seconds(now))
        .map_err(|error| failed(&format!("{error:#}")))?;
    status(&judged.status, &judged.advisory_ids, rules)
}

/// What the crate says in words only: a platform that Intel has revoked, one below every level that Intel still
/// judges, and all else, by which the collateral does not hold or is another platform's.
fn failed(error: &str) -> Refusal {
    let code = if error.contains("Revoked") {
        Code::CertRevoked
    } else if error.contains("No matching TCB level") || error.contains("below minimum") {
        Code::TcbBelowFloor
    } else {
        Code::ChainUntrusted
    };
    Refusal::new(code, format!("collateral: {error}"))
}

/// Whether policy takes a judgement.
fn status(found: &str, advisories: &[String], rules: &TdxRules) -> Result<String, Refusal> {
    let detail = match advisories {
        [] => found.to_owned(),
        all => format!("{found}, see {}", all.join(", ")),
    };
    let known = TdxStatus::deserialize(
        serde::de::value::StrDeserializer::<serde::de::value::Error>::new(found),
    );
    match known {
        Ok(status) if rules.accept_status.contains(&status) => Ok(detail),
        Ok(_) => {
            let detail = format!(
                "Intel judges the platform {detail}; policy takes {:?}",
                rules.accept_status
            );
            Err(Refusal::new(Code::TcbBelowFloor, detail))
        }
        Err(_) if found == "Revoked" => Err(Refusal::new(
            Code::CertRevoked,
            "Intel has revoked the platform at its level of firmware",
        )),
        Err(_) => {
            Err(Refusal::new(Code::TcbBelowFloor, format!("Intel judges the platform {detail}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_says_which_judgements_are_good_enough() {
        let strict = TdxRules::default();
        let lax = TdxRules {
            accept_status: vec![TdxStatus::UpToDate, TdxStatus::SWHardeningNeeded],
            ..TdxRules::default()
        };
        let code = |found: &str, rules: &TdxRules| {
            status(found, &["INTEL-SA-00001".into()], rules).map_err(|refusal| refusal.code)
        };
        let good = |found: &str| Ok(format!("{found}, see INTEL-SA-00001"));
        assert_eq!(code("UpToDate", &strict), good("UpToDate"));
        assert_eq!(code("SWHardeningNeeded", &strict), Err(Code::TcbBelowFloor));
        assert_eq!(code("SWHardeningNeeded", &lax), good("SWHardeningNeeded"));
        assert_eq!(code("OutOfDate", &lax), Err(Code::TcbBelowFloor));
        assert_eq!(code("Revoked", &lax), Err(Code::CertRevoked));
        assert_eq!(code("SomethingNew", &lax), Err(Code::TcbBelowFloor));
        assert_eq!(failed("TCB status is invalid: Revoked").code, Code::CertRevoked);
        assert_eq!(failed("Fmspc mismatch").code, Code::ChainUntrusted);
    }
}
