//! The bytes under the multiplexer. It writes a frame's head and body apart and asks for a flush after
//! each; here both are gathered, with the frames of other streams that are ready, so that they leave as
//! few TLS records. The driver flushes once a turn.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream with a bounded buffer for what is to be written.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    io: T,
    out: Vec<u8>,
    /// Of `out`, what has been written.
    written: usize,
    received: u64,
    /// The head that is being read, how much of it is there, and what is left of its body.
    head: ([u8; HEAD_BYTES], usize),
    head_body: usize,
    /// Streams that data has come for, and how much.
    arrived: Vec<(u32, u32)>,
    /// Bytes of a frame's body that are still to come from the multiplexer.
    body: usize,
    has_said_goodbye: bool,
}

/// A handle for the multiplexer, the other is the driver's. Both are used by one task.
#[derive(Debug)]
pub(crate) struct Shared<T>(Arc<Mutex<Pipe<T>>>);

impl<T> Shared<T> {
    pub(crate) fn new(io: T) -> Self {
        Self(Arc::new(Mutex::new(Pipe {
            io,
            out: Vec::new(),
            written: 0,
            received: 0,
            head: ([0; HEAD_BYTES], 0),
            head_body: 0,
            arrived: Vec::new(),
            body: 0,
            has_said_goodbye: false,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Pipe<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Pipe<T> {
    /// Bytes that have come.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The multiplexer has found the other side to break its protocol and sent its goodbye; it does
    /// not end the connection by itself.
    pub(crate) fn has_said_goodbye(&self) -> bool {
        self.has_said_goodbye
    }

    pub(crate) fn is_full(&self) -> bool {
        self.out.len() - self.written >= BUFFER_MAX
    }

    /// The data that has come since this was asked the last time: stream and bytes, by frame.
    pub(crate) fn take_arrived(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.arrived)
    }

    /// Notes what the multiplexer reads: heads and bodies, in whatever pieces.
    fn note_read(&mut self, mut slice: &[u8]) {
        while !slice.is_empty() {
            if self.head_body > 0 {
                let len = self.head_body.min(slice.len());
                self.head_body -= len;
                slice = slice.get(len..).unwrap_or_default();
                continue;
            }
            let (head, filled) = &mut self.head;
            let len = (HEAD_BYTES - *filled).min(slice.len());
            let (now, rest) = slice.split_at(len);
            if let Some(room) = head.get_mut(*filled..*filled + len) {
                room.copy_from_slice(now);
            }
            *filled += len;
            slice = rest;
            if *filled == HEAD_BYTES {
                *filled = 0;
                let (stream, length) = (number(&head[4..8]), number(&head[8..]));
                if head[1] == DATA && length > 0 {
                    self.head_body = length as usize;
                    self.arrived.push((stream, length));
                }
            }
        }
    }

    /// Notes what the multiplexer writes: a head, as one slice of 12 bytes, then its body.
    fn note(&mut self, slice: &[u8]) {
        if self.body > 0 {
            self.body = self.body.saturating_sub(slice.len());
            return;
        }
        match *slice {
            [_, DATA, _, _, _, _, _, _, ref length @ ..] => self.body = number(length) as usize,
            [_, GO_AWAY, ..] => self.has_said_goodbye = true,
            _ => {}
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Pipe<T> {
    /// Writes what was gathered. Ready when everything is on its way.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.out.get(self.written..) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => self.written += more,
            }
        }
        self.written = 0;
        self.out.clear();
        // An idle connection holds no memory for what it once sent.
        if self.out.capacity() > KEPT_BYTES {
            self.out = Vec::new();
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> futures_util::io::AsyncRead for Shared<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slice: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.lock();
        let mut buffer = ReadBuf::new(slice);
        ready!(Pin::new(&mut pipe.io).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        pipe.received += read.len() as u64;
        pipe.note_read(read);
        Poll::Ready(Ok(read.len()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> futures_util::io::AsyncWrite for Shared<T> {
    /// Takes all or nothing.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slice: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.lock();
        if pipe.is_full() {
            let flushed = pipe.poll_flush(cx);
            if let Poll::Ready(Err(error)) = flushed {
                return Poll::Ready(Err(error));
            }
            if pipe.is_full() {
                return Poll::Pending;
            }
        }
        pipe.note(slice);
        if pipe.written > 0 {
            let written = std::mem::take(&mut pipe.written);
            pipe.out.drain(..written);
        }
        pipe.out.extend_from_slice(slice);
        Poll::Ready(Ok(slice.len()))
    }

    /// The driver flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_shutdown(cx)
    }
}

/// Four bytes of a head.
fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_be_bytes)
}

/// Bytes of a frame's head.
const HEAD_BYTES: usize = 12;
/// Types of the multiplexer's frames, their second byte.
const DATA: u8 = 0;
const GO_AWAY: u8 = 3;
/// What may wait here for the socket: two full frames, so that one is encrypted while the next comes.
const BUFFER_MAX: usize = 128 * 1024;
const KEPT_BYTES: usize = 4 * 1024;
