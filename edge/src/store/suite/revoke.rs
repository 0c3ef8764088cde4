//! Revocation: durable, complete, idempotent, and never undone by what was under way.

use proto::id::EndpointId;

use super::lab::{DAY, Lab, Login, endpoint};
use crate::model::change::{Change, Revision, Scope};
use crate::model::credential::ProviderRecord;
use crate::model::endpoint::{Access, Endpoint, Kind, NetworkRule};
use crate::model::session::CutReason;
use crate::store::{Claimed, Loaded, Shard, StoreError};

/// Makes endpoint and provider exist, so that they can be revoked.
async fn furnish(lab: &mut Lab) -> EndpointId {
    let claim = Endpoint {
        id: endpoint(1),
        host: "app.otter.localhost".to_owned(),
        authtoken: lab.id(),
        upstream: "http://localhost:8080".to_owned(),
        access: Access::Public,
        kind: Kind::Http,
        networks: NetworkRule::default(),
        created_at: lab.at(0),
    };
    let claimed = lab.store().claim_endpoint(claim).await.unwrap();
    assert!(matches!(claimed, Claimed::Held(_)));
    let provider = ProviderRecord {
        name: "google".to_owned(),
        kind: "google".to_owned(),
        issuer: "https://accounts.example.test".to_owned(),
        client_id: "id".to_owned(),
        client_secret: "secret".to_owned(),
        scopes: Vec::new(),
        created_at: lab.at(0),
    };
    lab.store().put_provider(provider).await.unwrap();
    endpoint(1)
}

/// Tombstone, list, log and receipt say the same.
pub(super) async fn a_revoked_session_stays_dead(lab: &mut Lab) {
    let made = lab.login(Login::of(1, 1)).await;
    let other = lab.login(Login::of(1, 1)).await;
    let mut order = lab.order(Scope::Session(made.id));
    order.cause = CutReason::LoggedOut;
    let done = lab.store().revoke(order.clone()).await.unwrap().unwrap();
    assert!(!done.repeated);
    assert_eq!(done.receipt.id, order.receipt);
    assert_eq!(done.receipt.scope, order.scope);
    assert_eq!(done.receipt.reason, order.reason);
    assert_eq!(done.receipt.sessions_ended, 1);
    assert_eq!(done.receipt.created_at, order.at);
    assert!(done.receipt.durable);
    assert!(matches!(
        lab.store().load_session(made.id).await.unwrap(),
        Loaded::Ended(CutReason::LoggedOut)
    ));
    assert_eq!(lab.listed().await, [other.id]);
    let log = lab.log(Shard::People(0), other.revision).await;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].revision, done.receipt.revision);
    let told = Change::Revoked {
        scope: order.scope,
        reason: CutReason::LoggedOut,
        receipt: order.receipt,
    };
    assert_eq!(log[0].change, told);
}

pub(super) async fn repeating_an_order_gives_the_first_receipt(lab: &mut Lab) {
    let made = lab.login(Login::of(1, 1)).await;
    let first = lab.revoke(Scope::Session(made.id)).await;
    let head = lab.head().await;
    let again = lab.revoke(Scope::Session(made.id)).await;
    assert!(again.repeated);
    assert_eq!(again.receipt, first.receipt);

    let first = lab.revoke(Scope::User(made.user)).await;
    let again = lab.revoke(Scope::User(made.user)).await;
    assert!(!first.repeated && again.repeated);
    assert_eq!(again.receipt, first.receipt);
    assert_eq!(lab.head().await.0, head.0 + 1, "repeating writes no entry");

    // Who signed in since has something to end again.
    let back = lab.login(Login::of(1, 1)).await;
    let anew = lab.revoke(Scope::User(made.user)).await;
    assert!(!anew.repeated);
    assert_eq!(anew.receipt.sessions_ended, 1);
    assert!(!lab.is_live(back.id).await);
    // A session that went with its user was ended by that order.
    let by_mark = lab.revoke(Scope::Session(back.id)).await;
    assert!(by_mark.repeated);
    assert_eq!(by_mark.receipt.id, anew.receipt.id);
}

