//! What a revocation cuts, by scope and by protocol, and what its receipt says.

use serde_json::{Value, json};
use tests::clock;
use tests::http::{Ask, Fault, Version, assert_keys};
use tests::http1;
use tests::traffic::{self, Answer, End, Kind, Session, Stream};
use tests::upstream::Ended;
use tests::wait;
use tests::websocket::{Event, WebSocket};
use tests::world::{Agent, World};

fn session_of(world: &World, agent: &Agent, user: &tests::user::User) -> Session {
    Session {
        net: world.net.clone(),
        label: agent.label.clone(),
        cookie: user.cookie(&agent.url),
    }
}

/// Begins one stream of each kind and waits until all are open.
async fn all_kinds(session: &Session, prefix: &str) -> Vec<Stream> {
    let mut streams: Vec<_> = Kind::ALL
        .into_iter()
        .enumerate()
        .map(|(at, kind)| Stream::begin(kind, session, &format!("{prefix}-{at}")))
        .collect();
    for stream in &mut streams {
        stream.opened().await;
    }
    streams
}

#[track_caller]
fn assert_receipt(receipt: &Value, scope: &Value, sessions: u64) {
    assert_keys(
        receipt,
        &[
            "id",
            "uri",
            "scope",
            "reason",
            "sessions_ended",
            "edges",
            "connections_cut",
            "durable",
            "elapsed_ms",
            "created_at",
        ],
    );
    assert_eq!(&receipt["scope"], scope, "{receipt}");
    assert_eq!(receipt["sessions_ended"], sessions, "{receipt}");
    assert_eq!(
        receipt["edges"],
        json!({ "acknowledged": 1, "total": 1, "missing": [] }),
        "{receipt}"
    );
    assert_eq!(receipt["durable"], true);
    assert!(
        receipt["elapsed_ms"].as_u64().is_some_and(|ms| ms < 5000),
        "{receipt}"
    );
    assert!(
        receipt["created_at"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
}

/// One session with a stream of every kind open: when the DELETE has answered, the session is refused
/// everywhere, every stream ends with its protocol's own signal on both legs, and the receipt counts them.
/// A bystander notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_cut() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let id = world.api.sessions().await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let lin = world.signed_in("lin", &agent.url).await;
    let bystander = all_kinds(&session_of(&world, &agent, &lin), "by").await;
    let streams = all_kinds(&session_of(&world, &agent, &ada), "cut").await;

    let reply = world.api.delete(&format!("/app/sessions/{id}")).await;
    let answer = Answer {
        at_ns: clock::now_ns(),
    };
    let sent: Vec<_> = streams.iter().map(Stream::sent).collect();
    assert_eq!(
        (reply.status, reply.body.len()),
        (204, 0),
        "{}",
        reply.text()
    );
    let receipt = world.api.receipt(&reply).await;
    assert_receipt(&receipt, &json!({ "session": id }), 1);
    // The two quick ones may have been between requests.
    let cut = receipt["connections_cut"].as_u64().unwrap();
    assert!((14..=16).contains(&cut), "{receipt}");

    for version in Version::BOTH {
        let reply = Ask::get(&world.net, "app", "/")
            .cookie(&ada.cookie(&agent.url))
            .header("x-mark", "late")
            .send(&world.net, version)
            .await;
        reply.assert_refused(401, "SP_2002", "after the answer");
        if let Ok(body) = serde_json::from_slice::<Value>(&reply.body) {
            assert!(
                body["login_url"]
                    .as_str()
                    .unwrap()
                    .contains("/.sallyport/login"),
                "{body}"
            );
        }
    }
    assert!(world.upstream.marked("late").is_empty());

    let mut wrong = Vec::new();
    for (stream, sent) in streams.into_iter().zip(sent) {
        wrong.extend(traffic::judge(stream, answer, sent, &world.upstream).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for stream in &bystander {
        assert!(!stream.is_over(), "{:?} of a bystander ended", stream.kind);
    }
}

/// A WebSocket that is between frames hears Close 1008 with a reason, and then the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_hears_1008() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for target in ["/ws?every=60000", "/ws?every=100", "/ws?every=5&size=1000"] {
        let ada = world.signed_in("ada", &agent.url).await;
        let cookie = ada.cookie(&agent.url);
        let mut socket = WebSocket::open(&world.net, "app", target, Some(&cookie))
            .await
            .unwrap();
        assert!(matches!(socket.next().await, Event::Message(_)));
        let id = world.api.sessions().await[0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        world.api.revoke(&format!("/app/sessions/{id}")).await;
        let end = wait::within("the close", socket.end()).await;
        let Event::Closed(Some((1008, reason))) = end else {
            panic!("{target}: {end:?}")
        };
        assert!(!reason.is_empty());
        let seen = world.upstream.seen().pop().unwrap();
        assert_ne!(
            seen.wait_ended().await,
            Ended::Complete,
            "the app's side ends too"
        );
    }
}

/// Server-sent events end with a reset, never cleanly; the browser's reconnect meets 401.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_reset() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for version in Version::BOTH {
        let ada = world.signed_in("ada", &agent.url).await;
        let mut events = ada
            .stream(version, &format!("{}/events?every=5", agent.url))
            .await
            .unwrap();
        assert!(events.chunk().await.unwrap().is_some());
        let id = world.api.newest_session_of("ada@example.test").await["id"]
            .as_str()
            .unwrap()
            .to_owned();
        world.api.revoke(&format!("/app/sessions/{id}")).await;
        let fault = wait::within("the end", async {
            loop {
                match events.chunk().await {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            }
        })
        .await;
        assert_eq!(fault, Err(Fault::Reset), "{version:?}");
        let again = ada
            .stream(version, &format!("{}/events", agent.url))
            .await
            .unwrap();
        assert_eq!(again.status(), 401);
    }
}

/// A reader that does not read is cut all the same, at once: HTTP/1.1 sees a reset, not the megabytes
/// that would have come; HTTP/2 with a full window sees its stream or connection end. The DELETE does
/// not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_readers_are_cut() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for version in Version::BOTH {
        let ada = world.signed_in("ada", &agent.url).await;
        let mut stream = Stream::begin(
            Kind::Stalled(version),
            &session_of(&world, &agent, &ada),
            &format!("stalled-{version:?}"),
        );
        stream.opened().await;
        let seen = world.upstream.wait_marked(&stream.mark.clone()).await;
        let mut last = 0;
        wait::until("the stream is stalled", || {
            let now = seen.sent();
            let is_still = now == last && now > 0;
            last = now;
            async move { is_still.then_some(()) }
        })
        .await;
        let id = world.api.newest_session_of("ada@example.test").await["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let begun = std::time::Instant::now();
        let receipt = world.api.revoke(&format!("/app/sessions/{id}")).await;
        let answer = Answer {
            at_ns: clock::now_ns(),
        };
        assert!(
            begun.elapsed().as_secs() < 3,
            "the answer waited for a reader: {:?}",
            begun.elapsed()
        );
        assert_eq!(receipt["connections_cut"], 1, "{receipt}");
        let wrong = traffic::judge(stream, answer, 0, &world.upstream).await;
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// An HTTP/1.1 client that reads nothing at all has its connection reset by the time that the DELETE
/// answers: the cut waits for no reader, and what the edge still held is gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_reset_waits_for_no_reader() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let ask = Ask::get(&world.net, "app", "/slow?size=16384").cookie(&ada.cookie(&agent.url));
    let mut connection = http1::Connection::open(&world.net, &world.net.host("app"))
        .await
        .unwrap();
    world.upstream.clear();
    connection.send(&ask).await.unwrap();
    let seen = wait::until("the download", || {
        let seen = world.upstream.seen().pop();
        async move { seen }
    })
    .await;
    let mut last = 0;
    wait::until("the download is stalled", || {
        let now = seen.sent();
        let is_still = now == last && now > 0;
        last = now;
        async move { is_still.then_some(()) }
    })
    .await;
    assert!(connection.take_error().unwrap().is_none());
    let session = world.api.newest_session_of("ada@example.test").await;
    let id = session["id"].as_str().unwrap();
    let receipt = world.api.revoke(&format!("/app/sessions/{id}")).await;
    assert_eq!(receipt["connections_cut"], 1, "{receipt}");
    let error = wait::until("the reset", || {
        let error = connection.take_error().unwrap();
        async move { error }
    })
    .await;
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// An upload that the app does not read, and that therefore waits everywhere, is cut all the same on both
/// legs.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_uploads_are_cut() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for version in Version::BOTH {
        let ada = world.signed_in("ada", &agent.url).await;
        let kind = Kind::StalledUpload(version);
        let mark = format!("upload-{version:?}");
        let mut stream = Stream::begin(kind, &session_of(&world, &agent, &ada), &mark);
        stream.opened().await;
        world.upstream.wait_marked(&mark).await;
        let mut last = 0;
        let mut still = 0;
        wait::until("the upload is stalled", || {
            let now = stream.sent();
            still = if now == last { still + 1 } else { 0 };
            last = now;
            let is_stalled = still >= 25;
            async move { is_stalled.then_some(()) }
        })
        .await;
        let session = world.api.newest_session_of("ada@example.test").await;
        let receipt = world
            .api
            .revoke(&format!(
                "/app/sessions/{}",
                session["id"].as_str().unwrap()
            ))
            .await;
        let answer = Answer {
            at_ns: clock::now_ns(),
        };
        assert_eq!(receipt["connections_cut"], 1, "{receipt}");
        let sent = stream.sent();
        let wrong = traffic::judge(stream, answer, sent, &world.upstream).await;
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Each scope ends what it names and nothing else: session, user, endpoint, provider, all.
#[tokio::test(flavor = "multi_thread")]
async fn scopes() {
    let world = World::with_login().await;
    world
        .edge
        .add_provider("other", world.dev.as_ref().unwrap())
        .await;
    let one = world.login_agent("one").await;
    let two = world.login_agent("two").await;
    let three = world.agent("three", &["--oauth=other"]).await;
    let endpoints = [&one, &two, &three];
    let scopes: [(&str, [[bool; 2]; 3]); 5] = [
        // Who (ada, lin) is out at each endpoint.
        ("session", [[true, false], [false, false], [false, false]]),
        ("user", [[true, false], [true, false], [true, false]]),
        ("endpoint", [[true, true], [false, false], [false, false]]),
        ("provider", [[false, false], [false, false], [true, true]]),
        ("all", [[true, true], [true, true], [true, true]]),
    ];
    for (name, out) in scopes {
        let mut streams = Vec::new();
        for (at, endpoint) in endpoints.iter().enumerate() {
            for (who, person) in ["ada", "lin"].into_iter().enumerate() {
                let user = world.signed_in(person, &endpoint.url).await;
                let session = session_of(&world, endpoint, &user);
                let mut stream = Stream::begin(
                    Kind::Clock(Version::H1),
                    &session,
                    &format!("{name}-{at}-{who}"),
                );
                stream.opened().await;
                streams.push((stream, session, out[at][who]));
            }
        }
        let person = world.api.user("ada@example.test").await["id"].clone();
        let value = match name {
            "session" => world
                .api
                .sessions()
                .await
                .into_iter()
                .find(|row| {
                    row["public_url"] == one.url.as_str() && row["application_user"]["id"] == person
                })
                .map(|row| row["id"].clone())
                .unwrap(),
            "user" => person,
            "endpoint" => json!(one.endpoint_id),
            "provider" => json!("other"),
            _ => json!(true),
        };
        let scope = json!({ name: value });
        let expected = out.iter().flatten().filter(|out| **out).count();
        let reply = world.api.revocation(&scope, "a test of scopes").await;
        assert!(
            matches!(reply.status, 200 | 201),
            "{name}: {}",
            reply.text()
        );
        let receipt = reply.json();
        assert_receipt(&receipt, &scope, expected as u64);
        assert_eq!(receipt["reason"], "a test of scopes");
        assert_eq!(
            receipt["connections_cut"], expected as u64,
            "{name}: {receipt}"
        );
        assert_eq!(
            world
                .api
                .json(
                    receipt["uri"]
                        .as_str()
                        .unwrap()
                        .strip_prefix(&world.net.url("api"))
                        .unwrap()
                )
                .await,
            receipt
        );
        for (stream, session, is_out) in streams {
            let reply = Ask::get(&world.net, &session.label, "/")
                .cookie(&session.cookie)
                .send(&world.net, Version::H1)
                .await;
            if is_out {
                reply.assert_refused(401, "SP_2002", name);
                let mark = stream.mark.clone();
                assert_eq!(
                    stream.ended().await.end,
                    Some(End::Closed(1008)),
                    "{name}: {mark}"
                );
            } else {
                assert_eq!(
                    reply.status,
                    200,
                    "{name}: {} {}",
                    stream.mark,
                    reply.text()
                );
                assert!(!stream.is_over(), "{name}: {} was cut", stream.mark);
                stream.abort();
            }
        }
        // The rest goes too, so that the next scope begins clean.
        assert!(
            world
                .api
                .revocation(&json!({ "all": true }), "")
                .await
                .status
                < 300
        );
    }
}

/// Deleting a user ends all their sessions: GET answers 404, lists omit them, and the person who signs in
/// again is a new login of the same subject.
#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_user() {
    let world = World::with_login().await;
    let one = world.login_agent("one").await;
    let two = world.login_agent("two").await;
    let ada = world.signed_in("ada", &one.url).await;
    let ada_two = world.signed_in("ada", &two.url).await;
    let lin = world.signed_in("lin", &one.url).await;
    let user = world.api.user("ada@example.test").await;
    let id = user["id"].as_str().unwrap();
    let receipt = world.api.revoke(&format!("/app/users/{id}")).await;
    assert_receipt(&receipt, &json!({ "user": id }), 2);
    assert_eq!(world.api.get(&format!("/app/users/{id}")).await.status, 404);
    assert!(world.api.users().await.iter().all(|row| row["id"] != id));
    assert!(
        world
            .api
            .sessions()
            .await
            .iter()
            .all(|row| row["application_user"]["id"] != id)
    );
    for (label, cookie) in [
        ("one", ada.cookie(&one.url)),
        ("two", ada_two.cookie(&two.url)),
    ] {
        Ask::get(&world.net, label, "/")
            .cookie(&cookie)
            .send(&world.net, Version::H1)
            .await
            .assert_refused(401, "SP_2002", label);
    }
    assert_eq!(
        Ask::get(&world.net, "one", "/")
            .cookie(&lin.cookie(&one.url))
            .send(&world.net, Version::H1)
            .await
            .status,
        200
    );
    // Again: 204, and the same receipt.
    let again = world.api.revoke(&format!("/app/users/{id}")).await;
    assert_eq!(again["id"], receipt["id"]);
    // Revoke is not block.
    world.signed_in("ada", &one.url).await;
    assert_eq!(
        world.api.user("ada@example.test").await["provider_user_id"],
        user["provider_user_id"]
    );
}

/// Repeating a DELETE answers 204 with the same receipt; an unknown or malformed id is 404 with none.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_is_idempotent() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    world.signed_in("ada", &agent.url).await;
    let id = world.api.sessions().await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let first = world.api.revoke(&format!("/app/sessions/{id}")).await;
    let second = world.api.revoke(&format!("/app/sessions/{id}")).await;
    assert_eq!(first, second);
    let by_post = world
        .api
        .revocation(&json!({ "session": id }), "again")
        .await;
    assert_eq!((by_post.status, &by_post.json()["id"]), (200, &first["id"]));
    let mut unknown = id.clone();
    let last = unknown.pop().unwrap();
    unknown.push(if last == 'a' { 'b' } else { 'a' });
    for id in [
        unknown.as_str(),
        "nonsense",
        "app_sess_",
        "app_user_2NcU",
        "%00",
        "../users",
    ] {
        let reply = world.api.delete(&format!("/app/sessions/{id}")).await;
        assert!(matches!(reply.status, 404 | 400), "{id}: {}", reply.text());
        assert_eq!(reply.header("sallyport-receipt"), None);
    }
}

