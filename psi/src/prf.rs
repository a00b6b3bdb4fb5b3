//! The PRF of a peer at this site's items, by either protocol: values in the order of the records.

use privet_core::Reason;
use privet_core::intersect::Protocol;

use crate::pipe::Pipe;
use crate::run::Common;
use crate::scratch::List;
use crate::session::{Random, Session};
use crate::vole::params::Sizes;
use crate::{ecdh, vole};

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
) -> Result<List<2>, Reason> {
    let Common { records, scratch, .. } = common;
    match common.plan.protocol {
        Protocol::Vole => vole::receive(session, link, random, records, &sizes(common), scratch),
        _ => ecdh::receive(session, link, random, records, false, scratch).map(|r| r.values),
    }
}

/// F at this site's items, where F is this site's.
pub(crate) fn answer(
    common: &Common<'_>,
    session: &mut Session,
    link: &mut Pipe<'_>,
    random: &mut Random,
) -> Result<List<2>, Reason> {
    let Common { records, scratch, .. } = common;
    match common.plan.protocol {
        Protocol::Vole => vole::send(session, link, random, records, &sizes(common), scratch),
        _ => {
            let asked = common.plan.sizes[common.plan.leader];
            ecdh::send(session, link, random, records, asked, false, scratch).map(|s| s.values)
        }
    }
}
