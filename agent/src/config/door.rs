//! The public side of an endpoint as flags and file name it: what it is (HTTP, a TCP port, TLS), who ends
//! its TLS, from which networks it may be reached, and whether the local app is told who connected.

use std::path::PathBuf;

use proto::bind::{EndpointKind, ProxyProtocol, Termination};
use proto::code::Code;

use super::yaml::{Node, Placed, Wrong, map, optional, scalar, texts};
use super::{ConfigError, EndpointConfig};

/// The public side of an endpoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct DoorConfig {
    pub(crate) kind: EndpointKind,
    pub(crate) proxy_protocol: ProxyProtocol,
    /// The only networks that may connect; none for all.
    pub(crate) cidr_allow: Vec<String>,
    /// Networks that may not.
    pub(crate) cidr_deny: Vec<String>,
    /// What the agent ends TLS with.
    pub(crate) certificate: Option<CertificateFiles>,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CertificateFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What a file says of the public side, so far.
#[derive(Default)]
pub(super) struct DoorDraft {
    door: DoorConfig,
    remote: Option<(Option<String>, u16)>,
    termination: Option<Termination>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl DoorConfig {
    /// The kind of an endpoint whose TLS ends there; with certificate files and nothing said, at the
    /// agent.
    pub(crate) fn tls(&mut self, termination: Option<Termination>) {
        let has_files = self.certificate.is_some();
        let default = if has_files {
            Termination::Agent
        } else {
            Termination::Upstream
        };
        self.kind = EndpointKind::Tls {
            termination: termination.unwrap_or(default),
        };
    }
}

impl EndpointConfig {
    /// Whether its parts go together: a login needs HTTP, a certificate needs TLS that the agent ends.
    ///
    /// # Errors
    /// One sentence, and what to do.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |code: Code, what: &str, next_step: &str| {
            let message = match &self.place {
                Some(place) => format!("{place}: {what}"),
                None => what.to_owned(),
            };
            Err(ConfigError {
                code,
                message,
                next_step: next_step.to_owned(),
            })
        };
        let door = &self.door;
        if self.login.is_some() && door.kind != EndpointKind::Http {
            let code = Code::LoginNeedsHttp;
            let what = format!(
                "a login cannot be asked for at a {} endpoint: there is no page to show",
                door.kind.scheme()
            );
            return wrong(code, &what, code.next_step());
        }
        let is_ours = matches!(
            door.kind,
            EndpointKind::Tls {
                termination: Termination::Agent
            }
        );
        match (is_ours, &door.certificate) {
            (true, None) => wrong(
                Code::ConfigInvalid,
                "to end TLS this agent needs a certificate and its key",
                "give both with --crt and --key, or leave the TLS to the app with --terminate-at upstream",
            ),
            (false, Some(_)) => wrong(
                Code::ConfigInvalid,
                "a certificate is of use only where this agent ends the TLS",
                "serve with: agent tls PORT --terminate-at agent; or leave --crt and --key out",
            ),
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }
}

impl DoorDraft {
    /// Takes a key of the public side, of either version.
    pub(super) fn key(&mut self, key: &Placed<String>, value: Placed<Node>) -> Result<(), Wrong> {
        let (name, place) = (key.value.as_str(), value.place);
        match name {
            "cidr_allow" => self.door.cidr_allow = texts(value, name)?,
            "cidr_deny" => self.door.cidr_deny = texts(value, name)?,
            "ip_restriction" => {
                for (key, value) in map(value, name)? {
                    match key.value.as_str() {
                        "allow_cidrs" => self.door.cidr_allow = texts(value, "allow_cidrs")?,
                        "deny_cidrs" => self.door.cidr_deny = texts(value, "deny_cidrs")?,
                        other => {
                            let why = format!(
                                "{other:?} is not a key of ip_restriction; it knows: allow_cidrs, deny_cidrs"
                            );
                            return Err(Wrong::at(key.place, why));
                        }
                    }
                }
            }
            "proxy_proto" | "proxy_protocol" => {
                let text = optional(value, name)?;
                self.door.proxy_protocol = proxy_protocol(text.as_deref().unwrap_or_default())
                    .map_err(|why| Wrong::at(place, format!("{name}: {why}")))?;
            }
            "remote_addr" => {
                if let Some(text) = optional(value, name)? {
                    let remote = remote_addr(&text);
                    self.remote =
                        Some(remote.map_err(|why| Wrong::at(place, format!("{name}: {why}")))?);
                }
            }
            "terminate_at" => {
                let text = scalar(value, name)?.value;
                self.termination =
                    Some(termination(&text).map_err(|why| Wrong::at(place, why.to_owned()))?);
            }
            "crt" | "server_certificate" => self.cert = Some(pem_file(value, name)?),
            "key" | "server_private_key" => self.key = Some(pem_file(value, name)?),
            "agent_tls_termination" => {
                for (key, value) in map(value, name)? {
                    match key.value.as_str() {
                        "server_certificate" | "server_private_key" => self.key(&key, value)?,
                        other => {
                            let why = format!(
                                "{other:?} does not work here; agent_tls_termination knows: \
                                 server_certificate, server_private_key"
                            );
                            return Err(Wrong::at(key.place, why));
                        }
                    }
                }
                self.termination = Some(Termination::Agent);
            }
            other => return Err(Wrong::at(key.place, format!("{other:?} is not known"))),
        }
        Ok(())
    }

