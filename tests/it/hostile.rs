//! Attacks that other identity proxies fell to, by the ids of the list that they come from. Each is judged
//! at the upstream, in the store's effect and in the captured log, not only by its status; codes are
//! asserted, so that a refusal is for the stated reason.

mod headers;
mod oidc;
mod paths;
mod sessions;
mod targets;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt as _;
use tests::http::{Ask, HTML, Reply, Version};
use tests::user::User;
use tests::world::{Agent, World};

/// Where the cases of a group run: an endpoint with a login, one without, and somebody signed in.
struct Bench {
    world: World,
    /// `app`: with the development provider's login.
    app: Agent,
    /// `open`: without a login.
    _open: Agent,
    ada: User,
}

/// A case: its id and name, and what it does.
type Case = (
    &'static str,
    for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
);

/// The table of a group.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), |bench| Box::pin($name(bench)))),*]
    };
}
use cases;

impl Bench {
    async fn new() -> Self {
        let world = World::with_login().await;
        let app = world.login_agent("app").await;
        let open = world.agent("open", &[]).await;
        let ada = world.signed_in("ada", &app.url).await;
        Self {
            world,
            app,
            _open: open,
            ada,
        }
    }

    /// Runs a table and reports every case that failed.
    async fn run(self, cases: &[Case]) {
        let mut failed = Vec::new();
        for (name, case) in cases {
            self.world.upstream.clear();
            if AssertUnwindSafe(case(&self)).catch_unwind().await.is_err() {
                failed.push(*name);
            }
        }
        let log = self.world.edge.log();
        assert!(!log.contains("panicked"), "the edge panicked: {log}");
        assert!(
            failed.is_empty(),
            "{} of {} cases failed: {failed:?}",
            failed.len(),
            cases.len()
        );
    }

    fn ask(&self, label: &str, target: &str) -> Ask {
        Ask::get(&self.world.net, label, target)
    }

    /// A request of the signed-in browser.
    fn signed(&self, target: &str) -> Ask {
        self.ask("app", target)
            .cookie(&self.ada.cookie(&self.app.url))
    }

    async fn send(&self, ask: Ask, version: Version) -> Reply {
        ask.send(&self.world.net, version).await
    }

    /// Exactly what a request without a session gets, and the upstream did not hear of it.
    async fn assert_anonymous(&self, ask: Ask, what: &str) {
        for version in Version::BOTH {
            let before = self.world.upstream.count();
            let reply = self.send(ask.clone(), version).await;
            reply.assert_refused(401, "SP_2001", what);
            assert_eq!(reply.header("set-cookie"), None, "{what}");
            let page = self
                .send(
                    ask.clone()
                        .header("accept", HTML)
                        .header("sec-fetch-mode", "navigate")
                        .header("sec-fetch-site", "none"),
                    version,
                )
                .await;
            assert_eq!(page.status, 303, "{what} {version:?}: {}", page.text());
            assert!(
                page.header("location")
                    .unwrap()
                    .starts_with(&self.world.net.url("auth")),
                "{what}"
            );
            assert_eq!(
                self.world.upstream.count(),
                before,
                "{what}: the upstream was contacted"
            );
        }
    }
}

/// Group A: header and forwarding trust.
#[tokio::test(flavor = "multi_thread")]
async fn group_a_headers() {
    Bench::new().await.run(headers::CASES).await;
}

/// Group B: paths, hosts and methods. Smuggling has a file of its own.
#[tokio::test(flavor = "multi_thread")]
async fn group_b_paths() {
    Bench::new().await.run(paths::CASES).await;
}

/// Group C: redirect targets.
#[tokio::test(flavor = "multi_thread")]
async fn group_c_targets() {
    Bench::new().await.run(targets::CASES).await;
}

/// D01 to D05, D09, D11 to D14, and D06, D15, D17 which cost nothing more: OIDC and OAuth.
#[tokio::test(flavor = "multi_thread")]
async fn group_d_oidc() {
    Bench::new().await.run(oidc::CASES).await;
}

/// Group E as far as one edge goes: sessions and revocation.
#[tokio::test(flavor = "multi_thread")]
async fn group_e_sessions() {
    Bench::new().await.run(sessions::CASES).await;
}
