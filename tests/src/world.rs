//! A world of its own for each test: an edge with its own domain and data folder, providers, an app that
//! counts, and agents in front of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::api::Api;
use crate::net::Net;
use crate::process::{self, Output, Process};
use crate::provider::Provider;
use crate::require;
use crate::upstream::Upstream;
use crate::user::User;
use crate::wait;

/// Everything that a test needs. Programs are killed when it is dropped.
#[derive(Debug)]
pub struct World {
    pub dir: TempDir,
    pub edge: Edge,
    pub net: Net,
    pub api: Api,
    pub authtoken: String,
    pub authtoken_id: String,
    pub upstream: Upstream,
    /// The development provider, registered as `dev`.
    pub dev: Option<Provider>,
    /// What the edge wrote about itself when it was ready.
    pub ready: Value,
    agents: std::sync::atomic::AtomicUsize,
}

/// How a world is made.
#[derive(Debug, Default)]
pub struct Builder {
    config: Option<String>,
    has_provider: bool,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    data_dir: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// The program `edge serve` of a world.
#[derive(Debug)]
pub struct Edge {
    pub process: Process,
    pub data_dir: PathBuf,
    logs: PathBuf,
    home: PathBuf,
    arguments: Vec<String>,
    wrapper: Vec<String>,
}

/// A running agent; killed when dropped.
#[derive(Debug)]
#[must_use = "an agent ends when it is dropped"]
pub struct Agent {
    pub process: Process,
    /// The public URL, without a slash at the end.
    pub url: String,
    pub label: String,
    pub endpoint_id: String,
    start: Start,
}

/// How an agent was started, to do it again.
#[derive(Clone, Debug)]
struct Start {
    arguments: Vec<String>,
    home: PathBuf,
    name: String,
    logs: PathBuf,
    env: Vec<(String, String)>,
}

impl Builder {
    /// Text of an `edge.yml`.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// With a development provider, registered as `dev`.
    #[must_use]
    pub fn provider(mut self) -> Self {
        self.has_provider = true;
        self
    }

    /// One more argument of `edge serve`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A command that runs the edge, such as `prlimit … --`.
    #[must_use]
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// A data folder that the test made.
    #[must_use]
    pub fn data_dir(mut self, folder: &Path) -> Self {
        self.data_dir = Some(folder.to_owned());
        self
    }

    /// Whom to trust, where the edge has certificate files of its own.
    #[must_use]
    pub fn ca_file(mut self, file: &Path) -> Self {
        self.ca_file = Some(file.to_owned());
        self
    }

