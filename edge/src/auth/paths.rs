//! The paths that the edge answers itself: `/.sallyport/…` on every endpoint, and the auth host's.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Request, request};
use proto::code::Code;
use serde::Serialize;

use crate::auth::Auth;
use crate::auth::authorize::Absent;
use crate::auth::login::CALLBACK;
use crate::auth::reply::{Content, Failure, Reply};
use crate::auth::target::{RESERVED, Target};
use crate::model::endpoint::Endpoint;
use crate::model::session::Session;
use crate::policy::admits;
use crate::route::table::Route;

impl Auth {
    /// Answers a reserved path of an endpoint.
    pub(crate) async fn endpoint_path(
        &self,
        route: &Route,
        request: Request<Bytes>,
        client: IpAddr,
    ) -> Reply {
        let (parts, _) = request.into_parts();
        let endpoint = route.watch.borrow().clone();
        let Some(endpoint) = endpoint else {
            return Code::UnknownHost.into();
        };
        let path = parts.uri.path().strip_prefix(RESERVED).unwrap_or_default();
        // The keys are public, and upstreams fetch them from wherever they are.
        if path != JWKS && !admits(&endpoint.networks, client) {
            return Code::AddressNotAllowed.into();
        }
        let answer = match path {
            "/login" => match allows(&parts, READ) {
                Ok(()) => self.login_path(&endpoint, &parts).await,
                Err(refused) => Err(refused),
            },
            // Not HEAD: it spends a code.
            "/callback" => match allows(&parts, GET) {
                Ok(()) => self.handover_path(&endpoint, &parts, client).await,
                Err(refused) => Err(refused),
            },
            "/logout" => match allows(&parts, READ_OR_POST) {
                Ok(()) => self.logout_path(&endpoint, &parts).await,
                Err(refused) => Err(refused),
            },
            "/session" => match allows(&parts, READ) {
                Ok(()) => self.session_path(&endpoint, &parts).await,
                Err(refused) => Err(refused),
            },
            JWKS => allows(&parts, READ).map(|()| self.jwks()),
            _ => Err(Code::UnknownPath.into()),
        };
        answered(answer)
    }

    /// Answers a request for the auth host.
    pub(crate) async fn auth_host(&self, request: Request<Bytes>, client: IpAddr) -> Reply {
        let (parts, _) = request.into_parts();
        let path = parts.uri.path();
        let answer = if path == "/login" {
            match allows(&parts, READ) {
                Ok(()) => self.login_page(&parts, client).await,
                Err(refused) => Err(refused),
            }
        } else if let Some(provider) = path.strip_prefix(CALLBACK) {
            match allows(&parts, GET) {
                Ok(()) => self.callback(provider, &parts).await,
                Err(refused) => Err(refused),
            }
        } else {
            Err(Code::UnknownPath.into())
        };
        answered(answer)
    }

    /// Who is signed in. Looking is no activity: a page that asks again and again keeps nobody in.
    async fn session_path(
        &self,
        endpoint: &Endpoint,
        parts: &request::Parts,
    ) -> Result<Reply, Failure> {
        let code = match self.present(endpoint, &parts.headers).await {
            Ok(present) => return Ok(Reply::json(who(&present.session)?)),
            Err(Absent::Unknown(code)) => return Err(code.into()),
            Err(absent) => absent.code(),
        };
        let url = self.login_url(endpoint, &Target::home(), false);
        Err(Failure::from(code).with_login_url(url))
    }

    fn jwks(&self) -> Reply {
        Content::Json {
            body: self.assertions.jwks().to_owned(),
            is_public: true,
        }
        .into()
    }
}

fn answered(answer: Result<Reply, Failure>) -> Reply {
    answer.unwrap_or_else(|failure| {
        tracing::debug!(code = %failure.code, "refused");
        failure.into()
    })
}

fn allows(parts: &request::Parts, methods: &'static str) -> Result<(), Failure> {
    let is_one = methods
        .split(", ")
        .any(|method| parts.method.as_str() == method);
    if is_one {
        Ok(())
    } else {
        Err(Failure::method_not_allowed(methods))
    }
}

/// What scripts of the endpoint may know: no token, no secret.
fn who(session: &Session) -> Result<String, Code> {
    let claims = &session.claims;
    let who = Who {
        user: WhoUser {
            id: session.user.to_string(),
            email: claims.email.as_deref(),
            email_verified: claims.email_verified,
            name: claims.name.as_deref(),
        },
        session: WhoSession {
            id: session.id.to_string(),
            created_at: session.created_at.to_string(),
            expires_at: session.expires_at.to_string(),
        },
        provider: &session.provider,
        endpoint: &session.public_url,
    };
    serde_json::to_string(&who).map_err(|_| Code::Internal)
}

#[derive(Serialize)]
struct Who<'a> {
    user: WhoUser<'a>,
    session: WhoSession,
    provider: &'a str,
    endpoint: &'a str,
}

#[derive(Serialize)]
struct WhoUser<'a> {
    id: String,
    email: Option<&'a str>,
    email_verified: bool,
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct WhoSession {
    id: String,
    created_at: String,
    expires_at: String,
}

const JWKS: &str = "/jwks.json";
const GET: &str = "GET";
const READ: &str = "GET, HEAD";
const READ_OR_POST: &str = "GET, HEAD, POST";
