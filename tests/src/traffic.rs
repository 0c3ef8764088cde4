//! Traffic to be cut: streams of every kind that note what they asked, what came, and how they ended, so
//! that a revocation can be judged afterwards at both ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::clock;
use crate::http::{Ask, Fault, Response, Version};
use crate::http1;
use crate::http2;
use crate::net::Net;
use crate::upstream::{Ended, STAMP, Upstream, stamped_ns};
use crate::wait;
use crate::websocket::{Event, WebSocket};

/// What a stream does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Request after request on one connection.
    Quick(Version),
    /// An endless body, read as it comes.
    Download(Version),
    /// An endless body as fast as it comes, read as it comes: load.
    Bulk(Version),
    /// An endless body that is not read: HTTP/1.1 leaves it in the kernel, HTTP/2 lets its window fill.
    Stalled(Version),
    /// An endless request body.
    Upload(Version),
    /// An endless request body that the app does not read.
    StalledUpload(Version),
    /// Server-sent events.
    Events(Version),
    /// A WebSocket with small text frames.
    Clock(Version),
    /// A WebSocket with frames that take a while.
    Frames(Version),
}

impl Kind {
    /// Every kind that is no mere load.
    pub const ALL: [Self; 16] = [
        Self::Quick(Version::H1),
        Self::Quick(Version::H2),
        Self::Download(Version::H1),
        Self::Download(Version::H2),
        Self::Stalled(Version::H1),
        Self::Stalled(Version::H2),
        Self::Upload(Version::H1),
        Self::Upload(Version::H2),
        Self::StalledUpload(Version::H1),
        Self::StalledUpload(Version::H2),
        Self::Events(Version::H1),
        Self::Events(Version::H2),
        Self::Clock(Version::H1),
        Self::Clock(Version::H2),
        Self::Frames(Version::H1),
        Self::Frames(Version::H2),
    ];

    /// The pieces of an upload, and the time between them.
    const fn upload(self) -> (&'static [u8], Duration) {
        if matches!(self, Self::StalledUpload(_)) {
            // Large ones at once, so that every buffer on the way is soon full.
            (&[b'u'; 16 * 1024], Duration::ZERO)
        } else {
            (&[b'u'; 4096], Duration::from_millis(1))
        }
    }

    const fn target(self) -> &'static str {
        match self {
            Self::Quick(_) => "/quick",
            Self::Download(_) => "/slow?every=1&size=2048",
            Self::Bulk(_) => "/slow?size=65536",
            Self::Stalled(_) => "/slow?size=16384",
            Self::Upload(_) => "/upload",
            Self::StalledUpload(_) => "/unread",
            Self::Events(_) => "/events?every=2",
            Self::Clock(_) => "/ws?every=2",
            Self::Frames(_) => "/ws?every=1&size=300000",
        }
    }
}

/// Who asks whom.
#[derive(Clone, Debug)]
pub struct Session {
    pub net: Net,
    pub label: String,
    pub cookie: String,
}

/// A stream that runs in a task of its own.
#[derive(Debug)]
pub struct Stream {
    pub kind: Kind,
    pub mark: String,
    /// When it was begun.
    pub begun_ns: u64,
    /// Request-body bytes handed to the connection.
    sent: Arc<AtomicU64>,
    /// 1 once the reply's head (or the upgrade) is here.
    opened: watch::Receiver<bool>,
    go_on: watch::Sender<bool>,
    task: JoinHandle<Outcome>,
}

/// How a stream went.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Each request: when it was asked, and the status that came (0: none).
    pub asked: Vec<(u64, u16)>,
    /// The latest time at which the upstream wrote a byte that was read here.
    pub last_stamp_ns: u64,
    pub end: Option<End>,
}

/// The end that the client saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// Refused with this status before anything of the upstream came.
    Refused(u16),
    /// The body ended as its framing promised.
    Complete,
    Fault(Fault),
    /// A WebSocket's Close frame.
    Closed(u16),
}

impl Stream {
    /// Begins it.
    pub fn begin(kind: Kind, session: &Session, mark: &str) -> Self {
        let sent = Arc::new(AtomicU64::new(0));
        let (opener, opened) = watch::channel(false);
        let (go_on, gate) = watch::channel(false);
        let run = Run {
            session: session.clone(),
            mark: mark.to_owned(),
            sent: Arc::clone(&sent),
            opener,
            gate,
            outcome: Outcome::default(),
        };
        let begun_ns = clock::now_ns();
        let task = tokio::spawn(run.run(kind));
        Self {
            kind,
            mark: mark.to_owned(),
            begun_ns,
            sent,
            opened,
            go_on,
            task,
        }
    }

