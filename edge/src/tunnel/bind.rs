//! What an agent asks for, decided: the host or port it gets, the rules in front of it, the notices it is
//! told.

mod ports;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use proto::bind::{
    BindRequest, EndpointKind, LoginOptions, Notice, Termination as WantedTermination,
};
use proto::code::Code;
use proto::id::{AuthtokenId, InstanceId};

use crate::clock::Clock;
use crate::model::credential::ProviderRecord;
use crate::model::endpoint::{Access, Endpoint, Kind, LoginRule, NetworkRule, Termination};
use crate::model::site::{ReservedHost, Site};
use crate::policy;
use crate::secret::{self, ClusterKey, Secret};
use crate::store::{Claimed, Store, StoreError};

pub(crate) use ports::Ports;

/// Decides binds.
#[derive(Clone, Debug)]
pub(crate) struct Binder {
    pub(crate) store: Arc<Store>,
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    pub(crate) session_life: Duration,
    pub(crate) idle_limit: Option<Duration>,
    /// Derives the readable random names, so that they stay.
    pub(crate) name_key: Secret<[u8; 32]>,
    /// Whether anybody can get an account at a provider.
    pub(crate) is_public: fn(&ProviderRecord) -> bool,
    /// `None`: the operator opened none.
    pub(crate) ports: Option<Ports>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) authtoken: AuthtokenId,
    pub(crate) instance: InstanceId,
}

/// A refused bind: the code, and what exactly was wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// A claim that was made.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) endpoint: Endpoint,
    pub(crate) url: String,
    pub(crate) notices: Vec<Notice>,
}

impl Binder {
    /// The key that names derive from.
    pub(crate) fn name_key(cluster: &ClusterKey) -> Secret<[u8; 32]> {
        cluster.derive("endpoint names")
    }

    /// Claims the host or port in the store, unless `may_serve` refuses: it is asked about the endpoint
    /// as it stands and as it is wanted now, before anything is written.
    ///
    /// # Errors
    /// What the agent is told.
    pub(crate) async fn claim(
        &self,
        asker: Asker,
        request: &BindRequest,
        may_serve: impl Fn(&Endpoint, &Endpoint) -> Result<(), Refusal>,
    ) -> Result<Granted, Refusal> {
        let kind = match request.kind {
            EndpointKind::Http | EndpointKind::Unknown => Kind::Http,
            EndpointKind::Tls {
                termination: WantedTermination::Edge,
            } => Kind::Tls(Termination::Edge),
            EndpointKind::Tls { .. } => Kind::Tls(Termination::Beyond),
            EndpointKind::Tcp { port } => Kind::Tcp {
                port: port.unwrap_or(0),
                keeper: None,
            },
        };
        let (access, notices) = match &request.login {
            None => (Access::Public, Vec::new()),
            Some(_) if kind != Kind::Http => {
                let message = format!(
                    "a login cannot be asked for at a {} endpoint: there is no page to show",
                    request.kind.scheme()
                );
                return Err(Refusal::new(Code::LoginNeedsHttp, message));
            }
            Some(login) => self.login_rule(login).await?,
        };
        let wish = Endpoint {
            id: secret::new_id(self.clock.unix_ms()),
            host: String::new(),
            authtoken: asker.authtoken,
            upstream: request.upstream.clone(),
            access,
            kind,
            networks: network_rule(request)?,
            created_at: self.clock.now(),
        };
        let endpoint = if let Kind::Tcp { port, .. } = wish.kind {
            self.claim_port(asker, request, port, wish, may_serve)
                .await?
        } else {
            self.claim_name(asker, request, wish, may_serve).await?
        };
        Ok(Granted {
            url: self.site.public_url(&endpoint),
            endpoint,
            notices,
        })
    }

