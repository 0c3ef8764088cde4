//! Each machine alone against too much: floods, long texts, bytes that are no frame; and no secret
//! in print.

use std::borrow::ToOwned as _;
use std::collections::BTreeSet;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::control::{AGENT, EDGE};
use super::{START, agent_config, agent_in, bind, edge_config, edge_in, full_bind, id, sample};
use crate::code::Code;
use crate::codec::FrameError;
use crate::control::{AgentControl, EdgeControl, agent, edge};
use crate::frame::Frame;
use crate::limits;

/// A wrong bind is refused by itself, with its own code, before the shell is asked.
#[test]
fn a_wrong_bind_does_not_end_the_link() {
    let mut edge = edge_in("serve");
    let mut request = full_bind(1);
    request.upstream = String::new();
    edge.handle_frame(START, Frame::Bind(request.clone()))
        .unwrap();
    let Some(Frame::BindRefused {
        request: 1,
        code,
        next_step,
        ..
    }) = edge.poll_frame()
    else {
        panic!("a refusal");
    };
    assert_eq!(
        (code, next_step.as_str()),
        (Code::UpstreamInvalid, code.next_step())
    );
    assert!(edge.poll_event().is_none());
    // The agent's own machine does not even send it.
    let mut agent = agent_in("serve");
    agent.bind(START, request);
    assert!(agent.poll_frame().is_none());
    assert!(matches!(
        agent.poll_event(),
        Some(agent::Event::BindRefused {
            request: 1,
            code: Code::UpstreamInvalid,
            ..
        })
    ));
}

/// The agent asks for as much as may be pending, then waits; above the bound it refuses by itself.
#[test]
fn binds_are_paced_and_bounded() {
    let mut agent = AgentControl::new(START, agent_config());
    let all = u32::try_from(limits::ENDPOINTS_PER_TUNNEL_MAX).unwrap();
    (0..=all).for_each(|request| agent.bind(START, bind(request)));
    agent.bind(START, bind(0));
    for (request, expected) in [(all, Code::TooManyEndpoints), (0, Code::ControlViolation)] {
        match agent.poll_event() {
            Some(agent::Event::BindRefused {
                request: refused,
                code,
                ..
            }) => {
                assert_eq!((refused, code), (request, expected));
            }
            other => panic!("{other:?}"),
        }
    }
    agent.handle_frame(START, sample("welcome")).unwrap();
    agent.handle_frame(START, sample("authenticated")).unwrap();
    let (mut edge, mut asked, mut bound) = (edge_in("serve"), 0, BTreeSet::new());
    while bound.len() < limits::ENDPOINTS_PER_TUNNEL_MAX {
        assert!(!agent.is_closed() && !edge.is_closed());
        while let Some(frame) = agent.poll_frame() {
            if matches!(frame, Frame::Bind(_)) {
                asked += 1;
                edge.handle_frame(START, frame).unwrap();
            }
        }
        assert!(asked - bound.len() <= limits::BINDS_PENDING_MAX);
        while let Some(event) = edge.poll_event() {
            let edge::Event::Bind(request) = event else {
                panic!("{event:?}");
            };
            bound.insert(request.request);
            let mut bytes = [0; 20];
            bytes[..4].copy_from_slice(&request.request.to_be_bytes());
            edge.answer(
                START,
                edge::Answer::Bound {
                    request: request.request,
                    endpoint: crate::id::Id::from_bytes(bytes),
                    url: String::new(),
                    notices: Vec::new(),
                },
            );
        }
        while let Some(frame) = edge.poll_frame() {
            agent.handle_frame(START, frame).unwrap();
            agent.poll_event();
        }
    }
    // One more, from an agent that does not count.
    edge.handle_frame(START, Frame::Bind(bind(all + 1)))
        .unwrap();
    assert!(matches!(
        edge.poll_frame(),
        Some(Frame::BindRefused {
            code: Code::TooManyEndpoints,
            ..
        })
    ));
}

/// More binds at a time than an honest agent sends end the link, and so does a number used twice.
#[test]
fn a_flood_of_binds_closes() {
    let mut edge = edge_in("serve");
    let most = u32::try_from(limits::BINDS_PENDING_MAX).unwrap();
    for request in 0..most {
        edge.handle_frame(START, Frame::Bind(bind(request)))
            .unwrap();
    }
    let error = edge
        .handle_frame(START, Frame::Bind(bind(most)))
        .unwrap_err();
    assert_eq!(error.code, Code::ControlViolation);
    let mut edge = edge_in("drain");
    edge.handle_frame(START, Frame::Bind(bind(1))).unwrap();
    edge.handle_frame(START, Frame::Bind(bind(1)))
        .expect("the first was answered at once");
    let mut edge = edge_in("pending");
    edge.drain(START, &[]);
    let error = edge.handle_frame(START, Frame::Bind(bind(1))).unwrap_err();
    assert_eq!(error.code, Code::ControlViolation, "the first waits still");
}

