//! Sessions: whole, conditional, and gone in time.

use std::collections::BTreeSet;

use super::lab::{DAY, Lab, Login, claims, endpoint};
use crate::model::change::{Change, Revision, Scope};
use crate::model::session::CutReason;
use crate::store::{Loaded, SessionFilter, Shard, StoreError};

/// What was written is what is read, field by field, and the log tells of it.
pub(super) async fn a_new_session_loads_whole(lab: &mut Lab) {
    let new = lab.new_session(Login::of(1, 1), Revision(0));
    let made = lab.store().create_session(new.clone()).await.unwrap();
    assert_eq!(made.id, new.id);
    assert_eq!(made.user, new.fresh_user);
    assert_eq!(made.claims, claims(1));
    assert_eq!(made.browser, new.browser);
    assert_eq!(made.secret_hash, new.secret_hash);
    assert_eq!(made.expires_at, new.expires_at);
    assert_eq!(made.idle_limit, new.idle_limit);
    assert_eq!(made.auth_time, new.auth_time);
    assert_eq!(made.public_url, new.public_url);
    assert!(made.revision > Revision(0));

    let Loaded::Live {
        session,
        last_active,
    } = lab.store().load_session(made.id).await.unwrap()
    else {
        panic!("a new session is live");
    };
    assert_eq!(session, made);
    assert_eq!(last_active, made.created_at);
    let seen = lab.store().session(made.id, lab.at(1)).await.unwrap();
    assert_eq!(seen.unwrap().session, made);

    let log = lab.log(Shard::People(0), Revision(0)).await;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].revision, made.revision);
    assert!(
        matches!(log[0].change, Change::SessionCreated { session, user }
        if session == made.id && user == made.user)
    );
}

pub(super) async fn what_is_unknown_is_absent(lab: &mut Lab) {
    let (session, user, receipt, endpoint) = (lab.id(), lab.id(), lab.id(), lab.id());
    let (authtoken, api_key, operator) = (lab.id(), lab.id(), lab.id());
    let store = lab.store();
    assert!(matches!(
        store.load_session(session).await.unwrap(),
        Loaded::Absent
    ));
    assert!(store.session(session, lab.at(0)).await.unwrap().is_none());
    assert!(store.user(user).await.unwrap().is_none());
    assert!(store.receipt(receipt).await.unwrap().is_none());
    assert!(store.endpoint(endpoint).await.unwrap().is_none());
    assert!(store.authtoken(authtoken).await.unwrap().is_none());
    assert!(store.api_key(api_key).await.unwrap().is_none());
    assert!(store.operator(operator, lab.at(0)).await.unwrap().is_none());
    assert!(lab.listed().await.is_empty());
    assert!(lab.user_ids().await.is_empty());
    store.touch(vec![(session, lab.at(0))]).await.unwrap();
    store.remove_operator(operator).await.unwrap();
}

/// Neither a live nor a revoked session is overwritten by another of its id.
pub(super) async fn an_id_is_used_once(lab: &mut Lab) {
    let new = lab.new_session(Login::of(1, 1), Revision(0));
    lab.store().create_session(new.clone()).await.unwrap();
    let again = lab.store().create_session(new.clone()).await;
    assert!(matches!(again, Err(StoreError::RevokedMeanwhile)));
    lab.revoke(Scope::Session(new.id)).await;
    let mut late = new.clone();
    late.begun_at = lab.head().await;
    let again = lab.store().create_session(late).await;
    assert!(matches!(again, Err(StoreError::RevokedMeanwhile)));
    assert!(!lab.is_live(new.id).await);
}

/// Late and early notes of activity in any order: the newest stands.
pub(super) async fn activity_only_rises(lab: &mut Lab) {
    let made = lab.login(Login::of(1, 1)).await;
    for (noted, newest) in [(30, 30), (10, 30), (40, 40), (-100, 40)] {
        let batch = vec![(made.id, lab.at(noted))];
        lab.store().touch(batch).await.unwrap();
        let seen = lab.store().session(made.id, lab.at(50)).await.unwrap();
        assert_eq!(seen.unwrap().last_active, lab.at(newest));
    }
}

/// A write-back that comes after a revoke changes nothing: the session stays dead (E07).
pub(super) async fn activity_revives_nothing(lab: &mut Lab) {
    let one = lab.login(Login::of(1, 1)).await;
    let marked = lab.login(Login::of(2, 1)).await;
    lab.revoke(Scope::Session(one.id)).await;
    lab.revoke(Scope::User(marked.user)).await;
    let batch = vec![(one.id, lab.at(90)), (marked.id, lab.at(90))];
    lab.store().touch(batch).await.unwrap();
    for id in [one.id, marked.id] {
        assert!(!lab.is_live(id).await);
        assert!(lab.store().session(id, lab.at(91)).await.unwrap().is_none());
    }
    assert!(lab.listed().await.is_empty());
}

