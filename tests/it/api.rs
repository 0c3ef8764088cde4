//! ngrok's shapes, exactly; paging; errors.

use serde_json::{Value, json};
use tests::http::{Ask, Version, assert_keys};
use tests::wait;
use tests::world::World;

/// Users and sessions have every field that ngrok's clients read, of the right kind, and only a short list
/// of ours beside them.
#[tokio::test(flavor = "multi_thread")]
async fn shapes() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    world.signed_in("ada", &agent.url).await;
    let api = world.net.url("api");
    let page = world.api.json("/app/users").await;
    assert_keys(&page, &["application_users", "uri", "next_page_uri"]);
    assert_eq!(
        (&page["uri"], &page["next_page_uri"]),
        (&json!(format!("{api}/app/users")), &Value::Null)
    );
    let user = &page["application_users"][0];
    assert_has(
        user,
        &[
            "id",
            "uri",
            "identity_provider",
            "provider_user_id",
            "username",
            "email",
            "name",
            "created_at",
            "last_active",
            "last_login",
        ],
        &["provider", "email_verified"],
    );
    assert_keys(&user["identity_provider"], &["name", "url"]);
    assert!(user["id"].as_str().unwrap().starts_with("app_user_"));
    assert_eq!(
        user["uri"],
        format!("{api}/app/users/{}", user["id"].as_str().unwrap())
    );
    assert_eq!(
        (&user["provider_user_id"], &user["email"]),
        (&json!("ada"), &json!("ada@example.test"))
    );
    assert_eq!(
        user["identity_provider"]["url"],
        world.dev.as_ref().unwrap().issuer.as_str()
    );
    for key in ["created_at", "last_active", "last_login"] {
        assert_time(&user[key]);
    }
    for key in ["username", "email", "name"] {
        assert!(user[key].is_string(), "{key}");
    }
    assert_eq!(
        &world
            .api
            .json(&format!("/app/users/{}", user["id"].as_str().unwrap()))
            .await,
        user
    );

    let page = world.api.json("/app/sessions").await;
    assert_keys(&page, &["application_sessions", "uri", "next_page_uri"]);
    let session = &page["application_sessions"][0];
    assert_has(
        session,
        &[
            "id",
            "uri",
            "public_url",
            "browser_session",
            "application_user",
            "created_at",
            "last_active",
            "expires_at",
            "endpoint",
            "edge",
            "route",
        ],
        &["provider"],
    );
    assert!(session["id"].as_str().unwrap().starts_with("app_sess_"));
    assert_eq!(session["public_url"], agent.url.as_str());
    assert_eq!(
        (&session["edge"], &session["route"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        session["application_user"],
        json!({ "id": user["id"], "uri": user["uri"] })
    );
    assert_keys(&session["endpoint"], &["id", "uri"]);
    assert_eq!(session["endpoint"]["id"], agent.endpoint_id.as_str());
    let browser = &session["browser_session"];
    assert_has(
        browser,
        &["user_agent", "ip_address", "location"],
        &["network"],
    );
    assert_eq!(browser["ip_address"], "127.0.0.1");
    assert_keys(
        &browser["user_agent"],
        &[
            "raw",
            "browser_name",
            "browser_version",
            "device_type",
            "os_name",
            "os_version",
        ],
    );
    for (key, value) in browser["user_agent"].as_object().unwrap() {
        assert!(value.is_string(), "{key}: {value}");
    }
    assert_eq!(
        (
            &browser["user_agent"]["browser_name"],
            &browser["user_agent"]["os_name"]
        ),
        (&json!("Chrome"), &json!("Linux"))
    );
    assert_eq!(browser["user_agent"]["device_type"], "Desktop");
    for key in ["created_at", "last_active", "expires_at"] {
        assert_time(&session[key]);
    }
    assert_eq!(
        &world
            .api
            .json(&format!(
                "/app/sessions/{}",
                session["id"].as_str().unwrap()
            ))
            .await,
        session
    );
}

/// Activity is seen: `last_active` moves with use, in lists that were flushed.
#[tokio::test(flavor = "multi_thread")]
async fn activity_is_seen() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let before = world.api.sessions().await[0]["last_active"].clone();
    wait::until("later activity", || async {
        let reply = Ask::get(&world.net, "app", "/")
            .cookie(&ada.cookie(&agent.url))
            .send(&world.net, Version::H1)
            .await;
        assert_eq!(reply.status, 200);
        let now = world.api.sessions().await[0]["last_active"].clone();
        (now.as_str() > before.as_str()).then_some(())
    })
    .await;
}

