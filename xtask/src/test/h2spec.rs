//! h2spec, which judges HTTP/2 servers: a Go module, built from its registry into `target/tools`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::workspace::find_program;

/// Installs it where it is not there yet.
pub(super) fn set_up(root: &Path) -> anyhow::Result<()> {
    let tools = root.join("target/tools");
    if find_program("h2spec").is_some() || tools.join("h2spec").is_file() {
        return Ok(());
    }
    let go = find_program("go").context("Go is not installed")?;
    eprintln!("installing {MODULE}");
    fs::create_dir_all(&tools)?;
    let status = Command::new(go)
        .args(["install", MODULE])
        .env("GOBIN", &tools)
        .current_dir(&tools)
        .stdin(Stdio::null())
        // The last line of standard output is the tests' summary.
        .stdout(Stdio::null())
        .status()
        .context("cannot start go")?;
    ensure!(
        status.success(),
        "go install failed; its messages are above"
    );
    Ok(())
}

/// The newest version that the module's proxy has; later ones are tags of its repository alone.
const MODULE: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";
