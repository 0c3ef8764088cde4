//! HTTP/2 to the upstream with prior knowledge: one exchange at a time, as over HTTP/1.1.
//!
//! hyper wants to spawn tasks for HTTP/2. They are kept here and polled by whoever polls the connection,
//! so that dropping it drops them all, and the stream to the agent with them, at once.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::header::{self, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper::ext::Protocol;
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use proto::code::Code;

use crate::ingress::request::RequestBody;
use crate::ingress::upstream::{Driver, Watched};
use crate::ingress::websocket;

/// Where requests go in.
pub(super) struct Sender {
    pub(super) sender: http2::SendRequest<RequestBody>,
    facts: Arc<Facts>,
    scheme: Scheme,
}

/// The connection and hyper's tasks for it. Ends when all of them have.
pub(super) struct Connection {
    connection: Option<http2::Connection<TokioIo<Watched>, RequestBody, Tasks>>,
    running: Vec<Task>,
    tasks: Tasks,
    facts: Arc<Facts>,
}

/// What is known of a connection from outside.
#[derive(Debug, Default)]
struct Facts {
    /// The upstream's settings are here.
    is_settled: AtomicBool,
    /// It takes extended CONNECT (RFC 8441).
    takes_connect: AtomicBool,
}

/// hyper's executor for one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(Arc<Queue>);

#[derive(Default)]
struct Queue {
    /// Not polled yet.
    new: Mutex<Vec<Task>>,
    /// Polled or not.
    open: AtomicUsize,
}

/// hyper's answer to a request.
type Answer = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Begins to speak on a fresh stream.
///
/// # Errors
/// When the stream has ended already.
pub(super) async fn begin(
    io: Watched,
    scheme: Scheme,
) -> Result<(Sender, Connection, Tasks), Code> {
    let tasks = Tasks::default();
    let handshake = http2::Builder::new(tasks.clone())
        .initial_max_send_streams(GUESSED_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_MAX)
        .handshake(TokioIo::new(io))
        .await;
    let (sender, connection) = handshake.map_err(|_| Code::AgentGone)?;
    let facts = Arc::new(Facts::default());
    let sender = Sender {
        sender,
        facts: Arc::clone(&facts),
        scheme,
    };
    let connection = Connection {
        connection: Some(connection),
        running: Vec::new(),
        tasks: tasks.clone(),
        facts,
    };
    Ok((sender, connection, tasks))
}

impl Sender {
    /// Sends a request and waits for the response's head, as HTTP/1.1 would give it.
    ///
    /// # Errors
    /// The code, when the request cannot be sent to this upstream at all.
    pub(super) async fn ask(
        &mut self,
        driver: &mut Driver,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, Code> {
        self.prepare(&mut request)?;
        let is_upgrade = request.headers().contains_key(header::UPGRADE);
        let mut key = None;
        if is_upgrade {
            // Whether it takes one, its settings say.
            driver
                .until(|| self.facts.is_settled.load(Ordering::Relaxed))
                .await;
            key = self.connect(&mut request)?;
        }
        let response = self.sender.try_send_request(request);
        let mut response = driver.beside(std::pin::pin!(response)).await;
        if is_upgrade && let Ok(response) = &mut response {
            switched(response, key.as_ref());
        }
        Ok(response)
    }

    /// Makes a request HTTP/2's: its host is in the target.
    ///
    /// # Errors
    /// `bad_request_target` when host and path make no target.
    fn prepare(&self, request: &mut Request<RequestBody>) -> Result<(), Code> {
        let host = request.headers_mut().remove(header::HOST);
        let authority = host
            .as_ref()
            .and_then(|host| Authority::try_from(host.as_bytes()).ok())
            .ok_or(Code::BadRequestTarget)?;
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(authority);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Code::BadRequestTarget)?;
        *request.version_mut() = Version::HTTP_2;
        // hyper does not tell of an interim answer over HTTP/2, so the edge gives it itself.
        request.headers_mut().remove(header::EXPECT);
        request.body_mut().go_on();
        Ok(())
    }

    /// Makes a request for an upgrade an extended CONNECT. Gives the key that its answer must prove to
    /// have read.
    ///
    /// # Errors
    /// When there is no such thing for this upgrade, or the upstream does not take it.
    fn connect(&self, request: &mut Request<RequestBody>) -> Result<Option<HeaderValue>, Code> {
        let upgrade = request.headers_mut().remove(header::UPGRADE);
        if !upgrade.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Err(Code::UpgradeRefused);
        }
        if !self.facts.takes_connect.load(Ordering::Relaxed) {
            return Err(Code::UpstreamWithoutWebSocket);
        }
        *request.method_mut() = Method::CONNECT;
        request
            .extensions_mut()
            .insert(Protocol::from_static("websocket"));
        let headers = request.headers_mut();
        headers.remove(header::CONNECTION);
        Ok(headers.remove(header::SEC_WEBSOCKET_KEY))
    }
}

/// Makes the answer that opens a WebSocket the one that HTTP/1.1 gives.
fn switched<B>(response: &mut Response<B>, key: Option<&HeaderValue>) {
    if response.status() != StatusCode::OK {
        return;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = key.map(|key| websocket::accept_of(key.as_bytes()));
    if let Some(accept) = accept.and_then(|accept| HeaderValue::try_from(accept).ok()) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
}

impl Tasks {
    /// Whether nothing is under way but the connection itself.
    pub(super) fn is_quiet(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) <= 1
    }

    fn take(&self) -> Vec<Task> {
        let mut new = self.0.new.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *new)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        let mut new = self.0.new.lock().unwrap_or_else(PoisonError::into_inner);
        new.push(Box::pin(task));
    }
}

impl Future for Connection {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = &mut *self;
        let mut ended = Ok(());
        if let Some(connection) = &mut this.connection
            && let Poll::Ready(how) = Pin::new(connection).poll(cx)
        {
            ended = how;
            this.connection = None;
        }
        loop {
            this.running.append(&mut this.tasks.take());
            let before = this.running.len();
            this.running
                .retain_mut(|task| task.as_mut().poll(cx).is_pending());
            let done = before - this.running.len();
            this.tasks.0.open.fetch_sub(done, Ordering::Relaxed);
            // A task may have begun another one.
            if this.tasks.0.open.load(Ordering::Relaxed) == this.running.len() {
                break;
            }
        }
        let Some(connection) = &this.connection else {
            return if ended.is_err() || this.running.is_empty() {
                Poll::Ready(ended)
            } else {
                Poll::Pending
            };
        };
        if !this.facts.is_settled.load(Ordering::Relaxed)
            && connection.current_max_send_streams() != GUESSED_STREAMS
        {
            let takes = connection.is_extended_connect_protocol_enabled();
            this.facts.takes_connect.store(takes, Ordering::Relaxed);
            this.facts.is_settled.store(true, Ordering::Relaxed);
        }
        Poll::Pending
    }
}

/// What hyper takes for the upstream's own bound until its settings are here; one exchange at a time needs
/// no more. No app says the same of itself.
const GUESSED_STREAMS: usize = 1;
/// Bytes on their way to us: 640 Mbit/s at 50 ms. There is one exchange, so the connection's is the same.
const WINDOW: u32 = 4 << 20;
const SEND_BUFFER_MAX: usize = 256 * 1024;
const HEAD_BYTES_MAX: u32 = 64 * 1024;
