//! One stream of the link is one connection to the local app: head, dial, ack, copy both ways, close
//! both. The edge may send several requests through it in turn; nothing here notices.
//!
//! Only a good end looks like one. A leg that breaks breaks the other: the local app sees a reset, the
//! edge sees a reset, and a body that was cut never looks complete. No HTTP, no identity, no retries.

mod terminate;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use proto::code::Code;
use proto::head::{Ack, HEAD_BYTES_MAX, HeadError, StreamHead, StreamKind};
use proto::id::EndpointId;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::upstream::{Connection, DialError, Watched};

/// The reading half of a stream, as forwarding sees it. Dropped before its end was read, it tells the
/// edge to stop.
pub(crate) trait FromEdge: AsyncRead + Unpin + Send {
    /// Resolves when the edge has reset the stream though nobody reads; pending after a good end.
    /// Dropping the future loses nothing.
    fn reset(&mut self) -> impl Future<Output = ()> + Send;
}

/// The writing half. Only a shutdown ends it well; dropped without one, it resets.
pub(crate) trait ToEdge: AsyncWrite + Unpin + Send {
    /// Resolves when the edge wants no more; pending after a good end that it has received.
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static;
}

/// Which upstream an endpoint of this tunnel stands for. Filled as binds are answered.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    routes: watch::Receiver<HashMap<EndpointId, Arc<Watched>>>,
}

