//! Builds every part in order, spawns every long task, owns the order of shutdown.

mod bound;
mod doors;
mod drain;
mod error;
pub(crate) mod providers;
mod ready;
mod watch;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proto::budget::Budget;
use proto::id::EdgeId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::{Admin, AdminParts, AuthtokenIssuer};
use crate::auth::{Auth, AuthParts};
use crate::cert::{DevCa, FileCert, LinkCa, Public, Resolver, Web, quic_config, tcp_config};
use crate::clock::Clock;
use crate::config::{Prepared, Settings};
use crate::context::{GeoIp, UserAgents};
use crate::follow::Follow;
use crate::idp::{Http, HttpOptions, Providers};
use crate::ingress::listener::Admission;
use crate::ingress::proxied::Proxies;
use crate::ingress::raw::Tally;
use crate::ingress::tcp::TcpPorts;
use crate::ingress::{Ingress, Limits};
use crate::metrics::Metrics;
use crate::model::site::{ReservedHost, Site};
use crate::route::table::Table;
use crate::secret::{self, ClusterKey};
use crate::session::activity;
use crate::session::live::Live;
use crate::session::revoke::Revocations;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::seal::Sealer;
use crate::telemetry::Log;
use crate::trust::lease::Lease;
use crate::tunnel::bind::Binder;
use crate::tunnel::link::Seat;
use crate::tunnel::listen::Tunnels;
use crate::tunnel::registry::Registry;

use bound::Bound;
pub(crate) use drain::Open;
pub(crate) use error::StartError;
pub(crate) use ready::progress;
use workers::Workers;

/// Runs an edge until it is asked to stop. With `json`, says on standard output, in one line, when it
/// is ready; otherwise it says so for people.
pub(crate) async fn run(settings: Settings, json: bool, log: Arc<Log>) -> Result<(), StartError> {
    Edge::build(&settings).await?.serve(json, log).await
}

/// Every part, built and not yet serving.
struct Edge {
    ready: ready::Ready,
    tcp: Vec<std::net::TcpListener>,
    seats: Vec<Seat>,
    ingress: Arc<Ingress>,
    tls: Public,
    admission: Arc<Admission>,
    /// Drains that the operator ordered, each with its bound.
    drain_ordered: mpsc::Receiver<Duration>,
    /// Exchanges that a drain cut.
    cut: Arc<AtomicU64>,
    admin: Arc<Admin>,
    tunnels: Tunnels,
    live: Arc<Live>,
    store: Arc<Store>,
    geoip: Arc<GeoIp>,
    files: Option<Arc<FileCert>>,
    settings: Settings,
    clock: Clock,
    shutdown: Shutdown,
}