    /// Waits until the reply's head is here (or the stream is over).
    pub async fn opened(&mut self) {
        let what = format!("{:?} {} opens", self.kind, self.mark);
        // An error: the task is over, and so the stream ended before its head.
        let _ = wait::within(&what, self.opened.wait_for(|opened| *opened)).await;
    }

    /// How many request-body bytes it has handed over.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Lets a stalled reader read on, and waits for the end.
    pub async fn ended(self) -> Outcome {
        self.go_on.send_replace(true);
        let what = format!("end of {:?} {}", self.kind, self.mark);
        wait::within(&what, self.task).await.expect("no panic")
    }

    /// Stops it from this side.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

struct Run {
    session: Session,
    mark: String,
    sent: Arc<AtomicU64>,
    opener: watch::Sender<bool>,
    gate: watch::Receiver<bool>,
    outcome: Outcome,
}

impl Run {
    async fn run(mut self, kind: Kind) -> Outcome {
        let end = match kind {
            Kind::Quick(version) => self.quick(version, kind.target()).await,
            Kind::Download(version) | Kind::Bulk(version) | Kind::Events(version) => {
                self.download(version, kind.target(), false).await
            }
            Kind::Stalled(version) => self.download(version, kind.target(), true).await,
            Kind::Upload(Version::H1) | Kind::StalledUpload(Version::H1) => {
                self.upload_h1(kind).await
            }
            Kind::Upload(Version::H2) | Kind::StalledUpload(Version::H2) => {
                self.upload_h2(kind).await
            }
            Kind::Clock(version) | Kind::Frames(version) => {
                self.websocket(version, kind.target()).await
            }
        };
        self.outcome.end = Some(end);
        self.outcome
    }

    fn ask(&self, target: &str) -> Ask {
        Ask::get(&self.session.net, &self.session.label, target)
            .cookie(&self.session.cookie)
            .header("x-mark", &self.mark)
            .header("sec-fetch-site", "same-origin")
    }

    fn asked(&mut self) {
        self.outcome.asked.push((clock::now_ns(), 0));
    }

    fn answered(&mut self, status: u16) {
        if let Some(last) = self.outcome.asked.last_mut() {
            last.1 = status;
        }
        self.opener.send_replace(true);
    }

    async fn quick(&mut self, version: Version, target: &str) -> End {
        let ask = self.ask(target);
        match version {
            Version::H1 => {
                let mut connection =
                    match http1::Connection::open(&self.session.net, &ask.sni).await {
                        Ok(connection) => connection,
                        Err(error) => return End::Fault(http1::fault(&error)),
                    };
                loop {
                    self.asked();
                    let reply = async {
                        connection.send(&ask).await?;
                        let mut response = connection.response("GET").await?;
                        while response.chunk().await?.is_some() {}
                        Ok::<_, Fault>((response.status, response.connection))
                    }
                    .await;
                    match reply {
                        Ok((200, again)) => {
                            self.answered(200);
                            connection = again;
                        }
                        Ok((status, _)) => {
                            self.answered(status);
                            return End::Refused(status);
                        }
                        Err(fault) => return End::Fault(fault),
                    }
                }
            }
            Version::H2 => {
                let connection =
                    match http2::Connection::open(&self.session.net, &ask.sni, None).await {
                        Ok(connection) => connection,
                        Err(fault) => return End::Fault(fault),
                    };
                loop {
                    self.asked();
                    let reply = async {
                        let mut response = connection.request(&ask).await?;
                        while response.chunk().await?.is_some() {}
                        Ok::<_, Fault>(response.status)
                    }
                    .await;
                    match reply {
                        Ok(200) => self.answered(200),
                        Ok(status) => {
                            self.answered(status);
                            return End::Refused(status);
                        }
                        Err(fault) => return End::Fault(fault),
                    }
                }
            }
        }
    }

