//! What the agent is told: flags, environment and file, checked into one [`Config`].
//!
//! `yaml` gives a tree with lines, `file` and `door` say what the keys mean, `token` chooses the authtoken, `edit`
//! writes it. Flags win over the environment, and that over the file. No sockets, no addresses looked
//! up. The authtoken is never shown: not by `Debug`, not in an error.

pub(crate) mod door;
mod edit;
mod file;
mod link;
mod proxy;
mod token;
mod tuning;
mod yaml;

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::authtoken::Authtoken;
use proto::bind::{LoginOptions, UpstreamProtocol};
use proto::code::Code;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

pub(crate) use door::{CertificateFiles, DoorConfig};
pub(crate) use link::LinkChoice;
pub(crate) use proxy::{Proxies, Proxy};
pub(crate) use token::{Environment, SecretText};
use token::{TokenSource, choose_authtoken, parse_authtoken};
pub(crate) use tuning::{Congestion, Tuning};

/// Everything that one run needs. Upstreams are still text: whoever dials reads them.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What to serve; at least one.
    pub(crate) endpoints: Vec<EndpointConfig>,
    /// Where edges are, instead of where the authtoken says.
    pub(crate) connect_urls: Vec<String>,
    /// Roots to trust instead of the authtoken's pin.
    pub(crate) ca: Option<Vec<CertificateDer<'static>>>,
    /// Where the instance id is kept; none when there is no home folder.
    pub(crate) folder: Option<PathBuf>,
    /// Which link to take.
    pub(crate) link: LinkChoice,
    /// Which HTTP proxy may stand between.
    pub(crate) proxies: Proxies,
    /// The first pause before QUIC is tried again where TLS had to do.
    pub(crate) quic_retry: Duration,
    /// The first failure ends the agent.
    pub(crate) is_fail_fast: bool,
    pub(crate) tuning: Tuning,
    authtoken: Option<(SecretText, TokenSource)>,
    file: Option<PathBuf>,
}

/// One wish to serve a local app.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EndpointConfig {
    /// Its name in the file.
    pub(crate) name: Option<String>,
    /// The local app's address as it was written.
    pub(crate) upstream: String,
    /// Where it was written, `file:line:column`; none for a flag.
    pub(crate) place: Option<String>,
    /// The wanted name or URL; none for a readable random one.
    pub(crate) url: Option<String>,
    /// Other agents of the authtoken may serve beside this one.
    pub(crate) pooling: bool,
    /// The login in front of it.
    pub(crate) login: Option<LoginOptions>,
    /// How the local app is spoken to.
    pub(crate) speak: SpeakConfig,
    /// The public side.
    pub(crate) door: DoorConfig,
}

/// How a local app is spoken to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SpeakConfig {
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) host_header: HostHeader,
    /// Whether an https app must prove who it is.
    pub(crate) tls_verify: bool,
    /// Roots to believe an https app by, instead of this machine's.
    pub(crate) ca: Option<PathBuf>,
}

/// Which `Host` the local app gets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum HostHeader {
    /// What the visitor named.
    #[default]
    Preserve,
    /// The local app's own address.
    Rewrite,
    /// This one.
    Fixed(String),
}

/// A place in the configuration file, both counted from 1; zero when unknown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// What the flags say.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) file: Option<PathBuf>,
    pub(crate) wanted: Wanted,
    pub(crate) connect_urls: Vec<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) link: Option<LinkChoice>,
    pub(crate) is_fail_fast: bool,
}

/// Which endpoints to serve.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The one that the flags describe.
    This(Box<EndpointConfig>),
    /// Those of the file with these names.
    Named(Vec<String>),
    /// All of the file.
    All,
}

/// Why the agent cannot start with what it was told: one sentence, and what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ConfigError {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) next_step: String,
}

/// What `config check` tells.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) path: PathBuf,
    pub(crate) endpoints: Vec<EndpointConfig>,
    /// Its id; the rest is secret.
    pub(crate) authtoken: Option<String>,
    /// Others on this machine may read the file.
    pub(crate) is_exposed: bool,
}

