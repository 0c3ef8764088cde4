//! Programs that nobody here wrote: those that some tests drive (a browser, node for identity providers,
//! strace to make system calls fail, curl, web servers that judge what reaches them), and a way to get any.
//!
//! As root on Debian or Ubuntu it installs what is missing. Elsewhere it names it and the command.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::no_services::{NoServices, POLICY_FILE};
use crate::workspace::find_program;

/// A program and where it comes from.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) what: &'static str,
    /// Any of these will do.
    pub(crate) programs: &'static [&'static str],
    /// The package of Debian and Ubuntu.
    pub(crate) package: &'static str,
    pub(crate) is_needed: bool,
}

const NEEDS: [Need; 10] = [
    Need {
        what: "a browser",
        programs: &["chromium", "chromium-browser", "google-chrome"],
        package: "chromium",
        is_needed: true,
    },
    Need {
        what: "the browser's driver",
        programs: &["chromedriver"],
        package: "chromium-driver",
        is_needed: true,
    },
    Need {
        what: "node",
        programs: &["node"],
        package: "nodejs",
        is_needed: true,
    },
    Need {
        what: "npm",
        programs: &["npm"],
        package: "npm",
        is_needed: true,
    },
    Need {
        what: "python",
        programs: &["python3"],
        package: "python3-venv",
        is_needed: true,
    },
    Need {
        what: "strace",
        programs: &["strace"],
        package: "strace",
        is_needed: cfg!(target_os = "linux"),
    },
    Need {
        what: "curl",
        programs: &["curl"],
        package: "curl",
        is_needed: true,
    },
    Need {
        what: "nginx",
        programs: &["nginx"],
        package: "nginx-light",
        is_needed: true,
    },
    Need {
        what: "Python",
        programs: &["python3"],
        package: "python3",
        is_needed: true,
    },
    Need {
        what: "unshare",
        programs: &["unshare"],
        package: "util-linux",
        is_needed: cfg!(target_os = "linux"),
    },
];

/// What the tests need.
pub(super) fn set_up() -> Vec<String> {
    get(&NEEDS)
}

/// Installs what it can; gives what is still missing, one line each with the command that gets it.
pub(crate) fn get(needs: &[Need]) -> Vec<String> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Vec::new();
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if has_apt() && is_root() {
        eprintln!("installing {}", packages.join(" "));
        install(&packages);
    }
    self::missing(needs).iter().map(|need| line(need)).collect()
}

fn missing(needs: &[Need]) -> Vec<&Need> {
    needs
        .iter()
        .filter(|need| need.is_needed)
        .filter(|need| {
            need.programs
                .iter()
                .all(|name| find_program(name).is_none())
        })
        .collect()
}

fn line(need: &Need) -> String {
    let Need { what, package, .. } = need;
    if has_apt() {
        return format!(
            "{what}; install it with: sudo apt-get install -y --no-install-recommends {package}"
        );
    }
    if cfg!(target_os = "macos") {
        return format!(
            "{what}; install it with: brew install {}",
            programs_for_brew(need)
        );
    }
    format!(
        "{what} ({}); install it with this system's package manager",
        need.programs.join(" or ")
    )
}

fn programs_for_brew(need: &Need) -> &'static str {
    match need.package {
        "chromium" => "--cask chromium",
        "chromium-driver" => "--cask chromedriver",
        "nodejs" | "npm" => "node",
        "nginx-light" => "nginx",
        "python3" => "python",
        "python3-venv" => "python",
        other => other,
    }
}

fn has_apt() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is_debian = release
        .lines()
        .filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="))
        .any(|line| line.contains("debian") || line.contains("ubuntu"));
    is_debian && find_program("apt-get").is_some()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What fails here shows as missing afterwards; its messages are on the terminal.
fn install(packages: &[&str]) {
    let _nothing_starts = NoServices::begin(Path::new(POLICY_FILE));
    let update = apt(&["update"]);
    let install = ["install", "-y", "--no-install-recommends"];
    let args: Vec<&str> = install.iter().chain(packages).copied().collect();
    if !update || !apt(&args) {
        eprintln!("apt-get failed; its messages are above");
    }
}

fn apt(args: &[&str]) -> bool {
    Command::new("apt-get")
        .args(["-q"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
