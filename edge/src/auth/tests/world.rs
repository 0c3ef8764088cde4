//! An edge's judgement with a real store and a real issuer, and browsers that keep cookies by host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header, request};
use proto::code::Code;
use proto::id::{EdgeId, EndpointId, SessionId};
use url::{Position, Url};

use super::issuer::Issuer;
use super::{MS, endpoint, login_rule};
use crate::auth::reply::{Content, Failure, Reply};
use crate::auth::{Auth, AuthParts, Permit, Verdict};
use crate::clock::Clock;
use crate::context::UserAgents;
use crate::idp::{Http, HttpOptions, IdentityProvider, ProviderSettings, Providers};
use crate::model::change::Revision;
use crate::model::endpoint::{Access, Endpoint};
use crate::model::site::Site;
use crate::route::table::{Route, Table};
use crate::secret::{self, ClusterKey, Secret};
use crate::session::live::Live;
use crate::session::revoke::Revocations;
use crate::store::embedded::Embedded;
use crate::store::seal::Sealer;
use crate::store::{Claimed, Page, SessionFilter, Shard, Store};

pub(super) const APP: &str = "https://app.otter.localhost:8443";
pub(super) const OTHER: &str = "https://other.otter.localhost:8443";
pub(super) const AUTH: &str = "https://auth.otter.localhost:8443";

pub(super) struct World {
    pub(super) auth: Auth,
    pub(super) store: Arc<Store>,
    pub(super) live: Arc<Live>,
    pub(super) routes: Arc<Table>,
    pub(super) issuer: Issuer,
    pub(super) revocations: Revocations,
    pub(super) fresh: Arc<AtomicBool>,
    pub(super) app: Endpoint,
    applied: Revision,
    _dir: tempfile::TempDir,
}

impl World {
    /// Two endpoints, `app` and `other`, behind the same provider, for anyone at `example.test`.
    pub(super) async fn new() -> Self {
        Self::with(login_rule(&[], &["example.test"])).await
    }

    pub(super) async fn with(access: Access) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let edge: EdgeId = secret::new_id(MS);
        let sealer = Sealer::new(&[9; 32], None);
        let engine = Embedded::open(&dir.path().join("store.redb"), sealer, edge).await;
        let store = Arc::new(Store::Embedded(engine.unwrap()));
        let issuer = Issuer::start().await;
        let http = Http::new(&HttpOptions {
            allow_loopback_http: true,
            extra_roots: Vec::new(),
        })
        .unwrap();
        let providers = Arc::new(Providers::default());
        for name in ["dev", "second"] {
            let secret = Secret::new("s3cret".to_owned());
            let settings = ProviderSettings::resolve(
                name,
                "oidc",
                Some(&issuer.url),
                "client",
                secret,
                Vec::new(),
            );
            providers.replace(IdentityProvider::new(settings.unwrap(), &http).unwrap());
        }
        let routes = Arc::new(Table::default());
        let app = endpoint(access.clone());
        let other = Endpoint {
            id: EndpointId::new(MS, [9; 14]),
            host: "other.otter.localhost".to_owned(),
            ..endpoint(access)
        };
        for one in [&app, &other] {
            assert!(matches!(
                store.claim_endpoint(one.clone()).await.unwrap(),
                Claimed::Held(_)
            ));
            routes.put(one.clone());
        }
        let live = Arc::new(Live::new(Arc::clone(&store), Arc::default()));
        let fresh = Arc::new(AtomicBool::new(true));
        let revocations = Revocations::new(Arc::clone(&store), Clock);
        let auth = Auth::new(AuthParts {
            store: Arc::clone(&store),
            live: Arc::clone(&live),
            routes: Arc::clone(&routes),
            providers,
            revocations: revocations.clone(),
            user_agents: Arc::new(UserAgents::new(None)),
            geoip: None,
            site: Site {
                domain: "otter.localhost".to_owned(),
                port: 8443,
            },
            cluster_key: ClusterKey::new([1; 32]),
            previous_cluster_key: None,
            clock: Clock,
            fresh: {
                let fresh = Arc::clone(&fresh);
                Arc::new(move || fresh.load(Ordering::Relaxed))
            },
        });
        Self {
            auth,
            store,
            live,
            routes,
            issuer,
            revocations,
            fresh,
            app,
            applied: Revision(0),
            _dir: dir,
        }
    }

    /// Applies what the store's log holds, as `follow` does.
    pub(super) async fn follow(&mut self) {
        let read = self
            .store
            .read_log(Shard::People(0), self.applied, Duration::ZERO);
        for entry in read.await.unwrap().entries {
            let _ = self.live.apply(&entry);
            self.applied = entry.revision;
        }
    }

    pub(super) fn change_app(&mut self, access: Access) {
        self.app.access = access;
        self.routes.put(self.app.clone());
    }

    pub(super) fn route(&self, host: &str) -> Route {
        self.routes.find(host).unwrap()
    }

    pub(super) async fn sessions(&self) -> Vec<SessionId> {
        let page = Page {
            before: None,
            limit: 100,
        };
        let all = self
            .store
            .sessions(SessionFilter::default(), page, Clock.now());
        all.await
            .unwrap()
            .into_iter()
            .map(|seen| seen.session.id)
            .collect()
    }
}

/// A browser: cookies by host, and the person in front of it.
#[derive(Clone, Debug)]
pub(super) struct Browser {
    person: &'static str,
    pub(super) jar: BTreeMap<(String, String), String>,
}

