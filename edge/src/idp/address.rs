//! Which addresses a provider may be dialled at. A name that resolves into a private network would
//! let whoever picks the name reach what only the edge can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Judges addresses; also the resolver of the client, so that what was judged is what is dialled.
#[derive(Clone, Debug)]
pub(super) struct Allowed(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    loopback: bool,
    networks: Vec<IpNet>,
}

impl Allowed {
    /// Public addresses, those in `networks`, and with `loopback` this machine.
    pub(super) fn new(loopback: bool, networks: Vec<IpNet>) -> Self {
        Self(Arc::new(Rules { loopback, networks }))
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = plain(address);
        is_public(address)
            || (self.0.loopback && address.is_loopback())
            || self
                .0
                .networks
                .iter()
                .any(|network| network.contains(&address))
    }
}

impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = if is_loopback_name(name.as_str()) {
                // RFC 6761 §6.3: never asked of DNS, and not every system resolves sub-names.
                vec![
                    (Ipv4Addr::LOCALHOST, 0).into(),
                    (Ipv6Addr::LOCALHOST, 0).into(),
                ]
            } else {
                tokio::net::lookup_host((name.as_str(), 0))
                    .await?
                    .take(ADDRESSES_MAX)
                    .collect()
            };
            let dialled: Vec<_> = found
                .into_iter()
                .filter(|address| allowed.contains(address.ip()))
                .collect();
            if dialled.is_empty() {
                return Err(NotAllowed.into());
            }
            Ok(Box::new(dialled.into_iter()) as Addrs)
        })
    }
}

/// No address of a name may be dialled.
#[derive(Debug, thiserror::Error)]
#[error("it has no public address, and private ones are not allowed")]
pub(super) struct NotAllowed;

/// `localhost` and names below it.
pub(super) fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

/// IPv4 in IPv6 clothes is judged as what it reaches: mapped, and through NAT64 (RFC 6052) or 6to4.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into()
        }
        _ => address,
    }
}

/// Globally reachable, by the special-purpose registries (RFC 6890 and its successors).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(a == 0
                || a >= 240
                || v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation()
                || (a == 100 && b & 0xc0 == 64)
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && b & 0xfe == 18))
        }
        IpAddr::V6(v6) => {
            // Only 2000::/3 is handed out; documentation, benchmarking and tunnels live inside it.
            matches!(v6.segments(), [first, second, ..]
                if first & 0xe000 == 0x2000
                    && !(first == 0x2001 && second < 0x0200)
                    && !(first == 0x2001 && second == 0x0db8)
                    && first != 0x2002
                    && !(first == 0x3fff && second < 0x1000))
        }
    }
}

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that only the edge can reach is dialled, in whatever clothes it comes.
    #[test]
    fn private_addresses_are_refused() {
        let none = Allowed::new(false, Vec::new());
        for address in [
            "127.0.0.1",
            "127.8.9.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "2001::1",
            "64:ff9b:1::1",
        ] {
            assert!(!none.contains(address.parse().unwrap()), "{address}");
        }
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
        ] {
            assert!(none.contains(address.parse().unwrap()), "{address}");
        }
    }

    /// The operator may open this machine, or networks, and no more.
    #[test]
    fn the_operator_opens_exactly_what_is_named() {
        let loopback = Allowed::new(true, Vec::new());
        assert!(loopback.contains("127.0.0.1".parse().unwrap()));
        assert!(loopback.contains("::1".parse().unwrap()));
        assert!(!loopback.contains("10.0.0.1".parse().unwrap()));
        let network = Allowed::new(false, vec!["10.1.0.0/16".parse().unwrap()]);
        assert!(network.contains("10.1.2.3".parse().unwrap()));
        assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!network.contains("10.2.2.3".parse().unwrap()));
        assert!(!network.contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn loopback_names() {
        for name in ["localhost", "LOCALHOST", "a.localhost", "localhost."] {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in ["localhost.example", "notlocalhost", "example"] {
            assert!(!is_loopback_name(name), "{name}");
        }
    }
}
