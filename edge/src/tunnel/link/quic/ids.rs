//! Connection ids: random, but for the worker that holds the link, which the first byte tells.
//!
//! quinn's own ids are bound to the process, and packets with another's are dropped before they could
//! be answered by a stateless reset. These are valid in every process with any number of workers.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};

use crate::secret;

/// Makes the ids of one worker's links.
#[derive(Debug)]
pub(super) struct WorkerIds {
    pub(super) worker: usize,
    pub(super) workers: usize,
}

impl ConnectionIdGenerator for WorkerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = secret::random::<ID_BYTES>();
        if let Some(first) = id.first_mut() {
            *first = marked(*first, self.worker, self.workers);
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Which of so many workers holds the link with this id.
pub(super) fn worker_of(id: &[u8], workers: usize) -> usize {
    let first = id.first().copied().map_or(0, usize::from);
    first.checked_rem(workers).unwrap_or(0)
}

/// One of the bytes that name the worker, by a random one.
fn marked(random: u8, worker: usize, workers: usize) -> u8 {
    let workers = workers.clamp(1, WORKERS_MAX);
    let worker = worker % workers;
    let choices = (WORKERS_MAX - worker).div_ceil(workers);
    let marked = worker + workers * (usize::from(random) % choices.max(1));
    u8::try_from(marked).unwrap_or(random)
}

pub(super) const ID_BYTES: usize = 8;
/// Workers that one byte tells apart.
pub(super) const WORKERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every id names its worker, whatever is drawn, and one worker has all of them.
    #[test]
    fn an_id_names_its_worker() {
        for workers in 1..=WORKERS_MAX {
            for worker in 0..workers {
                for random in 0..=u8::MAX {
                    let marked = marked(random, worker, workers);
                    assert_eq!(
                        worker_of(&[marked], workers),
                        worker,
                        "{random} of {workers}"
                    );
                    assert!(workers > 1 || marked == random);
                }
            }
        }
    }
}
