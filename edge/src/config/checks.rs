//! From the file's keys, flags and environment to settings: parsing, defaults, and everything that
//! is refused, with the place at fault.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use super::file::Source;
use super::links::links;
use super::{
    At, CertificateFiles, ConfigError, ENV_KEY, ENV_KEY_FILE, KeyEnvironment, KeySource, Overrides,
    Settings, default_data_dir, duration,
};
use crate::secret::ClusterKey;

pub(super) fn settings(
    source: &Source,
    overrides: Overrides,
    environment: KeyEnvironment,
) -> Result<Settings, ConfigError> {
    let (listen, listen_at) = listen(source, overrides.listen)?;
    let metrics = metrics(source, overrides.metrics)?;
    let domain = chosen_domain(source, overrides.domain)?;
    let certificate = certificate(source)?;
    if !listen.ip().is_loopback() {
        public(&listen_at, domain.as_ref(), certificate.as_ref())?;
    }
    if let (Some(files), None) = (&certificate, &domain) {
        return Err(refused(
            files.at.clone(),
            "certificate files are for a domain of your own: set domain",
        ));
    }
    let data_dir = overrides
        .data_dir
        .or_else(|| {
            source
                .keys
                .data_dir
                .as_ref()
                .map(|path| source.resolve(&path.value))
        })
        .or_else(default_data_dir)
        .ok_or(ConfigError::NoHome)?;
    let time = |key, value, default, range| time(source, key, value, default, range);
    let keys = &source.keys;
    let session_life = time(
        "session_life",
        keys.session_life.as_ref(),
        SESSION_LIFE,
        LIFE_RANGE,
    )?;
    Ok(Settings {
        listen,
        workers: workers(source)?,
        public_port: positive(source, "public_port", keys.public_port.as_ref())?,
        geoip: existing(source, "geoip", keys.geoip.as_ref())?,
        user_agent_regexes: existing(
            source,
            "user_agent_regexes",
            keys.user_agent_regexes.as_ref(),
        )?,
        header_timeout: time(
            "header_timeout",
            keys.header_timeout.as_ref(),
            HEADER_TIMEOUT,
            TIMEOUT_RANGE,
        )?,
        idle_timeout: time(
            "idle_timeout",
            keys.idle_timeout.as_ref(),
            IDLE_TIMEOUT,
            TIMEOUT_RANGE,
        )?,
        body_timeout: time(
            "body_timeout",
            keys.body_timeout.as_ref(),
            BODY_TIMEOUT,
            TIMEOUT_RANGE,
        )?,
        connections_per_address: positive(
            source,
            "connections_per_address",
            keys.connections_per_address.as_ref(),
        )?
        .unwrap_or(CONNECTIONS_PER_ADDRESS),
        exchanges_max: positive(source, "exchanges_max", keys.exchanges_max.as_ref())?
            .unwrap_or(EXCHANGES_MAX),
        links: links(source)?,
        advertise: advertise(source)?,
        metrics,
        access_log: overrides.access_log.or_else(|| {
            let path = source.keys.access_log.as_ref()?;
            Some(source.resolve(&path.value))
        }),
        session_idle: session_idle(source, session_life)?,
        session_life,
        cluster_key: key_source(source, environment)?,
        data_dir: absolute(data_dir)?,
        domain: domain.map(|(domain, _)| domain),
        certificate,
    })
}

fn listen(source: &Source, flag: Option<SocketAddr>) -> Result<(SocketAddr, At), ConfigError> {
    if let Some(address) = flag {
        return Ok((address, At::Flag("--listen")));
    }
    let Some(text) = &source.keys.listen else {
        return Ok((LISTEN, At::Default("listen")));
    };
    let at = source.at("listen", text);
    let examples = "127.0.0.1:8443, 0.0.0.0:443 or [::]:443";
    Ok((address(&text.value, &at, examples)?, at))
}

/// The listener for metrics, where one is wanted.
fn metrics(source: &Source, flag: Option<SocketAddr>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = source.keys.metrics.as_ref().filter(|_| flag.is_none()) else {
        return Ok(flag);
    };
    let at = source.at("metrics", text);
    address(&text.value, &at, "127.0.0.1:9600 or [::1]:9600").map(Some)
}

fn address(text: &str, at: &At, examples: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        let message = format!("{text:?} is no ADDRESS:PORT; such as {examples}");
        refused(at.clone(), &message)
    })
}

