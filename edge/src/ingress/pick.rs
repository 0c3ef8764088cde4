//! Which tunnel carries what was let in: one after the other of those that serve the endpoint, until one
//! gets through. Whoever opens on it says how that went.

use std::sync::Arc;

use proto::code::Code;
use proto::id::{EndpointId, TunnelId};

use crate::auth::Permit;
use crate::ingress::forward::code_of;
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

    /// The least loaded tunnel that was not tried yet. The first time it waits a little for an agent
    /// that is on its way back.
    ///
    /// # Errors
    /// Why the last one did not get through, `endpoint_offline` when none did, or why the permit ended.
    pub(super) async fn next(&mut self, permit: &mut Permit) -> Result<Arc<Binding>, Code> {
        if let Some(binding) = self.registry.pick(self.endpoint, &self.tried) {
            return Ok(binding);
        }
        if !self.tried.is_empty() {
            return Err(self.failed);
        }
        tokio::select! {
            biased;
            reason = permit.cut() => return Err(code_of(reason)),
            () = self.registry.returned(self.endpoint) => {}
        }
        self.registry
            .pick(self.endpoint, &self.tried)
            .ok_or(self.failed)
    }

    /// This one did not get through.
    pub(super) fn refused(&mut self, binding: &Binding, refused: &NotOpened) {
        tracing::debug!(code = %refused.code, message = refused.message, "stream not opened");
        let tunnel = binding.tunnel.id;
        if refused.is_link_lost {
            self.registry.unbind(self.endpoint, tunnel);
        } else {
            self.failed = refused.code;
        }
        self.tried.push(tunnel);
    }
}
