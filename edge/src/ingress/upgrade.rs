//! What follows a 101: bytes both ways, with the permit. A WebSocket that is cut gets Close 1008
//! between frames where that is possible at once; every other end that is not the peers' own is a reset.
//!
//! What ends is the connection, or, where the client speaks HTTP/2, one stream of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::HeaderMap;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::auth::Permit;
use crate::ingress::connection::Connection;
use crate::ingress::frames::{self, Boundary};
use crate::ingress::streams::Stream;
use crate::ingress::upstream::{Upstream, Writer};
use crate::ingress::websocket::Extended;
use crate::model::session::CutReason;

/// What was upgraded to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    WebSocket,
    Other,
}

/// A client that asked for an upgrade.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) protocol: Protocol,
    pub(crate) upgraded: OnUpgrade,
    /// Present when it came over HTTP/2.
    pub(crate) extended: Option<Extended>,
}

/// What must be reset so that an end towards the client does not look well.
#[derive(Debug)]
pub(crate) enum Side {
    Connection(Connection),
    Stream(Connection, Stream),
}

impl Client {
    /// Whether an upstream's 101 is an answer to what was asked.
    pub(crate) fn takes(&self, headers: &HeaderMap) -> bool {
        self.extended
            .as_ref()
            .is_none_or(|extended| extended.is_accepted(headers))
    }

    /// The upstream has agreed.
    pub(crate) fn begin(self, connection: &Connection) -> (Protocol, OnUpgrade, Side) {
        let side = if let Some(extended) = self.extended {
            Side::Stream(connection.clone(), extended.stream)
        } else {
            connection.set_upgraded();
            Side::Connection(connection.clone())
        };
        (self.protocol, self.upgraded, side)
    }
}

impl Side {
    const fn connection(&self) -> &Connection {
        match self {
            Self::Connection(connection) | Self::Stream(connection, _) => connection,
        }
    }

    /// Whether the end of what a client sent was a reset: hyper reads one with CANCEL as a good end. What
    /// writes to the client hears of it too, and ends for no other reason unless it was ended here.
    async fn is_reset_by_client(&self, is_our_end: &AtomicBool) -> bool {
        let Self::Stream(_, stream) = self else {
            return false;
        };
        let ended = tokio::time::timeout(RESET_HEARD_WITHIN, stream.writer_ended()).await;
        ended.is_ok() && !is_our_end.load(Ordering::Relaxed)
    }

    /// Orders the reset; it goes out when what was upgraded to is dropped.
    pub(crate) fn order_reset(&self) {
        match self {
            Self::Connection(connection) => connection.order_kill(),
            Self::Stream(_, stream) => stream.order_reset(),
        }
    }

