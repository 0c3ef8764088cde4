//! Both machines joined by queues of bytes, in virtual time: whole lives, and what crosses on the
//! way.

use std::borrow::ToOwned as _;
use std::collections::VecDeque;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use bytes::BytesMut;

use super::{START, agent_config, bind, edge_config, id, secret};
use crate::bind::BindRequest;
use crate::code::Code;
use crate::codec;
use crate::control::{AgentControl, EdgeControl, agent, edge};
use crate::id::EndpointId;
use crate::limits;

/// Two machines, a way between them, and a shell on each side that only takes notes.
pub(super) struct Pair {
    pub(super) now: Duration,
    pub(super) latency: Duration,
    /// Whether bytes arrive at all.
    is_cut: bool,
    pub(super) agent: AgentControl,
    pub(super) edge: EdgeControl,
    to_edge: Wire,
    to_agent: Wire,
    pub(super) agent_events: VecDeque<agent::Event>,
    pub(super) edge_events: VecDeque<edge::Event>,
}

/// Bytes under way, each piece with its arrival, and what arrived but is no whole frame yet.
#[derive(Default)]
struct Wire {
    pieces: VecDeque<(Duration, Vec<u8>)>,
    arrived: BytesMut,
}

impl Pair {
    fn new() -> Self {
        Self {
            now: START,
            latency: Duration::from_millis(30),
            is_cut: false,
            agent: AgentControl::new(START, agent_config()),
            edge: EdgeControl::new(START, edge_config()),
            to_edge: Wire::default(),
            to_agent: Wire::default(),
            agent_events: VecDeque::new(),
            edge_events: VecDeque::new(),
        }
    }

    /// As far as both serve; the events on the way are checked and gone.
    pub(super) fn serving() -> Self {
        let mut pair = Self::new();
        pair.run(SECOND);
        let Some(edge::Event::Authenticate {
            id: token,
            secret: told,
            instance,
            joins: None,
            os,
            ..
        }) = pair.edge_events.pop_front()
        else {
            panic!("asked for the authtoken");
        };
        assert_eq!(
            (token, told, instance, os.as_str()),
            (id(1), secret(), id(2), "linux")
        );
        pair.edge
            .answer(pair.now, edge::Answer::Authenticated { tunnel: id(4) });
        pair.run(SECOND);
        assert!(matches!(
            pair.agent_events.pop_front(),
            Some(agent::Event::Welcomed { version: 1, .. })
        ));
        let authenticated = agent::Event::Authenticated { tunnel: id(4) };
        assert_eq!(pair.agent_events.pop_front(), Some(authenticated));
        // The round trip is known at once, on both sides.
        let round_trip = 2 * pair.latency;
        assert_eq!(
            pair.agent_events.pop_front(),
            Some(agent::Event::Probed { round_trip })
        );
        assert_eq!(
            pair.edge_events.pop_front(),
            Some(edge::Event::Probed { round_trip })
        );
        pair
    }

    /// Takes out what the machines say; one-byte pieces now and then, so that decoding is incremental.
    pub(super) fn drain(&mut self) {
        while let Some(frame) = self.agent.poll_frame() {
            self.to_edge.send(self.now + self.latency, &frame);
        }
        while let Some(frame) = self.edge.poll_frame() {
            self.to_agent.send(self.now + self.latency, &frame);
        }
        self.agent_events
            .extend(core::iter::from_fn(|| self.agent.poll_event()));
        self.edge_events
            .extend(core::iter::from_fn(|| self.edge.poll_event()));
    }

