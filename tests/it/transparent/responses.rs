//! Answers: status, reason, headers, body and trailers, towards every version.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tests::exact::{self, Message};
use tests::http::{Fault, Version};
use tests::scripted::Step;
use tests::wait;

use super::{Asked, Lab, back, came};

/// An answer of the app, byte for byte.
struct Answered {
    what: &'static str,
    method: &'static str,
    bytes: Vec<u8>,
    /// The app ends the connection after it.
    closes: bool,
}

/// Every shape of an answer, directly, to HTTP/1.0, HTTP/1.1 and HTTP/2: the same answer.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same() {
    let lab = Lab::new().await;
    let mut failed = Vec::new();
    for answered in shapes() {
        let compared = AssertUnwindSafe(compare(&lab, &answered)).catch_unwind();
        if compared.await.is_err() {
            failed.push(answered.what);
        }
        lab.app.clear();
    }
    assert!(failed.is_empty(), "{} changed: {failed:#?}", failed.len());
}

async fn compare(lab: &Lab, answered: &Answered) {
    let what = answered.what;
    let mut script = vec![Step::Body, Step::Write(answered.bytes.clone())];
    if answered.closes {
        script.push(Step::Close);
    }
    lab.app.script(script);
    let asked = Asked::new(answered.method, "/answer").header("te", "trailers");
    let bytes = asked.bytes(&lab.authority());
    let (_, direct) = lab.directly(&bytes, answered.method).await;
    assert_eq!(direct.fault, None, "{what}: {direct:?}");
    let has_date = direct.header("date").is_some();

    let (_, tunnelled) = lab.tunnelled(&bytes, answered.method).await;
    let mut wanted = back(&direct, Version::H1);
    if direct.status() == 304 {
        // On the list: hyper writes no length into a 304.
        wanted.headers.retain(|(name, _)| name != "content-length");
    }
    wanted.line = direct.line.replace("HTTP/1.0", "HTTP/1.1");
    // Interim answers are on the list.
    wanted.interim.clear();
    assert_eq!(came(tunnelled, has_date), wanted, "{what} to HTTP/1.1");

    let old = asked.clone().version("HTTP/1.0").bytes(&lab.authority());
    let (_, tunnelled) = lab.tunnelled(&old, answered.method).await;
    assert!(
        tunnelled.header("transfer-encoding").is_none(),
        "{what}: HTTP/1.0 knows no chunks: {tunnelled:?}"
    );
    let mut tunnelled = came(tunnelled, has_date);
    assert_eq!(tunnelled.status(), direct.status(), "{what} to HTTP/1.0");
    tunnelled.line.clone_from(&wanted.line);
    let mut without_trailers = wanted.clone();
    without_trailers.trailers.clear();
    without_trailers
        .headers
        .retain(|(name, _)| name != "trailer");
    assert_eq!(tunnelled, without_trailers, "{what} to HTTP/1.0");

    let (_, tunnelled) = lab.over_h2(&asked).await;
    let wanted = back(&direct, Version::H2);
    assert_eq!(came(tunnelled, has_date), wanted, "{what} to HTTP/2");
}

