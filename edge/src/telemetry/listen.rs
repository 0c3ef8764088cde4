//! A listener of its own for whatever watches the edge: metrics, alive, ready. Plain HTTP, no login, no
//! secrets: the operator puts it on loopback or on a private network.
//!
//! It answers until the very end, also while the edge drains.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::metrics::{Metrics, Now};
use crate::shutdown::Shutdown;

/// What is watched.
pub(crate) struct Watched {
    pub(crate) metrics: Arc<Metrics>,
    /// What can be read at the moment.
    pub(crate) now: Box<dyn Fn() -> Now + Send + Sync>,
    /// Whether the store answers. May take its time: it is bounded here.
    pub(crate) store_answers: Box<dyn Fn() -> Answering + Send + Sync>,
    /// Draining begins with it.
    pub(crate) shutdown: Shutdown,
}

pub(crate) type Answering = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The listener, open. Dropped, it closes.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Opens the listener and serves. The public listeners are open by now: whoever asks this one may
    /// believe that.
    pub(crate) async fn open(address: SocketAddr, watched: Watched) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, Arc::new(watched)));
        Ok(Self { address, task })
    }
}

async fn serve(listener: TcpListener, watched: Arc<Watched>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with this task: connections end with the listener.
    let mut open = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let watched = Arc::clone(&watched);
                open.spawn(async move {
                    // A place is for a scrape, not for a day.
                    let serving = serve_one(stream, watched);
                    let _ = tokio::time::timeout(CONNECTION_WITHIN, serving).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the listener for metrics does not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, watched: Arc<Watched>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let watched = Arc::clone(&watched);
        async move { Ok::<_, Infallible>(answer(&watched, &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection for metrics ended");
    }
}

async fn answer(watched: &Watched, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/metrics" => match watched.metrics.text((watched.now)()) {
            Ok(all) => {
                let mut response = text(StatusCode::OK, all);
                let kind = HeaderValue::from_static(OPENMETRICS);
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "not encoded\n"),
        },
        "/healthz" => text(StatusCode::OK, "alive\n"),
        "/readyz" => ready(watched).await,
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz\n",
        ),
    }
}

/// Whether new visitors and agents should come here. That this is asked says that the public listeners
/// were opened, and they close with the drain.
async fn ready(watched: &Watched) -> Response<Full<Bytes>> {
    let store = tokio::time::timeout(STORE_WITHIN, (watched.store_answers)()).await;
    let store = store.unwrap_or(false);
    let draining = watched.shutdown.has_begun();
    let word =
        |is_well: bool, well: &'static str, ill: &'static str| if is_well { well } else { ill };
    let report = format!(
        "store: {}\nlisteners: {}\ndraining: {}\n",
        word(store, "answers", "does not answer"),
        word(!draining, "open", "closed"),
        word(!draining, "no", "yes"),
    );
    let status = if store && !draining {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    text(status, report)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PLAIN));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Scrapers and probes are few.
const CONNECTIONS_MAX: usize = 32;
const CONNECTION_WITHIN: Duration = Duration::from_mins(10);
const HEADER_WITHIN: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 16 * 1024;
const STORE_WITHIN: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
