//! Two connections joined in memory: how streams end, that nobody holds up others, what breaks.

mod hostile;

use std::time::Duration;

use proto::budget::Budget;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::driver::{Times, start_timed};

/// Both ends, driven by tasks of their own.
struct Pair {
    agent: Connection,
    edge: Connection,
    drivers: [JoinHandle<Ended>; 2],
}

impl Pair {
    fn new() -> Self {
        Self::over(duplex(64 * 1024))
    }

    fn over((here, there): (DuplexStream, DuplexStream)) -> Self {
        let (agent, agent_driver) = start(here, Side::Agent, None);
        let (edge, edge_driver) = start(there, Side::Edge, None);
        Self {
            agent,
            edge,
            drivers: [tokio::spawn(agent_driver), tokio::spawn(edge_driver)],
        }
    }

    /// A stream that the edge has opened, with its first byte read: the edge's end, the agent's end.
    async fn stream(&self) -> (Stream, Stream) {
        let mut opened = within(self.edge.open()).await.unwrap();
        opened.send.write_all(b"h").await.unwrap();
        let mut accepted = within(self.agent.accept()).await.unwrap();
        let head = within(accepted.receive.read_u8()).await.unwrap();
        assert_eq!(head, b'h');
        (opened, accepted)
    }

    /// Waits until both sides have forgotten every stream.
    async fn is_empty(&self) {
        within(async {
            while self.edge.common.ledger.len() + self.agent.common.ledger.len() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

async fn fill(send: &mut Send) -> usize {
    let block = vec![7; 64 * 1024];
    let mut written = 0;
    loop {
        let write = tokio::time::timeout(Duration::from_millis(100), send.write(&block));
        match write.await {
            Ok(more) => written += more.unwrap(),
            Err(_) => return written,
        }
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_end_well() {
    let pair = Pair::new();
    let (mut edge, mut agent) = pair.stream().await;
    let body: Vec<u8> = (0..=u8::MAX).cycle().take(1_000_000).collect();
    let upload = async {
        edge.send.write_all(&body).await.unwrap();
        edge.send.shutdown().await.unwrap();
        let mut back = Vec::new();
        edge.receive.read_to_end(&mut back).await.unwrap();
        back
    };
    let echo = async {
        let mut got = Vec::new();
        agent.receive.read_to_end(&mut got).await.unwrap();
        agent.send.write_all(&got).await.unwrap();
        agent.send.shutdown().await.unwrap();
        // Let go before the other side has read it.
        drop(agent);
    };
    let (back, ()) = within(async { tokio::join!(upload, echo) }).await;
    assert!(back == body);
    drop(edge);
    pair.is_empty().await;
}

/// The multiplexer by itself sends a clean end when a stream is dropped whose other direction has ended.
#[tokio::test]
async fn a_drop_is_never_a_good_end() {
    for other_has_finished in [false, true] {
        let pair = Pair::new();
        let (mut edge, mut agent) = pair.stream().await;
        agent.send.write_all(b"half a body").await.unwrap();
        if other_has_finished {
            edge.send.shutdown().await.unwrap();
            let mut rest = Vec::new();
            within(agent.receive.read_to_end(&mut rest)).await.unwrap();
        }
        drop(agent);
        let mut got = Vec::new();
        let end = within(edge.receive.read_to_end(&mut got)).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let written = within(edge.send.write_all(&vec![1; 1 << 20])).await;
        assert!(written.is_err());
        drop(edge);
        pair.is_empty().await;
    }
}

#[tokio::test]
async fn halves_end_apart() {
    let pair = Pair::new();
    // The agent reads no more, and goes on writing.
    let (mut edge, agent) = pair.stream().await;
    let Stream { receive, mut send } = agent;
    let stopped = edge.send.stopped();
    drop(receive);
    within(stopped).await;
    assert!(within(edge.send.write_all(b"x")).await.is_err());
    send.write_all(b"answer").await.unwrap();
    send.shutdown().await.unwrap();
    let mut answer = String::new();
    within(edge.receive.read_to_string(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer, "answer");

    // The agent gives its direction up, and goes on reading.
    let (mut edge, agent) = pair.stream().await;
    let Stream { mut receive, send } = agent;
    drop(send);
    within(edge.receive.reset()).await;
    assert!(within(edge.receive.read_u8()).await.is_err());
    edge.send.write_all(b"more").await.unwrap();
    edge.send.shutdown().await.unwrap();
    let mut more = String::new();
    within(receive.read_to_string(&mut more)).await.unwrap();
    assert_eq!(more, "more");
}

#[tokio::test]
async fn a_reset_is_heard_without_reading_or_writing_though_buffers_are_full() {
    let pair = Pair::new();
    let (mut edge, mut agent) = pair.stream().await;
    let sent = fill(&mut edge.send).await;
    assert!((250 * 1024..4 << 20).contains(&sent), "{sent}");
    fill(&mut agent.send).await;
    let stopped = agent.send.stopped();
    edge.set_reset_code(2);
    drop(edge);
    within(agent.receive.reset()).await;
    within(stopped).await;
    let mut byte = [0];
    assert!(within(agent.receive.read(&mut byte)).await.is_err());
}

#[tokio::test]
async fn a_good_end_stays_one_after_everything_else() {
    let pair = Pair::new();
    let (mut edge, mut agent) = pair.stream().await;
    edge.send.write_all(b"all of it").await.unwrap();
    edge.send.shutdown().await.unwrap();
    agent.send.shutdown().await.unwrap();
    let stopped = agent.send.stopped();
    let mut end = [0];
    assert_eq!(within(edge.receive.read(&mut end)).await.unwrap(), 0);
    drop(edge);
    let mut got = String::new();
    within(agent.receive.read_to_string(&mut got))
        .await
        .unwrap();
    assert_eq!(got, "all of it");
    let waits = tokio::time::timeout(Duration::from_millis(50), stopped).await;
    assert!(waits.is_err(), "a good end is no stop");
}

#[tokio::test]
async fn stalled_readers_hold_up_nobody() {
    let pair = Pair::new();
    let mut stalled = Vec::new();
    for _ in 0..64 {
        let (edge, mut agent) = pair.stream().await;
        fill_once(&mut agent.send).await;
        stalled.push((edge, agent));
    }
    let (mut edge, mut agent) = pair.stream().await;
    for _ in 0..100 {
        within(edge.send.write_all(b"question")).await.unwrap();
        let mut question = [0; 8];
        within(agent.receive.read_exact(&mut question))
            .await
            .unwrap();
        within(agent.send.write_all(b"answer")).await.unwrap();
        let mut answer = [0; 6];
        within(edge.receive.read_exact(&mut answer)).await.unwrap();
    }
    let unread = pair.edge.unread();
    assert!(
        unread <= 64 * (256 << 10) && unread > 64 * (200 << 10),
        "{unread}"
    );
}

/// Writes until the window is full.
async fn fill_once(send: &mut Send) {
    let block = vec![7; 256 * 1024];
    let _ = tokio::time::timeout(Duration::from_millis(20), send.write_all(&block)).await;
}

/// Beyond its share of memory a connection gives up what is read least, and says that it is over.
#[tokio::test]
async fn what_is_not_read_is_bounded() {
    let budget = Budget::new(4 << 20, 64 << 20);
    let (here, there) = duplex(256 * 1024);
    let (agent, agent_driver) = start(here, Side::Agent, None);
    let (edge, edge_driver) = start(there, Side::Edge, Some(budget.open()));
    let drivers = [tokio::spawn(agent_driver), tokio::spawn(edge_driver)];
    let pair = Pair {
        agent,
        edge,
        drivers,
    };
    let mut stalled = Vec::new();
    let mut most = 0;
    for _ in 0..100 {
        let (edge, mut agent) = pair.stream().await;
        fill_once(&mut agent.send).await;
        most = most.max(pair.edge.unread());
        stalled.push((edge, agent));
    }
    within(async {
        while !pair.edge.is_over() {
            fill_once(&mut stalled[0].1.send).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(most <= (16 << 20) + (5 << 20), "{most}");
    assert!(budget.granted() <= 4 << 20);
    let mut given_up = 0;
    for (edge, agent) in &mut stalled {
        let stopped = tokio::time::timeout(Duration::from_millis(1), agent.send.stopped());
        if stopped.await.is_ok() {
            given_up += 1;
            let mut byte = [0];
            assert!(within(edge.receive.read(&mut byte)).await.is_err());
        }
    }
    assert!((1..50).contains(&given_up), "{given_up}");
    drop(stalled);
    pair.is_empty().await;
    within(async {
        while budget.granted() > 0 || pair.edge.is_over() || pair.edge.unread() > 0 {
            pair.edge.ask();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A place is free only when both sides have let go, so that a thousand streams cut at once and a
/// thousand opened in their place are never too many.
#[tokio::test]
async fn a_swarm_is_cut_and_comes_back() {
    let pair = Pair::new();
    let agent = pair.agent.clone();
    let echo = tokio::spawn(async move {
        while let Ok(mut stream) = agent.accept().await {
            tokio::spawn(async move {
                let mut byte = [0];
                while let Ok(1) = stream.receive.read(&mut byte).await {
                    if stream.send.write_all(&byte).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let most = pair.edge.common.places.available_permits();
    for _ in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..most {
            let mut stream = within(pair.edge.open()).await.unwrap();
            stream.send.write_all(b"x").await.unwrap();
            streams.push(stream);
        }
        let waits = tokio::time::timeout(Duration::from_millis(20), pair.edge.open()).await;
        assert!(waits.is_err(), "one more waits: {waits:?}");
        for stream in &mut streams {
            assert_eq!(within(stream.receive.read_u8()).await.unwrap(), b'x');
        }
        drop(streams);
    }
    pair.is_empty().await;
    pair.edge.close(0);
    within(echo).await.unwrap();
}

#[tokio::test]
async fn streams_nobody_heard_of_leave_nothing() {
    let pair = Pair::new();
    for _ in 0..3000 {
        drop(within(pair.edge.open()).await.unwrap());
    }
    let (edge, agent) = pair.stream().await;
    drop((edge, agent));
    pair.is_empty().await;
}

#[tokio::test]
async fn the_agent_opens_its_control_stream() {
    let pair = Pair::new();
    let mut control = within(pair.agent.open()).await.unwrap();
    control.send.write_all(b"hello").await.unwrap();
    let mut accepted = within(pair.edge.accept()).await.unwrap();
    let mut hello = [0; 5];
    within(accepted.receive.read_exact(&mut hello))
        .await
        .unwrap();
    within(accepted.send.write_all(b"welcome")).await.unwrap();
    let mut welcome = [0; 7];
    within(control.receive.read_exact(&mut welcome))
        .await
        .unwrap();
    assert_eq!(&welcome, b"welcome");
}

#[tokio::test]
async fn a_close_carries_its_code_and_ends_everything() {
    let pair = Pair::new();
    let (mut edge, agent) = pair.stream().await;
    let stopped = agent.send.stopped();
    pair.edge.close(3013);
    assert_eq!(within(pair.agent.closed()).await, Ended::Closed(3013));
    assert_eq!(within(pair.edge.closed()).await, Ended::Here);
    within(stopped).await;
    within(agent.receive.reset()).await;
    let mut byte = [0];
    assert!(edge.receive.read(&mut byte).await.is_err());
    assert!(edge.send.write(&byte).await.is_err());
    assert!(pair.edge.open().await.is_err());
    assert!(pair.agent.accept().await.is_err());
    for driver in pair.drivers {
        within(driver).await.unwrap();
    }
}

#[tokio::test]
async fn it_ends_with_its_last_handle() {
    let Pair { agent, edge, .. } = Pair::new();
    drop(agent);
    assert_eq!(within(edge.closed()).await, Ended::Closed(0));
}

#[tokio::test]
async fn a_broken_transport_ends_everything() {
    let (here, there) = duplex(1024);
    let (agent, driver) = start(here, Side::Agent, None);
    tokio::spawn(driver);
    drop(there);
    let ended = within(agent.closed()).await;
    assert!(
        matches!(ended, Ended::Closed(0) | Ended::Lost(_)),
        "{ended:?}"
    );
    assert!(agent.open().await.is_err());
}

#[tokio::test]
async fn a_quiet_connection_stays_and_a_silent_side_is_found() {
    let (here, there) = duplex(1024);
    let (agent, agent_driver) = start_timed(here, Side::Agent, None, QUICK);
    let (edge, edge_driver) = start_timed(there, Side::Edge, None, QUICK);
    let agent_driver = tokio::spawn(agent_driver);
    tokio::spawn(edge_driver);
    let quiet = tokio::time::timeout(5 * QUICK.idle_timeout, edge.closed()).await;
    assert!(quiet.is_err(), "each asks the other");
    assert!(edge.round_trip() > Duration::ZERO && edge.round_trip() < QUICK.idle_timeout);

    let began = tokio::time::Instant::now();
    agent_driver.abort();
    assert!(matches!(
        within(edge.closed()).await,
        Ended::Closed(0) | Ended::Lost(_)
    ));
    assert_eq!(within(agent.closed()).await, Ended::Here);
    let (here, _there) = duplex(1024);
    let (silent, driver) = start_timed(here, Side::Edge, None, QUICK);
    tokio::spawn(driver);
    assert_eq!(within(silent.closed()).await, Ended::Silent);
    assert!(began.elapsed() >= QUICK.idle_timeout);
}

#[tokio::test]
async fn whoever_is_asked_answers() {
    let pair = Pair::new();
    for _ in 0..2 {
        let before = pair.edge.received();
        pair.edge.ask();
        within(async {
            while pair.edge.received() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

const QUICK: Times = Times {
    ask_every: Duration::from_millis(50),
    idle_timeout: Duration::from_millis(200),
};
