//! What the agent says: events become a screen, logfmt lines or JSON lines.
//!
//! Says, and changes nothing. A thread of its own writes, because standard output may be a pipe that
//! nobody reads; when it falls behind, events are dropped rather than traffic delayed. Texts that came
//! over the network lose their control characters before they reach a terminal.

mod json;
mod lines;
mod terminal;

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use proto::code::Code;

/// Something worth saying.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// How it stands with the edge.
    Status {
        phase: Phase,
        /// Its address, or the addresses that are tried.
        edge: Option<String>,
        latency: Option<Duration>,
        /// What the link to it is made of, while there is one.
        link: Option<&'static str>,
        /// Why it is not online.
        trouble: Option<Trouble>,
    },
    /// An endpoint is served.
    Forwarding {
        url: String,
        upstream: String,
        endpoint_id: String,
        /// Who may sign in, for people; none when everybody may come.
        login: Option<String>,
        /// From where.
        networks: Networks,
    },
    /// Something that whoever started the agent should read, though it works.
    Notice(Trouble),
    /// The local app does not answer. Said once, when it begins.
    UpstreamDown { upstream: String, trouble: Trouble },
    /// It answers again.
    UpstreamUp { upstream: String },
    /// An endpoint, or the agent, ends because of this.
    Error(Trouble),
}

/// From which networks visitors may come. Empty: from all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Networks {
    pub(crate) allow: Vec<String>,
    /// Not from these, whatever else is said.
    pub(crate) deny: Vec<String>,
}

impl Networks {
    /// For people; none when they may come from everywhere.
    fn describe(&self) -> Option<String> {
        let (allow, deny) = (self.allow.join(", "), self.deny.join(", "));
        match (allow.is_empty(), deny.is_empty()) {
            (true, true) => None,
            (false, true) => Some(format!("only {allow}")),
            (true, false) => Some(format!("all but {deny}")),
            (false, false) => Some(format!("only {allow}, but not {deny}")),
        }
    }
}

/// How it stands with the edge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    Connecting,
    Online,
    Reconnecting,
    Offline,
}

/// A code, a sentence, and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) next_step: String,
}

/// What can be counted while streams come and go.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    open: AtomicU64,
    total: AtomicU64,
    latency_us: AtomicU64,
}

/// One stream, counted as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Counts>);

/// How to say it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    Terminal,
    Lines,
    Json,
}

/// Takes events. Cheap to clone; says everything to one place.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    events: SyncSender<Message>,
    counts: Arc<Counts>,
}

/// What travels to the writing thread.
#[derive(Debug)]
pub(crate) enum Message {
    Event(Event),
    End(SyncSender<()>),
}

/// What a view is told about the counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Snapshot {
    open: u64,
    total: u64,
    latency: Option<Duration>,
}

enum View {
    Terminal(terminal::Screen),
    Lines,
    Json(json::Reporter),
}

impl Style {
    /// JSON when asked for, a screen on a terminal, lines otherwise. A log on standard error would
    /// tear a screen apart, so it makes lines of it.
    pub(crate) fn choose(is_json: bool, is_logging: bool) -> Self {
        if is_json {
            Self::Json
        } else if io::stdout().is_terminal() && !is_logging {
            Self::Terminal
        } else {
            Self::Lines
        }
    }
}

