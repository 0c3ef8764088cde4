//! Random interleavings against a model that fits on a page.
//!
//! The model knows sessions and a counter. Beside it runs an edge that follows the log as a live
//! table does: entry first, then load, then merge, each a step of its own, so that anything may come
//! between. Whatever the order: store, model and log agree on who is in, and nobody comes back.

use std::collections::BTreeMap;
use std::future::Future;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use proto::id::{SessionId, UserId};

use super::lab::{Lab, Login};
use crate::model::change::{Change, LogEntry, Revision, Scope};
use crate::model::session::{Session, SessionState};
use crate::store::{Loaded, NewSession, Shard, StoreError};
use crate::trust::merge::merge;

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    /// A login begins; it ends whenever `Create` picks it.
    Begin {
        person: u8,
        endpoint: u8,
        okta: bool,
        replaces: Option<Index>,
    },
    Create(Index),
    Revoke(Aim),
    Touch(Index),
    /// The edge's request for a session: announces it, reads it, merges what was read.
    Announce(Index),
    Read(Index),
    Merge(Index),
    /// The edge reads on in the log.
    Follow(u8),
    Sweep,
    Restart,
}

/// Whom an order names.
#[derive(Clone, Debug)]
enum Aim {
    Session(Index),
    User(Index, bool),
    Provider(bool),
    All,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<Index>;
    let replaces = prop_oneof![3 => Just(None), 1 => index().prop_map(Some)];
    let begin = (0..3_u8, 0..2_u8, any::<bool>(), replaces).prop_map(
        |(person, endpoint, okta, replaces)| Step::Begin {
            person,
            endpoint,
            okta,
            replaces,
        },
    );
    let aim = prop_oneof![
        4 => index().prop_map(Aim::Session),
        3 => (index(), any::<bool>()).prop_map(|(of, delete)| Aim::User(of, delete)),
        1 => any::<bool>().prop_map(Aim::Provider),
        1 => Just(Aim::All),
    ];
    let step = prop_oneof![
        5 => begin,
        8 => index().prop_map(Step::Create),
        3 => aim.prop_map(Step::Revoke),
        2 => index().prop_map(Step::Touch),
        4 => index().prop_map(Step::Announce),
        4 => index().prop_map(Step::Read),
        4 => index().prop_map(Step::Merge),
        4 => (1..4_u8).prop_map(Step::Follow),
        1 => Just(Step::Sweep),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// Runs random interleavings on stores that `make` gives.
pub(super) fn check<F: Future<Output = Lab>>(make: fn() -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 96,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let mut world = World::new(make().await).await;
            for step in steps {
                world.take(step).await;
                world.agree().await;
            }
            world.settle().await;
        });
        Ok(())
    });
    checked.unwrap();
}

struct World {
    lab: Lab,
    begun: Vec<NewSession>,
    /// Every session that was made, with the revision that ended it.
    sessions: Vec<(Session, Option<Revision>)>,
    /// The newest revocation that covers whom.
    revoked: BTreeMap<String, Revision>,
    deleted: Vec<UserId>,
    head: Revision,
    edge: Edge,
}

/// One edge's memory.
#[derive(Default)]
struct Edge {
    position: Revision,
    entries: BTreeMap<SessionId, Entry>,
}

struct Entry {
    state: SessionState,
    read: Option<Loaded>,
    /// Marks that came while the record was being read.
    marks: Vec<(Scope, Revision)>,
}

