//! Schedules that nobody thought of: random acts of both shells, and random frames.

use std::collections::{BTreeSet, VecDeque};
use std::string::String;
use std::time::Duration;
use std::vec::Vec;

use proptest::prelude::*;

use super::pair::Pair;
use super::{START, agent_config, bind, edge_config, id};
use crate::code::Code;
use crate::control::{AgentControl, EdgeControl, agent, edge};
use crate::id::{EndpointId, Id};

/// What a shell may do, in any order.
#[derive(Clone, Copy, Debug)]
enum Act {
    Wait(u16),
    Bind,
    AnswerBound,
    AnswerRefused,
    AgentUnbind(u8),
    EdgeUnbind(u8),
    Drain,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..2000_u16).prop_map(Act::Wait),
        1 => Just(Act::Wait(u16::MAX)),
        4 => Just(Act::Bind),
        4 => Just(Act::AnswerBound),
        1 => Just(Act::AnswerRefused),
        2 => any::<u8>().prop_map(Act::AgentUnbind),
        2 => any::<u8>().prop_map(Act::EdgeUnbind),
        1 => Just(Act::Drain),
    ];
    proptest::collection::vec(act, 0..60)
}

proptest! {
    /// Two honest machines never reject one another, and agree on who serves what once the wire is
    /// quiet, whatever their shells do; the way there and back may take what the margins allow.
    #[test]
    fn honest_machines_agree(acts in acts(), latency_ms in 0..1500_u64) {
        let mut pair = Pair::serving();
        pair.latency = Duration::from_millis(latency_ms);
        let (mut numbers, mut asked) = (0_u32, VecDeque::new());
        // What each shell believes.
        let (mut at_agent, mut at_edge) = (BTreeSet::new(), BTreeSet::new());
        for act in acts.into_iter().chain([Act::Wait(u16::MAX)]) {
            match act {
                Act::Wait(ms) => pair.run(Duration::from_millis(ms.into())),
                Act::Bind => {
                    numbers += 1;
                    pair.bind(numbers);
                }
                Act::AnswerBound => {
                    if let Some(request) = asked.pop_front() {
                        let endpoint = endpoint(request);
                        at_edge.insert(endpoint);
                        pair.bound(request, endpoint);
                    }
                }
                Act::AnswerRefused => {
                    if let Some(request) = asked.pop_front() {
                        let code = Code::NameTaken;
                        pair.edge.answer(pair.now, edge::Answer::BindRefused { request, code, message: String::new() });
                    }
                }
                Act::AgentUnbind(pick) => {
                    if let Some(endpoint) = nth(&at_agent, pick) {
                        at_agent.remove(&endpoint);
                        pair.agent.unbind(pair.now, endpoint);
                    }
                }
                Act::EdgeUnbind(pick) => {
                    if let Some(endpoint) = nth(&at_edge, pick) {
                        at_edge.remove(&endpoint);
                        pair.edge.unbind(pair.now, endpoint, Code::GenerationSuperseded, "");
                    }
                }
                Act::Drain => pair.edge.drain(pair.now, &[]),
            }
            pair.drain();
            for event in pair.edge_events.drain(..) {
                match event {
                    edge::Event::Bind(request) => asked.push_back(request.request),
                    edge::Event::Unbind { endpoint } => { at_edge.remove(&endpoint); }
                    edge::Event::Probed { .. } => {}
                    other @ (edge::Event::Authenticate { .. } | edge::Event::Closed { .. }) => {
                        prop_assert!(false, "edge: {:?}", other);
                    },
                }
            }
            for event in pair.agent_events.drain(..) {
                match event {
                    agent::Event::Bound { endpoint, .. } => { at_agent.insert(endpoint); }
                    agent::Event::Unbound { endpoint, .. } => { at_agent.remove(&endpoint); }
                    agent::Event::BindRefused { .. } | agent::Event::Probed { .. } | agent::Event::Drain { .. } => {}
                    other @ (agent::Event::Welcomed { .. }
                    | agent::Event::Authenticated { .. }
                    | agent::Event::Widen { .. }
                    | agent::Event::Closed { .. }) => prop_assert!(false, "agent: {:?}", other),
                }
            }
        }
        prop_assert_eq!(at_agent, at_edge);
    }

    /// Any frames in any order: no panic, one end at most, and bounded queues.
    #[test]
    fn any_frames(picks in proptest::collection::vec((0..14_usize, 0..30_u64), 0..60)) {
        let mut edge = EdgeControl::new(START, edge_config());
        let mut agent = AgentControl::new(START, agent_config());
        let mut now = START;
        for (frame, seconds) in picks {
            now += Duration::from_secs(seconds);
            let frame = super::samples()[frame].clone();
            let _ = edge.handle_frame(now, frame.clone());
            edge.handle_timeout(now);
            edge.answer(now, edge::Answer::Authenticated { tunnel: id(4) });
            let _ = agent.handle_frame(now, frame);
            agent.handle_timeout(now);
            agent.bind(now, bind(1));
        }
        let ends = core::iter::from_fn(|| edge.poll_event()).filter(|event| matches!(event, edge::Event::Closed { .. }));
        prop_assert_eq!(ends.count(), usize::from(edge.is_closed()));
        let ends = core::iter::from_fn(|| agent.poll_event()).filter(|event| matches!(event, agent::Event::Closed { .. }));
        prop_assert_eq!(ends.count(), usize::from(agent.is_closed()));
    }
}

fn endpoint(request: u32) -> EndpointId {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&request.to_be_bytes());
    Id::from_bytes(bytes)
}

fn nth(set: &BTreeSet<EndpointId>, pick: u8) -> Option<EndpointId> {
    set.iter()
        .nth(usize::from(pick) % set.len().max(1))
        .copied()
}
