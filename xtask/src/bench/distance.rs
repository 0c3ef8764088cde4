//! A long way on one machine: a network namespace with a TUN device in it, the other end of the way here, and a
//! relay in between that takes its time and loses some. The kernels here have no netem.
//!
//! Everything ends with the process: a TUN device goes with its file, the namespace with [`Distance`], and one that a
//! killed run left behind with the next run.

mod queue;
mod relay;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::bench::distance::relay::Relay;
use crate::test::needs::{self, Need};
use crate::workspace::find_program;

/// A namespace at the far end of a slow way.
#[derive(Debug)]
pub(super) struct Distance {
    relay: Relay,
    ip: PathBuf,
    space: String,
    /// Our end of the way.
    pub(super) here: Ipv4Addr,
}

impl Distance {
    /// Makes both ends and the way between them, without loss at first.
    pub(super) fn make() -> anyhow::Result<Self> {
        ensure!(
            Path::new(TUN).exists(),
            "there is no {TUN}, so there is no way to slow down"
        );
        ensure!(
            rustix::process::geteuid().is_root(),
            "network namespaces are for root"
        );
        let missing = needs::get(&NEEDS);
        if let Some(line) = missing.first() {
            bail!("missing: {line}");
        }
        let ip = find_program("ip").context("ip is not installed")?;
        sweep(&ip);
        let number = std::process::id();
        let space = format!("{SPACE}{number}");
        run(&ip, &["netns", "add", &space])?;
        // From here on it is removed when dropped.
        let [_, _, high, low] = number.to_be_bytes();
        let net = |last| Ipv4Addr::new(10, high, low, last);
        let (here, there) = (net(1), net(2));
        let names = [format!("spa{number}"), format!("spb{number}")];
        let [near, far] = names.each_ref().map(String::as_str);
        let relay = match Relay::start([near, far]) {
            Ok(relay) => relay,
            Err(error) => {
                let _ = run(&ip, &["netns", "del", &space]);
                return Err(error);
            }
        };
        let distance = Self {
            relay,
            ip,
            space,
            here,
        };
        distance.connect([near, far], [here, there])?;
        Ok(distance)
    }

    fn connect(&self, [near, far]: [&str; 2], [here, there]: [Ipv4Addr; 2]) -> anyhow::Result<()> {
        let (ip, space) = (&self.ip, self.space.as_str());
        run(ip, &["link", "set", far, "netns", space])?;
        let ends = [(near, here, None), (far, there, Some(space))];
        for (device, addr, space) in ends {
            let inside = space.map(|space| ["-n", space]);
            let inside = inside.as_ref().map_or(&[][..], |inside| &inside[..]);
            let with = |args: &[&str]| run(ip, &[inside, args].concat());
            with(&["addr", "add", &format!("{addr}/24"), "dev", device])?;
            let long = QUEUE.to_string();
            with(&["link", "set", device, "mtu", MTU, "txqueuelen", &long, "up"])?;
        }
        run(ip, &["-n", space, "link", "set", "lo", "up"])
    }

    /// Loses so many of a thousand packets, in each direction, from now on.
    pub(super) fn lose(&self, of_a_thousand: u32) {
        self.relay.lose(of_a_thousand);
    }

    /// What makes a command one of the far end: a program, and arguments before its own.
    pub(super) fn inside(&self, program: &Path) -> (PathBuf, Vec<String>) {
        let args = ["netns", "exec", &self.space];
        let mut args = args.map(str::to_owned).to_vec();
        args.push(program.display().to_string());
        (self.ip.clone(), args)
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        // What cannot be removed is left to the next run.
        let _ = run(&self.ip, &["netns", "del", &self.space]);
    }
}

/// Removes namespaces of runs that are no more.
fn sweep(ip: &Path) {
    let Ok(output) = Command::new(ip).args(["netns", "list"]).output() else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in text.lines().filter_map(|line| line.split(' ').next()) {
        let Some(pid) = name.strip_prefix(SPACE) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            let _ = run(ip, &["netns", "del", name]);
        }
    }
}

fn run(ip: &Path, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(ip)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("cannot start ip")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

const NEEDS: [Need; 1] = [Need {
    what: "ip",
    programs: &["ip"],
    package: "iproute2",
    is_needed: true,
}];
const TUN: &str = "/dev/net/tun";
/// Starts the names of our namespaces; the process id follows.
const SPACE: &str = "sallyport-bench-";
const MTU: &str = "1500";
/// Packets that may wait for the relay: a burst of a whole window fits.
const QUEUE: u32 = 10_000;
