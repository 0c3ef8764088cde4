//! What is different for an upstream of raw bytes: it may be told by PROXY protocol who connected, and
//! the agent may end the TLS in front of it.

use std::fmt;
use std::sync::Arc;

use ppp::{v1, v2};
use proto::bind::ProxyProtocol;
use proto::head::ProxyAddrs;

use super::EndsTls;

/// How connections to an upstream begin. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    pub(crate) proxy_protocol: ProxyProtocol,
    /// Ends the TLS of the bytes that come.
    pub(crate) ends_tls: Option<Arc<EndsTls>>,
}

impl Manner {
    /// The PROXY header of a connection; without addresses one that says that we speak for ourselves.
    /// Empty when the upstream wants none.
    pub(super) fn header(&self, who: Option<ProxyAddrs>) -> Vec<u8> {
        match self.proxy_protocol {
            ProxyProtocol::None | ProxyProtocol::Unknown => Vec::new(),
            ProxyProtocol::V1 => header_v1(who).into_bytes(),
            ProxyProtocol::V2 => header_v2(who),
        }
    }

    /// Whether the edge is to say who connected.
    pub(crate) fn wants_addresses(&self) -> bool {
        self.proxy_protocol != ProxyProtocol::None
    }
}

impl fmt::Debug for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manner")
            .field("proxy_protocol", &self.proxy_protocol)
            .field("ends_tls", &self.ends_tls.is_some())
            .finish()
    }
}

fn header_v1(who: Option<ProxyAddrs>) -> String {
    let addresses = match who {
        None => v1::Addresses::Unknown,
        Some(ProxyAddrs::V4 {
            source,
            destination,
        }) => v1::Addresses::new_tcp4(
            *source.ip(),
            *destination.ip(),
            source.port(),
            destination.port(),
        ),
        Some(ProxyAddrs::V6 {
            source,
            destination,
        }) => v1::Addresses::new_tcp6(
            *source.ip(),
            *destination.ip(),
            source.port(),
            destination.port(),
        ),
    };
    addresses.to_string()
}

fn header_v2(who: Option<ProxyAddrs>) -> Vec<u8> {
    let (command, addresses) = match who {
        None => (v2::Command::Local, v2::Addresses::Unspecified),
        Some(ProxyAddrs::V4 {
            source,
            destination,
        }) => (
            v2::Command::Proxy,
            v2::Addresses::IPv4(v2::IPv4::new(
                *source.ip(),
                *destination.ip(),
                source.port(),
                destination.port(),
            )),
        ),
        Some(ProxyAddrs::V6 {
            source,
            destination,
        }) => (
            v2::Command::Proxy,
            v2::Addresses::IPv6(v2::IPv6::new(
                *source.ip(),
                *destination.ip(),
                source.port(),
                destination.port(),
            )),
        ),
    };
    v2::Builder::with_addresses(v2::Version::Two | command, v2::Protocol::Stream, addresses)
        .build()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: ProxyProtocol, who: Option<ProxyAddrs>) -> Vec<u8> {
        let manner = Manner {
            proxy_protocol: version,
            ends_tls: None,
        };
        manner.header(who)
    }

    /// The bytes of the specification (§2.1, §2.2), not only what the same crate would read.
    #[test]
    fn headers_are_as_specified() {
        let v4 = ProxyAddrs::new(
            "203.0.113.7:1000".parse().unwrap(),
            "198.51.100.2:443".parse().unwrap(),
        );
        let v6 = ProxyAddrs::new(
            "[2001:db8::7]:1000".parse().unwrap(),
            "[2001:db8::2]:443".parse().unwrap(),
        );
        let text = |who| String::from_utf8(header(ProxyProtocol::V1, who)).unwrap();
        assert_eq!(
            text(Some(v4)),
            "PROXY TCP4 203.0.113.7 198.51.100.2 1000 443\r\n"
        );
        assert_eq!(
            text(Some(v6)),
            "PROXY TCP6 2001:db8::7 2001:db8::2 1000 443\r\n"
        );
        assert_eq!(text(None), "PROXY UNKNOWN\r\n");
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        let mut expected = signature.to_vec();
        expected.extend([
            0x21, 0x11, 0, 12, 203, 0, 113, 7, 198, 51, 100, 2, 3, 0xe8, 1, 0xbb,
        ]);
        assert_eq!(header(ProxyProtocol::V2, Some(v4)), expected);
        let long = header(ProxyProtocol::V2, Some(v6));
        assert_eq!(
            long[..16],
            [signature.as_slice(), &[0x21, 0x21, 0, 36]].concat()
        );
        assert_eq!(long.len(), 16 + 36);
        let local = header(ProxyProtocol::V2, None);
        assert_eq!(local[12], 0x20, "LOCAL");
        assert_eq!(usize::from(local[15]), local.len() - 16);
        assert!(header(ProxyProtocol::None, Some(v4)).is_empty());
    }
}
