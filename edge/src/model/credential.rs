//! What machines and operators authenticate with, as the store keeps it: never the secret itself.

use jiff::Timestamp;
use proto::id::{ApiKeyId, AuthtokenId, OperatorId};

/// What an agent authenticates with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AuthtokenRecord {
    pub(crate) id: AuthtokenId,
    pub(crate) secret_hash: [u8; 32],
    pub(crate) description: String,
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

/// What an API client authenticates with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ApiKeyRecord {
    pub(crate) id: ApiKeyId,
    pub(crate) secret_hash: [u8; 32],
    pub(crate) description: String,
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

/// An operator's sign-in at the dashboard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OperatorRecord {
    pub(crate) id: OperatorId,
    pub(crate) secret_hash: [u8; 32],
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// An identity provider as the operator registered it. The store seals the client secret.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct ProviderRecord {
    pub(crate) name: String,
    /// The preset's name (`google`), or `oidc` for an issuer by discovery.
    pub(crate) kind: String,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    /// Beyond the preset's.
    pub(crate) scopes: Vec<String>,
    pub(crate) created_at: Timestamp,
}

impl std::fmt::Debug for ProviderRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderRecord")
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
