//! The pages that people see: the login form, who is signed in, a refusal. And the cookie behind them.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, COOKIE, LOCATION, REFERRER_POLICY, SET_COOKIE, X_FRAME_OPTIONS};
use http::{HeaderMap, StatusCode};

use crate::dev_provider::people::PEOPLE;
use crate::dev_provider::{Provider, now};
use crate::html::escape;

/// The login form; posts to where it was asked for. The field is always empty: whoever types into it,
/// person or program, types a whole name.
pub(super) fn form(query: &str, error: Option<&str>) -> Response {
    let mut people = String::new();
    for person in &PEOPLE {
        let verified = if person.email_verified {
            ""
        } else {
            ", not verified"
        };
        // Writing to a String cannot fail.
        let _ = write!(
            people,
            "<li><b>{}</b> ({}{verified})</li>",
            person.username, person.email
        );
    }
    let alert = error.map_or_else(String::new, |text| {
        format!("<p id=\"error\" role=\"alert\">{}</p>", escape(text))
    });
    let body = format!(
        "<h1>Sign in</h1>\
         <p>This provider is for development: nobody here has a password.</p>{alert}\
         <form id=\"sign-in\" method=\"post\" action=\"/authorize?{}\">\
         <label for=\"username\">Username</label>\
         <input id=\"username\" name=\"username\" autocomplete=\"off\" autocapitalize=\"none\" \
         required autofocus>\
         <button id=\"submit\" type=\"submit\">Sign in</button></form>\
         <p>It knows:</p><ul>{people}</ul>",
        escape(query),
    );
    let status = if error.is_some() {
        StatusCode::UNAUTHORIZED
    } else {
        StatusCode::OK
    };
    whole(status, "Sign in", &body)
}

/// A request that must not be sent back to where it says.
pub(super) fn refusal(why: &str) -> Response {
    let body = format!(
        "<h1>This login cannot begin</h1><p id=\"error\" role=\"alert\">{}</p>",
        escape(why)
    );
    whole(StatusCode::BAD_REQUEST, "Refused", &body)
}

/// `GET /`: who is signed in here, with a button to sign out.
pub(super) async fn home(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    let login = cookie(&provider, &headers).and_then(|cookie| provider.ledger.login(now(), cookie));
    let body = match login {
        Some(login) => format!(
            "<h1>Development provider</h1><p>You are signed in as <b id=\"who\">{}</b>.</p>\
             <form method=\"post\" action=\"/sign-out\"><button id=\"sign-out\" type=\"submit\">Sign out\
             </button></form>",
            login.person.username
        ),
        None => "<h1>Development provider</h1><p>Nobody is signed in here.</p>".to_owned(),
    };
    whole(StatusCode::OK, "Development provider", &body)
}

/// `POST /sign-out`: forgets this browser.
pub(super) async fn sign_out(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
) -> Response {
    if let Some(cookie) = cookie(&provider, &headers) {
        provider.ledger.sign_out(cookie);
    }
    let gone = format!(
        "{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
        provider.cookie_name
    );
    let headers = [(SET_COOKIE, gone), (LOCATION, "/".to_owned())];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The value of our cookie, if the browser sent it.
pub(super) fn cookie<'a>(provider: &Provider, headers: &'a HeaderMap) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == provider.cookie_name)
        .map(|(_, value)| value)
}

fn whole(status: StatusCode, title: &str, body: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    );
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    (status, headers, Html(page)).into_response()
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;background:#f4f5f7;color:#1d2433;margin:0}\
    main{max-width:24rem;margin:12vh auto;background:#fff;padding:2rem;border-radius:12px;\
    box-shadow:0 2px 16px #0001}h1{margin-top:0;font-size:1.4rem}label{display:block;font-weight:600}\
    input{width:100%;box-sizing:border-box;padding:.6rem;margin:.3rem 0 1rem;font:inherit;\
    border:1px solid #99a;border-radius:8px}button{font:inherit;padding:.6rem 1.4rem;border:0;\
    border-radius:8px;background:#2457d6;color:#fff;cursor:pointer}\
    [role=alert]{color:#9b1c1c;font-weight:600}";
