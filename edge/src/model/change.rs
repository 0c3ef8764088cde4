//! What the store's log carries: the closed set of changes, in an order that only the store gives.

use proto::id::{ApiKeyId, AuthtokenId, EndpointId, ReceiptId, SessionId, UserId};

use super::session::CutReason;

/// A position in a shard's log, and the age of everything written there: it never falls.
///
/// No clock takes part. Revision 0 is "before everything".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Revision(pub(crate) u64);

/// Whom a revocation ends.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Scope {
    Session(SessionId),
    User(UserId),
    Endpoint(EndpointId),
    /// By the provider's name on this edge.
    Provider(String),
    All,
}

/// One change that edges follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// Ends sessions. For `Scope::Session` a tombstone, otherwise a mark: every session of the scope
    /// whose own revision is below this entry's is dead.
    Revoked {
        scope: Scope,
        reason: CutReason,
        receipt: ReceiptId,
    },
    SessionCreated {
        session: SessionId,
        user: UserId,
    },
    /// An endpoint was claimed, or its policy changed.
    EndpointChanged {
        endpoint: EndpointId,
    },
    EndpointRemoved {
        endpoint: EndpointId,
    },
    AuthtokenRevoked {
        authtoken: AuthtokenId,
    },
    ApiKeyRevoked {
        api_key: ApiKeyId,
    },
    ProviderChanged {
        name: String,
    },
    ProviderRemoved {
        name: String,
    },
}

/// A change with its place in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LogEntry {
    pub(crate) revision: Revision,
    pub(crate) change: Change,
}