    /// Lets time pass: what arrives and what is due happens in order.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.drain();
            let arrival = |wire: &Wire| wire.pieces.front().map(|(at, _)| *at);
            let arrivals = [arrival(&self.to_edge), arrival(&self.to_agent)];
            let due = [self.agent.poll_timeout(), self.edge.poll_timeout()];
            let next = arrivals.into_iter().chain(due).flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else {
                break;
            };
            assert!(next >= self.now, "a timeout in the past is a loop");
            self.now = next;
            let now = self.now;
            while let Some(bytes) = self.to_edge.receive(now, self.is_cut) {
                self.to_edge.arrived.extend_from_slice(&bytes);
                let max = self.edge.frame_bytes_max();
                while let Some(frame) =
                    codec::decode_within(&mut self.to_edge.arrived, max).unwrap()
                {
                    self.edge
                        .handle_frame(now, frame)
                        .expect("the agent keeps to the protocol");
                }
            }
            while let Some(bytes) = self.to_agent.receive(now, self.is_cut) {
                self.to_agent.arrived.extend_from_slice(&bytes);
                while let Some(frame) = codec::decode(&mut self.to_agent.arrived).unwrap() {
                    self.agent
                        .handle_frame(now, frame)
                        .expect("the edge keeps to the protocol");
                }
            }
            // As late as a driver may be: both, whoever's it is. Early calls do no harm.
            self.agent.handle_timeout(now);
            self.edge.handle_timeout(now);
        }
        self.now = until;
    }

    pub(super) fn bind(&mut self, request: u32) {
        self.agent.bind(self.now, bind(request));
    }

    fn asked(&mut self) -> BindRequest {
        match self.edge_events.pop_front() {
            Some(edge::Event::Bind(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn bound(&mut self, request: u32, endpoint: EndpointId) {
        let url = "https://app.example.com".to_owned();
        let answer = edge::Answer::Bound {
            request,
            endpoint,
            url,
            notices: Vec::new(),
        };
        self.edge.answer(self.now, answer);
    }

    /// Passes time and forgets about the probes in it.
    fn run_quietly(&mut self, time: Duration) {
        self.run(time);
        self.agent_events
            .retain(|event| !matches!(event, agent::Event::Probed { .. }));
        self.edge_events
            .retain(|event| !matches!(event, edge::Event::Probed { .. }));
    }
}

impl Wire {
    fn send(&mut self, at: Duration, frame: &crate::frame::Frame) {
        let mut bytes = BytesMut::new();
        codec::encode(frame, &mut bytes).unwrap();
        let tail = bytes.split_off(bytes.len() / 2);
        self.pieces.push_back((at, bytes.to_vec()));
        self.pieces.push_back((at, tail.to_vec()));
    }

    fn receive(&mut self, now: Duration, is_cut: bool) -> Option<Vec<u8>> {
        let (at, _) = self.pieces.front()?;
        if *at > now {
            return None;
        }
        let (_, bytes) = self.pieces.pop_front()?;
        Some(if is_cut { Vec::new() } else { bytes })
    }
}

/// From hello to close, with everything that a link is for in between.
#[test]
fn a_whole_life() {
    let mut pair = Pair::serving();
    pair.bind(1);
    pair.bind(2);
    pair.run_quietly(SECOND);
    assert_eq!((pair.asked(), pair.asked()), (bind(1), bind(2)));
    pair.bound(2, id(52));
    let message = "taken".to_owned();
    let refusal = edge::Answer::BindRefused {
        request: 1,
        code: Code::NameTaken,
        message,
    };
    pair.edge.answer(pair.now, refusal);
    pair.run_quietly(SECOND);
    assert!(matches!(
        pair.agent_events.pop_front(),
        Some(agent::Event::Bound { request: 2, endpoint, .. }) if endpoint == id(52)
    ));
    let Some(agent::Event::BindRefused {
        request: 1,
        code,
        message,
        next_step,
    }) = pair.agent_events.pop_front()
    else {
        panic!("the other is refused");
    };
    assert_eq!((code, message.as_str()), (Code::NameTaken, "taken"));
    assert_eq!(next_step, code.next_step());
    pair.agent.unbind(pair.now, id(52));
    pair.run_quietly(SECOND);
    assert_eq!(
        pair.edge_events.pop_front(),
        Some(edge::Event::Unbind { endpoint: id(52) })
    );
    pair.edge.drain(pair.now, &["192.0.2.9:443".to_owned()]);
    pair.run_quietly(SECOND);
    let edges = vec!["192.0.2.9:443".to_owned()];
    assert_eq!(
        pair.agent_events.pop_front(),
        Some(agent::Event::Drain { edges })
    );
    pair.agent.close(pair.now);
    pair.run_quietly(SECOND);
    assert!(matches!(
        pair.agent_events.pop_front(),
        Some(agent::Event::Closed { by_peer: false, .. })
    ));
    assert!(matches!(
        pair.edge_events.pop_front(),
        Some(edge::Event::Closed {
            code: Code::AgentGone,
            by_peer: true,
            ..
        })
    ));
    assert!(pair.agent_events.is_empty() && pair.edge_events.is_empty());
    assert!(pair.agent.poll_timeout().is_none() && pair.edge.poll_timeout().is_none());
}

/// A quiet link stays, at the cost of one probe each way per period.
#[test]
fn a_quiet_link_stays() {
    let mut pair = Pair::serving();
    pair.run(Duration::from_hours(1));
    let most = 3600 / limits::PROBE_EVERY.as_secs();
    for probes in [pair.agent_events.len(), pair.edge_events.len()] {
        assert!((most - 1..=most + 1).contains(&(probes as u64)), "{probes}");
    }
    let round_trip = 2 * pair.latency;
    assert!(
        pair.agent_events
            .iter()
            .all(|event| *event == agent::Event::Probed { round_trip })
    );
    assert!(
        pair.edge_events
            .iter()
            .all(|event| *event == edge::Event::Probed { round_trip })
    );
}

/// A dead link is noticed by both within the promised time, though neither transport said a word.
#[test]
fn a_dead_link_is_noticed() {
    let mut pair = Pair::serving();
    pair.is_cut = true;
    pair.run(limits::PROBE_EVERY + limits::PROBE_WITHIN);
    let Some(agent::Event::Closed {
        code: Code::ControlTimeout,
        retry: true,
        by_peer: false,
        ..
    }) = pair.agent_events.pop_back()
    else {
        panic!("the agent");
    };
    let Some(edge::Event::Closed {
        code: Code::ControlTimeout,
        by_peer: false,
        ..
    }) = pair.edge_events.pop_back()
    else {
        panic!("the edge");
    };
}

/// A stranger that says nothing is sent away.
#[test]
fn a_silent_handshake_ends() {
    let mut pair = Pair::new();
    pair.is_cut = true;
    pair.run(limits::HANDSHAKE_WITHIN);
    assert!(pair.agent.is_closed() && pair.edge.is_closed());
}

/// The edge that cannot check an authtoken says so before the agent gives up by itself.
#[test]
fn the_agent_hears_of_a_slow_edge() {
    let mut pair = Pair::new();
    pair.run(limits::HANDSHAKE_WITHIN);
    assert!(matches!(
        pair.agent_events.pop_back(),
        Some(agent::Event::Closed {
            code: Code::ControlTimeout,
            by_peer: true,
            retry: true,
            ..
        })
    ));
    let mut pair = Pair::serving();
    pair.bind(1);
    pair.run_quietly(limits::BIND_WITHIN);
    assert!(matches!(
        pair.agent_events.pop_back(),
        Some(agent::Event::BindRefused {
            code: Code::ControlTimeout,
            ..
        })
    ));
    assert!(!pair.agent.is_closed() && !pair.edge.is_closed());
}

/// A refused authtoken reaches the agent as the end, with its code, not to be retried.
#[test]
fn a_wrong_authtoken() {
    let mut pair = Pair::new();
    pair.run(SECOND);
    let message = "not one of this edge".to_owned();
    pair.edge.answer(
        pair.now,
        edge::Answer::Refused {
            code: Code::AuthtokenUnknown,
            message: message.clone(),
        },
    );
    pair.run(SECOND);
    let code = Code::AuthtokenUnknown;
    let closed = agent::Event::Closed {
        code,
        message,
        retry: false,
        by_peer: true,
    };
    assert_eq!(pair.agent_events.pop_back(), Some(closed));
}

/// Binds asked for at once are sent as soon as the edge knows the agent.
#[test]
fn binds_wait_for_the_handshake() {
    let mut pair = Pair::new();
    pair.bind(1);
    pair.bind(2);
    pair.run(SECOND);
    pair.edge
        .answer(pair.now, edge::Answer::Authenticated { tunnel: id(4) });
    pair.run(SECOND);
    let asked: Vec<_> = pair
        .edge_events
        .iter()
        .filter(|event| matches!(event, edge::Event::Bind(_)))
        .collect();
    assert_eq!(asked.len(), 2);
}

/// A newer generation took over: the older is told so, and the code says not to try again.
#[test]
fn a_superseded_generation_is_told() {
    let mut pair = Pair::serving();
    pair.bind(1);
    pair.run_quietly(SECOND);
    pair.bound(1, id(51));
    pair.run_quietly(SECOND);
    pair.edge.unbind(
        pair.now,
        id(51),
        Code::GenerationSuperseded,
        "a newer run took over",
    );
    pair.run_quietly(SECOND);
    let Some(agent::Event::Unbound { endpoint, code, .. }) = pair.agent_events.pop_back() else {
        panic!("told");
    };
    assert_eq!(endpoint, id(51));
    assert!(code.is_permanent());
}

/// A wish for more links reaches the agent, and crosses a drain without harm.
#[test]
fn a_tunnel_is_widened() {
    let mut pair = Pair::serving();
    pair.edge.widen(pair.now, 2);
    pair.run_quietly(SECOND);
    assert_eq!(
        pair.agent_events.pop_front(),
        Some(agent::Event::Widen { lanes: 2 })
    );
    pair.edge.drain(pair.now, &[]);
    pair.edge.widen(pair.now, 3);
    pair.run_quietly(SECOND);
    assert_eq!(
        pair.agent_events.drain(..).collect::<Vec<_>>(),
        [agent::Event::Drain { edges: Vec::new() }]
    );
}

/// What crosses on the way is no violation: unbinds, binds against a drain, closes.
#[test]
fn crossings_are_harmless() {
    let mut pair = Pair::serving();
    pair.bind(1);
    pair.run_quietly(SECOND);
    pair.asked();
    pair.bound(1, id(51));
    pair.run_quietly(SECOND);
    pair.agent_events.clear();
    pair.agent.unbind(pair.now, id(51));
    pair.edge
        .unbind(pair.now, id(51), Code::EndpointOffline, "");
    pair.run_quietly(SECOND);
    assert!(
        pair.agent_events.is_empty() && pair.edge_events.is_empty(),
        "both knew"
    );
    pair.bind(2);
    pair.edge.drain(pair.now, &[]);
    pair.run_quietly(SECOND);
    assert_eq!(
        pair.agent_events.pop_front(),
        Some(agent::Event::Drain { edges: Vec::new() })
    );
    assert!(matches!(
        pair.agent_events.pop_front(),
        Some(agent::Event::BindRefused {
            request: 2,
            code: Code::EdgeDraining,
            ..
        })
    ));
    pair.bind(3);
    pair.run_quietly(SECOND);
    assert!(matches!(
        pair.agent_events.pop_front(),
        Some(agent::Event::BindRefused {
            request: 3,
            code: Code::EdgeDraining,
            ..
        })
    ));
    pair.agent.close(pair.now);
    pair.edge.close(pair.now, Code::EdgeDraining, "", true);
    pair.run_quietly(SECOND);
    assert_eq!(pair.agent_events.len(), 1);
    assert_eq!(pair.edge_events.len(), 1);
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
