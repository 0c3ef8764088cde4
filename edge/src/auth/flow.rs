//! The states of a login, pure: each is made from the one before and says what may follow.
//!
//! ```text
//! endpoint host      Ticket    travels sealed in the URL; no secret in it that opens anything
//! auth host          Login     waits in the store under its state; read and deleted in one step
//! endpoint host      HandOver  waits in the store under its code, 30 s; read and deleted in one step
//! ```
//!
//! The ticket stays inside all three: where to, and which browser on the endpoint's host.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use proto::code::Code;
use proto::id::{EndpointId, LoginId};
use serde::{Deserialize, Serialize};

use crate::auth::binding::Bound;
use crate::auth::target::Target;
use crate::idp::Identity;
use crate::model::change::Revision;
use crate::model::user::Claims;
use crate::secret;

/// A login that an endpoint asks for.
#[derive(Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) login: LoginId,
    pub(super) endpoint: EndpointId,
    pub(super) target: Target,
    /// The browser, as the endpoint's host knows it.
    pub(super) bound: Bound,
    /// The person must prove themselves anew.
    pub(super) interactive: bool,
    pub(super) until: Timestamp,
}

/// A login that is with the provider.
#[derive(Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) ticket: Ticket,
    /// Not the ticket's: a ticket may be used twice (back, then on again), and both go well.
    pub(super) id: LoginId,
    /// The browser, as the auth host knows it.
    pub(super) bound: Bound,
    pub(super) provider: String,
    pub(super) issuer: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
    revision: u64,
    pub(super) begun: Timestamp,
}

/// A login that succeeded and waits for the endpoint's host.
#[derive(Serialize, Deserialize)]
pub(super) struct HandOver {
    pub(super) ticket: Ticket,
    pub(super) provider: String,
    issuer: String,
    subject: String,
    email: Option<String>,
    email_verified: bool,
    name: Option<String>,
    username: Option<String>,
    pub(super) auth_time: Option<Timestamp>,
    revision: u64,
    until: Timestamp,
}

/// What an answer from a provider leads to, before anything is redeemed.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Answer {
    GoOn,
    /// Too late, though it is the right browser: the endpoint knows whether it is signed in by now.
    Late,
}

impl Ticket {
    pub(super) fn new(
        login: LoginId,
        endpoint: EndpointId,
        target: Target,
        bound: Bound,
        interactive: bool,
        now: Timestamp,
    ) -> Self {
        Self {
            login,
            endpoint,
            target,
            bound,
            interactive,
            until: after(now, TICKET_WITHIN),
        }
    }

    /// # Errors
    /// `LoginExpired` when it was not used in time.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Code> {
        if now < self.until {
            Ok(())
        } else {
            Err(Code::LoginExpired)
        }
    }

    /// The ticket becomes a login at a provider; nonce and verifier are made here.
    pub(super) fn begin(
        self,
        id: LoginId,
        bound: Bound,
        provider: String,
        issuer: String,
        revision: Revision,
        now: Timestamp,
    ) -> Login {
        Login {
            ticket: self,
            id,
            bound,
            provider,
            issuer,
            nonce: random_text(),
            verifier: random_text(),
            revision: revision.0,
            begun: now,
        }
    }
}

impl Login {
    /// Judges an answer by what surrounds it: the browser, and the path that it came to. Each
    /// provider has a path of its own, so that none can be made to answer for another.
    ///
    /// # Errors
    /// Another browser, another provider.
    pub(super) fn judge(
        &self,
        is_same_browser: bool,
        provider_in_path: &str,
        now: Timestamp,
    ) -> Result<Answer, Code> {
        if !is_same_browser {
            return Err(Code::LoginBrowserMismatch);
        }
        if provider_in_path != self.provider {
            return Err(Code::IssuerMismatch);
        }
        let is_late = now >= after(self.begun, LOGIN_WITHIN);
        Ok(if is_late { Answer::Late } else { Answer::GoOn })
    }

    /// When an interactive login began: who proved themselves before that has not done so anew.
    pub(super) fn interactive_since(&self) -> Option<Timestamp> {
        self.ticket.interactive.then_some(self.begun)
    }

    /// The provider's answer was accepted.
    pub(super) fn succeed(self, identity: Identity, now: Timestamp) -> HandOver {
        let claims = identity.claims;
        HandOver {
            ticket: self.ticket,
            provider: self.provider,
            issuer: claims.issuer,
            subject: claims.subject,
            email: claims.email,
            email_verified: claims.email_verified,
            name: claims.name,
            username: claims.username,
            auth_time: identity.auth_time,
            revision: self.revision,
            until: after(now, HAND_OVER_WITHIN),
        }
    }
}

impl HandOver {
    pub(super) fn is_late(&self, now: Timestamp) -> bool {
        now >= self.until
    }

