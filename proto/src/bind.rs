//! What an agent asks for when it binds: a name, an upstream, and options as its flags state them.
//! Only sizes are judged here; what the words mean is the edge's to decide.

mod kind;

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::{limits, version};

pub use kind::{EndpointKind, ProxyProtocol, Termination};

/// An agent's wish to serve one endpoint.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BindRequest {
    /// Numbers the request on its link; the answer carries it. Not reused while an answer is due.
    pub request: u32,
    /// The chosen name, host or URL; without one the edge chooses a name that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Rises with each run and each link of one instance: the higher takes the name over at once.
    pub generation: u64,
    /// The upstream as text, for people to read; a random name follows from it.
    pub upstream: String,
    /// Whether other instances of the authtoken may serve the endpoint beside this one.
    #[serde(default)]
    pub pooling: bool,
    /// The login in front of the endpoint; without one it is open to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginOptions>,
    /// What kind of endpoint it is.
    #[serde(default, skip_serializing_if = "kind::is_default")]
    pub kind: EndpointKind,
    /// Whether the upstream is told by PROXY protocol who connected.
    #[serde(default, skip_serializing_if = "kind::is_default")]
    pub proxy_protocol: ProxyProtocol,
    /// The only networks that may connect, such as `203.0.113.0/24`; without one, all may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidr_allow: Vec<String>,
    /// Networks that may not connect, whatever else is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidr_deny: Vec<String>,
    /// Which HTTP the edge speaks to the upstream, through the stream. Whether there is TLS below it is
    /// the agent's business.
    #[serde(default, skip_serializing_if = "UpstreamProtocol::is_default")]
    pub upstream_protocol: UpstreamProtocol,
    /// What the upstream is sent as `Host`, or `:authority`; without one, what the visitor named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_header: Option<String>,
}

/// Which HTTP an upstream is spoken to in.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
    /// A newer agent's; refused, since speaking anything else would be a guess.
    #[serde(other)]
    Unknown,
}

/// The login that an agent wants in front of its endpoint.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LoginOptions {
    /// An identity provider by the name that the operator gave it.
    pub provider: String,
    /// Who may sign in, by whole e-mail address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_emails: Vec<String>,
    /// Who may sign in, by whole domain of the e-mail address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_domains: Vec<String>,
}

/// Something that the agent should tell whoever started it, though the bind went well.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Notice {
    /// Which notice it is.
    pub code: Code,
    /// One sentence: what.
    pub message: String,
    /// One sentence: what to do.
    pub next_step: String,
}

impl BindRequest {
    /// The features that an edge must have to serve this as it is meant. One without them would serve
    /// something else, such as an endpoint without its address rules, and never know.
    pub fn needs(&self) -> impl Iterator<Item = &'static str> {
        let kind = match self.kind {
            EndpointKind::Http | EndpointKind::Unknown => None,
            EndpointKind::Tcp { .. } => Some(version::TCP),
            EndpointKind::Tls { .. } => Some(version::TLS),
        };
        let has_rules = !self.cidr_allow.is_empty() || !self.cidr_deny.is_empty();
        let is_told = self.proxy_protocol != ProxyProtocol::None;
        let is_other_http = self.upstream_protocol != UpstreamProtocol::Http1;
        [
            kind,
            has_rules.then_some(version::CIDR),
            is_told.then_some(version::PROXY_PROTOCOL),
            is_other_http.then_some(version::UPSTREAM_PROTOCOL),
            self.host_header.as_ref().map(|_| version::HOST_HEADER),
        ]
        .into_iter()
        .flatten()
    }

    /// Checks sizes and characters against [`limits`]. A request that passes fits a frame.
    ///
    /// # Errors
    /// The code to refuse it with, and what exactly is wrong.
    pub fn check(&self) -> Result<(), (Code, String)> {
        if let Some(url) = &self.url
            && (url.is_empty() || !limits::is_text(url, limits::URL_BYTES_MAX))
        {
            return Err(refusal(
                Code::UrlNotServed,
                "the URL",
                limits::URL_BYTES_MAX,
            ));
        }
        if self.upstream.is_empty() || !limits::is_text(&self.upstream, limits::UPSTREAM_BYTES_MAX)
        {
            let max = limits::UPSTREAM_BYTES_MAX;
            return Err(refusal(Code::UpstreamInvalid, "the upstream", max));
        }
        if self.kind == EndpointKind::Unknown {
            let message = "this edge does not serve endpoints of that kind".to_owned();
            return Err((Code::EndpointKindUnknown, message));
        }
        if let EndpointKind::Tls {
            termination: Termination::Unknown,
        } = self.kind
        {
            let message = "this edge does not know that way of ending TLS".to_owned();
            return Err((Code::EndpointKindUnknown, message));
        }
        if self.proxy_protocol == ProxyProtocol::Unknown {
            let message = "this edge speaks versions 1 and 2 of the PROXY protocol".to_owned();
            return Err((Code::EndpointKindUnknown, message));
        }
        for list in [&self.cidr_allow, &self.cidr_deny] {
            check_networks(list)?;
        }
        if self.upstream_protocol == UpstreamProtocol::Unknown {
            let message = "this edge speaks HTTP/1.1 and HTTP/2 to an upstream".to_owned();
            return Err((Code::UpstreamInvalid, message));
        }
        if let Some(host) = &self.host_header
            && !is_authority(host)
        {
            let message = format!(
                "{:?} is not usable as a Host header",
                limits::clip(host, 80)
            );
            return Err((Code::UpstreamInvalid, message));
        }
        self.login.as_ref().map_or(Ok(()), LoginOptions::check)
    }
}

