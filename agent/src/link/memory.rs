//! Which link won the last race, by edge and by the network that this machine is in: where UDP is
//! blocked, the next start does not wait for it. A file in the configuration's folder, bounded; without
//! one, or when it cannot be used, every race starts afresh.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::private_file;

/// Remembers winners. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    file: Option<Arc<Path>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Record {
    /// The newest last.
    winners: Vec<Winner>,
}

#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Winner {
    edge: String,
    network: String,
    link: Kind,
}

impl Memory {
    /// Kept in the folder, which is made when there is something to keep.
    pub(crate) fn kept(folder: &Path) -> Self {
        let file: PathBuf = folder.join(FILE);
        Self {
            file: Some(file.into()),
        }
    }

    /// The last winner towards this edge from where this machine is.
    pub(super) fn recall(&self, edge: &str, network: &str) -> Option<Kind> {
        let record = read(self.file.as_deref()?).ok()?;
        let winner = record
            .winners
            .into_iter()
            .rfind(|one| one.edge == edge && one.network == network)?;
        Some(winner.link)
    }

    /// Keeps a winner. Not being able to is no trouble: the next race takes longer.
    pub(super) fn keep(&self, edge: &str, network: &str, link: Kind) {
        let Some(file) = &self.file else { return };
        if let Err(error) = update(file, edge, network, link) {
            tracing::debug!(%error, "the link's winner is not remembered");
        }
    }
}

/// The network that this machine speaks from towards an address, as far as it can be told: the prefix
/// of its own address. Sends nothing.
pub(super) fn network_towards(addr: SocketAddr) -> Option<String> {
    let any: IpAddr = match addr {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(addr).ok()?;
    Some(match socket.local_addr().ok()?.ip().to_canonical() {
        IpAddr::V4(own) => {
            let [a, b, c, _] = own.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(own) => {
            let [a, b, c, d, ..] = own.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    })
}

fn update(file: &Path, edge: &str, network: &str, link: Kind) -> io::Result<()> {
    let mut record = read(file)?;
    let winner = Winner {
        edge: edge.to_owned(),
        network: network.to_owned(),
        link,
    };
    if record.winners.contains(&winner) {
        return Ok(());
    }
    record
        .winners
        .retain(|one| one.edge != edge || one.network != network);
    let too_many = (record.winners.len() + 1).saturating_sub(WINNERS_MAX);
    record.winners.drain(..too_many);
    record.winners.push(winner);
    if let Some(folder) = file.parent() {
        private_file::create_folder(folder)?;
    }
    private_file::replace(file, &serde_json::to_vec(&record)?)
}

/// What is kept; nothing when there is no file yet, or it cannot be understood.
fn read(file: &Path) -> io::Result<Record> {
    match fs::read(file) {
        Ok(json) => Ok(serde_json::from_slice(&json).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
        Err(error) => Err(error),
    }
}

const FILE: &str = "links.json";
/// A laptop sees a few networks and a few edges.
const WINNERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn winners_are_kept_by_edge_and_network_within_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::kept(&folder.path().join("new"));
        assert_eq!(memory.recall("e:1", "10.0.0.0/24"), None);
        memory.keep("e:1", "10.0.0.0/24", Kind::Tls);
        memory.keep("e:1", "10.0.1.0/24", Kind::Quic);
        assert_eq!(memory.recall("e:1", "10.0.0.0/24"), Some(Kind::Tls));
        assert_eq!(memory.recall("e:1", "10.0.1.0/24"), Some(Kind::Quic));
        assert_eq!(memory.recall("e:2", "10.0.0.0/24"), None);
        memory.keep("e:1", "10.0.0.0/24", Kind::Quic);
        assert_eq!(memory.recall("e:1", "10.0.0.0/24"), Some(Kind::Quic));
        for number in 0..100 {
            memory.keep(&format!("e:{number}"), "net", Kind::Tls);
        }
        let file = folder.path().join("new").join(FILE);
        assert_eq!(read(&file).unwrap().winners.len(), WINNERS_MAX);
        assert_eq!(memory.recall("e:99", "net"), Some(Kind::Tls));
        fs::write(&file, b"{").unwrap();
        assert_eq!(memory.recall("e:99", "net"), None);
        memory.keep("e:1", "net", Kind::Tls);
        assert_eq!(memory.recall("e:1", "net"), Some(Kind::Tls));
    }

    #[test]
    fn this_machines_network_is_a_prefix() {
        let network = network_towards("127.0.0.1:9".parse().unwrap());
        assert_eq!(network.as_deref(), Some("127.0.0.0/24"));
    }
}
