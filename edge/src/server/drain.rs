//! The end of an edge, in order: no more visitors; those inside finish, within a bound; what is left is
//! cut; then the tunnels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, interval_at, sleep_until};

use crate::ingress::Ingress;
use crate::ingress::listener::Admission;
use crate::model::session::CutReason;
use crate::session::live::Live;

/// Who is inside, and what can end it.
pub(super) struct Inside {
    pub(super) ingress: Arc<Ingress>,
    pub(super) admission: Arc<Admission>,
    pub(super) live: Arc<Live>,
    /// How many exchanges were cut.
    pub(super) cut: Arc<AtomicU64>,
}

/// What is not finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) exchanges: u64,
    /// Of them, connections of TCP and TLS endpoints.
    pub(crate) raw: u64,
}

impl Inside {
    /// Closes the doors and waits until everybody has left; at `limit`, or as soon as `now` resolves,
    /// what is left is cut. `say` hears, once a second, what is open and how much time is left.
    pub(super) async fn leave(
        &self,
        limit: Duration,
        now: impl Future<Output = ()>,
        mut say: impl FnMut(Open, Duration),
    ) {
        self.ingress.shutdown.begin();
        let until = Instant::now() + limit;
        let mut every = interval_at(Instant::now() + SAY_EVERY, SAY_EVERY);
        let mut now = std::pin::pin!(now);
        loop {
            tokio::select! {
                biased;
                () = self.everybody_left() => break,
                () = now.as_mut() => {
                    self.cut();
                    break;
                }
                () = sleep_until(until) => {
                    let exchanges = self.exchanges();
                    tracing::warn!(exchanges, "some exchanges did not finish in time");
                    self.cut();
                    // A moment for Close frames and resets to go out.
                    let _ = tokio::time::timeout(CUT_WITHIN, self.everybody_left()).await;
                    break;
                }
                _ = every.tick() => {
                    let left = until.saturating_duration_since(Instant::now());
                    let open = Open {
                        exchanges: self.exchanges(),
                        raw: self.ingress.raw.open(),
                    };
                    say(open, left);
                }
            }
        }
        tracing::info!(
            exchanges_cut = self.cut.load(Ordering::Relaxed),
            raw_ended = self.ingress.raw.ended(),
            "drained"
        );
        self.ingress.shutdown.set_emptied();
    }

    fn exchanges(&self) -> u64 {
        let tunnels = self.ingress.registry.all();
        tunnels.iter().map(|tunnel| tunnel.load()).sum()
    }

    async fn everybody_left(&self) {
        while self.admission.held() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Every exchange loses its permit, with or without a session.
    fn cut(&self) {
        self.cut.store(self.exchanges(), Ordering::Relaxed);
        self.live.end_all(CutReason::Shutdown);
        self.ingress.routes.end_all();
    }
}

const SAY_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const CUT_WITHIN: Duration = Duration::from_secs(1);
