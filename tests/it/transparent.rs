//! Transparency: a message through the tunnel and directly is the same message, but for a short written
//! list. The list is `docs/guide/http.md`; here it is [`through`] and [`back`], and nothing else is forgiven.

mod requests;
mod responses;
mod streams;

use tests::exact::{self, Io, Message, Wire};
use tests::http::{Fault, Version};
use tests::scripted::Scripted;
use tests::wait;
use tests::world::{Agent, World};
use tokio::net::TcpStream;

/// An endpoint without a login in front of an app that does exactly what it is told.
struct Lab {
    world: World,
    app: Scripted,
    _agent: Agent,
}

/// A request as somebody means it, whatever carries it.
#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    target: String,
    /// Of HTTP/1.
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Payload,
}

/// A request's body.
#[derive(Clone, Debug)]
enum Payload {
    None,
    Length(Vec<u8>),
    /// Pieces, each with the extension of its chunk.
    Chunked {
        pieces: Vec<(Vec<u8>, &'static str)>,
        trailers: Vec<(&'static str, &'static str)>,
    },
}

impl Lab {
    async fn new() -> Self {
        let world = World::start().await;
        let app = Scripted::start().await;
        let agent = world.agent_for("app", &app.address(), &[]).await;
        Self {
            world,
            app,
            _agent: agent,
        }
    }

    /// The authority of the endpoint.
    fn authority(&self) -> String {
        let net = &self.world.net;
        format!("{}:{}", net.host("app"), net.addr.port())
    }

    /// A connection to the edge that speaks HTTP/1.
    async fn tunnel(&self) -> Wire {
        let net = &self.world.net;
        let io = net
            .connect_h1(&net.host("app"))
            .await
            .expect("a connection");
        Wire::new(Box::new(io) as Box<dyn Io>)
    }

    /// A connection to the app itself.
    async fn direct(&self) -> Wire {
        let io = TcpStream::connect(self.app.addr).await.expect("the app");
        Wire::new(Box::new(io) as Box<dyn Io>)
    }

    /// Sends bytes to the app itself and gives both messages.
    async fn directly(&self, bytes: &[u8], method: &str) -> (Message, Message) {
        let wire = self.direct().await;
        self.exchange(wire, bytes, method).await
    }

    /// Sends bytes through the tunnel and gives both messages.
    async fn tunnelled(&self, bytes: &[u8], method: &str) -> (Message, Message) {
        let wire = self.tunnel().await;
        self.exchange(wire, bytes, method).await
    }

    async fn exchange(&self, mut wire: Wire, bytes: &[u8], method: &str) -> (Message, Message) {
        wire.write(bytes).await.expect("sent");
        let answer = wait::within("an answer", wire.answer(method)).await;
        let answer = answer.expect("an answer");
        (self.app.next().await, answer)
    }

    /// Sends over HTTP/2 and gives what arrived and what came back.
    async fn over_h2(&self, asked: &Asked) -> (Message, Message) {
        let answer = wait::within("an answer over HTTP/2", self.h2(asked)).await;
        let answer = answer.unwrap_or_else(|fault| panic!("{asked:?}: {fault:?}"));
        (self.app.next().await, answer)
    }

