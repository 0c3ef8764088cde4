//! What the figures were measured on and with: without it they say nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

/// The machine and the programs of one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_mb: u64,
    pub(super) kernel: String,
    /// Names of programs and what they say about themselves.
    pub(super) versions: Vec<(String, String)>,
}

impl Machine {
    /// Looks around; what cannot be found out is said to be unknown.
    pub(super) fn look(edge: &Path, agent: &Path) -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let versions = [
            ("edge", first_line(edge, &["version"])),
            ("agent", first_line(agent, &["version"])),
            (
                "commit",
                first_line(Path::new("git"), &["rev-parse", "--short", "HEAD"]),
            ),
            ("nginx", first_line(Path::new("nginx"), &["-v"])),
            ("rustc", first_line(Path::new("rustc"), &["--version"])),
        ];
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: value(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok())
                .map_or(0, |kilobytes| kilobytes / 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions: versions
                .into_iter()
                .map(|(name, said)| (name.to_owned(), said.unwrap_or_else(unknown)))
                .collect(),
        }
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let Self {
            cpu,
            cores,
            memory_mb,
            kernel,
            versions,
        } = self;
        let versions: Vec<String> = versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        format!(
            "{cpu}, {cores} cores, {memory_mb} MB, Linux {kernel}; {}",
            versions.join(", ")
        )
    }
}

/// `name : value` of the files in /proc.
fn value(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// What a program prints about itself, without its own name in front.
pub(super) fn first_line(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    let text = String::from_utf8_lossy(&said).into_owned();
    let line = text.lines().next()?.trim();
    let name = program.file_name()?.to_str()?;
    let line = line.strip_prefix("nginx version: ").unwrap_or(line);
    let line = line.strip_prefix(name).unwrap_or(line);
    Some(line.trim_start_matches([' ', '/']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: A B @ 2 GHz\n\nmodel name\t: other\n";
        assert_eq!(value(text, "model name").as_deref(), Some("A B @ 2 GHz"));
        assert_eq!(value(text, "flags"), None);
    }
}
