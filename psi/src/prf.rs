//! The PRF of a peer at this site's items, by either protocol.

use privet_core::Reason;
use privet_core::intersect::Protocol;
use zeroize::Zeroizing;

use crate::pipe::Pipe;
use crate::records::Records;
use crate::run::Common;
use crate::session::{Random, Session};
use crate::vole::params::Sizes;
use crate::{ecdh, vole};

/// Values in the order of the items.
fn by_item(records: &Records, values: &[u128]) -> Zeroizing<Vec<u128>> {
    let mut ordered = Zeroizing::new(vec![0; values.len()]);
    for (value, place) in values.iter().zip(&records.origin) {
        ordered[*place as usize] = *value;
    }
    ordered
}

fn sizes(common: &Common<'_>) -> Sizes {
    let leader = common.plan.sizes[common.plan.leader];
    Sizes::of(leader, common.terms.assurance, common.terms.malicious)
}

/// F at this site's items, which the peer does not learn.
pub(crate) fn evaluate(
    common: &Common<'_>,
    session: &mut Session,
    link: &mut Pipe<'_>,
    random: &mut Random,
) -> Result<Zeroizing<Vec<u128>>, Reason> {
    match common.plan.protocol {
        Protocol::Vole => {
            let sizes = sizes(common);
            let records = Records::new(session, common.items, sizes.bins.count);
            let values = vole::receive(session, link, random, &records, &sizes)?;
            Ok(by_item(&records, &values))
        }
        _ => ecdh::receive(session, link, random, common.items, false).map(|r| r.values),
    }
}

/// F at this site's items, where F is this site's.
pub(crate) fn answer(
    common: &Common<'_>,
    session: &mut Session,
    link: &mut Pipe<'_>,
    random: &mut Random,
) -> Result<Zeroizing<Vec<u128>>, Reason> {
    match common.plan.protocol {
        Protocol::Vole => {
            let sizes = sizes(common);
            let records = Records::new(session, common.items, sizes.bins.count);
            let values = vole::send(session, link, random, &records, &sizes)?;
            Ok(by_item(&records, &values))
        }
        _ => {
            let asked = common.plan.sizes[common.plan.leader] as usize;
            ecdh::send(session, link, random, common.items, asked, false).map(|sent| sent.values)
        }
    }
}
