//! The one registered client, and where its logins may return to.

use std::fmt;

use url::{Host, Url};

/// A confidential client.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) redirects: Redirects,
}

impl Client {
    /// Whether these are its credentials.
    pub(super) fn is_proven(&self, id: &str, secret: &str) -> bool {
        let same_secret = aws_lc_rs::constant_time::verify_slices_are_equal(
            secret.as_bytes(),
            self.secret.as_bytes(),
        );
        id == self.id && same_secret.is_ok()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("redirects", &self.redirects)
            .finish_non_exhaustive()
    }
}

/// Which redirect URIs are accepted.
#[derive(Debug)]
pub(super) enum Redirects {
    /// Exactly these.
    Listed(Vec<String>),
    /// Any whose host cannot be another machine.
    ThisMachine,
}

impl Redirects {
    pub(super) fn new(listed: Vec<String>) -> Self {
        if listed.is_empty() {
            Self::ThisMachine
        } else {
            Self::Listed(listed)
        }
    }

    pub(super) fn accept(&self, uri: &str) -> bool {
        match self {
            Self::Listed(listed) => listed.iter().any(|one| one == uri),
            Self::ThisMachine => Url::parse(uri).is_ok_and(|url| is_this_machine(&url)),
        }
    }
}

fn is_this_machine(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(addr)) => addr.is_loopback(),
        Some(Host::Ipv6(addr)) => addr.is_loopback(),
        None => false,
    };
    is_loopback
        && matches!(url.scheme(), "http" | "https")
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}
