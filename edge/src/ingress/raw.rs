//! Connections of raw bytes: TCP and TLS endpoints. The same story as a request's, without HTTP:
//!
//! permit → pick → open → carry
//!
//! Every end but the peers' own is a reset, on both legs: here nothing else could say that bytes are
//! missing.

pub(crate) mod carry;
mod client;
mod record;
mod tally;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use proto::code::Code;
use proto::head::{StreamHead, StreamKind};

use crate::auth::Permit;
use crate::ingress::Ingress;
use crate::ingress::forward::code_of;
use crate::ingress::pick::Picking;
use crate::ingress::proxied::Ends;
use crate::ingress::raw::carry::{Counts, End};
use crate::tunnel::lanes::{Carried, Lane};
use crate::tunnel::registry::{Registry, Slot, Tunnel};
use crate::tunnel::stream::{AgentStream, NotOpened};

pub(crate) use client::ClientIo;
pub(crate) use record::Record;
pub(crate) use tally::Tally;

/// Serves one connection that was let in, to its end, and writes its record.
///
/// # Errors
/// The client as it was and why, when there is no stream to its upstream: nothing was read or written.
pub(crate) async fn serve(
    ingress: &Ingress,
    mut permit: Permit,
    client: ClientIo,
    early: BytesMut,
    record: Record,
) -> Result<(), (ClientIo, Code)> {
    let opened = open(&mut permit, &ingress.registry, record.ends()).await;
    let (stream, held) = match opened {
        Ok(opened) => opened,
        Err(code) => {
            record.refused(ingress, code);
            return Err((client, code));
        }
    };
    let counts = Counts::default();
    let counted = ingress.raw.count();
    let drain = &ingress.shutdown;
    let end = carry::carry(&mut permit, client, early, stream, &counts, drain).await;
    if end == End::Drained {
        ingress.raw.note_ended();
    }
    drop((held, permit, counted));
    record.end(ingress, &counts, end);
    Ok(())
}

/// What a connection holds of its tunnel.
type Held = (Open, Slot);

/// Counts a connection on its tunnel until dropped.
#[derive(Debug)]
struct Open {
    tunnel: Arc<Tunnel>,
    _on_lane: Carried,
}

impl Open {
    fn on(tunnel: &Arc<Tunnel>, lane: &Arc<Lane>) -> Self {
        tunnel.open_streams.fetch_add(1, Ordering::Relaxed);
        Self {
            tunnel: Arc::clone(tunnel),
            _on_lane: Carried::on(lane),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tunnel.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Picks a tunnel and opens a stream. Nothing of the client has been sent by then, so an agent that does
/// not get through, for whatever reason, is left, and the next one is asked.
async fn open(
    permit: &mut Permit,
    registry: &Registry,
    ends: Ends,
) -> Result<(AgentStream, Held), Code> {
    let endpoint = permit.endpoint().id;
    let mut picking = Picking::new(registry, endpoint);
    loop {
        let (binding, lane) = picking.next(permit).await?;
        let tunnel = &binding.tunnel;
        let head = StreamHead {
            proxy: binding.proxy_addrs(ends.client, ends.edge),
            ..StreamHead::new(StreamKind::Raw, endpoint, binding.generation)
        };
        let opened = match tunnel.reserve() {
            Some(slot) => {
                let open = Open::on(tunnel, &lane);
                tokio::select! {
                    biased;
                    reason = permit.cut() => return Err(code_of(reason)),
                    stream = AgentStream::open(&lane.link, &head) => stream,
                }
                .map(|stream| (stream, (open, slot)))
            }
            None => Err(NotOpened::new(Code::TunnelBusy, "")),
        };
        match opened {
            Ok(opened) => {
                tunnel.lanes.opened(&lane);
                return Ok(opened);
            }
            Err(refused) => picking.refused(&binding, &lane, &refused),
        }
    }
}
