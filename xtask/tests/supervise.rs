//! A child does not outlive whoever started it, even when that one is killed.
#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Runs a script that starts a program through us and prints its id, kills the script's shell, and waits
/// for the program's end.
fn check(script: &str) -> anyhow::Result<()> {
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .env("XTASK", env!("CARGO_BIN_EXE_xtask"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = shell.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let pid = Pid::from_raw(line.trim().parse()?).context("no process id")?;
    ensure!(is_running(pid), "it does not run");

    kill_process(Pid::from_child(&shell), Signal::KILL)?;
    shell.wait()?;
    let until = Instant::now() + Duration::from_secs(10);
    while is_running(pid) {
        ensure!(Instant::now() < until, "it is still there");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Whether a process runs; one that waits for its new parent to take note of its end does not.
fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let is_zombie = stat.is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    });
    test_kill_process(pid).is_ok() && !is_zombie
}

#[test]
fn a_program_dies_with_its_parent() {
    check("\"$XTASK\" supervise exec --parent $$ -- sh -c 'echo $$; exec sleep 60' & wait")
        .unwrap();
}

#[test]
fn a_watched_group_dies_with_its_parent() {
    // The watch begins once the group is there, as it does for groups that we start.
    check(
        "setsid sleep 60 & child=$!; \
         until [ \"$(ps -o pgid= -p $child | tr -d ' ')\" = $child ]; do :; done; \
         \"$XTASK\" supervise watch --parent $$ --group $child & echo $child; wait",
    )
    .unwrap();
}

#[test]
fn a_program_whose_parent_is_gone_does_not_start() {
    let status = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["supervise", "exec", "--parent", "1", "--", "true"])
        .status()
        .unwrap();
    // Where this test is itself a child of process 1, the program may start.
    assert!(!status.success() || std::process::id() == 1);
}
