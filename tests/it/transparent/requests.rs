//! Requests: method, target, headers, body and trailers, over every version.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tests::wait;

use super::{Asked, Lab, normalised, through};

/// Every shape of a request, directly, over HTTP/1 and over HTTP/2: the same request arrives.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_the_same() {
    let lab = Lab::new().await;
    let mut failed = Vec::new();
    for asked in shapes(&lab.authority()) {
        let shown = format!("{} {} {}", asked.method, asked.target, asked.version);
        if AssertUnwindSafe(compare(&lab, &asked))
            .catch_unwind()
            .await
            .is_err()
        {
            failed.push(shown);
        }
        lab.app.clear();
    }
    assert!(failed.is_empty(), "{} changed: {failed:#?}", failed.len());
}

async fn compare(lab: &Lab, asked: &Asked) {
    let authority = lab.authority();
    let bytes = asked.bytes(&authority);
    let (direct, _) = lab.directly(&bytes, asked.method).await;
    let (arrived, answer) = lab.tunnelled(&bytes, asked.method).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let wanted = through(&direct, &authority);
    assert_eq!(normalised(arrived), wanted, "over HTTP/1: {asked:?}");
    let is_of_both = asked.version == "HTTP/1.1"
        && !asked.target.contains("://")
        && !asked
            .headers
            .iter()
            .any(|(name, _)| NOT_OF_HTTP2.contains(&name.to_ascii_lowercase().as_str()));
    if is_of_both {
        let (arrived, answer) = lab.over_h2(asked).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let wanted = through(&direct, &authority);
        assert_eq!(normalised(arrived), wanted, "over HTTP/2: {asked:?}");
    }
}

