//! `/app/users`: the people who signed in.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::{deleted, one_more, paged};
use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::admin::params::{self, Named};
use crate::admin::views::{UserList, UserView};
use crate::model::change::Scope;

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
) -> Result<Json<UserList>, AdminError> {
    let page = params::page(query.as_deref())?;
    let users = admin.parts.store.users(one_more(page)).await?;
    let (users, uri, next_page_uri) = paged(&admin, "/app/users", page, users, |user| user.id);
    let application_users = users
        .into_iter()
        .map(|user| UserView::new(user, &admin.parts.site))
        .collect();
    Ok(Json(UserList {
        application_users,
        uri,
        next_page_uri,
    }))
}

pub(super) async fn one(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<proto::id::User>,
) -> Result<Json<UserView>, AdminError> {
    let user = admin
        .parts
        .store
        .user(id)
        .await?
        .ok_or(AdminError::not_found())?;
    Ok(Json(UserView::new(user, &admin.parts.site)))
}

/// Deletes the person and ends all their sessions.
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<proto::id::User>,
) -> Result<Response, AdminError> {
    deleted(&admin, Scope::User(id), true).await
}
