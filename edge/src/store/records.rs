//! The store's records: how the nouns of `model` are written down.
//!
//! JSON, so that fields can be added (with a default) and old records still read; a changed meaning
//! needs a new schema version. Each record mirrors its noun field by field: a noun that grows does
//! not compile until its record says how to keep the new field.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use proto::id::{
    ApiKeyId, AuthtokenId, EdgeId, EndpointId, OperatorId, ReceiptId, SessionId, UserId,
};
use serde::{Deserialize, Serialize};

use crate::model::change::{Change, Revision, Scope};
use crate::model::credential::{ApiKeyRecord, AuthtokenRecord, OperatorRecord, ProviderRecord};
use crate::model::endpoint::{Access, Endpoint, Keeper, Kind, LoginRule, NetworkRule, Termination};
use crate::model::receipt::Receipt;
use crate::model::session::{Browser, CutReason, Place, Session, UserAgent};
use crate::model::user::{Claims, User};

/// A noun that the store can keep.
pub(crate) trait Record: Sized {
    /// With its article, for errors.
    const NOUN: &'static str;

    fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error>;
    fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error>;
}

macro_rules! records {
    ($($noun:ident as $stored:ident, $text:literal;)*) => {$(
        impl Record for $noun {
            const NOUN: &'static str = $text;

            fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
                let mut bytes = Vec::with_capacity(512);
                $stored::serialize(self, &mut serde_json::Serializer::new(&mut bytes))?;
                Ok(bytes)
            }

            fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
                $stored::deserialize(&mut serde_json::Deserializer::from_slice(bytes))
            }
        }
    )*};
}

