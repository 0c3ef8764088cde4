//! Revocation of any scope: one step, however many sessions it ends. What it leaves behind is
//! deleted afterwards, a little at a time.

use std::ops::Bound::{Excluded, Included};

use jiff::Timestamp;
use proto::id::{ReceiptId, SessionId};
use redb::{ReadableTable as _, TableDefinition};

use super::super::{RevokeOrder, Revoked, Shard};
use super::fail::Fail;
use super::marks::{self, Mark, Marked, Tombstone};
use super::people::{person_key, remembered};
use super::sessions::{self, Facts};
use super::table::{
    Commit, ENDPOINTS, MARKS, PROVIDERS, PURGES, RECEIPTS, SESSIONS, SESSIONS_BY_ENDPOINT,
    SESSIONS_BY_USER, USERS, View, Writing, micros,
};
use crate::model::change::{Change, Revision, Scope};
use crate::model::receipt::Receipt;
use crate::model::session::CutReason;
use crate::model::user::User;

type Outcome = (Option<Revoked>, Commit);
/// Key, mark, last session looked at.
type Purge = (Vec<u8>, Mark, [u8; 20]);
type Index = TableDefinition<'static, (&'static [u8; 20], &'static [u8; 20]), ()>;

/// Ends what the order names; nothing when there is no such thing.
pub(super) fn revoke(tx: &mut Writing<'_>, order: &RevokeOrder) -> Result<Outcome, Fail> {
    match &order.scope {
        Scope::Session(id) => one(tx, order, *id),
        Scope::User(_) | Scope::Endpoint(_) | Scope::Provider(_) | Scope::All => many(tx, order),
    }
}

fn one(tx: &mut Writing<'_>, order: &RevokeOrder, id: SessionId) -> Result<Outcome, Fail> {
    if let Some(stone) = marks::tombstone(tx, id)? {
        return repeated(tx, Some(stone.receipt));
    }
    let Some(facts) = sessions::facts(tx, id)? else {
        return Ok((None, Commit::Not));
    };
    if let Some(mark) = sessions::dead(tx, &facts)? {
        return repeated(tx, Some(mark.receipt));
    }
    if facts.end <= micros(order.at) {
        return Ok((None, Commit::Not));
    }
    let claims = sessions::record(tx, id)?.map(|session| session.claims);
    let revision = append(tx, order)?;
    let stone = Tombstone {
        receipt: order.receipt,
        reason: order.cause,
    };
    tx.bury(id, facts.end, stone)?;
    sessions::remove(tx, id, &facts)?;
    if let Some(claims) = claims {
        tx.note_revoked(&claims, revision)?;
    }
    first(tx, order, revision, 1)
}

fn many(tx: &mut Writing<'_>, order: &RevokeOrder) -> Result<Outcome, Fail> {
    let Some(marked) = Marked::of(&order.scope) else {
        return Ok((None, Commit::Not));
    };
    let earlier = marks::mark(tx, &marked)?;
    let user = match &marked {
        Marked::User(id) => tx.record::<User>(USERS, id.to_bytes())?,
        Marked::Endpoint(_) | Marked::Provider(_) | Marked::All => None,
    };
    let is_there = match &marked {
        Marked::User(_) => user.is_some(),
        Marked::Endpoint(id) => tx.table(ENDPOINTS)?.get(&id.to_bytes())?.is_some(),
        Marked::Provider(name) => tx.table(PROVIDERS)?.get(*name)?.is_some(),
        Marked::All => true,
    };
    if !is_there {
        return repeated(tx, earlier.map(|mark| mark.receipt));
    }
    if let (Some(user), Some(earlier)) = (&user, earlier)
        && !order.delete_user
        && signed_in(tx, user)? < earlier.revision
    {
        let (again, commit) = repeated(tx, Some(earlier.receipt))?;
        if again.is_some() {
            return Ok((again, commit));
        }
    }
    let ended = count(tx, &marked, order.at)?;
    let revision = append(tx, order)?;
    let mark = Mark {
        revision,
        receipt: order.receipt,
        reason: order.cause,
    };
    raise(tx, &marked, mark)?;
    if let Some(user) = &user {
        tx.note_revoked(&user.claims, revision)?;
        if order.delete_user {
            tx.delete_user(user, order.at)?;
        }
    }
    first(tx, order, revision, ended)
}

