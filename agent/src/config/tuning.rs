//! What links may cost and how they send.

use super::yaml::{Placed, Wrong};

/// How a link behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tuning {
    pub(crate) congestion: Congestion,
    /// What local apps may leave unread of uploads, in all.
    pub(crate) unread_bytes: u64,
}

/// How a link chooses its speed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Congestion {
    /// Where one packet in a thousand is lost, 50 ms away, it sends 650 Mbit/s, and CUBIC 10.
    #[default]
    Bbr,
    Cubic,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            congestion: Congestion::default(),
            unread_bytes: UNREAD_MIB * MIB,
        }
    }
}

pub(super) fn congestion(text: &Placed<String>) -> Result<Congestion, Wrong> {
    match text.value.as_str() {
        "bbr" => Ok(Congestion::Bbr),
        "cubic" => Ok(Congestion::Cubic),
        _ => Err(Wrong::at(
            text.place,
            "congestion: may be bbr or cubic".to_owned(),
        )),
    }
}

pub(super) fn unread_bytes(text: &Placed<String>) -> Result<u64, Wrong> {
    let mib: Option<u64> = text.value.parse().ok();
    match mib.filter(|mib| (MIB_MIN..=MIB_MAX).contains(mib)) {
        Some(mib) => Ok(mib * MIB),
        None => Err(Wrong::at(
            text.place,
            format!("unread_mib: may be {MIB_MIN} to {MIB_MAX}"),
        )),
    }
}

/// Uploads that stall at a time: 64, at 4 MiB each.
const UNREAD_MIB: u64 = 256;
/// One stream's window.
const MIB_MIN: u64 = 4;
/// A terabyte.
const MIB_MAX: u64 = 1 << 20;
const MIB: u64 = 1 << 20;
