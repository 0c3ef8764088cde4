//! A way through an HTTP proxy: CONNECT, its answer, and then the bytes of whoever is behind it. The
//! proxy learns the edge's address and no more: TLS begins after its answer, towards the edge.

use std::io;
use std::time::Duration;

use proto::code::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tls;
use crate::addrs;
use crate::config::Proxy;

/// Why the proxy gave no way through: a code and a sentence.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ProxyError {
    pub(super) code: Code,
    pub(super) message: String,
}

/// A connection to `edge` (`host:port`) through the proxy, which resolves it.
pub(super) async fn connect(proxy: &Proxy, edge: &str) -> Result<TcpStream, ProxyError> {
    let unreachable = |why: String| ProxyError {
        code: Code::ProxyUnreachable,
        message: format!("the proxy {proxy} cannot be reached: {why}"),
    };
    let dial = async {
        let found = addrs::resolve(&proxy.host, proxy.port).await?;
        let dialled = addrs::race(&found, addrs::STAGGER, TcpStream::connect).await;
        dialled.map_err(|mut errors| {
            errors
                .pop()
                .unwrap_or_else(|| io::ErrorKind::NotFound.into())
        })
    };
    let mut stream = match tokio::time::timeout(CONNECT_WITHIN, dial).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("no answer".to_owned())),
    };
    tls::prepare(&stream);
    let asked = tokio::time::timeout(ANSWER_WITHIN, ask(&mut stream, proxy, edge)).await;
    let status = match asked {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(refused(proxy, edge, &error.to_string())),
        Err(_) => return Err(refused(proxy, edge, "it did not answer in time")),
    };
    match status {
        200..=299 => Ok(stream),
        407 if proxy.authorization().is_some() => Err(ProxyError {
            code: Code::ProxyLoginRequired,
            message: format!("the proxy {proxy} does not accept the name and password"),
        }),
        407 => Err(ProxyError {
            code: Code::ProxyLoginRequired,
            message: format!("the proxy {proxy} wants a name and a password"),
        }),
        other => Err(refused(proxy, edge, &format!("it answered {other}"))),
    }
}

fn refused(proxy: &Proxy, edge: &str, why: &str) -> ProxyError {
    ProxyError {
        code: Code::ProxyRefused,
        message: format!("the proxy {proxy} gives no way to {edge}: {why}"),
    }
}

/// Sends the request and gives the answer's status.
async fn ask(stream: &mut TcpStream, proxy: &Proxy, edge: &str) -> io::Result<u16> {
    let mut request = zeroize::Zeroizing::new(format!(
        "CONNECT {edge} HTTP/1.1\r\nHost: {edge}\r\nUser-Agent: sallyport-agent/{}\r\n",
        env!("CARGO_PKG_VERSION")
    ));
    if let Some(authorization) = proxy.authorization() {
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let head = read_head(stream).await?;
    status_of(&head).ok_or_else(|| io::Error::other("its answer is not HTTP"))
}

/// The answer's head, byte by byte: what follows it is TLS, and not ours to take. It is short.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(io::Error::other("its answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

fn status_of(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let is_http = words.next()?.starts_with("HTTP/1.");
    let status = words.next()?.parse().ok()?;
    (is_http && (100..600).contains(&status)).then_some(status)
}

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The proxy dials the edge meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What proxies say fits many times over.
const HEAD_BYTES_MAX: usize = 8 * 1024;
