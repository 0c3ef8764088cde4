//! What an edge counts, and how it is told to whoever scrapes.
//!
//! Counting is on the path of every request: relaxed atomics in a row of cells that each thread has
//! almost to itself, nothing looked up, no lock. What can be read when somebody asks ([`Now`]) is not
//! counted at all. Names and meanings stand in one table, from which the documentation is made.

mod table;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use proto::code::Code;

use table::Metric;
pub(crate) use table::reference;

/// The counters of an edge. Shared by all who count.
#[derive(Debug)]
pub(crate) struct Metrics {
    shards: [Shard; SHARDS],
    /// Rare, so that all threads share it.
    revoke_to_cut: Histogram<{ CUT_BOUNDS_US.len() }>,
    activity_dropped: AtomicU64,
}

/// What is read when somebody asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    /// Public connections that are open.
    pub(crate) connections: u64,
    /// Agents that have authenticated.
    pub(crate) tunnels: u64,
    /// Their links, by transport.
    pub(crate) links: Vec<(&'static str, u64)>,
    /// Exchanges under way on all tunnels.
    pub(crate) streams: u64,
    /// Endpoints that have a tunnel.
    pub(crate) endpoints_online: u64,
    /// Sessions in the live table.
    pub(crate) sessions: u64,
    /// Bytes that links hold for readers that have not come yet.
    pub(crate) link_bytes: u64,
    /// Memory of the process, where the system tells.
    pub(crate) resident_bytes: Option<u64>,
    /// Lines that the log had no room for.
    pub(crate) log_lines_dropped: u64,
}

/// Which way bytes went, seen from the edge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    /// From clients.
    In,
    /// To clients.
    Out,
}

/// The cells of one thread, or of a few: apart in memory, so that cores do not take them from each
/// other.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    /// By status class; the first is for what has none.
    classes: [AtomicU64; 6],
    /// By our own code, in the order of [`Code::ALL`].
    codes: [AtomicU64; Code::ALL.len()],
    seconds: Histogram<{ REQUEST_BOUNDS_US.len() }>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// Durations in cells; the last cell holds those above all bounds.
#[derive(Debug)]
struct Histogram<const N: usize> {
    cells: [AtomicU64; N],
    above: AtomicU64,
    sum_us: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::new()),
            revoke_to_cut: Histogram::new(),
            activity_dropped: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Counts a request whose answer begins: under our code, where it is our answer to a failure, else
    /// under the class of its status.
    pub(crate) fn request(&self, status: u16, code: Option<Code>, elapsed: Duration) {
        let shard = self.shard();
        let by_code = code
            .and_then(|code| Code::ALL.iter().position(|one| *one == code))
            .and_then(|at| shard.codes.get(at));
        let by_class = || shard.classes.get(usize::from(status / 100));
        if let Some(cell) = by_code.or_else(by_class).or_else(|| shard.classes.first()) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        shard.seconds.observe(&REQUEST_BOUNDS_US, elapsed);
    }

    /// Counts bytes of public connections, inside TLS.
    pub(crate) fn bytes(&self, direction: Direction, bytes: usize) {
        let shard = self.shard();
        let cell = match direction {
            Direction::In => &shard.bytes_in,
            Direction::Out => &shard.bytes_out,
        };
        cell.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts an exchange that a revocation ended, and how long that took from when this edge applied
    /// the revocation.
    pub(crate) fn cut(&self, elapsed: Duration) {
        self.revoke_to_cut.observe(&CUT_BOUNDS_US, elapsed);
    }

    /// Counts sessions whose newest activity will never be in the store.
    pub(crate) fn activity_dropped(&self, sessions: usize) {
        self.activity_dropped
            .fetch_add(sessions as u64, Ordering::Relaxed);
    }

    /// Everything, in the text form of OpenMetrics.
    pub(crate) fn text(self: &Arc<Self>, now: Now) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Scrape {
            metrics: Arc::clone(self),
            now,
        }));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    fn shard(&self) -> &Shard {
        let [first, ..] = &self.shards;
        self.shards.get(own_shard()).unwrap_or(first)
    }

    fn sum(&self, cell: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards
            .iter()
            .map(|shard| cell(shard).load(Ordering::Relaxed))
            .sum()
    }
}

/// The number of the calling thread's cells.
fn own_shard() -> usize {
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    OWN.with(|own| {
        own.get().unwrap_or_else(|| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
            own.set(Some(number));
            number
        })
    })
}

