//! The file below redb: exclusive, mode 0600, and able to go back to its last synced state.
//!
//! redb stops for good at its first I/O error and has to be opened again. What it then finds must be
//! the last state that was synced: a header that was written but whose sync failed sits in the page
//! cache and would make a refused commit come true. So the header's bytes as of the last sync are
//! kept here and put back first. redb never overwrites a page that its last durable header refers
//! to, so that this undoes a failed commit whole.
//!
//! A disk that takes no writes at all can still be read: writes then go to memory only
//! ([`Mode::Overlay`]), enough for redb to open, and the engine lets no change through.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// The open file, locked for as long as it lives.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    header: Mutex<Header>,
    /// The first failure of this life: redb's later errors only say that there was one.
    failure: Mutex<Option<io::ErrorKind>>,
    #[cfg(test)]
    pub(super) faults: super::faults::Faults,
}

/// The first page: everything else is written once and then only referred to.
#[derive(Debug)]
struct Header {
    written: Vec<u8>,
    synced: Vec<u8>,
}

/// Where writes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    Direct,
    /// To memory, bounded, and never to the file.
    Overlay,
}

/// What redb is given for one life of its database.
#[derive(Debug)]
pub(super) struct Backend {
    disk: Arc<Disk>,
    overlay: Option<Mutex<Overlay>>,
}

#[derive(Debug)]
struct Overlay {
    len: u64,
    /// In the order in which they were written.
    writes: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    /// Opens or makes the file and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = match options.clone().create_new(true).open(path) {
            Ok(file) => {
                sync_folder(path)?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path)?,
            Err(error) => return Err(error.into()),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(Self::of(file)?)
    }

    /// Makes a new file; an existing one is refused.
    pub(super) fn create_new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Self::of(file)
    }

    fn of(file: File) -> io::Result<Self> {
        let mut first = vec![0; HEADER_BYTES];
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let present = first.get_mut(..len.min(HEADER_BYTES)).unwrap_or_default();
        file.read_exact_at(present, 0)?;
        // redb writes its magic number last. A file without one was never finished and holds nothing,
        // but redb would refuse it.
        if len > 0 && first.iter().take(MAGIC_BYTES).all(|byte| *byte == 0) {
            file.set_len(0)?;
        }
        Ok(Self {
            file,
            header: Mutex::new(Header {
                written: first.clone(),
                synced: first,
            }),
            failure: Mutex::new(None),
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        })
    }

    /// Goes back to the last synced state and gives a backend for it. No other backend of this disk
    /// may be in use.
    pub(super) fn backend(self: &Arc<Self>, mode: Mode) -> io::Result<Backend> {
        let mut header = self.header();
        let rolled_back = self.roll_back(&mut header);
        let overlay = match mode {
            Mode::Direct => {
                rolled_back?;
                None
            }
            // The overlay begins with the synced header, whatever the file has.
            Mode::Overlay => Some(Mutex::new(Overlay {
                len: self.file.metadata()?.len(),
                writes: vec![(0, header.synced.clone())],
            })),
        };
        drop(header);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(Backend {
            disk: Arc::clone(self),
            overlay,
        })
    }

    fn roll_back(&self, header: &mut Header) -> io::Result<()> {
        let Header { written, synced } = header;
        if written != synced {
            self.write_at(synced, 0)?;
            written.clone_from(synced);
        }
        Ok(())
    }

    /// What first failed since the last call of [`Disk::backend`].
    pub(super) fn failure(&self) -> Option<io::ErrorKind> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error.kind());
        })
    }

    fn header(&self) -> MutexGuard<'_, Header> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_write()?;
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_write()?;
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.before_sync()? {
            return Ok(());
        }
        self.file.sync_data()
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match self.overlay() {
            Some(overlay) => Ok(overlay.len),
            None => Ok(self.disk.file.metadata()?.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.before_read()?;
        let Some(overlay) = self.overlay() else {
            return self.disk.file.read_exact_at(out, offset);
        };
        // What the overlay grew by is zero, as a longer file would be.
        out.fill(0);
        let in_file = self.disk.file.metadata()?.len().saturating_sub(offset);
        let in_file = usize::try_from(in_file)
            .unwrap_or(usize::MAX)
            .min(out.len());
        let (stored, _) = out.split_at_mut(in_file);
        self.disk.file.read_exact_at(stored, offset)?;
        for (at, data) in &overlay.writes {
            patch(out, offset, data, *at);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(mut overlay) = self.overlay() {
            overlay.len = len;
            return Ok(());
        }
        self.disk.noted(self.disk.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.overlay.is_some() {
            return Ok(());
        }
        self.disk.noted(self.disk.sync())?;
        let mut header = self.disk.header();
        let Header { written, synced } = &mut *header;
        synced.clone_from(written);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(mut overlay) = self.overlay() {
            let held: usize = overlay.writes.iter().map(|(_, data)| data.len()).sum();
            if held + data.len() > OVERLAY_BYTES_MAX {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            overlay.writes.push((offset, data.to_vec()));
            return Ok(());
        }
        // Noted even when the write fails: it may have gone through in part.
        patch(&mut self.disk.header().written, 0, data, offset);
        self.disk.noted(self.disk.write_at(data, offset))
    }
}

impl Backend {
    fn overlay(&self) -> Option<MutexGuard<'_, Overlay>> {
        let overlay = self.overlay.as_ref()?;
        Some(overlay.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Copies into `out`, which begins at `start`, what `data`, which begins at `at`, has of it.
fn patch(out: &mut [u8], start: u64, data: &[u8], at: u64) {
    let skip = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let into = out.get_mut(skip(start, at)..).unwrap_or_default();
    let from = data.get(skip(at, start)..).unwrap_or_default();
    for (byte, new) in into.iter_mut().zip(from) {
        *byte = *new;
    }
}

/// Makes a new name last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// Why the file could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{} is in use by another edge", .0.display())]
    InUse(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// redb's page; its header lies alone in the first.
const HEADER_BYTES: usize = 4096;
/// The length of redb's magic number.
const MAGIC_BYTES: usize = 9;
/// Opening writes two or three headers; anything much larger is no opening.
const OVERLAY_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way in which two ranges can meet.
    #[test]
    fn patches_only_what_overlaps() {
        let patched = |start, at, data: &[u8]| {
            let mut out = *b"....";
            patch(&mut out, start, data, at);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(patched(10, 10, b"abcd"), "abcd");
        assert_eq!(patched(10, 8, b"abcd"), "cd..");
        assert_eq!(patched(10, 12, b"abcd"), "..ab");
        assert_eq!(patched(10, 9, b"abcdefg"), "bcde");
        assert_eq!(patched(10, 11, b"a"), ".a..");
        assert_eq!(patched(10, 2, b"abcd"), "....");
        assert_eq!(patched(10, 14, b"abcd"), "....");
        assert_eq!(patched(10, 1_000_000, b"abcd"), "....");
    }
}
