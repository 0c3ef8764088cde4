//! Tunnels: the agents that are connected, what they serve, and streams to them.
//!
//! `link` is the transport and the only part that knows it; `stream` opens what an exchange uses;
//! `registry` knows who serves which endpoint; `agent` drives the control protocol; `listen` accepts.
//! No HTTP, no sessions, no cookies.

pub(crate) mod agent;
pub(crate) mod bind;
pub(crate) mod lanes;
pub(crate) mod link;
pub(crate) mod listen;
pub(crate) mod registry;
pub(crate) mod stream;
