//! The operator's socket: what it makes is shown once, and who may connect.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;
use crate::admin::socket::{listen, path};
use crate::shutdown::Shutdown;

/// An authtoken and an API key authenticate where they should, and stop when revoked.
#[tokio::test]
async fn credentials_are_shown_once_and_revoked() {
    let world = World::new().await;
    for (route, prefix) in [("/authtokens", "cr_"), ("/api-keys", "ak_")] {
        let made = world
            .socket(Method::POST, route, r#"{"description":"laptop"}"#)
            .await;
        assert_eq!(made.status, 201, "{}", made.text);
        let (id, token) = (
            made.json()["id"].as_str().unwrap().to_owned(),
            made.json()["token"].as_str().unwrap().to_owned(),
        );
        assert!(id.starts_with(prefix));
        let list = world.socket(Method::GET, route, "").await;
        assert!(!list.text.contains(&token));
        let found = list
            .json()
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["id"] == id.as_str())
            .cloned()
            .unwrap();
        assert_eq!(
            (found["description"].clone(), found["revoked_at"].clone()),
            ("laptop".into(), Value::Null)
        );
        assert_eq!(
            world
                .socket(Method::DELETE, &format!("{route}/{id}"), "")
                .await
                .status,
            204
        );
        let list = world.socket(Method::GET, route, "").await.json();
        let found = list
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["id"] == id.as_str())
            .cloned()
            .unwrap();
        assert!(found["revoked_at"].is_string());
        for wrong in [format!("{route}/{prefix}nonsense"), format!("{route}/x")] {
            assert_eq!(
                world.socket(Method::DELETE, &wrong, "").await.refusal().0,
                404,
                "{wrong}"
            );
        }
        let long = format!(r#"{{"description":"{}"}}"#, "x".repeat(256));
        assert_eq!(
            world.socket(Method::POST, route, &long).await.refusal().0,
            400
        );
    }
}

/// The authtoken's text says where the edges are and which CA signs for them.
#[tokio::test]
async fn authtokens_name_the_edge() {
    let world = World::new().await;
    let made = world.socket(Method::POST, "/authtokens", "{}").await.json();
    let token = proto::authtoken::Authtoken::parse(made["token"].as_str().unwrap()).unwrap();
    assert_eq!(token.addrs, ["127.0.0.1:8443"]);
    assert_eq!(token.server_name, "connect.otter.localhost");
    assert_eq!(token.link_ca_key, [9; 32]);
    let record = world.store.authtoken(token.id).await.unwrap().unwrap();
    assert_eq!(record.secret_hash, sha256(token.secret.expose()));
}

/// Providers are tried before they are stored; their secret comes back nowhere.
#[tokio::test]
async fn providers() {
    let world = World::new().await;
    let add = |name: &str, id: &str| {
        serde_json::json!({ "name": name, "client_id": id, "client_secret": "s3cret", "issuer": "https://id.example", "scopes": ["groups"] }).to_string()
    };
    let made = world
        .socket(Method::POST, "/providers", &add("okta", "c"))
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(
        made.json()["redirect_uri"],
        "https://auth.otter.localhost:8443/callback/okta"
    );
    assert_eq!(made.json()["issuer"], "https://id.example");
    let list = world.socket(Method::GET, "/providers", "").await;
    assert_eq!(list.json()[0]["name"], "okta");
    assert!(!format!("{}{}", made.text, list.text).contains("s3cret"));
    assert_eq!(
        world.store.providers().await.unwrap()[0].client_secret,
        "s3cret"
    );
    let failed = world
        .socket(Method::POST, "/providers", &add("other", "wrong"))
        .await;
    assert!(failed.text.contains("discovery failed"), "{}", failed.text);
    for name in ["", "UPPER", "a/b", "..", "a b", &"x".repeat(65)] {
        assert_eq!(
            world
                .socket(Method::POST, "/providers", &add(name, "c"))
                .await
                .refusal()
                .0,
            400,
            "{name}"
        );
    }
    assert_eq!(
        world
            .socket(Method::DELETE, "/providers/okta", "")
            .await
            .status,
        204
    );
    assert_eq!(
        world
            .socket(Method::DELETE, "/providers/okta", "")
            .await
            .refusal()
            .0,
        404
    );
}

/// Status names what is online; a backup is a new file and nothing else.
#[tokio::test]
async fn status_and_backup() {
    let world = World::new().await;
    let endpoint = world.endpoint("app").await;
    world.online.lock().unwrap().push(endpoint);
    let status = world.socket(Method::GET, "/status", "").await.json();
    assert_eq!(status["domain"], "otter.localhost");
    assert_eq!(
        status["endpoints"][0]["url"],
        "https://app.otter.localhost:8443"
    );
    assert_eq!(status["endpoints"][0]["id"], endpoint.to_string());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let body = serde_json::json!({ "file": file }).to_string();
    let made = world.socket(Method::POST, "/backups", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        world
            .socket(Method::POST, "/backups", &body)
            .await
            .refusal()
            .0,
        400
    );
    for wrong in ["relative", "/no/such/folder/file"] {
        let body = serde_json::json!({ "file": wrong }).to_string();
        assert_eq!(
            world
                .socket(Method::POST, "/backups", &body)
                .await
                .refusal()
                .0,
            400,
            "{wrong}"
        );
    }
}

/// The socket is private, unique in its folder, and gone afterwards; a stale one is replaced.
#[tokio::test]
async fn the_socket_itself() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let place = path(folder.path());
    // Stale: a file without a listener.
    drop(std::os::unix::net::UnixListener::bind(&place).unwrap());
    let listening = listen(folder.path()).await.unwrap();
    assert_eq!(
        std::fs::metadata(&place).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(listening.serve(world.admin.socket(), shutdown.clone()));
    let second = listen(folder.path()).await.unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    let stream = tokio::net::UnixStream::connect(&place).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/status")
        .header("host", "edge")
        .body(String::new())
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    drop(sender);
    shutdown.set_emptied();
    tokio::time::timeout(Duration::from_secs(5), serving)
        .await
        .unwrap()
        .unwrap();
    assert!(shutdown.finished(Duration::from_secs(5)).await);
    let _ = connection.await;
    drop(listening);
    assert!(!place.exists());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        listen(folder.path()).await.unwrap_err().kind(),
        std::io::ErrorKind::PermissionDenied
    );
}
