//! HTTP towards the upstream, through a stream to its agent. hyper speaks it; this drives hyper in
//! whichever task asks: a request, its exchange and its upstream are one task.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use proto::code::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ingress::pool::Key;
use crate::ingress::request::RequestBody;
use crate::tunnel::registry::Slot;
use crate::tunnel::stream::{AgentStream, ResetHandle};

/// One connection to an upstream. Dropped, its stream is reset unless it ended well.
pub(crate) struct Upstream {
    sender: http1::SendRequest<RequestBody>,
    driver: Driver,
    /// Whether a byte came since the last request was sent.
    heard: Arc<AtomicBool>,
    served: u64,
    /// What its stream was opened for.
    pub(crate) key: Key,
    /// Whether its stream may carry another exchange at all.
    pub(crate) is_reusable: bool,
    /// Whether somebody has authenticated the connection, not a request.
    pub(crate) is_own: bool,
    /// The stream's place on its tunnel.
    _slot: Slot,
}

/// hyper's connection with upgrades, whose own type has no public name.
type Running = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Polls the connection beside whatever waits for it.
struct Driver {
    connection: Option<Running>,
    reset: ResetHandle,
}

/// No response came.
pub(crate) struct NoResponse {
    pub(crate) error: hyper::Error,
    /// The request, when nothing of it was sent.
    pub(crate) unsent: Option<Request<RequestBody>>,
    /// Whether some of a response came.
    pub(crate) heard: bool,
}

/// What there is of a body already.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) frames: Vec<Frame<Bytes>>,
    pub(crate) is_whole: bool,
}

impl Upstream {
    /// Begins to speak HTTP/1.1 on a fresh stream.
    ///
    /// # Errors
    /// When the stream has ended already.
    pub(crate) async fn http1(
        stream: AgentStream,
        key: Key,
        slot: Slot,
        is_reusable: bool,
    ) -> Result<Self, Code> {
        let reset = stream.reset_handle();
        let heard = Arc::new(AtomicBool::new(false));
        let io = Heard {
            stream,
            heard: Arc::clone(&heard),
        };
        let handshake = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(io))
            .await;
        let (sender, connection) = handshake.map_err(|_| Code::AgentGone)?;
        Ok(Self {
            sender,
            driver: Driver {
                connection: Some(Box::pin(connection.with_upgrades())),
                reset,
            },
            heard,
            served: 0,
            key,
            is_reusable,
            is_own: false,
            _slot: slot,
        })
    }

    /// Sends a request and waits for the response's head.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Box<NoResponse>> {
        self.heard.store(false, Ordering::Relaxed);
        self.served += 1;
        let response = self.sender.try_send_request(request);
        let sent = self.driver.beside(response).await;
        sent.map_err(|mut failed: TrySendError<_>| {
            let unsent = failed.take_message();
            Box::new(NoResponse {
                error: failed.into_error(),
                unsent,
                heard: self.heard.load(Ordering::Relaxed),
            })
        })
    }

    /// Takes what has come of a body, without waiting for more.
    ///
    /// # Errors
    /// hyper's, when the body broke off.
    pub(crate) async fn gather(&mut self, body: &mut Incoming) -> Result<Gathered, hyper::Error> {
        let mut gathered = Gathered::default();
        let mut is_driven = false;
        std::future::poll_fn(|cx| {
            loop {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        gathered.frames.push(frame);
                        gathered.is_whole = body.is_end_stream();
                        is_driven = false;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => gathered.is_whole = true,
                    Poll::Pending if is_driven => return Poll::Ready(Ok(())),
                    Poll::Pending => {
                        self.driver.poll(cx);
                        is_driven = true;
                    }
                }
                if gathered.is_whole {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await
        .map(|()| gathered)
    }

    /// Polls the connection while `work` is under way.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.driver.beside(work).await
    }

    /// Waits, shortly, until the connection takes another request. False when it never will.
    pub(crate) async fn is_ready(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        let ready = driver.beside(sender.ready());
        let ready = tokio::time::timeout(READY_WITHIN, ready).await;
        matches!(ready, Ok(Ok(()))) && self.driver.connection.is_some()
    }

    /// Whether the connection takes another request at this moment.
    pub(crate) async fn is_ready_now(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        std::future::poll_fn(|cx| {
            driver.poll(cx);
            let is_ready = matches!(sender.poll_ready(cx), Poll::Ready(Ok(())));
            Poll::Ready(is_ready && driver.connection.is_some())
        })
        .await
    }

    /// Looks whether an idle connection has ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.driver.poll(&mut Context::from_waker(Waker::noop()));
        self.driver.connection.is_some()
    }

    /// Whether an exchange before used the connection: it may have died since, unseen.
    pub(crate) const fn has_served(&self) -> bool {
        self.served > 0
    }

    /// Drops the stream with the code that says so: both legs end here.
    pub(crate) fn cut(&mut self) {
        self.driver.reset.set_cut();
        self.driver.connection = None;
    }

    /// Ends the stream well, once nothing is under way on it; one that does not end in time is reset.
    pub(crate) async fn finish(self) {
        let Self { sender, driver, .. } = self;
        drop(sender);
        if let Some(connection) = driver.connection
            && tokio::time::timeout(FINISH_WITHIN, connection)
                .await
                .is_err()
        {
            tracing::debug!("upstream stream did not end in time");
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("has_ended", &self.driver.connection.is_none())
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// The connection's own end is not an answer: `work` hears of it through hyper.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.poll(cx);
            // What the connection has just done may be what the work waits for: looking at once saves a
            // turn of the scheduler.
            work.as_mut().poll(cx)
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = self.connection.as_mut() else {
            return;
        };
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "upstream connection ended"
                );
            }
            self.connection = None;
        }
    }
}

/// Notes whether anything was read.
#[derive(Debug)]
struct Heard {
    stream: AgentStream,
    heard: Arc<AtomicBool>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request body that is still being sent when the response is complete is no longer wanted.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// A clean end is a FIN on its way; longer than this it is not clean.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
const HEADERS_MAX: usize = 200;
