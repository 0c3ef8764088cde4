//! From a host and a port to addresses, and to the first of them that answers.
//!
//! Shared by what dials the local app and what dials the edge; knows neither.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// The addresses of a host, at most [`ADDRS_MAX`].
///
/// `localhost` and every name below it are the loopback addresses (RFC 6761 §6.3), whatever the
/// resolver says: many do not know the names below it.
///
/// # Errors
/// The resolver's, or `NotFound` when the name has no address.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if is_localhost(host) {
        return Ok(vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
        ]);
    }
    let addrs: Vec<_> = tokio::net::lookup_host((host, port))
        .await?
        .take(ADDRS_MAX)
        .collect();
    if addrs.is_empty() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    Ok(addrs)
}

/// Tries addresses in order, each `stagger` after the one before or as soon as that failed, and
/// gives the first success. Dropping the future drops every attempt.
///
/// # Errors
/// What each attempt ended with, in the order of their ends.
pub(crate) async fn race<T, E, F>(
    addrs: &[SocketAddr],
    stagger: Duration,
    mut attempt: impl FnMut(SocketAddr) -> F,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addrs.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut errors = Vec::new();
    loop {
        if let Some(addr) = waiting.next() {
            attempts.push(attempt(addr));
        }
        let none_waits = waiting.len() == 0;
        tokio::select! {
            Some(ended) = attempts.next() => match ended {
                Ok(winner) => return Ok(winner),
                Err(error) => errors.push(error),
            },
            () = tokio::time::sleep(stagger), if !none_waits => {}
            else => return Err(errors),
        }
        if none_waits && attempts.is_empty() {
            return Err(errors);
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit_once('.').map_or(name, |(_, last)| last);
    last.eq_ignore_ascii_case("localhost")
}

/// RFC 8305 §5: the recommended delay between attempts.
pub(crate) const STAGGER: Duration = Duration::from_millis(250);
/// A name with more addresses than this is tried at the first ones.
const ADDRS_MAX: usize = 8;

#[cfg(test)]
mod tests;
