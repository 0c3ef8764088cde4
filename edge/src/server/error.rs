//! Why an edge does not start, and what to do.

use std::io;
use std::net::SocketAddr;

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
    #[error(transparent)]
    Store(StoreError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on {address} for metrics")]
    Metrics {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("a certificate cannot be used")]
    Cert(#[from] CertError),
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
            | Self::Metrics { .. }
            | Self::Cert(_)
            | Self::Idp(_)
            | Self::Socket(_)
            | Self::Io(_) => 1,
        }
    }

    /// The sentence that says what to do.
    pub(crate) fn next_step(&self) -> String {
        let step = match self {
            Self::Config(error) => return error.next_step(),
            Self::Store(StoreError::Unreadable { .. }) => {
                "start it with the cluster key that the store was made with, or on another folder with --data-dir"
            }
            Self::Store(StoreError::NewerSchema { .. }) => {
                "start it with that newer edge, or on another folder with --data-dir"
            }
            Self::Store(StoreError::Full(_)) => "free space on its disk",
            Self::Store(StoreError::Unavailable(_) | StoreError::RevokedMeanwhile) => {
                "stop the other edge, if there is one, or see to it that this user may write there"
            }
            Self::Listen { .. } => {
                "choose another address with --listen, or stop what uses it (ports below 1024 need the right to bind them)"
            }
            Self::Metrics { .. } => "choose another address with --metrics, or stop what uses it",
            Self::Cert(_) => "make the data folder writable, or remove the file that is named",
            Self::Socket(_) => "stop the other edge on this data folder",
            Self::Log(TelemetryError::File { .. }) => {
                "name a file that this user may write with --access-log"
            }
            Self::Log(TelemetryError::Thread(_) | TelemetryError::Begun(_)) => {
                "see the cause above"
            }
            Self::Log(TelemetryError::Filter { .. }) => "write it as in: --log info,edge=debug",
            Self::Idp(_) | Self::Io(_) => "see the cause above",
        };
        step.to_owned()
    }
}
