//! The certificate that this agent ends TLS with: read from its files, and read again when they change,
//! so that a renewal needs no restart.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Ends TLS with the pair that the files held last.
pub(crate) struct EndsTls {
    cert: PathBuf,
    key: PathBuf,
    current: Mutex<Arc<ServerConfig>>,
}

impl EndsTls {
    /// Reads what to end TLS with. Blocking.
    ///
    /// # Errors
    /// A sentence that names the file at fault.
    pub(crate) fn open(cert: &Path, key: &Path) -> Result<Self, String> {
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: Mutex::new(read(cert, key)?),
        })
    }

    /// With the certificate as it is now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    /// Watches the files; never ends. `say` hears how each reading of changed files went; a pair that
    /// cannot be used leaves the old one in its place.
    pub(crate) async fn follow(self: Arc<Self>, say: impl Fn(Result<(), String>)) {
        let mut watch = Watch::default();
        loop {
            let this = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                let read = this.look(&mut watch);
                (watch, read)
            });
            // It does not panic; if it does, everything is read again.
            let (next, read) = looked.await.unwrap_or_default();
            watch = next;
            if let Some(read) = read {
                say(read);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads the pair again once it has changed and come to rest: files are written one by one.
    fn look(&self, watch: &mut Watch) -> Option<Result<(), String>> {
        let now = (Mark::of(&self.cert), Mark::of(&self.key));
        let rests = watch.seen.replace(now.clone()) == Some(now.clone());
        if !rests || watch.read.as_ref() == Some(&now) {
            return None;
        }
        let is_first = watch.read.replace(now).is_none();
        let read = read(&self.cert, &self.key).map(|config| {
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
        });
        // The first look finds what was opened, or what came just after: no news, if it is good.
        (!is_first || read.is_err()).then_some(read)
    }
}

/// What is remembered between two looks.
#[derive(Default)]
struct Watch {
    read: Option<(Mark, Mark)>,
    seen: Option<(Mark, Mark)>,
}

/// What tells one state of a file from the next, however the path leads to it.
#[derive(Clone, Eq, PartialEq)]
struct Mark(Option<(u64, u64, u64, i64, i64)>);

impl Mark {
    fn of(path: &Path) -> Self {
        let read = |file: fs::Metadata| {
            let time = (file.mtime(), file.mtime_nsec());
            (file.dev(), file.ino(), file.len(), time.0, time.1)
        };
        Self(fs::metadata(path).ok().map(read))
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| format!("the certificate {} cannot be read: {error}", cert.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate", cert.display()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("the key {} cannot be read: {error}", key.display()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|error| {
            format!(
                "{} and {} are no pair that TLS can be ended with: {error}",
                cert.display(),
                key.display()
            )
        })?;
    Ok(Arc::new(config))
}

const LOOK_EVERY: Duration = Duration::from_secs(2);
