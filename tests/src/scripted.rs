//! An app that does exactly what a script says, byte for byte, and keeps what arrived.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::exact::{Framing, Message, Wire};
use crate::wait;

/// One act of the app.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads the request's body to its end.
    Body,
    Write(Vec<u8>),
    /// Answers with the request's target.
    Target,
    /// Waits until the test says so.
    Gate(Arc<Notify>),
    /// Closes politely, whatever was not read.
    Close,
    /// Ends its sending side and reads on.
    HalfClose,
    /// Closes with a reset.
    Reset,
    /// Sends back what comes, until the other side ends.
    Echo,
}

/// A listening app.
#[derive(Debug)]
pub struct Scripted {
    pub addr: SocketAddr,
    log: Arc<Log>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    script: Mutex<Vec<Step>>,
    /// What the next requests get instead, one each.
    once: Mutex<VecDeque<Vec<Step>>>,
    /// Requests whose script ended, in that order.
    arrived: Mutex<Vec<Message>>,
    /// Heads that were read, in order.
    begun: Mutex<Vec<Message>>,
    /// Everything that each connection carried.
    raw: Mutex<Vec<Vec<u8>>>,
    connections: Mutex<Vec<Carried>>,
}

/// What one connection was used for.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// The targets of its requests, in order.
    pub targets: Vec<String>,
    /// Whether it has ended, from either side.
    pub is_over: bool,
}

impl Scripted {
    /// Reads requests whole and answers `200` without a body.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let log = Arc::new(Log::default());
        let shared = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
        });
        let app = Self { addr, log, task };
        app.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        app
    }

    /// What every request from now on gets.
    pub fn script(&self, steps: Vec<Step>) {
        *self.log.script.lock().unwrap() = steps;
    }

    /// What one more of the next requests gets instead, on whatever connection it comes.
    pub fn script_once(&self, steps: Vec<Step>) {
        self.log.once.lock().unwrap().push_back(steps);
    }

    /// Reads the body, then says this.
    pub fn answer(&self, bytes: &[u8]) {
        self.script(vec![Step::Body, Step::Write(bytes.to_vec())]);
    }

    pub fn address(&self) -> String {
        self.addr.to_string()
    }

    /// Requests that were dealt with so far.
    pub fn arrived(&self) -> Vec<Message> {
        self.log.arrived.lock().unwrap().clone()
    }

    /// Requests whose heads came so far.
    pub fn begun(&self) -> Vec<Message> {
        self.log.begun.lock().unwrap().clone()
    }

    /// Waits for the next request that was dealt with, and forgets it.
    pub async fn next(&self) -> Message {
        wait::until("a request at the app", || async {
            let mut arrived = self.log.arrived.lock().unwrap();
            (!arrived.is_empty()).then(|| arrived.remove(0))
        })
        .await
    }

    /// What each connection carried so far, those without a request left out, the oldest first.
    pub fn connections(&self) -> Vec<Carried> {
        self.log.connections.lock().unwrap().clone()
    }

    /// As [`Scripted::connections`], the targets alone.
    pub fn targets(&self) -> Vec<Vec<String>> {
        let all = self.connections().into_iter();
        all.map(|carried| carried.targets).collect()
    }

    /// Forgets what came so far.
    pub fn clear(&self) {
        self.log.arrived.lock().unwrap().clear();
        self.log.begun.lock().unwrap().clear();
        for raw in self.log.raw.lock().unwrap().iter_mut() {
            raw.clear();
        }
    }

    /// Everything that arrived since, one connection after the other.
    pub fn raw(&self) -> Vec<u8> {
        self.log.raw.lock().unwrap().concat()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Log {
    /// Notes a request; the first one gives its connection a number.
    fn carried(&self, number: &mut Option<usize>, target: &str) {
        let mut connections = self.connections.lock().unwrap();
        let number = *number.get_or_insert_with(|| {
            connections.push(Carried::default());
            connections.len() - 1
        });
        connections[number].targets.push(target.to_owned());
    }
}

async fn connection(stream: TcpStream, log: Arc<Log>) {
    let _ = stream.set_nodelay(true);
    let at = {
        let mut raw = log.raw.lock().unwrap();
        raw.push(Vec::new());
        raw.len() - 1
    };
    let mut number = None;
    // The socket is closed by the time that it is said to be over.
    requests(Wire::new(stream), at, &mut number, &log).await;
    if let Some(number) = number {
        log.connections.lock().unwrap()[number].is_over = true;
    }
}

async fn requests(mut wire: Wire<TcpStream>, at: usize, number: &mut Option<usize>, log: &Log) {
    loop {
        let head = wire.head().await;
        log.raw.lock().unwrap()[at].append(&mut wire.raw);
        let Ok(Some(mut message)) = head else {
            return;
        };
        log.begun.lock().unwrap().push(message.clone());
        log.carried(number, message.target());
        let once = log.once.lock().unwrap().pop_front();
        let script = once.unwrap_or_else(|| log.script.lock().unwrap().clone());
        let goes_on = act(&mut wire, &script, &mut message).await;
        log.raw.lock().unwrap()[at].append(&mut wire.raw);
        log.arrived.lock().unwrap().push(message);
        if script.iter().any(|step| matches!(step, Step::Reset)) {
            let _ = wire.io.set_zero_linger();
        }
        if !goes_on {
            return;
        }
    }
}

/// Whether the connection can carry another request.
async fn act(wire: &mut Wire<TcpStream>, script: &[Step], message: &mut Message) -> bool {
    for step in script {
        match step {
            Step::Body => {
                let framing = message.request_framing();
                wire.body(framing, message).await;
                if message.fault.is_some() {
                    return false;
                }
            }
            Step::Write(bytes) => {
                if wire.write(bytes).await.is_err() {
                    return false;
                }
            }
            Step::Target => {
                let target = message.target();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    target.len()
                );
                let body = if message.method() == "HEAD" {
                    ""
                } else {
                    target
                };
                if wire
                    .write(format!("{head}{body}").as_bytes())
                    .await
                    .is_err()
                {
                    return false;
                }
            }
            Step::Gate(gate) => gate.notified().await,
            Step::HalfClose => {
                let _ = wire.shutdown().await;
                wire.body(Framing::UntilClose, message).await;
                return false;
            }
            Step::Echo => loop {
                match wire.some().await {
                    Ok(bytes) if !bytes.is_empty() => {
                        message.body.extend_from_slice(&bytes);
                        if wire.write(&bytes).await.is_err() {
                            return false;
                        }
                    }
                    Ok(_) => {
                        let _ = wire.shutdown().await;
                        return false;
                    }
                    Err(fault) => {
                        message.fault = Some(fault);
                        return false;
                    }
                }
            },
            Step::Close | Step::Reset => return false,
        }
    }
    true
}
