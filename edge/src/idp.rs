//! Identity providers: where to send a browser, and what came back, checked.
//!
//! No sessions, no cookies, nothing stored. OAuth 2.0 and SAML are further arms of [`Kind`].

use std::sync::Arc;

use jiff::Timestamp;
use proto::code::Code;

use crate::model::user::Claims;
use crate::secret::Secret;

/// A bounded client towards providers: no redirects, capped bodies, no private addresses.
#[derive(Clone, Debug)]
pub(crate) struct Http;

#[derive(Clone, Debug)]
pub(crate) struct HttpOptions {
    /// Loopback issuers may speak http: only while the edge itself serves loopback.
    pub(crate) allow_loopback_http: bool,
    /// DER certificates trusted beside the public roots.
    pub(crate) extra_roots: Vec<Vec<u8>>,
}

impl Http {
    pub(crate) fn new(_: &HttpOptions) -> Result<Self, IdpError> {
        unimplemented!()
    }
}

/// Provider quirks as data.
#[derive(Debug)]
pub(crate) struct Preset;

impl Preset {
    pub(crate) fn find(_: &str) -> Result<&'static Self, IdpError> {
        unimplemented!()
    }
}

/// A registration, resolved against its preset.
#[derive(Clone, Debug)]
pub(crate) struct ProviderSettings {
    pub(crate) name: String,
    pub(crate) issuer: String,
}

impl ProviderSettings {
    pub(crate) fn resolve(
        _name: &str,
        _kind: &str,
        _issuer: Option<&str>,
        _client_id: &str,
        _client_secret: Secret<String>,
        _scopes: Vec<String>,
    ) -> Result<Self, IdpError> {
        unimplemented!()
    }

    /// Whether anybody can get an account there.
    pub(crate) fn is_public(&self) -> bool {
        unimplemented!()
    }
}

/// One provider that can be spoken to. Discovery happens at first use and is cached, bounded.
#[derive(Debug)]
pub(crate) struct IdentityProvider;

/// What a login begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin<'a> {
    pub(crate) redirect_uri: &'a str,
    pub(crate) state: &'a str,
    pub(crate) nonce: &'a str,
    /// The PKCE verifier; only its S256 challenge leaves.
    pub(crate) verifier: &'a str,
    /// The person must prove themselves anew, as the preset says how.
    pub(crate) interactive: bool,
}

/// What a login's answer is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expect<'a> {
    pub(crate) redirect_uri: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) verifier: &'a str,
    /// Set when the login was interactive: an `auth_time` before this moment (less skew) is refused.
    pub(crate) interactive_since: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

/// Who signed in.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) claims: Claims,
    pub(crate) auth_time: Option<Timestamp>,
}

impl IdentityProvider {
    /// Builds without I/O.
    pub(crate) fn new(_: ProviderSettings, _: &Http) -> Result<Self, IdpError> {
        unimplemented!()
    }

    /// Builds and proves that discovery works.
    pub(crate) async fn discover(_: ProviderSettings, _: &Http) -> Result<Self, IdpError> {
        unimplemented!()
    }

    pub(crate) fn settings(&self) -> &ProviderSettings {
        unimplemented!()
    }

    /// Where to send the browser.
    pub(crate) async fn authorize_url(&self, _: Begin<'_>) -> Result<String, IdpError> {
        unimplemented!()
    }

    /// Compares the callback's `iss` (RFC 9207): required where metadata promises it, compared
    /// whenever it is there. Before anything is redeemed.
    pub(crate) async fn check_issuer(&self, _iss: Option<&str>) -> Result<(), IdpError> {
        unimplemented!()
    }

    /// Redeems a code and verifies what comes back.
    pub(crate) async fn redeem(
        &self,
        _code: Secret<String>,
        _expect: Expect<'_>,
    ) -> Result<Identity, IdpError> {
        unimplemented!()
    }
}

/// The providers that this edge knows, by name.
#[derive(Debug, Default)]
pub(crate) struct Providers;

impl Providers {
    pub(crate) fn get(&self, _name: &str) -> Option<Arc<IdentityProvider>> {
        unimplemented!()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        unimplemented!()
    }

    pub(crate) fn replace(&self, _: IdentityProvider) {
        unimplemented!()
    }

    pub(crate) fn remove(&self, _name: &str) {
        unimplemented!()
    }
}

/// Why a provider could not be used, or its answer not accepted.
#[derive(Debug, thiserror::Error)]
#[error("identity provider")]
pub(crate) struct IdpError;

impl IdpError {
    /// What the person is shown.
    pub(crate) const fn code(&self) -> Code {
        Code::ProviderAnswerInvalid
    }
}
