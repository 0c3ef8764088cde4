//! One tunnel: a verified link, its control stream, the endpoints bound on it and the streams that the
//! edge opens. Dropped, it resets everything at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::bind::{BindRequest, Notice};
use proto::code::Code;
use proto::control::agent::{Config, Event};
use proto::id::{EndpointId, TunnelId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::lanes::Lanes;
use super::{Failure, silence};
use crate::control::{self, Command};
use crate::forward::{self, FromEdge, Routes, ToEdge};
use crate::link::{DialError, Kind, Link, LinkEnded, LinkReceive, LinkSend, LinkStream, Target};
use crate::status::{Status, Trouble};
use crate::upstream::Watched;

/// An authenticated connection to one edge.
#[derive(Debug)]
pub(super) struct Tunnel {
    link: Link,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    bound: Vec<Bound>,
    routes: watch::Sender<HashMap<EndpointId, Arc<Watched>>>,
    other_edges: Vec<String>,
    /// Streams that are being served.
    streams: TaskTracker,
    /// Control and acceptance.
    tasks: TaskTracker,
    /// Set before a link is closed that is dead.
    is_silent: Arc<AtomicBool>,
    /// What the edge calls it.
    id: Option<TunnelId>,
    lanes: Lanes,
    _ends_tasks: DropGuard,
}

/// An endpoint that the edge serves through this tunnel.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) endpoint: EndpointId,
    pub(super) url: String,
    pub(super) watched: Arc<Watched>,
    pub(super) notices: Vec<Notice>,
}

/// What happens to a tunnel that serves.
#[derive(Debug)]
pub(super) enum Change {
    /// The edge will stop; it knows of these.
    Drain(Vec<String>),
    /// The endpoint of this upstream is gone for good.
    Lost(Arc<Watched>, Trouble),
    /// The tunnel has ended.
    Ended(Failure),
}

impl Tunnel {
    /// Authenticates on a link.
    pub(super) async fn open(
        link: Link,
        target: &Target,
        identity: Config,
        status: &Status,
    ) -> Result<Self, Failure> {
        let lost = |ended: LinkEnded| Failure::of(Trouble::new(Code::EdgeUnreachable, ended.why));
        let LinkStream { receive, send } = link.open().await.map_err(lost)?;
        let (commands, command_receiver) = mpsc::channel(QUEUE_MAX);
        let (event_sender, events) = mpsc::channel(QUEUE_MAX);
        let (routes, route_receiver) = watch::channel(HashMap::new());
        let (streams, tasks) = (TaskTracker::new(), TaskTracker::new());
        let end = CancellationToken::new();
        let lanes = Lanes {
            target: target.clone(),
            kind: link.kind(),
            identity: identity.clone(),
            routes: Routes::new(route_receiver.clone()),
            status: status.clone(),
            streams: streams.clone(),
            tasks: tasks.clone(),
            end: end.clone(),
            open: Arc::default(),
        };
        let drive = control::drive(receive, send, identity, command_receiver, event_sender);
        tasks.spawn(end.clone().run_until_cancelled_owned(drive));
        let accept = accept_streams(
            link.clone(),
            Routes::new(route_receiver),
            status.clone(),
            streams.clone(),
            end.clone(),
        );
        tasks.spawn(end.clone().run_until_cancelled_owned(accept));
        let is_silent = Arc::new(AtomicBool::new(false));
        let watch = {
            let (link, is_silent) = (link.clone(), Arc::clone(&is_silent));
            let silence = silence::fell_silent(link.clone(), streams.clone(), commands.clone());
            async move {
                silence.await;
                is_silent.store(true, Ordering::Relaxed);
                link.close().await;
            }
        };
        tasks.spawn(end.clone().run_until_cancelled_owned(watch));
        let mut tunnel = Self {
            link,
            commands,
            events,
            bound: Vec::new(),
            routes,
            other_edges: Vec::new(),
            streams,
            tasks,
            is_silent,
            id: None,
            lanes,
            _ends_tasks: end.drop_guard(),
        };
        tunnel.authenticated().await?;
        Ok(tunnel)
    }