/// Lists page newest first by `before_id` and `beforeId`, with `next_page_uri` absolute on the API's host;
/// every row comes exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn paging() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for _ in 0..7 {
        world.signed_in("ada", &agent.url).await;
    }
    for person in ["lin", "mal"] {
        world.signed_in(person, &agent.url).await;
    }
    let all: Vec<String> = ids(&world.api.json("/app/sessions").await["application_sessions"]);
    assert_eq!(all.len(), 9);
    let mut newest_first = all.clone();
    newest_first.sort_by(|a, b| b.cmp(a));
    assert_eq!(all, newest_first, "newest first");
    for spelling in ["before_id", "beforeId"] {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let query = seen
                .last()
                .map(|last| format!("&{spelling}={last}"))
                .unwrap_or_default();
            let page = world
                .api
                .json(&format!("/app/sessions?limit=2{query}"))
                .await;
            let rows = ids(&page["application_sessions"]);
            assert!(rows.len() <= 2);
            seen.extend(rows);
            match page["next_page_uri"].as_str() {
                None => break,
                Some(next) => {
                    let base = format!("{}/app/sessions?", world.net.url("api"));
                    assert!(next.starts_with(&base), "{next}");
                    assert!(
                        next.contains(&format!("before_id={}", seen.last().unwrap()))
                            && next.contains("limit=2"),
                        "{next}"
                    );
                }
            }
        }
        assert_eq!(seen, all, "{spelling}");
    }
    let users = ids(&world.api.json("/app/users?limit=1").await["application_users"]);
    assert_eq!(users.len(), 1);
    assert_eq!(world.api.users().await.len(), 3);
    // A page that ends exactly at the last row names no next one.
    assert_eq!(
        world.api.json("/app/sessions?limit=9").await["next_page_uri"],
        Value::Null
    );
    // The cursor of a row that is gone by now still pages on.
    world.api.revoke(&format!("/app/sessions/{}", all[3])).await;
    let rest = ids(&world
        .api
        .json(&format!("/app/sessions?before_id={}", all[3]))
        .await["application_sessions"]);
    assert_eq!(rest, all[4..]);
}

/// Limits and cursors that are none are 400 with a sentence; more than the most counts as the most.
#[tokio::test(flavor = "multi_thread")]
async fn parameters() {
    let world = World::start().await;
    for query in [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "limit=99999999999999999999",
        "before_id=nonsense",
        "before_id=app_user_2NcU",
        "beforeId=%00",
    ] {
        let reply = world.api.get(&format!("/app/sessions?{query}")).await;
        assert_error(&reply, 400, "SP_2108", query);
    }
    for query in [
        "limit=100",
        "limit=101",
        "limit=1000",
        "limit=",
        "unknown=1",
        "limit=5&before_id=",
    ] {
        assert_eq!(
            world
                .api
                .get(&format!("/app/sessions?{query}"))
                .await
                .status,
            200,
            "{query}"
        );
    }
}