/// Sizes only: whether an entry is a network, the edge says.
fn check_networks(list: &[String]) -> Result<(), (Code, String)> {
    let max = limits::CIDR_ENTRIES_MAX;
    if list.len() > max {
        let message = format!(
            "an address list may have {max} entries, this one has {}",
            list.len()
        );
        return Err((Code::AddressRuleInvalid, message));
    }
    let is_entry = |entry: &String| {
        (1..=limits::CIDR_ENTRY_BYTES_MAX).contains(&entry.len())
            && entry
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || b".:/".contains(&byte))
    };
    match list.iter().find(|entry| !is_entry(entry)) {
        None => Ok(()),
        Some(entry) => {
            let message = format!("{:?} is no network", limits::clip(entry, 80));
            Err((Code::AddressRuleInvalid, message))
        }
    }
}

impl UpstreamProtocol {
    /// Whether it need not be said.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::Http1
    }
}

/// `host` or `host:port`, as a Host header takes it: no user, no path, nothing that ends a header.
fn is_authority(text: &str) -> bool {
    (1..=limits::ADDR_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

impl LoginOptions {
    fn check(&self) -> Result<(), (Code, String)> {
        let max = limits::PROVIDER_BYTES_MAX;
        if self.provider.is_empty() || !limits::is_text(&self.provider, max) {
            return Err(refusal(Code::UnknownProvider, "the provider's name", max));
        }
        let mut bytes = 0;
        for list in [&self.allow_emails, &self.allow_domains] {
            if list.len() > limits::ALLOW_ENTRIES_MAX {
                let max = limits::ALLOW_ENTRIES_MAX;
                let message = format!(
                    "an allow list may have {max} entries, this one has {}",
                    list.len()
                );
                return Err((Code::AllowRuleInvalid, message));
            }
            for entry in list {
                if !is_allow_entry(entry) {
                    return Err((Code::AllowRuleInvalid, unusable_entry(entry)));
                }
                bytes += entry.len();
            }
        }
        if bytes > limits::ALLOW_BYTES_MAX {
            let message = format!(
                "the allow lists have {bytes} bytes, more than {}",
                limits::ALLOW_BYTES_MAX
            );
            return Err((Code::AllowRuleInvalid, message));
        }
        Ok(())
    }
}

fn is_allow_entry(entry: &str) -> bool {
    (1..=limits::ALLOW_ENTRY_BYTES_MAX).contains(&entry.len())
        && !entry.chars().any(|character| {
            character.is_control() || character.is_whitespace() || "\"\\".contains(character)
        })
}

fn unusable_entry(entry: &str) -> String {
    format!(
        "{:?} is not usable in an allow list",
        limits::clip(entry, 80)
    )
}

fn refusal(code: Code, what: &str, bytes_max: usize) -> (Code, String) {
    let message = [
        what,
        " must be 1 to ",
        &bytes_max.to_string(),
        " bytes without control characters",
    ];
    (code, message.concat())
}
