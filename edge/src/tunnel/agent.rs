//! Drives the control protocol with one agent: what `proto::control` decides is carried out here,
//! what it asks is answered. One loop: wait, one mutation, drain, wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use proto::bind::BindRequest;
use proto::code::Code;
use proto::codec;
use proto::control::edge::{Answer, Config, EdgeControl, Event};
use proto::id::{AuthtokenId, EndpointId, InstanceId, TunnelId};
use proto::limits;
use proto::silence::{Silence, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use crate::secret;
use crate::shutdown::Shutdown;
use crate::store::StoreError;
use crate::tunnel::bind::{Asker, Granted, Refusal};
use crate::tunnel::lanes::{Lanes, OnTunnel};
use crate::tunnel::link::{Link, LinkStream};
use crate::tunnel::listen::{Place, Tunnels};
use crate::tunnel::registry::{Binding, Close, Joined, Serving, Tunnel};
use crate::tunnel::stream::AgentStream;

/// Serves one agent from its first frame to the end of its link.
///
/// `stranger` is the place that it holds until it has authenticated.
pub(super) async fn serve(tunnels: Tunnels, link: Link, stranger: Place) {
    let control = tokio::time::timeout(limits::HANDSHAKE_WITHIN, link.accept()).await;
    let Ok(Ok(control)) = control else {
        tracing::debug!(agent.address = %link.peer(), "no control stream came");
        link.close(
            u32::from(Code::ControlTimeout.number()),
            Code::ControlTimeout.meaning(),
        );
        return;
    };
    let (from, to) = tokio::io::split(control);
    let opened = tunnels.clock.monotonic();
    let config = Config {
        edge: tunnels.edge,
        edge_version: env!("CARGO_PKG_VERSION").to_owned(),
        edges: Vec::new(),
    };
    let machine = EdgeControl::new(Duration::ZERO, config);
    let driver = Driver {
        tunnels,
        link,
        opened,
        machine,
        from,
        to,
        received: BytesMut::new(),
        stranger: Some(stranger),
        place: None,
        carried: (0, Duration::ZERO),
        silence: Silence::new(Duration::ZERO),
        look_at: Duration::ZERO,
        bound: HashMap::new(),
        outcomes: FuturesUnordered::new(),
    };
    driver.run().await;
}

struct Driver {
    tunnels: Tunnels,
    link: Link,
    opened: Instant,
    machine: EdgeControl,
    from: ReadHalf<LinkStream>,
    to: WriteHalf<LinkStream>,
    received: BytesMut,
    /// Held until the agent has authenticated.
    stranger: Option<Place>,
    /// Present once the agent has authenticated.
    place: Option<Authenticated>,
    /// What a lane had carried when it was last seen to carry something, and when that was.
    carried: (u64, Duration),
    silence: Silence,
    /// When to look at it next.
    look_at: Duration,
    bound: HashMap<EndpointId, CancellationToken>,
    /// Questions of the machine that are being answered, and bindings that may be superseded.
    outcomes: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

/// What a link has become.
enum Authenticated {
    Tunnel(Joined),
    Lane(OnTunnel),
}

enum Outcome {
    Authenticated(Result<Authenticated, (Code, String)>),
    Bound {
        request: u32,
        outcome: Box<Result<(Granted, CancellationToken), Refusal>>,
    },
    Superseded(EndpointId),
}

impl Driver {
    async fn run(mut self) {
        let shutdown = self.tunnels.shutdown.clone();
        let mut draining = false;
        let ended = loop {
            if let Some(ended) = self.carry_out().await {
                break ended;
            }
            let now = self.now();
            let wait = self
                .machine
                .poll_timeout()
                .map_or(self.look_at, |at| at.min(self.look_at))
                .saturating_sub(now);
            let (tunnel, is_lane) = (self.tunnel(), self.lane().is_some());
            tokio::select! {
                biased;
                () = self.link.closed() => break None,
                code = ordered(tunnel.as_deref()) => {
                    self.machine.close(self.now(), code, code.meaning(), false);
                }
                () = shutdown.begun(), if !draining => {
                    draining = true;
                    self.machine.drain(self.now(), &[]);
                }
                () = ended(tunnel.as_deref()), if is_lane => {
                    let code = Code::AgentGone;
                    self.machine.close(self.now(), code, "the tunnel has ended", false);
                }
                lanes = wanted(tunnel.as_deref()), if !draining && !is_lane => {
                    self.machine.widen(self.now(), lanes);
                }
                () = dispensable(&shutdown, tunnel.as_deref()), if draining => {
                    let code = Code::EdgeDraining;
                    self.machine.close(self.now(), code, code.meaning(), true);
                }
                Some(outcome) = self.outcomes.next(), if !self.outcomes.is_empty() => self.settle(outcome),
                read = self.from.read_buf(&mut self.received) => match read {
                    Ok(1..) => self.received(),
                    Ok(0) | Err(_) => break None,
                },
                () = tokio::time::sleep(wait) => {
                    self.machine.handle_timeout(self.now());
                    self.listen_for_silence();
                }
            }
        };
        self.end(ended).await;
    }

    /// Sends the machine's frames and carries out its events. Gives the code that the control
    /// protocol ended with, once it has.
    async fn carry_out(&mut self) -> Option<Option<Code>> {
        loop {
            let mut out = BytesMut::new();
            while let Some(frame) = self.machine.poll_frame() {
                if let Err(error) = codec::encode(&frame, &mut out) {
                    tracing::error!(error = &error as &dyn std::error::Error, "frame not sent");
                }
            }
            if !out.is_empty() {
                let written =
                    tokio::time::timeout(limits::PROBE_WITHIN, self.to.write_all(&out)).await;
                if !matches!(written, Ok(Ok(()))) {
                    return Some(None);
                }
            }
            match self.machine.poll_event()? {
                Event::Authenticate {
                    id,
                    secret,
                    instance,
                    joins,
                    agent_version,
                    os,
                    ..
                } => {
                    let asked = authenticate(
                        self.tunnels.clone(),
                        self.link.clone(),
                        id,
                        secret::sha256(secret.expose()),
                        (instance, joins),
                        (agent_version, os),
                    );
                    self.outcomes
                        .push(Box::pin(async move { Outcome::Authenticated(asked.await) }));
                }
                Event::Bind(request) => self.bind(request),
                Event::Unbind { endpoint } => self.unbind(endpoint),
                Event::Probed { round_trip } => {
                    tracing::trace!(
                        round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX),
                        "agent answered a probe"
                    );
                }
                Event::Closed { code, .. } => return Some(Some(code)),
            }
        }
    }

    /// Closes a link that is dead while an exchange is under way on it: its exchanges fail then.
    fn listen_for_silence(&mut self) {
        let now = self.now();
        if now < self.look_at {
            return;
        }
        let is_awaited = match &self.place {
            Some(Authenticated::Tunnel(joined)) => joined.tunnel.load() > 0,
            Some(Authenticated::Lane(on)) => on.lane.load() > 0,
            None => false,
        };
        self.let_go_of_an_idle_lane(now);
        self.look_at = now + Silence::look_after(is_awaited);
        match self.silence.look(now, self.link.received(), is_awaited) {
            Verdict::Lives => {}
            Verdict::Ask => self.machine.probe(now),
            Verdict::Dead => {
                tracing::info!("the agent fell silent");
                let code = Code::ControlTimeout;
                self.link.close(u32::from(code.number()), code.meaning());
            }
        }
    }

    /// A lane that carries nothing costs memory on both sides.
    fn let_go_of_an_idle_lane(&mut self, now: Duration) {
        let Some(lane) = self.lane().map(|on| &on.lane) else {
            return;
        };
        let (load, carried) = (lane.load(), lane.carried());
        let (before, since) = self.carried;
        if load > 0 || carried != before {
            self.carried = (carried, now);
        } else if now.saturating_sub(since) >= LANE_IDLE {
            let code = Code::LaneUnneeded;
            self.machine.close(now, code, code.meaning(), false);
        }
    }

    fn received(&mut self) {
        loop {
            let now = self.now();
            let outcome =
                match codec::decode_within(&mut self.received, self.machine.frame_bytes_max()) {
                    Ok(Some(frame)) => self.machine.handle_frame(now, frame),
                    Ok(None) => return,
                    Err(error) => {
                        let error = self.machine.reject(error);
                        tracing::debug!(error = &error as &dyn std::error::Error, "frame refused");
                        return;
                    }
                };
            if let Err(error) = outcome {
                tracing::debug!(error = &error as &dyn std::error::Error, "frame refused");
                return;
            }
        }
    }

    fn bind(&mut self, request: BindRequest) {
        let Some(Authenticated::Tunnel(Joined { tunnel, .. })) = &self.place else {
            // The machine gives no bind before it has authenticated: this is a lane.
            let code = Code::ControlViolation;
            self.machine.answer(
                self.now(),
                Answer::BindRefused {
                    request: request.request,
                    code,
                    message: "a lane serves no endpoint of its own".to_owned(),
                },
            );
            return;
        };
        let tunnel = Arc::clone(tunnel);
        let tunnels = self.tunnels.clone();
        self.outcomes.push(Box::pin(async move {
            let number = request.request;
            let outcome = bind(tunnels, tunnel, request).await;
            Outcome::Bound {
                request: number,
                outcome: Box::new(outcome),
            }
        }));
    }

    fn unbind(&mut self, endpoint: EndpointId) {
        if let Some(tunnel) = self.tunnel()
            && let Some(superseded) = self.bound.remove(&endpoint)
        {
            // What listens for it among the outcomes goes as well.
            superseded.cancel();
            self.tunnels.registry.unbind(endpoint, tunnel.id);
            tracing::info!(endpoint.id = %endpoint, tunnel.id = %tunnel.id, "endpoint unbound");
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        let now = self.now();
        match outcome {
            Outcome::Authenticated(Ok(Authenticated::Lane(on))) => {
                let id = on.tunnel.id;
                tracing::info!(
                    tunnel.id = %id,
                    lane = on.lane.number,
                    link.transport = on.lane.link.transport(),
                    "lane up"
                );
                self.carried = (0, now);
                self.place = Some(Authenticated::Lane(on));
                self.stranger = None;
                self.machine
                    .answer(now, Answer::Authenticated { tunnel: id });
            }
            Outcome::Authenticated(Ok(Authenticated::Tunnel(joined))) => {
                let id = joined.tunnel.id;
                let Tunnel {
                    link,
                    agent_version,
                    os,
                    ..
                } = &*joined.tunnel;
                tracing::info!(
                    tunnel.id = %id,
                    agent.version = agent_version,
                    agent.os = os,
                    link.transport = link.transport(),
                    round_trip_us = u64::try_from(link.round_trip().as_micros()).unwrap_or(u64::MAX),
                    "tunnel up"
                );
                self.place = Some(Authenticated::Tunnel(joined));
                self.stranger = None;
                self.machine
                    .answer(now, Answer::Authenticated { tunnel: id });
            }
            Outcome::Authenticated(Err((code, message))) => {
                self.machine.answer(now, Answer::Refused { code, message });
            }
            Outcome::Bound { request, outcome } => self.answer_bind(now, request, *outcome),
            Outcome::Superseded(endpoint) => {
                // Bound anew on this same tunnel since: that binding has a signal of its own.
                let is_current = self
                    .bound
                    .get(&endpoint)
                    .is_some_and(CancellationToken::is_cancelled);
                if is_current {
                    self.bound.remove(&endpoint);
                    let code = Code::GenerationSuperseded;
                    self.machine.unbind(now, endpoint, code, code.meaning());
                }
            }
        }
    }

    fn answer_bind(
        &mut self,
        now: Duration,
        request: u32,
        outcome: Result<(Granted, CancellationToken), Refusal>,
    ) {
        match outcome {
            Ok((granted, superseded)) => {
                let endpoint = granted.endpoint.id;
                tracing::info!(endpoint.id = %endpoint, "endpoint bound");
                let hears = superseded.clone();
                self.bound.insert(endpoint, superseded);
                self.outcomes.push(Box::pin(async move {
                    hears.cancelled().await;
                    Outcome::Superseded(endpoint)
                }));
                self.machine.answer(
                    now,
                    Answer::Bound {
                        request,
                        endpoint,
                        url: granted.url,
                        notices: granted.notices,
                    },
                );
            }
            Err(Refusal { code, message }) => {
                self.machine.answer(
                    now,
                    Answer::BindRefused {
                        request,
                        code,
                        message,
                    },
                );
            }
        }
    }

    /// Leaves the registry first, so that nothing new is sent here, then says goodbye.
    async fn end(&mut self, code: Option<Code>) {
        let shown = code.map(tracing::field::display);
        match self.place.take() {
            Some(Authenticated::Tunnel(joined)) => {
                tracing::info!(tunnel.id = %joined.tunnel.id, code = shown, "tunnel down");
            }
            Some(Authenticated::Lane(on)) => {
                tracing::info!(tunnel.id = %on.tunnel.id, lane = on.lane.number, code = shown, "lane down");
            }
            None => {}
        }
        if code.is_some() {
            // The close frame is on its way: the agent reads it and closes the link itself.
            let _ = self.to.shutdown().await;
            let _ = tokio::time::timeout(GOODBYE, self.link.closed()).await;
        }
        let code = code.unwrap_or(Code::AgentGone);
        self.link.close(u32::from(code.number()), code.name());
    }

    fn tunnel(&self) -> Option<Arc<Tunnel>> {
        match &self.place {
            Some(Authenticated::Tunnel(joined)) => Some(Arc::clone(&joined.tunnel)),
            Some(Authenticated::Lane(on)) => Some(Arc::clone(&on.tunnel)),
            None => None,
        }
    }

    fn lane(&self) -> Option<&OnTunnel> {
        match &self.place {
            Some(Authenticated::Lane(on)) => Some(on),
            Some(Authenticated::Tunnel(_)) | None => None,
        }
    }

    fn now(&self) -> Duration {
        self.tunnels.clock.monotonic().duration_since(self.opened)
    }
}

/// Who it is. Joined to the registry before the token is looked at for the last time, so that a
/// revocation in between finds the tunnel.
async fn authenticate(
    tunnels: Tunnels,
    link: Link,
    id: AuthtokenId,
    secret_hash: [u8; 32],
    (instance, joins): (InstanceId, Option<TunnelId>),
    (agent_version, os): (String, String),
) -> Result<Authenticated, (Code, String)> {
    check(&tunnels, id, secret_hash).await?;
    if let Some(joins) = joins {
        let refused = |code: Code| (code, code.meaning().to_owned());
        // Only to a tunnel of its own. One that is being closed for good hears that on every lane.
        let tunnel = tunnels
            .registry
            .tunnel(joins)
            .filter(|tunnel| tunnel.authtoken == id && tunnel.instance == instance)
            .ok_or_else(|| refused(Code::LaneUnneeded))?;
        let on = OnTunnel::join(tunnel, link).map_err(refused)?;
        check(&tunnels, id, secret_hash).await?;
        return Ok(Authenticated::Lane(on));
    }
    let tunnel = Arc::new(Tunnel {
        id: secret::new_id(tunnels.clock.unix_ms()),
        authtoken: id,
        instance,
        lanes: Lanes::new(link.clone()),
        link,
        agent_version,
        os,
        open_streams: AtomicU64::new(0),
        reserved: AtomicU32::new(0),
        close: Close::default(),
        ended: CancellationToken::new(),
    });
    let joined = tunnels.registry.join(&tunnel);
    check(&tunnels, id, secret_hash).await?;
    Ok(Authenticated::Tunnel(joined))
}

async fn check(
    tunnels: &Tunnels,
    id: AuthtokenId,
    secret_hash: [u8; 32],
) -> Result<(), (Code, String)> {
    let refused = |code: Code| Err((code, code.meaning().to_owned()));
    match tunnels.store.authtoken(id).await {
        // A wrong secret and an unknown id look alike.
        Ok(Some(record)) if !secret::equal(&record.secret_hash, &secret_hash) => {
            refused(Code::AuthtokenUnknown)
        }
        Ok(Some(record)) if record.revoked_at.is_some() => refused(Code::AuthtokenRevoked),
        Ok(Some(_)) => Ok(()),
        Ok(None) => refused(Code::AuthtokenUnknown),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "authtoken not read"
            );
            let code = match error {
                StoreError::Full(_) => Code::StoreFull,
                StoreError::Unavailable(_)
                | StoreError::NewerSchema { .. }
                | StoreError::Unreadable { .. }
                | StoreError::RevokedMeanwhile => Code::StoreUnavailable,
            };
            refused(code)
        }
    }
}

