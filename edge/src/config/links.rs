//! What links to agents may cost and how they send.

use serde_saphyr::Spanned;

use super::checks::refused;
use super::file::Source;
use super::{ConfigError, Links};
use crate::tunnel::link::Congestion;

pub(super) fn links(source: &Source) -> Result<Links, ConfigError> {
    let keys = &source.keys;
    let unread = mebibytes(source, "unread_mib", keys.unread_mib.as_ref())?;
    let per_agent = mebibytes(
        source,
        "unread_mib_per_agent",
        keys.unread_mib_per_agent.as_ref(),
    )?;
    Ok(Links {
        congestion: congestion(source)?,
        unread_per_agent_bytes: per_agent.unwrap_or(UNREAD_MIB_PER_AGENT * MIB),
        unread_bytes: unread.unwrap_or_else(default_unread),
    })
}

fn congestion(source: &Source) -> Result<Congestion, ConfigError> {
    let Some(name) = &source.keys.congestion else {
        return Ok(Congestion::Bbr);
    };
    match name.value.as_str() {
        "bbr" => Ok(Congestion::Bbr),
        "cubic" => Ok(Congestion::Cubic),
        _ => Err(refused(
            source.at("congestion", name),
            "bbr and cubic are possible",
        )),
    }
}

fn mebibytes(
    source: &Source,
    key: &'static str,
    value: Option<&Spanned<u64>>,
) -> Result<Option<u64>, ConfigError> {
    let Some(mib) = value else { return Ok(None) };
    if (MIB_MIN..=MIB_MAX).contains(&mib.value) {
        return Ok(Some(mib.value * MIB));
    }
    let message = format!("{MIB_MIN} to {MIB_MAX} (MiB) are possible");
    Err(refused(source.at(key, mib), &message))
}

/// A quarter of the memory that this process may use.
fn default_unread() -> u64 {
    let limits = [
        memory_total(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        memory_max(&std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default()),
    ];
    let memory = limits.into_iter().flatten().min();
    memory.map_or(UNREAD_MIB_UNKNOWN * MIB, |bytes| {
        (bytes / 4).max(UNREAD_MIB_PER_AGENT * MIB / 4)
    })
}

/// `MemTotal:  16384 kB`.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Bytes, or `max`.
fn memory_max(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Readers of one agent that stall at a time: 64, at 4 MiB each.
pub(super) const UNREAD_MIB_PER_AGENT: u64 = 256;
/// Where the system does not say how much memory there is.
const UNREAD_MIB_UNKNOWN: u64 = 1024;
/// One stream's window.
const MIB_MIN: u64 = 4;
/// A terabyte.
const MIB_MAX: u64 = 1 << 20;
const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the system says of its memory, and what says nothing.
    #[test]
    fn memory_is_read() {
        let meminfo = "MemTotal:       16384256 kB\nMemFree:          123 kB\n";
        assert_eq!(memory_total(meminfo), Some(16_384_256 * 1024));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        assert_eq!(memory_total("MemTotal: many kB\n"), None);
        assert_eq!(memory_max("536870912\n"), Some(536_870_912));
        assert_eq!(memory_max("max\n"), None);
        assert!(default_unread() >= 64 * MIB);
    }
}
