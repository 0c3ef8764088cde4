//! One record per public request, whatever its end. The only place, beside `debug`, where an address
//! or a path is logged; the query never is.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};
use proto::id::{EndpointId, RequestId, SessionId};

use crate::clock::Clock;
use crate::ingress::connection::{Connection, Version};

/// What is known of a request so far.
#[derive(Debug)]
pub(crate) struct Record {
    begun: Instant,
    request_id: RequestId,
    client: IpAddr,
    version: Version,
    method: Method,
    path: String,
    host: String,
    endpoint: Option<EndpointId>,
    session: Option<SessionId>,
}

impl Record {
    pub(crate) fn begin<B>(
        clock: Clock,
        connection: &Connection,
        request: &Request<B>,
        request_id: RequestId,
    ) -> Self {
        Self {
            begun: clock.monotonic(),
            request_id,
            client: connection.peer.ip(),
            version: connection.version,
            method: request.method().clone(),
            path: clip(request.uri().path()).to_owned(),
            host: String::new(),
            endpoint: None,
            session: None,
        }
    }

    pub(crate) fn host(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    pub(crate) fn endpoint(&mut self, endpoint: EndpointId) {
        self.endpoint = Some(endpoint);
    }

    pub(crate) fn session(&mut self, session: Option<SessionId>) {
        self.session = session;
    }

    /// Writes the record: the response's head is known. Gives how long that took.
    pub(crate) fn end(self, clock: Clock, status: StatusCode) -> Duration {
        let elapsed = clock.monotonic().duration_since(self.begun);
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let version = match self.version {
            Version::Http1 => "1.1",
            Version::Http2 => "2",
        };
        let endpoint = self.endpoint.map(tracing::field::display);
        let session = self.session.map(tracing::field::display);
        tracing::info!(
            target: ACCESS,
            {
            request.id = %self.request_id,
            client.address = %self.client,
            http.version = version,
            http.method = %self.method,
            http.path = self.path,
            http.host = self.host,
            endpoint.id = endpoint,
            session.id = session,
            http.status = status.as_u16(),
            elapsed_us,
            },
            "request"
        );
        elapsed
    }
}

/// Cuts a path to what is logged of it.
fn clip(path: &str) -> &str {
    path.get(..path.floor_char_boundary(PATH_BYTES_MAX))
        .unwrap_or_default()
}

/// Filter records by this target.
pub(crate) const ACCESS: &str = "access";
const PATH_BYTES_MAX: usize = 1024;
