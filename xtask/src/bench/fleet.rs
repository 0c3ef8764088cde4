//! Thousands of agents in this process: real links, the real state machine of `proto`, an endpoint each, and nothing
//! behind it. What they cost here is nobody's figure; what they cost the edge is.
//!
//! Their transport settings are those of the agent's QUIC link, as far as the edge can tell.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use bytes::BytesMut;
use proto::authtoken::Authtoken;
use proto::bind::BindRequest;
use proto::codec;
use proto::control::AgentControl;
use proto::control::agent::{Config, Event};
use proto::head::{Ack, StreamHead, StreamKind};
use proto::id::InstanceId;
use proto::version::ALPN_AGENT;
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, Endpoint, IdleTimeout, RecvStream, SendStream, TransportConfig,
    VarInt,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

/// Agents that are connected; they go when this is dropped.
#[derive(Debug)]
pub(super) struct Fleet {
    runtime: Option<Runtime>,
    token: Authtoken,
    config: ClientConfig,
    edge: SocketAddr,
    endpoints: Vec<Endpoint>,
    count: usize,
    connecting: Arc<Semaphore>,
}

impl Fleet {
    /// Nobody yet.
    pub(super) fn new(token: &str, link_ca: &Path, edge: SocketAddr) -> anyhow::Result<Self> {
        let token = Authtoken::parse(token).map_err(|code| anyhow!("{code}: no authtoken"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("fleet")
            .enable_all()
            .build()?;
        let endpoints = {
            let _entered = runtime.enter();
            let open = |_| Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            (0..SOCKETS).map(open).collect::<Result<_, _>>()?
        };
        Ok(Self {
            runtime: Some(runtime),
            token,
            config: client(link_ca)?,
            edge,
            endpoints,
            count: 0,
            connecting: Arc::new(Semaphore::new(CONNECTING_MAX)),
        })
    }

    /// Adds agents, and waits until each serves its endpoint.
    pub(super) async fn grow(&mut self, more: usize) -> anyhow::Result<()> {
        let runtime = self.runtime.as_ref().context("the fleet has ended")?;
        let (said, mut answers) = mpsc::unbounded_channel();
        for number in self.count..self.count + more {
            let endpoint = self.endpoints.get(number % SOCKETS).cloned();
            let agent = Idle {
                number,
                endpoint: endpoint.context("there are sockets")?,
                config: self.config.clone(),
                token: self.token.clone(),
                edge: self.edge,
                connecting: Arc::clone(&self.connecting),
            };
            let said = said.clone();
            runtime.spawn(async move {
                let bound = |result| {
                    // Whoever waited may have given up.
                    let _ = said.send(result);
                };
                if let Err(error) = agent.run(&bound).await {
                    bound(Err(error));
                }
            });
        }
        drop(said);
        let all = async {
            for at in 0..more {
                match answers.recv().await {
                    Some(answer) => answer.with_context(|| format!("after {at} agents"))?,
                    None => bail!("{at} of {more} agents answered"),
                }
            }
            Ok(())
        };
        timeout(GROW_WITHIN, all)
            .await
            .unwrap_or_else(|_| bail!("not all within {} s", GROW_WITHIN.as_secs()))?;
        self.count += more;
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for endpoint in &self.endpoints {
            endpoint.close(VarInt::from_u32(0), b"");
        }
        if let Some(runtime) = self.runtime.take() {
            // Never waits: this may be dropped where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// One agent.
struct Idle {
    number: usize,
    endpoint: Endpoint,
    config: ClientConfig,
    token: Authtoken,
    edge: SocketAddr,
    connecting: Arc<Semaphore>,
}

impl Idle {
    /// Connects, binds, tells, and lives until the link ends.
    async fn run(self, bound: &impl Fn(anyhow::Result<()>)) -> anyhow::Result<()> {
        let place = self.connecting.acquire().await?;
        let name = &self.token.server_name;
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), self.edge, name)?;
        let connection = connecting.await.context("no link")?;
        let (send, receive) = connection.open_bi().await?;
        let probes = tokio::spawn(answer_probes(connection.clone()));
        let mut control = Control {
            opened: Instant::now(),
            machine: AgentControl::new(Duration::ZERO, identity(&self.token)?),
            send,
            receive,
            buffer: BytesMut::new(),
        };
        let result = async {
            control.until_bound(self.number).await?;
            drop(place);
            bound(Ok(()));
            loop {
                control.turn().await?;
            }
        };
        let result = result.await;
        probes.abort();
        result
    }
}

/// The control stream of one agent.
struct Control {
    opened: Instant,
    machine: AgentControl,
    send: SendStream,
    receive: RecvStream,
    buffer: BytesMut,
}

impl Control {
    async fn until_bound(&mut self, number: usize) -> anyhow::Result<()> {
        // As it travels: what a request may say beyond this has defaults.
        let request: BindRequest = serde_json::from_value(serde_json::json!({
            "request": 1,
            "url": format!("idle-{number}"),
            "generation": 1,
            "upstream": "http://127.0.0.1:1",
        }))?;
        self.machine.bind(self.opened.elapsed(), request);
        loop {
            for event in self.turn().await? {
                match event {
                    Event::Bound { .. } => return Ok(()),
                    Event::BindRefused { code, message, .. } => bail!("{code} {message}"),
                    Event::Welcomed { .. }
                    | Event::Authenticated { .. }
                    | Event::Widen { .. }
                    | Event::Unbound { .. }
                    | Event::Probed { .. }
                    | Event::Drain { .. }
                    | Event::Closed { .. } => {}
                }
            }
        }
    }

    /// Says what is to be said, waits for something to happen, and gives what the shell learns.
    async fn turn(&mut self) -> anyhow::Result<Vec<Event>> {
        let mut bytes = BytesMut::new();
        while let Some(frame) = self.machine.poll_frame() {
            codec::encode(&frame, &mut bytes)?;
        }
        self.send.write_all(&bytes).await?;
        let due = self.machine.poll_timeout();
        let alarm = async {
            match due {
                Some(due) => sleep_until(self.opened + due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            chunk = self.receive.read_chunk(CHUNK_BYTES_MAX, true) => {
                let chunk = chunk?.context("the edge ended the control stream")?;
                self.buffer.extend_from_slice(&chunk.bytes);
                while let Some(frame) = codec::decode(&mut self.buffer)? {
                    self.machine.handle_frame(self.opened.elapsed(), frame)?;
                }
            }
            () = alarm => self.machine.handle_timeout(self.opened.elapsed()),
        }
        let mut events = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            if let Event::Closed { code, message, .. } = event {
                bail!("the link was closed: {code} {message}");
            }
            events.push(event);
        }
        Ok(events)
    }
}

/// Sends back what the edge sends to see whether the way works; refuses everything else.
async fn answer_probes(connection: Connection) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        // One that fails is the edge's to notice.
        let _ = answer_probe(send, receive).await;
    }
}

async fn answer_probe(mut send: SendStream, mut receive: RecvStream) -> anyhow::Result<()> {
    let mut buffer = BytesMut::new();
    let head = loop {
        if let Some(head) = StreamHead::decode(&mut buffer)? {
            break head;
        }
        let chunk = receive.read_chunk(CHUNK_BYTES_MAX, true).await?;
        buffer.extend_from_slice(&chunk.context("no head")?.bytes);
    };
    if head.kind != StreamKind::Probe {
        bail!("there is nothing behind this endpoint");
    }
    send.write_all(&Ack::Accept.encode()).await?;
    send.write_all(&buffer).await?;
    while let Some(chunk) = receive.read_chunk(CHUNK_BYTES_MAX, true).await? {
        send.write_all(&chunk.bytes).await?;
    }
    send.finish()?;
    Ok(())
}

fn identity(token: &Authtoken) -> anyhow::Result<Config> {
    let mut random = [0; 14];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow!("no randomness"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let unix_ms = u64::try_from(now.as_millis())?;
    Ok(Config {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        authtoken: token.id,
        secret: token.secret.clone(),
        instance: InstanceId::new(unix_ms, random),
        joins: None,
    })
}

fn client(link_ca: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(link_ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN_AGENT.to_vec()];
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(BbrConfig::default()))
        .stream_receive_window(VarInt::from_u32(4 << 20))
        .receive_window(VarInt::from_u32(16 << 20))
        .max_concurrent_bidi_streams(VarInt::from_u32(proto::limits::STREAMS_PER_TUNNEL_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(Duration::from_secs(10)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(30_000))));
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Sockets that the agents share: an edge that spreads by address has something to spread.
const SOCKETS: usize = 100;
/// Below what an edge lets one address have before it has authenticated.
const CONNECTING_MAX: usize = 32;
const THREADS: usize = 2;
const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Each bind is a synced write of the edge's store.
const GROW_WITHIN: Duration = Duration::from_mins(5);