    /// What was the newest revision when the login began.
    pub(super) const fn begun_at(&self) -> Revision {
        Revision(self.revision)
    }

    pub(super) fn claims(&self) -> Claims {
        Claims {
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
            email: self.email.clone(),
            email_verified: self.email_verified,
            name: self.name.clone(),
            username: self.username.clone(),
        }
    }
}

/// 256 random bits as text: a nonce, a PKCE verifier (RFC 7636 §4.1).
fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(secret::random::<32>())
}

/// `life` after `at`.
pub(super) fn after(at: Timestamp, life: Duration) -> Timestamp {
    SignedDuration::try_from(life)
        .ok()
        .and_then(|life| at.checked_add(life).ok())
        .unwrap_or(Timestamp::MAX)
}

/// From the endpoint's redirect to the auth host: one hop.
const TICKET_WITHIN: Duration = Duration::from_mins(5);
/// How long a person may take at the provider.
pub(super) const LOGIN_WITHIN: Duration = Duration::from_mins(10);
/// How long a login's record and its binding on the auth host stay: an answer that comes too late is
/// then recognised and sent on, instead of ending at an error.
pub(super) const LOGIN_KEPT: Duration = Duration::from_mins(30);
/// From the auth host's redirect to the endpoint: one hop.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(30);
/// As with `LOGIN_KEPT`.
pub(super) const HAND_OVER_KEPT: Duration = Duration::from_mins(5);
/// The binding on the endpoint's host outlives ticket, login and hand-over.
pub(super) const BINDING_LIFE: Duration = Duration::from_mins(20);

const _: () = assert!(
    TICKET_WITHIN.as_secs() + LOGIN_WITHIN.as_secs() + HAND_OVER_KEPT.as_secs()
        <= BINDING_LIFE.as_secs()
);

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn ticket(interactive: bool, now: Timestamp) -> Ticket {
        let id = LoginId::new(1_795_000_000_000, [1; 14]);
        let endpoint = EndpointId::new(1_795_000_000_000, [2; 14]);
        let (bound, _) = crate::auth::binding::bind(id, &HeaderMap::new(), BINDING_LIFE);
        Ticket::new(id, endpoint, Target::home(), bound, interactive, now)
    }

    fn login(interactive: bool, now: Timestamp) -> Login {
        let ticket = ticket(interactive, now);
        let bound = ticket.bound.clone();
        let (id, issuer) = (ticket.login, "https://idp.example".to_owned());
        ticket.begin(id, bound, "dev".to_owned(), issuer, Revision(7), now)
    }

    /// d01, d09: another browser or another provider's path ends a login before anything is redeemed.
    #[test]
    fn judges_an_answer() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |seconds| after(now, Duration::from_secs(seconds));
        let login = login(false, now);
        let table = [
            (true, "dev", at(0), Ok(Answer::GoOn)),
            (true, "dev", at(599), Ok(Answer::GoOn)),
            (true, "dev", at(600), Ok(Answer::Late)),
            (false, "dev", at(0), Err(Code::LoginBrowserMismatch)),
            (false, "dev", at(600), Err(Code::LoginBrowserMismatch)),
            (true, "other", at(0), Err(Code::IssuerMismatch)),
            (true, "", at(0), Err(Code::IssuerMismatch)),
            (true, "DEV", at(0), Err(Code::IssuerMismatch)),
        ];
        for (same, path, when, expected) in table {
            assert_eq!(
                login.judge(same, path, when),
                expected,
                "{same} {path} {when}"
            );
        }
    }

    /// Tickets and hand-overs are short-lived; a revision travels from begin to hand-over.
    #[test]
    fn states_and_their_ends() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |seconds| after(now, Duration::from_secs(seconds));
        let begun = ticket(true, now);
        assert_eq!(begun.check(at(299)), Ok(()));
        assert_eq!(begun.check(at(300)), Err(Code::LoginExpired));
        assert_eq!(login(false, now).interactive_since(), None);
        let login = login(true, now);
        assert_eq!(login.interactive_since(), Some(now));
        assert_ne!(login.nonce, login.verifier);
        assert_eq!(login.verifier.len(), 43);
        let identity = Identity {
            claims: Claims {
                issuer: "https://idp.example".to_owned(),
                subject: "ada".to_owned(),
                email: Some("ada@example.test".to_owned()),
                email_verified: true,
                name: None,
                username: None,
            },
            auth_time: Some(now),
        };
        let over = login.succeed(identity.clone(), at(60));
        let text = serde_json::to_string(&over).unwrap();
        let over: HandOver = serde_json::from_str(&text).unwrap();
        assert!(!over.is_late(at(89)));
        assert!(over.is_late(at(90)));
        assert_eq!(over.begun_at(), Revision(7));
        assert_eq!(over.claims(), identity.claims);
    }
}
