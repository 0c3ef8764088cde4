//! The embedded engine: one file, one writer, nothing else to run.

use super::*;

/// A redb file.
#[derive(Debug)]
pub(crate) struct Embedded;

impl Embedded {
    pub(crate) async fn create_session(&self, new: NewSession) -> Result<Session, StoreError> {
        let _ = (new);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn load_session(&self, id: SessionId) -> Result<Loaded, StoreError> {
        let _ = (id);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn session(
        &self,
        id: SessionId,
        now: Timestamp,
    ) -> Result<Option<SessionSeen>, StoreError> {
        let _ = (id, now);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn sessions(
        &self,
        filter: SessionFilter,
        page: Page<SessionId>,
        now: Timestamp,
    ) -> Result<Vec<SessionSeen>, StoreError> {
        let _ = (filter, page, now);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let _ = (id);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn users(&self, page: Page<UserId>) -> Result<Vec<User>, StoreError> {
        let _ = (page);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn touch(&self, batch: Vec<(SessionId, Timestamp)>) -> Result<(), StoreError> {
        let _ = (batch);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn interactive_due(&self, person: Person) -> Result<bool, StoreError> {
        let _ = (person);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn revoke(&self, order: RevokeOrder) -> Result<Option<Revoked>, StoreError> {
        let _ = (order);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn marks(&self) -> Result<Marks, StoreError> {
        let _ = ();
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn receipt(&self, id: ReceiptId) -> Result<Option<Receipt>, StoreError> {
        let _ = (id);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn complete_receipt(&self, receipt: Receipt) -> Result<(), StoreError> {
        let _ = (receipt);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn put_once(
        &self,
        kind: OnceKind,
        key: [u8; 32],
        value: Vec<u8>,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let _ = (kind, key, value, until);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn take_once(
        &self,
        kind: OnceKind,
        key: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let _ = (kind, key, now);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn seen_once(
        &self,
        key: [u8; 32],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let _ = (key, now, until);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn claim_endpoint(&self, claim: Endpoint) -> Result<Claimed, StoreError> {
        let _ = (claim);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        let _ = (id);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn endpoint_at(&self, host: String) -> Result<Option<Endpoint>, StoreError> {
        let _ = host;
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn endpoints(&self) -> Result<Vec<Endpoint>, StoreError> {
        let _ = ();
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn put_authtoken(&self, record: AuthtokenRecord) -> Result<(), StoreError> {
        let _ = (record);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn authtoken(
        &self,
        id: AuthtokenId,
    ) -> Result<Option<AuthtokenRecord>, StoreError> {
        let _ = (id);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn authtokens(&self) -> Result<Vec<AuthtokenRecord>, StoreError> {
        let _ = ();
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn revoke_authtoken(
        &self,
        id: AuthtokenId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let _ = (id, at);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn put_api_key(&self, record: ApiKeyRecord) -> Result<(), StoreError> {
        let _ = (record);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        let _ = (id);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>, StoreError> {
        let _ = ();
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let _ = (id, at);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn put_provider(&self, record: ProviderRecord) -> Result<(), StoreError> {
        let _ = (record);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn providers(&self) -> Result<Vec<ProviderRecord>, StoreError> {
        let _ = ();
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn remove_provider(&self, name: String) -> Result<bool, StoreError> {
        let _ = (name);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn put_operator(&self, record: OperatorRecord) -> Result<(), StoreError> {
        let _ = (record);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn operator(
        &self,
        id: OperatorId,
        now: Timestamp,
    ) -> Result<Option<OperatorRecord>, StoreError> {
        let _ = (id, now);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn remove_operator(&self, id: OperatorId) -> Result<(), StoreError> {
        let _ = (id);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn read_log(
        &self,
        shard: Shard,
        after: Revision,
        wait: Duration,
    ) -> Result<LogBatch, StoreError> {
        let _ = (shard, after, wait);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn acknowledge(&self, ack: Acknowledgement) -> Result<(), StoreError> {
        let _ = (ack);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn await_acknowledged(
        &self,
        shard: Shard,
        revision: Revision,
        receipt: ReceiptId,
        wait: Duration,
    ) -> Result<Acknowledged, StoreError> {
        let _ = (shard, revision, receipt, wait);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn heartbeat(&self, edge: EdgeId) -> Result<(), StoreError> {
        let _ = (edge);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        let _ = (now);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }

    pub(crate) async fn backup(&self, to: PathBuf) -> Result<(), StoreError> {
        let _ = (to);
        Err(StoreError::Unreadable {
            what: "anything yet",
        })
    }
}
