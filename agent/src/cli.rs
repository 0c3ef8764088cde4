//! The command line: flags and help. What they mean is `config`'s business, what they do `agent`'s.

mod commands;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use proto::bind::{LoginOptions, UpstreamProtocol};

use crate::config::{EndpointConfig, Given, HostHeader, LinkChoice, SpeakConfig, Wanted};

pub use commands::main;

/// Puts a local app on the internet, behind a login if you want one.
#[derive(Debug, Parser)]
#[command(
    name = "agent",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    http: Http,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a local HTTP app; `agent 8080` is short for `agent http 8080`
    Http(Http),
    /// Serve endpoints of the configuration file
    Start(Start),
    /// Set this machine up
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Args, Debug)]
struct Http {
    /// The local app: a port, host:port, http://host:port or https://host:port
    #[arg(value_name = "UPSTREAM", required = true)]
    upstream: Option<String>,
    #[command(flatten)]
    endpoint: EndpointArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Args, Debug)]
struct EndpointArgs {
    /// Ask visitors to log in at this identity provider of the edge
    #[arg(long, value_name = "PROVIDER")]
    oauth: Option<String>,
    /// Let in only these e-mail addresses; may be repeated
    #[arg(long, value_name = "EMAIL", value_delimiter = ',', requires = "oauth")]
    oauth_allow_email: Vec<String>,
    /// Let in only e-mail addresses of these domains; may be repeated
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', requires = "oauth")]
    oauth_allow_domain: Vec<String>,
    /// The name or URL to serve under, instead of a random name that stays
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    url: Option<String>,
    /// Share the name with other agents of the same authtoken
    #[arg(long, visible_alias = "pooling-enabled")]
    pooling: bool,
    #[command(flatten)]
    speak: SpeakArgs,
}

#[derive(Args, Debug)]
struct SpeakArgs {
    /// The HTTP that the local app speaks; http2 is with prior knowledge, and by ALPN over https
    #[arg(
        long,
        value_name = "http1|http2",
        value_parser = protocol,
        default_value = "http1",
        hide_default_value = true,
        visible_alias = "app-protocol"
    )]
    upstream_protocol: UpstreamProtocol,
    /// The Host that the local app gets: preserve (what the visitor named), rewrite (its own address),
    /// or a host. Location headers and cookies stay as the app sends them
    #[arg(long, value_name = "preserve|rewrite|HOST")]
    host_header: Option<String>,
    /// Believe an https app whose certificate is under these PEM roots, or is one of them, instead of
    /// this machine's
    #[arg(long, value_name = "FILE", visible_alias = "upstream-tls-verify-cas")]
    upstream_ca: Option<PathBuf>,
    /// With =false, do not check who an https app is
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        hide_default_value = true,
        action = clap::ArgAction::Set
    )]
    upstream_tls_verify: bool,
}

#[derive(Args, Debug)]
struct Start {
    /// Names of endpoints in the file
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// Serve every endpoint of the file
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Args, Debug)]
struct RunArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Where an edge is, instead of where the authtoken says; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    connect_url: Vec<String>,
    /// Trust edges with certificates under these PEM roots, such as an edge's link-ca.pem, instead of
    /// the authtoken's pin
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How to reach the edge [default: auto; env: SALLYPORT_LINK]
    #[arg(long, value_name = "LINK")]
    link: Option<LinkChoice>,
    /// End at the first failure instead of trying again
    #[arg(long)]
    fail_fast: bool,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
    /// Log to standard error: a level such as info, a filter, or false
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Args, Debug)]
struct FileArgs {
    /// The configuration file [default: ~/.config/sallyport/agent.yml; env: SALLYPORT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Keep an authtoken on this machine
    AddAuthtoken {
        /// What `edge authtoken create` printed, or - to read it from standard input
        #[arg(value_name = "TOKEN|-")]
        token: String,
        #[command(flatten)]
        file: FileArgs,
    },
    /// Check the configuration file
    Check {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Print where the configuration file is
    Path {
        #[command(flatten)]
        file: FileArgs,
    },
}

impl Http {
    fn wanted(&self) -> Wanted {
        let args = &self.endpoint;
        let login = args.oauth.as_ref().map(|provider| LoginOptions {
            provider: provider.clone(),
            allow_emails: listed(&args.oauth_allow_email),
            allow_domains: listed(&args.oauth_allow_domain),
        });
        Wanted::This(Box::new(EndpointConfig {
            name: None,
            upstream: self.upstream.clone().unwrap_or_default(),
            place: None,
            url: args.url.clone(),
            pooling: args.pooling,
            login,
            speak: args.speak.config(),
        }))
    }
}

impl SpeakArgs {
    fn config(&self) -> SpeakConfig {
        SpeakConfig {
            protocol: self.upstream_protocol,
            host_header: self
                .host_header
                .as_deref()
                .map_or(HostHeader::Preserve, HostHeader::from),
            tls_verify: self.upstream_tls_verify,
            ca: self.upstream_ca.clone(),
        }
    }
}

fn protocol(text: &str) -> Result<UpstreamProtocol, &'static str> {
    match text {
        "http1" => Ok(UpstreamProtocol::Http1),
        "http2" => Ok(UpstreamProtocol::Http2),
        _ => Err("it is http1 or http2"),
    }
}

impl RunArgs {
    fn given(&self, wanted: Wanted) -> Given {
        Given {
            file: self.file.config.clone(),
            wanted,
            connect_urls: listed(&self.connect_url),
            ca: self.ca.clone(),
            link: self.link,
            is_fail_fast: self.fail_fast,
        }
    }

    /// The log's filter, if there is to be one.
    fn log(&self) -> Option<&str> {
        self.log
            .as_deref()
            .filter(|filter| !["false", "off", ""].contains(filter))
    }
}

/// The whole command line, for completions, the manual page and the reference.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Entries without the spaces and empty parts of `a, b,`.
fn listed(entries: &[String]) -> Vec<String> {
    let trimmed = entries.iter().map(|entry| entry.trim());
    trimmed
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect()
}

const EXAMPLES: &str = "\
Examples:
  agent config add-authtoken TOKEN                    once on each machine
  agent 8080                                          a public URL for port 8080
  agent 8080 --oauth google --oauth-allow-domain example.com
                                                      ... for people of example.com
  agent http http://192.0.2.7:3000 --url my-app       ... under a name of your choice

Environment:
  SALLYPORT_AUTHTOKEN (else NGROK_AUTHTOKEN)          instead of the file's authtoken
  SALLYPORT_CONFIG                                    the configuration file
  HTTPS_PROXY, NO_PROXY                               a proxy for the link over TLS
  SALLYPORT_QUIC_RETRY_MS                             when QUIC is tried again where TLS had to do

Exit codes:
  0 ended by a signal after serving    5 endpoint refused (name, provider, rule)
  1 internal error                     6 edge unreachable
  2 wrong usage                        7 edge untrusted
  3 configuration                      8 local app down (with --fail-fast)
  4 authtoken";

#[cfg(test)]
mod tests;
