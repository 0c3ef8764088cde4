//! The configuration of an edge: `edge.yml`, flags and environment → one checked [`Settings`].
//!
//! No part of the edge reads a file or the environment for its settings: they come from here.
//! Unknown keys, contradictions and unsafe combinations are refused with the line at fault. Reading
//! order: `file` (the format), `checks` and `network` (from the format to settings), `folder` (what lives in the
//! data folder), `reference` (the documentation of the format).

mod checks;
mod duration;
mod file;
mod folder;
mod links;
mod network;
mod reference;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::cert::{CertError, FileCert};
use crate::model::site::ReservedHost;
use crate::secret::{ClusterKey, Secret};
use crate::tunnel::link::Congestion;

pub(crate) use duration::parse as parse_duration;
pub(crate) use folder::{data_dir_flag, default_data_dir};
pub(crate) use reference::reference;

/// An edge's settings: checked, with defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The public port: TCP for browsers, UDP for agents.
    pub(crate) listen: SocketAddr,
    pub(crate) workers: usize,
    /// The port that browsers use, where something in front of the edge changes it.
    pub(crate) public_port: Option<u16>,
    pub(crate) data_dir: PathBuf,
    /// An MMDB file.
    pub(crate) geoip: Option<PathBuf>,
    pub(crate) user_agent_regexes: Option<PathBuf>,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) connections_per_address: u32,
    /// Ports for TCP endpoints; `None`: they are refused.
    pub(crate) tcp_ports: Option<RangeInclusive<u16>>,
    /// Whose PROXY headers are believed; empty: nobody's.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Requests, downloads, WebSockets that are open at a time.
    pub(crate) exchanges_max: u32,
    pub(crate) links: Links,
    /// `None`: the development CA of the data folder, on loopback only.
    pub(crate) certificate: Option<CertificateFiles>,
    /// Where agents are told to connect, as `host:port`. Empty: worked out from the rest.
    pub(crate) advertise: Vec<String>,
    /// The listener for metrics and health; `None`: there is none.
    pub(crate) metrics: Option<SocketAddr>,
    /// A file of its own for the access log; `None`: with everything else.
    pub(crate) access_log: Option<PathBuf>,
    pub(crate) session_life: Duration,
    pub(crate) session_idle: Option<Duration>,
    /// `None`: the word that the data folder keeps.
    domain: Option<String>,
    cluster_key: KeySource,
}

/// How links to agents behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    pub(crate) congestion: Congestion,
    /// What readers of one agent may leave unread, beyond what all of its streams share.
    pub(crate) unread_per_agent_bytes: u64,
    /// The same of all agents together.
    pub(crate) unread_bytes: u64,
}

/// The operator's certificate and its private key, both PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CertificateFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Where the certificate is named.
    at: At,
}

/// Where the cluster key comes from.
#[derive(Clone, Debug)]
enum KeySource {
    /// The environment's value.
    Given(Secret<String>),
    File(PathBuf),
    /// Generated at the first start and kept in the data folder.
    Folder,
}

/// What flags say over the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) domain: Option<String>,
    pub(crate) data_dir: Option<PathBuf>,
    /// As in the file, `20000-20100`.
    pub(crate) tcp_ports: Option<String>,
    pub(crate) trusted_proxies: Vec<String>,
    pub(crate) danger_trust_any_proxy: bool,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) access_log: Option<PathBuf>,
}

/// What the environment says of the cluster key.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyEnvironment {
    pub(crate) key: Option<Secret<String>>,
    pub(crate) file: Option<PathBuf>,
}

impl KeyEnvironment {
    /// Reads `SALLYPORT_CLUSTER_KEY` and `SALLYPORT_CLUSTER_KEY_FILE`. Empty counts as unset.
    pub(crate) fn read() -> Self {
        let text = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            key: text(ENV_KEY).map(|value| Secret::new(value.to_string_lossy().into_owned())),
            file: text(ENV_KEY_FILE).map(PathBuf::from),
        }
    }
}

/// What the data folder adds: made at the first start, the same ever after.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) domain: String,
    pub(crate) cluster_key: ClusterKey,
}

impl Settings {
    /// The ports of TCP endpoints as they are written: `20000-20100`.
    pub(crate) fn tcp_ports_text(&self) -> Option<String> {
        let ports = self.tcp_ports.as_ref()?;
        Some(format!("{}-{}", ports.start(), ports.end()))
    }

