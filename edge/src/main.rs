//! The edge: ends TLS in public, knows who is signed in, decides, and cuts.
//!
//! Floors, top to bottom (imports go down only, `cargo xtask tidy` checks): `main cli server config
//! follow` · `ingress admin` · `auth` · `route session tunnel` · `store idp context cert` ·
//! `policy trust` · `model clock metrics secret shutdown` · the crate `proto`.

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
mod metrics;
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
use std::sync::Arc;

use mimalloc::MiMalloc;

use cli::{Outcome, Serve};
use server::StartError;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        // Somebody installed one before the first line: there is no such line.
        return ExitCode::FAILURE;
    }
    match cli::run() {
        Outcome::Exit(code) => code,
        Outcome::Serve(serve) => run(*serve),
    }
}

fn run(serve: Serve) -> ExitCode {
    let Serve {
        settings,
        json,
        log,
    } = serve;
    let wanted = telemetry::Wanted {
        filter: log.unwrap_or_else(|| "info".to_owned()),
        json,
        access_log: settings.access_log.clone(),
    };
    let run = || {
        let log = Arc::new(telemetry::start(&wanted)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(StartError::Io)?;
        let ended = runtime.block_on(server::run(settings, json, Arc::clone(&log)));
        // What was logged comes before what is said of the end.
        drop((runtime, log));
        ended
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::failed(&error, Some(&error.next_step()), json);
            ExitCode::from(error.exit_code())
        }
    }
}
