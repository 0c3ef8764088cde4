//! What a public TCP connection says first: the PROXY header of a listed proxy, then its TLS hello, read
//! over a prefix that is kept. The name in the hello decides: raw bytes of a TLS endpoint, or TLS that
//! this edge ends. A hello may come in any number of packets (post-quantum ones need two), within a
//! bound of bytes; the time is bounded by whoever calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use proto::code::Code;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::{StartHandshake, TlsStream};

use crate::auth::Permit;
use crate::cert::Public;
use crate::ingress::Ingress;
use crate::ingress::listener::Place;
use crate::ingress::proxied::{Ends, NotProxied};
use crate::ingress::raw::{self, ClientIo, Record};
use crate::metrics::NotServed;
use crate::model::endpoint::Termination;

/// A connection whose hello was heard.
#[expect(
    clippy::large_enum_variant,
    reason = "taken apart where it is received"
)]
pub(crate) enum Begun {
    /// TLS is up; what ALPN chose is spoken on it.
    Tls {
        stream: TlsStream<TcpStream>,
        ends: Ends,
        place: Place,
    },
    /// Bytes for a TLS endpoint that were let in.
    Raw {
        permit: Permit,
        client: ClientIo,
        /// What of the client's bytes was read already.
        early: BytesMut,
        record: Record,
        place: Place,
    },
}

/// Why a connection ends before anything is served. Whoever connected has been told by an alert, as
/// far as there is one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBegun {
    #[error("no header of a listed proxy")]
    NotProxied(#[from] NotProxied),
    #[error("no usable hello")]
    Hello(#[from] HelloError),
    #[error("TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    #[error("refused: {0}")]
    Refused(Code),
    #[error("too many connections behind a listed proxy from one address")]
    NoPlace,
}

/// Why bytes are no hello.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("the connection ended")]
    Ended,
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    #[error("more than {HELLO_BYTES_MAX} bytes")]
    TooLong,
    /// With the alert that says so.
    #[error("not TLS, or not as we speak it")]
    Wrong {
        #[source]
        source: rustls::Error,
        alert: Vec<u8>,
    },
}

impl NotBegun {
    /// What it is counted as.
    pub(crate) const fn counted(&self) -> NotServed {
        match self {
            Self::NotProxied(_) => NotServed::ProxyHeader,
            Self::Hello(_) => NotServed::Hello,
            Self::Handshake(_) => NotServed::Handshake,
            Self::Refused(_) => NotServed::Refused,
            Self::NoPlace => NotServed::TooMany,
        }
    }
}

/// Hears a connection out until it is known what it is for.
///
/// # Errors
/// [`NotBegun`]; the socket is closed then.
pub(crate) async fn begin(
    ingress: &Ingress,
    tls: &Public,
    mut stream: TcpStream,
    ends: Ends,
    place: Place,
) -> Result<Begun, NotBegun> {
    let mut received = BytesMut::new();
    let (ends, place) = ingress
        .proxies
        .identify(&mut stream, &mut received, ends, place)
        .await?
        .ok_or(NotBegun::NoPlace)?;
    let accepted = match read(&mut stream, &mut received).await {
        Ok(accepted) => accepted,
        Err(error) => {
            match &error {
                HelloError::Wrong { alert, .. } => goodbye(stream, alert).await,
                HelloError::TooLong => goodbye(stream, &Alert::DecodeError.record()).await,
                HelloError::Ended | HelloError::Broken(_) => {}
            }
            return Err(error.into());
        }
    };
    let found = accepted
        .client_hello()
        .server_name()
        .and_then(|name| ingress.routes.find_tls(&canonical(name)));
    let Some((route, termination)) = found else {
        let config = tls.choose(&accepted.client_hello());
        let stream = finish(accepted, stream, &config).await?;
        return Ok(Begun::Tls {
            stream,
            ends,
            place,
        });
    };
    let record = Record::begin(ingress.clock, ends, route.endpoint.id, "tls");
    let permit = match ingress.auth.authorize_connection(&route, ends.client.ip()) {
        Ok(permit) => permit,
        Err(code) => {
            record.refused(ingress, code);
            let alert = if code == Code::UnknownHost {
                Alert::UnrecognizedName
            } else {
                Alert::AccessDenied
            };
            goodbye(stream, &alert.record()).await;
            return Err(NotBegun::Refused(code));
        }
    };
    let (client, early) = match termination {
        Termination::Beyond => (ClientIo::Plain(stream), received),
        Termination::Edge => {
            let stream = finish(accepted, stream, &ingress.raw_tls).await?;
            (ClientIo::Tls(stream), BytesMut::new())
        }
    };
    Ok(Begun::Raw {
        permit,
        client,
        early,
        record,
        place,
    })
}