impl Config {
    /// Reads the file and puts everything together. The authtoken is judged by
    /// [`Config::authtoken`] only, so that a slip in the endpoint is told first.
    pub(crate) fn load(given: Given, environment: &Environment) -> Result<Self, ConfigError> {
        let path = path_of(given.file.as_deref(), environment);
        let is_named = given.file.is_some() || environment.file.is_some();
        let (file, read_from) = match &path {
            Some(path) => (read_file(path, is_named)?, Some(path.as_path())),
            None => (file::FileConfig::default(), None),
        };
        let endpoints = match given.wanted {
            Wanted::This(endpoint) => vec![*endpoint],
            Wanted::Named(names) => named(&file.endpoints, names, read_from)?,
            Wanted::All if file.endpoints.is_empty() => {
                return Err(ConfigError::invalid(
                    "the configuration file has no endpoints to start".to_owned(),
                    "add some under endpoints:, or give a port: agent 8080".to_owned(),
                ));
            }
            Wanted::All => file.endpoints,
        };
        let connect_urls = if given.connect_urls.is_empty() {
            let urls = file.connect_urls.into_iter();
            urls.map(|(url, place)| connect_addr(&url, read_from.map(|path| (path, place))))
                .collect::<Result<_, _>>()?
        } else {
            let urls = given.connect_urls.iter();
            urls.map(|url| connect_addr(url, None))
                .collect::<Result<_, _>>()?
        };
        let ca = match (given.ca, file.ca) {
            (Some(path), _) => Some(read_ca(&path, INSTEAD_OF_CA)?),
            (None, Some((path, _))) => Some(read_ca(Path::new(&path), INSTEAD_OF_CA)?),
            (None, None) => None,
        };
        let authtoken = choose_authtoken(environment, file.authtoken);
        let link = link::choose(given.link, environment, file.link)?;
        let proxies = link::proxies(link, environment, file.proxy_url, read_from)?;
        Ok(Self {
            endpoints,
            connect_urls,
            ca,
            link,
            proxies,
            quic_retry: link::quic_retry(environment)?,
            // The parent of `agent.yml` is the empty path, which names no folder.
            folder: path
                .as_deref()
                .and_then(Path::parent)
                .map(|folder| Path::new(".").join(folder)),
            is_fail_fast: given.is_fail_fast,
            tuning: file.tuning,
            authtoken,
            file: path,
        })
    }

    /// The authtoken, parsed.
    ///
    /// # Errors
    /// With the code that says whether it is missing, malformed or an API key, and where it came from.
    pub(crate) fn authtoken(&self) -> Result<Authtoken, ConfigError> {
        let Some((text, source)) = &self.authtoken else {
            return Err(ConfigError::of(
                Code::AuthtokenMissing,
                "there is no authtoken on this machine".to_owned(),
            ));
        };
        parse_authtoken(text, &source.describe(self.file.as_deref()))
    }
}

impl Default for SpeakConfig {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Http1,
            host_header: HostHeader::Preserve,
            tls_verify: true,
            ca: None,
        }
    }
}

