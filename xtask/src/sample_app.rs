//! The local app behind the demo's endpoint, and behind the tests': a page that shows who you are, and one
//! path for each way in which bytes can flow and be cut.
//!
//! It trusts the identity headers, as an app behind Sallyport may, because it listens on loopback only.
//! It must not know anything of the product beyond those headers.

mod page;
mod stream;
mod websocket;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use axum::extract::Request;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; loopback only
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Say in one line of JSON when it is ready
    #[arg(long)]
    json: bool,
}

/// Serves until the process is ended.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    ensure!(
        args.listen.ip().is_loopback(),
        "the sample app believes its headers and serves loopback only"
    );
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let port = listener.local_addr()?.port();
    if args.json {
        println!("{}", json!({"event": "ready", "port": port}));
    } else {
        println!("Sample app on http://127.0.0.1:{port}");
    }
    axum::serve(listener, router()).await?;
    Ok(ExitCode::SUCCESS)
}

fn router() -> Router {
    Router::new()
        .route("/", get(page::show))
        .route("/app.js", get(page::script))
        .route("/ws", any(websocket::clock))
        .route("/events", get(stream::events))
        .route("/slow", get(stream::slow))
        .route("/upload", post(upload).put(upload))
        .route("/headers", any(headers))
        .route("/healthz", get(async || "ok"))
}

/// Counts a body of any length without keeping it.
async fn upload(request: Request) -> (StatusCode, Json<Value>) {
    let mut bytes = 0_u64;
    let mut chunks = 0_u64;
    let mut body = request.into_body().into_data_stream();
    while let Some(chunk) = body.next().await {
        let Ok(chunk) = chunk else {
            let answer = json!({"complete": false, "bytes": bytes, "chunks": chunks});
            return (StatusCode::BAD_REQUEST, Json(answer));
        };
        bytes = bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        chunks = chunks.saturating_add(1);
    }
    let answer = json!({"complete": true, "bytes": bytes, "chunks": chunks});
    (StatusCode::OK, Json(answer))
}

/// What arrived, so that one sees what was added, removed and kept.
async fn headers(request: Request) -> Json<Value> {
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str()).or_default().push(value);
    }
    Json(json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": headers,
    }))
}

/// One tick of the clock, as the WebSocket and the event stream send it.
fn tick(number: u64) -> String {
    let unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    format!("{{\"tick\":{number},\"unix_ms\":{unix_ms}}}")
}

/// How often the clock ticks.
const TICK_MS: u64 = 100;
