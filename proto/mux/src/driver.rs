//! The one task that owns a connection: it moves frames and records, hands streams out, and ends the
//! connection when the other side breaks the protocol or falls silent.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use proto::budget::Granted;
use proto::limits::STREAMS_PER_TUNNEL_MAX;
use proto::window::{LINK_WINDOW, STREAM_WINDOW};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::connection::{Common, Connection, Ended, Open};
use crate::pipe;
use crate::record::{RECORD_BYTES, Record};
use crate::stream::Stream;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Dials; opens the stream of records and one more.
    Agent,
    /// Listens; opens data streams.
    Edge,
}

/// Drives a connection until it ends. Dropped, it ends the connection at once.
#[must_use = "nothing moves unless the driver is polled"]
pub struct Driver<T> {
    side: Side,
    common: Arc<Common>,
    io: pipe::Shared<T>,
    connection: yamux::Connection<pipe::Shared<T>>,
    opens: mpsc::Receiver<Open>,
    /// The wish that the multiplexer lets wait.
    opening: Option<Open>,
    accepted: mpsc::Sender<Stream>,
    /// Memory for what is not read, where that is shared out.
    granted: Option<Granted>,
    /// The stream of records, once it is there.
    records: Option<yamux::Stream>,
    /// A record that is being written, and how far.
    outgoing: Option<([u8; RECORD_BYTES], usize)>,
    incoming: ([u8; RECORD_BYTES], usize),
    clock: Clock,
}

/// What is due how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Between two questions while nobody asks for one.
    pub(crate) ask_every: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub(crate) idle_timeout: Duration,
}

/// When what is due.
struct Clock {
    times: Times,
    alarm: Pin<Box<Sleep>>,
    seen: u64,
    seen_at: Instant,
    /// The last question, and whether it was answered.
    asked_at: Instant,
    token: u64,
    is_answered: bool,
    /// Set once the connection is being closed.
    closing: Option<Instant>,
}

/// Takes a connected, verified byte stream, and memory for what its readers leave unread: beyond that the
/// connection is over its share ([`Connection::is_over`]), and the largest such streams are given up. Nothing moves until the driver is polled.
pub fn start<T>(io: T, side: Side, granted: Option<Granted>) -> (Connection, Driver<T>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let times = Times {
        ask_every: ASK_EVERY,
        idle_timeout: IDLE_TIMEOUT,
    };
    start_timed(io, side, granted, times)
}

