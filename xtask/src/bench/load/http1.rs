//! A conversation in HTTP/1.1, as little as a load needs: a request out of ready bytes, the head of the answer,
//! and so many bytes of body. Answers of unknown length can only be read on and on.

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bench::load::Door;
use crate::bench::load::wire::Wire;

/// An open connection and what has been read ahead.
#[derive(Debug)]
pub(crate) struct Connection {
    wire: Wire,
    buffer: Vec<u8>,
    /// How much of the buffer holds bytes; they begin at its start.
    filled: usize,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// `Content-Length`.
    pub(crate) body_bytes: Option<u64>,
    head_bytes: usize,
}

impl Connection {
    pub(crate) async fn open(door: &Door) -> anyhow::Result<Self> {
        Self::open_with(door, BUFFER_BYTES).await
    }

    /// With a buffer of another size: the most that one read can bring.
    pub(crate) async fn open_with(door: &Door, buffer_bytes: usize) -> anyhow::Result<Self> {
        Ok(Self {
            wire: Wire::open(door).await?,
            buffer: vec![0; buffer_bytes],
            filled: 0,
        })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await?;
        Ok(())
    }

    /// One exchange with a whole answer of status 200; gives the bytes of its body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<u64> {
        self.send(request).await?;
        let head = self.head().await?;
        ensure!(head.status == 200, "answered {}", head.status);
        let bytes = head.body_bytes.context("an answer of unknown length")?;
        self.skip(bytes, |_| {}).await?;
        Ok(bytes)
    }

    /// One exchange, whatever the answer; without a length it is taken to have no body.
    pub(crate) async fn status(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.send(request).await?;
        let head = self.head().await?;
        self.skip(head.body_bytes.unwrap_or(0), |_| {}).await?;
        Ok(head.status)
    }

    /// One exchange with a whole answer of status 200; gives its body.
    pub(crate) async fn read(&mut self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.send(request).await?;
        let head = self.head().await?;
        ensure!(head.status == 200, "answered {}", head.status);
        let wanted = usize::try_from(head.body_bytes.context("an answer of unknown length")?)?;
        let mut body = Vec::new();
        while body.len() < wanted {
            let some = self.some().await?;
            ensure!(!some.is_empty(), "closed within an answer");
            body.extend_from_slice(some);
        }
        Ok(body)
    }

    /// Reads a head; what follows stays in the buffer.
    pub(crate) async fn head(&mut self) -> anyhow::Result<Head> {
        loop {
            let read = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(head) = parse(read)? {
                self.drop_front(head.head_bytes);
                return Ok(head);
            }
            ensure!(self.filled < self.buffer.len(), "the head is too long");
            let rest = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let read = self.wire.read(rest).await?;
            ensure!(read > 0, "closed before an answer");
            self.filled += read;
        }
    }

    /// Reads so many bytes and lets them go, telling of each piece.
    pub(crate) async fn skip(
        &mut self,
        mut bytes: u64,
        mut each: impl FnMut(usize),
    ) -> anyhow::Result<()> {
        while bytes > 0 {
            if self.filled == 0 {
                self.filled = self.wire.read(&mut self.buffer).await?;
                ensure!(self.filled > 0, "closed within an answer");
            }
            let piece = usize::try_from(bytes)
                .unwrap_or(usize::MAX)
                .min(self.filled);
            self.drop_front(piece);
            bytes -= piece as u64;
            each(piece);
        }
        Ok(())
    }

    /// Some bytes, at least one; nothing at a clean end.
    pub(crate) async fn some(&mut self) -> std::io::Result<&[u8]> {
        if self.filled == 0 {
            self.filled = self.wire.read(&mut self.buffer).await?;
        }
        let filled = std::mem::take(&mut self.filled);
        Ok(self.buffer.get(..filled).unwrap_or_default())
    }

    /// The connection itself, for what goes on without HTTP; only when nothing was read ahead.
    pub(crate) fn into_wire(self) -> anyhow::Result<Wire> {
        ensure!(self.filled == 0, "bytes after the answer");
        Ok(self.wire)
    }

    fn drop_front(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }
}

/// The bytes of a request; `extra` are whole header lines.
pub(crate) fn request(method: &str, door: &Door, target: &str, extra: &str) -> Vec<u8> {
    let Door {
        authority, cookie, ..
    } = door;
    let cookie = cookie
        .as_ref()
        .map(|cookie| format!("Cookie: {cookie}\r\n"))
        .unwrap_or_default();
    format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\n{cookie}{extra}\r\n").into_bytes()
}

/// The head, once it is whole.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = bytes.get(..end).unwrap_or_default();
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix(b"HTTP/1.1 "))
        .and_then(|rest| rest.get(..3))
        .and_then(number)
        .and_then(|status| u16::try_from(status).ok());
    let Some(status) = status else {
        bail!("this is no answer in HTTP/1.1");
    };
    let body_bytes = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(LENGTH.len())?;
        name.eq_ignore_ascii_case(LENGTH)
            .then(|| number(value.trim_ascii()))
            .flatten()
    });
    Ok(Some(Head {
        status,
        body_bytes,
        head_bytes: end + 4,
    }))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

const LENGTH: &[u8] = b"content-length:";
/// A head and a small answer, with room to spare: there may be thousands of these.
const BUFFER_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: Option<(u16, Option<u64>, usize)>) {
        let found = parse(text.as_bytes()).unwrap();
        let wanted = wanted.map(|(status, body_bytes, head_bytes)| Head {
            status,
            body_bytes,
            head_bytes,
        });
        assert_eq!(found, wanted, "{text:?}");
    }

    #[test]
    fn heads_are_read_once_they_are_whole() {
        check("", None);
        check("HTTP/1.1 200 OK\r\nA: b\r\n", None);
        check("HTTP/1.1 200 OK\r\n\r\n", Some((200, None, 19)));
        check(
            "HTTP/1.1 404 Not Found\r\ncontent-LENGTH: 12 \r\nA: b\r\n\r\nhello",
            Some((404, Some(12), 53)),
        );
        check(
            "HTTP/1.1 101 X\r\nX-Content-Length: 9\r\n\r\n",
            Some((101, None, 39)),
        );
        assert!(parse(b"SSH-2.0 x\r\n\r\n").is_err());
    }

    #[test]
    fn requests_carry_the_session() {
        let door = Door {
            addr: ([127, 0, 0, 1], 1).into(),
            name: "a.bench.test".to_owned(),
            authority: "a.bench.test:1".to_owned(),
            cookie: Some("s=1".to_owned()),
            tls: None,
        };
        let text = String::from_utf8(request("GET", &door, "/x", "A: b\r\n")).unwrap();
        assert_eq!(
            text,
            "GET /x HTTP/1.1\r\nHost: a.bench.test:1\r\nCookie: s=1\r\nA: b\r\n\r\n"
        );
    }
}
