//! Following one shard's log: what to apply, when everything must be read again, what may be
//! acknowledged. The driver does the I/O and reports back.

use crate::model::change::{LogEntry, Revision};

/// Where an edge stands in a shard's log.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Everything up to here has been applied.
    applied: Revision,
}

/// What the driver must do next.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Apply these in order, then call [`Follower::applied`] with the last one's revision.
    Apply(Vec<LogEntry>),
    /// Entries were missed: cut what cannot be confirmed, read everything again, then call
    /// [`Follower::applied`] with this position.
    Resync(Revision),
    /// Nothing new.
    Wait,
}

impl Follower {
    /// Starts behind the position that the initial read included.
    pub(crate) const fn new(applied: Revision) -> Self {
        Self { applied }
    }

    /// The position to read after.
    pub(crate) const fn position(&self) -> Revision {
        self.applied
    }

    /// Judges a batch. Entries at or below the position are replays and are left out; a batch that
    /// is out of order, or says that entries are gone, is never applied in part.
    pub(crate) fn judge(&self, entries: Vec<LogEntry>, gap: bool, head: Revision) -> Step {
        if gap || head < self.applied {
            return Step::Resync(head);
        }
        let fresh: Vec<_> = entries
            .into_iter()
            .filter(|entry| entry.revision > self.applied)
            .collect();
        if fresh.is_empty() {
            return Step::Wait;
        }
        if !fresh.is_sorted_by(|a, b| a.revision < b.revision) {
            return Step::Resync(head);
        }
        Step::Apply(fresh)
    }

    /// The driver has applied everything up to `revision`, which may now be acknowledged.
    pub(crate) fn applied(&mut self, revision: Revision) {
        self.applied = self.applied.max(revision);
    }

    /// After a resync the position is what was read, even where the log's head fell.
    pub(crate) fn resynced(&mut self, head: Revision) {
        self.applied = head;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::Change;

    fn entry(revision: u64) -> LogEntry {
        LogEntry {
            revision: Revision(revision),
            change: Change::ProviderChanged {
                name: "dev".to_owned(),
            },
        }
    }

    /// Changes are applied in log order, once, and a gap means read again, never hope.
    #[test]
    fn judges_batches() {
        let follower = Follower::new(Revision(5));
        let cases = [
            (vec![], false, 5, Step::Wait),
            (vec![entry(4), entry(5)], false, 5, Step::Wait),
            (
                vec![entry(5), entry(6), entry(9)],
                false,
                9,
                Step::Apply(vec![entry(6), entry(9)]),
            ),
            (vec![entry(7)], true, 7, Step::Resync(Revision(7))),
            (
                vec![entry(7), entry(6)],
                false,
                7,
                Step::Resync(Revision(7)),
            ),
            (vec![], false, 3, Step::Resync(Revision(3))),
        ];
        for (entries, gap, head, expected) in cases {
            assert_eq!(follower.judge(entries, gap, Revision(head)), expected);
        }
    }
}
