//! How each part is started and set up, through its command line like anybody would.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::process::Command;

use crate::children::{Children, Says};
use crate::place::Place;

/// The development identity provider.
#[derive(Debug, Deserialize)]
pub(super) struct Provider {
    pub(super) issuer: String,
    client_id: String,
    client_secret: String,
}

impl Provider {
    pub(super) async fn start(children: &mut Children) -> anyhow::Result<Self> {
        let xtask = children.xtask();
        let mut says = children.start("provider", &xtask, |command| {
            command.args(["dev-provider", "--json"]);
        })?;
        let ready = says.event("ready").await?;
        says.drain();
        Ok(ready)
    }
}

/// The sample app.
#[derive(Debug, Deserialize)]
pub(super) struct App {
    pub(super) port: u16,
}

impl App {
    pub(super) async fn start(children: &mut Children) -> anyhow::Result<Self> {
        let xtask = children.xtask();
        let mut says = children.start("app", &xtask, |command| {
            command.args(["sample-app", "--json"]);
        })?;
        let ready = says.event("ready").await?;
        says.drain();
        Ok(ready)
    }
}

/// The edge.
#[derive(Debug)]
pub(super) struct Edge {
    program: PathBuf,
    data_dir: PathBuf,
    pub(super) pid: u32,
    pub(super) ready: EdgeReady,
}

/// What the edge says once it is ready.
#[derive(Debug, Deserialize)]
pub(super) struct EdgeReady {
    pub(super) ca_file: String,
    pub(super) auth_url: String,
    pub(super) api_url: String,
    pub(super) dashboard_url: String,
    pub(super) data_dir: String,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
}

#[derive(Debug, Deserialize)]
struct Link {
    url: String,
}

impl Edge {
    pub(super) async fn start(
        children: &mut Children,
        program: &Path,
        place: &Place,
    ) -> anyhow::Result<Self> {
        let data_dir = place.data_dir();
        let mut says = children.start("edge", program, |command| {
            command
                .args(["serve", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
                .arg(&data_dir);
        })?;
        let ready = says.event("ready").await?;
        let pid = says.pid;
        says.drain();
        Ok(Self {
            program: program.to_owned(),
            data_dir,
            pid,
            ready,
        })
    }

    pub(super) async fn add_provider(
        &self,
        children: &Children,
        provider: &Provider,
    ) -> anyhow::Result<()> {
        let Provider {
            issuer,
            client_id,
            client_secret,
        } = provider;
        let args = [
            "provider",
            "add",
            PROVIDER,
            "--issuer",
            issuer,
            "--client-id",
            client_id,
            "--client-secret-file",
            "-",
        ];
        let _: serde::de::IgnoredAny = self
            .ask(children, Some(client_secret), &args)
            .await
            .context("cannot register the identity provider")?;
        Ok(())
    }

    pub(super) async fn create_authtoken(&self, children: &Children) -> anyhow::Result<String> {
        let args = ["authtoken", "create", "--description", "demo"];
        let Token { token } = self
            .ask(children, None, &args)
            .await
            .context("cannot create an authtoken")?;
        Ok(token)
    }

    pub(super) async fn create_api_key(&self, children: &Children) -> anyhow::Result<String> {
        let args = ["api-key", "create", "--description", "demo"];
        let Token { token } = self
            .ask(children, None, &args)
            .await
            .context("cannot create an API key")?;
        Ok(token)
    }

    pub(super) async fn operator_link(&self, children: &Children) -> anyhow::Result<String> {
        let Link { url } = self
            .ask(children, None, &["operator", "link"])
            .await
            .context("cannot create a link for the operator")?;
        Ok(url)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        children: &Children,
        input: Option<&str>,
        args: &[&str],
    ) -> anyhow::Result<T> {
        children
            .ask(&self.program, input, |command| {
                command
                    .args(args)
                    .arg("--json")
                    .arg("--data-dir")
                    .arg(&self.data_dir);
            })
            .await
    }
}

/// The agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) pid: u32,
    pub(super) url: String,
}

#[derive(Debug, Deserialize)]
struct Forwarding {
    url: String,
}

impl Agent {
    pub(super) async fn start(
        children: &mut Children,
        program: &Path,
        place: &Place,
        authtoken: &str,
        port: u16,
    ) -> anyhow::Result<Self> {
        let own_config = |command: &mut Command| {
            command
                .env("SALLYPORT_CONFIG", place.agent_config())
                .env("XDG_CONFIG_HOME", place.agent_config_home());
        };
        // From standard input, so that it is in no list of processes.
        children
            .output(program, Some(authtoken), |command| {
                own_config(command);
                command.args(["config", "add-authtoken", "-"]);
            })
            .await
            .context("cannot give the agent its authtoken")?;
        let mut says: Says = children.start("agent", program, |command| {
            own_config(command);
            command
                .args(["http", &port.to_string()])
                .arg(format!("--oauth={PROVIDER}"))
                .arg("--json");
        })?;
        let Forwarding { url } = says.event("forwarding").await?;
        let pid = says.pid;
        says.drain();
        Ok(Self { pid, url })
    }
}

/// What the provider is called at the edge.
pub(super) const PROVIDER: &str = "dev";
