//! TCP ports: which one a bind gets. A port that was asked for is given or refused; one that the edge
//! chose stays with whoever asked (authtoken, instance, upstream) as a random name does.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use proto::bind::BindRequest;
use proto::code::Code;

use super::{Asker, Binder, Refusal};
use crate::model::endpoint::{Endpoint, Keeper, Kind};
use crate::model::site::ReservedHost;
use crate::secret;

/// The ports that the operator opened, and whoever listens on them.
#[derive(Clone)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    hold: Arc<Hold>,
    serve: Arc<Serve>,
}

/// Takes a port from the system, unless the edge has it already.
type Hold = dyn Fn(u16) -> io::Result<()> + Send + Sync;
/// Accepts connections for a TCP endpoint that is routed by now, unless that is so already; leaves
/// endpoints of other kinds alone.
type Serve = dyn Fn(&Endpoint) + Send + Sync;

impl Ports {
    pub(crate) fn new(
        range: RangeInclusive<u16>,
        hold: impl Fn(u16) -> io::Result<()> + Send + Sync + 'static,
        serve: impl Fn(&Endpoint) + Send + Sync + 'static,
    ) -> Self {
        Self {
            range,
            hold: Arc::new(hold),
            serve: Arc::new(serve),
        }
    }

    pub(crate) fn serve(&self, endpoint: &Endpoint) {
        (self.serve)(endpoint);
    }

    fn holds(&self, port: u16) -> bool {
        match (self.hold)(port) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, port, "port not usable");
                false
            }
        }
    }

    /// Every port once, beginning at a place that a digest gives.
    fn from(&self, digest: &[u8; 32]) -> impl Iterator<Item = u16> + use<> {
        let first = u32::from(*self.range.start());
        let count = u32::from(*self.range.end()).saturating_sub(first) + 1;
        let start = digest
            .first_chunk()
            .map_or(0, |four| u32::from_be_bytes(*four) % count);
        (0..count).filter_map(move |step| u16::try_from(first + (start + step) % count).ok())
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ports").field(&self.range).finish()
    }
}

impl Binder {
    /// Claims the wanted port, or with 0 the one that stays.
    pub(super) async fn claim_port(
        &self,
        asker: Asker,
        request: &BindRequest,
        wanted: u16,
        wish: Endpoint,
        may_serve: impl Fn(&Endpoint, &Endpoint) -> Result<(), Refusal>,
    ) -> Result<Endpoint, Refusal> {
        let Some(ports) = &self.ports else {
            let code = Code::TcpNotServed;
            return Err(Refusal::new(code, code.meaning().to_owned()));
        };
        let wanted = match &request.url {
            Some(url) => self.chosen_port(url, wanted)?,
            None => wanted,
        };
        if wanted == 0 {
            return self.keep_port(ports, asker, request, wish, may_serve).await;
        }
        if !ports.range.contains(&wanted) {
            let (first, last) = (ports.range.start(), ports.range.end());
            let message = format!(
                "this edge serves the ports {first} to {last}, and {wanted} is none of them"
            );
            return Err(Refusal::new(Code::PortNotServed, message));
        }
        let claim = self.at(wanted, None, &wish);
        let taken = |by: &str| {
            let message = format!("port {wanted} is in use by {by}");
            Refusal::new(Code::PortTaken, message)
        };
        match self.holder(&claim.host).await? {
            Some(other) if other.authtoken != asker.authtoken => {
                return Err(taken("another authtoken"));
            }
            Some(held) => may_serve(&held, &claim)?,
            None => {}
        }
        if !ports.holds(wanted) {
            return Err(taken("something else on the edge's machine"));
        }
        let written = self.write(claim).await?;
        written.ok_or_else(|| taken("another authtoken"))
    }

    /// The port of an earlier run, else a free one, else one of the same authtoken that nobody serves:
    /// a range is small, and agents whose instance is gone do not come back.
    async fn keep_port(
        &self,
        ports: &Ports,
        asker: Asker,
        request: &BindRequest,
        wish: Endpoint,
        may_serve: impl Fn(&Endpoint, &Endpoint) -> Result<(), Refusal>,
    ) -> Result<Endpoint, Refusal> {
        let keeper = self.keeper(asker, &request.upstream);
        let own = self
            .store
            .endpoints_of(asker.authtoken)
            .await
            .map_err(|error| Refusal::store(&error))?;
        let kept = |endpoint: &Endpoint| match endpoint.kind {
            Kind::Tcp {
                port,
                keeper: Some(keeper),
            } if ports.range.contains(&port) => Some((port, keeper)),
            Kind::Tcp { .. } | Kind::Http | Kind::Tls(_) => None,
        };
        let before = own.iter().find_map(|held| {
            kept(held)
                .filter(|(_, of)| *of == keeper)
                .map(|(port, _)| (held, port))
        });
        if let Some((held, port)) = before {
            let claim = self.at(port, Some(keeper), &wish);
            may_serve(held, &claim)?;
            if ports.holds(port)
                && let Some(endpoint) = self.write(claim).await?
            {
                return Ok(endpoint);
            }
        }
        for port in ports.from(&keeper.0) {
            let claim = self.at(port, Some(keeper), &wish);
            if self.holder(&claim.host).await?.is_some() || !ports.holds(port) {
                continue;
            }
            if let Some(endpoint) = self.write(claim).await? {
                return Ok(endpoint);
            }
        }
        for held in &own {
            let Some((port, _)) = kept(held) else {
                continue;
            };
            let claim = self.at(port, Some(keeper), &wish);
            if may_serve(held, &claim).is_err() || !ports.holds(port) {
                continue;
            }
            if let Some(endpoint) = self.write(claim).await? {
                return Ok(endpoint);
            }
        }
        let code = Code::PortsExhausted;
        Err(Refusal::new(code, code.meaning().to_owned()))
    }

    fn at(&self, port: u16, keeper: Option<Keeper>, wish: &Endpoint) -> Endpoint {
        Endpoint {
            host: format!("{}:{port}", self.site.tcp_host()),
            kind: Kind::Tcp { port, keeper },
            ..wish.clone()
        }
    }

    /// The port of an address such as `tcp://host:port`, whose host must be one that leads here.
    fn chosen_port(&self, url: &str, wanted: u16) -> Result<u16, Refusal> {
        let address = url.strip_prefix("tcp://").unwrap_or(url);
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (address, Some(wanted)),
        };
        let host = host.to_ascii_lowercase();
        let is_loopback = || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let is_here = host.is_empty()
            || (self.site.tcp_host() == "localhost" && is_loopback())
            || host == self.site.tcp_host()
            || host == self.site.domain
            || host == self.site.host(ReservedHost::Connect.label());
        match port {
            Some(port) if is_here && (wanted == 0 || port == wanted) => Ok(port),
            _ => {
                let message = format!(
                    "{url:?} is no TCP address of this edge; they are tcp://{}:PORT",
                    self.site.tcp_host()
                );
                Err(Refusal::new(Code::UrlNotServed, message))
            }
        }
    }

    fn keeper(&self, asker: Asker, upstream: &str) -> Keeper {
        let mut input = b"tcp port".to_vec();
        input.extend_from_slice(self.name_key.expose());
        input.extend_from_slice(&asker.authtoken.to_bytes());
        input.extend_from_slice(&asker.instance.to_bytes());
        input.extend_from_slice(upstream.as_bytes());
        Keeper(secret::sha256(&input))
    }
}
