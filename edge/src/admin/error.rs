//! The one place where an error of the admin doors becomes HTTP: JSON in ngrok's shape, or a page.
//!
//! Handlers give an [`AdminError`]; it travels as a note in the response, and the outermost layer,
//! which knows the request's id and who asks, writes the body.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proto::code::{Blame, Code};
use proto::id::RequestId;

use super::routes::Door;
use super::views::{Details, ErrorView};
use super::{Admin, Operation, dashboard, failures};
use crate::secret;
use crate::store::StoreError;

/// A refusal or failure of an admin request.
#[derive(Clone, Debug)]
pub(super) struct AdminError {
    code: Code,
    /// In place of the code's own sentence.
    message: Option<String>,
    /// In place of the code's own next step.
    next_step: Option<&'static str>,
}

impl AdminError {
    pub(super) const fn new(code: Code) -> Self {
        Self {
            code,
            message: None,
            next_step: None,
        }
    }

    /// With a sentence that says what exactly is wrong. Cut short: it may quote what was sent.
    pub(super) fn because(code: Code, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let short = message.chars().take(MESSAGE_CHARS_MAX).collect();
        Self {
            code,
            message: Some(short),
            next_step: None,
        }
    }

    /// With a next step that fits what is wrong.
    pub(super) const fn next(mut self, step: &'static str) -> Self {
        self.next_step = Some(step);
        self
    }

    pub(super) const fn not_found() -> Self {
        Self::new(Code::ApiNotFound)
    }

    /// Whether it was the asker's doing, rather than ours.
    pub(super) fn is_refusal(&self) -> bool {
        self.code.blame() == Blame::Client
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "admin request not done"
        );
        Self::new(match error {
            StoreError::Full(_) => Code::StoreFull,
            StoreError::Unavailable(_)
            | StoreError::NewerSchema { .. }
            | StoreError::Unreadable { .. }
            | StoreError::RevokedMeanwhile => Code::StoreUnavailable,
        })
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let mut response = status(self.code).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The outermost layer of a door: gives every answer its id and headers, and errors their body.
pub(super) async fn finish(
    State((admin, door)): State<(Arc<Admin>, Door)>,
    request: Request,
    next: Next,
) -> Response {
    let operation = request.extensions().get::<Operation>().map_or_else(
        || secret::new_id(admin.parts.clock.unix_ms()),
        |operation| operation.0,
    );
    let wants_page = matches!(door, Door::Dashboard) && accepts_html(request.headers());
    let mut response = next.run(request).await;
    // The router's own answers carry no note.
    let note = match response.extensions_mut().remove::<AdminError>() {
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            Some(AdminError::new(Code::MethodNotAllowed))
        }
        note => note,
    };
    if let Some(error) = note {
        response = written(&error, &response, operation, wants_page);
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = match door {
                Door::Api | Door::Socket => BEARER,
                Door::Dashboard => SIGN_IN,
            };
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
    }
    let headers = response.headers_mut();
    door.headers(headers);
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&operation.to_string()) {
        headers.insert(OPERATION_ID, value.clone());
        headers.insert(REQUEST_ID, value);
    }
    response
}

fn written(
    error: &AdminError,
    bare: &Response,
    operation: RequestId,
    wants_page: bool,
) -> Response {
    let code = error.code;
    let view = ErrorView {
        error_code: code.to_string(),
        status_code: status(code).as_u16(),
        msg: error
            .message
            .clone()
            .unwrap_or_else(|| code.meaning().to_owned()),
        next_step: error
            .next_step
            .unwrap_or_else(|| code.next_step())
            .to_owned(),
        details: Details {
            operation_id: operation.to_string(),
        },
    };
    if code.blame() != Blame::Us {
        tracing::debug!(request.id = %operation, %code, "admin request refused");
    }
    let mut response = if wants_page {
        dashboard::error_page(&view)
    } else {
        axum::Json(&view).into_response()
    };
    *response.status_mut() = status(code);
    let headers = response.headers_mut();
    // What the router or the door's check has said stays, apart from the body it had.
    for (name, value) in bare.headers() {
        if name != CONTENT_TYPE && name != CONTENT_LENGTH {
            headers.insert(name.clone(), value.clone());
        }
    }
    if let Ok(value) = HeaderValue::from_str(&view.error_code) {
        headers.insert(ERROR_CODE, value);
    }
    match view.status_code {
        429 => {
            headers.insert(RETRY_AFTER, HeaderValue::from(failures::WINDOW.as_secs()));
        }
        503 => {
            headers.insert(RETRY_AFTER, HeaderValue::from(1));
        }
        _ => {}
    }
    response
}

fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains("text/html")))
}

const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"Sallyport\"");
/// Of no scheme that a browser asks a password for: the way in is a link.
const SIGN_IN: HeaderValue = HeaderValue::from_static("Sallyport realm=\"Sallyport\"");
const MESSAGE_CHARS_MAX: usize = 400;
const OPERATION_ID: HeaderName = HeaderName::from_static("ngrok-operation-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("sallyport-request-id");
const ERROR_CODE: HeaderName = HeaderName::from_static("sallyport-error");
