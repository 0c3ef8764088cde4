//! What happens while a message is under way: interim answers, events, upgrades, slow bodies, ends.

use std::sync::Arc;

use tests::exact::{Framing, latin1};
use tests::http::{Ask, Fault, Version};
use tests::scripted::Step;
use tests::wait;
use tests::world::World;
use tests::{http1, http2};
use tokio::sync::Notify;

use super::{Asked, Lab};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The app decides whether a client that waits for `100 Continue` sends its body.
#[tokio::test(flavor = "multi_thread")]
async fn the_app_says_continue() {
    let lab = Lab::new().await;
    let go = Arc::new(Notify::new());
    lab.app.script(vec![
        Step::Gate(Arc::clone(&go)),
        Step::Write(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        Step::Body,
        Step::Write(OK.to_vec()),
    ]);
    let head = expecting().bytes(&lab.authority());
    let mut wire = lab.tunnel().await;
    wire.write(&head).await.unwrap();
    wait::until("the head at the app", || async {
        (!lab.app.begun().is_empty()).then_some(())
    })
    .await;
    go.notify_one();
    let interim = wait::within("100 Continue", wire.head()).await.unwrap();
    assert_eq!(interim.unwrap().line, "HTTP/1.1 100 Continue");
    wire.write(b"hello").await.unwrap();
    let answer = wait::within("an answer", wire.answer("POST"))
        .await
        .unwrap();
    assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]));
    let arrived = lab.app.next().await;
    assert_eq!(arrived.body, b"hello");
    assert_eq!(arrived.all("expect"), ["100-Continue"]);
}

/// A refusal comes without `100 Continue` before it, and the app sees no byte of the body.
#[tokio::test(flavor = "multi_thread")]
async fn the_app_refuses_to_continue() {
    let lab = Lab::new().await;
    for status in ["417 Expectation Failed", "401 Unauthorized", "200 OK"] {
        for more in ["", "Connection: close\r\n"] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n{more}\r\nno");
            lab.app
                .script(vec![Step::Write(text.into_bytes()), Step::HalfClose]);
            let mut wire = lab.tunnel().await;
            wire.write(&expecting().bytes(&lab.authority()))
                .await
                .unwrap();
            let answer = wait::within("an answer", wire.answer("POST"))
                .await
                .unwrap();
            assert_eq!(answer.line, format!("HTTP/1.1 {status}"));
            assert!(answer.interim.is_empty(), "{:?}", answer.interim);
            assert_eq!((&answer.body[..], answer.fault), (&b"no"[..], None));
            // A client that was told no may go on with its next request only on a new connection.
            drop(wire);
            let arrived = lab.app.next().await;
            assert!(arrived.body.is_empty(), "{arrived:?}");
        }
    }
}

