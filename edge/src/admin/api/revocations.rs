//! `/app/revocations` and `/app/receipts`: end sessions of any scope, and read what that reached.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;

use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::admin::params::{JsonBody, Named, RevocationBody};
use crate::admin::views::ReceiptView;

/// Answers 201 with the receipt, or 200 with the first one where the order repeats an earlier one.
pub(in crate::admin) async fn create(
    State(admin): State<Arc<Admin>>,
    JsonBody(body): JsonBody<RevocationBody>,
) -> Result<Response, AdminError> {
    let (scope, reason) = body.checked()?;
    let asked_at = admin.parts.clock.now().as_millisecond();
    let receipt = admin
        .revoke(scope, reason, false)
        .await?
        .ok_or(AdminError::not_found())?;
    let is_fresh = receipt.created_at.as_millisecond() >= asked_at;
    let view = ReceiptView::new(&receipt, &admin.parts.site);
    let status = if is_fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, [(LOCATION, view.uri.clone())], Json(view)).into_response())
}

pub(in crate::admin) async fn receipt(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<proto::id::Receipt>,
) -> Result<Json<ReceiptView>, AdminError> {
    let receipt = admin
        .parts
        .store
        .receipt(id)
        .await?
        .ok_or(AdminError::not_found())?;
    Ok(Json(ReceiptView::new(&receipt, &admin.parts.site)))
}
