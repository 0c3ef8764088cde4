//! How public connections ended that carried no HTTP. Rare enough that all threads share the cells.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a connection to a TCP or TLS endpoint ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RawEnd {
    Complete,
    ClientGone,
    UpstreamGone,
    Idle,
    /// Ended by a drain: nothing was under way.
    Drained,
    Cut,
    /// Nothing was carried.
    Refused,
}

/// Why a connection was closed before anything was served on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotServed {
    /// A listed proxy sent no usable PROXY header.
    ProxyHeader,
    /// What came was no TLS hello.
    Hello,
    Handshake,
    TimedOut,
    /// By an address rule, or because nobody serves the name.
    Refused,
    /// Its address has as many as it may.
    TooMany,
}

/// The cells.
#[derive(Debug, Default)]
pub(super) struct Connections {
    raw: [AtomicU64; RAW.len()],
    not_served: [AtomicU64; NOT_SERVED.len()],
}

impl Connections {
    pub(super) fn raw(&self, end: RawEnd) {
        count(&self.raw, &RAW, end);
    }

    pub(super) fn not_served(&self, why: NotServed) {
        count(&self.not_served, &NOT_SERVED, why);
    }

    /// Raw connections, by end.
    pub(super) fn raw_rows(&self) -> Vec<(&'static str, u64)> {
        rows(&self.raw, &RAW)
    }

    /// Connections on which nothing was served, by reason.
    pub(super) fn not_served_rows(&self) -> Vec<(&'static str, u64)> {
        rows(&self.not_served, &NOT_SERVED)
    }
}

fn count<T: PartialEq + Copy, const N: usize>(
    cells: &[AtomicU64; N],
    words: &[(T, &'static str); N],
    which: T,
) {
    let at = words.iter().position(|(one, _)| *one == which);
    if let Some(cell) = at.and_then(|at| cells.get(at)) {
        cell.fetch_add(1, Ordering::Relaxed);
    }
}

fn rows<T, const N: usize>(
    cells: &[AtomicU64; N],
    words: &[(T, &'static str); N],
) -> Vec<(&'static str, u64)> {
    let values = cells.iter().map(|cell| cell.load(Ordering::Relaxed));
    words.iter().map(|(_, word)| *word).zip(values).collect()
}

const RAW: [(RawEnd, &str); 7] = [
    (RawEnd::Complete, "complete"),
    (RawEnd::ClientGone, "client_gone"),
    (RawEnd::UpstreamGone, "upstream_gone"),
    (RawEnd::Idle, "idle"),
    (RawEnd::Drained, "drained"),
    (RawEnd::Cut, "cut"),
    (RawEnd::Refused, "refused"),
];
const NOT_SERVED: [(NotServed, &str); 6] = [
    (NotServed::ProxyHeader, "proxy_header"),
    (NotServed::Hello, "hello"),
    (NotServed::Handshake, "handshake"),
    (NotServed::TimedOut, "timed_out"),
    (NotServed::Refused, "refused"),
    (NotServed::TooMany, "too_many"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each word has its cell.
    #[test]
    fn counted_by_word() {
        let cells = Connections::default();
        for (end, _) in RAW {
            cells.raw(end);
        }
        cells.not_served(NotServed::Hello);
        cells.not_served(NotServed::Hello);
        assert!(cells.raw_rows().iter().all(|(_, count)| *count == 1));
        let hello = cells
            .not_served_rows()
            .into_iter()
            .find(|(word, _)| *word == "hello");
        assert_eq!(hello, Some(("hello", 2)));
    }
}
