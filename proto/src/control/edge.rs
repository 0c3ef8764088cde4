//! The edge's side of a control stream: it greets, asks its shell about authtoken and binds, and
//! tells the agent what became of them. Mirrors `agent.rs`.

mod event;

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::bind::{BindRequest, Notice};
use crate::code::Code;
use crate::control::{self, Outbox, ProtocolError, Serving};
use crate::frame::Frame;
use crate::id::{EndpointId, TunnelId};
use crate::{limits, version};

pub use event::{Answer, Config, Event};

/// The edge's view of one agent's control stream.
#[derive(Debug)]
pub struct EdgeControl {
    state: State,
    config: Config,
    out: Outbox<Event>,
}

#[derive(Debug)]
enum State {
    ExpectHello { until: Duration },
    ExpectAuthenticate { until: Duration, hello: Hello },
    ExpectAnswer { until: Duration },
    Serve(Serving),
    Drain(Serving),
    Closed,
}

#[derive(Debug)]
struct Hello {
    agent_version: String,
    os: String,
    arch: String,
}

impl EdgeControl {
    /// Waits for hello.
    pub fn new(now: Duration, config: Config) -> Self {
        let until = now.saturating_add(limits::HANDSHAKE_WITHIN);
        Self {
            state: State::ExpectHello { until },
            config,
            out: Outbox::new(),
        }
    }

    /// Takes a frame from the agent. After the end, frames are ignored: they crossed the close.
    ///
    /// # Errors
    /// When the agent broke the protocol; the machine has closed then.
    pub fn handle_frame(&mut self, now: Duration, frame: Frame) -> Result<(), ProtocolError> {
        match self.take(now, frame) {
            Ok(()) => {
                self.settle();
                Ok(())
            }
            Err(error) => Err(self.reject(error)),
        }
    }

    /// Takes note that what came from the agent is no frame, or that the driver rejects it otherwise;
    /// gives the error back for the log.
    pub fn reject(&mut self, error: impl Into<ProtocolError>) -> ProtocolError {
        let error = error.into();
        self.end(error.code, &error.message, !error.code.is_permanent());
        error
    }

