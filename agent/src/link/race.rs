//! Which link an agent takes: QUIC with a head start, then TLS beside it; the first verified one wins and
//! is remembered for this network. Decides how to dial, not whether to try again.

use std::time::Duration;

use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::{AttemptError, DialError, Kind, Target, Transport, quic, split_host_port, tls};
use crate::addrs;
use crate::config::LinkChoice;
use crate::link::memory::network_towards;

/// Dials as the target's route says.
pub(super) async fn dial(target: &Target) -> Result<Transport, DialError> {
    match target.route.choice() {
        LinkChoice::Quic => {
            let outcome = over_quic(target).await?;
            match outcome {
                Ok(link) => Ok(link),
                Err(failures) => Err(failures.told(target, is_blocked(target).await)),
            }
        }
        LinkChoice::Tls => over_tls(target)
            .await?
            .map_err(|failures| failures.told(target, false)),
        LinkChoice::Auto => auto(target).await,
    }
}

/// Dials over QUIC only, to see whether it works by now.
pub(super) async fn dial_quic(target: &Target) -> Result<Transport, DialError> {
    let link = over_quic(target)
        .await?
        .map_err(|failures| failures.told(target, false))?;
    if let Some((edge, network)) = place(target).await {
        target.route.memory.keep(&edge, &network, Kind::Quic);
    }
    Ok(link)
}

/// Dials over one kind of link, such as a tunnel has already.
pub(super) async fn dial_as(kind: Kind, target: &Target) -> Result<Transport, DialError> {
    let outcome = match kind {
        Kind::Quic => over_quic(target).await?,
        Kind::Tls => over_tls(target).await?,
    };
    outcome.map_err(|failures| failures.told(target, false))
}

async fn auto(target: &Target) -> Result<Transport, DialError> {
    let place = place(target).await;
    let remember = |kind| {
        if let Some((edge, network)) = &place {
            target.route.memory.keep(edge, network, kind);
        }
    };
    let last = place
        .as_ref()
        .and_then(|(edge, network)| target.route.memory.recall(edge, network));
    let quic_failed = CancellationToken::new();
    let quic = async {
        let outcome = over_quic(target).await;
        if !matches!(outcome, Ok(Ok(_))) {
            quic_failed.cancel();
        }
        outcome
    };
    let tls = async {
        // Where TLS won the last time, QUIC gets no head start: where UDP is blocked nobody waits, and
        // where it works by now it is the faster one.
        if last != Some(Kind::Tls) {
            let _ = tokio::time::timeout(HEAD_START, quic_failed.cancelled()).await;
        }
        over_tls(target).await
    };
    let (first, kind, other) = match select(Box::pin(quic), Box::pin(tls)).await {
        Either::Left((quic, tls)) => (quic?, Kind::Quic, Either::Left(tls)),
        Either::Right((tls, quic)) => (tls?, Kind::Tls, Either::Right(quic)),
    };
    let failures = match first {
        Ok(link) => {
            remember(kind);
            return Ok(link);
        }
        Err(failures) => failures,
    };
    let second = other.await?;
    match second {
        Ok(link) => {
            remember(link.kind());
            Ok(link)
        }
        Err(more) => Err(failures.and(more).told(target, false)),
    }
}

/// Why no address gave a link.
struct Failures(Vec<AttemptError>);

async fn over_quic(target: &Target) -> Result<Result<Transport, Failures>, DialError> {
    let dialler = quic::Dialler::new(target)?;
    let (found, trouble) = resolve_all(&target.addrs).await;
    let raced = addrs::race(&found, addrs::STAGGER, |addr| dialler.dial(addr)).await;
    Ok(raced
        .map(Transport::Quic)
        .map_err(|errors| Failures::new(errors, trouble)))
}

/// Through a proxy where there is one on the way; the proxy looks the edge's name up.
async fn over_tls(target: &Target) -> Result<Result<Transport, Failures>, DialError> {
    let dialler = tls::Dialler::new(target)?;
    let proxied = |entry: &String| {
        let (host, port) = split_host_port(entry)?;
        let proxy = target.route.proxies.towards(host, port)?;
        Some((entry.clone(), proxy.clone()))
    };
    let through: Vec<_> = target.addrs.iter().filter_map(proxied).collect();
    let direct: Vec<_> = target
        .addrs
        .iter()
        .filter(|entry| proxied(entry).is_none())
        .cloned()
        .collect();
    let mut failures = Failures(Vec::new());
    for (entry, proxy) in &through {
        match dialler.dial_through(proxy, entry).await {
            Ok(link) => return Ok(Ok(Transport::Tls(link))),
            Err(error) => failures.0.push(error),
        }
    }
    if !direct.is_empty() {
        let (found, trouble) = resolve_all(&direct).await;
        match addrs::race(&found, addrs::STAGGER, |addr| dialler.dial(addr)).await {
            Ok(link) => return Ok(Ok(Transport::Tls(link))),
            Err(errors) => failures = failures.and(Failures::new(errors, trouble)),
        }
    }
    Ok(Err(failures))
}