impl Status {
    /// Begins to say things on standard output.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(style: Style) -> io::Result<Self> {
        let (events, receiver) = sync_channel(QUEUE_MAX);
        let counts = Arc::new(Counts::default());
        let view = match style {
            Style::Terminal => View::Terminal(terminal::Screen::new()),
            Style::Lines => View::Lines,
            Style::Json => View::Json(json::Reporter::default()),
        };
        let counted = Arc::clone(&counts);
        std::thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || say_all(&receiver, &counted, view))?;
        Ok(Self { events, counts })
    }

    /// Says everything to the receiver instead of standard output.
    #[cfg(test)]
    pub(crate) fn told() -> (Self, Receiver<Message>) {
        let (events, receiver) = sync_channel(QUEUE_MAX);
        let counts = Arc::default();
        (Self { events, counts }, receiver)
    }

    /// Says something; never waits.
    pub(crate) fn say(&self, event: Event) {
        // Full: whoever reads has fallen far behind, and traffic must not.
        let _ = self.events.try_send(Message::Event(event));
    }

    /// Counts a stream.
    pub(crate) fn count(&self) -> Counted {
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        self.counts.total.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.counts))
    }

    /// Keeps the latest round trip for the screen.
    pub(crate) fn set_latency(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts.latency_us.store(us, Ordering::Relaxed);
    }

    /// Waits until everything is written, but not for a pipe that nobody reads.
    pub(crate) fn finish(self) {
        let (done, is_done) = sync_channel(1);
        if self.events.try_send(Message::End(done)).is_ok() {
            // Late or gone: there is nobody to tell.
            let _ = is_done.recv_timeout(FINISH_WITHIN);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    fn snapshot(&self) -> Snapshot {
        let us = self.latency_us.load(Ordering::Relaxed);
        Snapshot {
            open: self.open.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            latency: (us > 0).then(|| Duration::from_micros(us)),
        }
    }
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Reconnecting => "reconnecting",
            Self::Offline => "offline",
        }
    }
}

impl Trouble {
    /// With the code's own next step.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            next_step: code.next_step().to_owned(),
        }
    }
}

/// The thread's work. Ends when every sender has gone or the end was asked for.
fn say_all(events: &Receiver<Message>, counts: &Counts, mut view: View) {
    let mut out = io::stdout();
    loop {
        // A closed pipe takes nothing more; serving goes on.
        let _ = match events.recv_timeout(TICK) {
            Ok(Message::Event(event)) => view.event(&mut out, &event, counts.snapshot()),
            Ok(Message::End(done)) => {
                let _ = view.end(&mut out, counts.snapshot());
                let _ = done.try_send(());
                return;
            }
            Err(RecvTimeoutError::Timeout) => view.tick(&mut out, counts.snapshot()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

impl View {
    fn event(&mut self, out: &mut impl Write, event: &Event, now: Snapshot) -> io::Result<()> {
        match self {
            Self::Terminal(screen) => screen.event(out, event, now),
            Self::Lines => lines::event(out, event, jiff::Timestamp::now()),
            Self::Json(reporter) => reporter.event(out, event),
        }
    }

    fn tick(&mut self, out: &mut impl Write, now: Snapshot) -> io::Result<()> {
        match self {
            Self::Terminal(screen) => screen.tick(out, now),
            Self::Lines => Ok(()),
            Self::Json(reporter) => reporter.tick(out, now),
        }
    }

    fn end(&mut self, out: &mut impl Write, now: Snapshot) -> io::Result<()> {
        self.tick(out, now)?;
        out.flush()
    }
}

/// A text without control characters: what an edge says must not command a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// A message as a sentence: errors are kept without capital and full stop. What begins with a URL, a
/// host or a path keeps its spelling, and what ends in a command is not followed by a full stop that
/// would be pasted with it.
pub(crate) fn sentence(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    let word = text.split([' ', ',']).next().unwrap_or_default();
    let is_word = word
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || b"'-:".contains(&byte));
    let has_command = text.contains(": ") || text.contains(" --") || text.contains("://");
    let end = if has_command || text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    let rest = text.get(first.len_utf8()..).unwrap_or_default();
    let first = if is_word {
        first.to_ascii_uppercase()
    } else {
        first
    };
    format!("{first}{rest}{end}")
}

/// `1.2 ms`, as people and logs read it.
fn milliseconds(latency: Duration) -> String {
    format!("{:.1} ms", latency.as_secs_f64() * 1000.0)
}

/// Events that wait for a slow reader.
const QUEUE_MAX: usize = 256;
const TICK: Duration = Duration::from_millis(500);
const FINISH_WITHIN: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests;
