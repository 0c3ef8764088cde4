//! Logging out: a revocation by the person themselves, on the same path as any other.
//!
//! GET shows a button and ends nothing; POST from the endpoint's own page ends the one session whose
//! cookie verified, wherever it is open.

use http::{Method, request};
use proto::code::Code;
use url::form_urlencoded;

use crate::auth::authorize::{Absent, SIGN_IN, SIGN_IN_AGAIN};
use crate::auth::login::RETURN_TO;
use crate::auth::query::Query;
use crate::auth::reply::{Content, Failure, Link, Reply};
use crate::auth::target::{RESERVED, Target};
use crate::auth::{Auth, cookie, fetch, store_code};
use crate::model::change::Scope;
use crate::model::endpoint::{Access, Endpoint};
use crate::model::session::CutReason;

impl Auth {
    /// `/.sallyport/logout` on an endpoint.
    pub(super) async fn logout_path(
        &self,
        endpoint: &Endpoint,
        parts: &request::Parts,
    ) -> Result<Reply, Failure> {
        let origin = self.origin(endpoint);
        let query = Query::parse(parts.uri.query())?;
        let target = match query.find(RETURN_TO) {
            Some(text) => Some(Target::parse(text, &origin).ok_or(Code::TargetRefused)?),
            None => None,
        };
        if parts.method == Method::POST {
            self.log_out(endpoint, parts, target).await
        } else {
            self.ask_to_log_out(endpoint, parts, target).await
        }
    }

    async fn ask_to_log_out(
        &self,
        endpoint: &Endpoint,
        parts: &request::Parts,
        target: Option<Target>,
    ) -> Result<Reply, Failure> {
        match self.present(endpoint, &parts.headers).await {
            Ok(present) => {
                let claims = &present.session.claims;
                let person = claims.email.as_ref().or(claims.name.as_ref());
                Ok(Content::SignOut {
                    action: form_action(target.as_ref()),
                    person: person.cloned(),
                }
                .into())
            }
            Err(Absent::Unknown(code)) => Err(code.into()),
            Err(Absent::Anonymous | Absent::Ended(_)) => Ok(self.signed_out(endpoint, target)),
        }
    }

    async fn log_out(
        &self,
        endpoint: &Endpoint,
        parts: &request::Parts,
        target: Option<Target>,
    ) -> Result<Reply, Failure> {
        if fetch::is_cross_site(parts, &self.origin(endpoint)) {
            return Err(Code::CrossSiteRefused.into());
        }
        let id = match self.present(endpoint, &parts.headers).await {
            // Its subscription is dropped here: the revocation waits until nobody holds the session.
            Ok(present) => present.session.id,
            Err(Absent::Unknown(code)) => return Err(code.into()),
            Err(Absent::Anonymous) => return Ok(self.signed_out(endpoint, target)),
            Err(Absent::Ended(_)) => return Ok(self.cleared(endpoint, target)),
        };
        self.revocations
            .revoke(
                Scope::Session(id),
                CutReason::LoggedOut,
                "signed out".to_owned(),
                false,
            )
            .await
            .map_err(|error| store_code(&error))?;
        tracing::info!(session.id = %id, endpoint.id = %endpoint.id, "signed out");
        Ok(self.cleared(endpoint, target))
    }

    fn cleared(&self, endpoint: &Endpoint, target: Option<Target>) -> Reply {
        let mut reply = self.signed_out(endpoint, target);
        reply.cookies.push(cookie::clear(cookie::SESSION));
        reply
    }

    fn signed_out(&self, endpoint: &Endpoint, target: Option<Target>) -> Reply {
        let onward = match (target, &endpoint.access) {
            (Some(target), _) => Link {
                label: "Continue",
                url: target.url(&self.origin(endpoint)),
            },
            (None, Access::Login(_)) => Link {
                label: SIGN_IN_AGAIN,
                url: self.login_url(endpoint, &Target::home(), true),
            },
            (None, Access::Public) => Link {
                label: SIGN_IN,
                url: Target::home().url(&self.origin(endpoint)),
            },
        };
        Content::SignedOut { onward }.into()
    }
}

/// The form posts to the page's own address, with the target as it was understood.
fn form_action(target: Option<&Target>) -> String {
    match target {
        Some(target) => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair(RETURN_TO, target.as_str())
                .finish();
            format!("{RESERVED}/logout?{query}")
        }
        None => format!("{RESERVED}/logout"),
    }
}
