//! Other tunnels, as their registries have them: installed once under `target/`, started in front of the same app.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::bench::certificates::Certificates;
use crate::bench::nginx::{free_addr, until_it_listens};
use crate::bench::product::DOMAIN;
use crate::children::Children;
use crate::workspace::find_program;

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    /// TLS between its two sides.
    Rathole,
    /// SSH over WebSocket between its two sides.
    Chisel,
    /// Nothing is encrypted.
    Bore,
}

/// A running one.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pids: Vec<u32>,
    /// Where visitors come, over plain TCP.
    pub(super) addr: SocketAddr,
}

impl Peer {
    pub(super) const ALL: [Self; 3] = [Self::Rathole, Self::Chisel, Self::Bore];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rathole => "rathole",
            Self::Chisel => "chisel",
            Self::Bore => "bore",
        }
    }

    /// What is installed: the version is part of a figure.
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::Rathole => "0.5.0",
            Self::Chisel => "1.11.3",
            Self::Bore => "0.6.0",
        }
    }

    /// Installs it through its registry's client, unless it is there.
    pub(super) async fn install(self, root: &Path) -> anyhow::Result<PathBuf> {
        let target = root.join("target").join("bench-peers");
        let program = target
            .join("bin")
            .join(format!("{}-{}", self.name(), self.version()));
        if program.is_file() {
            return Ok(program);
        }
        eprintln!("installing {} {}", self.name(), self.version());
        fs::create_dir_all(target.join("bin"))?;
        let made = match self {
            Self::Rathole => cargo_install("rathole", self.version(), &target).await?,
            Self::Bore => cargo_install("bore-cli", self.version(), &target).await?,
            Self::Chisel => go_build("github.com/jpillora/chisel", self.version(), &target).await?,
        };
        let made = made.join(self.name());
        fs::rename(&made, &program).with_context(|| format!("no {}", made.display()))?;
        Ok(program)
    }

    /// Starts both of its sides.
    pub(super) async fn start(
        self,
        children: &mut Children,
        program: &Path,
        folder: &Path,
        certificates: &Certificates,
        upstream: SocketAddr,
    ) -> anyhow::Result<Running> {
        let folder = folder.join(self.name());
        fs::create_dir_all(&folder)?;
        let (control, addr) = match self {
            // It knows one port only.
            Self::Bore => (SocketAddr::from(([127, 0, 0, 1], 7835)), free_addr().await?),
            Self::Rathole | Self::Chisel => (free_addr().await?, free_addr().await?),
        };
        let sides = match self {
            Self::Rathole => rathole(&folder, certificates, control, addr, upstream).await?,
            Self::Chisel => chisel(control, addr, upstream),
            Self::Bore => bore(addr, upstream),
        };
        let mut pids = Vec::new();
        for (side, args) in ["edge", "agent"].into_iter().zip(sides) {
            let name = format!("{}-{side}", self.name());
            let says = children.start(name, program, |command| {
                command.current_dir(&folder).args(args);
            })?;
            pids.push(says.pid);
            says.drain();
            if side == "edge" {
                until_it_listens(control).await?;
            }
        }
        until_it_listens(addr).await?;
        Ok(Running { pids, addr })
    }
}

/// Arguments of the public side and of the one beside the app.
type Sides = [Vec<String>; 2];

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

async fn rathole(
    folder: &Path,
    certificates: &Certificates,
    control: SocketAddr,
    addr: SocketAddr,
    upstream: SocketAddr,
) -> anyhow::Result<Sides> {
    let identity = folder.join("identity.pfx");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["pkcs12", "-export", "-passout", "pass:bench", "-in"])
        .arg(&certificates.chain)
        .arg("-inkey")
        .arg(&certificates.key)
        .arg("-out")
        .arg(&identity);
    finish(&mut openssl).await?;
    let (identity, ca) = (identity.display(), certificates.ca.display());
    fs::write(
        folder.join("public.toml"),
        format!(
            "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n\
             [server.transport]\ntype = \"tls\"\n\
             [server.transport.tls]\npkcs12 = \"{identity}\"\npkcs12_password = \"bench\"\n\
             [server.services.app]\nbind_addr = \"{addr}\"\n"
        ),
    )?;
    fs::write(
        folder.join("local.toml"),
        format!(
            "[client]\nremote_addr = \"{control}\"\ndefault_token = \"bench\"\n\
             [client.transport]\ntype = \"tls\"\n\
             [client.transport.tls]\ntrusted_root = \"{ca}\"\nhostname = \"rathole.{DOMAIN}\"\n\
             [client.services.app]\nlocal_addr = \"{upstream}\"\n"
        ),
    )?;
    Ok([words("--server public.toml"), words("--client local.toml")])
}

fn chisel(control: SocketAddr, addr: SocketAddr, upstream: SocketAddr) -> Sides {
    let port = control.port();
    [
        words(&format!("server --host 127.0.0.1 --port {port} --reverse")),
        words(&format!("client http://{control} R:{addr}:{upstream}")),
    ]
}

fn bore(addr: SocketAddr, upstream: SocketAddr) -> Sides {
    let (port, local) = (addr.port(), upstream.port());
    [
        words("server --bind-addr 127.0.0.1 --min-port 1024"),
        words(&format!("local {local} --to 127.0.0.1 --port {port}")),
    ]
}

async fn cargo_install(name: &str, version: &str, target: &Path) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["install", name, "--version", version, "--force", "--root"])
        .arg(target)
        .arg("--target-dir")
        .arg(target.join("build"));
    finish(&mut command).await?;
    Ok(target.join("bin"))
}

/// A module that asks for one version of another, since a list of versions need not be there.
async fn go_build(module: &str, version: &str, target: &Path) -> anyhow::Result<PathBuf> {
    let go = find_program("go").context("go is not installed")?;
    let folder = target.join("go");
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join("go.mod"),
        format!("module bench\n\ngo 1.21\n\nrequire {module} v{version}\n"),
    )?;
    let mut command = Command::new(go);
    command
        .current_dir(&folder)
        .args(["build", "-mod=mod", "-o"])
        .arg(target.join("bin"))
        .arg(module);
    finish(&mut command).await?;
    Ok(target.join("bin"))
}

/// Runs a command to its end; what it prints is shown only when it fails.
async fn finish(command: &mut Command) -> anyhow::Result<()> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot start {program}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("error"))
        .take(3)
        .collect();
    ensure!(
        output.status.success(),
        "{program} failed ({}): {}",
        output.status,
        last.join("; ")
    );
    Ok(())
}
