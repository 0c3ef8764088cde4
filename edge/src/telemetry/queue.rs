//! Lines on their way to a slow writer. Whoever logs copies a line into a buffer and goes on; a thread
//! of its own gathers for a few milliseconds and writes many lines at once. When the writer does not
//! keep up, lines are dropped and counted: a full disk or a stopped pager holds up no request.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where lines end up.
#[derive(Debug)]
pub(super) enum Sink {
    Stderr,
    File { path: PathBuf, file: File },
}

/// The owner's end. Dropped, it waits, within a bound, until everything is written.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
}

/// The end of those who log.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do for the writing thread.
    wake: Condvar,
    /// The writing thread has ended.
    over: Condvar,
    dropped: AtomicU64,
    reopen: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines, in order.
    waiting: Vec<u8>,
    has_ended: bool,
    is_over: bool,
}

impl Queue {
    /// Starts the writing thread.
    pub(super) fn start(name: &str, sink: Sink) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || theirs.write_all(sink))?;
        Ok(Self { shared })
    }

    pub(super) fn lines(&self) -> Lines {
        Lines {
            shared: Arc::clone(&self.shared),
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Opens a file anew, under its name, before the next line is written.
    pub(super) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.has_ended = true;
        self.shared.wake.notify_one();
        // Whoever reads may have stopped: the process ends all the same.
        let waited = self
            .shared
            .over
            .wait_timeout_while(state, FLUSH_WITHIN, |state| !state.is_over);
        drop(waited);
    }
}

impl Write for &Lines {
    /// Takes a whole line or drops it; never waits for the writer.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        let before = state.waiting.len();
        if before + line.len() > WAITING_MAX {
            drop(state);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        state.waiting.extend_from_slice(line);
        let after = state.waiting.len();
        drop(state);
        // Once per batch, and once more when it is getting large.
        if before == 0 || (before < ENOUGH && after >= ENOUGH) {
            self.shared.wake.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut sink: Sink) {
        let mut batch = Vec::new();
        loop {
            let has_ended = self.next(&mut batch);
            if self.reopen.swap(false, Ordering::Relaxed) {
                sink.reopen();
            }
            // There is nowhere to say that the log cannot be written.
            let _ = sink.write_all(&batch);
            batch.clear();
            batch.shrink_to(ENOUGH);
            if has_ended {
                break;
            }
        }
        self.lock().is_over = true;
        self.over.notify_all();
    }

    /// Waits for lines, gathers some more, and takes them. True when there will be no others.
    fn next(&self, batch: &mut Vec<u8>) -> bool {
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.has_ended;
        let few = |state: &mut State| state.waiting.len() < ENOUGH && !state.has_ended;
        let state = self.lock();
        let state = self.wake.wait_while(state, nothing);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.wake.wait_timeout_while(state, GATHER, few);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, batch);
        state.has_ended
    }
}

impl Sink {
    /// Appends to a file, which is made when it is not there; only its owner and group may read it.
    pub(super) fn file(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self::File { path, file })
    }

    fn reopen(&mut self) {
        if let Self::File { path, file } = self {
            match open(path) {
                Ok(fresh) => *file = fresh,
                Err(error) => tracing::error!(%error, "access log not opened anew"),
            }
        }
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(lines),
            Self::File { file, .. } => file.write_all(lines),
        }
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// Some ten thousand lines: a second of a busy edge.
const WAITING_MAX: usize = 4 << 20;
/// A batch that need not grow any further.
const ENOUGH: usize = 128 << 10;
/// How long a line waits for company: nobody reads faster, and an edge under load writes a hundred
/// times a second instead of once per request.
const GATHER: Duration = Duration::from_millis(10);
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &std::path::Path) -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Everything is written, whole and in each thread's order, by the time the queue is dropped.
    #[test]
    fn nothing_is_lost_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let queue = Queue::start("test", Sink::file(file.clone()).unwrap()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let lines = queue.lines();
                scope.spawn(move || {
                    for number in 0..1000 {
                        let line = format!("{thread} {number}\n");
                        (&lines).write_all(line.as_bytes()).unwrap();
                    }
                });
            }
        });
        assert_eq!(queue.dropped(), 0);
        drop(queue);
        let written = lines(&file);
        assert_eq!(written.len(), 4000);
        for thread in 0..4 {
            let prefix = format!("{thread} ");
            let numbers: Vec<u32> = written
                .iter()
                .filter_map(|line| line.strip_prefix(&prefix))
                .map(|number| number.parse().unwrap())
                .collect();
            assert!(numbers.is_sorted() && numbers.len() == 1000);
        }
    }

    /// A writer that stands still holds nobody up: what has no room is dropped and counted, and the end
    /// is bounded.
    #[test]
    fn a_stuck_writer_costs_lines_only() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        // Open for both, so that opening does not wait for a reader; nobody ever reads.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&fifo)
            .unwrap();
        let queue = Queue::start("test", Sink::File { path: fifo, file }).unwrap();
        let line = vec![b'x'; 1 << 16];
        for _ in 0..1024 {
            (&queue.lines()).write_all(&line).unwrap();
        }
        // 64 MiB were offered; two batches and the pipe hold less than nine.
        assert!(queue.dropped() > 800, "{}", queue.dropped());
        assert!(queue.shared.lock().waiting.len() <= WAITING_MAX);
    }

    /// After a file was moved away, lines go to a fresh one under its name.
    #[test]
    fn a_moved_file_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (file, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let queue = Queue::start("test", Sink::file(file.clone()).unwrap()).unwrap();
        (&queue.lines()).write_all(b"one\n").unwrap();
        while lines(&file).is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&file, &moved).unwrap();
        queue.reopen();
        (&queue.lines()).write_all(b"two\n").unwrap();
        drop(queue);
        assert_eq!(
            (lines(&moved), lines(&file)),
            (vec!["one".to_owned()], vec!["two".to_owned()])
        );
    }
}
