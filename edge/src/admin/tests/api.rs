//! The API in ngrok's exact shapes.

use super::*;

/// Every field that ngrok's clients read, with its type.
#[tokio::test]
async fn users_and_sessions_have_ngroks_shape() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    let (user, session) = world.sign_in("ada", endpoint).await;
    let list = world.api(Method::GET, "/app/users").await;
    assert_eq!(list.status, 200);
    assert!(list.header("content-type").starts_with("application/json"));
    assert_eq!(list.header("cache-control"), "no-store");
    let list = list.json();
    assert_eq!(list["uri"], "https://api.otter.localhost:8443/app/users");
    assert_eq!(list["next_page_uri"], Value::Null);
    let one = world
        .api(Method::GET, &format!("/app/users/{user}"))
        .await
        .json();
    assert_eq!(list["application_users"][0], one);
    assert_eq!(one["id"], user.to_string());
    assert_eq!(
        one["uri"],
        format!("https://api.otter.localhost:8443/app/users/{user}")
    );
    assert_eq!(
        one["identity_provider"],
        serde_json::json!({ "name": "Google", "url": "https://accounts.google.com" })
    );
    assert_eq!(one["provider_user_id"], "sub-ada");
    assert_eq!(one["username"], "");
    assert_eq!(one["email"], "ada@example.test");
    assert_eq!(one["name"], "ada");
    for time in ["created_at", "last_active", "last_login"] {
        is_time(&one[time]);
    }

    let list = world.api(Method::GET, "/app/sessions").await.json();
    assert_eq!(list["uri"], "https://api.otter.localhost:8443/app/sessions");
    let one = world
        .api(Method::GET, &format!("/app/sessions/{session}"))
        .await
        .json();
    assert_eq!(list["application_sessions"][0], one);
    assert_eq!(
        one["uri"],
        format!("https://api.otter.localhost:8443/app/sessions/{session}")
    );
    assert_eq!(one["public_url"], "https://app.otter.localhost:8443");
    let browser = &one["browser_session"];
    for (field, value) in [
        ("raw", "Mozilla/5.0 <b>"),
        ("browser_name", "Firefox"),
        ("browser_version", "140"),
        ("device_type", "Desktop"),
        ("os_name", "Linux"),
        ("os_version", ""),
    ] {
        assert_eq!(browser["user_agent"][field], value);
    }
    assert_eq!(browser["ip_address"], "203.0.113.7");
    let location = &browser["location"];
    assert_eq!(location["country_code"], "GB");
    assert_eq!(location["latitude"], 51.5);
    assert_eq!(location["longitude"], -0.12);
    assert_eq!(location["lat_long_radius_km"], 100);
    assert_eq!(one["application_user"]["id"], user.to_string());
    assert_eq!(one["endpoint"]["id"], endpoint.to_string());
    assert!(one["edge"].is_null() && one["route"].is_null());
    for time in ["created_at", "last_active", "expires_at"] {
        is_time(&one[time]);
    }
    // A session's id opens nothing, and no secret is in any answer.
    assert!(!one.to_string().contains("secret"));
}

/// RFC 3339, UTC, seconds.
#[track_caller]
fn is_time(value: &Value) {
    let text = value.as_str().unwrap();
    assert!(
        text.len() == 20 && text.ends_with('Z') && text.parse::<Timestamp>().is_ok(),
        "{text}"
    );
}

