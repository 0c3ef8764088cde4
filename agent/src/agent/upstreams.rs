//! When the local apps go and come back: said once each, as it happens.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::Served;
use crate::status::{Event, Status, Trouble};
use crate::upstream::{Health, Watched};

/// Tries the local app once, then tells each change until the stop. While it is down it is tried
/// again and again, so that its return is told without a visitor's help.
pub(super) async fn watch(watched: Arc<Watched>, status: Status, stop: CancellationToken) {
    let _ = stop.run_until_cancelled(tell(&watched, &status)).await;
}

async fn tell(watched: &Watched, status: &Status) {
    let mut health = watched.health();
    let mut was_down = false;
    probe(watched).await;
    loop {
        let now = health.borrow_and_update().clone();
        let upstream = watched.upstream().to_string();
        if let Some(trouble) = trouble_of(&now) {
            if !was_down {
                status.say(Event::UpstreamDown { upstream, trouble });
            }
            was_down = true;
            tokio::time::sleep(RETRY_EVERY).await;
            probe(watched).await;
        } else {
            if was_down {
                status.say(Event::UpstreamUp { upstream });
            }
            was_down = false;
            if health.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Dials and hangs up, politely: an app behind TLS would else note a broken connection. The outcome is in
/// the health.
async fn probe(watched: &Watched) {
    if let Ok(mut connection) = watched.dial().await {
        let _ = tokio::time::timeout(HANG_UP_WITHIN, connection.shutdown()).await;
    }
}

/// Resolves with the first local app that is found down.
pub(super) async fn first_down(endpoints: &[Served]) -> Trouble {
    let each = endpoints.iter().map(|served| {
        let mut health = served.watched.health();
        Box::pin(async move {
            loop {
                let trouble = trouble_of(&health.borrow_and_update());
                if let Some(trouble) = trouble {
                    return trouble;
                }
                if health.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    });
    let each: Vec<_> = each.collect();
    if each.is_empty() {
        return std::future::pending().await;
    }
    select_all(each).await.0
}

fn trouble_of(health: &Health) -> Option<Trouble> {
    match health {
        Health::Unknown | Health::Up => None,
        Health::Down {
            code,
            message,
            next_step,
        } => Some(Trouble {
            code: *code,
            message: message.clone(),
            next_step: next_step.clone(),
        }),
    }
}

const HANG_UP_WITHIN: Duration = Duration::from_secs(1);
const RETRY_EVERY: Duration = Duration::from_secs(2);
