//! Faults on demand, for tests: a disk that is full, read-only, or fails its sync.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// What goes wrong, by system error number; 0 for nothing.
#[derive(Debug, Default)]
pub(super) struct Faults {
    write: AtomicI32,
    sync: AtomicI32,
    read: AtomicI32,
    /// Writes that still go through.
    spare: AtomicU32,
    skip_sync: AtomicBool,
}

impl Faults {
    pub(super) fn fail_writes(&self, errno: i32, after: u32) {
        self.spare.store(after, Ordering::SeqCst);
        self.write.store(errno, Ordering::SeqCst);
    }

    pub(super) fn fail_syncs(&self, errno: i32) {
        self.sync.store(errno, Ordering::SeqCst);
    }

    pub(super) fn fail_reads(&self, errno: i32) {
        self.read.store(errno, Ordering::SeqCst);
    }

    pub(super) fn heal(&self) {
        self.fail_writes(0, 0);
        self.fail_syncs(0);
        self.fail_reads(0);
    }

    /// For tests that make thousands of commits and lose no power.
    pub(super) fn skip_syncs(&self) {
        self.skip_sync.store(true, Ordering::SeqCst);
    }

    pub(super) fn before_write(&self) -> io::Result<()> {
        let errno = self.write.load(Ordering::SeqCst);
        if errno == 0 {
            return Ok(());
        }
        self.spare
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .map(|_| ())
            .map_err(|_| io::Error::from_raw_os_error(errno))
    }

    pub(super) fn before_read(&self) -> io::Result<()> {
        fail(&self.read)
    }

    /// True when the sync is to be left out.
    pub(super) fn before_sync(&self) -> io::Result<bool> {
        fail(&self.sync)?;
        Ok(self.skip_sync.load(Ordering::SeqCst))
    }
}

fn fail(errno: &AtomicI32) -> io::Result<()> {
    match errno.load(Ordering::SeqCst) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
