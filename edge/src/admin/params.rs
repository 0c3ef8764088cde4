//! What callers send: paging, ids in paths, bodies. Everything is bounded and refused with a sentence.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use proto::code::Code;
use proto::id::{Id, Kind};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::AdminError;
use crate::model::change::Scope;
use crate::store::Page;

/// The page that a query asks for: `limit` (1 to 100; more counts as 100) and `before_id`, which one
/// client spells `beforeId`. Empty counts as absent, since one client sends keys without values.
pub(super) fn page<K: Kind>(query: Option<&str>) -> Result<Page<Id<K>>, AdminError> {
    let mut page = Page {
        before: None,
        limit: PAGE_MAX,
    };
    for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if value.is_empty() {
            continue;
        }
        match &*key {
            "limit" => {
                page.limit = match value.parse::<usize>() {
                    Ok(limit) if limit > 0 => limit.min(PAGE_MAX),
                    Ok(_) | Err(_) => {
                        return Err(invalid(format!("limit must be 1 to {PAGE_MAX}")));
                    }
                };
            }
            "before_id" | "beforeId" => {
                let id = Id::parse(&value).map_err(|_| {
                    invalid(format!(
                        "before_id must begin with {} and be an id from a list",
                        K::PREFIX
                    ))
                })?;
                if page.before.is_some_and(|other| other != id) {
                    return Err(invalid("before_id is given twice".to_owned()));
                }
                page.before = Some(id);
            }
            // Inside version 2 clients may know parameters that we do not.
            _ => {}
        }
    }
    Ok(page)
}

fn invalid(message: String) -> AdminError {
    AdminError::because(Code::ApiParameterInvalid, message)
}

/// The id in a path with one parameter. A malformed id names nothing: not found.
pub(super) struct Named<K>(pub(super) Id<K>);

impl<K: Kind, S: Send + Sync> FromRequestParts<S> for Named<K> {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|_| AdminError::not_found())?;
        Id::parse(&text)
            .map(Self)
            .map_err(|_| AdminError::not_found())
    }
}

/// A JSON body of at most 64 KiB. The content type is not asked for: clients differ.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, _: &S) -> Result<Self, AdminError> {
        let body = read(request.into_body()).await?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            AdminError::because(
                Code::ApiBodyInvalid,
                format!("the body is not usable: {error}"),
            )
        })
    }
}

/// Reads a body of at most 64 KiB, within 30 s.
pub(super) async fn read(body: axum::body::Body) -> Result<Bytes, AdminError> {
    let reading = Limited::new(body, BODY_MAX).collect();
    match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(AdminError::new(Code::BodyTooLarge))
        }
        Ok(Err(_)) => Err(AdminError::new(Code::BadRequest)),
        Err(_) => Err(AdminError::new(Code::BodyTimeout)),
    }
}

/// What `POST /app/revocations` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevocationBody {
    scope: ScopeBody,
    #[serde(default)]
    reason: String,
}

/// Exactly one key: serde takes an enum from an object of one key only.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ScopeBody {
    Session(String),
    User(String),
    Endpoint(String),
    Provider(String),
    All(bool),
}

impl RevocationBody {
    /// The scope and the reason, checked.
    pub(super) fn checked(self) -> Result<(Scope, String), AdminError> {
        if self.reason.chars().count() > REASON_CHARS_MAX {
            let message = format!("reason must have at most {REASON_CHARS_MAX} characters");
            return Err(AdminError::because(Code::ApiBodyInvalid, message));
        }
        let scope = match self.scope {
            ScopeBody::Session(id) => Scope::Session(known(&id)?),
            ScopeBody::User(id) => Scope::User(known(&id)?),
            ScopeBody::Endpoint(id) => Scope::Endpoint(known(&id)?),
            ScopeBody::Provider(name) => Scope::Provider(name),
            ScopeBody::All(true) => Scope::All,
            ScopeBody::All(false) => {
                let message = "scope.all must be true: nothing is revoked by accident";
                return Err(AdminError::because(Code::ApiBodyInvalid, message));
            }
        };
        Ok((scope, self.reason))
    }
}

fn known<K: Kind>(text: &str) -> Result<Id<K>, AdminError> {
    Id::parse(text).map_err(|_| AdminError::not_found())
}

/// The most that a page holds, as ngrok's.
pub(super) const PAGE_MAX: usize = 100;
const BODY_MAX: usize = 64 * 1024;
/// So little arrives at once, or from somebody who holds connections open.
const BODY_WITHIN: Duration = Duration::from_secs(30);
pub(super) const REASON_CHARS_MAX: usize = 255;
