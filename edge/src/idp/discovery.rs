//! What a provider says of itself: endpoints, algorithms, keys. Fetched at first use, refreshed
//! hourly, asked for by one task at a time, and never trusted to be another issuer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType,
    CoreJsonWebKey, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{
    AdditionalProviderMetadata, AuthUrl, DiscoveryError, IssuerUrl, JsonWebKeySet,
    JsonWebKeySetUrl, ProviderMetadata, TokenUrl, UserInfoUrl,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::IdpError;
use super::http::{Http, HttpError};
use super::token;
use crate::clock::Clock;

/// One issuer's metadata, cached.
#[derive(Debug)]
pub(super) struct Discovery {
    issuer: IssuerUrl,
    http: Http,
    clock: Clock,
    found: ArcSwapOption<Found>,
    /// Held while asking the provider: one question at a time.
    gate: Mutex<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    failed: Option<(Instant, IdpError)>,
    keys_asked: Option<Instant>,
}

/// What was found, checked.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) authorize: AuthUrl,
    pub(super) token: TokenUrl,
    pub(super) user_info: Option<UserInfoUrl>,
    pub(super) keys: Arc<CoreJsonWebKeySet>,
    /// Those of ours that the provider announces; never empty.
    pub(super) algorithms: Vec<CoreJwsSigningAlgorithm>,
    /// Client credentials go into the form, because the provider takes them nowhere else.
    pub(super) secret_in_form: bool,
    /// Callbacks carry `iss` (RFC 9207 §3).
    pub(super) promises_iss: bool,
    keys_at: JsonWebKeySetUrl,
    at: Instant,
}

impl Discovery {
    pub(super) fn new(issuer: IssuerUrl, http: Http) -> Self {
        Self {
            issuer,
            http,
            clock: Clock,
            found: ArcSwapOption::empty(),
            gate: Mutex::default(),
        }
    }

