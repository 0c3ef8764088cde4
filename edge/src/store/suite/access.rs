//! Endpoints, authtokens, API keys, providers, operators.

use std::time::Duration;

use proto::id::{AuthtokenId, EndpointId};

use super::lab::{Lab, Login};
use crate::model::change::{Change, Revision, Scope};
use crate::model::credential::{ApiKeyRecord, AuthtokenRecord, OperatorRecord, ProviderRecord};
use crate::model::endpoint::{Access, Endpoint, Kind, LoginRule, NetworkRule};
use crate::model::session::CutReason;
use crate::store::{Claimed, Loaded, Shard, StoreError};

async fn authtoken(lab: &mut Lab) -> AuthtokenId {
    let record = AuthtokenRecord {
        id: lab.id(),
        secret_hash: [3; 32],
        description: "a laptop".to_owned(),
        created_at: lab.at(0),
        revoked_at: None,
    };
    lab.store().put_authtoken(record.clone()).await.unwrap();
    let kept = lab.store().authtoken(record.id).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&record));
    record.id
}

fn claim(lab: &mut Lab, authtoken: AuthtokenId, host: &str) -> Endpoint {
    Endpoint {
        id: lab.id(),
        host: host.to_owned(),
        authtoken,
        upstream: "http://localhost:8080".to_owned(),
        access: Access::Public,
        kind: Kind::Http,
        networks: NetworkRule::default(),
        created_at: lab.at(0),
    }
}

/// A host has one holder and one id; the log tells of what differs and of nothing else.
pub(super) async fn hosts_are_claimed_and_updated(lab: &mut Lab) {
    let (mine, other) = (authtoken(lab).await, authtoken(lab).await);
    let first = claim(lab, mine, "a.otter.localhost");
    let held = lab.store().claim_endpoint(first.clone()).await.unwrap();
    assert!(matches!(held, Claimed::Held(endpoint) if endpoint == first));

    let taken = claim(lab, other, "a.otter.localhost");
    let taken = lab.store().claim_endpoint(taken).await.unwrap();
    assert!(matches!(taken, Claimed::Taken));

    let same = claim(lab, mine, "a.otter.localhost");
    let held = lab.store().claim_endpoint(same).await.unwrap();
    assert!(matches!(held, Claimed::Held(endpoint) if endpoint == first));

    let mut changed = claim(lab, mine, "a.otter.localhost");
    changed.created_at = lab.at(50);
    changed.access = Access::Login(LoginRule {
        provider: "google".to_owned(),
        allow_emails: vec!["ada@example.test".to_owned()],
        allow_domains: vec!["example.test".to_owned()],
        session_life: Duration::from_hours(24),
        idle_limit: None,
    });
    let held = lab.store().claim_endpoint(changed.clone()).await.unwrap();
    let expected = Endpoint {
        access: changed.access,
        ..first.clone()
    };
    assert!(matches!(held, Claimed::Held(endpoint) if endpoint == expected));
    let kept = lab.store().endpoint(first.id).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&expected));

    let second = claim(lab, other, "b.otter.localhost");
    lab.store().claim_endpoint(second.clone()).await.unwrap();
    let all = lab.store().endpoints().await.unwrap();
    assert_eq!(all, [second.clone(), expected]);
    let own = lab.store().endpoints_of(mine).await.unwrap();
    assert_eq!(own, [all[1].clone()]);
    let told: Vec<_> = lab
        .log(Shard::Shared, Revision(0))
        .await
        .into_iter()
        .map(|entry| entry.change)
        .collect();
    let changed = |endpoint: EndpointId| Change::EndpointChanged { endpoint };
    assert_eq!(
        told,
        [changed(first.id), changed(first.id), changed(second.id)]
    );
}

/// Its endpoints, their sessions, its hosts: one step. It claims nothing afterwards.
pub(super) async fn a_revoked_authtoken_takes_everything_with_it(lab: &mut Lab) {
    let (gone, stays) = (authtoken(lab).await, authtoken(lab).await);
    let mine = [
        claim(lab, gone, "a.otter.localhost"),
        claim(lab, gone, "b.otter.localhost"),
    ];
    let other = claim(lab, stays, "c.otter.localhost");
    for endpoint in mine.iter().chain([&other]) {
        lab.store().claim_endpoint(endpoint.clone()).await.unwrap();
    }
    let mut sessions = Vec::new();
    for endpoint in mine.iter().chain([&other]) {
        let begun_at = lab.head().await;
        let mut new = lab.new_session(Login::of(1, 1), begun_at);
        new.endpoint = endpoint.id;
        sessions.push(lab.store().create_session(new).await.unwrap());
    }
    let (people, shared) = (lab.head().await, Revision(3));
    let revoke = async |id| lab.store().revoke_authtoken(id, lab.at(9)).await.unwrap();
    assert!(revoke(gone).await);
    let after = lab.head().await;
    assert!(revoke(gone).await, "known, if revoked");
    assert_eq!(lab.head().await, after, "and nothing changes");

    let kept = lab.store().authtoken(gone).await.unwrap().unwrap();
    assert_eq!(kept.revoked_at, Some(lab.at(9)));
    assert_eq!(
        lab.store().endpoints().await.unwrap(),
        std::slice::from_ref(&other)
    );
    for session in &sessions[..2] {
        assert!(matches!(
            lab.store().load_session(session.id).await.unwrap(),
            Loaded::Ended(CutReason::AuthtokenRevoked)
        ));
    }
    assert!(lab.is_live(sessions[2].id).await);

    let told = lab.log(Shard::Shared, shared).await;
    let told: Vec<_> = told.into_iter().map(|entry| entry.change).collect();
    assert_eq!(told.len(), 3);
    assert!(told.contains(&Change::AuthtokenRevoked { authtoken: gone }));
    for endpoint in &mine {
        let endpoint = endpoint.id;
        assert!(told.contains(&Change::EndpointRemoved { endpoint }));
    }
    let told = lab.log(Shard::People(0), people).await;
    assert_eq!(told.len(), 2);
    for entry in told {
        let Change::Revoked { scope, receipt, .. } = entry.change else {
            panic!("the people's shard tells of ends only");
        };
        assert!(matches!(scope, Scope::Endpoint(_)));
        let receipt = lab.store().receipt(receipt).await.unwrap().unwrap();
        assert_eq!(receipt.sessions_ended, 1);
    }

    let late = claim(lab, gone, "d.otter.localhost");
    let late = lab.store().claim_endpoint(late).await;
    assert!(matches!(late, Err(StoreError::RevokedMeanwhile)));
    let free = claim(lab, stays, "a.otter.localhost");
    let free = lab.store().claim_endpoint(free).await.unwrap();
    assert!(matches!(free, Claimed::Held(_)));
    let unknown = lab.id();
    let unknown = lab.store().revoke_authtoken(unknown, lab.at(9)).await;
    assert!(!unknown.unwrap());
    let all = lab.store().authtokens().await.unwrap();
    let ids: Vec<_> = all.iter().map(|record| record.id).collect();
    assert_eq!(ids, [stays, gone]);
}

