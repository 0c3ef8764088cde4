//! A disk that is full, read-only, or fails its sync: what could not be made durable did not happen,
//! and everything resumes once the disk has healed.

use std::time::Duration;

use super::super::sessions;
use super::{Disk, disk, engine};
use crate::clock::Clock;
use crate::model::change::{Revision, Scope};
use crate::model::session::{CutReason, Session};
use crate::store::suite::{Lab, Login};
use crate::store::{Loaded, OnceKind, Revoked, Shard, StoreError};

const EIO: i32 = 5;
const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

/// A fault and whether it is one of a full disk.
type Fault = (&'static str, fn(&Disk), bool);

const FAULTS: [Fault; 6] = [
    ("full", |disk| disk.faults.fail_writes(ENOSPC, 0), true),
    (
        "over quota",
        |disk| disk.faults.fail_writes(EDQUOT, 0),
        true,
    ),
    (
        "file too large",
        |disk| disk.faults.fail_writes(EFBIG, 0),
        true,
    ),
    (
        "full in the middle",
        |disk| disk.faults.fail_writes(ENOSPC, 2),
        true,
    ),
    ("read-only", |disk| disk.faults.fail_writes(EROFS, 0), false),
    ("sync fails", |disk| disk.faults.fail_syncs(EIO), false),
];

/// The disk heals: the next change may have to wait for the engine's next try, not longer.
async fn heals(lab: &mut Lab, scope: Scope) -> Revoked {
    disk(lab).faults.heal();
    let began = Clock.monotonic();
    let done = lab.try_revoke(scope).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    done
}

async fn expect_live(lab: &Lab, session: &Session, context: &str) {
    let loaded = lab.store().load_session(session.id).await;
    assert!(
        matches!(&loaded, Ok(Loaded::Live { session: found, .. }) if found == session),
        "{context}: {loaded:?}"
    );
}

/// A revoke of any scope under any fault is an error, leaves sessions, lists, marks and log as they
/// were, now and after a restart, and works as soon as the disk does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_durable_did_not_happen() {
    let mut lab = Lab::embedded().await;
    for (context, fault, is_full) in FAULTS {
        let kept = lab.login(Login::of(1, 1)).await;
        let other = lab.login(Login::of(2, 1)).await;
        let (head, marks) = (lab.head().await, lab.store().marks().await.unwrap());
        fault(disk(&lab));
        for scope in [
            Scope::Session(kept.id),
            Scope::User(kept.user),
            Scope::All,
            Scope::Session(kept.id),
        ] {
            let refused = lab.try_revoke(scope).await;
            match refused {
                Err(StoreError::Full(_)) => assert!(is_full, "{context}"),
                Err(StoreError::Unavailable(_)) => assert!(!is_full, "{context}"),
                other => panic!("{context}: {other:?}"),
            }
            // What can be read is read, and nothing has changed.
            expect_live(&lab, &kept, context).await;
            expect_live(&lab, &other, context).await;
        }
        let new = lab.new_session(Login::of(3, 1), head);
        assert!(lab.store().create_session(new.clone()).await.is_err());
        assert!(!lab.is_live(new.id).await);
        assert_eq!(lab.head().await, head, "{context}");
        assert_eq!(lab.listed().await, [other.id, kept.id], "{context}");
        assert_eq!(lab.store().marks().await.unwrap().all, marks.all);
        let waited = Duration::from_millis(1);
        let news = lab.store().read_log(Shard::People(0), head, waited).await;
        assert!(news.unwrap().entries.is_empty(), "{context}");

        let done = heals(&mut lab, Scope::Session(kept.id)).await;
        assert!(
            !done.repeated,
            "{context}: a refused order must not come true"
        );
        assert_eq!(done.receipt.revision, Revision(head.0 + 1), "{context}");
        assert!(!lab.is_live(kept.id).await);
        expect_live(&lab, &other, context).await;
        lab.reopen().await;
        assert!(!lab.is_live(kept.id).await, "{context}");
        expect_live(&lab, &other, context).await;
        lab.revoke(Scope::All).await;
    }
}

