//! Attacks over HTTP/1: two framings, spellings of one, lines that end otherwise, early upgrades.

use tests::exact;

use super::Comes;

/// Name, bytes and outcome of each.
pub(super) fn attacks(authority: &str) -> Vec<(String, Vec<u8>, Comes)> {
    // What would be a request of its own if anybody took it for one.
    let inner =
        format!("GET /smuggled HTTP/1.1\r\nHost: {authority}\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    let len = inner.len();
    let mut attacks = Vec::new();
    let mut add = |what: &str, text: &str, comes: Comes| {
        let text = text.replace("HOST", authority);
        attacks.push((what.to_owned(), exact::bytes(&text), comes));
    };
    let to = |requests: &[&str]| Comes::To(requests.iter().map(|one| (*one).to_owned()).collect());
    let body = format!("POST /x {len}");
    let whole_body = || Comes::To(vec![body.clone()]);
    let post = |headers: &str, rest: &str| {
        format!("POST /x HTTP/1.1\r\nHost: HOST\r\n{headers}\r\n\r\n{rest}")
    };
    let end_then_inner = format!("0\r\n\r\n{inner}");
    let inner_body = inner.as_str();

    // Two framings: the chunks count, and the connection ends (RFC 9112 §6.1).
    for framing in [
        format!("Content-Length: {len}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {len}"),
        "Content-Length: 4\r\nTransfer-Encoding: chunked".to_owned(),
    ] {
        add(
            &format!("CL+TE {framing:?}"),
            &post(&framing, &end_then_inner),
            to(&["POST /x -"]),
        );
        let chunks = format!("{len:x}\r\n{inner_body}\r\n0\r\n\r\n");
        add(
            &format!("TE+CL {framing:?}"),
            &post(&framing, &chunks),
            whole_body(),
        );
    }
    // Lengths that say two things, or none.
    add(
        "CL twice, the same",
        &post(
            &format!("Content-Length: {len}\r\nContent-Length: {len}"),
            inner_body,
        ),
        whole_body(),
    );
    for value in [
        "0\r\nContent-Length: 60",
        "60\r\ncontent-length: 0",
        "60, 60",
        "60,0",
        "+60",
        "-60",
        "0x3c",
        "60 ",
        "6 0",
        "",
        "60;",
        "60.0",
        "1e2",
        "99999999999999999999",
        "18446744073709551676",
        "\u{b2}",
    ] {
        if value == "60 " {
            continue;
        }
        add(
            &format!("CL {value:?}"),
            &post(&format!("Content-Length: {value}"), inner_body),
            Comes::Refused,
        );
    }
    // Spellings of a coding.
    add(
        "TE in capitals",
        &post("TRANSFER-ENCODING: ChUnKeD", "0\r\n\r\n"),
        to(&["POST /x -"]),
    );
    add(
        "TE after a tab",
        &post("Transfer-Encoding:\tchunked\t", "0\r\n\r\n"),
        to(&["POST /x -"]),
    );
    for value in [
        "xchunked",
        "chunkedx",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: x",
        "\"chunked\"",
        "chunked;q=1",
        "chunked,",
        ",chunked",
        "chun ked",
        "\u{b}chunked",
        "chunked\u{a0}",
        "chunked\0",
        "",
        "cow\r\nTransfer-encoding: chunked",
        "chunked\r\n identity",
    ] {
        add(
            &format!("TE {value:?}"),
            &post(&format!("Transfer-Encoding: {value}"), &end_then_inner),
            Comes::Refused,
        );
        add(
            &format!("CL+TE {value:?}"),
            &post(
                &format!("Content-Length: {len}\r\nTransfer-Encoding: {value}"),
                inner_body,
            ),
            Comes::Refused,
        );
    }
    // Lines that are no header, or two.
    for line in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "\tTransfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tfolded",
        "X: a\0b",
        "X\0: a",
        "X: a\rTransfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer\r-Encoding: chunked",
        ": chunked",
        "no colon",
        "X y: z",
        "X(y): z",
        "\u{e4}: z",
        "X: \u{1}",
        "X: \u{7f}",
    ] {
        add(
            &format!("line {line:?}"),
            &post(&format!("{line}\r\nContent-Length: {len}"), inner_body),
            Comes::Refused,
        );
    }
    // Names that some read as another one never arrive.
    add(
        "TE with _",
        &post(
            &format!("Transfer_Encoding: chunked\r\nContent-Length: {len}"),
            inner_body,
        ),
        whole_body(),
    );
    add(
        "CL with _",
        &post(
            &format!("Content_Length: 0\r\nContent-Length: {len}"),
            inner_body,
        ),
        whole_body(),
    );
    // A bare LF ends a line (RFC 9112 §2.2 lets it): what follows is a request that the edge judged.
    add(
        "a bare LF in the head",
        &post("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        to(&["POST /x -"]),
    );
    // Framing named as between neighbours.
    add(
        "Connection: Content-Length",
        &post(
            &format!("Connection: Content-Length\r\nContent-Length: {len}"),
            inner_body,
        ),
        whole_body(),
    );
    add(
        "Connection: Transfer-Encoding",
        &post(
            "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
            &format!("{len:x}\r\n{inner_body}\r\n0\r\n\r\n"),
        ),
        whole_body(),
    );
    add(
        "after a close",
        &format!("GET /x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n{inner}"),
        to(&["GET /x -"]),
    );
    // Chunks.
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    for body in [
        "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "7fffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "\u{e4}\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    ] {
        add(
            &format!("chunks {body:?}"),
            &chunked(body),
            Comes::ToNothingWhole,
        );
    }
    add(
        "a long extension",
        &chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(70_000))),
        Comes::ToNothingWhole,
    );
    add(
        "many trailers",
        &chunked(&format!(
            "5\r\nhello\r\n0\r\n{}\r\n",
            "x: y\r\n".repeat(20_000)
        )),
        Comes::ToNothingWhole,
    );
    add(
        "framing in trailers",
        &post(
            "Trailer: content-length, transfer-encoding, host\r\nTransfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\r\n",
        ),
        to(&["POST /x 5"]),
    );
    // Bodies where some expect none.
    add(
        "a GET with a body",
        &format!("GET /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: {len}\r\n\r\n{inner}"),
        Comes::To(vec![format!("GET /x {len}")]),
    );
    add(
        "a HEAD with a body",
        &format!("HEAD /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: {len}\r\n\r\n{inner}"),
        Comes::To(vec![format!("HEAD /x {len}")]),
    );
    add(
        "a DELETE of chunks",
        &format!(
            "DELETE /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n{inner}\r\n0\r\n\r\n"
        ),
        Comes::To(vec![format!("DELETE /x {len}")]),
    );
    // Versions.
    for line in [
        "POST /x HTTP/1.2",
        "POST /x HTTP/2.0",
        "POST /x HTTP/0.9",
        "POST /x http/1.1",
        "POST /x HTTP/1.1x",
        "POST /x HTTP/1.1 HTTP/1.1",
        "POST /x",
        "POST  /x HTTP/1.1",
        "POST\t/x HTTP/1.1",
        "POST /x\tHTTP/1.1",
        "POST /x\u{b}HTTP/1.1",
        "POST /x\0 HTTP/1.1",
        "PO\0ST /x HTTP/1.1",
        "PO(ST /x HTTP/1.1",
        " POST /x HTTP/1.1",
        "POST x HTTP/1.1",
        "POST \u{e4} HTTP/1.1",
        "PRI * HTTP/2.0",
        "TRACE /x HTTP/1.1",
        "CONNECT HOST HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "GET * HTTP/1.1",
    ] {
        let text = format!("{line}\r\nHost: HOST\r\nContent-Length: {len}\r\n\r\n{inner}");
        add(&format!("request line {line:?}"), &text, Comes::Refused);
    }
    add(
        "chunks in HTTP/1.0",
        &format!(
            "POST /x HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n{end_then_inner}"
        ),
        Comes::Refused,
    );
    add(
        "both in HTTP/1.0",
        &format!(
            "POST /x HTTP/1.0\r\nHost: HOST\r\nContent-Length: {len}\r\nTransfer-Encoding: chunked\r\n\r\n{end_then_inner}"
        ),
        Comes::Refused,
    );
    add(
        "a second one in HTTP/1.0",
        &format!("GET /x HTTP/1.0\r\nHost: HOST\r\n\r\n{inner}"),
        to(&["GET /x -"]),
    );
    // Upgrades: no byte goes past the edge's parser before a 101.
    let fine = "GET /y HTTP/1.1\r\nHost: HOST\r\n\r\n";
    for upgrade in ["websocket", "h2c", "chat/1", "websocket, h2c"] {
        let head = format!(
            "GET /x HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n"
        );
        add(
            &format!("early {upgrade}"),
            &format!("{head}{fine}"),
            to(&["GET /x -", "GET /y -"]),
        );
    }
    add(
        "HTTP/2 after h2c",
        "GET /x HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        to(&["GET /x -"]),
    );
    add(
        "an upgrade with a body",
        &format!(
            "POST /x HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\nContent-Length: {len}\r\n\r\n{inner}{fine}"
        ),
        Comes::To(vec![body.clone(), "GET /y -".to_owned()]),
    );
    attacks
}
