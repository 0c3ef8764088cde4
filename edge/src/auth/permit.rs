//! The permit: proof that a request is allowed, and its kill-switch.
//!
//! Whoever forwards owns one, to the last byte. It subscribes before it looks: what changes after the
//! verdict, even before [`Permit::cut`] is first asked, is heard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::auth::Fresh;
use crate::clock::Clock;
use crate::model::endpoint::{Access, Endpoint};
use crate::model::session::{CutReason, Session};
use crate::policy::{Decision, evaluate};
pub(crate) use crate::session::live::Delivery;
use crate::session::live::Watcher;

/// Proof that a request is allowed.
pub(crate) struct Permit {
    endpoint: Arc<Endpoint>,
    /// Tells of a new rule or of the endpoint's end.
    watch: watch::Receiver<Option<Arc<Endpoint>>>,
    holder: Option<Holder>,
    clock: Clock,
}

/// The session behind a permit.
pub(super) struct Holder {
    pub(super) session: Arc<Session>,
    pub(super) watcher: Watcher,
    pub(super) fresh: Fresh,
    pub(super) stale_since: Option<Instant>,
}

impl Permit {
    /// The only constructor: what it is made of was judged. `watch` has seen exactly `endpoint`.
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        watch: watch::Receiver<Option<Arc<Endpoint>>>,
        holder: Option<Holder>,
        clock: Clock,
    ) -> Self {
        Self {
            endpoint,
            watch,
            holder,
            clock,
        }
    }

    /// Whose permit it is; `None` where the endpoint wants no login.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.holder.as_ref().map(|holder| &holder.session)
    }

    /// The endpoint as it was when the request was let in.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// For saying that the exchange is over as far as can be seen. `None` where nobody is signed in.
    pub(crate) fn delivery(&self) -> Option<Delivery> {
        self.holder.as_ref().map(|holder| holder.watcher.delivery())
    }

    /// Resolves when the right has ended: session revoked, absolute end, endpoint changed so that it
    /// no longer lets this person in, or gone, or an unconfirmed memory. May be dropped and called
    /// again.
    ///
    /// While this is being awaited, the exchange counts as activity of its session: an open stream
    /// keeps the idle end away, the absolute end it cannot move.
    pub(crate) async fn cut(&mut self) -> CutReason {
        let Self {
            endpoint,
            watch,
            holder,
            clock,
        } = self;
        let Some(holder) = holder else {
            return barred(watch, endpoint, None).await;
        };
        let session = Arc::clone(&holder.session);
        tokio::select! {
            biased;
            reason = holder.ended(*clock) => reason,
            reason = barred(watch, endpoint, Some(&session)) => reason,
        }
    }
}

impl Holder {
    /// Resolves when the session has ended or may no longer be believed in.
    async fn ended(&mut self, clock: Clock) -> CutReason {
        loop {
            let now = clock.now();
            if now >= self.session.expires_at {
                return CutReason::Expired;
            }
            self.watcher.touch(now);
            if self.is_unconfirmed(clock) {
                return CutReason::LeaseLost;
            }
            let next_look = self.next_look(now);
            tokio::select! {
                biased;
                reason = self.watcher.ended() => return reason,
                () = tokio::time::sleep(next_look) => {}
            }
        }
    }

    /// Whether memory has not been fresh for too long.
    fn is_unconfirmed(&mut self, clock: Clock) -> bool {
        if (self.fresh)() {
            self.stale_since = None;
            return false;
        }
        let now = clock.monotonic();
        now.duration_since(*self.stale_since.get_or_insert(now)) >= UNCONFIRMED_MAX
    }

    fn next_look(&self, now: Timestamp) -> Duration {
        if self.stale_since.is_some() {
            return STALE_LOOK;
        }
        let until_end = Duration::try_from(self.session.expires_at.duration_since(now));
        // A quarter: the idle end then never comes between two looks.
        let within_idle = self.session.idle_limit.map_or(LOOK, |limit| limit / 4);
        LOOK.min(within_idle)
            .min(until_end.unwrap_or_default())
            .max(LOOK_MIN)
    }
}

impl Drop for Permit {
    /// The end of an exchange is the newest activity of its session.
    fn drop(&mut self) {
        if let Some(holder) = &self.holder {
            holder.watcher.touch(self.clock.now());
        }
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit")
            .field("endpoint", &self.endpoint.id)
            .field("session", &self.session().map(|session| session.id))
            .finish_non_exhaustive()
    }
}

