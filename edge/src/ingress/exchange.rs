//! One exchange: a task that owns the permit, the stream to the agent and the pump between upstream
//! and client. It is awake on its own, so a cut never waits for somebody to read the body.
//!
//! On a cut the agent's stream is reset at once. Towards the client: HTTP/1.1 loses its connection
//! with a reset; an HTTP/2 stream is reset, and where that has not gone out in time its connection
//! is closed. The permit is let go when no further upstream byte can enter the client's buffer:
//! that is what a revocation waits for.

use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proto::code::Code;
use tokio::sync::oneshot;

use crate::auth::Permit;
use crate::ingress::body::{self, BodyFeed, ExchangeBody, Item};
use crate::ingress::connection::{Connection, OpenRequest, Version};
use crate::ingress::forward::Load;
use crate::ingress::request::{ClientFault, RequestBody, client_fault};
use crate::ingress::upgrade::{self, Client, End};
use crate::model::session::CutReason;
use crate::tunnel::stream::{AgentStream, ResetHandle};

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
    /// `None`: there is no body to come (or the connection was upgraded).
    pub(crate) body: Option<ExchangeBody>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoAnswer {
    Cut(CutReason),
    Failed(Code),
}

/// hyper's connection with upgrades, whose own type has no public name.
type Upstream = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Exchange {
    /// Speaks to the upstream in a task of its own; resolves when the answer's head is there.
    /// Dropping the future ends the exchange.
    pub(crate) async fn begin(
        self,
        stream: AgentStream,
        request: Request<RequestBody>,
    ) -> Result<Answer, NoAnswer> {
        let reset = stream.reset_handle();
        let handshake = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, upstream) = handshake.map_err(|_| NoAnswer::Failed(Code::AgentGone))?;
        let (head, answer) = oneshot::channel();
        tokio::spawn(async move {
            let driver = Driver {
                connection: Some(Box::pin(upstream.with_upgrades())),
                reset,
            };
            let end = self.run(sender, driver, request, head).await;
            if let End::Cut(reason) = end {
                tracing::info!(reason = reason.as_str(), "exchange cut");
            }
        });
        answer
            .await
            .unwrap_or(Err(NoAnswer::Failed(Code::Internal)))
    }

    async fn run(
        mut self,
        mut sender: http1::SendRequest<RequestBody>,
        mut upstream: Driver,
        request: Request<RequestBody>,
        mut head: oneshot::Sender<Result<Answer, NoAnswer>>,
    ) -> End {
        let response = tokio::select! {
            biased;
            reason = self.permit.cut() => {
                upstream.cut();
                // Before the head nothing of the upstream has reached the client: it gets a page.
                let _ = head.send(Err(NoAnswer::Cut(reason)));
                return End::Cut(reason);
            }
            () = head.closed() => return End::ClientGone,
            response = upstream.beside(sender.send_request(request)) => response,
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "no answer from the upstream"
                );
                let _ = head.send(Err(NoAnswer::Failed(blame(&error))));
                return End::UpstreamGone;
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.upgraded(response, upstream, head).await;
        }
        let (parts, incoming) = response.into_parts();
        if incoming.is_end_stream() {
            let answer = Answer {
                status: parts.status,
                headers: parts.headers,
                body: None,
            };
            if head.send(Ok(answer)).is_err() {
                return End::ClientGone;
            }
            drop(sender);
            self.settle(upstream, None).await
        } else {
            let (feed, body) = body::channel(incoming.size_hint(), &self.connection);
            let answer = Answer {
                status: parts.status,
                headers: parts.headers,
                body: Some(body),
            };
            if head.send(Ok(answer)).is_err() {
                return End::ClientGone;
            }
            self.stream(incoming, sender, upstream, feed).await
        }
    }

    /// Pumps the body until it ends or the permit is cut.
    async fn stream(
        mut self,
        mut incoming: Incoming,
        sender: http1::SendRequest<RequestBody>,
        mut upstream: Driver,
        mut feed: BodyFeed,
    ) -> End {
        let end = {
            let items = feed.items.clone();
            let pump = async {
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
                drop((sender, incoming));
                self.settle(upstream, Some(feed)).await
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
                self.end_towards_client(&mut feed).await;
                end
            }
        }
    }

    /// Ends the client's side so that it can never look complete.
    async fn end_towards_client(&self, feed: &mut BodyFeed) {
        feed.stop();
        match self.connection.version {
            Version::Http1 => self.connection.kill().await,
            Version::Http2 => {
                let gone_out = async {
                    // hyper has ordered the reset then; what was written before it goes first.
                    let released = feed.released().await;
                    self.connection.flushed_since(released.flushes).await;
                };
                if tokio::time::timeout(RESET_WITHIN, gone_out).await.is_err() {
                    // The window is full, so hyper does not look at the body; or the client does not
                    // read, so the reset waits.
                    self.connection.kill().await;
                }
            }
        }
    }

    /// The response is complete: ends the upstream's stream, and holds the permit while bytes may
    /// wait on this side of the client. A cut until then takes the connection with it.
    async fn settle(mut self, mut upstream: Driver, feed: Option<BodyFeed>) -> End {
        let connection = self.connection.clone();
        let released = if let Some(mut feed) = feed {
            let ended = async {
                upstream.finish().await;
                feed.released().await
            };
            let cut = tokio::select! {
                biased;
                reason = self.permit.cut() => Err(reason),
                released = ended => Ok(released),
            };
            match cut {
                Ok(released) => Some(released),
                Err(reason) => {
                    self.end_towards_client(&mut feed).await;
                    return End::Cut(reason);
                }
            }
        } else {
            let cut = tokio::select! {
                biased;
                reason = self.permit.cut() => Some(reason),
                () = upstream.finish() => None,
            };
            if let Some(reason) = cut {
                if connection.version == Version::Http1 {
                    connection.kill().await;
                }
                return End::Cut(reason);
            }
            None
        };
        if self.permit.session().is_none() {
            return End::Complete;
        }
        let number = self.open.number;
        // Not busy any more: the idle time-out may close it.
        drop((self.open, self.load));
        let flushed = async {
            if let Some(released) = released {
                connection.flushed_since(released.flushes).await;
            }
        };
        let cut = tokio::select! {
            biased;
            () = flushed => None,
            () = connection.is_gone() => return End::Complete,
            reason = self.permit.cut() => Some(reason),
        };
        let cut = match (cut, connection.version) {
            (Some(reason), _) => reason,
            (None, Version::Http2) => return End::Complete,
            (None, Version::Http1) => {
                // What was flushed may lie in the socket's buffer until the client moves on.
                self.permit.note_delivered();
                tokio::select! {
                    biased;
                    () = connection.moved_on(number) => return End::Complete,
                    () = connection.is_gone() => return End::Complete,
                    reason = self.permit.cut() => reason,
                }
            }
        };
        connection.kill().await;
        End::Cut(cut)
    }

    async fn upgraded(
        mut self,
        mut response: Response<Incoming>,
        mut upstream: Driver,
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
            body: None,
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

/// Drives the upstream's connection beside whatever waits for it. Dropping it drops the stream.
struct Driver {
    connection: Option<Upstream>,
    reset: ResetHandle,
}

impl Driver {
    /// Drops the stream with the code that says so: both legs end here.
    fn cut(mut self) {
        self.reset.set_cut();
        self.connection = None;
    }

    /// Ends the stream well, once nothing is under way on it; one that does not end in time is reset.
    async fn finish(&mut self) {
        if let Some(connection) = self.connection.take()
            && tokio::time::timeout(FINISH_WITHIN, connection)
                .await
                .is_err()
        {
            tracing::debug!("upstream stream did not end in time");
        }
    }

    /// Polls the connection while `work` is under way. The connection's own end is not an answer:
    /// `work` hears of it through hyper.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let Some(connection) = self.connection.as_mut() else {
                return work.await;
            };
            tokio::select! {
                biased;
                done = &mut work => return done,
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(error = &error as &dyn std::error::Error, "upstream connection ended");
                    }
                    self.connection = None;
                }
            }
        }
    }
}

/// Hands an item to hyper, unless the client has gone or does not read for too long.
async fn push(items: &tokio::sync::mpsc::Sender<Item>, item: Item) -> Result<(), End> {
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

/// An HTTP/2 reset goes out within a poll unless the client's window is full.
const RESET_WITHIN: Duration = Duration::from_millis(250);
/// A client that takes no byte of a response for this long is cut off.
const CLIENT_STALLED_MAX: Duration = Duration::from_mins(5);
/// A clean end is a FIN on its way; longer than this it is not clean.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
const HEADERS_MAX: usize = 200;