    /// What a protocol of version 2 means.
    pub(super) fn set_protocol(&mut self, protocol: &str) -> Result<(), String> {
        self.door.kind = match protocol {
            "http" | "https" => EndpointKind::Http,
            "tcp" => EndpointKind::Tcp { port: None },
            "tls" => EndpointKind::Tls {
                termination: Termination::Upstream,
            },
            other => return Err(format!("{other:?} is no proto; it is http, tcp or tls")),
        };
        Ok(())
    }

    /// Puts it together: the scheme of the public address decides what the endpoint is, else that of the
    /// local app's. Gives the wanted address without a bare scheme.
    pub(super) fn finish(
        mut self,
        url: Option<String>,
        upstream: &str,
    ) -> Result<(DoorConfig, Option<String>), String> {
        let scheme = |text: &str| text.split_once("://").map(|(scheme, _)| scheme.to_owned());
        let named = url.as_deref().and_then(scheme);
        let named = named.or_else(|| scheme(upstream));
        if self.door.kind == EndpointKind::Http
            && let Some("tcp" | "tls") = named.as_deref()
        {
            self.set_protocol(named.as_deref().unwrap_or_default())?;
        }
        let url = url.filter(|url| !url.ends_with("://"));
        let (named, port) = match self.remote {
            Some((named, port)) => (named, Some(port)),
            None => (None, None),
        };
        self.door.certificate = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some(CertificateFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err("a certificate needs its key: key:".to_owned()),
            (None, Some(_)) => return Err("a key needs its certificate: crt:".to_owned()),
        };
        match self.door.kind {
            EndpointKind::Tcp { .. } => {
                self.door.kind = EndpointKind::Tcp { port };
            }
            EndpointKind::Http | EndpointKind::Tls { .. } | EndpointKind::Unknown
                if port.is_some() =>
            {
                return Err("remote_addr is for tcp endpoints".to_owned());
            }
            EndpointKind::Tls { .. } => self.door.tls(self.termination),
            EndpointKind::Http | EndpointKind::Unknown if self.termination.is_some() => {
                return Err("TLS can be ended elsewhere at tls endpoints only".to_owned());
            }
            EndpointKind::Http | EndpointKind::Unknown => {}
        }
        Ok((self.door, url.or(named)))
    }
}

/// `1` or `2`; nothing and `0` for none.
pub(crate) fn proxy_protocol(text: &str) -> Result<ProxyProtocol, &'static str> {
    match text {
        "" | "0" => Ok(ProxyProtocol::None),
        "1" => Ok(ProxyProtocol::V1),
        "2" => Ok(ProxyProtocol::V2),
        _ => Err("the version is 1 or 2"),
    }
}

/// Who ends TLS.
pub(crate) fn termination(text: &str) -> Result<Termination, &'static str> {
    match text {
        "upstream" => Ok(Termination::Upstream),
        "agent" => Ok(Termination::Agent),
        "edge" => Ok(Termination::Edge),
        _ => Err("it is upstream, agent or edge"),
    }
}

/// A port, and the address that it is part of where that was written: `port` or `host:port`. Which host
/// leads to the edge, the edge knows.
pub(crate) fn remote_addr(text: &str) -> Result<(Option<String>, u16), &'static str> {
    let address = text.strip_prefix("tcp://").unwrap_or(text);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (Some(host), port),
        None => (None, address),
    };
    let port = port.parse().map_err(|_| "it is a port, or host:port")?;
    let named = host
        .filter(|host| !host.is_empty())
        .map(|_| format!("tcp://{address}"));
    Ok((named, port))
}

fn pem_file(value: Placed<Node>, key: &str) -> Result<PathBuf, Wrong> {
    let text = scalar(value, key)?;
    if text.value.contains("-----BEGIN") {
        let why = format!("{key} is the path of a PEM file, not its content");
        return Err(Wrong::at(text.place, why));
    }
    Ok(text.value.into())
}

/// Keys of the public side, of either version.
pub(super) const DOOR_KEYS: &[&str] = &[
    "agent_tls_termination",
    "cidr_allow",
    "cidr_deny",
    "crt",
    "ip_restriction",
    "key",
    "proxy_proto",
    "remote_addr",
    "terminate_at",
];
