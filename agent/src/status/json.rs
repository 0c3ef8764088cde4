//! One JSON object a line, for programs. Fields are only ever added.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Event, Snapshot, Trouble, sentence};

/// Remembers the last counts, so that only changes are told.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    told: (u64, u64),
}

impl Reporter {
    #[expect(clippy::unused_self, reason = "the same shape as the other views")]
    pub(super) fn event(&self, out: &mut impl Write, event: &Event) -> io::Result<()> {
        write_line(out, &value(event))
    }

    pub(super) fn tick(&mut self, out: &mut impl Write, now: Snapshot) -> io::Result<()> {
        let counts = (now.open, now.total);
        if self.told == counts {
            return Ok(());
        }
        self.told = counts;
        let line = json!({"event": "connections", "open": now.open, "total": now.total});
        write_line(out, &line)
    }
}

fn value(event: &Event) -> Value {
    match event {
        Event::Status {
            phase,
            edge,
            latency,
            trouble,
        } => {
            let latency_ms = latency.map(|latency| {
                // Microseconds are all that a round trip is known to.
                (latency.as_secs_f64() * 1_000_000.0).round() / 1000.0
            });
            json!({
                "event": "status",
                "status": phase.name(),
                "edge": edge,
                "latency_ms": latency_ms,
                "code": trouble.as_ref().map(|trouble| trouble.code),
                "message": trouble.as_ref().map(|trouble| sentence(&trouble.message)),
                "next_step": trouble.as_ref().map(|trouble| sentence(&trouble.next_step)),
            })
        }
        Event::Forwarding {
            url,
            upstream,
            endpoint_id,
            login,
        } => json!({
            "event": "forwarding",
            "url": url,
            "upstream": upstream,
            "endpoint_id": endpoint_id,
            "login": login,
        }),
        Event::Notice(trouble) => told("notice", trouble),
        Event::UpstreamDown { upstream, trouble } => json!({
            "event": "notice",
            "code": trouble.code,
            "message": sentence(&trouble.message),
            "next_step": sentence(&trouble.next_step),
            "upstream": upstream,
        }),
        Event::UpstreamUp { upstream } => json!({
            "event": "notice",
            "code": null,
            "message": sentence(&format!("{upstream} accepts connections again")),
            "next_step": null,
            "upstream": upstream,
        }),
        Event::Error(trouble) => told("error", trouble),
    }
}

fn told(event: &str, trouble: &Trouble) -> Value {
    json!({
        "event": event,
        "code": trouble.code,
        "message": sentence(&trouble.message),
        "next_step": sentence(&trouble.next_step),
    })
}

fn write_line(out: &mut impl Write, value: &Value) -> io::Result<()> {
    // One write, so that lines of two processes do not mix.
    out.write_all(format!("{value}\n").as_bytes())?;
    out.flush()
}
