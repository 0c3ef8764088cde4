//! The app behind everybody for what nginx cannot do: WebSocket echo, a sink that counts, an answer that does not
//! end. A program of its own, so that its time on processors is nobody else's.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
}

/// Serves until the process is ended; says in one line of JSON where.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(args.listen)?;
        let listener = socket.listen(BACKLOG)?;
        let port = listener.local_addr()?.port();
        println!("{}", serde_json::json!({"event": "ready", "port": port}));
        serve(listener).await
    })
}

async fn serve(listener: TcpListener) -> anyhow::Result<ExitCode> {
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        // Small answers must not wait for the acknowledgement of others.
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream));
    }
}

async fn connection(stream: TcpStream) {
    // A client that goes away in the middle is part of what is measured.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .with_upgrades()
        .await;
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    match request.uri().path().rsplit('/').next() {
        Some("echo") => Ok(echo(request)),
        Some("sink") => sink(request.into_body()).await,
        Some("hold") => Ok(Response::new(hold())),
        _ => Ok(Response::new(whole("ok"))),
    }
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

/// Reads all and answers with the number of bytes.
async fn sink(mut body: Incoming) -> Result<Response<Body>, hyper::Error> {
    let mut bytes = 0_usize;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            bytes += data.len();
        }
    }
    Ok(Response::new(whole(bytes.to_string())))
}

/// One chunk, and never an end.
fn hold() -> Body {
    let first = stream::iter([Ok(Frame::data(Bytes::from_static(HELD)))]);
    BodyExt::boxed(StreamBody::new(first.chain(stream::pending())))
}

/// A WebSocket that sends back what it gets.
fn echo(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        let mut refused = Response::new(whole("a WebSocket is wanted\n"));
        *refused.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return refused;
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None);
        let (mut sink, mut source) = socket.await.split();
        while let Some(Ok(message)) = source.next().await {
            if (message.is_text() || message.is_binary()) && sink.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, http::HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = http::HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// What an answer begins with that does not end.
const HELD: &[u8] = b"held\n";
/// Thousands of connections come at once.
const BACKLOG: u32 = 4096;
