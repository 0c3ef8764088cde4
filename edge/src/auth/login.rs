//! Beginning a login: on the endpoint's host a ticket and a binding cookie, nothing else; on the auth
//! host the record, and the way to the provider.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, request};
use proto::code::Code;
use url::form_urlencoded;

use crate::auth::authorize::{Absent, SIGN_IN};
use crate::auth::flow::{BINDING_LIFE, LOGIN_KEPT, Ticket, after};
use crate::auth::query::Query;
use crate::auth::reply::{Failure, Reply};
use crate::auth::target::{RESERVED, Target};
use crate::auth::{Auth, binding, store_code};
use crate::idp::{Begin, IdpError};
use crate::model::endpoint::{Access, Endpoint, LoginRule};
use crate::model::site::ReservedHost;
use crate::secret;
use crate::store::OnceKind;

impl Auth {
    /// Sends a browser to the auth host: 303 with a binding cookie of this endpoint's host.
    pub(super) fn begin(
        &self,
        endpoint: &Endpoint,
        headers: &HeaderMap,
        target: Target,
        interactive: bool,
    ) -> Result<Reply, Failure> {
        let now = self.clock.now();
        let login = secret::new_id(self.clock.unix_ms());
        let (bound, cookies) = binding::bind(login, headers, BINDING_LIFE);
        let mut ticket = Ticket::new(login, endpoint.id, target, bound, interactive, now);
        let mut text = self.write_ticket(&ticket)?;
        if text.len() > TICKET_BYTES_MAX {
            ticket.target = Target::home();
            text = self.write_ticket(&ticket)?;
        }
        let auth = self.site.url(ReservedHost::Auth);
        Ok(Reply::redirect(
            format!("{auth}/login?ticket={text}"),
            cookies,
        ))
    }

    fn write_ticket(&self, ticket: &Ticket) -> Result<String, Code> {
        let text = serde_json::to_vec(ticket).map_err(|_| Code::Internal)?;
        Ok(URL_SAFE_NO_PAD.encode(self.tickets.seal(TICKET, b"", &text)))
    }

    fn read_ticket(&self, text: &str) -> Option<Ticket> {
        if text.len() > TICKET_BYTES_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        serde_json::from_slice(&self.tickets.open(TICKET, b"", &sealed)?).ok()
    }

    /// `/.sallyport/login` on an endpoint. Whoever is signed in goes on at once, except with `again`,
    /// which asks for an interactive login in any case.
    pub(super) async fn login_path(
        &self,
        endpoint: &Endpoint,
        parts: &request::Parts,
    ) -> Result<Reply, Failure> {
        let origin = self.origin(endpoint);
        let query = Query::parse(parts.uri.query())?;
        let target = match query.find(RETURN_TO) {
            Some(text) => Target::parse(text, &origin).ok_or(Code::TargetRefused)?,
            None => Target::home(),
        };
        let Access::Login(rule) = &endpoint.access else {
            return Ok(Reply::redirect(target.url(&origin), Vec::new()));
        };
        let is_again = query.find(AGAIN).is_some();
        match self.present(endpoint, &parts.headers).await {
            Ok(present) if !is_again && present.session.provider == rule.provider => {
                Ok(Reply::redirect(target.url(&origin), Vec::new()))
            }
            Err(Absent::Unknown(code)) => Err(code.into()),
            Ok(_) | Err(_) => self.begin(endpoint, &parts.headers, target, is_again),
        }
    }

    /// `/login` on the auth host: makes the login's record and sends the browser to the provider.
    pub(super) async fn login_page(
        &self,
        parts: &request::Parts,
        client: IpAddr,
    ) -> Result<Reply, Failure> {
        let query = Query::parse(parts.uri.query())?;
        let ticket = query.find("ticket").and_then(|text| self.read_ticket(text));
        let ticket = ticket.ok_or(Code::CallbackMalformed)?;
        let now = self.clock.now();
        let route = self
            .routes
            .by_id(ticket.endpoint)
            .ok_or(Code::UnknownHost)?;
        let endpoint = &route.endpoint;
        let begin_anew = self.login_url(endpoint, &ticket.target, ticket.interactive);
        ticket
            .check(now)
            .map_err(|code| Failure::from(code).offering(SIGN_IN, begin_anew.clone()))?;
        let Access::Login(rule) = &endpoint.access else {
            // It wants no login any more.
            let url = ticket.target.url(&self.origin(endpoint));
            return Ok(Reply::redirect(url, Vec::new()));
        };
        if !self.pace.allows(client) {
            return Err(Code::TooManyLogins.into());
        }
        self.send_to_provider(ticket, rule, &parts.headers)
            .await
            .map_err(|code| Failure::from(code).offering(TRY_AGAIN, begin_anew))
    }

    async fn send_to_provider(
        &self,
        ticket: Ticket,
        rule: &LoginRule,
        headers: &HeaderMap,
    ) -> Result<Reply, Code> {
        let provider = self
            .providers
            .get(&rule.provider)
            .ok_or(Code::ProviderMisconfigured)?;
        // Read before the person is asked: what is revoked from here on is not undone by this login.
        let revision = self
            .store
            .marks()
            .await
            .map_err(|error| store_code(&error))?
            .at;
        let now = self.clock.now();
        let id = secret::new_id(self.clock.unix_ms());
        let (bound, cookies) = binding::bind(id, headers, LOGIN_KEPT);
        let issuer = provider.settings().issuer.clone();
        let login = ticket.begin(id, bound, rule.provider.clone(), issuer, revision, now);
        let state = self.codes.make();
        let begin = Begin {
            redirect_uri: &self.redirect_uri(&login.provider),
            state: &state,
            nonce: &login.nonce,
            verifier: &login.verifier,
            interactive: login.ticket.interactive,
        };
        let url = provider
            .authorize_url(begin)
            .await
            .map_err(|error| provider_code(&login.provider, &error))?;
        let until = after(login.begun, LOGIN_KEPT);
        self.put_once_under(OnceKind::Login, &state, &login, until)
            .await?;
        Ok(Reply::redirect(url, cookies))
    }

    /// Where a person begins a login by hand.
    pub(super) fn login_url(&self, endpoint: &Endpoint, target: &Target, again: bool) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair(RETURN_TO, target.as_str());
        if again {
            query.append_pair(AGAIN, "1");
        }
        format!(
            "{}{RESERVED}/login?{}",
            self.origin(endpoint),
            query.finish()
        )
    }

    /// One address per provider, for all endpoints.
    pub(super) fn redirect_uri(&self, provider: &str) -> String {
        format!("{}{CALLBACK}{provider}", self.site.url(ReservedHost::Auth))
    }
}

/// What a person is told when a provider did not do its part. The cause goes to the log, here.
pub(super) fn provider_code(provider: &str, error: &IdpError) -> Code {
    let code = error.code();
    tracing::warn!(error = error as &dyn std::error::Error, %code, provider, "login failed at the provider");
    code
}

pub(super) const RETURN_TO: &str = "return_to";
pub(super) const AGAIN: &str = "again";
pub(super) const CALLBACK: &str = "/callback/";
/// What a sealed ticket is sealed as.
const TICKET: &str = "ticket";
/// With it the whole address stays within what browsers, proxies and logs carry.
const TICKET_BYTES_MAX: usize = 4096;
const TRY_AGAIN: &str = "Try again";