    /// Starts everything.
    pub async fn start(self) -> World {
        crate::net::install_provider();
        let dir = tempfile::Builder::new()
            .prefix("sallyport-test-")
            .tempdir()
            .expect("a temporary folder");
        let logs = dir.path().join("logs");
        std::fs::create_dir_all(&logs).unwrap();
        let mut arguments = self.arguments;
        if let Some(config) = self.config {
            let file = dir.path().join("edge.yml");
            std::fs::write(&file, config).unwrap();
            arguments.extend(["--config".to_owned(), file.display().to_string()]);
        }
        let data_dir = self.data_dir.unwrap_or_else(|| dir.path().join("edge"));
        let (edge, ready) = Edge::start(dir.path(), &data_dir, arguments, self.wrapper).await;
        let addr: SocketAddr = text(&ready, "listen").parse().expect("an address");
        let ca_file = self
            .ca_file
            .unwrap_or_else(|| text(&ready, "ca_file").into());
        let net = Net::new(addr, &text(&ready, "domain"), &ca_file);
        let key = edge.cli(&["api-key", "create", "--json"]).await.json();
        let authtoken = edge.cli(&["authtoken", "create", "--json"]).await.json();
        let dev = if self.has_provider {
            let dev = Provider::dev(&logs, "dev-provider").await;
            edge.add_provider("dev", &dev).await;
            Some(dev)
        } else {
            None
        };
        World {
            api: Api::new(&net, &text(&key, "token")),
            authtoken: text(&authtoken, "token"),
            authtoken_id: text(&authtoken, "id"),
            edge,
            net,
            upstream: Upstream::start().await,
            dev,
            ready,
            agents: std::sync::atomic::AtomicUsize::new(0),
            dir,
        }
    }
}

impl World {
    /// A world to be adjusted.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// An edge alone, with its app.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// With the development provider.
    pub async fn with_login() -> Self {
        Self::builder().provider().start().await
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    /// An agent in front of the app, under a chosen name. `more` are further arguments.
    pub async fn agent(&self, label: &str, more: &[&str]) -> Agent {
        let address = self.upstream.address();
        self.agent_for(label, &address, more).await
    }

    /// As [`World::agent`], with the login of the development provider.
    pub async fn login_agent(&self, label: &str) -> Agent {
        self.agent(label, &["--oauth=dev"]).await
    }

    /// An agent in front of another address.
    pub async fn agent_for(&self, label: &str, upstream: &str, more: &[&str]) -> Agent {
        let mut arguments = vec![
            "http".to_owned(),
            upstream.to_owned(),
            "--url".to_owned(),
            label.to_owned(),
        ];
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        let mut agent = self.start_agent(&arguments).await;
        agent.forwarding().await;
        agent
    }

    /// As [`World::agent`], in an environment of its own.
    pub async fn agent_in(&self, label: &str, more: &[&str], env: &[(&str, &str)]) -> Agent {
        let mut arguments = vec!["http", "--url", label];
        let address = self.upstream.address();
        arguments.push(&address);
        arguments.extend(more);
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
        let mut agent = self.start_agent_in(&arguments, env).await;
        agent.forwarding().await;
        agent
    }

    /// An agent with these arguments and a configuration of its own; not waited for.
    pub async fn start_agent(&self, arguments: &[String]) -> Agent {
        self.start_agent_in(arguments, &[]).await
    }

    /// As [`World::start_agent`], in an environment of its own.
    pub async fn start_agent_in(&self, arguments: &[String], env: &[(&str, &str)]) -> Agent {
        let number = self
            .agents
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("agent-{number}");
        let home = self.dir.path().join(&name);
        std::fs::create_dir_all(&home).unwrap();
        let added = self
            .agent_cli_in(&home, &["config", "add-authtoken", &self.authtoken], &[])
            .await;
        assert_eq!(added.code, Some(0), "{}", added.all());
        let mut arguments = arguments.to_vec();
        arguments.push("--json".to_owned());
        if !arguments
            .iter()
            .any(|argument| argument.starts_with("--log"))
        {
            arguments.push(format!("--log={LOG_FILTER}"));
        }
        let start = Start {
            arguments,
            home,
            name,
            logs: self.logs(),
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        Agent {
            process: start.spawn(),
            url: String::new(),
            label: String::new(),
            endpoint_id: String::new(),
            start,
        }
    }

    /// Runs an agent command to its end, in a home of its own.
    pub async fn agent_cli(&self, arguments: &[&str], env: &[(&str, &str)]) -> Output {
        let number = self
            .agents
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let home = self.dir.path().join(format!("agent-{number}"));
        std::fs::create_dir_all(&home).unwrap();
        self.agent_cli_in(&home, arguments, env).await
    }

    /// Runs an agent command to its end in this home.
    pub async fn agent_cli_in(
        &self,
        home: &Path,
        arguments: &[&str],
        env: &[(&str, &str)],
    ) -> Output {
        let mut command = agent_command(home);
        command.args(arguments).envs(env.iter().copied());
        process::run(command, b"").await
    }

    /// Another run in an agent's home, under its name, with other arguments.
    pub async fn agent_with_home_of(&self, agent: &Agent, more: &[&str]) -> Agent {
        let mut start = agent.start.clone();
        start
            .arguments
            .retain(|argument| !argument.starts_with("--oauth"));
        start
            .arguments
            .extend(more.iter().map(|word| (*word).to_owned()));
        let number = self
            .agents
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        start.name = format!("agent-{number}-again");
        let mut again = Agent {
            process: start.spawn(),
            url: String::new(),
            label: String::new(),
            endpoint_id: String::new(),
            start,
        };
        again.forwarding().await;
        again
    }

    /// An agent in front of the app, in a home that the test made.
    pub async fn agent_in(&self, home: &Path, label: &str) -> Agent {
        let number = self
            .agents
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let arguments = ["http", &self.upstream.address(), "--url", label, "--json"];
        let start = Start {
            arguments: arguments.map(str::to_owned).to_vec(),
            home: home.to_owned(),
            name: format!("agent-{number}"),
            logs: self.logs(),
        };
        let mut agent = Agent {
            process: start.spawn(),
            url: String::new(),
            label: String::new(),
            endpoint_id: String::new(),
            start,
        };
        agent.forwarding().await;
        agent
    }

    /// A fresh browser profile.
    pub fn user(&self, name: &str) -> User {
        User::new(&self.net, name)
    }

    /// A fresh profile, signed in at an endpoint.
    pub async fn signed_in(&self, name: &str, url: &str) -> User {
        let mut user = self.user(name);
        user.sign_in(url).await;
        user
    }

    /// Waits until an agent serves this endpoint again.
    pub async fn online(&self, agent: &Agent) {
        wait::until("the agent is back", || async {
            let status = self.edge.cli(&["status", "--json"]).await.json();
            let endpoints = status["endpoints"].as_array()?;
            endpoints
                .iter()
                .any(|endpoint| endpoint["id"] == agent.endpoint_id.as_str())
                .then_some(())
        })
        .await;
    }

    /// Stops the edge politely and starts it again on the same port.
    pub async fn restart_edge(&mut self) {
        let status = self.edge.process.terminate().await;
        assert_eq!(
            status.code(),
            Some(0),
            "{}",
            self.edge.process.stderr_tail()
        );
        self.start_edge_again().await;
    }

    /// Kills the edge and starts it again on the same port.
    pub async fn kill_edge(&mut self) {
        self.edge.process.kill().await;
        self.start_edge_again().await;
    }

    /// Starts the edge again on the same port.
    pub async fn start_edge_again(&mut self) {
        let mut arguments = self.edge.arguments.clone();
        arguments.extend(["--listen".to_owned(), self.net.addr.to_string()]);
        let wrapper = self.edge.wrapper.clone();
        let data_dir = self.edge.data_dir.clone();
        let (edge, ready) = Edge::start(self.dir.path(), &data_dir, arguments, wrapper).await;
        self.edge = edge;
        assert_eq!(
            ready["domain"].as_str(),
            Some(self.net.domain.as_str()),
            "the domain stays"
        );
    }
}

impl Drop for World {
    /// A failed test's folder stays, with logs and store, to be looked at.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("kept: {}", self.dir.path().display());
        }
    }
}

impl Edge {
    async fn start(
        dir: &Path,
        data_dir: &Path,
        arguments: Vec<String>,
        wrapper: Vec<String>,
    ) -> (Self, Value) {
        let mut all = arguments.clone();
        if !all.iter().any(|argument| argument == "--listen") {
            all.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
        }
        let logs = dir.join("logs");
        let home = dir.join("home");
        std::fs::create_dir_all(&home).unwrap();
        let mut command = wrapped(&wrapper, &require::binary("edge"));
        home_of(&mut command, &home);
        command
            .args(["serve", "--json", "--data-dir"])
            .arg(data_dir)
            .args(&all);
        if !all.iter().any(|argument| argument == "--log") {
            command.args(["--log", LOG_FILTER]);
        }
        let mut process = Process::start(command, "edge", &logs);
        let ready = process.event_named("ready").await;
        let arguments = strip_listen(arguments);
        (
            Self {
                process,
                data_dir: data_dir.to_owned(),
                logs,
                home,
                arguments,
                wrapper,
            },
            ready,
        )
    }

