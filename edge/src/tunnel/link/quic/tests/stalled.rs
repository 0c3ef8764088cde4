//! Readers that do not read take nothing from the others, and no more memory than there is.

use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::task::JoinSet;

use super::*;
use proto::window::SLOW_AFTER;

/// A link's two ends. The agent's sends without end on streams that ask for it, else so many bytes.
struct Pair {
    link: Link,
    agent: Agent,
    port: Port,
    budget: Budget,
}

const ENDLESS: u32 = u32::MAX;

impl Pair {
    async fn new(streams_per_link: u64) -> Self {
        let certificate = Certificate::new();
        let budget = Budget::new(streams_per_link * STREAM_WINDOW, 1 << 40);
        let mut port = Port::open(&certificate, ANY, 1, &budget);
        let agent = Agent::dial(&port, &certificate).await;
        let connection = agent.connection.clone();
        tokio::spawn(async move {
            while let Ok((to, from)) = connection.accept_bi().await {
                tokio::spawn(serve(to, from));
            }
        });
        let link = port.links.recv().await.unwrap();
        Self {
            link,
            agent,
            port,
            budget,
        }
    }

    /// A stream on which so many bytes come.
    async fn ask(&self, bytes: u32) -> LinkStream {
        let mut stream = self.link.open().await.unwrap();
        stream.write_all(&bytes.to_be_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    }

    /// Streams on which something came, and that nobody reads any further.
    async fn stall(&self, count: usize) -> Vec<LinkStream> {
        let mut stalled = Vec::new();
        for _ in 0..count {
            let mut stream = self.ask(ENDLESS).await;
            stream.read_exact(&mut [0; 1000]).await.unwrap();
            stalled.push(stream);
        }
        stalled
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let reached = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = tokio::time::timeout(DEADLINE, reached).await;
        assert!(reached.is_ok(), "{what}: {} held", self.link.held());
    }
}

async fn serve(mut to: SendStream, mut from: RecvStream) {
    let mut asked = [0; 4];
    from.read_exact(&mut asked).await.unwrap();
    let asked = u32::from_be_bytes(asked);
    let mut left = usize::try_from(asked).unwrap();
    let chunk = [7; 16 * 1024];
    while asked == ENDLESS || left > 0 {
        let bytes = if asked == ENDLESS {
            chunk.len()
        } else {
            left.min(chunk.len())
        };
        if to.write_all(&chunk[..bytes]).await.is_err() {
            return;
        }
        left -= bytes;
    }
    to.finish().unwrap();
    let _ = to.stopped().await;
}

/// Forty stalled readers beside a hundred that read, 25 MB together: more than their share of the window,
/// and that share is less than an eighth of it.
#[tokio::test]
async fn stalled_readers_take_nothing_from_the_others() {
    let pair = Pair::new(40).await;
    let stalled = pair.stall(40).await;
    pair.until("the window has grown", |pair| {
        pair.link.held() == 40 * STREAM_WINDOW
    })
    .await;
    pair.until("they hold all that they may", |pair| {
        pair.agent.connection.stats().udp_tx.bytes > 40 * STREAM_WINDOW
    })
    .await;
    let mut reading = JoinSet::new();
    for _ in 0..100 {
        let mut stream = pair.ask(1 << 18).await;
        reading.spawn(async move {
            let mut body = Vec::new();
            stream.read_to_end(&mut body).await.unwrap();
            assert_eq!(body.len(), 1 << 18);
        });
    }
    let all = tokio::time::timeout(DEADLINE, reading.join_all()).await;
    assert!(all.is_ok(), "readers wait for those that do not read");
    assert!(!pair.link.is_over());
    // Whoever reads on finds everything.
    let mut stalled = stalled;
    for stream in &mut stalled {
        stream.read_exact(&mut vec![0; 100_000]).await.unwrap();
    }
    drop(stalled);
    pair.until("memory is given back", |pair| pair.link.held() == 0)
        .await;
    assert_eq!(pair.budget.granted(), 0);
    pair.port.kill();
}

/// Beyond the budget those are given up that have not read for longest; the others go on.
#[tokio::test]
async fn the_longest_stalled_are_given_up() {
    let pair = Pair::new(4).await;
    let mut first = pair.stall(3).await;
    pair.until("they count", |pair| pair.link.held() == 3 * STREAM_WINDOW)
        .await;
    let mut later = pair.stall(3).await;
    pair.until("too many stall", |pair| pair.link.is_over())
        .await;
    pair.until("what is left fits", |pair| {
        pair.link.held() == 4 * STREAM_WINDOW && !pair.link.is_over()
    })
    .await;
    for stream in &mut first[..2] {
        let read = stream.read_exact(&mut [0]).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
    for stream in first[2..].iter_mut().chain(&mut later) {
        stream.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
    }
    pair.port.kill();
}

/// Readers that are slow, but read, are not given up: while they hold all memory, newcomers are turned
/// away, and let in again once it is free.
#[tokio::test]
async fn newcomers_wait_for_slow_readers() {
    let pair = Pair::new(2).await;
    let slow = pair.stall(3).await;
    let readers: Vec<_> = slow
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                loop {
                    stream.read_exact(&mut [0; 1000]).await.unwrap();
                    tokio::time::sleep(SLOW_AFTER / 10).await;
                }
            })
        })
        .collect();
    pair.until("newcomers are turned away", |pair| pair.link.is_over())
        .await;
    for reader in readers {
        assert!(!reader.is_finished(), "a slow reader goes on");
        reader.abort();
    }
    pair.until("newcomers are let in", |pair| !pair.link.is_over())
        .await;
    pair.port.kill();
}
