//! The development CA: made at first start, kept in the data folder, and good for one domain only,
//! so that a browser that trusts it loses little.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use super::CertError;
use super::files::read;
use super::tls::{certified, set_validity};
use crate::clock::Clock;

/// A CA of this data folder that issues by server name, for loopback only.
pub(crate) struct DevCa {
    file: PathBuf,
    domain: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    issued: Cache<String, Arc<CertifiedKey>>,
}

impl DevCa {
    /// Opens the CA of this folder, or makes one: where there is none, where it is for another
    /// domain, and before it expires.
    pub(crate) fn open(data_dir: &Path, domain: &str) -> Result<Self, CertError> {
        let file = data_dir.join("dev-ca.pem");
        let key_file = data_dir.join("dev-ca.key");
        let domain = domain.to_ascii_lowercase();
        let (certificate, key) = match load(&file, &key_file, &domain)? {
            Some(known) => known,
            None => make(data_dir, &file, &key_file, &domain)?,
        };
        Ok(Self {
            file,
            domain,
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
            issued: Cache::builder()
                .max_capacity(NAMES_MAX)
                .time_to_live(REISSUE)
                .build(),
        })
    }

    /// The CA's certificate, for browsers to trust.
    pub(crate) fn certificate_file(&self) -> &Path {
        &self.file
    }

    /// The certificate for a server name: the domain itself or one label below it.
    pub(super) fn choose(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        if !self.covers(&name) {
            return None;
        }
        let issued = self.issued.try_get_with_by_ref(&name, || self.issue(&name));
        issued
            .inspect_err(|error| {
                tracing::error!(
                    error = &**error as &dyn std::error::Error,
                    "development certificate not issued"
                );
            })
            .ok()
    }

    fn covers(&self, name: &str) -> bool {
        name == self.domain
            || name
                .strip_suffix(self.domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(is_label)
    }

    fn issue(&self, name: &str) -> Result<Arc<CertifiedKey>, CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        // The name is in the subjectAltName; a common name may have 64 characters only.
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, ORGANISATION);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, Clock.now(), LEAF_LIFE);
        let leaf = params.signed_by(&key, &self.issuer)?;
        certified(vec![leaf.der().clone(), self.certificate.clone()], &key)
    }
}

impl fmt::Debug for DevCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevCa")
            .field("file", &self.file)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

type Pair = (CertificateDer<'static>, KeyPair);

/// What is in the folder, where it still serves.
fn load(file: &Path, key_file: &Path, domain: &str) -> Result<Option<Pair>, CertError> {
    if !(file.exists() && key_file.exists()) {
        return Ok(None);
    }
    let again = "remove it to have a new one made";
    let unusable = |path: &Path, why: &str| CertError::Unusable {
        path: path.to_owned(),
        why: format!("{why}; {again}"),
    };
    let certificate = CertificateDer::from_pem_slice(&read(file)?)
        .map_err(|error| unusable(file, &error.to_string()))?;
    let pem = read(key_file)?;
    let key = std::str::from_utf8(&pem)
        .ok()
        .and_then(|pem| KeyPair::from_pem(pem).ok())
        .ok_or_else(|| unusable(key_file, "it is not a private key in PEM form"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
        .map_err(|_| unusable(file, "it is not a certificate"))?;

    let serves = parsed.public_key().raw == key.subject_public_key_info()
        && parsed.validity().not_after.timestamp() > later(Clock.now(), RENEW_BEFORE)
        && constrained_to(&parsed).is_some_and(|known| known == domain);
    if !serves {
        tracing::warn!(file = %file.display(), "development CA is for another domain or expires: a new one is made");
        return Ok(None);
    }
    Ok(Some((certificate, key)))
}

fn constrained_to<'a>(
    certificate: &'a x509_parser::certificate::X509Certificate<'_>,
) -> Option<&'a str> {
    let constraints = certificate.name_constraints().ok()??;
    let [only] = constraints.value.permitted_subtrees.as_deref()? else {
        return None;
    };
    if let GeneralName::DNSName(name) = only.base {
        Some(name)
    } else {
        None
    }
}

fn make(data_dir: &Path, file: &Path, key_file: &Path, domain: &str) -> Result<Pair, CertError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, ORGANISATION);
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Sallyport development CA ({domain})"),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
        // Without this, addresses would be unconstrained (RFC 5280 §4.2.1.10).
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    set_validity(&mut params, Clock.now(), CA_LIFE);
    let certificate = params.self_signed(&key)?;

    fs::create_dir_all(data_dir).map_err(|source| CertError::Write {
        path: data_dir.to_owned(),
        source,
    })?;
    // The key first: a certificate without its key would be trusted and useless.
    write(key_file, 0o600, &key.serialize_pem())?;
    write(file, 0o644, &certificate.pem())?;
    tracing::info!(file = %file.display(), "development CA made");
    Ok((certificate.der().clone(), key))
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, mode: u32, text: &str) -> Result<(), CertError> {
    let attempt = || -> io::Result<()> {
        let new = path.with_added_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    attempt().map_err(|source| CertError::Write {
        path: path.to_owned(),
        source,
    })
}

fn later(now: Timestamp, by: Duration) -> i64 {
    now.as_second()
        .saturating_add(i64::try_from(by.as_secs()).unwrap_or(i64::MAX))
}

/// RFC 5890 §2.3.1: letters, digits and hyphens, none at an end.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

const ORGANISATION: &str = "Sallyport";
/// Server names whose certificates are kept: whoever connects can ask for any.
const NAMES_MAX: u64 = 1000;
const CA_LIFE: Duration = Duration::from_hours(5 * 365 * 24);
/// A CA this near its end is replaced at start.
const RENEW_BEFORE: Duration = Duration::from_hours(30 * 24);
/// Chromium takes at most 397 days.
const LEAF_LIFE: Duration = Duration::from_hours(60 * 24);
const REISSUE: Duration = Duration::from_hours(7 * 24);