    /// Asks for endpoints and waits for every answer. Gives those that the edge will never serve, by
    /// the place of their wish.
    ///
    /// # Errors
    /// When the tunnel ended meanwhile, or an endpoint may be served later.
    pub(super) async fn bind(
        &mut self,
        wishes: Vec<(BindRequest, Arc<Watched>)>,
    ) -> Result<Vec<(usize, Trouble)>, Failure> {
        let mut waiting: HashMap<u32, (usize, Arc<Watched>)> = HashMap::new();
        for (place, (request, watched)) in wishes.into_iter().enumerate() {
            waiting.insert(request.request, (place, watched));
            if self.commands.send(Command::Bind(request)).await.is_err() {
                break;
            }
        }
        let mut refused = Vec::new();
        while !waiting.is_empty() {
            match self.event().await {
                Event::Bound {
                    request,
                    endpoint,
                    url,
                    notices,
                } => {
                    let Some((_, watched)) = waiting.remove(&request) else {
                        continue;
                    };
                    self.routes.send_modify(|routes| {
                        routes.insert(endpoint, Arc::clone(&watched));
                    });
                    self.bound.push(Bound {
                        endpoint,
                        url,
                        watched,
                        notices,
                    });
                }
                Event::BindRefused {
                    request,
                    code,
                    message,
                    next_step,
                } => {
                    let Some((place, _)) = waiting.remove(&request) else {
                        continue;
                    };
                    let trouble = told(code, message, next_step);
                    if !code.is_permanent() {
                        self.goodbye().await;
                        return Err(Failure::of(trouble));
                    }
                    refused.push((place, trouble));
                }
                other @ (Event::Welcomed { .. }
                | Event::Authenticated { .. }
                | Event::Widen { .. }
                | Event::Unbound { .. }
                | Event::Probed { .. }
                | Event::Drain { .. }
                | Event::Closed { .. }) => {
                    if let Some(change) = self.change(other) {
                        return Err(change.into_failure());
                    }
                }
            }
        }
        refused.sort_by_key(|(place, _)| *place);
        Ok(refused)
    }

    /// Waits for the next change. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            let event = self.event().await;
            if let Some(change) = self.change(event) {
                return change;
            }
        }
    }

    /// Says good-bye and ends the link; what is open is reset.
    pub(super) async fn close(mut self) {
        self.goodbye().await;
    }

    /// Goes on serving until another tunnel has taken over and what is open here has ended, for which
    /// it has so long, or the edge ends it, or the agent stops.
    pub(super) async fn retire(
        mut self,
        replaced: CancellationToken,
        stop: CancellationToken,
        within: Option<Duration>,
    ) {
        let streams = self.streams.clone();
        let finished = async {
            replaced.cancelled().await;
            streams.close();
            match within {
                Some(within) => {
                    let _ = tokio::time::timeout(within, streams.wait()).await;
                }
                None => streams.wait().await,
            }
        };
        let ended = async {
            // Taken over by the next tunnel of this very agent: its endpoints go, its streams stay.
            while !matches!(self.next().await, Change::Ended(_)) {}
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = finished => {}
            () = ended => {}
        }
        self.goodbye().await;
    }

    pub(super) fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Where else the cluster can be reached.
    pub(super) fn other_edges(&self) -> &[String] {
        &self.other_edges
    }

    pub(super) fn edge(&self) -> String {
        self.link.peer()
    }

    pub(super) const fn kind(&self) -> Kind {
        self.link.kind()
    }

    /// See [`Link::is_second_best`].
    pub(super) fn is_second_best(&self, target: &Target) -> bool {
        self.link.is_second_best(target)
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.link.round_trip()
    }

    async fn authenticated(&mut self) -> Result<(), Failure> {
        loop {
            let event = self.event().await;
            if let Event::Authenticated { tunnel } = event {
                self.id = Some(tunnel);
                tracing::info!(%tunnel, edge = %self.link.peer(), "tunnel authenticated");
                return Ok(());
            }
            if let Some(change) = self.change(event) {
                return Err(change.into_failure());
            }
        }
    }

    /// The next event; a link that ends without a word is one, too.
    async fn event(&mut self) -> Event {
        if let Some(event) = self.events.recv().await {
            return event;
        }
        let ended = tokio::time::timeout(CLOSED_WITHIN, self.link.closed()).await;
        let ended = ended.unwrap_or_else(|_| LinkEnded {
            why: "the edge closed the control stream".to_owned(),
            code: 0,
        });
        let ended = if self.is_silent.load(Ordering::Relaxed) {
            LinkEnded {
                why: "the edge fell silent".to_owned(),
                code: 0,
            }
        } else {
            ended
        };
        // A close frame may be lost with the link; the link's own close carries the same number.
        let number = u16::try_from(ended.code).ok();
        let code = number.and_then(Code::from_number);
        Event::Closed {
            code: code.unwrap_or(Code::EdgeUnreachable),
            message: code.map_or(ended.why, |code| code.meaning().to_owned()),
            retry: code.is_none_or(|code| !code.is_permanent()),
            by_peer: true,
        }
    }

    /// What an event means to whoever serves, if anything.
    fn change(&mut self, event: Event) -> Option<Change> {
        match event {
            Event::Welcomed { edges, edge, .. } => {
                tracing::debug!(%edge, "welcomed");
                self.other_edges = edges;
                None
            }
            Event::Widen { lanes } => {
                if let Some(tunnel) = self.id {
                    self.lanes.widen(tunnel, lanes);
                }
                None
            }
            Event::Drain { edges } => Some(Change::Drain(edges)),
            Event::Unbound {
                endpoint,
                code,
                message,
            } => {
                self.routes.send_modify(|routes| {
                    routes.remove(&endpoint);
                });
                let place = self
                    .bound
                    .iter()
                    .position(|bound| bound.endpoint == endpoint)?;
                let bound = self.bound.remove(place);
                let trouble = told(code, format!("{}: {message}", bound.url), String::new());
                Some(if code.is_permanent() {
                    Change::Lost(bound.watched, trouble)
                } else {
                    Change::Ended(Failure::of(trouble))
                })
            }
            Event::Closed {
                code,
                message,
                retry,
                ..
            } => Some(Change::Ended(Failure {
                trouble: told(code, message, String::new()),
                retry,
            })),
            Event::Authenticated { .. }
            | Event::Bound { .. }
            | Event::BindRefused { .. }
            | Event::Probed { .. } => None,
        }
    }

    /// Lets the close frame arrive before the link goes.
    async fn goodbye(&mut self) {
        if self.commands.send(Command::Close).await.is_ok() {
            let ended = async { while self.events.recv().await.is_some() {} };
            let _ = tokio::time::timeout(CLOSED_WITHIN, ended).await;
        }
        self.tasks.close();
        self.link.close().await;
    }
}

