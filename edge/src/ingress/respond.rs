//! The one place where an error, or an answer of `auth`, becomes HTTP on the public side: a page for
//! people, JSON for programs, with the same code, sentence, next step and request id in both.
//!
//! Pages hold nothing from outside but what the templates escape, load nothing, run no script, and
//! may not be framed. Nothing here is kept by a cache, except the public keys.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use proto::code::Code;
use proto::id::RequestId;
use serde::Serialize;

use crate::auth::reply::{Content, Failure, Link};
use crate::auth::{Reply, wants_page};
use crate::ingress::body::ResponseBody;
use crate::secret;

/// Who asks, as far as the form of the answer depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) request_id: RequestId,
    wants_page: bool,
    /// The answer's body is not sent: HTTP/2 leaves that to us.
    is_head: bool,
    /// Asking again by itself repeats nothing.
    may_refresh: bool,
    /// What follows a message on its connection depends on how the message was read.
    is_http1: bool,
}

impl Asker {
    pub(crate) fn of<B>(request_id: RequestId, request: &Request<B>) -> Self {
        let method = request.method();
        Self {
            request_id,
            wants_page: wants_page(request.headers()),
            is_head: method == Method::HEAD,
            may_refresh: method == Method::GET,
            is_http1: request.version() < Version::HTTP_2,
        }
    }
}

/// The answer to a request that failed.
pub(crate) fn failure(code: Code, asker: &Asker) -> Response<ResponseBody> {
    reply(code.into(), asker)
}

/// An answer of `auth`.
pub(crate) fn reply(reply: Reply, asker: &Asker) -> Response<ResponseBody> {
    let Reply { content, cookies } = reply;
    let mut response = match content {
        Content::Redirect(location) => redirect(&location, asker),
        Content::Failure(why) => failed(&why, asker),
        Content::SignOut { action, person } => {
            let page = SignOutPage { action, person };
            either(
                StatusCode::OK,
                &page,
                || json(&SignedIn { signed_in: true }),
                asker,
            )
        }
        Content::SignedOut { onward } => {
            let page = SignedOutPage { onward };
            either(
                StatusCode::OK,
                &page,
                || json(&SignedIn { signed_in: false }),
                asker,
            )
        }
        Content::Json { body, is_public } => {
            let mut response = whole(StatusCode::OK, JSON, body, asker);
            if is_public {
                set(&mut response, header::CACHE_CONTROL, KEYS_KEPT);
            }
            response
        }
    };
    let headers = response.headers_mut();
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

fn redirect(location: &str, asker: &Asker) -> Response<ResponseBody> {
    // What `url` wrote is ASCII without controls.
    let Ok(location) = HeaderValue::from_str(location) else {
        return failure(Code::Internal, asker);
    };
    let mut response = whole(StatusCode::SEE_OTHER, TEXT, String::new(), asker);
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn failed(why: &Failure, asker: &Asker) -> Response<ResponseBody> {
    let code = why.code;
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let request_id = asker.request_id.to_string();
    let page = FailurePage {
        code,
        request_id: &request_id,
        action: why.action.as_ref(),
        refresh: asker.may_refresh && code == Code::EndpointOffline,
    };
    let document = || {
        json(&FailureDocument {
            error_code: code,
            status_code: status.as_u16(),
            msg: code.meaning(),
            next_step: code.next_step(),
            login_url: why.login_url.as_deref(),
            details: Details {
                operation_id: &request_id,
            },
        })
    };
    let mut response = either(status, &page, document, asker);
    // For whoever counts: an upstream may send a header of that name.
    response.extensions_mut().insert(code);
    if let Ok(value) = HeaderValue::from_str(&code.to_string()) {
        response.headers_mut().insert(SALLYPORT_ERROR, value);
    }
    if matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    ) {
        set(&mut response, header::RETRY_AFTER, RETRY_AFTER_S);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = why.allow.unwrap_or(PASSED_ON);
        set(&mut response, header::ALLOW, allow);
    }
    if asker.is_http1 && is_misread(why) {
        set(&mut response, header::CONNECTION, "close");
    }
    if status == StatusCode::UNAUTHORIZED {
        set(&mut response, header::WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

/// Whether client and edge may disagree about where this request ends, so that nothing after it on its
/// connection can be believed (RFC 9112 §6.3).
fn is_misread(why: &Failure) -> bool {
    // CONNECT and TRACE; our own pages name what they allow.
    let is_refused_method = why.code == Code::MethodNotAllowed && why.allow.is_none();
    is_refused_method
        || matches!(
            why.code,
            Code::BadRequest | Code::BadRequestTarget | Code::HostMissing | Code::HostMismatch
        )
}

/// A page for people, a document for programs.
fn either(
    status: StatusCode,
    page: &impl Template,
    document: impl FnOnce() -> String,
    asker: &Asker,
) -> Response<ResponseBody> {
    if !asker.wants_page {
        return whole(status, JSON, document(), asker);
    }
    // Templates of strings cannot fail; if one does, the status still says what happened.
    let mut response = whole(status, HTML, page.render().unwrap_or_default(), asker);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, CSP.clone());
    set(&mut response, header::X_FRAME_OPTIONS, "DENY");
    response
}

fn whole(
    status: StatusCode,
    content_type: &'static str,
    text: String,
    asker: &Asker,
) -> Response<ResponseBody> {
    let length = text.len();
    let body = if asker.is_head {
        Bytes::new()
    } else {
        Bytes::from(text)
    };
    let mut response = Response::new(ResponseBody::from(body));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        set(&mut response, name, value);
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::from_str(&asker.request_id.to_string()) {
        headers.insert(SALLYPORT_REQUEST_ID, value);
    }
    response
}

fn set(response: &mut Response<ResponseBody>, name: HeaderName, value: &'static str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

fn json(document: &impl Serialize) -> String {
    // Structs of strings and numbers: writing them cannot fail.
    serde_json::to_string(document).unwrap_or_default()
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'a> {
    code: Code,
    request_id: &'a str,
    action: Option<&'a Link>,
    /// The page asks again by itself.
    refresh: bool,
}

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOutPage {
    action: String,
    person: Option<String>,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage {
    onward: Link,
}

#[derive(Serialize)]
struct FailureDocument<'a> {
    error_code: Code,
    status_code: u16,
    msg: &'a str,
    next_step: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_url: Option<&'a str>,
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    operation_id: &'a str,
}

#[derive(Serialize)]
struct SignedIn {
    signed_in: bool,
}

/// Nothing is loaded and nothing runs; the one style sheet is named by its hash.
static CSP: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(secret::sha256(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    // Of base64 and fixed text.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// Written into every page, between the tags exactly as it is here.
pub(crate) const STYLE: &str = include_str!("../../templates/style.css");
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// Upstreams fetch keys again when they meet an unknown `kid`.
const KEYS_KEPT: &str = "public, max-age=300";
/// What a 401 has to name (RFC 9110 §15.5.2). Of no scheme that a browser asks a password for: the way in
/// is a page, and the answer's body says where.
const CHALLENGE: &str = "Sallyport realm=\"Sallyport\"";
/// The well-known ones of the methods that are passed on: all but CONNECT and TRACE.
const PASSED_ON: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";
/// Seconds: an agent or a store that was restarted is back by then.
const RETRY_AFTER_S: &str = "5";
const SALLYPORT_REQUEST_ID: HeaderName = HeaderName::from_static("sallyport-request-id");
const SALLYPORT_ERROR: HeaderName = HeaderName::from_static("sallyport-error");

#[cfg(test)]
mod tests;
