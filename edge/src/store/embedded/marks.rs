//! Marks, tombstones and receipts: the facts that end sessions.

use jiff::{SignedDuration, Timestamp};
use proto::id::{EndpointId, ReceiptId, SessionId, UserId};
use redb::ReadableTable;

use super::super::Marks;
use super::super::records::parse_reason;
use super::expiry::Expiring;
use super::fail::Fail;
use super::log;
use super::table::{MARKS, RECEIPTS, TOMBSTONES, View, Writing, micros};
use crate::model::change::{Revision, Scope};
use crate::model::receipt::Receipt;
use crate::model::session::CutReason;

/// What can be marked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Marked<'n> {
    All,
    User(UserId),
    Endpoint(EndpointId),
    Provider(&'n str),
}

/// A mark: sessions of what is marked are dead at or below its revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) revision: Revision,
    pub(super) receipt: ReceiptId,
    pub(super) reason: CutReason,
}

/// The table of marks, in either kind of transaction.
pub(super) trait Rows:
    ReadableTable<&'static [u8], (u64, &'static [u8; 20], &'static str)>
{
}
impl<T: ReadableTable<&'static [u8], (u64, &'static [u8; 20], &'static str)>> Rows for T {}

/// Why one session is over, and what its first order answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tombstone {
    pub(super) receipt: ReceiptId,
    pub(super) reason: CutReason,
}

impl<'n> Marked<'n> {
    /// `None` for a single session, which gets a tombstone.
    pub(super) fn of(scope: &'n Scope) -> Option<Self> {
        match scope {
            Scope::Session(_) => None,
            Scope::User(id) => Some(Self::User(*id)),
            Scope::Endpoint(id) => Some(Self::Endpoint(*id)),
            Scope::Provider(name) => Some(Self::Provider(name)),
            Scope::All => Some(Self::All),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::All => vec![0],
            Self::User(id) => [&[1], &id.to_bytes()[..]].concat(),
            Self::Endpoint(id) => [&[2], &id.to_bytes()[..]].concat(),
            Self::Provider(name) => [&[3], name.as_bytes()].concat(),
        }
    }

    pub(super) fn from_bytes(bytes: &'n [u8]) -> Option<Self> {
        let (kind, key) = bytes.split_first()?;
        match kind {
            0 => Some(Self::All),
            1 => Some(Self::User(UserId::from_bytes(key.try_into().ok()?))),
            2 => Some(Self::Endpoint(EndpointId::from_bytes(key.try_into().ok()?))),
            3 => std::str::from_utf8(key).ok().map(Self::Provider),
            _ => None,
        }
    }
}

/// One mark, if it was ever raised.
pub(super) fn mark(view: &impl View, marked: &Marked<'_>) -> Result<Option<Mark>, Fail> {
    find(&view.table(MARKS)?, marked)
}

/// The newest mark over sessions of a user, at an endpoint, by a provider.
pub(super) fn newest_over(
    view: &impl View,
    user: Option<UserId>,
    endpoint: EndpointId,
    provider: &str,
) -> Result<Option<Mark>, Fail> {
    newest_in(&view.table(MARKS)?, user, endpoint, provider)
}

/// The same, with the table at hand.
pub(super) fn newest_in(
    rows: &impl Rows,
    user: Option<UserId>,
    endpoint: EndpointId,
    provider: &str,
) -> Result<Option<Mark>, Fail> {
    let mut newest: Option<Mark> = None;
    let over = [
        Some(Marked::All),
        user.map(Marked::User),
        Some(Marked::Endpoint(endpoint)),
        Some(Marked::Provider(provider)),
    ];
    for marked in over.iter().flatten() {
        let found = find(rows, marked)?;
        newest = newest
            .into_iter()
            .chain(found)
            .max_by_key(|mark| mark.revision);
    }
    Ok(newest)
}

