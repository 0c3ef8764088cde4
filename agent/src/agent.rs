//! The loop: connect, serve, back off. The only place that decides to retry, and when to give up.
//!
//! `tunnel` is one connection from its first byte to its last, `lanes` are further links of it; `better`
//! looks for QUIC while TLS has to do; `upstreams` tells when the local apps come and go; `speak` is how
//! they are spoken to; `words` is what it says; `exit` is the class of an end. Moves no bytes.

mod better;
mod exit;
mod lanes;
mod silence;
mod speak;
mod tunnel;
mod upstreams;
mod words;

use std::sync::Arc;
use std::time::Duration;

use proto::authtoken::Authtoken;
use proto::bind::{BindRequest, EndpointKind};
use proto::budget::Budget;
use proto::code::Code;
use proto::control::agent as control;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff;
use crate::config::{Config, ConfigError, EndpointConfig};
use crate::instance::{Instance, NotKept};
use crate::link::{Kind, Link, Memory, Route, Target, Trust};
use crate::status::{Event, Phase, Status, Trouble};
use crate::upstream::Watched;

use better::Better;
pub(crate) use exit::Exit;
pub(crate) use speak::{manner_of, prepare_upstream};
use tunnel::{Change, Tunnel};

/// An agent that has been told everything it needs.
#[derive(Debug)]
pub(crate) struct Agent {
    endpoints: Vec<Served>,
    authtoken: Authtoken,
    target: Target,
    instance: Instance,
    better: Better,
    is_fail_fast: bool,
    status: Status,
}

/// One endpoint and the local app behind it.
#[derive(Clone, Debug)]
struct Served {
    config: EndpointConfig,
    watched: Arc<Watched>,
}

/// Why a connection was not made, or did not stay.
#[derive(Clone, Debug)]
struct Failure {
    trouble: Trouble,
    /// Whether trying again may help.
    retry: bool,
}

/// How a tunnel that served came to its end.
#[derive(Debug)]
enum Left {
    Stopped,
    /// The edge is stopping; it knows of these.
    Drained(Vec<String>),
    /// A better link stands ready.
    Better(Link),
    Failed(Failure),
}

impl Agent {
    /// Checks what the configuration leaves to whoever uses it.
    ///
    /// # Errors
    /// For an upstream that is none, then for the authtoken.
    pub(crate) fn new(config: &Config, status: Status) -> Result<Self, ConfigError> {
        let endpoints = config.endpoints.iter().map(|endpoint| {
            let manner = manner_of(endpoint)?;
            let (upstream, tls) = prepare_upstream(endpoint)?;
            Ok(Served {
                config: endpoint.clone(),
                watched: Arc::new(Watched::new(upstream, tls).with(manner)),
            })
        });
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let authtoken = config.authtoken()?;
        let target = Target {
            addrs: if config.connect_urls.is_empty() {
                authtoken.addrs.clone()
            } else {
                config.connect_urls.clone()
            },
            server_name: authtoken.server_name.clone(),
            trust: config
                .ca
                .clone()
                .map_or(Trust::LinkCa(authtoken.link_ca_key), Trust::Roots),
            congestion: config.tuning.congestion,
            unread: Budget::new(config.tuning.unread_bytes, config.tuning.unread_bytes),
            route: Route {
                link: config.link,
                proxies: config.proxies.clone(),
                memory: config
                    .folder
                    .as_deref()
                    .map(Memory::kept)
                    .unwrap_or_default(),
            },
        };
        let instance = take_instance(config, &endpoints, &status);
        for served in &endpoints {
            speak::say_unverified(served, &status);
        }
        Ok(Self {
            endpoints,
            authtoken,
            target,
            instance,
            better: Better::new(config.quic_retry),
            is_fail_fast: config.is_fail_fast,
            status,
        })
    }

