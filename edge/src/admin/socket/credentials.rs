//! Authtokens, API keys, the operator's link: made and shown once, listed without their secrets,
//! revoked by id.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use proto::code::Code;
use serde::Deserialize;

use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::admin::params::{JsonBody, Named, REASON_CHARS_MAX};
use crate::admin::views::{CredentialView, FreshCredential, OperatorLink, time};

/// What the two kinds are made with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    description: String,
}

impl Wanted {
    fn checked(self) -> Result<String, AdminError> {
        if self.description.chars().count() <= REASON_CHARS_MAX {
            return Ok(self.description);
        }
        let message = format!("the description must have at most {REASON_CHARS_MAX} characters");
        Err(AdminError::because(Code::ApiParameterInvalid, message))
    }
}

type Fresh<T> = Result<(StatusCode, Json<T>), AdminError>;

pub(super) async fn create_authtoken(
    State(admin): State<Arc<Admin>>,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Fresh<FreshCredential> {
    Ok((
        StatusCode::CREATED,
        Json(admin.mint_authtoken(wanted.checked()?).await?),
    ))
}

pub(super) async fn create_api_key(
    State(admin): State<Arc<Admin>>,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Fresh<FreshCredential> {
    Ok((
        StatusCode::CREATED,
        Json(admin.mint_api_key(wanted.checked()?).await?),
    ))
}

pub(super) async fn create_operator_link(State(admin): State<Arc<Admin>>) -> Fresh<OperatorLink> {
    Ok((StatusCode::CREATED, Json(admin.mint_operator_link().await?)))
}

pub(super) async fn authtokens(
    State(admin): State<Arc<Admin>>,
) -> Result<Json<Vec<CredentialView>>, AdminError> {
    let records = admin.parts.store.authtokens().await?;
    let views = records.into_iter().map(|record| CredentialView {
        id: record.id.to_string(),
        description: record.description,
        created_at: time(record.created_at),
        revoked_at: record.revoked_at.map(time),
    });
    Ok(Json(views.collect()))
}

pub(super) async fn api_keys(
    State(admin): State<Arc<Admin>>,
) -> Result<Json<Vec<CredentialView>>, AdminError> {
    let records = admin.parts.store.api_keys().await?;
    let views = records.into_iter().map(|record| CredentialView {
        id: record.id.to_string(),
        description: record.description,
        created_at: time(record.created_at),
        revoked_at: record.revoked_at.map(time),
    });
    Ok(Json(views.collect()))
}

/// Ends the authtoken, its endpoints and their sessions.
pub(super) async fn revoke_authtoken(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<proto::id::Authtoken>,
) -> Result<StatusCode, AdminError> {
    let known = admin
        .parts
        .store
        .revoke_authtoken(id, admin.parts.clock.now())
        .await?;
    if known {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(AdminError::because(
            Code::ApiNotFound,
            format!("There is no authtoken {id}."),
        ))
    }
}

pub(super) async fn revoke_api_key(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<proto::id::ApiKey>,
) -> Result<StatusCode, AdminError> {
    let known = admin
        .parts
        .store
        .revoke_api_key(id, admin.parts.clock.now())
        .await?;
    if known {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(AdminError::because(
            Code::ApiNotFound,
            format!("There is no API key {id}."),
        ))
    }
}
