//! Every admin route without a right to it: refused, and nothing happened.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::http::{Ask, Version};
use tests::require::binary;
use tests::world::World;

/// Every route of the API and the dashboard that needs somebody, with an id that exists in place of each
/// parameter.
const SWEPT: &[(&str, &str, &str)] = &[
    ("api", "GET", "/app/users"),
    ("api", "GET", "/app/users/{id}"),
    ("api", "DELETE", "/app/users/{id}"),
    ("api", "GET", "/app/sessions"),
    ("api", "GET", "/app/sessions/{id}"),
    ("api", "DELETE", "/app/sessions/{id}"),
    ("api", "POST", "/app/revocations"),
    ("api", "GET", "/app/receipts/{id}"),
    ("dashboard", "GET", "/"),
    ("dashboard", "GET", "/users/{user}"),
    ("dashboard", "GET", "/users/{user}/sessions/{session}"),
    ("dashboard", "GET", "/users/{user}/delete"),
    ("dashboard", "POST", "/users/{user}/delete"),
    ("dashboard", "GET", "/users/{user}/end"),
    ("dashboard", "POST", "/users/{user}/end"),
    (
        "dashboard",
        "GET",
        "/users/{user}/sessions/{session}/revoke",
    ),
    (
        "dashboard",
        "POST",
        "/users/{user}/sessions/{session}/revoke",
    ),
    ("dashboard", "POST", "/sign-out"),
];

/// What a browser must reach in order to sign in, and nothing else.
const OPEN: &[(&str, &str, &str)] = &[
    ("dashboard", "GET", "/sign-in"),
    ("dashboard", "POST", "/sign-in"),
    ("dashboard", "GET", "/assets/dashboard.css"),
    ("dashboard", "GET", "/assets/dashboard.js"),
    ("dashboard", "GET", "/favicon.ico"),
];

/// Every route of the tables that the router is built from is in the sweep: a new one that is forgotten
/// here fails.
#[test]
fn the_sweep_is_complete() {
    let printed = std::process::Command::new(binary("edge"))
        .args(["docs", "routes"])
        .output()
        .expect("edge docs routes");
    let routes: Vec<Value> = serde_json::from_slice(&printed.stdout).expect("a list of routes");
    let text = |route: &Value, field: &str| route[field].as_str().unwrap_or_default().to_owned();
    for (door, needs) in [("api", "api_key"), ("dashboard", "operator")] {
        let served: BTreeSet<_> = routes
            .iter()
            .filter(|route| route["door"] == door)
            .map(|route| {
                (
                    text(route, "method"),
                    text(route, "path"),
                    text(route, "needs"),
                )
            })
            .collect();
        let swept = SWEPT.iter().map(|route| (route, needs));
        let open = OPEN.iter().map(|route| (route, "nobody"));
        let known: BTreeSet<_> = swept
            .chain(open)
            .filter(|((at, ..), _)| *at == door)
            .map(|((_, verb, path), needs)| {
                ((*verb).to_owned(), (*path).to_owned(), needs.to_owned())
            })
            .collect();
        assert_eq!(served, known, "{door}: the sweep and the router differ");
    }
}

/// Without a key, with a wrong one, with another's kind of secret, over both versions: 401 in the door's
/// shape, for routes that exist and for those that do not; and everything is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_strangers() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let user = world.api.user("ada@example.test").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let session = world.api.sessions().await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let cookie = ada.cookie(&agent.url);
    let operator_like = cookie.replace("__Host-sallyport=", "__Host-sallyport-operator=");
    let fill = |path: &str| {
        let id = if path.contains("sessions") {
            &session
        } else {
            &user
        };
        path.replace("{user}", &user)
            .replace("{session}", &session)
            .replace("{id}", id)
    };
    // Few enough attempts for the guard against guessing: each route is tried in a handful of ways.
    let nonsense = format!("Bearer {}x", &world.api.key);
    let unknown = [
        ("api", "GET", "/nothing"),
        ("dashboard", "GET", "/nothing"),
        ("dashboard", "POST", "/users/x/nothing"),
    ];
    for (door, method, path) in SWEPT.iter().chain(&unknown) {
        let path = fill(path);
        let bare = Ask::get(&world.net, door, &path)
            .method(method)
            .header("ngrok-version", "2")
            .header("sec-fetch-site", "same-origin");
        let bare = if *method == "POST" {
            bare.body(r#"{"scope":{"all":true}}"#)
        } else {
            bare
        };
        let mut asks = vec![bare.clone(), bare.clone().cookie(&cookie)];
        match *door {
            "api" => asks.push(bare.clone().header("authorization", &nonsense)),
            _ => asks.extend([
                bare.clone().cookie(&operator_like),
                bare.clone()
                    .header("authorization", &format!("Bearer {}", world.api.key)),
            ]),
        }
        for (at, ask) in asks.into_iter().enumerate() {
            let version = if at % 2 == 0 {
                Version::H1
            } else {
                Version::H2
            };
            let reply = ask.send(&world.net, version).await;
            assert!(
                matches!(reply.status, 401 | 429),
                "{door} {method} {path} ({at}): {} {}",
                reply.status,
                reply.text()
            );
            assert!(
                !reply.text().contains("ada@example.test"),
                "{door} {method} {path} says who there is"
            );
            assert_eq!(reply.header("sallyport-receipt"), None);
        }
    }
    assert_eq!(
        world.api.sessions().await.len(),
        1,
        "a stranger ended a session"
    );
    assert_eq!(
        world.api.get(&format!("/app/users/{user}")).await.status,
        200
    );
    // The operator's socket is no door of the public port.
    for path in [
        "/status",
        "/authtokens",
        "/api-keys",
        "/providers",
        "/operator-links",
        "/backups",
    ] {
        for host in ["api", "dashboard"] {
            let reply = Ask::get(&world.net, host, path)
                .header("ngrok-version", "2")
                .send(&world.net, Version::H1)
                .await;
            assert!(
                matches!(reply.status, 401 | 429),
                "{host}{path}: {}",
                reply.status
            );
            let reply = world.api.get(path).await;
            assert_eq!(reply.status, 404, "{path} with a key");
        }
    }
}
