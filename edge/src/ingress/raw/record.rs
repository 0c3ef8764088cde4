//! One record per raw connection, whatever its end.

use std::time::Instant;

use proto::code::Code;
use proto::id::EndpointId;

use super::carry::{Counts, End};
use crate::clock::Clock;
use crate::ingress::Ingress;
use crate::ingress::proxied::Ends;
use crate::metrics::{Direction, RawEnd};

/// What is known of a connection so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    begun: Instant,
    ends: Ends,
    endpoint: EndpointId,
    protocol: &'static str,
}

impl Record {
    pub(crate) fn begin(
        clock: Clock,
        ends: Ends,
        endpoint: EndpointId,
        protocol: &'static str,
    ) -> Self {
        Self {
            begun: clock.monotonic(),
            ends,
            endpoint,
            protocol,
        }
    }

    pub(super) const fn ends(&self) -> Ends {
        self.ends
    }

    /// Nothing was carried.
    pub(crate) fn refused(self, ingress: &Ingress, code: Code) {
        ingress.metrics.raw_connection(RawEnd::Refused);
        self.write(ingress.clock, &Counts::default(), "refused", Some(code));
    }

    pub(super) fn end(self, ingress: &Ingress, counts: &Counts, end: End) {
        ingress.metrics.raw_connection(match end {
            End::Complete => RawEnd::Complete,
            End::ClientGone => RawEnd::ClientGone,
            End::UpstreamGone => RawEnd::UpstreamGone,
            End::Idle => RawEnd::Idle,
            End::Drained => RawEnd::Drained,
            End::Cut(_) => RawEnd::Cut,
        });
        let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        ingress.metrics.bytes(Direction::In, bytes(counts.up()));
        ingress.metrics.bytes(Direction::Out, bytes(counts.down()));
        self.write(ingress.clock, counts, end.as_str(), None);
    }

    fn write(self, clock: Clock, counts: &Counts, end: &'static str, code: Option<Code>) {
        let elapsed = clock.monotonic().duration_since(self.begun);
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let code = code.map(tracing::field::display);
        tracing::info!(
            target: ACCESS,
            {
            client.address = %self.ends.client.ip(),
            endpoint.id = %self.endpoint,
            protocol = self.protocol,
            bytes_up = counts.up(),
            bytes_down = counts.down(),
            end,
            code,
            elapsed_us,
            },
            "connection"
        );
    }
}

/// As requests: filter records by this target.
const ACCESS: &str = "access";