impl Edge {
    async fn build(settings: &Settings) -> Result<Self, StartError> {
        raise_open_files();
        let Prepared {
            domain,
            cluster_key,
        } = settings.prepare()?;
        let clock = Clock;
        let shutdown = Shutdown::new();
        let edge_id: EdgeId = secret::new_id(clock.unix_ms());

        // The store first: its lock says that no other edge uses this folder.
        let sealer = Sealer::new(cluster_key.derive("store sealing").expose(), None);
        let file = settings.data_dir.join("sallyport.redb");
        let store = Arc::new(Store::Embedded(
            Embedded::open(&file, sealer, edge_id)
                .await
                .map_err(StartError::Store)?,
        ));

        let bound =
            Bound::new(settings.listen, settings.workers).map_err(|source| StartError::Listen {
                address: settings.listen,
                source,
            })?;
        let site = Site {
            domain,
            port: settings.public_port.unwrap_or_else(|| bound.address.port()),
        };
        let link_name = site.host(ReservedHost::Connect.label());
        let link_ca = LinkCa::new(cluster_key.derive("link CA").expose())?;
        link_ca.keep(&settings.data_dir)?;
        let WebCertificates {
            web,
            ca_file,
            files,
        } = web_certificates(settings, &site)?;
        let resolver = Arc::new(Resolver::new(&link_name, link_ca.issue(&link_name)?, web));
        let tls = Public::new(&resolver, &link_name)?;
        let raw_tls = tcp_config(Arc::clone(&resolver), &[])?;
        let quic = quic_config(resolver, &[proto::version::ALPN_AGENT])?;

        let http = Http::new(&HttpOptions {
            allow_loopback_http: bound.address.ip().is_loopback(),
            extra_roots: Vec::new(),
        })?;
        let providers = Arc::new(Providers::default());
        let routes = Arc::new(Table::default());
        let registry = Arc::new(Registry::default());
        let metrics = Arc::new(Metrics::default());
        let live = Arc::new(Live::new(Arc::clone(&store), Arc::clone(&metrics)));
        let revocations = Revocations::new(Arc::clone(&store), clock);
        let geoip = Arc::new(GeoIp::open(settings.geoip.as_deref()));
        let proxies = Proxies::new(settings.trusted_proxies.clone());
        let admission = Admission::new(
            CONNECTIONS_MAX,
            settings.connections_per_address as usize,
            proxies.clone(),
        );
        let (drain_orders, drain_ordered) = mpsc::channel(1);
        let cut = Arc::<AtomicU64>::default();
        let raw = Tally::default();
        let auth = Auth::new(AuthParts {
            store: Arc::clone(&store),
            live: Arc::clone(&live),
            routes: Arc::clone(&routes),
            providers: Arc::clone(&providers),
            revocations: revocations.clone(),
            user_agents: Arc::new(UserAgents::new(settings.user_agent_regexes.as_deref())),
            geoip: Some(Arc::clone(&geoip)),
            site: site.clone(),
            cluster_key: cluster_key.clone(),
            previous_cluster_key: None,
            clock,
            fresh: fresh(Lease::Always, clock),
        });
        let admin = Admin::new(AdminParts {
            store: Arc::clone(&store),
            revocations,
            site: site.clone(),
            clock,
            issuer: AuthtokenIssuer {
                addrs: advertised(settings, &site, bound.address),
                server_name: link_name,
                link_ca_key: link_ca.public_key(),
            },
            presence: watch::presence(
                edge_id,
                clock,
                watch::Present {
                    live: Arc::clone(&live),
                    registry: Arc::clone(&registry),
                    admission: Arc::clone(&admission),
                    shutdown: shutdown.clone(),
                    cut: Arc::clone(&cut),
                    raw: raw.clone(),
                },
            ),
            drain: Box::new(move |limit| {
                // The first order counts.
                let _ = drain_orders.try_send(limit);
            }),
            verify_provider: providers::verifier(http.clone()),
            knows_places: settings.geoip.is_some(),
            tcp_ports: settings.tcp_ports_text(),
        });
        Follow {
            edge: edge_id,
            store: Arc::clone(&store),
            live: Arc::clone(&live),
            routes: Arc::clone(&routes),
            registry: Arc::clone(&registry),
            providers,
            http,
            shutdown: shutdown.clone(),
        }
        .start()
        .await
        .map_err(StartError::Store)?;
        let links = settings.links;
        let budget = Budget::new(links.unread_per_agent_bytes, links.unread_bytes);
        let reset_key = cluster_key.derive("link reset");
        let seats = Seat::all(bound.udp, quic, &reset_key, links.congestion, &budget)
            .map_err(StartError::Io)?;
        let tcp_ports = TcpPorts::new(bound.address.ip(), Arc::clone(&admission));
        let tunnels = Tunnels {
            listeners: Arc::default(),
            registry: Arc::clone(&registry),
            store: Arc::clone(&store),
            binder: Binder {
                ports: doors::tcp_ports(settings, &tcp_ports),
                ..binder(settings, &store, &site, clock, &cluster_key)
            },
            settled: doors::settled(Arc::clone(&routes)),
            admit: doors::strangers(),
            edge: edge_id,
            clock,
            shutdown: shutdown.clone(),
            budget,
            congestion: links.congestion,
            deciding: Arc::default(),
        };
        let ready = ready::Ready::new(&site, bound.address, settings, ca_file);
        let ingress = Arc::new(Ingress {
            site,
            clock,
            routes,
            auth,
            registry,
            metrics,
            api: doors::wired(admin.api()),
            dashboard: doors::wired(admin.dashboard()),
            links: {
                let tunnels = tunnels.clone();
                Box::new(move |stream, peer| tunnels.take(stream, peer))
            },
            limits: Limits {
                handshake: HANDSHAKE,
                header_read: settings.header_timeout,
                idle: settings.idle_timeout,
                body_idle: settings.body_timeout,
                head_bytes_max: HEAD_BYTES_MAX,
                exchanges_max: settings.exchanges_max as usize,
            },
            proxies,
            raw_tls,
            raw,
            shutdown: shutdown.clone(),
        });
        tcp_ports.serve_for(&ingress);
        Ok(Self {
            ready,
            drain_ordered,
            cut,
            tcp: bound.tcp,
            seats,
            ingress,
            tls,
            admission,
            admin,
            tunnels,
            live,
            store,
            geoip,
            files,
            settings: settings.clone(),
            clock,
            shutdown,
        })
    }

