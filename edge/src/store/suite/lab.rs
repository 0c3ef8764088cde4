//! A store to try things on, and the things to try.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proto::id::{EndpointId, Id, Kind, SessionId, UserId};
use tempfile::TempDir;

use super::super::embedded::Embedded;
use super::super::seal::Sealer;
use super::super::{
    Loaded, NewSession, Page, RevokeOrder, Revoked, SessionFilter, Shard, Store, StoreError,
};
use crate::model::change::{LogEntry, Revision, Scope};
use crate::model::session::{Browser, CutReason, Place, Session, SessionSeen, UserAgent};
use crate::model::user::Claims;
use crate::secret;

/// An open store.
pub(in super::super) struct Lab {
    folder: TempDir,
    store: Option<Store>,
    made: u64,
    is_unsynced: bool,
    /// When the lab began: times of a test are counted from here.
    began: Timestamp,
}

/// Who logs in, where, with what.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Login {
    pub(in super::super) person: u8,
    pub(in super::super) endpoint: u8,
    pub(in super::super) provider: &'static str,
}

impl Login {
    pub(in super::super) const fn of(person: u8, endpoint: u8) -> Self {
        Self {
            person,
            endpoint,
            provider: "google",
        }
    }
}

impl Lab {
    pub(in super::super) async fn embedded() -> Self {
        let mut lab = Self {
            folder: tempfile::tempdir().unwrap(),
            store: None,
            made: 0,
            is_unsynced: false,
            began: Timestamp::from_second(1_800_000_000).unwrap(),
        };
        lab.reopen().await;
        lab
    }

    pub(in super::super) async fn embedded_unsynced() -> Self {
        let mut lab = Self::embedded().await;
        lab.is_unsynced = true;
        lab.reopen().await;
        lab
    }

    pub(in super::super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(in super::super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(in super::super) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("store.redb")
    }

    /// Closes the store and opens it again.
    pub(in super::super) async fn reopen(&mut self) {
        drop(self.store.take());
        let edge = secret::new_id(0);
        let opened = Embedded::open(&self.file(), Self::sealer(), edge).await;
        let engine = opened.unwrap();
        if self.is_unsynced {
            engine.skip_syncs();
        }
        self.store = Some(Store::Embedded(engine));
    }

    /// Closes the store for good.
    pub(in super::super) fn close(&mut self) {
        drop(self.store.take());
    }

    pub(in super::super) fn sealer() -> Sealer {
        Sealer::new(&[42; 32], None)
    }

    /// Opens another store, such as a backup.
    pub(in super::super) async fn open_other(file: &std::path::Path) -> Store {
        let edge = secret::new_id(0);
        let opened = Embedded::open(file, Self::sealer(), edge).await;
        Store::Embedded(opened.unwrap())
    }

    /// Seconds after the lab began.
    pub(in super::super) fn at(&self, seconds: i64) -> Timestamp {
        self.began + SignedDuration::from_secs(seconds)
    }

    /// A new id, later than all before.
    pub(in super::super) fn id<K: Kind>(&mut self) -> Id<K> {
        self.made += 1;
        secret::new_id(1_800_000_000_000 + self.made * 5)
    }

    pub(in super::super) async fn head(&self) -> Revision {
        let head = Revision(u64::MAX);
        let batch = self
            .store()
            .read_log(Shard::People(0), head, Duration::ZERO)
            .await;
        batch.unwrap().head
    }

    pub(in super::super) async fn log(&self, shard: Shard, after: Revision) -> Vec<LogEntry> {
        let batch = self.store().read_log(shard, after, Duration::ZERO).await;
        batch.unwrap().entries
    }

    /// A login as it would be recorded now.
    pub(in super::super) fn new_session(&mut self, login: Login, begun_at: Revision) -> NewSession {
        NewSession {
            id: self.id(),
            fresh_user: self.id(),
            endpoint: endpoint(login.endpoint),
            public_url: "https://app.otter.localhost:8443".to_owned(),
            provider: login.provider.to_owned(),
            claims: claims(login.person),
            secret_hash: [login.person; 32],
            browser: browser(),
            auth_time: Some(self.at(-5)),
            created_at: self.at(0),
            expires_at: self.at(DAY),
            idle_limit: Some(Duration::from_hours(4)),
            replaces: None,
            begun_at,
        }
    }

    /// Logs in at once.
    pub(in super::super) async fn login(&mut self, login: Login) -> Session {
        let begun_at = self.head().await;
        let new = self.new_session(login, begun_at);
        self.store().create_session(new).await.unwrap()
    }

    pub(in super::super) fn order(&mut self, scope: Scope) -> RevokeOrder {
        RevokeOrder {
            receipt: self.id(),
            scope,
            cause: CutReason::Revoked,
            reason: "as a test".to_owned(),
            at: self.at(60),
            delete_user: false,
        }
    }

    pub(in super::super) async fn try_revoke(
        &mut self,
        scope: Scope,
    ) -> Result<Option<Revoked>, StoreError> {
        let order = self.order(scope);
        self.store().revoke(order).await
    }

    /// Revokes what is there.
    pub(in super::super) async fn revoke(&mut self, scope: Scope) -> Revoked {
        self.try_revoke(scope).await.unwrap().unwrap()
    }

    pub(in super::super) async fn is_live(&self, id: SessionId) -> bool {
        matches!(
            self.store().load_session(id).await.unwrap(),
            Loaded::Live { .. }
        )
    }

    pub(in super::super) async fn list(&self, filter: SessionFilter) -> Vec<SessionSeen> {
        let page = Page {
            before: None,
            limit: 1000,
        };
        let list = self.store().sessions(filter, page, self.at(60)).await;
        list.unwrap()
    }

    pub(in super::super) async fn listed(&self) -> Vec<SessionId> {
        let all = self.list(SessionFilter::default()).await;
        all.into_iter().map(|seen| seen.session.id).collect()
    }

    pub(in super::super) async fn user_ids(&self) -> Vec<UserId> {
        let page = Page {
            before: None,
            limit: 1000,
        };
        let users = self.store().users(page).await.unwrap();
        users.into_iter().map(|user| user.id).collect()
    }
}

pub(in super::super) fn endpoint(number: u8) -> EndpointId {
    EndpointId::from_bytes([number; 20])
}

pub(in super::super) fn claims(person: u8) -> Claims {
    Claims {
        issuer: "https://idp.example.test".to_owned(),
        subject: format!("subject-{person}"),
        email: Some(format!("person-{person}@example.test")),
        email_verified: true,
        name: Some(format!("Person {person}")),
        username: None,
    }
}

fn browser() -> Browser {
    Browser {
        user_agent: UserAgent {
            raw: "Mozilla/5.0 (test)".to_owned(),
            browser_name: "Firefox".to_owned(),
            ..UserAgent::default()
        },
        address: Ipv4Addr::new(192, 0, 2, 7).into(),
        place: Some(Place {
            country_code: Some("DE".to_owned()),
            latitude_micro: Some(52_520_008),
            longitude_micro: Some(-13_404_954),
            ..Place::default()
        }),
    }
}

/// Life of a session in the lab, seconds.
pub(in super::super) const DAY: i64 = 24 * 3600;
