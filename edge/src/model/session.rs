//! A session: one signed-in browser of an App User at an endpoint, and the states it moves through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proto::id::{EndpointId, SessionId, UserId};

use super::change::Revision;
use super::user::Claims;

/// The fixed facts of a session. Activity is kept apart, so that no writer overwrites another's field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: UserId,
    pub(crate) endpoint: EndpointId,
    /// The endpoint's public URL at login, as `https://name.domain[:port]`.
    pub(crate) public_url: String,
    /// The provider's name on this edge.
    pub(crate) provider: String,
    pub(crate) claims: Claims,
    /// SHA-256 of the cookie's secret.
    pub(crate) secret_hash: [u8; 32],
    pub(crate) browser: Browser,
    pub(crate) created_at: Timestamp,
    /// When the provider says that the person proved who they are.
    pub(crate) auth_time: Option<Timestamp>,
    /// The absolute end; nothing moves it.
    pub(crate) expires_at: Timestamp,
    /// Longest pause between two requests; `None` for no such limit.
    pub(crate) idle_limit: Option<Duration>,
    /// The shard's counter when the session was created: marks compare with it.
    pub(crate) revision: Revision,
}

/// A session as lists show it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SessionSeen {
    pub(crate) session: Session,
    pub(crate) last_active: Timestamp,
}

/// From where a session was begun.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Browser {
    pub(crate) user_agent: UserAgent,
    pub(crate) address: IpAddr,
    pub(crate) place: Option<Place>,
}

/// A parsed `User-Agent`: six strings, empty when unknown, never longer than 512 bytes each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct UserAgent {
    pub(crate) raw: String,
    pub(crate) browser_name: String,
    pub(crate) browser_version: String,
    pub(crate) device_type: String,
    pub(crate) os_name: String,
    pub(crate) os_version: String,
}

/// Where an address is, as far as the operator's MMDB file knows. Coordinates in microdegrees, so
/// that places compare exactly.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) country_code: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) subdivision: Option<String>,
    pub(crate) latitude_micro: Option<i32>,
    pub(crate) longitude_micro: Option<i32>,
    pub(crate) radius_km: Option<u32>,
    /// Name of the network (autonomous system), when the file has it.
    pub(crate) network: Option<String>,
}

/// What an edge knows of a session. It only moves forward, `Loading → Active → Revoked`: see
/// `trust::merge`.
#[derive(Clone, Debug)]
pub(crate) enum SessionState {
    /// Announced, not read yet. Changes that arrive meanwhile are merged, so none is lost.
    Loading,
    Active(Arc<Session>),
    Revoked(CutReason),
}

/// Why a right ended, and with it the bytes in flight.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum CutReason {
    /// By an operator or an API client.
    Revoked,
    /// By the person.
    LoggedOut,
    /// No such session: deleted, or never made.
    Absent,
    /// The absolute end was reached.
    Expired,
    /// No request for longer than the idle limit.
    Idle,
    /// A rule that let the person in no longer does.
    PolicyChanged,
    EndpointRemoved,
    AuthtokenRevoked,
    /// The edge may not believe its memory and could not ask the store.
    LeaseLost,
    /// The edge stops.
    Shutdown,
}

impl CutReason {
    /// A short fixed word for logs, close frames and the store.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::LoggedOut => "logged_out",
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::PolicyChanged => "policy_changed",
            Self::EndpointRemoved => "endpoint_removed",
            Self::AuthtokenRevoked => "authtoken_revoked",
            Self::LeaseLost => "lease_lost",
            Self::Shutdown => "shutdown",
        }
    }
}
