//! `/app/sessions`: signed-in browsers, one record per person, endpoint and login.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::{deleted, one_more, paged};
use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::admin::params::{self, Named};
use crate::admin::views::{SessionList, SessionView};
use crate::model::change::Scope;
use crate::store::SessionFilter;

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
) -> Result<Json<SessionList>, AdminError> {
    let page = params::page(query.as_deref())?;
    let now = admin.parts.clock.now();
    let sessions = admin
        .parts
        .store
        .sessions(SessionFilter::default(), one_more(page), now)
        .await?;
    let (sessions, uri, next_page_uri) = paged(&admin, "/app/sessions", page, sessions, |seen| {
        seen.session.id
    });
    let application_sessions = sessions
        .into_iter()
        .map(|seen| SessionView::new(seen, &admin.parts.site))
        .collect();
    Ok(Json(SessionList {
        application_sessions,
        uri,
        next_page_uri,
    }))
}

pub(super) async fn one(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<proto::id::Session>,
) -> Result<Json<SessionView>, AdminError> {
    let seen = admin
        .parts
        .store
        .session(id, admin.parts.clock.now())
        .await?;
    let seen = seen.ok_or(AdminError::not_found())?;
    Ok(Json(SessionView::new(seen, &admin.parts.site)))
}

/// Revokes one session.
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<proto::id::Session>,
) -> Result<Response, AdminError> {
    deleted(&admin, Scope::Session(id), false).await
}
