//! The folder of a demo or a bench: the edge's data, the agent's configuration, the logs of all. It is removed
//! at the end; what a killed one left behind is removed by the next of its kind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

/// A folder that is locked for as long as it is in use.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    /// The lock ends with the file.
    _lock: File,
}

impl Place {
    /// Makes the folder. It is in the system's place for such folders and has a short name: a Unix socket
    /// in it must fit into 100 bytes.
    pub(crate) fn new(prefix: &str) -> anyhow::Result<Self> {
        sweep(&std::env::temp_dir(), prefix);
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .context("cannot make a folder for this")?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock().context("cannot lock this folder")?;
        let place = Self {
            folder,
            _lock: lock,
        };
        for part in [
            place.data_dir(),
            place.agent_config_home(),
            place.other_agent_config_home(),
            place.log_dir(),
        ] {
            fs::create_dir_all(part)?;
        }
        Ok(place)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("edge")
    }

    pub(crate) fn agent_config_home(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    pub(crate) fn agent_config(&self) -> PathBuf {
        self.agent_config_home().join("agent.yml")
    }

    /// Where a second agent on this machine would keep what is its own.
    pub(crate) fn other_agent_config_home(&self) -> PathBuf {
        self.folder.path().join("agent-2")
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// Removes everything; what cannot be removed is left to the next one.
    pub(crate) fn remove(self) {
        let _ = self.folder.close();
    }
}

/// Removes folders of those that were killed: whose lock nobody holds.
fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(prefix));
        let Ok(lock) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        if is_ours && lock.try_lock().is_ok() {
            // Somebody else's cannot be removed, which is right.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

const LOCK: &str = "lock";