    /// Serves until a signal, then drains: accepting stops first, then agents are told, open
    /// exchanges finish within a bound, and the last activity is written.
    async fn serve(mut self, json: bool, log: Arc<Log>) -> Result<(), StartError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Io)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Io)?;
        let socket =
            doors::operator_socket(&self.settings.data_dir, self.admin.socket(), &self.shutdown)
                .await?;
        let workers = Workers::start(
            self.tcp,
            self.seats,
            &self.tunnels,
            &self.ingress,
            &self.tls,
            &self.admission,
        )
        .map_err(StartError::Io)?;
        self.shutdown.spawn(activity::run(
            Arc::clone(&self.live),
            Arc::clone(&self.store),
            self.shutdown.clone(),
        ));
        self.shutdown.spawn(housekeeping(
            Arc::clone(&self.live),
            Arc::clone(&self.store),
            self.clock,
            self.shutdown.clone(),
        ));
        if let Some(files) = self.files {
            self.shutdown
                .spawn(until_shutdown(self.shutdown.clone(), files.follow()));
        }
        self.shutdown.spawn(until_shutdown(
            self.shutdown.clone(),
            geoip_reload(self.geoip),
        ));
        let mut hang_up = signal(SignalKind::hangup()).map_err(StartError::Io)?;
        let reopen = {
            let log = Arc::clone(&log);
            async move {
                while hang_up.recv().await.is_some() {
                    log.reopen();
                }
            }
        };
        self.shutdown
            .spawn(until_shutdown(self.shutdown.clone(), reopen));
        let parts = watch::Parts {
            edge: self.tunnels.edge,
            ingress: Arc::clone(&self.ingress),
            admission: Arc::clone(&self.admission),
            live: Arc::clone(&self.live),
            store: Arc::clone(&self.store),
            log,
        };
        let watch = watch::open(self.settings.metrics, parts).await?;
        self.ready.metrics = watch.as_ref().map(|watch| watch.address);
        // The operator's socket and the workers are there: whoever reads this may go on at once.
        ready::announce(&self.ready, json);

        let limit = tokio::select! {
            _ = terminate.recv() => DRAIN,
            _ = interrupt.recv() => DRAIN,
            Some(limit) = self.drain_ordered.recv() => limit,
        };
        tracing::info!(
            limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            "draining"
        );
        let inside = drain::Inside {
            ingress: Arc::clone(&self.ingress),
            admission: Arc::clone(&self.admission),
            live: Arc::clone(&self.live),
            cut: self.cut,
        };
        let again = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        inside
            .leave(limit, again, |open, left| {
                ready::draining(open, left, json);
            })
            .await;
        tokio::select! {
            done = self.shutdown.finished(GOODBYES) => {
                if !done {
                    tracing::debug!("some tasks did not end in time");
                }
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        self.tunnels.end().await;
        activity::flush(&self.live, &self.store).await;
        drop((socket, watch));
        let halted = tokio::task::spawn_blocking(move || workers.halt());
        if tokio::time::timeout(HALT, halted).await.is_err() {
            tracing::warn!("workers did not halt in time");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Whether memory may be believed, asked at every admission. With the embedded engine it always may:
/// the store is in this process.
fn fresh(lease: Lease, clock: Clock) -> Arc<dyn Fn() -> bool + Send + Sync> {
    let started = clock.monotonic();
    Arc::new(move || lease.is_fresh(clock.monotonic().duration_since(started)))
}

/// Removes what has expired, a little at a time.
async fn housekeeping(live: Arc<Live>, store: Arc<Store>, clock: Clock, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            _ = ticks.tick() => {}
        }
        let now = clock.now();
        live.sweep(
            now.saturating_sub(
                jiff::SignedDuration::try_from(ENTRY_IDLE).unwrap_or(jiff::SignedDuration::ZERO),
            )
            .unwrap_or(now),
        );
        match store.sweep(now).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "expired rows removed"),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "expired rows not removed"
            ),
        }
    }
}

