//! Certificate files of the operator, read again when they change. Mounts of Kubernetes are links to
//! links whose end moves, so what a path leads to is compared, not the path.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::CertError;
use super::tls::provider;
use crate::clock::Clock;

/// Certificate files of the operator, picked up again when they change.
#[derive(Debug)]
pub(crate) struct FileCert {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    ends: Timestamp,
}

impl FileCert {
    /// Reads a chain and its key. Blocking.
    pub(crate) fn open(cert: &Path, key: &Path) -> Result<Self, CertError> {
        let loaded = load(cert, key)?;
        report_end(&loaded, cert);
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: ArcSwap::from_pointee(loaded),
        })
    }

    /// Whether a client would take the certificate for this name; wildcards count for one label.
    pub(crate) fn covers(&self, name: &str) -> bool {
        let current = self.current.load();
        let Some(leaf) = current.key.cert.first() else {
            return false;
        };
        ServerName::try_from(name).is_ok_and(|name| {
            ParsedCertificate::try_from(leaf)
                .is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
        })
    }

    /// When it expires.
    pub(crate) fn ends(&self) -> Timestamp {
        self.current.load().ends
    }

    /// Watches the files; never ends. A bad pair is logged and the old one kept.
    pub(crate) async fn follow(self: Arc<Self>) {
        self.follow_every(LOOK_EVERY).await;
    }

    pub(super) async fn follow_every(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watch = Watch::new();
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                this.look(&mut watch);
                watch
            });
            match looked.await {
                Ok(next) => watch = next,
                Err(error) => {
                    tracing::error!(%error, "looking at certificate files failed");
                    watch = Watch::new();
                }
            }
        }
    }

    /// Reads the pair again once it has changed and come to rest: files are written one by one.
    pub(super) fn look(&self, watch: &mut Watch) {
        let now = (Mark::of(&self.cert), Mark::of(&self.key));
        let rests = watch.seen.replace(now.clone()) == Some(now.clone());
        if rests && watch.read.as_ref() != Some(&now) {
            watch.read = Some(now);
            self.reload();
        }
        if Clock.monotonic().saturating_duration_since(watch.reported) >= REPORT_EVERY {
            watch.reported = Clock.monotonic();
            report_end(&self.current.load(), &self.cert);
        }
    }

    fn reload(&self) {
        match load(&self.cert, &self.key) {
            Ok(loaded) => {
                if loaded.key.cert != self.current.load().key.cert {
                    tracing::info!(file = %self.cert.display(), ends = %loaded.ends, "certificate read again");
                    report_end(&loaded, &self.cert);
                }
                self.current.store(Arc::new(loaded));
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "certificate files changed and cannot be used: the old certificate stays"
            ),
        }
    }

    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.load().key)
    }
}

/// What the watcher remembers between two looks.
#[derive(Debug)]
pub(super) struct Watch {
    /// The state of the files that was read last; `None` at first, since `open` did not note it.
    read: Option<Marks>,
    seen: Option<Marks>,
    reported: Instant,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            read: None,
            seen: None,
            reported: Clock.monotonic(),
        }
    }
}

type Marks = (Mark, Mark);

/// What tells one state of a file from the next.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Mark(Option<(u64, u64, u64, i64, i64)>);

impl Mark {
    fn of(path: &Path) -> Self {
        let read = |file: fs::Metadata| {
            (
                file.dev(),
                file.ino(),
                file.len(),
                file.mtime(),
                file.mtime_nsec(),
            )
        };
        Self(fs::metadata(path).ok().map(read))
    }
}

fn load(cert_path: &Path, key_path: &Path) -> Result<Loaded, CertError> {
    let unusable = |path: &Path, error: &dyn std::error::Error| CertError::Unusable {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let pem = read(cert_path)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(cert_path, &error))?;
    let Some(leaf) = chain.first() else {
        return Err(CertError::Empty {
            path: cert_path.to_owned(),
            what: "certificate",
        });
    };
    let ends = ends(leaf).ok_or_else(|| CertError::Unusable {
        path: cert_path.to_owned(),
        why: "its first certificate cannot be read".to_owned(),
    })?;
    let pem = zeroize::Zeroizing::new(read(key_path)?);
    let key = match PrivateKeyDer::from_pem_slice(&pem) {
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            return Err(CertError::Empty {
                path: key_path.to_owned(),
                what: "private key",
            });
        }
        outcome => outcome.map_err(|error| unusable(key_path, &error))?,
    };
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| unusable(key_path, &error))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) => Ok(Loaded {
            key: Arc::new(pair),
            ends,
        }),
        Err(rustls::Error::InconsistentKeys(_)) => Err(CertError::Mismatch {
            cert: cert_path.to_owned(),
            key: key_path.to_owned(),
        }),
        Err(error) => Err(unusable(cert_path, &error)),
    }
}

/// Reads a file of a size that certificates have.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CertError> {
    let attempt = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = attempt().map_err(|source| CertError::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it is larger than {} KiB", FILE_BYTES_MAX / 1024);
        return Err(CertError::Unusable {
            path: path.to_owned(),
            why,
        });
    }
    Ok(bytes)
}

fn ends(leaf: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
    Timestamp::from_second(leaf.validity().not_after.timestamp()).ok()
}

fn report_end(loaded: &Loaded, cert: &Path) {
    let left = loaded.ends.duration_since(Clock.now());
    if left <= SignedDuration::ZERO {
        tracing::error!(file = %cert.display(), ends = %loaded.ends, "certificate has expired");
    } else if left < REPORT_BEFORE {
        tracing::warn!(file = %cert.display(), ends = %loaded.ends, "certificate expires soon");
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(2);
const REPORT_EVERY: Duration = Duration::from_hours(24);
/// Whoever renews automatically has done so by then.
const REPORT_BEFORE: SignedDuration = SignedDuration::from_hours(14 * 24);
/// A chain is some KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
