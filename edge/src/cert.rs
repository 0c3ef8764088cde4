//! Certificates by name: the operator's files, the development CA, the link CA of agents.
//!
//! No HTTP here. The two TLS configurations of the edge are built in this module only.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// Makes the certificates that agents verify: an Ed25519 key from the cluster key, so that every
/// edge has the same CA and tokens stay good.
#[derive(Debug)]
pub(crate) struct LinkCa;

impl LinkCa {
    pub(crate) fn new(_seed: &[u8; 32]) -> Result<Self, CertError> {
        unimplemented!()
    }

    /// The raw public key, which authtokens pin.
    pub(crate) fn public_key(&self) -> [u8; 32] {
        unimplemented!()
    }

    /// A fresh certificate and key for `connect.<domain>`.
    pub(crate) fn issue(&self, _name: &str) -> Result<Arc<rustls::sign::CertifiedKey>, CertError> {
        unimplemented!()
    }
}

/// A CA of this data folder that issues by server name, for loopback only.
#[derive(Debug)]
pub(crate) struct DevCa;

impl DevCa {
    pub(crate) fn open(_data_dir: &Path, _domain: &str) -> Result<Self, CertError> {
        unimplemented!()
    }

    /// The CA's certificate, for browsers to trust.
    pub(crate) fn certificate_file(&self) -> &Path {
        unimplemented!()
    }
}

/// Certificate files of the operator, picked up again when they change.
#[derive(Debug)]
pub(crate) struct FileCert;

impl FileCert {
    pub(crate) fn open(_cert: &Path, _key: &Path) -> Result<Self, CertError> {
        unimplemented!()
    }

    pub(crate) fn covers(&self, _name: &str) -> bool {
        unimplemented!()
    }

    /// Watches the files; never ends. A bad pair is logged and the old one kept.
    pub(crate) async fn follow(self: Arc<Self>) {
        unimplemented!()
    }
}

/// Where web certificates come from.
#[derive(Clone, Debug)]
pub(crate) enum Web {
    Dev(Arc<DevCa>),
    Files(Arc<FileCert>),
}

/// Chooses by server name: the link's name gets the link certificate, all others a web one.
#[derive(Debug)]
pub(crate) struct Resolver;

impl Resolver {
    pub(crate) fn new(_link_name: &str, _link: Arc<rustls::sign::CertifiedKey>, _web: Web) -> Self {
        unimplemented!()
    }
}

/// TLS over TCP: 1.2 and 1.3, no early data.
pub(crate) fn tcp_config(
    _: Arc<Resolver>,
    _alpn: &[&[u8]],
) -> Result<Arc<rustls::ServerConfig>, CertError> {
    unimplemented!()
}

/// TLS in QUIC: 1.3 only, no early data.
pub(crate) fn quic_config(
    _: Arc<Resolver>,
    _alpn: &[&[u8]],
) -> Result<Arc<rustls::ServerConfig>, CertError> {
    unimplemented!()
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertError {
    #[error("certificate files")]
    Io(#[from] io::Error),
}
