//! Entry first, then load, then merge: no interleaving of open and revoke leaves a session alive.

use std::net::Ipv4Addr;
use std::time::Duration;

use proto::id::{EdgeId, EndpointId};

use super::*;
use crate::clock::Clock;
use crate::model::endpoint::{Access, Endpoint};
use crate::model::session::{Browser, UserAgent};
use crate::model::user::Claims;
use crate::secret;
use crate::store::embedded::Embedded;
use crate::store::seal::Sealer;
use crate::store::{NewSession, RevokeOrder, Shard};

struct World {
    store: Arc<Store>,
    live: Arc<Live>,
    followed: Revision,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::new(&[7; 32], None);
        let edge: EdgeId = secret::new_id(Clock.unix_ms());
        let engine = Embedded::open(&folder.path().join("store"), sealer, edge)
            .await
            .unwrap();
        let store = Arc::new(Store::Embedded(engine));
        let endpoint = Endpoint {
            id: EndpointId::from_bytes([1; 20]),
            host: "app.example.com".to_owned(),
            authtoken: secret::new_id(Clock.unix_ms()),
            upstream: "http://localhost:8080".to_owned(),
            access: Access::Public,
            created_at: Clock.now(),
        };
        store.claim_endpoint(endpoint).await.unwrap();
        Self {
            live: Arc::new(Live::new(Arc::clone(&store), Arc::default())),
            store,
            followed: Revision(0),
            _folder: folder,
        }
    }

    async fn sign_in(&self) -> Session {
        let now = Clock.now();
        self.store
            .create_session(NewSession {
                id: secret::new_id(Clock.unix_ms()),
                fresh_user: secret::new_id::<proto::id::User>(Clock.unix_ms()),
                endpoint: EndpointId::from_bytes([1; 20]),
                public_url: "https://app.example.com".to_owned(),
                provider: "dev".to_owned(),
                claims: Claims {
                    issuer: "https://issuer.example".to_owned(),
                    subject: "ada".to_owned(),
                    email: None,
                    email_verified: false,
                    name: None,
                    username: None,
                },
                secret_hash: [0; 32],
                browser: Browser {
                    user_agent: UserAgent::default(),
                    address: Ipv4Addr::LOCALHOST.into(),
                    place: None,
                },
                auth_time: None,
                created_at: now,
                expires_at: now + jiff::SignedDuration::from_hours(1),
                idle_limit: None,
                replaces: None,
                begun_at: self.store.marks().await.unwrap().at,
            })
            .await
            .unwrap()
    }

    async fn revoke(&self, scope: Scope) {
        revoke(&self.store, scope).await;
    }

    /// What `follow` does: reads the log and applies it in order.
    async fn follow(&mut self) -> Vec<Reached> {
        let batch = self
            .store
            .read_log(Shard::People(0), self.followed, Duration::ZERO)
            .await
            .unwrap();
        self.followed = batch.head;
        batch
            .entries
            .iter()
            .filter_map(|entry| self.live.apply(entry))
            .collect()
    }
}

async fn revoke(store: &Store, scope: Scope) {
    let order = RevokeOrder {
        receipt: secret::new_id(Clock.unix_ms()),
        scope,
        cause: CutReason::Revoked,
        reason: String::new(),
        at: Clock.now(),
        delete_user: false,
    };
    store.revoke(order).await.unwrap().unwrap();
}

/// Opened and revoked at the same time, in every scope, a session is never left alive: whoever got in
/// hears of the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_against_revoke() {
    let mut world = World::new().await;
    for round in 0..300_u32 {
        let session = world.sign_in().await;
        let scope = match round % 4 {
            0 => Scope::Session(session.id),
            1 => Scope::User(session.user),
            2 => Scope::Endpoint(session.endpoint),
            _ => Scope::All,
        };
        let (live, id) = (Arc::clone(&world.live), session.id);
        let opening = tokio::spawn(async move {
            for _ in 0..round % 8 {
                tokio::task::yield_now().await;
            }
            live.open(id).await
        });
        world.revoke(scope).await;
        world.follow().await;
        match opening.await.unwrap() {
            Err(Refused::Ended(_)) => {}
            Err(Refused::Store(error)) => panic!("{error}"),
            Ok((mut watcher, _)) => {
                let ended = tokio::time::timeout(Duration::from_secs(5), watcher.ended()).await;
                assert_eq!(ended, Ok(CutReason::Revoked), "round {round}");
            }
        }
        assert!(
            matches!(world.live.open(id).await, Err(Refused::Ended(_))),
            "round {round}"
        );
    }
}

