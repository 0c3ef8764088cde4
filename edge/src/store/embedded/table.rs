//! The tables, and one way to look at them that reads and writes share.
//!
//! Ids are keys as their 20 bytes, so that every table and index sorts by time. Times are
//! microseconds since the Unix epoch.

use jiff::Timestamp;
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, TableHandle as _,
    Value, WriteTransaction,
};

use super::super::records::Record;
use super::super::seal::Sealer;
use super::fail::Fail;
use crate::secret::Secret;

type Id = &'static [u8; 20];
type Hash = &'static [u8; 32];
type Bytes = &'static [u8];
type Text = &'static str;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $value:ty, $text:literal;)*) => {
        $($(#[$doc])* pub(super) const $name: TableDefinition<'static, $key, $value> = TableDefinition::new($text);)*

        /// Makes every table that is missing.
        pub(super) fn create_all(txn: &WriteTransaction) -> Result<(), Fail> {
            $(drop(txn.open_table($name)?);)*
            Ok(())
        }

        /// Copies every row of every table.
        pub(super) fn copy_all(from: &ReadTransaction, to: &WriteTransaction) -> Result<(), Fail> {
            $(copy(&from.open_table($name)?, &mut to.open_table($name)?)?;)*
            Ok(())
        }
    };
}

tables! {
    /// Schema version, sealed index key.
    META: Text => Bytes, "meta";
    /// The newest revision of a shard.
    HEADS: u16 => u64, "heads";
    /// (shard, revision) → (time, change).
    LOG: (u16, u64) => (i64, Bytes), "log";
    /// User, endpoint, revision, absolute end and provider in the clear, for counts and lists; then
    /// the sealed record.
    SESSIONS: Id => (Id, Id, u64, i64, Text, Bytes), "sessions";
    /// (user, session).
    SESSIONS_BY_USER: (Id, Id) => (), "sessions by user";
    /// (endpoint, session).
    SESSIONS_BY_ENDPOINT: (Id, Id) => (), "sessions by endpoint";
    SESSION_ACTIVE: Id => i64, "session last active";
    /// Reason, receipt.
    TOMBSTONES: Id => (Text, Id), "tombstones";
    /// Revision, receipt, reason, by what is marked.
    MARKS: Bytes => (u64, Id, Text), "marks";
    /// What is left to delete after a mark: revision, receipt, reason, last session looked at.
    PURGES: Bytes => (u64, Id, Text, Bytes), "purges";
    RECEIPTS: Id => Bytes, "receipts";
    USERS: Id => Bytes, "users";
    USER_ACTIVE: Id => i64, "user last active";
    /// By the keyed hash of issuer and subject: the user's id or nothing, the revision of their last
    /// session, the revision of the last revocation of theirs, when all this is forgotten.
    PERSONS: Hash => (Bytes, u64, u64, i64), "persons";
    /// (person, endpoint) → the revision of their last session there.
    PERSONS_AT: (Hash, Id) => u64, "persons at endpoints";
    /// (kind, key) → end, sealed value.
    ONCE: (u8, Hash) => (i64, Bytes), "once";
    SEEN: Hash => i64, "seen";
    ENDPOINTS: Id => Bytes, "endpoints";
    HOSTS: Text => Id, "hosts";
    /// (authtoken, endpoint).
    ENDPOINTS_BY_AUTHTOKEN: (Id, Id) => (), "endpoints by authtoken";
    AUTHTOKENS: Id => Bytes, "authtokens";
    API_KEYS: Id => Bytes, "api keys";
    PROVIDERS: Text => Bytes, "providers";
    OPERATORS: Id => Bytes, "operators";
    EDGES: Id => i64, "edges";
    /// (end, what).
    EXPIRY: (i64, Bytes) => (), "expiry";
}

/// The store as one transaction sees it.
pub(super) trait View {
    type Table<'t, K: Key + 'static, V: Value + 'static>: ReadableTable<K, V>
    where
        Self: 't;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<Self::Table<'_, K, V>, Fail>;

    fn keys(&self) -> &Keys;

    /// One sealed record.
    fn record<R: Record>(
        &self,
        table: TableDefinition<'static, Id, Bytes>,
        id: [u8; 20],
    ) -> Result<Option<R>, Fail> {
        let rows = self.table(table)?;
        let Some(sealed) = rows.get(&id)? else {
            return Ok(None);
        };
        self.keys()
            .open(table.name(), &id, sealed.value())
            .map(Some)
    }

    /// Every sealed record, newest first.
    fn records<R: Record>(
        &self,
        table: TableDefinition<'static, Id, Bytes>,
    ) -> Result<Vec<R>, Fail> {
        let mut all = Vec::new();
        for row in self.table(table)?.iter()?.rev() {
            let (id, sealed) = row?;
            all.push(self.keys().open(table.name(), id.value(), sealed.value())?);
        }
        Ok(all)
    }
}

/// What opens and seals, and what hides who is in the index of persons.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) sealer: Sealer,
    /// Made once per store and kept in it, sealed: it outlives every change of the cluster key.
    pub(super) index: Secret<[u8; 32]>,
}

impl Keys {
    pub(super) fn seal<R: Record>(
        &self,
        table: &str,
        key: &[u8],
        record: &R,
    ) -> Result<Vec<u8>, Fail> {
        Ok(self.sealer.seal(table, key, &record.to_bytes()?))
    }

    pub(super) fn open<R: Record>(
        &self,
        table: &str,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<R, Fail> {
        self.sealer
            .open(table, key, sealed)
            .and_then(|bytes| R::from_bytes(&bytes).ok())
            .ok_or(Fail::unreadable(R::NOUN))
    }
}

/// A snapshot.
#[derive(Debug)]
pub(super) struct Reading<'k> {
    pub(super) txn: ReadTransaction,
    pub(super) keys: &'k Keys,
}

impl View for Reading<'_> {
    type Table<'t, K: Key + 'static, V: Value + 'static>
        = ReadOnlyTable<K, V>
    where
        Self: 't;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, Fail> {
        Ok(self.txn.open_table(table)?)
    }

    fn keys(&self) -> &Keys {
        self.keys
    }
}

/// One change, whole or not at all.
pub(super) struct Writing<'k> {
    pub(super) txn: WriteTransaction,
    pub(super) keys: &'k Keys,
    /// Shards whose log grew, with their new heads.
    pub(super) heads: Vec<(u16, u64)>,
    /// Sessions are left that a mark has ended.
    pub(super) left_to_purge: bool,
}

impl View for Writing<'_> {
    type Table<'t, K: Key + 'static, V: Value + 'static>
        = Table<'t, K, V>
    where
        Self: 't;

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<Table<'_, K, V>, Fail> {
        Ok(self.txn.open_table(table)?)
    }

    fn keys(&self) -> &Keys {
        self.keys
    }
}

impl Writing<'_> {
    /// Seals and writes one record.
    pub(super) fn put<R: Record>(
        &self,
        table: TableDefinition<'static, Id, Bytes>,
        id: [u8; 20],
        record: &R,
    ) -> Result<(), Fail> {
        let sealed = self.keys.seal(table.name(), &id, record)?;
        self.table(table)?.insert(&id, sealed.as_slice())?;
        Ok(())
    }
}

/// How a change is to be kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Commit {
    /// Nothing was changed.
    Not,
    /// On disk within a second or with the next durable change, in order.
    Soon,
    /// On disk before anybody hears of it.
    Now,
}

pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

pub(super) fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadOnlyTable<K, V>,
    to: &mut Table<'_, K, V>,
) -> Result<(), Fail> {
    for row in from.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}
