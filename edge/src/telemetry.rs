//! Logs: to standard error, as lines for people or as JSON. What an edge prints for programs goes to
//! standard output and never mixes with them.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Starts logging. `filter` has the form of `RUST_LOG` (`info`, `edge=debug,access=off`).
///
/// # Errors
/// A sentence, when the filter cannot be read or logging has begun already.
pub(crate) fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("the log filter {filter:?} cannot be read: {error}"))?;
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_writer(std::io::stderr);
    let started = if json {
        base.json().flatten_event(true).try_init()
    } else {
        base.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    started.map_err(|error| format!("logging cannot be started: {error}"))
}