/// Serves the raw bytes of a TLS endpoint. One whose upstream is not there is told by an alert, where the
/// hello is all that has been said.
pub(crate) async fn serve_raw(
    ingress: &Ingress,
    permit: Permit,
    client: ClientIo,
    early: BytesMut,
    record: Record,
) {
    let Err((client, _)) = raw::serve(ingress, permit, client, early, record).await else {
        return;
    };
    if let ClientIo::Plain(stream) = client {
        goodbye(stream, &Alert::InternalError.record()).await;
    }
}

async fn finish(
    accepted: Accepted,
    stream: TcpStream,
    config: &Arc<rustls::ServerConfig>,
) -> Result<TlsStream<TcpStream>, NotBegun> {
    StartHandshake::from_parts(accepted, stream)
        .into_stream(Arc::clone(config))
        .await
        .map_err(NotBegun::Handshake)
}

/// Reads until the hello is whole. `received` begins with what was read before, and holds every byte
/// afterwards.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut BytesMut,
) -> Result<Accepted, HelloError> {
    let mut acceptor = Acceptor::default();
    let mut heard = 0;
    loop {
        let mut news = received.get(heard..).unwrap_or_default();
        while !news.is_empty() {
            // Never more than the bound below, which is less than it holds.
            if acceptor.read_tls(&mut news).map_err(HelloError::Broken)? == 0 {
                break;
            }
        }
        heard = received.len();
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((source, mut told)) => {
                let mut alert = Vec::new();
                // Into memory: it cannot fail.
                let _ = told.write_all(&mut alert);
                return Err(HelloError::Wrong { source, alert });
            }
        }
        let left = HELLO_BYTES_MAX.saturating_sub(received.len());
        if left == 0 {
            return Err(HelloError::TooLong);
        }
        received.reserve(left.min(CHUNK));
        let mut room = received.limit(left);
        if stream
            .read_buf(&mut room)
            .await
            .map_err(HelloError::Broken)?
            == 0
        {
            return Err(HelloError::Ended);
        }
    }
}

/// A name as routes know it.
fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Says something last and closes, so that it arrives: a socket closed over unread bytes would be reset,
/// and the alert with it.
async fn goodbye(mut stream: TcpStream, last: &[u8]) {
    let mut scratch = [0; 1024];
    let said = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut left = GOODBYE_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut scratch).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Told or not, it is over.
    let _ = tokio::time::timeout(GOODBYE_WITHIN, said).await;
}

/// Alerts of our own (RFC 8446 §6.2), for connections that rustls does not speak on.
#[derive(Clone, Copy, Debug)]
enum Alert {
    AccessDenied = 49,
    DecodeError = 50,
    InternalError = 80,
    UnrecognizedName = 112,
}

impl Alert {
    /// A fatal alert in a record of its own, as before any key is agreed on.
    const fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}

/// A hello with every extension in use is below 4 KiB; one record is 16 KiB at most.
const HELLO_BYTES_MAX: usize = 16 * 1024;
const CHUNK: usize = 2048;
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
const GOODBYE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
