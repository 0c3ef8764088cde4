//! The doors from outside, over the real embedded store: requests in, answers out.

mod api;
mod dashboard;
mod socket;
mod sweep;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use proto::id::{SessionId, UserId};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;
use crate::model::change::Revision;
use crate::model::endpoint::{Access, Endpoint, Kind, NetworkRule};
use crate::model::session::{Browser, Place, UserAgent};
use crate::model::user::Claims;
use crate::secret::{new_id, random, sha256};
use crate::store::embedded::Embedded;
use crate::store::seal::Sealer;
use crate::store::{Claimed, NewSession, Shard};

/// A store, the doors over it, and one API key.
pub(crate) struct World {
    _folder: TempDir,
    pub(crate) admin: Arc<Admin>,
    store: Arc<Store>,
    key: String,
    online: Arc<Mutex<Vec<EndpointId>>>,
}

/// An answer, read whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The status, and the code of an error.
    #[track_caller]
    fn refusal(&self) -> (u16, String) {
        let body = self.json();
        let code = body["error_code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(body["status_code"], self.status.as_u16(), "{body}");
        assert!(
            body["details"]["operation_id"]
                .as_str()
                .unwrap()
                .starts_with("req_"),
            "{body}"
        );
        assert_eq!(self.header("sallyport-error"), code);
        assert_eq!(
            self.header("ngrok-operation-id"),
            body["details"]["operation_id"]
        );
        (self.status.as_u16(), code)
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::placed(true).await
    }

    async fn placed(knows_places: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock;
        let edge = new_id(clock.unix_ms());
        let engine = Embedded::open(
            &folder.path().join("store"),
            Sealer::new(&[7; 32], None),
            edge,
        )
        .await
        .unwrap();
        let store = Arc::new(Store::Embedded(engine));
        let online = Arc::new(Mutex::new(Vec::new()));
        let site = Site {
            domain: "otter.localhost".to_owned(),
            port: 8443,
        };
        let admin = Admin::new(AdminParts {
            store: Arc::clone(&store),
            revocations: Revocations::new(Arc::clone(&store), clock),
            site,
            clock,
            issuer: AuthtokenIssuer {
                addrs: vec!["127.0.0.1:8443".to_owned()],
                server_name: "connect.otter.localhost".to_owned(),
                link_ca_key: [9; 32],
            },
            presence: Box::new({
                let (online, started_at) = (Arc::clone(&online), clock.now());
                move || Presence {
                    edge,
                    started_at,
                    tunnels: 1,
                    sessions: 2,
                    online: online.lock().unwrap().clone(),
                    connections: 3,
                    raw: 0,
                    raw_ended: 0,
                    exchanges: 4,
                    resident_bytes: None,
                    links: Vec::new(),
                    is_emptied: false,
                    cut: 0,
                }
            }),
            drain: Box::new(|_| {}),
            verify_provider: Box::new(|wanted| {
                Box::pin(async move {
                    if wanted.client_id == "wrong" {
                        return Err("discovery failed: no such host".to_owned());
                    }
                    let issuer = wanted
                        .issuer
                        .unwrap_or_else(|| "https://accounts.google.com".to_owned());
                    Ok(ProviderFound {
                        kind: "oidc".to_owned(),
                        issuer,
                    })
                })
            }),
            knows_places,
            tcp_ports: None,
        });
        let key = admin.mint_api_key("tests".to_owned()).await.unwrap().token;
        Self {
            _folder: folder,
            admin,
            store,
            key,
            online,
        }
    }

    async fn endpoint(&self, name: &str) -> EndpointId {
        let clock = Clock;
        let endpoint = Endpoint {
            id: new_id(clock.unix_ms()),
            host: format!("{name}.otter.localhost"),
            authtoken: new_id(clock.unix_ms()),
            upstream: "http://localhost:8080".to_owned(),
            access: Access::Public,
            kind: Kind::Http,
            networks: NetworkRule::default(),
            created_at: clock.now(),
        };
        match self.store.claim_endpoint(endpoint).await.unwrap() {
            Claimed::Held(endpoint) => endpoint.id,
            Claimed::Taken => panic!("taken"),
        }
    }

    /// Signs somebody in.
    async fn sign_in(&self, name: &str, endpoint: EndpointId) -> (UserId, SessionId) {
        let clock = Clock;
        let now = clock.now();
        let marks = self.store.marks().await.unwrap();
        let session = self
            .store
            .create_session(NewSession {
                id: new_id(clock.unix_ms()),
                fresh_user: new_id(clock.unix_ms()),
                endpoint,
                public_url: "https://app.otter.localhost:8443".to_owned(),
                provider: "google".to_owned(),
                claims: Claims {
                    issuer: "https://accounts.google.com".to_owned(),
                    subject: format!("sub-{name}"),
                    email: Some(format!("{name}@example.test")),
                    email_verified: true,
                    name: Some(name.to_owned()),
                    username: None,
                },
                secret_hash: sha256(&random::<32>()),
                browser: Browser {
                    user_agent: UserAgent {
                        raw: "Mozilla/5.0 <b>".to_owned(),
                        browser_name: "Firefox".to_owned(),
                        browser_version: "140".to_owned(),
                        device_type: "Desktop".to_owned(),
                        os_name: "Linux".to_owned(),
                        os_version: String::new(),
                    },
                    address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
                    place: Some(Place {
                        country_code: Some("GB".to_owned()),
                        city: Some("London".to_owned()),
                        latitude_micro: Some(51_500_000),
                        longitude_micro: Some(-120_000),
                        radius_km: Some(100),
                        network: Some("Example Net".to_owned()),
                        subdivision: None,
                    }),
                },
                auth_time: None,
                created_at: now,
                expires_at: now + jiff::SignedDuration::from_hours(24),
                idle_limit: None,
                replaces: None,
                begun_at: marks.at,
            })
            .await
            .unwrap();
        (session.user, session.id)
    }

    /// A request to the API with a good key.
    async fn api(&self, method: Method, uri: &str) -> Answer {
        self.api_body(method, uri, "").await
    }

    async fn api_body(&self, method: Method, uri: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(AUTHORIZATION, format!("Bearer {}", self.key))
            .header("ngrok-version", "2")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        ask(self.admin.api(), request).await
    }

    async fn socket(&self, method: Method, uri: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Body::from(body.to_owned()))
            .unwrap();
        ask(self.admin.socket(), request).await
    }
}

async fn ask(door: Router, request: Request<Body>) -> Answer {
    let response = door.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text,
    }
}
