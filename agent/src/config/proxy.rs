//! Which HTTP proxy stands between this machine and an edge, if any. Pure: texts in, a decision out. What
//! a proxy's URL holds is secret: it is neither shown nor quoted in an error.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::SecretText;

/// The proxies that may be used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    /// The configuration file's: for everything, loopback included.
    explicit: Option<Proxy>,
    /// `HTTPS_PROXY`.
    environment: Option<Proxy>,
    /// `NO_PROXY`.
    except: Vec<Exception>,
}

/// An HTTP proxy that takes CONNECT.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<SecretText>,
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Exception {
    Everything,
    /// A name and every name below it.
    Name(String, Option<u16>),
    Network(IpAddr, u8),
}

impl Proxies {
    pub(crate) fn new(
        explicit: Option<Proxy>,
        environment: Option<Proxy>,
        no_proxy: Option<&str>,
    ) -> Self {
        let entries = no_proxy.unwrap_or_default().split([',', ' ']);
        Self {
            explicit,
            environment,
            except: entries.filter_map(Exception::parse).collect(),
        }
    }

    /// The proxy on the way to an edge. One that only the environment names is for other machines:
    /// nobody means it for this one.
    pub(crate) fn towards(&self, host: &str, port: u16) -> Option<&Proxy> {
        if let Some(explicit) = &self.explicit {
            return Some(explicit);
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let is_here = address.map_or_else(
            || host == "localhost" || host.ends_with(".localhost"),
            |address| address.to_canonical().is_loopback(),
        );
        let is_excepted = self
            .except
            .iter()
            .any(|exception| exception.covers(&host, address, port));
        self.environment
            .as_ref()
            .filter(|_| !is_here && !is_excepted)
    }

    /// Somebody named a proxy for this agent: there is no way around it.
    pub(crate) fn is_explicit(&self) -> bool {
        self.explicit.is_some()
    }
}

impl Proxy {
    /// Reads `http://name:password@host:port`, also without the scheme.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let url = url::Url::parse(&with_scheme).map_err(|_| "it is no URL")?;
        match url.scheme() {
            "http" => {}
            "https" => return Err("a proxy that is itself spoken to over https does not work yet"),
            _ => return Err("only http:// proxies work"),
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("it has more than a host and a port");
        }
        let host = url.host().ok_or("it names no host")?.to_string();
        let has_login = !url.username().is_empty() || url.password().is_some();
        let authorization = has_login.then(|| {
            let mut login = decoded(url.username());
            login.push(b':');
            login.extend(decoded(url.password().unwrap_or_default()));
            SecretText::new(format!("Basic {}", STANDARD.encode(login)))
        });
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            authorization,
        })
    }

    /// The header's value: not to be logged or shown.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_ref().map(SecretText::expose)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Exception {
    /// `*`, an address, a network, a name with or without a dot before it, each of them with a port or
    /// none. What is none of these covers nothing.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::Network(address, bits(address)));
        }
        if let Some((address, length)) = text.split_once('/') {
            let address = address.parse().ok()?;
            let length = length
                .parse()
                .ok()
                .filter(|length| *length <= bits(address))?;
            return Some(Self::Network(address, length));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        let name = name.trim_start_matches('*').trim_matches('.');
        (!name.is_empty()).then(|| Self::Name(name.to_owned(), port))
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Network(network, length) => {
                address.is_some_and(|address| is_within(address, *network, *length))
            }
            Self::Name(name, only) => {
                let is_below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|front| front.is_empty() || front.ends_with('.'));
                is_below && only.is_none_or(|only| only == port)
            }
        }
    }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (
            u128::from(u32::from(address)),
            u128::from(u32::from(network)),
            32,
        ),
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (u128::from(address), u128::from(network), 128)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let rest = u32::from(width - length.min(width));
    // All bits are the rest: every address is within.
    address.checked_shr(rest) == network.checked_shr(rest)
}

/// Bytes of a part of a URL, with `%41` as `A`.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high << 4 | low);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests;
