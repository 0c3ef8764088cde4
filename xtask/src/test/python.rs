//! The virtual environment of `tests/python`: what the tests' Python programs use, by the versions that
//! its list of requirements names.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::workspace::find_program;

/// Makes it when it is not there, or not from this list.
pub(super) fn set_up(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("tests/python");
    let list = folder.join("requirements.txt");
    if !list.is_file() {
        return Ok(());
    }
    let wanted = fs::read(&list)?;
    let environment = folder.join("venv");
    let stamp = environment.join(STAMP);
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let python = find_program("python3").context("python3 is not installed")?;
    eprintln!("installing the Python packages of tests/python");
    let environment = environment.display().to_string();
    run(&python, &["-m", "venv", "--clear", &environment], &folder)?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary=:all:",
        "-r",
        "requirements.txt",
    ];
    run(&folder.join("venv/bin/python"), &pip, &folder)?;
    fs::write(&stamp, wanted).context("cannot note what was installed")
}

fn run(program: &Path, arguments: &[&str], folder: &Path) -> anyhow::Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        // The last line of standard output is the tests' summary.
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(
        status.success(),
        "{} {} failed; its messages are above",
        program.display(),
        arguments.join(" ")
    );
    Ok(())
}

/// A copy of the list that the packages were installed from.
const STAMP: &str = ".installed-from";
