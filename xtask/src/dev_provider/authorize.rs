//! The browser's side: a request to sign somebody in becomes a form, or a redirect back with a code or an
//! error (RFC 6749 §4.1, OpenID Connect Core §3.1.2).
//!
//! The form posts to the address that it was shown at, so nothing is remembered between the two.

use std::sync::Arc;

use axum::extract::{RawForm, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use url::Url;

use crate::dev_provider::fields::Fields;
use crate::dev_provider::ledger::{Grant, LOGIN_SECONDS, Login};
use crate::dev_provider::{Provider, keys, now, page, people};

/// `GET /authorize`: signs in silently where the request and the cookie allow it, else shows the form.
pub(super) async fn ask(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let (return_to, fields) = match ReturnTo::check(&provider, &query) {
        Ok(checked) => checked,
        Err(why) => return page::refusal(&why),
    };
    let request = match Request::check(&fields) {
        Ok(request) => request,
        Err(refused) => return return_to.with_error(&provider, &refused),
    };
    let now = now();
    let known =
        page::cookie(&provider, &headers).and_then(|cookie| provider.ledger.login(now, cookie));
    match known.filter(|login| request.is_content_with(now, *login)) {
        Some(login) => return_to.with_code(&provider, now, login, &request),
        None if request.is_silent => return_to.with_error(
            &provider,
            &Refused(
                "login_required",
                "nobody is signed in here, or too long ago",
            ),
        ),
        None => page::form(&query, None),
    }
}

/// `POST /authorize`: the form comes back.
pub(super) async fn answer(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    RawForm(body): RawForm,
) -> Response {
    let query = query.unwrap_or_default();
    let (return_to, fields) = match ReturnTo::check(&provider, &query) {
        Ok(checked) => checked,
        Err(why) => return page::refusal(&why),
    };
    let request = match Request::check(&fields) {
        Ok(request) => request,
        Err(refused) => return return_to.with_error(&provider, &refused),
    };
    let form = Fields::parse(&body).unwrap_or_default();
    let username = form.value("username").unwrap_or_default();
    let Some(person) = people::find(username) else {
        let why = format!("There is nobody called \u{201c}{username}\u{201d} here.");
        return page::form(&query, Some(&why));
    };
    let Ok(cookie) = keys::random_text() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let now = now();
    let login = Login {
        person,
        auth_time: now,
    };
    provider.ledger.sign_in(now, cookie.clone(), login);
    let set_cookie = format!(
        "{}={cookie}; Path=/; Max-Age={LOGIN_SECONDS}; HttpOnly; SameSite=Lax",
        provider.cookie_name
    );
    let back = return_to.with_code(&provider, now, login, &request);
    ([(SET_COOKIE, set_cookie)], back).into_response()
}

/// Where the browser is sent afterwards: checked first, because nothing may be sent anywhere else.
#[derive(Debug)]
struct ReturnTo {
    text: String,
    url: Url,
    state: Option<String>,
}

impl ReturnTo {
    fn check(provider: &Provider, query: &str) -> Result<(Self, Fields), String> {
        let fields = Fields::parse(query.as_bytes())
            .map_err(|name| format!("The parameter {name} occurs twice."))?;
        if fields.value("client_id") != Some(provider.client.id.as_str()) {
            return Err("The client_id is not known here.".to_owned());
        }
        let text = fields
            .value("redirect_uri")
            .ok_or("The redirect_uri is missing.")?
            .to_owned();
        let url = Url::parse(&text)
            .ok()
            .filter(|_| provider.client.redirects.accept(&text))
            .ok_or_else(|| format!("The redirect_uri {text} is not registered."))?;
        let state = fields.value("state").map(str::to_owned);
        Ok((Self { text, url, state }, fields))
    }

    fn with_code(self, provider: &Provider, now: u64, login: Login, request: &Request) -> Response {
        let Ok(code) = keys::random_text() else {
            return self.with_error(provider, &Refused("server_error", "no randomness"));
        };
        let grant = Grant {
            login,
            redirect_uri: self.text.clone(),
            challenge: request.challenge.clone(),
            nonce: request.nonce.clone(),
            scope: request.scope.clone(),
        };
        provider.ledger.issue(now, code.clone(), grant);
        self.with(provider, &[("code", &code)])
    }

    fn with_error(self, provider: &Provider, refused: &Refused) -> Response {
        let Refused(error, description) = refused;
        self.with(
            provider,
            &[("error", error), ("error_description", description)],
        )
    }

    fn with(mut self, provider: &Provider, pairs: &[(&str, &str)]) -> Response {
        {
            let mut query = self.url.query_pairs_mut();
            query.extend_pairs(pairs);
            if let Some(state) = &self.state {
                query.append_pair("state", state);
            }
            query.append_pair("iss", &provider.issuer);
        }
        let headers = [
            (LOCATION, String::from(self.url)),
            (CACHE_CONTROL, "no-store".to_owned()),
            (REFERRER_POLICY, "no-referrer".to_owned()),
        ];
        // 303 also after the form's POST, so that the browser asks with GET.
        (StatusCode::SEE_OTHER, headers).into_response()
    }
}

/// An error code of the protocol and a sentence for whoever debugs it.
#[derive(Debug)]
struct Refused(&'static str, &'static str);

/// What was asked for, checked.
#[derive(Debug)]
struct Request {
    scope: String,
    nonce: Option<String>,
    challenge: String,
    /// `prompt=none`.
    is_silent: bool,
    /// `prompt=login` or `select_account`: the form must be shown.
    is_interactive: bool,
    max_age: Option<u64>,
}

impl Request {
    fn check(fields: &Fields) -> Result<Self, Refused> {
        if fields.value("request").is_some() {
            return Err(Refused("request_not_supported", "send plain parameters"));
        }
        if fields.value("request_uri").is_some() {
            return Err(Refused(
                "request_uri_not_supported",
                "send plain parameters",
            ));
        }
        match fields.value("response_type") {
            Some("code") => {}
            Some(_) => return Err(Refused("unsupported_response_type", "only code")),
            None => return Err(Refused("invalid_request", "response_type is missing")),
        }
        if fields
            .value("response_mode")
            .is_some_and(|mode| mode != "query")
        {
            return Err(Refused(
                "invalid_request",
                "the only response_mode is query",
            ));
        }
        if !fields.has_word("scope", "openid") {
            return Err(Refused("invalid_scope", "the scope has no openid"));
        }
        let is_silent = fields.has_word("prompt", "none");
        if is_silent && fields.value("prompt") != Some("none") {
            return Err(Refused("invalid_request", "prompt=none stands alone"));
        }
        let max_age = match fields.value("max_age").map(str::parse) {
            None => None,
            Some(Ok(seconds)) => Some(seconds),
            Some(Err(_)) => return Err(Refused("invalid_request", "max_age is not a number")),
        };
        Ok(Self {
            scope: fields.value("scope").unwrap_or_default().to_owned(),
            nonce: fields.value("nonce").map(str::to_owned),
            challenge: challenge(fields)?,
            is_silent,
            is_interactive: fields.has_word("prompt", "login")
                || fields.has_word("prompt", "select_account"),
            max_age,
        })
    }

    /// Whether a login that was there before is enough. `max_age=0` never is.
    fn is_content_with(&self, now: u64, login: Login) -> bool {
        let age = now.saturating_sub(login.auth_time);
        !self.is_interactive && self.max_age.is_none_or(|max| max > 0 && age <= max)
    }
}

/// The PKCE challenge (RFC 7636); required, and never `plain`.
fn challenge(fields: &Fields) -> Result<String, Refused> {
    if fields.value("code_challenge_method") != Some("S256") {
        return Err(Refused("invalid_request", "PKCE with S256 is required"));
    }
    fields
        .value("code_challenge")
        .filter(|challenge| challenge.len() == CHALLENGE_CHARS)
        .map(str::to_owned)
        .ok_or(Refused(
            "invalid_request",
            "code_challenge is not a SHA-256",
        ))
}

/// 32 bytes in base64url without padding.
const CHALLENGE_CHARS: usize = 43;