impl World {
    async fn new(mut lab: Lab) -> Self {
        for name in ["google", "okta"] {
            let record = crate::model::credential::ProviderRecord {
                name: name.to_owned(),
                kind: "oidc".to_owned(),
                issuer: String::new(),
                client_id: String::new(),
                client_secret: String::new(),
                scopes: Vec::new(),
                created_at: lab.at(0),
            };
            lab.store().put_provider(record).await.unwrap();
        }
        let _: SessionId = lab.id();
        Self {
            lab,
            begun: Vec::new(),
            sessions: Vec::new(),
            revoked: BTreeMap::new(),
            deleted: Vec::new(),
            head: Revision(0),
            edge: Edge::default(),
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Begin {
                person,
                endpoint,
                okta,
                replaces,
            } => {
                let provider = provider(okta);
                let login = Login {
                    person,
                    endpoint,
                    provider,
                };
                let mut new = self.lab.new_session(login, self.head);
                new.replaces = replaces
                    .and_then(|of| self.pick(of))
                    .map(|session| session.id);
                self.begun.push(new);
            }
            Step::Create(of) if !self.begun.is_empty() => {
                let new = self.begun.remove(of.index(self.begun.len()));
                self.create(new).await;
            }
            Step::Revoke(aim) => self.revoke(aim).await,
            Step::Touch(of) => {
                if let Some(session) = self.pick(of) {
                    let batch = vec![(session.id, self.lab.at(30))];
                    self.lab.store().touch(batch).await.unwrap();
                }
            }
            Step::Announce(of) => {
                if let Some(session) = self.pick(of) {
                    self.edge.entries.entry(session.id).or_insert(Entry {
                        state: SessionState::Loading,
                        read: None,
                        marks: Vec::new(),
                    });
                }
            }
            Step::Read(of) => {
                if let Some(id) = self.edge.pick(of) {
                    let read = self.lab.store().load_session(id).await.unwrap();
                    self.edge.entries.get_mut(&id).unwrap().read = Some(read);
                }
            }
            Step::Merge(of) => {
                if let Some(id) = self.edge.pick(of) {
                    self.edge.merge(id);
                }
            }
            Step::Follow(entries) => self.follow(entries.into()).await,
            Step::Sweep => {
                self.lab.store().sweep(self.lab.at(90)).await.unwrap();
            }
            Step::Restart => {
                self.lab.reopen().await;
            }
            Step::Create(_) => {}
        }
    }

    async fn create(&mut self, new: NewSession) {
        let covers = [
            "all".to_owned(),
            format!("person {}", new.claims.subject),
            format!("provider {}", new.provider),
        ];
        let refused = covers
            .iter()
            .filter_map(|what| self.revoked.get(what))
            .any(|revision| *revision > new.begun_at);
        match self.lab.store().create_session(new.clone()).await {
            Ok(session) => {
                assert!(!refused, "undoes a revoke: {new:?}");
                assert!(
                    !self.deleted.contains(&session.user),
                    "a deleted user is back"
                );
                let replaced = new.replaces.and_then(|id| {
                    let found = self.sessions.iter_mut().find(|(old, _)| old.id == id);
                    found.filter(|(old, end)| end.is_none() && old.endpoint == new.endpoint)
                });
                if let Some((_, end)) = replaced {
                    self.head.0 += 1;
                    *end = Some(self.head);
                }
                self.head.0 += 1;
                assert_eq!(session.revision, self.head);
                self.sessions.push((session, None));
            }
            Err(StoreError::RevokedMeanwhile) => assert!(refused, "refused for nothing: {new:?}"),
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn revoke(&mut self, aim: Aim) {
        let mut delete_user = false;
        let scope = match aim {
            Aim::All => Scope::All,
            Aim::Provider(okta) => Scope::Provider(provider(okta).to_owned()),
            Aim::Session(of) => match self.pick(of) {
                Some(session) => Scope::Session(session.id),
                None => return,
            },
            Aim::User(of, delete) => match self.pick(of) {
                Some(session) => {
                    delete_user = delete;
                    Scope::User(session.user)
                }
                None => return,
            },
        };
        let mut order = self.lab.order(scope.clone());
        order.delete_user = delete_user;
        let done = self.lab.store().revoke(order).await.unwrap().unwrap();
        if done.repeated {
            assert!(
                self.ended_by(&scope).all(|end| end.is_some()),
                "{scope:?} lives"
            );
            return;
        }
        self.head.0 += 1;
        assert_eq!(done.receipt.revision, self.head);
        let head = self.head;
        let mut ended = 0;
        for (session, end) in &mut self.sessions {
            if covers(&scope, session) && end.is_none() {
                *end = Some(head);
                ended += 1;
            }
        }
        assert_eq!(done.receipt.sessions_ended, ended, "{scope:?}");
        match &scope {
            Scope::All => drop(self.revoked.insert("all".to_owned(), head)),
            Scope::Provider(name) => drop(self.revoked.insert(format!("provider {name}"), head)),
            Scope::Session(_) | Scope::User(_) | Scope::Endpoint(_) => {
                let whose = self.sessions.iter().find(|(one, _)| covers(&scope, one));
                let subject = &whose.unwrap().0.claims.subject;
                self.revoked.insert(format!("person {subject}"), head);
            }
        }
        if let (Scope::User(user), true) = (scope, delete_user) {
            self.deleted.push(user);
        }
    }

    /// Store and model say the same of every session, and the edge never says more.
    async fn agree(&self) {
        let mut live = Vec::new();
        for (session, end) in &self.sessions {
            let loaded = self.lab.store().load_session(session.id).await.unwrap();
            match loaded {
                Loaded::Live { session: found, .. } => {
                    assert!(end.is_none(), "{:?} is back", session.id);
                    assert_eq!(&found, session);
                    live.push(session.id);
                }
                Loaded::Ended(_) | Loaded::Absent => assert!(end.is_some()),
            }
        }
        live.reverse();
        let mut listed = self.lab.listed().await;
        // The lab makes ids when a login begins; the list is in the order of ids.
        live.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, live);
        for (id, entry) in &self.edge.entries {
            let (_, end) = self.sessions.iter().find(|(one, _)| one.id == *id).unwrap();
            // What the edge has read of the log has reached it, whatever it loaded when.
            if let SessionState::Active(_) = entry.state
                && let Some(end) = end
            {
                assert!(*end > self.edge.position, "{id:?} outlives its end");
            }
        }
    }

    /// Once the edge has read all and merged all, it says just what the store says.
    async fn settle(&mut self) {
        while self.edge.position < self.head {
            self.follow(100).await;
        }
        let ids: Vec<_> = self.edge.entries.keys().copied().collect();
        for id in ids {
            if let SessionState::Loading = self.edge.entries[&id].state {
                let read = self.lab.store().load_session(id).await.unwrap();
                let entry = self.edge.entries.get_mut(&id).unwrap();
                entry.read.get_or_insert(read);
                self.edge.merge(id);
            }
            let (_, end) = self.sessions.iter().find(|(one, _)| one.id == id).unwrap();
            let is_active = matches!(self.edge.entries[&id].state, SessionState::Active(_));
            assert_eq!(is_active, end.is_none());
        }
    }

    async fn follow(&mut self, most: usize) {
        let log = self.lab.log(Shard::People(0), self.edge.position).await;
        for entry in log.into_iter().take(most) {
            assert_eq!(
                entry.revision.0,
                self.edge.position.0 + 1,
                "an entry is missing"
            );
            self.edge.position = entry.revision;
            self.edge.apply(&entry);
        }
    }

    fn pick(&self, of: Index) -> Option<&Session> {
        (!self.sessions.is_empty()).then(|| &of.get(&self.sessions).0)
    }

    fn ended_by<'w>(&'w self, scope: &'w Scope) -> impl Iterator<Item = Option<Revision>> + 'w {
        self.sessions
            .iter()
            .filter(|(session, _)| covers(scope, session))
            .map(|(_, end)| *end)
    }
}

impl Edge {
    fn pick(&self, of: Index) -> Option<SessionId> {
        let ids: Vec<_> = self.entries.keys().copied().collect();
        (!ids.is_empty()).then(|| *of.get(&ids))
    }

