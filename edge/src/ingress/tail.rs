//! What follows a complete response over HTTP/1.1: its last bytes may lie in the socket's buffer until
//! the client moves on. Until then its permit stays here, and a cut takes the connection with it.
//!
//! Polled beside the connection, by its own task: requests begin there, too, so the next request is
//! seen without a signal. HTTP/2 has its own way (see `exchange`).

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::auth::{Delivery, Permit};
use crate::ingress::connection::Connection;
use crate::model::session::CutReason;

/// Where an exchange leaves the permit of a response that is complete. At most one per connection.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    slot: Mutex<Option<Left>>,
    left: AtomicWaker,
}

/// A permit, and since when the client may have all of its response.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) permit: Permit,
    /// The request's number on its connection.
    pub(crate) number: u64,
    /// What the connection's count of flushes was when hyper had taken the whole response.
    pub(crate) flushes: u64,
}

/// A permit that was cut; to be held until the socket is closed.
#[derive(Debug)]
pub(crate) struct CutOff {
    pub(crate) reason: CutReason,
    _permit: Permit,
}

/// Resolves when the right to the last response ended before the client moved on.
pub(crate) struct Watch<'a> {
    connection: &'a Connection,
    held: Option<Held>,
}

struct Held {
    number: u64,
    flushes: u64,
    cut: Pin<Box<dyn Future<Output = CutOff> + Send>>,
    /// Declared last: let go of after the permit.
    delivery: Option<Delivery>,
}

impl Tail {
    pub(crate) fn leave(&self, left: Left) {
        let before = self.lock().replace(left);
        drop(before);
        self.left.wake();
    }

    /// The socket is closed: nothing is on its way any more.
    pub(crate) fn clear(&self) {
        let left = self.lock().take();
        drop(left);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Left>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Watch<'a> {
    pub(crate) const fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            held: None,
        }
    }
}

impl Future for Watch<'_> {
    type Output = CutOff;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CutOff> {
        let this = &mut *self;
        if this
            .held
            .as_ref()
            .is_some_and(|held| this.connection.begun() > held.number)
        {
            this.held = None;
        }
        if this.held.is_none() {
            this.connection.tail.left.register(cx.waker());
            let left = this.connection.tail.lock().take();
            this.held = left
                .filter(|left| this.connection.begun() <= left.number)
                .map(Held::from);
        }
        let Some(held) = &mut this.held else {
            return Poll::Pending;
        };
        if let Some(delivery) = &mut held.delivery
            && this.connection.flushes() > held.flushes
        {
            delivery.note();
        }
        held.cut.as_mut().poll(cx)
    }
}

impl From<Left> for Held {
    fn from(left: Left) -> Self {
        let Left {
            mut permit,
            number,
            flushes,
        } = left;
        Self {
            number,
            flushes,
            delivery: permit.delivery(),
            cut: Box::pin(async move {
                let reason = permit.cut().await;
                CutOff {
                    reason,
                    _permit: permit,
                }
            }),
        }
    }
}