/// A cut is complete when every permit was let go, whatever knocks with the dead session meanwhile.
#[tokio::test]
async fn a_flood_with_a_dead_session_holds_nothing_up() {
    let mut world = World::new().await;
    let session = world.sign_in().await;
    let (mut watcher, _) = world.live.open(session.id).await.unwrap();
    world.follow().await;
    world.revoke(Scope::Session(session.id)).await;
    let reached = world.follow().await;
    assert_eq!(reached.len(), 1);
    assert_eq!(reached[0].connections, 1);
    assert_eq!(watcher.ended().await, CutReason::Revoked);
    let late = world.live.open(session.id).await;
    assert!(matches!(late, Err(Refused::Ended(CutReason::Revoked))));
    drop(watcher);
    let cut = tokio::time::timeout(Duration::from_secs(5), reached[0].all_cut()).await;
    assert!(cut.is_ok(), "a refused request counts as an open exchange");
}

/// A mark spares the sessions that are younger than it, in memory as in the store.
#[tokio::test]
async fn a_mark_spares_younger_sessions() {
    let mut world = World::new().await;
    let older = world.sign_in().await;
    let (held, _) = world.live.open(older.id).await.unwrap();
    world.revoke(Scope::User(older.user)).await;
    let younger = world.sign_in().await;
    let (fresh, _) = world.live.open(younger.id).await.unwrap();
    world.follow().await;
    assert_eq!(held.has_ended(), Some(CutReason::Revoked));
    assert_eq!(fresh.has_ended(), None);
}

/// The table forgets what nobody holds, and only that.
#[tokio::test]
async fn sweeps_what_nobody_holds() {
    let world = World::new().await;
    let (held, dropped) = (world.sign_in().await, world.sign_in().await);
    let (watcher, _) = world.live.open(held.id).await.unwrap();
    drop(world.live.open(dropped.id).await.unwrap());
    let later = Clock.now() + jiff::SignedDuration::from_hours(1);
    world
        .live
        .activity_written(&world.live.unwritten_activity());
    assert_eq!(world.live.sweep(later), 1);
    assert_eq!(watcher.has_ended(), None);
    assert!(world.live.open(dropped.id).await.is_ok(), "read again");
}

/// Activity that the store did not take stays here until it does: swept and read again, a session that
/// was used all along would look idle, and trouble in the store would log somebody out.
#[tokio::test]
async fn activity_waits_for_the_store() {
    let world = World::new().await;
    let session = world.sign_in().await;
    let (watcher, _) = world.live.open(session.id).await.unwrap();
    let at = Clock.now() + jiff::SignedDuration::from_mins(5);
    watcher.touch(at);
    drop(watcher);
    let Store::Embedded(engine) = &*world.store;
    engine.fail_writes(28);
    let refused = world.store.heartbeat(secret::new_id(Clock.unix_ms())).await;
    assert!(refused.is_err());
    crate::session::activity::flush(&world.live, &world.store).await;
    let later = at + jiff::SignedDuration::from_hours(1);
    assert_eq!(world.live.sweep(later), 1, "what is not written is kept");
    engine.fail_writes(0);
    crate::session::activity::flush(&world.live, &world.store).await;
    assert!(world.live.unwritten_activity().is_empty());
    assert_eq!(world.live.sweep(later), 0);
    let (watcher, _) = world.live.open(session.id).await.unwrap();
    assert_eq!(watcher.last_active().as_second(), at.as_second());
}

/// An exchange that is over as far as can be seen is cut with the rest, and not counted.
#[tokio::test]
async fn what_is_delivered_does_not_count() {
    let mut world = World::new().await;
    let session = world.sign_in().await;
    let (open, _) = world.live.open(session.id).await.unwrap();
    let (mut over, _) = world.live.open(session.id).await.unwrap();
    let mut delivery = over.delivery();
    delivery.note();
    delivery.note();
    world.follow().await;
    world.revoke(Scope::Session(session.id)).await;
    let reached = world.follow().await;
    assert_eq!(reached[0].connections, 1);
    assert_eq!(over.ended().await, CutReason::Revoked);
    drop(open);
    let all_cut = reached[0].all_cut();
    assert!(
        tokio::time::timeout(Duration::from_millis(20), all_cut)
            .await
            .is_err()
    );
    drop((over, delivery));
    reached[0].all_cut().await;
}
