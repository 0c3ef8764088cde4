//! The arm for OpenID Connect: authorize address, exchange of the code, verified claims.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, StatusCode};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType,
    CoreGenderClaim, CoreIdToken, CoreJsonWebKey, CoreJsonWebKeySet,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AuthType, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyAdditionalClaims, EndpointNotSet, EndpointSet, ExtraTokenFields, HttpRequest, IssuerUrl,
    Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardErrorResponse, StandardTokenResponse, TokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::discovery::{Discovery, Found};
use super::http::{Http, HttpError};
use super::person::{self, Profile};
use super::preset::Interactive;
use super::settings::ProviderSettings;
use super::token::{self, Checks, TokenFault};
use super::{Begin, Expect, Identity, IdpError};
use crate::model::user::Claims;
use crate::secret::{self, Secret};

/// A provider that speaks OpenID Connect.
#[derive(Debug)]
pub(super) struct Oidc {
    pub(super) settings: ProviderSettings,
    pub(super) discovery: Discovery,
    issuer: IssuerUrl,
    http: Http,
}

impl Oidc {
    pub(super) fn new(settings: ProviderSettings, http: &Http) -> Result<Self, IdpError> {
        let issuer = IssuerUrl::new(settings.issuer.clone())
            .map_err(|_| IdpError::config("the issuer is not a URL"))?;
        http.check(issuer.url())?;
        let discovery = Discovery::new(issuer.clone(), http.clone());
        Ok(Self {
            settings,
            discovery,
            issuer,
            http: http.clone(),
        })
    }

    pub(super) async fn authorize_url(&self, begin: Begin<'_>) -> Result<String, IdpError> {
        let found = self.discovery.found().await?;
        let client = self.client(&found);
        let (state, nonce) = (begin.state.to_owned(), begin.nonce.to_owned());
        let verifier = verifier(begin.verifier)?;
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scopes(self.scopes())
            .set_redirect_uri(Cow::Owned(redirect_uri(begin.redirect_uri)?))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        if begin.interactive {
            request = match self.settings.preset.interactive {
                Interactive::Login => request
                    .add_prompt(CoreAuthPrompt::Login)
                    .set_max_age(Duration::ZERO),
                Interactive::SelectAccount => request.add_prompt(CoreAuthPrompt::SelectAccount),
            };
        }
        Ok(request.url().0.into())
    }

    pub(super) async fn check_issuer(&self, iss: Option<&str>) -> Result<(), IdpError> {
        match iss {
            Some(iss) if iss == self.settings.issuer => Ok(()),
            Some(iss) => Err(IdpError::issuer(iss)),
            None if self.discovery.found().await?.promises_iss => Err(IdpError::issuer("")),
            None => Ok(()),
        }
    }

    pub(super) async fn redeem(
        &self,
        code: Secret<String>,
        expect: Expect<'_>,
    ) -> Result<Identity, IdpError> {
        let found = self.discovery.found().await?;
        let tokens = self.exchange(&found, code, &expect).await?;
        let access_token = tokens.access_token().secret();
        let claims = self.verify(&found, &tokens, &expect).await?;
        let subject = person::subject(&claims)?;
        let auth_time = token::auth_time(&claims)?;
        let interactive = self.check_auth_time(auth_time, &expect)?;

        let mut profile = Profile::of(&claims);
        // A malformed address is not a missing one: nothing else may stand in for it.
        let says_email = claims
            .get("email")
            .is_some_and(|said| !said.is_null() && said != "");
        if !says_email && let Some(user_info) = &found.user_info {
            profile = profile.or(self.user_info(user_info, access_token, subject).await?);
        }
        Ok(Identity {
            claims: Claims {
                issuer: self.settings.issuer.clone(),
                subject: subject.to_owned(),
                email: profile.email,
                email_verified: profile.email_verified,
                name: profile.name,
                username: profile.username,
            },
            auth_time: auth_time.or_else(|| interactive.then_some(expect.now)),
        })
    }

    async fn exchange(
        &self,
        found: &Found,
        code: Secret<String>,
        expect: &Expect<'_>,
    ) -> Result<Tokens, IdpError> {
        let client = self.client(found);
        let request = client
            .exchange_code(AuthorizationCode::new(code.expose().clone()))
            .set_redirect_uri(Cow::Owned(redirect_uri(expect.redirect_uri)?))
            .set_pkce_verifier(verifier(expect.verifier)?);
        request.request_async(&self.http).await.map_err(refine)
    }

    /// Verifies the ID token, once more with newer keys where none of the known ones made it.
    async fn verify(
        &self,
        found: &Found,
        tokens: &Tokens,
        expect: &Expect<'_>,
    ) -> Result<Map<String, Value>, IdpError> {
        let Some(token) = &tokens.0.extra_fields().id_token else {
            return Err(IdpError::answer("it sent no ID token"));
        };
        let checks = Checks {
            issuer: &self.settings.issuer,
            bare_issuer: self.settings.preset.bare_issuer,
            client_id: &self.settings.client_id,
            nonce: expect.nonce,
            algorithms: &found.algorithms,
            access_token: tokens.access_token().secret(),
            now: expect.now,
        };
        let outcome = match token::verify(token, &found.keys, &checks) {
            Err(TokenFault::Key) => match self.discovery.newer_keys(found).await {
                Some(newer) => token::verify(token, &newer.keys, &checks),
                None => Err(TokenFault::Key),
            },
            outcome => outcome,
        };
        outcome.map_err(|fault| match fault {
            TokenFault::Key => IdpError::answer("none of its keys made the ID token's signature"),
            TokenFault::Refused(error) => error,
        })
    }

