//! Last-active times, written to the store in batches and never on the request path. A crash costs
//! at most one interval of activity.

use std::sync::Arc;
use std::time::Duration;

use crate::session::live::Live;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// Flushes until the edge stops, and once more then.
pub(crate) async fn run(live: Arc<Live>, store: Arc<Store>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.begun() => {
                flush(&live, &store).await;
                return;
            }
        }
        flush(&live, &store).await;
    }
}

/// Writes what is new. What the store refuses is tried again with the next batch: lost, it would make
/// a session look idle that is not.
pub(crate) async fn flush(live: &Live, store: &Store) {
    for batch in live.unwritten_activity().chunks(BATCH_MAX) {
        match store.touch(batch.to_vec()).await {
            Ok(()) => live.activity_written(batch),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    sessions = batch.len(),
                    "activity not written"
                );
                return;
            }
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(5);
const BATCH_MAX: usize = 500;
