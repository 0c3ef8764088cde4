//! What an edge says of itself: its log, and a listener of its own for metrics and health.
//!
//! Reading order: `log` (what is written, where), `queue` (how it gets there without holding anybody
//! up), `record` (access records as JSON), `listen` (who watches from outside).

mod listen;
mod log;
mod queue;
mod record;

pub(crate) use listen::{Watch, Watched};
pub(crate) use log::{Log, TelemetryError, Wanted, start};
