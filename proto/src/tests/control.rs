//! Each machine alone: every state against every frame, and every deadline.

use std::borrow::ToOwned as _;
use std::string::{String, ToString as _};
use std::time::Duration;
use std::vec::Vec;

use super::{START, agent_in, edge_in, id, sample, samples};
use crate::code::Code;
use crate::control::{EdgeControl, ProtocolError, agent, edge};
use crate::frame::Frame;
use crate::limits;

/// Rows are states, columns the frames in the golden file's order: hello, welcome, authenticate,
/// authenticated, widen, authenticate for a lane, bind, bound, bind_refused, unbind, unbound, probe, probe_answer, drain, close,
/// unknown. `x` breaks the protocol; `.` is taken without a word; `f` leads to a frame, `e` to an
/// event, `b` to both; `c` closes.
pub(super) const EDGE: &[(&str, &str)] = &[
    ("expect_hello", "f x x x x x x x x x x x x x c ."),
    ("expect_authenticate", "x x e x x e x x x x x x x x c ."),
    ("expect_answer", "x x x x x x x x x x x x x x c ."),
    ("serve", "x x x x x x e x x . x f e x c ."),
    ("pending", "x x x x x x x x x . x f e x c ."),
    ("drain", "x x x x x x f x x . x f e x c ."),
    ("closed", ". . . . . . . . . . . . . . . ."),
];
pub(super) const AGENT: &[(&str, &str)] = &[
    ("expect_welcome", "x b x x x x x x x x x x x x c ."),
    ("expect_authenticated", "x x x b x x x x x x x x x x c ."),
    ("serve", "x x x x e x x x x x . f e e c ."),
    ("pending", "x x x x e x x e e x . f e e c ."),
    ("bound", "x x x x e x x x x x e f e e c ."),
    ("drain", "x x x x . x x x x x . f e x c ."),
    ("closed", ". . . . . . . . . . . . . . . ."),
];

#[test]
fn every_state_of_the_edge_against_every_frame() {
    for (state, row) in EDGE {
        for (frame, expected) in columns(row) {
            let mut edge = edge_in(state);
            let was_closed = edge.is_closed();
            let outcome = edge.handle_frame(START, frame.clone());
            let frames: Vec<Frame> = core::iter::from_fn(|| edge.poll_frame()).collect();
            let events: Vec<edge::Event> = core::iter::from_fn(|| edge.poll_event()).collect();
            let mut closed = None;
            if let Some(edge::Event::Closed { code, by_peer, .. }) = events.last() {
                closed = Some((*code, *by_peer));
            }
            let is_closed = edge.is_closed() && !was_closed;
            let seen = judge(&outcome, &frames, events.len(), closed, is_closed);
            assert_eq!(seen, expected, "edge, {state}, {frame:?}: {outcome:?}");
            assert_eq!(edge.poll_timeout().is_none(), edge.is_closed());
        }
    }
}

#[test]
fn every_state_of_the_agent_against_every_frame() {
    for (state, row) in AGENT {
        for (frame, expected) in columns(row) {
            let mut agent = agent_in(state);
            let was_closed = agent.is_closed();
            let outcome = agent.handle_frame(START, frame.clone());
            let frames: Vec<Frame> = core::iter::from_fn(|| agent.poll_frame()).collect();
            let events: Vec<agent::Event> = core::iter::from_fn(|| agent.poll_event()).collect();
            let mut closed = None;
            if let Some(agent::Event::Closed { code, by_peer, .. }) = events.last() {
                closed = Some((*code, *by_peer));
            }
            let is_closed = agent.is_closed() && !was_closed;
            let seen = judge(&outcome, &frames, events.len(), closed, is_closed);
            assert_eq!(seen, expected, "agent, {state}, {frame:?}: {outcome:?}");
            assert_eq!(agent.poll_timeout().is_none(), agent.is_closed());
        }
    }
}

fn columns(row: &str) -> impl Iterator<Item = (Frame, char)> {
    let expected: Vec<char> = row.chars().filter(|letter| *letter != ' ').collect();
    assert_eq!(expected.len(), samples().len());
    samples().into_iter().zip(expected)
}

