//! The npm packages of `tests/providers`: identity providers that nobody here wrote. The lock file names
//! versions and checksums, and no download addresses.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::workspace::find_program;

/// Installs them when they are not there, or not those of the lock file.
pub(super) fn set_up(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("tests/providers");
    let lock = folder.join("package-lock.json");
    if !lock.is_file() {
        return Ok(());
    }
    let wanted = fs::read(&lock)?;
    let installed = folder.join("node_modules");
    let stamp = installed.join(STAMP);
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let npm = find_program("npm").context("npm is not installed")?;
    eprintln!("installing the npm packages of tests/providers");
    let status = Command::new(npm)
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        // The last line of standard output is the tests' summary.
        .stdout(Stdio::null())
        .status()
        .context("cannot start npm")?;
    ensure!(status.success(), "npm ci failed; its messages are above");
    fs::create_dir_all(&installed)?;
    fs::write(&stamp, wanted).context("cannot note what was installed")
}

/// A copy of the lock file that the packages were installed from.
const STAMP: &str = ".installed-from";