/// Proves the path, then claims and takes the endpoint, one bind of this edge at a time.
async fn bind(
    tunnels: Tunnels,
    tunnel: Arc<Tunnel>,
    request: BindRequest,
) -> Result<(Granted, CancellationToken), Refusal> {
    let nowhere = EndpointId::from_bytes([0; 20]);
    AgentStream::probe(&tunnel.link, nowhere, request.generation)
        .await
        .map_err(|failed| Refusal::new(failed.code, failed.message))?;
    let superseded = CancellationToken::new();
    let binding = Binding {
        tunnel: Arc::clone(&tunnel),
        generation: request.generation,
        pooling: request.pooling,
        serving: Serving::of(&request),
        superseded: superseded.clone(),
    };
    let refused = |code: Code| Refusal::new(code, code.meaning().to_owned());
    let asker = Asker {
        authtoken: tunnel.authtoken,
        instance: tunnel.instance,
    };
    let deciding = tunnels.deciding.lock().await;
    let granted = tunnels
        .binder
        .claim(asker, &request, |held, wanted| {
            tunnels.registry.check(held.id, &binding).map_err(refused)?;
            let others = tunnels.registry.others_serve(held.id, tunnel.instance);
            let is_same = held.access == wanted.access
                && held.kind == wanted.kind
                && held.networks == wanted.networks;
            if others && !is_same {
                let message =
                    "the agents that share this name must ask for the same kind, login and networks"
                        .to_owned();
                return Err(Refusal::new(Code::NameTaken, message));
            }
            Ok(())
        })
        .await?;
    tunnels
        .registry
        .bind(granted.endpoint.id, binding)
        .map_err(refused)?;
    drop(deciding);
    (tunnels.settled)(granted.endpoint.clone()).await;
    if let Some(ports) = &tunnels.binder.ports {
        ports.serve(&granted.endpoint);
    }
    Ok((granted, superseded))
}

