//! The program `agent`: the cryptography and the allocator for everything, then the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Fails only when somebody was here before, which is the same provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ExitCode::from(agent::cli::main())
}
