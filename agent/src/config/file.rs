//! What the configuration file's keys mean: our own, and ngrok's of versions 2 and 3.
//!
//! Three kinds of keys: those in use; those of ngrok that change nothing here, which are accepted; and
//! those that would change what an endpoint exposes or how the edge is reached, which are refused
//! until they work: ignoring them would open what was meant to be closed. Anything else is a slip of
//! the pen, and refused with its line.

use std::path::PathBuf;

use proto::bind::{LoginOptions, UpstreamProtocol};

use super::yaml::{
    self, Entries, Node, Placed, Wrong, boolean, is_scalar, list, map, optional, scalar, texts,
};
use super::{
    EndpointConfig, HostHeader, LinkChoice, Place, SecretText, SpeakConfig, Tuning, tuning,
};

/// What a file says.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct FileConfig {
    pub(super) authtoken: Option<SecretText>,
    pub(super) connect_urls: Vec<(String, Place)>,
    pub(super) ca: Option<(String, Place)>,
    pub(super) tuning: Tuning,
    pub(super) link: Option<LinkChoice>,
    pub(super) proxy_url: Option<Placed<SecretText>>,
    pub(super) endpoints: Vec<EndpointConfig>,
    /// Where an authtoken is, or would be.
    pub(super) layout: Layout,
}

/// How the file is laid out, for whoever edits it.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Layout {
    /// Agent keys stand at the root.
    pub(super) is_v2: bool,
    /// The key `authtoken`.
    pub(super) authtoken: Option<Place>,
    /// The key `agent`.
    pub(super) agent: Option<Place>,
    /// The first key within `agent`.
    pub(super) agent_first: Option<Place>,
}

/// Reads a file's text.
pub(super) fn read(text: &str) -> Result<FileConfig, Wrong> {
    let root = yaml::parse(text)?;
    let mut config = FileConfig::default();
    let entries = map(root, "the file")?;
    config.layout.is_v2 = is_v2(&entries)?;
    for (key, value) in entries {
        match key.value.as_str() {
            "version" => {}
            "agent" if !config.layout.is_v2 => {
                config.layout.agent = Some(key.place);
                let keys = map(value, "agent")?;
                config.layout.agent_first = keys.first().map(|(key, _)| key.place);
                for (key, value) in keys {
                    agent_key(&mut config, &key, value, "agent")?;
                }
            }
            "endpoints" if !config.layout.is_v2 => {
                for item in list(value, "endpoints")? {
                    let place = item.place;
                    let endpoint = endpoint_v3(item)?;
                    add(&mut config.endpoints, endpoint, place)?;
                }
            }
            "tunnels" => {
                for (name, tunnel) in map(value, "tunnels")? {
                    let place = name.place;
                    let endpoint = tunnel_v2(name, tunnel)?;
                    add(&mut config.endpoints, endpoint, place)?;
                }
            }
            _ if config.layout.is_v2 => agent_key(&mut config, &key, value, "version 2")?,
            other => {
                let why = if AGENT_KEYS.contains(&other) || AGENT_IGNORED.contains(&other) {
                    format!("{other:?} belongs under agent: in version 3")
                } else {
                    unknown(
                        other,
                        "the file",
                        &["version", "agent", "endpoints", "tunnels"],
                    )
                };
                return Err(Wrong::at(key.place, why));
            }
        }
    }
    Ok(config)
}

/// Names are what `start` is told, so each is given once.
fn add(
    endpoints: &mut Vec<EndpointConfig>,
    endpoint: EndpointConfig,
    place: Place,
) -> Result<(), Wrong> {
    if endpoints.iter().any(|other| other.name == endpoint.name) {
        let name = endpoint.name.unwrap_or_default();
        let why = format!("the name {name:?} is given to two endpoints");
        return Err(Wrong::at(place, why));
    }
    endpoints.push(endpoint);
    Ok(())
}