    /// Reads the file, if one is named, puts the flags over it and checks the whole. Touches no data
    /// folder.
    pub(crate) fn load(
        file: Option<&Path>,
        overrides: Overrides,
        environment: KeyEnvironment,
    ) -> Result<Self, ConfigError> {
        let source = match file {
            Some(path) => file::Source::read(path)?,
            None => file::Source::default(),
        };
        checks::settings(&source, overrides, environment)
    }

    /// Makes the data folder ready (mode 0700) and gives what it holds: the domain, where none is
    /// configured, and the cluster key, both made at the first start.
    pub(crate) fn prepare(&self) -> Result<Prepared, ConfigError> {
        folder::prepare(self)
    }

    /// Reads the operator's certificate, if there is one, and sees to it that it covers the edge's own
    /// names under this domain. Blocking.
    pub(crate) fn open_certificate(&self, domain: &str) -> Result<Option<FileCert>, ConfigError> {
        let Some(files) = &self.certificate else {
            return Ok(None);
        };
        let cert =
            FileCert::open(&files.cert, &files.key).map_err(|source| ConfigError::Certificate {
                at: files.at.clone(),
                source,
            })?;
        let missing = [
            ReservedHost::Auth,
            ReservedHost::Api,
            ReservedHost::Dashboard,
        ]
        .map(|host| format!("{}.{domain}", host.label()))
        .into_iter()
        .find(|name| !cert.covers(name));
        match missing {
            None => Ok(Some(cert)),
            Some(name) => Err(ConfigError::Refused {
                at: files.at.clone(),
                message: format!(
                    "{} does not cover {name}; a certificate for *.{domain} covers that and the endpoints",
                    files.cert.display()
                ),
            }),
        }
    }

    /// The configured domain.
    pub(crate) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Where the cluster key comes from, in words.
    pub(crate) const fn cluster_key_source(&self) -> &'static str {
        match self.cluster_key {
            KeySource::Given(_) => "environment",
            KeySource::File(_) => "file",
            KeySource::Folder => "data folder",
        }
    }
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {}", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("there is no home folder to keep data in")]
    NoHome,
    /// The message names file, line and column.
    #[error("{}:{message}", file.display())]
    Syntax { file: PathBuf, message: String },
    #[error("{at}: {message}")]
    Refused { at: At, message: String },
    #[error("cannot prepare {}", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The files are readable, and no pair that this domain can be served with.
    #[error("{at}")]
    Certificate {
        at: At,
        #[source]
        source: CertError,
    },
    #[error("{} is no folder for keys: others may enter it (mode {mode:04o}), and it holds other things", path.display())]
    FolderOpen { path: PathBuf, mode: u32 },
    #[error("{at} holds no cluster key: 43 characters of base64url (32 random bytes) are wanted")]
    Key { at: At },
}

impl ConfigError {
    /// The sentence that says what to do.
    pub(crate) fn next_step(&self) -> String {
        match self {
            Self::Read { .. } => "name a file that is there and that this user may read".to_owned(),
            Self::NoHome => "name the data folder with --data-dir".to_owned(),
            Self::Folder { .. } => {
                "name a folder that this user may write with --data-dir".to_owned()
            }
            Self::FolderOpen { path, .. } => format!(
                "name a folder of its own with --data-dir; if this one is for the edge alone: chmod 700 {}",
                path.display()
            ),
            Self::Syntax { file, .. } => mend(file),
            Self::Refused { at, .. } | Self::Certificate { at, .. } | Self::Key { at } => {
                match at {
                    At::Line { file, .. } => mend(file),
                    At::Flag(_) => {
                        "correct that flag; docs/config.md says what an edge needs".to_owned()
                    }
                    At::Environment(_) => "correct or unset that variable".to_owned(),
                    At::File(_) => "put back what the edge wrote there".to_owned(),
                    At::Default(key) => format!("set {key} in a file for --config"),
                }
            }
        }
    }
}

fn mend(file: &Path) -> String {
    format!(
        "mend that line, then: edge config check --config {}",
        file.display()
    )
}

/// Where a setting was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum At {
    Line {
        file: PathBuf,
        line: u64,
        key: &'static str,
    },
    Flag(&'static str),
    Environment(&'static str),
    File(PathBuf),
    Default(&'static str),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line { file, line, key } => write!(f, "{}:{line}: {key}", file.display()),
            Self::Flag(name) | Self::Environment(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default(key) => write!(f, "{key} (default)"),
        }
    }
}

/// The cluster key itself, as text.
pub(crate) const ENV_KEY: &str = "SALLYPORT_CLUSTER_KEY";
/// A file that holds it.
pub(crate) const ENV_KEY_FILE: &str = "SALLYPORT_CLUSTER_KEY_FILE";

#[cfg(test)]
mod tests;