/// What a frame did, as the tables' letter; checks that each ending is whole.
fn judge(
    outcome: &Result<(), ProtocolError>,
    frames: &[Frame],
    events: usize,
    closed: Option<(Code, bool)>,
    is_closed: bool,
) -> char {
    if let Err(error) = outcome {
        assert_eq!(error.code, Code::ControlViolation);
        assert_eq!(closed, Some((error.code, false)), "a violation is told");
        let [
            Frame::Close {
                code,
                message,
                retry: true,
            },
        ] = frames
        else {
            panic!("a violation closes, with nothing before it: {frames:?}");
        };
        assert_eq!((code, message), (&error.code, &error.message));
        return 'x';
    }
    match (is_closed, frames.len(), events) {
        (true, 0, 1) => {
            assert_eq!(closed, Some((Code::EdgeDraining, true)));
            'c'
        }
        (false, 0, 0) => '.',
        (false, 1, 0) => 'f',
        (false, 0, 1) => 'e',
        (false, 1, 1) => 'b',
        other => panic!("{other:?}: {frames:?}"),
    }
}

/// Versions without overlap end the link for good; the newest in common is chosen.
#[test]
fn versions() {
    for (min, max, version) in [
        (1, 1, Some(1)),
        (1, 9, Some(1)),
        (0, 1, Some(1)),
        (2, 9, None),
        (0, 0, None),
        (1, 0, None),
        (9, 1, None),
        (u32::MAX, u32::MAX, None),
    ] {
        let mut edge = edge_in("expect_hello");
        let Frame::Hello {
            features,
            agent_version,
            os,
            arch,
            ..
        } = sample("hello")
        else {
            panic!("a hello");
        };
        let hello = Frame::Hello {
            proto_min: min,
            proto_max: max,
            features,
            agent_version,
            os,
            arch,
        };
        let outcome = edge.handle_frame(START, hello);
        match (version, edge.poll_frame()) {
            (Some(expected), Some(Frame::Welcome { version, .. })) => assert_eq!(version, expected),
            (
                None,
                Some(Frame::Close {
                    code,
                    retry,
                    message,
                }),
            ) => {
                assert_eq!((code, retry), (Code::VersionUnsupported, false));
                assert_eq!(outcome.unwrap_err().code, code);
                assert!(message.contains(&max.to_string()), "{message}");
            }
            other => panic!("{min}..{max}: {other:?}"),
        }
    }
    for version in [0, 2, u32::MAX] {
        let mut agent = agent_in("expect_welcome");
        let Frame::Welcome {
            edge,
            edge_version,
            edges,
            features,
            ..
        } = sample("welcome")
        else {
            panic!("a welcome");
        };
        let welcome = Frame::Welcome {
            version,
            edge,
            edge_version,
            edges,
            features,
        };
        let error = agent.handle_frame(START, welcome).unwrap_err();
        assert_eq!(error.code, Code::VersionUnsupported);
        assert!(
            matches!(agent.poll_frame(), Some(Frame::Close { .. })),
            "no secret is sent"
        );
        assert!(agent.poll_frame().is_none());
        assert!(matches!(
            agent.poll_event(),
            Some(agent::Event::Closed { retry: false, .. })
        ));
    }
}

/// Each wait of the edge has its end, and not before.
#[test]
fn deadlines_of_the_edge() {
    for (state, within) in [
        ("expect_hello", limits::HANDSHAKE_WITHIN),
        ("expect_authenticate", limits::HANDSHAKE_WITHIN),
        ("expect_answer", limits::AUTHENTICATE_ANSWER_WITHIN),
        ("serve", limits::PROBE_WITHIN),
        ("drain", limits::PROBE_WITHIN),
    ] {
        let mut edge = edge_in(state);
        assert_eq!(edge.poll_timeout(), Some(within), "{state}");
        edge.handle_timeout(within.saturating_sub(TICK));
        assert!(
            edge.poll_frame().is_none() && edge.poll_event().is_none(),
            "{state}, early"
        );
        edge.handle_timeout(within);
        assert_timeout(edge.poll_frame().as_ref(), state);
        let Some(edge::Event::Closed {
            code: Code::ControlTimeout,
            by_peer: false,
            ..
        }) = edge.poll_event()
        else {
            panic!("{state}");
        };
    }
}

/// The agent's too; and its handshake may take as long for each answer.
#[test]
fn deadlines_of_the_agent() {
    for (state, within) in [
        ("expect_welcome", limits::HANDSHAKE_WITHIN),
        ("expect_authenticated", limits::HANDSHAKE_WITHIN),
        ("serve", limits::PROBE_WITHIN),
        ("drain", limits::PROBE_WITHIN),
    ] {
        let mut agent = agent_in(state);
        assert_eq!(agent.poll_timeout(), Some(within), "{state}");
        agent.handle_timeout(within.saturating_sub(TICK));
        assert!(
            agent.poll_frame().is_none() && agent.poll_event().is_none(),
            "{state}, early"
        );
        agent.handle_timeout(within);
        assert_timeout(agent.poll_frame().as_ref(), state);
        let Some(agent::Event::Closed {
            code: Code::ControlTimeout,
            retry: true,
            by_peer: false,
            ..
        }) = agent.poll_event()
        else {
            panic!("{state}");
        };
    }
    // A bind without answer, on a link that answers probes.
    let mut agent = agent_in("pending");
    agent
        .handle_frame(START, Frame::ProbeAnswer { token: 0 })
        .unwrap();
    assert_eq!(
        agent.poll_timeout(),
        Some(limits::BIND_WITHIN.min(limits::PROBE_EVERY))
    );
    agent.handle_timeout(limits::BIND_WITHIN);
    assert_timeout(agent.poll_frame().as_ref(), "bind");
}