fn is_v2(entries: &Entries) -> Result<bool, Wrong> {
    let version = entries.iter().find(|(key, _)| key.value == "version");
    let Some((_, version)) = version else {
        return Ok(false);
    };
    match &version.value {
        Node::Scalar(text) if text == "3" => Ok(false),
        Node::Scalar(text) if text == "2" => Ok(true),
        Node::Null | Node::Scalar(_) | Node::List(_) | Node::Map(_) => Err(Wrong::at(
            version.place,
            "this agent reads versions 2 and 3".to_owned(),
        )),
    }
}

fn agent_key(
    config: &mut FileConfig,
    key: &Placed<String>,
    value: Placed<Node>,
    section: &str,
) -> Result<(), Wrong> {
    match key.value.as_str() {
        "authtoken" => {
            config.layout.authtoken = Some(key.place);
            if value.value != Node::Null {
                config.authtoken = Some(SecretText::new(scalar(value, "authtoken")?.value));
            }
        }
        "connect_url" | "server_addr" => {
            let urls = match value.value {
                Node::List(items) => items,
                Node::Null | Node::Scalar(_) | Node::Map(_) => vec![value],
            };
            for url in urls {
                let url = scalar(url, &key.value)?;
                config.connect_urls.push((url.value, url.place));
            }
        }
        "connect_cas" | "root_cas" => {
            let cas = scalar(value, &key.value)?;
            if ["trusted", "host"].contains(&cas.value.as_str()) {
                let why = format!(
                    "{:?} cannot be {:?} here: an edge is trusted by the authtoken's pin, or by the \
                     CA file that you name",
                    key.value, cas.value
                );
                return Err(Wrong::at(cas.place, why));
            }
            config.ca = Some((cas.value, cas.place));
        }
        "congestion" => {
            config.tuning.congestion = tuning::congestion(&scalar(value, "congestion")?)?;
        }
        "unread_mib" => {
            config.tuning.unread_bytes = tuning::unread_bytes(&scalar(value, "unread_mib")?)?;
        }
        "link" => {
            let link = scalar(value, "link")?;
            let choice = LinkChoice::parse(&link.value).ok_or_else(|| {
                let why = format!("link cannot be {:?}; it is auto, quic or tls", link.value);
                Wrong::at(link.place, why)
            })?;
            config.link = Some(choice);
        }
        "proxy_url" | "http_proxy" => {
            let place = value.place;
            config.proxy_url = optional(value, &key.value)?.map(|url| Placed {
                value: SecretText::new(url),
                place,
            });
        }
        other if AGENT_IGNORED.contains(&other) => {}
        other if AGENT_NOT_YET.contains(&other) => {
            return Err(Wrong::at(key.place, not_yet(other)));
        }
        other => return Err(Wrong::at(key.place, unknown(other, section, AGENT_KEYS))),
    }
    Ok(())
}

fn endpoint_v3(item: Placed<Node>) -> Result<EndpointConfig, Wrong> {
    let place = item.place;
    let mut endpoint = Draft::default();
    for (key, value) in map(item, "an endpoint")? {
        match key.value.as_str() {
            "name" => endpoint.name = Some(scalar(value, "name")?.value),
            "url" => endpoint.url = optional(value, "url")?,
            "pooling_enabled" => endpoint.pooling = boolean(&value, "pooling_enabled")?,
            "oauth" => endpoint.login = Some(oauth(value)?),
            "upstream" => {
                for (key, value) in map(value, "upstream")? {
                    match key.value.as_str() {
                        "url" => endpoint.upstream = Some(scalar(value, "url")?),
                        "protocol" => endpoint.speak.protocol = protocol(value, "protocol")?,
                        "proxy_protocol" => {
                            return Err(Wrong::at(key.place, not_yet(&key.value)));
                        }
                        other => {
                            let known = &["url", "protocol"];
                            return Err(Wrong::at(key.place, unknown(other, "upstream", known)));
                        }
                    }
                }
            }
            "bindings" => {
                for binding in list(value, "bindings")? {
                    if !is_scalar(&binding, "public") {
                        return Err(Wrong::at(binding.place, not_yet("a binding but public")));
                    }
                }
            }
            "description" | "metadata" => {}
            other if SPEAK_KEYS.contains(&other) => speak(&mut endpoint.speak, &key, value)?,
            other if ENDPOINT_NOT_YET.contains(&other) => {
                return Err(Wrong::at(key.place, not_yet(other)));
            }
            other => {
                return Err(Wrong::at(
                    key.place,
                    unknown(other, "an endpoint", ENDPOINT_KEYS),
                ));
            }
        }
    }
    if endpoint.name.is_none() {
        return Err(Wrong::at(place, "this endpoint has no name".to_owned()));
    }
    endpoint.finish(place, "upstream: url:")
}

