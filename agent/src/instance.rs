//! The agent's lasting identity: an instance id and a generation that only rises, kept in a folder.
//!
//! Two agents of one folder must not share an identity, or each would take the other's names over. So
//! identities are numbered per upstream, and each is locked by the agent that uses it: another
//! upstream, or a second agent for the same one, gets another identity. The kernel drops the lock with
//! the process, however that ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use proto::id::InstanceId;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::private_file;

/// A locked identity. Dropped, it may be used by the next agent.
#[derive(Debug)]
pub(crate) struct Instance {
    id: InstanceId,
    generation: u64,
    /// Where it is kept; none when it lives only as long as the process.
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// What the file holds.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    instance: InstanceId,
    generation: u64,
}

impl Instance {
    /// Takes the first free identity of these upstreams in the folder, or makes one.
    ///
    /// # Errors
    /// When the folder cannot be used; [`Instance::passing`] still works then.
    pub(crate) fn take(folder: &Path, upstreams: &[String]) -> io::Result<Self> {
        let folder = folder.join(FOLDER);
        private_file::create_folder(&folder)?;
        let name = name_of(upstreams);
        for slot in 1..=SLOTS_MAX {
            let stem = format!("{name}-{slot}");
            let Some(lock) = try_lock(&folder.join(format!("{stem}.lock")))? else {
                continue;
            };
            let path = folder.join(format!("{stem}.json"));
            let record = read(&path)?.unwrap_or_else(|| Record {
                instance: new_id(),
                generation: 0,
            });
            let mut instance = Self {
                id: record.instance,
                generation: record.generation,
                kept: Some(Kept { path, _lock: lock }),
            };
            // Written at once: an identity that cannot be kept must be known before it is used.
            instance.next_generation()?;
            return Ok(instance);
        }
        Err(io::Error::other(format!(
            "{SLOTS_MAX} agents for the same upstream run already"
        )))
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

    /// A generation above all before it, of this run and earlier ones; the clock's milliseconds unless
    /// the clock has gone back.
    ///
    /// # Errors
    /// When it could not be kept. [`Instance::generation`] has risen all the same.
    pub(crate) fn next_generation(&mut self) -> io::Result<u64> {
        self.generation = unix_ms().max(self.generation.saturating_add(1));
        if let Some(kept) = &self.kept {
            let record = Record {
                instance: self.id,
                generation: self.generation,
            };
            let json = serde_json::to_vec(&record)?;
            private_file::replace(&kept.path, &json)?;
        }
        Ok(self.generation)
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }
}

/// The lock, or `None` when another process has it.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The record; `None` when there is none yet, or when it cannot be understood: then a new identity is
/// better than no agent.
fn read(path: &Path) -> io::Result<Option<Record>> {
    match fs::read(path) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file name for a set of upstreams, whatever their texts hold.
fn name_of(upstreams: &[String]) -> String {
    let mut sorted: Vec<_> = upstreams.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let digest = digest::digest(&digest::SHA256, sorted.join("\n").as_bytes());
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(first))
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
/// Agents for one upstream from one folder. More are told to use folders of their own.
const SLOTS_MAX: u32 = 64;

#[cfg(test)]
mod tests;
