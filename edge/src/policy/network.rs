//! Which networks may connect.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::model::endpoint::NetworkRule;

/// Whether a rule lets an address in. Deny wins; with an allow list, who is not on it is denied. IPv4
/// within IPv6 is IPv4.
pub(crate) fn admits(rule: &NetworkRule, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_in = |list: &[IpNet]| list.iter().any(|network| network.contains(&address));
    !is_in(&rule.deny) && (rule.allow.is_empty() || is_in(&rule.allow))
}

/// A network, or a single address, in canonical form: host bits cleared, IPv4 within IPv6 as IPv4.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let mapped = match network {
        IpNet::V6(network) if network.prefix_len() >= MAPPED_PREFIX => network
            .addr()
            .to_ipv4_mapped()
            .and_then(|address| Ipv4Net::new(address, network.prefix_len() - MAPPED_PREFIX).ok()),
        IpNet::V4(_) | IpNet::V6(_) => None,
    };
    Some(mapped.map_or(network, IpNet::V4).trunc())
}

/// `::ffff:0:0/96` holds the IPv4 addresses (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: &[&str], deny: &[&str]) -> NetworkRule {
        let own = |list: &[&str]| {
            list.iter()
                .map(|text| parse_network(text).expect(text))
                .collect()
        };
        NetworkRule {
            allow: own(allow),
            deny: own(deny),
        }
    }

    /// Deny wins, an allow list is complete, and the spelling of an address changes nothing.
    #[test]
    fn decisions() {
        let table: &[(&[&str], &[&str], &str, bool)] = &[
            (&[], &[], "203.0.113.7", true),
            (&["203.0.113.0/24"], &[], "203.0.113.7", true),
            (&["203.0.113.0/24"], &[], "203.0.114.7", false),
            (&["203.0.113.0/24"], &[], "::ffff:203.0.113.7", true),
            (&["203.0.113.0/24"], &[], "2001:db8::1", false),
            (&["203.0.113.7"], &[], "203.0.113.7", true),
            (&["203.0.113.7"], &[], "203.0.113.8", false),
            (&[], &["203.0.113.0/24"], "203.0.113.7", false),
            (&[], &["203.0.113.0/24"], "::ffff:203.0.113.7", false),
            (&[], &["203.0.113.0/24"], "198.51.100.1", true),
            (&["203.0.113.0/24"], &["203.0.113.7"], "203.0.113.7", false),
            (&["203.0.113.0/24"], &["203.0.113.7"], "203.0.113.8", true),
            (&["203.0.113.0/24"], &["0.0.0.0/0"], "203.0.113.8", false),
            (&["2001:db8::/32"], &[], "2001:db8:1::5", true),
            (&["2001:db8::/32"], &[], "2001:db9::5", false),
            // Written as IPv6, meant as IPv4.
            (&["::ffff:203.0.113.0/120"], &[], "203.0.113.9", true),
            (&["::ffff:203.0.113.0/120"], &[], "::ffff:203.0.113.9", true),
            (&[], &["::ffff:203.0.113.7"], "203.0.113.7", false),
            // All of one family says nothing of the other.
            (&[], &["::/0"], "203.0.113.7", true),
            (&[], &["0.0.0.0/0"], "2001:db8::1", true),
            (&["0.0.0.0/0", "::/0"], &[], "2001:db8::1", true),
        ];
        for (allow, deny, address, expected) in table {
            let admitted = admits(&rule(allow, deny), address.parse().unwrap());
            assert_eq!(admitted, *expected, "{allow:?} {deny:?} {address}");
        }
    }

    /// Networks and single addresses, host bits cleared; nothing else.
    #[test]
    fn networks() {
        for (text, expected) in [
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("2001:DB8::7", "2001:db8::7/128"),
            ("2001:db8::7/64", "2001:db8::/64"),
            ("::ffff:203.0.113.7/104", "203.0.0.0/8"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            let parsed = parse_network(text).map(|network| network.to_string());
            assert_eq!(parsed.as_deref(), Some(expected), "{text}");
        }
        for wrong in [
            "",
            "/24",
            "203.0.113.0/33",
            "203.0.113/24",
            "203.0.113.0/-1",
            "2001:db8::/129",
            "localhost",
            " 203.0.113.7",
            "203.0.113.7 ",
            "203.0.113.0/24,198.51.100.0/24",
            "fe80::1%eth0",
            "010.0.0.1",
        ] {
            assert_eq!(parse_network(wrong), None, "{wrong:?}");
        }
    }
}
