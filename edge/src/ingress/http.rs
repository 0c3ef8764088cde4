//! Serves one public connection: TLS, then as ALPN chose: an agent's link goes to the tunnels; HTTP/1.1
//! or HTTP/2 is raced against the connection's kill switch, its idle time-out and the edge's drain.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use proto::version::ALPN_AGENT;
use tokio::net::TcpStream;

use crate::cert::Public;
use crate::ingress::body::ResponseBody;
use crate::ingress::connection::{self, Connection, PublicIo, Version};
use crate::ingress::handle;
use crate::ingress::hello::{self, Begun};
use crate::ingress::listener::Place;
use crate::ingress::proxied::Ends;
use crate::ingress::streams::Streams;
use crate::ingress::tail::{self, CutOff};
use crate::ingress::{Ingress, Worker};
use crate::metrics::NotServed;

/// Serves a connection to its end. Spawned by the worker that accepted it.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    tls: Public,
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
) {
    let ingress = &worker.ingress;
    connection::prepare(&stream);
    let Ok(edge) = stream.local_addr() else {
        return;
    };
    let ends = Ends { client: peer, edge };
    // Boxed, as all that is over soon or rare: the connection lives for long.
    let begin = Box::pin(hello::begin(ingress, &tls, stream, ends, place));
    let (stream, ends, place) = match tokio::time::timeout(ingress.limits.handshake, begin).await {
        Ok(Ok(Begun::Tls {
            stream,
            ends,
            place,
        })) => (stream, ends, place),
        Ok(Ok(Begun::Raw {
            permit,
            client,
            early,
            record,
            place: _place,
        })) => {
            return Box::pin(hello::serve_raw(ingress, permit, client, early, record)).await;
        }
        Ok(Err(error)) => {
            ingress.metrics.not_served(error.counted());
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                client.address = %peer.ip(),
                "connection not begun"
            );
            return;
        }
        Err(_) => {
            ingress.metrics.not_served(NotServed::TimedOut);
            tracing::debug!(client.address = %peer.ip(), "TLS handshake timed out");
            return;
        }
    };
    let (_, tls) = stream.get_ref();
    if tls.alpn_protocol() == Some(ALPN_AGENT) {
        // From here on it counts as a link, not as a visitor.
        drop(place);
        (ingress.links)(stream, ends.client);
        return;
    }
    let version = if tls.alpn_protocol() == Some(b"h2") {
        Version::Http2
    } else {
        Version::Http1
    };
    let server_name = tls
        .server_name()
        .map(|name| Arc::from(name.trim_end_matches('.').to_ascii_lowercase()));
    let connection = Connection::new(ends, server_name, version);
    let io = TokioIo::new(PublicIo::new(
        stream,
        connection.clone(),
        place,
        Arc::clone(&ingress.metrics),
    ));
    let service = service_fn({
        let (worker, connection) = (Arc::clone(&worker), connection.clone());
        move |request: Request<Incoming>| {
            let (worker, connection) = (Arc::clone(&worker), connection.clone());
            async move {
                let mut response = handle::handle(&worker, &connection, request).await;
                if connection.version == Version::Http1
                    && response.status() != StatusCode::SWITCHING_PROTOCOLS
                    && worker.ingress.shutdown.has_begun()
                {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<Response<ResponseBody>, Infallible>(response)
            }
        }
    });
    let cut_off = match version {
        Version::Http1 => {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ingress.limits.header_read)
                .max_headers(HEADERS_MAX)
                .max_buf_size(ingress.limits.head_bytes_max)
                .serve_connection(io, service)
                .with_upgrades();
            let served = std::pin::pin!(served);
            race(ingress, &connection, served, |served| {
                served.graceful_shutdown();
            })
            .await
        }
        Version::Http2 => {
            let served = http2_builder(ingress, &connection).serve_connection(io, service);
            let mut served = Box::pin(served);
            race(ingress, &connection, served.as_mut(), |served| {
                served.graceful_shutdown();
            })
            .await
        }
    };
    // Only now is its permit let go: each arm has dropped the connection, and the socket is closed.
    drop(cut_off);
}

fn http2_builder(ingress: &Ingress, connection: &Connection) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams(connection.clone()));
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(ingress.limits.head_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER_MAX)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(ingress.limits.handshake);
    builder
}

/// Drives the connection until it ends, is killed (then its socket closes with a reset), or has been
/// asked to end politely and did. Gives what was cut with it.
async fn race<C, E>(
    ingress: &Ingress,
    connection: &Connection,
    mut served: Pin<&mut C>,
    end_politely: impl Fn(Pin<&mut C>),
) -> Option<CutOff>
where
    C: Future<Output = Result<(), E>>,
    E: std::error::Error + 'static,
{
    // Looked at after the connection in each turn: it relies on that.
    let mut tail = std::pin::pin!(tail::Watch::new(connection));
    let ended = tokio::select! {
        biased;
        () = connection.killed() => return None,
        ended = &mut served => Some(ended),
        cut_off = &mut tail => return Some(cut(connection, cut_off)),
        () = idle(connection, ingress.limits.idle) => None,
        () = left_alone(ingress, connection) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        end_politely(served.as_mut());
        tokio::select! {
            biased;
            () = connection.killed() => return None,
            ended = &mut served => ended,
            cut_off = &mut tail => return Some(cut(connection, cut_off)),
            // Nothing is open and it does not end: what is left to write is not being read.
            () = idle(connection, ingress.limits.idle) => {
                connection.order_kill();
                return None;
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "public connection ended"
        );
    }
    None
}

/// Resolves when the edge drains and the connection may be asked to end. HTTP/2 says so and takes what
/// is on its way; over HTTP/1.1 the next answer says it, so an idle connection gets a moment in which a
/// request that is on its way still arrives.
async fn left_alone(ingress: &Ingress, connection: &Connection) {
    ingress.shutdown.begun().await;
    if connection.version == Version::Http1 {
        idle(connection, DRAIN_IDLE).await;
    }
}

/// The response was complete here, and may not yet be at the client.
fn cut(connection: &Connection, cut_off: CutOff) -> CutOff {
    tracing::info!(reason = cut_off.reason.as_str(), "exchange cut");
    connection.order_kill();
    cut_off
}

/// Resolves once no request was open for `limit`, or little longer.
async fn idle(connection: &Connection, limit: Duration) {
    let mut quiet = 0;
    let mut begun = connection.begun();
    // Looking now and then costs a request nothing.
    while quiet < IDLE_LOOKS {
        tokio::time::sleep(limit / IDLE_LOOKS).await;
        let seen = connection.begun();
        if connection.open() == 0 && seen == begun {
            quiet += 1;
        } else {
            quiet = 0;
        }
        begun = seen;
    }
}

/// How finely the idle time is measured.
const IDLE_LOOKS: u32 = 8;
/// Longer than a request is on its way, shorter than anybody waits for a restart.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
const HEADERS_MAX: usize = 200;
/// Streams of one HTTP/2 connection at a time: what browsers use, and what bounds its memory.
const STREAMS_MAX: u32 = 128;
/// Upload window of one stream: 20 MB/s at 50 ms.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Response bytes buffered per stream: few, so that a slow reader is felt by the upstream.
const SEND_BUFFER_MAX: usize = 64 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