/// Unknown and malformed ids are 404 in ngrok's shape; unknown paths too; other methods 405 with `Allow`.
#[tokio::test(flavor = "multi_thread")]
async fn not_found_and_not_allowed() {
    let world = World::start().await;
    for path in [
        "/app/users/app_user_2NcUaaaaaaaaaaaaaaaaaaaaaaa",
        "/app/users/nonsense",
        "/app/users/app_sess_2NcUaaaaaaaaaaaaaaaaaaaaaaa",
        "/app/users/%2e%2e",
        "/app/users/a%2fb",
        "/app/sessions/nonsense",
        "/app/sessions/app_sess_2example",
        "/app/receipts/nonsense",
    ] {
        let reply = world.api.get(path).await;
        assert!(
            matches!(reply.status, 404 | 400),
            "{path}: {}",
            reply.text()
        );
        assert_shape(&reply, path);
        if !path.contains('%') {
            assert_error(&reply, 404, "SP_2107", path);
        }
    }
    for path in ["/nothing", "/app", "/app/", "/app/users/", "/v2/app/users"] {
        let reply = world.api.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_shape(&reply, path);
    }
    for (method, path) in [
        ("POST", "/app/users"),
        ("PATCH", "/app/users"),
        ("PUT", "/app/sessions"),
        ("PATCH", "/app/sessions/app_sess_2example"),
        ("POST", "/app/sessions/app_sess_2example"),
        ("GET", "/app/revocations"),
        ("DELETE", "/app/receipts/rcpt_x"),
    ] {
        let reply = world.api.send(world.api.ask(method, path)).await;
        assert_error(&reply, 405, "SP_1011", &format!("{method} {path}"));
        assert!(reply.header("allow").is_some(), "{method} {path}");
    }
}

/// The version header is required and must be 2; its name may come in any case.
#[tokio::test(flavor = "multi_thread")]
async fn the_version_header() {
    let world = World::start().await;
    let bearer = format!("Bearer {}", world.api.key);
    let ask = || {
        world
            .api
            .bare("GET", "/app/users")
            .header("authorization", &bearer)
    };
    assert_error(&world.api.send(ask()).await, 400, "SP_2106", "none");
    assert_error(
        &world.api.send(ask().header("ngrok-version", "1")).await,
        400,
        "SP_2106",
        "1",
    );
    assert_error(
        &world.api.send(ask().header("ngrok-version", "")).await,
        400,
        "SP_2106",
        "empty",
    );
    for name in ["Ngrok-Version", "ngrok-version", "NGROK-VERSION"] {
        assert_eq!(
            world.api.send(ask().header(name, "2")).await.status,
            200,
            "{name}"
        );
    }
    for version in Version::BOTH {
        assert_eq!(
            ask()
                .header("ngrok-version", "2")
                .send(&world.net, version)
                .await
                .status,
            200
        );
    }
}

/// `POST /app/revocations` takes exactly one scope and a bounded reason; anything else is 400 and ends
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn revocation_bodies() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut ada = world.signed_in("ada", &agent.url).await;
    let id = world.api.sessions().await[0]["id"].clone();
    let send = async |body: &str| {
        world
            .api
            .send(
                world
                    .api
                    .ask("POST", "/app/revocations")
                    .header("content-type", "application/json")
                    .body(body.to_owned()),
            )
            .await
    };
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "not json",
        r#"{"scope":{}}"#,
        r#"{"scope":{"all":false}}"#,
        r#"{"scope":{"all":"yes"}}"#,
        r#"{"scope":{"everything":true}}"#,
        r#"{"scope":"all"}"#,
        r#"{"scope":{"all":true},"unknown":1}"#,
        &format!(r#"{{"scope":{{"session":{id},"all":true}}}}"#),
        &format!(
            r#"{{"scope":{{"session":{id}}},"reason":"{}"}}"#,
            "x".repeat(256)
        ),
    ] {
        assert_error(&send(body).await, 400, "SP_2109", body);
    }
    for body in [
        r#"{"scope":{"session":"nonsense"}}"#,
        r#"{"scope":{"user":"app_user_2NcUaaaaaaaaaaaaaaaaaaaaaaa"}}"#,
    ] {
        assert_error(&send(body).await, 404, "SP_2107", body);
    }
    assert_error(
        &send(&"x".repeat(100_000)).await,
        413,
        "SP_1014",
        "a large body",
    );
    assert_eq!(
        ada.fetch("GET", &agent.url).await.status,
        200,
        "none of these ended anything"
    );
    let reply = send(&format!(
        r#"{{"scope":{{"session":{id}}},"reason":"{}"}}"#,
        "ä".repeat(255)
    ))
    .await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("location"), reply.json()["uri"].as_str());
}

