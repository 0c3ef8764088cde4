//! Provider quirks as data: nothing here is guessed, every line is from the provider's own
//! documentation.

use super::IdpError;

/// What is known of a provider beforehand.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Preset {
    /// What `edge provider add` calls it.
    pub(super) name: &'static str,
    /// `None`: the operator says.
    pub(super) issuer: Option<&'static str>,
    pub(super) scopes: &'static [&'static str],
    /// Anybody can get an account there.
    pub(super) is_public: bool,
    pub(super) interactive: Interactive,
    /// ID tokens may name the issuer without its `https://`.
    pub(super) bare_issuer: bool,
}

/// How a provider is asked to let the person prove themselves anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Interactive {
    /// `prompt=login&max_age=0`, and `auth_time` is checked where it comes.
    Login,
    /// `prompt=select_account`: the provider asks who, and decides itself whether to ask for proof.
    SelectAccount,
}

impl Preset {
    /// By name.
    pub(crate) fn find(name: &str) -> Result<&'static Self, IdpError> {
        PRESETS
            .iter()
            .copied()
            .find(|preset| preset.name == name)
            .ok_or_else(|| {
                let named = PRESETS.iter().filter(|preset| preset.issuer.is_some());
                let names: Vec<_> = named.map(|preset| preset.name).collect();
                IdpError::config(format!(
                    "{name:?} is no preset: give its issuer, or use one of these: {}",
                    names.join(", ")
                ))
            })
    }
}

/// Any OpenID provider, by its issuer.
pub(super) const OIDC: Preset = Preset {
    name: "oidc",
    issuer: None,
    scopes: &["openid", "email", "profile"],
    is_public: false,
    interactive: Interactive::Login,
    bare_issuer: false,
};

const GOOGLE: Preset = Preset {
    name: "google",
    issuer: Some("https://accounts.google.com"),
    scopes: &["openid", "email", "profile"],
    is_public: true,
    interactive: Interactive::SelectAccount,
    bare_issuer: true,
};

const PRESETS: [&Preset; 2] = [&GOOGLE, &OIDC];
