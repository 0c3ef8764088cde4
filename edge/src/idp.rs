//! Identity providers: where to send a browser, and what came back, checked.
//!
//! No sessions, no cookies, nothing stored. Reading order: `preset` and `settings` (who), `http`
//! with `address` (how they are spoken to), `discovery` (what they say of themselves), `oidc` (the
//! login), `token` and `person` (what is believed of the answer).

mod address;
mod discovery;
mod error;
mod http;
mod oidc;
mod person;
mod preset;
mod settings;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::model::user::Claims;
use crate::secret::Secret;

pub(crate) use error::IdpError;
pub(crate) use http::{Http, HttpOptions};
use oidc::Oidc;
pub(crate) use preset::Preset;
pub(crate) use settings::ProviderSettings;

/// One provider that can be spoken to. Discovery happens at first use and is cached, bounded.
#[derive(Debug)]
pub(crate) struct IdentityProvider(Kind);

/// How a provider speaks: an arm for each protocol.
#[derive(Debug)]
enum Kind {
    Oidc(Oidc),
}

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
    /// As the provider says; where it says nothing and the login was interactive, the moment of
    /// redemption.
    pub(crate) auth_time: Option<Timestamp>,
}

impl IdentityProvider {
    /// Builds without I/O.
    pub(crate) fn new(settings: ProviderSettings, http: &Http) -> Result<Self, IdpError> {
        Ok(Self(Kind::Oidc(Oidc::new(settings, http)?)))
    }

    /// Builds and proves that discovery works.
    pub(crate) async fn discover(
        settings: ProviderSettings,
        http: &Http,
    ) -> Result<Self, IdpError> {
        let provider = Self::new(settings, http)?;
        match &provider.0 {
            Kind::Oidc(oidc) => oidc.discovery.found().await?,
        };
        Ok(provider)
    }

    pub(crate) fn settings(&self) -> &ProviderSettings {
        match &self.0 {
            Kind::Oidc(oidc) => &oidc.settings,
        }
    }

    /// Where to send the browser.
    pub(crate) async fn authorize_url(&self, begin: Begin<'_>) -> Result<String, IdpError> {
        match &self.0 {
            Kind::Oidc(oidc) => oidc.authorize_url(begin).await,
        }
    }

    /// Compares the callback's `iss` (RFC 9207): required where metadata promises it, compared
    /// whenever it is there. Before anything is redeemed.
    pub(crate) async fn check_issuer(&self, iss: Option<&str>) -> Result<(), IdpError> {
        match &self.0 {
            Kind::Oidc(oidc) => oidc.check_issuer(iss).await,
        }
    }

    /// Redeems a code and verifies what comes back. The code is spent once this is polled, also when
    /// it is cancelled.
    pub(crate) async fn redeem(
        &self,
        code: Secret<String>,
        expect: Expect<'_>,
    ) -> Result<Identity, IdpError> {
        match &self.0 {
            Kind::Oidc(oidc) => Box::pin(oidc.redeem(code, expect)).await,
        }
    }
}

/// The providers that this edge knows, by name.
#[derive(Debug, Default)]
pub(crate) struct Providers(ArcSwap<BTreeMap<String, Arc<IdentityProvider>>>);

impl Providers {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<IdentityProvider>> {
        self.0.load().get(name).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.load().keys().cloned().collect()
    }

    /// Adds a provider or puts it in the place of its namesake. One with the same settings stays, and
    /// with it what it has learnt.
    pub(crate) fn replace(&self, provider: IdentityProvider) {
        let provider = Arc::new(provider);
        let settings = provider.settings();
        self.0.rcu(|known| {
            if known
                .get(&settings.name)
                .is_some_and(|known| known.settings() == settings)
            {
                return Arc::clone(known);
            }
            let mut next = BTreeMap::clone(known);
            next.insert(settings.name.clone(), Arc::clone(&provider));
            Arc::new(next)
        });
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.rcu(|known| {
            let mut next = BTreeMap::clone(known);
            next.remove(name);
            next
        });
    }
}
