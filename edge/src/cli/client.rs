//! Asks the running edge over its socket: one request, one answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::CliError;
use crate::admin::socket;
use crate::config::data_dir_flag;

/// A data folder's edge.
pub(super) struct Client {
    data_dir: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    pub(super) fn new(data_dir: &Path) -> Result<Self, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::Failed(format!("no runtime: {error}")))?;
        Ok(Self {
            data_dir: data_dir.to_owned(),
            runtime,
        })
    }

    pub(super) fn list<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.ask(Method::GET, path, Bytes::new())
    }

    pub(super) fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|error| CliError::Failed(error.to_string()))?;
        self.ask(Method::POST, path, body.into())
    }

    /// Answers nothing but success.
    pub(super) fn remove(&self, path: &str) -> Result<(), CliError> {
        self.send(Method::DELETE, path, Bytes::new()).map(drop)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, CliError> {
        understood(&self.send(method, path, body)?)
    }

    fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CliError> {
        self.runtime.block_on(async {
            let exchange = self.exchange(method, path, body);
            match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
                Ok(outcome) => outcome,
                Err(_) => Err(CliError::Failed(
                    "the edge did not answer in time".to_owned(),
                )),
            }
        })
    }

    /// Gives each line of a long answer as it comes. A connection that ends is the answer's end.
    pub(super) fn follow<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        mut each: impl FnMut(T),
    ) -> Result<(), CliError> {
        let body = serde_json::to_vec(body).map_err(|error| CliError::Failed(error.to_string()))?;
        self.runtime.block_on(async {
            let response = self.request(Method::POST, path, body.into()).await?;
            if !response.status().is_success() {
                return Err(refusal(response).await);
            }
            let mut body = response.into_body();
            let mut waiting = BytesMut::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                waiting.extend_from_slice(&data);
                while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                    let line = waiting.split_to(end + 1);
                    each(understood(&line)?);
                }
                if waiting.len() > LINE_BYTES_MAX {
                    return Err(CliError::Failed("the edge's answer is no lines".to_owned()));
                }
            }
            Ok(())
        })
    }

    /// Waits until no edge listens on the socket any more.
    pub(super) fn wait_until_gone(&self) -> Result<(), CliError> {
        let socket = socket::path(&self.data_dir);
        self.runtime.block_on(async {
            let gone = async {
                while UnixStream::connect(&socket).await.is_ok() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            tokio::time::timeout(GONE_WITHIN, gone)
                .await
                .map_err(|_| CliError::Failed("the edge has drained and does not end".to_owned()))
        })
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CliError> {
        let response = self.request(method, path, body).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map_err(|error| broken(error.as_ref()))?;
        Ok(body.to_bytes())
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CliError> {
        let socket = socket::path(&self.data_dir);
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "edge")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| broken(&error))?;
        // It lives as long as the answer.
        tokio::spawn(connection);
        sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))
    }

    fn unreachable(&self, error: &io::Error) -> CliError {
        let kind = error.kind();
        if matches!(
            kind,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ) {
            return CliError::NotRunning {
                folder: self.data_dir.clone(),
                start: format!(
                    "start one with: edge serve{}",
                    data_dir_flag(&self.data_dir)
                ),
            };
        }
        CliError::Failed(if kind == io::ErrorKind::PermissionDenied {
            "the edge's socket belongs to another user: run this command as the user that runs the edge".to_owned()
        } else {
            format!("the edge's socket cannot be used: {error}")
        })
    }
}

fn understood<T: DeserializeOwned>(answer: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(answer).map_err(|error| {
        CliError::Failed(format!("the edge's answer is not understood ({error}): edge and command are of different versions"))
    })
}

async fn refusal(response: Response<Incoming>) -> CliError {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    let body = body.await.map(http_body_util::Collected::to_bytes);
    body.ok()
        .and_then(|body| serde_json::from_slice(&body).ok())
        .map_or_else(
            || CliError::Failed(format!("the edge answered {status}")),
            CliError::Refused,
        )
}

fn broken(error: &dyn std::error::Error) -> CliError {
    CliError::Failed(format!("the edge broke off: {error}"))
}

/// A backup of a large store takes minutes; everything else milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_mins(10);
const ANSWER_BYTES_MAX: usize = 64 << 20;
const LINE_BYTES_MAX: usize = 64 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// An edge says its goodbyes within five seconds.
const GONE_WITHIN: Duration = Duration::from_secs(15);