fn chosen_domain(
    source: &Source,
    flag: Option<String>,
) -> Result<Option<(String, At)>, ConfigError> {
    let (text, at) = match (flag, &source.keys.domain) {
        (Some(text), _) => (text, At::Flag("--domain")),
        (None, Some(text)) => (text.value.clone(), source.at("domain", text)),
        (None, None) => return Ok(None),
    };
    let text = text.to_ascii_lowercase();
    match domain(&text) {
        Ok(()) => Ok(Some((text, at))),
        Err(message) => Err(refused(at, &message)),
    }
}

/// Whether endpoints can live under this domain.
pub(super) fn domain(text: &str) -> Result<(), String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text == "localhost" {
        return Err("browsers accept no certificate for *.localhost: use a word in front, such as demo.localhost".to_owned());
    }
    if text.len() > DOMAIN_BYTES_MAX || !text.split('.').all(is_label) {
        return Err(format!(
            "{text:?} is no domain: labels of a-z, 0-9 and - with dots between them"
        ));
    }
    if !text.contains('.') || text.parse::<IpAddr>().is_ok() {
        return Err(format!(
            "{text:?} cannot have endpoints below it: give a domain of two labels or more"
        ));
    }
    Ok(())
}

/// What an address that others can reach needs.
fn public(
    listen_at: &At,
    domain: Option<&(String, At)>,
    certificate: Option<&CertificateFiles>,
) -> Result<(), ConfigError> {
    let Some((domain, domain_at)) = domain else {
        return Err(refused(
            listen_at.clone(),
            "an address beyond loopback needs a domain of your own: set domain",
        ));
    };
    if domain == "localhost" || domain.ends_with(".localhost") {
        return Err(refused(
            domain_at.clone(),
            "names under .localhost lead every machine to itself: an address beyond loopback needs a domain of your own",
        ));
    }
    if certificate.is_none() {
        return Err(refused(
            listen_at.clone(),
            "an address beyond loopback needs certificate files that browsers trust: set certificate.cert and certificate.key",
        ));
    }
    Ok(())
}

fn certificate(source: &Source) -> Result<Option<CertificateFiles>, ConfigError> {
    let Some(files) = &source.keys.certificate else {
        return Ok(None);
    };
    let file = |key, path: &Spanned<PathBuf>| {
        let found = source.resolve(&path.value);
        readable(&found).map_err(|message| refused(source.at(key, path), &message))?;
        Ok(found)
    };
    let cert = file("certificate.cert", &files.value.cert)?;
    let key = file("certificate.key", &files.value.key)?;
    if cert == key {
        let at = source.at("certificate.key", &files.value.key);
        return Err(refused(
            at,
            "certificate and private key are the same file; a private key belongs into one of its own",
        ));
    }
    let at = source.at("certificate.cert", &files.value.cert);
    Ok(Some(CertificateFiles { cert, key, at }))
}

