//! One exchange: a task that owns the permit, the upstream's connection and the pump between upstream
//! and client. It is awake on its own, so a cut never waits for somebody to read the body. After a
//! clean end the task stays with the connection, idle, and serves the next exchange (see `pool`).
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
use hyper_util::rt::TokioIo;
use proto::code::Code;
use tokio::sync::{mpsc, oneshot};

use crate::auth::Permit;
use crate::ingress::body::{self, BodyFeed, Item, ResponseBody};
use crate::ingress::connection::{Connection, OpenRequest, Version};
use crate::ingress::forward::Load;
use crate::ingress::headers;
use crate::ingress::pool::{Idle, Key, Pool};
use crate::ingress::request::{ClientFault, RequestBody, client_fault};
use crate::ingress::tail::Left;
use crate::ingress::upgrade::{self, Client, End};
use crate::ingress::upstream::{Gathered, NoResponse, Upstream};
use crate::model::session::CutReason;
use crate::tunnel::registry::Slot;

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
}

/// The upstream's answer, on its way to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
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

/// An exchange on its way to the task of its upstream's connection.
#[derive(Debug)]
pub(crate) struct Job {
    exchange: Exchange,
    request: Request<RequestBody>,
    head: oneshot::Sender<Result<Answer, NoAnswer>>,
}

/// Where an upstream's connection waits for its next job.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) pool: Arc<Pool>,
    pub(crate) key: Key,
    /// Whether this stream may carry another exchange at all.
    pub(crate) is_reusable: bool,
    /// Held while the stream lives, idle or not.
    pub(crate) _slot: Slot,
}

impl Exchange {
    /// Speaks to the upstream in a task of its own; resolves when the answer's head is there.
    /// Dropping the future ends the exchange.
    pub(crate) async fn begin(
        self,
        upstream: Upstream,
        home: Home,
        request: Request<RequestBody>,
    ) -> Result<Answer, NoAnswer> {
        let (head, answer) = oneshot::channel();
        let job = Job {
            exchange: self,
            request,
            head,
        };
        tokio::spawn(serve(upstream, home, job));
        answer
            .await
            .unwrap_or(Err(NoAnswer::Failed(Code::Internal)))
    }

    /// As [`Exchange::begin`], on a connection that has served before.
    pub(crate) async fn begin_on(
        self,
        idle: Idle,
        request: Request<RequestBody>,
    ) -> Result<Answer, NoAnswer> {
        let (head, answer) = oneshot::channel();
        let job = Job {
            exchange: self,
            request,
            head,
        };
        match idle.hand(job) {
            Ok(()) => answer
                .await
                .unwrap_or(Err(NoAnswer::Failed(Code::Internal))),
            Err(job) => Err(job.returned()),
        }
    }
}

impl Job {
    fn returned(self) -> NoAnswer {
        NoAnswer::Again(Box::new((self.exchange, self.request)))
    }
}

/// Serves exchanges over one upstream connection, one at a time, until it cannot be reused or nobody
/// wants it.
async fn serve(mut upstream: Upstream, home: Home, first: Job) {
    let mut job = first;
    let mut has_served = false;
    loop {
        let connection = job.exchange.connection.clone();
        let is_own = carries_login(job.request.headers());
        let is_upgrade = job.exchange.upgrade.is_some();
        let Ran {
            end,
            answered_login,
        } = run(&mut upstream, job, has_served).await;
        if let End::Cut(reason) = end {
            tracing::info!(reason = reason.as_str(), "exchange cut");
        }
        has_served = true;
        if end != End::Complete {
            return;
        }
        if !home.is_reusable || is_upgrade || !upstream.is_ready().await {
            upstream.finish().await;
            return;
        }
        let (idle, mut next) = Idle::new();
        if is_own || answered_login {
            // What authenticated the connection is one client's alone; HTTP/2 has no order to rely on.
            if connection.version != Version::Http1 {
                upstream.finish().await;
                return;
            }
            connection.own.put(home.key, idle);
        } else {
            home.pool.put(home.key, idle);
        }
        drop(connection);
        let Some(handed) = handed(&mut upstream, &mut next).await else {
            drop(next);
            home.pool.prune(&home.key);
            upstream.finish().await;
            return;
        };
        job = handed;
    }
}