    /// The status of an answer over HTTP/2 that comes while the request's body is still being sent.
    async fn h2_head_first(&self, asked: &Asked) -> Result<u16, Fault> {
        let net = &self.world.net;
        let connection = tests::http2::Connection::open(net, &net.host("app"), None).await?;
        let ask = tests::http::Ask::get(net, "app", &asked.target)
            .method(asked.method)
            .streamed();
        let (answer, mut stream) = connection.begin(&ask).await?;
        let Payload::Length(body) = &asked.body else {
            panic!("a body")
        };
        let sending = async {
            loop {
                let piece = body.clone().into();
                if tests::http2::send_data(&mut stream, piece, false)
                    .await
                    .is_err()
                {
                    // Told to send no more: the answer says why.
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            answer = connection.answer(answer) => Ok(answer?.status),
            () = sending => Ok(0),
        }
    }

    async fn h2(&self, asked: &Asked) -> Result<Message, Fault> {
        let net = &self.world.net;
        let io = net
            .connect_h2(&net.host("app"))
            .await
            .expect("a connection");
        let (sender, connection) = h2_client().handshake(io).await.map_err(h2_fault)?;
        tokio::spawn(async move {
            // How it ended is seen by its streams.
            let _ = connection.await;
        });
        let mut request = http::Request::builder().method(asked.method).uri(
            http::Uri::builder()
                .scheme("https")
                .authority(self.authority())
                .path_and_query(asked.target.as_str())
                .build()
                .expect("a target"),
        );
        for (name, value) in &asked.headers {
            let value = http::HeaderValue::from_bytes(&exact::bytes(value)).expect("a value");
            request = request.header(name.to_ascii_lowercase(), value);
        }
        if let Payload::Length(body) = &asked.body {
            request = request.header("content-length", body.len());
        }
        let request = request.body(()).expect("a request");
        let mut sender = sender.ready().await.map_err(h2_fault)?;
        let is_empty = matches!(asked.body, Payload::None);
        let (answer, mut stream) = sender.send_request(request, is_empty).map_err(h2_fault)?;
        match &asked.body {
            Payload::None => {}
            Payload::Length(body) => {
                tests::http2::send_data(&mut stream, body.clone().into(), true).await?;
            }
            Payload::Chunked { pieces, trailers } => {
                for (piece, _) in pieces {
                    tests::http2::send_data(&mut stream, piece.clone().into(), false).await?;
                }
                let mut map = http::HeaderMap::new();
                for (name, value) in trailers {
                    let name = name.to_ascii_lowercase();
                    let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
                    map.append(name, value.parse().expect("a value"));
                }
                stream.send_trailers(map).map_err(h2_fault)?;
            }
        }
        let (parts, mut body) = answer.await.map_err(h2_fault)?.into_parts();
        let mut message = Message {
            line: format!("HTTP/2 {} ", parts.status.as_u16()),
            headers: pairs(&parts.headers),
            ..Message::default()
        };
        while let Some(data) = body.data().await {
            match data {
                Ok(data) => {
                    let _ = body.flow_control().release_capacity(data.len());
                    message.body.extend_from_slice(&data);
                }
                Err(error) => {
                    message.fault = Some(h2_fault(error));
                    return Ok(message);
                }
            }
        }
        if let Ok(Some(trailers)) = body.trailers().await {
            message.trailers = pairs(&trailers);
        }
        Ok(message)
    }
}

impl Asked {
    fn new(method: &'static str, target: &str) -> Self {
        Self {
            method,
            target: target.to_owned(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: Payload::None,
        }
    }

    fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.body = Payload::Length(body.to_vec());
        self
    }

    fn chunked(
        mut self,
        pieces: &[(&[u8], &'static str)],
        trailers: &[(&'static str, &'static str)],
    ) -> Self {
        self.body = Payload::Chunked {
            pieces: pieces
                .iter()
                .map(|(piece, extension)| (piece.to_vec(), *extension))
                .collect(),
            trailers: trailers.to_vec(),
        };
        self
    }

    /// The bytes on the wire.
    fn bytes(&self, host: &str) -> Vec<u8> {
        let mut text = format!(
            "{} {} {}\r\nHost: {host}\r\n",
            self.method, self.target, self.version
        );
        for (name, value) in &self.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        match &self.body {
            Payload::None => text.push_str("\r\n"),
            Payload::Length(body) => {
                text.extend(["Content-Length: ", &body.len().to_string(), "\r\n\r\n"]);
                text.push_str(&exact::latin1(body));
            }
            Payload::Chunked { pieces, trailers } => {
                text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                for (piece, extension) in pieces {
                    let size = format!("{:x}", piece.len());
                    text.extend([size.as_str(), *extension, "\r\n"]);
                    text.push_str(&exact::latin1(piece));
                    text.push_str("\r\n");
                }
                text.push_str("0\r\n");
                for (name, value) in trailers {
                    text.extend([*name, ": ", *value, "\r\n"]);
                }
                text.push_str("\r\n");
            }
        }
        exact::bytes(&text)
    }
}

/// What a request that went directly must look like after the tunnel: the written list, applied.
fn through(direct: &Message, authority: &str) -> Message {
    let mut wanted = direct.clone();
    let mut target = direct.target().to_owned();
    // Absolute form is for proxies: behind the edge it is a path.
    for scheme in ["https://", "http://"] {
        if let Some(rest) = target.strip_prefix(scheme) {
            target = rest[rest.find('/').unwrap_or(rest.len())..].to_owned();
        }
    }
    wanted.line = format!("{} {target} HTTP/1.1", direct.method());
    let named = named_in_connection(direct);
    wanted.headers.retain(|(name, _)| {
        let name = name.to_ascii_lowercase();
        !HOP_BY_HOP.contains(&name.as_str()) && !named.contains(&name)
    });
    if direct.all("te").iter().any(|te| te.contains("trailers")) {
        wanted.headers.push(("te".into(), "trailers".into()));
    }
    let cookies = wanted.all("cookie").join("; ");
    wanted
        .headers
        .retain(|(name, _)| !name.eq_ignore_ascii_case("cookie"));
    if !cookies.is_empty() {
        wanted.headers.push(("cookie".into(), cookies));
    }
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", authority),
    ] {
        wanted.headers.push((name.to_owned(), value.to_owned()));
    }
    let is_chunked = direct.header("transfer-encoding").is_some();
    if is_chunked {
        wanted
            .headers
            .push(("transfer-encoding".into(), "chunked".into()));
    }
    normal(&mut wanted);
    wanted
}

/// What an answer that came directly must look like after the tunnel.
fn back(direct: &Message, version: Version) -> Message {
    let mut wanted = direct.clone();
    let named = named_in_connection(direct);
    wanted.headers.retain(|(name, _)| {
        let name = name.to_ascii_lowercase();
        !HOP_BY_HOP.contains(&name.as_str()) && !named.contains(&name)
    });
    if version == Version::H2 {
        wanted.line = format!("HTTP/2 {} ", direct.status());
        wanted.interim.clear();
    }
    normal(&mut wanted);
    wanted
}

/// The header names that `Connection` says are between neighbours.
fn named_in_connection(message: &Message) -> Vec<String> {
    message
        .all("connection")
        .iter()
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

/// Names in lower case; names in order of the alphabet, values of one name in their own; no sizes of chunks.
fn normal(message: &mut Message) {
    for headers in [&mut message.headers, &mut message.trailers] {
        for (name, _) in headers.iter_mut() {
            name.make_ascii_lowercase();
        }
        headers.sort_by(|a, b| a.0.cmp(&b.0));
    }
    message.chunks.clear();
}

fn normalised(mut message: Message) -> Message {
    normal(&mut message);
    message
}

/// An answer as it came through, without what the edge may add.
fn came(mut message: Message, had_date: bool) -> Message {
    if !had_date {
        message
            .headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
    }
    message.headers.retain(|(name, _)| {
        !["connection", "transfer-encoding", "keep-alive"]
            .contains(&name.to_ascii_lowercase().as_str())
    });
    normalised(message)
}

fn h2_client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(1 << 20)
        .max_header_list_size(1 << 20);
    builder
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn h2_fault(error: h2::Error) -> Fault {
    tests::http2::fault(&error)
}

fn pairs(headers: &http::HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), exact::latin1(value.as_bytes())))
        .collect()
}

/// RFC 9110 §7.6.1, with the older names.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];
