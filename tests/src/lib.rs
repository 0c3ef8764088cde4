//! The harness: the product seen from outside, through binaries, sockets and files only.
//!
//! Reading order: [`world`] starts an edge, providers and agents; [`upstream`] is the app behind them,
//! which counts; [`user`] is a browser without a screen; [`http1`], [`http2`] and [`websocket`] are clients that
//! see how a stream ended; [`https_app`] and [`h2_app`] are apps that want to be
//! spoken to in another way; [`api`] is the operator's side; [`wait`] is the only way to wait.
//! A harness fails by panicking: whoever reads the test wants to see where.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a harness fails by panicking"
)]
#![allow(
    clippy::print_stderr,
    reason = "what a test run says goes to its captured standard error"
)]

pub mod api;
pub mod chrome;
pub mod clock;
pub mod detour;
pub mod exact;
pub mod fault;
pub mod form;
pub mod h2_app;
pub mod http;
pub mod http1;
pub mod http2;
pub mod https_app;
pub mod judge;
pub mod jwt;
pub mod liar;
pub mod mmdb;
pub mod net;
pub mod operator;
pub mod process;
pub mod provider;
pub mod python;
pub mod random;
pub mod relay;
pub mod require;
pub mod scripted;
pub mod traffic;
pub mod upstream;
pub mod user;
pub mod wait;
pub mod websocket;
pub mod world;
