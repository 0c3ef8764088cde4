//! The one client towards providers: no redirects, capped bodies, bounded time, no proxies from the
//! environment, https except to this machine, and no private addresses.

use std::error::Error;
use std::pin::Pin;
use std::time::Duration;

use http::StatusCode;
use ipnet::IpNet;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::Certificate;
use url::{Host, Url};

use super::IdpError;
use super::address::{self, Allowed, NotAllowed};

/// A bounded client towards providers: no redirects, capped bodies, no private addresses.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    allowed: Allowed,
    loopback_http: bool,
}

/// What the operator allows the client beyond the public internet.
#[derive(Clone, Debug)]
pub(crate) struct HttpOptions {
    /// Loopback issuers may speak http: only while the edge itself serves loopback.
    pub(crate) allow_loopback_http: bool,
    /// DER certificates trusted beside the public roots.
    pub(crate) extra_roots: Vec<Vec<u8>>,
}

impl Http {
    pub(crate) fn new(options: &HttpOptions) -> Result<Self, IdpError> {
        Self::with_networks(options, Vec::new())
    }

    /// Also lets providers live in these private networks.
    pub(crate) fn with_networks(
        options: &HttpOptions,
        networks: Vec<IpNet>,
    ) -> Result<Self, IdpError> {
        let allowed = Allowed::new(options.allow_loopback_http, networks);
        let extra = options
            .extra_roots
            .iter()
            .map(|der| Certificate::from_der(der))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| IdpError::config("an extra root certificate cannot be read"))?;
        let client = builder(&allowed).tls_certs_merge(extra.clone()).build().or_else(|error| {
            // An image without any root certificates can still serve what needs none.
            tracing::warn!(
                error = &error as &dyn Error,
                "no root certificates on this system: only those of the configuration are trusted"
            );
            builder(&allowed).tls_certs_only(extra).build()
        });
        let client =
            client.map_err(|error| IdpError::config(format!("no client: {}", chain(&error))))?;
        Ok(Self {
            client,
            allowed,
            loopback_http: options.allow_loopback_http,
        })
    }

    /// Whether an address may be spoken to at all: https, or http to this machine where allowed.
    pub(super) fn check(&self, url: &Url) -> Result<(), HttpError> {
        match url.host() {
            Some(Host::Ipv4(v4)) if !self.allowed.contains(v4.into()) => {
                return Err(HttpError::Private);
            }
            Some(Host::Ipv6(v6)) if !self.allowed.contains(v6.into()) => {
                return Err(HttpError::Private);
            }
            Some(_) => {}
            None => return Err(HttpError::Scheme),
        }
        self.check_scheme(url)
    }

    /// The part of [`Http::check`] that also holds where only the browser goes.
    pub(super) fn check_scheme(&self, url: &Url) -> Result<(), HttpError> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.loopback_http && is_loopback(url) => Ok(()),
            _ => Err(HttpError::Scheme),
        }
    }

    /// Sends one request and reads its answer whole. Cancelling drops the connection.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = Url::parse(&request.uri().to_string()).map_err(|_| HttpError::Scheme)?;
        self.check(&url)?;
        let request = reqwest::Request::try_from(request).map_err(HttpError::transport)?;
        let mut answer = self
            .client
            .execute(request)
            .await
            .map_err(HttpError::transport)?;
        let status = answer.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(HttpError::Status(status.as_u16()));
        }
        if answer
            .content_length()
            .is_some_and(|length| length > BODY_BYTES_MAX as u64)
        {
            return Err(HttpError::TooLarge);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(HttpError::transport)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

fn builder(allowed: &Allowed) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .dns_resolver(allowed.clone())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_PER_HOST)
        .http1_max_headers(HEADERS_MAX)
        .user_agent(concat!("Sallyport/", env!("CARGO_PKG_VERSION")))
}

/// Whether a URL names this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => address::is_loopback_name(name),
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => v6.is_loopback(),
        None => false,
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// Why a request to a provider got no answer. Holds no part of the request.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("its address is private, which is not allowed")]
    Private,
    #[error("only https is spoken, and http to this machine while the edge serves it alone")]
    Scheme,
    #[error("its answer is larger than {} KiB", BODY_BYTES_MAX / 1024)]
    TooLarge,
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Transport(String),
}

impl HttpError {
    fn transport(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        let mut source = error.source();
        while let Some(cause) = source {
            if cause.is::<NotAllowed>() {
                return Self::Private;
            }
            source = cause.source();
        }
        // The URL goes: what is asked of a provider is nobody's business in a log.
        Self::Transport(chain(&error.without_url()))
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Discovery documents and key sets are some KiB; the largest known key set is about 30.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// For a whole exchange: a person waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_IDLE: Duration = Duration::from_secs(30);
const POOL_PER_HOST: usize = 4;
const HEADERS_MAX: usize = 100;