    async fn claim_name(
        &self,
        asker: Asker,
        request: &BindRequest,
        wish: Endpoint,
        may_serve: impl Fn(&Endpoint, &Endpoint) -> Result<(), Refusal>,
    ) -> Result<Endpoint, Refusal> {
        let chosen = request
            .url
            .as_deref()
            .map(|url| self.chosen_host(url, request.kind))
            .transpose()?;
        let tries = if chosen.is_some() { 1 } else { NAME_TRIES };
        for attempt in 0..tries {
            let host = if let Some(host) = &chosen {
                host.clone()
            } else {
                let label = self.random_label(asker, &request.upstream, attempt);
                if ReservedHost::parse(&label).is_some() {
                    continue;
                }
                self.site.host(&label)
            };
            let holder = self.holder(&host).await?;
            let claim = Endpoint {
                host,
                ..wish.clone()
            };
            match &holder {
                Some(other) if other.authtoken != asker.authtoken => continue,
                Some(held) => may_serve(held, &claim)?,
                None => {}
            }
            if let Some(endpoint) = self.write(claim).await? {
                return Ok(endpoint);
            }
        }
        let message = match chosen {
            Some(host) => format!("{host} belongs to another authtoken"),
            None => "no free random name was found; choose one with --url".to_owned(),
        };
        Err(Refusal::new(Code::NameTaken, message))
    }

    async fn holder(&self, host: &str) -> Result<Option<Endpoint>, Refusal> {
        self.store
            .endpoint_at(host.to_owned())
            .await
            .map_err(|error| Refusal::store(&error))
    }

    /// Writes a claim; `None` when another authtoken holds the host.
    async fn write(&self, claim: Endpoint) -> Result<Option<Endpoint>, Refusal> {
        match self.store.claim_endpoint(claim).await {
            Ok(Claimed::Held(endpoint)) => Ok(Some(endpoint)),
            Ok(Claimed::Taken) => Ok(None),
            Err(error) => Err(Refusal::store(&error)),
        }
    }

    async fn login_rule(&self, login: &LoginOptions) -> Result<(Access, Vec<Notice>), Refusal> {
        let providers = self
            .store
            .providers()
            .await
            .map_err(|error| Refusal::store(&error))?;
        let Some(provider) = providers
            .iter()
            .find(|provider| provider.name == login.provider)
        else {
            let known: Vec<_> = providers
                .iter()
                .map(|provider| provider.name.as_str())
                .collect();
            let known = if known.is_empty() {
                "none yet".to_owned()
            } else {
                known.join(", ")
            };
            let message = format!(
                "this edge does not know a provider named {:?}; it knows: {known}",
                login.provider
            );
            return Err(Refusal::new(Code::UnknownProvider, message));
        };
        let rule = |entry: &String, parsed: Option<String>| {
            parsed.ok_or_else(|| {
                Refusal::new(
                    Code::AllowRuleInvalid,
                    format!("{entry:?} is not usable in an allow rule"),
                )
            })
        };
        let allow_emails: Vec<String> = login
            .allow_emails
            .iter()
            .map(|entry| rule(entry, policy::parse_email_rule(entry)))
            .collect::<Result<_, _>>()?;
        let allow_domains: Vec<String> = login
            .allow_domains
            .iter()
            .map(|entry| rule(entry, policy::parse_domain_rule(entry)))
            .collect::<Result<_, _>>()?;
        let mut notices = Vec::new();
        if allow_emails.is_empty() && allow_domains.is_empty() && (self.is_public)(provider) {
            notices.push(Notice {
                code: Code::AnyoneMaySignIn,
                message: format!("anyone with an account at {} can sign in to this endpoint", provider.name),
                next_step: "add --oauth-allow-domain your-company.com or --oauth-allow-email you@example.com".to_owned(),
            });
        }
        let rule = LoginRule {
            provider: provider.name.clone(),
            allow_emails,
            allow_domains,
            session_life: self.session_life,
            idle_limit: self.idle_limit,
        };
        Ok((Access::Login(rule), notices))
    }

