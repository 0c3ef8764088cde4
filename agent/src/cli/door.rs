//! Flags of the public side: what `tcp` and `tls` take, and what all endpoints share.

use std::path::PathBuf;

use clap::Args;
use proto::bind::{EndpointKind, LoginOptions, ProxyProtocol, Termination};

use super::{RunArgs, listed};
use crate::config::door::{proxy_protocol, remote_addr, termination};
use crate::config::{CertificateFiles, DoorConfig, EndpointConfig, SpeakConfig, Wanted};

#[derive(Args, Debug)]
pub(super) struct DoorArgs {
    /// Let in only these networks, such as 203.0.113.0/24; may be repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    cidr_allow: Vec<String>,
    /// Keep these networks out, whatever else is said; may be repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    cidr_deny: Vec<String>,
    /// Tell the app who connected, by PROXY protocol of this version
    #[arg(
        long,
        value_name = "1|2",
        value_parser = proxy_protocol,
        default_value = "0",
        hide_default_value = true,
        visible_alias = "upstream-proxy-protocol"
    )]
    proxy_proto: ProxyProtocol,
}

#[derive(Args, Debug)]
#[command(after_help = TCP_EXAMPLES)]
pub(super) struct Tcp {
    /// The local app: a port, host:port or tcp://host:port
    #[arg(value_name = "UPSTREAM")]
    upstream: String,
    /// The edge's port to serve at, as PORT or HOST:PORT, instead of one that stays
    #[arg(long, value_name = "HOST:PORT", value_parser = remote_addr)]
    remote_addr: Option<(Option<String>, u16)>,
    /// The same as a URL, tcp://HOST:PORT
    #[arg(long, value_name = "URL", conflicts_with = "remote_addr")]
    url: Option<String>,
    #[command(flatten)]
    shared: RawArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Args, Debug)]
#[command(after_help = TLS_EXAMPLES)]
pub(super) struct Tls {
    /// The local app: a port, host:port or tls://host:port
    #[arg(value_name = "UPSTREAM")]
    upstream: String,
    /// The name or URL to serve under, instead of a random name that stays
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    url: Option<String>,
    /// Who ends the TLS: the app, this agent with --crt and --key, or the edge with its certificate
    /// [default: upstream; with --crt and --key: agent]
    #[arg(long, value_name = "upstream|agent|edge", value_parser = termination)]
    terminate_at: Option<Termination>,
    /// The certificate chain to end TLS with, a PEM file
    #[arg(long, value_name = "FILE", requires = "key")]
    crt: Option<PathBuf>,
    /// Its private key, a PEM file
    #[arg(long, value_name = "FILE", requires = "crt")]
    key: Option<PathBuf>,
    #[command(flatten)]
    shared: RawArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// What raw endpoints share.
#[derive(Args, Debug)]
struct RawArgs {
    /// Share the address with other agents of the same authtoken
    #[arg(long, visible_alias = "pooling-enabled")]
    pooling: bool,
    #[command(flatten)]
    door: DoorArgs,
    // Known here to be refused in words, not as a slip of the pen.
    #[arg(long, hide = true)]
    oauth: Option<String>,
    #[arg(long, hide = true)]
    oauth_allow_email: Vec<String>,
    #[arg(long, hide = true)]
    oauth_allow_domain: Vec<String>,
}

impl DoorArgs {
    pub(super) fn config(&self, kind: EndpointKind) -> DoorConfig {
        DoorConfig {
            kind,
            proxy_protocol: self.proxy_proto,
            cidr_allow: listed(&self.cidr_allow),
            cidr_deny: listed(&self.cidr_deny),
            certificate: None,
        }
    }
}

impl Tcp {
    pub(super) fn wanted(&self) -> Wanted {
        let (named, port) = match &self.remote_addr {
            Some((named, port)) => (named.clone(), Some(*port)),
            None => (None, None),
        };
        let door = self.shared.door.config(EndpointKind::Tcp { port });
        let url = self.url.clone().or(named);
        self.shared.wanted(&self.upstream, url, door)
    }
}

impl Tls {
    pub(super) fn wanted(&self) -> Wanted {
        let mut door = self.shared.door.config(EndpointKind::Http);
        door.certificate = self
            .crt
            .clone()
            .zip(self.key.clone())
            .map(|(cert, key)| CertificateFiles { cert, key });
        door.tls(self.terminate_at);
        self.shared.wanted(&self.upstream, self.url.clone(), door)
    }
}

impl RawArgs {
    fn wanted(&self, upstream: &str, url: Option<String>, door: DoorConfig) -> Wanted {
        let has_login = self.oauth.is_some()
            || !self.oauth_allow_email.is_empty()
            || !self.oauth_allow_domain.is_empty();
        Wanted::This(Box::new(EndpointConfig {
            name: None,
            upstream: upstream.to_owned(),
            place: None,
            url: url.filter(|url| !url.ends_with("://")),
            pooling: self.pooling,
            login: has_login.then(|| LoginOptions {
                provider: self.oauth.clone().unwrap_or_default(),
                allow_emails: Vec::new(),
                allow_domains: Vec::new(),
            }),
            speak: SpeakConfig::default(),
            door,
        }))
    }
}

const TCP_EXAMPLES: &str = "\
Examples:
  agent tcp 5432                                      a port of the edge, the same each time
  agent tcp 5432 --remote-addr 20007                  ... that port
  agent tcp 5432 --cidr-allow 203.0.113.0/24          ... for one network only
  agent tcp 5432 --proxy-proto 2                      ... and the app hears who connected

The edge needs ports for this: edge serve --tcp-ports 20000-20100";
const TLS_EXAMPLES: &str = "\
Examples:
  agent tls 8443 --url my-db                          the app ends TLS, with its own certificate
  agent tls 5432 --crt chain.pem --key key.pem        this agent does; the app gets plain bytes
  agent tls 5432 --terminate-at edge                  the edge does, with its certificate";
