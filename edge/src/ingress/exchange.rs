//! One exchange. Until the response's head is there it is part of its request's own task; a body is
//! pumped by a task that owns permit and upstream and is awake on its own, so a cut never waits for
//! somebody to read. After a clean end the upstream's connection is kept for the next (see `pool`).
//!
//! On a cut the agent's stream is reset at once. Towards the client: HTTP/1.1 loses its connection
//! with a reset; an HTTP/2 stream is reset, and where that has not gone out in time its connection
//! is closed. The permit is let go when no further upstream byte can enter the client's buffer:
//! that is what a revocation waits for.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use proto::code::Code;
use tokio::sync::mpsc;

use crate::auth::Permit;
use crate::ingress::body::{self, BodyFeed, Item, ResponseBody};
use crate::ingress::connection::{Connection, OpenRequest, Version};
use crate::ingress::forward::Load;
use crate::ingress::grpc;
use crate::ingress::headers;
use crate::ingress::pool::Pool;
use crate::ingress::request::{ClientFault, RequestBody, client_fault};
use crate::ingress::tail::Left;
use crate::ingress::upgrade::{self, Client, End};
use crate::ingress::upstream::{Gathered, NoResponse, Upstream, Why};
use crate::model::session::CutReason;

/// What an exchange needs.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) permit: Permit,
    pub(crate) connection: Connection,
    /// Held while the exchange lives: the connection counts as busy.
    pub(crate) open: OpenRequest,
    /// Held while the exchange lives: its tunnel counts it.
    pub(crate) load: Load,
    /// Present when the client asked for an upgrade.
    pub(crate) upgrade: Option<Client>,
    /// Where the upstream's connection goes after a clean end.
    pub(crate) pool: Arc<Pool>,
}

/// The upstream's answer, on its way to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// A phrase of the upstream's own beside the status.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ResponseBody,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    Cut(CutReason),
    Failed(Code),
    /// A connection that had served before turned out to be dead, and the request can be sent again.
    Again(Box<(Exchange, Request<RequestBody>)>),
}

