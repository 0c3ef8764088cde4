//! One JSON object a line, for programs. Fields are only ever added.

use std::io::{self, Write};

use proto::code::Code;
use serde::Serialize;

use super::{Event, Snapshot, Trouble, sentence};

/// Remembers the last counts, so that only changes are told.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    told: (u64, u64),
}

/// A line. Its fields are a promise; absent values are null, so that a reader finds every key.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Status {
        status: &'static str,
        edge: Option<&'a str>,
        latency_ms: Option<f64>,
        link: Option<&'static str>,
        code: Option<Code>,
        message: Option<String>,
        next_step: Option<String>,
    },
    Forwarding {
        url: &'a str,
        /// The scheme of `url`: `https`, `tcp`, `tls`.
        proto: &'a str,
        upstream: &'a str,
        endpoint_id: &'a str,
        login: Option<&'a str>,
        cidr_allow: &'a [String],
        cidr_deny: &'a [String],
    },
    /// Also about an upstream: without a code when it is well again.
    Notice {
        code: Option<Code>,
        message: String,
        next_step: Option<String>,
        upstream: Option<&'a str>,
    },
    Error {
        code: Code,
        message: String,
        next_step: String,
    },
    Connections {
        open: u64,
        total: u64,
    },
}

impl Reporter {
    #[expect(clippy::unused_self, reason = "the same shape as the other views")]
    pub(super) fn event(&self, out: &mut impl Write, event: &Event) -> io::Result<()> {
        write_line(out, &line(event))
    }

    pub(super) fn tick(&mut self, out: &mut impl Write, now: Snapshot) -> io::Result<()> {
        let counts = (now.open, now.total);
        if self.told == counts {
            return Ok(());
        }
        self.told = counts;
        let (open, total) = counts;
        write_line(out, &Line::Connections { open, total })
    }
}

fn line(event: &Event) -> Line<'_> {
    match event {
        Event::Status {
            phase,
            edge,
            latency,
            link,
            trouble,
        } => Line::Status {
            link: *link,
            status: phase.name(),
            edge: edge.as_deref(),
            // A round trip is known to the microsecond.
            latency_ms: latency.map(|latency| latency.as_micros() as f64 / 1000.0),
            code: trouble.as_ref().map(|trouble| trouble.code),
            message: trouble.as_ref().map(|trouble| sentence(&trouble.message)),
            next_step: trouble.as_ref().map(|trouble| sentence(&trouble.next_step)),
        },
        Event::Forwarding {
            url,
            upstream,
            endpoint_id,
            login,
            networks,
        } => Line::Forwarding {
            url,
            proto: url.split_once("://").map_or("", |(scheme, _)| scheme),
            upstream,
            endpoint_id,
            login: login.as_deref(),
            cidr_allow: &networks.allow,
            cidr_deny: &networks.deny,
        },
        Event::Notice(trouble) => notice(trouble, None),
        Event::UpstreamDown { upstream, trouble } => notice(trouble, Some(upstream)),
        Event::UpstreamUp { upstream } => Line::Notice {
            code: None,
            message: format!("{upstream} accepts connections again"),
            next_step: None,
            upstream: Some(upstream),
        },
        Event::Error(trouble) => Line::Error {
            code: trouble.code,
            message: sentence(&trouble.message),
            next_step: sentence(&trouble.next_step),
        },
    }
}

fn notice<'a>(trouble: &Trouble, upstream: Option<&'a str>) -> Line<'a> {
    Line::Notice {
        code: Some(trouble.code),
        message: sentence(&trouble.message),
        next_step: Some(sentence(&trouble.next_step)),
        upstream,
    }
}

fn write_line(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    let mut json = serde_json::to_vec(line)?;
    json.push(b'\n');
    // One write, so that lines of two processes do not mix.
    out.write_all(&json)?;
    out.flush()
}
