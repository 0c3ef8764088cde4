//! Bytes in one direction for as long as the window lasts.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::bench::load::http1::{Connection, request};
use crate::bench::load::{Client, Door, Gate, Window};

/// Downloads the same large thing again and again.
pub(crate) fn down(door: &Door, target: &str) -> Client {
    let door = Arc::new(door.clone());
    let bytes: Arc<[u8]> = request("GET", &door, target, "").into();
    Arc::new(move |mut gate| {
        let (door, bytes) = (Arc::clone(&door), Arc::clone(&bytes));
        Box::pin(async move {
            let open = Connection::open_with(&door, BUFFER_BYTES);
            let (mut connection, window) = gate.connect(open).await?;
            while !is_over(window) {
                connection.send(&bytes).await?;
                let head = connection.head().await?;
                ensure!(head.status == 200, "answered {}", head.status);
                let mut left = head.body_bytes.context("an answer of unknown length")?;
                while left > 0 && !is_over(window) {
                    let piece = left.min(PIECE_BYTES);
                    let count = |bytes| gate.count_bytes(window, bytes);
                    connection.skip(piece, count).await?;
                    left -= piece;
                }
            }
            Ok(())
        })
    })
}

/// Uploads large bodies to something that reads all of them.
pub(crate) fn up(door: &Door, target: &str) -> Client {
    let door = Arc::new(door.clone());
    let length = format!("Content-Length: {UPLOAD_BYTES}\r\n");
    let head: Arc<[u8]> = request("POST", &door, target, &length).into();
    Arc::new(move |mut gate| {
        let (door, head) = (Arc::clone(&door), Arc::clone(&head));
        Box::pin(async move {
            let (mut connection, window) = gate.connect(Connection::open(&door)).await?;
            while !is_over(window) {
                if upload(&mut connection, &head, &gate, window)
                    .await?
                    .is_none()
                {
                    return Ok(());
                }
            }
            Ok(())
        })
    })
}

/// One body; nothing where the window ended within it.
async fn upload(
    connection: &mut Connection,
    head: &[u8],
    gate: &Gate,
    window: Window,
) -> anyhow::Result<Option<()>> {
    let piece = vec![b'x'; BUFFER_BYTES];
    connection.send(head).await?;
    let mut left = UPLOAD_BYTES;
    while left > 0 {
        if is_over(window) {
            return Ok(None);
        }
        connection.send(&piece).await?;
        gate.count_bytes(window, piece.len());
        left = left.saturating_sub(piece.len() as u64);
    }
    let answer = connection.head().await?;
    ensure!(answer.status == 200, "answered {}", answer.status);
    let bytes = answer.body_bytes.context("an answer of unknown length")?;
    connection.skip(bytes, |_| {}).await?;
    Ok(Some(()))
}

fn is_over(window: Window) -> bool {
    Instant::now() >= window.end
}

const BUFFER_BYTES: usize = 64 * 1024;
/// Between looks at the clock.
const PIECE_BYTES: u64 = 1024 * 1024;
/// A whole number of buffers.
const UPLOAD_BYTES: u64 = 256 * 1024 * 1024;
