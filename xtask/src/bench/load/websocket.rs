//! Round trips over a WebSocket: a small message there, the same back, and again (RFC 6455).

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bench::load::http1::{Connection, request};
use crate::bench::load::wire::Wire;
use crate::bench::load::{Client, Door};

/// Echoes of 64 bytes.
pub(crate) fn client(door: &Door, target: &str) -> Client {
    let door = Arc::new(door.clone());
    let bytes: Arc<[u8]> = request("GET", &door, target, HANDSHAKE).into();
    Arc::new(move |mut gate| {
        let (door, bytes) = (Arc::clone(&door), Arc::clone(&bytes));
        Box::pin(async move {
            let (mut wire, window) = gate.connect(open(&door, &bytes)).await?;
            let mut sent = SENT_HEAD.to_vec();
            sent.extend([b'x'; MESSAGE_BYTES]);
            let mut received = [0; RECEIVED_HEAD.len() + MESSAGE_BYTES];
            loop {
                let began = Instant::now();
                if began >= window.end {
                    return Ok(());
                }
                wire.write_all(&sent).await?;
                wire.flush().await?;
                wire.read_exact(&mut received).await?;
                ensure!(received.starts_with(&RECEIVED_HEAD), "not the echo");
                gate.count(window, began, MESSAGE_BYTES as u64);
            }
        })
    })
}

async fn open(door: &Door, handshake: &[u8]) -> anyhow::Result<Wire> {
    let mut connection = Connection::open(door).await?;
    connection.send(handshake).await?;
    let head = connection.head().await?;
    ensure!(head.status == 101, "answered {}", head.status);
    connection.into_wire()
}

const HANDSHAKE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const MESSAGE_BYTES: usize = 64;
/// Binary, whole, 64 bytes, masked with zeros, so that the bytes stay as they are.
const SENT_HEAD: [u8; 6] = [0x82, 0x80 | 64, 0, 0, 0, 0];
/// Binary, whole, 64 bytes.
const RECEIVED_HEAD: [u8; 2] = [0x82, 64];
