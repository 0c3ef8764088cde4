//! Logs: lines for people, or JSON, to standard error; the access log to a file of its own where the
//! operator names one. What an edge prints for programs goes to standard output and never mixes with
//! them.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Format, JsonFields};
use tracing_subscriber::fmt::time::SystemTime;

use super::queue::{Lines, Queue, Sink};
use super::record::Records;
use crate::ingress::access_log::ACCESS;

/// What to log, and where.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// In the form of `RUST_LOG` (`info`, `edge=debug,access=off`).
    pub(crate) filter: String,
    pub(crate) json: bool,
    /// A file for the access log; `None`: with everything else.
    pub(crate) access_log: Option<PathBuf>,
}

/// The log that has begun. Dropped, it writes what is left, within a bound.
#[derive(Debug)]
pub(crate) struct Log {
    all: Queue,
    access: Option<Queue>,
}

/// Picks the queue by an event's target.
#[derive(Clone, Debug)]
struct Writers {
    all: Lines,
    access: Option<Lines>,
}

/// Starts logging.
///
/// # Errors
/// When the filter cannot be read, the file cannot be opened, or logging has begun already.
pub(crate) fn start(wanted: &Wanted) -> Result<Log, TelemetryError> {
    let mut filter = wanted.filter.clone();
    if wanted.access_log.is_some() && !filter.contains(ACCESS) {
        // A file for it was asked for: it is not to stay empty because the rest is quiet.
        filter = format!("{filter},{ACCESS}=info");
    }
    let env_filter = EnvFilter::try_new(&filter).map_err(|source| TelemetryError::Filter {
        filter: wanted.filter.clone(),
        source,
    })?;
    let all = Queue::start("log", Sink::Stderr).map_err(TelemetryError::Thread)?;
    let access = wanted.access_log.as_ref().map(|path| {
        let unusable = |source| TelemetryError::File {
            path: path.clone(),
            source,
        };
        let sink = Sink::file(path.clone()).map_err(unusable)?;
        Queue::start("access-log", sink).map_err(TelemetryError::Thread)
    });
    let log = Log {
        all,
        access: access.transpose()?,
    };
    let base = tracing_subscriber::fmt()
        .with_env_filter(env_filter)
        .with_timer(SystemTime)
        .with_writer(Writers {
            all: log.all.lines(),
            access: log.access.as_ref().map(Queue::lines),
        });
    if wanted.json {
        base.fmt_fields(JsonFields::new())
            .event_format(Records(Format::default().json().flatten_event(true)))
            .try_init()
    } else {
        let colours = io::stderr().is_terminal() && wanted.access_log.is_none();
        base.with_ansi(colours).try_init()
    }
    .map_err(TelemetryError::Begun)?;
    Ok(log)
}

impl Log {
    /// Lines that were dropped because whatever reads them is slower.
    pub(crate) fn dropped(&self) -> u64 {
        self.all.dropped() + self.access.as_ref().map_or(0, Queue::dropped)
    }

    /// Opens the files anew, after something has moved them away.
    pub(crate) fn reopen(&self) {
        if let Some(access) = &self.access {
            access.reopen();
        }
    }
}

impl<'a> MakeWriter<'a> for Writers {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        &self.all
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        match &self.access {
            Some(access) if meta.target() == ACCESS => access,
            Some(_) | None => &self.all,
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("the log filter {filter:?} cannot be read")]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("the access log {} cannot be opened", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("nothing can write the log")]
    Thread(#[source] io::Error),
    #[error("logging has begun already")]
    Begun(#[source] Box<dyn std::error::Error + Send + Sync>),
}
