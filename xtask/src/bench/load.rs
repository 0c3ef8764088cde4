//! The load: our own clients, the same for every subject, on threads of their own. All connect first; then they
//! work for a while that is not counted, then for the time that is.
//!
//! A load is bounded: in connections, in time, and by a deadline after which what hangs is dropped and counted as
//! an error. Reading order: `wire` (a connection), `http1` (a conversation), then one file for each kind of client.

pub(super) mod bulk;
pub(super) mod handshakes;
pub(super) mod held;
pub(super) mod http1;
pub(super) mod http2;
pub(super) mod mixed;
pub(super) mod requests;
pub(super) mod websocket;
mod wire;

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{sleep_until, timeout};

use crate::bench::histogram::Histogram;
use crate::bench::process;

/// Where a load knocks, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) addr: SocketAddr,
    /// The name in the TLS hello.
    pub(super) name: String,
    /// The `Host` header.
    pub(super) authority: String,
    /// The `Cookie` header.
    pub(super) cookie: Option<String>,
    /// Nothing: plain TCP.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// How much, how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) tally: Tally,
    pub(super) elapsed: Duration,
    /// Of the processes that were watched.
    pub(super) cpu: Duration,
    /// Of the load itself.
    pub(super) own_cpu: Duration,
}

impl Measured {
    pub(super) fn per_second(&self) -> f64 {
        self.tally.done as f64 / self.elapsed.as_secs_f64()
    }

    pub(super) fn megabytes_per_second(&self) -> f64 {
        self.tally.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }

    /// Microseconds on processors for each thing done.
    pub(super) fn cpu_us(&self) -> Option<f64> {
        self.by_thing_done(self.cpu)
    }

    /// The same of the load itself.
    pub(super) fn own_cpu_us(&self) -> Option<f64> {
        self.by_thing_done(self.own_cpu)
    }

    fn by_thing_done(&self, time: Duration) -> Option<f64> {
        (self.tally.done > 0).then(|| time.as_secs_f64() * 1e6 / self.tally.done as f64)
    }
}

/// What clients did.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) bytes: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) latency: Histogram,
    /// When what was held open came to its end.
    pub(super) ended: Vec<Instant>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.latency.add(&other.latency);
        self.ended.extend(&other.ended);
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }

    /// Refuses runs in which more than a few went wrong.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let all = self.done + self.errors;
        let first = self.first_error.as_deref().unwrap_or("no reason given");
        ensure!(
            self.errors * 1000 <= all,
            "{} of {all} failed, such as: {first}",
            self.errors
        );
        Ok(())
    }
}

/// When things count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) begin: Instant,
    pub(super) end: Instant,
}

/// What each client gets: its place in the queue, the starting signal, the sheet to write on.
#[derive(Clone)]
pub(super) struct Gate {
    connecting: Arc<Semaphore>,
    connected: mpsc::UnboundedSender<Result<(), String>>,
    go: watch::Receiver<Option<Window>>,
    tally: Rc<RefCell<Tally>>,
}