/// Ends every session of a scope for a change of the store's own, with a receipt like any other.
pub(super) fn end_all(tx: &mut Writing<'_>, order: &RevokeOrder) -> Result<(), Fail> {
    let Some(marked) = Marked::of(&order.scope) else {
        return Ok(());
    };
    let ended = count(tx, &marked, order.at)?;
    let revision = append(tx, order)?;
    let mark = Mark {
        revision,
        receipt: order.receipt,
        reason: order.cause,
    };
    raise(tx, &marked, mark)?;
    first(tx, order, revision, ended).map(|_| ())
}

/// Deletes sessions that marks have ended, at most `limit`, leaving tombstones. Gives how many were
/// looked at, and whether some are left.
pub(super) fn purge(tx: &mut Writing<'_>, limit: usize) -> Result<(u64, bool), Fail> {
    let Some((key, purge, cursor)) = next_purge(tx)? else {
        return Ok((0, false));
    };
    let marked = Marked::from_bytes(&key).ok_or(Fail::unreadable("a mark"))?;
    let ids = after(tx, &marked, cursor, limit)?;
    let stone = Tombstone {
        receipt: purge.receipt,
        reason: purge.reason,
    };
    for id in &ids {
        if let Some(facts) = sessions::facts(tx, *id)?
            && facts.is_of(&marked)
            && facts.revision <= purge.revision
        {
            tx.bury(*id, facts.end, stone)?;
            sessions::remove(tx, *id, &facts)?;
        }
    }
    match ids.last() {
        Some(last) if ids.len() >= limit => put_purge(tx, &key, purge, &last.to_bytes())?,
        Some(_) | None => {
            tx.table(PURGES)?.remove(key.as_slice())?;
        }
    }
    tx.left_to_purge = next_purge(tx)?.is_some();
    Ok((ids.len() as u64, tx.left_to_purge))
}

fn append(tx: &mut Writing<'_>, order: &RevokeOrder) -> Result<Revision, Fail> {
    tx.append(
        Shard::People(0),
        &Change::Revoked {
            scope: order.scope.clone(),
            reason: order.cause,
            receipt: order.receipt,
        },
    )
}

fn raise(tx: &mut Writing<'_>, marked: &Marked<'_>, mark: Mark) -> Result<(), Fail> {
    tx.raise_mark(marked, mark)?;
    put_purge(tx, &marked.to_bytes(), mark, &[])?;
    tx.left_to_purge = true;
    Ok(())
}

fn first(
    tx: &Writing<'_>,
    order: &RevokeOrder,
    revision: Revision,
    sessions_ended: u64,
) -> Result<Outcome, Fail> {
    let receipt = Receipt {
        id: order.receipt,
        scope: order.scope.clone(),
        reason: order.reason.chars().take(REASON_CHARS_MAX).collect(),
        revision,
        sessions_ended,
        edges_total: 0,
        edges_acknowledged: 0,
        edges_missing: Vec::new(),
        connections_cut: 0,
        // Nobody sees this receipt unless its transaction was synced.
        durable: true,
        elapsed_ms: 0,
        created_at: order.at,
    };
    tx.put_receipt(&receipt)?;
    let revoked = Revoked {
        receipt,
        repeated: false,
    };
    Ok((Some(revoked), Commit::Now))
}