/// What a request came to.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed(Permit),
    Answered(Reply),
    /// The provider's page.
    Provider(Url),
}

impl Outcome {
    #[track_caller]
    pub(super) fn permit(self) -> Permit {
        let Self::Passed(permit) = self else {
            panic!("not let in: {self:?}");
        };
        permit
    }

    #[track_caller]
    pub(super) fn location(self) -> String {
        let Self::Answered(Reply {
            content: Content::Redirect(location),
            ..
        }) = self
        else {
            panic!("no redirect: {self:?}");
        };
        location
    }

    #[track_caller]
    pub(super) fn failure(self) -> Failure {
        let Self::Answered(Reply {
            content: Content::Failure(failure),
            cookies,
        }) = self
        else {
            panic!("no failure: {self:?}");
        };
        assert!(cookies.is_empty(), "a refusal sets and clears no cookie");
        failure
    }

    #[track_caller]
    pub(super) fn code(self) -> Code {
        self.failure().code
    }
}

impl Browser {
    pub(super) fn of(person: &'static str) -> Self {
        Self {
            person,
            jar: BTreeMap::new(),
        }
    }

    /// The headers of a page load, each cookie a crumb of its own.
    pub(super) fn request(&self, method: &str, url: &str) -> (Url, Request<Bytes>) {
        let url = Url::parse(url).unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(&url[Position::BeforePath..Position::AfterQuery])
            .header(header::ACCEPT, "text/html,*/*;q=0.8")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-site", "same-origin");
        for ((host, name), value) in &self.jar {
            if url.host_str() == Some(host) {
                request = request.header(header::COOKIE, format!("{name}={value}"));
            }
        }
        (url, request.body(Bytes::new()).unwrap())
    }

    pub(super) async fn send(&mut self, world: &World, method: &str, url: &str) -> Outcome {
        let (url, request) = self.request(method, url);
        if url.as_str().starts_with(&world.issuer.url) {
            return Outcome::Provider(url);
        }
        let client: IpAddr = [127, 0, 0, 1].into();
        let host = url.host_str().unwrap();
        let reply = if host == "auth.otter.localhost" {
            world.auth.auth_host(request, client).await
        } else {
            let route = world.route(host);
            if Auth::is_reserved(url.path()) {
                world.auth.endpoint_path(&route, request, client).await
            } else {
                let (parts, _) = request.into_parts();
                match world.auth.authorize(&route, &parts, client).await {
                    Verdict::Allow(permit) => return Outcome::Passed(permit),
                    Verdict::Login(reply) => reply,
                    Verdict::Deny(code) => code.into(),
                }
            }
        };
        self.take_cookies(host, &reply);
        Outcome::Answered(reply)
    }

    fn take_cookies(&mut self, host: &str, reply: &Reply) {
        for cookie in &reply.cookies {
            assert!(cookie.is_sensitive());
            let text = cookie.to_str().unwrap();
            let (pair, attributes) = text.split_once("; ").unwrap();
            assert!(attributes.ends_with("Path=/; Secure; HttpOnly; SameSite=Lax"));
            let (name, value) = pair.split_once('=').unwrap();
            let key = (host.to_owned(), name.to_owned());
            if attributes.starts_with("Max-Age=0;") {
                self.jar.remove(&key);
            } else {
                self.jar.insert(key, value.to_owned());
            }
        }
    }

    pub(super) async fn get(&mut self, world: &World, url: &str) -> Outcome {
        self.send(world, "GET", url).await
    }

    /// Follows redirects from an address to the provider's page, and gives that.
    pub(super) async fn reach_provider(&mut self, world: &World, url: &str) -> Url {
        let mut at = url.to_owned();
        for _ in 0..4 {
            let outcome = self.get(world, &at).await;
            if let Outcome::Provider(page) = outcome {
                return page;
            }
            at = outcome.location();
        }
        panic!("no provider's page after {url}");
    }

    /// What the provider answers at its page: the callback's address.
    pub(super) fn at_provider(&self, world: &World, page: &Url) -> String {
        world.issuer.authorize(page, self.person).into()
    }

    /// Goes to an address and follows everything, the provider's silent answer included.
    pub(super) async fn visit(&mut self, world: &World, url: &str) -> (String, Outcome) {
        let mut at = url.to_owned();
        for _ in 0..12 {
            let outcome = self.get(world, &at).await;
            at = if let Outcome::Provider(page) = &outcome {
                self.at_provider(world, page)
            } else if let Outcome::Answered(Reply {
                content: Content::Redirect(location),
                ..
            }) = &outcome
            {
                location.clone()
            } else {
                return (at, outcome);
            };
        }
        panic!("no end after {url}");
    }

    pub(super) fn session_cookie(&self, host: &str) -> Option<&String> {
        self.jar
            .get(&(host.to_owned(), "__Host-sallyport".to_owned()))
    }

    pub(super) fn bindings(&self) -> usize {
        let is_binding = |name: &str| name.starts_with("__Host-sallyport-login-");
        self.jar.keys().filter(|(_, name)| is_binding(name)).count()
    }

    /// The head of a request that is no page load.
    pub(super) fn fetch(&self, method: &str, url: &str, pairs: &[(&str, &str)]) -> request::Parts {
        let (_, request) = self.request(method, url);
        let (mut parts, _) = request.into_parts();
        for name in ["accept", "sec-fetch-mode", "sec-fetch-site"] {
            parts.headers.remove(name);
        }
        for (name, value) in pairs {
            let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            parts.headers.append(name, value.parse().unwrap());
        }
        parts
    }
}