    /// Resets; what was upgraded to is dropped by now, or about to be. Returns when no further byte can
    /// reach the client: where a stream's reset does not go out in time, its connection is closed.
    pub(crate) async fn reset(&self) {
        self.order_reset();
        match self {
            Self::Connection(connection) => connection.is_gone().await,
            Self::Stream(connection, stream) => {
                let gone_out = async {
                    let flushes = stream.writer_ended().await;
                    connection.flushed_since(flushes).await;
                };
                tokio::select! {
                    biased;
                    () = gone_out => {}
                    () = connection.is_gone() => {}
                    () = tokio::time::sleep(RESET_WITHIN) => connection.kill().await,
                }
            }
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Complete,
    ClientGone,
    /// It takes nothing.
    ClientStalled,
    UpstreamGone,
    Cut(CutReason),
}

/// Carries bytes until one side ends or the permit is cut. What the upstream's half was read from is
/// dropped here, and so its stream reset, unless both sides ended well. Returns when no upstream byte can
/// reach the client any more.
pub(crate) async fn carry(
    protocol: Protocol,
    (client, upstream_io): (TokioIo<Upgraded>, TokioIo<Upgraded>),
    upstream: &mut Upstream,
    permit: &mut Permit,
    side: &Side,
) -> End {
    let (mut client_read, client_write) = tokio::io::split(client);
    let (upstream_read, mut upstream_write) = tokio::io::split(upstream_io);
    let mut towards_client = TowardsClient::new(protocol, client_write);
    let is_our_end = AtomicBool::new(false);
    let end = {
        let writer = upstream.writer();
        let is_ended_here = AtomicBool::new(false);
        let down = async {
            towards_client.pump(upstream_read).await?;
            if !is_ended_here.load(Ordering::Relaxed) && is_reset(writer.as_ref()).await {
                return Err(End::UpstreamGone);
            }
            is_our_end.store(true, Ordering::Relaxed);
            let ended = towards_client.to.shutdown().await;
            ended.map_err(|_| End::ClientGone)
        };
        let up = async {
            copy(&mut client_read, &mut upstream_write).await?;
            if side.is_reset_by_client(&is_our_end).await {
                return Err(End::ClientGone);
            }
            is_ended_here.store(true, Ordering::Relaxed);
            let ended = upstream_write.shutdown().await;
            ended.map_err(|_| End::UpstreamGone)
        };
        let reset = upstream.reset_handle();
        let cut = async {
            let reason = permit.cut().await;
            // The stream may be in one of the halves.
            reset.set_cut();
            reason
        };
        let both = Box::pin(async { tokio::try_join!(down, up) });
        tokio::select! {
            biased;
            reason = cut => End::Cut(reason),
            outcome = upstream.beside(both) => match outcome {
                Ok(_) => End::Complete,
                Err(end) => end,
            },
            () = side.connection().killed() => End::ClientGone,
        }
    };
    drop(upstream_write);
    if end != End::Complete {
        upstream.give_up();
    }
    let is_polite = match end {
        End::Complete => return end,
        End::ClientGone | End::ClientStalled | End::UpstreamGone => false,
        End::Cut(reason) => towards_client.say_goodbye(reason, side).await,
    };
    match side {
        Side::Connection(connection) if is_polite => {
            // Closing a socket with unread bytes in it sends a reset, which would take the Close frame
            // with it: read on for a moment. One that has not closed then is not reading.
            let connection = connection.clone();
            tokio::spawn(async move {
                let drained = tokio::time::timeout(CLOSE_WITHIN, drain(client_read)).await;
                if drained.is_err() {
                    connection.order_kill();
                }
                drop(towards_client);
            });
        }
        Side::Connection(_) | Side::Stream(..) => {
            if is_polite {
                // The reset takes with it what has not gone out.
                let _ = tokio::time::timeout(CLOSE_OUT_WITHIN, drain(&mut client_read)).await;
            }
            side.order_reset();
            drop((client_read, towards_client));
            side.reset().await;
        }
    }
    end
}

/// Whether the end of what an upstream sent was a reset, as [`Side::is_reset_by_client`] for the other
/// side.
async fn is_reset(writer: Option<&Writer>) -> bool {
    let Some(writer) = writer else {
        return false;
    };
    // The connection is polled beside this: by the second look it has been.
    tokio::task::yield_now().await;
    writer.has_ended()
}

/// Reads and forgets until the client closes.
async fn drain(mut from: impl AsyncRead + Unpin) {
    let mut buffer = [0; 1024];
    while matches!(from.read(&mut buffer).await, Ok(1..)) {}
}

/// Client to upstream: a plain copy.
async fn copy(
    from: &mut ReadHalf<TokioIo<Upgraded>>,
    to: &mut WriteHalf<TokioIo<Upgraded>>,
) -> Result<(), End> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        let read = from
            .read_buf(&mut buffer)
            .await
            .map_err(|_| End::ClientGone)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all_buf(&mut buffer)
            .await
            .map_err(|_| End::UpstreamGone)?;
        to.flush().await.map_err(|_| End::UpstreamGone)?;
        buffer.reserve(CHUNK);
    }
}

/// The direction that a cut must end between frames. Its state survives the pump being dropped.
struct TowardsClient<W> {
    protocol: Protocol,
    to: W,
    /// Read and not yet allowed out, or not yet written.
    buffer: BytesMut,
    boundary: Boundary,
    /// The chunk being written, and how much of it went out.
    chunk: BytesMut,
    written: usize,
}

