//! The store's interface: the truth that every edge follows, over engines that all pass one suite.
//!
//! An enum, not a trait object: engines are few and known. Every change is one atomic step (records,
//! indexes, log entry); what cannot be made durable is an error, never a quiet success. No business
//! rules here. Methods may be cancelled between, not inside, their steps.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use proto::id::{
    ApiKeyId, AuthtokenId, EdgeId, EndpointId, OperatorId, ReceiptId, SessionId, UserId,
};

use crate::model::change::{LogEntry, Revision, Scope};
use crate::model::credential::{ApiKeyRecord, AuthtokenRecord, OperatorRecord, ProviderRecord};
use crate::model::endpoint::Endpoint;
use crate::model::receipt::Receipt;
use crate::model::session::{Browser, CutReason, Session, SessionSeen};
use crate::model::user::{Claims, User};

pub(crate) mod embedded;
pub(crate) mod records;
pub(crate) mod seal;
#[cfg(test)]
mod suite;

/// One of the engines.
#[derive(Debug)]
pub(crate) enum Store {
    Embedded(embedded::Embedded),
}

/// Part of the store with a log of its own. Things that belong to no person live in the shared one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Shard {
    /// Persons and sessions, by number: 0 is the only one except on a Redis Cluster.
    People(u16),
    Shared,
}

/// A login that succeeded, to be recorded.
#[derive(Clone, Debug)]
pub(crate) struct NewSession {
    pub(crate) id: SessionId,
    pub(crate) fresh_user: UserId,
    pub(crate) endpoint: EndpointId,
    pub(crate) public_url: String,
    pub(crate) provider: String,
    pub(crate) claims: Claims,
    pub(crate) secret_hash: [u8; 32],
    pub(crate) browser: Browser,
    pub(crate) auth_time: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) idle_limit: Option<Duration>,
    /// The session that this browser held before at this endpoint: it ends in the same step.
    pub(crate) replaces: Option<SessionId>,
    /// Nothing that covers this person may have been revoked after this revision, which was read
    /// when the login began: a login that was under way during a revoke does not undo it.
    pub(crate) begun_at: Revision,
}

/// What the store holds of a session.
#[expect(
    clippy::large_enum_variant,
    reason = "taken apart where it is received"
)]
#[derive(Clone, Debug)]
pub(crate) enum Loaded {
    /// Neither record nor tombstone: counts as revoked.
    Absent,
    Ended(CutReason),
    Live {
        session: Session,
        last_active: Timestamp,
    },
}

/// Which sessions a list holds. Empty: all.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionFilter {
    pub(crate) user: Option<UserId>,
    pub(crate) endpoint: Option<EndpointId>,
}

/// A page of a list, newest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<I> {
    /// Only ids older than this one.
    pub(crate) before: Option<I>,
    /// 1 to 1000.
    pub(crate) limit: usize,
}

/// Whom `interactive_due` asks about.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) endpoint: EndpointId,
    pub(crate) provider: String,
}

/// An order to end rights.
#[derive(Clone, Debug)]
pub(crate) struct RevokeOrder {
    /// A fresh id, used unless the order repeats an earlier one.
    pub(crate) receipt: ReceiptId,
    pub(crate) scope: Scope,
    pub(crate) cause: CutReason,
    /// The operator's words; at most 255 characters.
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
    /// For `Scope::User`: the person's record goes too, and lists omit it.
    pub(crate) delete_user: bool,
}

/// What a revocation did in the store. `revoke` gives `None` when there is nothing of that name.
#[derive(Clone, Debug)]
pub(crate) struct Revoked {
    pub(crate) receipt: Receipt,
    /// True when the order repeats an earlier one: nothing was changed.
    pub(crate) repeated: bool,
}

/// Revisions at or below which sessions are dead, by scope.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) all: Revision,
    pub(crate) users: Vec<(UserId, Revision)>,
    pub(crate) endpoints: Vec<(EndpointId, Revision)>,
    pub(crate) providers: Vec<(String, Revision)>,
    /// The log position that these marks include.
    pub(crate) at: Revision,
}

/// What a one-time value is for: keys of different kinds never meet.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum OnceKind {
    Login,
    HandOver,
    OperatorLink,
}

/// The outcome of claiming a host.
#[expect(
    clippy::large_enum_variant,
    reason = "taken apart where it is received"
)]
#[derive(Clone, Debug)]
pub(crate) enum Claimed {
    /// Held by this authtoken, now as it was claimed.
    Held(Endpoint),
    /// Another authtoken holds it.
    Taken,
}

/// Entries of a log, in order.
#[derive(Clone, Debug)]
pub(crate) struct LogBatch {
    pub(crate) entries: Vec<LogEntry>,
    /// Entries between the asked position and the first given one are gone: re-read everything.
    pub(crate) gap: bool,
    /// The log's newest position.
    pub(crate) head: Revision,
}