fn readable(path: &Path) -> Result<(), String> {
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(data) if data.is_file() => Ok(()),
        Ok(_) => Err(format!("{} is no file", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

fn existing(
    source: &Source,
    key: &'static str,
    value: Option<&Spanned<PathBuf>>,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = value else { return Ok(None) };
    let found = source.resolve(&path.value);
    readable(&found).map_err(|message| refused(source.at(key, path), &message))?;
    Ok(Some(found))
}

fn advertise(source: &Source) -> Result<Vec<String>, ConfigError> {
    let Some(addrs) = &source.keys.advertise else {
        return Ok(Vec::new());
    };
    let at = || source.at("advertise", addrs);
    if addrs.value.is_empty() || addrs.value.len() > proto::limits::AUTHTOKEN_ADDRS_MAX {
        let message = format!(
            "1 to {} addresses are wanted",
            proto::limits::AUTHTOKEN_ADDRS_MAX
        );
        return Err(refused(at(), &message));
    }
    if let Some(addr) = addrs
        .value
        .iter()
        .find(|addr| !proto::authtoken::is_addr(addr))
    {
        return Err(refused(at(), &format!("{addr:?} is no HOST:PORT")));
    }
    Ok(addrs.value.clone())
}

fn workers(source: &Source) -> Result<usize, ConfigError> {
    let Some(workers) = &source.keys.workers else {
        return Ok(std::thread::available_parallelism().map_or(1, usize::from));
    };
    if (1..=WORKERS_MAX).contains(&workers.value) {
        Ok(workers.value)
    } else {
        Err(refused(
            source.at("workers", workers),
            &format!("1 to {WORKERS_MAX} are possible; the number of cores is best"),
        ))
    }
}

fn positive<T: Copy + Default + PartialEq>(
    source: &Source,
    key: &'static str,
    value: Option<&Spanned<T>>,
) -> Result<Option<T>, ConfigError> {
    match value {
        Some(number) if number.value == T::default() => {
            Err(refused(source.at(key, number), "0 is not possible here"))
        }
        Some(number) => Ok(Some(number.value)),
        None => Ok(None),
    }
}

fn time(
    source: &Source,
    key: &'static str,
    value: Option<&Spanned<String>>,
    default: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration, ConfigError> {
    let Some(text) = value else {
        return Ok(default);
    };
    match duration::parse(&text.value) {
        Some(time) if (least..=most).contains(&time) => Ok(time),
        Some(_) => {
            let message = format!(
                "{} to {} are possible",
                duration::text(least),
                duration::text(most)
            );
            Err(refused(source.at(key, text), &message))
        }
        None => Err(refused(
            source.at(key, text),
            &format!(
                "{:?} is no duration; such as 90s, 30m, 24h or 7d",
                text.value
            ),
        )),
    }
}

fn session_idle(source: &Source, life: Duration) -> Result<Option<Duration>, ConfigError> {
    let key = "session_idle";
    let value = source.keys.session_idle.as_ref();
    match value {
        Some(text) if text.value == "off" => return Ok(None),
        // A short life brings a short pause with it, unless somebody says otherwise.
        None => return Ok(Some(SESSION_IDLE.min(life))),
        Some(_) => {}
    }
    let idle = time(source, key, value, SESSION_IDLE, LIFE_RANGE)?;
    match value {
        Some(text) if idle > life => {
            let message = format!(
                "longer than session_life ({}): it would never be reached",
                duration::text(life)
            );
            Err(refused(source.at(key, text), &message))
        }
        Some(_) | None => Ok(Some(idle)),
    }
}

/// One place for the key: two would leave open which one counts.
fn key_source(source: &Source, environment: KeyEnvironment) -> Result<KeySource, ConfigError> {
    let file = source.keys.cluster_key_file.as_ref();
    match (environment.key, environment.file, file) {
        (Some(_), Some(_), _) => Err(refused(
            At::Environment(ENV_KEY_FILE),
            &format!("{ENV_KEY} is set too: keep one of them"),
        )),
        (Some(_), None, Some(file)) | (None, Some(_), Some(file)) => Err(refused(
            source.at("cluster_key_file", file),
            "the environment names a cluster key too: keep one of them",
        )),
        (Some(key), None, None) => match ClusterKey::parse(key.expose()) {
            Some(_) => Ok(KeySource::Given(key)),
            None => Err(ConfigError::Key {
                at: At::Environment(ENV_KEY),
            }),
        },
        (None, Some(path), None) => {
            readable(&path).map_err(|message| refused(At::Environment(ENV_KEY_FILE), &message))?;
            Ok(KeySource::File(path))
        }
        (None, None, Some(file)) => {
            let path = source.resolve(&file.value);
            readable(&path)
                .map_err(|message| refused(source.at("cluster_key_file", file), &message))?;
            Ok(KeySource::File(path))
        }
        (None, None, None) => Ok(KeySource::Folder),
    }
}

/// What the edge prints must work from any folder.
fn absolute(path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|source| ConfigError::Folder { path, source })
}

pub(super) fn refused(at: At, message: &str) -> ConfigError {
    ConfigError::Refused {
        at,
        message: message.to_owned(),
    }
}

pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);
pub(super) const SESSION_LIFE: Duration = Duration::from_hours(24);
pub(super) const SESSION_IDLE: Duration = Duration::from_hours(4);
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
pub(super) const BODY_TIMEOUT: Duration = Duration::from_mins(5);
/// Each holds tens of kilobytes while it moves, and little while it is quiet.
pub(super) const EXCHANGES_MAX: u32 = 32_768;
pub(super) const CONNECTIONS_PER_ADDRESS: u32 = 1024;
/// A year: longer sessions are forgotten ones.
const LIFE_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(366 * 24));
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
const WORKERS_MAX: usize = 1024;
/// A label of 63 and its dot must fit in front (RFC 1035: 253 in all).
const DOMAIN_BYTES_MAX: usize = 253 - 64;
