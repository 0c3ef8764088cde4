//! The CA of agent links. Its key follows from the cluster key, so every edge has the same one, and
//! an authtoken that pins it stays good while web certificates come and go.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use proto::version::LINK_CA_COMMON_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::CertError;
use super::dev_ca::write;
use super::tls::{certified, set_validity};
use crate::clock::Clock;

/// Makes the certificates that agents verify: an Ed25519 key from the cluster key, so that every
/// edge has the same CA and tokens stay good.
pub(crate) struct LinkCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    public_key: [u8; 32],
}

impl LinkCa {
    pub(crate) fn new(seed: &[u8; 32]) -> Result<Self, CertError> {
        // RFC 8410 §7: a PKCS #8 wrapper whose only content is the seed.
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        pkcs8.extend_from_slice(&PKCS8_PREFIX);
        pkcs8.extend_from_slice(seed);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8.as_slice()),
            &PKCS_ED25519,
        )?;
        let public_key = key
            .public_key_raw()
            .try_into()
            .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;

        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, LINK_CA_COMMON_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Agents trust name and key, not this certificate: fixed dates make it the same everywhere.
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(2125, 1, 1);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            public_key,
        })
    }

    /// Puts the certificate into the data folder, for agents that are told to trust it with `--ca`
    /// instead of by their authtoken. Blocking.
    pub(crate) fn keep(&self, data_dir: &Path) -> Result<(), CertError> {
        let file = data_dir.join("link-ca.pem");
        if fs::read_to_string(&file).is_ok_and(|text| text == self.pem) {
            return Ok(());
        }
        write(&file, 0o644, &self.pem)
    }

    /// The raw public key, which authtokens pin.
    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// A fresh certificate and key for `connect.<domain>`. Good for a year from now: an edge makes
    /// one at each start and keeps it, so this is the longest that it may run.
    pub(crate) fn issue(&self, name: &str) -> Result<Arc<CertifiedKey>, CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, Clock.now(), LIFE);
        let leaf = params.signed_by(&key, &self.issuer)?;
        certified(vec![leaf.der().clone(), self.certificate.clone()], &key)
    }
}

impl fmt::Debug for LinkCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkCa(…)")
    }
}

const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const LIFE: Duration = Duration::from_hours(365 * 24);
