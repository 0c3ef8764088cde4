//! What a person's scopes let a client know of them (OpenID Connect Core §5.3, §5.4).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::dev_provider::people::Person;
use crate::dev_provider::{Provider, now};

/// `GET` or `POST /userinfo`, with the access token as bearer.
pub(super) async fn show(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    let access = bearer(&headers).and_then(|token| provider.ledger.access(now(), token));
    let Some(access) = access else {
        let challenge = [(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!(access.person.username));
    add_profile(&mut claims, access.person, &access.scope);
    Json(Value::Object(claims)).into_response()
}

/// Adds the claims that the scope asks for.
pub(super) fn add_profile(claims: &mut Map<String, Value>, person: &Person, scope: &str) {
    let has = |word| scope.split(' ').any(|one| one == word);
    if has("email") {
        claims.insert("email".to_owned(), json!(person.email));
        claims.insert("email_verified".to_owned(), json!(person.email_verified));
    }
    if has("profile") {
        claims.insert("name".to_owned(), json!(person.name));
        claims.insert("preferred_username".to_owned(), json!(person.username));
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
