//! The names under which this cluster is reached: its domain, its public port, its reserved hosts.

use super::endpoint::{Endpoint, Kind};

/// Where the public side is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Site {
    /// Lower case, no trailing dot: endpoints are `<name>.<domain>`.
    pub(crate) domain: String,
    /// The port that browsers use.
    pub(crate) port: u16,
}

/// A host that the edge itself answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReservedHost {
    Auth,
    Api,
    Dashboard,
    /// Agents connect here; browsers have no business there.
    Connect,
}

impl ReservedHost {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Api => "api",
            Self::Dashboard => "dashboard",
            Self::Connect => "connect",
        }
    }

    /// The reserved host of a label.
    pub(crate) fn parse(label: &str) -> Option<Self> {
        [Self::Auth, Self::Api, Self::Dashboard, Self::Connect]
            .into_iter()
            .find(|host| host.label() == label)
    }
}

impl Site {
    /// `name.domain`.
    pub(crate) fn host(&self, label: &str) -> String {
        format!("{label}.{}", self.domain)
    }

    /// `https://host[:port]`, without a slash at the end. `host` is in canonical form.
    pub(crate) fn url_of(&self, host: &str) -> String {
        if self.port == 443 {
            format!("https://{host}")
        } else {
            format!("https://{host}:{}", self.port)
        }
    }

    /// The public address of an endpoint: `https://host[:port]`, `tls://host[:port]` or
    /// `tcp://host:port`.
    pub(crate) fn public_url(&self, endpoint: &Endpoint) -> String {
        match endpoint.kind {
            Kind::Http => self.url_of(&endpoint.host),
            Kind::Tls(_) if self.port == 443 => format!("tls://{}", endpoint.host),
            Kind::Tls(_) => format!("tls://{}:{}", endpoint.host, self.port),
            Kind::Tcp { .. } => format!("tcp://{}", endpoint.host),
        }
    }

    /// The host of TCP endpoints. Names under `.localhost` do not resolve everywhere; all others lead
    /// to the edge where agents connect.
    pub(crate) fn tcp_host(&self) -> String {
        if self.domain.ends_with(".localhost") {
            "localhost".to_owned()
        } else {
            self.host(ReservedHost::Connect.label())
        }
    }

    /// The URL of a reserved host.
    pub(crate) fn url(&self, reserved: ReservedHost) -> String {
        self.url_of(&self.host(reserved.label()))
    }

    /// Which reserved host this is, if it is one.
    pub(crate) fn reserved(&self, host: &str) -> Option<ReservedHost> {
        ReservedHost::parse(self.label_of(host)?)
    }

    /// The single label in front of the domain; `None` for other domains and deeper names.
    pub(crate) fn label_of<'h>(&self, host: &'h str) -> Option<&'h str> {
        let label = host.strip_suffix(self.domain.as_str())?.strip_suffix('.')?;
        (!label.is_empty() && !label.contains('.')).then_some(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names match at label boundaries only.
    #[test]
    fn labels_and_urls() {
        let site = Site {
            domain: "otter.localhost".to_owned(),
            port: 8443,
        };
        assert_eq!(site.label_of("app.otter.localhost"), Some("app"));
        for other in [
            "otter.localhost",
            "badotter.localhost",
            "a.b.otter.localhost",
            ".otter.localhost",
            "app.otter",
        ] {
            assert_eq!(site.label_of(other), None, "{other}");
        }
        assert_eq!(
            site.reserved("api.otter.localhost"),
            Some(ReservedHost::Api)
        );
        assert_eq!(site.reserved("app.otter.localhost"), None);
        assert_eq!(
            site.url(ReservedHost::Auth),
            "https://auth.otter.localhost:8443"
        );
        assert_eq!(
            Site { port: 443, ..site }.url_of("x.otter.localhost"),
            "https://x.otter.localhost"
        );
    }
}
