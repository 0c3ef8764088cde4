//! One signal to stop and one place that waits for all tasks: every long task is spawned here.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to every part; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    token: CancellationToken,
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
