//! Where the workspace is, and cargo in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::supervise;

/// Names a folder that already holds `edge`, `agent` and `xtask`; then nothing is built.
pub(crate) const BIN_DIR: &str = "SALLYPORT_BIN_DIR";

/// The folder of the workspace's manifest.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.ancestors()
        .find(|folder| folder.join("xtask").is_dir() && folder.join("Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .with_context(|| format!("no workspace around {}", here.display()))
}

/// Cargo, the one that runs us, in the workspace.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root).stdin(Stdio::null());
    command
}

/// A program's full path, if it is installed.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The programs of the workspace, as built.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) edge: PathBuf,
    pub(crate) agent: PathBuf,
    pub(crate) xtask: PathBuf,
}

impl Programs {
    /// The folder that they are in.
    pub(crate) fn folder(&self) -> anyhow::Result<&Path> {
        self.edge.parent().context("edge is in no folder")
    }

    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let find = |name: &str| {
            let file = folder.join(name);
            anyhow::ensure!(
                file.is_file(),
                "{BIN_DIR} has no {name}: {}",
                file.display()
            );
            Ok(file)
        };
        Ok(Self {
            edge: find("edge")?,
            agent: find("agent")?,
            xtask: find("xtask")?,
        })
    }
}

/// Builds the programs, with cargo's own progress on standard error, or takes those of [`BIN_DIR`].
///
/// The whole workspace is selected, although two programs are wanted: cargo then settles on the same
/// features as the tests do, and `cargo xtask demo` and `cargo xtask test` share what they build.
pub(crate) fn build(root: &Path) -> anyhow::Result<Programs> {
    if let Some(folder) = std::env::var_os(BIN_DIR) {
        return Programs::in_folder(Path::new(&folder));
    }
    let mut command = cargo(root);
    command
        .args(["build", "--workspace", "--bins"])
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped());
    let mut child = supervise::Group::spawn(&mut command).context("cannot start cargo")?;
    let stdout = child.take_stdout().context("cargo has no output")?;
    let mut built = BTreeMap::new();
    for line in BufReader::new(stdout).lines() {
        if let Some((name, file)) = executable(&line?) {
            built.insert(name, file);
        }
    }
    if !child.wait()?.success() {
        bail!("the build failed; its messages are above");
    }
    let mut take = |name: &str| {
        built
            .remove(name)
            .with_context(|| format!("the build made no program {name}"))
    };
    Ok(Programs {
        edge: take("edge")?,
        agent: take("agent")?,
        xtask: take("xtask")?,
    })
}

/// A program that one of cargo's JSON messages says was made (or was fresh).
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let target = message.get("target")?;
    let is_bin = target
        .get("kind")?
        .as_array()?
        .iter()
        .any(|kind| kind == "bin");
    let file = message.get("executable")?.as_str()?;
    is_bin.then(|| {
        Some((
            target.get("name")?.as_str()?.to_owned(),
            PathBuf::from(file),
        ))
    })?
}
