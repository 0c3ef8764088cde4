//! Sessions: made, read, listed, touched. Every write is conditional on what may have ended them.

use jiff::Timestamp;
use proto::id::{EndpointId, SessionId, UserId};
use redb::{ReadableTable as _, TableHandle as _};

use super::super::{Loaded, NewSession, Page, SessionFilter, Shard, StoreError};
use super::expiry::Expiring;
use super::fail::Fail;
use super::marks::{self, Mark, Marked, Rows, Tombstone};
use super::people::{self, limit, person_key};
use super::table::{
    Commit, MARKS, SESSION_ACTIVE, SESSIONS, SESSIONS_BY_ENDPOINT, SESSIONS_BY_USER, USERS, View,
    Writing, micros, time,
};
use crate::clock::Clock;
use crate::model::change::{Change, Revision, Scope};
use crate::model::receipt::Receipt;
use crate::model::session::{CutReason, Session, SessionSeen};
use crate::model::user::User;
use crate::secret;

/// What can be known of a session without opening its record.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) user: UserId,
    pub(super) endpoint: EndpointId,
    pub(super) revision: Revision,
    pub(super) end: i64,
    pub(super) provider: String,
}

pub(super) fn facts(view: &impl View, id: SessionId) -> Result<Option<Facts>, Fail> {
    let rows = view.table(SESSIONS)?;
    let Some(row) = rows.get(&id.to_bytes())? else {
        return Ok(None);
    };
    Ok(Some(Facts::of(row.value())))
}

/// A row of the table of sessions.
type Row<'r> = (&'r [u8; 20], &'r [u8; 20], u64, i64, &'r str, &'r [u8]);

impl Facts {
    pub(super) fn of((user, endpoint, revision, end, provider, _): Row<'_>) -> Self {
        Self {
            user: UserId::from_bytes(*user),
            endpoint: EndpointId::from_bytes(*endpoint),
            revision: Revision(revision),
            end,
            provider: provider.to_owned(),
        }
    }

    /// The mark that ended a session of these facts, if one did.
    pub(super) fn dead_by(&self, marks: &impl Rows) -> Result<Option<Mark>, Fail> {
        let newest = marks::newest_in(marks, Some(self.user), self.endpoint, &self.provider)?;
        Ok(newest.filter(|mark| mark.revision >= self.revision))
    }

    pub(super) fn is_of(&self, marked: &Marked<'_>) -> bool {
        match marked {
            Marked::All => true,
            Marked::User(id) => self.user == *id,
            Marked::Endpoint(id) => self.endpoint == *id,
            Marked::Provider(name) => self.provider == *name,
        }
    }
}

/// The mark that ended a session of these facts, if one did.
pub(super) fn dead(view: &impl View, facts: &Facts) -> Result<Option<Mark>, Fail> {
    facts.dead_by(&view.table(MARKS)?)
}

/// The record, whatever may have ended it.
pub(super) fn record(view: &impl View, id: SessionId) -> Result<Option<Session>, Fail> {
    let rows = view.table(SESSIONS)?;
    let Some(row) = rows.get(&id.to_bytes())? else {
        return Ok(None);
    };
    view.keys()
        .open(SESSIONS.name(), &id.to_bytes(), row.value().5)
        .map(Some)
}

/// Reads a session with everything that may have ended it.
pub(super) fn load(view: &impl View, id: SessionId) -> Result<Loaded, Fail> {
    if let Some(stone) = marks::tombstone(view, id)? {
        return Ok(Loaded::Ended(stone.reason));
    }
    let Some(session) = record(view, id)? else {
        return Ok(Loaded::Absent);
    };
    let newest = marks::newest_over(
        view,
        Some(session.user),
        session.endpoint,
        &session.provider,
    )?;
    Ok(match newest {
        Some(mark) if mark.revision >= session.revision => Loaded::Ended(mark.reason),
        Some(_) | None => Loaded::Live {
            last_active: last_active(view, &session)?,
            session,
        },
    })
}

/// A live session for display.
pub(super) fn seen(
    view: &impl View,
    id: SessionId,
    now: Timestamp,
) -> Result<Option<SessionSeen>, Fail> {
    Ok(match load(view, id)? {
        Loaded::Live {
            session,
            last_active,
        } if session.expires_at > now => Some(SessionSeen {
            session,
            last_active,
        }),
        Loaded::Live { .. } | Loaded::Ended(_) | Loaded::Absent => None,
    })
}