fn find(rows: &impl Rows, marked: &Marked<'_>) -> Result<Option<Mark>, Fail> {
    let Some(row) = rows.get(marked.to_bytes().as_slice())? else {
        return Ok(None);
    };
    let (revision, receipt, reason) = row.value();
    Ok(Some(Mark {
        revision: Revision(revision),
        receipt: ReceiptId::from_bytes(*receipt),
        reason: parse_reason(reason).unwrap_or(CutReason::Revoked),
    }))
}

/// Every mark.
pub(super) fn marks(view: &impl View) -> Result<Marks, Fail> {
    let mut all = Marks {
        at: log::head(view, log::PEOPLE)?,
        ..Marks::default()
    };
    for row in view.table(MARKS)?.iter()? {
        let (key, value) = row?;
        let revision = Revision(value.value().0);
        match Marked::from_bytes(key.value()) {
            Some(Marked::All) => all.all = revision,
            Some(Marked::User(id)) => all.users.push((id, revision)),
            Some(Marked::Endpoint(id)) => all.endpoints.push((id, revision)),
            Some(Marked::Provider(name)) => all.providers.push((name.to_owned(), revision)),
            None => return Err(Fail::unreadable("a mark")),
        }
    }
    Ok(all)
}

pub(super) fn tombstone(view: &impl View, id: SessionId) -> Result<Option<Tombstone>, Fail> {
    let rows = view.table(TOMBSTONES)?;
    let Some(row) = rows.get(&id.to_bytes())? else {
        return Ok(None);
    };
    let (reason, receipt) = row.value();
    Ok(Some(Tombstone {
        receipt: ReceiptId::from_bytes(*receipt),
        reason: parse_reason(reason).unwrap_or(CutReason::Revoked),
    }))
}

impl Writing<'_> {
    pub(super) fn raise_mark(&self, marked: &Marked<'_>, mark: Mark) -> Result<(), Fail> {
        self.table(MARKS)?.insert(
            marked.to_bytes().as_slice(),
            (
                mark.revision.0,
                &mark.receipt.to_bytes(),
                mark.reason.as_str(),
            ),
        )?;
        Ok(())
    }

    /// Writes the tombstone of a session that would have ended at `end`.
    pub(super) fn bury(&self, id: SessionId, end: i64, stone: Tombstone) -> Result<(), Fail> {
        self.table(TOMBSTONES)?.insert(
            &id.to_bytes(),
            (stone.reason.as_str(), &stone.receipt.to_bytes()),
        )?;
        self.expires(
            end.saturating_add(TOMBSTONE_OUTLIVES_US),
            &Expiring::Tombstone(id.to_bytes()),
        )
    }

    /// Writes a receipt, kept for [`KEPT_FOR`].
    pub(super) fn put_receipt(&self, receipt: &Receipt) -> Result<(), Fail> {
        self.put(RECEIPTS, receipt.id.to_bytes(), receipt)?;
        self.expires(
            kept_until(receipt.created_at),
            &Expiring::Receipt(receipt.id.to_bytes()),
        )
    }
}

/// When a thing that mattered last at a time may be forgotten.
pub(super) fn kept_until(last: Timestamp) -> i64 {
    micros(last.saturating_add(KEPT_FOR).unwrap_or(Timestamp::MAX))
}

/// How long receipts, and what is known of persons without a session, stay.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A tombstone outlives its session by an hour: by then no write of it can be under way.
const TOMBSTONE_OUTLIVES_US: i64 = 3_600_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of marks read back, whatever the provider is called.
    #[test]
    fn keys_round_trip() {
        for marked in [
            Marked::All,
            Marked::User(UserId::from_bytes([4; 20])),
            Marked::Endpoint(EndpointId::from_bytes([4; 20])),
            Marked::Provider(""),
            Marked::Provider("google"),
        ] {
            assert_eq!(Marked::from_bytes(&marked.to_bytes()), Some(marked.clone()));
        }
        assert_eq!(Marked::from_bytes(&[]), None);
        assert_eq!(Marked::from_bytes(&[1, 2]), None);
    }
}