    /// Serves until it is told to stop, or until going on is of no use.
    ///
    /// # Errors
    /// What ended it. An interruption before an edge was ever reached is one, too.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Trouble> {
        let tasks = TaskTracker::new();
        let ended = self.connect_and_serve(&stop, &tasks).await;
        // Tunnels that were left to finish say good-bye as well.
        stop.cancel();
        tasks.close();
        let _ = tokio::time::timeout(GOODBYE_WITHIN, tasks.wait()).await;
        self.status.say(Event::Status {
            phase: Phase::Offline,
            edge: None,
            latency: None,
            link: None,
            trouble: ended.as_ref().err().cloned(),
        });
        ended
    }

    async fn connect_and_serve(
        &mut self,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<(), Trouble> {
        let mut known = self.target.addrs.clone();
        let mut was_online = false;
        let mut attempt = 0;
        let mut last: Option<Trouble> = None;
        let mut sent_away: Option<Instant> = None;
        // A tunnel that is left, to a draining edge or for a better link, serves on until another one
        // stands.
        let mut replaced = CancellationToken::new();
        let mut better = None;
        self.say_offline(was_online, None);
        loop {
            let connected = tokio::select! {
                biased;
                () = stop.cancelled() => return interrupted(was_online, last),
                connected = self.connect(better.take()) => connected,
            };
            let trouble = match connected {
                Err(mut failure) => {
                    // An edge that was verified before is still the right one: somebody stands in
                    // between, such as a network that wants a click first.
                    failure.retry |= was_online && failure.trouble.code == Code::EdgeUntrusted;
                    self.target.addrs.clone_from(&known);
                    failure.worth_a_retry(self.is_fail_fast)?
                }
                Ok(mut tunnel) => {
                    replaced.cancel();
                    if !was_online {
                        self.watch_upstreams(stop, tasks);
                    }
                    was_online = true;
                    remember(&mut known, tunnel.other_edges());
                    self.target.addrs.clone_from(&known);
                    self.say_online(&tunnel);
                    let since = Instant::now();
                    let left = self.serve(&mut tunnel, stop).await;
                    // One that ends at once must not be dialled again in a tight loop.
                    if since.elapsed() >= STABLE_AFTER {
                        attempt = 0;
                    }
                    if since.elapsed() >= STAYED_AFTER && tunnel.kind() == Kind::Quic {
                        self.better.stayed();
                    }
                    match left {
                        Left::Stopped => {
                            tunnel.close().await;
                            return Ok(());
                        }
                        Left::Drained(edges) => {
                            replaced = CancellationToken::new();
                            sent_away = Some(Instant::now());
                            let within = Some(RETIRE_WITHIN);
                            tasks.spawn(tunnel.retire(replaced.clone(), stop.clone(), within));
                            self.target.addrs = edges;
                            remember(&mut self.target.addrs, &known);
                            Trouble::new(Code::EdgeDraining, "the edge is stopping")
                        }
                        Left::Better(link) => {
                            tracing::info!("moving to a link over QUIC");
                            self.better.moved();
                            replaced = CancellationToken::new();
                            tasks.spawn(tunnel.retire(replaced.clone(), stop.clone(), None));
                            better = Some(link);
                            continue;
                        }
                        Left::Failed(failure) => match failure.worth_a_retry(self.is_fail_fast) {
                            // What is left of the tunnel is dropped: the next one must not wait for it.
                            Ok(trouble) => trouble,
                            Err(trouble) => {
                                tunnel.close().await;
                                return Err(trouble);
                            }
                        },
                    }
                }
            };
            tracing::info!(code = %trouble.code, attempt, "not connected");
            self.say_offline(was_online, Some(trouble.clone()));
            last = Some(trouble);
            // An edge that says that it stops is most likely back in a moment.
            let is_expected = sent_away.is_some_and(|at| at.elapsed() < BACK_WITHIN);
            let patience = if is_expected {
                attempt.min(EXPECTED_ATTEMPT_MAX)
            } else {
                attempt
            };
            let delay = backoff::delay(patience, random());
            attempt = attempt.saturating_add(1);
            tokio::select! {
                biased;
                () = stop.cancelled() => return interrupted(was_online, last),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// One try: dial unless a link stands ready, authenticate, bind everything.
    async fn connect(&mut self, ready: Option<Link>) -> Result<Tunnel, Failure> {
        match self.instance.next_generation() {
            Ok(()) => {}
            Err(superseded @ NotKept::Superseded) => {
                let code = Code::GenerationSuperseded;
                return Err(Failure::permanent(Trouble::new(
                    code,
                    superseded.to_string(),
                )));
            }
            // It has risen in memory, which is enough for this run.
            Err(error @ NotKept::Io(_)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "generation not kept"
            ),
        }
        let identity = control::Config {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            authtoken: self.authtoken.id,
            secret: self.authtoken.secret.clone(),
            instance: self.instance.id(),
            joins: None,
        };
        let link = match ready {
            Some(link) => link,
            None => Link::dial(&self.target).await?,
        };
        let mut tunnel = Tunnel::open(link, &self.target, identity, &self.status).await?;
        let wishes: Vec<_> = self
            .endpoints
            .iter()
            .enumerate()
            .map(|(number, served)| (self.request(number, served), Arc::clone(&served.watched)))
            .collect();
        let refused = tunnel.bind(wishes).await?;
        // Those that will never be served are told once, and not asked for again.
        for (number, trouble) in refused.into_iter().rev() {
            if number < self.endpoints.len() {
                self.endpoints.remove(number);
            }
            if self.endpoints.is_empty() {
                tunnel.close().await;
                return Err(Failure::permanent(trouble));
            }
            self.status.say(Event::Error(trouble));
        }
        Ok(tunnel)
    }

    fn request(&self, number: usize, served: &Served) -> BindRequest {
        BindRequest {
            request: u32::try_from(number).unwrap_or(u32::MAX),
            url: served.config.url.clone(),
            generation: self.instance.generation(),
            upstream: served.watched.upstream().to_string(),
            pooling: served.config.pooling,
            login: served.config.login.clone(),
            kind: served.config.door.kind,
            proxy_protocol: served.config.door.proxy_protocol,
            cidr_allow: served.config.door.cidr_allow.clone(),
            cidr_deny: served.config.door.cidr_deny.clone(),
            upstream_protocol: served.config.speak.protocol,
            host_header: speak::host_header(&served.config.speak, served.watched.upstream()),
        }
    }

    /// Waits for the tunnel's end.
    async fn serve(&mut self, tunnel: &mut Tunnel, stop: &CancellationToken) -> Left {
        let mut every = tokio::time::interval(LATENCY_EVERY);
        let is_second_best = tunnel.is_second_best(&self.target);
        let search = self.better.clone();
        let search = search.link(self.target.clone(), self.status.clone(), random);
        let mut search = std::pin::pin!(search);
        loop {
            let change = tokio::select! {
                biased;
                () = stop.cancelled() => return Left::Stopped,
                trouble = upstreams::first_down(&self.endpoints), if self.is_fail_fast => {
                    return Left::Failed(Failure::permanent(trouble));
                }
                change = tunnel.next() => change,
                link = &mut search, if is_second_best => return Left::Better(link),
                _ = every.tick() => {
                    self.status.set_latency(tunnel.round_trip());
                    continue;
                }
            };
            match change {
                Change::Drain(edges) => return Left::Drained(edges),
                Change::Ended(failure) => return Left::Failed(failure),
                Change::Lost(upstream, trouble) => {
                    // Not to be asked for again, or it would be taken from whoever has it now.
                    self.endpoints
                        .retain(|served| !Arc::ptr_eq(&served.watched, &upstream));
                    if self.endpoints.is_empty() {
                        return Left::Failed(Failure::permanent(trouble));
                    }
                    self.status.say(Event::Error(trouble));
                }
            }
        }
    }

    fn watch_upstreams(&self, stop: &CancellationToken, tasks: &TaskTracker) {
        for served in &self.endpoints {
            let watched = Arc::clone(&served.watched);
            let watch = upstreams::watch(watched, self.status.clone(), stop.clone());
            tasks.spawn(watch);
            if let Some(ends) = &served.watched.manner().ends_tls {
                let ends = Arc::clone(ends);
                tasks.spawn(speak::follow_certificate(
                    ends,
                    self.status.clone(),
                    stop.clone(),
                ));
            }
        }
    }
}

impl Failure {
    const fn permanent(trouble: Trouble) -> Self {
        Self {
            trouble,
            retry: false,
        }
    }

    /// The trouble, as a value when another try is to follow, as the end when not.
    fn worth_a_retry(self, is_fail_fast: bool) -> Result<Trouble, Trouble> {
        if self.retry && !is_fail_fast {
            Ok(self.trouble)
        } else {
            Err(self.trouble)
        }
    }

    /// Retried unless the code says that it cannot help.
    const fn of(trouble: Trouble) -> Self {
        let retry = !trouble.code.is_permanent();
        Self { trouble, retry }
    }
}

/// The identity of these endpoints; one for this run only where none can be kept.
fn take_instance(config: &Config, endpoints: &[Served], status: &Status) -> Instance {
    let wishes: Vec<_> = endpoints
        .iter()
        .map(|served| {
            let upstream = served.watched.upstream();
            match (&served.config.url, served.config.door.kind) {
                (Some(url), _) => format!("{upstream} {url}"),
                (None, EndpointKind::Tcp { port: Some(port) }) => format!("{upstream} :{port}"),
                (None, _) => upstream.to_string(),
            }
        })
        .collect();
    let taken = match &config.folder {
        Some(folder) => Instance::take(folder, &wishes)
            .map_err(|error| format!("in {}: {error}", folder.display())),
        None => Err("without a home folder".to_owned()),
    };
    taken.unwrap_or_else(|why| {
        status.say(Event::Notice(Trouble {
            code: Code::ConfigInvalid,
            message: format!("this agent cannot keep its instance id {why}"),
            next_step:
                "a random name will be another one at the next start; choose one with --url, \
                        or name a writable place with --config"
                    .to_owned(),
        }));
        Instance::passing()
    })
}

fn interrupted(was_online: bool, last: Option<Trouble>) -> Result<(), Trouble> {
    if was_online {
        return Ok(());
    }
    Err(last.unwrap_or_else(|| {
        Trouble::new(
            Code::EdgeUnreachable,
            "interrupted before an edge was reached",
        )
    }))
}

/// Adds what is new, within a bound: it comes from the network.
fn remember(known: &mut Vec<String>, more: &[String]) {
    for addr in more {
        if known.len() < EDGES_MAX && !known.contains(addr) {
            known.push(addr.clone());
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Only jitter: without randomness the delay is the shortest.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// A tunnel that stood for so long was a good one: the next try is immediate again.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long an edge that stopped is looked for eagerly.
const BACK_WITHIN: Duration = Duration::from_mins(1);
/// That many tries wait for two seconds at most.
const EXPECTED_ATTEMPT_MAX: u32 = 4;
/// A link over QUIC that stood for so long is no accident.
const STAYED_AFTER: Duration = Duration::from_mins(10);
/// How long the streams of a draining edge may take once another tunnel serves; the edge's own deadline
/// is shorter.
const RETIRE_WITHIN: Duration = Duration::from_mins(10);
const LATENCY_EVERY: Duration = Duration::from_secs(1);
/// Signals promise an end within two seconds.
const GOODBYE_WITHIN: Duration = Duration::from_millis(800);
const EDGES_MAX: usize = 64;

#[cfg(test)]
mod tests;
