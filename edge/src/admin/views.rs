//! The shapes that the doors speak, as JSON: ngrok's for App Users and sessions, ours for the rest.
//! Fields may be added, never changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::change::Scope;
use crate::model::receipt::Receipt;
use crate::model::session::{Place, SessionSeen, UserAgent};
use crate::model::site::{ReservedHost, Site};
use crate::model::user::User;

/// A reference to another resource.
#[derive(Debug, Serialize)]
pub(crate) struct Ref {
    id: String,
    uri: String,
}

/// An App User, field by field as ngrok gives one, and what we add.
#[derive(Debug, Serialize)]
pub(crate) struct UserView {
    id: String,
    uri: String,
    identity_provider: IdentityProviderView,
    provider_user_id: String,
    username: String,
    email: String,
    name: String,
    created_at: String,
    last_active: String,
    last_login: String,
    /// The provider's name on this edge.
    provider: String,
    email_verified: bool,
}

#[derive(Debug, Serialize)]
struct IdentityProviderView {
    name: String,
    url: String,
}

/// A session, field by field as ngrok gives one, and what we add.
#[derive(Debug, Serialize)]
pub(crate) struct SessionView {
    id: String,
    uri: String,
    public_url: String,
    browser_session: BrowserSession,
    application_user: Ref,
    created_at: String,
    last_active: String,
    expires_at: String,
    endpoint: Ref,
    edge: Option<Ref>,
    route: Option<Ref>,
    /// The provider's name on this edge.
    provider: String,
}

#[derive(Debug, Serialize)]
struct BrowserSession {
    user_agent: UserAgentView,
    ip_address: String,
    location: Option<Location>,
    /// Name of the address's network.
    network: Option<String>,
}

/// Six strings, never null.
#[derive(Debug, Serialize)]
struct UserAgentView {
    raw: String,
    browser_name: String,
    browser_version: String,
    device_type: String,
    os_name: String,
    os_version: String,
}

#[derive(Debug, Serialize)]
struct Location {
    country_code: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    lat_long_radius_km: Option<u32>,
    city: Option<String>,
    subdivision: Option<String>,
}

/// A page of App Users.
#[derive(Debug, Serialize)]
pub(crate) struct UserList {
    pub(super) application_users: Vec<UserView>,
    pub(super) uri: String,
    pub(super) next_page_uri: Option<String>,
}

/// A page of sessions.
#[derive(Debug, Serialize)]
pub(crate) struct SessionList {
    pub(super) application_sessions: Vec<SessionView>,
    pub(super) uri: String,
    pub(super) next_page_uri: Option<String>,
}

/// A receipt (design §6).
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ReceiptView {
    pub(crate) id: String,
    pub(crate) uri: String,
    pub(crate) scope: ScopeView,
    pub(crate) reason: String,
    pub(crate) sessions_ended: u64,
    pub(crate) edges: EdgesView,
    pub(crate) connections_cut: u64,
    pub(crate) durable: bool,
    pub(crate) elapsed_ms: u64,
    pub(crate) created_at: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct EdgesView {
    pub(crate) acknowledged: u32,
    pub(crate) total: u32,
    pub(crate) missing: Vec<String>,
}

/// As it is asked for: one key.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScopeView {
    Session(String),
    User(String),
    Endpoint(String),
    Provider(String),
    All(bool),
}

/// An error's body, as ngrok's clients read it, and our next step.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ErrorView {
    pub(crate) error_code: String,
    pub(crate) status_code: u16,
    pub(crate) msg: String,
    #[serde(default)]
    pub(crate) next_step: String,
    pub(crate) details: Details,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Details {
    pub(crate) operation_id: String,
}

/// An authtoken or API key as lists show it. Socket only.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CredentialView {
    pub(crate) id: String,
    pub(crate) description: String,
    pub(crate) created_at: String,
    pub(crate) revoked_at: Option<String>,
}

/// A fresh authtoken or API key: the only time that its secret is shown. Socket only.
#[derive(Deserialize, Serialize)]
pub(crate) struct FreshCredential {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) description: String,
    pub(crate) created_at: String,
}

