//! What an agent does not ask of an edge that cannot do it.

use std::vec;
use std::vec::Vec;

use super::{START, agent_config, bind, sample, welcome};
use crate::bind::{BindRequest, EndpointKind, ProxyProtocol, Termination, UpstreamProtocol};
use crate::code::Code;
use crate::control::{AgentControl, agent};
use crate::frame::Frame;
use crate::version;

/// Makes a bind ask for something.
type Ask = fn(&mut BindRequest);

/// An edge that does not know what a bind asks for is not asked: it would pass over the words and serve
/// something else, open to more people. What it knows it is asked for, on the same link.
#[test]
fn an_older_edge_is_not_asked() {
    let plain = bind(1);
    let asked: &[(&str, Ask)] = &[
        (version::TCP, |r| r.kind = EndpointKind::Tcp { port: None }),
        (version::TLS, |r| {
            r.kind = EndpointKind::Tls {
                termination: Termination::Upstream,
            };
        }),
        (version::CIDR, |r| r.cidr_allow = vec!["10.0.0.0/8".into()]),
        (version::CIDR, |r| r.cidr_deny = vec!["10.0.0.0/8".into()]),
        (version::PROXY_PROTOCOL, |r| {
            r.proxy_protocol = ProxyProtocol::V2;
        }),
        (version::UPSTREAM_PROTOCOL, |r| {
            r.upstream_protocol = UpstreamProtocol::Http2;
        }),
        (version::HOST_HEADER, |r| {
            r.host_header = Some("localhost".into());
        }),
    ];
    for (feature, ask) in asked {
        let others: Vec<&str> = version::FEATURES
            .iter()
            .copied()
            .filter(|other| other != feature)
            .collect();
        for (known, is_asked) in [(&[*feature][..], true), (&others[..], false)] {
            let mut machine = AgentControl::new(START, agent_config());
            let mut request = plain.clone();
            ask(&mut request);
            // Before the welcome nobody knows what the edge can do.
            machine.bind(START, request.clone());
            machine.handle_frame(START, welcome(known)).unwrap();
            machine
                .handle_frame(START, sample("authenticated"))
                .unwrap();
            let frames: Vec<Frame> = core::iter::from_fn(|| machine.poll_frame()).collect();
            assert_eq!(
                frames.contains(&Frame::Bind(request)),
                is_asked,
                "{feature}"
            );
            let events: Vec<_> = core::iter::from_fn(|| machine.poll_event()).collect();
            let refused = events.iter().any(|event| {
                matches!(
                    event,
                    agent::Event::BindRefused {
                        request: 1,
                        code: Code::EdgeTooOld,
                        ..
                    }
                )
            });
            assert_eq!(refused, !is_asked, "{feature}: {events:?}");
            let next = BindRequest {
                request: 2,
                ..plain.clone()
            };
            machine.bind(START, next.clone());
            let frames: Vec<Frame> = core::iter::from_fn(|| machine.poll_frame()).collect();
            assert_eq!(frames, [Frame::Bind(next)], "the link goes on");
        }
    }
}
