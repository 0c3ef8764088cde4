//! Attacks over HTTP/2, whose headers are not lines: what would end a line on the way to HTTP/1 never
//! gets there. Frames are written by hand, since no client's library would send these.

use tests::http::Fault;
use tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{App, Lab};

/// A header, as it is written.
type Field<'a> = (&'a str, &'a str);

/// Pseudo headers and headers that an HTTP/1 writer could turn into more than they are: none of them makes
/// a second request, and none makes a request with a head that the edge did not judge.
#[tokio::test(flavor = "multi_thread")]
async fn headers_stay_headers() {
    let lab = Lab::ours().await;
    let authority = lab.authority();
    let inner =
        format!("GET /smuggled HTTP/1.1\r\nHost: {authority}\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    let evil = format!("x\r\n\r\n{inner}");
    let path = format!("/x HTTP/1.1\r\nHost: {authority}\r\n\r\n{inner}");
    let method = format!("GET /smuggled HTTP/1.1\r\nX: {evil}");
    let named = format!("x: y\r\n\r\n{inner}");
    let pseudo = |method: &str, path: &str, authority: &str| {
        vec![
            (":method".to_owned(), method.to_owned()),
            (":scheme".to_owned(), "https".to_owned()),
            (":path".to_owned(), path.to_owned()),
            (":authority".to_owned(), authority.to_owned()),
        ]
    };
    let mut attacks = Vec::new();
    let fine = pseudo("POST", "/x", &authority);
    for (name, value) in [
        ("x", evil.as_str()),
        ("x", "a\r\nb: c"),
        ("x", "a\nb: c"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        (named.as_str(), "z"),
        ("x\r\nb", "z"),
        ("x:y", "z"),
        ("x y", "z"),
        ("X-Upper", "z"),
        ("", "z"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "keep-alive"),
        ("connection", "transfer-encoding"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "chunked"),
        ("content-length", "+5"),
        ("content-length", "5, 5"),
        ("content-length", "x"),
        ("host", "other.example"),
        ("host", "a\r\nb"),
        (":path", "/second"),
        (":status", "200"),
        (":unknown", "1"),
    ] {
        let mut fields = fine.clone();
        fields.push((name.to_owned(), value.to_owned()));
        attacks.push((format!("{name:?}: {value:?}"), fields));
    }
    for path in [
        path.as_str(),
        "",
        "x",
        "*",
        "/a b",
        "/a\tb",
        "/a\0",
        "/a#b",
        "//evil.example/",
        "https://evil.example/x",
    ] {
        attacks.push((format!(":path {path:?}"), pseudo("GET", path, &authority)));
    }
    for method in [
        method.as_str(),
        "",
        "GET /smuggled",
        "GE T",
        "GET\r\n",
        "CONNECT",
        "TRACE",
        "\u{e4}",
    ] {
        attacks.push((
            format!(":method {method:?}"),
            pseudo(method, "/x", &authority),
        ));
    }
    let user = format!("user@{authority}");
    let split = format!("{authority}\r\nX: {evil}");
    for authority in [
        "",
        user.as_str(),
        split.as_str(),
        "other.example",
        "a b",
        "[::1]",
    ] {
        attacks.push((
            format!(":authority {authority:?}"),
            pseudo("GET", "/x", authority),
        ));
    }
    let mut late = pseudo("GET", "/x", &authority);
    late.rotate_left(1);
    late.insert(2, ("x".to_owned(), "y".to_owned()));
    attacks.push(("a pseudo header after others".to_owned(), late));
    let mut twice = pseudo("GET", "/x", &authority);
    twice.insert(0, (":method".to_owned(), "POST".to_owned()));
    attacks.push((":method twice".to_owned(), twice));
    let mut failed = Vec::new();
    for (what, fields) in &attacks {
        let fields: Vec<Field<'_>> = fields
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let mut raw = Raw::open(&lab).await;
        raw.headers(1, &fields, true).await;
        let answer = wait::within(what, raw.answer()).await;
        drop(raw);
        // A fragment is cut off, for every decision and for the app alike.
        let is_cut = what.contains('#');
        // `//evil.example/` is a path like another.
        let is_a_path = what.contains("//evil.example/\"") && !what.contains("https");
        let seen = lab.innocent().await;
        let wanted: &[&str] = match (is_a_path, is_cut) {
            (true, _) => &["GET //evil.example/ - 127.0.0.1"],
            (_, true) => &["GET /a - 127.0.0.1"],
            (false, false) => &[],
        };
        if seen != wanted || (answer == Ok(200)) == wanted.is_empty() {
            failed.push(format!("{what}: {answer:?}, {seen:?}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A body of another length than was said is no whole request at the app, and ends nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn lengths_are_kept() {
    let lab = Lab::ours().await;
    let authority = lab.authority();
    let inner = format!("GET /smuggled HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    for (length, body) in [
        ("0", inner.as_str()),
        ("5", &inner),
        ("1000", &inner),
        ("5", ""),
        ("5", "hell"),
    ] {
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/x"),
            (":authority", &*authority),
            ("content-length", length),
        ];
        let mut raw = Raw::open(&lab).await;
        raw.headers(1, &fields, false).await;
        raw.frame(DATA, END_STREAM, 1, body.as_bytes()).await;
        let answer = wait::within("an end", raw.answer()).await;
        assert_ne!(answer, Ok(200), "length {length}, body {body:?}");
        drop(raw);
        assert_eq!(
            lab.innocent().await,
            Vec::<String>::new(),
            "length {length}, body {body:?}"
        );
    }
}

/// Headers in trailers that frame or name are not the request's.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_frame_nothing() {
    let lab = Lab::ours().await;
    let authority = lab.authority();
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("content-length", "60"),
        ("host", "evil"),
        ("x-forwarded-for", "6.6.6.6"),
        (":path", "/smuggled"),
        ("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    ] {
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/x"),
            (":authority", &*authority),
            (
                "trailer",
                "x, host, content-length, transfer-encoding, x-forwarded-for",
            ),
        ];
        let mut raw = Raw::open(&lab).await;
        raw.headers(1, &fields, false).await;
        raw.frame(DATA, 0, 1, b"hello").await;
        raw.headers(1, &[(name, value)], true).await;
        let answer = wait::within("an end", raw.answer()).await;
        drop(raw);
        if let App::Ours(app) = &lab.app {
            for message in app.arrived() {
                let is_framing = |(name, _): &(String, String)| name != "x";
                assert!(
                    !message.trailers.iter().any(is_framing),
                    "{name}: {message:?}"
                );
            }
        }
        let seen = lab.innocent().await;
        let is_one = seen == ["POST /x 5 127.0.0.1"] && answer == Ok(200);
        assert!(
            is_one || seen.is_empty() && answer != Ok(200),
            "{name}: {answer:?}, {seen:?}"
        );
    }
}

/// HTTP/2 by hand.
struct Raw {
    io: TlsStream<TcpStream>,
}

impl Raw {
    async fn open(lab: &Lab) -> Self {
        let net = &lab.world.net;
        let mut io = net
            .connect_h2(&net.host("app"))
            .await
            .expect("a connection");
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut raw = Self { io };
        raw.frame(SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// The edge may be gone while this is being written.
    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        let _ = self.io.write_all(&bytes).await;
        let _ = self.io.flush().await;
    }

    /// Literal fields, never indexed and not Huffman-coded (RFC 7541 §6.2.2).
    async fn headers(&mut self, stream: u32, fields: &[Field<'_>], end: bool) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                let bytes = tests::exact::bytes(text);
                integer(&mut block, bytes.len());
                block.extend_from_slice(&bytes);
            }
        }
        let end = if end { END_STREAM } else { 0 };
        self.frame(HEADERS, END_HEADERS | end, stream, &block).await;
    }

    /// The status of the answer on stream 1, or how stream or connection ended.
    async fn answer(&mut self) -> Result<u16, Fault> {
        loop {
            let mut head = [0; 9];
            let read = self.io.read_exact(&mut head).await;
            read.map_err(|error| tests::http1::fault(&error))?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            let read = self.io.read_exact(&mut payload).await;
            read.map_err(|error| tests::http1::fault(&error))?;
            match head[3] {
                HEADERS => return Ok(status(&payload)),
                RST_STREAM => return Err(Fault::Reset),
                GOAWAY => return Err(Fault::Connection("GOAWAY".to_owned())),
                _ => {}
            }
        }
    }
}

/// A string's length, not Huffman-coded (RFC 7541 §5.1, prefix of 7 bits).
fn integer(block: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(127) else {
        block.push(u8::try_from(value).unwrap());
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The status of an answer's header block, of which `:status` comes first: 200 is index 8 (RFC 7541 §A).
fn status(block: &[u8]) -> u16 {
    if block.first() == Some(&0x88) { 200 } else { 0 }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
