//! The app behind the tunnel, which counts: every request's head, every body byte, and how each
//! exchange ended. Written by hand over a socket, so that nothing is tidied up before it is judged.

mod answer;
mod read;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};

use crate::clock;
use crate::wait;

/// A listening app; stops accepting when dropped.
#[derive(Debug)]
pub struct Upstream {
    pub addr: SocketAddr,
    log: Arc<Log>,
    task: tokio::task::JoinHandle<()>,
}

/// Everything that arrived.
#[derive(Debug, Default)]
pub struct Log {
    seen: Mutex<Vec<Arc<Seen>>>,
    connections: AtomicU64,
}

/// One request that arrived.
#[derive(Debug)]
pub struct Seen {
    /// When its head was whole, by [`clock::now_ns`].
    pub at_ns: u64,
    pub method: String,
    pub target: String,
    /// As they came: name in its own spelling, value as bytes.
    pub headers: Vec<(String, String)>,
    /// The head, byte for byte.
    pub head: Vec<u8>,
    pub body_bytes: AtomicU64,
    /// Whether the body ended as its framing promised.
    pub body_complete: AtomicBool,
    pub sent_bytes: AtomicU64,
    /// When the last body byte came, or went.
    pub last_byte_ns: AtomicU64,
    /// The first bytes of the body.
    pub body_start: Mutex<Vec<u8>>,
    ended: Mutex<Option<(Ended, u64)>>,
}

/// How an exchange ended at the upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Request read whole, response written whole.
    Complete,
    /// The other side closed before that.
    Fin,
    /// The other side reset before that.
    Reset,
}

impl Upstream {
    /// Listens on a port that the system picks.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener)
    }

    fn serve(listener: TcpListener) -> Self {
        let addr = listener.local_addr().expect("bound");
        let log = Arc::new(Log::default());
        let shared = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
        });
        Self { addr, log, task }
    }

    /// `host:port`, as the agent takes it.
    pub fn address(&self) -> String {
        self.addr.to_string()
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Arc<Seen>> {
        self.log.seen.lock().unwrap().clone()
    }

    /// How many requests so far.
    pub fn count(&self) -> usize {
        self.log.seen.lock().unwrap().len()
    }

    /// How many connections so far.
    pub fn connections(&self) -> u64 {
        self.log.connections.load(Ordering::Relaxed)
    }

    /// The requests whose header `x-mark` is `mark`.
    pub fn marked(&self, mark: &str) -> Vec<Arc<Seen>> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.header("x-mark") == Some(mark))
            .collect()
    }

    /// Waits for the request marked so.
    pub async fn wait_marked(&self, mark: &str) -> Arc<Seen> {
        wait::until(&format!("request {mark} at the upstream"), || async {
            self.marked(mark).into_iter().next()
        })
        .await
    }

    /// Forgets the requests whose mark begins so.
    pub fn forget(&self, prefix: &str) {
        let is_one = |seen: &Arc<Seen>| {
            seen.header("x-mark")
                .is_some_and(|mark| mark.starts_with(prefix))
        };
        self.log.seen.lock().unwrap().retain(|seen| !is_one(seen));
    }

    /// Forgets what arrived so far.
    pub fn clear(&self) {
        self.log.seen.lock().unwrap().clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    /// The first value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::http::find(&self.headers, name)
    }

    /// All values of headers whose name folds to `name`: lower case, `_` read as `-`.
    pub fn folded(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key.to_ascii_lowercase().replace('_', "-") == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// How it ended, and when; `None` while it goes on.
    pub fn ended(&self) -> Option<(Ended, u64)> {
        *self.ended.lock().unwrap()
    }

    /// Waits for its end.
    pub async fn wait_ended(self: &Arc<Self>) -> Ended {
        let what = format!("end of {} {} at the upstream", self.method, self.target);
        wait::until(&what, || async { self.ended().map(|(ended, _)| ended) }).await
    }

    pub fn bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::SeqCst)
    }

    pub fn sent(&self) -> u64 {
        self.sent_bytes.load(Ordering::SeqCst)
    }

    pub fn is_complete(&self) -> bool {
        self.body_complete.load(Ordering::SeqCst)
    }

    fn end(&self, ended: Ended) {
        let mut slot = self.ended.lock().unwrap();
        if slot.is_none() {
            *slot = Some((ended, clock::now_ns()));
        }
    }

    fn received(&self, bytes: &[u8]) {
        self.body_bytes
            .fetch_add(bytes.len() as u64, Ordering::SeqCst);
        self.last_byte_ns.store(clock::now_ns(), Ordering::SeqCst);
        let mut start = self.body_start.lock().unwrap();
        let room = BODY_START_MAX.saturating_sub(start.len()).min(bytes.len());
        start.extend_from_slice(&bytes[..room]);
    }

    /// The value of a query parameter.
    fn parameter(&self, name: &str) -> Option<u64> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }
}

/// The time that a stamped piece of `/slow`, `/big` or `/ws?size=` begins with.
pub fn stamped_ns(bytes: &[u8]) -> Option<u64> {
    answer::stamped_ns(bytes)
}

/// The length of a stamp: pieces shorter than this carry none.
pub const STAMP: usize = 11;

/// Serves one connection, request after request.
async fn connection(stream: TcpStream, log: Arc<Log>) {
    let _ = stream.set_nodelay(true);
    let mut io = read::Reader::new(stream);
    while let Ok(Some(head)) = io.head().await {
        let seen = Arc::new(Seen {
            at_ns: clock::now_ns(),
            method: head.method,
            target: head.target,
            headers: head.headers,
            head: head.bytes,
            body_bytes: AtomicU64::new(0),
            body_complete: AtomicBool::new(false),
            sent_bytes: AtomicU64::new(0),
            last_byte_ns: AtomicU64::new(0),
            body_start: Mutex::default(),
            ended: Mutex::new(None),
        });
        log.seen.lock().unwrap().push(Arc::clone(&seen));
        match answer::answer(&mut io, &seen).await {
            Ok(true) => seen.end(Ended::Complete),
            Ok(false) => {
                seen.end(Ended::Complete);
                return;
            }
            Err(ended) => {
                seen.end(ended);
                return;
            }
        }
    }
}

const BODY_START_MAX: usize = 64 * 1024;
