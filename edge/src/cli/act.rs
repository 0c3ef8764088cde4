//! What each command does: ask the edge, then print what it said and what comes next.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use proto::code::Code;
use serde_json::json;

use super::client::Client;
use super::{
    AddProvider, Ask, CliError, Credential, Operator, Provider, RevokeFlags, RevokeScope, print,
};
use crate::admin::views::{
    BackupView, CredentialView, FreshCredential, OperatorLink, ProviderView, ReceiptView,
    ScopeView, StatusView,
};
use crate::config::{KeyEnvironment, Overrides, Settings, data_dir_flag};

/// Commands that need a running edge.
pub(super) fn ask(command: Ask, data_dir: &Path, json: bool) -> Result<(), CliError> {
    let data_dir = std::path::absolute(data_dir)
        .map_err(|error| CliError::Failed(format!("{}: {error}", data_dir.display())))?;
    let asked = Asked {
        client: Client::new(&data_dir)?,
        json,
        at: data_dir_flag(&data_dir),
    };
    match command {
        Ask::Provider(Provider::Add(flags)) => asked.add_provider(&flags),
        Ask::Provider(Provider::List) => asked.providers(),
        Ask::Provider(Provider::Remove { name }) => asked.removed(&PROVIDER, &name),
        Ask::Authtoken(Credential::Create { description }) => asked.create_authtoken(&description),
        Ask::Authtoken(Credential::List) => asked.credentials(&AUTHTOKEN),
        Ask::Authtoken(Credential::Revoke { id }) => asked.removed(&AUTHTOKEN, &id),
        Ask::ApiKey(Credential::Create { description }) => asked.create_api_key(&description),
        Ask::ApiKey(Credential::List) => asked.credentials(&API_KEY),
        Ask::ApiKey(Credential::Revoke { id }) => asked.removed(&API_KEY, &id),
        Ask::Operator(Operator::Link) => asked.operator_link(),
        Ask::Revoke(flags) => asked.revoke(flags),
        Ask::Receipt { id } => asked.receipt(&id),
        Ask::Status => asked.status(),
        Ask::Drain { timeout } => asked.drain(timeout),
        Ask::Backup { file } => asked.backup(&file),
    }
}

pub(super) struct Asked {
    pub(super) client: Client,
    pub(super) json: bool,
    /// The flag that finds this edge again, for next steps.
    at: String,
}

/// Things that are listed, and taken away by their id or name.
struct Kind {
    path: &'static str,
    command: &'static str,
    what: &'static str,
    gone: &'static str,
}

const PROVIDER: Kind = Kind {
    path: "/providers",
    command: "provider",
    what: "provider",
    gone: "removed",
};
const AUTHTOKEN: Kind = Kind {
    path: "/authtokens",
    command: "authtoken",
    what: "authtoken",
    gone: "revoked",
};
const API_KEY: Kind = Kind {
    path: "/api-keys",
    command: "api-key",
    what: "API key",
    gone: "revoked",
};

impl Asked {
    /// Prints an answer as JSON, or for people.
    pub(super) fn say<T: serde::Serialize>(&self, answer: &T, people: impl FnOnce(&T) -> String) {
        if self.json {
            print::json(answer);
        } else {
            print::text(&people(answer));
        }
    }

    fn create_authtoken(&self, description: &str) -> Result<(), CliError> {
        let fresh: FreshCredential = self
            .client
            .create("/authtokens", &json!({ "description": description }))?;
        let status: StatusView = self.client.list("/status")?;
        let provider = status.providers.first().map_or("google", String::as_str);
        self.say(&fresh, |fresh| {
            format!(
                "Authtoken {}, shown this once. Next, paste this where your app runs:\n\n  \
                 agent config add-authtoken {}\n\nThen put a login in front of the app:\n\n  \
                 agent 8080 --oauth={provider}\n",
                fresh.id, fresh.token
            )
        });
        Ok(())
    }

    fn create_api_key(&self, description: &str) -> Result<(), CliError> {
        let fresh: FreshCredential = self
            .client
            .create("/api-keys", &json!({ "description": description }))?;
        let status: StatusView = self.client.list("/status")?;
        self.say(&fresh, |fresh| {
            format!(
                "API key {}, shown this once:\n\n  {}\n\nNext:\n  \
                 curl -H 'Authorization: Bearer KEY' -H 'Ngrok-Version: 2' {}/app/users\n",
                fresh.id, fresh.token, status.api_url
            )
        });
        Ok(())
    }

