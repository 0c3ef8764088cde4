//! The clock over a WebSocket: upgraded by hand, because axum's feature would bring a second
//! implementation of the protocol.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::sample_app::{TICK_MS, tick};

/// `GET /ws`.
pub(super) async fn clock(mut request: Request) -> Response {
    let Some(accept) = accept_key(&request) else {
        let upgrade = [(UPGRADE, "websocket"), (SEC_WEBSOCKET_VERSION, "13")];
        return (
            StatusCode::UPGRADE_REQUIRED,
            upgrade,
            "a WebSocket is wanted\n",
        )
            .into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // A client that goes away before it has upgraded misses nothing.
        if let Ok(upgraded) = upgrade.await {
            let socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            run(socket).await;
        }
    });
    let headers = [
        (UPGRADE, "websocket"),
        (CONNECTION, "Upgrade"),
        (SEC_WEBSOCKET_ACCEPT, accept.as_str()),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

/// The handshake of RFC 6455 §4.2.1.
fn accept_key(request: &Request) -> Option<String> {
    let headers = request.headers();
    let is_handshake = request.method() == Method::GET
        && has_word(headers, &CONNECTION, "upgrade")
        && has_word(headers, &UPGRADE, "websocket")
        && headers.get(SEC_WEBSOCKET_VERSION)? == "13";
    is_handshake.then(|| {
        headers
            .get(SEC_WEBSOCKET_KEY)
            .map(|key| derive_accept_key(key.as_bytes()))
    })?
}

fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// Ticks until the other side closes or goes away. Reading answers pings and closes.
async fn run(socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
    let (mut sink, mut source) = socket.split();
    let mut timer = interval(Duration::from_millis(TICK_MS));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        tokio::select! {
            _ = timer.tick() => {
                if sink.send(Message::text(tick(number))).await.is_err() {
                    return;
                }
                number += 1;
            }
            message = source.next() => match message {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}
