//! Keeps programs from outliving the one that started them, even when that one is killed with no chance
//! to clean up.
//!
//! Two ways, because `unsafe` is forbidden and so nothing of ours can run between fork and exec:
//! - `supervise exec` asks the kernel for a SIGKILL on its parent's death, makes sure that the parent is
//!   still there, and becomes the program: same process id, no race. Linux only.
//! - `supervise watch` looks after a whole process group from outside, for children with children of
//!   their own (cargo), and for every child where the kernel has no such wish to grant.
//!
//! A note on threads: Linux sends that signal when the *thread* that started the child ends. Start
//! children from the main thread.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use rustix::process::{Pid, Signal, getppid, kill_process_group, test_kill_process_group};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    way: Way,
}

#[derive(Debug, Subcommand)]
enum Way {
    /// Become a program that dies with its parent
    Exec {
        #[arg(long)]
        parent: i32,
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// Kill a process group once the parent has died
    Watch {
        #[arg(long)]
        parent: i32,
        #[arg(long)]
        group: i32,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.way {
        Way::Exec { parent, program } => become_program(*parent, program),
        Way::Watch { parent, group } => {
            watch(*parent, *group);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn become_program(parent: i32, program: &[OsString]) -> anyhow::Result<ExitCode> {
    let (name, args) = program.split_first().context("no program named")?;
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the wish was made; then nobody would send the signal.
    if !has_parent(parent) {
        return Ok(ExitCode::FAILURE);
    }
    let error = Command::new(name).args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", Path::new(name).display()))
}

/// Waits until the parent or the group is gone; kills the group in the first case.
fn watch(parent: i32, group: i32) {
    let Some(group) = Pid::from_raw(group) else {
        return;
    };
    while has_parent(parent) {
        if test_kill_process_group(group).is_err() {
            return;
        }
        thread::sleep(WATCH_EVERY);
    }
    // Nothing to do about a group that is gone by now.
    let _ = kill_process_group(group, Signal::KILL);
}

fn has_parent(parent: i32) -> bool {
    getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent)
}

/// The command that starts a program so that it dies with this process, in a process group of its own
/// (a Ctrl-C in the terminal then reaches us only, and we stop the others in order).
///
/// Start it from the main thread. Where the kernel cannot do it, give its id to [`watcher`] as well.
pub(crate) fn dies_with_us(xtask: &Path, program: &Path) -> Command {
    let mut command = Command::new(xtask);
    command
        .args(["supervise", "exec", "--parent", &own_id(), "--"])
        .arg(program)
        .process_group(0);
    command
}

/// The command that starts a watch over a process group.
pub(crate) fn watcher(xtask: &Path, group: u32) -> Command {
    let mut command = Command::new(xtask);
    command
        .args(["supervise", "watch", "--parent", &own_id()])
        .args(["--group", &group.to_string()])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn own_id() -> String {
    std::process::id().to_string()
}

/// A child with children of its own, all of which end with us. Killed when dropped before its end.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Child,
    watcher: Child,
}

impl Group {
    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let mut leader = command.process_group(0).spawn()?;
        let started = std::env::current_exe()
            .and_then(|xtask| watcher(&xtask, leader.id()).spawn())
            .context("cannot start the watch over it");
        match started {
            Ok(watcher) => Ok(Self { leader, watcher }),
            Err(error) => {
                kill_group(leader.id());
                let _ = leader.wait();
                Err(error)
            }
        }
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.leader.stdout.take()
    }

    pub(crate) fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.leader.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.leader.try_wait(), Ok(Some(_))) {
            kill_group(self.leader.id());
            let _ = self.leader.wait();
        }
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}

/// Kills a process group; one that is gone is fine.
pub(crate) fn kill_group(group: u32) {
    signal_group(group, Signal::KILL);
}

/// Asks a process group to end.
pub(crate) fn ask_group_to_end(group: u32) {
    signal_group(group, Signal::TERM);
}

fn signal_group(group: u32, signal: Signal) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

const WATCH_EVERY: Duration = Duration::from_millis(100);
