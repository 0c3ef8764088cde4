//! Who really connected, where something of the operator's stands in front: PROXY protocol, believed from
//! listed networks only. A listed proxy always sends the header; nobody else ever does.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use ipnet::IpNet;
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::ingress::listener::Place;

/// The two addresses of a public connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ends {
    /// Who connected.
    pub(crate) client: SocketAddr,
    /// To which address.
    pub(crate) edge: SocketAddr,
}

/// The networks whose PROXY headers are believed. Empty: nobody's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Vec<IpNet>);

/// Why a listed proxy is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotProxied {
    #[error("the header did not come in time")]
    TimedOut,
    #[error("the connection ended within the header")]
    Ended,
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    #[error("this is no PROXY header")]
    Wrong,
}

impl Proxies {
    pub(crate) const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether a header is expected from this address.
    pub(crate) fn contain(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Gives the real ends of a connection, and its place among those of its address; `None` when that
    /// address has as many as it may. What was read beyond the header stays in `received`.
    ///
    /// # Errors
    /// [`NotProxied`] when a listed proxy sends no usable header.
    pub(crate) async fn identify(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        received: &mut BytesMut,
        ends: Ends,
        place: Place,
    ) -> Result<Option<(Ends, Place)>, NotProxied> {
        if !self.contain(ends.client.ip()) {
            return Ok(Some((ends, place)));
        }
        let told = tokio::time::timeout(WITHIN, read(stream, received));
        // A proxy's own check of our health is of its own address.
        let ends = told
            .await
            .map_err(|_| NotProxied::TimedOut)??
            .unwrap_or(ends);
        Ok(place.of(ends.client.ip()).map(|place| (ends, place)))
    }
}

/// Reads the header; `None` when it says that the proxy speaks for itself.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
) -> Result<Option<Ends>, NotProxied> {
    loop {
        if let Some((header, ends)) = parse(received)? {
            received.advance(header);
            return Ok(ends);
        }
        let left = HEADER_BYTES_MAX.saturating_sub(received.len());
        if left == 0 {
            return Err(NotProxied::Wrong);
        }
        received.reserve(left);
        let mut room = received.limit(left);
        if stream
            .read_buf(&mut room)
            .await
            .map_err(NotProxied::Broken)?
            == 0
        {
            return Err(NotProxied::Ended);
        }
    }
}

/// The header's length and what it says; `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<Ends>)>, NotProxied> {
    if let Some(rest) = starts(bytes, V2_PREFIX)? {
        // Version and command, family, length.
        let Some(&[_, _, high, low]) = rest.first_chunk() else {
            return Ok(None);
        };
        let length = V2_PREFIX.len() + 4 + usize::from(u16::from_be_bytes([high, low]));
        if length > HEADER_BYTES_MAX {
            return Err(NotProxied::Wrong);
        }
        let Some(header) = bytes.get(..length) else {
            return Ok(None);
        };
        let header = v2::Header::try_from(header).map_err(|_| NotProxied::Wrong)?;
        Ok(Some((length, v2_ends(&header)?)))
    } else if bytes.starts_with(V1_PREFIX) {
        let line = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
        let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
            return if bytes.len() < V1_BYTES_MAX {
                Ok(None)
            } else {
                Err(NotProxied::Wrong)
            };
        };
        let length = end + 2;
        let text = line
            .get(..length)
            .and_then(|line| std::str::from_utf8(line).ok())
            .ok_or(NotProxied::Wrong)?;
        let header = v1::Header::try_from(text).map_err(|_| NotProxied::Wrong)?;
        Ok(Some((length, v1_ends(&header.addresses))))
    } else {
        // Too few bytes to tell the two apart: the binary signature begins with a line's end.
        Ok(None)
    }
}

/// What follows the binary signature; `None` when this is the text form, or may become either.
fn starts<'b>(bytes: &'b [u8], signature: &[u8]) -> Result<Option<&'b [u8]>, NotProxied> {
    if let Some(rest) = bytes.strip_prefix(signature) {
        return Ok(Some(rest));
    }
    let may_become = |whole: &[u8]| {
        let seen = bytes.len().min(whole.len());
        bytes.get(..seen) == whole.get(..seen)
    };
    if may_become(V1_PREFIX) || may_become(signature) {
        Ok(None)
    } else {
        Err(NotProxied::Wrong)
    }
}

fn v2_ends(header: &v2::Header<'_>) -> Result<Option<Ends>, NotProxied> {
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    if header.protocol == v2::Protocol::Datagram {
        return Err(NotProxied::Wrong);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(ip) => Some(Ends {
            client: (ip.source_address, ip.source_port).into(),
            edge: (ip.destination_address, ip.destination_port).into(),
        }),
        v2::Addresses::IPv6(ip) => Some(Ends {
            client: (ip.source_address, ip.source_port).into(),
            edge: (ip.destination_address, ip.destination_port).into(),
        }),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    })
}

fn v1_ends(addresses: &v1::Addresses) -> Option<Ends> {
    match addresses {
        v1::Addresses::Tcp4(ip) => Some(Ends {
            client: (ip.source_address, ip.source_port).into(),
            edge: (ip.destination_address, ip.destination_port).into(),
        }),
        v1::Addresses::Tcp6(ip) => Some(Ends {
            client: (ip.source_address, ip.source_port).into(),
            edge: (ip.destination_address, ip.destination_port).into(),
        }),
        v1::Addresses::Unknown => None,
    }
}

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_PREFIX: &[u8] = v2::PROTOCOL_PREFIX;
/// The longest line (PROXY protocol §2.1), line end included.
const V1_BYTES_MAX: usize = 107;
/// Room for 232 bytes of addresses (§2.2) and some type-length-values.
const HEADER_BYTES_MAX: usize = 536;
/// A proxy sends it with its first packet.
const WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
