//! A stream to an agent's upstream: opened with a head, usable after the agent's ack.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use proto::code::Code;
use proto::head::{Ack, StreamHead, StreamKind};
use proto::id::EndpointId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::tunnel::link::{Link, LinkStream};

pub(crate) use crate::tunnel::link::ResetHandle;

/// A stream whose agent has dialled the upstream. Dropped, it resets on both legs; only a shutdown
/// of the write side, by whoever speaks on it, ends it well.
#[derive(Debug)]
pub(crate) struct AgentStream {
    stream: LinkStream,
    /// What came in the same read as the ack.
    early: BytesMut,
}

/// Why there is no stream.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct NotOpened {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// It is the link that ended, not this stream alone: another tunnel may do better.
    pub(crate) is_link_lost: bool,
}

impl AgentStream {
    /// Opens a stream and waits for the agent's ack.
    ///
    /// # Errors
    /// With the agent's own code when it refuses, `agent_gone` when the link ends, `upstream_timeout`
    /// when no ack comes in time.
    pub(crate) async fn open(link: &Link, head: &StreamHead) -> Result<Self, NotOpened> {
        let opened = tokio::time::timeout(ACK_WITHIN, Self::open_unbounded(link, head)).await;
        opened.unwrap_or_else(|_| {
            Err(NotOpened::new(
                Code::UpstreamTimeout,
                "the agent did not answer in time",
            ))
        })
    }

    async fn open_unbounded(link: &Link, head: &StreamHead) -> Result<Self, NotOpened> {
        // A probe costs nothing and proves the path.
        if link.is_over() && head.kind != StreamKind::Probe {
            tracing::debug!(held_bytes = link.held(), "stream not opened: readers stall");
            let code = Code::ReadersStalled;
            return Err(NotOpened::new(code, code.meaning()));
        }
        // While the agent allows no more streams nothing is sent, and its silence says nothing.
        let stream = link.open().await.map_err(|error| {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "stream not opened"
            );
            NotOpened::link_lost()
        })?;
        tokio::select! {
            acked = Self::acked(stream, head) => acked,
            () = link.fell_silent() => {
                let code = Code::ControlTimeout;
                link.close(u32::from(code.number()), code.meaning());
                Err(NotOpened::link_lost())
            }
        }
    }

    async fn acked(mut stream: LinkStream, head: &StreamHead) -> Result<Self, NotOpened> {
        let gone = |_| NotOpened::new(Code::AgentGone, "the agent broke off the stream");
        stream.write_all(&head.encode()).await.map_err(gone)?;
        let mut buffer = BytesMut::with_capacity(ACK_BUFFER);
        loop {
            match Ack::decode(&mut buffer) {
                Ok(Some(Ack::Accept)) => {
                    return Ok(Self {
                        stream,
                        early: buffer,
                    });
                }
                Ok(Some(Ack::Refuse { code, message })) => {
                    return Err(NotOpened {
                        code,
                        message,
                        is_link_lost: false,
                    });
                }
                Ok(None) => {}
                Err(_) => {
                    return Err(NotOpened::new(
                        Code::StreamRefused,
                        "the agent's ack could not be read",
                    ));
                }
            }
            if stream.read_buf(&mut buffer).await.map_err(gone)? == 0 {
                return Err(NotOpened::new(
                    Code::AgentGone,
                    "the agent ended the stream",
                ));
            }
        }
    }

    /// Proves the path to the agent: sends bytes on a probe stream and expects them back.
    pub(crate) async fn probe(
        link: &Link,
        endpoint: EndpointId,
        generation: u64,
    ) -> Result<(), NotOpened> {
        let head = StreamHead::new(StreamKind::Probe, endpoint, generation);
        let echo = async {
            let mut stream = Self::open(link, &head).await?;
            let gone = |_| NotOpened::new(Code::AgentGone, "the probe came back broken");
            stream.write_all(PROBE).await.map_err(gone)?;
            stream.shutdown().await.map_err(gone)?;
            let mut back = Vec::new();
            stream.take(64).read_to_end(&mut back).await.map_err(gone)?;
            if back == PROBE {
                Ok(())
            } else {
                Err(NotOpened::new(
                    Code::AgentGone,
                    "the probe came back changed",
                ))
            }
        };
        let echoed = tokio::time::timeout(PROBE_WITHIN, echo).await;
        echoed.unwrap_or_else(|_| {
            Err(NotOpened::new(
                Code::AgentGone,
                "the probe did not come back",
            ))
        })
    }

    /// For whoever wants to say why it will be dropped.
    pub(crate) fn reset_handle(&self) -> ResetHandle {
        self.stream.reset_handle()
    }
}

impl NotOpened {
    pub(crate) fn new(code: Code, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
            is_link_lost: false,
        }
    }

    fn link_lost() -> Self {
        Self {
            is_link_lost: true,
            ..Self::new(Code::AgentGone, "the link ended")
        }
    }
}

impl AsyncRead for AgentStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let len = self.early.len().min(buffer.remaining());
            let early = self.early.split_to(len);
            buffer.put_slice(&early);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const PROBE: &[u8] = b"sallyport probe";
const ACK_BUFFER: usize = 512;
/// The agent dials the upstream within 5 s; the rest is the way there and back.
const ACK_WITHIN: Duration = Duration::from_secs(10);
const PROBE_WITHIN: Duration = Duration::from_secs(5);