/// Resolves once the tunnel is ordered to close; never for one that does not exist yet.
async fn ordered(tunnel: Option<&Tunnel>) -> Code {
    match tunnel {
        Some(tunnel) => tunnel.close.given().await,
        None => std::future::pending().await,
    }
}

/// Resolves once the tunnel of a lane has ended.
async fn ended(tunnel: Option<&Tunnel>) {
    match tunnel {
        Some(tunnel) => tunnel.ended.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Resolves when the agent is to be asked for more links.
async fn wanted(tunnel: Option<&Tunnel>) -> u32 {
    match tunnel {
        Some(tunnel) => tunnel.lanes.wanted().await,
        None => std::future::pending().await,
    }
}

/// Resolves once no visitor can need the tunnel any more: a request that was accepted in the last
/// moment still wants one.
async fn dispensable(shutdown: &Shutdown, tunnel: Option<&Tunnel>) {
    shutdown.emptied().await;
    while tunnel.is_some_and(|tunnel| tunnel.open_streams.load(Ordering::Relaxed) > 0) {
        tokio::time::sleep(QUIET_LOOK).await;
    }
}

/// How long an agent may take to close after our close frame.
const GOODBYE: Duration = Duration::from_secs(1);
/// Of a lane that carries nothing.
const LANE_IDLE: Duration = Duration::from_mins(1);
/// Only while draining, when an exchange's end need not be noticed at once.
const QUIET_LOOK: Duration = Duration::from_millis(50);
