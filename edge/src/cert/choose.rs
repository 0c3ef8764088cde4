//! Which certificate a server name gets.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{DevCa, FileCert};

/// Where web certificates come from.
#[derive(Clone, Debug)]
pub(crate) enum Web {
    Dev(Arc<DevCa>),
    Files(Arc<FileCert>),
}

/// Chooses by server name: the link's name gets the link certificate, all others a web one.
#[derive(Debug)]
pub(crate) struct Resolver {
    link_name: String,
    link: Arc<CertifiedKey>,
    web: Web,
}

impl Resolver {
    pub(crate) fn new(link_name: &str, link: Arc<CertifiedKey>, web: Web) -> Self {
        Self {
            link_name: link_name.to_owned(),
            link,
            web,
        }
    }
}

impl ResolvesServerCert for Resolver {
    /// `None` ends the handshake with an alert.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        if name.is_some_and(|name| name.eq_ignore_ascii_case(&self.link_name)) {
            return Some(Arc::clone(&self.link));
        }
        match &self.web {
            Web::Dev(ca) => ca.choose(name?),
            // The client sees what there is, and says itself what is wrong with it.
            Web::Files(files) => Some(files.current()),
        }
    }
}
