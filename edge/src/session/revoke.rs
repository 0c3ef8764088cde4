//! Revocation of any scope: one durable step in the store, then the wait for every edge to say that
//! it has cut, then the receipt. Logging out takes the same path.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::model::change::Scope;
use crate::model::receipt::Receipt;
use crate::model::session::CutReason;
use crate::secret;
use crate::store::{RevokeOrder, Revoked, Shard, Store, StoreError};

/// Ends rights and proves it.
#[derive(Clone, Debug)]
pub(crate) struct Revocations {
    store: Arc<Store>,
    clock: Clock,
}

impl Revocations {
    pub(crate) const fn new(store: Arc<Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Ends what `scope` names. `None` when there is no such thing. For a user with `delete_user`,
    /// the person's record goes too. Repeating an order gives the first receipt, and waits as the
    /// first one did.
    ///
    /// When this returns, every edge that the receipt counts as acknowledged refuses the sessions and
    /// has cut what they had open. Cancelling the wait does not undo the revocation.
    ///
    /// # Errors
    /// The store's, when the revocation could not be made durable: then nothing was revoked.
    pub(crate) async fn revoke(
        &self,
        scope: Scope,
        cause: CutReason,
        reason: String,
        delete_user: bool,
    ) -> Result<Option<Receipt>, StoreError> {
        let started = self.clock.monotonic();
        let order = RevokeOrder {
            receipt: secret::new_id(self.clock.unix_ms()),
            scope,
            cause,
            reason,
            at: self.clock.now(),
            delete_user,
        };
        let Some(Revoked {
            mut receipt,
            repeated,
        }) = self.store.revoke(order).await?
        else {
            return Ok(None);
        };
        let reached = self
            .store
            .await_acknowledged(
                Shard::People(0),
                receipt.revision,
                receipt.id,
                ACKNOWLEDGED_WITHIN,
            )
            .await?;
        if repeated {
            // Whoever asked first may have completed the receipt by now. If not, or if the edge stopped
            // in between, this is who does.
            if let Some(newest) = self.store.receipt(receipt.id).await? {
                receipt = newest;
            }
            if receipt.edges_total > 0 && receipt.edges_missing.is_empty() {
                return Ok(Some(receipt));
            }
        }
        receipt.edges_total = reached.edges_total;
        receipt.edges_acknowledged = reached
            .edges_total
            .saturating_sub(u32::try_from(reached.missing.len()).unwrap_or(u32::MAX));
        receipt.edges_missing = reached.missing;
        receipt.connections_cut = reached.connections_cut;
        receipt.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // The revocation stands, whatever becomes of its receipt's figures: an error would say that
        // nothing was revoked.
        if let Err(error) = self.store.complete_receipt(receipt.clone()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                receipt.id = %receipt.id,
                "receipt not completed"
            );
        }
        Ok(Some(receipt))
    }
}

/// An edge that has not acknowledged by then has lost its lease, and refuses by itself: waiting
/// longer would prove nothing more.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);
