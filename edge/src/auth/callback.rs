//! The provider's answer, on the auth host. The order is the defence: the record is read and deleted
//! by state, the browser compared, the path's provider, its issuer, its refusal; only then is a code
//! redeemed, at the provider of the record and no other.

use http::request;
use proto::code::Code;

use crate::auth::authorize::{SIGN_IN, SIGN_IN_AGAIN, refusal};
use crate::auth::flow::{Answer, HAND_OVER_KEPT, Login, after};
use crate::auth::login::provider_code;
use crate::auth::query::Query;
use crate::auth::reply::{Failure, Reply};
use crate::auth::target::RESERVED;
use crate::auth::{Auth, binding, store_code};
use crate::idp::{Expect, Identity};
use crate::model::endpoint::{Access, Endpoint, LoginRule};
use crate::policy::evaluate;
use crate::secret::Secret;
use crate::store::{OnceKind, Person};

impl Auth {
    /// `/callback/<provider>` on the auth host.
    pub(super) async fn callback(
        &self,
        provider_in_path: &str,
        parts: &request::Parts,
    ) -> Result<Reply, Failure> {
        let query = Query::parse(parts.uri.query())?;
        let state = query.find("state").ok_or(Code::LoginUnknown)?;
        let login = self.take_once(OnceKind::Login, state).await?;
        let login: Login = login.ok_or(Code::LoginUnknown)?;
        let is_same_browser = login.bound.holds(login.id, &parts.headers);
        let answer = login.judge(is_same_browser, provider_in_path, self.clock.now())?;
        let Some(route) = self.routes.by_id(login.ticket.endpoint) else {
            return Err(Code::UnknownHost.into());
        };
        let endpoint = &route.endpoint;
        let again = self.login_url(endpoint, &login.ticket.target, login.ticket.interactive);
        let unbind = binding::clear(login.id);
        let rule = match &endpoint.access {
            Access::Login(rule) if rule.provider == login.provider && answer == Answer::GoOn => {
                rule
            }
            // Too late, or another login is wanted by now: the endpoint sorts it out, and a tab that
            // is signed in meanwhile simply arrives.
            Access::Login(_) | Access::Public => return Ok(Reply::redirect(again, vec![unbind])),
        };
        let identity = self
            .redeem(&login, &query)
            .await
            .map_err(|code| Failure::from(code).offering(SIGN_IN, again))?;
        self.admit(endpoint, rule, &login, &identity).await?;
        let location = self.hand_over(endpoint, login, identity).await?;
        Ok(Reply::redirect(location, vec![unbind]))
    }

    /// Asks the record's provider who this is.
    async fn redeem(&self, login: &Login, query: &Query) -> Result<Identity, Code> {
        let provider = self
            .providers
            .get(&login.provider)
            .ok_or(Code::ProviderMisconfigured)?;
        if provider.settings().issuer != login.issuer {
            // Registered anew under the same name meanwhile.
            return Err(Code::IssuerMismatch);
        }
        let told = |error| provider_code(&login.provider, &error);
        provider
            .check_issuer(query.find("iss"))
            .await
            .map_err(told)?;
        if query.find("error").is_some() {
            // Its words are anybody's words: they are neither shown nor logged.
            return Err(Code::ProviderRefused);
        }
        let code = query.find("code").ok_or(Code::CallbackMalformed)?;
        let expect = Expect {
            redirect_uri: &self.redirect_uri(&login.provider),
            nonce: &login.nonce,
            verifier: &login.verifier,
            interactive_since: login.interactive_since(),
            now: self.clock.now(),
        };
        provider
            .redeem(Secret::new(code.to_owned()), expect)
            .await
            .map_err(told)
    }

    /// Applies the allow rules, and asks for an interactive login where one is due.
    async fn admit(
        &self,
        endpoint: &Endpoint,
        rule: &LoginRule,
        login: &Login,
        identity: &Identity,
    ) -> Result<(), Failure> {
        if let Some(code) = refusal(evaluate(rule, &identity.claims)) {
            return Err(self.not_let_in(endpoint, &login.ticket.target, code));
        }
        if login.ticket.interactive {
            return Ok(());
        }
        let person = Person {
            issuer: identity.claims.issuer.clone(),
            subject: identity.claims.subject.clone(),
            endpoint: endpoint.id,
            provider: login.provider.clone(),
        };
        let is_due = self.store.interactive_due(person).await;
        if is_due.map_err(|error| store_code(&error))? {
            let again = self.login_url(endpoint, &login.ticket.target, true);
            return Err(Failure::from(Code::SessionRevoked).offering(SIGN_IN_AGAIN, again));
        }
        Ok(())
    }

    /// Leaves the outcome in the store under a single-use code, for the endpoint's own host.
    async fn hand_over(
        &self,
        endpoint: &Endpoint,
        login: Login,
        identity: Identity,
    ) -> Result<String, Code> {
        let now = self.clock.now();
        let over = login.succeed(identity, now);
        let until = after(now, HAND_OVER_KEPT);
        let code = self.put_once(OnceKind::HandOver, &over, until).await?;
        Ok(format!(
            "{}{RESERVED}/callback?code={code}",
            self.origin(endpoint)
        ))
    }
}
