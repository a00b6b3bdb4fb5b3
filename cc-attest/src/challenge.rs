//! Challenges that are open: each is for one peer and one connection, for a minute, for one answer.
//!
//! ```text
//!   pose ─▶ open ─ take ─▶ spent        (before anything is verified: a second answer finds nothing)
//!                └─ a minute ─▶ expired
//! ```
//! A peer has one open challenge at most, posing again forgets the one before, and there are at most so many in
//! all. Of spent ones so many are remembered, only to tell a second answer from one that was never asked for.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use privet_crypto::{NoEntropy, Seed};

use crate::encoding::short;
use crate::refusal::{Code, Refusal};

/// How long an answer may take.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// Why there is no challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPosed {
    /// As many are open as may be.
    Full,
    /// The operating system gave no random bytes.
    NoEntropy,
}

impl From<NoEntropy> for NotPosed {
    fn from(_: NoEntropy) -> Self {
        Self::NoEntropy
    }
}

impl std::fmt::Display for NotPosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("too many challenges are open"),
            Self::NoEntropy => NoEntropy.fmt(f),
        }
    }
}

impl std::error::Error for NotPosed {}

#[derive(Debug, Clone, Copy)]
struct Open {
    challenge: [u8; 32],
    /// The exporter of the connection that it was posed on.
    connection: [u8; 32],
    posed: SystemTime,
}

impl Open {
    /// A clock that went back makes a challenge as old as one that went too far.
    fn alive(&self, now: SystemTime) -> bool {
        now.duration_since(self.posed).is_ok_and(|age| age < LIFETIME)
    }
}

/// Challenges of one verifier.
#[derive(Debug)]
pub struct Challenges {
    most: usize,
    /// By the name in the peer's certificate.
    open: BTreeMap<String, Open>,
    spent: VecDeque<[u8; 32]>,
}

impl Challenges {
    /// None yet, and never more than so many.
    pub fn new(most: usize) -> Self {
        Self { most, open: BTreeMap::new(), spent: VecDeque::new() }
    }

    /// A new challenge for a peer on a connection.
    ///
    /// # Errors
    /// When too many are open, or there are no random bytes.
    pub fn pose(
        &mut self,
        peer: &str,
        connection: [u8; 32],
        now: SystemTime,
    ) -> Result<[u8; 32], NotPosed> {
        if !self.open.contains_key(peer) && self.open.len() >= self.most {
            self.open.retain(|_, open| open.alive(now));
            if self.open.len() >= self.most {
                return Err(NotPosed::Full);
            }
        }
        let challenge = *Seed::from_os()?.reveal();
        self.open.insert(peer.to_owned(), Open { challenge, connection, posed: now });
        Ok(challenge)
    }

