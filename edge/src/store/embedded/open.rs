//! Opening the file: whose it is, which schema, which key.

use std::path::Path;
use std::sync::Arc;

use redb::{Builder, Database, ReadableTable as _};

use super::super::StoreError;
use super::super::seal::Sealer;
use super::disk::{Disk, Mode, OpenError};
use super::engine::Engine;
use super::fail::{Fail, unavailable};
use super::table::{self, Keys, META};
use crate::secret::{self, Secret};

/// Opens the store, making it where there is none.
pub(super) fn engine(file: &Path, sealer: Sealer) -> Result<Engine, StoreError> {
    let disk = Disk::open(file).map_err(|error| match error {
        OpenError::Io(error) => Fail::from(error).into_inner(),
        in_use @ OpenError::InUse(_) => unavailable(in_use),
    })?;
    let disk = Arc::new(disk);
    let open = || {
        let database = database(&disk, Mode::Direct)?;
        let keys = prepare(&database, sealer)?;
        Engine::start(Arc::clone(&disk), database, keys)
    };
    open().map_err(Fail::into_inner)
}

/// One life of the database in the file.
pub(super) fn database(disk: &Arc<Disk>, mode: Mode) -> Result<Database, Fail> {
    let backend = disk.backend(mode)?;
    Ok(Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)?)
}

/// Checks schema and key, and completes what is missing.
fn prepare(database: &Database, sealer: Sealer) -> Result<Keys, Fail> {
    let txn = database.begin_write()?;
    let mut meta = txn.open_table(META)?;
    let version = meta.get(VERSION)?.map(|version| version.value().to_vec());
    let is_new = version.is_none();
    match version {
        Some(version) => {
            let found = version
                .try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| Fail::unreadable("its schema version"))?;
            if found > SCHEMA {
                let known = SCHEMA;
                return Err(StoreError::NewerSchema { found, known }.into());
            }
        }
        None => {
            meta.insert(VERSION, &SCHEMA.to_be_bytes()[..])?;
        }
    }
    let sealed = meta.get(INDEX_KEY)?.map(|sealed| sealed.value().to_vec());
    let index: [u8; 32] = match &sealed {
        Some(sealed) => sealer
            .open(PLACE, INDEX_KEY.as_bytes(), sealed)
            .and_then(|key| key.try_into().ok())
            .ok_or(Fail::unreadable("anything"))?,
        None => secret::random(),
    };
    let key_is_new = !sealed.is_some_and(|sealed| sealer.is_current(&sealed));
    if key_is_new {
        let sealed = sealer.seal(PLACE, INDEX_KEY.as_bytes(), &index);
        meta.insert(INDEX_KEY, sealed.as_slice())?;
    }
    drop(meta);
    if is_new {
        table::create_all(&txn)?;
    }
    // A full disk is no reason not to start.
    if is_new || key_is_new {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    Ok(Keys {
        sealer,
        index: Secret::new(index),
    })
}

/// Version of the tables and of what their values mean.
pub(super) const SCHEMA: u32 = 1;
pub(super) const VERSION: &str = "schema";
/// Also proves that the cluster key is the one that the store was made with.
const INDEX_KEY: &str = "index key";
const PLACE: &str = "meta";
/// Of redb's page cache.
const CACHE_BYTES: usize = 64 << 20;
