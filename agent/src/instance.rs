//! The agent's lasting identity: an instance id and a generation that only rises, kept in a folder.
//!
//! Each set of wishes (upstreams and the names asked for) has an identity of its own, so agents for
//! different upstreams live beside each other in one folder. A second run for the same wishes is a newer
//! run of the same agent: it takes the names over at once, even from one that hangs, and the older one
//! finds out here at the latest and does not fight back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use proto::id::InstanceId;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::private_file;

/// An identity in use.
#[derive(Debug)]
pub(crate) struct Instance {
    id: InstanceId,
    generation: u64,
    /// Where it is kept, without the ending; none when it lives only as long as the process.
    kept: Option<PathBuf>,
}

/// Why there is no next generation, or none that is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// A newer run has this identity.
    #[error("a newer run of this agent has taken over")]
    Superseded,
    /// It has risen in memory only.
    #[error("the instance's file cannot be used")]
    Io(#[from] io::Error),
}

/// What the file holds.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    instance: InstanceId,
    generation: u64,
}

impl Instance {
    /// Takes the identity of these wishes in the folder, or makes one, as its newest run.
    ///
    /// # Errors
    /// When the folder cannot be used; [`Instance::passing`] still works then.
    pub(crate) fn take(folder: &Path, wishes: &[String]) -> io::Result<Self> {
        let folder = folder.join(FOLDER);
        private_file::create_folder(&folder)?;
        let kept = folder.join(name_of(wishes));
        let _lock = lock(&kept)?;
        let record = read(&kept)?;
        let id = record
            .as_ref()
            .map_or_else(new_id, |record| record.instance);
        let before = record.map_or(0, |record| record.generation);
        let instance = Self {
            id,
            generation: after(before),
            kept: Some(kept),
        };
        instance.write()?;
        Ok(instance)
    }

    /// An identity for this process only: a random name will not stay.
    pub(crate) fn passing() -> Self {
        Self {
            id: new_id(),
            generation: 0,
            kept: None,
        }
    }

    pub(crate) const fn id(&self) -> InstanceId {
        self.id
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Rises above every generation so far: the clock's milliseconds, or one more than the last where
    /// the clock has gone back.
    ///
    /// # Errors
    /// [`NotKept::Superseded`], nothing changed; [`NotKept::Io`], risen all the same.
    pub(crate) fn next_generation(&mut self) -> Result<(), NotKept> {
        let before = self.generation;
        let newest = match &self.kept {
            None => Ok((None, None)),
            Some(kept) => lock(kept).and_then(|lock| Ok((Some(lock), read(kept)?))),
        };
        let has_newer = |record: &Record| record.instance == self.id && record.generation > before;
        if let Ok((_, Some(record))) = &newest
            && has_newer(record)
        {
            return Err(NotKept::Superseded);
        }
        self.generation = after(before);
        // The lock lives until it is written.
        let _locked = newest?;
        Ok(self.write()?)
    }

    fn write(&self) -> io::Result<()> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let record = Record {
            instance: self.id,
            generation: self.generation,
        };
        let json = serde_json::to_vec(&record)?;
        private_file::replace(&kept.with_extension("json"), &json)
    }
}

/// Keeps other agents of the folder away while a record is read and written. The kernel lets go of it
/// with the process, however that ends.
fn lock(kept: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(kept.with_extension("lock"))?;
    let until = Instant::now() + LOCK_WITHIN;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // Held for a few writes at most; but a process may be stopped in the middle of them.
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(LOCK_EVERY);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The record; `None` when there is none yet, or when it cannot be understood: then a new identity is
/// better than no agent.
fn read(kept: &Path) -> io::Result<Option<Record>> {
    match fs::read(kept.with_extension("json")) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file name for a set of wishes, whatever their texts hold.
fn name_of(wishes: &[String]) -> String {
    let mut sorted: Vec<_> = wishes.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let digest = digest::digest(&digest::SHA256, sorted.join("\n").as_bytes());
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(first))
}

fn after(generation: u64) -> u64 {
    unix_ms().max(generation.saturating_add(1))
}

fn new_id() -> InstanceId {
    let mut random = [0; 14];
    // aws-lc aborts rather than fail; a clock alone would still tell most agents apart.
    let _ = aws_lc_rs::rand::fill(&mut random);
    InstanceId::new(unix_ms(), random)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

const FOLDER: &str = "instances";
const LOCK_WITHIN: Duration = Duration::from_millis(500);
const LOCK_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