/// Resolves when the endpoint no longer lets the holder in.
async fn barred(
    watch: &mut watch::Receiver<Option<Arc<Endpoint>>>,
    admitted: &Endpoint,
    session: Option<&Session>,
) -> CutReason {
    loop {
        if watch.changed().await.is_err() {
            // An endpoint that is removed says so; one that falls silent went with its edge.
            return CutReason::Shutdown;
        }
        // Nothing is awaited between here and the next round: being dropped loses no change.
        let current = watch.borrow_and_update().clone();
        let Some(current) = current else {
            return CutReason::EndpointRemoved;
        };
        if let Some(reason) = bars(&current, admitted, session) {
            return reason;
        }
    }
}

/// Why an endpoint, as it is now, bars whom it let in before.
pub(super) fn bars(
    current: &Endpoint,
    admitted: &Endpoint,
    session: Option<&Session>,
) -> Option<CutReason> {
    if current.authtoken != admitted.authtoken {
        return Some(CutReason::AuthtokenRevoked);
    }
    match (&current.access, session) {
        (Access::Public, _) => None,
        (Access::Login(_), None) => Some(CutReason::PolicyChanged),
        (Access::Login(rule), Some(session)) => {
            let lets_in = rule.provider == session.provider
                && evaluate(rule, &session.claims) == Decision::Allow;
            (!lets_in).then_some(CutReason::PolicyChanged)
        }
    }
}

/// Between two looks at the clock and the lease.
const LOOK: Duration = Duration::from_secs(5);
/// However short a session's remaining life is, time is not burnt on looking.
const LOOK_MIN: Duration = Duration::from_millis(5);
const STALE_LOOK: Duration = Duration::from_millis(250);
/// How long a stream may go on without a fresh lease.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::{endpoint, login_rule, session};

    /// What bars, and what does not, whom an endpoint let in.
    #[test]
    fn changed_endpoints() {
        let admitted = endpoint(login_rule(&[], &["example.test"]));
        let public = endpoint(Access::Public);
        let ada = session();
        let bars = |current: &Endpoint, session| bars(current, &admitted, session);
        assert_eq!(bars(&admitted, Some(&ada)), None);
        assert_eq!(bars(&public, Some(&ada)), None);
        assert_eq!(bars(&public, None), None);
        let changed = Some(CutReason::PolicyChanged);
        assert_eq!(bars(&admitted, None), changed);
        let lin_only = endpoint(login_rule(&["lin@example.test"], &[]));
        assert_eq!(bars(&lin_only, Some(&ada)), changed);
        let Access::Login(mut rule) = login_rule(&[], &[]) else {
            panic!("a login rule");
        };
        rule.provider = "other".to_owned();
        assert_eq!(bars(&endpoint(Access::Login(rule)), Some(&ada)), changed);
        let mut foreign = admitted.clone();
        foreign.authtoken = crate::secret::new_id(1_795_000_000_000);
        assert_eq!(
            bars(&foreign, Some(&ada)),
            Some(CutReason::AuthtokenRevoked)
        );
    }

    /// Subscribe, then look: a change between the verdict and the first `cut()` is heard, one that
    /// still lets in is not an end, and the removal is.
    #[tokio::test]
    async fn hears_what_came_before_it_listened() {
        let admitted = Arc::new(endpoint(Access::Public));
        let channel = watch::Sender::new(Some(Arc::clone(&admitted)));
        let permit = || Permit::new(Arc::clone(&admitted), channel.subscribe(), None, Clock);
        let (mut early, mut second) = (permit(), permit());
        channel.send_replace(Some(Arc::new(endpoint(login_rule(&[], &[])))));
        assert_eq!(early.cut().await, CutReason::PolicyChanged);
        channel.send_replace(Some(Arc::clone(&admitted)));
        // Only the newest state counts.
        tokio::select! {
            biased;
            _ = second.cut() => panic!("it still lets in"),
            () = tokio::task::yield_now() => {}
        }
        channel.send_replace(None);
        assert_eq!(second.cut().await, CutReason::EndpointRemoved);
        let mut orphan = permit();
        drop(channel);
        assert_eq!(orphan.cut().await, CutReason::Shutdown);
    }
}
