//! What ends by itself, in the order in which it ends: sweeping reads no row that stays.

use jiff::Timestamp;
use redb::ReadableTable as _;

use super::fail::Fail;
use super::table::{EXPIRY, View as _, Writing, micros};

/// Something with an end, by its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Expiring {
    Session([u8; 20]),
    Tombstone([u8; 20]),
    Receipt([u8; 20]),
    Operator([u8; 20]),
    Once(u8, [u8; 32]),
    Seen([u8; 32]),
    Person([u8; 32]),
    /// By its key in the table of marks.
    Mark(Vec<u8>),
}

impl Expiring {
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, key) = match self {
            Self::Session(id) => (1, &id[..]),
            Self::Tombstone(id) => (2, &id[..]),
            Self::Receipt(id) => (3, &id[..]),
            Self::Operator(id) => (4, &id[..]),
            Self::Once(kind, key) => return [&[5, *kind], &key[..]].concat(),
            Self::Seen(key) => (6, &key[..]),
            Self::Person(key) => (7, &key[..]),
            Self::Mark(key) => (8, &key[..]),
        };
        [&[kind], key].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, key) = bytes.split_first()?;
        let id = || <[u8; 20]>::try_from(key).ok();
        let hash = || <[u8; 32]>::try_from(key).ok();
        match kind {
            1 => id().map(Self::Session),
            2 => id().map(Self::Tombstone),
            3 => id().map(Self::Receipt),
            4 => id().map(Self::Operator),
            5 => {
                let (kind, key) = key.split_first()?;
                Some(Self::Once(*kind, key.try_into().ok()?))
            }
            6 => hash().map(Self::Seen),
            7 => hash().map(Self::Person),
            8 => Some(Self::Mark(key.to_vec())),
            _ => None,
        }
    }
}

impl Writing<'_> {
    /// Notes an end.
    pub(super) fn expires(&self, at: i64, what: &Expiring) -> Result<(), Fail> {
        self.table(EXPIRY)?
            .insert((at, what.to_bytes().as_slice()), ())?;
        Ok(())
    }

    /// Forgets an end that has moved or come early.
    pub(super) fn expires_no_more(&self, at: i64, what: &Expiring) -> Result<(), Fail> {
        self.table(EXPIRY)?
            .remove((at, what.to_bytes().as_slice()))?;
        Ok(())
    }

    /// Takes what has ended, the oldest first.
    pub(super) fn take_expired(&self, now: Timestamp, limit: usize) -> Result<Vec<Expiring>, Fail> {
        let mut rows = self.table(EXPIRY)?;
        let mut keys = Vec::new();
        for row in rows
            .range((i64::MIN, &[][..])..(micros(now).saturating_add(1), &[][..]))?
            .take(limit)
        {
            let (key, _) = row?;
            let (at, what) = key.value();
            keys.push((at, what.to_vec()));
        }
        let mut ended = Vec::with_capacity(keys.len());
        for (at, what) in keys {
            rows.remove((at, what.as_slice()))?;
            ended.extend(Expiring::from_bytes(&what));
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of key reads back, and none reads as another.
    #[test]
    fn keys_round_trip() {
        for what in [
            Expiring::Session([1; 20]),
            Expiring::Tombstone([1; 20]),
            Expiring::Receipt([1; 20]),
            Expiring::Operator([1; 20]),
            Expiring::Once(2, [1; 32]),
            Expiring::Seen([1; 32]),
            Expiring::Person([1; 32]),
            Expiring::Mark(vec![3, 1, 4]),
        ] {
            assert_eq!(Expiring::from_bytes(&what.to_bytes()), Some(what));
        }
        assert_eq!(Expiring::from_bytes(&[]), None);
        assert_eq!(Expiring::from_bytes(&[9, 1]), None);
        assert_eq!(Expiring::from_bytes(&[1, 1]), None);
    }
}
