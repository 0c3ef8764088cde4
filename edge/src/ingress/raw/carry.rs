//! Bytes both ways between a client and its stream, with the permit: a half-close is passed on, a leg that
//! breaks breaks the other, and a cut ends both at once, whether or not anybody reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::client::{ClientIo, Shared};
use crate::auth::Permit;
use crate::model::session::CutReason;
use crate::shutdown::Shutdown;
use crate::tunnel::stream::AgentStream;

/// How a raw connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// Both sides ended theirs.
    Complete,
    ClientGone,
    UpstreamGone,
    /// Nothing moved for too long.
    Idle,
    /// The edge is stopping, and nothing was under way.
    Drained,
    Cut(CutReason),
}

/// What has gone through.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// From the client to the upstream.
    up: Way,
    down: Way,
    /// One direction has ended.
    is_half_closed: AtomicBool,
    /// The client had the last word: it may be waiting for an answer.
    is_asked: AtomicBool,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    passed: AtomicU64,
    /// Something was read and is not passed on yet.
    is_held: AtomicBool,
}

/// Carries until both sides have ended, one breaks, nothing moves for too long, or the permit is cut.
/// A drain ends it once it is quiet. Returns when no upstream byte can reach the client any more.
pub(crate) async fn carry(
    permit: &mut Permit,
    mut client: ClientIo,
    early: BytesMut,
    stream: AgentStream,
    counts: &Counts,
    drain: &Shutdown,
) -> End {
    client.end_with_reset();
    let reset = stream.reset_handle();
    let (from_agent, to_agent) = tokio::io::split(stream);
    let end = match &mut client {
        ClientIo::Plain(socket) => {
            let shared = Shared(socket);
            tokio::select! {
                biased;
                reason = permit.cut() => End::Cut(reason),
                end = both(shared, shared, early, from_agent, to_agent, counts) => end,
                () = shared.broken() => End::ClientGone,
                () = idle(counts) => End::Idle,
                () = quiet(counts, drain) => End::Drained,
            }
        }
        ClientIo::Tls(tls) => {
            let (from, to) = tokio::io::split(tls);
            tokio::select! {
                biased;
                reason = permit.cut() => End::Cut(reason),
                end = both(from, to, early, from_agent, to_agent, counts) => end,
                () = idle(counts) => End::Idle,
                () = quiet(counts, drain) => End::Drained,
            }
        }
    };
    match end {
        End::Complete => client.end_well(),
        End::Cut(reason) => {
            reset.set_cut();
            tracing::info!(reason = reason.as_str(), "connection cut");
        }
        End::ClientGone | End::UpstreamGone | End::Idle | End::Drained => {}
    }
    // The halves of the stream went with the select.
    drop(client);
    end
}

async fn both(
    from_client: impl AsyncRead + Unpin,
    to_client: impl AsyncWrite + Unpin,
    early: BytesMut,
    from_agent: impl AsyncRead + Unpin,
    to_agent: impl AsyncWrite + Unpin,
    counts: &Counts,
) -> End {
    let up = async {
        let pumped = pump(early, from_client, to_agent, &counts.up, || {
            counts.has_spoken(true);
        })
        .await;
        counts.is_half_closed.store(true, Ordering::Relaxed);
        pumped.map_err(|side| match side {
            Side::Read => End::ClientGone,
            Side::Write => End::UpstreamGone,
        })
    };
    let down = async {
        let pumped = pump(BytesMut::new(), from_agent, to_client, &counts.down, || {
            counts.has_spoken(false);
        })
        .await;
        counts.is_half_closed.store(true, Ordering::Relaxed);
        pumped.map_err(|side| match side {
            Side::Read => End::UpstreamGone,
            Side::Write => End::ClientGone,
        })
    };
    match tokio::try_join!(up, down) {
        Ok(((), ())) => End::Complete,
        Err(end) => end,
    }
}

enum Side {
    Read,
    Write,
}

/// Copies until the end, and passes that on. The buffer grows with what comes at a time, so that a quiet
/// connection costs little.
async fn pump(
    mut buffer: BytesMut,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: &Way,
    spoke: impl Fn(),
) -> Result<(), Side> {
    let mut room = CHUNK_MIN;
    if !buffer.is_empty() {
        way.is_held.store(true, Ordering::Relaxed);
        spoke();
    }
    loop {
        let read = buffer.len();
        if read > 0 {
            to.write_all_buf(&mut buffer)
                .await
                .map_err(|_| Side::Write)?;
            to.flush().await.map_err(|_| Side::Write)?;
            way.passed.fetch_add(read as u64, Ordering::Relaxed);
            way.is_held.store(false, Ordering::Relaxed);
            if read >= room {
                room = (room * 2).min(CHUNK_MAX);
            }
        }
        buffer.reserve(room);
        if from.read_buf(&mut buffer).await.map_err(|_| Side::Read)? == 0 {
            return to.shutdown().await.map_err(|_| Side::Write);
        }
        way.is_held.store(true, Ordering::Relaxed);
        spoke();
    }
}

/// Resolves once nothing has moved, either way, for as long as it may.
async fn idle(counts: &Counts) {
    let moved = || (counts.up(), counts.down());
    let mut seen = moved();
    let mut quiet = Duration::ZERO;
    loop {
        tokio::time::sleep(IDLE_LOOK).await;
        let now = moved();
        quiet = if now == seen {
            quiet + IDLE_LOOK
        } else {
            Duration::ZERO
        };
        seen = now;
        let limit = if counts.is_half_closed.load(Ordering::Relaxed) {
            HALF_CLOSED_IDLE_MAX
        } else {
            IDLE_MAX
        };
        if quiet >= limit {
            return;
        }
    }
}

/// Resolves during a drain, once nothing has moved for a moment and the upstream had the last word: then
/// nobody waits for anything. Nothing can tell that better, since the bytes are not ours to read.
async fn quiet(counts: &Counts, drain: &Shutdown) {
    drain.begun().await;
    let moved = || (counts.up(), counts.down());
    let mut seen = moved();
    loop {
        tokio::time::sleep(DRAIN_QUIET).await;
        let now = moved();
        if now == seen && !counts.is_busy() {
            return;
        }
        seen = now;
    }
}

impl Counts {
    fn has_spoken(&self, is_client: bool) {
        self.is_asked.store(is_client, Ordering::Relaxed);
    }

    /// Somebody waits for an answer, or for the other to read.
    fn is_busy(&self) -> bool {
        let flags = [&self.is_asked, &self.up.is_held, &self.down.is_held];
        flags.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    pub(crate) fn up(&self) -> u64 {
        self.up.passed.load(Ordering::Relaxed)
    }

    pub(crate) fn down(&self) -> u64 {
        self.down.passed.load(Ordering::Relaxed)
    }
}

impl End {
    /// A short fixed word for the record.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamGone => "upstream_gone",
            Self::Idle => "idle",
            Self::Drained => "drained",
            Self::Cut(reason) => reason.as_str(),
        }
    }
}

const CHUNK_MIN: usize = 4 * 1024;
/// Enough for full speed on one stream (measured for HTTP bodies).
const CHUNK_MAX: usize = 64 * 1024;
/// Pools of database connections are quiet for hours; the client's own keep-alive finds those that are
/// dead.
const IDLE_MAX: Duration = Duration::from_hours(12);
/// Waiting for one side only.
const HALF_CLOSED_IDLE_MAX: Duration = Duration::from_hours(1);
const IDLE_LOOK: Duration = Duration::from_mins(1);
/// Longer than a step of a conversation between programs takes, shorter than an operator waits.
const DRAIN_QUIET: Duration = Duration::from_secs(1);
