//! Everything that is started for a run: the apps, nginx in front of them, the edge, an agent for each link. All of
//! it ends with us, however we end.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::bench::certificates::Certificates;
use crate::bench::load::Door;
use crate::bench::nginx::{Nginx, Role, SMALL};
use crate::bench::product::{Agent, DOMAIN, Edge, FAR_DOMAIN, Provider, Serve, Site};
use crate::bench::row::{Link, OURS, Series};
use crate::children::Children;
use crate::place::Place;
use crate::workspace::Programs;

/// What runs. Cases may start more.
#[derive(Debug)]
pub(super) struct World {
    pub(super) place: Place,
    pub(super) children: Children,
    pub(super) programs: Programs,
    pub(super) certificates: Certificates,
    pub(super) provider: Provider,
    /// nginx with the small answer and the large files.
    pub(super) pages: SocketAddr,
    /// Our own, for what nginx cannot do.
    pub(super) app: SocketAddr,
    pub(super) proxy: Nginx,
    pub(super) proxy_as_it_comes: Nginx,
    pub(super) edge: Edge,
}

/// Which of the two apps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum App {
    Pages,
    /// Its paths begin with `/app/`.
    Own,
}

/// Somebody who is measured.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) link: Option<Link>,
    pub(super) door: Door,
    /// Whose time on processors counts.
    pub(super) pids: Vec<u32>,
}