/// A browser that logs in again holds one session, and the old one's end is in the log first.
pub(super) async fn a_replaced_session_ends_in_the_same_step(lab: &mut Lab) {
    let old = lab.login(Login::of(1, 1)).await;
    let head = lab.head().await;
    let mut new = lab.new_session(Login::of(1, 1), head);
    new.replaces = Some(old.id);
    let new = lab.store().create_session(new).await.unwrap();
    assert!(matches!(
        lab.store().load_session(old.id).await.unwrap(),
        Loaded::Ended(CutReason::LoggedOut)
    ));
    assert_eq!(lab.listed().await, [new.id]);
    let log = lab.log(Shard::People(0), head).await;
    assert!(
        matches!(&log[0].change, Change::Revoked { scope: Scope::Session(id), .. } if *id == old.id)
    );
    assert!(matches!(log[1].change, Change::SessionCreated { session, .. } if session == new.id));
    // An order that comes later finds what ended it.
    let again = lab.revoke(Scope::Session(old.id)).await;
    assert!(again.repeated);
    assert_eq!(again.receipt.revision, log[0].revision);
}

pub(super) async fn another_endpoints_session_is_not_replaced(lab: &mut Lab) {
    let old = lab.login(Login::of(1, 1)).await;
    let head = lab.head().await;
    let mut new = lab.new_session(Login::of(1, 2), head);
    new.replaces = Some(old.id);
    lab.store().create_session(new).await.unwrap();
    assert!(lab.is_live(old.id).await);
}

/// Ten fresh tabs: each begins before any has finished, each replaces what it finds, all succeed.
pub(super) async fn parallel_logins_of_one_browser_all_succeed(lab: &mut Lab) {
    let begun_at = lab.head().await;
    let mut held = None;
    let mut users = BTreeSet::new();
    for _ in 0..10 {
        let mut new = lab.new_session(Login::of(1, 1), begun_at);
        new.replaces = held;
        let made = lab.store().create_session(new).await.unwrap();
        held = Some(made.id);
        users.insert(made.user);
    }
    assert_eq!(users.len(), 1);
    assert_eq!(lab.listed().await, Vec::from_iter(held));
}

/// At its absolute end a session is no longer shown, and sweeping takes it away.
pub(super) async fn sessions_end_by_themselves(lab: &mut Lab) {
    let made = lab.login(Login::of(1, 1)).await;
    let store = lab.store();
    let shown = async |at| store.session(made.id, lab.at(at)).await.unwrap().is_some();
    assert!(shown(DAY - 1).await);
    assert!(!shown(DAY).await);
    let all = SessionFilter::default();
    let page = crate::store::Page {
        before: None,
        limit: 10,
    };
    assert!(
        store
            .sessions(all, page, lab.at(DAY))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.sweep(lab.at(DAY - 1)).await.unwrap(), 0);
    assert_eq!(store.sweep(lab.at(DAY)).await.unwrap(), 1);
    assert_eq!(store.sweep(lab.at(DAY)).await.unwrap(), 0);
    assert!(matches!(
        store.load_session(made.id).await.unwrap(),
        Loaded::Absent
    ));
    // The user stays, and knows the endpoint no more through any session.
    assert!(store.user(made.user).await.unwrap().is_some());
}

/// Sessions, users, ends, receipts, revisions: a restart changes none of them.
pub(super) async fn everything_survives_a_restart(lab: &mut Lab) {
    let kept = lab.login(Login::of(1, 1)).await;
    let ended = lab.login(Login::of(2, 1)).await;
    let marked = lab.login(Login::of(3, 2)).await;
    let order = lab.revoke(Scope::Session(ended.id)).await;
    lab.revoke(Scope::User(marked.user)).await;
    lab.store()
        .touch(vec![(kept.id, lab.at(33))])
        .await
        .unwrap();
    let (head, users) = (lab.head().await, lab.user_ids().await);
    for _ in 0..2 {
        lab.reopen().await;
        assert_eq!(lab.head().await, head);
        assert_eq!(lab.user_ids().await, users);
        let list = lab.list(SessionFilter::default()).await;
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].session, kept);
        assert_eq!(list[0].last_active, lab.at(33));
        assert!(!lab.is_live(ended.id).await);
        assert!(!lab.is_live(marked.id).await);
        let receipt = lab.store().receipt(order.receipt.id).await.unwrap();
        assert_eq!(receipt.as_ref(), Some(&order.receipt));
    }
    let next = lab.login(Login::of(1, 1)).await;
    assert_eq!(next.user, kept.user);
    assert!(next.revision > head);
    assert_eq!(next.endpoint, endpoint(1));
}

/// A backup opens as a store of its own and holds what was there; nothing is overwritten by one.
pub(super) async fn a_backup_is_a_whole_store(lab: &mut Lab) {
    let kept = lab.login(Login::of(1, 1)).await;
    let ended = lab.login(Login::of(2, 1)).await;
    lab.revoke(Scope::Session(ended.id)).await;
    let to = lab.folder().join("copy.redb");
    lab.store().backup(to.clone()).await.unwrap();
    assert!(lab.store().backup(to.clone()).await.is_err());
    let later = lab.login(Login::of(3, 1)).await;

    let copy = Lab::open_other(&to).await;
    assert!(matches!(
        copy.load_session(kept.id).await.unwrap(),
        Loaded::Live { session, .. } if session == kept
    ));
    assert!(matches!(
        copy.load_session(ended.id).await.unwrap(),
        Loaded::Ended(CutReason::Revoked)
    ));
    assert!(matches!(
        copy.load_session(later.id).await.unwrap(),
        Loaded::Absent
    ));
    assert!(lab.is_live(later.id).await);
}
