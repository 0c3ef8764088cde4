//! The edge: ends TLS in public, knows who is signed in, decides, and cuts.
//!
//! Floors, top to bottom (imports go down only, `cargo xtask tidy` checks): `main cli server config
//! follow` · `ingress admin` · `auth` · `route session tunnel` · `store idp context cert` ·
//! `policy trust` · `model clock secret shutdown` · the crate `proto`.

mod admin;
mod auth;
mod cert;
mod cli;
mod clock;
mod config;
mod context;
mod follow;
mod idp;
mod ingress;
mod model;
mod policy;
mod route;
mod secret;
mod server;
mod session;
mod shutdown;
mod store;
mod telemetry;
mod trust;
mod tunnel;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        cli::Outcome::Exit(code) => code,
        // `server` is not among the modules yet.
        cli::Outcome::Serve(_) => ExitCode::FAILURE,
    }
}
