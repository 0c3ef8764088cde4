//! Further links of one tunnel, which the edge asks for when its cores have use for them. Each carries
//! streams, ends by itself, and is missed by nobody: what it carried is reset, the rest goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proto::control::agent::{Config, Event};
use proto::id::TunnelId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::silence;
use super::tunnel::accept_streams;
use crate::control;
use crate::forward::Routes;
use crate::link::{Kind, Link, LinkStream, Target};
use crate::status::Status;

/// How to make lanes of one tunnel. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    pub(super) target: Target,
    pub(super) kind: Kind,
    pub(super) identity: Config,
    pub(super) routes: Routes,
    pub(super) status: Status,
    /// Streams that are being served, of all links of the tunnel.
    pub(super) streams: TaskTracker,
    pub(super) tasks: TaskTracker,
    pub(super) end: CancellationToken,
    pub(super) open: Arc<AtomicU32>,
}

impl Lanes {
    /// Opens lanes until there are so many, within the agent's own bound. What does not come about is
    /// asked for again by the edge.
    pub(super) fn widen(&self, tunnel: TunnelId, lanes: u32) {
        while self.take_place(lanes.min(LANES_MAX)) {
            let (this, end) = (self.clone(), self.end.clone());
            let serve = async move {
                let _place = Place(Arc::clone(&this.open));
                this.serve(tunnel).await;
            };
            self.tasks.spawn(end.run_until_cancelled_owned(serve));
        }
    }

    fn take_place(&self, max: u32) -> bool {
        let more = |open: u32| (open < max).then_some(open + 1);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// One lane, from its dial to its end.
    async fn serve(self, tunnel: TunnelId) {
        let Self {
            target,
            kind,
            mut identity,
            routes,
            status,
            streams,
            end,
            ..
        } = self;
        let link = match Link::dial_as(kind, &target).await {
            Ok(link) => link,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "no further link");
                return;
            }
        };
        let Ok(LinkStream { receive, send }) = link.open().await else {
            return;
        };
        identity.joins = Some(tunnel);
        let (commands, command_receiver) = mpsc::channel(QUEUE_MAX);
        let (event_sender, mut events) = mpsc::channel(QUEUE_MAX);
        let control = control::drive(receive, send, identity, command_receiver, event_sender);
        let carry = async {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Authenticated { .. } => break,
                    Event::Welcomed { .. } => {}
                    other @ (Event::Widen { .. }
                    | Event::Bound { .. }
                    | Event::BindRefused { .. }
                    | Event::Unbound { .. }
                    | Event::Probed { .. }
                    | Event::Drain { .. }
                    | Event::Closed { .. }) => {
                        tracing::debug!(?other, "the edge takes no further link");
                        return;
                    }
                }
            }
            tracing::debug!(%tunnel, link = kind.name(), "one link more");
            let silent = silence::fell_silent(link.clone(), streams.clone(), commands.clone());
            let accept = accept_streams(link.clone(), routes, status, streams, end);
            // What else the edge says on this control stream is said on the first one, too.
            let listen = async { while events.recv().await.is_some() {} };
            tokio::select! {
                () = silent => {}
                () = accept => {}
                () = listen => {}
            }
        };
        tokio::select! {
            () = control => {}
            () = carry => {}
        }
        link.close().await;
    }
}

/// A lane's place among those that may be open; freed when dropped.
struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Links of a tunnel beside the first, whatever an edge asks for.
const LANES_MAX: u32 = 7;
const QUEUE_MAX: usize = 64;
