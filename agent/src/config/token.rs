//! The authtoken's text: where it comes from, and the wrapper that never shows it.

use std::fmt;
use std::path::{Path, PathBuf};

use proto::authtoken::Authtoken;
use proto::code::Code;
use zeroize::Zeroizing;

use super::ConfigError;

/// The part of the environment that counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) file: Option<PathBuf>,
    pub(crate) authtoken: Option<SecretText>,
    pub(crate) ngrok_authtoken: Option<SecretText>,
    pub(crate) config_home: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) link: Option<String>,
    pub(crate) quic_retry_ms: Option<String>,
    /// A URL that may hold a password.
    pub(crate) https_proxy: Option<SecretText>,
    pub(crate) no_proxy: Option<String>,
}

/// A text that is wiped when dropped and never shown.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct SecretText(Zeroizing<String>);

/// Where an authtoken was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TokenSource {
    Environment(&'static str),
    File,
}

impl Environment {
    /// Reads the process's environment.
    pub(crate) fn read() -> Self {
        let path = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let text = |name| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.trim().is_empty())
        };
        let secret = |name| text(name).map(SecretText::new);
        Self {
            file: path("SALLYPORT_CONFIG"),
            authtoken: secret(OUR_VARIABLE),
            ngrok_authtoken: secret(NGROK_VARIABLE),
            config_home: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
            link: text("SALLYPORT_LINK"),
            quic_retry_ms: text("SALLYPORT_QUIC_RETRY_MS"),
            https_proxy: secret("https_proxy").or_else(|| secret("HTTPS_PROXY")),
            no_proxy: text("no_proxy").or_else(|| text("NO_PROXY")),
        }
    }
}

impl SecretText {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text: not to be logged or shown.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl TokenSource {
    pub(super) fn describe(self, file: Option<&Path>) -> String {
        match self {
            Self::Environment(name) => format!("the environment variable {name}"),
            Self::File => file.map_or_else(
                || "the configuration file".to_owned(),
                |path| path.display().to_string(),
            ),
        }
    }
}

/// Ours wins over the file, and the file over a variable that was set for ngrok and does not hold an
/// authtoken of ours.
pub(super) fn choose_authtoken(
    environment: &Environment,
    file: Option<SecretText>,
) -> Option<(SecretText, TokenSource)> {
    if let Some(ours) = &environment.authtoken {
        return Some((ours.clone(), TokenSource::Environment(OUR_VARIABLE)));
    }
    let ngrok = environment.ngrok_authtoken.clone();
    let ngrok = ngrok.map(|token| (token, TokenSource::Environment(NGROK_VARIABLE)));
    match (ngrok, file) {
        (Some((token, _)), Some(file)) if Authtoken::parse(token.expose()).is_err() => {
            Some((file, TokenSource::File))
        }
        (Some(ngrok), _) => Some(ngrok),
        (None, file) => file.map(|token| (token, TokenSource::File)),
    }
}

/// The authtoken in a text; `source` says whose text.
pub(super) fn parse_authtoken(text: &SecretText, source: &str) -> Result<Authtoken, ConfigError> {
    Authtoken::parse(text.expose()).map_err(|code| {
        let message = if code == Code::AuthtokenIsApiKey {
            format!("{source} holds an API key, and an authtoken is wanted")
        } else {
            format!("{source} holds no usable authtoken")
        };
        ConfigError::of(code, message)
    })
}

const OUR_VARIABLE: &str = "SALLYPORT_AUTHTOKEN";
const NGROK_VARIABLE: &str = "NGROK_AUTHTOKEN";
