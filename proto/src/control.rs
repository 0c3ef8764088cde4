//! The control stream as two state machines without I/O: what agent and edge share.
//!
//! Both are driven alike: call one `handle_*` or input, then drain `poll_frame` and `poll_event`,
//! then wait for a frame or until `poll_timeout`. Time is a monotonic [`Duration`] since the link
//! opened; it must not go back. Questions to the outside are events, answers come back as inputs, so
//! a machine never waits. `agent` and `edge` are mirrored files, in the same order.

pub mod agent;
pub mod edge;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::code::Code;
use crate::codec::FrameError;
use crate::frame::Frame;
use crate::id::EndpointId;
use crate::limits;

pub use agent::AgentControl;
pub use edge::EdgeControl;

/// What the other side did wrong. The machine has closed: its close frame and its event wait.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ProtocolError {
    /// [`Code::ControlViolation`] or [`Code::VersionUnsupported`].
    pub code: Code,
    /// What exactly.
    pub message: String,
}

impl ProtocolError {
    fn violation(message: String) -> Self {
        Self {
            code: Code::ControlViolation,
            message,
        }
    }

    /// The one rejection of a frame out of place.
    fn out_of_place(frame: &'static str, state: &'static str) -> Self {
        Self::violation(format!("a frame {frame:?} where {state} is due"))
    }

    fn unbounded(frame: &'static str) -> Self {
        Self::violation(format!(
            "a frame {frame:?} with a text or list above its bound"
        ))
    }
}

impl From<FrameError> for ProtocolError {
    fn from(error: FrameError) -> Self {
        Self::violation(format!("{error}"))
    }
}

/// What waits for the driver, in order and bounded.
#[derive(Debug)]
struct Outbox<E> {
    frames: VecDeque<Frame>,
    events: VecDeque<E>,
    overflowed: bool,
}

impl<E> Outbox<E> {
    const fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            events: VecDeque::new(),
            overflowed: false,
        }
    }

    fn frame(&mut self, frame: Frame) {
        if self.frames.len() < limits::QUEUE_MAX {
            self.frames.push_back(frame);
        } else {
            self.overflowed = true;
        }
    }

    fn event(&mut self, event: E) {
        if self.events.len() < limits::QUEUE_MAX {
            self.events.push_back(event);
        } else {
            self.overflowed = true;
        }
    }

    /// The last words, which always fit. After an overflow the frames that waited are dropped: what
    /// they were part of has a hole.
    fn last(&mut self, frame: Option<Frame>, event: E) {
        if self.overflowed {
            self.frames.clear();
        }
        self.frames.extend(frame);
        self.events.push_back(event);
    }
}

/// What both sides keep once authenticated.
#[derive(Debug)]
struct Serving {
    probes: Probes,
    /// Binds without an answer, each with when to give up.
    pending: BTreeMap<u32, Duration>,
    endpoints: BTreeSet<EndpointId>,
}

impl Serving {
    /// Begins with a probe, so that the round trip is known at once.
    fn begin(now: Duration) -> (Self, Frame) {
        let (probes, first) = Probes::begin(now);
        let serving = Self {
            probes,
            pending: BTreeMap::new(),
            endpoints: BTreeSet::new(),
        };
        (serving, first)
    }

    fn is_full(&self) -> bool {
        self.pending.len() + self.endpoints.len() >= limits::ENDPOINTS_PER_TUNNEL_MAX
    }

    fn next_timeout(&self) -> Duration {
        let pending = self.pending.values().copied();
        pending.fold(self.probes.next_timeout(), Duration::min)
    }

    /// Takes out the binds that waited too long.
    fn expired(&mut self, now: Duration) -> Vec<u32> {
        let late = self.pending.extract_if(.., |_, until| *until <= now);
        late.map(|(request, _)| request).collect()
    }
}

/// The only timer of a link that serves. Each side probes by its own clock whether or not the other
/// does: it wants the round trip, and silence from a dead link is heard within
/// [`limits::PROBE_EVERY`] and [`limits::PROBE_WITHIN`].
#[derive(Debug)]
struct Probes {
    token: u64,
    sent: Duration,
    is_answered: bool,
}

impl Probes {
    const fn begin(now: Duration) -> (Self, Frame) {
        let probes = Self {
            token: 0,
            sent: now,
            is_answered: false,
        };
        (probes, Frame::Probe { token: 0 })
    }

    fn next_timeout(&self) -> Duration {
        let wait = if self.is_answered {
            limits::PROBE_EVERY
        } else {
            limits::PROBE_WITHIN
        };
        self.sent.saturating_add(wait)
    }

    /// The next probe when it is due, or [`Silence`] when the last had no answer.
    fn poll(&mut self, now: Duration) -> Result<Option<Frame>, Silence> {
        if now < self.next_timeout() {
            return Ok(None);
        }
        self.early(now).map(Some).ok_or(Silence)
    }

    /// A probe before it is due, unless one is on its way.
    const fn early(&mut self, now: Duration) -> Option<Frame> {
        if !self.is_answered {
            return None;
        }
        self.token = self.token.wrapping_add(1);
        self.sent = now;
        self.is_answered = false;
        Some(Frame::Probe { token: self.token })
    }

    /// Gives the round trip.
    fn answered(&mut self, now: Duration, token: u64) -> Result<Duration, ProtocolError> {
        if self.is_answered || token != self.token {
            let message = format!("the answer to a probe {token} that was not sent or is answered");
            return Err(ProtocolError::violation(message));
        }
        self.is_answered = true;
        Ok(now.saturating_sub(self.sent))
    }
}

/// No answer to a probe.
#[derive(Debug)]
struct Silence;

/// A list as it may travel: shortened, never refused, since it is only advice.
fn addrs(list: &[String]) -> Vec<String> {
    let fits = |addr: &&String| limits::is_text(addr, limits::ADDR_BYTES_MAX);
    let fitting = list.iter().filter(fits);
    fitting.take(limits::LIST_MAX).cloned().collect()
}

fn text(text: &str) -> String {
    limits::clip(text, limits::TEXT_BYTES_MAX)
}