/// The power goes, or somebody kills the edge, while the disk is still broken: what was answered
/// stands and what was refused has not happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_on_a_disk_that_failed_finds_the_last_synced_state() {
    for (context, fault, _) in FAULTS {
        let mut lab = Lab::embedded().await;
        let kept = lab.login(Login::of(1, 1)).await;
        let gone = lab.login(Login::of(2, 1)).await;
        lab.revoke(Scope::Session(gone.id)).await;
        let head = lab.head().await;
        fault(disk(&lab));
        assert!(lab.try_revoke(Scope::Session(kept.id)).await.is_err());
        lab.reopen().await;
        assert_eq!(lab.head().await, head, "{context}");
        expect_live(&lab, &kept, context).await;
        assert!(matches!(
            lab.store().load_session(gone.id).await,
            Ok(Loaded::Ended(CutReason::Revoked))
        ));
        lab.revoke(Scope::Session(kept.id)).await;
    }
}

/// Wherever in a commit the disk fails, at the first write or the last, the outcome is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_fails_whole_wherever_it_fails() {
    let mut lab = Lab::embedded().await;
    let mut went_through = 0;
    for spare in 0.. {
        let kept = lab.login(Login::of(1, 1)).await;
        let head = lab.head().await;
        disk(&lab).faults.fail_writes(ENOSPC, spare);
        let outcome = lab.try_revoke(Scope::Session(kept.id)).await;
        disk(&lab).faults.heal();
        let is_live = lab.is_live(kept.id).await;
        match outcome {
            Ok(done) => {
                let revision = done.unwrap().receipt.revision;
                assert_eq!(revision, Revision(head.0 + 1));
                assert!(!is_live);
                went_through += 1;
            }
            Err(StoreError::Full(_)) => {
                assert!(is_live, "refused after {spare} writes, yet done");
                assert_eq!(lab.head().await, head);
                let done = lab.revoke(Scope::Session(kept.id)).await;
                assert!(!done.repeated);
            }
            Err(other) => panic!("{other:?}"),
        }
        if went_through == 3 {
            break;
        }
    }
}

/// The writes that a sync had not yet covered are gone with it, in order: what was taken or revoked
/// stays so, since that was synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_back_brings_nothing_back() {
    let mut lab = Lab::embedded().await;
    let gone = lab.login(Login::of(1, 1)).await;
    let kept = lab.login(Login::of(2, 1)).await;
    let (now, until) = (lab.at(1), lab.at(600));
    let put = lab
        .store()
        .put_once(OnceKind::Login, [1; 32], vec![1], until);
    put.await.unwrap();
    lab.revoke(Scope::Session(gone.id)).await;
    assert!(lab.store().seen_once([2; 32], now, until).await.unwrap());
    lab.store()
        .touch(vec![(kept.id, lab.at(50))])
        .await
        .unwrap();
    // The last change before the fault: no other takes it along to the disk.
    let take = lab.store().take_once(OnceKind::Login, [1; 32], now);
    assert_eq!(take.await.unwrap(), Some(vec![1]));

    disk(&lab).faults.fail_syncs(EIO);
    assert!(lab.try_revoke(Scope::Session(kept.id)).await.is_err());
    let take = lab.store().take_once(OnceKind::Login, [1; 32], now).await;
    assert!(!matches!(take, Ok(Some(_))));
    assert!(!matches!(
        lab.store().seen_once([2; 32], now, until).await,
        Ok(true)
    ));
    assert!(!lab.is_live(gone.id).await);
    expect_live(&lab, &kept, "rolled back").await;

    heals(&mut lab, Scope::Session(kept.id)).await;
    let take = lab.store().take_once(OnceKind::Login, [1; 32], now).await;
    assert_eq!(take.unwrap(), None);
    assert!(!lab.store().seen_once([2; 32], now, until).await.unwrap());
    assert!(!lab.is_live(gone.id).await);
}

