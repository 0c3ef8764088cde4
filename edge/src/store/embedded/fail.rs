//! Errors inside the engine: those that say something of the request, and those after which the file
//! must be opened again.

use std::io;

use super::super::StoreError;

/// Why a step did not happen.
#[derive(Debug)]
pub(super) enum Fail {
    /// The store works; this request is refused.
    Refused(StoreError),
    /// The disk or redb failed: nothing is known of the database that is open.
    Broken(StoreError),
}

impl Fail {
    /// Something that is in the store but cannot be read.
    pub(super) const fn unreadable(what: &'static str) -> Self {
        Self::Refused(StoreError::Unreadable { what })
    }

    pub(super) fn into_inner(self) -> StoreError {
        match self {
            Self::Refused(error) | Self::Broken(error) => error,
        }
    }
}

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<serde_json::Error> for Fail {
    fn from(error: serde_json::Error) -> Self {
        Self::Refused(unavailable(error))
    }
}

impl From<io::Error> for Fail {
    fn from(error: io::Error) -> Self {
        Self::Broken(of_io(error))
    }
}

macro_rules! broken {
    ($($error:ty),*) => {$(
        impl From<$error> for Fail {
            fn from(error: $error) -> Self {
                Self::Broken(of_redb(error.into()))
            }
        }
    )*};
}

broken!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);

fn of_redb(error: redb::Error) -> StoreError {
    if let redb::Error::Io(error) = error {
        of_io(error)
    } else {
        unavailable(error)
    }
}

/// Full is told apart: what helps is known.
pub(super) fn of_io(error: io::Error) -> StoreError {
    if is_full(error.kind()) {
        StoreError::Full(Some(error))
    } else {
        unavailable(error)
    }
}

/// An error whose first cause is known by its kind.
pub(super) fn of_kind(kind: io::ErrorKind, error: StoreError) -> StoreError {
    if is_full(kind) {
        StoreError::Full(Some(kind.into()))
    } else {
        error
    }
}

const fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

pub(super) fn unavailable(
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Unavailable(error.into())
}
