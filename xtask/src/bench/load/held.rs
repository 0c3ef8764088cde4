//! Connections that are open and wait: after an answer (idle), or within one that does not end (held).

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use tokio::time::{sleep_until, timeout_at};

use crate::bench::load::http1::{Connection, request};
use crate::bench::load::{Client, Door};

/// Asks once, and then stays connected until the window ends.
pub(crate) fn idle(door: &Door, target: &str) -> Client {
    let door = Arc::new(door.clone());
    let bytes: Arc<[u8]> = request("GET", &door, target, "").into();
    Arc::new(move |mut gate| {
        let (door, bytes) = (Arc::clone(&door), Arc::clone(&bytes));
        Box::pin(async move {
            let open = async {
                let mut connection = Connection::open_with(&door, BUFFER_BYTES).await?;
                connection.ask(&bytes).await?;
                Ok(connection)
            };
            let (connection, window) = gate.connect(open).await?;
            sleep_until(window.end.into()).await;
            drop(connection);
            Ok(())
        })
    })
}

/// Asks for what does not end, and writes down when it ends all the same; an error where that is not within
/// the window.
pub(crate) fn held(door: &Door, target: &str) -> Client {
    let door = Arc::new(door.clone());
    let bytes: Arc<[u8]> = request("GET", &door, target, "").into();
    Arc::new(move |mut gate| {
        let (door, bytes) = (Arc::clone(&door), Arc::clone(&bytes));
        Box::pin(async move {
            let open = async {
                let mut connection = Connection::open_with(&door, BUFFER_BYTES).await?;
                connection.send(&bytes).await?;
                let head = connection.head().await?;
                ensure!(head.status == 200, "answered {}", head.status);
                ensure!(!connection.some().await?.is_empty(), "an empty answer");
                Ok(connection)
            };
            let (mut connection, window) = gate.connect(open).await?;
            let end = async {
                // A reset and a close are both an end.
                while connection.some().await.is_ok_and(|bytes| !bytes.is_empty()) {}
                Instant::now()
            };
            let ended = timeout_at(window.end.into(), end).await?;
            gate.ended(ended);
            Ok(())
        })
    })
}

const BUFFER_BYTES: usize = 2 * 1024;
