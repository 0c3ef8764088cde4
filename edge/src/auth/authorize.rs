//! The verdict on one request: a flat, ordered list of cases. Known sessions cost no I/O.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, request};
use jiff::{SignedDuration, Timestamp};
use proto::code::Code;

use crate::auth::permit::Holder;
use crate::auth::reply::{Failure, Reply};
use crate::auth::target::Target;
use crate::auth::{Auth, Permit, fetch};
use crate::model::endpoint::{Access, Endpoint, Kind};
use crate::model::session::{CutReason, Session};
use crate::policy::{Decision, admits, evaluate};
use crate::route::table::Route;
use crate::secret;
use crate::session::live::{Refused, Watcher};
use crate::store::Loaded;

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    Allow(Permit),
    /// Not without a login, or another one: the answer says how.
    Login(Reply),
    Deny(Code),
}

/// A session that a request proved to hold.
pub(super) struct Present {
    pub(super) session: Arc<Session>,
    pub(super) watcher: Watcher,
}

/// Why a request holds no session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Absent {
    Anonymous,
    Ended(CutReason),
    /// It cannot be known at the moment: nobody is logged out for that.
    Unknown(Code),
}

impl Auth {
    /// Judges a request that is for an endpoint.
    ///
    /// Cases in order: endpoint gone; from a network that may not; no login wanted; sent by another site; not, or no longer, signed
    /// in; signed in elsewhere; not allowed; allowed.
    pub(crate) async fn authorize(
        &self,
        route: &Route,
        parts: &request::Parts,
        client: IpAddr,
    ) -> Verdict {
        // Subscribed first, looked at second: the permit hears every later change.
        let mut watch = route.watch.clone();
        let Some(endpoint) = watch.borrow_and_update().clone() else {
            return Verdict::Deny(Code::UnknownHost);
        };
        if !admits(&endpoint.networks, client) {
            return Verdict::Deny(Code::AddressNotAllowed);
        }
        let Access::Login(rule) = &endpoint.access else {
            return Verdict::Allow(Permit::new(endpoint, watch, None, client, self.clock));
        };
        if fetch::is_cross_site(parts, &self.origin(&endpoint)) {
            return Verdict::Login(self.refuse_cross_site(&endpoint, parts));
        }
        let present = match self.present(&endpoint, &parts.headers).await {
            Ok(present) => present,
            Err(Absent::Unknown(code)) => return Verdict::Deny(code),
            Err(absent) => return Verdict::Login(self.ask_to_log_in(&endpoint, parts, absent)),
        };
        if present.session.provider != rule.provider {
            // The endpoint has another provider now: whoever it knew is a stranger.
            return Verdict::Login(self.ask_to_log_in(&endpoint, parts, Absent::Anonymous));
        }
        let decision = evaluate(rule, &present.session.claims);
        if let Some(code) = refusal(decision) {
            let target = self.target_of(&endpoint, parts);
            return Verdict::Login(self.not_let_in(&endpoint, &target, code).into());
        }
        let Present { session, watcher } = present;
        watcher.touch(self.clock.now());
        let holder = Holder {
            session,
            watcher,
            fresh: Arc::clone(&self.fresh),
            stale_since: None,
        };
        Verdict::Allow(Permit::new(
            endpoint,
            watch,
            Some(holder),
            client,
            self.clock,
        ))
    }

    /// Judges a connection of raw bytes that is for an endpoint: before its first byte, and for all of
    /// them. Nobody can log in there, so an endpoint that wants a login lets nobody through.
    ///
    /// # Errors
    /// Why it is closed: endpoint gone; from a network that may not; a login wanted.
    pub(crate) fn authorize_connection(
        &self,
        route: &Route,
        client: IpAddr,
    ) -> Result<Permit, Code> {
        // Subscribed first, looked at second, as above.
        let mut watch = route.watch.clone();
        let Some(endpoint) = watch.borrow_and_update().clone() else {
            return Err(Code::UnknownHost);
        };
        if !admits(&endpoint.networks, client) {
            return Err(Code::AddressNotAllowed);
        }
        match (&endpoint.kind, &endpoint.access) {
            (Kind::Tcp { .. } | Kind::Tls(_), Access::Public) => {
                Ok(Permit::new(endpoint, watch, None, client, self.clock))
            }
            (Kind::Http, _) | (_, Access::Login(_)) => Err(Code::NotAllowed),
        }
    }

    /// Finds the session that a request proves to hold at this endpoint.
    ///
    /// Cases in order: no genuine cookie; ended, or not to be known; another secret or endpoint;
    /// over its absolute end; idle for too long.
    pub(super) async fn present(
        &self,
        endpoint: &Endpoint,
        headers: &HeaderMap,
    ) -> Result<Present, Absent> {
        let cookie = self.cookies.of(headers).ok_or(Absent::Anonymous)?;
        let (watcher, session) = match self.live.open(cookie.id).await {
            Ok(found) => found,
            Err(Refused::Ended(reason)) => return Err(Absent::of(reason)),
            Err(Refused::Store(error)) => return Err(Absent::Unknown(super::store_code(&error))),
        };
        // Subscribed by now, so what the store says cannot be overtaken.
        if !(self.fresh)() {
            match self.store.load_session(session.id).await {
                Ok(Loaded::Live { .. }) => {}
                Ok(Loaded::Ended(reason)) => return Err(Absent::of(reason)),
                Ok(Loaded::Absent) => return Err(Absent::Ended(CutReason::Absent)),
                Err(error) => {
                    super::store_code(&error);
                    return Err(Absent::Unknown(Code::LeaseLost));
                }
            }
        }
        let secret_hash = secret::sha256(cookie.secret.expose());
        if !secret::equal(&secret_hash, &session.secret_hash) || session.endpoint != endpoint.id {
            return Err(Absent::Anonymous);
        }
        if let Some(reason) = over(&session, watcher.last_active(), self.clock.now()) {
            self.live.expire(session.id, reason);
            return Err(Absent::Ended(reason));
        }
        Ok(Present { session, watcher })
    }

