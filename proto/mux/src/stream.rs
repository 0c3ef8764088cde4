//! A stream and its two halves. What the multiplexer says of ends is not enough (a stream that is dropped
//! after the other side has ended well ends well too, and a reader cannot tell an end from a reset), so
//! nothing is believed of it but the bytes: how a direction ended comes as a record.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker, ready};

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Common;
use crate::ledger::{Entry, Fate};
use crate::record::Record;

/// A bidirectional stream. Each half that is dropped before its good end resets its direction.
#[derive(Debug)]
pub struct Stream {
    /// The reading half.
    pub receive: Receive,
    /// The writing half.
    pub send: Send,
}

/// The reading half. Dropped before its end was read, it tells the other side to stop.
#[derive(Debug)]
pub struct Receive {
    inner: Arc<Inner>,
    read: u64,
    /// The other side's greeting has not come yet.
    awaits_greeting: bool,
    has_ended: bool,
}

/// The writing half. Only a shutdown ends it well.
#[derive(Debug)]
pub struct Send {
    inner: Arc<Inner>,
    sent: u64,
}

struct Inner {
    id: u32,
    entry: Arc<Entry>,
    common: Arc<Common>,
    /// The other side has heard of the stream, or will.
    is_known: AtomicBool,
    is_finished: AtomicBool,
    /// What a drop will say.
    code: AtomicU32,
}

impl Stream {
    /// A stream that this side has opened. The other side hears of it with the first byte.
    pub(crate) fn opened(id: u32, entry: Arc<Entry>, common: Arc<Common>) -> Self {
        Self::new(id, entry, common, true)
    }

    /// A stream that the other side has opened. It is greeted with one byte, since the multiplexer
    /// lets only so many streams wait for their first answer, whatever an upstream does.
    pub(crate) fn accepted(id: u32, entry: Arc<Entry>, common: Arc<Common>) -> Self {
        let stream = Self::new(id, entry, common, false);
        let mut now = Context::from_waker(Waker::noop());
        // There is always room for the first byte, unless the stream is over already.
        if let Some(bytes) = stream.send.inner.entry.bytes().as_mut() {
            let _ = Pin::new(bytes).poll_write(&mut now, &[GREETING]);
        }
        stream
    }

    fn new(id: u32, entry: Arc<Entry>, common: Arc<Common>, is_opener: bool) -> Self {
        let inner = Arc::new(Inner {
            id,
            entry,
            common,
            is_known: AtomicBool::new(!is_opener),
            is_finished: AtomicBool::new(false),
            code: AtomicU32::new(GIVEN_UP),
        });
        Self {
            receive: Receive {
                inner: Arc::clone(&inner),
                read: 0,
                awaits_greeting: is_opener,
                has_ended: false,
            },
            send: Send { inner, sent: 0 },
        }
    }

    /// Sets the code that a drop will say.
    pub fn set_reset_code(&self, code: u32) {
        self.send.inner.code.store(code, Ordering::Relaxed);
    }
}

impl Receive {
    /// Ready when the other side has given its direction up or the connection has ended, though nobody
    /// reads; pending after a good end.
    pub async fn reset(&self) {
        std::future::poll_fn(|cx| self.inner.entry.poll_reset(cx)).await;
    }
}

