//! HTTP/1 messages exactly as they came: spelling, order, repeats, every byte of a value, sizes of chunks.
//!
//! One reader for both ends, so that a message seen at the client and one seen at the upstream compare.
//! It is lenient: what is written on the wire is shown, not judged.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::http::Fault;
use crate::http1;

/// What can be read and written.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection's bytes.
pub struct Wire<T = Box<dyn Io>> {
    pub io: T,
    buffer: BytesMut,
    /// Everything that was read, for judging what arrived beside messages.
    pub raw: Vec<u8>,
}

/// A message. Text is Latin-1, so that no byte is lost.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Sizes of chunks, when there were any.
    pub chunks: Vec<usize>,
    pub trailers: Vec<(String, String)>,
    /// Heads of interim answers before it.
    pub interim: Vec<String>,
    /// How the message ended before its framing said so.
    pub fault: Option<Fault>,
}

/// How a body is told from what follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Message {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::http::find(&self.headers, name)
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let is_it = |key: &str| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(|(key, _)| is_it(key))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The first word of a request's line.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The second word of a request's line.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of an answer.
    pub fn status(&self) -> u16 {
        let word = self.line.split(' ').nth(1).unwrap_or_default();
        word.parse().unwrap_or_default()
    }

    /// The reason of an answer.
    pub fn reason(&self) -> &str {
        self.line.splitn(3, ' ').nth(2).unwrap_or_default()
    }

    /// How a request's body is framed.
    pub fn request_framing(&self) -> Framing {
        self.stated_framing().unwrap_or(Framing::None)
    }

    /// How an answer's body is framed.
    pub fn answer_framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status(), 100..=199 | 204 | 304) {
            return Framing::None;
        }
        self.stated_framing().unwrap_or(Framing::UntilClose)
    }

    fn stated_framing(&self) -> Option<Framing> {
        if self
            .header("transfer-encoding")
            .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"))
        {
            return Some(Framing::Chunked);
        }
        let length = self.header("content-length")?.trim().parse().ok()?;
        Some(Framing::Length(length))
    }
}

impl<T: Io> Wire<T> {
    pub fn new(io: T) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            raw: Vec::new(),
        }
    }

    /// Writes and flushes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Ends this side.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    /// The next head; `None` when the connection ended well between messages.
    pub async fn head(&mut self) -> Result<Option<Message>, Fault> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill().await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(Fault::CloseNotify);
            }
        };
        let text = latin1(&self.buffer.split_to(end));
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(field).collect();
        Ok(Some(Message {
            line,
            headers,
            ..Message::default()
        }))
    }

    /// A whole request with its body and trailers; `None` when the connection ended instead.
    pub async fn request(&mut self) -> Result<Option<Message>, Fault> {
        let Some(mut message) = self.head().await? else {
            return Ok(None);
        };
        self.body(message.request_framing(), &mut message).await;
        Ok(Some(message))
    }

    /// The answer to a request of this method. A fault before its head is an error, a later one is in it.
    pub async fn answer(&mut self, method: &str) -> Result<Message, Fault> {
        let mut message = self.answer_head().await?;
        self.body(message.answer_framing(method), &mut message)
            .await;
        Ok(message)
    }

    /// The head of an answer, after the interim ones.
    pub async fn answer_head(&mut self) -> Result<Message, Fault> {
        let mut interim = Vec::new();
        loop {
            let mut message = self.head().await?.ok_or(Fault::CloseNotify)?;
            if matches!(message.status(), 100 | 102..=199) {
                interim.push(message.line);
                continue;
            }
            message.interim = interim;
            return Ok(message);
        }
    }

    /// Reads a body into its message; how it ended is in the message.
    pub async fn body(&mut self, framing: Framing, message: &mut Message) {
        message.fault = match framing {
            Framing::None => None,
            Framing::Length(length) => self.piece(length, message).await.err(),
            Framing::Chunked => self.chunked(message).await.err(),
            Framing::UntilClose => loop {
                message.body.extend_from_slice(&self.buffer.split());
                match self.fill().await {
                    Ok(0) => break None,
                    Ok(_) => {}
                    Err(fault) => break Some(fault),
                }
            },
        };
    }

    async fn chunked(&mut self, message: &mut Message) -> Result<(), Fault> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| Fault::Garbage(line.clone()))?;
            if size == 0 {
                break;
            }
            message.chunks.push(size);
            self.piece(size, message).await?;
            self.line().await?;
        }
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            message.trailers.extend(field(&line));
        }
    }

    async fn piece(&mut self, mut left: usize, message: &mut Message) -> Result<(), Fault> {
        while left > 0 {
            if self.buffer.is_empty() && self.fill().await? == 0 {
                return Err(Fault::CloseNotify);
            }
            let piece = self.buffer.split_to(self.buffer.len().min(left));
            left -= piece.len();
            message.body.extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = latin1(&self.buffer.split_to(at));
                let _ = self.buffer.split_to(2);
                return Ok(line);
            }
            if self.fill().await? == 0 {
                return Err(Fault::CloseNotify);
            }
        }
    }

    /// What comes next, whatever it is; empty at the end.
    pub async fn some(&mut self) -> Result<Vec<u8>, Fault> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(self.buffer.split().to_vec())
    }

    /// Reads to the end of the connection; how it ended, if not well.
    pub async fn rest(&mut self) -> (Vec<u8>, Option<Fault>) {
        let fault = loop {
            match self.fill().await {
                Ok(0) => break None,
                Ok(_) => {}
                Err(fault) => break Some(fault),
            }
        };
        (self.buffer.split().to_vec(), fault)
    }

    async fn fill(&mut self) -> Result<usize, Fault> {
        let before = self.buffer.len();
        let read = self.io.read_buf(&mut self.buffer).await;
        let read = read.map_err(|error| http1::fault(&error))?;
        if self.raw.len() < RAW_MAX {
            self.raw.extend_from_slice(&self.buffer[before..]);
        }
        Ok(read)
    }
}

impl<T> std::fmt::Debug for Wire<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("buffer", &self.buffer)
            .finish_non_exhaustive()
    }
}

/// Each byte as the character of its number.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Back from [`latin1`].
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|letter| u8::try_from(u32::from(letter)).expect("Latin-1"))
        .collect()
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// Bytes kept for judging: no smuggled request is longer.
const RAW_MAX: usize = 1 << 20;
