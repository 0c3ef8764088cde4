//! The API: ngrok's calls for App Users and sessions in their exact shapes, and revocations with
//! their receipts beyond them.

pub(super) mod revocations;
mod sessions;
mod users;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use proto::code::Code;
use proto::id::{Id, Kind};

use super::Admin;
use super::error::AdminError;
use super::routes::{Needs, Route, Verb};
use super::views::{api_uri, receipt_uri};
use crate::model::change::Scope;
use crate::store::Page;

/// Every route of the API.
pub(super) fn routes() -> Vec<Route> {
    use Verb::{Delete, Get, Post};
    vec![
        Route::new(Get, "/app/users", Needs::ApiKey, users::list),
        Route::new(Get, "/app/users/{id}", Needs::ApiKey, users::one),
        Route::new(Delete, "/app/users/{id}", Needs::ApiKey, users::delete),
        Route::new(Get, "/app/sessions", Needs::ApiKey, sessions::list),
        Route::new(Get, "/app/sessions/{id}", Needs::ApiKey, sessions::one),
        Route::new(
            Delete,
            "/app/sessions/{id}",
            Needs::ApiKey,
            sessions::delete,
        ),
        Route::new(Post, "/app/revocations", Needs::ApiKey, revocations::create),
        Route::new(
            Get,
            "/app/receipts/{id}",
            Needs::ApiKey,
            revocations::receipt,
        ),
    ]
}

/// Answers a DELETE as ngrok does, an empty 204, and names the receipt in a header.
async fn deleted(
    admin: &Arc<Admin>,
    scope: Scope,
    delete_user: bool,
) -> Result<Response, AdminError> {
    let receipt = admin
        .revoke(scope, String::new(), delete_user)
        .await?
        .ok_or(AdminError::not_found())?;
    let uri = receipt_uri(&admin.parts.site, &receipt);
    let uri = HeaderValue::from_str(&uri).map_err(|_| AdminError::new(Code::Internal))?;
    Ok((StatusCode::NO_CONTENT, [(RECEIPT, uri)]).into_response())
}

/// Cuts a list that was read one entry longer than the page, and says where the next page is.
fn paged<T, K: Kind>(
    admin: &Admin,
    path: &str,
    page: Page<Id<K>>,
    mut found: Vec<T>,
    id: impl Fn(&T) -> Id<K>,
) -> (Vec<T>, String, Option<String>) {
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let uri = api_uri(&admin.parts.site, path);
    let next = found
        .last()
        .filter(|_| more)
        .map(|last| format!("{uri}?before_id={}&limit={}", id(last), page.limit));
    (found, uri, next)
}

/// Asks for one entry more than the page holds: whether it is there says whether more follow.
const fn one_more<I: Copy>(page: Page<I>) -> Page<I> {
    Page {
        before: page.before,
        limit: page.limit + 1,
    }
}

/// The absolute address of a DELETE's receipt.
const RECEIPT: HeaderName = HeaderName::from_static("sallyport-receipt");