fn shapes(authority: &str) -> Vec<Asked> {
    let long_query = format!("/q?{}", "abcdefgh=12345678&".repeat(400));
    let every_byte: Vec<u8> = (0..=255).collect();
    let many: Vec<u8> = (0..70_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let mut shapes = vec![
        // Targets, byte for byte.
        Asked::get("/"),
        Asked::get("/?"),
        Asked::get("/a?"),
        Asked::get("/a?b=c&d=%2F%2e%2E%zz&e"),
        Asked::get("/%41%2f%5c%00%ff%C3%A4;p=1,2/@:!$&'()*+~-._"),
        Asked::get("//double//slash//"),
        Asked::get("/a?b?c?d=/../x"),
        Asked::get("/a?[]{}|^`"),
        Asked::get("/%25%2525"),
        Asked::get(&long_query),
        Asked::get(&format!("https://{authority}/absolute?x=1")),
        Asked::get(&format!("http://{authority}/absolute")),
        Asked::get(&format!("https://{authority}/")),
        // Methods.
        Asked::new("HEAD", "/m"),
        Asked::new("OPTIONS", "/m"),
        Asked::new("OPTIONS", "*"),
        Asked::new("DELETE", "/m"),
        Asked::new("PROPFIND", "/m")
            .header("Depth", "1")
            .body(b"<propfind/>"),
        Asked::new("get", "/lower-case"),
        Asked::new("M-SEARCH", "/m"),
        Asked::new("x!#$%&'*+-.^_`|~9", "/every-letter-of-a-token"),
        // Headers.
        Asked::get("/h")
            .header("X-Upper-And-lower", "Value, WITH;case=\"q \\\" q\"")
            .header("x-empty", "")
            .header("x-twice", "1")
            .header("x-between", "b")
            .header("x-twice", "2")
            .header("x-twice", "")
            .header("x-twice", "1"),
        Asked::get("/h").header("x-obs-text", "gr\u{fc}\u{df}e \u{80}\u{ff}"),
        Asked::get("/h").header("x-tab", "a\tb  c"),
        Asked::get("/h").header("x-utf8", &tests::exact::latin1("grüße".as_bytes())),
        Asked::get("/h")
            .header("authorization", "Basic dTpw")
            .header("accept-encoding", "gzip, br"),
        Asked::get("/h").header("cookie", "a=1; b=\"x y\";c=;  d"),
        Asked::get("/h")
            .header("range", "bytes=0-1, 5-")
            .header("if-none-match", "W/\"x\", *"),
        Asked::get("/h")
            .header("referer", "https://x/?a#b")
            .header("origin", "null"),
        Asked::get("/h").header("via", "1.0 fred, 1.1 p.example (x)"),
        Asked::get("/h")
            .header("max-forwards", "3")
            .header("warning", "110 - \"x\""),
        Asked::get("/h")
            .header("x_under_score", "kept")
            .header("x.dot", "kept"),
        Asked::get("/h").header("te", "trailers"),
        // Between neighbours.
        Asked::get("/n")
            .header("connection", "keep-alive, X-Mine")
            .header("x-mine", "1")
            .header("keep-alive", "timeout=5"),
        Asked::get("/n")
            .header("te", "gzip;q=0.5, trailers")
            .header("connection", "TE"),
        Asked::get("/n").header("connection", "close"),
        // Versions.
        Asked::get("/old").version("HTTP/1.0"),
        Asked::get("/old")
            .version("HTTP/1.0")
            .header("connection", "keep-alive"),
        Asked::new("POST", "/old").version("HTTP/1.0").body(b"old"),
        // Bodies.
        Asked::new("POST", "/b").body(b""),
        Asked::new("POST", "/b").body(&every_byte),
        Asked::new("PUT", "/b").body(&many),
        Asked::get("/b").body(b"a GET with a body"),
        Asked::new("DELETE", "/b").body(b"a DELETE with a body"),
        Asked::new("POST", "/b").chunked(&[(b"hello", "")], &[]),
        Asked::new("POST", "/b").chunked(&[], &[]),
        Asked::new("POST", "/b").chunked(
            &[
                (b"a", ""),
                (&every_byte, ";name=value"),
                (b"bc", ";q=\"x;y\""),
                (&many, ";x"),
            ],
            &[],
        ),
        Asked::new("POST", "/b")
            .header("trailer", "X-Sum, X-More")
            .chunked(
                &[(b"with trailers", "")],
                &[("X-Sum", "42"), ("x-more", "a"), ("X-More", "b")],
            ),
        Asked::new("POST", "/b")
            .header("content-encoding", "gzip")
            .body(&[0x1f, 0x8b, 8, 0, 0, 0]),
        Asked::new("POST", "/b"),
        Asked::new("PUT", "/b"),
    ];
    let mut many_headers = Asked::get("/h");
    for at in 0..150 {
        many_headers = many_headers.header(&format!("x-many-{at}"), &format!("{at}"));
    }
    shapes.push(many_headers);
    shapes.push(Asked::get("/h").header("x-long", &"v".repeat(20_000)));
    shapes
}

/// Ten requests in one write are answered in order, whatever their bodies.
#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let lab = Lab::new().await;
    let authority = lab.authority();
    let mut bytes = Vec::new();
    for at in 0..10 {
        let asked = Asked::new("POST", &format!("/{at}"));
        let asked = match at % 3 {
            0 => asked.body(format!("body {at}").as_bytes()),
            1 => asked.chunked(&[(b"chunk", ";x"), (b"ed", "")], &[]),
            _ => asked,
        };
        bytes.extend_from_slice(&asked.bytes(&authority));
    }
    lab.app
        .answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok\r\n");
    let mut wire = lab.tunnel().await;
    wire.write(&bytes).await.unwrap();
    for at in 0..10 {
        let answer = wait::within("an answer", wire.answer("POST"))
            .await
            .unwrap();
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok\r\n"[..]));
        let arrived = lab.app.next().await;
        assert_eq!(arrived.target(), format!("/{at}"));
        let body = match at % 3 {
            0 => format!("body {at}"),
            1 => "chunked".to_owned(),
            _ => String::new(),
        };
        assert_eq!(tests::exact::latin1(&arrived.body), body);
    }
    assert!(lab.app.arrived().is_empty());
}

/// An HTTP/1.0 client that asks for it keeps its connection; one that does not, loses it.
#[tokio::test(flavor = "multi_thread")]
async fn old_clients_keep_what_they_ask_for() {
    let lab = Lab::new().await;
    let authority = lab.authority();
    let old = Asked::get("/old").version("HTTP/1.0");
    let kept = old.clone().header("Connection", "keep-alive");
    let mut wire = lab.tunnel().await;
    for _ in 0..3 {
        wire.write(&kept.bytes(&authority)).await.unwrap();
        let answer = wait::within("an answer", wire.answer("GET")).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            answer
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("keep-alive"))
        );
    }
    wire.write(&old.bytes(&authority)).await.unwrap();
    let answer = wait::within("an answer", wire.answer("GET")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let (rest, fault) = wait::within("the end", wire.rest()).await;
    assert_eq!((rest.len(), fault), (0, None));
}

/// Headers that HTTP/2 says differently or not at all.
const NOT_OF_HTTP2: &[&str] = &["connection", "keep-alive"];