/// An app that knows nothing of `Expect` is waited for no longer than clients wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_app_is_sent_the_body() {
    let lab = Lab::new().await;
    lab.app.answer(OK);
    let mut wire = lab.tunnel().await;
    wire.write(&expecting().bytes(&lab.authority()))
        .await
        .unwrap();
    let interim = wait::within("100 Continue", wire.head()).await.unwrap();
    assert_eq!(interim.unwrap().line, "HTTP/1.1 100 Continue");
    wire.write(b"hello").await.unwrap();
    let answer = wait::within("an answer", wire.answer("POST"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(lab.app.next().await.body, b"hello");
    // One that sends without waiting loses nothing.
    let asked = Asked::new("POST", "/x")
        .header("expect", "100-continue")
        .body(b"hello");
    let (arrived, answer) = lab.tunnelled(&asked.bytes(&lab.authority()), "POST").await;
    assert_eq!((answer.status(), &arrived.body[..]), (200, &b"hello"[..]));
    let (arrived, answer) = lab.over_h2(&asked).await;
    assert_eq!((answer.status(), &arrived.body[..]), (200, &b"hello"[..]));
}

/// What the edge itself refuses, it refuses before the body.
#[tokio::test(flavor = "multi_thread")]
async fn the_edge_refuses_before_the_body() {
    let world = World::with_login().await;
    let _agent = world.login_agent("app").await;
    for label in ["app", "nobody"] {
        let host = world.net.host(label);
        let authority = format!("{host}:{}", world.net.addr.port());
        let io = world.net.connect_h1(&host).await.unwrap();
        let mut wire = tests::exact::Wire::new(io);
        wire.write(&expecting().bytes(&authority)).await.unwrap();
        let answer = wait::within("an answer", wire.answer("POST"))
            .await
            .unwrap();
        assert!(matches!(answer.status(), 401 | 404), "{answer:?}");
        // RFC 9110 §15.5.2, with a scheme at which no browser asks for a password.
        let challenge = answer.all("www-authenticate");
        let wanted = ["Sallyport realm=\"Sallyport\""].repeat(usize::from(label == "app"));
        assert_eq!(challenge, wanted);
        assert!(answer.interim.is_empty(), "{:?}", answer.interim);
    }
    assert_eq!(world.upstream.count(), 0);
}

/// TRACE would show a page what we keep from it, so it is not passed on (RFC 9110 §9.3.8); the answer says
/// what is.
#[tokio::test(flavor = "multi_thread")]
async fn trace_is_not_passed_on() {
    let lab = Lab::new().await;
    let net = &lab.world.net;
    for version in Version::BOTH {
        let ask = Ask::get(net, "app", "/x").method("TRACE");
        let reply = ask.send(net, version).await;
        reply.assert_refused(405, "SP_1011", "TRACE");
        assert!(
            reply
                .header("allow")
                .is_some_and(|allow| !allow.contains("TRACE"))
        );
    }
    assert!(lab.app.begun().is_empty());
}

/// A head that announces five bytes and waits.
fn expecting() -> Asked {
    Asked::new("POST", "/expect")
        .header("Expect", "100-Continue")
        .header("Content-Length", "5")
}

/// Each event arrives before the next one is sent.
#[tokio::test(flavor = "multi_thread")]
async fn events_come_one_by_one() {
    let lab = Lab::new().await;
    for is_chunked in [true, false] {
        let gates: Vec<_> = (0..3).map(|_| Arc::new(Notify::new())).collect();
        let head = if is_chunked {
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        };
        let event = |at: usize| {
            let text = format!("data: {at}\n\n");
            if is_chunked {
                format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
            } else {
                text.into_bytes()
            }
        };
        let mut script = vec![Step::Body, Step::Write(head.as_bytes().to_vec())];
        for (at, gate) in gates.iter().enumerate() {
            script.push(Step::Gate(Arc::clone(gate)));
            script.push(Step::Write(event(at)));
        }
        script.push(Step::Write(if is_chunked {
            b"0\r\n\r\n".to_vec()
        } else {
            Vec::new()
        }));
        script.push(Step::Close);
        lab.app.script(script);
        for version in Version::BOTH {
            let net = &lab.world.net;
            let mut answer = Ask::get(net, "app", "/events")
                .open(net, version)
                .await
                .unwrap();
            for (at, gate) in gates.iter().enumerate() {
                gate.notify_one();
                let wanted = format!("data: {at}\n\n");
                let mut event = Vec::new();
                while event.len() < wanted.len() {
                    let piece = wait::within("an event", answer.chunk()).await.unwrap();
                    event.extend_from_slice(&piece.expect("it goes on"));
                }
                assert_eq!(latin1(&event), wanted, "{version:?}");
            }
            let rest = wait::within("the end", answer.whole()).await;
            assert_eq!((rest.body.len(), rest.end), (0, Ok(())), "{version:?}");
        }
    }
}

/// A body that drips reaches the app drop by drop.
#[tokio::test(flavor = "multi_thread")]
async fn a_dripping_upload_arrives_drop_by_drop() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let ask = Ask::get(&world.net, "app", "/upload")
        .method("POST")
        .streamed();
    let mut connection = http1::Connection::open(&world.net, &ask.sni).await.unwrap();
    connection.send(&ask).await.unwrap();
    let h2 = http2::Connection::open(&world.net, &ask.sni, None)
        .await
        .unwrap();
    let (answer, mut stream) = h2.begin(&ask).await.unwrap();
    for drops in 1..=10 {
        connection.write_chunk(b"d").await.unwrap();
        http2::send_data(&mut stream, "d".into(), false)
            .await
            .unwrap();
        wait::until("the drop at the app", || async {
            let seen = world.upstream.seen();
            (seen.len() == 2 && seen.iter().all(|seen| seen.bytes() == drops)).then_some(())
        })
        .await;
    }
    connection.write_chunk(b"").await.unwrap();
    assert_eq!(connection.response("POST").await.unwrap().status, 200);
    http2::send_data(&mut stream, "".into(), true)
        .await
        .unwrap();
    assert_eq!(h2.answer(answer).await.unwrap().status, 200);
    assert!(world.upstream.seen().iter().all(|seen| seen.is_complete()));
}

