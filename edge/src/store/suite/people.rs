//! App Users: who is one, who was, and who must prove themselves.

use super::lab::{DAY, Lab, Login, claims, endpoint};
use crate::model::change::Scope;
use crate::store::{Person, SessionFilter};

/// Issuer and subject make a person; a later login updates what is known of them.
pub(super) async fn one_person_is_one_user(lab: &mut Lab) {
    let first = lab.login(Login::of(1, 1)).await;
    let begun_at = lab.head().await;
    let mut later = lab.new_session(Login::of(1, 2), begun_at);
    later.claims.email = Some("new@example.test".to_owned());
    later.provider = "google-two".to_owned();
    later.created_at = lab.at(30);
    let second = lab.store().create_session(later).await.unwrap();
    assert_eq!(second.user, first.user);
    let user = lab.store().user(first.user).await.unwrap().unwrap();
    assert_eq!(user.claims.email.as_deref(), Some("new@example.test"));
    assert_eq!(user.provider, "google-two");
    assert_eq!(user.created_at, lab.at(0));
    assert_eq!(user.last_login, lab.at(30));
    assert_eq!(user.last_active, lab.at(30));

    // The same subject at another issuer is somebody else, however the two are glued together.
    let mut other = lab.new_session(Login::of(1, 1), begun_at);
    other.claims.issuer.push_str("subject");
    other.claims.subject = claims(1).subject.replace("subject", "");
    let other = lab.store().create_session(other).await.unwrap();
    assert_ne!(other.user, first.user);
    assert_eq!(lab.user_ids().await, [other.user, first.user]);
}

pub(super) async fn a_user_is_as_active_as_their_sessions(lab: &mut Lab) {
    let one = lab.login(Login::of(1, 1)).await;
    let two = lab.login(Login::of(1, 2)).await;
    let batch = vec![(one.id, lab.at(70)), (two.id, lab.at(50))];
    lab.store().touch(batch).await.unwrap();
    let user = lab.store().user(one.user).await.unwrap().unwrap();
    assert_eq!(user.last_active, lab.at(70));
    // The most active session goes; the user was active all the same.
    lab.revoke(Scope::Session(one.id)).await;
    let user = lab.store().user(one.user).await.unwrap().unwrap();
    assert_eq!(user.last_active, lab.at(70));
}

/// After a delete the user is in no list, their sessions are dead, and the person who comes back is
/// a new user without them.
pub(super) async fn a_deleted_user_is_gone_and_the_person_comes_back_as_another(lab: &mut Lab) {
    let one = lab.login(Login::of(1, 1)).await;
    let two = lab.login(Login::of(1, 2)).await;
    let bystander = lab.login(Login::of(2, 1)).await;
    let mut order = lab.order(Scope::User(one.user));
    order.delete_user = true;
    let deleted = lab.store().revoke(order.clone()).await.unwrap().unwrap();
    assert!(!deleted.repeated);
    assert_eq!(deleted.receipt.sessions_ended, 2);
    assert!(lab.store().user(one.user).await.unwrap().is_none());
    assert_eq!(lab.user_ids().await, [bystander.user]);
    assert_eq!(lab.listed().await, [bystander.id]);
    assert!(!lab.is_live(one.id).await && !lab.is_live(two.id).await);

    order.receipt = lab.id();
    let again = lab.store().revoke(order).await.unwrap().unwrap();
    assert!(again.repeated);
    assert_eq!(again.receipt, deleted.receipt);

    let back = lab.login(Login::of(1, 1)).await;
    assert_ne!(back.user, one.user);
    assert!(lab.is_live(back.id).await);
    assert!(!lab.is_live(one.id).await);
    let of_old = SessionFilter {
        user: Some(one.user),
        endpoint: None,
    };
    assert!(lab.list(of_old).await.is_empty());
}

/// A revoke asks for a fresh proof until the person has given one; nobody else is asked.
pub(super) async fn whoever_was_revoked_must_prove_themselves(lab: &mut Lab) {
    async fn due(lab: &Lab, login: Login) -> bool {
        let claims = claims(login.person);
        let person = Person {
            issuer: claims.issuer,
            subject: claims.subject,
            endpoint: endpoint(login.endpoint),
            provider: login.provider.to_owned(),
        };
        lab.store().interactive_due(person).await.unwrap()
    }
    let (ada, lin) = (Login::of(1, 1), Login::of(2, 1));
    assert!(!due(lab, ada).await, "a first login");
    let session = lab.login(ada).await;
    lab.login(lin).await;
    assert!(!due(lab, ada).await, "a session and no revoke");

    lab.revoke(Scope::Session(session.id)).await;
    assert!(due(lab, ada).await);
    assert!(due(lab, Login::of(1, 2)).await, "elsewhere too");
    assert!(!due(lab, lin).await);
    let session = lab.login(ada).await;
    assert!(!due(lab, ada).await, "proven");

    lab.revoke(Scope::User(session.user)).await;
    assert!(due(lab, ada).await && !due(lab, lin).await);
    let session = lab.login(ada).await;
    let mut order = lab.order(Scope::User(session.user));
    order.delete_user = true;
    lab.store().revoke(order).await.unwrap();
    assert!(due(lab, ada).await, "deleted, not forgotten");
    lab.login(ada).await;
    assert!(!due(lab, ada).await);

    lab.try_revoke(Scope::All).await.unwrap();
    assert!(due(lab, ada).await && due(lab, lin).await);
    assert!(!due(lab, Login::of(9, 1)).await, "never seen");
    lab.login(ada).await;
    assert!(!due(lab, ada).await && due(lab, lin).await);
}

/// Ninety days after the last session a person is forgotten; who came back meanwhile is not.
pub(super) async fn persons_are_forgotten_in_the_end(lab: &mut Lab) {
    let gone = lab.login(Login::of(1, 1)).await;
    let stays = lab.login(Login::of(2, 1)).await;
    let mut later = lab.new_session(Login::of(2, 1), stays.revision);
    later.expires_at = lab.at(30 * DAY);
    lab.store().create_session(later).await.unwrap();
    let sweep = async |days: i64| {
        let at = lab.at(days * DAY + 60);
        while lab.store().sweep(at).await.unwrap() > 0 {}
        lab.user_ids().await
    };
    assert_eq!(sweep(90).await, [stays.user, gone.user]);
    assert_eq!(sweep(91).await, [stays.user]);
    assert_eq!(sweep(119).await, [stays.user]);
    assert!(sweep(120).await.is_empty());
}
