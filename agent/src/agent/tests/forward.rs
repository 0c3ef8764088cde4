//! Streams over a real link to a real local app: each way that either side can end.

use std::time::Duration;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use proto::code::Code;
use proto::head::{Ack, StreamHead, StreamKind};
use proto::id::EndpointId;
use quinn::{Connection, RecvStream, SendStream};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{reset_of, within};
use crate::forward::{Routes, forward};
use crate::link::Link;
use crate::link::tests::linked;
use crate::upstream::{Upstream, Watched};

/// An edge's side of a link, a local app's listener, and the agent between them.
struct World {
    edge: Connection,
    _endpoint: quinn::Endpoint,
    app: TcpListener,
    routes: watch::Sender<HashMap<EndpointId, Arc<Watched>>>,
    agent: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = Self::unrouted(app).await;
        world.route();
        world
    }

    async fn unrouted(app: TcpListener) -> Self {
        let (link, edge, endpoint) = linked().await;
        let (sender, receiver) = watch::channel(HashMap::new());
        let agent = tokio::spawn(serve(link, Routes::new(receiver)));
        Self {
            edge,
            _endpoint: endpoint,
            app,
            routes: sender,
            agent,
        }
    }

    fn route(&self) {
        let address = self.app.local_addr().unwrap().to_string();
        let watched = Arc::new(Watched::new(Upstream::parse(&address).unwrap(), None));
        self.routes.send_modify(|routes| {
            routes.insert(endpoint(), watched);
        });
    }

    async fn open(&self, kind: StreamKind) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.edge.open_bi().await.unwrap();
        let head = StreamHead::new(kind, endpoint(), 1);
        send.write_all(&head.encode()).await.unwrap();
        (send, receive)
    }

    /// A stream whose upstream connection stands, and that connection.
    async fn carried(&self) -> (SendStream, RecvStream, TcpStream) {
        let (send, mut receive) = self.open(StreamKind::Http).await;
        let (upstream, _) = within(self.app.accept()).await.unwrap();
        assert_eq!(within(ack(&mut receive)).await, Ack::Accept);
        (send, receive, upstream)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

async fn serve(link: Link, routes: Routes) {
    while let Ok(stream) = link.accept().await {
        let routes = routes.clone();
        tokio::spawn(
            async move { forward(stream.receive, stream.send, &routes, || Some(())).await },
        );
    }
}

fn endpoint() -> EndpointId {
    EndpointId::from_bytes([7; 20])
}

async fn ack(receive: &mut RecvStream) -> Ack {
    let mut buffer = BytesMut::new();
    loop {
        if let Some(ack) = Ack::decode(&mut buffer).unwrap() {
            return ack;
        }
        let chunk = receive.read_chunk(1, true).await.unwrap().unwrap();
        buffer.extend_from_slice(&chunk.bytes);
    }
}

#[tokio::test]
async fn bytes_flow_both_ways_and_half_closes_pass() {
    let world = World::new().await;
    let (mut send, mut receive, mut upstream) = world.carried().await;
    send.write_all(b"question").await.unwrap();
    send.finish().unwrap();
    let mut question = Vec::new();
    within(upstream.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    // The upstream has seen the end and still answers.
    upstream.write_all(b"answer").await.unwrap();
    upstream.shutdown().await.unwrap();
    let answer = within(receive.read_to_end(100)).await.unwrap();
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn what_comes_with_the_head_is_not_lost() {
    let world = World::new().await;
    let (mut send, _receive) = world.edge.open_bi().await.unwrap();
    let mut bytes = StreamHead::new(StreamKind::Http, endpoint(), 1)
        .encode()
        .to_vec();
    bytes.extend_from_slice(b"early");
    send.write_all(&bytes).await.unwrap();
    let (mut upstream, _) = within(world.app.accept()).await.unwrap();
    let mut early = [0; 5];
    within(upstream.read_exact(&mut early)).await.unwrap();
    assert_eq!(&early, b"early");
}

#[tokio::test]
async fn much_data_arrives_whole() {
    let world = World::new().await;
    let (send, mut receive, mut upstream) = world.carried().await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = body.clone();
    let answering = tokio::spawn(async move {
        upstream.write_all(&sent).await.unwrap();
        upstream.shutdown().await.unwrap();
        upstream
    });
    let got = within(receive.read_to_end(body.len() + 1)).await.unwrap();
    assert!(got == body);
    drop((send, answering));
}

#[tokio::test]
async fn an_upstream_reset_resets_the_stream() {
    let world = World::new().await;
    let (_send, mut receive, mut upstream) = world.carried().await;
    upstream.write_all(b"half a bo").await.unwrap();
    SockRef::from(&upstream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(upstream);
    within(reset_of(&mut receive)).await;
}

#[tokio::test]
async fn an_upstream_reset_under_an_upload_resets_the_stream() {
    let world = World::new().await;
    let (mut send, mut receive, upstream) = world.carried().await;
    // Unread bytes make its close a reset. It is seen by whichever direction touches the socket first.
    send.write_all(b"unread").await.unwrap();
    within(upstream.peek(&mut [0; 6])).await.unwrap();
    drop(upstream);
    let upload = async {
        loop {
            if send.write_all(&[0; 1024]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    within(async { tokio::join!(reset_of(&mut receive), upload) }).await;
}

#[tokio::test]
async fn an_edge_reset_resets_the_upstream() {
    let world = World::new().await;
    let (mut send, _receive, mut upstream) = world.carried().await;
    send.write_all(b"half a bo").await.unwrap();
    let mut got = [0; 9];
    within(upstream.read_exact(&mut got)).await.unwrap();
    send.reset(2u32.into()).unwrap();
    let end = within(upstream.read(&mut got)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_edge_that_stops_listening_resets_the_upstream() {
    let world = World::new().await;
    let (mut send, mut receive, mut upstream) = world.carried().await;
    // The request is complete and the upstream silent: only the stop itself can tell.
    send.finish().unwrap();
    let mut got = [0; 9];
    assert_eq!(within(upstream.read(&mut got)).await.unwrap(), 0);
    receive.stop(2u32.into()).unwrap();
    let end = within(async {
        loop {
            // After a FIN a reset is seen when writing.
            if let Err(error) = upstream.write_all(b"tick").await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(
        end.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    ));
}

#[tokio::test]
async fn a_reset_is_heard_while_the_upstream_does_not_read() {
    let world = World::new().await;
    let (mut send, mut receive, mut upstream) = world.carried().await;
    // The answer is complete, so nothing but the upload is left.
    upstream.shutdown().await.unwrap();
    assert_eq!(within(receive.read_to_end(10)).await.unwrap(), b"");
    let chunk = vec![0; 64 * 1024];
    // Until every buffer on the way is full.
    while tokio::time::timeout(Duration::from_millis(500), send.write_all(&chunk))
        .await
        .is_ok()
    {}
    send.reset(2u32.into()).unwrap();
    let end = within(async {
        let mut sink = vec![0; 64 * 1024];
        loop {
            match upstream.read(&mut sink).await {
                Ok(0) => panic!("a good end"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    })
    .await;
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_lost_link_resets_the_upstream() {
    let world = World::new().await;
    let (_send, _receive, mut upstream) = world.carried().await;
    world.edge.close(0u32.into(), b"");
    let end = within(upstream.read(&mut [0])).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_probe_comes_back() {
    let world = World::new().await;
    let (mut send, mut receive) = world.open(StreamKind::Probe).await;
    send.write_all(b"are you there").await.unwrap();
    send.finish().unwrap();
    assert_eq!(within(ack(&mut receive)).await, Ack::Accept);
    let back = within(receive.read_to_end(100)).await.unwrap();
    assert_eq!(back, b"are you there");
}

#[tokio::test]
async fn refusals_say_why() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new().await;
    let watched = Upstream::parse(&gone.local_addr().unwrap().to_string()).unwrap();
    drop(gone);
    let watched = Arc::new(Watched::new(watched, None));
    world.routes.send_modify(|routes| {
        routes.insert(endpoint(), Arc::clone(&watched));
    });
    let (_send, mut receive) = world.open(StreamKind::Http).await;
    let Ack::Refuse { code, message } = within(ack(&mut receive)).await else {
        panic!("accepted");
    };
    assert_eq!(code, Code::UpstreamUnreachable);
    assert!(message.contains("does not accept connections"), "{message}");
    assert_eq!(within(receive.read_to_end(10)).await.unwrap(), b"");

    world.routes.send_modify(HashMap::clear);
    let (_send, mut receive) = world.open(StreamKind::Http).await;
    let refused = within(ack(&mut receive)).await;
    assert!(
        matches!(
            refused,
            Ack::Refuse {
                code: Code::StreamRefused,
                ..
            }
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_stream_that_overtakes_its_bind_waits_for_it() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::unrouted(app).await;
    let (_send, mut receive) = world.open(StreamKind::Http).await;
    world.route();
    assert_eq!(within(ack(&mut receive)).await, Ack::Accept);
}

#[tokio::test]
async fn rubbish_for_a_head_resets() {
    let world = World::new().await;
    let (mut send, mut receive) = world.edge.open_bi().await.unwrap();
    send.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    within(reset_of(&mut receive)).await;
}
