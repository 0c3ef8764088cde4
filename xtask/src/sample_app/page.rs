//! The page: who you are, a clock over a WebSocket, links to everything else.

use axum::response::{Html, IntoResponse, Response};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::html::escape;

/// `GET /`.
pub(super) async fn show(headers: HeaderMap) -> Response {
    let shown = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .map_or_else(|| "–".to_owned(), |value| escape(&value))
    };
    let greeting = if headers.contains_key("sallyport-user-id") {
        "Sallyport vouches for you."
    } else {
        "Nobody vouches for you: this request did not come through a login."
    };
    let page = PAGE
        .replace("{greeting}", greeting)
        .replace("{id}", &shown("sallyport-user-id"))
        .replace("{email}", &shown("sallyport-user-email"))
        .replace("{name}", &shown("sallyport-user-name"));
    ([(CACHE_CONTROL, "no-store")], Html(page)).into_response()
}

/// `GET /app.js`.
pub(super) async fn script() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, SCRIPT)
}

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
