//! What the app says, by path.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::read::Reader;
use super::{Ended, STAMP, Seen};
use crate::clock;

/// Answers one request. `Ok(true)`: the connection can carry the next one.
pub(super) async fn answer(io: &mut Reader, seen: &Arc<Seen>) -> Result<bool, Ended> {
    let path = seen.target.split('?').next().unwrap_or("");
    match path {
        "/echo" => echo(io, seen).await,
        "/headers" => {
            io.body(seen, |_| {}).await?;
            let headers: Vec<_> = seen
                .headers
                .iter()
                .map(|(name, value)| json!([name, value]))
                .collect();
            whole(
                io,
                seen,
                "application/json",
                json!({ "target": seen.target, "headers": headers })
                    .to_string()
                    .as_bytes(),
            )
            .await
        }
        "/slow" => endless(io, seen).await,
        "/big" => big(io, seen).await,
        "/events" => events(io, seen).await,
        "/ws" => websocket(io, seen).await,
        "/hang" => {
            io.body(seen, |_| {}).await?;
            Err(io.gone().await)
        }
        "/close" => {
            io.body(seen, |_| {}).await?;
            Ok(false)
        }
        "/garbage" => {
            io.body(seen, |_| {}).await?;
            io.write(b"this is not HTTP at all\r\n\r\n").await?;
            Ok(false)
        }
        "/truncated" => {
            io.body(seen, |_| {}).await?;
            io.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this")
                .await?;
            Ok(false)
        }
        "/trailers" => {
            io.body(seen, |_| {}).await?;
            io.write(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n",
            )
            .await?;
            Ok(true)
        }
        "/until-close" => {
            io.body(seen, |_| {}).await?;
            io.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end")
                .await?;
            Ok(false)
        }
        "/early" => {
            // Answers before the body is read, as applications that refuse an upload do.
            io.write(
                b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            )
            .await?;
            Ok(false)
        }
        "/unread" => Err(io.gone_without_reading().await),
        "/set-cookie" => {
            io.body(seen, |_| {}).await?;
            let text = "HTTP/1.1 200 OK\r\nset-cookie: app=1; Path=/\r\nset-cookie: __Host-sallyport=evil; Path=/; Secure\r\n\
                        sallyport-error: SP_9999\r\ncontent-length: 2\r\n\r\nok";
            io.write(text.as_bytes()).await?;
            Ok(true)
        }
        _ => {
            let mut body = 0_u64;
            io.body(seen, |piece| body += piece.len() as u64).await?;
            let text =
                json!({ "method": seen.method, "target": seen.target, "bytes": body }).to_string();
            whole(io, seen, "application/json", text.as_bytes()).await
        }
    }
}

/// A reply with its length. HEAD gets the head alone.
async fn whole(io: &mut Reader, seen: &Seen, kind: &str, body: &[u8]) -> Result<bool, Ended> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if seen.method != "HEAD" {
        bytes.extend_from_slice(body);
    }
    io.write(&bytes).await?;
    seen.sent_bytes
        .fetch_add(body.len() as u64, Ordering::SeqCst);
    Ok(true)
}

async fn echo(io: &mut Reader, seen: &Seen) -> Result<bool, Ended> {
    let mut body = Vec::new();
    io.body(seen, |piece| body.extend_from_slice(piece)).await?;
    whole(io, seen, "application/octet-stream", &body).await
}

/// Chunks without end, each beginning with the time it was written. `every` milliseconds apart.
async fn endless(io: &mut Reader, seen: &Seen) -> Result<bool, Ended> {
    io.body(seen, |_| {}).await?;
    let size = usize::try_from(seen.parameter("size").unwrap_or(4096))
        .unwrap_or(4096)
        .max(STAMP);
    let every = seen.parameter("every").unwrap_or(0);
    io.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    loop {
        let mut chunk = format!("{size:x}\r\n").into_bytes();
        chunk.extend_from_slice(&stamp(size));
        chunk.extend_from_slice(b"\r\n");
        io.write(&chunk).await?;
        sent(seen, size);
        pause(io, every).await?;
    }
}

