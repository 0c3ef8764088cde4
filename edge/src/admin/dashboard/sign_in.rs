//! Signing in with a one-time link, and out. The link's code stands in the fragment, which no server
//! sees; the page's script posts it, or the operator pastes it.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::HeaderValue;
use http::header::SET_COOKIE;
use proto::code::Code;

use super::rendered;
use crate::admin::check::{self, OPERATOR_COOKIE, Operator};
use crate::admin::error::AdminError;
use crate::admin::mint::SIGN_IN_LIFE;
use crate::admin::{Admin, params};

#[derive(Template)]
#[template(path = "dashboard/sign-in.html")]
struct Page;

pub(super) async fn page() -> Result<Response, AdminError> {
    rendered(&Page)
}

/// Spends a code and signs this browser in.
pub(super) async fn spend(
    State(admin): State<Arc<Admin>>,
    request: Request,
) -> Result<Response, AdminError> {
    let client = check::client(&request);
    let form = check::form(&params::read(request.into_body()).await?);
    let code = form
        .iter()
        .find(|(key, _)| key == "code")
        .map(|(_, value)| value.trim());
    // Somebody without script may paste the whole link.
    let code = code
        .and_then(|code| code.rsplit('#').next())
        .unwrap_or_default();
    match admin.spend_operator_link(code).await? {
        Some(value) => {
            let cookie = cookie(value.expose(), SIGN_IN_LIFE.as_secs())?;
            tracing::info!("operator signed in");
            Ok(([(SET_COOKIE, cookie)], Redirect::to("/")).into_response())
        }
        None => Err(admin.failed(client, AdminError::new(Code::OperatorLinkSpent))),
    }
}

pub(super) async fn sign_out(
    State(admin): State<Arc<Admin>>,
    Extension(operator): Extension<Operator>,
) -> Result<Response, AdminError> {
    admin.parts.store.remove_operator(operator.id).await?;
    Ok(([(SET_COOKIE, cookie("", 0)?)], Redirect::to("/sign-in")).into_response())
}

fn cookie(value: &str, max_age_s: i64) -> Result<HeaderValue, AdminError> {
    let text = format!(
        "{OPERATOR_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={max_age_s}"
    );
    let mut header = HeaderValue::from_str(&text).map_err(|_| AdminError::new(Code::Internal))?;
    header.set_sensitive(true);
    Ok(header)
}
