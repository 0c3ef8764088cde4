//! An app that speaks HTTP/2 alone, with prior knowledge or under TLS: what an upstream of
//! `--upstream-protocol=http2` is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::http2::send_data;
use crate::https_app::AppCert;

/// A listening app; stops accepting when dropped.
#[derive(Debug)]
pub struct H2App {
    pub addr: SocketAddr,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

/// What arrived.
#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<Request<()>>>,
    connections: AtomicUsize,
    /// Connections that are open.
    open: AtomicUsize,
    /// Lets one `/reset` go on.
    resets: Notify,
}

/// How the app is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// It takes WebSockets (RFC 8441).
    pub websockets: bool,
}

impl H2App {
    /// With prior knowledge.
    pub async fn start(options: Options) -> Self {
        Self::serve(options, None).await
    }

    /// Under TLS, agreed on by ALPN.
    pub async fn start_tls(options: Options, certificate: &AppCert) -> Self {
        Self::serve(options, Some(certificate.config(&[b"h2"]).into())).await
    }

    async fn serve(options: Options, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen) = (tls.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, options, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, options, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, seen, task }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.addr.to_string()
    }

    /// How many requests so far.
    pub fn count(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    /// Lets one `/reset` break off.
    pub fn reset_one(&self) {
        self.seen.resets.notify_one();
    }

    /// The last request.
    #[track_caller]
    pub fn last(&self) -> Request<()> {
        let requests = self.seen.requests.lock().unwrap();
        requests.last().expect("a request").clone()
    }

    /// How many connections that spoke HTTP/2 so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }
}

impl Drop for H2App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    options: Options,
    seen: Arc<Seen>,
) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20);
    if options.websockets {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake(io).await else {
        return;
    };
    seen.open.fetch_add(1, Ordering::SeqCst);
    let mut is_first = true;
    while let Some(Ok((request, respond))) = connection.accept().await {
        if std::mem::take(&mut is_first) {
            seen.connections.fetch_add(1, Ordering::SeqCst);
        }
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        seen.requests.lock().unwrap().push(request.clone());
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            // A stream that the other side resets is over, and that is all.
            let _ = answer(request, body, respond, &seen).await;
        });
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

/// By path: `/echo` sends the body back with trailers; `/endless` goes on; `/ws` is a WebSocket that sends
/// back what it gets, `/ws-reset` one that breaks off when it is told; `/reset` breaks off in mid-body when it is told; `/refuse` says 403.
async fn answer(
    request: Request<()>,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    seen: &Seen,
) -> Result<(), h2::Error> {
    let response = |status: u16| Response::builder().status(status).body(()).unwrap();
    match request.uri().path() {
        "/echo" => {
            let mut send = respond.send_response(response(200), false)?;
            copy(&mut body, &mut send).await?;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "42".parse().unwrap());
            if let Some(came) = body.trailers().await? {
                trailers.extend(came);
            }
            send.send_trailers(trailers)
        }
        "/ws" if request.method() == http::Method::CONNECT => {
            let mut send = respond.send_response(response(200), false)?;
            copy(&mut body, &mut send).await?;
            send.send_data(Bytes::new(), true)
        }
        "/ws-reset" if request.method() == http::Method::CONNECT => {
            let mut send = respond.send_response(response(200), false)?;
            send.send_data(Bytes::from_static(b"\x82\x03abc"), false)?;
            seen.resets.notified().await;
            send.send_reset(Reason::CANCEL);
            Ok(())
        }
        "/endless" => {
            let mut send = respond.send_response(response(200), false)?;
            loop {
                let piece = Bytes::from_static(&[b'x'; 4096]);
                if send_data(&mut send, piece, false).await.is_err() {
                    return Ok(());
                }
            }
        }
        "/reset" => {
            let mut send = respond.send_response(response(200), false)?;
            send.send_data(Bytes::from_static(b"some"), false)?;
            seen.resets.notified().await;
            send.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/refuse" => {
            respond.send_response(response(403), true)?;
            Ok(())
        }
        _ => {
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            if request.method() == http::Method::HEAD {
                respond.send_response(response(200), true)?;
                return Ok(());
            }
            let text = format!("{} {}", request.method(), request.uri());
            let mut send = respond.send_response(response(200), false)?;
            send.send_data(Bytes::from(text), true)
        }
    }
}

/// Sends back what comes, to its end.
async fn copy(from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while let Some(data) = from.data().await {
        let data = data?;
        from.flow_control().release_capacity(data.len())?;
        if send_data(to, data, false).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
