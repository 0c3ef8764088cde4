//! What a running process has used, as Linux tells it: time on processors and resident memory, including
//! all threads. The clock of `/proc` ticks every 10 ms, so look over seconds.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Time on processors of all these processes and their children so far.
pub(super) fn cpu(pids: &[u32]) -> anyhow::Result<Duration> {
    let all = with_children(pids)?;
    if all.is_empty() && !pids.is_empty() {
        bail!("the processes are gone");
    }
    Ok(all
        .iter()
        .map(|stat| TICK * u32::try_from(stat.ticks).unwrap_or(u32::MAX))
        .sum())
}

/// Time on processors of one process, without its children.
pub(super) fn cpu_alone(pid: u32) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let stat = parse(&text).context("/proc/…/stat cannot be read")?;
    Ok(TICK * u32::try_from(stat.ticks).unwrap_or(u32::MAX))
}

/// Resident memory of all these processes and their children, in bytes.
pub(super) fn resident_bytes(pids: &[u32]) -> anyhow::Result<u64> {
    let mut total = 0;
    for stat in with_children(pids)? {
        let status = fs::read_to_string(format!("/proc/{}/status", stat.pid))?;
        total += vm_rss(&status).context("no VmRSS in /proc/…/status")?;
    }
    Ok(total)
}

/// What of `/proc/<pid>/stat` is of interest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// User and system time.
    ticks: u64,
}

fn with_children(pids: &[u32]) -> anyhow::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("no /proc: this needs Linux")? {
        let name = entry?.file_name();
        if name
            .to_str()
            .is_none_or(|name| name.parse::<u32>().is_err())
        {
            continue;
        }
        // One that ended meanwhile is none.
        let text = fs::read_to_string(format!("/proc/{}/stat", name.to_string_lossy()));
        if let Some(stat) = text.ok().as_deref().and_then(parse)
            && (pids.contains(&stat.pid) || pids.contains(&stat.parent))
        {
            found.push(stat);
        }
    }
    Ok(found)
}

/// The name, in parentheses, may hold anything; the numbers follow the last one.
fn parse(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The third field of proc(5) is our first.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: u32::try_from(field(4)?).ok()?,
        ticks: field(14)? + field(15)?,
    })
}

fn vm_rss(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// `USER_HZ` is 100 on every Linux that we run on.
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = "42 (a) b (c) ) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 9 9 20 0 1 0 5";
        let wanted = Stat {
            pid: 42,
            parent: 7,
            ticks: 200,
        };
        assert_eq!(parse(text), Some(wanted));
        assert_eq!(parse("42 (short) S 7"), None);
    }

    #[test]
    fn memory_is_found() {
        assert_eq!(vm_rss("Name:\tx\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert_eq!(vm_rss("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_used_something() {
        assert!(resident_bytes(&[std::process::id()]).unwrap() > 100_000);
        assert!(cpu(&[std::process::id()]).is_ok());
    }
}
