//! The proof that an edge is the one that was meant.
//!
//! A pinned link CA is a trust anchor of its own, made from its public key; the system's roots never
//! count. Every dial verifies anew: no resumption, no early data.

use std::sync::Arc;

use proto::version::{ALPN_AGENT, LINK_CA_COMMON_NAME};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{Der, TrustAnchor};

use super::Trust;

/// A configuration that accepts only certificates under `trust`.
///
/// # Errors
/// A sentence, when a given root is no usable certificate.
pub(super) fn client_config(trust: &Trust) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::LinkCa(public_key) => roots.roots.push(link_ca(public_key)),
        Trust::Roots(certificates) => {
            for certificate in certificates {
                roots
                    .add(certificate.clone())
                    .map_err(|error| format!("a given CA certificate is not usable: {error}"))?;
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_AGENT.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The link CA as a trust anchor: its one-attribute name and its Ed25519 key.
///
/// Both fields are the contents of their DER SEQUENCE, without its header: the verifier compares the
/// subject byte by byte with a certificate's issuer.
fn link_ca(public_key: &[u8; 32]) -> TrustAnchor<'static> {
    const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
    const UTF8_STRING: u8 = 0x0c;
    const SEQUENCE: u8 = 0x30;
    const SET: u8 = 0x31;
    // RFC 8410 §4: AlgorithmIdentifier { 1.3.101.112 }, then a BIT STRING with no unused bits.
    const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

    let mut attribute = COMMON_NAME.to_vec();
    attribute.extend(element(UTF8_STRING, LINK_CA_COMMON_NAME.as_bytes()));
    let subject = element(SET, &element(SEQUENCE, &attribute));
    let key = [ED25519, public_key].concat();
    TrustAnchor {
        subject: Der::from(subject),
        subject_public_key_info: Der::from(key),
        name_constraints: None,
    }
}

/// A DER element with a short length: everything here is far below 128 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    const _: () = assert!(LINK_CA_COMMON_NAME.len() < 100);
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let mut element = vec![tag, content.len() as u8];
    element.extend_from_slice(content);
    element
}