records! {
    Session as SessionStored, "a session";
    User as UserStored, "an App User";
    Receipt as ReceiptStored, "a receipt";
    Endpoint as EndpointStored, "an endpoint";
    AuthtokenRecord as AuthtokenStored, "an authtoken";
    ApiKeyRecord as ApiKeyStored, "an API key";
    OperatorRecord as OperatorStored, "an operator's sign-in";
    ProviderRecord as ProviderStored, "an identity provider";
    Change as ChangeStored, "a log entry";
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Session")]
struct SessionStored {
    id: SessionId,
    user: UserId,
    endpoint: EndpointId,
    public_url: String,
    provider: String,
    #[serde(with = "ClaimsStored")]
    claims: Claims,
    #[serde(with = "hash")]
    secret_hash: [u8; 32],
    #[serde(with = "BrowserStored")]
    browser: Browser,
    created_at: Timestamp,
    auth_time: Option<Timestamp>,
    expires_at: Timestamp,
    idle_limit: Option<Duration>,
    #[serde(with = "RevisionStored")]
    revision: Revision,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Claims")]
struct ClaimsStored {
    issuer: String,
    subject: String,
    email: Option<String>,
    email_verified: bool,
    name: Option<String>,
    username: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Browser")]
struct BrowserStored {
    #[serde(with = "UserAgentStored")]
    user_agent: UserAgent,
    address: IpAddr,
    #[serde(with = "optional_place")]
    place: Option<Place>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "UserAgent")]
struct UserAgentStored {
    raw: String,
    browser_name: String,
    browser_version: String,
    device_type: String,
    os_name: String,
    os_version: String,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Place")]
struct PlaceStored {
    country_code: Option<String>,
    city: Option<String>,
    subdivision: Option<String>,
    latitude_micro: Option<i32>,
    longitude_micro: Option<i32>,
    radius_km: Option<u32>,
    network: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "User")]
struct UserStored {
    id: UserId,
    provider: String,
    #[serde(with = "ClaimsStored")]
    claims: Claims,
    created_at: Timestamp,
    last_login: Timestamp,
    last_active: Timestamp,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Receipt")]
struct ReceiptStored {
    id: ReceiptId,
    #[serde(with = "ScopeStored")]
    scope: Scope,
    reason: String,
    #[serde(with = "RevisionStored")]
    revision: Revision,
    sessions_ended: u64,
    edges_total: u32,
    edges_acknowledged: u32,
    edges_missing: Vec<EdgeId>,
    connections_cut: u64,
    durable: bool,
    elapsed_ms: u64,
    created_at: Timestamp,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Endpoint")]
struct EndpointStored {
    id: EndpointId,
    host: String,
    authtoken: AuthtokenId,
    upstream: String,
    #[serde(with = "AccessStored")]
    access: Access,
    /// Rows from before there were others are HTTP.
    #[serde(default = "http", with = "KindStored")]
    kind: Kind,
    #[serde(default, with = "NetworkRuleStored")]
    networks: NetworkRule,
    created_at: Timestamp,
}

const fn http() -> Kind {
    Kind::Http
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Kind", rename_all = "snake_case")]
enum KindStored {
    Http,
    Tcp {
        port: u16,
        #[serde(with = "optional_keeper")]
        keeper: Option<Keeper>,
    },
    Tls(#[serde(with = "TerminationStored")] Termination),
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Termination", rename_all = "snake_case")]
enum TerminationStored {
    Edge,
    Beyond,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "NetworkRule")]
struct NetworkRuleStored {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Access", rename_all = "snake_case")]
enum AccessStored {
    Public,
    Login(#[serde(with = "LoginRuleStored")] LoginRule),
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "LoginRule")]
struct LoginRuleStored {
    provider: String,
    allow_emails: Vec<String>,
    allow_domains: Vec<String>,
    session_life: Duration,
    idle_limit: Option<Duration>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "AuthtokenRecord")]
struct AuthtokenStored {
    id: AuthtokenId,
    #[serde(with = "hash")]
    secret_hash: [u8; 32],
    description: String,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "ApiKeyRecord")]
struct ApiKeyStored {
    id: ApiKeyId,
    #[serde(with = "hash")]
    secret_hash: [u8; 32],
    description: String,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "OperatorRecord")]
struct OperatorStored {
    id: OperatorId,
    #[serde(with = "hash")]
    secret_hash: [u8; 32],
    created_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "ProviderRecord")]
struct ProviderStored {
    name: String,
    kind: String,
    issuer: String,
    client_id: String,
    client_secret: String,
    scopes: Vec<String>,
    created_at: Timestamp,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Revision")]
struct RevisionStored(u64);

#[derive(Deserialize, Serialize)]
#[serde(remote = "Scope", rename_all = "snake_case")]
enum ScopeStored {
    Session(SessionId),
    User(UserId),
    Endpoint(EndpointId),
    Provider(String),
    All,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Change", rename_all = "snake_case")]
enum ChangeStored {
    Revoked {
        #[serde(with = "ScopeStored")]
        scope: Scope,
        #[serde(with = "CutReasonStored")]
        reason: CutReason,
        receipt: ReceiptId,
    },
    SessionCreated {
        session: SessionId,
        user: UserId,
    },
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

/// The words of [`CutReason::as_str`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "CutReason", rename_all = "snake_case")]
enum CutReasonStored {
    Revoked,
    LoggedOut,
    Absent,
    Expired,
    Idle,
    PolicyChanged,
    EndpointRemoved,
    AuthtokenRevoked,
    LeaseLost,
    Shutdown,
}

/// The reason of a word that [`CutReason::as_str`] gave.
pub(crate) fn parse_reason(word: &str) -> Option<CutReason> {
    let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word);
    CutReasonStored::deserialize(word).ok()
}

/// 32 bytes as unpadded base64url.
mod hash {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom)?;
        bytes
            .try_into()
            .map_err(|_| D::Error::custom("a hash is 32 bytes"))
    }
}

mod optional_keeper {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Keeper, hash};

    #[derive(Deserialize, Serialize)]
    struct Kept(#[serde(with = "hash")] [u8; 32]);

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        keeper: &Option<Keeper>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        keeper.map(|Keeper(hash)| Kept(hash)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Keeper>, D::Error> {
        Ok(Option::<Kept>::deserialize(from)?.map(|Kept(hash)| Keeper(hash)))
    }
}

mod optional_place {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Place, PlaceStored};

    #[derive(Deserialize, Serialize)]
    struct Kept(#[serde(with = "PlaceStored")] Place);

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        place: &Option<Place>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        place.clone().map(Kept).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Place>, D::Error> {
        Ok(Option::<Kept>::deserialize(from)?.map(|Kept(place)| place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reasons are kept as their fixed words, and every word reads back.
    #[test]
    fn reasons_round_trip() {
        for reason in [
            CutReason::Revoked,
            CutReason::LoggedOut,
            CutReason::Absent,
            CutReason::Expired,
            CutReason::Idle,
            CutReason::PolicyChanged,
            CutReason::EndpointRemoved,
            CutReason::AuthtokenRevoked,
            CutReason::LeaseLost,
            CutReason::Shutdown,
        ] {
            assert_eq!(parse_reason(reason.as_str()), Some(reason));
        }
        assert_eq!(parse_reason("else"), None);
    }

    /// An endpoint of before there were kinds reads as HTTP that everybody may reach; every kind reads
    /// back as it was written.
    #[test]
    fn endpoints_round_trip() {
        let old = br#"{"id":"ep_3MHGIYrE6iQGIDpsbcBdu9YHlx7","host":"app.example.com",
            "authtoken":"cr_3MHGIYrE6Grlwtl9m95nZPT6qpN","upstream":"http://localhost:8080",
            "access":"public","created_at":"2026-11-24T00:00:00Z"}"#;
        let old = Endpoint::from_bytes(old).unwrap();
        assert_eq!(old.kind, Kind::Http);
        assert_eq!(old.networks, NetworkRule::default());
        for kind in [
            Kind::Http,
            Kind::Tcp {
                port: 20_001,
                keeper: Some(Keeper([7; 32])),
            },
            Kind::Tcp {
                port: 20_001,
                keeper: None,
            },
            Kind::Tls(Termination::Edge),
            Kind::Tls(Termination::Beyond),
        ] {
            let endpoint = Endpoint {
                kind,
                networks: NetworkRule {
                    allow: vec!["203.0.113.0/24".parse().unwrap()],
                    deny: vec!["2001:db8::/32".parse().unwrap()],
                },
                ..old.clone()
            };
            let bytes = endpoint.to_bytes().unwrap();
            assert_eq!(Endpoint::from_bytes(&bytes).unwrap(), endpoint);
        }
    }

    /// Every change reads back as it was written, and a field that a newer edge adds is ignored.
    #[test]
    fn changes_round_trip() {
        let id = [9; 20];
        for change in [
            Change::Revoked {
                scope: Scope::Provider("google".to_owned()),
                reason: CutReason::LoggedOut,
                receipt: ReceiptId::from_bytes(id),
            },
            Change::SessionCreated {
                session: SessionId::from_bytes(id),
                user: UserId::from_bytes(id),
            },
            Change::EndpointRemoved {
                endpoint: EndpointId::from_bytes(id),
            },
            Change::ProviderRemoved {
                name: "x".to_owned(),
            },
        ] {
            let bytes = change.to_bytes().unwrap();
            assert_eq!(Change::from_bytes(&bytes).unwrap(), change);
        }
        let newer = br#"{"provider_changed":{"name":"x","hue":3}}"#;
        assert!(matches!(
            Change::from_bytes(newer),
            Ok(Change::ProviderChanged { name }) if name == "x"
        ));
    }
}
