//! The child processes of a demo or a bench. None outlives its parent, see `supervise`; each logs into a file
//! of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use futures_util::future::select_all;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::place::Place;
use crate::supervise;

/// All of them, in the order of their starts.
#[derive(Debug)]
pub(crate) struct Children {
    xtask: PathBuf,
    log_dir: PathBuf,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    name: String,
    pid: u32,
    child: Child,
    /// Only where the kernel does not end all of it with us.
    _watcher: Option<Child>,
}

/// What a started child says on its standard output, line by line.
#[derive(Debug)]
pub(crate) struct Says {
    name: String,
    pub(crate) pid: u32,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Children {
    pub(crate) fn new(xtask: &Path, place: &Place) -> Self {
        Self {
            xtask: xtask.to_owned(),
            log_dir: place.log_dir(),
            running: Vec::new(),
        }
    }

    /// The path of our own program, which is also the identity provider and the sample app.
    pub(crate) fn xtask(&self) -> PathBuf {
        self.xtask.clone()
    }

    /// Starts a program that stays.
    pub(crate) fn start(
        &mut self,
        name: impl Into<String>,
        program: &Path,
        configure: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Says> {
        let is_watched = !cfg!(target_os = "linux");
        self.start_as(name.into(), program, is_watched, configure)
    }

    /// Starts a program that stays and has children of its own, which the kernel does not end with us.
    pub(crate) fn start_group(
        &mut self,
        name: impl Into<String>,
        program: &Path,
        configure: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Says> {
        self.start_as(name.into(), program, true, configure)
    }

    fn start_as(
        &mut self,
        name: String,
        program: &Path,
        is_watched: bool,
        configure: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Says> {
        let log = File::create(self.log(&name)).context("cannot make a log")?;
        let mut command = self.command(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        configure(&mut command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().context("it ended at once")?;
        let stdout = child.stdout.take().context("it has no output")?;
        let watcher = if is_watched {
            Some(self.watcher(pid)?)
        } else {
            None
        };
        self.running.push(Running {
            name: name.clone(),
            pid,
            child,
            _watcher: watcher,
        });
        Ok(Says {
            name,
            pid,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// Runs a program to its end; gives the JSON that it prints.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        program: &Path,
        input: Option<&str>,
        configure: impl FnOnce(&mut Command),
    ) -> anyhow::Result<T> {
        let output = self.output(program, input, configure).await?;
        serde_json::from_slice(&output).with_context(|| {
            let text = String::from_utf8_lossy(&output).into_owned();
            format!("this is not the answer that was expected: {text}")
        })
    }

    /// Runs a program to its end; gives what it prints.
    pub(crate) async fn output(
        &self,
        program: &Path,
        input: Option<&str>,
        configure: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Vec<u8>> {
        let mut command = self.command(program);
        command
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        configure(&mut command);
        // Neither secrets nor the supervisor belong into a message.
        let shown = program
            .file_name()
            .unwrap_or_else(|| OsStr::new("it"))
            .to_string_lossy();
        let finish = async {
            let mut child = command.spawn()?;
            if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
                stdin.write_all(text.as_bytes()).await?;
            }
            child.wait_with_output().await
        };
        let output = timeout(ANSWER_WITHIN, finish)
            .await
            .with_context(|| format!("{shown} did not end within {} s", ANSWER_WITHIN.as_secs()))?
            .with_context(|| format!("cannot run {shown}"))?;
        ensure!(
            output.status.success(),
            "{shown} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
    }

    /// Tells of each child that ends; never resolves.
    pub(crate) async fn report_deaths(&mut self, say: impl Fn(&str)) {
        while !self.running.is_empty() {
            let ends = self
                .running
                .iter_mut()
                .map(|running| Box::pin(running.child.wait()));
            let (status, at, _) = select_all(ends).await;
            let gone = self.running.remove(at);
            say(&format!("{} has ended: {}", gone.name, describe(status)));
        }
        std::future::pending::<()>().await;
    }

    /// Asks them to end, the last one started first, and waits until they have. Whoever takes too long is
    /// killed when this value is dropped.
    pub(crate) async fn stop(&mut self) {
        while let Some(running) = self.running.last_mut() {
            running.stop().await;
            self.running.pop();
        }
    }

    /// Asks one of them to end, by its process id, and waits until it has.
    pub(crate) async fn stop_one(&mut self, pid: u32) {
        let at = self.running.iter().position(|running| running.pid == pid);
        if let Some(at) = at {
            self.running.remove(at).stop().await;
        }
    }

    /// Prints the end of each log, for a start that failed.
    pub(crate) fn show_logs(&self) {
        let Ok(logs) = fs::read_dir(&self.log_dir) else {
            return;
        };
        for log in logs.flatten() {
            let text = fs::read(log.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().rev().take(LOG_LINES_SHOWN).collect();
            if !lines.is_empty() {
                eprintln!("── the end of {}", log.file_name().to_string_lossy());
            }
            for line in lines.into_iter().rev() {
                eprintln!("{line}");
            }
        }
    }

    /// A command without what the caller's environment says about the product.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::from(supervise::dies_with_us(&self.xtask, program));
        for name in FOREIGN_SETTINGS {
            command.env_remove(name);
        }
        command.kill_on_drop(true);
        command
    }

    fn watcher(&self, pid: u32) -> anyhow::Result<Child> {
        let mut command = Command::from(supervise::watcher(&self.xtask, pid));
        let watcher = command.kill_on_drop(true).spawn();
        watcher.context("cannot start the watch over it")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.log_dir.join(name).with_extension("log")
    }
}

impl Running {
    /// Asks it to end; kills it when that takes too long.
    async fn stop(&mut self) {
        supervise::ask_group_to_end(self.pid);
        if timeout(END_WITHIN, self.child.wait()).await.is_err() {
            supervise::kill_group(self.pid);
            let _ = self.child.wait().await;
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for running in &self.running {
            supervise::kill_group(running.pid);
        }
    }
}

impl Says {
    /// The first line that is a JSON object with this event, within the time that a start may take.
    pub(crate) async fn event<T: DeserializeOwned>(&mut self, event: &str) -> anyhow::Result<T> {
        let find = async {
            while let Some(line) = self.lines.next_line().await? {
                let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) else {
                    continue;
                };
                match said.get("event").and_then(serde_json::Value::as_str) {
                    Some(name) if name == event => return Ok(serde_json::from_value(said)?),
                    Some("error") => bail!(complaint(&said)),
                    _ => {}
                }
            }
            bail!("it has ended without saying \"{event}\"")
        };
        timeout(START_WITHIN, find)
            .await
            .unwrap_or_else(|_| {
                Err(anyhow!(
                    "no \"{event}\" within {} s",
                    START_WITHIN.as_secs()
                ))
            })
            .with_context(|| format!("{} did not start", self.name))
    }

    /// Reads on and lets go, so that the child never waits for us.
    pub(crate) fn drain(mut self) {
        tokio::spawn(async move { while let Ok(Some(_)) = self.lines.next_line().await {} });
    }
}

/// Code, sentence and next step of an error that was said as JSON.
fn complaint(said: &serde_json::Value) -> String {
    ["code", "message", "next_step"]
        .iter()
        .filter_map(|field| said.get(field)?.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// For a program that stays: until it says that it is ready.
const START_WITHIN: Duration = Duration::from_mins(1);
/// For a command.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// For a program that was asked to end: longer than the edge and the agent drain.
const END_WITHIN: Duration = Duration::from_secs(6);
const LOG_LINES_SHOWN: usize = 30;
const FOREIGN_SETTINGS: [&str; 4] = [
    "SALLYPORT_AUTHTOKEN",
    "NGROK_AUTHTOKEN",
    "SALLYPORT_CONFIG",
    "SALLYPORT_DATA_DIR",
];