/// Two revocations of one session at once both answer, with one receipt.
#[tokio::test(flavor = "multi_thread")]
async fn revocations_at_once() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let mut stream = Stream::begin(
        Kind::Clock(Version::H1),
        &session_of(&world, &agent, &ada),
        "clock",
    );
    stream.opened().await;
    let id = world.api.sessions().await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/app/sessions/{id}");
    let replies = futures_util::future::join_all((0..8).map(|_| world.api.delete(&path))).await;
    let mut receipts = std::collections::HashSet::new();
    for reply in &replies {
        assert_eq!(reply.status, 204, "{}", reply.text());
        receipts.insert(reply.header("sallyport-receipt").unwrap().to_owned());
    }
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(stream.ended().await.end, Some(End::Closed(1008)));
}

/// A login that was under way when its person was revoked does not bring them back: it asks anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_under_way_does_not_undo_a_revoke() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut ada = world.signed_in("ada", &agent.url).await;
    let user = world.api.user("ada@example.test").await;
    let issuer = url::Url::parse(&world.dev.as_ref().unwrap().issuer).unwrap();
    // A second tab has come as far as the callback when the revoke happens.
    ada.jar.clear(&world.net.host("app"));
    let auth = world.net.host("auth");
    let page = ada
        .walk_until(&agent.url, |url| {
            url.host_str() == Some(auth.as_str()) && url.path().starts_with("/callback/")
        })
        .await;
    assert_ne!(page.url.origin(), issuer.origin());
    world
        .api
        .revoke(&format!("/app/users/{}", user["id"].as_str().unwrap()))
        .await;
    let page = ada.open(page.url.as_str()).await;
    assert_ne!(page.reply.status, 200, "{} {}", page.url, page.reply.text());
    assert!(ada.session(&agent.url).is_none());
}