/// Paging as all of ngrok's clients do it.
#[tokio::test]
async fn lists_are_paged() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        ids.push(world.sign_in(name, endpoint).await.0.to_string());
    }
    ids.sort();
    ids.reverse();
    let mut seen = Vec::new();
    let mut uri = "/app/users?limit=2".to_owned();
    loop {
        let page = world.api(Method::GET, &uri).await.json();
        let users = page["application_users"].as_array().unwrap();
        assert!(users.len() <= 2);
        seen.extend(
            users
                .iter()
                .map(|user| user["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_page_uri"].as_str() else {
            break;
        };
        uri = next
            .strip_prefix("https://api.otter.localhost:8443")
            .unwrap()
            .to_owned();
    }
    assert_eq!(seen, ids);
    // One client's spelling, one client's empty keys.
    let page = world
        .api(
            Method::GET,
            &format!("/app/users?beforeId={}&limit=100", ids[3]),
        )
        .await
        .json();
    assert_eq!(page["application_users"].as_array().unwrap().len(), 1);
    assert!(page["next_page_uri"].is_null());
    assert_eq!(
        world
            .api(Method::GET, "/app/users?before_id&limit")
            .await
            .status,
        200
    );
    assert_eq!(
        world
            .api(Method::GET, "/app/sessions?limit=1000")
            .await
            .status,
        200
    );
    for wrong in [
        "limit=0",
        "limit=-1",
        "limit=ten",
        "limit=1.5",
        "before_id=nonsense",
        "before_id=app_sess_x",
        "beforeId=%00",
    ] {
        let answer = world.api(Method::GET, &format!("/app/users?{wrong}")).await;
        assert_eq!(answer.refusal(), (400, "SP_2108".to_owned()), "{wrong}");
    }
}

/// What is not there, or malformed, is not found; a wrong method says which are right.
#[tokio::test]
async fn unknown_things() {
    let world = World::new().await;
    let absent_user = UserId::from_bytes([1; 20]);
    let absent_session = SessionId::from_bytes([1; 20]);
    for path in [
        format!("/app/users/{absent_user}"),
        format!("/app/sessions/{absent_session}"),
        format!("/app/users/{absent_session}"),
        "/app/users/nonsense".to_owned(),
        "/app/sessions/%ff%fe".to_owned(),
        "/app/sessions/..%2f..%2fetc".to_owned(),
    ] {
        for method in [Method::GET, Method::DELETE] {
            let answer = world.api(method.clone(), &path).await;
            assert_eq!(
                answer.refusal(),
                (404, "SP_2107".to_owned()),
                "{method} {path}"
            );
            assert!(answer.header("sallyport-receipt").is_empty());
        }
    }
    for path in [
        "/app/receipts/nonsense",
        "/app/receipts/rcpt_0ujsswThIGTUYm2K8FjOOfXtY1K",
    ] {
        assert_eq!(
            world.api(Method::GET, path).await.refusal().0,
            404,
            "{path}"
        );
    }
    for path in [
        "/",
        "/app",
        "/app/users/",
        "/app/user",
        "/endpoints",
        "/api/app/users",
    ] {
        assert_eq!(
            world.api(Method::GET, path).await.refusal(),
            (404, "SP_1012".to_owned()),
            "{path}"
        );
    }
    let answer = world
        .api(Method::PATCH, &format!("/app/users/{absent_user}"))
        .await;
    assert_eq!(answer.refusal(), (405, "SP_1011".to_owned()));
    let allow = answer.header("allow");
    assert!(allow.contains("GET") && allow.contains("DELETE"), "{allow}");
    assert_eq!(
        world
            .api(Method::GET, "/app/revocations")
            .await
            .header("allow"),
        "POST"
    );
}

/// DELETE is ngrok's empty 204; the receipt stands where its header points, and stays the same.
#[tokio::test]
async fn delete_gives_a_receipt_once() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    let (user, first) = world.sign_in("ada", endpoint).await;
    let (_, second) = world.sign_in("ada", endpoint).await;
    let path = format!("/app/sessions/{first}");
    let answer = world.api(Method::DELETE, &path).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
    let uri = answer.header("sallyport-receipt").to_owned();
    let receipt_path = uri
        .strip_prefix("https://api.otter.localhost:8443")
        .unwrap();
    let receipt = world.api(Method::GET, receipt_path).await.json();
    assert_eq!(receipt["uri"], uri);
    assert_eq!(
        receipt["scope"],
        serde_json::json!({ "session": first.to_string() })
    );
    assert_eq!(receipt["sessions_ended"], 1);
    assert_eq!(receipt["durable"], true);
    assert_eq!(receipt["edges"]["missing"], serde_json::json!([]));
    for field in ["id", "reason", "created_at"] {
        assert!(receipt[field].is_string(), "{field}");
    }
    for field in ["connections_cut", "elapsed_ms"] {
        assert!(receipt[field].is_u64(), "{field}");
    }
    assert!(receipt["edges"]["acknowledged"].is_u64() && receipt["edges"]["total"].is_u64());
    assert_eq!(world.api(Method::GET, &path).await.status, 404);
    let again = world.api(Method::DELETE, &path).await;
    assert_eq!(again.status, 204);
    assert_eq!(again.header("sallyport-receipt"), uri);
    assert_eq!(
        world
            .api(Method::GET, &format!("/app/sessions/{second}"))
            .await
            .status,
        200
    );

    // Deleting the person ends what is left of theirs.
    let path = format!("/app/users/{user}");
    let answer = world.api(Method::DELETE, &path).await;
    assert_eq!(answer.status, 204);
    let again = world.api(Method::DELETE, &path).await;
    assert_eq!(
        again.header("sallyport-receipt"),
        answer.header("sallyport-receipt")
    );
    assert_eq!(world.api(Method::GET, &path).await.status, 404);
    assert_eq!(
        world.api(Method::GET, "/app/users").await.json()["application_users"],
        serde_json::json!([])
    );
    assert_eq!(
        world.api(Method::GET, "/app/sessions").await.json()["application_sessions"],
        serde_json::json!([])
    );
}