    /// What somebody without a session gets: a page load is sent to log in, everything else 401 with
    /// the address where a person can. Whoever was thrown out, or left, sees a page with a button
    /// first: a revoke that undoes itself in a second is none.
    fn ask_to_log_in(&self, endpoint: &Endpoint, parts: &request::Parts, absent: Absent) -> Reply {
        let is_over = matches!(
            absent,
            Absent::Ended(CutReason::Revoked | CutReason::LoggedOut)
        );
        let target = self.target_of(endpoint, parts);
        if fetch::is_navigation(parts) && !is_over {
            return self
                .begin(endpoint, &parts.headers, target, false)
                .unwrap_or_else(Reply::from);
        }
        let label = if is_over { SIGN_IN_AGAIN } else { SIGN_IN };
        let url = self.login_url(endpoint, &target, is_over);
        Failure::from(absent.code())
            .offering(label, url.clone())
            .with_login_url(url)
            .into()
    }

    fn refuse_cross_site(&self, endpoint: &Endpoint, parts: &request::Parts) -> Reply {
        let url = self.login_url(endpoint, &self.target_of(endpoint, parts), false);
        Failure::from(Code::CrossSiteRefused)
            .with_login_url(url)
            .into()
    }

    /// Where a login for this request leads: back to it, unless it was more than a look.
    fn target_of(&self, endpoint: &Endpoint, parts: &request::Parts) -> Target {
        match parts.method {
            Method::GET | Method::HEAD => {
                Target::of_request(parts.uri.path_and_query(), &self.origin(endpoint))
            }
            _ => Target::home(),
        }
    }

    /// Signed in, and the rule says no.
    pub(super) fn not_let_in(&self, endpoint: &Endpoint, target: &Target, code: Code) -> Failure {
        let url = self.login_url(endpoint, target, true);
        Failure::from(code).offering(SIGN_IN_AS_ANOTHER, url)
    }
}

impl Absent {
    /// What a person is told.
    pub(super) const fn code(self) -> Code {
        match self {
            Self::Anonymous => Code::LoginRequired,
            Self::Ended(CutReason::Revoked | CutReason::LoggedOut) => Code::SessionRevoked,
            Self::Ended(CutReason::Expired | CutReason::Idle) => Code::SessionExpired,
            Self::Ended(_) => Code::LoginRequired,
            Self::Unknown(code) => code,
        }
    }

    /// Reasons that say something about this edge, not about the session.
    const fn of(reason: CutReason) -> Self {
        match reason {
            CutReason::LeaseLost => Self::Unknown(Code::LeaseLost),
            CutReason::Shutdown => Self::Unknown(Code::EdgeDraining),
            CutReason::Revoked
            | CutReason::LoggedOut
            | CutReason::Absent
            | CutReason::Expired
            | CutReason::Idle
            | CutReason::PolicyChanged
            | CutReason::EndpointRemoved
            | CutReason::AuthtokenRevoked => Self::Ended(reason),
        }
    }
}

/// What a person is told whom a rule does not let in.
pub(super) const fn refusal(decision: Decision) -> Option<Code> {
    match decision {
        Decision::Allow => None,
        Decision::NotAllowed => Some(Code::NotAllowed),
        Decision::EmailUnverified => Some(Code::EmailUnverified),
    }
}

/// Whether a session's time is over. The end itself counts as over.
fn over(session: &Session, last_active: Timestamp, now: Timestamp) -> Option<CutReason> {
    if now >= session.expires_at {
        return Some(CutReason::Expired);
    }
    let limit = SignedDuration::try_from(session.idle_limit?).ok()?;
    let active = last_active.max(session.created_at);
    (now.duration_since(active) >= limit).then_some(CutReason::Idle)
}

pub(super) const SIGN_IN: &str = "Sign in";
pub(super) const SIGN_IN_AGAIN: &str = "Sign in again";
pub(super) const SIGN_IN_AS_ANOTHER: &str = "Sign in as somebody else";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::flow::after;
    use crate::auth::tests::session;
    use std::time::Duration;

    /// Absolute always ends, activity or not; idle counts from the newest request or the login.
    #[test]
    fn ends() {
        let mut session = session();
        let at = |seconds| after(session.created_at, Duration::from_secs(seconds));
        session.expires_at = at(1000);
        session.idle_limit = Some(Duration::from_secs(100));
        let table = [
            (0, 0, None),
            (0, 99, None),
            (0, 100, Some(CutReason::Idle)),
            (950, 999, None),
            (999, 1000, Some(CutReason::Expired)),
            (0, 2000, Some(CutReason::Expired)),
            // A clock that went back ends nothing.
            (500, 450, None),
        ];
        for (active, now, expected) in table {
            assert_eq!(
                over(&session, at(active), at(now)),
                expected,
                "{active} {now}"
            );
        }
        // An edge that knows of no request yet counts from the login.
        assert_eq!(over(&session, Timestamp::UNIX_EPOCH, at(50)), None);
        session.idle_limit = None;
        assert_eq!(over(&session, at(0), at(999)), None);
    }
}
