//! Asks the running edge over its socket: one request, one answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
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
        let body = self.send(method, path, body)?;
        serde_json::from_slice(&body).map_err(|error| {
            CliError::Failed(format!("the edge's answer is not understood ({error}): edge and command are of different versions"))
        })
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

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CliError> {
        let socket = socket::path(&self.data_dir);
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let broken = |error: &dyn std::error::Error| {
            CliError::Failed(format!("the edge broke off: {error}"))
        };
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
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|error| broken(error.as_ref()))?.to_bytes();
            if status.is_success() {
                return Ok(body);
            }
            Err(serde_json::from_slice(&body).map_or_else(
                |_| CliError::Failed(format!("the edge answered {status}")),
                CliError::Refused,
            ))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            outcome = answer.as_mut() => outcome,
            // The connection may end as soon as it has given the whole answer.
            _ = connection => answer.await,
        }
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

/// A backup of a large store takes minutes; everything else milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_mins(10);
const ANSWER_BYTES_MAX: usize = 64 << 20;
