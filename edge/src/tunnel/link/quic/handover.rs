//! One public UDP port, several workers: each has a socket of its own, and the kernel spreads agents
//! over them by their addresses. When an agent's address changes, its datagrams come out of another
//! worker's socket. They name the worker that holds their link in our connection id, and are handed to
//! it here. Without that, 14 of 20 links were lost.
//!
//! Only datagrams with a short header are handed over. Those with a long one belong to a handshake,
//! which ends where it began: no agent changes its address before it has ended (RFC 9000 §9).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::ids::{self, ID_BYTES};

/// What the workers of one port hand each other.
#[derive(Debug)]
pub(super) struct Handover {
    inboxes: Box<[Inbox]>,
    handed: AtomicU64,
    dropped: AtomicU64,
}

/// A worker's socket: gives what is its own, from whichever socket it came.
#[derive(Debug)]
pub(super) struct WorkerSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    worker: usize,
    handover: Arc<Handover>,
}

/// Datagrams that came out of other workers' sockets.
#[derive(Default)]
struct Inbox {
    queue: Mutex<Queue>,
    /// How many wait, to be read without the lock.
    waiting: AtomicUsize,
    reader: AtomicWaker,
}

#[derive(Default)]
struct Queue {
    datagrams: VecDeque<Handed>,
    bytes: usize,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

/// Datagrams of one sender, all of `meta.stride` bytes but the last.
struct Handed {
    meta: RecvMeta,
    bytes: Vec<u8>,
}

impl Handover {
    pub(super) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            inboxes: (0..workers).map(|_| Inbox::default()).collect(),
            handed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    pub(super) const fn workers(&self) -> usize {
        self.inboxes.len()
    }

    /// Datagrams handed over, and those among them that found the queue full.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.handed), count(&self.dropped))
    }

    fn give(&self, owner: usize, bytes: &[u8], meta: RecvMeta) {
        let count = bytes.len().div_ceil(meta.stride.max(1)) as u64;
        self.handed.fetch_add(count, Ordering::Relaxed);
        let is_taken = self
            .inboxes
            .get(owner)
            .is_some_and(|inbox| inbox.put(bytes, meta));
        if !is_taken {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Inbox {
    fn put(&self, bytes: &[u8], meta: RecvMeta) -> bool {
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.bytes + bytes.len() > QUEUE_BYTES_MAX || queue.datagrams.len() >= QUEUE_MAX {
                return false;
            }
            let mut buffer = queue.spare.pop().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(bytes);
            queue.bytes += bytes.len();
            let len = bytes.len();
            queue.datagrams.push_back(Handed {
                meta: RecvMeta { len, ..meta },
                bytes: buffer,
            });
            self.waiting.store(queue.datagrams.len(), Ordering::Release);
        }
        self.reader.wake();
        true
    }

    /// Fills buffers with what waits. Whoever got nothing is woken when something comes.
    fn take(
        &self,
        cx: &Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> usize {
        self.reader.register(cx.waker());
        if self.waiting.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Some(handed) = queue.datagrams.pop_front() else {
                break;
            };
            queue.bytes = queue.bytes.saturating_sub(handed.bytes.len());
            // Every worker's buffers have one size. A meta of no bytes is passed over by quinn.
            *meta = handed.meta;
            match buffer.get_mut(..handed.bytes.len()) {
                Some(room) => room.copy_from_slice(&handed.bytes),
                None => meta.len = 0,
            }
            if queue.spare.len() < SPARE_MAX {
                queue.spare.push(handed.bytes);
            }
            taken += 1;
        }
        self.waiting.store(queue.datagrams.len(), Ordering::Release);
        taken
    }
}

impl WorkerSocket {
    pub(super) fn new(
        socket: Arc<dyn AsyncUdpSocket>,
        worker: usize,
        handover: Arc<Handover>,
    ) -> Self {
        Self {
            socket,
            worker,
            handover,
        }
    }

    /// Hands over what belongs to others and closes the gaps; gives how many buffers are left.
    fn sort(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
        received: usize,
    ) -> usize {
        let mut kept = 0;
        for place in 0..received {
            let (Some(buffer), Some(meta)) = (buffers.get_mut(place), metas.get_mut(place)) else {
                break;
            };
            self.sort_one(buffer, meta);
            if meta.len > 0 {
                buffers.swap(kept, place);
                metas.swap(kept, place);
                kept += 1;
            }
        }
        kept
    }

    /// The kernel joins datagrams of one sender and one size, whatever connection ids are in them: an
    /// agent's socket may carry several links. So each is looked at.
    fn sort_one(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (len, stride) = (meta.len.min(buffer.len()), meta.stride.max(1));
        let owner_at = |buffer: &[u8], from: usize| {
            self.owner(buffer.get(from..len.min(from + stride)).unwrap_or_default())
        };
        let (mut from, mut kept) = (0, 0);
        while from < len {
            let owner = owner_at(buffer, from);
            let mut to = (from + stride).min(len);
            while to < len && owner_at(buffer, to) == owner {
                to = (to + stride).min(len);
            }
            if owner == self.worker {
                if kept != from {
                    buffer.copy_within(from..to, kept);
                }
                kept += to - from;
            } else if let Some(run) = buffer.get(from..to) {
                self.handover.give(owner, run, *meta);
            }
            from = to;
        }
        meta.len = kept;
    }

    /// Whose a datagram is.
    fn owner(&self, datagram: &[u8]) -> usize {
        match datagram {
            [first, id @ ..] if first & LONG_HEADER == 0 && id.len() >= ID_BYTES => {
                ids::worker_of(id, self.handover.workers())
            }
            _ => self.worker,
        }
    }
}

impl AsyncUdpSocket for WorkerSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // Half of the buffers at most, so that neither side starves the other.
        let half = buffers.len().div_ceil(2);
        let taken = match self.handover.inboxes.get(self.worker) {
            Some(inbox) => {
                let (buffers, metas) = (buffers.get_mut(..half), metas.get_mut(..half));
                inbox.take(cx, buffers.unwrap_or_default(), metas.unwrap_or_default())
            }
            None => 0,
        };
        let (Some(buffers), Some(metas)) = (buffers.get_mut(taken..), metas.get_mut(taken..))
        else {
            return Poll::Ready(Ok(taken));
        };
        for _ in 0..ROUNDS_MAX {
            match self.socket.poll_recv(cx, buffers, metas) {
                Poll::Ready(Ok(received)) => {
                    let all = taken + self.sort(buffers, metas, received);
                    if all > 0 {
                        return Poll::Ready(Ok(all));
                    }
                }
                Poll::Ready(Err(error)) if taken == 0 => return Poll::Ready(Err(error)),
                // An error that lasts comes again.
                Poll::Ready(Err(_)) | Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Pending,
            }
        }
        // All of it was for others: let this worker's other tasks have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// The first bit of a long header (RFC 9000 §17).
const LONG_HEADER: u8 = 0x80;
/// What a worker has waiting from others: as much as its socket's buffer holds. Beyond that datagrams
/// are lost, as they are in a full socket, and sent again.
const QUEUE_BYTES_MAX: usize = 8 << 20;
const QUEUE_MAX: usize = 4096;
/// Buffers kept for reuse, each of the size of what it last held: 64 KB at most.
const SPARE_MAX: usize = 64;
/// Batches of others' datagrams that a worker sorts before its own tasks go on.
const ROUNDS_MAX: usize = 4;

#[cfg(test)]
mod tests;
