//! A small screen that redraws itself in place with plain ANSI: it leaves what was in the terminal
//! before, and its last state after.

use std::io::{self, Write};

use rustix::termios::tcgetwinsize;

use super::{Event, Phase, Snapshot, Trouble, milliseconds, plain, sentence};

/// What the screen shows.
#[derive(Debug)]
pub(super) struct Screen {
    phase: Phase,
    edge: String,
    latency: Option<std::time::Duration>,
    link: Option<&'static str>,
    trouble: Option<Trouble>,
    forwarding: Vec<Forwarding>,
    notices: Vec<Note>,
    /// Lines of the last drawing, to be drawn over.
    drawn: usize,
    shown: Snapshot,
    has_colour: bool,
}

#[derive(Debug)]
struct Forwarding {
    url: String,
    upstream: String,
    login: Option<String>,
    networks: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Note {
    trouble: Trouble,
    /// The local app that it is about.
    upstream: Option<String>,
    is_error: bool,
}

#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
    Dim,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Connecting,
            edge: String::new(),
            latency: None,
            link: None,
            trouble: None,
            forwarding: Vec::new(),
            notices: Vec::new(),
            drawn: 0,
            shown: Snapshot::default(),
            has_colour: has_colour(),
        }
    }

    pub(super) fn event(
        &mut self,
        out: &mut impl Write,
        event: &Event,
        now: Snapshot,
    ) -> io::Result<()> {
        self.take(event);
        self.draw(out, now)
    }

    pub(super) fn tick(&mut self, out: &mut impl Write, now: Snapshot) -> io::Result<()> {
        if self.shown == now {
            return Ok(());
        }
        self.draw(out, now)
    }

    fn take(&mut self, event: &Event) {
        match event.clone() {
            Event::Status {
                phase,
                edge,
                latency,
                link,
                trouble,
            } => {
                self.phase = phase;
                self.link = link;
                self.edge = edge.unwrap_or_default();
                self.latency = latency;
                // What ends the agent is said below the screen.
                self.trouble = trouble.filter(|_| phase != Phase::Offline);
                if phase == Phase::Online {
                    // Errors of earlier tries are no news any more; they come again if they last.
                    self.notices.retain(|note| note.upstream.is_some());
                    self.forwarding.clear();
                }
            }
            Event::Forwarding {
                url,
                upstream,
                login,
                networks,
                endpoint_id: _,
            } => {
                self.forwarding.retain(|other| other.url != url);
                self.forwarding.push(Forwarding {
                    url,
                    upstream,
                    login,
                    networks: networks.describe(),
                });
            }
            Event::Notice(trouble) => self.note(trouble, None, false),
            Event::UpstreamDown { upstream, trouble } => self.note(trouble, Some(upstream), false),
            Event::UpstreamUp { upstream } => {
                self.notices
                    .retain(|note| note.upstream.as_ref() != Some(&upstream));
            }
            Event::Error(trouble) => self.note(trouble, None, true),
        }
    }

    fn note(&mut self, trouble: Trouble, upstream: Option<String>, is_error: bool) {
        let note = Note {
            trouble,
            upstream,
            is_error,
        };
        self.notices.retain(|other| *other != note);
        if self.notices.len() == NOTES_MAX {
            self.notices.remove(0);
        }
        self.notices.push(note);
    }

    fn draw(&mut self, out: &mut impl Write, now: Snapshot) -> io::Result<()> {
        self.shown = now;
        let (columns, rows) = size();
        let rows_shown = self.lines(now);
        let mut lines: Vec<String> = rows_shown
            .iter()
            .flat_map(|row| row.render(columns, self.has_colour))
            .collect();
        // What has scrolled out of the window cannot be drawn over.
        lines.truncate(rows.saturating_sub(1).max(1));
        let mut text = match self.drawn {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}A"),
        };
        text.push_str("\r\x1b[J");
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn lines(&self, now: Snapshot) -> Vec<Row> {
        let mut rows = vec![
            Row::new(Tone::Dim, "Sallyport", "Ctrl+C to quit"),
            Row::empty(),
        ];
        let tone = match self.phase {
            Phase::Online => Tone::Good,
            Phase::Connecting | Phase::Reconnecting => Tone::Warn,
            Phase::Offline => Tone::Dim,
        };
        rows.push(Row::new(tone, "Status", self.phase.name()));
        if let Some(trouble) = &self.trouble {
            rows.push(Row::new(Tone::Warn, "", &sentence(&trouble.message)));
            rows.push(Row::new(Tone::Plain, "", &sentence(&trouble.next_step)));
        }
        if !self.edge.is_empty() {
            rows.push(Row::new(Tone::Plain, "Edge", &self.edge));
        }
        let latency = now.latency.or(self.latency);
        if let (Phase::Online, Some(latency)) = (self.phase, latency) {
            rows.push(Row::new(Tone::Plain, "Latency", &milliseconds(latency)));
        }
        if let (Phase::Online, Some(link)) = (self.phase, self.link) {
            let link = match link {
                "tls" => "TLS over TCP",
                "quic" => "QUIC",
                other => other,
            };
            rows.push(Row::new(Tone::Plain, "Link", link));
        }
        rows.push(Row::new(Tone::Plain, "Version", env!("CARGO_PKG_VERSION")));
        for forwarding in &self.forwarding {
            let text = format!("{} -> {}", forwarding.url, forwarding.upstream);
            rows.push(Row::new(Tone::Good, "Forwarding", &text));
            let open = match forwarding.networks {
                Some(_) => "none",
                None => "none: open to everybody",
            };
            let login = forwarding.login.as_deref().unwrap_or(open);
            rows.push(Row::new(Tone::Plain, "Login", login));
            if let Some(networks) = &forwarding.networks {
                rows.push(Row::new(Tone::Plain, "Networks", networks));
            }
        }
        let counts = format!("{} open, {} in all", now.open, now.total);
        rows.push(Row::new(Tone::Plain, "Connections", &counts));
        for note in &self.notices {
            let tone = if note.is_error { Tone::Bad } else { Tone::Warn };
            rows.push(Row::empty());
            rows.push(Row::new(tone, "!", &sentence(&note.trouble.message)));
            rows.push(Row::new(
                Tone::Plain,
                "",
                &sentence(&note.trouble.next_step),
            ));
        }
        rows
    }
}

