//! Two kinds of clients in one load: what the second kind feels while the first works.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bench::load::Client;

/// So many of the first kind, and then the second.
pub(crate) fn client(first: Client, count: usize, then: Client) -> Client {
    let made = AtomicUsize::new(0);
    Arc::new(move |gate| {
        let number = made.fetch_add(1, Ordering::Relaxed);
        if number < count {
            first(gate)
        } else {
            then(gate)
        }
    })
}
