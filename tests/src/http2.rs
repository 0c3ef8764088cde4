//! HTTP/2 with the windows in the test's hands, and reset reasons seen.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::{Ask, Body, Fault};
use crate::http1;
use crate::net::Net;

/// One connection, driven by a task of its own; closed when the last clone and stream are gone.
#[derive(Clone, Debug)]
pub struct Connection {
    sender: SendRequest<Bytes>,
}

/// A reply whose head is here.
#[derive(Debug)]
pub struct H2Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    body: RecvStream,
    /// False: what is read is not given back, so the window fills.
    pub releases: bool,
    _connection: Connection,
}

impl Connection {
    /// With `window`, the initial window of every stream (and the connection's stays at its default).
    pub async fn open(net: &Net, name: &str, window: Option<u32>) -> Result<Self, Fault> {
        let io = net
            .connect_h2(name)
            .await
            .map_err(|error| http1::fault(&error))?;
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false);
        match window {
            Some(window) => builder.initial_window_size(window),
            None => builder
                .initial_window_size(1 << 20)
                .initial_connection_window_size(8 << 20),
        };
        let (sender, connection) = builder.handshake(io).await.map_err(|error| fault(&error))?;
        tokio::spawn(async move {
            // How it ended is seen by its streams.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Sends a request whole; a streamed body is left open (and then reset when dropped).
    pub async fn request(&self, ask: &Ask) -> Result<H2Response, Fault> {
        let (response, mut stream) = self.begin(ask).await?;
        if let Body::Whole(body) = &ask.body {
            stream
                .send_data(body.clone(), true)
                .map_err(|error| fault(&error))?;
        }
        self.answer(response).await
    }

    /// Asks for a WebSocket (RFC 8441), once the edge has said that it takes them.
    pub async fn websocket(&self, ask: &Ask) -> Result<(H2Response, SendStream<Bytes>), Fault> {
        crate::wait::until("settings that take WebSockets", || async {
            self.sender
                .is_extended_connect_protocol_enabled()
                .then_some(())
        })
        .await;
        let (response, send) = self.begin_as(ask, Some("websocket")).await?;
        Ok((self.answer(response).await?, send))
    }

    /// Sends the head; the caller sends the body.
    pub async fn begin(
        &self,
        ask: &Ask,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), Fault> {
        self.begin_as(ask, None).await
    }

    /// As [`Connection::begin`], with a `:protocol`.
    pub async fn begin_as(
        &self,
        ask: &Ask,
        protocol: Option<&'static str>,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), Fault> {
        let uri = http::Uri::builder()
            .scheme("https")
            .authority(ask.authority.as_str())
            .path_and_query(ask.target.as_str())
            .build()
            .map_err(|error| Fault::Garbage(format!("{}: {error}", ask.target)))?;
        let mut request = http::Request::builder()
            .method(ask.method.as_str())
            .uri(uri)
            .version(http::Version::HTTP_2);
        for (name, value) in &ask.headers {
            request = request.header(name.to_ascii_lowercase(), value);
        }
        if let Some(protocol) = protocol {
            request = request
                .method("CONNECT")
                .extension(h2::ext::Protocol::from_static(protocol));
        }
        let request = request
            .body(())
            .map_err(|error| Fault::Garbage(error.to_string()))?;
        let mut sender = self
            .sender
            .clone()
            .ready()
            .await
            .map_err(|error| fault(&error))?;
        sender
            .send_request(
                request,
                protocol.is_none() && matches!(ask.body, Body::None),
            )
            .map_err(|error| fault(&error))
    }

    /// Waits for the reply's head.
    pub async fn answer(&self, response: h2::client::ResponseFuture) -> Result<H2Response, Fault> {
        let (parts, body) = response.await.map_err(|error| fault(&error))?.into_parts();
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        Ok(H2Response {
            status: parts.status.as_u16(),
            headers,
            body,
            releases: true,
            _connection: self.clone(),
        })
    }
}

impl H2Response {
    /// The next piece of the body; `None` once it ended well.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        match self.body.data().await {
            None => {
                if let Ok(Some(trailers)) = self.body.trailers().await {
                    for (name, value) in &trailers {
                        self.headers.push((
                            format!("trailer:{name}"),
                            String::from_utf8_lossy(value.as_bytes()).into_owned(),
                        ));
                    }
                }
                Ok(None)
            }
            Some(Ok(data)) => {
                if self.releases {
                    // Fails only on a stream that is gone, which the next read says better.
                    let _ = self.body.flow_control().release_capacity(data.len());
                }
                Ok(Some(data))
            }
            Some(Err(error)) => Err(fault(&error)),
        }
    }
}

/// Both directions of one stream as bytes: what an extended CONNECT opens.
#[derive(Debug)]
pub struct Duplex {
    send: SendStream<Bytes>,
    response: H2Response,
    buffer: Bytes,
}

impl Duplex {
    pub fn new(response: H2Response, send: SendStream<Bytes>) -> Self {
        Self {
            send,
            response,
            buffer: Bytes::new(),
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.buffer.is_empty() {
            let body = &mut this.response.body;
            match ready!(body.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                Some(Ok(data)) => {
                    // Fails only on a stream that is gone, which the next read says better.
                    let _ = body.flow_control().release_capacity(data.len());
                    this.buffer = data;
                }
            }
        }
        let len = this.buffer.len().min(buffer.remaining());
        buffer.put_slice(&this.buffer.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(bytes.len());
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let len = self.send.capacity().min(bytes.len());
        let piece = Bytes::copy_from_slice(&bytes[..len]);
        let sent = self.send.send_data(piece, false).map(|()| len);
        Poll::Ready(sent.map_err(io_error))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A stream that is gone has nothing left to end.
        let _ = self.send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}

fn io_error(error: h2::Error) -> io::Error {
    if error.is_reset() {
        return io::ErrorKind::ConnectionReset.into();
    }
    match error.into_io() {
        Some(error) => error,
        // GOAWAY, or a connection error.
        None => io::ErrorKind::ConnectionAborted.into(),
    }
}

/// Sends a piece of a body as the peer's window allows.
///
/// # Errors
/// How the stream ended.
pub async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    end: bool,
) -> Result<(), Fault> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let granted = loop {
            if stream.capacity() > 0 {
                break stream.capacity();
            }
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(fault(&error)),
                None => return Err(Fault::Reset),
            }
        };
        let piece = data.split_to(granted.min(data.len()));
        stream
            .send_data(piece, false)
            .map_err(|error| fault(&error))?;
    }
    if end {
        stream
            .send_data(Bytes::new(), true)
            .map_err(|error| fault(&error))?;
    }
    Ok(())
}

/// What an error says about how the stream or its connection ended.
pub fn fault(error: &h2::Error) -> Fault {
    if error.is_reset() {
        return Fault::Reset;
    }
    if let Some(io) = error.get_io() {
        return http1::fault(io);
    }
    Fault::Connection(error.to_string())
}