impl Exchange {
    /// Speaks to the upstream; resolves when the answer's head is there. Until then this is its caller's
    /// own task, which hears a cut; what follows is in a task of its own. Dropping the future ends the
    /// exchange.
    pub(crate) async fn run(
        mut self,
        mut upstream: Upstream,
        request: Request<RequestBody>,
    ) -> Result<Answer, NoAnswer> {
        let has_served = upstream.has_served();
        let spare = has_served.then(|| Spare::of(&request)).flatten();
        let carries_login = carries_login(request.headers());
        let response = tokio::select! {
            biased;
            reason = self.permit.cut() => {
                upstream.cut();
                // Nothing of the upstream has reached the client: it gets a page.
                return Err(NoAnswer::Cut(reason));
            }
            response = upstream.send(request) => response,
        };
        let response = match response {
            Ok(response) => response,
            Err(failed) => {
                let NoResponse {
                    why,
                    unsent,
                    heard,
                    fault,
                } = *failed;
                let error = match why {
                    Why::Broken(error) => error,
                    Why::Refused(code) => return Err(NoAnswer::Failed(code)),
                };
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "no answer from the upstream"
                );
                let again = has_served.then(|| again(&error, heard, spare));
                return match unsent.filter(|_| has_served).or_else(|| again.flatten()) {
                    Some(request) => Err(NoAnswer::Again(Box::new((self, request)))),
                    None if upstream.speaks_another_version() => {
                        Err(NoAnswer::Failed(Code::UpstreamProtocolMismatch))
                    }
                    None => Err(NoAnswer::Failed(blame(&error, fault))),
                };
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, upstream);
        }
        upstream.is_own |= carries_login || asks_for_login(response.headers());
        self.answered(response, upstream).await
    }

    async fn answered(
        self,
        response: Response<Incoming>,
        mut upstream: Upstream,
    ) -> Result<Answer, NoAnswer> {
        let (mut parts, mut incoming) = response.into_parts();
        let reason = parts.extensions.remove();
        let is_grpc = grpc::is_grpc(&parts.headers);
        let answer = |body| Answer {
            status: parts.status,
            reason,
            headers: parts.headers,
            body,
        };
        if incoming.is_end_stream() {
            return Ok(self.whole(answer(Bytes::new().into()), upstream).await);
        }
        let size = incoming.size_hint();
        let mut early = Vec::new();
        if size.exact().is_some_and(|length| length <= SMALL_MAX) {
            match upstream.gather(&mut incoming).await {
                // Trailers have no place in a body as a whole.
                Ok(Gathered { frames, is_whole })
                    if is_whole && frames.iter().all(Frame::is_data) =>
                {
                    drop(incoming);
                    return Ok(self.whole(answer(joined(frames).into()), upstream).await);
                }
                Ok(Gathered { frames, .. }) => early = frames,
                Err(error) => return Err(NoAnswer::Failed(blame(&error, None))),
            }
        }
        let (mut feed, body) = body::channel(size, &self.connection);
        feed.is_grpc = is_grpc && self.connection.version == Version::Http2;
        tokio::spawn(async move {
            let connection = self.connection.clone();
            let pool = Arc::clone(&self.pool);
            let end = self.stream(early, incoming, &mut upstream, feed).await;
            match end {
                End::Complete => park_when_ready(upstream, &connection, &pool).await,
                End::Cut(reason) => tracing::info!(reason = reason.as_str(), "exchange cut"),
                End::ClientGone | End::ClientStalled | End::UpstreamGone => {}
            }
        });
        Ok(answer(ResponseBody::Exchange(body)))
    }

    /// All of the response is here: nothing is left to pump.
    async fn whole(self, answer: Answer, upstream: Upstream) -> Answer {
        let Self {
            permit,
            connection,
            open,
            load,
            pool,
            ..
        } = self;
        let (number, flushes) = (open.number, connection.flushes());
        drop(load);
        park(upstream, &connection, &pool).await;
        if permit.session().is_none() {
            return answer;
        }
        match connection.version {
            Version::Http1 => {
                connection.tail.leave(Left {
                    permit,
                    number,
                    flushes,
                });
                answer
            }
            // A head alone goes out as it is written.
            Version::Http2 if answer.body.size_hint().exact() == Some(0) => answer,
            Version::Http2 => Box::pin(deliver(answer, permit, connection, open)).await,
        }
    }

    fn switch(self, response: Response<Incoming>, upstream: Upstream) -> Result<Answer, NoAnswer> {
        let client = self.upgrade.as_ref();
        if !client.is_some_and(|client| client.takes(response.headers())) {
            return Err(NoAnswer::Failed(Code::UpstreamBadResponse));
        }
        let answer = Answer {
            status: response.status(),
            reason: None,
            headers: response.headers().clone(),
            body: Bytes::new().into(),
        };
        tokio::spawn(async move {
            let end = self.upgraded(response, upstream).await;
            if let End::Cut(reason) = end {
                tracing::info!(reason = reason.as_str(), "exchange cut");
            }
        });
        Ok(answer)
    }

    /// Pumps the body until it ends or the permit is cut.
    async fn stream(
        mut self,
        early: Vec<Frame<Bytes>>,
        mut incoming: Incoming,
        upstream: &mut Upstream,
        mut feed: BodyFeed,
    ) -> End {
        let end = {
            let items = feed.items.clone();
            let mut pump = std::pin::pin!(async {
                for frame in early {
                    if let Err(end) = push(&items, Item::Frame(frame)).await {
                        return end;
                    }
                }
                while let Some(frame) = incoming.frame().await {
                    let Ok(frame) = frame else {
                        return End::UpstreamGone;
                    };
                    if let Err(end) = push(&items, Item::Frame(frame)).await {
                        return end;
                    }
                }
                push(&items, Item::End)
                    .await
                    .map_or_else(|end| end, |()| End::Complete)
            });
            tokio::select! {
                biased;
                reason = self.permit.cut() => End::Cut(reason),
                () = feed.items.closed() => End::ClientGone,
                end = upstream.beside(pump.as_mut()) => end,
            }
        };
        // hyper lets go of a body with a length at its last byte, not at its end.
        let end = if end == End::ClientGone && feed.released().await.is_whole {
            End::Complete
        } else {
            end
        };
        match end {
            End::Complete => {
                drop(incoming);
                self.settle(feed).await
            }
            End::ClientGone => end,
            End::ClientStalled => {
                // HTTP/2 keeps the connection for the other streams: the body ends with an error when
                // it is next looked at.
                if self.connection.version == Version::Http1 {
                    self.connection.order_kill();
                }
                end
            }
            End::UpstreamGone | End::Cut(_) => {
                // The agent's stream first: no further byte comes in.
                upstream.cut();
                drop(incoming);
                if feed.is_grpc {
                    let trailers = match end {
                        End::Cut(reason) => grpc::cut(reason),
                        End::Complete
                        | End::ClientGone
                        | End::ClientStalled
                        | End::UpstreamGone => grpc::broken(),
                    };
                    feed.stop_with(Some(trailers));
                }
                end_towards_client(&self.connection, &mut feed).await;
                end
            }
        }
    }

    /// The response is complete: holds the permit while bytes may wait on this side of the client. A
    /// cut until then takes the connection with it.
    async fn settle(mut self, mut feed: BodyFeed) -> End {
        let released = tokio::select! {
            biased;
            reason = self.permit.cut() => Err(reason),
            released = feed.released() => Ok(released),
        };
        let Self {
            permit,
            connection,
            open,
            ..
        } = self;
        let flushes = match released {
            Ok(released) => released.flushes,
            Err(reason) => {
                end_towards_client(&connection, &mut feed).await;
                return End::Cut(reason);
            }
        };
        if permit.session().is_none() {
            return End::Complete;
        }
        match connection.version {
            Version::Http1 => connection.tail.leave(Left {
                permit,
                number: open.number,
                flushes,
            }),
            Version::Http2 => {
                tokio::spawn(flushed(permit, connection, flushes));
            }
        }
        End::Complete
    }

    async fn upgraded(mut self, mut response: Response<Incoming>, mut upstream: Upstream) -> End {
        let Some(client) = self.upgrade.take() else {
            return End::UpstreamGone;
        };
        let on_upstream = hyper::upgrade::on(&mut response);
        let (protocol, on_client, side) = client.begin(&self.connection);
        // Boxed: it may hold the client's socket, and must be gone before anybody waits for that to close.
        let both = Box::pin(async { tokio::try_join!(on_upstream, on_client) });
        // The kill is ordered before the other branches are dropped: the client's socket may be in one of
        // them by now, and closes with a reset only if it knows.
        let cut = async {
            let reason = self.permit.cut().await;
            side.order_reset();
            reason
        };
        let both = tokio::select! {
            biased;
            reason = cut => {
                upstream.cut();
                side.reset().await;
                return End::Cut(reason);
            }
            () = self.connection.is_gone() => return End::ClientGone,
            both = upstream.beside(both) => both,
        };
        let Ok((upstream_io, client_io)) = both else {
            side.order_reset();
            return End::UpstreamGone;
        };
        let ios = (TokioIo::new(client_io), TokioIo::new(upstream_io));
        let end = upgrade::carry(protocol, ios, &mut upstream, &mut self.permit, &side).await;
        if end == End::Complete {
            upstream.finish().await;
        }
        end
    }
}

