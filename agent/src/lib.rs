//! The agent: runs beside a local app, connects out to an edge, and moves bytes between them. The edge
//! thinks.
//!
//! Floors, bottom up: `addrs`, `private_file` · `upstream`, `backoff`, `instance`, `config` · `link`,
//! `control`, `forward`, `status` · `agent` (the loop: connect, serve, back off) · `cli`.

mod addrs;
mod agent;
mod backoff;
pub mod cli;
mod config;
mod control;
mod forward;
mod instance;
mod link;
mod private_file;
mod status;
mod upstream;