/// Waits for the next job of an idle connection; `None` when none will come.
async fn handed(upstream: &mut Upstream, next: &mut oneshot::Receiver<Job>) -> Option<Job> {
    let handed = tokio::select! {
        biased;
        handed = &mut *next => return handed.ok(),
        () = upstream.ended() => next,
        () = tokio::time::sleep(IDLE_MAX) => next,
    };
    handed.close();
    // Handed over in the very moment: it finds another connection.
    if let Ok(Job {
        exchange,
        request,
        head,
    }) = handed.try_recv()
    {
        let _ = head.send(Err(NoAnswer::Again(Box::new((exchange, request)))));
    }
    None
}

/// How an exchange ended.
struct Ran {
    end: End,
    /// The upstream asked for a login that belongs to its connection.
    answered_login: bool,
}

impl From<End> for Ran {
    fn from(end: End) -> Self {
        Self {
            end,
            answered_login: false,
        }
    }
}

async fn run(upstream: &mut Upstream, job: Job, has_served: bool) -> Ran {
    let Job {
        mut exchange,
        request,
        mut head,
    } = job;
    let spare = has_served.then(|| Spare::of(&request)).flatten();
    let response = tokio::select! {
        biased;
        reason = exchange.permit.cut() => {
            upstream.cut();
            // Before the head nothing of the upstream has reached the client: it gets a page.
            let _ = head.send(Err(NoAnswer::Cut(reason)));
            return End::Cut(reason).into();
        }
        () = head.closed() => return End::ClientGone.into(),
        response = upstream.send(request) => response,
    };
    let response = match response {
        Ok(response) => response,
        Err(failed) => {
            tracing::debug!(
                error = &failed.error as &dyn std::error::Error,
                "no answer from the upstream"
            );
            let again = has_served.then(|| again(&failed.error, failed.heard, spare));
            let NoResponse { error, unsent, .. } = *failed;
            let answer = match unsent.filter(|_| has_served).or_else(|| again.flatten()) {
                Some(request) => NoAnswer::Again(Box::new((exchange, request))),
                None => NoAnswer::Failed(blame(&error)),
            };
            let _ = head.send(Err(answer));
            return End::UpstreamGone.into();
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return exchange.upgraded(response, upstream, head).await.into();
    }
    let answered_login = asks_for_login(response.headers());
    let end = exchange.answered(response, upstream, head).await;
    Ran {
        end,
        answered_login,
    }
}

impl Exchange {
    async fn answered(
        self,
        response: Response<Incoming>,
        upstream: &mut Upstream,
        head: oneshot::Sender<Result<Answer, NoAnswer>>,
    ) -> End {
        let (parts, mut incoming) = response.into_parts();
        let answer = |body| Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        };
        if incoming.is_end_stream() {
            return self.whole(answer(Bytes::new().into()), head).await;
        }
        let size = incoming.size_hint();
        let mut early = Vec::new();
        if size.exact().is_some_and(|length| length <= SMALL_MAX) {
            match upstream.gather(&mut incoming).await {
                Ok(Gathered { frames, is_whole }) if is_whole => {
                    return self.whole(answer(joined(frames).into()), head).await;
                }
                Ok(Gathered { frames, .. }) => early = frames,
                Err(error) => {
                    let _ = head.send(Err(NoAnswer::Failed(blame(&error))));
                    return End::UpstreamGone;
                }
            }
        }
        let (feed, body) = body::channel(size, &self.connection);
        if head.send(Ok(answer(ResponseBody::Exchange(body)))).is_err() {
            return End::ClientGone;
        }
        self.stream(early, incoming, upstream, feed).await
    }

    /// All of the response is here: nothing is left to pump.
    async fn whole(self, answer: Answer, head: oneshot::Sender<Result<Answer, NoAnswer>>) -> End {
        let Self {
            permit,
            connection,
            open,
            load,
            ..
        } = self;
        let (number, flushes) = (open.number, connection.flushes());
        drop(load);
        if permit.session().is_some() {
            match connection.version {
                Version::Http1 => connection.tail.leave(Left {
                    permit,
                    number,
                    flushes,
                }),
                Version::Http2 if answer.body.size_hint().exact() != Some(0) => {
                    return deliver(answer, head, permit, connection, open).await;
                }
                // A head alone goes out as it is written.
                Version::Http2 => {}
            }
        }
        // The client's own end after that is its own affair: the upstream's was a good one.
        let _ = head.send(Ok(answer));
        drop(open);
        End::Complete
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
            let pump = async {
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
            };
            tokio::select! {
                biased;
                reason = self.permit.cut() => End::Cut(reason),
                () = feed.items.closed() => End::ClientGone,
                end = upstream.beside(pump) => end,
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

    async fn upgraded(
        mut self,
        mut response: Response<Incoming>,
        upstream: &mut Upstream,
        head: oneshot::Sender<Result<Answer, NoAnswer>>,
    ) -> End {
        let client = self
            .upgrade
            .take()
            .filter(|client| client.takes(response.headers()));
        let Some(client) = client else {
            let _ = head.send(Err(NoAnswer::Failed(Code::UpstreamBadResponse)));
            return End::UpstreamGone;
        };
        let on_upstream = hyper::upgrade::on(&mut response);
        let (protocol, on_client, side) = client.begin(&self.connection);
        let answer = Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: Bytes::new().into(),
        };
        if head.send(Ok(answer)).is_err() {
            return End::ClientGone;
        }
        let both = async { tokio::try_join!(on_upstream, on_client) };
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
        let (client, upstream) = (TokioIo::new(client_io), TokioIo::new(upstream_io));
        upgrade::carry(protocol, client, upstream, &mut self.permit, &side).await
    }
}

/// Gives a complete response to HTTP/2 and sees to it that the permit is held until it went out.
async fn deliver(
    answer: Answer,
    head: oneshot::Sender<Result<Answer, NoAnswer>>,
    permit: Permit,
    connection: Connection,
    open: OpenRequest,
) -> End {
    let (mut feed, body) = body::channel(answer.body.size_hint(), &connection);
    let ResponseBody::Full(full) = answer.body else {
        return End::UpstreamGone;
    };
    let answer = Answer {
        body: ResponseBody::Exchange(body),
        ..answer
    };
    if let Ok(bytes) = full
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        && !bytes.is_empty()
    {
        // There is room for one.
        let _ = feed.items.try_send(Item::Frame(Frame::data(bytes)));
    }
    let _ = head.send(Ok(answer));
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
    End::Complete
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
fn blame(error: &hyper::Error) -> Code {
    match client_fault(error) {
        Some(ClientFault::Idle) => Code::BodyTimeout,
        Some(ClientFault::Broken) => Code::BadRequest,
        None if error.is_parse() || error.is_parse_too_large() => Code::UpstreamBadResponse,
        None if error.is_timeout() => Code::UpstreamTimeout,
        None => Code::UpstreamClosed,
    }
}

/// Bodies up to this size that are here together with their head are given to hyper as a whole.
const SMALL_MAX: u64 = 16 * 1024;
/// How long a connection waits for its next exchange. An app that closes earlier says so; shorter than
/// what most apps allow.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// An HTTP/2 reset goes out within a poll unless the client's window is full.
const RESET_WITHIN: Duration = Duration::from_millis(250);
/// A client that takes no byte of a response for this long is cut off.
const CLIENT_STALLED_MAX: Duration = Duration::from_mins(5);
