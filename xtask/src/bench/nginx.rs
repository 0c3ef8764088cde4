//! nginx three times: the app behind everybody, the TLS reverse proxy that we are compared to, and the same
//! proxy as it comes, without connections kept to the app.
//!
//! The proxy is tuned as somebody would who wants it fast: a worker per core with sockets of their own, HTTP/1.1
//! kept alive to the app, no limit of requests per connection, no temporary files. Like ours it logs each request
//! to a file.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::bench::certificates::Certificates;
use crate::bench::distance::Distance;
use crate::children::Children;
use crate::test::needs::{self, Need};
use crate::workspace::find_program;

/// Installs nginx where that is possible; else says how.
pub(super) fn install() -> anyhow::Result<PathBuf> {
    const NEEDS: [Need; 1] = [Need {
        what: "nginx",
        programs: &["nginx"],
        package: "nginx",
        is_needed: true,
    }];
    let missing = needs::get(&NEEDS);
    if let Some(line) = missing.first() {
        bail!("missing: {line}");
    }
    find_program("nginx").context("nginx is not installed")
}

/// A running nginx.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nginx {
    pub(super) pid: u32,
    pub(super) addr: SocketAddr,
}

/// Where each kind of nginx sends what it gets.
#[derive(Debug)]
pub(super) enum Role<'a> {
    /// Answers itself.
    Upstream { files: &'a Path },
    /// Ends TLS and passes on.
    Proxy {
        certificates: &'a Certificates,
        pages: SocketAddr,
        app: SocketAddr,
        keeps_alive: bool,
    },
}

impl Nginx {
    pub(super) async fn start(
        children: &mut Children,
        name: &str,
        folder: &Path,
        role: &Role<'_>,
    ) -> anyhow::Result<Self> {
        let nginx = Self::spawn(children, name, folder, role, None).await?;
        until_it_listens(nginx.addr)
            .await
            .with_context(|| format!("nginx ({name}) did not start"))?;
        Ok(nginx)
    }

    /// Starts it, at the far end of a slow way where there is one, and waits for nothing.
    pub(super) async fn spawn(
        children: &mut Children,
        name: &str,
        folder: &Path,
        role: &Role<'_>,
        far: Option<&Distance>,
    ) -> anyhow::Result<Self> {
        let program = find_program("nginx").context("nginx is not installed")?;
        let prefix = folder.join(name);
        fs::create_dir_all(&prefix)?;
        let addr = free_addr().await?;
        let config = prefix.join("nginx.conf");
        fs::write(&config, configuration(&prefix, addr, role))?;
        let (program, before) = match far {
            Some(distance) => distance.inside(&program),
            None => (program, Vec::new()),
        };
        let says = children.start_group(name, &program, |command| {
            command
                .args(before)
                .arg("-p")
                .arg(&prefix)
                .arg("-c")
                .arg(&config)
                .arg("-e")
                .arg(prefix.join("error.log"))
                .args(["-g", "daemon off;"]);
        })?;
        let pid = says.pid;
        says.drain();
        Ok(Self { pid, addr })
    }
}

/// An address that was free a moment ago: nginx cannot say which one it took.
pub(super) async fn free_addr() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(listener.local_addr()?)
}

pub(super) async fn until_it_listens(addr: SocketAddr) -> anyhow::Result<()> {
    let until = Instant::now() + START_WITHIN;
    while let Err(error) = TcpStream::connect(addr).await {
        if Instant::now() >= until {
            return Err(error).with_context(|| format!("nobody listens on {addr}"));
        }
        sleep(TRY_EVERY).await;
    }
    Ok(())
}

fn configuration(prefix: &Path, addr: SocketAddr, role: &Role<'_>) -> String {
    let prefix = prefix.display();
    let (log, server) = match role {
        Role::Upstream { files } => ("access_log off;".to_owned(), upstream(addr, files)),
        Role::Proxy {
            certificates,
            pages,
            app,
            keeps_alive,
        } => (
            format!("access_log {prefix}/access.log combined;"),
            proxy(addr, certificates, *pages, *app, *keeps_alive),
        ),
    };
    format!(
        "\
worker_processes auto;
worker_rlimit_nofile {FILES};
pid {prefix}/nginx.pid;
events {{ worker_connections {CONNECTIONS}; }}
http {{
  {log}
  sendfile on;
  tcp_nodelay on;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {prefix}/body;
  proxy_temp_path {prefix}/proxy;
  fastcgi_temp_path {prefix}/fastcgi;
  uwsgi_temp_path {prefix}/uwsgi;
  scgi_temp_path {prefix}/scgi;
{server}}}
"
    )
}

fn upstream(addr: SocketAddr, files: &Path) -> String {
    let body = "x".repeat(BODY_BYTES);
    let files = files.display();
    format!(
        "  server {{
    listen {addr} reuseport backlog=4096;
    root {files};
    location = {SMALL} {{ default_type text/plain; return 200 \"{body}\"; }}
    location / {{ default_type application/octet-stream; }}
  }}
"
    )
}

fn proxy(
    addr: SocketAddr,
    certificates: &Certificates,
    pages: SocketAddr,
    app: SocketAddr,
    keeps_alive: bool,
) -> String {
    let (chain, key) = (certificates.chain.display(), certificates.key.display());
    let (pool, kept) = if keeps_alive {
        (
            "keepalive 64; keepalive_requests 1000000000; keepalive_timeout 300s;",
            "proxy_http_version 1.1; proxy_set_header Connection \"\";",
        )
    } else {
        ("", "")
    };
    format!(
        "  upstream pages {{ server {pages}; {pool} }}
  upstream app {{ server {app}; {pool} }}
  server {{
    listen {addr} ssl http2 reuseport backlog=4096;
    ssl_certificate {chain};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    proxy_max_temp_file_size 0;
    proxy_request_buffering off;
    proxy_read_timeout 300s;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    {kept}
    location / {{ proxy_pass http://pages; }}
    location /app/ {{ proxy_pass http://app; }}
    location /app/echo {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_set_header Host $host;
    }}
    location /app/hold {{ proxy_pass http://app; proxy_buffering off; }}
  }}
"
    )
}

/// The small answer.
pub(super) const SMALL: &str = "/1k";
const BODY_BYTES: usize = 1024;
/// Each client's connection has one to the app; the largest case has 10,000.
const CONNECTIONS: u32 = 30_000;
const FILES: u32 = 65_000;
const START_WITHIN: Duration = Duration::from_secs(10);
const TRY_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_a_kilobyte() {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let text = configuration(
            Path::new("/p"),
            addr,
            &Role::Upstream {
                files: Path::new("/f"),
            },
        );
        let body = text.split('"').nth(1).unwrap();
        assert_eq!(body.len(), 1024);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert!(text.contains("access_log off;"));
    }
}
