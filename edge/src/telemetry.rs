//! Logs: to standard error, as lines for people or as JSON. What an edge prints for programs goes to
//! standard output and never mixes with them.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Starts logging. `filter` has the form of `RUST_LOG` (`info`, `edge=debug,access=off`).
///
/// # Errors
/// When the filter cannot be read or logging has begun already.
pub(crate) fn start(filter: &str, json: bool) -> Result<(), TelemetryError> {
    let env_filter = EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let base = tracing_subscriber::fmt()
        .with_env_filter(env_filter)
        .with_timer(SystemTime)
        .with_writer(std::io::stderr);
    if json {
        base.json().flatten_event(true).try_init()
    } else {
        base.with_ansi(std::io::stderr().is_terminal()).try_init()
    }
    .map_err(TelemetryError::Begun)
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("the log filter {filter:?} cannot be read")]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging has begun already")]
    Begun(#[source] Box<dyn std::error::Error + Send + Sync>),
}
