//! A registration, checked: what the operator said, completed by the preset.

use url::Url;

use super::IdpError;
use super::http::is_loopback;
use super::preset::{OIDC, Preset};
use crate::secret::Secret;

/// A registration, resolved against its preset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ProviderSettings {
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(super) client_id: String,
    /// Empty for a public client.
    pub(super) client_secret: Secret<String>,
    pub(super) scopes: Vec<String>,
    /// Whose quirks apply. A preset's own only at its own issuer.
    pub(super) preset: &'static Preset,
    is_public: bool,
}

impl ProviderSettings {
    /// Checks every part. `kind` is a preset's name; without an issuer the preset's counts, without
    /// scopes the preset's do.
    pub(crate) fn resolve(
        name: &str,
        kind: &str,
        issuer: Option<&str>,
        client_id: &str,
        client_secret: Secret<String>,
        scopes: Vec<String>,
    ) -> Result<Self, IdpError> {
        let wanted = Preset::find(kind)?;
        if !is_name(name) {
            return Err(IdpError::config(
                "a provider's name is 1 to 64 of the characters a-z, 0-9 and -",
            ));
        }
        let issuer = issuer
            .or(wanted.issuer)
            .ok_or_else(|| IdpError::config("this provider needs an issuer"))?;
        check_issuer(issuer)?;
        if client_id.is_empty() || client_id.len() > TEXT_BYTES_MAX || !is_printable(client_id) {
            return Err(IdpError::config(
                "the client id is empty, too long or not printable",
            ));
        }
        if client_secret.expose().len() > SECRET_BYTES_MAX {
            return Err(IdpError::config("the client secret is too long"));
        }
        if scopes.len() > SCOPES_MAX || !scopes.iter().all(|scope| is_scope(scope)) {
            return Err(IdpError::config(
                "a scope is empty, too long or not printable",
            ));
        }
        let scopes = if scopes.is_empty() {
            wanted
                .scopes
                .iter()
                .map(|&scope| scope.to_owned())
                .collect()
        } else {
            scopes
        };
        let at_home = wanted.issuer.is_none_or(|home| home == issuer);
        Ok(Self {
            name: name.to_owned(),
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            client_secret,
            scopes,
            preset: if at_home { wanted } else { &OIDC },
            is_public: at_home && wanted.is_public,
        })
    }

    /// Whether anybody can get an account there.
    pub(crate) fn is_public(&self) -> bool {
        self.is_public
    }
}

fn is_name(name: &str) -> bool {
    (1..=proto::limits::PROVIDER_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// OIDC Discovery §3: an https URL without query and fragment; http is for this machine, and the
/// client decides whether that is allowed.
fn check_issuer(issuer: &str) -> Result<(), IdpError> {
    let url = Url::parse(issuer).map_err(|_| IdpError::config("the issuer is not a URL"))?;
    let spoken = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    let plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if issuer.len() <= TEXT_BYTES_MAX && is_printable(issuer) && spoken && plain {
        Ok(())
    } else {
        Err(IdpError::config(
            "an issuer is an https URL without query, fragment and user",
        ))
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
}

/// RFC 6749 §3.3.
fn is_scope(scope: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&scope.len())
        && is_printable(scope)
        && !scope.contains(['"', '\\'])
}

const TEXT_BYTES_MAX: usize = 512;
/// Some providers hand out JWTs as secrets.
const SECRET_BYTES_MAX: usize = 8 * 1024;
const SCOPES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::preset::Interactive;
    use super::*;

    fn resolve(name: &str, kind: &str, issuer: Option<&str>) -> Result<ProviderSettings, IdpError> {
        let secret = Secret::new("hush".to_owned());
        ProviderSettings::resolve(name, kind, issuer, "client", secret, Vec::new())
    }

    /// A preset completes a registration, and its quirks stay at its own issuer.
    #[test]
    fn presets_complete_registrations() {
        let google = resolve("google", "google", None).unwrap();
        assert_eq!(google.issuer, "https://accounts.google.com");
        assert_eq!(google.preset.interactive, Interactive::SelectAccount);
        assert!(google.is_public() && google.preset.bare_issuer);
        assert_eq!(google.scopes, ["openid", "email", "profile"]);

        let own = resolve("google", "google", Some("http://127.0.0.1:9")).unwrap();
        assert_eq!(own.preset.interactive, Interactive::Login);
        assert!(!own.is_public() && !own.preset.bare_issuer);

        let okta = resolve("okta", "oidc", Some("https://example.okta.com")).unwrap();
        assert!(!okta.is_public());
        resolve("okta", "oidc", None).unwrap_err();
        resolve("okta", "okta", None).unwrap_err();
    }

    /// What could not work, or could be misread, is refused when it is registered.
    #[test]
    fn registrations_are_checked() {
        let long = "a".repeat(65);
        for name in ["", "Google", "a b", "ü", "a/b", long.as_str()] {
            resolve(name, "google", None).unwrap_err();
        }
        for issuer in [
            "accounts.google.com",
            "http://example.com",
            "ftp://example.com",
            "https://u@example.com",
            "https://example.com?x",
            "https://example.com#x",
            "https://example.com/a b",
            "http://localhost.example.com",
        ] {
            resolve("x", "oidc", Some(issuer)).unwrap_err();
        }
        for issuer in [
            "https://example.com/realms/a",
            "http://127.0.0.1:1",
            "http://dev.localhost:1",
            "http://[::1]:1",
        ] {
            resolve("x", "oidc", Some(issuer)).unwrap();
        }
        for scope in ["", "a b", "a\"", "\u{7f}"] {
            ProviderSettings::resolve(
                "x",
                "google",
                None,
                "client",
                Secret::new(String::new()),
                vec![scope.to_owned()],
            )
            .unwrap_err();
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", resolve("google", "google", None).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }
}
