//! What a link's readers leave unread, and what that does to the others: nothing.
//!
//! quinn's receive window belongs to the connection. Streams that are not emptied would take all of it,
//! and the rest would starve (four stalled readers at 4 MB of 16 MB). So a keeper looks at the streams
//! while anything is unread, and grows the window by a stream's own for each that is not emptied. The
//! window only grows, never beyond the agent's share of the budget: a smaller one is no saving, since
//! what a peer may send is memory only once it has been sent. Beyond the budget the readers that have
//! not read for longest are given up. `proto::window` decides; this watches and carries out.
//!
//! A stream is empty when a read found nothing, until something came: both are seen without a clock.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use proto::budget::Granted;
use proto::window::{self, LINK_WINDOW, Need, Reader, Seen};
use quinn::{Connection, RecvStream, StreamId, VarInt};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

use super::var_int;
use crate::clock::Clock;
use crate::tunnel::link::ResetCode;

/// What one link's streams may hold.
#[derive(Debug)]
pub(super) struct Backlog {
    streams: Mutex<BTreeMap<StreamId, (Arc<Inlet>, Reader)>>,
    granted: Granted,
    /// The connection's receive window. Held while it is set, so that it only grows.
    window: Mutex<u64>,
    /// The window is so large that quinn announces too late what was read.
    is_wide: AtomicBool,
    /// Bytes read since that was last announced.
    unannounced: AtomicU64,
    is_over: AtomicBool,
    /// Something came while the keeper slept.
    stirred: Notify,
    /// The keeper looks again by itself.
    is_awake: AtomicBool,
    opened: Instant,
}

/// The reading half of a stream, watched. Shared with the keeper, which may give it up.
#[derive(Debug)]
pub(super) struct Watched {
    inlet: Arc<Inlet>,
    waker: Waker,
    id: StreamId,
}

struct Inlet {
    /// Taken when its owner is gone or it was given up. quinn holds a waker of ours while a read waits, so
    /// the two must not own each other for longer than that.
    receive: Mutex<Option<RecvStream>>,
    backlog: Arc<Backlog>,
    reader: AtomicWaker,
    /// Something may be unread.
    holds: AtomicBool,
    /// Something came since the last read began.
    came: AtomicBool,
    emptied: AtomicU32,
    reads: AtomicU32,
}

impl Backlog {
    pub(super) fn new(granted: Granted) -> Arc<Self> {
        Arc::new(Self {
            streams: Mutex::default(),
            granted,
            window: Mutex::new(LINK_WINDOW),
            is_wide: AtomicBool::new(false),
            unannounced: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            stirred: Notify::new(),
            is_awake: AtomicBool::new(false),
            opened: Clock.monotonic(),
        })
    }

    /// Whether slow readers hold so much that new streams are turned away.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Bytes that slow readers may hold.
    pub(super) fn held(&self) -> u64 {
        self.granted.bytes()
    }

    /// Watches a stream's reading half. Nothing has come on one that was opened here.
    pub(super) fn watch(self: &Arc<Self>, receive: RecvStream) -> Watched {
        let id = receive.id();
        let inlet = Arc::new(Inlet {
            receive: Mutex::new(Some(receive)),
            backlog: Arc::clone(self),
            reader: AtomicWaker::new(),
            holds: AtomicBool::new(false),
            came: AtomicBool::new(false),
            emptied: AtomicU32::new(0),
            reads: AtomicU32::new(0),
        });
        let reader = Reader::new(self.now());
        self.streams().insert(id, (Arc::clone(&inlet), reader));
        let waker = Waker::from(Arc::clone(&inlet));
        Watched { inlet, waker, id }
    }

    /// Looks after the window until the connection ends.
    pub(super) async fn keep(self: Arc<Self>, connection: Connection) {
        let looking = async {
            loop {
                self.stirred.notified().await;
                // From here on nobody needs to stir.
                while self.look(&connection) {
                    tokio::time::sleep(window::LOOK_EVERY).await;
                }
            }
        };
        tokio::select! {
            _ = connection.closed() => {}
            () = looking => {}
        }
        self.granted.set(0);
    }

    /// Looks at all streams and does what has to be done; false when nothing is unread.
    fn look(&self, connection: &Connection) -> bool {
        let now = self.now();
        let mut need = Need::default();
        let mut streams = self.streams();
        // Before the look: what comes after it stirs again.
        self.is_awake.store(false, Ordering::SeqCst);
        let mut is_empty = true;
        for (inlet, reader) in streams.values_mut() {
            let seen = inlet.seen();
            is_empty &= !seen.holds;
            reader.look(now, seen);
            need.add(now, reader);
        }
        if !is_empty {
            self.is_awake.store(true, Ordering::SeqCst);
        }
        let granted = self.granted.set(need.window);
        self.is_over.store(need.is_over(granted), Ordering::Relaxed);
        let give_up = longest_unread(&streams, now, need.streams_beyond(granted));
        drop(streams);
        for inlet in give_up {
            inlet.give_up();
            tracing::info!(
                granted_bytes = granted,
                "a stream was given up: nobody reads it, and the agent's memory is full"
            );
        }
        self.grow(connection, LINK_WINDOW + granted);
        !is_empty
    }