pub(super) async fn there_is_nothing_of_that_name(lab: &mut Lab) {
    let made = lab.login(Login::of(1, 1)).await;
    let scopes = [
        Scope::Session(lab.id()),
        Scope::User(lab.id()),
        Scope::Endpoint(lab.id()),
        Scope::Provider("nobody".to_owned()),
    ];
    let head = lab.head().await;
    for scope in scopes {
        assert!(lab.try_revoke(scope).await.unwrap().is_none());
    }
    let mut late = lab.order(Scope::Session(made.id));
    late.at = lab.at(DAY);
    assert!(lab.store().revoke(late).await.unwrap().is_none());
    assert_eq!(lab.head().await, head);
    assert!(lab.is_live(made.id).await);
}

/// A mark ends what is older, of its scope only, and counts it; what comes later lives.
pub(super) async fn marks_end_older_sessions_and_spare_newer_ones(lab: &mut Lab) {
    let endpoint = furnish(lab).await;
    let here = Login::of(1, 1);
    let elsewhere = Login {
        person: 2,
        endpoint: 2,
        provider: "okta",
    };
    let user = lab.login(here).await.user;
    lab.revoke(Scope::User(user)).await;
    for scope in [
        Scope::User(user),
        Scope::Endpoint(endpoint),
        Scope::Provider("google".to_owned()),
        Scope::All,
    ] {
        let old = [lab.login(here).await, lab.login(here).await];
        let spared = lab.login(elsewhere).await;
        let gone = lab.login(here).await;
        lab.revoke(Scope::Session(gone.id)).await;
        let done = lab.revoke(scope.clone()).await;
        let everything = matches!(scope, Scope::All);
        let ended = if everything { 6 } else { 2 };
        assert_eq!(done.receipt.sessions_ended, ended, "{scope:?}");
        for session in &old {
            assert!(!lab.is_live(session.id).await, "{scope:?}");
        }
        assert_eq!(lab.is_live(spared.id).await, !everything, "{scope:?}");
        let newer = lab.login(here).await;
        assert!(lab.is_live(newer.id).await, "{scope:?}");
        assert!(newer.revision > done.receipt.revision);
        lab.revoke(Scope::Session(newer.id)).await;
    }
    assert!(lab.listed().await.is_empty());
}

/// What covers a person and was revoked after their login began refuses it; what covers somebody
/// else does not.
pub(super) async fn a_login_under_way_does_not_undo_a_revoke(lab: &mut Lab) {
    let endpoint = furnish(lab).await;
    let ada = Login::of(1, 1);
    let session = lab.login(ada).await;
    let user = session.user;
    for scope in [
        Scope::Session(session.id),
        Scope::User(user),
        Scope::Endpoint(endpoint),
        Scope::Provider("google".to_owned()),
        Scope::All,
    ] {
        let begun_at = lab.head().await;
        let early = lab.new_session(ada, begun_at);
        let elsewhere = Login {
            person: 7,
            endpoint: 7,
            provider: "okta",
        };
        let other = lab.new_session(elsewhere, begun_at);
        let done = lab.revoke(scope.clone()).await;
        let refused = lab.store().create_session(early.clone()).await;
        assert!(
            matches!(refused, Err(StoreError::RevokedMeanwhile)),
            "{scope:?}"
        );
        assert!(!lab.is_live(early.id).await);
        let others = lab.store().create_session(other).await;
        assert_eq!(others.is_ok(), !matches!(scope, Scope::All), "{scope:?}");
        // The same login, begun after the revoke, is a fresh one.
        let fresh = lab.new_session(ada, done.receipt.revision);
        assert!(lab.store().create_session(fresh).await.is_ok(), "{scope:?}");
    }
    // Deleting the user must not let their login through as that of a newcomer.
    let begun_at = lab.head().await;
    let early = lab.new_session(ada, begun_at);
    let mut order = lab.order(Scope::User(user));
    order.delete_user = true;
    lab.store().revoke(order).await.unwrap();
    let refused = lab.store().create_session(early).await;
    assert!(matches!(refused, Err(StoreError::RevokedMeanwhile)));
}

