//! Our own side of what is measured: the edge with everything on, and agents in front of the two apps, all as
//! release builds with a configuration as somebody would write it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::bench::certificates::Certificates;
use crate::bench::distance::Distance;
use crate::bench::load::Door;
use crate::bench::row::Link;
use crate::bench::sign_in::sign_in;
use crate::children::{Children, Says};
use crate::workspace::Programs;

/// A running edge.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub(super) pid: u32,
    pub(super) addr: SocketAddr,
    data_dir: PathBuf,
    pub(super) authtoken: String,
    program: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Ready {
    listen: SocketAddr,
}

/// The development identity provider, as it says that it is ready.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Provider {
    issuer: String,
    client_id: String,
    client_secret: String,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
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

impl Edge {
    /// Starts an edge in a folder of its own, registers the provider and makes an authtoken.
    pub(super) async fn start(
        children: &mut Children,
        programs: &Programs,
        folder: &Path,
        certificates: &Certificates,
        site: Site<'_>,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::write(
            folder.join(CONFIG),
            configuration(certificates, site.domain()),
        )?;
        let mut says = Self::spawn(children, programs, folder, (site.listen(), 0).into())?;
        let Ready { listen } = says.event("ready").await?;
        let pid = says.pid;
        says.drain();
        let mut edge = Self {
            pid,
            addr: SocketAddr::from((site.listen(), listen.port())),
            data_dir: folder.join(DATA),
            authtoken: String::new(),
            program: programs.edge.clone(),
        };
        if let Site::Here(provider) = site {
            edge.register(children, provider).await?;
        }
        let Token { token } = edge
            .ask(children, None, &["authtoken", "create"])
            .await
            .context("cannot create an authtoken")?;
        edge.authtoken = token;
        Ok(edge)
    }

    /// Starts an edge whose folder is ready, and waits for nothing.
    pub(super) fn spawn(
        children: &mut Children,
        programs: &Programs,
        folder: &Path,
        listen: SocketAddr,
    ) -> anyhow::Result<Says> {
        let metrics = accepts(&programs.edge, &["serve"], "--metrics");
        children.start(name_of(folder), &programs.edge, |command| {
            command
                .args(["serve", "--json", "--data-dir"])
                .arg(folder.join(DATA))
                .arg("--config")
                .arg(folder.join(CONFIG))
                .args(["--listen", &listen.to_string()]);
            if metrics {
                command.args(["--metrics", "127.0.0.1:0"]);
            }
        })
    }

    async fn register(&self, children: &Children, provider: &Provider) -> anyhow::Result<()> {
        let args = [
            "provider",
            "add",
            PROVIDER,
            "--issuer",
            &provider.issuer,
            "--client-id",
            &provider.client_id,
            "--client-secret-file",
            "-",
        ];
        let _: serde::de::IgnoredAny = self
            .ask(children, Some(&provider.client_secret), &args)
            .await
            .context("cannot register the identity provider")?;
        Ok(())
    }

    /// The certificate under which agents know the edge.
    pub(super) fn link_ca(&self) -> PathBuf {
        self.data_dir.join("link-ca.pem")
    }

    /// A key for the API.
    pub(super) async fn api_key(&self, children: &Children) -> anyhow::Result<String> {
        let Token { token } = self.ask(children, None, &["api-key", "create"]).await?;
        Ok(token)
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

/// Where an edge is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Site<'a> {
    /// On loopback, where the development provider may be used.
    Here(&'a Provider),
    /// On an address that others can reach, without a login: that provider is for loopback.
    Near(Ipv4Addr),
}

impl Site<'_> {
    fn listen(self) -> Ipv4Addr {
        match self {
            Self::Here(_) => Ipv4Addr::LOCALHOST,
            Self::Near(addr) => addr,
        }
    }

    fn domain(self) -> &'static str {
        match self {
            Self::Here(_) => DOMAIN,
            Self::Near(_) => FAR_DOMAIN,
        }
    }
}

/// A running agent and the endpoint that it serves.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) pid: u32,
    pub(super) url: String,
}

