//! The tasks of a public HTTP/2 connection, run so that one stream of it can be reset.
//!
//! What an extended CONNECT was upgraded to is written by a task of hyper's own. When its other half is
//! dropped, that task ends the stream well, as if everything had been said; while the client's window is
//! full it does not even do that. Dropping the task itself is what resets the stream at once, whatever is
//! queued. hyper starts it from within the request's own task: that is how the two are brought together.

use std::sync::{Arc, OnceLock};

use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;

use crate::ingress::connection::Connection;

/// Runs hyper's tasks of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Streams(pub(crate) Connection);

/// The stream of the request whose task this is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream(Arc<OnceLock<Writer>>);

/// The task that writes what was upgraded to. Made only for streams that ask for an upgrade.
#[derive(Debug, Default)]
struct Writer {
    reset: CancellationToken,
    ended: CancellationToken,
    /// What [`Shared::flushes`](crate::ingress::connection::Shared::flushes) was when it ended.
    flushes: OnceLock<u64>,
}

/// Tells of a writer's end when dropped.
struct Ended {
    stream: Stream,
    connection: Connection,
}

tokio::task_local! {
    static STREAM: Stream;
}

impl Stream {
    /// The stream of the request that is being served here, made ready for an upgrade. `None` outside
    /// of HTTP/2.
    pub(crate) fn current() -> Option<Self> {
        let stream = STREAM.try_with(Clone::clone).ok()?;
        stream.writer();
        Some(stream)
    }

    /// Orders the reset: once the reading half is dropped too, RST_STREAM (CANCEL) goes out in the place
    /// of everything that was queued.
    pub(crate) fn order_reset(&self) {
        self.writer().reset.cancel();
    }

    /// Resolves once nothing more is written: ended well, reset by us, or by the client. Gives what
    /// [`Shared::flushes`](crate::ingress::connection::Shared::flushes) was then.
    pub(crate) async fn writer_ended(&self) -> u64 {
        let writer = self.writer();
        writer.ended.cancelled().await;
        writer.flushes.get().copied().unwrap_or_default()
    }

    fn writer(&self) -> &Writer {
        self.0.get_or_init(Writer::default)
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let Ok(stream) = STREAM.try_with(Clone::clone) else {
            tokio::spawn(STREAM.scope(Stream::default(), task));
            return;
        };
        let reset = stream.writer().reset.clone();
        let ended = Ended {
            stream,
            connection: self.0.clone(),
        };
        tokio::spawn(async move {
            let _ended = ended;
            // The reset first: a task whose other half is gone would end the stream well. Whichever it
            // is, the task is dropped in here, and so before the guard.
            tokio::select! {
                biased;
                () = reset.cancelled() => {}
                () = task => {}
            }
        });
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let writer = self.stream.writer();
        // Set once: a stream has one writer.
        let _ = writer.flushes.set(self.connection.flushes());
        writer.ended.cancel();
    }
}
