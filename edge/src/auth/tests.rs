//! What the tests of this module share, and the login flow on a real store with a real issuer.

mod hostile;
mod issuer;
mod login;
mod permits;
mod world;

use std::time::Duration;

use jiff::Timestamp;
use proto::id::{AuthtokenId, EndpointId, SessionId, UserId};

use crate::auth::flow::after;
use crate::model::change::Revision;
use crate::model::endpoint::{Access, Endpoint, Kind, LoginRule, NetworkRule};
use crate::model::session::{Browser, Session, UserAgent};
use crate::model::user::Claims;

const MS: u64 = 1_795_000_000_000;

pub(crate) fn login_rule(emails: &[&str], domains: &[&str]) -> Access {
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Access::Login(LoginRule {
        provider: "dev".to_owned(),
        allow_emails: own(emails),
        allow_domains: own(domains),
        session_life: Duration::from_hours(24),
        idle_limit: Some(Duration::from_hours(4)),
    })
}

pub(crate) fn endpoint(access: Access) -> Endpoint {
    Endpoint {
        id: EndpointId::new(MS, [1; 14]),
        host: "app.otter.localhost".to_owned(),
        authtoken: AuthtokenId::new(MS, [2; 14]),
        upstream: "http://localhost:8080".to_owned(),
        access,
        kind: Kind::Http,
        networks: NetworkRule::default(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn claims() -> Claims {
    Claims {
        issuer: "https://idp.example".to_owned(),
        subject: "ada".to_owned(),
        email: Some("ada@example.test".to_owned()),
        email_verified: true,
        name: Some("Ada".to_owned()),
        username: None,
    }
}

pub(crate) fn session() -> Session {
    let created_at = Timestamp::from_millisecond(MS.cast_signed()).unwrap();
    Session {
        id: SessionId::new(MS, [3; 14]),
        user: UserId::new(MS, [4; 14]),
        endpoint: EndpointId::new(MS, [1; 14]),
        public_url: "https://app.otter.localhost:8443".to_owned(),
        provider: "dev".to_owned(),
        claims: claims(),
        secret_hash: [0; 32],
        browser: Browser {
            user_agent: UserAgent::default(),
            address: [127, 0, 0, 1].into(),
            place: None,
        },
        created_at,
        auth_time: None,
        expires_at: after(created_at, Duration::from_hours(24)),
        idle_limit: Some(Duration::from_hours(4)),
        revision: Revision(7),
    }
}
