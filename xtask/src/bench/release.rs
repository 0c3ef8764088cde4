//! Release builds of what is measured and of what measures: a load from an unoptimised program would measure
//! that program.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::supervise;
use crate::workspace::{self, BIN_DIR};

/// Builds `edge`, `agent` and this program in release, and becomes the latter, unless it is that already.
/// With `SALLYPORT_BIN_DIR` the programs are taken from there.
pub(super) fn enter(root: &Path) -> anyhow::Result<()> {
    let folder = match std::env::var_os(BIN_DIR) {
        Some(folder) => PathBuf::from(folder),
        None => build(root)?,
    };
    let xtask = folder.join("xtask");
    let here = std::env::current_exe().context("no path of this program")?;
    if here.canonicalize()? == xtask.canonicalize().unwrap_or_default() {
        return Ok(());
    }
    if !xtask.is_file() {
        bail!("there is no xtask in {}", folder.display());
    }
    let error = Command::new(&xtask)
        .args(std::env::args_os().skip(1))
        .env(BIN_DIR, &folder)
        .exec();
    Err(error).with_context(|| format!("cannot start {}", xtask.display()))
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut command = workspace::cargo(root);
    command.args([
        "build",
        "--release",
        "-p",
        "edge",
        "-p",
        "agent",
        "-p",
        "xtask",
        "--bins",
    ]);
    let mut child = supervise::Group::spawn(&mut command).context("cannot start cargo")?;
    if !child.wait()?.success() {
        bail!("the build failed; its messages are above");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release"))
}