    async fn download(&mut self, version: Version, target: &str, is_stalled: bool) -> End {
        let ask = self.ask(target);
        let opened = match (version, is_stalled) {
            (Version::H2, true) => {
                match http2::Connection::open(&self.session.net, &ask.sni, Some(STALLED_WINDOW))
                    .await
                {
                    Ok(connection) => {
                        self.asked();
                        connection.request(&ask).await.map(|mut response| {
                            response.releases = false;
                            Response::H2(response)
                        })
                    }
                    Err(fault) => Err(fault),
                }
            }
            (Version::H1, true) => match self.session.net.connect_h1_small(&ask.sni).await {
                Ok(io) => {
                    self.asked();
                    let mut connection = http1::Connection::over(io);
                    match connection.send(&ask).await {
                        Ok(()) => connection.response("GET").await.map(Response::H1),
                        Err(fault) => Err(fault),
                    }
                }
                Err(error) => Err(http1::fault(&error)),
            },
            (_, false) => {
                self.asked();
                ask.open(&self.session.net, version).await
            }
        };
        let mut response = match opened {
            Ok(response) => response,
            Err(fault) => return End::Fault(fault),
        };
        self.answered(response.status());
        if response.status() != 200 {
            return End::Refused(response.status());
        }
        if is_stalled {
            // An error: whoever holds the gate is gone, and nobody will judge.
            let _ = self.gate.wait_for(|open| *open).await;
        }
        let mut pieces = Stamps::default();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    pieces.read(&chunk);
                    self.outcome.last_stamp_ns = self.outcome.last_stamp_ns.max(pieces.latest);
                }
                Ok(None) => return End::Complete,
                Err(fault) => return End::Fault(fault),
            }
        }
    }

    async fn upload_h1(&mut self, kind: Kind) -> End {
        let ask = self.ask(kind.target()).method("POST").streamed();
        let mut connection = match http1::Connection::open(&self.session.net, &ask.sni).await {
            Ok(connection) => connection,
            Err(error) => return End::Fault(http1::fault(&error)),
        };
        self.asked();
        if let Err(fault) = connection.send(&ask).await {
            return End::Fault(fault);
        }
        let (piece, pause) = kind.upload();
        loop {
            self.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
            if let Err(fault) = connection.write_chunk(piece).await {
                return End::Fault(fault);
            }
            self.opener.send_replace(true);
            tokio::select! {
                biased;
                head = connection.head() => return match head {
                    Ok((status, _)) => { self.answered(status); End::Refused(status) }
                    Err(fault) => End::Fault(fault),
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn upload_h2(&mut self, kind: Kind) -> End {
        let ask = self.ask(kind.target()).method("POST").streamed();
        let connection = match http2::Connection::open(&self.session.net, &ask.sni, None).await {
            Ok(connection) => connection,
            Err(fault) => return End::Fault(fault),
        };
        self.asked();
        let (response, mut body) = match connection.begin(&ask).await {
            Ok(begun) => begun,
            Err(fault) => return End::Fault(fault),
        };
        let answer = connection.answer(response);
        let (piece, pause) = kind.upload();
        tokio::pin!(answer);
        loop {
            self.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
            tokio::select! {
                biased;
                answer = &mut answer => return match answer {
                    Ok(response) => { self.answered(response.status); End::Refused(response.status) }
                    Err(fault) => End::Fault(fault),
                },
                sent = http2::send_data(&mut body, Bytes::from_static(piece), false) => {
                    if let Err(fault) = sent {
                        // A refusal may have come before the reset that says "send no more".
                        return match answer.await {
                            Ok(response) => { self.answered(response.status); End::Refused(response.status) }
                            Err(_) => End::Fault(fault),
                        };
                    }
                }
            }
            self.opener.send_replace(true);
            tokio::time::sleep(pause).await;
        }
    }

    async fn websocket(&mut self, version: Version, target: &str) -> End {
        self.asked();
        let opened = match version {
            Version::H1 => {
                WebSocket::open_marked(
                    &self.session.net,
                    &self.session.label,
                    target,
                    &self.session.cookie,
                    &self.mark,
                )
                .await
            }
            Version::H2 => WebSocket::open_h2(&self.session.net, &self.ask(target)).await,
        };
        let mut socket = match opened {
            Ok(socket) => socket,
            Err(0) => return End::Fault(Fault::Reset),
            Err(status) => {
                self.answered(status);
                return End::Refused(status);
            }
        };
        self.answered(200);
        loop {
            match socket.next().await {
                Event::Message(Message::Binary(bytes)) => {
                    let stamp = stamped_ns(&bytes);
                    if stamp.is_none() || bytes[STAMP..].iter().any(|byte| *byte != b'x') {
                        return End::Fault(Fault::Garbage(
                            "a frame's payload was broken into".to_owned(),
                        ));
                    }
                    self.outcome.last_stamp_ns = self.outcome.last_stamp_ns.max(stamp.unwrap_or(0));
                }
                Event::Message(Message::Text(text)) => {
                    let stamp = text
                        .strip_prefix("tick ")
                        .and_then(|digits| digits.parse().ok());
                    let Some(stamp) = stamp else {
                        return End::Fault(Fault::Garbage(format!(
                            "a frame that nobody sent: {text:?}"
                        )));
                    };
                    self.outcome.last_stamp_ns = self.outcome.last_stamp_ns.max(stamp);
                }
                Event::Message(_) => {}
                Event::Closed(frame) => return End::Closed(frame.map_or(0, |(code, _)| code)),
                Event::Lost(fault) => return End::Fault(fault),
            }
        }
    }
}

/// Finds the stamps in a byte stream of pieces `stamp xxxx…` and of events `data: <ns>`.
#[derive(Debug, Default)]
struct Stamps {
    rest: Vec<u8>,
    latest: u64,
}

impl Stamps {
    fn read(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
        // A stamp's letters come after filler, or at the front; events are lines.
        let mut at = 0;
        while self.rest.len() - at > STAMP + 1 {
            if self.rest[at] == b'x' || self.rest[at] == b'\n' {
                at += 1;
                continue;
            }
            if self.rest[at..].starts_with(b"data: ") {
                let Some(end) = self.rest[at..].iter().position(|byte| *byte == b'\n') else {
                    break;
                };
                let text = String::from_utf8_lossy(&self.rest[at + 6..at + end]).into_owned();
                self.latest = self.latest.max(text.parse().unwrap_or(0));
                at += end;
                continue;
            }
            match stamped_ns(&self.rest[at..]).filter(|_| self.rest[at + STAMP] == b'x') {
                Some(stamp) => {
                    self.latest = self.latest.max(stamp);
                    at += STAMP;
                }
                None => at += 1,
            }
        }
        self.rest.drain(..at);
    }
}

/// What a revocation is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When its answer was read.
    pub at_ns: u64,
}

/// Judges a stream that was begun before the answer. Gives what is wrong.
pub async fn judge(
    stream: Stream,
    answer: Answer,
    sent_at_answer: u64,
    upstream: &Upstream,
) -> Vec<String> {
    let kind = stream.kind;
    let mark = stream.mark.clone();
    let outcome = stream.ended().await;
    let mut wrong = Vec::new();
    let mut say = |what: String| wrong.push(format!("{kind:?} {mark}: {what}"));
    match (&outcome.end, kind) {
        (Some(End::Refused(401)), _) => {}
        (Some(End::Fault(Fault::Reset)), _) => {}
        // The connection of an HTTP/2 stream whose reset could not go out is closed.
        (
            Some(End::Fault(Fault::Connection(_) | Fault::Fin)),
            Kind::Stalled(Version::H2)
            | Kind::Download(Version::H2)
            | Kind::Bulk(Version::H2)
            | Kind::Events(Version::H2)
            | Kind::Upload(Version::H2)
            | Kind::StalledUpload(Version::H2)
            | Kind::Quick(Version::H2)
            | Kind::Clock(Version::H2)
            | Kind::Frames(Version::H2),
        ) => {}
        (Some(End::Closed(1008)), Kind::Clock(_) | Kind::Frames(_)) => {}
        (Some(End::Fault(Fault::CloseNotify)), Kind::Quick(Version::H1)) => {}
        (end, _) => say(format!("ended with {end:?}")),
    }
    for (asked_ns, status) in &outcome.asked {
        if *asked_ns >= answer.at_ns && *status == 200 {
            say(format!(
                "asked {} us after the answer and got in",
                (asked_ns - answer.at_ns) / 1000
            ));
        }
    }
    if outcome.last_stamp_ns > answer.at_ns {
        say(format!(
            "read a byte that was written {} us after the answer",
            (outcome.last_stamp_ns - answer.at_ns) / 1000
        ));
    }
    for (at, seen) in upstream.marked(&mark).into_iter().enumerate() {
        // Asked before and under way to the app when the answer came is one thing; admitted after it is
        // another. Requests of one stream arrive in the order that they were asked.
        let is_late = outcome
            .asked
            .get(at)
            .is_none_or(|(asked_ns, _)| *asked_ns >= answer.at_ns);
        if is_late || seen.at_ns > answer.at_ns + UNDER_WAY_NS {
            say(format!(
                "reached the upstream {} us after the answer",
                seen.at_ns.saturating_sub(answer.at_ns) / 1000
            ));
        }
        let ended = seen.wait_ended().await;
        match kind {
            Kind::Quick(_) => {}
            Kind::Upload(_) | Kind::StalledUpload(_) => {
                if seen.is_complete() || ended == Ended::Complete {
                    say("the upload looks complete at the upstream".to_owned());
                }
                if seen.bytes() > sent_at_answer {
                    say(format!(
                        "{} bytes reached the upstream, {sent_at_answer} were sent before the answer",
                        seen.bytes()
                    ));
                }
            }
            Kind::Download(_)
            | Kind::Bulk(_)
            | Kind::Stalled(_)
            | Kind::Events(_)
            | Kind::Clock(_)
            | Kind::Frames(_) => {
                if ended == Ended::Complete {
                    say("the exchange looks complete at the upstream".to_owned());
                }
            }
        }
    }
    wrong
}

const STALLED_WINDOW: u32 = 16 * 1024;
/// From the edge over the agent to this process's own turn on a busy computer.
const UNDER_WAY_NS: u64 = 250_000_000;