impl Change {
    fn into_failure(self) -> Failure {
        match self {
            Self::Ended(failure) => failure,
            Self::Lost(_, trouble) => Failure::of(trouble),
            Self::Drain(_) => Failure::of(Trouble::new(Code::EdgeDraining, "the edge is stopping")),
        }
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let code = match &error {
            DialError::Unreachable { .. } => Code::EdgeUnreachable,
            DialError::Untrusted { .. } => Code::EdgeUntrusted,
            DialError::UdpBlocked { .. } => Code::UdpBlocked,
            DialError::Proxy { code, .. } => *code,
            DialError::Unusable(_) => Code::ConfigInvalid,
        };
        Self::of(Trouble::new(code, error.to_string()))
    }
}

impl FromEdge for LinkReceive {
    async fn reset(&mut self) {
        Self::reset(self).await;
    }
}

impl ToEdge for LinkSend {
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        Self::stopped(self)
    }
}

/// Serves every stream that the edge opens on a link, each in a task of its own.
pub(super) async fn accept_streams(
    link: Link,
    routes: Routes,
    status: Status,
    streams: TaskTracker,
    end: CancellationToken,
) {
    while let Ok(LinkStream { receive, send }) = link.accept().await {
        let (routes, status, link) = (routes.clone(), status.clone(), link.clone());
        let serve = async move {
            let admit = || (!link.is_over()).then(|| status.count());
            if let Err(broken) = forward::forward(receive, send, &routes, admit).await {
                tracing::debug!(
                    error = &broken as &dyn std::error::Error,
                    "stream ended badly"
                );
            }
        };
        streams.spawn(end.clone().run_until_cancelled_owned(serve));
    }
}

/// What the edge said, with the code's own words where it said none.
fn told(code: Code, message: String, next_step: String) -> Trouble {
    let or = |text: String, own: &str| {
        if text.is_empty() {
            own.to_owned()
        } else {
            text
        }
    };
    Trouble {
        code,
        message: or(message, code.meaning()),
        next_step: or(next_step, code.next_step()),
    }
}

/// Every bind and every answer of a full tunnel fits, so that neither side of the channels waits for
/// the other.
const QUEUE_MAX: usize = 1024;
const CLOSED_WITHIN: Duration = Duration::from_millis(500);
