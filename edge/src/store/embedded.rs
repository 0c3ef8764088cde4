//! The embedded engine: one file, one writer, nothing else to run.
//!
//! Reading order: `disk` (the file, and going back to what was synced), `table` (what is stored),
//! `engine` (reads, the writer, healing), then one file per noun; `marks`, `sessions` and `revoke`
//! are the promise. What this file must not do: decide anything. Each method is one transaction.

mod acks;
mod backup;
mod credentials;
mod disk;
mod endpoints;
mod engine;
mod expiry;
mod fail;
#[cfg(test)]
mod faults;
mod log;
mod marks;
mod once;
mod open;
mod people;
mod revoke;
mod sessions;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;

use super::seal::Sealer;
use super::{
    Acknowledged, Acknowledgement, ApiKeyId, ApiKeyRecord, AuthtokenId, AuthtokenRecord, Claimed,
    Duration, EdgeId, Endpoint, EndpointId, Loaded, LogBatch, Marks, NewSession, OnceKind,
    OperatorId, OperatorRecord, Page, PathBuf, Person, ProviderRecord, Receipt, ReceiptId,
    Revision, RevokeOrder, Revoked, Session, SessionFilter, SessionId, SessionSeen, Shard,
    StoreError, Timestamp, User, UserId,
};
use engine::Engine;
use table::{API_KEYS, AUTHTOKENS, Commit, RECEIPTS, View as _};

/// A store in one file. Dropping it finishes what is queued and closes the file.
#[derive(Debug)]
pub(crate) struct Embedded {
    engine: Engine,
    acks: acks::Acks,
}

impl Embedded {
    /// Opens the file, or makes it (mode 0600). One process at a time.
    ///
    /// # Errors
    /// `Unavailable` when another edge has it open or the disk refuses, `NewerSchema`, and
    /// `Unreadable` when the cluster key is not the one that the store was made with.
    pub(crate) async fn open(
        file: &Path,
        sealer: Sealer,
        edge: EdgeId,
    ) -> Result<Self, StoreError> {
        survive_file_size_limit();
        let file = file.to_owned();
        let engine = tokio::task::spawn_blocking(move || open::engine(&file, sealer))
            .await
            .map_err(fail::unavailable)??;
        tracing::debug!(edge.id = %edge, "store opened");
        Ok(Self {
            engine,
            acks: acks::Acks::default(),
        })
    }

    /// Makes every write fail with this system error from now on, for tests of the floors above; 0 heals.
    #[cfg(test)]
    pub(crate) fn fail_writes(&self, errno: i32) {
        self.engine.disk().faults.fail_writes(errno, 0);
    }

    pub(crate) async fn create_session(&self, new: NewSession) -> Result<Session, StoreError> {
        self.engine
            .write(move |tx| sessions::create(tx, &new))
            .await
    }

    pub(crate) async fn load_session(&self, id: SessionId) -> Result<Loaded, StoreError> {
        self.engine.read(move |view| sessions::load(view, id)).await
    }

    pub(crate) async fn session(
        &self,
        id: SessionId,
        now: Timestamp,
    ) -> Result<Option<SessionSeen>, StoreError> {
        self.engine
            .read(move |view| sessions::seen(view, id, now))
            .await
    }

    pub(crate) async fn sessions(
        &self,
        filter: SessionFilter,
        page: Page<SessionId>,
        now: Timestamp,
    ) -> Result<Vec<SessionSeen>, StoreError> {
        self.engine
            .read(move |view| sessions::list(view, &filter, page, now))
            .await
    }

