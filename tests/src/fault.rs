//! Faults of a disk, as verbs. Each heals when it is dropped or ended.

use std::path::{Path, PathBuf};

use tokio::process::{Child, Command};

use crate::require;
use crate::wait;

/// A small file system of its own, in memory. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    pub folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `size` (as `mount` takes it) at `folder`; `None` after saying why `test` is skipped.
    pub async fn mount(folder: &Path, size: &str, test: &str) -> Option<Self> {
        require::program("mount", test)?;
        std::fs::create_dir_all(folder).expect("a folder");
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder)
            .output()
            .await
            .expect("mount runs");
        if !done.status.success() {
            require::missing("the right to mount a file system", test);
            return None;
        }
        Some(Self {
            folder: folder.to_owned(),
        })
    }

    /// Fills what is left.
    pub async fn fill(&self) {
        let file = self.folder.join("filler");
        tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::create(file).expect("a file");
            let block = vec![0_u8; 4096];
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
        })
        .await
        .expect("no panic");
    }

    /// Makes room again.
    pub fn free(&self) {
        std::fs::remove_file(self.folder.join("filler")).expect("the filler was there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a program that a failed test leaves behind may still hold a file.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.folder)
            .status();
    }
}

/// System calls of a running program that fail.
#[derive(Debug)]
pub struct FailingCalls {
    child: Child,
}

impl FailingCalls {
    /// Lets `calls` (such as `fsync,fdatasync`) on `file` fail with `error` in process `pid`; `None` after
    /// saying why `test` is skipped.
    pub async fn begin(
        pid: u32,
        file: &Path,
        calls: &str,
        error: &str,
        logs: &Path,
        test: &str,
    ) -> Option<Self> {
        let strace = require::program("strace", test)?;
        let output = logs.join("strace.log");
        let _ = std::fs::remove_file(&output);
        let mut command = Command::new(strace);
        command
            .args(["-f", "-p", &pid.to_string(), "-P"])
            .arg(file)
            .args([
                "-e",
                &format!("trace={calls}"),
                "-e",
                &format!("inject={calls}:error={error}"),
                "-o",
            ])
            .arg(&output)
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("strace starts");
        let mut said = tokio::io::BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        wait::within(
            "strace attaches",
            tokio::io::AsyncBufReadExt::read_line(&mut said, &mut line),
        )
        .await
        .expect("it says so");
        if !line.contains("attached") {
            require::missing("the right to trace a process", test);
            return None;
        }
        // What it says later must not fill the pipe.
        tokio::spawn(async move {
            let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
        });
        Some(Self { child })
    }

    /// Lets them succeed again.
    pub async fn end(mut self) {
        let pid = self.child.id().expect("it runs");
        // Asked politely, so that the traced program goes on.
        let _ = Command::new("kill")
            .args(["-INT", &pid.to_string()])
            .status()
            .await;
        let _ = wait::within("strace detaches", self.child.wait()).await;
    }
}
