//! Raw TCP from both ends: an app that speaks no HTTP and counts, and ports that are free.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::upstream::Ended;
use crate::wait;

/// What the app does with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Play {
    /// Sends every byte back, and ends its side when the client has ended its own.
    Echo,
    /// Reads to the end, then says how much that was.
    Collect,
    /// Speaks first, a line; answers each line with one; after `quit` it ends its side and reads on.
    Lines,
    /// Reads nothing.
    Hang,
    /// Sends zeros for ever.
    Pour,
    /// Reads a little, then resets.
    Reset,
}

/// A listening app; stops accepting when dropped.
#[derive(Debug)]
pub struct RawUpstream {
    pub addr: SocketAddr,
    log: Arc<Log>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    connections: AtomicU64,
    seen: Mutex<Vec<Arc<RawSeen>>>,
}

/// One connection that sent something, or is open.
#[derive(Debug, Default)]
pub struct RawSeen {
    bytes: Mutex<Vec<u8>>,
    count: AtomicU64,
    ended: Mutex<Option<Ended>>,
}

impl RawUpstream {
    pub async fn start(play: Play) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let log = Arc::new(Log::default());
        let shared = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(stream, play, Arc::clone(&shared)));
            }
        });
        Self { addr, log, task }
    }

    /// `host:port`, as the agent takes it.
    pub fn address(&self) -> String {
        self.addr.to_string()
    }

    /// How many connections so far, the agent's own looks included.
    pub fn connections(&self) -> u64 {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// Waits until the agent has had its look whether the app is there.
    pub async fn was_looked_at(&self) {
        wait::until("the agent's look at its app", || async {
            (self.connections() > 0).then_some(())
        })
        .await;
    }

    /// Connections that sent something.
    pub fn seen(&self) -> Vec<Arc<RawSeen>> {
        let seen = self.log.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.bytes() > 0)
            .cloned()
            .collect()
    }

    /// Waits for the end of the newest connection, whether or not it sent anything.
    pub fn last_ended(&self) -> impl Future<Output = Ended> + use<> {
        let newest = self.log.seen.lock().unwrap().last().cloned();
        let newest = newest.expect("a connection");
        async move { newest.wait_ended().await }
    }

    /// Waits for the newest connection that sent something.
    pub async fn newest(&self) -> Arc<RawSeen> {
        wait::until("a connection at the app", || async { self.seen().pop() }).await
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawSeen {
    /// How many bytes came.
    pub fn bytes(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// The first of them.
    pub fn start(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// Waits until the first bytes satisfy `wanted`.
    pub async fn wait_start(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        wait::until(what, || async {
            let start = self.start();
            wanted(&start).then_some(start)
        })
        .await
    }

    /// How it ended, as the app saw it.
    pub async fn wait_ended(&self) -> Ended {
        wait::until("the end of a connection at the app", || async {
            *self.ended.lock().unwrap()
        })
        .await
    }

    fn took(&self, bytes: &[u8]) {
        let mut start = self.bytes.lock().unwrap();
        let room = START_MAX.saturating_sub(start.len()).min(bytes.len());
        start.extend_from_slice(&bytes[..room]);
        self.count.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }
}

async fn connection(stream: TcpStream, play: Play, log: Arc<Log>) {
    let seen = Arc::new(RawSeen::default());
    log.seen.lock().unwrap().push(Arc::clone(&seen));
    let ended = match play_it(stream, play, &seen).await {
        Ok(()) => Ended::Complete,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ended::Fin,
        Err(_) => Ended::Reset,
    };
    *seen.ended.lock().unwrap() = Some(ended);
}

async fn play_it(mut stream: TcpStream, play: Play, seen: &RawSeen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    match play {
        Play::Echo => loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return stream.shutdown().await;
            }
            seen.took(&buffer[..read]);
            stream.write_all(&buffer[..read]).await?;
        },
        Play::Collect => loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                let total = format!("{} bytes\n", seen.bytes());
                stream.write_all(total.as_bytes()).await?;
                return stream.shutdown().await;
            }
            seen.took(&buffer[..read]);
        },
        Play::Lines => {
            stream.write_all(b"ready\n").await?;
            let (from, mut to) = stream.split();
            let mut lines = BufReader::new(from);
            let mut line = Vec::new();
            let mut is_open = true;
            while lines.read_until(b'\n', &mut line).await? > 0 {
                seen.took(&line);
                if line == b"quit\n" {
                    to.shutdown().await?;
                    is_open = false;
                } else if is_open {
                    to.write_all(&[b"got ", line.as_slice()].concat()).await?;
                }
                line.clear();
            }
            Ok(())
        }
        Play::Hang => {
            // What breaks it is seen without reading.
            let broken = stream.ready(tokio::io::Interest::ERROR).await;
            broken.and_then(|_| match stream.take_error()? {
                Some(error) => Err(error),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            })
        }
        Play::Pour => loop {
            stream.write_all(&buffer).await?;
        },
        Play::Reset => {
            let read = stream.read(&mut buffer).await?;
            seen.took(&buffer[..read]);
            if read > 0 {
                stream.set_zero_linger()?;
            }
            Ok(())
        }
    }
}

/// A range of so many ports that are free now. Others may take some of them meanwhile.
pub fn free_ports(count: u16) -> (u16, u16) {
    for _ in 0..1000 {
        let first = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let first_port = first.local_addr().expect("bound").port();
        let Some(last) = first_port.checked_add(count - 1) else {
            continue;
        };
        let rest: Vec<_> = (first_port + 1..=last)
            .map(|port| std::net::TcpListener::bind(("127.0.0.1", port)))
            .collect();
        if rest.iter().all(Result::is_ok) {
            return (first_port, last);
        }
    }
    panic!("no {count} free ports in a row");
}

/// Reads to the end, and says how that was: everything that came, and whether it was a reset.
pub async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> (Vec<u8>, Ended) {
    let mut all = Vec::new();
    let ended = match wait::within("the end", stream.read_to_end(&mut all)).await {
        Ok(_) => Ended::Fin,
        Err(_) => Ended::Reset,
    };
    (all, ended)
}

/// Reads exactly so many bytes.
pub async fn read_exact(stream: &mut (impl AsyncReadExt + Unpin), count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    wait::within("bytes", stream.read_exact(&mut bytes))
        .await
        .expect("bytes");
    bytes
}

const START_MAX: usize = 64 * 1024;
