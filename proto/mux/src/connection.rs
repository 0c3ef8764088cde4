//! The handle of a connection, and what it shares with its driver and its streams.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use proto::limits::STREAMS_PER_TUNNEL_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::ledger::Ledger;
use crate::record::Record;
use crate::stream::Stream;

/// A connection. Cheap to clone; when the last clone is dropped, the connection ends.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) common: Arc<Common>,
    pub(crate) opens: mpsc::Sender<Open>,
    pub(crate) accepted: Arc<tokio::sync::Mutex<mpsc::Receiver<Stream>>>,
}

/// A wish for a stream. The place is free again once both sides have let go of it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) reply: oneshot::Sender<Stream>,
}

/// Why a connection has ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Ended {
    /// The other side closed it, with this code; zero says nothing.
    #[error("the other side closed the connection (code {0})")]
    Closed(u32),
    /// This side did.
    #[error("the connection was closed here")]
    Here,
    /// Nothing came for the idle time-out.
    #[error("the other side fell silent")]
    Silent,
    /// The transport broke.
    #[error("the connection broke: {0}")]
    Lost(String),
    /// The other side broke the protocol.
    #[error("the other side broke the multiplexer's protocol: {0}")]
    Violation(String),
}

/// What handle, driver and streams share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) ledger: Ledger,
    /// Records that wait for the driver. Bounded by what can be said of so many streams: a stream's
    /// place is not free for another before its last record has gone out.
    records: Mutex<VecDeque<Record>>,
    /// The driver's.
    pub(crate) waker: AtomicWaker,
    /// Bytes that have come.
    pub(crate) received: AtomicU64,
    pub(crate) round_trip_us: AtomicU64,
    /// Somebody wants to hear that the other side is alive.
    pub(crate) is_asked: AtomicBool,
    /// What readers leave unread is more than there is memory for.
    pub(crate) is_over: AtomicBool,
    /// The code to end with.
    pub(crate) close: Mutex<Option<u32>>,
    pub(crate) ended: watch::Sender<Option<Ended>>,
    pub(crate) places: Arc<Semaphore>,
}

impl Connection {
    /// Opens a stream. Waits while as many are open as may be. The other side hears of it with the
    /// first byte that is written.
    pub async fn open(&self) -> Result<Stream, Ended> {
        let places = Arc::clone(&self.common.places);
        let Ok(place) = places.acquire_owned().await else {
            return Err(self.closed().await);
        };
        let (reply, opened) = oneshot::channel();
        if self.opens.send(Open { place, reply }).await.is_err() {
            return Err(self.closed().await);
        }
        match opened.await {
            Ok(stream) => Ok(stream),
            Err(_) => Err(self.closed().await),
        }
    }

    /// Waits for the next stream that the other side opens.
    pub async fn accept(&self) -> Result<Stream, Ended> {
        let accepted = self.accepted.lock().await.recv().await;
        match accepted {
            Some(stream) => Ok(stream),
            None => Err(self.closed().await),
        }
    }

    /// Ends the connection and every stream on it. The other side hears the code.
    pub fn close(&self, code: u32) {
        let mut close = self
            .common
            .close
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        close.get_or_insert(code);
        drop(close);
        self.common.waker.wake();
    }

    /// Waits until the connection has ended, for whatever reason.
    pub async fn closed(&self) -> Ended {
        let mut ended = self.common.ended.subscribe();
        let Ok(ended) = ended.wait_for(Option::is_some).await else {
            return Ended::Here; // the sender lives in `self`
        };
        ended.clone().unwrap_or(Ended::Here)
    }

    /// Bytes that have come so far.
    pub fn received(&self) -> u64 {
        self.common.received.load(Ordering::Relaxed)
    }

    /// Makes sure that something comes within a second and a round trip, if the other side is alive.
    pub fn ask(&self) {
        if !self.common.is_asked.swap(true, Ordering::AcqRel) {
            self.common.waker.wake();
        }
    }

    /// Bytes that have come and were not read.
    pub fn unread(&self) -> u64 {
        self.common.ledger.unread()
    }

    /// Whether readers leave more unread than there is memory for.
    pub fn is_over(&self) -> bool {
        self.common.is_over.load(Ordering::Relaxed)
    }

    /// Of the last question that was answered.
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.common.round_trip_us.load(Ordering::Relaxed))
    }
}

impl Common {
    pub(crate) fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            records: Mutex::default(),
            waker: AtomicWaker::new(),
            received: AtomicU64::new(0),
            round_trip_us: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            close: Mutex::new(None),
            ended: watch::Sender::new(None),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    /// Queues a record for the other side.
    pub(crate) fn tell(&self, record: Record) {
        self.records().push_back(record);
        self.waker.wake();
    }

    /// Queues a record before all others.
    pub(crate) fn tell_first(&self, record: Record) {
        self.records().push_front(record);
    }

    pub(crate) fn next_record(&self) -> Option<Record> {
        let mut records = self.records();
        let next = records.pop_front();
        if records.is_empty() && records.capacity() > RECORDS_KEPT {
            *records = VecDeque::new();
        }
        next
    }

    pub(crate) fn records_waiting(&self) -> usize {
        self.records().len()
    }

    fn records(&self) -> std::sync::MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Streams that one side may have open: so many less than the tunnel's that the few which are neither
/// data nor counted never make one too many.
const STREAMS_MAX: usize = STREAMS_PER_TUNNEL_MAX as usize - 16;
const RECORDS_KEPT: usize = 64;
