//! An App User: a person as one identity provider names them, by issuer and subject.

use jiff::Timestamp;
use proto::id::UserId;

/// What a provider said of a person at a login, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Claims {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) email: Option<String>,
    /// Verified as that provider defines it.
    pub(crate) email_verified: bool,
    pub(crate) name: Option<String>,
    pub(crate) username: Option<String>,
}

/// A person who signed in at least once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct User {
    pub(crate) id: UserId,
    /// The provider's name on this edge at the last login.
    pub(crate) provider: String,
    /// As of the last login.
    pub(crate) claims: Claims,
    pub(crate) created_at: Timestamp,
    pub(crate) last_login: Timestamp,
    pub(crate) last_active: Timestamp,
}
