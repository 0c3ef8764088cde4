//! The links of one tunnel. The first is there as long as the tunnel; more are asked for when requests
//! come in on other workers than its own, because a stream that crosses threads costs a wake-up on each
//! way. Streams go to the lane of their own worker, else where it is quiet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::code::Code;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::tunnel::link::Link;
use crate::tunnel::registry::Tunnel;

/// One link of a tunnel.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Its number on the tunnel; the first is 0, and none is used twice.
    pub(crate) number: u32,
    pub(crate) link: Link,
    /// The worker's that drives it.
    thread: ThreadId,
    /// Exchanges under way on it.
    open: AtomicU64,
    /// Exchanges that it has carried.
    carried: AtomicU64,
}

/// Every link of a tunnel. Read without a lock; never empty.
#[derive(Debug)]
pub(crate) struct Lanes {
    all: ArcSwap<Vec<Arc<Lane>>>,
    asking: Mutex<Asking>,
    wanted: Notify,
}

/// How often the agent was asked for more.
#[derive(Debug)]
struct Asking {
    next: u32,
    crossed: u32,
    tries: u32,
    since: Instant,
}

/// A lane's place on its tunnel; it leaves when dropped.
#[derive(Debug)]
pub(crate) struct OnTunnel {
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) lane: Arc<Lane>,
}

/// Counts an exchange on its lane until dropped.
#[derive(Debug)]
pub(crate) struct Carried(Arc<Lane>);

impl Lanes {
    /// Those of a tunnel that begins, on the thread that drives its link.
    pub(crate) fn new(first: Link) -> Self {
        Self {
            all: ArcSwap::from_pointee(vec![Arc::new(Lane::new(0, first))]),
            asking: Mutex::new(Asking {
                next: 1,
                crossed: 0,
                tries: 0,
                since: Instant::now(),
            }),
            wanted: Notify::new(),
        }
    }

    /// The lane of the worker that asks, else the quietest.
    pub(crate) fn pick(&self) -> Option<Arc<Lane>> {
        let all = self.all.load();
        if let [only] = all.as_slice() {
            return Some(Arc::clone(only));
        }
        let here = thread::current().id();
        all.iter()
            .find(|lane| lane.thread == here)
            .or_else(|| all.iter().min_by_key(|lane| lane.load()))
            .map(Arc::clone)
    }

    /// All of them, the first one first.
    pub(crate) fn all(&self) -> Vec<Arc<Lane>> {
        self.all.load().to_vec()
    }

    /// Notes that a stream was opened on a lane, and asks the agent for one more when that happens to be
    /// another worker's again and again.
    pub(crate) fn opened(&self, lane: &Lane) {
        if lane.thread == thread::current().id() || self.all.load().len() >= LANES_MAX {
            return;
        }
        let mut asking = self.asking();
        asking.crossed += 1;
        if asking.crossed >= CROSSINGS_MIN {
            asking.crossed = 0;
            self.ask(asking);
        }
    }

    /// Resolves when the agent is to be asked; gives how many links beside the first it should have.
    pub(crate) async fn wanted(&self) -> u32 {
        self.wanted.notified().await;
        u32::try_from(self.all.load().len()).unwrap_or(u32::MAX)
    }

    /// Takes one more link, unless this worker has one.
    fn join(&self, link: Link) -> Result<Arc<Lane>, Code> {
        let mut asking = self.asking();
        let all = self.all.load_full();
        let here = thread::current().id();
        if all.len() >= LANES_MAX || all.iter().any(|lane| lane.thread == here) {
            // It came to the wrong worker, which nobody chooses: another try may be luckier.
            self.ask(asking);
            return Err(Code::LaneUnneeded);
        }
        let lane = Arc::new(Lane::new(asking.next, link));
        asking.next = asking.next.wrapping_add(1);
        asking.tries = 0;
        let now = all.iter().cloned().chain([Arc::clone(&lane)]).collect();
        self.all.store(Arc::new(now));
        Ok(lane)
    }

    /// Takes a lane out that has ended, except the first: that one ends with its tunnel. False for it.
    pub(crate) fn remove(&self, number: u32) -> bool {
        if number == 0 {
            return false;
        }
        let _changing = self.asking();
        let all = self.all.load_full();
        let now = all.iter().filter(|lane| lane.number != number).cloned();
        self.all.store(Arc::new(now.collect()));
        true
    }

    fn ask(&self, mut asking: MutexGuard<'_, Asking>) {
        if asking.since.elapsed() >= TRIES_WITHIN {
            asking.since = Instant::now();
            asking.tries = 0;
        }
        if asking.tries < TRIES_MAX {
            asking.tries += 1;
            self.wanted.notify_one();
        }
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn new(number: u32, link: Link) -> Self {
        Self {
            number,
            link,
            thread: thread::current().id(),
            open: AtomicU64::new(0),
            carried: AtomicU64::new(0),
        }
    }

    /// Exchanges under way.
    pub(crate) fn load(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Exchanges that it has carried, those under way included.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl OnTunnel {
    /// Adds a link to a tunnel, on the thread that drives it.
    ///
    /// # Errors
    /// `lane_unneeded` when this worker has a lane of the tunnel already, or the tunnel has enough.
    pub(super) fn join(tunnel: Arc<Tunnel>, link: Link) -> Result<Self, Code> {
        let lane = tunnel.lanes.join(link)?;
        Ok(Self { tunnel, lane })
    }
}

impl Drop for OnTunnel {
    fn drop(&mut self) {
        self.tunnel.lanes.remove(self.lane.number);
    }
}

impl Carried {
    pub(crate) fn on(lane: &Arc<Lane>) -> Self {
        lane.open.fetch_add(1, Ordering::Relaxed);
        lane.carried.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(lane))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Links of one tunnel: beyond this many workers, what crosses costs less than one more link.
const LANES_MAX: usize = 8;
/// Streams opened across workers before it is worth a link: a single visitor's page opens fewer.
const CROSSINGS_MIN: u32 = 8;
/// A link comes to any worker: with two of them, half of the tries miss.
const TRIES_MAX: u32 = 16;
const TRIES_WITHIN: Duration = Duration::from_mins(1);
