//! What a site answers when it is told whose uploads are in a sum.

use privet_core::seal::{Certified, Terms};
use privet_core::{Code, Reason};
use privet_crypto::pairwise::Route;
use zeroize::Zeroizing;

use super::{Round, SHARE, salted};
use crate::protocol::party::{Member, receivers};
use crate::protocol::survivors::{Delivered, Survivors, is_dealt};
use crate::protocol::upload::Statement;

impl Round {
    /// What helps to open the sum of the survivors; or the place of a dealer whose message does not open.
    ///
    /// # Errors
    /// When this site does not answer for such survivors.
    pub(super) fn help(
        &self,
        survivors: &Survivors,
        terms: &Terms,
        site: &Certified,
    ) -> Result<Result<Vec<u8>, u32>, Reason> {
        let members = self.members(survivors, terms, site)?;
        if self.session.scheme.dealt_bytes() == 0 {
            return Ok(self.session.scheme.answer(&[]).map_err(|_| self.session.index));
        }
        let mut messages = Vec::with_capacity(members.len());
        for ((statement, member), message) in
            survivors.statements.iter().zip(members).zip(&survivors.messages)
        {
            if statement.index == self.session.index {
                messages.push(self.own.clone());
                continue;
            }
            let message = message.as_ref().filter(|message| self.is_dealt(statement, message));
            let Some(message) = message else {
                let detail =
                    format!("what `{}` dealt did not come from the server", member.site.name);
                return Err(Reason::new(Code::BadShare, detail));
            };
            match self.open(statement, member, message) {
                Some(message) => messages.push(message),
                None => return Ok(Err(statement.index)),
            }
        }
        let named = |at: usize| survivors.statements.get(at).map_or(u32::MAX, |s| s.index);
        Ok(self.session.scheme.answer(&messages).map_err(named))
    }

    /// The survivors, if they are a sum that this site helps to open.
    fn members(
        &self,
        survivors: &Survivors,
        terms: &Terms,
        site: &Certified,
    ) -> Result<Vec<&Member>, Reason> {
        let refuse = |code, detail: &str| Err(Reason::new(code, detail));
        let (statements, session) = (&survivors.statements, &self.session);
        if (statements.len() as u32) < session.party.threshold {
            return refuse(Code::TooFewHonest, "fewer sites are in the sum than the threshold");
        }
        if !statements.windows(2).all(|pair| pair[0].index < pair[1].index) {
            return refuse(Code::Malformed, "the survivors are not in order");
        }
        if !statements.contains(&self.statement) {
            return refuse(Code::NotInSurvivors, "this site's update is not in the sum");
        }
        let mut members = Vec::with_capacity(statements.len());
        for statement in statements {
            if statement.context != session.context {
                return refuse(Code::ContextMismatch, "a survivor sealed for another round");
            }
            let Some(member) = session.party.member(statement.index) else {
                return refuse(Code::RosterChanged, "a survivor is not of this round");
            };
            if !statement.is_of(&member.site.signing) {
                return refuse(Code::BadSignature, "a survivor's statement is not signed by it");
            }
            members.push(member);
        }
        session.party.enough(terms, site, members.iter().copied())?;
        Ok(members)
    }

    /// Whether a survivor signed that it dealt this to this site.
    fn is_dealt(&self, statement: &Statement, message: &Delivered) -> bool {
        let receivers = receivers(&self.session.party, statement.index);
        is_dealt(statement, self.session.index, &receivers, message)
    }

    /// What a survivor dealt to this site.
    fn open(
        &self,
        statement: &Statement,
        member: &Member,
        message: &Delivered,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let session = &self.session;
        let context = salted(&session.context, &statement.salt);
        let (from, to) = (statement.index, session.index);
        let route = Route { context: &context, purpose: SHARE, from, to };
        session.secret.key(&member.hello.key, route).ok()?.open(&message.sealed).ok()
    }
}