/// Without an API key, with a wrong one, with another kind of secret: 401, and the message says which kind
/// was expected. Keys are revoked at once.
#[tokio::test(flavor = "multi_thread")]
async fn keys() {
    let world = World::start().await;
    let with = async |value: &str| {
        world
            .api
            .send(
                world
                    .api
                    .bare("GET", "/app/users")
                    .header("ngrok-version", "2")
                    .header("authorization", value),
            )
            .await
    };
    assert_error(
        &world
            .api
            .send(
                world
                    .api
                    .bare("GET", "/app/users")
                    .header("ngrok-version", "2"),
            )
            .await,
        401,
        "SP_2103",
        "none",
    );
    for value in ["", "Bearer", "Bearer ", "Basic YTpi", "nonsense"] {
        assert_eq!(with(value).await.status, 401, "{value}");
    }
    assert_error(
        &with(&format!("Bearer {}", world.authtoken)).await,
        401,
        "SP_2105",
        "an authtoken",
    );
    assert_error(&with("Bearer nonsense").await, 401, "SP_2104", "nonsense");
    let mut wrong = world.api.key.clone();
    let last = wrong.pop().unwrap();
    wrong.push(if last == 'A' { 'B' } else { 'A' });
    assert_error(
        &with(&format!("Bearer {wrong}")).await,
        401,
        "SP_2104",
        "a wrong secret",
    );
    assert_eq!(with(&format!("bearer {}", world.api.key)).await.status, 200);
    let fresh = world
        .edge
        .cli(&["api-key", "create", "--json"])
        .await
        .json();
    let bearer = format!("Bearer {}", fresh["token"].as_str().unwrap());
    assert_eq!(with(&bearer).await.status, 200);
    assert_eq!(
        world
            .edge
            .cli(&["api-key", "revoke", fresh["id"].as_str().unwrap()])
            .await
            .code,
        Some(0)
    );
    assert_error(&with(&bearer).await, 401, "SP_2104", "a revoked key");
}

/// Whoever guesses keys is slowed down, and whoever has a good one is not.
#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed() {
    let world = World::start().await;
    let mut limited = None;
    for at in 0..200 {
        let reply = world
            .api
            .send(
                world
                    .api
                    .bare("GET", "/app/users")
                    .header("ngrok-version", "2")
                    .header("authorization", "Bearer nonsense"),
            )
            .await;
        if reply.status == 429 {
            limited = Some((at, reply));
            break;
        }
        assert_eq!(reply.status, 401);
    }
    let (_, reply) = limited.expect("a limit");
    assert_error(&reply, 429, "SP_2110", "guessing");
    assert!(reply.header("retry-after").is_some());
    assert_eq!(world.api.get("/app/users").await.status, 200);
}

#[track_caller]
fn assert_error(reply: &tests::http::Reply, status: u16, code: &str, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", reply.text());
    assert_shape(reply, what);
    assert_eq!(reply.json()["error_code"], code, "{what}: {}", reply.text());
}

/// ngrok's error object: `details` is always there, and an object of strings.
#[track_caller]
fn assert_shape(reply: &tests::http::Reply, what: &str) {
    let body = reply.json();
    for key in ["error_code", "status_code", "msg", "details"] {
        assert!(!body[key].is_null(), "{what}: {key} in {body}");
    }
    assert_eq!(body["status_code"], reply.status, "{what}");
    assert!(
        body["details"]
            .as_object()
            .is_some_and(|details| details.values().all(Value::is_string)),
        "{what}: {body}"
    );
    assert!(
        body["details"]["operation_id"].is_string(),
        "{what}: {body}"
    );
}

/// All of `wanted`, and nothing beside it but `ours`.
#[track_caller]
fn assert_has(value: &Value, wanted: &[&str], ours: &[&str]) {
    let keys: Vec<&str> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    for key in wanted {
        assert!(keys.contains(key), "{key} in {value}");
    }
    for key in keys {
        assert!(
            wanted.contains(&key) || ours.contains(&key),
            "{key} is neither ngrok's nor on the list of ours"
        );
    }
}

#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().expect("a time");
    assert!(
        text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T',
        "{text}"
    );
}

fn ids(rows: &Value) -> Vec<String> {
    rows.as_array()
        .expect("a list")
        .iter()
        .map(|row| row["id"].as_str().expect("an id").to_owned())
        .collect()
}