/// Logins and a revoke at the same moment: whatever came first, no session older than the revoke
/// lives, and every login that was begun before it is refused or dead.
pub(super) async fn create_races_revoke(lab: &mut Lab) {
    let user = lab.login(Login::of(1, 1)).await.user;
    for _ in 0..10 {
        let begun_at = lab.head().await;
        let logins: Vec<_> = (0..8)
            .map(|_| lab.new_session(Login::of(1, 1), begun_at))
            .collect();
        let order = lab.order(Scope::User(user));
        let store = lab.store();
        let creating = logins.iter().map(|new| store.create_session(new.clone()));
        let (made, revoked) = tokio::join!(
            futures_util::future::join_all(creating),
            store.revoke(order)
        );
        assert!(revoked.unwrap().is_some());
        for (new, made) in logins.iter().zip(made) {
            assert!(matches!(made, Ok(_) | Err(StoreError::RevokedMeanwhile)));
            assert!(!lab.is_live(new.id).await);
        }
        assert!(lab.listed().await.is_empty());
        lab.login(Login::of(1, 1)).await;
    }
}

/// However many sessions: one entry, at once, counted; what is left behind goes by itself.
pub(super) async fn many_sessions_end_in_one_step(lab: &mut Lab) {
    let mut made = Vec::new();
    for number in 0..120 {
        made.push(lab.login(Login::of(number % 40, number % 3)).await);
    }
    let done = lab.revoke(Scope::All).await;
    assert_eq!(done.receipt.sessions_ended, 120);
    assert!(lab.listed().await.is_empty());
    let newer = lab.login(Login::of(1, 1)).await;
    while lab.store().sweep(lab.at(60)).await.unwrap() > 0 {}
    for session in &made {
        assert!(matches!(
            lab.store().load_session(session.id).await.unwrap(),
            Loaded::Ended(CutReason::Revoked)
        ));
    }
    assert_eq!(lab.listed().await, [newer.id]);
    // Repeating one of them names the order that ended it, still.
    let again = lab.revoke(Scope::Session(made[5].id)).await;
    assert!(again.repeated);
    assert_eq!(again.receipt.id, done.receipt.id);
}

/// The tombstone is there for an hour after the session would have ended.
pub(super) async fn a_tombstone_outlives_its_session(lab: &mut Lab) {
    let made = lab.login(Login::of(1, 1)).await;
    lab.revoke(Scope::Session(made.id)).await;
    let sweep_at = async |at| {
        while lab.store().sweep(lab.at(at)).await.unwrap() > 0 {}
        lab.store().load_session(made.id).await.unwrap()
    };
    assert!(matches!(sweep_at(DAY + 3599).await, Loaded::Ended(_)));
    assert!(matches!(sweep_at(DAY + 3600).await, Loaded::Absent));
}

pub(super) async fn receipts_are_completed(lab: &mut Lab) {
    let made = lab.login(Login::of(1, 1)).await;
    let mut receipt = lab.revoke(Scope::Session(made.id)).await.receipt;
    receipt.edges_total = 3;
    receipt.edges_acknowledged = 2;
    receipt.edges_missing = vec![lab.id()];
    receipt.connections_cut = 17;
    receipt.elapsed_ms = 4;
    lab.store().complete_receipt(receipt.clone()).await.unwrap();
    let kept = lab.store().receipt(receipt.id).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&receipt));
    let again = lab.revoke(Scope::Session(made.id)).await;
    assert_eq!(again.receipt, receipt);
}

pub(super) async fn marks_are_listed(lab: &mut Lab) {
    let endpoint = furnish(lab).await;
    let user = lab.login(Login::of(1, 1)).await.user;
    let marks = lab.store().marks().await.unwrap();
    assert_eq!(marks.all, Revision(0));
    assert!(marks.users.is_empty() && marks.endpoints.is_empty() && marks.providers.is_empty());
    let by_user = lab.revoke(Scope::User(user)).await.receipt.revision;
    let by_endpoint = lab.revoke(Scope::Endpoint(endpoint)).await;
    let by_provider = lab.revoke(Scope::Provider("google".to_owned())).await;
    let all = lab.revoke(Scope::All).await.receipt.revision;
    let marks = lab.store().marks().await.unwrap();
    assert_eq!(marks.users, [(user, by_user)]);
    assert_eq!(marks.endpoints, [(endpoint, by_endpoint.receipt.revision)]);
    let named = ("google".to_owned(), by_provider.receipt.revision);
    assert_eq!(marks.providers, [named]);
    assert_eq!(marks.all, all);
    assert_eq!(marks.at, lab.head().await);
}
