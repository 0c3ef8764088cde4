//! What follows a 101: bytes both ways, with the permit. A WebSocket that is cut gets Close 1008
//! between frames where that is possible at once; every other end that is not the peers' own is a reset.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::auth::Permit;
use crate::ingress::connection::Connection;
use crate::ingress::frames::{self, Boundary};
use crate::model::session::CutReason;

/// What was upgraded to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    WebSocket,
    Other,
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

/// Carries bytes until one side ends or the permit is cut. The upstream half is dropped here, and so
/// its stream reset, unless both sides ended well. Returns when no upstream byte can reach the client
/// any more.
pub(crate) async fn carry(
    protocol: Protocol,
    client: TokioIo<Upgraded>,
    upstream: TokioIo<Upgraded>,
    permit: &mut Permit,
    connection: &Connection,
) -> End {
    let (mut client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let mut towards_client = TowardsClient::new(protocol, client_write);
    let end = {
        let down = towards_client.pump(upstream_read);
        let up = copy(&mut client_read, upstream_write);
        let both = async { tokio::try_join!(down, up) };
        tokio::select! {
            biased;
            reason = permit.cut() => End::Cut(reason),
            outcome = both => match outcome {
                Ok(_) => End::Complete,
                Err(end) => end,
            },
            () = connection.killed() => End::ClientGone,
        }
    };
    let is_polite = match end {
        End::Complete => true,
        End::ClientGone | End::ClientStalled | End::UpstreamGone => false,
        End::Cut(reason) => towards_client.say_goodbye(reason).await,
    };
    if is_polite {
        if matches!(end, End::Cut(_)) {
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
    } else {
        connection.order_kill();
        drop((client_read, towards_client));
        connection.is_gone().await;
    }
    end
}

/// Reads and forgets until the client closes.
async fn drain(mut from: impl AsyncRead + Unpin) {
    let mut buffer = [0; 1024];
    while matches!(from.read(&mut buffer).await, Ok(1..)) {}
}

/// Client to upstream: a plain copy, with the half-close passed on.
async fn copy(
    from: &mut ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
) -> Result<(), End> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        let read = from
            .read_buf(&mut buffer)
            .await
            .map_err(|_| End::ClientGone)?;
        if read == 0 {
            return to.shutdown().await.map_err(|_| End::UpstreamGone);
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
                self.write_chunk().await?;
                return self.to.shutdown().await.map_err(|_| End::ClientGone);
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

    /// Finishes the frame under way when its bytes are here and few, sends Close 1008, ends the
    /// stream. False when that cannot be done in time: the connection must be reset.
    async fn say_goodbye(&mut self, reason: CutReason) -> bool {
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
        last.extend_from_slice(&frames::close(POLICY_VIOLATION, reason.as_str()));
        let goodbye = async {
            self.to.write_all(&last).await?;
            self.to.flush().await?;
            self.to.shutdown().await
        };
        matches!(
            tokio::time::timeout(GOODBYE_WITHIN, goodbye).await,
            Ok(Ok(()))
        )
    }
}

/// RFC 6455 §7.4.1.
const POLICY_VIOLATION: u16 = 1008;
/// Frames up to this size are held back until they are whole.
const HOLD_MAX: usize = 64 * 1024;
const CHUNK: usize = 16 * 1024;
/// A client that reads takes a Close at once; one that does not is reset.
const GOODBYE_WITHIN: Duration = Duration::from_millis(200);
/// How long a client may take to close after our Close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
