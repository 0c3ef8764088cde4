//! What local apps leave unread of uploads, and what that does to other streams: nothing.
//!
//! quinn's receive window belongs to the connection. Streams that are not emptied would take all of it,
//! and the rest would starve. So a keeper looks at the streams while anything is unread, and grows the
//! window by a stream's own for each that is not emptied. The window only grows, never beyond the budget:
//! a smaller one is no saving, since what a peer may send is memory only once it has been sent. Beyond the
//! budget the readers that have not read for longest are given up. `proto::window` decides; this watches
//! and carries out.
//!
//! A stream is empty when a read found nothing, until something came: both are seen without a clock.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use proto::budget::Granted;
use proto::window::{self, LINK_WINDOW, Need, Reader, Seen};
use quinn::{Connection, StreamId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::var_int;

/// What one link's streams may hold.
#[derive(Debug)]
pub(super) struct Backlog {
    connection: Connection,
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

/// What is known of a stream's reading half.
pub(super) struct Inlet {
    id: StreamId,
    backlog: Arc<Backlog>,
    reader: AtomicWaker,
    /// Something may be unread.
    holds: AtomicBool,
    /// Something came since the last read began.
    came: AtomicBool,
    emptied: AtomicU32,
    reads: AtomicU32,
    is_given_up: AtomicBool,
    /// Whoever waits for that.
    holder: AtomicWaker,
}

impl Backlog {
    pub(super) fn new(connection: Connection, granted: Granted) -> Arc<Self> {
        Arc::new(Self {
            connection,
            streams: Mutex::default(),
            granted,
            window: Mutex::new(LINK_WINDOW),
            is_wide: AtomicBool::new(false),
            unannounced: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            stirred: Notify::new(),
            is_awake: AtomicBool::new(false),
            opened: Instant::now(),
        })
    }

    /// Whether slow readers hold so much that new streams are turned away.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Watches a stream's reading half, until [`Inlet::close`].
    pub(super) fn watch(self: &Arc<Self>, id: StreamId) -> Arc<Inlet> {
        let inlet = Arc::new(Inlet {
            id,
            backlog: Arc::clone(self),
            reader: AtomicWaker::new(),
            holds: AtomicBool::new(false),
            came: AtomicBool::new(false),
            emptied: AtomicU32::new(0),
            reads: AtomicU32::new(0),
            is_given_up: AtomicBool::new(false),
            holder: AtomicWaker::new(),
        });
        let reader = Reader::new(self.opened.elapsed());
        self.streams().insert(id, (Arc::clone(&inlet), reader));
        inlet
    }

    /// Looks after the window until the connection ends.
    pub(super) async fn keep(self: Arc<Self>) {
        let looking = async {
            loop {
                self.stirred.notified().await;
                // From here on nobody needs to stir.
                while self.look() {
                    tokio::time::sleep(window::LOOK_EVERY).await;
                }
            }
        };
        tokio::select! {
            _ = self.connection.closed() => {}
            () = looking => {}
        }
        self.granted.set(0);
    }

    /// Looks at all streams and does what has to be done; false when nothing is unread.
    fn look(&self) -> bool {
        let now = self.opened.elapsed();
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
            tracing::warn!(
                granted_bytes = granted,
                "an upload was given up: the local app does not read it, and the memory for that is full"
            );
        }
        self.grow(LINK_WINDOW + granted);
        !is_empty
    }

    fn grow(&self, wanted: u64) {
        let mut window = self.window();
        if wanted > *window {
            *window = wanted;
            self.connection.set_receive_window(var_int(wanted));
            self.is_wide.store(true, Ordering::Relaxed);
        }
    }

    /// Counts what was read. quinn tells the edge only once an eighth of the window has been read, which may
    /// be more than the streams that are read share: a window that grows tells at once, so it is made
    /// one byte smaller and larger again.
    fn read(&self, bytes: u64) {
        if !self.is_wide.load(Ordering::Relaxed) {
            return;
        }
        let unannounced = self.unannounced.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unannounced >= ANNOUNCE_EVERY {
            self.unannounced.store(0, Ordering::Relaxed);
            let window = self.window();
            self.connection.set_receive_window(var_int(*window - 1));
            self.connection.set_receive_window(var_int(*window));
        }
    }

    /// Something may be unread.
    fn stir(&self) {
        if !self.is_awake.load(Ordering::SeqCst) && !self.is_awake.swap(true, Ordering::SeqCst) {
            self.stirred.notify_one();
        }
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<StreamId, (Arc<Inlet>, Reader)>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn window(&self) -> MutexGuard<'_, u64> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet {
    /// Before a read, which must wake this inlet.
    pub(super) fn reading(&self, cx: &Context<'_>) {
        self.reader.register(cx.waker());
        self.came.store(false, Ordering::SeqCst);
    }

    /// After a read that gave so many bytes; none where there were none.
    pub(super) fn was_read(&self, bytes: usize) {
        if bytes > 0 {
            // The first is the head: nothing follows it before the upstream has been dialled.
            if self.reads.fetch_add(1, Ordering::Relaxed) > 0 {
                self.mark();
            }
            self.backlog.read(bytes as u64);
        } else {
            self.emptied.fetch_add(1, Ordering::Relaxed);
            self.holds.store(false, Ordering::SeqCst);
            if self.came.load(Ordering::SeqCst) {
                self.mark();
            }
        }
    }

    /// Resolves once the stream must be let go of, whether or not its bytes find a reader.
    pub(super) async fn given_up(&self) {
        poll_fn(|cx| {
            self.holder.register(cx.waker());
            if self.is_given_up.load(Ordering::SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The stream is let go of.
    pub(super) fn close(&self) {
        self.backlog.streams().remove(&self.id);
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

    fn give_up(&self) {
        self.is_given_up.store(true, Ordering::SeqCst);
        self.holder.wake();
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
            .field("id", &self.id)
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

/// As quinn does with the window that a link begins with.
const ANNOUNCE_EVERY: u64 = LINK_WINDOW / 8;
