//! Who has applied what: in memory, since it is worth nothing after a restart.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::id::{EdgeId, ReceiptId};
use tokio::sync::watch;

use super::super::{Acknowledged, Acknowledgement, Shard};
use crate::model::change::Revision;

/// Acknowledgements of this process's life.
#[derive(Debug)]
pub(super) struct Acks {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    applied: BTreeMap<EdgeId, HashMap<Shard, Revision>>,
    cuts: HashMap<ReceiptId, u64>,
    /// In the order of their first count; the oldest goes first.
    counted: VecDeque<ReceiptId>,
}

impl Default for Acks {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Acks {
    pub(super) fn note(&self, ack: Acknowledgement) {
        self.state().note(ack);
        self.changed.send_replace(());
    }

    /// Waits until every edge that ever acknowledged this shard has applied the revision.
    pub(super) async fn wait(
        &self,
        shard: Shard,
        revision: Revision,
        receipt: ReceiptId,
        wait: Duration,
    ) -> Acknowledged {
        // Subscribed before the first look, so that nothing falls between.
        let mut changed = self.changed.subscribe();
        let complete = async {
            while !self
                .state()
                .reached(shard, revision, receipt)
                .missing
                .is_empty()
            {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        // Too late or not: what counts is what is there now.
        let _ = tokio::time::timeout(wait, complete).await;
        self.state().reached(shard, revision, receipt)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, ack: Acknowledgement) {
        let applied = self.applied.entry(ack.edge).or_default();
        let position = applied.entry(ack.shard).or_default();
        *position = ack.applied.max(*position);
        for (receipt, count) in ack.cuts {
            let total = self.cuts.entry(receipt).or_insert_with(|| {
                self.counted.push_back(receipt);
                0
            });
            *total = total.saturating_add(count);
        }
        while self.counted.len() > RECEIPTS_MAX {
            if let Some(oldest) = self.counted.pop_front() {
                self.cuts.remove(&oldest);
            }
        }
        while self.applied.len() > EDGES_MAX {
            self.applied.pop_first();
        }
    }

    fn reached(&self, shard: Shard, revision: Revision, receipt: ReceiptId) -> Acknowledged {
        let mut reached = Acknowledged {
            connections_cut: self.cuts.get(&receipt).copied().unwrap_or(0),
            ..Acknowledged::default()
        };
        for (edge, applied) in &self.applied {
            if let Some(position) = applied.get(&shard) {
                reached.edges_total += 1;
                if *position < revision {
                    reached.missing.push(*edge);
                }
            }
        }
        reached
    }
}

/// Receipts whose cuts are still counted: they are written within a second or two.
const RECEIPTS_MAX: usize = 10_000;
/// Edges of one store. The embedded one has a single edge.
const EDGES_MAX: usize = 1024;
