//! HTTP/1.1 by hand: every byte is the test's, and the way a connection ends is seen.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::http::{Ask, Body, Fault, find};
use crate::net::Net;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    pub io: Io,
    buffer: BytesMut,
}

/// The bytes below: TLS to the edge, plain TCP to a provider on loopback.
#[derive(Debug)]
pub enum Io {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// A reply whose head is here; its body is read on.
#[derive(Debug)]
pub struct H1Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub connection: Connection,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Left(u64),
    /// Bytes left of the chunk under way.
    Chunk(u64),
    ChunkHead,
    UntilClose,
    Done,
}

impl Connection {
    pub async fn open(net: &Net, name: &str) -> io::Result<Self> {
        Ok(Self::over(net.connect_h1(name).await?))
    }

    /// Over a TLS stream that the caller made.
    pub fn over(io: TlsStream<TcpStream>) -> Self {
        Self {
            io: Io::Tls(Box::new(io)),
            buffer: BytesMut::new(),
        }
    }

    /// Without TLS.
    pub async fn plain(addr: &str) -> io::Result<Self> {
        Ok(Self {
            io: Io::Plain(TcpStream::connect(addr).await?),
            buffer: BytesMut::new(),
        })
    }

    /// The system's error on the socket, without reading a byte: what a peer that does not read learns of
    /// a reset. Taken once.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match &self.io {
            Io::Tls(io) => io.get_ref().0.take_error(),
            Io::Plain(io) => io.take_error(),
        }
    }

    /// The bytes of a request, as [`Connection::send`] sends them.
    pub fn text(ask: &Ask) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            ask.method, ask.target, ask.authority
        );
        for (name, value) in &ask.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        match &ask.body {
            Body::None => {}
            Body::Whole(body) => text.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]),
            Body::Streamed => text.push_str("Transfer-Encoding: chunked\r\n"),
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if let Body::Whole(body) = &ask.body {
            bytes.extend_from_slice(body);
        }
        bytes
    }

    pub async fn send(&mut self, ask: &Ask) -> Result<(), Fault> {
        self.write(&Self::text(ask)).await
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let done = match &mut self.io {
            Io::Tls(io) => {
                async {
                    io.write_all(bytes).await?;
                    io.flush().await
                }
                .await
            }
            Io::Plain(io) => io.write_all(bytes).await,
        };
        done.map_err(|error| fault(&error))
    }

    /// One chunk of a streamed body; an empty one ends it.
    pub async fn write_chunk(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.write(&framed).await
    }

    /// The next final reply's head. Interim ones are skipped.
    pub async fn response(mut self, method: &str) -> Result<H1Response, Fault> {
        loop {
            let (status, headers) = self.head().await?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let framing = framing(method, status, &headers);
            return Ok(H1Response {
                status,
                headers,
                connection: self,
                framing,
            });
        }
    }

    /// The next head, interim ones too.
    pub async fn head(&mut self) -> Result<(u16, Vec<(String, String)>), Fault> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.fill().await?;
        };
        let head = self.buffer.split_to(end + 4);
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or("");
        let status = status
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| Fault::Garbage(status.to_owned()))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok((status, headers))
    }

    /// Reads what comes into the buffer; an end is a fault here.
    async fn fill(&mut self) -> Result<(), Fault> {
        let read = match &mut self.io {
            Io::Tls(io) => io.read_buf(&mut self.buffer).await,
            Io::Plain(io) => io.read_buf(&mut self.buffer).await,
        };
        match read {
            Ok(0) => Err(Fault::CloseNotify),
            Ok(_) => Ok(()),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Reads to the end of the connection: what came, and how it ended.
    pub async fn drain(&mut self) -> (Vec<u8>, Fault) {
        loop {
            if let Err(fault) = self.fill().await {
                return (self.buffer.split().to_vec(), fault);
            }
        }
    }

    /// Bytes that were read beyond the last head.
    pub fn take_buffer(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}

impl H1Response {
    /// The next piece of the body; `None` once it ended as its framing promised.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            match self.framing {
                Framing::Done | Framing::Left(0) => return Ok(None),
                Framing::Left(left) => {
                    let piece = self.piece(left).await?;
                    self.framing = Framing::Left(left - piece.len() as u64);
                    return Ok(Some(piece));
                }
                Framing::Chunk(left) => {
                    let piece = self.piece(left).await?;
                    let left = left - piece.len() as u64;
                    self.framing = if left == 0 {
                        self.line().await?;
                        Framing::ChunkHead
                    } else {
                        Framing::Chunk(left)
                    };
                    return Ok(Some(piece));
                }
                Framing::ChunkHead => {
                    let line = self.line().await?;
                    let size = line.split(';').next().unwrap_or("").trim();
                    let size =
                        u64::from_str_radix(size, 16).map_err(|_| Fault::Garbage(line.clone()))?;
                    if size == 0 {
                        while !self.trailer().await? {}
                        self.framing = Framing::Done;
                    } else {
                        self.framing = Framing::Chunk(size);
                    }
                }
                Framing::UntilClose => {
                    if self.connection.buffer.is_empty()
                        && let Err(fault) = self.connection.fill().await
                    {
                        self.framing = Framing::Done;
                        return if fault == Fault::CloseNotify {
                            Ok(None)
                        } else {
                            Err(fault)
                        };
                    }
                    return Ok(Some(self.connection.take_buffer()));
                }
            }
        }
    }

    /// One trailer line; true at the empty one that ends them.
    async fn trailer(&mut self) -> Result<bool, Fault> {
        let line = self.line().await?;
        if let Some((name, value)) = line.split_once(':') {
            self.headers.push((
                format!("trailer:{}", name.to_ascii_lowercase()),
                value.trim().to_owned(),
            ));
        }
        Ok(line.is_empty())
    }

    async fn piece(&mut self, most: u64) -> Result<Bytes, Fault> {
        if self.connection.buffer.is_empty() {
            self.connection.fill().await?;
        }
        let len = self
            .connection
            .buffer
            .len()
            .min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(self.connection.buffer.split_to(len).freeze())
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(at) = self
                .connection
                .buffer
                .windows(2)
                .position(|two| two == b"\r\n")
            {
                let line = self.connection.buffer.split_to(at);
                self.connection.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.connection.fill().await?;
        }
    }

    /// Whether the connection can carry another request after this reply.
    pub fn is_reusable(&self) -> bool {
        self.framing == Framing::Done || self.framing == Framing::Left(0)
    }
}

fn framing(method: &str, status: u16, headers: &[(String, String)]) -> Framing {
    if method == "HEAD" || status == 204 || status == 304 || status == 101 {
        return Framing::Done;
    }
    if find(headers, "transfer-encoding")
        .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"))
    {
        return Framing::ChunkHead;
    }
    match find(headers, "content-length").and_then(|len| len.parse().ok()) {
        Some(len) => Framing::Left(len),
        None => Framing::UntilClose,
    }
}

/// What an error of the socket says about how the peer ended it.
pub fn fault(error: &io::Error) -> Fault {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = error.kind();
    if matches!(kind, ConnectionReset | BrokenPipe | ConnectionAborted) {
        Fault::Reset
    } else if kind == UnexpectedEof {
        Fault::Fin
    } else {
        Fault::Connection(error.to_string())
    }
}