pub(crate) fn start_timed<T>(
    io: T,
    side: Side,
    granted: Option<Granted>,
    times: Times,
) -> (Connection, Driver<T>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let common = Arc::new(Common::new());
    let io = pipe::Shared::new(io);
    let mode = match side {
        Side::Agent => yamux::Mode::Client,
        Side::Edge => yamux::Mode::Server,
    };
    let connection = yamux::Connection::new(io.clone(), configuration(), mode);
    let (opens, wishes) = mpsc::channel(OPENS_MAX);
    let (accepted, streams) = mpsc::channel(match side {
        Side::Agent => STREAMS_MAX,
        Side::Edge => 1,
    });
    let now = Instant::now();
    let driver = Driver {
        side,
        common: Arc::clone(&common),
        io,
        connection,
        opens: wishes,
        opening: None,
        accepted,
        granted,
        records: None,
        outgoing: None,
        incoming: ([0; RECORD_BYTES], 0),
        clock: Clock {
            times,
            alarm: Box::pin(tokio::time::sleep_until(now + times.ask_every)),
            seen: 0,
            seen_at: now,
            asked_at: now,
            token: 0,
            is_answered: true,
            closing: None,
        },
    };
    let connection = Connection {
        common,
        opens,
        accepted: Arc::new(tokio::sync::Mutex::new(streams)),
    };
    (connection, driver)
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        this.common.waker.register(cx.waker());
        match this.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(ended) => {
                // Best effort: whoever is still there hears that this was no accident.
                let _ = this.io.lock().poll_shutdown(cx);
                this.end(ended.clone());
                Poll::Ready(ended)
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let mut taken = 0;
        loop {
            let mut has_moved = self.open(cx)?;
            has_moved |= self.write_records(cx)?;
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    self.accept(stream)?;
                    has_moved = true;
                    taken += 1;
                }
                Poll::Ready(Some(Err(error))) => return Err(self.last_words(cx, broken(&error))),
                Poll::Ready(None) => return Err(self.last_words(cx, Ended::Closed(0))),
                Poll::Pending => {}
            }
            has_moved |= self.read_records(cx)?;
            has_moved |= self.flush(cx)?;
            if !has_moved {
                break;
            }
            // The streams that were handed out, and those that have ended, are others' to look at.
            if taken >= TAKEN_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.count_unread();
        self.look_at_the_clock(cx)
    }

    /// Asks for memory for what is unread, and gives streams up where there is none.
    fn count_unread(&mut self) {
        let Some(granted) = &self.granted else { return };
        let ledger = &self.common.ledger;
        let wanted = ledger.unread().saturating_sub(LINK_WINDOW);
        if wanted == 0 && granted.bytes() == 0 {
            self.common.is_over.store(false, Ordering::Relaxed);
            return;
        }
        // Over is who could not get room for one stream more.
        let room = match wanted {
            0 => 0,
            wanted => (wanted + STREAM_WINDOW).next_multiple_of(STREAM_WINDOW),
        };
        let mut has = granted.set(room);
        self.common.is_over.store(has < room, Ordering::Relaxed);
        while has < ledger.unread().saturating_sub(LINK_WINDOW) {
            let Some(stream) = ledger.give_up_largest(STALLED) else {
                break;
            };
            tracing::info!(
                granted_bytes = has,
                "a stream was given up: nobody reads it, and the agent's memory is full"
            );
            for record in [
                Record::Stop {
                    stream,
                    code: STALLED,
                },
                Record::Reset {
                    stream,
                    code: STALLED,
                },
            ] {
                self.common.tell(record);
            }
            has = granted.bytes();
        }
    }

    /// Opens what was asked for, as far as the multiplexer lets it.
    fn open(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.side == Side::Agent && self.records.is_none() {
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => self.records = Some(stream),
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending => return Ok(false),
            }
        }
        let mut has_moved = false;
        loop {
            if self.opening.is_none() {
                match self.opens.poll_recv(cx) {
                    Poll::Ready(Some(open)) => self.opening = Some(open),
                    Poll::Ready(None) => {
                        self.begin_to_close(0);
                        return Ok(has_moved);
                    }
                    Poll::Pending => return Ok(has_moved),
                }
            }
            let is_wanted = self
                .opening
                .as_ref()
                .is_some_and(|open| !open.reply.is_closed());
            if !is_wanted {
                self.opening = None;
                continue;
            }
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(bytes)) => {
                    if let Some(Open { place, reply }) = self.opening.take() {
                        let id = bytes.id().val();
                        let entry = self.common.ledger.enter(bytes, Some(place));
                        let stream = Stream::opened(id, entry, Arc::clone(&self.common));
                        // Nobody waits any more: dropped, it was never heard of.
                        let _ = reply.send(stream);
                    }
                    has_moved = true;
                }
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending => return Ok(has_moved),
            }
        }
    }

    fn accept(&mut self, bytes: yamux::Stream) -> Result<(), Ended> {
        let id = bytes.id().val();
        if self.side == Side::Edge && id == RECORDS_ID {
            self.records = Some(bytes);
            return Ok(());
        }
        let entry = self.common.ledger.enter(bytes, None);
        let stream = Stream::accepted(id, entry, Arc::clone(&self.common));
        self.accepted
            .try_send(stream)
            .or_else(|refused| match refused {
                // The handle is about to go; the stream is dropped, and says so.
                mpsc::error::TrySendError::Closed(_) => Ok(()),
                mpsc::error::TrySendError::Full(_) => {
                    Err(Ended::Violation("too many streams".to_owned()))
                }
            })
    }

    fn write_records(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let Some(stream) = &mut self.records else {
            return Ok(false);
        };
        let mut has_moved = false;
        loop {
            let (bytes, written) = match &mut self.outgoing {
                Some(outgoing) => outgoing,
                empty @ None => {
                    let Some(record) = self.common.next_record() else {
                        return Ok(has_moved);
                    };
                    empty.insert((record.encode(), 0))
                }
            };
            let rest = bytes.get(*written..).unwrap_or_default();
            match Pin::new(&mut *stream).poll_write(cx, rest) {
                Poll::Ready(Ok(more)) => *written += more,
                Poll::Ready(Err(_)) => {
                    return Err(Ended::Violation("the records' stream ended".to_owned()));
                }
                Poll::Pending => return Ok(has_moved),
            }
            has_moved = true;
            if *written >= RECORD_BYTES {
                self.outgoing = None;
            }
        }
    }

    /// Takes records, unless too many answers are waiting already.
    fn read_records(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut has_moved = false;
        while let Some(stream) = &mut self.records {
            if self.common.records_waiting() >= RECORDS_WAITING_MAX {
                return Ok(has_moved);
            }
            let (bytes, filled) = &mut self.incoming;
            let room = bytes.get_mut(*filled..).unwrap_or_default();
            match Pin::new(&mut *stream).poll_read(cx, room) {
                Poll::Pending => return Ok(has_moved),
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Err(Ended::Violation("the records' stream ended".to_owned()));
                }
                Poll::Ready(Ok(more)) => *filled += more,
            }
            has_moved = true;
            if *filled >= RECORD_BYTES {
                let record = Record::decode(*bytes);
                *filled = 0;
                if let Some(record) = record {
                    self.take(record)?;
                }
            }
        }
        Ok(has_moved)
    }

    /// What the other side said before the connection ended, else how that looked from here.
    fn last_words(&mut self, cx: &mut Context<'_>, ended: Ended) -> Ended {
        match self.read_records(cx) {
            Err(told @ Ended::Closed(_)) => told,
            Ok(_) | Err(_) => ended,
        }
    }

    fn take(&mut self, record: Record) -> Result<(), Ended> {
        match record {
            Record::Ping { token } => self.common.tell_first(Record::Pong { token }),
            Record::Pong { token } => {
                if !self.clock.is_answered && token == self.clock.token {
                    self.clock.is_answered = true;
                    let us = self.clock.asked_at.elapsed().as_micros();
                    let us = u64::try_from(us).unwrap_or(u64::MAX);
                    self.common.round_trip_us.store(us, Ordering::Relaxed);
                }
            }
            Record::Close { code } => return Err(Ended::Closed(code)),
            Record::Finish { stream, .. }
            | Record::Reset { stream, .. }
            | Record::Stop { stream, .. }
            | Record::Gone { stream, .. } => {
                // A dialler's streams have odd numbers.
                let is_theirs = (stream % 2 == 1) == (self.side == Side::Edge);
                let noted = self.common.ledger.note(record, is_theirs);
                noted.map_err(|_| Ended::Violation("records of too many streams".to_owned()))?;
            }
        }
        Ok(())
    }

    /// Sends what was gathered. True when that made room for more.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut io = self.io.lock();
        for (stream, bytes) in io.take_arrived() {
            self.common.ledger.came(stream, bytes);
        }
        let was_full = io.is_full();
        let flushed = io.poll_flush(cx);
        if let Poll::Ready(Err(error)) = &flushed {
            return Err(lost(error));
        }
        if io.has_said_goodbye() {
            return Err(Ended::Violation("a frame out of place".to_owned()));
        }
        let has_room = was_full && !io.is_full();
        drop(io);
        let is_all_out = flushed.is_ready()
            && !has_room
            && self.outgoing.is_none()
            && self.common.records_waiting() == 0;
        if self.clock.closing.is_some() && (is_all_out || self.records.is_none()) {
            return Err(Ended::Here);
        }
        Ok(has_room)
    }

    fn begin_to_close(&mut self, code: u32) {
        if self.clock.closing.is_none() {
            self.clock.closing = Some(Instant::now() + GOODBYE_WITHIN);
            self.common.tell_first(Record::Close { code });
        }
    }

    /// Notes that something came; asks, closes or gives up when that is due.
    fn look_at_the_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let close = *self
            .common
            .close
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = close
            && self.clock.closing.is_none()
        {
            self.begin_to_close(code);
            cx.waker().wake_by_ref();
        }
        let received = self.io.lock().received();
        self.common.received.store(received, Ordering::Relaxed);
        if received != self.clock.seen {
            self.clock.seen = received;
            self.clock.seen_at = Instant::now();
        }
        loop {
            let now = Instant::now();
            let due = self.due(now)?;
            // An alarm that rings too early only looks again.
            let alarm = self.clock.alarm.deadline();
            if due < alarm || alarm <= now {
                self.clock.alarm.as_mut().reset(due);
            }
            if self.clock.alarm.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }

    /// Does what is due, and says when the next thing will be.
    fn due(&mut self, now: Instant) -> Result<Instant, Ended> {
        let ask_every = self.clock.times.ask_every;
        let silent_at = self.clock.seen_at + self.clock.times.idle_timeout;
        if now >= silent_at {
            return Err(Ended::Silent);
        }
        if let Some(by) = self.clock.closing
            && now >= by
        {
            return Err(Ended::Here);
        }
        let ask_at = if self.common.is_asked.load(Ordering::Acquire) {
            self.clock.asked_at + ASK_AT_MOST_EVERY
        } else {
            match self.side {
                // The one that keeps addresses mapped in between.
                Side::Agent => self.clock.asked_at + ask_every,
                Side::Edge => self.clock.seen_at.max(self.clock.asked_at) + ask_every,
            }
        };
        let is_first = self.clock.token == 0 && self.records.is_some();
        let mut next = silent_at.min(ask_at);
        if now >= ask_at || is_first {
            self.common.is_asked.store(false, Ordering::Release);
            self.clock.token += 1;
            self.clock.asked_at = now;
            self.clock.is_answered = false;
            self.common.tell(Record::Ping {
                token: self.clock.token,
            });
            next = silent_at.min(now + ask_every);
        }
        Ok(self.clock.closing.map_or(next, |by| by.min(next)))
    }
}