/// An upgrade to a protocol that nobody here knows: its bytes go both ways, also those that came with the
/// 101, and each side's end.
#[tokio::test(flavor = "multi_thread")]
async fn any_protocol_is_upgraded_to() {
    let lab = Lab::new().await;
    let yes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1, extra\r\nX-Own: 1\r\n\r\nhello";
    lab.app
        .script(vec![Step::Body, Step::Write(yes.to_vec()), Step::Echo]);
    let asked = Asked::get("/chat")
        .header("Connection", "Upgrade, X-Mine")
        .header("X-Mine", "1")
        .header("Upgrade", "chat/1, chat/0");
    let mut wire = lab.tunnel().await;
    wire.write(&asked.bytes(&lab.authority())).await.unwrap();
    let head = wait::within("101", wire.head()).await.unwrap().unwrap();
    assert_eq!(head.line, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(head.all("upgrade"), ["chat/1, extra"]);
    assert_eq!(head.all("x-own"), ["1"]);
    assert!(
        head.header("connection")
            .unwrap()
            .eq_ignore_ascii_case("upgrade")
    );
    let mut got = Vec::new();
    let every: Vec<u8> = (0..=255).collect();
    wire.write(&every).await.unwrap();
    while got.len() < 5 + every.len() {
        got.extend(wait::within("bytes", wire.some()).await.unwrap());
    }
    assert_eq!(latin1(&got), format!("hello{}", latin1(&every)));
    wire.shutdown().await.unwrap();
    let (rest, fault) = wait::within("the end", wire.rest()).await;
    assert_eq!((rest.len(), fault), (0, None));
    let arrived = lab.app.next().await;
    assert_eq!(arrived.body, every);
    assert_eq!(arrived.all("upgrade"), ["chat/1, chat/0"]);
    assert_eq!(arrived.header("x-mine"), None);
    assert_eq!(arrived.fault, None, "its end was a good one");
    // An app that does not want to answers as it likes.
    lab.app.answer(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: chat/2\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n");
    let (_, answer) = lab.tunnelled(&asked.bytes(&lab.authority()), "GET").await;
    assert_eq!(answer.status(), 426);
}

/// A 101 that nobody asked for is no answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_unasked_is_refused() {
    let lab = Lab::new().await;
    let yes =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\nhello";
    lab.app.answer(yes);
    let asked = Asked::get("/chat");
    let (_, answer) = lab.tunnelled(&asked.bytes(&lab.authority()), "GET").await;
    assert_eq!(answer.status(), 502, "{answer:?}");
    let (_, answer) = lab.over_h2(&asked).await;
    assert_eq!(answer.status(), 502, "{answer:?}");
}

/// A client that ends its side before its answer counts as gone: the app's connection is reset, so that
/// nothing goes on for nobody. On the list.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_client_has_gone() {
    let lab = Lab::new().await;
    lab.app.script(vec![Step::Body, Step::Echo]);
    for asked in [Asked::get("/x"), Asked::new("POST", "/x").body(b"body")] {
        let mut wire = lab.tunnel().await;
        wire.write(&asked.bytes(&lab.authority())).await.unwrap();
        wait::until("the head at the app", || async {
            (!lab.app.begun().is_empty()).then_some(())
        })
        .await;
        wire.shutdown().await.unwrap();
        let arrived = lab.app.next().await;
        assert_eq!(arrived.fault, Some(Fault::Reset), "{arrived:?}");
        lab.app.clear();
    }
}

/// An app that ends its side after its answer, and a connection that is used again after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_app_is_no_matter() {
    let lab = Lab::new().await;
    lab.app
        .script(vec![Step::Body, Step::Write(OK.to_vec()), Step::HalfClose]);
    let mut wire = lab.tunnel().await;
    for _ in 0..5 {
        wire.write(&Asked::get("/x").bytes(&lab.authority()))
            .await
            .unwrap();
        let mut answer = wait::within("an answer", wire.answer_head()).await.unwrap();
        wire.body(Framing::Length(2), &mut answer).await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]));
    }
}

/// The app answers and closes at once, with the request's body unread: the answer arrives whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_arrives() {
    let lab = Lab::new().await;
    let early =
        "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";
    lab.app.script(vec![
        Step::Write(early.as_bytes().to_vec()),
        Step::HalfClose,
    ]);
    let piece = vec![b'u'; 64 * 1024];
    for is_chunked in [false, true] {
        let mut asked = Asked::new("POST", "/upload");
        if is_chunked {
            asked = asked.header("transfer-encoding", "chunked");
        } else {
            asked = asked.header("content-length", &(200 * piece.len()).to_string());
        }
        let mut wire = lab.tunnel().await;
        wire.write(&asked.bytes(&lab.authority())).await.unwrap();
        let mut head = None;
        // Sends on until the answer is here.
        for _ in 0..200 {
            if is_chunked {
                let _ = wire
                    .write(format!("{:x}\r\n", piece.len()).as_bytes())
                    .await;
            }
            let _ = wire.write(&piece).await;
            if is_chunked {
                let _ = wire.write(b"\r\n").await;
            }
            let soon = std::time::Duration::from_millis(50);
            if let Ok(found) = tokio::time::timeout(soon, wire.answer_head()).await {
                head = Some(found.expect("an answer"));
                break;
            }
        }
        let mut head = head.expect("an answer while the body was being sent");
        assert_eq!(head.status(), 413);
        wire.body(Framing::Length(8), &mut head).await;
        assert_eq!((&head.body[..], &head.fault), (&b"too much"[..], &None));
        drop(wire);
        lab.app.clear();
    }
    let asked = Asked::new("POST", "/upload").body(&vec![b'u'; 1 << 20]);
    let answer = wait::within("an answer", lab.h2_head_first(&asked)).await;
    assert_eq!(answer.unwrap(), 413);
}