/// Live sessions, newest first: a walk along one index.
pub(super) fn list(
    view: &impl View,
    filter: &SessionFilter,
    page: Page<SessionId>,
    now: Timestamp,
) -> Result<Vec<SessionSeen>, Fail> {
    let before = page.before.map_or([0xff; 20], SessionId::to_bytes);
    let mut found = Vec::new();
    let (sessions, marks) = (view.table(SESSIONS)?, view.table(MARKS)?);
    // Records are opened for what is shown only: after a mark many rows may wait for their deletion.
    let mut consider = |id: &[u8; 20]| {
        if let Some(row) = sessions.get(id)? {
            let row = row.value();
            let facts = Facts::of(row);
            if facts.end > micros(now)
                && filter.endpoint.is_none_or(|at| at == facts.endpoint)
                && facts.dead_by(&marks)?.is_none()
            {
                let session: Session = view.keys().open(SESSIONS.name(), id, row.5)?;
                let last_active = last_active(view, &session)?;
                found.push(SessionSeen {
                    session,
                    last_active,
                });
            }
        }
        Ok::<_, Fail>(found.len() < limit(&page))
    };
    let by = match (filter.user, filter.endpoint) {
        (Some(user), _) => Some((SESSIONS_BY_USER, user.to_bytes())),
        (None, Some(endpoint)) => Some((SESSIONS_BY_ENDPOINT, endpoint.to_bytes())),
        (None, None) => None,
    };
    if let Some((index, of)) = by {
        let rows = view.table(index)?;
        for row in rows.range((&of, &[0; 20])..(&of, &before))?.rev() {
            if !consider(row?.0.value().1)? {
                break;
            }
        }
    } else {
        for row in sessions.range::<&[u8; 20]>(..&before)?.rev() {
            if !consider(row?.0.value())? {
                break;
            }
        }
    }
    Ok(found)
}

/// Whether a user has any session, dead ones included.
pub(super) fn has_any(view: &impl View, user: UserId) -> Result<bool, Fail> {
    let user = user.to_bytes();
    let rows = view.table(SESSIONS_BY_USER)?;
    let mut range = rows.range((&user, &[0; 20])..=(&user, &[0xff; 20]))?;
    Ok(range.next().transpose()?.is_some())
}

/// Records a login.
pub(super) fn create(tx: &mut Writing<'_>, new: &NewSession) -> Result<(Session, Commit), Fail> {
    if marks::tombstone(tx, new.id)?.is_some() || facts(tx, new.id)?.is_some() {
        return Err(StoreError::RevokedMeanwhile.into());
    }
    let person = person_key(tx.keys, &new.claims.issuer, &new.claims.subject);
    let known = people::remembered(tx, &person)?;
    let old = match known.and_then(|known| known.user) {
        Some(id) => tx.record::<User>(USERS, id.to_bytes())?,
        None => None,
    };
    let newest = marks::newest_over(
        tx,
        old.as_ref().map(|user| user.id),
        new.endpoint,
        &new.provider,
    )?;
    if newest.is_some_and(|mark| mark.revision > new.begun_at)
        || known.is_some_and(|known| known.revoked > new.begun_at)
    {
        return Err(StoreError::RevokedMeanwhile.into());
    }
    if let Some(replaced) = new.replaces {
        replace(tx, replaced, new)?;
    }
    let user = User {
        id: old.as_ref().map_or(new.fresh_user, |user| user.id),
        provider: new.provider.clone(),
        claims: new.claims.clone(),
        created_at: old.as_ref().map_or(new.created_at, |user| user.created_at),
        last_login: new.created_at,
        last_active: old
            .as_ref()
            .map_or(new.created_at, |user| user.last_active.max(new.created_at)),
    };
    let revision = tx.append(
        Shard::People(0),
        &Change::SessionCreated {
            session: new.id,
            user: user.id,
        },
    )?;
    let session = Session {
        id: new.id,
        user: user.id,
        endpoint: new.endpoint,
        public_url: new.public_url.clone(),
        provider: new.provider.clone(),
        claims: new.claims.clone(),
        secret_hash: new.secret_hash,
        browser: new.browser.clone(),
        created_at: new.created_at,
        auth_time: new.auth_time,
        expires_at: new.expires_at,
        idle_limit: new.idle_limit,
        revision,
    };
    let forgotten = marks::kept_until(new.expires_at);
    tx.signed_in(&person, known, &user, (new.endpoint, revision), forgotten)?;
    insert(tx, &session)?;
    Ok((session, Commit::Now))
}

