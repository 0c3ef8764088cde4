//! One signal to stop and one place that waits for all tasks: every long task is spawned here.
//!
//! A stop has two steps: first the doors, so that what is open can finish over the tunnels; then,
//! when the doors are empty or have had their time, the tunnels.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to every part; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    token: CancellationToken,
    emptied: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Asks every task to finish politely. Cannot be taken back.
    pub(crate) fn begin(&self) {
        self.token.cancel();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until somebody called [`Shutdown::begin`].
    pub(crate) async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Says that nobody is inside any more: what served visitors may go, too.
    pub(crate) fn set_emptied(&self) {
        self.emptied.cancel();
    }

    pub(crate) fn has_emptied(&self) -> bool {
        self.emptied.is_cancelled()
    }

    /// Waits until somebody called [`Shutdown::set_emptied`].
    pub(crate) async fn emptied(&self) {
        self.emptied.cancelled().await;
    }

    /// Spawns a task on the current runtime that [`Shutdown::finished`] waits for.
    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Waits for every spawned task, at most `limit`; true when all ended in time.
    pub(crate) async fn finished(&self, limit: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}
