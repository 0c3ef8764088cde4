//! A small, complete OpenID Connect provider for the demo and the tests: discovery, keys, authorization
//! code with PKCE, ID tokens signed with RS256, userinfo, silent and forced logins.
//!
//! Everybody in it is made up and nobody has a password, so it serves loopback only. It is a program of
//! `xtask` and must never ship in `edge`. What it says is checked strictly, so that a client that is
//! wrong fails here and not at a real provider.
//!
//! Reading order: `people`, `client`, `authorize` (the browser's side), `token` and `userinfo` (the
//! client's side), `ledger` (what it remembers), `keys`, `page`.

mod authorize;
mod client;
mod discovery;
mod fields;
mod keys;
mod ledger;
mod page;
mod people;
mod token;
mod userinfo;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::dev_provider::client::{Client, Redirects};
use crate::dev_provider::keys::SigningKey;
use crate::dev_provider::ledger::Ledger;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; loopback only
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The one client that may ask for logins
    #[arg(long, default_value = "sallyport-dev")]
    client_id: String,
    /// Its secret; a fresh one when left out
    #[arg(long)]
    client_secret: Option<String>,
    /// A redirect URI to accept; when none is given, any on loopback or under .localhost
    #[arg(long = "redirect-uri")]
    redirect_uris: Vec<String>,
    /// Say in one line of JSON when it is ready
    #[arg(long)]
    json: bool,
}

/// Serves until the process is ended.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    ensure!(
        args.listen.ip().is_loopback(),
        "the development provider knows no passwords and serves loopback only"
    );
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let client = Client {
        id: args.client_id,
        secret: args.client_secret.map_or_else(keys::random_text, Ok)?,
        redirects: Redirects::new(args.redirect_uris),
    };
    let provider = Provider::new(listener.local_addr()?, client)?;
    if args.json {
        let line = serde_json::json!({
            "event": "ready",
            "issuer": provider.issuer,
            "client_id": provider.client.id,
            "client_secret": provider.client.secret,
        });
        println!("{line}");
    } else {
        println!("Issuer         {}", provider.issuer);
        println!("Client id      {}", provider.client.id);
        println!("Client secret  {}", provider.client.secret);
        println!("People         {}", people::usernames());
    }
    axum::serve(listener, router(provider)).await?;
    Ok(ExitCode::SUCCESS)
}

/// What every handler sees.
#[derive(Debug)]
struct Provider {
    issuer: String,
    /// Cookies ignore ports, so each provider on this machine has a cookie name of its own.
    cookie_name: String,
    client: Client,
    key: SigningKey,
    ledger: Ledger,
}

impl Provider {
    fn new(addr: SocketAddr, client: Client) -> anyhow::Result<Self> {
        Ok(Self {
            issuer: format!("http://{addr}"),
            cookie_name: format!("dev-provider-{}", addr.port()),
            client,
            key: SigningKey::generate()?,
            ledger: Ledger::default(),
        })
    }
}

fn router(provider: Provider) -> Router {
    Router::new()
        .route("/", get(page::home))
        .route("/sign-out", post(page::sign_out))
        .route("/healthz", get(async || "ok"))
        .route(
            "/.well-known/openid-configuration",
            get(discovery::configuration),
        )
        .route("/jwks.json", get(discovery::keys))
        .route("/authorize", get(authorize::ask).post(authorize::answer))
        .route("/token", post(token::exchange))
        .route("/userinfo", get(userinfo::show).post(userinfo::show))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(Arc::new(provider))
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// More than any form here needs.
const FORM_BYTES_MAX: usize = 64 * 1024;