    /// Does what is due: ends a handshake or a link without answer, gives up on binds, probes.
    /// Early calls do no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        match &mut self.state {
            State::ExpectHello { until } | State::ExpectAuthenticate { until, .. } => {
                if now >= *until {
                    self.end(
                        Code::ControlTimeout,
                        "the agent did not say who it is in time",
                        true,
                    );
                }
            }
            State::ExpectAnswer { until } => {
                if now >= *until {
                    self.end(
                        Code::ControlTimeout,
                        "the edge could not check the authtoken in time",
                        true,
                    );
                }
            }
            State::Serve(serving) | State::Drain(serving) => {
                for request in serving.expired(now) {
                    let message = "the edge could not make the endpoint ready in time";
                    self.out
                        .frame(bind_refused(request, Code::ControlTimeout, message));
                }
                match serving.probes.poll(now) {
                    Ok(probe) => probe.into_iter().for_each(|probe| self.out.frame(probe)),
                    Err(_) => self.end(
                        Code::ControlTimeout,
                        "the agent did not answer a probe",
                        true,
                    ),
                }
            }
            State::Closed => {}
        }
        self.settle();
    }

    /// Probes before it is due: somebody waits for what comes over the link, and nothing does.
    pub fn probe(&mut self, now: Duration) {
        if let State::Serve(serving) | State::Drain(serving) = &mut self.state
            && let Some(probe) = serving.probes.early(now)
        {
            self.out.frame(probe);
        }
        self.settle();
    }

    /// Takes the shell's answer to an event.
    pub fn answer(&mut self, now: Duration, answer: Answer) {
        match answer {
            Answer::Authenticated { tunnel } => self.authenticated(now, tunnel),
            Answer::Refused { code, message } => {
                if matches!(self.state, State::ExpectAnswer { .. }) {
                    self.end(code, &message, !code.is_permanent());
                }
            }
            Answer::Bound {
                request,
                endpoint,
                url,
                notices,
            } => {
                self.bound(request, endpoint, &url, notices);
            }
            Answer::BindRefused {
                request,
                code,
                message,
            } => {
                if let State::Serve(serving) | State::Drain(serving) = &mut self.state
                    && serving.pending.remove(&request).is_some()
                {
                    self.out.frame(bind_refused(request, code, &message));
                }
            }
        }
        self.settle();
    }

    /// Tells the agent that an endpoint is no longer its to serve, such as after a newer generation.
    pub fn unbind(&mut self, _now: Duration, endpoint: EndpointId, code: Code, message: &str) {
        if let State::Serve(serving) | State::Drain(serving) = &mut self.state
            && serving.endpoints.remove(&endpoint)
        {
            let message = control::text(message);
            self.out.frame(Frame::Unbound {
                endpoint,
                code,
                message,
            });
        }
        self.settle();
    }

    /// Says that so many links beside the first would serve the tunnel better.
    pub fn widen(&mut self, _now: Duration, lanes: u32) {
        if matches!(self.state, State::Serve(_)) {
            self.out.frame(Frame::Widen { lanes });
        }
        self.settle();
    }

    /// Asks the agent to go elsewhere. What is open goes on; new binds are refused. An agent that is
    /// not yet authenticated is sent away at once.
    pub fn drain(&mut self, _now: Duration, edges: &[String]) {
        match core::mem::replace(&mut self.state, State::Closed) {
            State::Serve(serving) => {
                self.state = State::Drain(serving);
                let edges = control::addrs(edges);
                self.out.frame(Frame::Drain { edges });
            }
            state @ (State::Drain(_) | State::Closed) => self.state = state,
            state @ (State::ExpectHello { .. }
            | State::ExpectAuthenticate { .. }
            | State::ExpectAnswer { .. }) => {
                self.state = state;
                self.end(Code::EdgeDraining, "the edge is stopping", true);
            }
        }
        self.settle();
    }

    /// Ends the link. A permanent code is never sent with `retry`.
    pub fn close(&mut self, _now: Duration, code: Code, message: &str, retry: bool) {
        self.end(code, message, retry);
    }

    /// The next frame for the agent.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.out.frames.pop_front()
    }

    /// The next event for the shell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] at the latest, as time since the link opened.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.state {
            State::ExpectHello { until }
            | State::ExpectAuthenticate { until, .. }
            | State::ExpectAnswer { until } => Some(*until),
            State::Serve(serving) | State::Drain(serving) => Some(serving.next_timeout()),
            State::Closed => None,
        }
    }

    /// How long a frame may be that comes next: a stranger gets less room. For
    /// [`crate::codec::decode_within`].
    pub const fn frame_bytes_max(&self) -> usize {
        match self.state {
            State::Serve(_) | State::Drain(_) => limits::FRAME_BYTES_MAX,
            State::ExpectHello { .. }
            | State::ExpectAuthenticate { .. }
            | State::ExpectAnswer { .. }
            | State::Closed => limits::HANDSHAKE_FRAME_BYTES_MAX,
        }
    }

    /// Whether the machine has ended; frames and events may still wait.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn take(&mut self, now: Duration, frame: Frame) -> Result<(), ProtocolError> {
        if self.is_closed() || frame == Frame::Unknown {
            return Ok(());
        }
        if !frame.is_bounded() {
            return Err(ProtocolError::unbounded(frame.name()));
        }
        match (&mut self.state, frame) {
            (_, Frame::Close { code, message, .. }) => {
                self.state = State::Closed;
                self.out.last(
                    None,
                    Event::Closed {
                        code,
                        message,
                        by_peer: true,
                    },
                );
            }
            (
                State::ExpectHello { until },
                Frame::Hello {
                    proto_min,
                    proto_max,
                    agent_version,
                    os,
                    arch,
                    features: _,
                },
            ) => {
                let until = *until;
                self.hello(
                    until,
                    proto_min,
                    proto_max,
                    Hello {
                        agent_version,
                        os,
                        arch,
                    },
                )?;
            }
            (
                State::ExpectAuthenticate { hello, .. },
                Frame::Authenticate {
                    authtoken,
                    secret,
                    instance,
                    joins,
                },
            ) => {
                self.out.event(Event::Authenticate {
                    id: authtoken,
                    secret,
                    instance,
                    joins,
                    agent_version: core::mem::take(&mut hello.agent_version),
                    os: core::mem::take(&mut hello.os),
                    arch: core::mem::take(&mut hello.arch),
                });
                let until = now.saturating_add(limits::AUTHENTICATE_ANSWER_WITHIN);
                self.state = State::ExpectAnswer { until };
            }
            (State::Serve(_), Frame::Bind(request)) => self.bind(now, request)?,
            (State::Drain(serving), Frame::Bind(request)) => {
                if serving.pending.contains_key(&request.request) {
                    return Err(repeated(request.request));
                }
                let message = "the edge is stopping";
                self.out
                    .frame(bind_refused(request.request, Code::EdgeDraining, message));
            }
            (State::Serve(serving) | State::Drain(serving), Frame::Unbind { endpoint }) => {
                // One that is not there crossed an unbound.
                if serving.endpoints.remove(&endpoint) {
                    self.out.event(Event::Unbind { endpoint });
                }
            }
            (State::Serve(_) | State::Drain(_), Frame::Probe { token }) => {
                self.out.frame(Frame::ProbeAnswer { token });
            }
            (State::Serve(serving) | State::Drain(serving), Frame::ProbeAnswer { token }) => {
                let round_trip = serving.probes.answered(now, token)?;
                self.out.event(Event::Probed { round_trip });
            }
            (state, frame) => {
                return Err(ProtocolError::out_of_place(frame.name(), state.awaits()));
            }
        }
        Ok(())
    }

    fn hello(
        &mut self,
        until: Duration,
        proto_min: u32,
        proto_max: u32,
        hello: Hello,
    ) -> Result<(), ProtocolError> {
        let Some(version) = version::agree(proto_min, proto_max) else {
            let (min, max) = (version::PROTOCOL_MIN, version::PROTOCOL_MAX);
            return Err(ProtocolError {
                code: Code::VersionUnsupported,
                message: format!(
                    "the agent speaks versions {proto_min} to {proto_max}, this edge {min} to {max}"
                ),
            });
        };
        self.out.frame(Frame::Welcome {
            version,
            edge: self.config.edge,
            edge_version: control::text(&self.config.edge_version),
            edges: control::addrs(&self.config.edges),
            features: version::FEATURES
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        });
        self.state = State::ExpectAuthenticate { until, hello };
        Ok(())
    }

    fn authenticated(&mut self, now: Duration, tunnel: TunnelId) {
        if matches!(self.state, State::ExpectAnswer { .. }) {
            let (serving, probe) = Serving::begin(now);
            self.state = State::Serve(serving);
            self.out.frame(Frame::Authenticated { tunnel });
            self.out.frame(probe);
        }
    }

    fn bind(&mut self, now: Duration, request: BindRequest) -> Result<(), ProtocolError> {
        let State::Serve(serving) = &mut self.state else {
            return Ok(());
        };
        let number = request.request;
        if serving.pending.contains_key(&number) {
            return Err(repeated(number));
        }
        if serving.pending.len() >= limits::BINDS_PENDING_MAX {
            let max = limits::BINDS_PENDING_MAX;
            return Err(ProtocolError::violation(format!(
                "more than {max} binds at a time"
            )));
        }
        if serving.is_full() {
            let max = limits::ENDPOINTS_PER_TUNNEL_MAX;
            let message = format!("one agent may serve {max} endpoints");
            self.out
                .frame(bind_refused(number, Code::TooManyEndpoints, &message));
        } else if let Err((code, message)) = request.check() {
            self.out.frame(bind_refused(number, code, &message));
        } else {
            let until = now.saturating_add(limits::BIND_ANSWER_WITHIN);
            serving.pending.insert(number, until);
            self.out.event(Event::Bind(request));
        }
        Ok(())
    }

    fn bound(&mut self, request: u32, endpoint: EndpointId, url: &str, notices: Vec<Notice>) {
        let (State::Serve(serving) | State::Drain(serving)) = &mut self.state else {
            return; // closed: the shell lets go of all its endpoints
        };
        if serving.pending.remove(&request).is_some() {
            serving.endpoints.insert(endpoint);
            let notices = notices
                .into_iter()
                .take(limits::NOTICES_MAX)
                .map(|notice| Notice {
                    code: notice.code,
                    message: control::text(&notice.message),
                    next_step: control::text(&notice.next_step),
                });
            self.out.frame(Frame::Bound {
                request,
                endpoint,
                url: limits::clip(url, limits::URL_BYTES_MAX),
                notices: notices.collect(),
            });
        } else if !serving.endpoints.contains(&endpoint) {
            // The agent was told that it came to nothing.
            self.out.event(Event::Unbind { endpoint });
        }
    }

    /// Closes when a queue ran over.
    fn settle(&mut self) {
        if self.out.overflowed && !self.is_closed() {
            self.end(Code::ControlViolation, "more is queued than may wait", true);
        }
    }

    fn end(&mut self, code: Code, message: &str, retry: bool) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        let message = control::text(message);
        let close = Frame::Close {
            code,
            message: message.clone(),
            retry: retry && !code.is_permanent(),
        };
        self.out.last(
            Some(close),
            Event::Closed {
                code,
                message,
                by_peer: false,
            },
        );
    }
}

impl State {
    const fn awaits(&self) -> &'static str {
        match self {
            Self::ExpectHello { .. } => "hello",
            Self::ExpectAuthenticate { .. } => "authenticate",
            Self::ExpectAnswer { .. } => "nothing before authenticated",
            Self::Serve(_) | Self::Drain(_) => "bind, unbind, probe, probe_answer or close",
            Self::Closed => "nothing",
        }
    }
}

fn bind_refused(request: u32, code: Code, message: &str) -> Frame {
    Frame::BindRefused {
        request,
        code,
        message: control::text(message),
        next_step: code.next_step().to_owned(),
    }
}

fn repeated(request: u32) -> ProtocolError {
    ProtocolError::violation(format!("bind {request} again before its answer"))
}
