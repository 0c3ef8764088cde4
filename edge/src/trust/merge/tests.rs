//! Every state × everything that may be learnt, and every scope × older and younger sessions.

use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::Timestamp;
use proto::id::{EndpointId, SessionId, UserId};

use super::*;
use crate::model::session::{Browser, CutReason, UserAgent};
use crate::model::user::Claims;

fn session(number: u8, revision: u64) -> Session {
    Session {
        id: SessionId::from_bytes([number; 20]),
        user: UserId::from_bytes([number; 20]),
        endpoint: EndpointId::from_bytes([number; 20]),
        public_url: "https://app.example.com".to_owned(),
        provider: format!("provider-{number}"),
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
        created_at: Timestamp::UNIX_EPOCH,
        auth_time: None,
        expires_at: Timestamp::MAX,
        idle_limit: None,
        revision: Revision(revision),
    }
}

fn name(state: &SessionState) -> &'static str {
    match state {
        SessionState::Loading => "loading",
        SessionState::Active(_) => "active",
        SessionState::Revoked(reason) => reason.as_str(),
    }
}

/// Session state only moves forward, whatever arrives in whatever order.
#[test]
fn merge_is_forward_only() {
    let states = [
        SessionState::Loading,
        SessionState::Active(Arc::new(session(1, 1))),
        SessionState::Revoked(CutReason::Revoked),
        SessionState::Revoked(CutReason::Expired),
    ];
    let rank = |state: &SessionState| match state {
        SessionState::Loading => 0,
        SessionState::Active(_) => 1,
        SessionState::Revoked(_) => 2,
    };
    for from in &states {
        for learnt in &states {
            let mut state = from.clone();
            let moved = merge(&mut state, learnt.clone());
            assert_eq!(
                moved,
                rank(learnt) > rank(from),
                "{} + {}",
                name(from),
                name(learnt)
            );
            let expected = if moved { learnt } else { from };
            assert_eq!(name(&state), name(expected));
        }
    }
}

/// A mark ends the sessions of its scope that are not younger; no other.
#[test]
fn marks_compare_by_scope_and_revision() {
    let held = session(1, 10);
    let scopes = |number: u8| {
        [
            Scope::Session(SessionId::from_bytes([number; 20])),
            Scope::User(UserId::from_bytes([number; 20])),
            Scope::Endpoint(EndpointId::from_bytes([number; 20])),
            Scope::Provider(format!("provider-{number}")),
        ]
    };
    for (revision, ends) in [(9, false), (10, true), (11, true)] {
        for scope in scopes(1).into_iter().chain([Scope::All]) {
            assert_eq!(
                ends_record(&held, &scope, Revision(revision)),
                ends,
                "{scope:?}"
            );
        }
        for scope in scopes(2) {
            assert!(!ends_record(&held, &scope, Revision(revision)), "{scope:?}");
        }
    }
}

/// Before the record is known, only its own tombstone ends a session.
#[test]
fn a_loading_entry_takes_its_own_tombstone_only() {
    let own = Scope::Session(SessionId::from_bytes([1; 20]));
    assert!(ends(&SessionState::Loading, &own, Revision(1)));
    for scope in [Scope::User(UserId::from_bytes([1; 20])), Scope::All] {
        assert!(!ends(&SessionState::Loading, &scope, Revision(u64::MAX)));
    }
    let gone = SessionState::Revoked(CutReason::Expired);
    assert!(!ends(&gone, &own, Revision(u64::MAX)));
}