/// `n` bytes with their length.
async fn big(io: &mut Reader, seen: &Seen) -> Result<bool, Ended> {
    io.body(seen, |_| {}).await?;
    let mut left = usize::try_from(seen.parameter("n").unwrap_or(1 << 20)).unwrap_or(0);
    io.write(format!("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {left}\r\n\r\n").as_bytes())
        .await?;
    while left > 0 {
        let size = left.min(PIECE);
        io.write(&stamp(size)).await?;
        sent(seen, size);
        left -= size;
    }
    Ok(true)
}

async fn events(io: &mut Reader, seen: &Seen) -> Result<bool, Ended> {
    io.body(seen, |_| {}).await?;
    let every = seen.parameter("every").unwrap_or(50);
    io.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    loop {
        let event = format!("data: {}\n\n", clock::now_ns());
        io.write(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
            .await?;
        sent(seen, event.len());
        pause(io, every).await?;
    }
}

/// A clock (text, every `every` ms; or binary frames of `size` bytes) that also echoes.
async fn websocket(io: &mut Reader, seen: &Seen) -> Result<bool, Ended> {
    let Some(key) = seen.header("sec-websocket-key") else {
        io.write(
            b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
        )
        .await?;
        return Ok(true);
    };
    let accept = derive_accept_key(key.as_bytes());
    io.write(
        format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n")
            .as_bytes(),
    )
    .await?;
    let every = seen.parameter("every").unwrap_or(100);
    let size = usize::try_from(seen.parameter("size").unwrap_or(0)).unwrap_or(0);
    let read_ahead = io.buffer.split().to_vec();
    let mut socket =
        WebSocketStream::from_partially_read(&mut io.stream, read_ahead, Role::Server, None).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(every.max(1)));
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let message = if size > 0 {
                    Message::binary(stamp(size.max(STAMP)))
                } else {
                    Message::text(format!("tick {}", clock::now_ns()))
                };
                let len = message.len();
                if socket.send(message).await.is_err() {
                    return Err(Ended::Reset);
                }
                sent(seen, len);
            }
            message = socket.next() => match message {
                None => return Err(Ended::Fin),
                Some(Err(tokio_tungstenite::tungstenite::Error::Io(_))) => return Err(Ended::Reset),
                Some(Err(_)) => return Err(Ended::Fin),
                Some(Ok(Message::Close(_))) => {
                    // The client's own close: answered by the library, then the connection ends.
                    while let Some(Ok(_)) = socket.next().await {}
                    return Ok(false);
                }
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    seen.received(&message.clone().into_data());
                    if socket.send(message).await.is_err() {
                        return Err(Ended::Reset);
                    }
                }
                Some(Ok(_)) => {}
            },
        }
    }
}

/// Waits, unless the other side goes away.
async fn pause(io: &mut Reader, every_ms: u64) -> Result<(), Ended> {
    if every_ms == 0 {
        tokio::task::yield_now().await;
        return Ok(());
    }
    tokio::select! {
        ended = io.gone() => Err(ended),
        () = tokio::time::sleep(Duration::from_millis(every_ms)) => Ok(()),
    }
}

/// `size` bytes that begin with the time, in base64 so that they are text, and go on with `x`.
fn stamp(size: usize) -> Vec<u8> {
    let mut bytes = base64::engine::general_purpose::STANDARD_NO_PAD
        .encode(clock::now_ns().to_be_bytes())
        .into_bytes();
    bytes.resize(size.max(bytes.len()), b'x');
    bytes.truncate(size);
    bytes
}

/// The time in a stamp.
pub(super) fn stamped_ns(bytes: &[u8]) -> Option<u64> {
    let time = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(bytes.get(..STAMP)?)
        .ok()?;
    Some(u64::from_be_bytes(time.try_into().ok()?))
}

fn sent(seen: &Seen, bytes: usize) {
    seen.sent_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    seen.last_byte_ns.store(clock::now_ns(), Ordering::SeqCst);
}

const PIECE: usize = 16 * 1024;
