//! Whether the local app is up, as the last attempts to connect have shown.

use proto::code::Code;
use tokio::sync::watch;

use super::{Connection, DialError, Tls, Upstream};

/// An upstream whose health is remembered. Shared by every stream that dials it.
#[derive(Debug)]
pub(crate) struct Watched {
    upstream: Upstream,
    tls: Option<Tls>,
    health: watch::Sender<Health>,
}

/// What the last attempt to connect showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Health {
    /// Nobody has tried.
    Unknown,
    /// It accepts connections.
    Up,
    /// It does not.
    Down {
        code: Code,
        message: String,
        next_step: String,
    },
}

impl Watched {
    /// `tls` is how to shake hands, where the upstream speaks TLS.
    pub(crate) fn new(upstream: Upstream, tls: Option<Tls>) -> Self {
        Self {
            upstream,
            tls,
            health: watch::Sender::new(Health::Unknown),
        }
    }

    pub(crate) const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Dials as [`Upstream::dial`] does, and remembers how it went.
    ///
    /// # Errors
    /// The dial's.
    pub(crate) async fn dial(&self) -> Result<Connection, DialError> {
        let dialled = self.upstream.dial(self.tls.as_ref()).await;
        let health = match &dialled {
            Ok(_) => Health::Up,
            Err(error) => Health::Down {
                code: error.code(),
                message: error.to_string(),
                next_step: error.next_step(),
            },
        };
        // Ten thousand failures are one change.
        self.health.send_if_modified(|current| {
            let is_news = std::mem::discriminant(current) != std::mem::discriminant(&health);
            *current = health;
            is_news
        });
        dialled
    }

    /// Tells changes between up and down.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}