    /// Spends the challenge that a peer answers on a connection. Whatever comes of it, it is open no more.
    ///
    /// # Errors
    /// When it is not the one that is open there, or too old.
    pub fn take(
        &mut self,
        peer: &str,
        connection: &[u8; 32],
        challenge: &[u8; 32],
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let told = short(challenge);
        let open = self.open.remove(peer);
        if self.spent.contains(challenge) {
            let detail = format!("`{peer}` answered challenge {told} before");
            return Err(Refusal::new(Code::ChallengeReused, detail));
        }
        let unknown = |why: &str| {
            let detail = format!("challenge {told} of `{peer}` {why}");
            Err(Refusal::new(Code::ChallengeUnknown, detail))
        };
        let Some(open) = open else { return unknown("was never posed") };
        if self.spent.len() >= self.most {
            self.spent.pop_front();
        }
        self.spent.push_back(open.challenge);
        if open.challenge != *challenge {
            return unknown("is not the one that was posed");
        }
        if open.connection != *connection {
            return unknown("was posed on another connection");
        }
        if !open.alive(now) {
            let detail =
                format!("challenge {told} of `{peer}` is older than {} s", LIFETIME.as_secs());
            return Err(Refusal::new(Code::ChallengeExpired, detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at;

    const HERE: [u8; 32] = [1; 32];

    fn now() -> SystemTime {
        at("2026-01-01T00:00:00Z")
    }

    fn later(seconds: u64) -> SystemTime {
        now() + Duration::from_secs(seconds)
    }

    fn code(result: Result<(), Refusal>) -> Code {
        result.unwrap_err().code
    }

    #[test]
    fn an_answer_in_time_is_taken_once() {
        let mut challenges = Challenges::new(4);
        let challenge = challenges.pose("north", HERE, now()).unwrap();
        assert_eq!(challenges.take("north", &HERE, &challenge, later(59)), Ok(()));
        assert_eq!(
            code(challenges.take("north", &HERE, &challenge, later(59))),
            Code::ChallengeReused
        );
        let next = challenges.pose("north", HERE, now()).unwrap();
        assert_ne!(next, challenge);
        assert_eq!(code(challenges.take("north", &HERE, &challenge, now())), Code::ChallengeReused);
        // The open one went with it.
        assert_eq!(code(challenges.take("north", &HERE, &next, now())), Code::ChallengeUnknown);
    }

    #[test]
    fn a_wrong_answer_spends_the_challenge() {
        let mut challenges = Challenges::new(4);
        let challenge = challenges.pose("north", HERE, now()).unwrap();
        assert_eq!(code(challenges.take("north", &HERE, &[0; 32], now())), Code::ChallengeUnknown);
        assert_eq!(code(challenges.take("north", &HERE, &challenge, now())), Code::ChallengeReused);
    }

    #[test]
    fn an_answer_that_is_late_or_from_before_is_refused() {
        for when in [later(60), later(1000), now() - Duration::from_secs(1)] {
            let mut challenges = Challenges::new(4);
            let challenge = challenges.pose("north", HERE, now()).unwrap();
            assert_eq!(
                code(challenges.take("north", &HERE, &challenge, when)),
                Code::ChallengeExpired
            );
        }
    }

    #[test]
    fn a_challenge_is_for_one_peer_and_one_connection() {
        let mut challenges = Challenges::new(4);
        let challenge = challenges.pose("north", HERE, now()).unwrap();
        assert_eq!(
            code(challenges.take("south", &HERE, &challenge, now())),
            Code::ChallengeUnknown
        );
        assert_eq!(
            code(challenges.take("north", &[2; 32], &challenge, now())),
            Code::ChallengeUnknown
        );
    }

    #[test]
    fn posing_again_forgets_the_challenge_before() {
        let mut challenges = Challenges::new(4);
        let first = challenges.pose("north", HERE, now()).unwrap();
        challenges.pose("north", HERE, now()).unwrap();
        assert_eq!(code(challenges.take("north", &HERE, &first, now())), Code::ChallengeUnknown);
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let mut challenges = Challenges::new(2);
        challenges.pose("a", HERE, now()).unwrap();
        challenges.pose("b", HERE, later(30)).unwrap();
        assert_eq!(challenges.pose("c", HERE, later(59)), Err(NotPosed::Full));
        assert!(challenges.pose("a", HERE, later(59)).is_ok());
        // The one of `b` has run out.
        assert!(challenges.pose("c", HERE, later(90)).is_ok());
        assert_eq!(challenges.open.len(), 2);
        for peer in ["d", "e", "f"] {
            let mut challenges = Challenges::new(1);
            let challenge = challenges.pose(peer, HERE, now()).unwrap();
            challenges.take(peer, &HERE, &challenge, now()).unwrap();
            assert_eq!(challenges.spent.len(), 1);
        }
        assert_eq!(Challenges::new(0).pose("a", HERE, now()), Err(NotPosed::Full));
    }

    #[test]
    fn spent_ones_are_remembered_for_a_while() {
        let mut challenges = Challenges::new(2);
        let mut take = |peer: &str| {
            let challenge = challenges.pose(peer, HERE, now()).unwrap();
            challenges.take(peer, &HERE, &challenge, now()).unwrap();
            challenge
        };
        let spent = ["a", "b", "c"].map(&mut take);
        let again = spent.map(|challenge| code(challenges.take("a", &HERE, &challenge, now())));
        assert_eq!(again, [Code::ChallengeUnknown, Code::ChallengeReused, Code::ChallengeReused]);
    }
}
