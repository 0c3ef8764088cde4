//! HTTP towards the upstream, through a stream to its agent. hyper speaks it; this drives hyper in
//! whichever task asks: a request, its exchange and its upstream are one task.

mod http2;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use proto::code::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ingress::pool::Key;
use crate::ingress::request::{ClientFault, RequestBody};
use crate::tunnel::registry::Slot;
use crate::tunnel::stream::{AgentStream, ResetHandle};

/// One connection to an upstream. Dropped, its stream is reset unless it ended well.
pub(crate) struct Upstream {
    sender: Sender,
    driver: Driver,
    signs: Arc<Signs>,
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

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::Sender, http2::Tasks),
}

/// What was seen of the bytes that came.
#[derive(Debug, Default)]
struct Signs {
    /// A byte came since the last request was sent.
    heard: AtomicBool,
    first: AtomicU8,
    is_first_here: AtomicBool,
}

/// hyper's task that writes to an HTTP/2 upstream what was upgraded to.
pub(crate) struct Writer(http2::Tasks);

/// hyper's connection with upgrades, whose own type has no public name.
type Running = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Polls the connection beside whatever waits for it.
struct Driver {
    connection: Option<Running>,
    reset: ResetHandle,
}

/// No response came.
pub(crate) struct NoResponse {
    pub(crate) why: Why,
    /// The request, when nothing of it was sent.
    pub(crate) unsent: Option<Request<RequestBody>>,
    /// Whether some of a response came.
    pub(crate) heard: bool,
    /// What the client did to its body, where the error does not tell.
    pub(crate) fault: Option<ClientFault>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Why {
    Broken(hyper::Error),
    /// It was not asked: it could not have answered.
    Refused(Code),
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
        let (io, signs) = Watched::new(stream);
        let handshake = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(io))
            .await;
        let (sender, connection) = handshake.map_err(|_| Code::AgentGone)?;
        Ok(Self {
            sender: Sender::Http1(sender),
            driver: Driver {
                connection: Some(Box::pin(connection.with_upgrades())),
                reset,
            },
            signs,
            served: 0,
            key,
            is_reusable,
            is_own: false,
            _slot: slot,
        })
    }

    /// Begins to speak HTTP/2 with prior knowledge on a fresh stream. The upstream takes the scheme for
    /// the one that it serves.
    ///
    /// # Errors
    /// When the stream has ended already.
    pub(crate) async fn http2(
        stream: AgentStream,
        key: Key,
        slot: Slot,
        scheme: Scheme,
    ) -> Result<Self, Code> {
        let reset = stream.reset_handle();
        let (io, signs) = Watched::new(stream);
        let (sender, connection, tasks) = http2::begin(io, scheme).await?;
        Ok(Self {
            sender: Sender::Http2(sender, tasks),
            driver: Driver {
                connection: Some(Box::pin(connection)),
                reset,
            },
            signs,
            served: 0,
            key,
            is_reusable: true,
            is_own: false,
            _slot: slot,
        })
    }

    /// Sends a request and waits for the response's head.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Box<NoResponse>> {
        self.signs.heard.store(false, Ordering::Relaxed);
        self.served += 1;
        let fault = request.body().fault();
        let sent = match &mut self.sender {
            Sender::Http1(sender) => {
                let response = std::pin::pin!(sender.try_send_request(request));
                self.driver.beside(response).await
            }
            // Boxed, as all that is rare on the way of a request: each connection has room for the largest.
            Sender::Http2(sender, _) => match Box::pin(sender.ask(&mut self.driver, request)).await
            {
                Ok(sent) => sent,
                Err(code) => {
                    return Err(Box::new(NoResponse {
                        why: Why::Refused(code),
                        unsent: None,
                        heard: false,
                        fault: None,
                    }));
                }
            },
        };
        sent.map_err(|mut failed: TrySendError<_>| {
            let unsent = failed.take_message();
            Box::new(NoResponse {
                why: Why::Broken(failed.into_error()),
                unsent,
                heard: self.signs.heard.load(Ordering::Relaxed),
                fault: fault.and_then(|fault| fault.get().copied()),
            })
        })
    }

    /// Whether what came is HTTP of the other version: HTTP/2 begins with a zero, HTTP/1.1 with a letter.
    pub(crate) fn speaks_another_version(&self) -> bool {
        let is_http2 = matches!(self.sender, Sender::Http2(..));
        let begins_as_http2 = self.signs.first.load(Ordering::Relaxed) == 0;
        self.signs.is_first_here.load(Ordering::Relaxed) && is_http2 != begins_as_http2
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

    /// Polls the connection while `work` is under way. What is pinned where it is made is not copied here;
    /// what is boxed ends with this future.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = T> + Unpin) -> T {
        self.driver.beside(work).await
    }

    /// Waits, shortly, until the connection takes another request. False when it never will.
    pub(crate) async fn is_ready(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        let ready = async {
            match sender {
                Sender::Http1(sender) => driver.beside(std::pin::pin!(sender.ready())).await,
                Sender::Http2(http2::Sender { sender, .. }, tasks) => {
                    driver.until(|| tasks.is_quiet()).await;
                    sender.ready().await
                }
            }
        };
        let ready = tokio::time::timeout(READY_WITHIN, ready).await;
        matches!(ready, Ok(Ok(()))) && self.driver.connection.is_some()
    }

    /// Whether the connection takes another request at this moment.
    pub(crate) async fn is_ready_now(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        std::future::poll_fn(|cx| {
            driver.poll(cx);
            let ready = match sender {
                Sender::Http1(sender) => sender.poll_ready(cx),
                Sender::Http2(http2::Sender { sender, .. }, tasks) if tasks.is_quiet() => {
                    sender.poll_ready(cx)
                }
                Sender::Http2(..) => Poll::Pending,
            };
            let is_ready = matches!(ready, Poll::Ready(Ok(())));
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
        self.give_up();
    }

    /// Drops the stream.
    pub(crate) fn give_up(&mut self) {
        self.driver.connection = None;
    }

    /// Tells a reset of what was upgraded to from its end, where hyper does not.
    pub(crate) fn writer(&self) -> Option<Writer> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(_, tasks) => Some(Writer(tasks.clone())),
        }
    }

    /// For whoever knows first why the stream will be dropped.
    pub(crate) fn reset_handle(&self) -> ResetHandle {
        self.driver.reset.clone()
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

impl Writer {
    /// Whether it has ended: nothing else is under way then. Seen once the connection was polled.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_quiet()
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
    async fn beside<T>(&mut self, mut work: impl Future<Output = T> + Unpin) -> T {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut work).poll(cx) {
                return Poll::Ready(done);
            }
            self.poll(cx);
            // What the connection has just done may be what the work waits for: looking at once saves a
            // turn of the scheduler.
            Pin::new(&mut work).poll(cx)
        })
        .await
    }

    /// Drives the connection until something is so, or it has ended, or for a while.
    async fn until(&mut self, is_so: impl Fn() -> bool) {
        let is_so = std::future::poll_fn(|cx| {
            if is_so() {
                return Poll::Ready(());
            }
            self.poll(cx);
            if is_so() || self.connection.is_none() {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        let _ = tokio::time::timeout(READY_WITHIN, is_so).await;
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

/// A stream whose bytes leave signs.
#[derive(Debug)]
struct Watched {
    stream: AgentStream,
    signs: Arc<Signs>,
}

impl Watched {
    fn new(stream: AgentStream) -> (Self, Arc<Signs>) {
        let signs = Arc::new(Signs::default());
        let watched = Self {
            stream,
            signs: Arc::clone(&signs),
        };
        (watched, signs)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(first) = buffer.filled().get(before) {
            let signs = &self.signs;
            signs.heard.store(true, Ordering::Relaxed);
            if !signs.is_first_here.load(Ordering::Relaxed) {
                signs.first.store(*first, Ordering::Relaxed);
                signs.is_first_here.store(true, Ordering::Relaxed);
            }
        }
        polled
    }
}

impl AsyncWrite for Watched {
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
