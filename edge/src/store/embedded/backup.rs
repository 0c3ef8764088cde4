//! A copy of the store as one snapshot sees it, while everything goes on.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, Mode, sync_folder};
use super::fail::Fail;
use super::open;
use super::table::{self, Reading};

/// Writes a new file, mode 0600. An existing one is refused; a copy that fails leaves none behind.
pub(super) fn backup(view: &Reading<'_>, to: &Path) -> Result<(), Fail> {
    // Its errors say nothing of the disk that the store is on.
    copy(view, to).map_err(|fail| Fail::Refused(fail.into_inner()))
}

fn copy(view: &Reading<'_>, to: &Path) -> Result<(), Fail> {
    let disk = Arc::new(Disk::create_new(to)?);
    let copied = fill(view, &disk).and_then(|()| Ok(sync_folder(to)?));
    if copied.is_err()
        && let Err(error) = fs::remove_file(to)
    {
        tracing::warn!(%error, "incomplete backup not removed");
    }
    copied
}

fn fill(view: &Reading<'_>, disk: &Arc<Disk>) -> Result<(), Fail> {
    let database = open::database(disk, Mode::Direct)?;
    let txn = database.begin_write()?;
    table::copy_all(&view.txn, &txn)?;
    txn.commit()?;
    Ok(database.close()?)
}