    fn apply(&mut self, entry: &LogEntry) {
        let Change::Revoked { scope, reason, .. } = &entry.change else {
            return;
        };
        for (id, known) in &mut self.entries {
            let is_covered = match &known.state {
                SessionState::Loading => {
                    known.marks.push((scope.clone(), entry.revision));
                    *scope == Scope::Session(*id)
                }
                SessionState::Active(session) => {
                    covers(scope, session) && session.revision <= entry.revision
                }
                SessionState::Revoked(_) => false,
            };
            if is_covered {
                merge(&mut known.state, SessionState::Revoked(*reason));
            }
        }
    }

    fn merge(&mut self, id: SessionId) {
        let known = self.entries.get_mut(&id).unwrap();
        let learnt = match known.read.take() {
            None => return,
            Some(Loaded::Absent) => SessionState::Revoked(crate::model::session::CutReason::Absent),
            Some(Loaded::Ended(reason)) => SessionState::Revoked(reason),
            Some(Loaded::Live { session, .. }) => {
                let is_marked = known.marks.iter().any(|(scope, revision)| {
                    covers(scope, &session) && session.revision <= *revision
                });
                if is_marked {
                    SessionState::Revoked(crate::model::session::CutReason::Revoked)
                } else {
                    SessionState::Active(session.into())
                }
            }
        };
        merge(&mut known.state, learnt);
    }
}

fn covers(scope: &Scope, session: &Session) -> bool {
    match scope {
        Scope::Session(id) => session.id == *id,
        Scope::User(id) => session.user == *id,
        Scope::Endpoint(id) => session.endpoint == *id,
        Scope::Provider(name) => session.provider == *name,
        Scope::All => true,
    }
}

fn provider(okta: bool) -> &'static str {
    if okta { "okta" } else { "google" }
}