/// Every scope, and every body that is none.
#[tokio::test]
async fn revocations() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    let (user, session) = world.sign_in("ada", endpoint).await;
    let google = r#"{"name":"google","client_id":"c","client_secret":"s"}"#;
    assert_eq!(
        world
            .socket(Method::POST, "/providers", google)
            .await
            .status,
        201
    );
    let post = async |body: String| {
        world
            .api_body(Method::POST, "/app/revocations", &body)
            .await
    };
    let answer = post(format!(
        r#"{{"scope":{{"session":"{session}"}},"reason":"left the company"}}"#
    ))
    .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let receipt = answer.json();
    assert_eq!(receipt["reason"], "left the company");
    assert_eq!(answer.header("location"), receipt["uri"]);
    let again = post(format!(r#"{{"scope":{{"session":"{session}"}}}}"#)).await;
    assert_eq!(
        (again.status.as_u16(), again.json()["id"].clone()),
        (200, receipt["id"].clone())
    );
    for (scope, ended) in [
        (format!(r#"{{"user":"{user}"}}"#), 1),
        // Somebody who came back is revoked anew.
        (format!(r#"{{"user":"{user}"}}"#), 1),
        (format!(r#"{{"endpoint":"{endpoint}"}}"#), 1),
        (r#"{"provider":"google"}"#.to_owned(), 1),
        (r#"{"all":true}"#.to_owned(), 1),
    ] {
        world.sign_in("ada", endpoint).await;
        let answer = post(format!(r#"{{"scope":{scope}}}"#)).await;
        assert_eq!(answer.status, 201, "{scope}: {}", answer.text);
        let receipt = answer.json();
        assert_eq!(receipt["sessions_ended"], ended, "{scope}");
        assert_eq!(receipt["scope"].to_string(), scope);
        // Whoever is revoked stays listed; only DELETE takes a person away.
        assert_eq!(
            world
                .api(Method::GET, &format!("/app/users/{user}"))
                .await
                .status,
            200
        );
        assert_eq!(
            world.api(Method::GET, "/app/sessions").await.json()["application_sessions"],
            serde_json::json!([])
        );
    }
    for body in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"scope":"all"}"#,
        r#"{"scope":{}}"#,
        r#"{"scope":{"all":false}}"#,
        r#"{"scope":{"everything":true}}"#,
        &format!(r#"{{"scope":{{"session":"{session}","all":true}}}}"#),
        r#"{"scope":{"all":true},"force":true}"#,
        r#"{"scope":{"all":true},"reason":7}"#,
        &format!(
            r#"{{"scope":{{"all":true}},"reason":"{}"}}"#,
            "x".repeat(256)
        ),
        &format!(r#"{{"scope":{{"{}":true}}}}"#, "x".repeat(10_000)),
        &"[".repeat(60_000),
    ] {
        let answer = post(body.to_owned()).await;
        assert_eq!(
            answer.refusal(),
            (400, "SP_2109".to_owned()),
            "{}",
            answer.text
        );
        assert!(answer.text.len() < 2_000);
    }
    let absent = SessionId::from_bytes([1; 20]);
    for scope in [
        format!(r#"{{"session":"{absent}"}}"#),
        r#"{"user":"nonsense"}"#.to_owned(),
    ] {
        assert_eq!(
            post(format!(r#"{{"scope":{scope}}}"#)).await.refusal().0,
            404,
            "{scope}"
        );
    }
    let large = format!(
        r#"{{"scope":{{"all":true}},"reason":"{}"}}"#,
        " ".repeat(70_000)
    );
    assert_eq!(post(large).await.refusal(), (413, "SP_1014".to_owned()));
    // A reason is counted in characters.
    let body = format!(
        r#"{{"scope":{{"all":true}},"reason":"{}"}}"#,
        "ß".repeat(255)
    );
    assert_eq!(post(body).await.status, 201);
}

/// What a follower acknowledges is in the receipt.
#[tokio::test]
async fn receipts_count_what_was_reached() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    let (_, session) = world.sign_in("ada", endpoint).await;
    let (store, edge) = (Arc::clone(&world.store), new_id(1_800_000_000_000));
    let ack = |applied, cuts| crate::store::Acknowledgement {
        edge,
        shard: Shard::People(0),
        applied,
        cuts,
    };
    store
        .acknowledge(ack(Revision::default(), Vec::new()))
        .await
        .unwrap();
    let following = tokio::spawn(async move {
        let mut after = Revision::default();
        loop {
            let batch = store
                .read_log(Shard::People(0), after, Duration::from_secs(5))
                .await
                .unwrap();
            for entry in batch.entries {
                after = entry.revision;
                if let crate::model::change::Change::Revoked { receipt, .. } = entry.change {
                    store
                        .acknowledge(crate::store::Acknowledgement {
                            edge,
                            shard: Shard::People(0),
                            applied: after,
                            cuts: vec![(receipt, 3)],
                        })
                        .await
                        .unwrap();
                    return;
                }
            }
        }
    });
    let answer = world
        .api(Method::DELETE, &format!("/app/sessions/{session}"))
        .await;
    assert_eq!(answer.status, 204);
    following.await.unwrap();
    let uri = answer.header("sallyport-receipt");
    let receipt = world
        .api(
            Method::GET,
            uri.strip_prefix("https://api.otter.localhost:8443")
                .unwrap(),
        )
        .await
        .json();
    assert_eq!(
        receipt["edges"],
        serde_json::json!({ "acknowledged": 1, "total": 1, "missing": [] })
    );
    assert_eq!(receipt["connections_cut"], 3);
}

/// What cannot be made durable was not revoked: 503, never 204, and afterwards everything still is.
#[tokio::test]
async fn a_store_that_fails_answers_503() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    let (user, session) = world.sign_in("ada", endpoint).await;
    let Store::Embedded(engine) = &*world.store;
    for (errno, code) in [
        (errno::ENOSPC, "SP_5002"),
        (errno::EROFS, "SP_5001"),
        (errno::EIO, "SP_5001"),
    ] {
        engine.fail_writes(errno);
        for (method, path, body) in [
            (
                Method::DELETE,
                format!("/app/sessions/{session}"),
                String::new(),
            ),
            (Method::DELETE, format!("/app/users/{user}"), String::new()),
            (
                Method::POST,
                "/app/revocations".to_owned(),
                r#"{"scope":{"all":true}}"#.to_owned(),
            ),
        ] {
            let answer = world.api_body(method, &path, &body).await;
            let (status, found) = answer.refusal();
            assert_eq!(status, 503, "{path} {errno}: {}", answer.text);
            assert!(
                found == code || found == "SP_5001",
                "{path} {errno}: {found}"
            );
            assert!(!answer.header("retry-after").is_empty());
            assert!(answer.header("sallyport-receipt").is_empty());
        }
        engine.fail_writes(0);
        assert_eq!(
            world
                .api(Method::GET, &format!("/app/sessions/{session}"))
                .await
                .status,
            200
        );
    }
    // Healed, it works; the engine may need a moment to open its file again.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let answer = world
            .api(Method::DELETE, &format!("/app/sessions/{session}"))
            .await;
        if answer.status == 204 {
            break;
        }
        assert_eq!(answer.status, 503);
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_eq!(
        world
            .api(Method::GET, &format!("/app/sessions/{session}"))
            .await
            .status,
        404
    );
}

/// System error numbers of Linux.
mod errno {
    pub(super) const EIO: i32 = 5;
    pub(super) const ENOSPC: i32 = 28;
    pub(super) const EROFS: i32 = 30;
}
