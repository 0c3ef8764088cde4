//! Which tunnel carries what was let in: one after the other of those that serve the endpoint, until one
//! gets through. Whoever opens on it says how that went.

use std::sync::Arc;

use proto::code::Code;
use proto::id::{EndpointId, TunnelId};

use crate::auth::Permit;
use crate::ingress::forward::code_of;
use crate::tunnel::lanes::Lane;
use crate::tunnel::registry::{Binding, Registry};
use crate::tunnel::stream::NotOpened;

/// The tunnels of one endpoint, each picked once. Nothing of the client has been sent while this is
/// used: an agent that does not get through, for whatever reason, is left, and the next one is asked.
#[derive(Debug)]
pub(super) struct Picking<'r> {
    registry: &'r Registry,
    endpoint: EndpointId,
    tried: Vec<TunnelId>,
    failed: Code,
}

impl<'r> Picking<'r> {
    pub(super) const fn new(registry: &'r Registry, endpoint: EndpointId) -> Self {
        Self {
            registry,
            endpoint,
            tried: Vec::new(),
            failed: Code::EndpointOffline,
        }
    }

    /// The least loaded tunnel that was not tried yet, and the link of it to use. The first time it waits
    /// a little for an agent that is on its way back.
    ///
    /// # Errors
    /// Why the last one did not get through, `endpoint_offline` when none did, or why the permit ended.
    pub(super) async fn next(
        &mut self,
        permit: &mut Permit,
    ) -> Result<(Arc<Binding>, Arc<Lane>), Code> {
        let mut picked = self.pick();
        if picked.is_none() && self.tried.is_empty() {
            // Boxed: it is rare, and every connection has room for what is not.
            Box::pin(self.returned(permit)).await?;
            picked = self.pick();
        }
        let binding = picked.ok_or(self.failed)?;
        let lane = binding.tunnel.lanes.pick().ok_or(Code::Internal)?;
        Ok((binding, lane))
    }

    fn pick(&self) -> Option<Arc<Binding>> {
        self.registry.pick(self.endpoint, &self.tried)
    }

    async fn returned(&self, permit: &mut Permit) -> Result<(), Code> {
        tokio::select! {
            biased;
            reason = permit.cut() => Err(code_of(reason)),
            () = self.registry.returned(self.endpoint) => Ok(()),
        }
    }

    /// This one did not get through. Where only one of its links was lost, the tunnel stands and may be
    /// picked again.
    pub(super) fn refused(&mut self, binding: &Binding, lane: &Lane, refused: &NotOpened) {
        tracing::debug!(code = %refused.code, message = refused.message, "stream not opened");
        let tunnel = &binding.tunnel;
        // A lane that is just ending may take the stream along before it is known to have ended.
        let is_lane_lost = refused.is_link_lost || refused.code == Code::AgentGone;
        if is_lane_lost && tunnel.lanes.remove(lane.number) {
            return;
        }
        if refused.is_link_lost {
            self.registry.unbind(self.endpoint, tunnel.id);
        } else {
            self.failed = refused.code;
        }
        self.tried.push(tunnel.id);
    }
}