impl<W: AsyncWrite + Unpin> TowardsClient<W> {
    fn new(protocol: Protocol, to: W) -> Self {
        Self {
            protocol,
            to,
            buffer: BytesMut::new(),
            boundary: Boundary::default(),
            chunk: BytesMut::new(),
            written: 0,
        }
    }

    async fn pump(&mut self, mut from: impl AsyncRead + Unpin) -> Result<(), End> {
        loop {
            self.buffer.reserve(CHUNK);
            let read = from
                .read_buf(&mut self.buffer)
                .await
                .map_err(|_| End::UpstreamGone)?;
            if read == 0 {
                // What was held back is an unfinished frame: the upstream's own affair.
                self.chunk = self.buffer.split();
                return self.write_chunk().await;
            }
            let len = match self.protocol {
                Protocol::WebSocket => self.boundary.writable(&self.buffer, HOLD_MAX).len,
                Protocol::Other => self.buffer.len(),
            };
            self.chunk = self.buffer.split_to(len);
            self.write_chunk().await?;
        }
    }

    /// Writes the chunk; after being dropped in the middle, `written` says how far it came.
    async fn write_chunk(&mut self) -> Result<(), End> {
        self.written = 0;
        while let Some(rest) = self
            .chunk
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match self.to.write(rest).await {
                Ok(0) | Err(_) => return Err(End::ClientGone),
                Ok(written) => self.written += written,
            }
        }
        if self.protocol == Protocol::WebSocket {
            self.boundary.advance(&self.chunk);
        }
        self.chunk.clear();
        self.written = 0;
        self.to.flush().await.map_err(|_| End::ClientGone)
    }

    /// Finishes the frame under way when its bytes are here and few, sends Close 1008, and ends this
    /// direction of a connection. False when that cannot be done in time: a reset must do.
    async fn say_goodbye(&mut self, reason: CutReason, side: &Side) -> bool {
        if self.protocol == Protocol::Other {
            return false;
        }
        let needed = self.boundary.needed_after(&self.chunk, self.written);
        self.chunk.advance(self.written);
        let here = usize::try_from(needed)
            .ok()
            .and_then(|needed| self.chunk.get(..needed));
        let Some(rest) = here.filter(|rest| rest.len() <= HOLD_MAX) else {
            return false;
        };
        let mut last = rest.to_vec();
        let code = if reason == CutReason::Shutdown {
            GOING_AWAY
        } else {
            POLICY_VIOLATION
        };
        last.extend_from_slice(&frames::close(code, reason.as_str()));
        let (is_connection, within) = match side {
            Side::Connection(_) => (true, GOODBYE_WITHIN),
            Side::Stream(..) => (false, STREAM_GOODBYE_WITHIN),
        };
        let goodbye = async {
            self.to.write_all(&last).await?;
            self.to.flush().await?;
            if is_connection {
                self.to.shutdown().await?;
            }
            Ok::<(), std::io::Error>(())
        };
        matches!(tokio::time::timeout(within, goodbye).await, Ok(Ok(())))
    }
}

/// RFC 6455 §7.4.1: a server that goes down.
const GOING_AWAY: u16 = 1001;
/// RFC 6455 §7.4.1.
const POLICY_VIOLATION: u16 = 1008;
/// Frames up to this size are held back until they are whole.
const HOLD_MAX: usize = 64 * 1024;
const CHUNK: usize = 16 * 1024;
/// A client that reads takes a Close at once; one that does not is reset.
const GOODBYE_WITHIN: Duration = Duration::from_millis(200);
/// A stream's reset has gone out 250 ms after the cut, or its connection is closed: so long to take a
/// Close, so long for it to leave this process, so long for the reset.
const STREAM_GOODBYE_WITHIN: Duration = Duration::from_millis(100);
const CLOSE_OUT_WITHIN: Duration = Duration::from_millis(50);
const RESET_WITHIN: Duration = Duration::from_millis(100);
/// Both halves of a stream hear of its reset in one round of the scheduler.
const RESET_HEARD_WITHIN: Duration = Duration::from_millis(10);
/// How long a client may take to close after our Close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
