//! The product's promises, each seen from outside.
//!
//! - `forward`: bytes go both ways as they are, with back-pressure, upgrades and errors that explain.
//! - `upstreams`: apps behind TLS, apps that speak HTTP/2, and the Host that they get.
//! - `reuse`: connections to the app are used again, by whom they may be, and replaced when they died.
//! - `grpc`: gRPC by a client and a server that nobody here wrote.
//! - `rfc8441`: WebSockets over HTTP/2, from the browser's side.
//! - `links_quic`: readers that do not read harm nobody, dead links are found, addresses change unnoticed.
//! - `restart`: names come back, sessions survive, what was revoked stays revoked.
//! - `agent_cli`, `edge_cli`: every failure is one sentence with its next step and an exit code.
//! - `links`: both links keep the same promises; which one is taken, remembered and left; proxies.
//! - `raw`: TCP and TLS endpoints, address rules, PROXY protocol in both directions.
//! - `login`: who gets in, who does not, and what the app is told.
//! - `providers`: the same login at providers that nobody here wrote.
//! - `browser`: two real browsers, from signing in to being thrown out.
//! - `links_ops`: agents that share a name, come and go; an edge that ends politely, under load.
//! - `metrics`: what whatever watches the edge is told.
//! - `places`: browser, system, device and place of a session.
//! - `revoke`: what a revocation cuts, by scope and by protocol, and its receipt.
//! - `rounds`: a thousand revocations against traffic, judged at both ends.
//! - `faults`: what cannot be made durable was not revoked.
//! - `review`: what a second look found.
//! - `hostile`: attacks on other proxies, by the ids of the list that they come from.
//! - `api`: ngrok's shapes, exactly; paging; errors.
//! - `dashboard`: what operators see, and who else does not.
//! - `unauthorized`: every admin route without a right to it.
//! - `secrets`: nothing secret in anything that was written down.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::print_stderr,
    reason = "what a test says goes to its captured standard error"
)]
#![allow(clippy::large_futures, reason = "a test's future lives once")]

mod agent_cli;
mod api;
mod browser;
mod curl;
mod dashboard;
mod edge_cli;
mod faults;
mod forward;
mod grpc;
mod h2spec;
mod hostile;
mod links;
mod links_ops;
mod links_quic;
mod login;
mod metrics;
mod places;
mod providers;
mod raw;
mod restart;
mod reuse;
mod review;
mod revoke;
mod rfc8441;
mod rounds;
mod secrets;
mod smuggling;
mod transparent;
mod unauthorized;
mod upstreams;