/// Socket only.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ProviderView {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) issuer: String,
    /// What to register at the provider.
    pub(crate) redirect_uri: String,
    pub(crate) client_id: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) created_at: String,
}

/// A one-time sign-in link. Socket only.
#[derive(Deserialize, Serialize)]
pub(crate) struct OperatorLink {
    pub(crate) url: String,
    pub(crate) expires_at: String,
}

/// Socket only.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct StatusView {
    pub(crate) version: String,
    pub(crate) edge: String,
    pub(crate) domain: String,
    pub(crate) api_url: String,
    pub(crate) auth_url: String,
    pub(crate) dashboard_url: String,
    pub(crate) started_at: String,
    pub(crate) tunnels: u64,
    /// Sessions in this edge's memory.
    pub(crate) sessions: u64,
    pub(crate) endpoints_online: u64,
    /// Public connections that are open.
    pub(crate) connections: u64,
    /// Exchanges under way.
    pub(crate) exchanges: u64,
    /// Memory of the edge's process, where the system tells.
    pub(crate) memory_resident_bytes: Option<u64>,
    pub(crate) providers: Vec<String>,
    /// The ports of TCP endpoints, `FIRST-LAST`, where there are some.
    #[serde(default)]
    pub(crate) tcp_ports: Option<String>,
    /// Links of the agents that are connected; at most 200.
    pub(crate) links: Vec<LinkView>,
    /// Those online at this edge; at most 200.
    pub(crate) endpoints: Vec<EndpointView>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct EndpointView {
    pub(crate) id: String,
    pub(crate) url: String,
    /// As `url`, under ngrok's name for it.
    #[serde(default)]
    pub(crate) public_url: String,
    /// `https`, `tls` or `tcp`.
    #[serde(default)]
    pub(crate) proto: String,
    pub(crate) upstream: String,
    /// The provider whose login is in front, if there is one.
    pub(crate) login: Option<String>,
    /// The only networks that may connect; empty for all.
    #[serde(default)]
    pub(crate) cidr_allow: Vec<String>,
    /// Networks that may not.
    #[serde(default)]
    pub(crate) cidr_deny: Vec<String>,
}

/// Socket only.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LinkView {
    pub(crate) tunnel: String,
    /// `quic` or `tls`.
    pub(crate) transport: String,
    /// The agent's, as seen here.
    pub(crate) address: String,
    pub(crate) agent_version: String,
    pub(crate) os: String,
    pub(crate) round_trip_us: u64,
    /// Exchanges under way.
    pub(crate) streams: u64,
    /// Memory for what visitors do not read.
    pub(crate) held_bytes: u64,
    /// What it serves.
    pub(crate) endpoints: Vec<String>,
}

/// Socket only: a line of a drain's progress.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct DrainView {
    pub(crate) exchanges: u64,
    pub(crate) connections: u64,
    /// Until what is left is cut.
    pub(crate) left_ms: u64,
    /// Nothing is open any more.
    pub(crate) done: bool,
    /// Exchanges that did not finish in time.
    pub(crate) cut: u64,
    /// Of the exchanges, raw connections: TCP and TLS.
    #[serde(default)]
    pub(crate) raw: u64,
    /// Quiet raw connections that were ended early.
    #[serde(default)]
    pub(crate) raw_ended: u64,
}

/// Socket only.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct BackupView {
    pub(crate) file: String,
}

impl UserView {
    pub(super) fn new(user: User, site: &Site) -> Self {
        let uri = user_uri(site, &user.id.to_string());
        let claims = user.claims;
        Self {
            uri,
            id: user.id.to_string(),
            identity_provider: IdentityProviderView {
                name: provider_name(&user.provider),
                url: claims.issuer,
            },
            provider_user_id: claims.subject,
            username: claims.username.unwrap_or_default(),
            email: claims.email.unwrap_or_default(),
            name: claims.name.unwrap_or_default(),
            created_at: time(user.created_at),
            last_active: time(user.last_active),
            last_login: time(user.last_login),
            provider: user.provider,
            email_verified: claims.email_verified,
        }
    }
}

