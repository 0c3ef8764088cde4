//! Workers: one thread each, with a runtime, a TCP listener and a UDP socket of its own. What they
//! share is `Send + Sync` and passed in.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use proto::limits::STREAMS_PER_TUNNEL_MAX;
use tokio_util::sync::CancellationToken;

use crate::cert::Public;
use crate::ingress::listener::{self, Admission};
use crate::ingress::pool::Pool;
use crate::ingress::{Ingress, Worker, http};
use crate::tunnel::link::Seat;
use crate::tunnel::listen::Tunnels;

/// The threads that serve public connections.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
    halt: CancellationToken,
}

impl Workers {
    /// Starts one worker per listener; the first of them have a seat for agents each.
    pub(crate) fn start(
        listeners: Vec<TcpListener>,
        seats: Vec<Seat>,
        tunnels: &Tunnels,
        ingress: &Arc<Ingress>,
        tls: &Public,
        admission: &Arc<Admission>,
    ) -> io::Result<Self> {
        let halt = CancellationToken::new();
        let mut threads = Vec::with_capacity(listeners.len());
        let share = ingress
            .limits
            .exchanges_max
            .div_ceil(listeners.len().max(1));
        let idle_max = IDLE_UPSTREAMS_MAX.div_ceil(listeners.len().max(1));
        let mut seats = seats.into_iter();
        for (number, listener) in listeners.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            if let Some(seat) = seats.next() {
                let _within = runtime.enter();
                let agents = tunnels.clone().run(seat.open()?);
                tunnels.shutdown.spawn(agents);
            }
            let worker = Arc::new(Worker {
                ingress: Arc::clone(ingress),
                pool: Arc::new(Pool::new(idle_max)),
                exchanges: Arc::default(),
                exchanges_max: share,
            });
            let (tls, admission, halt) = (tls.clone(), Arc::clone(admission), halt.clone());
            let work = move || {
                runtime.block_on(async {
                    tokio::spawn(Arc::clone(&worker.pool).sweep());
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => serve(listener, worker, tls, admission).await,
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
    worker: Arc<Worker>,
    tls: Public,
    admission: Arc<Admission>,
) {
    let shutdown = worker.ingress.shutdown.clone();
    let tasks = shutdown.clone();
    let serve_one = move |stream, peer, place| {
        tasks.spawn(http::serve(
            Arc::clone(&worker),
            tls.clone(),
            stream,
            peer,
            place,
        ));
    };
    listener::accept(listener, admission, shutdown, serve_one).await;
}

/// Upstream connections that one endpoint's tunnel keeps idle, over all workers: half of its streams.
const IDLE_UPSTREAMS_MAX: usize = STREAMS_PER_TUNNEL_MAX as usize / 2;
