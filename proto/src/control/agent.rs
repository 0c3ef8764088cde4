//! The agent's side of a control stream: it says who it is, asks for endpoints, and tells its shell
//! what became of them. Mirrors `edge.rs`.

mod event;
mod features;

use alloc::borrow::ToOwned as _;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::bind::BindRequest;
use crate::code::Code;
use crate::control::{self, Outbox, ProtocolError, Serving};
use crate::frame::Frame;
use crate::id::EndpointId;
use crate::{limits, version};

pub use event::{Config, Event};
use features::lacking;

/// The agent's view of its control stream.
#[derive(Debug)]
pub struct AgentControl {
    state: State,
    config: Config,
    /// Binds that are not sent yet: asked for before authentication, or beyond what may be pending.
    waiting: VecDeque<BindRequest>,
    /// What the edge can do, as it says in its welcome.
    edge_features: Vec<String>,
    out: Outbox<Event>,
}

#[derive(Debug)]
enum State {
    ExpectWelcome { until: Duration },
    ExpectAuthenticated { until: Duration },
    Serve(Serving),
    Drain(Serving),
    Closed,
}

impl AgentControl {
    /// Says hello.
    pub fn new(now: Duration, config: Config) -> Self {
        let mut out = Outbox::new();
        out.frame(Frame::Hello {
            proto_min: version::PROTOCOL_MIN,
            proto_max: version::PROTOCOL_MAX,
            features: version::FEATURES
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            agent_version: control::text(&config.agent_version),
            os: control::text(&config.os),
            arch: control::text(&config.arch),
        });
        let until = now.saturating_add(limits::HANDSHAKE_WITHIN);
        Self {
            state: State::ExpectWelcome { until },
            config,
            waiting: VecDeque::new(),
            edge_features: Vec::new(),
            out,
        }
    }

    /// Takes a frame from the edge. After the end, frames are ignored: they crossed the close.
    ///
    /// # Errors
    /// When the edge broke the protocol; the machine has closed then.
    pub fn handle_frame(&mut self, now: Duration, frame: Frame) -> Result<(), ProtocolError> {
        match self.take(now, frame) {
            Ok(()) => {
                self.settle(now);
                Ok(())
            }
            Err(error) => Err(self.reject(error)),
        }
    }

    /// Takes note that what came from the edge is no frame, or that the driver rejects it otherwise;
    /// gives the error back for the log.
    pub fn reject(&mut self, error: impl Into<ProtocolError>) -> ProtocolError {
        let error = error.into();
        self.end(error.code, &error.message, !error.code.is_permanent());
        error
    }

