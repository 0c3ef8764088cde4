//! The log, and those who follow it.

use std::time::{Duration, Instant};

use super::lab::{Lab, Login};
use crate::clock::Clock;
use crate::model::change::{Change, Revision, Scope};
use crate::model::credential::ApiKeyRecord;
use crate::store::{Acknowledgement, Shard};

const PEOPLE: Shard = Shard::People(0);
const SOON: Duration = Duration::from_secs(20);

fn now() -> Instant {
    Clock.monotonic()
}

/// Revisions rise by one; each position gives exactly what came after it; shards are apart.
pub(super) async fn changes_are_in_order(lab: &mut Lab) {
    let mut told = Vec::new();
    for number in 0..6 {
        let made = lab.login(Login::of(number, 1)).await;
        told.push(made.revision);
        if number % 2 == 0 {
            let done = lab.revoke(Scope::Session(made.id)).await;
            told.push(done.receipt.revision);
        }
    }
    let expected: Vec<_> = (1..=told.len() as u64).map(Revision).collect();
    assert_eq!(told, expected);
    for after in 0..=told.len() {
        let entries = lab.log(PEOPLE, Revision(after as u64)).await;
        let revisions: Vec<_> = entries.iter().map(|entry| entry.revision).collect();
        assert_eq!(revisions, told[after..]);
    }
    let shared = lab
        .store()
        .read_log(Shard::Shared, Revision(0), Duration::ZERO);
    let shared = shared.await.unwrap();
    assert!(shared.entries.is_empty() && !shared.gap);
    assert_eq!(shared.head, Revision(0));
}

/// A read with nothing to give waits for the next change, no longer than it was told to.
pub(super) async fn a_read_waits_for_news(lab: &mut Lab) {
    let head = lab.head().await;
    let began = now();
    let brief = Duration::from_millis(30);
    let nothing = lab.store().read_log(PEOPLE, head, brief).await.unwrap();
    assert!(nothing.entries.is_empty() && !nothing.gap);
    assert!(began.elapsed() >= brief);

    let new = lab.new_session(Login::of(1, 1), head);
    let began = now();
    let (news, made) = tokio::join!(
        lab.store().read_log(PEOPLE, head, SOON),
        lab.store().create_session(new)
    );
    assert!(began.elapsed() < SOON);
    let (news, made) = (news.unwrap(), made.unwrap());
    assert_eq!(news.head, made.revision);
    assert!(
        matches!(news.entries[0].change, Change::SessionCreated { session, .. } if session == made.id)
    );
}

/// Who asks from beyond the head followed another log, such as the one before a restored backup.
pub(super) async fn a_position_ahead_of_the_log_is_a_gap(lab: &mut Lab) {
    let made = lab.login(Login::of(1, 1)).await;
    let read = async |after| {
        let read = lab
            .store()
            .read_log(PEOPLE, Revision(after), Duration::ZERO);
        read.await.unwrap()
    };
    let ahead = read(made.revision.0 + 1).await;
    assert!(ahead.gap && ahead.entries.is_empty());
    assert_eq!(ahead.head, made.revision);
    let just_the_head = read(u64::MAX).await;
    assert!(!just_the_head.gap && just_the_head.entries.is_empty());
    assert_eq!(just_the_head.head, made.revision);
}

/// A reader far behind gets a bounded batch and goes on from its end.
pub(super) async fn batches_are_bounded(lab: &mut Lab) {
    let keys: Vec<_> = (0..1100_u32)
        .map(|_| ApiKeyRecord {
            id: lab.id(),
            secret_hash: [1; 32],
            description: String::new(),
            created_at: lab.at(0),
            revoked_at: None,
        })
        .collect();
    let store = lab.store();
    let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
    let put = keys.into_iter().map(|key| store.put_api_key(key));
    assert!(
        futures_util::future::join_all(put)
            .await
            .iter()
            .all(Result::is_ok)
    );
    let revoke = ids.iter().map(|id| store.revoke_api_key(*id, lab.at(1)));
    assert!(
        futures_util::future::join_all(revoke)
            .await
            .iter()
            .all(Result::is_ok)
    );
    let first = store
        .read_log(Shard::Shared, Revision(0), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(first.entries.len(), 1000);
    assert_eq!(first.head, Revision(1100));
    assert!(!first.gap);
    let rest = lab.log(Shard::Shared, Revision(1000)).await;
    assert_eq!(rest.len(), 100);
}

/// A wait ends when the last edge has applied the revision, and names who has not in time.
pub(super) async fn edges_acknowledge(lab: &mut Lab) {
    let (one, two, receipt, other) = (lab.id(), lab.id(), lab.id(), lab.id());
    let ack = |edge, applied, cuts: &[_]| Acknowledgement {
        edge,
        shard: PEOPLE,
        applied: Revision(applied),
        cuts: cuts.to_vec(),
    };
    let store = lab.store();
    let wait = |revision, wait| store.await_acknowledged(PEOPLE, Revision(revision), receipt, wait);

    let nobody = wait(5, SOON).await.unwrap();
    assert_eq!(nobody.edges_total, 0);

    store.acknowledge(ack(one, 4, &[])).await.unwrap();
    store.acknowledge(ack(two, 4, &[])).await.unwrap();
    store
        .acknowledge(ack(one, 5, &[(receipt, 2), (other, 9)]))
        .await
        .unwrap();
    let late = wait(5, Duration::from_millis(10)).await.unwrap();
    assert_eq!(late.edges_total, 2);
    assert_eq!(late.missing, [two]);
    assert_eq!(late.connections_cut, 2);

    let began = now();
    let (all, done) = tokio::join!(
        wait(5, SOON),
        store.acknowledge(ack(two, 6, &[(receipt, 3)]))
    );
    done.unwrap();
    let all = all.unwrap();
    assert!(began.elapsed() < SOON);
    assert!(all.missing.is_empty());
    assert_eq!((all.edges_total, all.connections_cut), (2, 5));

    // A position never goes back, and the shards are apart.
    store.acknowledge(ack(two, 1, &[])).await.unwrap();
    assert!(wait(6, Duration::ZERO).await.unwrap().missing == [one]);
    let shared = store
        .await_acknowledged(Shard::Shared, Revision(9), receipt, SOON)
        .await;
    assert_eq!(shared.unwrap().edges_total, 0);
}

pub(super) async fn a_heartbeat_is_a_write(lab: &mut Lab) {
    let edge = lab.id();
    for _ in 0..3 {
        lab.store().heartbeat(edge).await.unwrap();
    }
}
