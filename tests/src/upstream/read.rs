//! Reads HTTP/1.1 requests off a socket.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Ended, Seen};
use crate::http::find;

/// A socket and what was read ahead.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) stream: TcpStream,
    pub(super) buffer: BytesMut,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) bytes: Vec<u8>,
}

impl Reader {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next request's head; `None` when the connection ended between requests.
    pub(super) async fn head(&mut self) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        };
        let bytes = self.buffer.split_to(end).to_vec();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or("").split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Ok(Some(Head {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            bytes,
        }))
    }

    /// Reads the request's body and hands each piece to `each`.
    pub(super) async fn body(
        &mut self,
        seen: &Seen,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Ended> {
        if find(&seen.headers, "expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if find(&seen.headers, "transfer-encoding").is_some() {
            loop {
                let line = self.line().await?;
                let size = line.split(';').next().unwrap_or("").trim();
                let mut left = usize::from_str_radix(size, 16).map_err(|_| Ended::Fin)?;
                if left == 0 {
                    while !self.line().await?.is_empty() {}
                    break;
                }
                while left > 0 {
                    left -= self.piece(left, seen, &mut each).await?;
                }
                self.line().await?;
            }
        } else {
            let mut left = find(&seen.headers, "content-length")
                .and_then(|len| len.parse().ok())
                .unwrap_or(0);
            while left > 0 {
                left -= self.piece(left, seen, &mut each).await?;
            }
        }
        seen.body_complete
            .store(true, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    async fn piece(
        &mut self,
        most: usize,
        seen: &Seen,
        each: &mut impl FnMut(&[u8]),
    ) -> Result<usize, Ended> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        let len = self.buffer.len().min(most);
        let piece = self.buffer.split_to(len);
        seen.received(&piece);
        each(&piece);
        Ok(len)
    }

    async fn line(&mut self) -> Result<String, Ended> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.split_to(at);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Ended> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Ended::Fin),
            Ok(_) => Ok(()),
            Err(_) => Err(Ended::Reset),
        }
    }

    /// Writes all; meanwhile notices that the other side is gone, even when nothing can be written.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let (mut read, mut write) = self.stream.split();
        let write = async {
            write.write_all(bytes).await.map_err(|error| {
                if error.kind() == io::ErrorKind::ConnectionReset {
                    Ended::Reset
                } else {
                    Ended::Fin
                }
            })
        };
        tokio::select! {
            biased;
            done = write => done,
            ended = gone(&mut read, &mut self.buffer) => Err(ended),
        }
    }

    /// Resolves when the other side closed or reset; what it still sends is kept.
    pub(super) async fn gone(&mut self) -> Ended {
        let (mut read, _) = self.stream.split();
        gone(&mut read, &mut self.buffer).await
    }
}

impl Reader {
    /// Reads nothing, so that what the client sends backs up; resolves when the other side is gone.
    pub(super) async fn gone_without_reading(&mut self) -> Ended {
        // A peek sees the end only once the buffer before it is read: an error shows at once.
        loop {
            if let Ok(Some(error)) = self.stream.take_error() {
                return if error.kind() == io::ErrorKind::ConnectionReset {
                    Ended::Reset
                } else {
                    Ended::Fin
                };
            }
            let ready = self
                .stream
                .ready(tokio::io::Interest::READABLE | tokio::io::Interest::ERROR)
                .await;
            match ready {
                Ok(ready) if ready.is_read_closed() => return Ended::Fin,
                Ok(ready) if ready.is_error() => return Ended::Reset,
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                Err(_) => return Ended::Reset,
            }
        }
    }
}

async fn gone(read: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> Ended {
    loop {
        match read.read_buf(buffer).await {
            Ok(0) => return Ended::Fin,
            Ok(_) => {}
            Err(_) => return Ended::Reset,
        }
    }
}