fn shapes() -> Vec<Answered> {
    let mut shapes = Vec::new();
    let mut add = |what, method, text: &str| {
        shapes.push(Answered {
            what,
            method,
            bytes: exact::bytes(text),
            closes: !text.contains("ength:") && !text.contains("chunked") && !text.contains("30"),
        });
    };
    let ok = "HTTP/1.1 200 OK\r\n";
    add(
        "a length",
        "GET",
        &format!("{ok}Content-Length: 5\r\n\r\nhello"),
    );
    add("no body", "GET", &format!("{ok}Content-Length: 0\r\n\r\n"));
    add(
        "a length and a close",
        "GET",
        &format!("{ok}Content-Length: 5\r\nConnection: close\r\n\r\nhello"),
    );
    add(
        "every byte",
        "GET",
        &format!(
            "{ok}Content-Length: 256\r\n\r\n{}",
            exact::latin1(&(0..=255).collect::<Vec<u8>>())
        ),
    );
    add(
        "chunks",
        "GET",
        &format!(
            "{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=\"a;b\"\r\n!\r\n0\r\n\r\n"
        ),
    );
    add(
        "no chunks",
        "GET",
        &format!("{ok}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    );
    add(
        "chunk sizes in odd spellings",
        "GET",
        &format!(
            "{ok}Transfer-Encoding: Chunked\r\n\r\n0005\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n"
        ),
    );
    add(
        "trailers",
        "GET",
        &format!(
            "{ok}Trailer: X-Sum, x-more\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\nx-more: a\r\n\r\n"
        ),
    );
    add("until the close", "GET", &format!("{ok}\r\nuntil the end"));
    add("until the close, nothing", "GET", &format!("{ok}\r\n"));
    add(
        "HTTP/1.0 until the close",
        "GET",
        "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil the end",
    );
    add(
        "HTTP/1.0 with a length",
        "GET",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    );
    add(
        "HEAD with a length",
        "HEAD",
        &format!("{ok}Content-Length: 12345\r\nContent-Type: text/plain\r\n\r\n"),
    );
    add(
        "HEAD of chunks",
        "HEAD",
        &format!("{ok}Transfer-Encoding: chunked\r\n\r\n"),
    );
    add(
        "204",
        "GET",
        "HTTP/1.1 204 No Content\r\nX-Length: none\r\n\r\n",
    );
    add(
        "204 to a DELETE",
        "DELETE",
        "HTTP/1.1 204 No Content\r\nX-Length: none\r\n\r\n",
    );
    add(
        "304",
        "GET",
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
    );
    add(
        "304 with a length",
        "GET",
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n",
    );
    add(
        "206",
        "GET",
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nhello",
    );
    add(
        "a redirect",
        "GET",
        "HTTP/1.1 302 Found\r\nLocation: //x.example/../%2e?a#b\r\nContent-Length: 0\r\n\r\n",
    );
    add(
        "a challenge of the app",
        "GET",
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"app\"\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n",
    );
    add(
        "an error of the app",
        "GET",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\noops",
    );
    add(
        "a status of no name",
        "GET",
        "HTTP/1.1 299 Own Words\r\nContent-Length: 0\r\n\r\n",
    );
    add(
        "an empty reason",
        "GET",
        "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n",
    );
    add(
        "the highest status",
        "GET",
        "HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n",
    );
    add(
        "a reason of its own",
        "GET",
        "HTTP/1.1 200 Fine, thank you\r\nContent-Length: 0\r\n\r\n",
    );
    add(
        "many cookies",
        "GET",
        &format!(
            "{ok}Set-Cookie: a=1; Path=/\r\nX-Between: 1\r\nSet-Cookie: b=2, c\r\nSet-Cookie: a=3; Secure\r\nset-cookie: a=1; Path=/\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    add(
        "repeats and odd values",
        "GET",
        &format!(
            "{ok}X-Two: 1\r\nX-Two: \r\nx-two: 1\r\nX-Empty:\r\nX-Obs: gr\u{fc}\u{df}e\r\nX-Tab: a\tb\r\nX_Under: 1\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    add(
        "its own date and server",
        "GET",
        &format!(
            "{ok}Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: mine/1.0 (x)\r\nVia: 1.1 cache\r\nAge: 7\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    add(
        "gzip",
        "GET",
        &format!(
            "{ok}Content-Encoding: gzip\r\nContent-Length: 6\r\n\r\n\u{1f}\u{8b}\u{8}\u{0}\u{ff}\u{0}"
        ),
    );
    add(
        "between neighbours",
        "GET",
        &format!(
            "{ok}Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    add(
        "103 first",
        "GET",
        &format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{ok}Content-Length: 5\r\n\r\nhello"
        ),
    );
    add(
        "102 twice first",
        "GET",
        &format!(
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n{ok}Content-Length: 5\r\n\r\nhello"
        ),
    );
    add(
        "100 unasked",
        "GET",
        &format!("HTTP/1.1 100 Continue\r\n\r\n{ok}Content-Length: 5\r\n\r\nhello"),
    );
    let many: Vec<String> = (0..150)
        .map(|at| format!("X-Many-{at}: {at}\r\n"))
        .collect();
    let many = many.concat();
    add(
        "many headers",
        "GET",
        &format!("{ok}{many}Content-Length: 0\r\n\r\n"),
    );
    add(
        "a long header",
        "GET",
        &format!(
            "{ok}X-Long: {}\r\nContent-Length: 0\r\n\r\n",
            "v".repeat(20_000)
        ),
    );
    add(
        "a policy",
        "GET",
        &format!(
            "{ok}Content-Security-Policy: default-src 'self'\r\nStrict-Transport-Security: max-age=1\r\nAlt-Svc: h3=\":1\"\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    shapes
}

/// An app that breaks off never looks complete; one that says nothing, or no HTTP, is a 502 with its code.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_answer_is_never_whole() {
    let lab = Lab::new().await;
    let ok = "HTTP/1.1 200 OK\r\n";
    let mut failed = Vec::new();
    for (what, text, code) in [
        (
            "a length not met",
            format!("{ok}Content-Length: 1000\r\n\r\nonly this"),
            None,
        ),
        (
            "one byte short",
            format!("{ok}Content-Length: 6\r\n\r\nhello"),
            None,
        ),
        (
            "no last chunk",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            None,
        ),
        (
            "no end of the trailers",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
            None,
        ),
        (
            "half a chunk",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n50\r\nhello"),
            None,
        ),
        (
            "a chunk of no size",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n"),
            None,
        ),
        (
            "a chunk too large to count",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nffffffffffffffff1\r\nx"),
            None,
        ),
        ("nothing", String::new(), Some("SP_4003")),
        ("half a head", format!("{ok}Content-Le"), Some("SP_4003")),
        (
            "garbage",
            "this is not HTTP at all\r\n\r\n".to_owned(),
            Some("SP_4004"),
        ),
        (
            "a TLS alert",
            exact::latin1(&[0x15, 3, 1, 0, 2, 2, 0x46]),
            Some("SP_4004"),
        ),
        (
            "two lengths",
            format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
            Some("SP_4004"),
        ),
        (
            "a length of no number",
            format!("{ok}Content-Length: five\r\n\r\nhello"),
            Some("SP_4004"),
        ),
        (
            "a folded header",
            format!("{ok}X-A: 1\r\n X-B: 2\r\nContent-Length: 0\r\n\r\n"),
            Some("SP_4004"),
        ),
        (
            "too large a head",
            format!("{ok}X-Long: {}", "v".repeat(600_000)),
            Some("SP_4004"),
        ),
    ] {
        for last in [Step::Close, Step::Reset] {
            lab.app.script(vec![
                Step::Body,
                Step::Write(exact::bytes(&text)),
                last.clone(),
            ]);
            for version in ["HTTP/1.0", "HTTP/1.1", "HTTP/2"] {
                let shown = format!("{what}, {last:?}, to {version}");
                let answer = ask(&lab, version).await;
                let is_as_wanted = match (&answer, code) {
                    // A reset may overtake what was sent before it.
                    (Ok(answer), None) => {
                        answer.status() == 502 || (answer.status() == 200 && answer.fault.is_some())
                    }
                    (Err(_), None) => true,
                    (Ok(answer), Some(code)) => {
                        let is_reset = matches!(last, Step::Reset);
                        let said = answer.header("sallyport-error").unwrap_or_default();
                        answer.status() == 502 && (said == code || is_reset && said == "SP_4003")
                    }
                    (Err(_), Some(_)) => false,
                };
                if !is_as_wanted {
                    failed.push(format!("{shown}: {answer:?}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

async fn ask(lab: &Lab, version: &'static str) -> Result<Message, Fault> {
    let asked = Asked::get("/broken");
    if version == "HTTP/2" {
        return wait::within("an end", lab.h2(&asked)).await;
    }
    let mut wire = lab.tunnel().await;
    let bytes = asked.version(version).bytes(&lab.authority());
    wire.write(&bytes).await.unwrap();
    wait::within("an end", wire.answer("GET")).await
}