/// A disk that cannot even be read: errors, never an answer, and it heals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_disk_gives_errors_and_heals() {
    let mut lab = Lab::embedded().await;
    let kept = lab.login(Login::of(1, 1)).await;
    disk(&lab).faults.fail_reads(EIO);
    disk(&lab).faults.fail_writes(EIO, 0);
    assert!(lab.try_revoke(Scope::Session(kept.id)).await.is_err());
    let loaded = lab.store().load_session(kept.id).await;
    assert!(matches!(loaded, Err(StoreError::Unavailable(_))));
    let listed = lab.store().endpoints().await;
    assert!(matches!(listed, Err(StoreError::Unavailable(_))));
    let done = heals(&mut lab, Scope::Session(kept.id)).await;
    assert!(!done.repeated);
    assert!(!lab.is_live(kept.id).await);
}

async fn begin(lab: &Lab, key: u8) -> Result<(), StoreError> {
    let until = lab.at(10_000);
    lab.store()
        .put_once(OnceKind::Login, [key; 32], b"a login".to_vec(), until)
        .await
}

/// Soon after a failure nothing is taken that is not on the disk, not even a login that has just begun: it
/// would be lost with the next failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failure_everything_is_synced() {
    let mut lab = Lab::embedded().await;
    let kept = lab.login(Login::of(1, 1)).await;
    disk(&lab).faults.fail_syncs(EIO);
    let order = lab.order(Scope::Session(kept.id));
    lab.store().revoke(order).await.unwrap_err();
    begin(&lab, 2).await.unwrap_err();
    disk(&lab).faults.heal();
    begin(&lab, 3).await.unwrap();
    disk(&lab).faults.fail_syncs(EIO);
    let order = lab.order(Scope::Session(kept.id));
    lab.store().revoke(order).await.unwrap_err();
    disk(&lab).faults.heal();
    let taken = lab.store().take_once(OnceKind::Login, [3; 32], lab.at(1));
    assert_eq!(taken.await.unwrap().as_deref(), Some(&b"a login"[..]));
    lab.reopen().await;
}

/// Many callers during a fault get their errors soon: none waits for the disk to heal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_drains_during_a_fault() {
    let mut lab = Lab::embedded().await;
    let kept = lab.login(Login::of(1, 1)).await;
    disk(&lab).faults.fail_writes(ENOSPC, 0);
    let orders: Vec<_> = (0..200)
        .map(|_| lab.order(Scope::Session(kept.id)))
        .collect();
    let began = Clock.monotonic();
    let store = lab.store();
    let refused =
        futures_util::future::join_all(orders.into_iter().map(|order| store.revoke(order)));
    assert!(
        refused
            .await
            .iter()
            .all(|one| matches!(one, Err(StoreError::Full(_))))
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(lab.is_live(kept.id).await);
    heals(&mut lab, Scope::Session(kept.id)).await;
}

/// A change that panics fails alone: the writer lives, and nothing of the change stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_one_change() {
    let mut lab = Lab::embedded().await;
    let kept = lab.login(Login::of(1, 1)).await;
    let panicked = engine(&lab)
        .engine
        .write::<(), _>(move |tx| {
            sessions::remove(tx, kept.id, &sessions::facts(tx, kept.id)?.unwrap())?;
            panic!("as a test");
        })
        .await;
    assert!(matches!(panicked, Err(StoreError::Unavailable(_))));
    assert!(lab.is_live(kept.id).await);
    lab.revoke(Scope::Session(kept.id)).await;
    lab.reopen().await;
    assert!(!lab.is_live(kept.id).await);
}

/// Growing the file fails: the file stays usable as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_while_the_file_grows() {
    let mut lab = Lab::embedded().await;
    disk(&lab).faults.skip_syncs();
    let mut live = Vec::new();
    let mut refused = 0;
    for round in 0..200_u32 {
        disk(&lab)
            .faults
            .fail_writes(if round % 10 == 9 { ENOSPC } else { 0 }, round % 7);
        let begun_at = lab.head().await;
        let mut new = lab.new_session(Login::of((round % 50) as u8, 1), begun_at);
        new.public_url = "x".repeat(3000);
        match lab.store().create_session(new).await {
            Ok(session) => live.push(session.id),
            Err(StoreError::Full(_)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        disk(&lab).faults.heal();
    }
    assert!(refused > 0 && live.len() > 100);
    live.reverse();
    assert_eq!(lab.listed().await, live);
    lab.reopen().await;
    assert_eq!(lab.listed().await, live);
}
