//! How the local app of an endpoint is spoken to: with TLS or without, by which name, with whose roots;
//! and how raw connections to it begin.
//!
//! From configuration to values; dials nothing.

use std::sync::Arc;

use proto::bind::{EndpointKind, Termination, UpstreamProtocol};
use proto::code::Code;
use tokio_util::sync::CancellationToken;

use super::Served;
use crate::config::{ConfigError, EndpointConfig, HostHeader, SpeakConfig, read_ca};
use crate::status::{Event, Status, Trouble};
use crate::upstream::{EndsTls, Manner, Roots, Tls, Upstream};

/// The local app of an endpoint: its address, and how to shake hands with it where it speaks TLS.
///
/// # Errors
/// With the place where it was written.
pub(crate) fn prepare_upstream(
    endpoint: &EndpointConfig,
) -> Result<(Upstream, Option<Tls>), ConfigError> {
    let wrong = |why: String, next_step: &str| ConfigError {
        code: Code::UpstreamInvalid,
        message: match &endpoint.place {
            Some(place) => format!("{place}: {why}"),
            None => why,
        },
        next_step: match &endpoint.place {
            Some(_) => Code::UpstreamInvalid.next_step().to_owned(),
            None => next_step.to_owned(),
        },
    };
    if endpoint.door.kind != EndpointKind::Http {
        if endpoint.speak != SpeakConfig::default() {
            let why =
                "how HTTP is spoken to the app concerns no tcp and no tls endpoint".to_owned();
            return Err(wrong(why, "leave that out, or serve with: agent http"));
        }
        let is_tls = matches!(
            endpoint.door.kind,
            EndpointKind::Tls {
                termination: Termination::Upstream
            }
        );
        let next_step = "give a port or host:port; what else there is says: agent --help";
        let upstream = Upstream::parse_raw(&endpoint.upstream, is_tls)
            .map_err(|error| wrong(error.to_string(), next_step))?;
        return Ok((upstream, None));
    }
    let upstream = Upstream::parse(&endpoint.upstream).map_err(|error| {
        // It may have been meant as a command.
        let next_step = "give a port, host:port, http://host:port or https://host:port; what else \
                         there is says: agent --help";
        wrong(error.to_string(), next_step)
    })?;
    let speak = &endpoint.speak;
    if !upstream.is_https() {
        if speak.ca.is_some() || !speak.tls_verify {
            let why = format!("{upstream} has no certificate that could be checked");
            return Err(wrong(
                why,
                "give its https:// address, or leave out what concerns TLS",
            ));
        }
        return Ok((upstream, None));
    }
    let trust = match &speak.ca {
        _ if !speak.tls_verify => Roots::Anybody,
        Some(path) => Roots::Given(read_ca(path, "leave --upstream-ca out")?),
        None => Roots::System,
    };
    // The name that the app is asked for by is the one that it must prove.
    let name = match &speak.host_header {
        HostHeader::Preserve | HostHeader::Rewrite => upstream.host(),
        HostHeader::Fixed(host) => without_port(host).to_owned(),
    };
    let alpn: &[u8] = match speak.protocol {
        UpstreamProtocol::Http2 => b"h2",
        UpstreamProtocol::Http1 | UpstreamProtocol::Unknown => b"http/1.1",
    };
    let tls = Tls::new(&name, alpn, trust)
        .map_err(|why| wrong(why, "name the app's CA with --upstream-ca"))?;
    Ok((upstream, Some(tls)))
}

/// How connections to the local app of an endpoint begin.
///
/// # Errors
/// With the file at fault, where the agent is to end TLS.
pub(crate) fn manner_of(endpoint: &EndpointConfig) -> Result<Manner, ConfigError> {
    endpoint.check()?;
    let files = endpoint.door.certificate.as_ref();
    let ends_tls = files
        .map(|files| EndsTls::open(&files.cert, &files.key).map(Arc::new))
        .transpose()
        .map_err(|message| ConfigError {
            code: Code::ConfigInvalid,
            message,
            next_step: "give a PEM file with the chain as --crt, and one with its key as --key"
                .to_owned(),
        })?;
    Ok(Manner {
        proxy_protocol: endpoint.door.proxy_protocol,
        ends_tls,
    })
}

/// What the local app is sent as `Host`, where that is not what the visitor named.
pub(super) fn host_header(speak: &SpeakConfig, upstream: &Upstream) -> Option<String> {
    match &speak.host_header {
        HostHeader::Preserve => None,
        HostHeader::Rewrite => Some(upstream.authority()),
        HostHeader::Fixed(host) => Some(host.clone()),
    }
}

/// Whoever sits between agent and app can read and change everything: said loudly, each time.
pub(super) fn say_unverified(served: &Served, status: &Status) {
    let upstream = served.watched.upstream();
    if upstream.is_https() && !served.config.speak.tls_verify {
        status.say(Event::Notice(Trouble {
            code: Code::UpstreamUnverified,
            message: format!("nobody checks that {upstream} is who it says it is"),
            next_step: Code::UpstreamUnverified.next_step().to_owned(),
        }));
    }
}

/// A host as a certificate names it.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

/// Keeps to a certificate's files, and says where they have become unusable.
pub(super) async fn follow_certificate(
    ends: Arc<EndsTls>,
    status: Status,
    stop: CancellationToken,
) {
    let say = |read: Result<(), String>| match read {
        Ok(()) => tracing::info!("certificate read again"),
        Err(message) => status.say(Event::Notice(Trouble {
            code: Code::ConfigInvalid,
            message: format!("the new certificate is not used, the old one stays: {message}"),
            next_step: "put a matching pair in its place; it is picked up within seconds"
                .to_owned(),
        })),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = ends.follow(say) => {}
    }
}
