//! The operator's command line: what `edge` understands, and how it ends.
//!
//! `serve` runs an edge and is handed back to `main`; `config`, `completion`, `man` and `docs` work
//! alone; everything else asks the running edge over its socket. A secret is never an argument:
//! arguments stand in process lists.

mod act;
mod client;
mod docs;
mod print;
mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use proto::code::Code;

use crate::admin::views::ErrorView;
use crate::config::{
    ConfigError, KeyEnvironment, Overrides, Settings, default_data_dir, parse_duration,
};

/// Sallyport's edge: ends TLS in public, knows who is signed in, decides, and cuts.
#[derive(Debug, Parser)]
#[command(name = "edge", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// The folder of store, keys and socket [default: $XDG_DATA_HOME/sallyport, else ~/.local/share/sallyport]
    #[arg(
        long,
        global = true,
        env = "SALLYPORT_DATA_DIR",
        value_name = "DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an edge; without configuration on loopback, with a domain of its own
    Serve(ServeFlags),
    #[command(flatten)]
    Ask(Ask),
    /// The configuration file
    #[command(subcommand)]
    Config(Config),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completion { shell: clap_complete::Shell },
    /// Print the manual page
    Man {
        /// Write a page for every command into this folder instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print generated documentation
    #[command(subcommand, hide = true)]
    Docs(Docs),
}

/// Commands that ask the running edge.
#[derive(Debug, Subcommand)]
enum Ask {
    /// Identity providers that people sign in with
    #[command(subcommand)]
    Provider(Provider),
    /// What agents authenticate with
    #[command(subcommand)]
    Authtoken(Credential),
    /// What API clients authenticate with
    #[command(subcommand)]
    ApiKey(Credential),
    /// Operators of the dashboard
    #[command(subcommand)]
    Operator(Operator),
    /// End sessions now, on every edge, and cut what they have open
    Revoke(RevokeFlags),
    /// Show what a revocation reached
    Receipt {
        /// A receipt's id, `rcpt_…`
        id: String,
    },
    /// How the running edge is
    Status,
    /// End the running edge politely: agents go elsewhere, what is open finishes
    ///
    /// TCP and TLS connections cannot be told: those that are quiet are closed after a second, those that wait for an answer or still move have until the limit. A signal (SIGTERM, Ctrl+C) does the same with 10 s, a second one ends at once.
    Drain {
        /// How long open exchanges may take; what is left is cut then
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
        timeout: Duration,
    },
    /// Copy the store into a new file, while the edge runs
    Backup {
        /// The new file; nothing is overwritten
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct ServeFlags {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The public port, over the file's [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The domain under which endpoints live, over the file's
    #[arg(long)]
    domain: Option<String>,
    /// Ports for TCP endpoints, such as 20000-20100 [default: none]
    #[arg(long, value_name = "FIRST-LAST")]
    tcp_ports: Option<String>,
    /// Networks whose PROXY protocol headers are believed, and required; may be repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    trusted_proxies: Vec<String>,
    /// Allow --trusted-proxies to name every address
    #[arg(long)]
    danger_trust_any_proxy: bool,
    /// A listener for /metrics, /healthz and /readyz, without a login: for loopback or a private
    /// network; over the file's [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// A file for the access log, opened anew on SIGHUP; over the file's [default: standard error]
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// What to log, such as `info` or `edge=debug`
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Provider {
    /// Add a provider, or replace the one of that name
    Add(AddProvider),
    /// List providers
    List,
    /// Remove a provider; sessions that came through it end
    Remove { name: String },
}

#[derive(Debug, Args)]
struct AddProvider {
    /// A preset such as `google`, or a name of your own with --issuer
    name: String,
    /// The client id that the provider gave you
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// A file that holds the client secret, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    client_secret_file: PathBuf,
    /// The issuer's address, for any OpenID Connect provider
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// A scope beyond the usual ones; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Credential {
    /// Make one; its secret is shown once
    Create {
        /// What it is for, so that you know later
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List them, without secrets
    List,
    /// Revoke one, for good
    Revoke { id: String },
}

#[derive(Debug, Subcommand)]
enum Operator {
    /// Make a link that signs one browser in to the dashboard, once, within ten minutes
    Link,
}

#[derive(Debug, Args)]
struct RevokeFlags {
    #[command(subcommand)]
    scope: RevokeScope,
    /// Why, for the receipt; at most 255 characters
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    reason: String,
}

#[derive(Debug, Subcommand)]
enum RevokeScope {
    /// One signed-in browser, `app_sess_…`
    Session { id: String },
    /// All sessions of a person, `app_user_…`
    User { id: String },
    /// All sessions at an endpoint, `ep_…` (see `edge status`)
    Endpoint { id: String },
    /// All sessions that came through a provider
    Provider { name: String },
    /// All sessions of all people
    All,
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Check a file, and show what an edge would run with
    Check {
        /// The configuration file; without it, the defaults are shown
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Docs {
    /// The configuration's reference, in Markdown
    Config,
    /// Every metric that an edge serves, in Markdown
    Metrics,
    /// Every route of API, dashboard and socket with what it needs, as JSON
    Routes,
}

/// What `main` does after the command line was read.
#[derive(Debug)]
pub(crate) enum Outcome {
    Exit(ExitCode),
    Serve(Box<Serve>),
}

/// An edge to run.
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) settings: Settings,
    pub(crate) json: bool,
    /// A filter for the log; `None` for the usual one.
    pub(crate) log: Option<String>,
}

/// How a command ends other than well.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("no edge is running on the data folder {}", folder.display())]
    NotRunning { folder: PathBuf, start: String },
    /// What the edge answered.
    #[error("{}", .0.msg)]
    Refused(ErrorView),
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// The class of a failure, for scripts.
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Config(_) => 3,
            Self::NotRunning { .. } => 4,
            Self::Refused(_) => 5,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            Self::Config(error) => Some(error.next_step()),
            Self::NotRunning { start, .. } => Some(start.clone()),
            // The message says it all; "see the message" would be no step.
            Self::Refused(view)
                if view.next_step.is_empty()
                    || view.next_step == Code::ApiParameterInvalid.next_step() =>
            {
                None
            }
            Self::Refused(view) => Some(view.next_step.clone()),
            Self::Failed(_) => None,
        }
    }

    fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(view) => Some(&view.error_code),
            Self::Config(_) | Self::NotRunning { .. } | Self::Failed(_) => None,
        }
    }
}

