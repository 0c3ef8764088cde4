//! What is open beside the public port, and who is believed: ports of TCP endpoints, proxies in front.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::checks::refused;
use super::file::Source;
use super::{At, ConfigError};
use crate::policy::parse_network;

/// `FIRST-LAST`, or a single port.
pub(super) fn tcp_ports(
    source: &Source,
    flag: Option<&str>,
    public: u16,
) -> Result<Option<RangeInclusive<u16>>, ConfigError> {
    let (text, at) = match (flag, &source.keys.tcp_ports) {
        (Some(text), _) => (text, At::Flag("--tcp-ports")),
        (None, Some(text)) => (text.value.as_str(), source.at("tcp_ports", text)),
        (None, None) => return Ok(None),
    };
    let Some(range) = parse_range(text) else {
        let message = format!("{text:?} is no range of ports; such as 20000-20100");
        return Err(refused(at, &message));
    };
    if range.len() > PORTS_MAX {
        let message = format!("at most {PORTS_MAX} ports are possible");
        return Err(refused(at, &message));
    }
    if range.contains(&public) {
        let message = format!("the public port {public} is within this range");
        return Err(refused(at, &message));
    }
    Ok(Some(range))
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse().ok().filter(|port: &u16| *port != 0);
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

/// Networks, of which none is everybody unless that is wanted by name.
pub(super) fn trusted_proxies(
    source: &Source,
    flags: &[String],
    danger_flag: bool,
) -> Result<Vec<IpNet>, ConfigError> {
    let keys = &source.keys;
    let (texts, at) = match &keys.trusted_proxies {
        _ if !flags.is_empty() => (flags, At::Flag("--trusted-proxies")),
        Some(texts) => (texts.value.as_slice(), source.at("trusted_proxies", texts)),
        None => return Ok(Vec::new()),
    };
    let may_be_any = danger_flag
        || keys
            .danger_trust_any_proxy
            .as_ref()
            .is_some_and(|danger| danger.value);
    if texts.len() > PROXIES_MAX {
        return Err(refused(
            at,
            &format!("at most {PROXIES_MAX} networks are possible"),
        ));
    }
    let network = |text: &String| {
        let text = text.trim();
        let Some(network) = parse_network(text) else {
            let message = format!("{text:?} is no network; such as 192.0.2.0/24 or 192.0.2.7");
            return Err(refused(at.clone(), &message));
        };
        if network.prefix_len() == 0 && !may_be_any {
            let message = format!(
                "{text} would let anybody claim any address; if nothing but your proxy can reach the \
                 edge, say so with danger_trust_any_proxy"
            );
            return Err(refused(at.clone(), &message));
        }
        Ok(network)
    };
    texts.iter().map(network).collect()
}

/// Each may become a listener, and a bind without a wish looks at all of them.
const PORTS_MAX: usize = 10_000;
const PROXIES_MAX: usize = 256;
