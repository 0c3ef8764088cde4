//! Many streams on one connection.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use h2::client::SendRequest;
use http::Request;

use crate::bench::load::wire::Wire;
use crate::bench::load::{Client, Door, Gate, Window};

/// Requests one after the other on each of so many streams of one connection.
pub(crate) fn client(door: &Door, target: &str, streams: usize) -> Client {
    let door = Arc::new(door.clone());
    let uri = format!("https://{}{target}", door.authority);
    Arc::new(move |mut gate| {
        let (door, uri) = (Arc::clone(&door), uri.clone());
        Box::pin(async move {
            let (sender, window) = gate.connect(open(&door)).await?;
            let mut request = Request::get(&uri);
            if let Some(cookie) = &door.cookie {
                request = request.header("cookie", cookie);
            }
            let request = Rc::new(request.body(())?);
            let each = (0..streams).map(|_| stream(&gate, window, sender.clone(), &request));
            try_join_all(each).await?;
            Ok(())
        })
    })
}

async fn open(door: &Door) -> anyhow::Result<SendRequest<Bytes>> {
    let wire = Wire::open(door).await?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake::<_, Bytes>(wire)
        .await
        .context("no HTTP/2")?;
    // It ends with the connection.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

async fn stream(
    gate: &Gate,
    window: Window,
    sender: SendRequest<Bytes>,
    request: &Request<()>,
) -> anyhow::Result<()> {
    let mut sender = sender;
    loop {
        let began = Instant::now();
        if began >= window.end {
            return Ok(());
        }
        sender = sender.ready().await?;
        let (response, _) = sender.send_request(request.clone(), true)?;
        let response = response.await?;
        let status = response.status();
        ensure!(status == 200, "answered {status}");
        let mut body = response.into_body();
        let mut bytes = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            bytes += data.len() as u64;
            body.flow_control().release_capacity(data.len())?;
        }
        gate.count(window, began, bytes);
    }
}

const WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