fn repeated(tx: &Writing<'_>, receipt: Option<ReceiptId>) -> Result<Outcome, Fail> {
    let receipt = match receipt {
        Some(id) => tx.record::<Receipt>(RECEIPTS, id.to_bytes())?,
        None => None,
    };
    let again = receipt.map(|receipt| Revoked {
        receipt,
        repeated: true,
    });
    Ok((again, Commit::Not))
}

fn signed_in(tx: &Writing<'_>, user: &User) -> Result<Revision, Fail> {
    let person = person_key(tx.keys, &user.claims.issuer, &user.claims.subject);
    Ok(remembered(tx, &person)?.map_or(Revision(0), |known| known.signed_in))
}

/// Live sessions of what is to be marked.
fn count(tx: &Writing<'_>, marked: &Marked<'_>, now: Timestamp) -> Result<u64, Fail> {
    let (sessions, marks) = (tx.table(SESSIONS)?, tx.table(MARKS)?);
    let is_live = |facts: &Facts| {
        let is_dead = facts.dead_by(&marks)?.is_some();
        Ok::<_, Fail>(facts.end > micros(now) && facts.is_of(marked) && !is_dead)
    };
    let mut live = 0;
    if let Some((index, of)) = index_of(marked) {
        for row in tx
            .table(index)?
            .range((&of, &[0; 20])..=(&of, &[0xff; 20]))?
        {
            if let Some(found) = sessions.get(row?.0.value().1)? {
                live += u64::from(is_live(&Facts::of(found.value()))?);
            }
        }
    } else {
        for row in sessions.iter()? {
            live += u64::from(is_live(&Facts::of(row?.1.value()))?);
        }
    }
    Ok(live)
}

/// Sessions among which those of what is marked are, the oldest first, from behind an id on.
fn after(
    tx: &Writing<'_>,
    marked: &Marked<'_>,
    cursor: [u8; 20],
    limit: usize,
) -> Result<Vec<SessionId>, Fail> {
    let mut ids = Vec::new();
    if let Some((index, of)) = index_of(marked) {
        let rows = tx.table(index)?;
        let range = (Excluded((&of, &cursor)), Included((&of, &[0xff; 20])));
        for row in rows.range(range)?.take(limit) {
            ids.push(SessionId::from_bytes(*row?.0.value().1));
        }
    } else {
        let rows = tx.table(SESSIONS)?;
        let range = (Excluded(&cursor), Included(&[0xff; 20]));
        for row in rows.range::<&[u8; 20]>(range)?.take(limit) {
            ids.push(SessionId::from_bytes(*row?.0.value()));
        }
    }
    Ok(ids)
}

fn index_of(marked: &Marked<'_>) -> Option<(Index, [u8; 20])> {
    match marked {
        Marked::User(id) => Some((SESSIONS_BY_USER, id.to_bytes())),
        Marked::Endpoint(id) => Some((SESSIONS_BY_ENDPOINT, id.to_bytes())),
        Marked::Provider(_) | Marked::All => None,
    }
}

fn next_purge(tx: &Writing<'_>) -> Result<Option<Purge>, Fail> {
    let rows = tx.table(PURGES)?;
    let Some(row) = rows.first()? else {
        return Ok(None);
    };
    let (revision, receipt, reason, cursor) = row.1.value();
    let mark = Mark {
        revision: Revision(revision),
        receipt: ReceiptId::from_bytes(*receipt),
        reason: super::super::records::parse_reason(reason).unwrap_or(CutReason::Revoked),
    };
    Ok(Some((
        row.0.value().to_vec(),
        mark,
        cursor.try_into().unwrap_or([0; 20]),
    )))
}

fn put_purge(tx: &Writing<'_>, key: &[u8], mark: Mark, cursor: &[u8]) -> Result<(), Fail> {
    tx.table(PURGES)?.insert(
        key,
        (
            mark.revision.0,
            &mark.receipt.to_bytes(),
            mark.reason.as_str(),
            cursor,
        ),
    )?;
    Ok(())
}

/// Of the operator's words.
const REASON_CHARS_MAX: usize = 255;