/// The edge that cannot make an endpoint ready says so in time, goes on, and lets go of what its
/// shell brings too late.
#[test]
fn a_late_bound_is_given_back() {
    let mut edge = edge_in("pending");
    edge.handle_frame(START, Frame::ProbeAnswer { token: 0 })
        .unwrap();
    while edge.poll_event().is_some() {}
    assert_eq!(edge.poll_timeout(), Some(limits::BIND_ANSWER_WITHIN));
    edge.handle_timeout(limits::BIND_ANSWER_WITHIN);
    let Some(Frame::BindRefused {
        request: 1,
        code: Code::ControlTimeout,
        ..
    }) = edge.poll_frame()
    else {
        panic!("a refusal");
    };
    assert!(!edge.is_closed());
    let late = |edge: &mut EdgeControl| {
        edge.answer(
            limits::BIND_ANSWER_WITHIN,
            edge::Answer::Bound {
                request: 1,
                endpoint: id(5),
                url: String::new(),
                notices: Vec::new(),
            },
        );
    };
    late(&mut edge);
    assert!(edge.poll_frame().is_none());
    assert_eq!(
        edge.poll_event(),
        Some(edge::Event::Unbind { endpoint: id(5) })
    );
    // After the end nothing is told: the shell lets go of everything then.
    let mut edge = edge_in("closed");
    late(&mut edge);
    assert!(edge.poll_frame().is_none() && edge.poll_event().is_none());
}

/// Answers that nobody waits for do nothing, in any state.
#[test]
fn answers_out_of_place_do_nothing() {
    let answers = || {
        [
            edge::Answer::Authenticated { tunnel: id(4) },
            edge::Answer::Refused {
                code: Code::AuthtokenUnknown,
                message: String::new(),
            },
            edge::Answer::BindRefused {
                request: 77,
                code: Code::NameTaken,
                message: String::new(),
            },
        ]
    };
    for (state, _) in EDGE {
        for answer in answers() {
            let mut edge = edge_in(state);
            let is_due =
                *state == "expect_answer" && !matches!(answer, edge::Answer::BindRefused { .. });
            edge.answer(START, answer.clone());
            edge.unbind(START, id(99), Code::GenerationSuperseded, "");
            assert_eq!(edge.poll_frame().is_some(), is_due, "{state}, {answer:?}");
        }
    }
}

/// A refused authtoken ends the link, for good when the code is permanent.
#[test]
fn a_refused_authtoken_closes() {
    for (code, expected) in [
        (Code::AuthtokenUnknown, false),
        (Code::AuthtokenRevoked, false),
        (Code::StoreUnavailable, true),
    ] {
        let mut edge = edge_in("expect_answer");
        edge.answer(
            START,
            edge::Answer::Refused {
                code,
                message: "because".to_owned(),
            },
        );
        let close = Frame::Close {
            code,
            message: "because".to_owned(),
            retry: expected,
        };
        assert_eq!(edge.poll_frame(), Some(close));
        assert!(edge.is_closed());
    }
}

/// Nobody is told to come back with what can never succeed: the one list decides on both sides.
#[test]
fn permanent_codes_are_never_retried() {
    for code in Code::ALL.iter().copied() {
        let mut edge = edge_in("serve");
        edge.close(START, code, "", true);
        let Some(Frame::Close { retry, .. }) = edge.poll_frame() else {
            panic!("a close");
        };
        assert_eq!(retry, !code.is_permanent(), "{code}");
        let mut agent = agent_in("serve");
        let close = Frame::Close {
            code,
            message: String::new(),
            retry: true,
        };
        agent.handle_frame(START, close).unwrap();
        let Some(agent::Event::Closed {
            retry,
            by_peer: true,
            ..
        }) = agent.poll_event()
        else {
            panic!("an end");
        };
        assert_eq!(retry, !code.is_permanent(), "{code}");
    }
    for code in [
        Code::ControlTimeout,
        Code::EdgeDraining,
        Code::StoreUnavailable,
        Code::EdgeUnreachable,
    ] {
        assert!(!code.is_permanent(), "{code}");
    }
}