struct Row {
    tone: Tone,
    label: &'static str,
    text: String,
}

impl Row {
    fn new(tone: Tone, label: &'static str, text: &str) -> Self {
        Self {
            tone,
            label,
            text: plain(text),
        }
    }

    fn empty() -> Self {
        Self::new(Tone::Plain, "", "")
    }

    /// Lines that the terminal does not wrap: one that it did would be two to draw over.
    fn render(&self, columns: usize, has_colour: bool) -> Vec<String> {
        let room = columns.saturating_sub(LABEL_COLUMNS + 1).max(1);
        let colour = match self.tone {
            Tone::Plain => "",
            Tone::Good => "\x1b[32m",
            Tone::Warn => "\x1b[1;33m",
            Tone::Bad => "\x1b[1;31m",
            Tone::Dim => "\x1b[2m",
        };
        let line = |(number, text): (usize, String)| {
            let label = if number == 0 { self.label } else { "" };
            let label = format!("{label:<LABEL_COLUMNS$}");
            let label: String = label.chars().take(columns.saturating_sub(1)).collect();
            if has_colour && !colour.is_empty() {
                format!("{label}{colour}{text}\x1b[0m")
            } else {
                format!("{label}{text}").trim_end().to_owned()
            }
        };
        wrapped(&self.text, room)
            .into_iter()
            .enumerate()
            .map(line)
            .collect()
    }
}

/// Pieces of at most `room` characters, at least one, parted between words where there are any.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let gap = usize::from(used > 0);
            let Some(line) = lines.last_mut() else {
                return lines;
            };
            if used + gap + word.len() <= room {
                line.extend(std::iter::repeat_n(' ', gap));
                line.extend(&word);
                used += gap + word.len();
                break;
            }
            if used == 0 {
                let rest = word.split_off(room.min(word.len()));
                line.extend(&word);
                word = rest;
            }
            lines.push(String::new());
            used = 0;
        }
    }
    lines
}

/// Columns and rows; a usual size where the system does not say.
fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// <https://no-color.org>, and terminals that cannot.
fn has_colour() -> bool {
    let is_off = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !is_off && !is_dumb
}

const LABEL_COLUMNS: usize = 14;
/// More would push the addresses out of a small window.
const NOTES_MAX: usize = 4;
