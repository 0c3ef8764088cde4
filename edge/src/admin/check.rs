//! Who may come in: the checks that `routes` lays around every door. Nothing else authenticates.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, COOKIE, ORIGIN};
use http::{HeaderMap, HeaderName, Method};
use proto::authtoken::parse_api_key;
use proto::code::Code;
use proto::id::OperatorId;

use super::error::AdminError;
use super::{Admin, Client, params};
use crate::model::site::ReservedHost;
use crate::secret::{Secret, equal, sha256};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Request extension: the operator who is signed in.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    pub(super) id: OperatorId,
    /// What every form of this sign-in carries.
    pub(super) csrf: String,
}

/// Request extension: a form whose token was checked.
#[derive(Clone, Debug)]
pub(super) struct CheckedForm(Arc<[(String, String)]>);

impl CheckedForm {
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The API's check: a key, then the version.
pub(super) async fn api_key(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, AdminError> {
    let key = bearer(request.headers()).ok_or(AdminError::new(Code::ApiKeyMissing))?;
    if let Err(error) = known_api_key(&admin, key).await {
        return Err(admin.failed(client(&request), error));
    }
    match request
        .headers()
        .get(VERSION)
        .map(http::HeaderValue::as_bytes)
    {
        Some(b"2") => Ok(next.run(request).await),
        Some(_) => Err(AdminError::because(
            Code::ApiVersionMissing,
            "This API speaks version 2 only.",
        )),
        None => Err(AdminError::new(Code::ApiVersionMissing)),
    }
}

async fn known_api_key(admin: &Admin, text: &str) -> Result<(), AdminError> {
    let (id, secret) = parse_api_key(text).map_err(AdminError::new)?;
    let record = admin.parts.store.api_key(id).await?;
    let good = record.is_some_and(|record| {
        equal(&record.secret_hash, &sha256(secret.expose())) && record.revoked_at.is_none()
    });
    if good {
        Ok(())
    } else {
        Err(AdminError::new(Code::ApiKeyInvalid))
    }
}

/// The token of exactly one `Authorization: Bearer …` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The dashboard's check: a signed-in operator and, for whatever changes something, the token of
/// that sign-in in the form.
pub(super) async fn operator(
    State(admin): State<Arc<Admin>>,
    mut request: Request,
    next: Next,
) -> Result<Response, AdminError> {
    let operator = signed_in(&admin, request.headers())
        .await?
        .ok_or(AdminError::new(Code::OperatorRequired))?;
    if is_unsafe(request.method()) {
        let (parts, body) = request.into_parts();
        let form = form(&params::read(body).await?);
        let checked = CheckedForm(form.into());
        let token = checked.value(CSRF_FIELD).unwrap_or_default();
        if !equal(token.as_bytes(), operator.csrf.as_bytes()) {
            return Err(AdminError::new(Code::CsrfRefused));
        }
        request = Request::from_parts(parts, axum::body::Body::empty());
        request.extensions_mut().insert(checked);
    }
    request.extensions_mut().insert(operator);
    Ok(next.run(request).await)
}

/// Whatever changes something must come from the dashboard's own pages: its neighbours are the
/// endpoints, which are same-site, so cookies alone do not tell.
pub(super) async fn same_origin(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, AdminError> {
    if is_unsafe(request.method()) && !comes_from_us(&admin, request.headers()) {
        return Err(AdminError::new(Code::CsrfRefused));
    }
    Ok(next.run(request).await)
}

/// `Sec-Fetch-Site` decides when present, `Origin` only without it.
fn comes_from_us(admin: &Admin, headers: &HeaderMap) -> bool {
    match headers.get(FETCH_SITE) {
        Some(site) => site == "same-origin",
        None => headers.get(ORIGIN).is_some_and(|origin| {
            origin.as_bytes() == admin.parts.site.url(ReservedHost::Dashboard).as_bytes()
        }),
    }
}

fn is_unsafe(method: &Method) -> bool {
    *method != Method::GET && *method != Method::HEAD
}

/// The operator whose cookie this is. A broken, unknown or repeated cookie is nobody's.
async fn signed_in(admin: &Admin, headers: &HeaderMap) -> Result<Option<Operator>, AdminError> {
    let Some((id, secret)) = cookie(headers) else {
        return Ok(None);
    };
    let record = admin
        .parts
        .store
        .operator(id, admin.parts.clock.now())
        .await?;
    let known = record.is_some_and(|record| equal(&record.secret_hash, &sha256(secret.expose())));
    Ok(known.then(|| Operator {
        id,
        csrf: csrf_token(&secret),
    }))
}

/// The parts of the one cookie of our name.
fn cookie(headers: &HeaderMap) -> Option<(OperatorId, Secret<[u8; 32]>)> {
    let mut found = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == OPERATOR_COOKIE);
    let ((_, value), None) = (found.next()?, found.next()) else {
        return None;
    };
    let (id, secret) = value.split_once('.')?;
    let secret: [u8; 32] = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
    Some((OperatorId::parse(id).ok()?, Secret::new(secret)))
}

/// The cookie's value for a fresh sign-in.
pub(super) fn cookie_value(id: OperatorId, secret: &[u8; 32]) -> Secret<String> {
    Secret::new(format!("{id}.{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// Follows from the cookie's secret, so nothing more is stored; says nothing about it.
fn csrf_token(secret: &Secret<[u8; 32]>) -> String {
    let mut input = b"sallyport dashboard form".to_vec();
    input.extend_from_slice(secret.expose());
    URL_SAFE_NO_PAD.encode(sha256(&input))
}

/// A form's fields.
pub(super) fn form(body: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(body)
        .into_owned()
        .take(FORM_FIELDS_MAX)
        .collect()
}

/// Where a request came from, as far as the door outside has said.
pub(super) fn client(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Client>().map(|client| client.0)
}

impl Admin {
    /// A failed attempt: too many from one place are told so.
    pub(super) fn failed(&self, client: Option<IpAddr>, error: AdminError) -> AdminError {
        if error.is_refusal() && self.failures.note(client) {
            AdminError::new(Code::ApiRateLimited)
        } else {
            error
        }
    }
}

pub(super) const OPERATOR_COOKIE: &str = "__Host-sallyport-operator";
/// The field of a form that holds the sign-in's token.
pub(super) const CSRF_FIELD: &str = "csrf";
const FORM_FIELDS_MAX: usize = 16;
const VERSION: HeaderName = HeaderName::from_static("ngrok-version");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
