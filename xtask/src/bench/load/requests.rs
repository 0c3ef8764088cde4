//! Requests one after the other on connections that stay open.

use std::sync::Arc;
use std::time::Instant;

use crate::bench::load::http1::{Connection, request};
use crate::bench::load::{Client, Door};

/// Asks for the same small thing again and again; connects anew where a connection was lost.
pub(crate) fn client(door: &Door, target: &str) -> Client {
    let door = Arc::new(door.clone());
    let bytes: Arc<[u8]> = request("GET", &door, target, "").into();
    Arc::new(move |mut gate| {
        let (door, bytes) = (Arc::clone(&door), Arc::clone(&bytes));
        Box::pin(async move {
            let (mut connection, window) = gate.connect(Connection::open(&door)).await?;
            loop {
                let began = Instant::now();
                if began >= window.end {
                    return Ok(());
                }
                match connection.ask(&bytes).await {
                    Ok(bytes) => gate.count(window, began, bytes),
                    Err(error) => {
                        gate.fail(&error);
                        connection = Connection::open(&door).await?;
                    }
                }
            }
        })
    })
}