    fn credentials(&self, kind: &Kind) -> Result<(), CliError> {
        let list: Vec<CredentialView> = self.client.list(kind.path)?;
        self.say(&list, |list| {
            if list.is_empty() {
                return format!(
                    "There is none yet.\nnext:  edge {} create{}\n",
                    kind.command, self.at
                );
            }
            let rows: Vec<[String; 4]> = list
                .iter()
                .map(|one| {
                    let state = one
                        .revoked_at
                        .as_ref()
                        .map_or_else(|| "good".to_owned(), |at| format!("revoked {at}"));
                    [
                        one.id.clone(),
                        one.created_at.clone(),
                        state,
                        one.description.clone(),
                    ]
                })
                .collect();
            print::table(["ID", "CREATED", "STATE", "DESCRIPTION"], &rows)
        });
        Ok(())
    }

    fn removed(&self, kind: &Kind, id: &str) -> Result<(), CliError> {
        let &Kind {
            path,
            command,
            what,
            gone,
        } = kind;
        self.client
            .remove(&format!("{path}/{}", segment(id)))
            .map_err(|error| {
                let list = format!("see what there is with: edge {command} list{}", self.at);
                named(error, what, id, list)
            })?;
        self.say(&json!({ "id": id, gone: true }), |_| {
            format!("The {what} {id} is {gone}.\n")
        });
        Ok(())
    }

    fn operator_link(&self) -> Result<(), CliError> {
        let link: OperatorLink = self.client.create("/operator-links", &json!({}))?;
        self.say(&link, |link| {
            format!("Open this in the browser that shall be signed in; it works once, until {}:\n\n  {}\n", link.expires_at, link.url)
        });
        Ok(())
    }

    fn add_provider(&self, flags: &AddProvider) -> Result<(), CliError> {
        let secret = read_secret(&flags.client_secret_file)?;
        let body = json!({
            "name": flags.name,
            "client_id": flags.client_id,
            "client_secret": secret,
            "issuer": flags.issuer,
            "scopes": flags.scopes,
        });
        let provider: ProviderView = self.client.create("/providers", &body)?;
        self.say(&provider, |provider| {
            format!(
                "Provider {} is ready: {}\n\nThis redirect URI must be registered there:\n  {}\n\nNext, where your app runs:\n  agent 8080 --oauth={}\n",
                provider.name, provider.issuer, provider.redirect_uri, provider.name
            )
        });
        Ok(())
    }

    fn providers(&self) -> Result<(), CliError> {
        let list: Vec<ProviderView> = self.client.list("/providers")?;
        self.say(&list, |list| {
            if list.is_empty() {
                return format!(
                    "There is none yet.\nnext:  edge provider add google --client-id … --client-secret-file …{}\n",
                    self.at
                );
            }
            let rows: Vec<[String; 4]> = list
                .iter()
                .map(|one| [one.name.clone(), one.kind.clone(), one.issuer.clone(), one.redirect_uri.clone()])
                .collect();
            print::table(["NAME", "KIND", "ISSUER", "REDIRECT URI"], &rows)
        });
        Ok(())
    }

    fn revoke(&self, RevokeFlags { scope, reason }: RevokeFlags) -> Result<(), CliError> {
        let (what, name, scope) = match scope {
            RevokeScope::Session { id } => ("session", id.clone(), ScopeView::Session(id)),
            RevokeScope::User { id } => ("App User", id.clone(), ScopeView::User(id)),
            RevokeScope::Endpoint { id } => ("endpoint", id.clone(), ScopeView::Endpoint(id)),
            RevokeScope::Provider { name } => ("provider", name.clone(), ScopeView::Provider(name)),
            RevokeScope::All => ("session", String::new(), ScopeView::All(true)),
        };
        let receipt: ReceiptView = self
            .client
            .create("/revocations", &json!({ "scope": scope, "reason": reason }))
            .map_err(|error| {
                let look = match what {
                    "endpoint" => format!("see what is online with: edge status{}", self.at),
                    "provider" => format!("see what there is with: edge provider list{}", self.at),
                    _ => format!("look into the dashboard: edge operator link{}", self.at),
                };
                named(error, what, &name, look)
            })?;
        self.say(&receipt, receipt_text);
        Ok(())
    }

    fn receipt(&self, id: &str) -> Result<(), CliError> {
        let receipt: ReceiptView = self
            .client
            .list(&format!("/receipts/{}", segment(id)))
            .map_err(|error| {
                let look = "give an id as edge revoke and the dashboard show it".to_owned();
                named(error, "receipt", id, look)
            })?;
        self.say(&receipt, receipt_text);
        Ok(())
    }

    fn backup(&self, file: &Path) -> Result<(), CliError> {
        // The edge writes it, and may run in another folder.
        let file =
            std::path::absolute(file).map_err(|error| CliError::Failed(error.to_string()))?;
        let made: BackupView = self.client.create("/backups", &json!({ "file": file }))?;
        self.say(&made, |made| {
            format!("The store is in {}. Keep the cluster key apart from it: together they open every session.\n", made.file)
        });
        Ok(())
    }
}