pub(super) async fn api_keys_live_and_die(lab: &mut Lab) {
    let mut made = Vec::new();
    for number in 0..3 {
        let record = ApiKeyRecord {
            id: lab.id(),
            secret_hash: [number; 32],
            description: format!("key {number}"),
            created_at: lab.at(0),
            revoked_at: None,
        };
        lab.store().put_api_key(record.clone()).await.unwrap();
        made.insert(0, record);
    }
    assert_eq!(lab.store().api_keys().await.unwrap(), made);
    let gone = made[1].id;
    for _ in 0..2 {
        let revoked = lab.store().revoke_api_key(gone, lab.at(7)).await;
        assert!(revoked.unwrap());
    }
    let kept = lab.store().api_key(gone).await.unwrap().unwrap();
    assert_eq!(kept.revoked_at, Some(lab.at(7)));
    let kept = lab.store().api_key(made[0].id).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&made[0]));
    let unknown = lab.id();
    let unknown = lab.store().revoke_api_key(unknown, lab.at(7)).await;
    assert!(!unknown.unwrap());
    let told = lab.log(Shard::Shared, Revision(0)).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].change, Change::ApiKeyRevoked { api_key: gone });
}

/// Whoever came through a provider that is removed is out.
pub(super) async fn providers_come_and_go(lab: &mut Lab) {
    let record = |name: &str| ProviderRecord {
        name: name.to_owned(),
        kind: "oidc".to_owned(),
        issuer: format!("https://{name}.example.test"),
        client_id: "id".to_owned(),
        client_secret: "hush".to_owned(),
        scopes: vec!["groups".to_owned()],
        created_at: lab.at(0),
    };
    let (okta, google) = (record("okta"), record("google"));
    for record in [&okta, &google] {
        lab.store().put_provider(record.clone()).await.unwrap();
    }
    let changed = ProviderRecord {
        client_id: "other".to_owned(),
        ..google
    };
    lab.store().put_provider(changed.clone()).await.unwrap();
    let all = lab.store().providers().await.unwrap();
    assert_eq!(all, [changed, okta.clone()]);

    let through = lab.login(Login::of(1, 1)).await;
    let begun_at = lab.head().await;
    let under_way = lab.new_session(Login::of(2, 1), begun_at);
    let remove = async |name: &str| lab.store().remove_provider(name.to_owned()).await.unwrap();
    assert!(remove("google").await);
    assert!(!remove("google").await);
    assert_eq!(lab.store().providers().await.unwrap(), [okta]);
    assert!(!lab.is_live(through.id).await);
    let refused = lab.store().create_session(under_way).await;
    assert!(matches!(refused, Err(StoreError::RevokedMeanwhile)));
    let told = lab.log(Shard::Shared, Revision(3)).await;
    assert_eq!(told.len(), 1);
    assert!(matches!(&told[0].change, Change::ProviderRemoved { name } if name == "google"));
}

pub(super) async fn operators_sign_in_for_a_time(lab: &mut Lab) {
    let sign_in = |lab: &mut Lab| OperatorRecord {
        id: lab.id(),
        secret_hash: [8; 32],
        created_at: lab.at(0),
        expires_at: lab.at(100),
    };
    let (one, two) = (sign_in(lab), sign_in(lab));
    let store = lab.store();
    for record in [&one, &two] {
        store.put_operator(record.clone()).await.unwrap();
    }
    let found = store.operator(one.id, lab.at(99)).await.unwrap();
    assert_eq!(found.as_ref(), Some(&one));
    assert!(store.operator(one.id, lab.at(100)).await.unwrap().is_none());
    store.remove_operator(one.id).await.unwrap();
    assert!(store.operator(one.id, lab.at(1)).await.unwrap().is_none());
    assert_eq!(store.sweep(lab.at(100)).await.unwrap(), 1);
    assert!(store.operator(two.id, lab.at(1)).await.unwrap().is_none());
}