/// What an edge says after it applied log entries.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledgement {
    pub(crate) edge: EdgeId,
    pub(crate) shard: Shard,
    pub(crate) applied: Revision,
    pub(crate) cuts: Vec<(ReceiptId, u64)>,
}

/// What had been acknowledged when the wait ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acknowledged {
    pub(crate) edges_total: u32,
    pub(crate) missing: Vec<EdgeId>,
    pub(crate) connections_cut: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Disk full, or above the high-water mark.
    #[error("the store is full")]
    Full(#[source] Option<std::io::Error>),
    /// Read-only, sync failed, connection lost, time-out: nothing is known to have happened.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the store was written by a newer edge (schema {found}, this one knows {known})")]
    NewerSchema { found: u32, known: u32 },
    /// A value cannot be opened with this cluster key, or is damaged.
    #[error("the store cannot read {what} with this cluster key")]
    Unreadable { what: &'static str },
    /// `create_session`: something that covers the person was revoked since the login began.
    /// `claim_endpoint`: the authtoken was revoked.
    #[error("revoked meanwhile")]
    RevokedMeanwhile,
}

impl Store {
    /// Writes person, session, indexes and log entry in one step. `fresh_user` becomes the person's id when (issuer, subject) is unknown or was deleted.
    pub(crate) async fn create_session(&self, new: NewSession) -> Result<Session, StoreError> {
        match self {
            Self::Embedded(engine) => engine.create_session(new).await,
        }
    }

    /// Reads a session with everything that may have ended it, in one step.
    pub(crate) async fn load_session(&self, id: SessionId) -> Result<Loaded, StoreError> {
        match self {
            Self::Embedded(engine) => engine.load_session(id).await,
        }
    }

    /// A live session for display; `None` when absent, revoked or past its absolute end.
    pub(crate) async fn session(
        &self,
        id: SessionId,
        now: Timestamp,
    ) -> Result<Option<SessionSeen>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.session(id, now).await,
        }
    }

    /// Live sessions, newest first.
    pub(crate) async fn sessions(
        &self,
        filter: SessionFilter,
        page: Page<SessionId>,
        now: Timestamp,
    ) -> Result<Vec<SessionSeen>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.sessions(filter, page, now).await,
        }
    }

    /// An App User; `None` when absent or deleted.
    pub(crate) async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.user(id).await,
        }
    }

    /// App Users, newest first.
    pub(crate) async fn users(&self, page: Page<UserId>) -> Result<Vec<User>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.users(page).await,
        }
    }

    /// Raises last-active times; never lowers one, never revives a session. At most 500 a call.
    pub(crate) async fn touch(&self, batch: Vec<(SessionId, Timestamp)>) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.touch(batch).await,
        }
    }

    /// Whether this person must prove themselves again at the next login: something that covers them was revoked after their last session was made.
    pub(crate) async fn interactive_due(&self, person: Person) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(engine) => engine.interactive_due(person).await,
        }
    }

    /// Ends rights, durably: tombstone or mark, records, indexes, log entry and receipt in one synced step. Repeating an order of a session or user that is already ended gives the first receipt again.
    pub(crate) async fn revoke(&self, order: RevokeOrder) -> Result<Option<Revoked>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.revoke(order).await,
        }
    }

    /// Marks at this moment: the revisions below which sessions are dead.
    pub(crate) async fn marks(&self) -> Result<Marks, StoreError> {
        match self {
            Self::Embedded(engine) => engine.marks().await,
        }
    }

    /// A receipt.
    pub(crate) async fn receipt(&self, id: ReceiptId) -> Result<Option<Receipt>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.receipt(id).await,
        }
    }

    /// Replaces a receipt once the edges have acknowledged.
    pub(crate) async fn complete_receipt(&self, receipt: Receipt) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.complete_receipt(receipt).await,
        }
    }

    /// Keeps a sealed value until it is taken or `until` passes. Durability is not needed.
    pub(crate) async fn put_once(
        &self,
        kind: OnceKind,
        key: [u8; 32],
        value: Vec<u8>,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.put_once(kind, key, value, until).await,
        }
    }

    /// Reads and deletes in one step; an expired value is absent.
    pub(crate) async fn take_once(
        &self,
        kind: OnceKind,
        key: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.take_once(kind, key, now).await,
        }
    }

    /// True the first time only, until `until` passes. An error means that it is not known: refuse.
    #[cfg_attr(not(test), expect(dead_code, reason = "for SAML and logout tokens"))]
    pub(crate) async fn seen_once(
        &self,
        key: [u8; 32],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(engine) => engine.seen_once(key, now, until).await,
        }
    }

    /// Claims a host for an authtoken, or updates the claim that it holds (upstream, access, kind, networks). Emits `EndpointChanged` when something differs.
    pub(crate) async fn claim_endpoint(&self, claim: Endpoint) -> Result<Claimed, StoreError> {
        match self {
            Self::Embedded(engine) => engine.claim_endpoint(claim).await,
        }
    }

    /// One endpoint.
    pub(crate) async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.endpoint(id).await,
        }
    }

    /// The endpoint of a host in canonical form.
    pub(crate) async fn endpoint_at(&self, host: String) -> Result<Option<Endpoint>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.endpoint_at(host).await,
        }
    }

    /// The endpoints of an authtoken, oldest first.
    pub(crate) async fn endpoints_of(
        &self,
        authtoken: AuthtokenId,
    ) -> Result<Vec<Endpoint>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.endpoints_of(authtoken).await,
        }
    }

    /// Every endpoint (bounded by `proto::limits`).
    pub(crate) async fn endpoints(&self) -> Result<Vec<Endpoint>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.endpoints().await,
        }
    }

    /// Creates an authtoken.
    pub(crate) async fn put_authtoken(&self, record: AuthtokenRecord) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.put_authtoken(record).await,
        }
    }

    /// One authtoken, revoked ones included.
    pub(crate) async fn authtoken(
        &self,
        id: AuthtokenId,
    ) -> Result<Option<AuthtokenRecord>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.authtoken(id).await,
        }
    }

    /// Every authtoken, newest first.
    pub(crate) async fn authtokens(&self) -> Result<Vec<AuthtokenRecord>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.authtokens().await,
        }
    }

    /// Revokes an authtoken, removes its endpoints (`EndpointRemoved`) and ends their sessions, in one synced step. False when unknown.
    pub(crate) async fn revoke_authtoken(
        &self,
        id: AuthtokenId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(engine) => engine.revoke_authtoken(id, at).await,
        }
    }

    /// Creates an API key.
    pub(crate) async fn put_api_key(&self, record: ApiKeyRecord) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.put_api_key(record).await,
        }
    }

    /// One API key, revoked ones included.
    pub(crate) async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.api_key(id).await,
        }
    }

    /// Every API key, newest first.
    pub(crate) async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.api_keys().await,
        }
    }

    /// Revokes an API key. False when unknown.
    pub(crate) async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(engine) => engine.revoke_api_key(id, at).await,
        }
    }

    /// Adds or replaces a provider (`ProviderChanged`).
    pub(crate) async fn put_provider(&self, record: ProviderRecord) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.put_provider(record).await,
        }
    }

    /// Every provider, by name.
    pub(crate) async fn providers(&self) -> Result<Vec<ProviderRecord>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.providers().await,
        }
    }

    /// Removes a provider (`ProviderRemoved`) and raises its mark. False when unknown.
    pub(crate) async fn remove_provider(&self, name: String) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(engine) => engine.remove_provider(name).await,
        }
    }

    /// Keeps an operator's sign-in.
    pub(crate) async fn put_operator(&self, record: OperatorRecord) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.put_operator(record).await,
        }
    }

    /// An operator's sign-in; `None` when absent or past its end.
    pub(crate) async fn operator(
        &self,
        id: OperatorId,
        now: Timestamp,
    ) -> Result<Option<OperatorRecord>, StoreError> {
        match self {
            Self::Embedded(engine) => engine.operator(id, now).await,
        }
    }

    /// Ends an operator's sign-in.
    pub(crate) async fn remove_operator(&self, id: OperatorId) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.remove_operator(id).await,
        }
    }

    /// Reads the log of a shard after a position, waiting up to `wait` when there is nothing yet. At most 1,000 entries.
    pub(crate) async fn read_log(
        &self,
        shard: Shard,
        after: Revision,
        wait: Duration,
    ) -> Result<LogBatch, StoreError> {
        match self {
            Self::Embedded(engine) => engine.read_log(shard, after, wait).await,
        }
    }

    /// Says that an edge has applied the log up to a position, and how many connections each receipt's revocation cut.
    pub(crate) async fn acknowledge(&self, ack: Acknowledgement) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.acknowledge(ack).await,
        }
    }

    /// Waits until every edge of `edges` acknowledged `revision`, at most `wait`; gives what was acknowledged by then.
    pub(crate) async fn await_acknowledged(
        &self,
        shard: Shard,
        revision: Revision,
        receipt: ReceiptId,
        wait: Duration,
    ) -> Result<Acknowledged, StoreError> {
        match self {
            Self::Embedded(engine) => {
                engine
                    .await_acknowledged(shard, revision, receipt, wait)
                    .await
            }
        }
    }

    /// Registers a running edge and proves that the store takes writes.
    pub(crate) async fn heartbeat(&self, edge: EdgeId) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.heartbeat(edge).await,
        }
    }

    /// Deletes what has expired: one-time values, sessions past their end, tombstones an hour later. Bounded work per call; gives how much was deleted.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Embedded(engine) => engine.sweep(now).await,
        }
    }

    /// A consistent copy of the store into a new file (mode 0600); refuses to overwrite.
    pub(crate) async fn backup(&self, to: PathBuf) -> Result<(), StoreError> {
        match self {
            Self::Embedded(engine) => engine.backup(to).await,
        }
    }
}