impl SessionView {
    pub(super) fn new(seen: SessionSeen, site: &Site) -> Self {
        let SessionSeen {
            session,
            last_active,
        } = seen;
        let reference = |path: &str, id: String| Ref {
            uri: api_uri(site, &format!("/{path}/{id}")),
            id,
        };
        let (location, network) = match session.browser.place {
            Some(place) => (location(&place), place.network),
            None => (None, None),
        };
        Self {
            id: session.id.to_string(),
            uri: api_uri(site, &format!("/app/sessions/{}", session.id)),
            public_url: session.public_url,
            browser_session: BrowserSession {
                user_agent: session.browser.user_agent.into(),
                ip_address: session.browser.address.to_string(),
                location,
                network,
            },
            application_user: reference("app/users", session.user.to_string()),
            created_at: time(session.created_at),
            last_active: time(last_active),
            expires_at: time(session.expires_at),
            endpoint: reference("endpoints", session.endpoint.to_string()),
            edge: None,
            route: None,
            provider: session.provider,
        }
    }
}

impl From<UserAgent> for UserAgentView {
    fn from(agent: UserAgent) -> Self {
        let UserAgent {
            raw,
            browser_name,
            browser_version,
            device_type,
            os_name,
            os_version,
        } = agent;
        Self {
            raw,
            browser_name,
            browser_version,
            device_type,
            os_name,
            os_version,
        }
    }
}

impl ReceiptView {
    pub(super) fn new(receipt: &Receipt, site: &Site) -> Self {
        Self {
            id: receipt.id.to_string(),
            uri: receipt_uri(site, receipt),
            scope: match &receipt.scope {
                Scope::Session(id) => ScopeView::Session(id.to_string()),
                Scope::User(id) => ScopeView::User(id.to_string()),
                Scope::Endpoint(id) => ScopeView::Endpoint(id.to_string()),
                Scope::Provider(name) => ScopeView::Provider(name.clone()),
                Scope::All => ScopeView::All(true),
            },
            reason: receipt.reason.clone(),
            sessions_ended: receipt.sessions_ended,
            edges: EdgesView {
                acknowledged: receipt.edges_acknowledged,
                total: receipt.edges_total,
                missing: receipt
                    .edges_missing
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            },
            connections_cut: receipt.connections_cut,
            durable: receipt.durable,
            elapsed_ms: receipt.elapsed_ms,
            created_at: time(receipt.created_at),
        }
    }
}

/// Nothing known of the place itself: null, as ngrok gives it.
fn location(place: &Place) -> Option<Location> {
    let known =
        place.country_code.is_some() || place.latitude_micro.is_some() || place.city.is_some();
    known.then(|| Location {
        country_code: place.country_code.clone(),
        latitude: place.latitude_micro.map(degrees),
        longitude: place.longitude_micro.map(degrees),
        lat_long_radius_km: place.radius_km,
        city: place.city.clone(),
        subdivision: place.subdivision.clone(),
    })
}

pub(super) fn degrees(micro: i32) -> f64 {
    f64::from(micro) / 1e6
}

/// RFC 3339 in UTC, whole seconds.
pub(super) fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

/// How a provider is called, for people.
pub(super) fn provider_name(name: &str) -> String {
    let known = match name {
        "google" => "Google",
        "github" => "GitHub",
        "gitlab" => "GitLab",
        "microsoft" => "Microsoft",
        "linkedin" => "LinkedIn",
        "facebook" => "Facebook",
        "twitch" => "Twitch",
        "amazon" => "Amazon",
        other => other,
    };
    known.to_owned()
}

/// An absolute address at the API: built from the configuration, never from the request.
pub(super) fn api_uri(site: &Site, path: &str) -> String {
    format!("{}{path}", site.url(ReservedHost::Api))
}

fn user_uri(site: &Site, id: &str) -> String {
    api_uri(site, &format!("/app/users/{id}"))
}

/// Where a receipt can be read.
pub(super) fn receipt_uri(site: &Site, receipt: &Receipt) -> String {
    api_uri(site, &format!("/app/receipts/{}", receipt.id))
}
