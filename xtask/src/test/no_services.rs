//! Packages start the services that they bring, nginx on port 80 for one. The tests want the programs only,
//! so for the time of an install the system is told to start nothing, by Debian's own means
//! (`policy-rc.d`, asked by `invoke-rc.d` and `deb-systemd-invoke`).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// While it lives, no package starts a service.
#[derive(Debug)]
pub(super) struct NoServices {
    /// None where the system has a policy of its own, which stays.
    file: Option<PathBuf>,
}

impl NoServices {
    /// Puts the policy at `file`.
    pub(super) fn begin(file: &Path) -> Self {
        if fs::read_to_string(file).is_ok_and(|text| text.contains(MARK)) {
            // Left by a run that was killed; without effect since.
            let _ = fs::remove_file(file);
        }
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(file)
            .and_then(|mut out| out.write_all(policy(std::process::id()).as_bytes()));
        Self {
            file: written.is_ok().then(|| file.to_owned()),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
    }
}

/// Forbids (101) for as long as this process is there: a file that stays behind forbids nothing.
fn policy(process: u32) -> String {
    format!("#!/bin/sh\n{MARK}\nkill -0 {process} 2>/dev/null && exit 101\nexit 0\n")
}

/// Where Debian and Ubuntu look.
pub(super) const POLICY_FILE: &str = "/usr/sbin/policy-rc.d";
const MARK: &str = "# put here by `cargo xtask test` for the time of an install";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn answer(file: &Path) -> Option<i32> {
        let mut asked = Command::new(file);
        asked.args(["nginx", "start"]).status().unwrap().code()
    }

    /// It forbids while it lives, is gone after, and leaves a policy of the system's own alone.
    #[test]
    fn forbids_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy-rc.d");
        let forbidden = NoServices::begin(&file);
        assert_eq!(answer(&file), Some(101));
        drop(forbidden);
        assert!(!file.exists());

        fs::write(&file, "#!/bin/sh\nexit 104\n").unwrap();
        drop(NoServices::begin(&file));
        assert!(file.exists(), "not ours to remove");
    }

    /// What a killed run left forbids nothing, and the next run replaces it.
    #[test]
    fn a_leftover_is_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy-rc.d");
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        fs::write(&file, policy(gone.id())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(answer(&file), Some(0));
        let forbidden = NoServices::begin(&file);
        assert_eq!(answer(&file), Some(101));
        drop(forbidden);
        assert!(!file.exists());
    }
}