impl<T> Driver<T> {
    fn end(&mut self, ended: Ended) {
        self.common.places.close();
        self.opens.close();
        self.common.ledger.lose_all();
        self.common.ended.send_if_modified(|slot| {
            let is_first = slot.is_none();
            slot.get_or_insert(ended);
            is_first
        });
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.end(Ended::Here);
    }
}

impl<T> fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

fn configuration() -> yamux::Config {
    let mut config = yamux::Config::default();
    config
        .set_max_connection_receive_window(None)
        .set_max_num_streams(STREAMS_MAX)
        .set_max_connection_receive_window(Some(WINDOWS + WINDOWS_MORE))
        .set_split_send_size(PIECE);
    config
}

fn lost(error: &io::Error) -> Ended {
    Ended::Lost(error.to_string())
}

fn broken(error: &yamux::ConnectionError) -> Ended {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is the other side's fault, whatever comes with later versions"
    )]
    match error {
        yamux::ConnectionError::Io(error) => lost(error),
        yamux::ConnectionError::Closed => Ended::Closed(0),
        error => Ended::Violation(error.to_string()),
    }
}

/// The agent's first stream.
const RECORDS_ID: u32 = 1;
/// Streams that the multiplexer takes before it ends everything: twice as many as the other side may
/// have open, since those that it has let go of are counted until this side has done so, too.
const STREAMS_MAX: usize = 2 * STREAMS_PER_TUNNEL_MAX as usize;
/// Every stream that is allowed has a window of this for itself.
const WINDOWS: usize = STREAMS_MAX * yamux::DEFAULT_CREDIT as usize;
/// What streams may have beyond: ten at full speed over 50 ms and a gigabit.
const WINDOWS_MORE: usize = 64 << 20;
/// Bytes of a frame. Pieces of 16 KiB halve bulk transfers (measured).
const PIECE: usize = 64 * 1024;
/// Wishes for streams that wait for the driver's next turn.
const OPENS_MAX: usize = 64;
const TAKEN_PER_TURN: usize = 32;
/// Answers that wait; a record is read only below it.
const RECORDS_WAITING_MAX: usize = 16 * STREAMS_MAX;
/// What a stream is reset with when nobody reads it and the memory for that is full.
const STALLED: u32 = 3;
/// Between two questions while nobody asks for one.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// However many ask.
const ASK_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// A side that says nothing for so long is gone. It is asked at least once within it.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last record may take to leave.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