    /// A chosen name: a label, a host, or a URL of this edge's domain.
    fn chosen_host(&self, url: &str, kind: EndpointKind) -> Result<String, Refusal> {
        let scheme = kind.scheme();
        let host = url
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .unwrap_or(url);
        if let Some((other, _)) = host.split_once("://") {
            let message = format!(
                "{url:?} is no {scheme}:// address: {other}:// is another command of the agent"
            );
            return Err(Refusal::new(Code::UrlNotServed, message));
        }
        let host = host.strip_suffix('/').unwrap_or(host);
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.parse() == Ok(self.site.port) => name,
            Some(_) => {
                let message =
                    format!("{url:?} names a port or scheme that this edge does not serve");
                return Err(Refusal::new(Code::UrlNotServed, message));
            }
            None => host,
        };
        let host = host.to_ascii_lowercase();
        let label = if host.contains('.') {
            self.site.label_of(&host).ok_or_else(|| {
                let message = format!(
                    "this edge serves names of one label under {}",
                    self.site.domain
                );
                Refusal::new(Code::UrlNotServed, message)
            })?
        } else {
            host.as_str()
        };
        if ReservedHost::parse(label).is_some() {
            return Err(Refusal::new(
                Code::NameReserved,
                format!("{label:?} is used by the edge itself"),
            ));
        }
        if !is_label(label) {
            let message =
                format!("{label:?} is no host label: 1 to 63 of a-z, 0-9 and -, not at the ends");
            return Err(Refusal::new(Code::NameInvalid, message));
        }
        Ok(self.site.host(label))
    }

    /// Two words and, from the second try on, digits; the same for the same asker and upstream.
    fn random_label(&self, asker: Asker, upstream: &str, attempt: u32) -> String {
        let mut input = Vec::new();
        input.extend_from_slice(self.name_key.expose());
        input.extend_from_slice(&asker.authtoken.to_bytes());
        input.extend_from_slice(&asker.instance.to_bytes());
        input.extend_from_slice(&attempt.to_be_bytes());
        input.extend_from_slice(upstream.as_bytes());
        let hash = secret::sha256(&input);
        let number = |at: usize| {
            hash.get(at..at + 4)
                .and_then(|four| four.try_into().ok())
                .map_or(0, u32::from_be_bytes)
        };
        let word = |words: &[&'static str], at| {
            let index = number(at) as usize % words.len().max(1);
            words.get(index).copied().unwrap_or("quiet")
        };
        let (first, second) = (word(ADJECTIVES, 0), word(ANIMALS, 4));
        if attempt == 0 {
            format!("{first}-{second}")
        } else {
            format!("{first}-{second}-{}", number(8) % 10_000)
        }
    }
}

impl Refusal {
    pub(crate) const fn new(code: Code, message: String) -> Self {
        Self { code, message }
    }

    fn store(error: &StoreError) -> Self {
        tracing::error!(error = error as &dyn std::error::Error, "bind not recorded");
        Self::new(
            Code::StoreUnavailable,
            "the edge cannot write its store".to_owned(),
        )
    }
}

fn network_rule(request: &BindRequest) -> Result<NetworkRule, Refusal> {
    let parsed = |list: &[String]| -> Result<Vec<IpNet>, Refusal> {
        list.iter()
            .map(|entry| {
                policy::parse_network(entry).ok_or_else(|| {
                    let message = format!("{entry:?} is no network and no address");
                    Refusal::new(Code::AddressRuleInvalid, message)
                })
            })
            .collect()
    };
    Ok(NetworkRule {
        allow: parsed(&request.cidr_allow)?,
        deny: parsed(&request.cidr_deny)?,
    })
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

const NAME_TRIES: u32 = 16;
const ADJECTIVES: &[&str] = &[
    "amber", "brave", "bright", "calm", "clever", "cosy", "crisp", "eager", "early", "fair",
    "gentle", "glad", "golden", "happy", "honest", "jolly", "keen", "kind", "lively", "loyal",
    "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble", "patient", "placid", "plucky",
    "polite", "proud", "quick", "quiet", "ready", "rosy", "sage", "serene", "sharp", "silver",
    "sleek", "smart", "snug", "solid", "spry", "steady", "still", "sunny", "sure", "swift", "tidy",
    "tender", "trusty", "vivid", "warm", "wise", "witty", "young", "zesty", "azure", "breezy",
    "candid", "dapper", "deft",
];
const ANIMALS: &[&str] = &[
    "otter", "badger", "heron", "falcon", "lynx", "marten", "osprey", "plover", "puffin", "raven",
    "robin", "seal", "shrew", "sparrow", "stoat", "swallow", "swan", "teal", "tern", "thrush",
    "toad", "trout", "vole", "walrus", "weasel", "whale", "wren", "bison", "beaver", "bear", "cat",
    "crane", "crow", "deer", "dolphin", "dove", "duck", "eagle", "eel", "egret", "elk", "ermine",
    "finch", "fox", "gecko", "goose", "grouse", "gull", "hare", "hawk", "hedgehog", "ibis", "ibex",
    "jay", "kestrel", "kite", "lark", "magpie", "mole", "moose", "newt", "owl", "perch", "pike",
];

#[cfg(test)]
mod tests;
