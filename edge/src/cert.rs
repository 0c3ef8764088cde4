//! Certificates by name: the operator's files, the development CA, the link CA of agents.
//!
//! No HTTP here. The TLS configurations of the edge are built in this module only.

mod choose;
mod dev_ca;
mod error;
mod files;
mod link_ca;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use choose::{Resolver, Web};
pub(crate) use dev_ca::DevCa;
pub(crate) use error::CertError;
pub(crate) use files::FileCert;
pub(crate) use link_ca::LinkCa;
pub(crate) use tls::{Public, quic_config};
