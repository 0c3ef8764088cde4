//! The dashboard: server-rendered pages for operators, usable by keyboard and without script.
//!
//! Everything that changes something is a form: a page to confirm (or a dialog, with script), a POST
//! that the door's check has already judged, and a redirect to the page that shows the receipt.
//! Reading order: `sign_in`, `users` (the pages), `act` (what forms do), `show` (values to text).

mod act;
mod assets;
mod show;
mod sign_in;
mod users;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::code::Code;

use super::error::AdminError;
use super::routes::{Needs, Route, Verb};
use super::views::ErrorView;

/// Every route of the dashboard.
pub(super) fn routes() -> Vec<Route> {
    use Verb::{Get, Post};
    vec![
        Route::new(Get, "/", Needs::Operator, users::list),
        Route::new(Get, "/users/{user}", Needs::Operator, users::person),
        Route::new(
            Get,
            "/users/{user}/sessions/{session}",
            Needs::Operator,
            users::session,
        ),
        Route::new(
            Get,
            "/users/{user}/delete",
            Needs::Operator,
            act::confirm_delete,
        ),
        Route::new(Post, "/users/{user}/delete", Needs::Operator, act::delete),
        Route::new(Get, "/users/{user}/end", Needs::Operator, act::confirm_end),
        Route::new(Post, "/users/{user}/end", Needs::Operator, act::end),
        Route::new(
            Get,
            "/users/{user}/sessions/{session}/revoke",
            Needs::Operator,
            act::confirm_revoke,
        ),
        Route::new(
            Post,
            "/users/{user}/sessions/{session}/revoke",
            Needs::Operator,
            act::revoke,
        ),
        Route::new(Post, "/sign-out", Needs::Operator, sign_in::sign_out),
        Route::new(Get, "/sign-in", Needs::Nobody, sign_in::page),
        Route::new(Post, "/sign-in", Needs::Nobody, sign_in::spend),
        Route::new(Get, "/assets/dashboard.css", Needs::Nobody, assets::style),
        Route::new(Get, "/assets/dashboard.js", Needs::Nobody, assets::script),
        Route::new(Get, "/favicon.ico", Needs::Nobody, assets::icon),
    ]
}

/// Headers of every dashboard answer: nothing from elsewhere runs or is shown, nobody frames it.
pub(super) fn headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

/// An error, as a page.
#[derive(Template)]
#[template(path = "dashboard/error.html")]
struct ErrorPage<'a> {
    error: &'a ErrorView,
    is_signed_out: bool,
}

pub(super) fn error_page(error: &ErrorView) -> Response {
    let is_signed_out =
        error.status_code == 401 || error.error_code == Code::OperatorLinkSpent.to_string();
    rendered(&ErrorPage {
        error,
        is_signed_out,
    })
    .unwrap_or_else(|_| axum::Json(error).into_response())
}

/// Renders a page. A template that cannot be rendered is our mistake.
fn rendered(page: &impl Template) -> Result<Response, AdminError> {
    match page.render() {
        Ok(text) => Ok(Html(text).into_response()),
        Err(error) => {
            tracing::error!(%error, "page not rendered");
            Err(AdminError::new(Code::Internal))
        }
    }
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
