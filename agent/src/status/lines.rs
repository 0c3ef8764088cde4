//! logfmt, a line for each event. Tools search it for `msg="started tunnel"` and `url=`, as they do in
//! ngrok's; both stay.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::Timestamp;

use super::{Event, Phase, Trouble, milliseconds, plain, sentence};

pub(super) fn event(out: &mut impl Write, event: &Event, now: Timestamp) -> io::Result<()> {
    let line = line(event);
    // One write, so that lines of two processes do not mix.
    out.write_all(format!("t={now:.3} {line}\n").as_bytes())?;
    out.flush()
}

fn line(event: &Event) -> String {
    match event {
        Event::Status {
            phase,
            edge,
            latency,
            link,
            trouble,
        } => {
            let (level, message) = match phase {
                // Not for the first time.
                Phase::Connecting if trouble.is_some() => ("warn", "connecting"),
                Phase::Connecting => ("info", "connecting"),
                Phase::Online => ("info", "tunnel established"),
                Phase::Reconnecting => ("warn", "reconnecting"),
                Phase::Offline => ("info", "stopped"),
            };
            let mut line = Line::new(level, message);
            if let Some(edge) = edge {
                line.field("edge", edge);
            }
            if let Some(latency) = latency {
                line.field("latency", &milliseconds(*latency).replace(' ', ""));
            }
            if let Some(link) = link {
                line.field("link", link);
            }
            // What ends the agent has a line of its own.
            if let Some(trouble) = trouble
                && *phase != Phase::Offline
            {
                line.field("err", &sentence(&trouble.message));
                line.field("code", &trouble.code.to_string());
                line.field("next_step", &sentence(&trouble.next_step));
            }
            line.0
        }
        Event::Forwarding {
            url,
            upstream,
            endpoint_id,
            login,
            networks,
        } => {
            let mut line = Line::new("info", "started tunnel");
            line.field("url", url);
            line.field("addr", upstream);
            line.field("endpoint", endpoint_id);
            if let Some(login) = login {
                line.field("login", login);
            }
            if let Some(networks) = networks.describe() {
                line.field("networks", &networks);
            }
            line.0
        }
        Event::Notice(trouble) => told("warn", trouble),
        Event::UpstreamDown { upstream, trouble } => {
            let line = told("warn", trouble);
            format!("{line} addr={}", quoted(upstream))
        }
        Event::UpstreamUp { upstream } => {
            let message = format!("{upstream} accepts connections again");
            let mut line = Line::new("info", &message);
            line.field("addr", upstream);
            line.0
        }
        Event::Error(trouble) => told("error", trouble),
    }
}

fn told(level: &str, trouble: &Trouble) -> String {
    let mut line = Line::new(level, &sentence(&trouble.message));
    line.field("code", &trouble.code.to_string());
    line.field("next_step", &sentence(&trouble.next_step));
    line.0
}

struct Line(String);

impl Line {
    fn new(level: &str, message: &str) -> Self {
        // A message is always quoted: that is what tools search for.
        Self(format!("lvl={level} msg={:?}", plain(message)))
    }

    fn field(&mut self, key: &str, value: &str) {
        // Writing to a text does not fail.
        let _ = write!(self.0, " {key}={}", quoted(value));
    }
}

fn quoted(value: &str) -> String {
    let value = plain(value);
    let is_bare = !value.is_empty()
        && !value
            .chars()
            .any(|character| character.is_whitespace() || "\"=\\".contains(character));
    if is_bare { value } else { format!("{value:?}") }
}