/// Whether TCP gets to an edge where QUIC did not: then it is UDP that is blocked.
async fn is_blocked(target: &Target) -> bool {
    let (found, _) = resolve_all(&target.addrs).await;
    let connect = addrs::race(&found, addrs::STAGGER, tokio::net::TcpStream::connect);
    let connected = tokio::time::timeout(BLOCKED_WITHIN, connect).await;
    matches!(connected, Ok(Ok(_)))
}

impl Failures {
    fn new(errors: Vec<AttemptError>, trouble: Option<String>) -> Self {
        let mut failures: Vec<_> = trouble.map(AttemptError::Failed).into_iter().collect();
        failures.extend(errors);
        Self(failures)
    }

    fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// What a person must hear: that somebody else answered, even where other addresses were silent;
    /// else what the proxy said; else the last trouble.
    fn told(self, target: &Target, is_udp_blocked: bool) -> DialError {
        let addrs = target.addrs.join(", ");
        let (mut refused, mut last) = (None, None);
        for error in self.0 {
            match error {
                AttemptError::Untrusted { addr, reason } => {
                    return DialError::Untrusted { addr, reason };
                }
                AttemptError::Proxy(error) => refused = Some(error),
                AttemptError::Failed(reason) => last = Some(reason),
            }
        }
        if let Some(error) = refused {
            return DialError::Proxy {
                code: error.code,
                message: error.message,
            };
        }
        if is_udp_blocked {
            return DialError::UdpBlocked { addrs };
        }
        let last = last.unwrap_or_else(|| "no answer".to_owned());
        // Where there is one address only, it need not be said twice.
        let last = match last.strip_prefix(&format!("{addrs}: ")) {
            Some(bare) => bare.to_owned(),
            None => last,
        };
        DialError::Unreachable { addrs, last }
    }
}

/// The edge as it is known, and where this machine is; `None` when that is not told quickly, or a proxy
/// is on the way.
async fn place(target: &Target) -> Option<(String, String)> {
    let edge = target.addrs.first()?;
    let (host, port) = split_host_port(edge)?;
    if target.route.proxies.towards(host, port).is_some() {
        return None;
    }
    let look_up = tokio::time::timeout(HEAD_START, addrs::resolve(host, port));
    let found = look_up.await.ok()?.ok()?;
    let network = network_towards(*found.first()?)?;
    Some((edge.clone(), network))
}

/// Every address of every entry, and the last trouble with one.
async fn resolve_all(entries: &[String]) -> (Vec<std::net::SocketAddr>, Option<String>) {
    let mut found = Vec::new();
    let mut trouble = None;
    for entry in entries {
        let resolved = match split_host_port(entry) {
            None => Err("this is not host:port".to_owned()),
            Some((host, port)) => {
                let look_up = tokio::time::timeout(RESOLVE_WITHIN, addrs::resolve(host, port));
                match look_up.await {
                    Ok(Ok(addrs)) => Ok(addrs),
                    Ok(Err(_)) => Err("the name has no address here".to_owned()),
                    Err(_) => Err("looking the name up took too long".to_owned()),
                }
            }
        };
        match resolved {
            Ok(addrs) => {
                for addr in addrs {
                    if !found.contains(&addr) {
                        found.push(addr);
                    }
                }
            }
            Err(why) => trouble = Some(format!("{entry}: {why}")),
        }
    }
    found.truncate(ADDRS_MAX);
    (found, trouble)
}

/// What QUIC is ahead: as much as one lost packet, and less than a person notices.
const HEAD_START: Duration = Duration::from_millis(250);
const BLOCKED_WITHIN: Duration = Duration::from_secs(2);
/// Addresses of one dial: with the stagger of the race, the last begins after four seconds.
const ADDRS_MAX: usize = 16;
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
