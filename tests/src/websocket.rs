//! A WebSocket client over a world's TLS that sees how the connection ended.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::http::{Ask, Fault};
use crate::http1;
use crate::http2::{self, Duplex};
use crate::net::Net;

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    inner: WebSocketStream<Io>,
}

/// What carries it.
#[derive(Debug)]
enum Io {
    Http1(Box<TlsStream<TcpStream>>),
    Http2(Duplex),
}

/// What came.
#[derive(Debug)]
pub enum Event {
    Message(Message),
    /// A Close frame between frames: its code and reason.
    Closed(Option<(u16, String)>),
    /// The end without one.
    Lost(Fault),
}

impl WebSocket {
    /// Opens `wss://label.domain/target` with a cookie.
    ///
    /// # Errors
    /// The status of the answer that refused it; 0 when the connection ended without one.
    pub async fn open(
        net: &Net,
        label: &str,
        target: &str,
        cookie: Option<&str>,
    ) -> Result<Self, u16> {
        let headers: Vec<_> = cookie
            .into_iter()
            .map(|cookie| ("cookie", cookie))
            .collect();
        Self::open_with(net, label, target, &headers).await
    }

    /// As [`WebSocket::open`], marked for the upstream.
    pub async fn open_marked(
        net: &Net,
        label: &str,
        target: &str,
        cookie: &str,
        mark: &str,
    ) -> Result<Self, u16> {
        Self::open_with(net, label, target, &[("cookie", cookie), ("x-mark", mark)]).await
    }

    /// With further headers. `sec-fetch-site: same-origin` and the endpoint's own origin unless given.
    pub async fn open_with(
        net: &Net,
        label: &str,
        target: &str,
        more: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let host = if label.contains('.') {
            label.to_owned()
        } else {
            net.host(label)
        };
        let Ok(io) = net.connect_h1(&host).await else {
            return Err(0);
        };
        let mut request = format!("wss://{host}:{}{target}", net.addr.port())
            .into_client_request()
            .expect("a usable request");
        let headers = request.headers_mut();
        headers.insert(
            "origin",
            format!("https://{host}:{}", net.addr.port())
                .parse()
                .unwrap(),
        );
        headers.insert("sec-fetch-site", "same-origin".parse().unwrap());
        for (name, value) in more {
            headers.insert(*name, value.parse().unwrap());
        }
        let io = Io::Http1(Box::new(io));
        match tokio_tungstenite::client_async(request, io).await {
            Ok((inner, _)) => Ok(Self { inner }),
            Err(Error::Http(reply)) => Err(reply.status().as_u16()),
            Err(error) => {
                let fault = lost(&error);
                assert!(
                    matches!(fault, Fault::Reset | Fault::Fin | Fault::CloseNotify),
                    "{error}"
                );
                Err(0)
            }
        }
    }

    /// Opens one over HTTP/2 (RFC 8441), on a connection of its own.
    ///
    /// # Errors
    /// As [`WebSocket::open`].
    pub async fn open_h2(net: &Net, ask: &Ask) -> Result<Self, u16> {
        let connection = http2::Connection::open(net, &ask.sni, None)
            .await
            .map_err(|_| 0_u16)?;
        let (response, send) = connection.websocket(ask).await.map_err(|_| 0_u16)?;
        if response.status != 200 {
            return Err(response.status);
        }
        let io = Io::Http2(Duplex::new(response, send));
        let inner = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        Ok(Self { inner })
    }

    pub async fn send(&mut self, message: Message) -> Result<(), Fault> {
        self.inner.send(message).await.map_err(|error| lost(&error))
    }

    /// The next message or the end.
    pub async fn next(&mut self) -> Event {
        match self.inner.next().await {
            None => Event::Lost(Fault::Fin),
            Some(Ok(Message::Close(frame))) => {
                Event::Closed(frame.map(|frame| (u16::from(frame.code), frame.reason.to_string())))
            }
            Some(Ok(message)) => Event::Message(message),
            Some(Err(error)) => Event::Lost(lost(&error)),
        }
    }

    /// Reads on to the end.
    pub async fn end(&mut self) -> Event {
        loop {
            match self.next().await {
                Event::Message(_) => {}
                end @ (Event::Closed(_) | Event::Lost(_)) => return end,
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(io) => Pin::new(io).poll_read(cx, buffer),
            Self::Http2(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Http1(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Http2(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(io) => Pin::new(io).poll_flush(cx),
            Self::Http2(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(io) => Pin::new(io).poll_shutdown(cx),
            Self::Http2(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

fn lost(error: &Error) -> Fault {
    if let Error::Io(error) = error {
        return http1::fault(error);
    }
    if matches!(
        error,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    ) {
        return Fault::CloseNotify;
    }
    Fault::Garbage(error.to_string())
}
