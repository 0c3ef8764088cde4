//! A new connection for each request: what a handshake costs.

use std::sync::Arc;
use std::time::Instant;

use crate::bench::load::http1::{Connection, request};
use crate::bench::load::{Client, Door};

/// Connects, asks for one small thing, goes away.
pub(crate) fn client(door: &Door, target: &str) -> Client {
    let door = Arc::new(door.clone());
    let bytes: Arc<[u8]> = request("GET", &door, target, "Connection: close\r\n").into();
    Arc::new(move |mut gate| {
        let (door, bytes) = (Arc::clone(&door), Arc::clone(&bytes));
        Box::pin(async move {
            let ((), window) = gate.connect(async { Ok(()) }).await?;
            loop {
                let began = Instant::now();
                if began >= window.end {
                    return Ok(());
                }
                let once = async { Connection::open(&door).await?.ask(&bytes).await };
                match once.await {
                    Ok(bytes) => gate.count(window, began, bytes),
                    Err(error) => gate.fail(&error),
                }
            }
        })
    })
}
