//! The REST API as an operator's script uses it: which session is the newest, and its end.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::ClientConfig;
use serde::Deserialize;

use crate::bench::load::Door;
use crate::bench::load::http1::{Connection, request};
use crate::bench::product::{DOMAIN, Edge};
use crate::children::Children;

/// A connection with an API key.
#[derive(Debug)]
pub(super) struct Api {
    connection: Connection,
    door: Door,
    headers: String,
}

#[derive(Debug, Deserialize)]
struct Sessions {
    application_sessions: Vec<Session>,
}

#[derive(Debug, Deserialize)]
struct Session {
    id: String,
}

impl Api {
    pub(super) async fn open(
        edge: &Edge,
        children: &Children,
        tls: &Arc<ClientConfig>,
    ) -> anyhow::Result<Self> {
        let key = edge.api_key(children).await?;
        let name = format!("api.{DOMAIN}");
        let door = Door {
            addr: edge.addr,
            authority: format!("{name}:{}", edge.addr.port()),
            name,
            cookie: None,
            tls: Some(Arc::clone(tls)),
        };
        Ok(Self {
            connection: Connection::open_with(&door, ANSWER_BYTES_MAX).await?,
            headers: format!("Authorization: Bearer {key}\r\nNgrok-Version: 2\r\n"),
            door,
        })
    }

    /// The id of the session that came last.
    pub(super) async fn newest_session(&mut self) -> anyhow::Result<String> {
        let ask = request("GET", &self.door, "/app/sessions?limit=1", &self.headers);
        let body = self.connection.read(&ask).await?;
        let sessions: Sessions = serde_json::from_slice(&body)?;
        let newest = sessions.application_sessions.into_iter().next();
        Ok(newest.context("nobody is signed in")?.id)
    }

    /// Revokes a session; the answer comes when its streams are cut.
    pub(super) async fn revoke(&mut self, session: &str) -> anyhow::Result<()> {
        let target = format!("/app/sessions/{session}");
        let ask = request("DELETE", &self.door, &target, &self.headers);
        let status = self.connection.status(&ask).await?;
        ensure!(status == 204, "the API answered {status}");
        Ok(())
    }
}

const ANSWER_BYTES_MAX: usize = 64 * 1024;
