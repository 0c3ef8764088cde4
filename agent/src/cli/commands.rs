//! What each command does, and what it prints. Product lines go to standard output; errors, and the
//! log when asked for, to standard error.

use std::io::{self, Read as _, Write as _};

use clap::Parser as _;
use proto::code::Code;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use super::{Cli, Command, ConfigCommand, FileArgs, RunArgs};
use crate::agent::{self, Agent, Exit};
use crate::config::{self, Config, ConfigError, Environment, SecretText, Wanted};
use crate::status::{Event, Status, Style, Trouble, sentence};

/// Runs the command line to its end and gives the process's exit code.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; the rest is usage. A closed pipe hides either.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let exit = match cli.command {
        None => serve(&cli.http.run, cli.http.wanted()),
        Some(Command::Http(http)) => serve(&http.run, http.wanted()),
        Some(Command::Start(start)) => {
            let wanted = if start.all {
                Wanted::All
            } else {
                Wanted::Named(start.names)
            };
            serve(&start.run, wanted)
        }
        Some(Command::Config(command)) => configure(&command),
        Some(Command::Version) => print(&format!("agent {}\n", env!("CARGO_PKG_VERSION"))),
        Some(Command::Completion { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut super::command(), "agent", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(super::command()).render(&mut page) {
                Ok(()) => print(&String::from_utf8_lossy(&page)),
                Err(error) => internal(&error),
            }
        }
    };
    exit as u8
}

/// Serves until a signal, or until it is of no use.
fn serve(args: &RunArgs, wanted: Wanted) -> Exit {
    if let Err(error) = start_log(args) {
        return failed(args.json, &error);
    }
    // One link, a few copies: a single thread is the quickest for them (measured).
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return internal(&error),
    };
    raise_open_files();
    let exit = runtime.block_on(run(args, wanted));
    // A name look-up that hangs in a thread of its own must not hold the end up.
    runtime.shutdown_background();
    exit
}

async fn run(args: &RunArgs, wanted: Wanted) -> Exit {
    let stop = match stop_signal() {
        Ok(stop) => stop,
        Err(error) => return internal(&error),
    };
    let config = match Config::load(args.given(wanted), &Environment::read()) {
        Ok(config) => config,
        Err(error) => return failed(args.json, &error.into()),
    };
    let style = Style::choose(args.json, args.log().is_some());
    let status = match Status::start(style) {
        Ok(status) => status,
        Err(error) => return internal(&error),
    };
    let ended = match Agent::new(&config, status.clone()) {
        Ok(agent) => {
            drop(config);
            agent.run(stop).await
        }
        Err(error) => Err(error.into()),
    };
    let exit = match ended {
        Ok(()) => Exit::Done,
        Err(trouble) => {
            // On a screen the words below are enough.
            if style != Style::Terminal {
                status.say(Event::Error(trouble.clone()));
            }
            status.finish();
            if style != Style::Json {
                say_error(&trouble);
            }
            return Exit::from(trouble.code);
        }
    };
    status.finish();
    exit
}

fn configure(command: &ConfigCommand) -> Exit {
    let environment = Environment::read();
    let done = match command {
        ConfigCommand::AddAuthtoken { token, file } => add_authtoken(token, file, &environment),
        ConfigCommand::Check { file } => check(file, &environment),
        ConfigCommand::Path { file } => {
            let path = config::path_of(file.config.as_deref(), &environment);
            path.map(|path| format!("{}\n", path.display()))
                .ok_or_else(config::no_home)
        }
    };
    match done {
        Ok(text) => print(&text),
        Err(error) => failed(false, &error.into()),
    }
}

fn add_authtoken(
    token: &str,
    file: &FileArgs,
    environment: &Environment,
) -> Result<String, ConfigError> {
    let token = if token == "-" {
        read_token().map_err(|error| ConfigError {
            code: Code::AuthtokenMissing,
            message: format!("standard input cannot be read: {error}"),
            next_step: "pipe the authtoken into the command".to_owned(),
        })?
    } else {
        SecretText::new(token.to_owned())
    };
    let path = config::add_authtoken(&token, file.config.as_deref(), environment)?;
    Ok(format!(
        "Authtoken saved to {}\nNext: agent 8080\n",
        path.display()
    ))
}

fn read_token() -> io::Result<SecretText> {
    let mut text = Zeroizing::new(String::new());
    io::stdin()
        .take(TOKEN_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(SecretText::new(text.trim().to_owned()))
}

fn check(file: &FileArgs, environment: &Environment) -> Result<String, ConfigError> {
    let checked = config::check(file.config.as_deref(), environment)?;
    for endpoint in &checked.endpoints {
        agent::prepare_upstream(endpoint)?;
    }
    let mut lines = vec![format!("{} is fine", checked.path.display())];
    lines.push(match &checked.authtoken {
        Some(id) => format!("  authtoken {id}"),
        None => "  no authtoken yet: agent config add-authtoken TOKEN".to_owned(),
    });
    for endpoint in &checked.endpoints {
        let name = endpoint.name.as_deref().unwrap_or_default();
        lines.push(format!("  endpoint {name}: {}", endpoint.upstream));
    }
    if checked.is_exposed {
        lines.push("  others on this machine may read the authtoken; close it with:".to_owned());
        lines.push(format!("  chmod 600 {}", checked.path.display()));
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// SIGINT, SIGTERM and the terminal's end are the same wish. A second one is not waited for.
fn stop_signal() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let stop = CancellationToken::new();
    let given = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        given.cancel();
    });
    Ok(stop)
}

fn start_log(args: &RunArgs) -> Result<(), Trouble> {
    let Some(filter) = args.log() else {
        return Ok(());
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| Trouble {
        code: Code::ConfigInvalid,
        message: format!("--log {filter:?} is no filter: {error}"),
        next_step: "give a level such as info, or a filter such as agent=debug".to_owned(),
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}

/// Each visitor's connection is a socket; the soft limit is often 1024.
fn raise_open_files() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::debug!(%error, "limit of open files not raised");
    }
}

/// An error before or without a status.
fn failed(is_json: bool, trouble: &Trouble) -> Exit {
    if is_json {
        if let Ok(status) = Status::start(Style::Json) {
            status.say(Event::Error(trouble.clone()));
            status.finish();
        }
    } else {
        say_error(trouble);
    }
    Exit::from(trouble.code)
}

fn say_error(trouble: &Trouble) {
    let text = format!(
        "error: {} ({})\nnext:  {}\n",
        sentence(&trouble.message),
        trouble.code,
        sentence(&trouble.next_step)
    );
    // Nobody listens: the exit code still tells.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn internal(error: &dyn std::error::Error) -> Exit {
    say_error(&Trouble {
        code: Code::Internal,
        message: error.to_string(),
        next_step: "try again; if it stays, report it".to_owned(),
    });
    Exit::Internal
}

fn print(text: &str) -> Exit {
    // A closed pipe, as after `| head`, is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    Exit::Done
}

impl From<ConfigError> for Trouble {
    fn from(error: ConfigError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            next_step: error.next_step,
        }
    }
}

/// Far above an authtoken's length.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