impl Gate {
    /// Runs what connects, not all at once, and then waits for the signal.
    pub(super) async fn connect<T>(
        &mut self,
        open: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(T, Window)> {
        let place = self.connecting.acquire().await?;
        let opened = open.await?;
        drop(place);
        let _ = self.connected.send(Ok(()));
        let window = *self.go.wait_for(Option::is_some).await?;
        Ok((opened, window.context("the load was called off")?))
    }

    /// Counts what began then and has just ended.
    pub(super) fn count(&self, window: Window, began: Instant, bytes: u64) {
        let now = Instant::now();
        if began >= window.begin && now <= window.end {
            let mut tally = self.tally.borrow_mut();
            tally.done += 1;
            tally.bytes += bytes;
            tally.latency.record(now - began);
        }
    }

    /// Counts bytes that have just come, of something that goes on.
    pub(super) fn count_bytes(&self, window: Window, bytes: usize) {
        let now = Instant::now();
        if now >= window.begin && now <= window.end {
            self.tally.borrow_mut().bytes += bytes as u64;
        }
    }

    /// Writes down the end of something that was held open.
    pub(super) fn ended(&self, at: Instant) {
        self.tally.borrow_mut().ended.push(at);
    }

    pub(super) fn fail(&self, error: &anyhow::Error) {
        self.tally.borrow_mut().fail(error);
    }
}

/// One client: connects through the gate, works until the window ends.
pub(super) type Client =
    Arc<dyn Fn(Gate) -> Pin<Box<dyn Future<Output = anyhow::Result<()>>>> + Send + Sync>;

/// Runs a load, and looks at what these processes use meanwhile.
pub(super) async fn drive(plan: Plan, pids: &[u32], client: Client) -> anyhow::Result<Measured> {
    let load = Load::connect(plan.clients, client).await?;
    let begin = Instant::now() + plan.warm_up;
    let window = Window {
        begin,
        end: begin + plan.duration,
    };
    load.begin(window);
    let used = || anyhow::Ok((process::cpu(pids)?, process::cpu_alone(std::process::id())?));
    sleep_until(window.begin.into()).await;
    let before = used()?;
    sleep_until(window.end.into()).await;
    let after = used()?;
    Ok(Measured {
        tally: load.finish().await?,
        elapsed: plan.duration,
        cpu: after.0.saturating_sub(before.0),
        own_cpu: after.1.saturating_sub(before.1),
    })
}

/// A load that has connected. Dropped, it ends without having worked.
#[derive(Debug)]
pub(super) struct Load {
    go: watch::Sender<Option<Window>>,
    /// What each thread brings back.
    sheets: Vec<oneshot::Receiver<anyhow::Result<Tally>>>,
}

impl Load {
    /// Starts so many clients and waits until all have connected.
    pub(super) async fn connect(clients: usize, client: Client) -> anyhow::Result<Self> {
        let threads = clients.clamp(1, THREADS_MAX);
        let (connected, mut connections) = mpsc::unbounded_channel();
        let (go, going) = watch::channel(None);
        let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
        let mut sheets = Vec::new();
        for number in 0..threads {
            // The first ones take what does not divide.
            let share = clients / threads + usize::from(number < clients % threads);
            let (client, connecting) = (Arc::clone(&client), Arc::clone(&connecting));
            let (connected, going) = (connected.clone(), going.clone());
            let (sheet, filled) = oneshot::channel();
            thread::Builder::new()
                .name(format!("load-{number}"))
                .spawn(move || {
                    let gate = |tally| Gate {
                        connecting: Arc::clone(&connecting),
                        connected: connected.clone(),
                        go: going.clone(),
                        tally,
                    };
                    // Whoever waited for it may be gone.
                    let _ = sheet.send(work(share, &client, gate, going.clone()));
                })?;
            sheets.push(filled);
        }
        drop((connected, going));
        let load = Self { go, sheets };
        let mut count = 0;
        let all = async {
            while count < clients {
                match connections.recv().await {
                    Some(Ok(())) => count += 1,
                    Some(Err(why)) => bail!("a client failed: {why}"),
                    None => bail!("the load has ended"),
                }
            }
            Ok(())
        };
        timeout(CONNECT_WITHIN, all)
            .await
            .unwrap_or_else(|_| bail!("not within {} s", CONNECT_WITHIN.as_secs()))
            .with_context(|| format!("{count} of {clients} clients connected"))?;
        Ok(load)
    }

    /// Gives the signal.
    pub(super) fn begin(&self, window: Window) {
        self.go.send_replace(Some(window));
    }

    /// Waits for the end of all clients.
    pub(super) async fn finish(self) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        for sheet in self.sheets {
            tally.add(&sheet.await.context("a thread of the load failed")??);
        }
        Ok(tally)
    }
}

/// One thread of the load.
fn work(
    clients: usize,
    client: &Client,
    gate: impl Fn(Rc<RefCell<Tally>>) -> Gate,
    mut going: watch::Receiver<Option<Window>>,
) -> anyhow::Result<Tally> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let set = LocalSet::new();
    for _ in 0..clients {
        let gate = gate(Rc::clone(&tally));
        let (sheet, failed) = (Rc::clone(&tally), gate.connected.clone());
        let work = client(gate);
        set.spawn_local(async move {
            if let Err(error) = work.await {
                sheet.borrow_mut().fail(&error);
                let _ = failed.send(Err(format!("{error:#}")));
            }
        });
    }
    runtime.block_on(async {
        let deadline = async {
            // Called off when there is no window.
            let window = going.wait_for(Option::is_some).await;
            let end = window
                .ok()
                .and_then(|window| window.map(|window| window.end));
            if let Some(end) = end {
                sleep_until((end + HANG_MAX).into()).await;
            }
        };
        tokio::select! {
            () = set => {}
            () = deadline => {}
        }
    });
    drop(runtime);
    let tally = tally.borrow().clone();
    Ok(tally)
}

/// Two threads are enough to load what runs on the same machine.
const THREADS_MAX: usize = 2;
/// Handshakes at a time, so that a full queue of connections is not what is measured.
const CONNECTING_MAX: usize = 64;
const CONNECT_WITHIN: Duration = Duration::from_mins(1);
/// What has not ended so long after the window is dropped.
const HANG_MAX: Duration = Duration::from_secs(3);