    pub(crate) async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.engine.read(move |view| people::user(view, id)).await
    }

    pub(crate) async fn users(&self, page: Page<UserId>) -> Result<Vec<User>, StoreError> {
        self.engine
            .read(move |view| people::users(view, page))
            .await
    }

    pub(crate) async fn touch(&self, batch: Vec<(SessionId, Timestamp)>) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| sessions::touch(tx, &batch))
            .await
    }

    pub(crate) async fn interactive_due(&self, person: Person) -> Result<bool, StoreError> {
        self.engine
            .read(move |view| people::interactive_due(view, &person))
            .await
    }

    pub(crate) async fn revoke(&self, order: RevokeOrder) -> Result<Option<Revoked>, StoreError> {
        self.engine
            .write(move |tx| revoke::revoke(tx, &order))
            .await
    }

    pub(crate) async fn marks(&self) -> Result<Marks, StoreError> {
        self.engine.read(|view| marks::marks(view)).await
    }

    pub(crate) async fn receipt(&self, id: ReceiptId) -> Result<Option<Receipt>, StoreError> {
        self.engine
            .read(move |view| view.record(RECEIPTS, id.to_bytes()))
            .await
    }

    pub(crate) async fn complete_receipt(&self, receipt: Receipt) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| Ok((tx.put_receipt(&receipt)?, Commit::Now)))
            .await
    }

    pub(crate) async fn put_once(
        &self,
        kind: OnceKind,
        key: [u8; 32],
        value: Vec<u8>,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| once::put(tx, kind, &key, &value, until))
            .await
    }

    pub(crate) async fn take_once(
        &self,
        kind: OnceKind,
        key: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine
            .write(move |tx| once::take(tx, kind, &key, now))
            .await
    }

    pub(crate) async fn seen_once(
        &self,
        key: [u8; 32],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |tx| once::see(tx, &key, now, until))
            .await
    }

    pub(crate) async fn claim_endpoint(&self, claim: Endpoint) -> Result<Claimed, StoreError> {
        self.engine
            .write(move |tx| endpoints::claim(tx, &claim))
            .await
    }

    pub(crate) async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        self.engine
            .read(move |view| endpoints::endpoint(view, id))
            .await
    }

    pub(crate) async fn endpoint_at(&self, host: String) -> Result<Option<Endpoint>, StoreError> {
        self.engine
            .read(move |view| endpoints::endpoint_at(view, &host))
            .await
    }

    pub(crate) async fn endpoints_of(
        &self,
        authtoken: AuthtokenId,
    ) -> Result<Vec<Endpoint>, StoreError> {
        self.engine
            .read(move |view| endpoints::endpoints_of(view, authtoken))
            .await
    }

    pub(crate) async fn endpoints(&self) -> Result<Vec<Endpoint>, StoreError> {
        self.engine.read(|view| endpoints::endpoints(view)).await
    }

    pub(crate) async fn put_authtoken(&self, record: AuthtokenRecord) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| credentials::put_authtoken(tx, &record))
            .await
    }

    pub(crate) async fn authtoken(
        &self,
        id: AuthtokenId,
    ) -> Result<Option<AuthtokenRecord>, StoreError> {
        self.engine
            .read(move |view| view.record(AUTHTOKENS, id.to_bytes()))
            .await
    }

    pub(crate) async fn authtokens(&self) -> Result<Vec<AuthtokenRecord>, StoreError> {
        self.engine.read(|view| view.records(AUTHTOKENS)).await
    }

    pub(crate) async fn revoke_authtoken(
        &self,
        id: AuthtokenId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |tx| credentials::revoke_authtoken(tx, id, at))
            .await
    }

    pub(crate) async fn put_api_key(&self, record: ApiKeyRecord) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| credentials::put_api_key(tx, &record))
            .await
    }

    pub(crate) async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        self.engine
            .read(move |view| view.record(API_KEYS, id.to_bytes()))
            .await
    }

    pub(crate) async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>, StoreError> {
        self.engine.read(|view| view.records(API_KEYS)).await
    }

    pub(crate) async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |tx| credentials::revoke_api_key(tx, id, at))
            .await
    }

    pub(crate) async fn put_provider(&self, record: ProviderRecord) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| credentials::put_provider(tx, &record))
            .await
    }

    pub(crate) async fn providers(&self) -> Result<Vec<ProviderRecord>, StoreError> {
        self.engine.read(|view| credentials::providers(view)).await
    }

    pub(crate) async fn remove_provider(&self, name: String) -> Result<bool, StoreError> {
        self.engine
            .write(move |tx| credentials::remove_provider(tx, name))
            .await
    }

    pub(crate) async fn put_operator(&self, record: OperatorRecord) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| credentials::put_operator(tx, &record))
            .await
    }

    pub(crate) async fn operator(
        &self,
        id: OperatorId,
        now: Timestamp,
    ) -> Result<Option<OperatorRecord>, StoreError> {
        self.engine
            .read(move |view| credentials::operator(view, id, now))
            .await
    }

    pub(crate) async fn remove_operator(&self, id: OperatorId) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| credentials::remove_operator(tx, id))
            .await
    }

    pub(crate) async fn read_log(
        &self,
        shard: Shard,
        after: Revision,
        wait: Duration,
    ) -> Result<LogBatch, StoreError> {
        // Subscribed before the first look, so that nothing falls between.
        let mut head = self.engine.head(shard);
        let batch = self
            .engine
            .read(move |view| log::read(view, shard, after))
            .await?;
        let Some(head) = &mut head else {
            return Ok(batch);
        };
        if !batch.entries.is_empty() || batch.gap || wait.is_zero() {
            return Ok(batch);
        }
        let news = head.wait_for(|head| *head > after.0);
        // What `wait_for` gives holds a lock: it is let go at once.
        let has_news = tokio::time::timeout(wait, news)
            .await
            .is_ok_and(|seen| seen.is_ok());
        if !has_news {
            return Ok(batch);
        }
        self.engine
            .read(move |view| log::read(view, shard, after))
            .await
    }

    #[expect(clippy::unused_async, reason = "the interface is asynchronous")]
    pub(crate) async fn acknowledge(&self, ack: Acknowledgement) -> Result<(), StoreError> {
        self.acks.note(ack);
        Ok(())
    }

    pub(crate) async fn await_acknowledged(
        &self,
        shard: Shard,
        revision: Revision,
        receipt: ReceiptId,
        wait: Duration,
    ) -> Result<Acknowledged, StoreError> {
        Ok(self.acks.wait(shard, revision, receipt, wait).await)
    }

    pub(crate) async fn heartbeat(&self, edge: EdgeId) -> Result<(), StoreError> {
        self.engine
            .write(move |tx| sweep::heartbeat(tx, edge))
            .await
    }

    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        // Rounds, so that a revocation never waits for more than one of them.
        let mut rows = 0;
        for _ in 0..sweep::ROUNDS_MAX {
            match self.engine.write(move |tx| sweep::sweep(tx, now)).await? {
                0 => break,
                more => rows += more,
            }
        }
        Ok(rows)
    }

    pub(crate) async fn backup(&self, to: PathBuf) -> Result<(), StoreError> {
        self.engine
            .read(move |view| backup::backup(view, &to))
            .await
    }
}

#[cfg(test)]
impl Embedded {
    /// For tests that lose no power.
    pub(crate) fn skip_syncs(&self) {
        self.engine.disk().faults.skip_syncs();
    }
}

/// A file-size limit must be an error of a write (EFBIG) and not the end of the process, which is
/// what its signal does unless somebody listens.
fn survive_file_size_limit() {
    use tokio::signal::unix::{SignalKind, signal};

    let number = rustix::process::Signal::XFSZ.as_raw();
    if let Err(error) = signal(SignalKind::from_raw(number)) {
        tracing::warn!(%error, "a limit of file sizes would end this process");
    }
}