    /// The metadata: at once from memory where it is fresh, else asked for. A provider that does not
    /// answer leaves the old one good for a day; without an old one its failure is remembered for
    /// some seconds, so that a crowd does not wait one by one.
    pub(super) async fn found(&self) -> Result<Arc<Found>, IdpError> {
        let known = self.found.load_full();
        let mut gate = match known {
            Some(found) if self.age(found.at) < FRESH => return Ok(found),
            Some(found) if self.age(found.at) < USABLE => match self.gate.try_lock() {
                Ok(gate) => gate,
                // Somebody is asking already.
                Err(_) => return Ok(found),
            },
            Some(_) | None => self.gate.lock().await,
        };
        let usable = self
            .found
            .load_full()
            .filter(|found| self.age(found.at) < USABLE);
        if let Some(found) = &usable
            && self.age(found.at) < FRESH
        {
            return Ok(Arc::clone(found));
        }
        if let Some((at, error)) = &gate.failed
            && self.age(*at) < FAILURE
        {
            return usable.ok_or_else(|| error.clone());
        }
        match self.ask().await {
            Ok(found) => {
                let found = Arc::new(found);
                self.found.store(Some(Arc::clone(&found)));
                gate.failed = None;
                Ok(found)
            }
            Err(error) => {
                gate.failed = Some((self.clock.monotonic(), error.clone()));
                let Some(found) = usable else {
                    return Err(error);
                };
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    issuer = self.issuer.as_str(),
                    "provider metadata not refreshed, the old one stays"
                );
                Ok(found)
            }
        }
    }

    /// Keys that differ from those in `seen`, for a token that none of these verifies: from memory
    /// where somebody was quicker, else asked for, at most once a minute.
    pub(super) async fn newer_keys(&self, seen: &Found) -> Option<Arc<Found>> {
        let mut gate = self.gate.lock().await;
        let known = self.found.load_full()?;
        if !Arc::ptr_eq(&known.keys, &seen.keys) {
            return Some(known);
        }
        if gate.keys_asked.is_some_and(|at| self.age(at) < KEYS_EVERY) {
            return None;
        }
        gate.keys_asked = Some(self.clock.monotonic());
        match JsonWebKeySet::fetch_async(&known.keys_at, &self.http).await {
            Ok(keys) => {
                let keys = Arc::new(bounded(keys));
                let found = Arc::new(Found {
                    keys,
                    ..Found::clone(&known)
                });
                self.found.store(Some(Arc::clone(&found)));
                Some(found)
            }
            Err(error) => {
                let error = refine(error);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    issuer = self.issuer.as_str(),
                    "provider keys not refreshed"
                );
                None
            }
        }
    }

    async fn ask(&self) -> Result<Found, IdpError> {
        let metadata = Metadata::discover_async(self.issuer.clone(), &self.http)
            .await
            .map_err(refine)?;
        let token = metadata
            .token_endpoint()
            .ok_or_else(|| IdpError::answer("its metadata names no token endpoint"))?;
        let insecure = |_: HttpError| {
            IdpError::answer("its metadata names an address that may not be spoken to")
        };
        self.http
            .check_scheme(metadata.authorization_endpoint().url())
            .map_err(insecure)?;
        self.http.check(token.url()).map_err(insecure)?;
        if let Some(user_info) = metadata.userinfo_endpoint() {
            self.http.check(user_info.url()).map_err(insecure)?;
        }
        let announced = metadata.id_token_signing_alg_values_supported();
        let algorithms: Vec<_> = token::ALGORITHMS
            .into_iter()
            .filter(|ours| announced.contains(ours))
            .collect();
        if algorithms.is_empty() {
            return Err(IdpError::answer(
                "it signs with none of RS256, ES256, PS256 and EdDSA",
            ));
        }
        Ok(Found {
            authorize: metadata.authorization_endpoint().clone(),
            token: token.clone(),
            user_info: metadata.userinfo_endpoint().cloned(),
            keys: Arc::new(bounded(metadata.jwks().clone())),
            algorithms,
            secret_in_form: metadata
                .token_endpoint_auth_methods_supported()
                .is_some_and(|methods| {
                    !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
                        && methods.contains(&CoreClientAuthMethod::ClientSecretPost)
                }),
            promises_iss: metadata
                .additional_metadata()
                .authorization_response_iss_parameter_supported
                .unwrap_or(false),
            keys_at: metadata.jwks_uri().clone(),
            at: self.clock.monotonic(),
        })
    }

    fn age(&self, at: Instant) -> Duration {
        self.clock.monotonic().saturating_duration_since(at)
    }

    /// Lets time pass for the cache.
    #[cfg(test)]
    pub(super) async fn grow_older(&self, by: Duration) {
        let mut gate = self.gate.lock().await;
        if let Some((at, _)) = &mut gate.failed {
            *at = at.checked_sub(by).unwrap();
        }
        gate.keys_asked = gate.keys_asked.map(|at| at.checked_sub(by).unwrap());
        if let Some(found) = self.found.load_full() {
            let at = found.at.checked_sub(by).unwrap();
            self.found.store(Some(Arc::new(Found {
                at,
                ..Found::clone(&found)
            })));
        }
    }
}

fn bounded(keys: CoreJsonWebKeySet) -> CoreJsonWebKeySet {
    if keys.keys().len() <= KEYS_MAX {
        return keys;
    }
    CoreJsonWebKeySet::new(keys.keys().iter().take(KEYS_MAX).cloned().collect())
}

fn refine(error: DiscoveryError<HttpError>) -> IdpError {
    match error {
        DiscoveryError::Request(error) => error.into(),
        DiscoveryError::Response(status, ..) => {
            IdpError::answer(format!("its metadata or keys came with status {status}"))
        }
        // The library's only validation; its text quotes what the document says, first.
        DiscoveryError::Validation(text) => {
            IdpError::issuer(text.split('`').nth(1).unwrap_or_default())
        }
        DiscoveryError::Parse(error) => IdpError::answer(format!(
            "its metadata or keys cannot be read, at {}",
            error.path()
        )),
        DiscoveryError::Other(_) | DiscoveryError::UrlParse(_) | _ => {
            IdpError::answer("its metadata cannot be asked for")
        }
    }
}

type Metadata = ProviderMetadata<
    Promises,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Promises {
    authorization_response_iss_parameter_supported: Option<bool>,
}

impl AdditionalProviderMetadata for Promises {}

const FRESH: Duration = Duration::from_hours(1);
/// A key that a provider withdrew is believed no longer than this, even if it answers nothing more.
const USABLE: Duration = Duration::from_hours(24);
const FAILURE: Duration = Duration::from_secs(5);
/// Between forced fetches of the keys: whoever can send tokens can cause one.
const KEYS_EVERY: Duration = Duration::from_mins(1);
/// Keys of one issuer that are kept; providers publish two to ten.
const KEYS_MAX: usize = 64;