impl Send {
    /// Ready when the other side reads no more or the connection has ended; pending after a good end.
    pub fn stopped(&self) -> impl Future<Output = ()> + std::marker::Send + 'static {
        let inner = Arc::downgrade(&self.inner);
        let entry = Arc::clone(&self.inner.entry);
        std::future::poll_fn(move |cx| {
            ready!(entry.poll_stopped(cx));
            let is_finished = inner
                .upgrade()
                .is_some_and(|inner| inner.is_finished.load(Ordering::Acquire));
            if is_finished {
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    }

    /// Ends this direction well: everything that was written is complete.
    fn finish(&self) -> io::Result<()> {
        let inner = &*self.inner;
        if inner.is_finished.load(Ordering::Acquire) {
            return Ok(());
        }
        let now = Context::from_waker(Waker::noop());
        if inner.entry.is_stopped(&now) {
            return Err(broken());
        }
        inner.is_finished.store(true, Ordering::Release);
        if inner.is_known.load(Ordering::Acquire) {
            inner.common.tell(Record::Finish {
                stream: inner.id,
                bytes: self.sent,
            });
        }
        Ok(())
    }
}

impl AsyncRead for Receive {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 || this.has_ended {
            return Poll::Ready(Ok(()));
        }
        match this.inner.entry.fate(cx) {
            Fate::Finished(bytes) if bytes <= this.read => {
                this.has_ended = true;
                return Poll::Ready(Ok(()));
            }
            Fate::Reset(_) => return Poll::Ready(Err(reset())),
            Fate::Open | Fate::Finished(_) => {}
        }
        let inner = &*this.inner;
        let mut bytes = inner.entry.bytes();
        let Some(bytes) = bytes.as_mut() else {
            return Poll::Ready(Err(reset()));
        };
        if this.awaits_greeting {
            let mut greeting = [0];
            match ready!(Pin::new(&mut *bytes).poll_read(cx, &mut greeting)) {
                Ok(1) => {
                    this.awaits_greeting = false;
                    inner.common.ledger.read(&inner.entry, 1);
                }
                // How it ended comes as a record.
                Ok(_) => return Poll::Pending,
                Err(_) => return Poll::Ready(Err(reset())),
            }
        }
        match ready!(Pin::new(&mut *bytes).poll_read(cx, buffer.initialize_unfilled())) {
            // No more will come. A record says how it ended, and wakes; one that came before says
            // how many bytes there should have been.
            Ok(0) => match inner.entry.fate(cx) {
                Fate::Open => Poll::Pending,
                Fate::Finished(_) | Fate::Reset(_) => Poll::Ready(Err(reset())),
            },
            Ok(read) => {
                this.read += read as u64;
                inner.common.ledger.read(&inner.entry, read);
                buffer.advance(read);
                Poll::Ready(Ok(()))
            }
            Err(_) => Poll::Ready(Err(reset())),
        }
    }
}

impl AsyncWrite for Send {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slice: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let inner = &*this.inner;
        if inner.is_finished.load(Ordering::Acquire) || inner.entry.is_stopped(cx) {
            return Poll::Ready(Err(broken()));
        }
        if slice.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let polled = match inner.entry.bytes().as_mut() {
            Some(bytes) => Pin::new(bytes).poll_write(cx, slice),
            None => return Poll::Ready(Err(broken())),
        };
        let written = ready!(polled).map_err(|_| broken())?;
        inner.is_known.store(true, Ordering::Release);
        this.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    /// What was taken is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        if !self.has_ended {
            self.inner
                .tell(|stream, code| Record::Stop { stream, code });
        }
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        let is_last = Arc::strong_count(&self.inner) == 1;
        if !is_last && !self.inner.is_finished.load(Ordering::Acquire) {
            self.inner
                .tell(|stream, code| Record::Reset { stream, code });
        }
    }
}

impl Inner {
    /// Tells the other side, if it knows of the stream at all.
    fn tell(&self, record: impl FnOnce(u32, u32) -> Record) {
        if self.is_known.load(Ordering::Acquire) {
            let code = self.code.load(Ordering::Relaxed);
            self.common.tell(record(self.id, code));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tell(|stream, code| Record::Gone { stream, code });
        let is_known = self.is_known.load(Ordering::Acquire);
        self.common.ledger.let_go(self.id, is_known);
        // The multiplexer forgets it, too.
        drop(self.entry.bytes().take());
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// The first byte of whoever accepts a stream.
const GREETING: u8 = 0;
/// Unless somebody says why.
const GIVEN_UP: u32 = 1;