impl Subject {
    pub(super) fn series(&self) -> Series {
        Series {
            subject: self.name.to_owned(),
            link: self.link,
            values: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Ready {
    port: u16,
}

impl World {
    pub(super) async fn start(
        place: Place,
        mut children: Children,
        programs: Programs,
    ) -> anyhow::Result<Self> {
        let folder = place.path().to_owned();
        let certificates = Certificates::make(&folder, &[DOMAIN, FAR_DOMAIN])?;
        let provider = Provider::start(&mut children).await?;
        let files = folder.join(FILES);
        fs::create_dir_all(&files)?;
        // Without blocks on the disk: read, it is noughts out of memory.
        File::create(files.join(LARGE.trim_start_matches('/')))?.set_len(LARGE_BYTES)?;

        let role = Role::Upstream { files: &files };
        let pages = Nginx::start(&mut children, "pages", &folder, &role)
            .await?
            .addr;
        let xtask = children.xtask();
        let mut says = children.start("app", &xtask, |command| {
            command.arg("bench-upstream");
        })?;
        let Ready { port } = says.event("ready").await?;
        says.drain();
        let app = SocketAddr::from((Ipv4Addr::LOCALHOST, port));

        let mut proxies = Vec::new();
        for (name, keeps_alive) in [("proxy", true), ("proxy-as-it-comes", false)] {
            let role = Role::Proxy {
                certificates: &certificates,
                pages,
                app,
                keeps_alive,
            };
            proxies.push(Nginx::start(&mut children, name, &folder, &role).await?);
        }
        let [proxy, proxy_as_it_comes] = proxies
            .try_into()
            .map_err(|_| anyhow::anyhow!("two proxies were started"))?;
        let edge = Edge::start(
            &mut children,
            &programs,
            &folder.join("edge"),
            &certificates,
            Site::Here(&provider),
        )
        .await?;
        Ok(Self {
            place,
            children,
            programs,
            certificates,
            provider,
            pages,
            app,
            proxy,
            proxy_as_it_comes,
            edge,
        })
    }

    /// Where the large file is.
    pub(super) fn files(&self) -> PathBuf {
        self.place.path().join(FILES)
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.place.path().to_owned()
    }

    fn upstream(&self, app: App) -> SocketAddr {
        match app {
            App::Pages => self.pages,
            App::Own => self.app,
        }
    }

    /// nginx as the baseline.
    pub(super) fn nginx(&self) -> Subject {
        self.nginx_called("nginx", self.proxy)
    }

    /// nginx without connections kept to the app.
    pub(super) fn nginx_as_it_comes(&self) -> Subject {
        self.nginx_called("nginx, no upstream keep-alive", self.proxy_as_it_comes)
    }

    fn nginx_called(&self, name: &'static str, nginx: Nginx) -> Subject {
        let host = format!("nginx.{DOMAIN}");
        Subject {
            name,
            link: None,
            door: Door {
                addr: nginx.addr,
                authority: format!("{host}:{}", nginx.addr.port()),
                name: host,
                // The same bytes to read and to pass on, although nobody checks them.
                cookie: Some(FAKE_COOKIE.to_owned()),
                tls: Some(self.certificates.http1.clone()),
            },
            pids: vec![nginx.pid],
        }
    }

    /// Our own edge with an agent in front of an app, and somebody signed in. The agent ends with
    /// [`World::leave`].
    pub(super) async fn ours(&mut self, link: Link, app: App) -> anyhow::Result<Subject> {
        let name = match app {
            App::Pages => format!("pages-{link}"),
            App::Own => format!("app-{link}"),
        };
        let serve = Serve {
            name: &name,
            endpoint: &name,
            link,
            upstream: self.upstream(app),
            is_pooled: false,
            far: None,
        };
        let folder = self.folder();
        let agent = Agent::start(
            &mut self.children,
            &self.programs,
            &folder,
            &self.edge,
            &serve,
        )
        .await?;
        Ok(Subject {
            name: OURS,
            link: Some(link),
            door: agent.door(&self.edge, &self.certificates).await?,
            pids: vec![self.edge.pid, agent.pid],
        })
    }

    /// An edge and an agent that nobody has used before.
    pub(super) async fn fresh(
        &mut self,
        name: &str,
        link: Link,
        app: App,
    ) -> anyhow::Result<Subject> {
        let edge = self.fresh_edge(name).await?;
        let agent = format!("{name}-agent");
        let serve = Serve {
            name: &agent,
            endpoint: &agent,
            link,
            upstream: self.upstream(app),
            is_pooled: false,
            far: None,
        };
        let folder = self.folder();
        let agent =
            Agent::start(&mut self.children, &self.programs, &folder, &edge, &serve).await?;
        Ok(Subject {
            name: OURS,
            link: Some(link),
            door: agent.door(&edge, &self.certificates).await?,
            pids: vec![edge.pid, agent.pid],
        })
    }

    pub(super) async fn fresh_edge(&mut self, name: &str) -> anyhow::Result<Edge> {
        let provider = self.provider.clone();
        self.edge_at(name, Site::Here(&provider)).await
    }

    pub(super) async fn edge_at(&mut self, name: &str, site: Site<'_>) -> anyhow::Result<Edge> {
        let folder = self.place.path().join(name);
        Edge::start(
            &mut self.children,
            &self.programs,
            &folder,
            &self.certificates,
            site,
        )
        .await
    }

    /// A proxy that nobody has used before.
    pub(super) async fn fresh_nginx(&mut self, name: &str) -> anyhow::Result<Subject> {
        let role = Role::Proxy {
            certificates: &self.certificates,
            pages: self.pages,
            app: self.app,
            keeps_alive: true,
        };
        let folder = self.place.path().to_owned();
        let nginx = Nginx::start(&mut self.children, name, &folder, &role).await?;
        Ok(self.nginx_called("nginx", nginx))
    }

    /// Stops programs by their process ids, the last one first.
    pub(super) async fn end(&mut self, pids: &[u32]) {
        for pid in pids.iter().rev() {
            self.children.stop_one(*pid).await;
        }
    }

    /// Stops everything and removes the folder.
    pub(super) async fn stop(mut self) {
        self.children.stop().await;
        drop(self.children);
        self.place.remove();
    }

    /// Stops the agents behind these subjects.
    pub(super) async fn leave(&mut self, subjects: &[Subject]) {
        for subject in subjects {
            for pid in &subject.pids {
                let is_agent = subject.name == OURS && *pid != self.edge.pid;
                if is_agent {
                    self.children.stop_one(*pid).await;
                }
            }
        }
    }
}

/// The small answer, from every app's front.
pub(super) const SMALL_TARGET: &str = SMALL;
/// The large file.
pub(super) const LARGE: &str = "/large";
const FILES: &str = "files";
/// What our own app does.
pub(super) const SINK: &str = "/app/sink";
pub(super) const ECHO: &str = "/app/echo";
pub(super) const HOLD: &str = "/app/hold";
const LARGE_BYTES: u64 = 512 * 1024 * 1024;
/// As long as a session's cookie.
const FAKE_COOKIE: &str = "__Host-sallyport=00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
