//! Follows the store's logs: reads, applies in order, acknowledges. What to believe is decided in
//! `trust`; what a change means to each part is the one `match` below.

use std::sync::Arc;
use std::time::Duration;

use proto::code::Code;
use proto::id::EdgeId;
use tokio::sync::mpsc;

use crate::idp::{Http, Providers};
use crate::model::change::{Change, LogEntry, Revision};
use crate::route::table::Table;
use crate::session::live::{Live, Reached};
use crate::shutdown::Shutdown;
use crate::store::{Acknowledgement, Shard, Store, StoreError};
use crate::trust::follow::{Follower, Step};
use crate::tunnel::registry::Registry;

/// What follows the logs.
#[derive(Clone, Debug)]
pub(crate) struct Follow {
    pub(crate) edge: EdgeId,
    pub(crate) store: Arc<Store>,
    pub(crate) live: Arc<Live>,
    pub(crate) routes: Arc<Table>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) http: Http,
    pub(crate) shutdown: Shutdown,
}

/// Log entries that were applied, waiting for what they cut to be gone.
struct Applied {
    revision: Revision,
    reached: Vec<Reached>,
}

impl Follow {
    /// Reads everything once, so that the edge can serve, and starts following from there.
    ///
    /// # Errors
    /// The store's: an edge that cannot read does not start.
    pub(crate) async fn start(self) -> Result<(), StoreError> {
        // A store that takes no writes could revoke nobody.
        self.store.heartbeat(self.edge).await?;
        for shard in [Shard::Shared, Shard::People(0)] {
            let position = self
                .store
                .read_log(shard, Revision(u64::MAX), Duration::ZERO)
                .await?
                .head;
            if shard == Shard::Shared {
                self.read_shared().await?;
            }
            let (sender, receiver) = mpsc::channel(APPLIED_IN_FLIGHT);
            self.shutdown
                .spawn(self.clone().acknowledge(shard, receiver));
            self.shutdown
                .spawn(self.clone().run(shard, Follower::new(position), sender));
        }
        Ok(())
    }

    async fn run(self, shard: Shard, mut follower: Follower, applied: mpsc::Sender<Applied>) {
        // The position that was read at start counts as applied: the edge is present from here on.
        let _ = applied
            .send(Applied {
                revision: follower.position(),
                reached: Vec::new(),
            })
            .await;
        while !self.shutdown.has_begun() {
            let batch = tokio::select! {
                () = self.shutdown.begun() => return,
                batch = self.store.read_log(shard, follower.position(), READ_WAIT) => batch,
            };
            let step = match batch {
                Ok(batch) => follower.judge(batch.entries, batch.gap, batch.head),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "log not read");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let done = match step {
                Step::Wait => continue,
                Step::Apply(entries) => {
                    let mut reached = Vec::new();
                    let mut last = follower.position();
                    for entry in entries {
                        self.apply(&entry, &mut reached).await;
                        last = entry.revision;
                    }
                    follower.applied(last);
                    Applied {
                        revision: last,
                        reached,
                    }
                }
                Step::Resync(head) => {
                    tracing::warn!("log entries were missed: everything is read again");
                    let reached = self.resync(shard).await;
                    follower.resynced(head);
                    Applied {
                        revision: head,
                        reached,
                    }
                }
            };
            if applied.send(done).await.is_err() {
                return;
            }
        }
    }

    /// The one place that says what a change means to this edge.
    async fn apply(&self, entry: &LogEntry, reached: &mut Vec<Reached>) {
        match &entry.change {
            Change::Revoked { .. } => reached.extend(self.live.apply(entry)),
            Change::SessionCreated { .. } => {}
            Change::EndpointChanged { endpoint } => {
                let found = loop {
                    match self.store.endpoint(*endpoint).await {
                        Ok(found) => break found,
                        Err(error) => {
                            // Serving on the last rule known would be guessing: nobody is served
                            // until it is read.
                            self.routes.remove(*endpoint);
                            if self.has_stopped_after(&error).await {
                                return;
                            }
                        }
                    }
                };
                match found {
                    Some(endpoint) => self.routes.put(endpoint),
                    None => self.routes.remove(*endpoint),
                }
            }
            Change::EndpointRemoved { endpoint } => self.routes.remove(*endpoint),
            Change::AuthtokenRevoked { authtoken } => self
                .registry
                .close_authtoken(*authtoken, Code::AuthtokenRevoked),
            // Keys are read from the store whenever they are used.
            Change::ApiKeyRevoked { .. } => {}
            Change::ProviderChanged { .. } | Change::ProviderRemoved { .. } => {
                while let Err(error) = self.read_providers().await {
                    if self.has_stopped_after(&error).await {
                        return;
                    }
                }
            }
        }
    }

    async fn resync(&self, shard: Shard) -> Vec<Reached> {
        match shard {
            Shard::People(_) => self.live.forget(),
            Shard::Shared => {
                while let Err(error) = self.read_shared().await {
                    if self.has_stopped_after(&error).await {
                        break;
                    }
                }
                Vec::new()
            }
        }
    }

    /// What a change names was not read. The position moves on afterwards, so it must be read again
    /// now or never: waits for the next try. True when the edge stops first.
    async fn has_stopped_after(&self, error: &StoreError) -> bool {
        tracing::error!(error = error as &dyn std::error::Error, "change not read");
        tokio::select! {
            () = self.shutdown.begun() => true,
            () = tokio::time::sleep(RETRY) => false,
        }
    }

    async fn read_shared(&self) -> Result<(), StoreError> {
        let endpoints = self.store.endpoints().await?;
        let ids: Vec<_> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        self.routes.retain(&ids);
        for endpoint in endpoints {
            self.routes.put(endpoint);
        }
        self.read_providers().await
    }

    async fn read_providers(&self) -> Result<(), StoreError> {
        let records = self.store.providers().await?;
        crate::server::providers::replace_all(&self.providers, &self.http, records);
        Ok(())
    }

    /// Acknowledges in log order, each only when what it cut is gone. Following goes on meanwhile.
    async fn acknowledge(self, shard: Shard, mut applied: mpsc::Receiver<Applied>) {
        while let Some(Applied { revision, reached }) = applied.recv().await {
            let cut = async {
                for one in &reached {
                    one.all_cut().await;
                }
            };
            // Every exchange ends well before. One that does not must not keep all later revocations
            // from being acknowledged; whoever ordered this one has been told that the edge is missing.
            if tokio::time::timeout(CUT_WITHIN, cut).await.is_err() {
                tracing::error!(
                    revision = revision.0,
                    "an exchange did not end after its cut"
                );
            }
            let cuts = reached
                .iter()
                .map(|one| (one.receipt, one.connections))
                .collect();
            let ack = Acknowledgement {
                edge: self.edge,
                shard,
                applied: revision,
                cuts,
            };
            if let Err(error) = self.store.acknowledge(ack).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "not acknowledged");
            }
        }
    }
}

/// A read returns at once when there is news; this bounds how long a stop waits.
const READ_WAIT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(250);
/// Longer than any order waits for an acknowledgement.
const CUT_WITHIN: Duration = Duration::from_secs(5);
/// Batches applied but not yet cut; more would only hide a cut that hangs.
const APPLIED_IN_FLIGHT: usize = 1024;