    /// Runs an `edge` command against this edge.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_with(arguments, b"").await
    }

    /// As [`Edge::cli`], with standard input.
    pub async fn cli_with(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut command = edge_command(&self.home);
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data_dir);
        process::run(command, stdin).await
    }

    /// Registers a provider by its issuer.
    pub async fn add_provider(&self, name: &str, provider: &Provider) -> Value {
        let arguments = [
            "provider",
            "add",
            name,
            "--issuer",
            &provider.issuer,
            "--client-id",
            &provider.client_id,
            "--client-secret-file",
            "-",
            "--json",
        ];
        self.cli_with(&arguments, provider.client_secret.as_bytes())
            .await
            .json()
    }

    /// What the edge logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.logs.join("edge.stderr")).unwrap_or_default()
    }
}

impl Agent {
    /// Waits until it serves; keeps its address.
    pub async fn forwarding(&mut self) {
        let event = self.process.event_named("forwarding").await;
        self.url = text(&event, "url").trim_end_matches('/').into();
        self.endpoint_id = text(&event, "endpoint_id");
        let host = url::Url::parse(&self.url)
            .expect("a URL")
            .host_str()
            .expect("a host")
            .to_owned();
        self.label = host.split('.').next().unwrap_or_default().into();
    }

    /// Waits until it is online over this link: `quic` or `tls`.
    pub async fn is_over(&mut self, link: &str) {
        let is_wanted =
            |value: &Value| value["event"] == "status" && value["link"] == link && value["status"] == "online";
        self.process
            .event(&format!("a link over {link}"), is_wanted)
            .await;
    }

    /// Starts it again, as it was, after it ended.
    pub async fn start_again(&mut self) {
        self.process = self.start.spawn();
        let before = self.url.clone();
        self.forwarding().await;
        assert_eq!(self.url, before, "the name stays");
    }

    /// Its folder with configuration and instance.
    pub fn home(&self) -> &Path {
        &self.start.home
    }
}

impl Start {
    fn spawn(&self) -> Process {
        let mut command = agent_command(&self.home);
        command.args(&self.arguments).envs(self.env.iter().cloned());
        Process::start(command, &self.name, &self.logs)
    }
}

/// `edge` with a home of its own.
pub fn edge_command(home: &Path) -> Command {
    let mut command = Command::new(require::binary("edge"));
    home_of(&mut command, home);
    command
}

/// `agent` with a home of its own, so that it neither reads nor writes the developer's.
pub fn agent_command(home: &Path) -> Command {
    let mut command = Command::new(require::binary("agent"));
    home_of(&mut command, home);
    command
}

fn home_of(command: &mut Command, home: &Path) {
    for name in [
        "SALLYPORT_AUTHTOKEN",
        "NGROK_AUTHTOKEN",
        "SALLYPORT_CONFIG",
        "SALLYPORT_DATA_DIR",
        "XDG_DATA_HOME",
        "RUST_LOG",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
    ] {
        command.env_remove(name);
    }
    command
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join(".config"));
}

fn wrapped(wrapper: &[String], program: &Path) -> Command {
    match wrapper.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

fn strip_listen(arguments: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--listen" {
            arguments.next();
        } else {
            kept.push(argument);
        }
    }
    kept
}

#[track_caller]
fn text(value: &Value, key: &str) -> String {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} in {value}"))
        .to_owned()
}

/// Everything of ours, so that the secret scan has something to scan.
const LOG_FILTER: &str = "debug";