/// Makes the response such that the permit is held until HTTP/2 has sent it.
async fn deliver(
    answer: Answer,
    permit: Permit,
    connection: Connection,
    open: OpenRequest,
) -> Answer {
    let (mut feed, body) = body::channel(answer.body.size_hint(), &connection);
    let ResponseBody::Full(full) = answer.body else {
        return answer;
    };
    let answer = Answer {
        body: ResponseBody::Exchange(body),
        ..answer
    };
    let Ok(bytes) = full
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    // There is room for one.
    let _ = feed.items.try_send(Item::Frame(Frame::data(bytes)));
    tokio::spawn(async move {
        let mut permit = permit;
        let delivered = async {
            let _ = push(&feed.items, Item::End).await;
            feed.released().await
        };
        let released = tokio::select! {
            biased;
            reason = permit.cut() => Err(reason),
            released = delivered => Ok(released),
        };
        drop(open);
        match released {
            Ok(released) => flushed(permit, connection, released.flushes).await,
            Err(reason) => {
                end_towards_client(&connection, &mut feed).await;
                tracing::info!(reason = reason.as_str(), "exchange cut");
            }
        }
    });
    answer
}

/// Keeps an upstream connection for the next exchange, unless it is of no more use.
async fn park(mut upstream: Upstream, connection: &Connection, pool: &Arc<Pool>) {
    if upstream.is_ready_now().await {
        keep(upstream, connection, pool);
    } else if upstream.is_reusable {
        // Its request's body is still on its way, perhaps: the answer does not wait for that.
        let (connection, pool) = (connection.clone(), Arc::clone(pool));
        tokio::spawn(async move { park_when_ready(upstream, &connection, &pool).await });
    } else {
        tokio::spawn(upstream.finish());
    }
}

/// As [`park`], waiting shortly until the connection takes another request.
async fn park_when_ready(mut upstream: Upstream, connection: &Connection, pool: &Pool) {
    if upstream.is_reusable && upstream.is_ready().await {
        keep(upstream, connection, pool);
    } else {
        upstream.finish().await;
    }
}

fn keep(upstream: Upstream, connection: &Connection, pool: &Pool) {
    if !upstream.is_own {
        pool.put(upstream);
    } else if connection.version == Version::Http1 {
        // What authenticated the connection is one client's alone.
        connection.own.put(upstream);
    } else {
        // HTTP/2 has no order of requests to rely on.
        tokio::spawn(upstream.finish());
    }
}

