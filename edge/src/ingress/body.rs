//! Response bodies: pages of our own, answers of the admin door, and the stream of an exchange.
//!
//! An exchange's body ends well only when the exchange says so: a channel that closes without that
//! word is an error to hyper, which then breaks the framing instead of completing it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::{mpsc, oneshot};

use crate::ingress::connection::{Connection, Version};

/// The error that a body ends with. An `h2::Error` in it becomes RST_STREAM with its reason.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What the public side sends.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    Full(Full<Bytes>),
    Admin(axum::body::Body),
    Exchange(ExchangeBody),
}

/// The receiving half of an exchange's response.
#[derive(Debug)]
pub(crate) struct ExchangeBody {
    items: mpsc::Receiver<Item>,
    stop: oneshot::Receiver<Option<HeaderMap>>,
    size: SizeHint,
    /// Bytes given to hyper.
    given: u64,
    ended: bool,
    ended_well: bool,
    connection: Connection,
    /// Told when hyper lets go of the body.
    released: Option<oneshot::Sender<Released>>,
}

/// The exchange's half.
#[derive(Debug)]
pub(crate) struct BodyFeed {
    pub(crate) items: mpsc::Sender<Item>,
    stop: Option<oneshot::Sender<Option<HeaderMap>>>,
    on_release: oneshot::Receiver<Released>,
    released: Option<Released>,
    /// An end that is not good is told in trailers.
    pub(crate) is_grpc: bool,
}

#[derive(Debug)]
pub(crate) enum Item {
    Frame(Frame<Bytes>),
    /// The upstream's body ended well.
    End,
}

/// How hyper let go of a body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Released {
    /// It has taken everything. With a length, that is before the end was said.
    pub(crate) is_whole: bool,
    /// What [`Shared::flushes`](crate::ingress::connection::Shared::flushes) was.
    pub(crate) flushes: u64,
}

/// Makes the two halves; `size` is what the upstream announced.
pub(crate) fn channel(size: SizeHint, connection: &Connection) -> (BodyFeed, ExchangeBody) {
    let (items, receiver) = mpsc::channel(FRAMES_IN_FLIGHT);
    let (stop, stopped) = oneshot::channel();
    let (released, on_release) = oneshot::channel();
    // To an HTTP/1.0 client such a body ends where the connection does.
    connection.set_in_body(connection.version == Version::Http1 && size.exact().is_none());
    let body = ExchangeBody {
        items: receiver,
        stop: stopped,
        size,
        given: 0,
        ended: false,
        ended_well: false,
        connection: connection.clone(),
        released: Some(released),
    };
    (
        BodyFeed {
            items,
            stop: Some(stop),
            on_release,
            released: None,
            is_grpc: false,
        },
        body,
    )
}

impl BodyFeed {
    /// Makes the body end with an error at its next poll, whatever is still queued.
    pub(crate) fn stop(&mut self) {
        self.stop_with(None);
    }

    /// As [`BodyFeed::stop`], with trailers in the place of the error: only where they say that the body
    /// is not whole.
    pub(crate) fn stop_with(&mut self, trailers: Option<HeaderMap>) {
        if let Some(stop) = self.stop.take() {
            // The body is gone already: nothing left to stop.
            let _ = stop.send(trailers);
        }
    }

    /// Waits until hyper has let go of the body.
    pub(crate) async fn released(&mut self) -> Released {
        if let Some(released) = self.released {
            return released;
        }
        let released = (&mut self.on_release).await.unwrap_or_default();
        *self.released.insert(released)
    }
}

impl Drop for ExchangeBody {
    fn drop(&mut self) {
        let is_whole = self.ended_well || self.size.exact() == Some(self.given);
        if let Some(released) = self.released.take() {
            // The exchange is gone already: nobody wants to know.
            let _ = released.send(Released {
                is_whole,
                flushes: self.connection.flushes(),
            });
        }
    }
}

impl Body for ExchangeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // Resolves with `Ok` on a stop; with an error when the exchange dropped its half, in which
        // case the channel below tells how it ended.
        if let Poll::Ready(Ok(trailers)) = Pin::new(&mut self.stop).poll(cx) {
            self.ended = true;
            let last = trailers.map(Frame::trailers);
            return Poll::Ready(Some(last.ok_or_else(cancelled)));
        }
        match self.items.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Item::Frame(frame))) => {
                self.given += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Item::End)) => {
                self.ended = true;
                self.ended_well = true;
                self.connection.set_in_body(false);
                Poll::Ready(None)
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(Some(Err(cancelled())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Admin(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Exchange(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Admin(body) => body.is_end_stream(),
            Self::Exchange(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Admin(body) => body.size_hint(),
            Self::Exchange(body) => body.size_hint(),
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Full::new(bytes))
    }
}

fn cancelled() -> BodyError {
    Box::new(h2::Error::from(h2::Reason::CANCEL))
}

/// One frame waits while hyper writes another; more would only hide a slow reader.
const FRAMES_IN_FLIGHT: usize = 1;