impl Shard {
    fn new() -> Self {
        Self {
            classes: std::array::from_fn(|_| AtomicU64::new(0)),
            codes: std::array::from_fn(|_| AtomicU64::new(0)),
            seconds: Histogram::new(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn new() -> Self {
        Self {
            cells: std::array::from_fn(|_| AtomicU64::new(0)),
            above: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }

    fn observe(&self, bounds_us: &[u32; N], elapsed: Duration) {
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let at = bounds_us.partition_point(|bound| u64::from(*bound) < elapsed_us);
        self.cells
            .get(at)
            .unwrap_or(&self.above)
            .fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(elapsed_us, Ordering::Relaxed);
    }
}

/// Counters and gauges of one moment, on their way out.
#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    now: Now,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (metrics, now) = (&*self.metrics, &self.now);
        let out = &mut encoder;
        self.requests(out)?;
        let every = || metrics.shards.iter().map(|shard| &shard.seconds);
        histogram(out, &table::REQUEST_SECONDS, &REQUEST_BOUNDS_US, every())?;
        let cut = std::iter::once(&metrics.revoke_to_cut);
        histogram(out, &table::REVOKE_TO_CUT, &CUT_BOUNDS_US, cut)?;
        let bytes = [
            ("in", metrics.sum(|shard| &shard.bytes_in)),
            ("out", metrics.sum(|shard| &shard.bytes_out)),
        ];
        counters(out, &table::BYTES, "direction", &bytes)?;
        gauge(out, &table::CONNECTIONS, now.connections)?;
        gauge(out, &table::TUNNELS, now.tunnels)?;
        gauges(out, &table::LINKS, "transport", &now.links)?;
        gauge(out, &table::STREAMS, now.streams)?;
        gauge(out, &table::ENDPOINTS, now.endpoints_online)?;
        gauge(out, &table::SESSIONS, now.sessions)?;
        gauge(out, &table::LINK_BYTES, now.link_bytes)?;
        if let Some(bytes) = now.resident_bytes {
            gauge(out, &table::RESIDENT, bytes)?;
        }
        let dropped = metrics.activity_dropped.load(Ordering::Relaxed);
        counter(out, &table::ACTIVITY_DROPPED, dropped)?;
        counter(out, &table::LOG_DROPPED, now.log_lines_dropped)
    }
}

impl Scrape {
    /// One line per code and class that has occurred.
    fn requests(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut rows = Vec::new();
        for (at, name) in CLASSES.into_iter().enumerate() {
            let count = self.cells(|shard| shard.classes.get(at));
            rows.push((name.to_owned(), count));
        }
        for (at, code) in Code::ALL.iter().enumerate() {
            let count = self.cells(|shard| shard.codes.get(at));
            rows.push((code.to_string(), count));
        }
        rows.retain(|(_, count)| *count > 0);
        counters(out, &table::REQUESTS, "code", &rows)
    }

    fn cells(&self, cell: impl Fn(&Shard) -> Option<&AtomicU64>) -> u64 {
        let shards = self.metrics.shards.iter();
        shards
            .filter_map(cell)
            .map(|cell| cell.load(Ordering::Relaxed))
            .sum()
    }
}

fn histogram<'a, const N: usize>(
    out: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    bounds_us: &[u32; N],
    parts: impl Iterator<Item = &'a Histogram<N>>,
) -> fmt::Result {
    let mut buckets: Vec<(f64, u64)> = bounds_us
        .iter()
        .map(|bound| (f64::from(*bound) / 1e6, 0))
        .chain([(f64::INFINITY, 0)])
        .collect();
    let mut sum = Duration::ZERO;
    for part in parts {
        let cells = part.cells.iter().chain([&part.above]);
        for (bucket, cell) in buckets.iter_mut().zip(cells) {
            bucket.1 += cell.load(Ordering::Relaxed);
        }
        sum = sum.saturating_add(Duration::from_micros(part.sum_us.load(Ordering::Relaxed)));
    }
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.begin(out)?.encode_histogram::<[(&str, &str); 0]>(
        sum.as_secs_f64(),
        count,
        &buckets,
        None,
    )
}

fn counter(out: &mut DescriptorEncoder<'_>, metric: &Metric, value: u64) -> fmt::Result {
    metric.begin(out)?.encode_counter(&value, NO_EXEMPLAR)
}

fn counters(
    out: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    label: &str,
    rows: &[(impl AsRef<str>, u64)],
) -> fmt::Result {
    let mut family = metric.begin(out)?;
    for (name, value) in rows {
        let labels = [(label, name.as_ref())];
        family
            .encode_family(&labels)?
            .encode_counter(value, NO_EXEMPLAR)?;
    }
    Ok(())
}

fn gauge(out: &mut DescriptorEncoder<'_>, metric: &Metric, value: u64) -> fmt::Result {
    metric.begin(out)?.encode_gauge(&value)
}

fn gauges(
    out: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    label: &str,
    rows: &[(&str, u64)],
) -> fmt::Result {
    let mut family = metric.begin(out)?;
    for (name, value) in rows {
        let labels = [(label, *name)];
        family.encode_family(&labels)?.encode_gauge(value)?;
    }
    Ok(())
}

/// In front of every name.
const PREFIX: &str = "sallyport";
/// Threads beyond so many share cells.
const SHARDS: usize = 16;
const NO_EXEMPLAR: Option<&Exemplar<[(&str, &str); 0], u64>> = None;
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// From what a fast app behind a fast link takes to what nobody waits for.
const REQUEST_BOUNDS_US: [u32; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
/// A cut takes less than 50 ms unless something is wrong; after 5 s an edge stops waiting for it.
const CUT_BOUNDS_US: [u32; 12] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
];

#[cfg(test)]
mod tests;
