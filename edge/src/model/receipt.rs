//! A receipt: the record of what a revocation reached.

use jiff::Timestamp;
use proto::id::{EdgeId, ReceiptId};

use super::change::{Revision, Scope};

/// What a revocation reached. `edges` and `connections_cut` are filled in as edges acknowledge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Receipt {
    pub(crate) id: ReceiptId,
    pub(crate) scope: Scope,
    /// The operator's words; at most 255 characters.
    pub(crate) reason: String,
    pub(crate) revision: Revision,
    pub(crate) sessions_ended: u64,
    pub(crate) edges_total: u32,
    pub(crate) edges_acknowledged: u32,
    pub(crate) edges_missing: Vec<EdgeId>,
    pub(crate) connections_cut: u64,
    /// Whether the store had the revocation on disk when it answered.
    pub(crate) durable: bool,
    pub(crate) elapsed_ms: u64,
    pub(crate) created_at: Timestamp,
}
