//! An edge for tests: `proto`'s machine over a real QUIC listener, answering as it was told.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use proto::authtoken::{Authtoken, TokenSecret};
use proto::bind::Notice;
use proto::code::Code;
use proto::codec;
use proto::control::EdgeControl;
use proto::control::edge::{Answer, Config, Event};
use proto::head::{StreamHead, StreamKind};
use proto::id::{AuthtokenId, EdgeId, EndpointId, InstanceId, TunnelId};
use proto::version::ALPN_AGENT;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::within;
use crate::link::Trust;
use crate::link::tests::{LinkCa, NAME, listen};

pub(super) const URL: &str = "https://quiet-otter.lumen.localhost:4443";

pub(super) struct Edge {
    endpoint: quinn::Endpoint,
    ca: Arc<LinkCa>,
    pinned: [u8; 32],
    policy: Arc<Mutex<Policy>>,
    tunnels: mpsc::UnboundedReceiver<Arrived>,
}

#[derive(Default)]
struct Policy {
    authtoken: Option<Code>,
    bind: Option<Code>,
}

/// One agent's link.
pub(super) struct Arrived {
    connection: Connection,
    orders: mpsc::UnboundedSender<Order>,
    seen: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
}

pub(super) enum Order {
    Drain(Vec<String>),
    Unbind(Code),
    Close(Code),
}

impl Edge {
    pub(super) fn start() -> Self {
        Self::of(Arc::new(LinkCa::new()), ALPN_AGENT)
    }

    /// Something else on the edge's port.
    pub(super) fn that_is_none() -> Self {
        Self::of(Arc::new(LinkCa::new()), b"h3")
    }

    /// Another edge of the same cluster.
    pub(super) fn twin(&self) -> Self {
        Self::of(Arc::clone(&self.ca), ALPN_AGENT)
    }

    fn of(ca: Arc<LinkCa>, alpn: &[u8]) -> Self {
        let endpoint = listen(&ca, NAME, alpn);
        let policy = Arc::new(Mutex::new(Policy::default()));
        let (arrivals, tunnels) = mpsc::unbounded_channel();
        tokio::spawn(accept(endpoint.clone(), Arc::clone(&policy), arrivals));
        let pinned = key_of(&ca);
        Self {
            endpoint,
            ca,
            pinned,
            policy,
            tunnels,
        }
    }

    pub(super) fn addr(&self) -> String {
        self.endpoint.local_addr().unwrap().to_string()
    }

    pub(super) fn authtoken(&self) -> Authtoken {
        Authtoken {
            id: AuthtokenId::from_bytes([1; 20]),
            secret: TokenSecret::new([2; 32]),
            addrs: vec![self.addr()],
            server_name: NAME.to_owned(),
            link_ca_key: self.pinned,
        }
    }

    /// Makes the authtoken pin another CA.
    pub(super) fn pin(&mut self, ca: &LinkCa) {
        self.pinned = key_of(ca);
    }

    pub(super) fn refuse_authtoken(&self, code: Code) {
        self.policy.lock().unwrap().authtoken = Some(code);
    }

    pub(super) fn refuse_bind(&self, code: Option<Code>) {
        self.policy.lock().unwrap().bind = code;
    }

    /// The next link that an agent has bound an endpoint on.
    pub(super) async fn tunnel(&mut self) -> Arrived {
        within(self.tunnels.recv()).await.unwrap()
    }
}

impl Arrived {
    pub(super) fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    /// The link dies without a word.
    pub(super) fn kill(&self) {
        self.close_link(0);
    }

    pub(super) fn close_link(&self, code: u32) {
        self.connection.close(code.into(), b"");
    }

    /// Opens an HTTP stream and sends a byte of a request.
    pub(super) async fn open(&self) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        let head = StreamHead::new(StreamKind::Http, ENDPOINT, 1);
        send.write_all(&head.encode()).await.unwrap();
        send.write_all(b"G").await.unwrap();
        (send, receive)
    }

    /// Who bound, and with which generation.
    pub(super) async fn bound(&self) -> (InstanceId, u64) {
        let mut seen = self.seen.lock().await;
        let mut who = None;
        loop {
            let event = within(seen.recv()).await.unwrap();
            if let Event::Authenticate { instance, .. } = event {
                who = Some(instance);
            } else if let Event::Bind(request) = event {
                return (who.unwrap(), request.generation);
            }
        }
    }

    pub(super) async fn sees_close(&self) -> Event {
        let mut seen = self.seen.lock().await;
        loop {
            let event = within(seen.recv()).await.unwrap();
            if matches!(event, Event::Closed { .. }) {
                return event;
            }
        }
    }
}

