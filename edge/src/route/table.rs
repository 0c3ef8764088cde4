//! The route table: host → live endpoint. Reads take no lock; changes come from `follow` only.
//!
//! Whoever was let in by an endpoint keeps its watch, and so hears of a new rule or of the removal.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use papaya::HashMap;
use proto::id::EndpointId;
use tokio::sync::{Notify, watch};

use crate::model::endpoint::Endpoint;

/// Hosts served by this edge's cluster.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_host: HashMap<String, Arc<Slot>>,
    by_id: HashMap<EndpointId, Arc<Slot>>,
    /// Notified after every change.
    changed: Notify,
}

#[derive(Debug)]
struct Slot {
    /// For reading without a lock: set before `current`, whose receivers wake to it.
    read: ArcSwapOption<Endpoint>,
    /// Gone once the edge ends: its receivers hear that, too.
    current: ArcSwapOption<watch::Sender<Option<Arc<Endpoint>>>>,
}

/// An endpoint as it was when found, and the watch that tells when it changes (`None`: removed).
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) watch: watch::Receiver<Option<Arc<Endpoint>>>,
}

impl Table {
    /// Finds the endpoint of a host in canonical form (lower case, no port, no trailing dot).
    pub(crate) fn find(&self, host: &str) -> Option<Route> {
        self.by_host.pin().get(host).and_then(|slot| slot.route())
    }

    /// Finds an endpoint by id.
    pub(crate) fn by_id(&self, id: EndpointId) -> Option<Route> {
        self.by_id.pin().get(&id).and_then(|slot| slot.route())
    }

    /// Waits until an endpoint is here exactly as given.
    pub(crate) async fn settled(&self, endpoint: &Endpoint) {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before looking, so that no change falls between.
            changed.as_mut().enable();
            if self
                .by_id(endpoint.id)
                .is_some_and(|route| *route.endpoint == *endpoint)
            {
                return;
            }
            changed.await;
        }
    }

    /// Adds an endpoint, or replaces what was known of it; its watchers wake.
    pub(crate) fn put(&self, endpoint: Endpoint) {
        self.insert(endpoint);
        self.changed.notify_waiters();
    }

    fn insert(&self, endpoint: Endpoint) {
        let by_id = self.by_id.pin();
        let endpoint = Arc::new(endpoint);
        if let Some(slot) = by_id.get(&endpoint.id) {
            slot.read.store(Some(Arc::clone(&endpoint)));
            if let Some(current) = &*slot.current.load() {
                current.send_if_modified(|current| {
                    let changed = current.as_ref() != Some(&endpoint);
                    *current = Some(Arc::clone(&endpoint));
                    changed
                });
            }
            return;
        }
        let slot = Arc::new(Slot {
            read: ArcSwapOption::from(Some(Arc::clone(&endpoint))),
            current: ArcSwapOption::from_pointee(watch::Sender::new(Some(Arc::clone(&endpoint)))),
        });
        self.by_host
            .pin()
            .insert(endpoint.host.clone(), Arc::clone(&slot));
        by_id.insert(endpoint.id, slot);
    }

    /// Removes an endpoint; its watchers see `None`.
    pub(crate) fn remove(&self, id: EndpointId) {
        let by_id = self.by_id.pin();
        let Some(slot) = by_id.remove(&id) else {
            return;
        };
        let removed = slot.read.swap(None);
        if let Some(current) = &*slot.current.load() {
            current.send_replace(None);
        }
        if let Some(endpoint) = removed {
            let by_host = self.by_host.pin();
            // Only its own row: the host may have been claimed anew meanwhile.
            let _ = by_host.remove_if(&endpoint.host, |_, found| Arc::ptr_eq(found, slot));
        }
    }

    /// Ends what is open at every endpoint: the edge stops.
    pub(crate) fn end_all(&self) {
        for slot in self.by_id.pin().values() {
            slot.current.store(None);
        }
    }

    /// Drops every endpoint that is not in `keep` (after a resync).
    pub(crate) fn retain(&self, keep: &[EndpointId]) {
        let gone: Vec<_> = self
            .by_id
            .pin()
            .keys()
            .filter(|id| !keep.contains(id))
            .copied()
            .collect();
        for id in gone {
            self.remove(id);
        }
    }
}

impl Slot {
    fn route(&self) -> Option<Route> {
        // Subscribed first: a change that is not read yet is heard.
        let watch = self.current.load().as_ref()?.subscribe();
        let endpoint = self.read.load_full()?;
        Some(Route { endpoint, watch })
    }
}
