//! The life of a public request, as a story. Every branch of the data path is here; the callees
//! have none.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use proto::code::Code;
use tower::ServiceExt;

use crate::auth::{Auth, Reply, Verdict};
use crate::ingress::Worker;
use crate::ingress::access_log::Record;
use crate::ingress::body::ResponseBody;
use crate::ingress::connection::Connection;
use crate::ingress::forward::{self, Passed, Reuse};
use crate::ingress::request::Target;
use crate::ingress::respond::{self, Asker};
use crate::ingress::websocket;
use crate::model::site::ReservedHost;
use crate::route::table::Route;
use crate::secret;

/// Serves one public request and writes its one line in the access log.
pub(crate) async fn handle(
    worker: &Worker,
    connection: &Connection,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let ingress = &worker.ingress;
    let translated = websocket::translate(&mut request);
    let is_extended = translated == Ok(true);
    let asker = Asker::of(
        secret::new_id_drawn_ahead(ingress.clock.unix_ms()),
        &request,
    );
    let mut record = Record::begin(ingress.clock, connection, &request, asker.request_id);
    let target = translated.and_then(|_| {
        Target::of(
            connection,
            request.method(),
            request.uri(),
            request.headers(),
        )
    });
    let mut response = match target {
        Ok(target) => dispatch(worker, connection, request, target, &asker, &mut record).await,
        Err(code) => respond::failure(code, &asker),
    };
    if is_extended && websocket::misleads(&response) {
        response = respond::failure(Code::UpgradeRefused, &asker);
    }
    let elapsed = record.end(ingress.clock, response.status());
    let code = response.extensions().get::<Code>().copied();
    ingress
        .metrics
        .request(response.status().as_u16(), code, elapsed);
    response
}

async fn dispatch(
    worker: &Worker,
    connection: &Connection,
    request: Request<Incoming>,
    target: Target,
    asker: &Asker,
    record: &mut Record,
) -> Response<ResponseBody> {
    let ingress = &worker.ingress;
    record.host(&target.host);
    match ingress.site.reserved(&target.host) {
        // What the edge answers itself is boxed: every connection has room for what is not.
        Some(ReservedHost::Auth) => {
            let client = connection.peer.ip();
            let answer = async {
                let request = collect(request, ingress.limits.body_idle).await?;
                Ok(ingress.auth.auth_host(request, client).await)
            };
            own(Box::pin(answer).await, asker)
        }
        Some(ReservedHost::Api) => {
            Box::pin(through(&ingress.api, request, connection, asker)).await
        }
        Some(ReservedHost::Dashboard) => {
            Box::pin(through(&ingress.dashboard, request, connection, asker)).await
        }
        Some(ReservedHost::Connect) => respond::failure(Code::UnknownHost, asker),
        None => match ingress.routes.find(&target.host) {
            Some(route) if Auth::is_reserved(target.path_and_query.path()) => {
                let client = connection.peer.ip();
                let answer = async {
                    let request = collect(request, ingress.limits.body_idle).await?;
                    Ok(ingress.auth.endpoint_path(&route, request, client).await)
                };
                own(Box::pin(answer).await, asker)
            }
            Some(route) => serve(worker, connection, route, request, target, asker, record).await,
            None => respond::failure(Code::UnknownHost, asker),
        },
    }
}

/// route → authorize → pick → open → forward(permit, …)
async fn serve(
    worker: &Worker,
    connection: &Connection,
    route: Route,
    request: Request<Incoming>,
    target: Target,
    asker: &Asker,
    record: &mut Record,
) -> Response<ResponseBody> {
    let ingress = &worker.ingress;
    let (parts, body) = request.into_parts();
    record.endpoint(route.endpoint.id);
    let mut permit = match ingress
        .auth
        .authorize(&route, &parts, connection.peer.ip())
        .await
    {
        Verdict::Allow(permit) => permit,
        Verdict::Login(reply) => return respond::reply(reply, asker),
        Verdict::Deny(code) => return respond::failure(code, asker),
    };
    record.session(permit.session().map(|session| session.id));
    let reuse = Reuse::of(&parts, &body);
    let opened = match forward::open(&mut permit, worker, connection, reuse).await {
        Ok(opened) => opened,
        Err(code) => return respond::failure(code, asker),
    };
    let identity = ingress.auth.identity_headers(&permit);
    let passed = Passed {
        parts,
        body,
        target,
        identity,
        body_idle: ingress.limits.body_idle,
    };
    match forward::forward(permit, opened, worker, connection, passed).await {
        Ok(response) => response,
        Err(code) => respond::failure(code, asker),
    }
}

/// The answer of a path that is the edge's own.
fn own(answer: Result<Reply, Code>, asker: &Asker) -> Response<ResponseBody> {
    match answer {
        Ok(reply) => respond::reply(reply, asker),
        Err(code) => respond::failure(code, asker),
    }
}

/// Hands a request to one of the doors that the server wired in.
async fn through(
    door: &axum::Router,
    mut request: Request<Incoming>,
    connection: &Connection,
    asker: &Asker,
) -> Response<ResponseBody> {
    request.extensions_mut().insert(connection.peer);
    request.extensions_mut().insert(asker.request_id);
    match door
        .clone()
        .oneshot(request.map(axum::body::Body::new))
        .await
    {
        Ok(response) => response.map(ResponseBody::Admin),
        Err(never) => match never {},
    }
}

/// Reads a small body whole, for the paths that the edge answers itself.
async fn collect(
    request: Request<Incoming>,
    within: std::time::Duration,
) -> Result<Request<Bytes>, Code> {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(within, Limited::new(body, OWN_BODY_MAX).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, body.to_bytes())),
        Ok(Err(_)) => Err(Code::BadRequest),
        Err(_) => Err(Code::RequestTimeout),
    }
}

/// A form of our own is a few hundred bytes; a SAML answer is below 256 KiB.
const OWN_BODY_MAX: usize = 256 * 1024;