fn key_of(ca: &LinkCa) -> [u8; 32] {
    match ca.trust() {
        Trust::LinkCa(key) => key,
        Trust::Roots(_) => unreachable!(),
    }
}

async fn accept(
    endpoint: quinn::Endpoint,
    policy: Arc<Mutex<Policy>>,
    arrivals: mpsc::UnboundedSender<Arrived>,
) {
    while let Some(incoming) = endpoint.accept().await {
        let (policy, arrivals) = (Arc::clone(&policy), arrivals.clone());
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                serve(connection, policy, arrivals).await;
            }
        });
    }
}

async fn serve(
    connection: Connection,
    policy: Arc<Mutex<Policy>>,
    arrivals: mpsc::UnboundedSender<Arrived>,
) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else {
        return;
    };
    let opened = Instant::now();
    let mut machine = EdgeControl::new(
        opened.elapsed(),
        Config {
            edge: EdgeId::from_bytes([3; 20]),
            edge_version: "0".to_owned(),
            edges: Vec::new(),
        },
    );
    let (order_sender, mut orders) = mpsc::unbounded_channel();
    let (seen_sender, seen) = mpsc::unbounded_channel();
    let mut arrived = Some(Arrived {
        connection: connection.clone(),
        orders: order_sender,
        seen: tokio::sync::Mutex::new(seen),
    });
    let mut buffer = BytesMut::new();
    loop {
        let mut bytes = BytesMut::new();
        let mut is_bound = false;
        loop {
            while let Some(frame) = machine.poll_frame() {
                codec::encode(&frame, &mut bytes).unwrap();
            }
            let Some(event) = machine.poll_event() else {
                break;
            };
            let _ = seen_sender.send(event.clone());
            let answer = answer(&event, &policy.lock().unwrap());
            if let Some(answer) = answer {
                is_bound |= matches!(answer, Answer::Bound { .. });
                machine.answer(opened.elapsed(), answer);
            }
        }
        if send.write_all(&bytes).await.is_err() {
            return;
        }
        if is_bound && let Some(arrived) = arrived.take() {
            let _ = arrivals.send(arrived);
        }
        if machine.is_closed() {
            let _ = send.finish();
            let _ = send.stopped().await;
            connection.close(0u32.into(), b"");
            return;
        }
        let alarm = machine.poll_timeout().map(|due| opened + due);
        tokio::select! {
            read = receive.read_chunk(64 * 1024, true) => {
                let Ok(Some(chunk)) = read else { return };
                buffer.extend_from_slice(&chunk.bytes);
                while let Ok(Some(frame)) = codec::decode(&mut buffer) {
                    machine.handle_frame(opened.elapsed(), frame).unwrap();
                }
            }
            Some(order) = orders.recv() => match order {
                Order::Drain(edges) => machine.drain(opened.elapsed(), &edges),
                Order::Unbind(code) => machine.unbind(opened.elapsed(), ENDPOINT, code, "taken over"),
                Order::Close(code) => machine.close(opened.elapsed(), code, "ended", false),
            },
            () = tokio::time::sleep_until(alarm.unwrap_or(opened)), if alarm.is_some() => {
                machine.handle_timeout(opened.elapsed());
            }
        }
    }
}

fn answer(event: &Event, policy: &Policy) -> Option<Answer> {
    match event {
        Event::Authenticate { .. } => Some(match policy.authtoken {
            None => Answer::Authenticated {
                tunnel: TunnelId::from_bytes([4; 20]),
            },
            Some(code) => Answer::Refused {
                code,
                message: String::new(),
            },
        }),
        Event::Bind(request) => Some(match policy.bind {
            None => Answer::Bound {
                request: request.request,
                endpoint: ENDPOINT,
                url: URL.to_owned(),
                notices: vec![Notice {
                    code: Code::AnyoneMaySignIn,
                    message: "anyone".to_owned(),
                    next_step: "narrow it".to_owned(),
                }],
            },
            Some(code) => Answer::BindRefused {
                request: request.request,
                code,
                message: "refused".to_owned(),
            },
        }),
        Event::Unbind { .. } | Event::Probed { .. } | Event::Closed { .. } => None,
    }
}

const ENDPOINT: EndpointId = EndpointId::from_bytes([7; 20]);