/// Reads the command line and does what it says, apart from serving.
pub(crate) fn run() -> Outcome {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with code 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return Outcome::Exit(ExitCode::from(code));
        }
    };
    let json = cli.common.json;
    match dispatch(cli) {
        Ok(outcome) => outcome,
        Err(error) => {
            print::failure(&error, error.code(), error.next_step().as_deref(), json);
            Outcome::Exit(ExitCode::from(error.exit_code()))
        }
    }
}

/// Says that a command failed, with the cause and what to do.
pub(crate) fn failed(error: &dyn std::error::Error, next_step: Option<&str>, json: bool) {
    print::failure(error, None, next_step, json);
}

fn dispatch(cli: Cli) -> Result<Outcome, CliError> {
    let Common { data_dir, json } = cli.common;
    match cli.command {
        Command::Serve(flags) => {
            let overrides = Overrides {
                listen: flags.listen,
                domain: flags.domain,
                data_dir,
                tcp_ports: flags.tcp_ports,
                trusted_proxies: flags.trusted_proxies,
                danger_trust_any_proxy: flags.danger_trust_any_proxy,
                metrics: flags.metrics,
                access_log: flags.access_log,
            };
            let settings =
                Settings::load(flags.config.as_deref(), overrides, KeyEnvironment::read())?;
            return Ok(Outcome::Serve(Box::new(Serve {
                settings,
                json,
                log: flags.log,
            })));
        }
        Command::Config(Config::Check { config }) => {
            act::check_config(config.as_deref(), data_dir, json)?;
        }
        Command::Version => print::text(concat!("edge ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Completion { shell } => docs::completion(&mut Cli::command(), shell),
        Command::Man { dir } => docs::man(Cli::command(), dir.as_deref())?,
        Command::Docs(Docs::Config) => print::text(&crate::config::reference()),
        Command::Docs(Docs::Metrics) => print::text(&crate::metrics::reference()),
        Command::Docs(Docs::Routes) => print::json(&crate::admin::routes::all()),
        Command::Ask(ask) => act::ask(ask, &data_folder(data_dir)?, json)?,
    }
    Ok(Outcome::Exit(ExitCode::SUCCESS))
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "such as 30s, 5m or 1m30s".to_owned())
}

fn data_folder(flag: Option<PathBuf>) -> Result<PathBuf, CliError> {
    flag.or_else(default_data_dir)
        .ok_or(CliError::Config(ConfigError::NoHome))
}

const EXAMPLES: &str = "\
Examples:
  edge serve                                          on loopback, with a development CA
  edge serve --config edge.yml                        in public; see docs/config.md
  edge serve --tcp-ports 20000-20100                  ... with ports for agent tcp
  edge provider add google --client-id ID --client-secret-file FILE
  edge authtoken create                               for `agent config add-authtoken`
  edge operator link                                  into the dashboard
  edge drain --timeout 30s                            before an upgrade

Exit codes:
  0 done               3 configuration
  1 failure            4 edge not running
  2 wrong usage        5 refused by the edge";

#[cfg(test)]
mod tests;
