//! What an edge says once it is ready: a line for programs, or the next steps for people.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Settings, data_dir_flag};
use crate::model::site::{ReservedHost, Site};
use crate::server::drain::Open;

/// Where everything is.
#[derive(Debug)]
pub(super) struct Ready {
    domain: String,
    listen: SocketAddr,
    data_dir: PathBuf,
    tcp_ports: Option<String>,
    ca_file: Option<PathBuf>,
    auth_url: String,
    api_url: String,
    dashboard_url: String,
    /// The listener for metrics, where there is one.
    pub(super) metrics: Option<SocketAddr>,
}

impl Ready {
    pub(super) fn new(
        site: &Site,
        listen: SocketAddr,
        settings: &Settings,
        ca_file: Option<PathBuf>,
    ) -> Self {
        Self {
            domain: site.domain.clone(),
            listen,
            data_dir: settings.data_dir.clone(),
            tcp_ports: settings.tcp_ports_text(),
            ca_file,
            auth_url: site.url(ReservedHost::Auth),
            api_url: site.url(ReservedHost::Api),
            dashboard_url: site.url(ReservedHost::Dashboard),
            metrics: None,
        }
    }
}

/// Says it on standard output, once.
#[expect(
    clippy::print_stdout,
    reason = "what `edge serve` prints is its interface"
)]
pub(super) fn announce(ready: &Ready, json: bool) {
    if json {
        let line = serde_json::json!({
            "event": "ready",
            "domain": ready.domain,
            "listen": ready.listen.to_string(),
            "port": ready.listen.port(),
            "data_dir": ready.data_dir,
            "tcp_ports": ready.tcp_ports,
            "ca_file": ready.ca_file,
            "auth_url": ready.auth_url,
            "api_url": ready.api_url,
            "dashboard_url": ready.dashboard_url,
            "metrics": ready.metrics.map(|address| address.to_string()),
        });
        println!("{line}");
        return;
    }
    println!(
        "Sallyport edge is ready for *.{} on {}",
        ready.domain, ready.listen
    );
    println!("Data folder: {}", ready.data_dir.display());
    if let Some(ca_file) = &ready.ca_file {
        println!(
            "Development CA: {} (let your browser trust it, or accept its warning)",
            ca_file.display()
        );
    }
    if let Some(ports) = &ready.tcp_ports {
        println!("Ports for agent tcp: {ports}");
    }
    if let Some(address) = ready.metrics {
        println!("Metrics: http://{address}/metrics");
    }
    let at = data_dir_flag(&ready.data_dir);
    println!();
    println!("Next, in another terminal:");
    println!("  1. edge provider add google --client-id … --client-secret-file …{at}");
    println!(
        "     (redirect URI to register there: {}/callback/google)",
        ready.auth_url
    );
    println!("  2. edge authtoken create{at}");
    println!(
        "     then, where your app runs: agent config add-authtoken …; agent 8080 --oauth=google"
    );
    println!("  3. edge operator link{at}");
    println!("     (a one-time sign-in link to {})", ready.dashboard_url);
}

/// Says how far a drain is that takes its time.
#[expect(
    clippy::print_stdout,
    reason = "what `edge serve` prints is its interface"
)]
pub(super) fn draining(open: Open, left: Duration, json: bool) {
    if json {
        let line = serde_json::json!({
            "event": "draining",
            "exchanges": open.exchanges,
            "raw": open.raw,
            "left_ms": u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        });
        println!("{line}");
    } else if open.exchanges > 0 {
        println!("Draining: {}", progress(open, left));
    }
}

/// `3 exchanges open, 7 s left`; of raw connections, which nobody can tell to finish, it says more.
pub(crate) fn progress(open: Open, left: Duration) -> String {
    let Open { exchanges, raw } = open;
    let what = if exchanges == 1 {
        "exchange"
    } else {
        "exchanges"
    };
    let left = left.as_millis().div_ceil(1000);
    if raw == 0 {
        format!("{exchanges} {what} open, {left} s left")
    } else {
        format!(
            "{exchanges} {what} open, {raw} of them raw TCP or TLS, {left} s until they are cut"
        )
    }
}
