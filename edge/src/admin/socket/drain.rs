//! Drains the edge and tells, line by line, how far that is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use proto::code::Code;
use serde::Deserialize;

use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::admin::params::JsonBody;
use crate::admin::views::DrainView;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    timeout_ms: u64,
}

/// Answers with JSON lines until nothing is open any more. The edge drains on whether or not anybody
/// listens, and ends.
pub(super) async fn drain(
    State(admin): State<Arc<Admin>>,
    JsonBody(Wanted { timeout_ms }): JsonBody<Wanted>,
) -> Result<Response, AdminError> {
    let limit = Duration::from_millis(timeout_ms);
    if limit > LIMIT_MAX {
        let message = format!("a drain may take {} s at most", LIMIT_MAX.as_secs());
        return Err(AdminError::because(Code::ApiParameterInvalid, message));
    }
    let begun = admin.parts.clock.monotonic();
    (admin.parts.drain)(limit);
    let lines = stream::unfold(Some((admin, begun)), move |state| async move {
        let (admin, begun) = state?;
        if begun != admin.parts.clock.monotonic() {
            tokio::time::sleep(LINE_EVERY).await;
        }
        let view = look(&admin, begun, limit);
        let goes_on = !view.done;
        let mut line = serde_json::to_vec(&view).unwrap_or_default();
        line.push(b'\n');
        let line = Ok::<_, std::convert::Infallible>(Bytes::from(line));
        Some((line, goes_on.then_some((admin, begun))))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn look(admin: &Admin, begun: Instant, limit: Duration) -> DrainView {
    let presence = admin.presence();
    let elapsed = admin.parts.clock.monotonic().duration_since(begun);
    let left = limit.saturating_sub(elapsed);
    DrainView {
        exchanges: presence.exchanges,
        connections: presence.connections,
        left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        done: presence.is_emptied,
        cut: presence.cut,
        raw: presence.raw,
        raw_ended: presence.raw_ended,
    }
}

/// Whoever reads wants to see that something moves.
const LINE_EVERY: Duration = Duration::from_millis(250);
const LIMIT_MAX: Duration = Duration::from_hours(1);
