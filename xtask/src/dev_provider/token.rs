//! The client's side: an authorization code becomes an ID token and an access token (RFC 6749 §4.1.3,
//! RFC 7636 §4.6, OpenID Connect Core §3.1.3).

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawForm, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::dev_provider::fields::Fields;
use crate::dev_provider::ledger::{Grant, TOKEN_SECONDS};
use crate::dev_provider::userinfo::add_profile;
use crate::dev_provider::{Provider, keys, now};

/// `POST /token`.
pub(super) async fn exchange(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    RawForm(body): RawForm,
) -> Response {
    match answer(&provider, &headers, &body) {
        Ok(tokens) => ([(CACHE_CONTROL, "no-store")], Json(tokens)).into_response(),
        Err(refused) => refused.into_response(),
    }
}

fn answer(provider: &Provider, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refused> {
    let fields = Fields::parse(body)
        .map_err(|_| Refused::request("invalid_request", "a parameter occurs twice"))?;
    let (id, secret) = credentials(headers, &fields)?;
    if !provider.client.is_proven(&id, &secret) {
        return Err(Refused::client(
            "the client is not known, or its secret is wrong",
        ));
    }
    match fields.value("grant_type") {
        Some("authorization_code") => {}
        Some(_) => {
            return Err(Refused::request(
                "unsupported_grant_type",
                "only authorization_code",
            ));
        }
        None => return Err(Refused::request("invalid_request", "grant_type is missing")),
    }
    let code = fields
        .value("code")
        .ok_or(Refused::request("invalid_request", "code is missing"))?;
    let now = now();
    let token = keys::random_text().map_err(|_| Refused::us())?;
    let grant = provider
        .ledger
        .redeem(now, code, &token, |grant| check(grant, &fields))
        .ok_or(Refused::request(
            "invalid_grant",
            "the code is unknown, used or expired",
        ))??;
    let id_token = provider
        .key
        .sign(&claims(provider, now, &grant))
        .map_err(|_| Refused::us())?;
    Ok(json!({
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": TOKEN_SECONDS,
        "scope": grant.scope,
        "id_token": id_token,
    }))
}

/// Whether whoever brings the code is whoever asked for it.
fn check(grant: &Grant, fields: &Fields) -> Result<(), Refused> {
    if fields.value("redirect_uri") != Some(grant.redirect_uri.as_str()) {
        return Err(Refused::request(
            "invalid_grant",
            "redirect_uri is another one",
        ));
    }
    let verifier = fields.value("code_verifier").ok_or(Refused::request(
        "invalid_grant",
        "code_verifier is missing",
    ))?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    if URL_SAFE_NO_PAD.encode(hash) != grant.challenge {
        return Err(Refused::request(
            "invalid_grant",
            "code_verifier does not fit",
        ));
    }
    Ok(())
}

fn claims(provider: &Provider, now: u64, grant: &Grant) -> Value {
    let mut claims = json!({
        "iss": provider.issuer,
        "sub": grant.login.person.username,
        "aud": provider.client.id,
        "iat": now,
        "exp": now.saturating_add(ID_TOKEN_SECONDS),
        "auth_time": grant.login.auth_time,
    });
    if let Some(claims) = claims.as_object_mut() {
        if let Some(nonce) = &grant.nonce {
            claims.insert("nonce".to_owned(), json!(nonce));
        }
        add_profile(claims, grant.login.person, &grant.scope);
    }
    claims
}

/// The client's id and secret, from the header or from the body, never from both (RFC 6749 §2.3.1).
fn credentials(headers: &HeaderMap, fields: &Fields) -> Result<(String, String), Refused> {
    let posted = fields.value("client_secret");
    let Some(header) = headers.get(AUTHORIZATION) else {
        let id = fields.value("client_id");
        return id
            .zip(posted)
            .map(|(id, secret)| (id.to_owned(), secret.to_owned()))
            .ok_or(Refused::client("there are no credentials"));
    };
    if posted.is_some() {
        return Err(Refused::request(
            "invalid_request",
            "credentials come twice",
        ));
    }
    header
        .to_str()
        .ok()
        .and_then(basic)
        .ok_or(Refused::client("the Authorization header is not usable"))
}

/// Both halves are form-encoded before they are joined (RFC 6749 §2.3.1), which many forget.
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(decoded, _)| decoded.into_owned())
        .unwrap_or_default()
}

/// A refusal in the protocol's words (RFC 6749 §5.2).
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    error: &'static str,
    description: &'static str,
}

impl Refused {
    const fn request(error: &'static str, description: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description,
        }
    }

    const fn client(description: &'static str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            error: "invalid_client",
            description,
        }
    }

    const fn us() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            error: "server_error",
            description: "no randomness, or no signature",
        }
    }

    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = (self.status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = http::HeaderValue::from_static("Basic realm=\"dev provider\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

const ID_TOKEN_SECONDS: u64 = 10 * 60;