async fn geoip_reload(geoip: Arc<GeoIp>) {
    let mut ticks = tokio::time::interval(GEOIP_RELOAD);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let geoip = Arc::clone(&geoip);
        if let Err(error) = tokio::task::spawn_blocking(move || geoip.reload()).await {
            tracing::error!(%error, "place database not reloaded");
        }
    }
}

/// For tasks that have no end of their own.
async fn until_shutdown(shutdown: Shutdown, task: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown.begun() => {}
        () = task => {}
    }
}

/// Where web certificates come from.
struct WebCertificates {
    web: Web,
    /// The development CA's certificate, for browsers to trust.
    ca_file: Option<PathBuf>,
    /// Files to look after.
    files: Option<Arc<FileCert>>,
}

fn web_certificates(settings: &Settings, site: &Site) -> Result<WebCertificates, StartError> {
    if let Some(cert) = settings.open_certificate(&site.domain)? {
        let cert = Arc::new(cert);
        Ok(WebCertificates {
            web: Web::Files(Arc::clone(&cert)),
            ca_file: None,
            files: Some(cert),
        })
    } else {
        let ca = Arc::new(DevCa::open(&settings.data_dir, &site.domain)?);
        let file = ca.certificate_file().to_owned();
        Ok(WebCertificates {
            web: Web::Dev(ca),
            ca_file: Some(file),
            files: None,
        })
    }
}

fn binder(
    settings: &Settings,
    store: &Arc<Store>,
    site: &Site,
    clock: Clock,
    cluster_key: &ClusterKey,
) -> Binder {
    Binder {
        store: Arc::clone(store),
        site: site.clone(),
        clock,
        session_life: settings.session_life,
        idle_limit: settings.session_idle,
        name_key: Binder::name_key(cluster_key),
        is_public: providers::is_public,
        ports: None,
    }
}

/// Where agents are told to connect: what the operator says, else the domain, else the listener.
fn advertised(settings: &Settings, site: &Site, bound: std::net::SocketAddr) -> Vec<String> {
    if !settings.advertise.is_empty() {
        settings.advertise.clone()
    } else if bound.ip().is_loopback() {
        // Names under `.localhost` do not resolve everywhere.
        vec![bound.to_string()]
    } else {
        vec![format!(
            "{}:{}",
            site.host(ReservedHost::Connect.label()),
            site.port
        )]
    }
}

/// Every connection, stream and file counts: the soft limit is a default for shells.
fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open-file limit"),
        Err(error) => tracing::warn!(%error, "open-file limit not raised"),
    }
}

const HANDSHAKE: Duration = Duration::from_secs(10);
/// A request's head: larger ones are refused with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Public connections in all, each with buffers of tens of kilobytes.
const CONNECTIONS_MAX: usize = 65_536;
/// How long open exchanges may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// How long tunnels and tasks may take to end once nobody is inside.
const GOODBYES: Duration = Duration::from_secs(2);
const HALT: Duration = Duration::from_secs(2);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long an entry of the live table stays without being held.
const ENTRY_IDLE: Duration = Duration::from_mins(10);
const GEOIP_RELOAD: Duration = Duration::from_hours(1);
