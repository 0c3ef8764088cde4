//! Workers: one thread each, with a runtime and a TCP listener of its own. What they share is
//! `Send + Sync` and passed in.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

use crate::cert::Public;
use crate::ingress::listener::{self, Admission};
use crate::ingress::{Ingress, http};

/// The threads that serve public connections.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
    halt: CancellationToken,
}

impl Workers {
    /// Starts one worker per listener.
    pub(crate) fn start(
        listeners: Vec<TcpListener>,
        ingress: &Arc<Ingress>,
        tls: &Public,
        admission: &Arc<Admission>,
    ) -> io::Result<Self> {
        let halt = CancellationToken::new();
        let mut threads = Vec::with_capacity(listeners.len());
        for (number, listener) in listeners.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (ingress, tls, admission, halt) = (
                Arc::clone(ingress),
                tls.clone(),
                Arc::clone(admission),
                halt.clone(),
            );
            let work = move || {
                runtime.block_on(async {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => serve(listener, ingress, tls, admission).await,
                        Err(error) => {
                            tracing::error!(%error, worker = number, "worker has no listener");
                        }
                    }
                    // Connections drain on this runtime: it lives until they have, or may not longer.
                    halt.cancelled().await;
                });
                runtime.shutdown_background();
            };
            threads.push(
                std::thread::Builder::new()
                    .name(format!("worker-{number}"))
                    .spawn(work)?,
            );
        }
        Ok(Self { threads, halt })
    }

    /// Ends the workers, with whatever has not drained. Blocks until they are gone.
    pub(crate) fn halt(self) {
        self.halt.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    ingress: Arc<Ingress>,
    tls: Public,
    admission: Arc<Admission>,
) {
    let shutdown = ingress.shutdown.clone();
    let tasks = shutdown.clone();
    let serve_one = move |stream, peer, place| {
        tasks.spawn(http::serve(
            Arc::clone(&ingress),
            tls.clone(),
            stream,
            peer,
            place,
        ));
    };
    listener::accept(listener, admission, shutdown, serve_one).await;
}