impl From<&str> for HostHeader {
    /// `preserve`, `rewrite`, or a host.
    fn from(text: &str) -> Self {
        match text {
            "preserve" => Self::Preserve,
            "rewrite" => Self::Rewrite,
            host => Self::Fixed(host.to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl ConfigError {
    fn of(code: Code, message: String) -> Self {
        Self {
            code,
            message,
            next_step: code.next_step().to_owned(),
        }
    }

    fn invalid(message: String, next_step: String) -> Self {
        Self {
            code: Code::ConfigInvalid,
            message,
            next_step,
        }
    }

    fn unreadable(path: &Path, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            return Self::invalid(
                format!("{} does not exist", path.display()),
                "check the path, or make the file with: agent config add-authtoken TOKEN"
                    .to_owned(),
            );
        }
        Self::invalid(
            format!("{} cannot be read: {error}", path.display()),
            "check the path and its permissions".to_owned(),
        )
    }
}

/// Where the configuration file is: the flag, the environment, else the user's configuration folder.
pub(crate) fn path_of(flag: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    if let Some(path) = flag.or(environment.file.as_deref()) {
        return Some(path.to_owned());
    }
    let config_home = environment.config_home.clone();
    let folder = config_home.or_else(|| Some(environment.home.as_ref()?.join(".config")))?;
    Some(folder.join("sallyport").join("agent.yml"))
}

/// Writes the authtoken into the file, which is made if need be; gives the file's path.
pub(crate) fn add_authtoken(
    token: &SecretText,
    flag: Option<&Path>,
    environment: &Environment,
) -> Result<PathBuf, ConfigError> {
    Authtoken::parse(token.expose())
        .map_err(|code| ConfigError::of(code, code.meaning().to_owned()))?;
    let path = path_of(flag, environment).ok_or_else(no_home)?;
    edit::add_authtoken(&path, token)?;
    Ok(path)
}

/// Reads and judges the file.
pub(crate) fn check(
    flag: Option<&Path>,
    environment: &Environment,
) -> Result<Checked, ConfigError> {
    let path = path_of(flag, environment).ok_or_else(no_home)?;
    let file = read_file(&path, true)?;
    for (url, place) in &file.connect_urls {
        connect_addr(url, Some((&path, *place)))?;
    }
    if let Some((ca, _)) = &file.ca {
        read_ca(Path::new(ca), INSTEAD_OF_CA)?;
    }
    let authtoken = match &file.authtoken {
        Some(token) => Some(
            parse_authtoken(token, &path.display().to_string())?
                .id
                .to_string(),
        ),
        None => None,
    };
    let is_exposed = authtoken.is_some() && is_readable_by_others(&path);
    Ok(Checked {
        path,
        endpoints: file.endpoints,
        authtoken,
        is_exposed,
    })
}

/// There is nowhere to look for the file.
pub(crate) fn no_home() -> ConfigError {
    ConfigError::invalid(
        "there is no folder for the configuration file: neither XDG_CONFIG_HOME nor HOME is set"
            .to_owned(),
        "name a file with --config".to_owned(),
    )
}

fn read_file(path: &Path, must_exist: bool) -> Result<file::FileConfig, ConfigError> {
    let text = match read_text(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
            return Ok(file::FileConfig::default());
        }
        read => read.map_err(|error| ConfigError::unreadable(path, &error))?,
    };
    let mut file = file::read(&text).map_err(|wrong| wrong_file(path, &wrong))?;
    for endpoint in &mut file.endpoints {
        endpoint.place = endpoint
            .place
            .take()
            .map(|place| format!("{}:{place}", path.display()));
    }
    Ok(file)
}

fn read_text(path: &Path) -> io::Result<SecretString> {
    let mut text = Zeroizing::new(String::new());
    let file = fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(text)
}

type SecretString = Zeroizing<String>;

fn wrong_file(path: &Path, wrong: &yaml::Wrong) -> ConfigError {
    ConfigError::invalid(
        format!("{}: {}", at(path, wrong.place), wrong.why),
        "correct that line; check with: agent config check".to_owned(),
    )
}

fn at(path: &Path, place: Place) -> String {
    if place == Place::default() {
        return path.display().to_string();
    }
    format!("{}:{place}", path.display())
}

fn named(
    endpoints: &[EndpointConfig],
    names: Vec<String>,
    path: Option<&Path>,
) -> Result<Vec<EndpointConfig>, ConfigError> {
    let find = |name: String| {
        let found = endpoints
            .iter()
            .find(|endpoint| endpoint.name.as_deref() == Some(&name));
        found.cloned().ok_or_else(|| {
            let known: Vec<_> = endpoints
                .iter()
                .filter_map(|endpoint| endpoint.name.as_deref())
                .collect();
            let known = match known.as_slice() {
                [] => "add it under `endpoints` there".to_owned(),
                known => format!("choose one of these: {}", known.join(", ")),
            };
            let file = path.map_or_else(
                || "the configuration".to_owned(),
                |path| path.display().to_string(),
            );
            ConfigError::invalid(
                format!("there is no endpoint named {name:?} in {file}"),
                known,
            )
        })
    };
    names.into_iter().map(find).collect()
}

/// `host:port` of an edge, from that, a host alone (port 443), or an https URL.
fn connect_addr(text: &str, place: Option<(&Path, Place)>) -> Result<String, ConfigError> {
    let bare = text.trim().trim_end_matches('/');
    let bare = bare.strip_prefix("https://").unwrap_or(bare);
    let url = url::Url::parse(&format!("https://{bare}"));
    let usable = url.ok().filter(|url| {
        url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    let addr =
        usable.and_then(|url| Some(format!("{}:{}", url.host()?, url.port().unwrap_or(443))));
    addr.filter(|addr| !addr.ends_with(":0")).ok_or_else(|| {
        let front = place.map_or_else(String::new, |(path, place)| {
            format!("{}: ", at(path, place))
        });
        ConfigError::invalid(
            format!("{front}{text:?} is not usable as an edge's address"),
            "give it as host:port, such as connect.example.com:443".to_owned(),
        )
    })
}

/// The certificates of a PEM file. `instead` says what to do without one.
pub(crate) fn read_ca(
    path: &Path,
    instead: &str,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |why: String| {
        ConfigError::invalid(
            format!("the CA file {} {why}", path.display()),
            format!("give a file with PEM certificates, or {instead}"),
        )
    };
    let pem = fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong("is not readable as PEM".to_owned()))?;
    if certificates.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(certificates)
}

fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

const INSTEAD_OF_CA: &str = "leave --ca out to trust the authtoken's pin";
/// Far above any configuration, far below what would hurt.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests;
