//! Why an edge does not start, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cert::CertError;
use crate::config::ConfigError;
use crate::idp::IdpError;
use crate::store::StoreError;
use crate::telemetry::TelemetryError;

/// Why an edge does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the store cannot be opened")]
    Store(#[source] StoreError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("a certificate cannot be used")]
    Cert(#[from] CertError),
    #[error("{} does not cover {name}", file.display())]
    NotCovered { file: PathBuf, name: String },
    #[error("the client for identity providers cannot be built")]
    Idp(#[from] IdpError),
    #[error("the operator's socket cannot be opened")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Log(#[from] TelemetryError),
    #[error("the system refused")]
    Io(#[source] io::Error),
}

impl StartError {
    /// The class of a failure, for scripts.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Log(_) => 2,
            Self::Config(_) => 3,
            Self::Store(_)
            | Self::Listen { .. }
            | Self::Cert(_)
            | Self::NotCovered { .. }
            | Self::Idp(_)
            | Self::Socket(_)
            | Self::Io(_) => 1,
        }
    }

    /// The sentence that says what to do.
    pub(crate) fn next_step(&self) -> &'static str {
        match self {
            Self::Config(_) => "mend the configuration and check it with: edge config check",
            Self::Store(_) => {
                "stop the other edge on this data folder, or check that the folder is writable and that the cluster key is the one the store was made with"
            }
            Self::Listen { .. } => {
                "choose another address with --listen, or stop what uses it (ports below 1024 need the right to bind them)"
            }
            Self::Cert(_) | Self::NotCovered { .. } => {
                "the certificate must cover auth., api., dashboard. and the endpoints' names: a wildcard for the domain does"
            }
            Self::Socket(_) => "stop the other edge on this data folder",
            Self::Log(_) => "write it as in: --log info,edge=debug",
            Self::Idp(_) | Self::Io(_) => "see the cause above",
        }
    }
}
