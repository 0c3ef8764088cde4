//! Identity providers: tried before they are stored, listed without their secrets, removed with all
//! sessions that came through them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use proto::code::Code;
use proto::limits;
use serde::Deserialize;

use crate::admin::error::AdminError;
use crate::admin::params::JsonBody;
use crate::admin::views::{ProviderView, time};
use crate::admin::{Admin, ProviderWanted};
use crate::model::credential::ProviderRecord;
use crate::model::site::{ReservedHost, Site};

/// A provider to add. Without an issuer, the name must be a preset's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    name: String,
    #[serde(default)]
    issuer: Option<String>,
    client_id: String,
    client_secret: String,
    #[serde(default)]
    scopes: Vec<String>,
}

impl Wanted {
    fn check(&self) -> Result<(), AdminError> {
        let refused = |message: &str| Err(AdminError::because(Code::ApiParameterInvalid, message));
        let is_name = !self.name.is_empty()
            && self.name.len() <= limits::PROVIDER_BYTES_MAX
            && self
                .name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !self.name.starts_with('-');
        if !is_name {
            return refused(
                "a provider's name is 1 to 64 of a-z, 0-9 and -: it stands in the redirect URI",
            );
        }
        if self.client_id.trim().is_empty() || self.client_id.len() > TEXT_BYTES_MAX {
            return refused("the client id is missing or too long");
        }
        if self.client_secret.is_empty() || self.client_secret.len() > TEXT_BYTES_MAX {
            return refused("the client secret is missing or too long");
        }
        let is_scope = |scope: &String| {
            !scope.is_empty()
                && scope.len() <= 256
                && scope
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
        };
        if self.scopes.len() > limits::LIST_MAX || !self.scopes.iter().all(is_scope) {
            return refused("a scope is a word without spaces and quotes (RFC 6749 §3.3)");
        }
        if self
            .issuer
            .as_ref()
            .is_some_and(|issuer| issuer.len() > limits::URL_BYTES_MAX)
        {
            return refused("the issuer is too long");
        }
        Ok(())
    }
}

pub(super) async fn add(
    State(admin): State<Arc<Admin>>,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Result<(StatusCode, Json<ProviderView>), AdminError> {
    wanted.check()?;
    let trial = ProviderWanted {
        name: wanted.name.clone(),
        issuer: wanted.issuer,
        client_id: wanted.client_id.clone(),
        scopes: wanted.scopes.clone(),
    };
    let found = (admin.parts.verify_provider)(trial)
        .await
        .map_err(|sentence| {
            AdminError::because(Code::ApiParameterInvalid, sentence).next(
                "Check name and issuer, and that this edge can reach the provider; then add it again.",
            )
        })?;
    let record = ProviderRecord {
        name: wanted.name,
        kind: found.kind,
        issuer: found.issuer,
        client_id: wanted.client_id,
        client_secret: wanted.client_secret,
        scopes: wanted.scopes,
        created_at: admin.parts.clock.now(),
    };
    let shown = view(&record, &admin.parts.site);
    admin.parts.store.put_provider(record).await?;
    Ok((StatusCode::CREATED, Json(shown)))
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
) -> Result<Json<Vec<ProviderView>>, AdminError> {
    let records = admin.parts.store.providers().await?;
    Ok(Json(
        records
            .iter()
            .map(|record| view(record, &admin.parts.site))
            .collect(),
    ))
}

pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<StatusCode, AdminError> {
    if admin.parts.store.remove_provider(name.clone()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(AdminError::because(
            Code::ApiNotFound,
            format!("There is no provider {name:?}."),
        ))
    }
}

fn view(record: &ProviderRecord, site: &Site) -> ProviderView {
    ProviderView {
        name: record.name.clone(),
        kind: record.kind.clone(),
        issuer: record.issuer.clone(),
        redirect_uri: format!("{}/callback/{}", site.url(ReservedHost::Auth), record.name),
        client_id: record.client_id.clone(),
        scopes: record.scopes.clone(),
        created_at: time(record.created_at),
    }
}

/// Some providers' secrets are keys of a few kilobytes.
const TEXT_BYTES_MAX: usize = 8192;