/// What is not there, by the name that was typed.
fn named(error: CliError, what: &str, id: &str, look: String) -> CliError {
    if let CliError::Refused(mut view) = error {
        if view.error_code == Code::ApiNotFound.to_string() {
            view.msg = format!("there is no {what} {id:?}");
            view.next_step = look;
        }
        CliError::Refused(view)
    } else {
        error
    }
}

fn receipt_text(receipt: &ReceiptView) -> String {
    let scope = match &receipt.scope {
        ScopeView::Session(id) => format!("session {id}"),
        ScopeView::User(id) => format!("user {id}"),
        ScopeView::Endpoint(id) => format!("endpoint {id}"),
        ScopeView::Provider(name) => format!("provider {name}"),
        ScopeView::All(_) => "all sessions".to_owned(),
    };
    let mut facts = vec![
        ("Receipt", receipt.id.clone()),
        ("Revoked", scope),
        ("At", receipt.created_at.clone()),
        ("Sessions ended", receipt.sessions_ended.to_string()),
        (
            "Edges acknowledged",
            format!("{} of {}", receipt.edges.acknowledged, receipt.edges.total),
        ),
        ("Connections cut", receipt.connections_cut.to_string()),
        (
            "Durable",
            if receipt.durable { "yes" } else { "no" }.to_owned(),
        ),
        ("Took", format!("{} ms", receipt.elapsed_ms)),
    ];
    if !receipt.reason.is_empty() {
        facts.push(("Reason", receipt.reason.clone()));
    }
    if !receipt.edges.missing.is_empty() {
        facts.push(("No answer from", receipt.edges.missing.join(", ")));
    }
    print::facts(&facts)
}

/// Checks a configuration without starting anything, and shows what an edge would run with.
pub(super) fn check_config(
    file: Option<&Path>,
    data_dir: Option<PathBuf>,
    json: bool,
) -> Result<(), CliError> {
    let overrides = Overrides {
        data_dir,
        ..Overrides::default()
    };
    let settings = Settings::load(file, overrides, KeyEnvironment::read())?;
    let ends = match settings.domain() {
        Some(domain) => settings.open_certificate(domain)?.map(|cert| cert.ends()),
        None => None,
    };
    let name = file.map_or_else(
        || "The default configuration".to_owned(),
        |file| file.display().to_string(),
    );
    let certificate = settings
        .certificate
        .as_ref()
        .map(|files| files.cert.display().to_string());
    if json {
        print::json(&json!({
            "ok": true,
            "listen": settings.listen.to_string(),
            "domain": settings.domain(),
            "data_dir": settings.data_dir,
            "workers": settings.workers,
            "certificate": certificate,
            "certificate_ends": ends.map(|ends| ends.to_string()),
            "cluster_key": settings.cluster_key_source(),
            "tcp_ports": settings.tcp_ports_text(),
            "metrics": settings.metrics.map(|address| address.to_string()),
            "access_log": settings.access_log,
        }));
        return Ok(());
    }
    let facts = print::facts(&[
        ("Listen", settings.listen.to_string()),
        (
            "Domain",
            settings.domain().map_or_else(
                || "a word under .localhost, kept in the data folder".to_owned(),
                str::to_owned,
            ),
        ),
        (
            "Certificate",
            match (certificate, ends) {
                (Some(file), Some(ends)) => format!("{file}, until {ends}"),
                _ => "a development CA, kept in the data folder".to_owned(),
            },
        ),
        ("Data folder", settings.data_dir.display().to_string()),
        (
            "Cluster key",
            format!("from the {}", settings.cluster_key_source()),
        ),
        ("Workers", settings.workers.to_string()),
        (
            "TCP ports",
            settings
                .tcp_ports_text()
                .unwrap_or_else(|| "none: agent tcp is refused".to_owned()),
        ),
        (
            "Metrics",
            settings.metrics.map_or_else(
                || "none".to_owned(),
                |address| format!("http://{address}/metrics"),
            ),
        ),
        (
            "Access log",
            settings.access_log.as_ref().map_or_else(
                || "standard error, with the rest of the log".to_owned(),
                |file| file.display().to_string(),
            ),
        ),
    ]);
    let flag = file.map_or_else(String::new, |file| format!(" --config {}", file.display()));
    print::text(&format!(
        "{name} is good.\n\n{facts}\nnext:  edge serve{flag}\n"
    ));
    Ok(())
}

/// Reads a secret from a file or standard input: the line end that editors leave is not part of it.
fn read_secret(file: &Path) -> Result<String, CliError> {
    let failed = |error: std::io::Error| {
        CliError::Failed(format!(
            "the client secret cannot be read from {}: {error}",
            file.display()
        ))
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(SECRET_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened
            .take(SECRET_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
    }
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(CliError::Failed(format!(
            "{} holds no client secret",
            file.display()
        )));
    }
    Ok(secret.to_owned())
}

/// A path's segment, whatever was typed.
fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

const SECRET_BYTES_MAX: u64 = 64 * 1024;