/// Why a stream did not end well. For the log: the edge and the local app have been told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the stream's head did not come")]
    NoHead(#[source] io::Error),
    #[error("the stream's head cannot be read")]
    Head(#[from] HeadError),
    #[error("the stream was refused: {0}")]
    Refused(Code),
    #[error("the upstream was not reached")]
    Dial(#[from] DialError),
    #[error("the edge gave the stream up")]
    Edge(#[source] io::Error),
    #[error("the upstream broke the connection")]
    Upstream(#[source] io::Error),
}

impl Routes {
    pub(crate) const fn new(routes: watch::Receiver<HashMap<EndpointId, Arc<Watched>>>) -> Self {
        Self { routes }
    }

    /// The upstream of an endpoint. A stream may overtake the answer to its endpoint's bind, which
    /// travels on another stream: an unknown endpoint is waited for shortly.
    async fn find(&self, endpoint: EndpointId) -> Option<Arc<Watched>> {
        let mut routes = self.routes.clone();
        let known = routes.wait_for(|routes| routes.contains_key(&endpoint));
        let routes = tokio::time::timeout(ROUTE_WITHIN, known).await.ok()?.ok()?;
        routes.get(&endpoint).cloned()
    }
}

/// Serves one stream to its end. Dropping the future resets the stream and the upstream's connection.
/// `admit` gives a token to hold as long as a stream for the upstream is open, or turns it away.
///
/// # Errors
/// [`Broken`] when it was refused or did not end well on both sides.
pub(crate) async fn forward<T>(
    mut receive: impl FromEdge,
    mut send: impl ToEdge,
    routes: &Routes,
    admit: impl FnOnce() -> Option<T>,
) -> Result<(), Broken> {
    let mut early = BytesMut::with_capacity(HEAD_BYTES_MAX);
    let head = read_head(&mut receive, &mut early).await?;
    tracing::trace!(kind = ?head.kind, endpoint.id = %head.endpoint, "stream opened");
    match head.kind {
        StreamKind::Probe => echo(receive, send, &early).await,
        StreamKind::Http | StreamKind::Raw => {
            let Some(_admitted) = admit() else {
                let code = Code::UploadsStalled;
                refuse(send, code, code.meaning()).await?;
                return Err(Broken::Refused(code));
            };
            let found = routes.find(head.endpoint).await;
            let watched = match found {
                Some(watched) if watched.manner().wants_addresses() == head.proxy.is_some() => {
                    watched
                }
                Some(_) => {
                    let message = "edge and agent do not agree on the PROXY protocol";
                    refuse(send, Code::StreamRefused, message).await?;
                    return Err(Broken::Refused(Code::StreamRefused));
                }
                None => {
                    let message = "this agent does not serve the endpoint";
                    refuse(send, Code::StreamRefused, message).await?;
                    return Err(Broken::Refused(Code::StreamRefused));
                }
            };
            let dialled = tokio::select! {
                dialled = watched.dial(head.proxy) => dialled,
                () = send.stopped() => return Err(Broken::Edge(gone())),
            };
            match dialled {
                Ok(upstream) => {
                    tracing::trace!("upstream connected");
                    let accept = Ack::Accept.encode();
                    send.write_all(&accept).await.map_err(Broken::Edge)?;
                    match &watched.manner().ends_tls {
                        None => carry(receive, send, &early, upstream).await,
                        Some(ends) => {
                            let acceptor = ends.acceptor();
                            let (from, to) = terminate::accept(&acceptor, receive, send, early)
                                .await
                                .map_err(Broken::Edge)?;
                            carry(from, to, &[], upstream).await
                        }
                    }
                }
                Err(error) => {
                    refuse(send, error.code(), &error.to_string()).await?;
                    Err(Broken::Dial(error))
                }
            }
        }
    }
}

async fn read_head(
    receive: &mut impl FromEdge,
    early: &mut BytesMut,
) -> Result<StreamHead, Broken> {
    let read = async {
        loop {
            if let Some(head) = StreamHead::decode(early)? {
                return Ok(head);
            }
            if receive.read_buf(early).await.map_err(Broken::NoHead)? == 0 {
                return Err(Broken::NoHead(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    };
    let head = tokio::time::timeout(HEAD_WITHIN, read).await;
    head.map_err(|_| Broken::NoHead(io::ErrorKind::TimedOut.into()))?
}

/// Says why there will be no stream, and ends this side well so that it is heard.
async fn refuse(mut send: impl ToEdge, code: Code, message: &str) -> Result<(), Broken> {
    let message = message.to_owned();
    let ack = Ack::Refuse { code, message }.encode();
    send.write_all(&ack).await.map_err(Broken::Edge)?;
    send.shutdown().await.map_err(Broken::Edge)
}

/// A probe: proves the path by sending back what comes, within a bound.
async fn echo(receive: impl FromEdge, mut send: impl ToEdge, early: &[u8]) -> Result<(), Broken> {
    let accept = Ack::Accept.encode();
    send.write_all(&accept).await.map_err(Broken::Edge)?;
    let mut bounded = receive.take(PROBE_BYTES_MAX);
    let copied = copy(early, &mut bounded, &mut send);
    let copied = tokio::time::timeout(PROBE_WITHIN, copied).await;
    copied
        .map_err(|_| Broken::Edge(io::ErrorKind::TimedOut.into()))?
        .map_err(|(Side::Read | Side::Write, error)| Broken::Edge(error))?;
    send.shutdown().await.map_err(Broken::Edge)
}

/// Copies both ways until both ended well or one broke.
async fn carry(
    receive: impl FromEdge,
    send: impl ToEdge,
    early: &[u8],
    mut upstream: Connection,
) -> Result<(), Broken> {
    // From here on the socket closes with a reset, even if this task is aborted or panics. A good end
    // takes it back. Where the system refuses, the close is a plain one.
    let _ = SockRef::from(upstream.socket()).set_linger(Some(Duration::ZERO));
    match &mut upstream {
        Connection::Plain(stream) => copy_both(receive, send, early, stream.split()).await?,
        Connection::Tls(stream) => {
            copy_both(receive, send, early, tokio::io::split(stream)).await?;
        }
    }
    let _ = SockRef::from(upstream.socket()).set_linger(None);
    Ok(())
}

async fn copy_both(
    receive: impl FromEdge,
    mut send: impl ToEdge,
    early: &[u8],
    (mut from_upstream, mut to_upstream): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
) -> Result<(), Broken> {
    let given_up = send.stopped();
    // After a reset the kernel may report the end of the upstream's bytes as a good one: whoever saw
    // the error first must tell the other direction.
    let upstream_broke = AtomicBool::new(false);

    let towards_upstream = async {
        match copy_towards_upstream(early, receive, &mut to_upstream).await {
            // An upstream that does not read on may still be answering: hear it out.
            Err((Side::Write, _)) => upstream_broke.store(true, Ordering::Relaxed),
            Err((Side::Read, error)) => return Err(Broken::Edge(error)),
            Ok(()) if to_upstream.shutdown().await.is_err() => {
                upstream_broke.store(true, Ordering::Relaxed);
            }
            Ok(()) => {}
        }
        Ok(())
    };
    let towards_edge = async {
        let mut last = Instant::now();
        match copy_towards_edge(&mut from_upstream, &mut send, &mut last).await {
            Ok(()) if upstream_broke.load(Ordering::Relaxed) => Err(Broken::Upstream(gone())),
            Ok(()) => send.shutdown().await.map_err(Broken::Edge),
            Err((Side::Read, error)) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    // TLS that ended without its close_notify: many apps do so after a good answer. A
                    // reset overtakes what is on its way, so it waits a moment.
                    tokio::time::sleep_until(last + CUT_SHORT_AFTER).await;
                }
                Err(Broken::Upstream(error))
            }
            Err((Side::Write, error)) => Err(Broken::Edge(error)),
        }
    };
    let both = async { tokio::try_join!(towards_upstream, towards_edge) };
    tokio::select! {
        biased;
        ended = both => ended.map(|((), ())| ()),
        () = given_up => Err(Broken::Edge(gone())),
    }
}

/// As [`copy`], and notes when it last wrote.
async fn copy_towards_edge(
    from_upstream: &mut (impl AsyncRead + Unpin),
    send: &mut (impl AsyncWrite + Unpin),
    last: &mut Instant,
) -> Result<(), (Side, io::Error)> {
    let mut buffer = Vec::with_capacity(COPY_BYTES);
    loop {
        let read = from_upstream.read_buf(&mut buffer).await;
        if read.map_err(|error| (Side::Read, error))? == 0 {
            return Ok(());
        }
        let written = send.write_all(&buffer).await;
        written.map_err(|error| (Side::Write, error))?;
        buffer.clear();
        *last = Instant::now();
    }
}

/// As [`copy`], but hears a reset even while the upstream does not read.
async fn copy_towards_upstream(
    early: &[u8],
    mut receive: impl FromEdge,
    to_upstream: &mut (impl AsyncWrite + Unpin),
) -> Result<(), (Side, io::Error)> {
    let mut buffer = Vec::with_capacity(COPY_BYTES);
    buffer.extend_from_slice(early);
    loop {
        tokio::select! {
            biased;
            written = write_through(to_upstream, &buffer) => {
                written.map_err(|error| (Side::Write, error))?;
            }
            () = receive.reset() => return Err((Side::Read, gone())),
        }
        buffer.clear();
        let read = receive.read_buf(&mut buffer).await;
        if read.map_err(|error| (Side::Read, error))? == 0 {
            return Ok(());
        }
    }
}

async fn copy(
    early: &[u8],
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), (Side, io::Error)> {
    let mut buffer = Vec::with_capacity(COPY_BYTES);
    buffer.extend_from_slice(early);
    loop {
        let written = write_through(to, &buffer).await;
        written.map_err(|error| (Side::Write, error))?;
        buffer.clear();
        let read = from.read_buf(&mut buffer).await;
        if read.map_err(|error| (Side::Read, error))? == 0 {
            return Ok(());
        }
    }
}

/// TLS keeps what the socket did not take until it is flushed.
async fn write_through(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Which end of a copy failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Read,
    Write,
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// The edge writes the head at once.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// A bind's answer is on its way when a stream for it comes.
const ROUTE_WITHIN: Duration = Duration::from_secs(2);
/// How long the edge has to take what an app sent before it broke TLS off. It may be a whole answer,
/// whose length the edge knows; one that ends where the connection does is broken, and only then looks so.
const CUT_SHORT_AFTER: Duration = Duration::from_secs(2);
const PROBE_WITHIN: Duration = Duration::from_secs(10);
const PROBE_BYTES_MAX: u64 = 64 * 1024;
/// Two such buffers for each open stream.
const COPY_BYTES: usize = 16 * 1024;
