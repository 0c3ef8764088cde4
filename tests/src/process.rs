//! Child processes that speak JSON lines, with their output kept in files for the secret scan.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::wait;

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stderr: PathBuf,
    /// What it said so far.
    pub events: Events,
}

/// The JSON lines of a program, in order.
#[derive(Clone, Debug)]
pub struct Events {
    lines: Arc<Mutex<Vec<Value>>>,
    changed: watch::Receiver<usize>,
}

impl Process {
    /// Starts it. Standard output is read as JSON lines and kept in `<logs>/<name>.stdout`, standard
    /// error in `<logs>/<name>.stderr`.
    pub fn start(mut command: Command, name: &str, logs: &Path) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(command, name, logs)
    }

    /// As [`Process::start`], with its standard input.
    pub fn start_with_stdin(mut command: Command, name: &str, logs: &Path) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut process = Self::spawn(command, name, logs);
        let stdin = process.child.stdin.take().expect("piped");
        (process, stdin)
    }

    fn spawn(mut command: Command, name: &str, logs: &Path) -> Self {
        let stderr = logs.join(format!("{name}.stderr"));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&stderr)
            .expect("log file");
        command
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = child.stdout.take().expect("piped");
        let copy = logs.join(format!("{name}.stdout"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, changed) = watch::channel(0);
        let shared = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut reader = BufReader::new(stdout).lines();
            let mut file = tokio::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(copy)
                .await
                .expect("log file");
            while let Ok(Some(line)) = reader.next_line().await {
                let _ = file.write_all(format!("{line}\n").as_bytes()).await;
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                let mut lines = shared.lock().unwrap();
                lines.push(value);
                sender.send_replace(lines.len());
            }
            let _ = file.flush().await;
        });
        Self {
            name: name.to_owned(),
            child,
            stderr,
            events: Events { lines, changed },
        }
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Waits for a JSON line that satisfies `wanted`, from the beginning or from `from` on.
    pub async fn event_from(
        &mut self,
        from: usize,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut events = self.events.clone();
        let found = tokio::time::timeout(wait::DEADLINE, events.wait(from, &wanted)).await;
        match found {
            Ok(Some(value)) => value,
            Ok(None) | Err(_) => panic!(
                "{}: no line for {what}; said {:?}; {}",
                self.name,
                self.events.all(),
                self.stderr_tail()
            ),
        }
    }

    /// As [`Process::event_from`], from the beginning.
    pub async fn event(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.event_from(0, what, wanted).await
    }

    /// The first line `{"event": name, …}`.
    pub async fn event_named(&mut self, name: &str) -> Value {
        self.event(name, |value| value["event"] == name).await
    }

    /// The end of its standard error.
    pub fn stderr_tail(&self) -> String {
        let text = self.stderr_text();
        let lines: Vec<_> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// All of its standard error, so far.
    pub fn stderr_text(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Sends a signal by name, as `kill` knows it.
    pub async fn signal(&self, signal: &str) {
        let done = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.pid().to_string())
            .status()
            .await;
        assert!(done.expect("kill runs").success());
    }

    /// Waits for its end.
    pub async fn exited(&mut self) -> ExitStatus {
        wait::within(&format!("end of {}", self.name), self.child.wait())
            .await
            .expect("waited for")
    }

    /// SIGTERM, and its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.exited().await
    }

    /// SIGKILL, and its end.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Events {
    /// Everything said so far.
    pub fn all(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// How many lines so far: where to look from for what comes next.
    pub fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// `None` when the output ended without such a line.
    async fn wait(&mut self, from: usize, wanted: &impl Fn(&Value) -> bool) -> Option<Value> {
        loop {
            self.changed.borrow_and_update();
            if let Some(found) = self
                .all()
                .into_iter()
                .skip(from)
                .find(|value| wanted(value))
            {
                return Some(found);
            }
            if self.changed.changed().await.is_err() {
                return self
                    .all()
                    .into_iter()
                    .skip(from)
                    .find(|value| wanted(value));
            }
        }
    }
}

/// What a command that ended said.
#[derive(Clone, Debug)]
pub struct Output {
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {:?} {:?}", self.stdout, self.stderr))
    }

    /// Both outputs.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end.
pub async fn run(mut command: Command, stdin: &[u8]) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let shown = format!("{:?}", command.as_std());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut input = child.stdin.take().expect("piped");
    // A command that takes no input may be gone by now.
    let _ = input.write_all(stdin).await;
    drop(input);
    let output = wait::within(&shown, child.wait_with_output())
        .await
        .expect("waited for");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