/// What an agent is to do.
#[derive(Debug)]
pub(super) struct Serve<'a> {
    /// Of the process and its folder; the same name again is the same instance.
    pub(super) name: &'a str,
    /// The name of the endpoint.
    pub(super) endpoint: &'a str,
    pub(super) link: Link,
    pub(super) upstream: SocketAddr,
    pub(super) is_pooled: bool,
    /// At the far end of a slow way, for an edge without a login.
    pub(super) far: Option<&'a Distance>,
}

#[derive(Debug, Deserialize)]
struct Forwarding {
    url: String,
}

impl Agent {
    /// Starts an agent and waits until its endpoint is served.
    pub(super) async fn start(
        children: &mut Children,
        programs: &Programs,
        folder: &Path,
        edge: &Edge,
        serve: &Serve<'_>,
    ) -> anyhow::Result<Self> {
        let mut says = Self::spawn(children, programs, folder, edge, serve)?;
        let Forwarding { url } = says.event("forwarding").await?;
        let pid = says.pid;
        says.drain();
        Ok(Self { pid, url })
    }

    /// Starts an agent, and waits for nothing.
    pub(super) fn spawn(
        children: &mut Children,
        programs: &Programs,
        folder: &Path,
        edge: &Edge,
        serve: &Serve<'_>,
    ) -> anyhow::Result<Says> {
        let mut link = Vec::new();
        if has_links(&programs.agent) {
            link.extend(["--link".to_owned(), serve.link.to_string()]);
        } else if serve.link == Link::Tls {
            bail!("this agent has no TLS link");
        }
        let home = folder.join(serve.name);
        fs::create_dir_all(&home)?;
        let (program, before) = match serve.far {
            Some(distance) => distance.inside(&programs.agent),
            None => (programs.agent.clone(), Vec::new()),
        };
        children.start(serve.name, &program, |command| {
            command
                .env("HOME", &home)
                .env("XDG_CONFIG_HOME", &home)
                .env("SALLYPORT_AUTHTOKEN", &edge.authtoken)
                .args(before)
                .args(["http", &serve.upstream.to_string()])
                .args(["--url", serve.endpoint, "--json"])
                .args(&link);
            if serve.far.is_some() {
                command.args(["--connect-url", &edge.addr.to_string()]);
            } else {
                command.arg(format!("--oauth={PROVIDER}"));
            }
            if serve.is_pooled {
                command.arg("--pooling");
            }
        })
    }

    /// The way in, with a fresh session.
    pub(super) async fn door(
        &self,
        edge: &Edge,
        certificates: &Certificates,
    ) -> anyhow::Result<Door> {
        let mut door = self.door_without_login(edge, &certificates.http1)?;
        door.cookie = Some(sign_in(&self.url, &certificates.http1).await?);
        Ok(door)
    }

    /// The way in as a stranger.
    pub(super) fn door_without_login(
        &self,
        edge: &Edge,
        tls: &Arc<ClientConfig>,
    ) -> anyhow::Result<Door> {
        let url = Url::parse(&self.url)?;
        let name = url.host_str().context("an endpoint has a host")?.to_owned();
        Ok(Door {
            addr: edge.addr,
            authority: format!("{name}:{}", edge.addr.port()),
            name,
            cookie: None,
            tls: Some(Arc::clone(tls)),
        })
    }
}

/// Whether an agent can be told its link.
pub(super) fn has_links(agent: &Path) -> bool {
    accepts(agent, &["http"], "--link")
}

/// Whether a command's help names a flag.
fn accepts(program: &Path, command: &[&str], flag: &str) -> bool {
    std::process::Command::new(program)
        .args(command)
        .arg("--help")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(flag))
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map_or_else(
        || "edge".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// What an operator would write, but for the bound per address: here all clients are one machine.
fn configuration(certificates: &Certificates, domain: &str) -> String {
    format!(
        "domain: {domain}\ncertificate:\n  cert: {}\n  key: {}\n\
         connections_per_address: 100000\n",
        certificates.chain.display(),
        certificates.key.display()
    )
}

/// The domain of edge and nginx; nobody looks it up.
pub(super) const DOMAIN: &str = "bench.localhost";
/// The same where the edge is not on loopback, which takes no name under `.localhost`.
pub(super) const FAR_DOMAIN: &str = "bench.test";
const PROVIDER: &str = "dev";
/// Within an edge's folder.
const CONFIG: &str = "edge.yml";
const DATA: &str = "data";