/// The page for people has the same list.
#[test]
fn permanent_codes_are_documented() {
    let page = include_str!("../../../docs/protocol.md");
    let row = |code: &Code| std::format!("| `{code}` | `{}` |", code.name());
    for code in Code::ALL {
        assert_eq!(page.contains(&row(code)), code.is_permanent(), "{code}");
    }
}

/// Drain sends a stranger away, moves a served agent once, and says nothing to one that is gone.
#[test]
fn drain_in_every_state() {
    for (state, _) in EDGE {
        let mut edge = edge_in(state);
        edge.drain(
            START,
            &[
                "192.0.2.1:443".to_owned(),
                "x".repeat(limits::ADDR_BYTES_MAX + 1),
            ],
        );
        match (*state, edge.poll_frame()) {
            (
                "expect_hello" | "expect_authenticate" | "expect_answer",
                Some(Frame::Close { code, retry, .. }),
            ) => {
                assert_eq!((code, retry), (Code::EdgeDraining, true));
            }
            ("serve" | "pending", Some(frame)) => assert_eq!(frame, sample("drain")),
            ("drain" | "closed", None) => {}
            other => panic!("{other:?}"),
        }
        assert!(edge.poll_frame().is_none());
    }
}

/// What was asked before the drain is still answered after it.
#[test]
fn a_pending_bind_outlives_the_drain() {
    let mut edge = edge_in("pending");
    edge.drain(START, &[]);
    edge.poll_frame();
    edge.answer(
        START,
        edge::Answer::Bound {
            request: 1,
            endpoint: id(5),
            url: String::new(),
            notices: Vec::new(),
        },
    );
    assert!(matches!(
        edge.poll_frame(),
        Some(Frame::Bound { request: 1, .. })
    ));
    edge.handle_frame(START, Frame::Unbind { endpoint: id(5) })
        .unwrap();
    assert_eq!(
        edge.poll_event(),
        Some(edge::Event::Unbind { endpoint: id(5) })
    );
    edge.handle_frame(START, Frame::Unbind { endpoint: id(5) })
        .unwrap();
    assert_eq!(edge.poll_event(), None, "the second crossed, or is noise");
}

/// An answer to a probe counts once, and only for the last probe.
#[test]
fn probe_answers_match() {
    for (first, second) in [(1, 0), (0, 0)] {
        let mut edge = edge_in("serve");
        let answers =
            [first, second].map(|token| edge.handle_frame(START, Frame::ProbeAnswer { token }));
        assert!(answers.iter().any(Result::is_err), "{first}, {second}");
    }
}

fn assert_timeout(frame: Option<&Frame>, state: &str) {
    let Some(Frame::Close {
        code: Code::ControlTimeout,
        retry: true,
        ..
    }) = frame
    else {
        panic!("{state}: {frame:?}");
    };
}

const TICK: Duration = Duration::from_millis(1);

/// A driver that waits for a word may probe early, once until the answer; elsewhere that says nothing.
#[test]
fn probes_may_be_early() {
    let probe = |token| Some(Frame::Probe { token });
    for state in ["serve", "drain"] {
        let (mut edge, mut agent) = (edge_in(state), agent_in(state));
        // The first probe, which every tunnel begins with, is on its way.
        edge.probe(START);
        agent.probe(START);
        assert_eq!((edge.poll_frame(), agent.poll_frame()), (None, None));
        for token in [0, 1] {
            let answer = Frame::ProbeAnswer { token };
            edge.handle_frame(START, answer.clone()).unwrap();
            agent.handle_frame(START, answer).unwrap();
            for _ in 0..2 {
                edge.probe(START);
                agent.probe(START);
            }
            let next = probe(token + 1);
            assert_eq!(
                (edge.poll_frame(), agent.poll_frame()),
                (next.clone(), next)
            );
            assert_eq!((edge.poll_frame(), agent.poll_frame()), (None, None));
        }
        // An answer that never comes ends the link, as that to any probe.
        let late = START + limits::PROBE_WITHIN;
        edge.handle_timeout(late);
        agent.handle_timeout(late);
        assert!(edge.is_closed() && agent.is_closed());
    }
    let (mut edge, mut agent) = (edge_in("closed"), agent_in("closed"));
    edge.probe(START);
    agent.probe(START);
    assert_eq!((edge.poll_frame(), agent.poll_frame()), (None, None));
}
