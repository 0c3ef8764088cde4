//! How the edge is, and a copy of its store.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use proto::code::Code;
use serde::Deserialize;

use crate::admin::error::AdminError;
use crate::admin::params::JsonBody;
use crate::admin::views::{BackupView, EndpointView, LinkView, StatusView, time};
use crate::admin::{Admin, LinkPresence};
use crate::model::endpoint::Access;
use crate::model::site::ReservedHost;

pub(super) async fn status(
    State(admin): State<Arc<Admin>>,
) -> Result<Json<StatusView>, AdminError> {
    let (presence, store, site) = (admin.presence(), &admin.parts.store, &admin.parts.site);
    let mut endpoints = Vec::new();
    for id in presence.online.iter().take(ENDPOINTS_SHOWN_MAX) {
        let Some(endpoint) = store.endpoint(*id).await? else {
            continue;
        };
        endpoints.push(EndpointView {
            id: endpoint.id.to_string(),
            url: site.public_url(&endpoint),
            public_url: site.public_url(&endpoint),
            proto: endpoint.kind.scheme().to_owned(),
            upstream: endpoint.upstream,
            login: match endpoint.access {
                Access::Public => None,
                Access::Login(rule) => Some(rule.provider),
            },
            cidr_allow: texts(&endpoint.networks.allow),
            cidr_deny: texts(&endpoint.networks.deny),
        });
    }
    endpoints.sort_by(|a, b| a.url.cmp(&b.url));
    let mut links: Vec<_> = presence.links.iter().map(link).collect();
    links.sort_by(|a, b| a.tunnel.cmp(&b.tunnel));
    links.truncate(LINKS_SHOWN_MAX);
    let providers = store
        .providers()
        .await?
        .into_iter()
        .map(|record| record.name)
        .collect();
    Ok(Json(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        edge: presence.edge.to_string(),
        domain: site.domain.clone(),
        api_url: site.url(ReservedHost::Api),
        auth_url: site.url(ReservedHost::Auth),
        dashboard_url: site.url(ReservedHost::Dashboard),
        started_at: time(presence.started_at),
        tunnels: presence.tunnels,
        sessions: presence.sessions,
        endpoints_online: presence.online.len() as u64,
        connections: presence.connections,
        exchanges: presence.exchanges,
        memory_resident_bytes: presence.resident_bytes,
        links,
        providers,
        tcp_ports: admin.parts.tcp_ports.clone(),
        endpoints,
    }))
}

fn texts(list: &[impl ToString]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn link(link: &LinkPresence) -> LinkView {
    LinkView {
        tunnel: link.tunnel.to_string(),
        transport: link.transport.to_owned(),
        address: link.address.to_string(),
        agent_version: link.agent_version.clone(),
        os: link.os.clone(),
        round_trip_us: u64::try_from(link.round_trip.as_micros()).unwrap_or(u64::MAX),
        streams: link.streams,
        held_bytes: link.held_bytes,
        endpoints: texts(&link.endpoints),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    file: PathBuf,
}

/// Copies the store into a new file on the edge's machine.
pub(super) async fn backup(
    State(admin): State<Arc<Admin>>,
    JsonBody(Wanted { file }): JsonBody<Wanted>,
) -> Result<(StatusCode, Json<BackupView>), AdminError> {
    let refused = |message: String| Err(AdminError::because(Code::ApiParameterInvalid, message));
    if !file.is_absolute() {
        return refused("the file's path must be absolute".to_owned());
    }
    if file.symlink_metadata().is_ok() {
        return refused(format!(
            "{} is there already, and a backup overwrites nothing",
            file.display()
        ));
    }
    if !file.parent().is_some_and(std::path::Path::is_dir) {
        return refused(format!(
            "{} is no folder",
            file.parent().unwrap_or(&file).display()
        ));
    }
    admin.parts.store.backup(file.clone()).await?;
    Ok((
        StatusCode::CREATED,
        Json(BackupView {
            file: file.display().to_string(),
        }),
    ))
}

const ENDPOINTS_SHOWN_MAX: usize = 200;
const LINKS_SHOWN_MAX: usize = 200;
