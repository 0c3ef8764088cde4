//! How the running edge is, and its polite end.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::act::Asked;
use super::{CliError, print};
use crate::admin::views::{DrainView, EndpointView, LinkView, StatusView};
use crate::server::{Open, progress};

impl Asked {
    pub(super) fn status(&self) -> Result<(), CliError> {
        let status: StatusView = self.client.list("/status")?;
        self.say(&status, status_text);
        Ok(())
    }

    /// Orders the drain and tells how it goes, until the edge has ended.
    pub(super) fn drain(&self, timeout: Duration) -> Result<(), CliError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let mut last: Option<DrainView> = None;
        let mut said = None;
        self.client.follow(
            "/drain",
            &json!({ "timeout_ms": timeout_ms }),
            |view: DrainView| {
                let second = view.left_ms.div_ceil(1000);
                // A drain that is done at once needs no commentary.
                if last.is_some() && !view.done && view.exchanges > 0 && said != Some(second) {
                    said = Some(second);
                    self.say(
                        &json!({
                            "event": "draining",
                            "exchanges": view.exchanges,
                            "raw": view.raw,
                            "connections": view.connections,
                            "left_ms": view.left_ms,
                        }),
                        |_| {
                            let left = Duration::from_millis(view.left_ms);
                            let open = Open {
                                exchanges: view.exchanges,
                                raw: view.raw,
                            };
                            format!("{}\n", progress(open, left))
                        },
                    );
                }
                last = Some(view);
            },
        )?;
        self.client.wait_until_gone()?;
        let (cut, ended) = last.map_or((0, 0), |last| (last.cut, last.raw_ended));
        self.say(
            &json!({ "event": "drained", "cut": cut, "raw_ended": ended }),
            |_| drained_text(cut, ended),
        );
        Ok(())
    }
}

fn drained_text(cut: u64, ended: u64) -> String {
    let mut text = if cut == 0 {
        "The edge has ended; nothing was cut.\n".to_owned()
    } else {
        format!("The edge has ended; exchanges that were cut: {cut}\n")
    };
    if ended > 0 {
        let _ = writeln!(
            text,
            "TCP and TLS connections that were quiet and have been closed: {ended}"
        );
    }
    text
}

fn status_text(status: &StatusView) -> String {
    let providers = if status.providers.is_empty() {
        "none".to_owned()
    } else {
        status.providers.join(", ")
    };
    let memory = status
        .memory_resident_bytes
        .map_or_else(|| "not known".to_owned(), mib);
    let held: u64 = status.links.iter().map(|link| link.held_bytes).sum();
    let mut text = print::facts(&[
        (
            "Edge",
            format!("{} (version {})", status.edge, status.version),
        ),
        ("Running since", status.started_at.clone()),
        ("Domain", status.domain.clone()),
        ("Dashboard", status.dashboard_url.clone()),
        ("API", status.api_url.clone()),
        ("Providers", providers),
        (
            "TCP ports",
            status
                .tcp_ports
                .clone()
                .unwrap_or_else(|| "none".to_owned()),
        ),
        ("Tunnels", status.tunnels.to_string()),
        ("Endpoints online", status.endpoints_online.to_string()),
        ("Connections", status.connections.to_string()),
        ("Exchanges", status.exchanges.to_string()),
        ("Sessions in memory", status.sessions.to_string()),
        (
            "Memory",
            format!("{memory}, of it {} for what is not read", mib(held)),
        ),
    ]);
    text.push('\n');
    if !status.links.is_empty() {
        let rows: Vec<_> = status.links.iter().map(link_row).collect();
        text.push_str(&print::table(
            [
                "LINK",
                "AGENT",
                "ADDRESS",
                "ROUND TRIP",
                "STREAMS",
                "HELD",
                "TUNNEL",
            ],
            &rows,
        ));
        text.push('\n');
    }
    if status.endpoints.is_empty() {
        text.push_str("No endpoint is online.\nnext:  agent 8080, where your app runs\n");
        return text;
    }
    let rows: Vec<[String; 4]> = status
        .endpoints
        .iter()
        .map(|one| {
            [
                one.url.clone(),
                one.upstream.clone(),
                access_text(one),
                one.id.clone(),
            ]
        })
        .collect();
    text.push_str(&print::table(
        ["ENDPOINT", "UPSTREAM", "LOGIN", "ID"],
        &rows,
    ));
    text
}

/// Who may come: `google, only 203.0.113.0/24`.
fn access_text(endpoint: &EndpointView) -> String {
    let mut text = endpoint
        .login
        .clone()
        .unwrap_or_else(|| "public".to_owned());
    for (word, networks) in [("only", &endpoint.cidr_allow), ("not", &endpoint.cidr_deny)] {
        match &**networks {
            [] => {}
            [one] => {
                let _ = write!(text, ", {word} {one}");
            }
            [first, more @ ..] => {
                let _ = write!(text, ", {word} {first} and {} more", more.len());
            }
        }
    }
    text
}

fn link_row(link: &LinkView) -> [String; 7] {
    let round_trip = Duration::from_micros(link.round_trip_us);
    [
        link.transport.clone(),
        format!("{} ({})", link.agent_version, link.os),
        link.address.clone(),
        format!("{:.1} ms", round_trip.as_secs_f64() * 1000.0),
        link.streams.to_string(),
        mib(link.held_bytes),
        link.tunnel.clone(),
    ]
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