fn tunnel_v2(name: Placed<String>, tunnel: Placed<Node>) -> Result<EndpointConfig, Wrong> {
    let mut endpoint = Draft {
        name: Some(name.value),
        ..Draft::default()
    };
    for (key, value) in map(tunnel, "a tunnel")? {
        match key.value.as_str() {
            "proto" if is_scalar(&value, "http") || is_scalar(&value, "https") => {}
            "proto" => return Err(Wrong::at(value.place, not_yet("a proto but http"))),
            "addr" => endpoint.upstream = Some(scalar(value, "addr")?),
            "url" | "domain" | "hostname" | "subdomain" => {
                endpoint.url = optional(value, &key.value)?;
            }
            "pooling_enabled" => endpoint.pooling = boolean(&value, "pooling_enabled")?,
            "oauth" => endpoint.login = Some(oauth(value)?),
            "schemes" => {
                for scheme in list(value, "schemes")? {
                    if !is_scalar(&scheme, "https") {
                        return Err(Wrong::at(scheme.place, not_yet("a scheme but https")));
                    }
                }
            }
            "inspect" | "metadata" | "description" => {}
            other if SPEAK_KEYS.contains(&other) => speak(&mut endpoint.speak, &key, value)?,
            other if ENDPOINT_NOT_YET.contains(&other) => {
                return Err(Wrong::at(key.place, not_yet(other)));
            }
            other => {
                return Err(Wrong::at(
                    key.place,
                    unknown(other, "a tunnel", TUNNEL_KEYS),
                ));
            }
        }
    }
    endpoint.finish(name.place, "addr:")
}

/// How the local app is spoken to: our names and ngrok's.
fn speak(speak: &mut SpeakConfig, key: &Placed<String>, value: Placed<Node>) -> Result<(), Wrong> {
    let name = key.value.as_str();
    match name {
        "upstream_protocol" | "app_protocol" => speak.protocol = protocol(value, name)?,
        "host_header" => {
            let host = optional(value, name)?;
            speak.host_header = host
                .as_deref()
                .map_or(HostHeader::Preserve, HostHeader::from);
        }
        "upstream_tls_verify" | "verify_upstream_tls" => {
            speak.tls_verify = boolean(&value, name)?;
        }
        "upstream_ca" | "upstream_tls_verify_cas" => {
            speak.ca = optional(value, name)?.map(PathBuf::from);
        }
        other => {
            return Err(Wrong::at(
                key.place,
                unknown(other, "an endpoint", SPEAK_KEYS),
            ));
        }
    }
    Ok(())
}

fn protocol(value: Placed<Node>, key: &str) -> Result<UpstreamProtocol, Wrong> {
    let place = value.place;
    match optional(value, key)?.as_deref() {
        None | Some("http1") => Ok(UpstreamProtocol::Http1),
        Some("http2") => Ok(UpstreamProtocol::Http2),
        Some(_) => Err(Wrong::at(place, format!("{key} must be http1 or http2"))),
    }
}

fn oauth(value: Placed<Node>) -> Result<LoginOptions, Wrong> {
    let place = value.place;
    let mut provider = None;
    let (mut allow_emails, mut allow_domains) = (Vec::new(), Vec::new());
    for (key, value) in map(value, "oauth")? {
        match key.value.as_str() {
            "provider" => provider = Some(scalar(value, "provider")?.value),
            "allow_emails" => allow_emails = texts(value, "allow_emails")?,
            "allow_domains" => allow_domains = texts(value, "allow_domains")?,
            other if OAUTH_NOT_YET.contains(&other) => {
                return Err(Wrong::at(key.place, not_yet(other)));
            }
            other => return Err(Wrong::at(key.place, unknown(other, "oauth", OAUTH_KEYS))),
        }
    }
    let provider =
        provider.ok_or_else(|| Wrong::at(place, "oauth: needs a provider:".to_owned()))?;
    Ok(LoginOptions {
        provider,
        allow_emails,
        allow_domains,
    })
}

