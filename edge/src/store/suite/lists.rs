//! Lists: newest first, whole, page by page.

use super::lab::{Lab, Login, endpoint};
use crate::model::change::Scope;
use crate::store::{Page, SessionFilter};

/// Pages of every filter and size give everything once, newest first.
pub(super) async fn sessions_page_newest_first(lab: &mut Lab) {
    let mut made = Vec::new();
    for number in 0..12 {
        made.push(lab.login(Login::of(number % 3, number % 2)).await);
    }
    made.reverse();
    let user = made[0].user;
    let filters = [
        SessionFilter::default(),
        SessionFilter {
            user: Some(user),
            endpoint: None,
        },
        SessionFilter {
            user: None,
            endpoint: Some(endpoint(1)),
        },
        SessionFilter {
            user: Some(user),
            endpoint: Some(endpoint(1)),
        },
    ];
    for filter in filters {
        let expected: Vec<_> = made
            .iter()
            .filter(|session| filter.user.is_none_or(|user| session.user == user))
            .filter(|session| filter.endpoint.is_none_or(|at| session.endpoint == at))
            .map(|session| session.id)
            .collect();
        assert!(!expected.is_empty());
        for limit in [1, 2, 5, 100] {
            let (mut walked, mut before) = (Vec::new(), None);
            loop {
                let page = Page { before, limit };
                let list = lab.store().sessions(filter.clone(), page, lab.at(1)).await;
                let list = list.unwrap();
                assert!(list.len() <= limit);
                walked.extend(list.iter().map(|seen| seen.session.id));
                before = list.last().map(|seen| seen.session.id);
                if list.len() < limit {
                    break;
                }
            }
            assert_eq!(walked, expected, "limit {limit}, {filter:?}");
        }
    }
}

pub(super) async fn users_page_newest_first(lab: &mut Lab) {
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(lab.login(Login::of(number, 1)).await.user);
    }
    made.reverse();
    for limit in [1, 3, 7, 8] {
        let (mut walked, mut before) = (Vec::new(), None);
        loop {
            let list = lab.store().users(Page { before, limit }).await.unwrap();
            walked.extend(list.iter().map(|user| user.id));
            before = list.last().map(|user| user.id);
            if list.len() < limit {
                break;
            }
        }
        assert_eq!(walked, made, "limit {limit}");
    }
}

/// A page is filled with live sessions, however many dead ones lie between.
pub(super) async fn lists_omit_what_has_ended(lab: &mut Lab) {
    let mut live = Vec::new();
    for number in 0..10 {
        let made = lab.login(Login::of(number, 1)).await;
        match number % 3 {
            0 => live.push(made.id),
            1 => drop(lab.revoke(Scope::Session(made.id)).await),
            _ => drop(lab.revoke(Scope::User(made.user)).await),
        }
    }
    live.reverse();
    let page = Page {
        before: None,
        limit: 3,
    };
    let all = SessionFilter::default();
    let list = lab.store().sessions(all, page, lab.at(1)).await.unwrap();
    let ids: Vec<_> = list.iter().map(|seen| seen.session.id).collect();
    assert_eq!(ids, live[..3]);
    assert_eq!(lab.listed().await, live);
}
