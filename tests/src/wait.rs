//! Waiting for conditions, always with a deadline, never for time to pass.

use std::time::{Duration, Instant};

/// Ten times what a slow, shared computer needs for anything in these tests.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `condition` gives a value; panics with `what` when the deadline passes.
#[track_caller]
pub fn until<T, F>(what: &str, mut condition: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let begun = Instant::now();
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "{caller}: not within {DEADLINE:?}: {what}"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Bounds a future; panics with `what` when the deadline passes.
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        tokio::time::timeout(DEADLINE, future)
            .await
            .unwrap_or_else(|_| panic!("{caller}: not within {DEADLINE:?}: {what}"))
    }
}

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);
