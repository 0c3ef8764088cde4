//! What surrounds a request: where an address is, what browser a header names. Never fails one.

use std::net::IpAddr;
use std::path::Path;

use crate::model::session::{Place, UserAgent};

/// Parses `User-Agent` headers, cached and bounded.
#[derive(Debug)]
pub(crate) struct UserAgents;

impl UserAgents {
    /// With the operator's own patterns, or those in the binary.
    pub(crate) fn new(_regexes: Option<&Path>) -> Self {
        Self
    }

    pub(crate) async fn parse(&self, _raw: &str) -> UserAgent {
        unimplemented!()
    }
}

/// Looks addresses up in the operator's MMDB file.
#[derive(Debug)]
pub(crate) struct GeoIp;

impl GeoIp {
    /// A file that cannot be read means "no place", with one logged error.
    pub(crate) fn open(_file: Option<&Path>) -> Self {
        Self
    }

    pub(crate) fn place(&self, _address: IpAddr) -> Option<Place> {
        None
    }

    /// Reads the file again where it changed. Blocking.
    pub(crate) fn reload(&self) {}
}
