//! Many streams over one TLS connection, with the ends of a QUIC stream: each direction is finished, reset
//! or stopped on its own; a reset is heard by a side that does not read, however full the buffers are;
//! what was not finished never looks complete. Used by agent and edge alike; knows neither TLS nor the
//! control protocol, and does no dialling.
//!
//! The multiplexer is yamux, which gives framing and windows. What it does not tell (how a stream ended,
//! that the other side has let go of it, that the other side is alive, why the connection ended) is told
//! in records on the agent's first stream (docs/protocol.md, "The TLS link").
//!
//! Reading order: `connection` (the handle), `stream`, `record`, `ledger`, `driver`, `pipe`.

mod connection;
mod driver;
mod ledger;
mod pipe;
mod record;
mod stream;

pub use connection::{Connection, Ended};
pub use driver::{Driver, IDLE_TIMEOUT, Side, start};
pub use stream::{Receive, Send, Stream};

#[cfg(test)]
mod tests;
