//! Bodies that never end: the clock as server-sent events, and a download at a bounded rate.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use tokio::time::{MissedTickBehavior, interval};

use crate::sample_app::{TICK_MS, tick};

/// `GET /events`.
pub(super) async fn events() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    let body = every(TICK_MS, |number| {
        Bytes::from(format!("id: {number}\ndata: {}\n\n", tick(number)))
    });
    (headers, body).into_response()
}

/// `GET /slow`.
pub(super) async fn slow() -> Response {
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_DISPOSITION, "attachment; filename=\"endless\""),
    ];
    let body = every(SLOW_CHUNK_MS, |_| Bytes::from_static(&SLOW_CHUNK));
    (headers, body).into_response()
}

/// A body of one chunk per interval, without an end. A reader that does not read holds it up; nothing
/// piles up for it.
fn every(interval_ms: u64, chunk: impl Fn(u64) -> Bytes + Send + 'static) -> Body {
    let mut timer = interval(Duration::from_millis(interval_ms));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Body::from_stream(stream::unfold(
        (timer, chunk, 0_u64),
        async |(mut timer, chunk, number)| {
            timer.tick().await;
            let bytes = chunk(number);
            Some((
                Ok::<_, Infallible>(bytes),
                (timer, chunk, number.saturating_add(1)),
            ))
        },
    ))
}

/// 16 KiB every 50 ms: about 320 KB/s.
const SLOW_CHUNK_MS: u64 = 50;
static SLOW_CHUNK: [u8; 16 * 1024] = [b'.'; 16 * 1024];
