//! Both machines against each other in virtual time, every state against every frame, and tables of
//! bytes. What the tests share: one sample of each frame, ids, and machines brought to a state.

mod authtoken;
mod bind;
mod bounds;
mod codec;
mod control;
mod features;
mod head;
mod pair;
mod schedules;

use std::borrow::ToOwned as _;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use crate::authtoken::TokenSecret;
use crate::bind::{
    BindRequest, EndpointKind, LoginOptions, Notice, ProxyProtocol, UpstreamProtocol,
};
use crate::code::Code;
use crate::control::{AgentControl, EdgeControl, agent, edge};
use crate::frame::Frame;
use crate::id::{Id, Kind};
use crate::version::FEATURES;

fn id<K: Kind>(number: u8) -> Id<K> {
    Id::new(1_795_000_000_000, [number; 14])
}

fn secret() -> TokenSecret {
    TokenSecret::new([0xa5; 32])
}

fn agent_config() -> agent::Config {
    agent::Config {
        agent_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        authtoken: id(1),
        secret: secret(),
        instance: id(2),
        joins: None,
    }
}

fn edge_config() -> edge::Config {
    edge::Config {
        edge: id(3),
        edge_version: "0.1.0".to_owned(),
        edges: vec!["192.0.2.1:443".to_owned()],
    }
}

fn bind(request: u32) -> BindRequest {
    BindRequest {
        request,
        url: None,
        generation: 1,
        upstream: "http://localhost:8080".to_owned(),
        pooling: false,
        login: None,
        kind: EndpointKind::Http,
        proxy_protocol: ProxyProtocol::None,
        cidr_allow: Vec::new(),
        cidr_deny: Vec::new(),
        upstream_protocol: UpstreamProtocol::Http1,
        host_header: None,
    }
}

fn full_bind(request: u32) -> BindRequest {
    BindRequest {
        url: Some("https://app.example.com".to_owned()),
        pooling: true,
        login: Some(LoginOptions {
            provider: "google".to_owned(),
            allow_emails: vec!["ada@example.test".to_owned()],
            allow_domains: vec!["example.test".to_owned()],
        }),
        upstream_protocol: UpstreamProtocol::Http2,
        host_header: Some("localhost:8080".to_owned()),
        ..bind(request)
    }
}

/// One of each frame, with every field set. The order of the golden file.
fn samples() -> Vec<Frame> {
    vec![
        Frame::Hello {
            proto_min: 1,
            proto_max: 1,
            features: vec!["later".to_owned()],
            agent_version: "0.1.0".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
        },
        Frame::Welcome {
            version: 1,
            edge: id(3),
            edge_version: "0.1.0".to_owned(),
            edges: vec!["192.0.2.1:443".to_owned()],
            features: Vec::new(),
        },
        Frame::Authenticate {
            authtoken: id(1),
            secret: secret(),
            instance: id(2),
            joins: None,
        },
        Frame::Authenticated { tunnel: id(4) },
        Frame::Widen { lanes: 1 },
        Frame::Authenticate {
            authtoken: id(1),
            secret: secret(),
            instance: id(2),
            joins: Some(id(4)),
        },
        Frame::Bind(full_bind(1)),
        Frame::Bound {
            request: 1,
            endpoint: id(5),
            url: "https://app.example.com".to_owned(),
            notices: vec![Notice {
                code: Code::AnyoneMaySignIn,
                message: "anyone with an account at google can sign in".to_owned(),
                next_step: "add --oauth-allow-domain".to_owned(),
            }],
        },
        Frame::BindRefused {
            request: 1,
            code: Code::NameTaken,
            message: "app belongs to another authtoken".to_owned(),
            next_step: Code::NameTaken.next_step().to_owned(),
        },
        Frame::Unbind { endpoint: id(5) },
        Frame::Unbound {
            endpoint: id(5),
            code: Code::GenerationSuperseded,
            message: "a newer run took over".to_owned(),
        },
        Frame::Probe { token: 0 },
        Frame::ProbeAnswer { token: 0 },
        Frame::Drain {
            edges: vec!["192.0.2.1:443".to_owned()],
        },
        Frame::Close {
            code: Code::EdgeDraining,
            message: "the edge is stopping".to_owned(),
            retry: true,
        },
        Frame::Unknown,
    ]
}

const START: Duration = Duration::ZERO;

/// Brings an edge's machine to a state by honest means; what it said on the way is drained.
fn edge_in(state: &str) -> EdgeControl {
    let mut edge = EdgeControl::new(START, edge_config());
    let steps: &[&str] = match state {
        "expect_hello" => &[],
        "expect_authenticate" => &["hello"],
        "expect_answer" => &["hello", "authenticate"],
        "serve" => &["hello", "authenticate", "ok"],
        "pending" => &["hello", "authenticate", "ok", "bind"],
        "drain" => &["hello", "authenticate", "ok", "drain"],
        "closed" => &["close"],
        other => panic!("no state {other}"),
    };
    for step in steps {
        match *step {
            "ok" => edge.answer(START, edge::Answer::Authenticated { tunnel: id(4) }),
            "drain" => edge.drain(START, &[]),
            "close" => edge.close(START, Code::EdgeDraining, "", true),
            name => edge.handle_frame(START, sample(name)).expect("in order"),
        }
    }
    while edge.poll_frame().is_some() || edge.poll_event().is_some() {}
    edge
}

/// The same for an agent's machine.
fn agent_in(state: &str) -> AgentControl {
    let mut agent = AgentControl::new(START, agent_config());
    let steps: &[&str] = match state {
        "expect_welcome" => &[],
        "expect_authenticated" => &["welcome"],
        "serve" => &["welcome", "authenticated"],
        "pending" => &["welcome", "authenticated", "bind"],
        "bound" => &["welcome", "authenticated", "bind", "bound"],
        "drain" => &["welcome", "authenticated", "drain"],
        "closed" => &["close"],
        other => panic!("no state {other}"),
    };
    for step in steps {
        match *step {
            "bind" => agent.bind(START, full_bind(1)),
            "close" => agent.close(START),
            "welcome" => agent
                .handle_frame(START, welcome(FEATURES))
                .expect("in order"),
            name => agent.handle_frame(START, sample(name)).expect("in order"),
        }
    }
    while agent.poll_frame().is_some() || agent.poll_event().is_some() {}
    agent
}

/// A welcome of an edge that can do so much.
fn welcome(features: &[&str]) -> Frame {
    let Frame::Welcome {
        version,
        edge,
        edge_version,
        edges,
        ..
    } = sample("welcome")
    else {
        panic!("a welcome");
    };
    Frame::Welcome {
        version,
        edge,
        edge_version,
        edges,
        features: features.iter().map(|&name| name.to_owned()).collect(),
    }
}

fn sample(name: &str) -> Frame {
    let mut samples = samples().into_iter();
    samples
        .find(|frame| frame.name() == name)
        .expect("a sample of each frame")
}