    /// Whether the login was interactive; an error where it had to be and was not.
    fn check_auth_time(
        &self,
        auth_time: Option<jiff::Timestamp>,
        expect: &Expect<'_>,
    ) -> Result<bool, IdpError> {
        let Some(since) = expect.interactive_since else {
            return Ok(false);
        };
        // Who is asked by `select_account` may have proven themselves long before.
        if self.settings.preset.interactive == Interactive::Login
            && let Some(at) = auth_time
            && (at < token::earlier(since) || at > token::later(expect.now))
        {
            return Err(IdpError::NotInteractive);
        }
        Ok(true)
    }

    /// Reads user-info (OIDC Core §5.3), which must be about the same person.
    async fn user_info(
        &self,
        at: &openidconnect::UserInfoUrl,
        access_token: &str,
        expected: &str,
    ) -> Result<Profile, IdpError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {access_token}"))
            .map_err(|_| IdpError::answer("its access token is not printable"))?;
        bearer.set_sensitive(true);
        let mut request = HttpRequest::new(Vec::new());
        *request.uri_mut() = at
            .as_str()
            .parse()
            .map_err(|_| IdpError::answer("its user-info has no address"))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.http.send(request).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            return Err(IdpError::answer(format!(
                "its user-info came with status {status}"
            )));
        }
        let claims: Map<String, Value> = serde_json::from_slice(response.body())
            .map_err(|_| IdpError::answer("its user-info is not a JSON object"))?;
        if !secret::equal(person::subject(&claims)?.as_bytes(), expected.as_bytes()) {
            return Err(IdpError::answer("its user-info is about somebody else"));
        }
        Ok(Profile::of(&claims))
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        // The library adds `openid` itself.
        self.settings
            .scopes
            .iter()
            .filter(|scope| *scope != "openid")
            .cloned()
            .map(Scope::new)
    }

    fn client(&self, found: &Found) -> OidcClient {
        let id = ClientId::new(self.settings.client_id.clone());
        let client = Client::new(id, self.issuer.clone(), CoreJsonWebKeySet::default())
            .set_auth_uri(found.authorize.clone())
            .set_token_uri(found.token.clone())
            .set_auth_type(if found.secret_in_form {
                AuthType::RequestBody
            } else {
                AuthType::BasicAuth
            });
        if self.settings.client_secret.expose().is_empty() {
            client
        } else {
            client.set_client_secret(ClientSecret::new(
                self.settings.client_secret.expose().clone(),
            ))
        }
    }
}

/// RFC 7636 §4.1; the library panics on other lengths.
fn verifier(text: &str) -> Result<PkceCodeVerifier, IdpError> {
    if (43..=128).contains(&text.len()) {
        Ok(PkceCodeVerifier::new(text.to_owned()))
    } else {
        Err(IdpError::config("a PKCE verifier has 43 to 128 characters"))
    }
}

fn redirect_uri(text: &str) -> Result<RedirectUrl, IdpError> {
    RedirectUrl::new(text.to_owned()).map_err(|_| IdpError::config("the redirect URI is not a URL"))
}

fn refine(error: RequestTokenError<HttpError, TokenError>) -> IdpError {
    match error {
        RequestTokenError::Request(error) => error.into(),
        RequestTokenError::ServerResponse(response) => {
            let error = response.error();
            if matches!(
                error,
                CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient
            ) {
                IdpError::config(
                    "the identity provider refuses this client: check its id and secret",
                )
            } else {
                IdpError::refused(error.as_ref())
            }
        }
        // The library's texts may quote the answer, which may hold tokens.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            IdpError::answer("its token endpoint's answer cannot be read")
        }
    }
}

/// A token answer whose ID token stays text until it is verified.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
struct Tokens(StandardTokenResponse<IdTokenText, CoreTokenType>);

#[derive(Deserialize, Serialize)]
struct IdTokenText {
    id_token: Option<String>,
}

impl ExtraTokenFields for IdTokenText {}

impl std::fmt::Debug for IdTokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdTokenText(…)")
    }
}

impl OAuth2TokenResponse for Tokens {
    type TokenType = CoreTokenType;

    fn access_token(&self) -> &AccessToken {
        self.0.access_token()
    }

    fn token_type(&self) -> &CoreTokenType {
        self.0.token_type()
    }

    fn expires_in(&self) -> Option<Duration> {
        self.0.expires_in()
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.0.refresh_token()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        self.0.scopes()
    }
}

impl
    TokenResponse<
        EmptyAdditionalClaims,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    > for Tokens
{
    fn id_token(&self) -> Option<&CoreIdToken> {
        None
    }
}

type TokenError = StandardErrorResponse<CoreErrorResponseType>;

type OidcClient = Client<
    EmptyAdditionalClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    TokenError,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
>;