/// Holds the permit of a complete HTTP/2 response until it has gone to the kernel.
async fn flushed(mut permit: Permit, connection: Connection, flushes: u64) {
    let cut = tokio::select! {
        biased;
        () = connection.flushed_since(flushes) => None,
        () = connection.is_gone() => None,
        reason = permit.cut() => Some(reason),
    };
    if let Some(reason) = cut {
        connection.kill().await;
        tracing::info!(reason = reason.as_str(), "exchange cut");
    }
}

/// Ends the client's side so that it can never look complete.
async fn end_towards_client(connection: &Connection, feed: &mut BodyFeed) {
    feed.stop();
    match connection.version {
        Version::Http1 => connection.kill().await,
        Version::Http2 => {
            let gone_out = async {
                // hyper has ordered the reset then; what was written before it goes first.
                let released = feed.released().await;
                connection.flushed_since(released.flushes).await;
            };
            if tokio::time::timeout(RESET_WITHIN, gone_out).await.is_err() {
                // The window is full, so hyper does not look at the body; or the client does not
                // read, so the reset waits.
                connection.kill().await;
            }
        }
    }
}

/// A request that can be sent again, kept until it is known to have arrived.
struct Spare(request::Parts);

impl Spare {
    /// Only what does the same when it is done twice, and has no body that was consumed.
    fn of(request: &Request<RequestBody>) -> Option<Self> {
        if !request.method().is_idempotent() || !request.body().is_end_stream() {
            return None;
        }
        let mut copy = Request::new(());
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        *copy.version_mut() = request.version();
        copy.headers_mut().clone_from(request.headers());
        Some(Self(copy.into_parts().0))
    }
}

/// The request once more, when the connection was found dead before a byte of a response came.
fn again(error: &hyper::Error, heard: bool, spare: Option<Spare>) -> Option<Request<RequestBody>> {
    let is_dead = !heard && client_fault(error).is_none();
    spare
        .filter(|_| is_dead)
        .map(|Spare(parts)| Request::from_parts(parts, RequestBody::empty()))
}

/// Whether a request authenticates its connection, not itself (RFC 4559 §6).
fn carries_login(headers: &HeaderMap) -> bool {
    names_login(headers, &http::header::AUTHORIZATION)
}

fn asks_for_login(headers: &HeaderMap) -> bool {
    names_login(headers, &http::header::WWW_AUTHENTICATE)
}

fn names_login(headers: &HeaderMap, name: &http::HeaderName) -> bool {
    headers.get_all(name).iter().any(headers::is_of_connection)
}

fn joined(frames: Vec<Frame<Bytes>>) -> Bytes {
    let mut data = frames
        .into_iter()
        .filter_map(|frame| frame.into_data().ok());
    let Some(first) = data.next() else {
        return Bytes::new();
    };
    let Some(second) = data.next() else {
        return first;
    };
    let mut all = BytesMut::from(first.as_ref());
    all.extend_from_slice(&second);
    data.for_each(|more| all.extend_from_slice(&more));
    all.freeze()
}

/// Hands an item to hyper, unless the client has gone or does not read for too long.
async fn push(items: &mpsc::Sender<Item>, item: Item) -> Result<(), End> {
    let item = match items.try_send(item) {
        Ok(()) => return Ok(()),
        Err(mpsc::error::TrySendError::Closed(_)) => return Err(End::ClientGone),
        Err(mpsc::error::TrySendError::Full(item)) => item,
    };
    match tokio::time::timeout(CLIENT_STALLED_MAX, items.send(item)).await {
        Ok(sent) => sent.map_err(|_| End::ClientGone),
        Err(_) => Err(End::ClientStalled),
    }
}

/// Whose fault it is that no response head came.
fn blame(error: &hyper::Error, fault: Option<ClientFault>) -> Code {
    match fault.or_else(|| client_fault(error)) {
        Some(ClientFault::Idle) => Code::BodyTimeout,
        Some(ClientFault::Broken) => Code::BadRequest,
        None if error.is_parse() || error.is_parse_too_large() => Code::UpstreamBadResponse,
        None if error.is_timeout() => Code::UpstreamTimeout,
        None => Code::UpstreamClosed,
    }
}

/// Bodies up to this size that are here together with their head are given to hyper as a whole.
const SMALL_MAX: u64 = 16 * 1024;
/// An HTTP/2 reset goes out within a poll unless the client's window is full.
const RESET_WITHIN: Duration = Duration::from_millis(250);
/// A client that takes no byte of a response for this long is cut off.
const CLIENT_STALLED_MAX: Duration = Duration::from_mins(5);