/// A driver that cannot send, and a peer that floods: the queues end, and the last words still fit.
#[test]
fn queues_are_bounded() {
    let flood = || (0..10_000).map(|token| Frame::Probe { token });
    let mut edge = edge_in("serve");
    flood().for_each(|frame| edge.handle_frame(START, frame).unwrap());
    let frames: Vec<Frame> = core::iter::from_fn(|| edge.poll_frame()).collect();
    assert!(matches!(
        &frames[..],
        [Frame::Close {
            code: Code::ControlViolation,
            ..
        }]
    ));
    assert!(matches!(
        edge.poll_event(),
        Some(edge::Event::Closed { by_peer: false, .. })
    ));
    let mut agent = agent_in("serve");
    flood().for_each(|frame| agent.handle_frame(START, frame).unwrap());
    assert!(matches!(
        agent.poll_frame(),
        Some(Frame::Close {
            code: Code::ControlViolation,
            ..
        })
    ));
    assert!(agent.poll_frame().is_none());
    // Events as well: refusals on the agent's own side.
    let mut agent = agent_in("drain");
    (0..10_000).for_each(|request| agent.bind(START, bind(request)));
    let events = core::iter::from_fn(|| agent.poll_event()).count();
    assert_eq!(events, limits::QUEUE_MAX + 1);
    assert!(agent.is_closed());
}

/// A text or a list above its bound breaks the protocol, whichever frame it is in.
#[test]
fn unbounded_frames_are_violations() {
    let long = || "a".repeat(limits::TEXT_BYTES_MAX + 1);
    let many = || std::vec!["a".to_owned(); limits::LIST_MAX + 1];
    let hello = |features, agent_version, os| Frame::Hello {
        proto_min: 1,
        proto_max: 1,
        features,
        agent_version,
        os,
        arch: String::new(),
    };
    for frame in [
        hello(many(), String::new(), String::new()),
        hello(Vec::new(), long(), String::new()),
        hello(Vec::new(), String::new(), "\u{1b}[2J".to_owned()),
        Frame::Close {
            code: Code::Internal,
            message: long(),
            retry: false,
        },
    ] {
        let mut edge = EdgeControl::new(START, edge_config());
        assert_eq!(
            edge.handle_frame(START, frame).unwrap_err().code,
            Code::ControlViolation
        );
    }
    for frame in [
        Frame::Drain { edges: many() },
        Frame::Unbound {
            endpoint: id(5),
            code: Code::Internal,
            message: long(),
        },
        Frame::BindRefused {
            request: 1,
            code: Code::Internal,
            message: String::new(),
            next_step: long(),
        },
        Frame::Bound {
            request: 1,
            endpoint: id(5),
            url: long(),
            notices: Vec::new(),
        },
    ] {
        let mut agent = agent_in("pending");
        assert_eq!(
            agent.handle_frame(START, frame).unwrap_err().code,
            Code::ControlViolation
        );
    }
}

/// However long the words that a shell puts in, what a machine sends is taken by the other.
#[test]
fn what_a_machine_says_is_bounded() {
    let long = "\u{1b}\"ä".repeat(10_000);
    let mut edge = edge_in("pending");
    edge.answer(
        START,
        edge::Answer::Bound {
            request: 1,
            endpoint: id(5),
            url: long.clone(),
            notices: std::vec![
                crate::bind::Notice { code: Code::Internal, message: long.clone(), next_step: long.clone() };
                100
            ],
        },
    );
    edge.unbind(START, id(5), Code::GenerationSuperseded, &long);
    edge.drain(START, &std::vec![long.clone(); 100]);
    edge.close(START, Code::EdgeDraining, &long, true);
    let mut agent = agent_in("pending");
    let mut buffer = bytes::BytesMut::new();
    while let Some(frame) = edge.poll_frame() {
        crate::codec::encode(&frame, &mut buffer).unwrap();
    }
    while let Some(frame) = crate::codec::decode(&mut buffer).unwrap() {
        agent.handle_frame(START, frame).unwrap();
    }
    assert!(agent.is_closed());
}

/// Bytes that are no frame end the link as a frame out of place does; a stranger's frames are small.
#[test]
fn bytes_that_are_no_frame_close() {
    let mut edge = edge_in("serve");
    let error = edge.reject(FrameError::Malformed);
    assert_eq!(error.code, Code::ControlViolation);
    assert!(matches!(
        edge.poll_frame(),
        Some(Frame::Close {
            code: Code::ControlViolation,
            retry: true,
            ..
        })
    ));
    let mut agent = agent_in("serve");
    agent.reject(FrameError::TooLong {
        bytes: 9,
        bytes_max: 8,
    });
    assert!(agent.is_closed());
    for (state, _) in EDGE {
        let is_known = matches!(*state, "serve" | "pending" | "drain");
        let max = edge_in(state).frame_bytes_max();
        assert_eq!(max == limits::FRAME_BYTES_MAX, is_known, "{state}");
        assert_eq!(
            max == limits::HANDSHAKE_FRAME_BYTES_MAX,
            !is_known,
            "{state}"
        );
    }
}

/// Neither machine prints the secret, at any point of its life.
#[test]
fn machines_print_no_secret() {
    let text = super::secret().to_text();
    for (state, _) in AGENT {
        let printed = format!("{:?}", agent_in(state));
        assert!(
            !printed.contains(&text) && !printed.contains("165"),
            "{printed}"
        );
    }
    let mut edge = edge_in("expect_authenticate");
    edge.handle_frame(START, sample("authenticate")).unwrap();
    let printed = format!("{edge:?} {:?}", edge.poll_event());
    assert!(
        !printed.contains(&text) && !printed.contains("165"),
        "{printed}"
    );
}
