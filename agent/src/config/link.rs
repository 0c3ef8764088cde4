//! Which link the agent takes to an edge, and through which proxy: flag, environment, file.

use std::path::Path;
use std::time::Duration;

use super::proxy::{Proxies, Proxy};
use super::token::Environment;
use super::yaml::Placed;
use super::{ConfigError, SecretText, at};

/// Which link to take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum LinkChoice {
    /// QUIC, and TLS where UDP does not get through
    #[default]
    Auto,
    /// QUIC over UDP only
    Quic,
    /// TLS over TCP only
    Tls,
}

impl LinkChoice {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "quic" => Some(Self::Quic),
            "tls" => Some(Self::Tls),
            _ => None,
        }
    }
}

/// The flag wins over the environment, and that over the file.
pub(super) fn choose(
    flag: Option<LinkChoice>,
    environment: &Environment,
    file: Option<LinkChoice>,
) -> Result<LinkChoice, ConfigError> {
    if let Some(flag) = flag {
        return Ok(flag);
    }
    if let Some(text) = &environment.link {
        return LinkChoice::parse(text).ok_or_else(|| {
            ConfigError::invalid(
                format!("SALLYPORT_LINK is {text:?}"),
                "set it to auto, quic or tls".to_owned(),
            )
        });
    }
    Ok(file.unwrap_or_default())
}

/// The file's proxy, else the environment's.
pub(super) fn proxies(
    link: LinkChoice,
    environment: &Environment,
    file: Option<Placed<SecretText>>,
    path: Option<&Path>,
) -> Result<Proxies, ConfigError> {
    let next_step = || "give it as http://NAME:PASSWORD@HOST:PORT".to_owned();
    let explicit = file.map(|url| {
        let place = path.map_or_else(|| url.place.to_string(), |path| at(path, url.place));
        let wrong = |why: &str| {
            ConfigError::invalid(
                format!("{place}: proxy_url cannot be used: {why}"),
                next_step(),
            )
        };
        if link == LinkChoice::Quic {
            return Err(ConfigError::invalid(
                format!("{place}: a proxy carries no QUIC, and the link is to be nothing else"),
                "take out one of the two: proxy_url, or link: quic".to_owned(),
            ));
        }
        Proxy::parse(url.value.expose()).map_err(wrong)
    });
    let from_environment = environment.https_proxy.as_ref().map(|url| {
        Proxy::parse(url.expose()).map_err(|why| {
            ConfigError::invalid(format!("HTTPS_PROXY cannot be used: {why}"), next_step())
        })
    });
    Ok(Proxies::new(
        explicit.transpose()?,
        from_environment.transpose()?,
        environment.no_proxy.as_deref(),
    ))
}

/// How soon QUIC is tried again.
pub(super) fn quic_retry(environment: &Environment) -> Result<Duration, ConfigError> {
    let Some(text) = &environment.quic_retry_ms else {
        return Ok(QUIC_RETRY);
    };
    let wrong = || {
        ConfigError::invalid(
            format!("SALLYPORT_QUIC_RETRY_MS is {text:?}"),
            "give milliseconds, at least 100".to_owned(),
        )
    };
    let ms = text
        .parse()
        .ok()
        .filter(|ms| *ms >= 100)
        .ok_or_else(wrong)?;
    Ok(Duration::from_millis(ms))
}

const QUIC_RETRY: Duration = Duration::from_secs(30);
