//! Drives `proto`'s machine over the control stream: wait, one mutation, drain, wait. Decides nothing.

use std::time::Duration;

use bytes::BytesMut;
use proto::bind::BindRequest;
use proto::codec;
use proto::control::AgentControl;
use proto::control::agent::{Config, Event};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What the agent wants of the control stream.
#[derive(Debug)]
pub(crate) enum Command {
    Bind(BindRequest),
    /// Probes now: somebody waits, and the edge says nothing.
    Probe,
    /// Says good-bye. A dropped sender means the same.
    Close,
}

/// Speaks on the control stream until either side closes or the link ends; then `events` ends too.
///
/// The last event is `Closed` unless the link ended without one.
pub(crate) async fn drive(
    mut receive: impl AsyncRead + Unpin,
    send: impl AsyncWrite + Unpin,
    config: Config,
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
) {
    let opened = Instant::now();
    let machine = AgentControl::new(Duration::ZERO, config);
    let mut driver = Driver {
        send,
        machine,
        events,
    };
    let mut buffer = BytesMut::new();
    while driver.drain().await.is_some() && !driver.machine.is_closed() {
        let due = driver.machine.poll_timeout();
        let alarm = async {
            match due {
                Some(due) => tokio::time::sleep_until(opened + due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = receive.read_buf(&mut buffer) => match read {
                Ok(read) if read > 0 => {
                    if driver.take_frames(opened, &mut buffer).await.is_none() {
                        return;
                    }
                }
                Ok(_) | Err(_) => return,
            },
            command = commands.recv() => match command {
                Some(Command::Bind(request)) => driver.machine.bind(opened.elapsed(), request),
                Some(Command::Probe) => driver.machine.probe(opened.elapsed()),
                Some(Command::Close) | None => driver.machine.close(opened.elapsed()),
            },
            () = alarm => driver.machine.handle_timeout(opened.elapsed()),
        }
    }
    // The close frame must arrive before the link goes: the edge ends its side once it has it. Both fail
    // only when the link has gone already.
    let _ = driver.send.shutdown().await;
    let heard = async {
        while matches!(receive.read_buf(&mut buffer).await, Ok(1..)) {
            buffer.clear();
        }
    };
    let _ = tokio::time::timeout(HEARD_WITHIN, heard).await;
}

struct Driver<S> {
    send: S,
    machine: AgentControl,
    events: mpsc::Sender<Event>,
}

impl<S: AsyncWrite + Unpin> Driver<S> {
    /// Hands out what the machine has; `None` when nobody is there to take it.
    async fn drain(&mut self) -> Option<()> {
        let mut bytes = BytesMut::new();
        while let Some(frame) = self.machine.poll_frame() {
            tracing::trace!(frame = frame.name(), "frame sent");
            if let Err(error) = codec::encode(&frame, &mut bytes) {
                tracing::error!(%error, frame = frame.name(), "frame not encoded");
                return None;
            }
        }
        let write = self.send.write_all(&bytes);
        tokio::time::timeout(WRITE_WITHIN, write).await.ok()?.ok()?;
        while let Some(event) = self.machine.poll_event() {
            self.events.send(event).await.ok()?;
        }
        Some(())
    }

    async fn take_frames(&mut self, opened: Instant, buffer: &mut BytesMut) -> Option<()> {
        while !self.machine.is_closed() {
            let outcome = match codec::decode(buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    tracing::trace!(frame = frame.name(), "frame received");
                    self.machine.handle_frame(opened.elapsed(), frame)
                }
                Err(error) => Err(self.machine.reject(error)),
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "the edge broke the protocol");
            }
            self.drain().await?;
        }
        Some(())
    }
}

/// How long a good-bye may take to arrive.
const HEARD_WITHIN: Duration = Duration::from_millis(400);
/// Frames are small: an edge that takes none for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
