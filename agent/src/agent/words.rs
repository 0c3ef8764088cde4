//! What the agent says of its tunnel: how it stands, what is served, who may come in.

use std::sync::Arc;

use proto::bind::LoginOptions;

use super::Agent;
use super::tunnel::Tunnel;
use crate::status::{Event, Networks, Phase, Trouble};

impl Agent {
    pub(super) fn say_offline(&self, was_online: bool, trouble: Option<Trouble>) {
        self.status.say(Event::Status {
            phase: if was_online {
                Phase::Reconnecting
            } else {
                Phase::Connecting
            },
            edge: Some(self.target.addrs.join(", ")),
            latency: None,
            link: None,
            trouble,
        });
    }

    pub(super) fn say_online(&self, tunnel: &Tunnel) {
        self.status.set_latency(tunnel.round_trip());
        self.status.say(Event::Status {
            phase: Phase::Online,
            edge: Some(tunnel.edge()),
            latency: Some(tunnel.round_trip()),
            link: Some(tunnel.kind().name()),
            trouble: None,
        });
        for bound in tunnel.bound() {
            let Some(served) = self
                .endpoints
                .iter()
                .find(|served| Arc::ptr_eq(&served.watched, &bound.watched))
            else {
                continue;
            };
            self.status.say(Event::Forwarding {
                url: bound.url.clone(),
                upstream: bound.watched.upstream().to_string(),
                endpoint_id: bound.endpoint.to_string(),
                login: served.config.login.as_ref().map(describe_login),
                networks: Networks {
                    allow: served.config.door.cidr_allow.clone(),
                    deny: served.config.door.cidr_deny.clone(),
                },
            });
            for notice in &bound.notices {
                self.status.say(Event::Notice(Trouble {
                    code: notice.code,
                    message: notice.message.clone(),
                    next_step: notice.next_step.clone(),
                }));
            }
        }
    }
}

/// A login in a few words.
pub(super) fn describe_login(login: &LoginOptions) -> String {
    let domains = login
        .allow_domains
        .iter()
        .map(|domain| format!("*@{domain}"));
    let allowed: Vec<_> = login.allow_emails.iter().cloned().chain(domains).collect();
    let shown = match allowed.as_slice() {
        [] => "anyone with an account there".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one}, {two}"),
        [one, two, more @ ..] => format!("{one}, {two} and {} more", more.len()),
    };
    format!("{}: {shown}", login.provider)
}
