//! The end of a login, on the endpoint's own host: the code is spent, the browser compared, the
//! session made, its cookie set.

use std::net::IpAddr;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, request};
use proto::code::Code;
use proto::id::SessionId;

use crate::auth::authorize::{Absent, SIGN_IN, SIGN_IN_AGAIN, refusal};
use crate::auth::flow::{HandOver, after};
use crate::auth::query::Query;
use crate::auth::reply::{Failure, Reply};
use crate::auth::target::Target;
use crate::auth::{Auth, binding, cookie, store_code};
use crate::model::endpoint::{Access, Endpoint, LoginRule};
use crate::model::session::{Browser, Session};
use crate::policy::evaluate;
use crate::secret::{self, Secret};
use crate::store::{NewSession, OnceKind, StoreError};

impl Auth {
    /// `/.sallyport/callback` on an endpoint.
    pub(super) async fn handover_path(
        &self,
        endpoint: &Endpoint,
        parts: &request::Parts,
        client: IpAddr,
    ) -> Result<Reply, Failure> {
        let query = Query::parse(parts.uri.query())?;
        let code = query.find("code").ok_or(Code::CallbackMalformed)?;
        // Before the code is spent: while the store is away, the same address can be tried again.
        let held = match self.present(endpoint, &parts.headers).await {
            Ok(present) => Some(present.session),
            Err(Absent::Unknown(code)) => return Err(code.into()),
            Err(Absent::Anonymous | Absent::Ended(_)) => None,
        };
        let home = || self.login_url(endpoint, &Target::home(), false);
        let invalid = || Failure::from(Code::HandOverInvalid).offering(SIGN_IN, home());
        let over = self.take_once(OnceKind::HandOver, code).await?;
        let over: HandOver = over.ok_or_else(invalid)?;
        let is_ours = over.ticket.endpoint == endpoint.id
            && over.ticket.bound.holds(over.ticket.login, &parts.headers);
        if !is_ours {
            return Err(invalid());
        }
        let location = over.ticket.target.url(&self.origin(endpoint));
        let unbind = binding::clear(over.ticket.login);
        if held.as_deref().is_some_and(|held| is_newer(held, &over)) {
            return Ok(Reply::redirect(location, vec![unbind]));
        }
        if over.is_late(self.clock.now()) {
            let arrives = held.map(|_| Reply::redirect(location, vec![unbind]));
            return arrives.ok_or_else(invalid);
        }
        let Access::Login(rule) = &endpoint.access else {
            return Ok(Reply::redirect(location, vec![unbind]));
        };
        if rule.provider != over.provider {
            return Err(invalid());
        }
        if let Some(code) = refusal(evaluate(rule, &over.claims())) {
            return Err(self.not_let_in(endpoint, &over.ticket.target, code));
        }
        let again = self.login_url(endpoint, &over.ticket.target, true);
        let browser = self.browser(&parts.headers, client).await;
        let (session, value) = self
            .create(endpoint, rule, over, browser, held.map(|held| held.id))
            .await
            .map_err(|error| {
                let is_revoked = matches!(error, StoreError::RevokedMeanwhile);
                let failure = Failure::from(store_code(&error));
                if is_revoked {
                    failure.offering(SIGN_IN_AGAIN, again)
                } else {
                    failure
                }
            })?;
        let life = session.expires_at.duration_since(session.created_at);
        let life = Duration::try_from(life).unwrap_or_default();
        let set = cookie::set(cookie::SESSION, value.expose(), life);
        Ok(Reply::redirect(location, vec![set, unbind]))
    }

    /// Makes the session, with an id and a secret that nobody has seen before, and its cookie.
    async fn create(
        &self,
        endpoint: &Endpoint,
        rule: &LoginRule,
        over: HandOver,
        browser: Browser,
        replaces: Option<SessionId>,
    ) -> Result<(Session, Secret<String>), StoreError> {
        let now = self.clock.now();
        let id = secret::new_id(self.clock.unix_ms());
        let cookie_secret = Secret::new(secret::random::<32>());
        let new = NewSession {
            id,
            fresh_user: secret::new_id(self.clock.unix_ms()),
            endpoint: endpoint.id,
            public_url: self.origin(endpoint),
            claims: over.claims(),
            secret_hash: secret::sha256(cookie_secret.expose()),
            browser,
            auth_time: over.auth_time,
            created_at: now,
            expires_at: after(now, rule.session_life),
            idle_limit: rule.idle_limit,
            replaces,
            begun_at: over.begun_at(),
            provider: over.provider,
        };
        let session = self.store.create_session(new).await?;
        tracing::info!(
            session.id = %session.id,
            user.id = %session.user,
            endpoint.id = %endpoint.id,
            provider = session.provider,
            "signed in"
        );
        Ok((session, self.cookies.mint(id, &cookie_secret)))
    }

    async fn browser(&self, headers: &HeaderMap, client: IpAddr) -> Browser {
        let raw = headers
            .get(USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default();
        let address = client.to_canonical();
        Browser {
            user_agent: self.user_agents.parse(&raw).await,
            address,
            place: self.geoip.as_ref().and_then(|geoip| geoip.place(address)),
        }
    }
}

/// Whether this browser has signed in as the same person, in another tab, since the login began.
/// That session stays: replacing it would cut what the other tab has open. One that is older was
/// there before anybody proved anything, and is replaced.
fn is_newer(held: &Session, over: &HandOver) -> bool {
    let claims = over.claims();
    held.revision > over.begun_at()
        && held.provider == over.provider
        && held.claims.issuer == claims.issuer
        && held.claims.subject == claims.subject
}