    /// Does what is due: ends a handshake, a bind or a link without answer, and probes. Early calls
    /// do no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        match &mut self.state {
            State::ExpectWelcome { until } | State::ExpectAuthenticated { until } => {
                if now >= *until {
                    self.end(
                        Code::ControlTimeout,
                        "the edge did not answer in time",
                        true,
                    );
                }
            }
            State::Serve(serving) | State::Drain(serving) => {
                if serving.expired(now).is_empty() {
                    match serving.probes.poll(now) {
                        Ok(probe) => probe.into_iter().for_each(|probe| self.out.frame(probe)),
                        Err(_) => self.end(
                            Code::ControlTimeout,
                            "the edge did not answer a probe",
                            true,
                        ),
                    }
                } else {
                    self.end(Code::ControlTimeout, "the edge did not answer a bind", true);
                }
            }
            State::Closed => {}
        }
        self.settle(now);
    }

    /// Asks for an endpoint: at once, or as soon as the edge takes it. The answer is an event with
    /// the request's number, also when the request is refused on this side.
    pub fn bind(&mut self, now: Duration, request: BindRequest) {
        if let Some((code, message)) = self.refusal(&request) {
            self.out.event(Event::BindRefused {
                request: request.request,
                code,
                message,
                next_step: code.next_step().to_owned(),
            });
        } else {
            self.waiting.push_back(request);
        }
        self.settle(now);
    }

    /// Gives up an endpoint. Data streams for it may still be on their way.
    pub fn unbind(&mut self, now: Duration, endpoint: EndpointId) {
        if let State::Serve(serving) | State::Drain(serving) = &mut self.state
            && serving.endpoints.remove(&endpoint)
        {
            self.out.frame(Frame::Unbind { endpoint });
        }
        self.settle(now);
    }

    /// Probes before it is due: somebody waits for what comes over the link, and nothing does.
    pub fn probe(&mut self, now: Duration) {
        if let State::Serve(serving) | State::Drain(serving) = &mut self.state
            && let Some(probe) = serving.probes.early(now)
        {
            self.out.frame(probe);
        }
        self.settle(now);
    }

    /// Says good-bye.
    pub fn close(&mut self, _now: Duration) {
        self.end(Code::AgentGone, "the agent is stopping", false);
    }

    /// The next frame for the edge.
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
            State::ExpectWelcome { until } | State::ExpectAuthenticated { until } => Some(*until),
            State::Serve(serving) | State::Drain(serving) => Some(serving.next_timeout()),
            State::Closed => None,
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
            (
                _,
                Frame::Close {
                    code,
                    message,
                    retry,
                },
            ) => {
                self.state = State::Closed;
                self.waiting.clear();
                let retry = retry && !code.is_permanent();
                self.out.last(
                    None,
                    Event::Closed {
                        code,
                        message,
                        retry,
                        by_peer: true,
                    },
                );
            }
            (
                State::ExpectWelcome { .. },
                Frame::Welcome {
                    version,
                    edge,
                    edge_version,
                    edges,
                    features,
                },
            ) => {
                self.welcome(now, version)?;
                self.edge_features = features;
                self.out.event(Event::Welcomed {
                    version,
                    edge,
                    edge_version,
                    edges,
                });
            }
            (State::ExpectAuthenticated { .. }, Frame::Authenticated { tunnel }) => {
                self.out.event(Event::Authenticated { tunnel });
                let (serving, probe) = Serving::begin(now);
                self.state = State::Serve(serving);
                self.out.frame(probe);
            }
            (
                State::Serve(serving) | State::Drain(serving),
                Frame::Bound {
                    request,
                    endpoint,
                    url,
                    notices,
                },
            ) => {
                serving
                    .pending
                    .remove(&request)
                    .ok_or_else(|| unasked(request))?;
                serving.endpoints.insert(endpoint);
                self.out.event(Event::Bound {
                    request,
                    endpoint,
                    url,
                    notices,
                });
            }
            (
                State::Serve(serving) | State::Drain(serving),
                Frame::BindRefused {
                    request,
                    code,
                    message,
                    next_step,
                },
            ) => {
                serving
                    .pending
                    .remove(&request)
                    .ok_or_else(|| unasked(request))?;
                self.out.event(Event::BindRefused {
                    request,
                    code,
                    message,
                    next_step,
                });
            }
            (
                State::Serve(serving) | State::Drain(serving),
                Frame::Unbound {
                    endpoint,
                    code,
                    message,
                },
            ) => {
                // One that is not there crossed an unbind.
                if serving.endpoints.remove(&endpoint) {
                    self.out.event(Event::Unbound {
                        endpoint,
                        code,
                        message,
                    });
                }
            }
            // What a draining edge wants is no longer worth it.
            (State::Serve(_), Frame::Widen { lanes }) => self.out.event(Event::Widen { lanes }),
            (State::Drain(_), Frame::Widen { .. }) => {}
            (State::Serve(_), Frame::Drain { edges }) => {
                if let State::Serve(serving) = core::mem::replace(&mut self.state, State::Closed) {
                    self.state = State::Drain(serving);
                }
                self.out.event(Event::Drain { edges });
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

    fn welcome(&mut self, now: Duration, version: u32) -> Result<(), ProtocolError> {
        let (min, max) = (version::PROTOCOL_MIN, version::PROTOCOL_MAX);
        if !(min..=max).contains(&version) {
            return Err(ProtocolError {
                code: Code::VersionUnsupported,
                message: format!(
                    "the edge chose version {version}, this agent speaks {min} to {max}"
                ),
            });
        }
        self.out.frame(Frame::Authenticate {
            authtoken: self.config.authtoken,
            secret: self.config.secret.clone(),
            instance: self.config.instance,
            joins: self.config.joins,
        });
        let until = now.saturating_add(limits::HANDSHAKE_WITHIN);
        self.state = State::ExpectAuthenticated { until };
        Ok(())
    }

    /// Why a bind is not even sent.
    fn refusal(&self, request: &BindRequest) -> Option<(Code, String)> {
        let number = request.request;
        let (is_pending, held) = match &self.state {
            State::ExpectWelcome { .. } | State::ExpectAuthenticated { .. } => (false, 0),
            State::Serve(serving) => {
                let held = serving.pending.len() + serving.endpoints.len();
                (serving.pending.contains_key(&number), held)
            }
            State::Drain(_) => {
                return Some((Code::EdgeDraining, "the edge is stopping".to_owned()));
            }
            State::Closed => return Some((Code::AgentGone, "the link is closed".to_owned())),
        };
        if is_pending || self.waiting.iter().any(|waiting| waiting.request == number) {
            let message = format!("bind {number} again before its answer");
            return Some((Code::ControlViolation, message));
        }
        if held + self.waiting.len() >= limits::ENDPOINTS_PER_TUNNEL_MAX {
            let max = limits::ENDPOINTS_PER_TUNNEL_MAX;
            return Some((
                Code::TooManyEndpoints,
                format!("one agent may serve {max} endpoints"),
            ));
        }
        request.check().err()
    }

    /// Sends binds that may go now, and closes when a queue ran over.
    fn settle(&mut self, now: Duration) {
        if let State::Serve(serving) | State::Drain(serving) = &mut self.state {
            let until = now.saturating_add(limits::BIND_WITHIN);
            while serving.pending.len() < limits::BINDS_PENDING_MAX {
                let Some(request) = self.waiting.pop_front() else {
                    break;
                };
                if let Some(lacking) = lacking(&self.edge_features, &request) {
                    self.out.event(lacking);
                    continue;
                }
                serving.pending.insert(request.request, until);
                self.out.frame(Frame::Bind(request));
            }
        }
        if self.out.overflowed && !self.is_closed() {
            self.end(Code::ControlViolation, "more is queued than may wait", true);
        }
    }

    fn end(&mut self, code: Code, message: &str, retry: bool) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        self.waiting.clear();
        let message = control::text(message);
        let retry = retry && !code.is_permanent();
        self.out.last(
            Some(Frame::Close {
                code,
                message: message.clone(),
                retry,
            }),
            Event::Closed {
                code,
                message,
                retry,
                by_peer: false,
            },
        );
    }
}

impl State {
    const fn awaits(&self) -> &'static str {
        match self {
            Self::ExpectWelcome { .. } => "welcome",
            Self::ExpectAuthenticated { .. } => "authenticated",
            Self::Serve(_) | Self::Drain(_) => {
                "an answer to bind, unbound, widen, probe, probe_answer, drain or close"
            }
            Self::Closed => "nothing",
        }
    }
}

fn unasked(request: u32) -> ProtocolError {
    ProtocolError::violation(format!("an answer to bind {request} that is not waiting"))
}
