//! Wiring between parts that do not know each other.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::map_request;
use proto::id::RequestId;

use crate::admin::{Client, Operation, socket};
use crate::config::Settings;
use crate::ingress::listener::Admission;
use crate::ingress::proxied::Proxies;
use crate::ingress::tcp::TcpPorts;
use crate::route::table::Table;
use crate::server::StartError;
use crate::shutdown::Shutdown;
use crate::tunnel::bind::Ports;
use crate::tunnel::listen::{Admit, Settled};

/// Tells the admin doors what ingress knows of a request.
pub(super) fn wired(door: Router) -> Router {
    door.layer(map_request(async |mut request: Request| {
        if let Some(peer) = request.extensions().get::<SocketAddr>().copied() {
            request.extensions_mut().insert(Client(peer.ip()));
        }
        if let Some(id) = request.extensions().get::<RequestId>().copied() {
            request.extensions_mut().insert(Operation(id));
        }
        request
    }))
}

/// Waits until this edge's route table has an endpoint as it was claimed, so that the address an
/// agent prints works.
pub(super) fn settled(routes: Arc<Table>) -> Settled {
    Arc::new(move |endpoint| {
        let routes = Arc::clone(&routes);
        Box::pin(async move {
            let settled = tokio::time::timeout(SETTLE_WITHIN, routes.settled(&endpoint)).await;
            if settled.is_err() {
                tracing::warn!(endpoint.id = %endpoint.id, "a claimed endpoint is not routed yet");
            }
        })
    })
}

/// Bounds the links that have not authenticated, as public connections are bounded.
pub(super) fn strangers() -> Admit {
    let admission = Admission::new(STRANGERS_MAX, STRANGERS_PER_ADDRESS, Proxies::default());
    Arc::new(move |address| {
        let place = admission.enter(address)?;
        Some(Box::new(place))
    })
}

/// How binds get at the ports of TCP endpoints, where the operator opened a range.
pub(super) fn tcp_ports(settings: &Settings, tcp: &Arc<TcpPorts>) -> Option<Ports> {
    let range = settings.tcp_ports.clone()?;
    let (holding, serving) = (Arc::clone(tcp), Arc::clone(tcp));
    Some(Ports::new(
        range,
        move |port| holding.hold(port),
        move |endpoint| serving.serve(endpoint),
    ))
}

/// Opens the operator's socket and serves it until shutdown.
pub(super) async fn operator_socket(
    data_dir: &Path,
    router: Router,
    shutdown: &Shutdown,
) -> Result<socket::Listening, StartError> {
    let listening = socket::listen(data_dir).await.map_err(StartError::Socket)?;
    shutdown.spawn(listening.serve(router, shutdown.clone()));
    Ok(listening)
}

/// An agent authenticates within two round trips; each of these may take ten seconds instead.
const STRANGERS_MAX: usize = 1024;
/// All agents behind one address that come back at once after a restart retry with jitter.
const STRANGERS_PER_ADDRESS: usize = 64;
const SETTLE_WITHIN: Duration = Duration::from_secs(5);