#[derive(Default)]
struct Draft {
    name: Option<String>,
    upstream: Option<Placed<String>>,
    url: Option<String>,
    pooling: bool,
    login: Option<LoginOptions>,
    speak: SpeakConfig,
}

impl Draft {
    fn finish(self, place: Place, wanted: &str) -> Result<EndpointConfig, Wrong> {
        let Some(upstream) = self.upstream else {
            let name = self.name.unwrap_or_default();
            return Err(Wrong::at(
                place,
                format!("the endpoint {name:?} names no local app; give it {wanted} …"),
            ));
        };
        Ok(EndpointConfig {
            name: self.name,
            upstream: upstream.value,
            place: Some(upstream.place.to_string()),
            url: self.url,
            pooling: self.pooling,
            login: self.login,
            speak: self.speak,
        })
    }
}

fn not_yet(what: &str) -> String {
    format!("{what} does not work yet in this version; take it out to go on without it")
}

fn unknown(key: &str, section: &str, known: &[&str]) -> String {
    // A token pasted in the wrong place is still a secret.
    let key = if key.contains("sp_") {
        "this".to_owned()
    } else {
        format!("{:?}", key.chars().take(60).collect::<String>())
    };
    format!(
        "{key} is not a key of {section}; it knows: {}",
        known.join(", ")
    )
}

const AGENT_KEYS: &[&str] = &[
    "authtoken",
    "connect_url",
    "connect_cas",
    "server_addr",
    "root_cas",
    "congestion",
    "unread_mib",
    "link",
    "proxy_url",
];
/// They concern the screen, the log, updates or ngrok's service, and change nothing that is served.
const AGENT_IGNORED: &[&str] = &[
    "api_key",
    "connect_timeout",
    "console_ui",
    "console_ui_color",
    "crl_noverify",
    "crl_url",
    "heartbeat_interval",
    "heartbeat_tolerance",
    "inspect_db_size",
    "local_storage",
    "log",
    "log_format",
    "log_level",
    "metadata",
    "region",
    "remote_management",
    "update",
    "update_channel",
    "update_check",
    "web_addr",
    "web_allow_hosts",
];
const AGENT_NOT_YET: &[&str] = &["connect_interface", "dns_resolver_ips", "socks5_proxy"];
const ENDPOINT_KEYS: &[&str] = &[
    "name",
    "url",
    "upstream",
    "pooling_enabled",
    "oauth",
    "upstream_protocol",
    "host_header",
    "upstream_tls_verify",
    "upstream_ca",
];
const TUNNEL_KEYS: &[&str] = &[
    "proto",
    "addr",
    "domain",
    "subdomain",
    "pooling_enabled",
    "oauth",
    "app_protocol",
    "host_header",
    "upstream_tls_verify",
    "upstream_tls_verify_cas",
];
/// How the local app is spoken to, in either version.
const SPEAK_KEYS: &[&str] = &[
    "app_protocol",
    "host_header",
    "upstream_ca",
    "upstream_protocol",
    "upstream_tls_verify",
    "upstream_tls_verify_cas",
    "verify_upstream_tls",
];
const ENDPOINT_NOT_YET: &[&str] = &[
    "agent_tls_termination",
    "basic_auth",
    "circuit_breaker",
    "compression",
    "crt",
    "ip_restriction",
    "key",
    "labels",
    "mutual_tls_cas",
    "oidc",
    "proxy_proto",
    "remote_addr",
    "request_header",
    "response_header",
    "saml",
    "terminate_at",
    "traffic_policy",
    "traffic_policy_file",
    "user_agent_filter",
    "verify_webhook",
    "websocket_tcp_converter",
];
const OAUTH_KEYS: &[&str] = &["provider", "allow_emails", "allow_domains"];
const OAUTH_NOT_YET: &[&str] = &["client_id", "client_secret", "scopes"];