    fn grow(&self, connection: &Connection, wanted: u64) {
        let mut window = self.window();
        if wanted > *window {
            *window = wanted;
            connection.set_receive_window(var_int(wanted));
            self.is_wide.store(true, Ordering::Relaxed);
        }
    }

    /// Counts what was read. quinn tells the peer only once an eighth of the window has been read, which may
    /// be more than the streams that are read share: a window that grows tells at once, so it is made
    /// one byte smaller and larger again.
    fn read(&self, connection: &Connection, bytes: u64) {
        if !self.is_wide.load(Ordering::Relaxed) {
            return;
        }
        let unannounced = self.unannounced.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unannounced >= ANNOUNCE_EVERY {
            self.unannounced.store(0, Ordering::Relaxed);
            let window = self.window();
            connection.set_receive_window(var_int(*window - 1));
            connection.set_receive_window(var_int(*window));
        }
    }

    /// Something may be unread.
    fn stir(&self) {
        if !self.is_awake.load(Ordering::SeqCst) && !self.is_awake.swap(true, Ordering::SeqCst) {
            self.stirred.notify_one();
        }
    }

    fn now(&self) -> Duration {
        Clock.monotonic().duration_since(self.opened)
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<StreamId, (Arc<Inlet>, Reader)>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn window(&self) -> MutexGuard<'_, u64> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Reads as the stream does. One that was given up gives an error.
    pub(super) fn poll_read(
        &self,
        connection: &Connection,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            // Nothing is learned from a read that wants nothing.
            return Poll::Ready(Ok(()));
        }
        let inlet = &self.inlet;
        let before = buffer.filled().len();
        let polled = {
            let mut receive = inlet.receive();
            let Some(receive) = receive.as_mut() else {
                return Poll::Ready(Err(given_up()));
            };
            inlet.reader.register(cx.waker());
            inlet.came.store(false, Ordering::SeqCst);
            let mut ours = Context::from_waker(&self.waker);
            AsyncRead::poll_read(Pin::new(receive), &mut ours, buffer)
        };
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            inlet.reads.fetch_add(1, Ordering::Relaxed);
            inlet.mark();
            inlet.backlog.read(connection, bytes as u64);
        } else {
            inlet.emptied.fetch_add(1, Ordering::Relaxed);
            inlet.holds.store(false, Ordering::SeqCst);
            if inlet.came.load(Ordering::SeqCst) {
                inlet.mark();
            }
        }
        polled
    }

    /// Asks the peer to send no more.
    pub(super) fn stop(&mut self, code: VarInt) {
        let receive = self.inlet.receive().take();
        if let Some(mut receive) = receive {
            // Fails only when it has been read to its end.
            let _ = receive.stop(code);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.inlet.backlog.streams().remove(&self.id);
        // Outside the lock: quinn lets go of our waker with it.
        let receive = self.inlet.receive().take();
        drop(receive);
    }
}

impl Inlet {
    fn receive(&self) -> MutexGuard<'_, Option<RecvStream>> {
        self.receive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Seen {
        Seen {
            holds: self.holds.load(Ordering::SeqCst),
            emptied: self.emptied.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
        }
    }

    fn mark(&self) {
        self.holds.store(true, Ordering::SeqCst);
        self.backlog.stir();
    }

    /// Lets go of what is unread, whether or not anybody reads.
    fn give_up(&self) {
        let receive = self.receive().take();
        if let Some(mut receive) = receive {
            // Fails only when it has ended already.
            let _ = receive.stop(VarInt::from_u32(ResetCode::Stalled as u32));
            drop(receive);
        }
        self.holds.store(false, Ordering::SeqCst);
        self.reader.wake();
    }
}

impl Wake for Inlet {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// quinn calls this with its lock held: nothing here may call it back.
    fn wake_by_ref(self: &Arc<Self>) {
        self.came.store(true, Ordering::SeqCst);
        self.mark();
        self.reader.wake();
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet")
            .field("seen", &self.seen())
            .finish_non_exhaustive()
    }
}

/// Those whose readers have not read for longest, and not for long.
fn longest_unread(
    streams: &BTreeMap<StreamId, (Arc<Inlet>, Reader)>,
    now: Duration,
    count: u64,
) -> Vec<Arc<Inlet>> {
    if count == 0 {
        return Vec::new();
    }
    let mut stalled: Vec<_> = streams
        .values()
        .map(|(inlet, reader)| (reader.unread_for(now), inlet))
        .filter(|(unread_for, _)| *unread_for >= window::SLOW_AFTER)
        .collect();
    stalled.sort_by_key(|(unread_for, _)| std::cmp::Reverse(*unread_for));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let stalled = stalled.into_iter().take(count);
    stalled.map(|(_, inlet)| Arc::clone(inlet)).collect()
}

fn given_up() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "nobody read the stream, and the agent's memory was full",
    )
}

/// As quinn does with the window that a link begins with.
const ANNOUNCE_EVERY: u64 = LINK_WINDOW / 8;