/// Raises last-active times.
pub(super) fn touch(
    tx: &Writing<'_>,
    batch: &[(SessionId, Timestamp)],
) -> Result<((), Commit), Fail> {
    let mut changed = Commit::Not;
    for (id, at) in batch {
        let Some(facts) = facts(tx, *id)? else {
            continue;
        };
        let at = micros(*at);
        let mut rows = tx.table(SESSION_ACTIVE)?;
        let known = rows.get(&id.to_bytes())?.map(|known| known.value());
        if known.is_none_or(|known| known < at) {
            rows.insert(&id.to_bytes(), at)?;
            drop(rows);
            // A user who was deleted meanwhile is not brought back.
            if tx.table(USERS)?.get(&facts.user.to_bytes())?.is_some() {
                tx.user_active(facts.user, at)?;
            }
            changed = Commit::Soon;
        }
    }
    Ok(((), changed))
}

/// Deletes a session's record and index rows.
pub(super) fn remove(tx: &Writing<'_>, id: SessionId, facts: &Facts) -> Result<(), Fail> {
    let key = id.to_bytes();
    tx.table(SESSIONS)?.remove(&key)?;
    tx.table(SESSION_ACTIVE)?.remove(&key)?;
    tx.table(SESSIONS_BY_USER)?
        .remove((&facts.user.to_bytes(), &key))?;
    tx.table(SESSIONS_BY_ENDPOINT)?
        .remove((&facts.endpoint.to_bytes(), &key))?;
    tx.expires_no_more(facts.end, &Expiring::Session(key))
}

fn insert(tx: &Writing<'_>, session: &Session) -> Result<(), Fail> {
    let key = session.id.to_bytes();
    let sealed = tx.keys.seal(SESSIONS.name(), &key, session)?;
    let end = micros(session.expires_at);
    tx.table(SESSIONS)?.insert(
        &key,
        (
            &session.user.to_bytes(),
            &session.endpoint.to_bytes(),
            session.revision.0,
            end,
            session.provider.as_str(),
            sealed.as_slice(),
        ),
    )?;
    tx.table(SESSIONS_BY_USER)?
        .insert((&session.user.to_bytes(), &key), ())?;
    tx.table(SESSIONS_BY_ENDPOINT)?
        .insert((&session.endpoint.to_bytes(), &key), ())?;
    tx.table(SESSION_ACTIVE)?
        .insert(&key, micros(session.created_at))?;
    tx.expires(end, &Expiring::Session(key))
}

/// Ends the session that this browser held before at this endpoint. It is no revocation of the
/// person: their other logins under way go on.
fn replace(tx: &mut Writing<'_>, id: SessionId, new: &NewSession) -> Result<(), Fail> {
    let Some(old) = facts(tx, id)?.filter(|old| old.endpoint == new.endpoint) else {
        return Ok(());
    };
    if dead(tx, &old)?.is_some() {
        return Ok(());
    }
    let receipt = secret::new_id(Clock.unix_ms());
    let revision = tx.append(
        Shard::People(0),
        &Change::Revoked {
            scope: Scope::Session(id),
            reason: CutReason::LoggedOut,
            receipt,
        },
    )?;
    let stone = Tombstone {
        receipt,
        reason: CutReason::LoggedOut,
    };
    tx.bury(id, old.end, stone)?;
    remove(tx, id, &old)?;
    tx.put_receipt(&Receipt {
        id: receipt,
        scope: Scope::Session(id),
        reason: "replaced by a new login of the same browser".to_owned(),
        revision,
        sessions_ended: 1,
        edges_total: 0,
        edges_acknowledged: 0,
        edges_missing: Vec::new(),
        connections_cut: 0,
        durable: true,
        elapsed_ms: 0,
        created_at: new.created_at,
    })
}

fn last_active(view: &impl View, session: &Session) -> Result<Timestamp, Fail> {
    let noted = view
        .table(SESSION_ACTIVE)?
        .get(&session.id.to_bytes())?
        .map(|noted| time(noted.value()));
    Ok(noted.map_or(session.created_at, |noted| noted.max(session.created_at)))
}
