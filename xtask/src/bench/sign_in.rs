//! Signs somebody in over HTTP, as a browser would without showing anything: redirects, cookies of each host, the
//! development provider's form. What it brings back is the cookie that every request of a load carries.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

/// Signs in at an endpoint; gives the `Cookie` header of its session.
pub(super) async fn sign_in(url: &str, tls: &Arc<ClientConfig>) -> anyhow::Result<String> {
    let walk = async {
        let mut browser = Browser {
            tls: Arc::clone(tls),
            cookies: BTreeMap::new(),
        };
        browser.walk(Url::parse(url)?).await
    };
    timeout(WITHIN, walk)
        .await
        .context("signing in takes too long")?
        .with_context(|| format!("cannot sign in at {url}"))
}

struct Browser {
    tls: Arc<ClientConfig>,
    /// By host and name.
    cookies: BTreeMap<(String, String), String>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Browser {
    async fn walk(&mut self, start: Url) -> anyhow::Result<String> {
        let home = start.host_str().context("no host")?.to_owned();
        let (mut url, mut form) = (start, None);
        for _ in 0..STEPS_MAX {
            let answer = self.take(&url, form.take()).await?;
            if let Some(session) = self.cookies.get(&(home.clone(), SESSION.to_owned())) {
                return Ok(format!("{SESSION}={session}"));
            }
            if answer.status.is_redirection() {
                let location = answer.headers.get(LOCATION).context("no Location")?;
                url = url.join(location.to_str()?)?;
            } else if let Some(next) = link(&answer.text, AGAIN) {
                url = url.join(&next)?;
            } else if answer.text.contains(FORM) {
                // The provider's form posts to where it was shown.
                form = Some(format!("username={PERSON}"));
            } else {
                bail!("{url} answered {} without a way on", answer.status);
            }
        }
        bail!("no end of redirects")
    }

    async fn take(&mut self, url: &Url, form: Option<String>) -> anyhow::Result<Answer> {
        let host = url.host_str().context("no host")?.to_owned();
        let port = url.port_or_known_default().context("no port")?;
        let target = url.query().map_or_else(
            || url.path().to_owned(),
            |query| format!("{}?{query}", url.path()),
        );
        let method = if form.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, format!("{host}:{port}"))
            .header("accept", "text/html")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-site", "none");
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .filter(|((of, _), _)| *of == host)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        if form.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request.body(Full::from(form.unwrap_or_default()))?;

        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let answer = if url.scheme() == "https" {
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let name = ServerName::try_from(host.clone())?;
            exchange(connector.connect(name, stream).await?, request).await?
        } else {
            exchange(stream, request).await?
        };
        for cookie in answer.headers.get_all(SET_COOKIE) {
            self.keep(&host, cookie.to_str()?);
        }
        Ok(answer)
    }

    fn keep(&mut self, host: &str, cookie: &str) {
        let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
        let Some((name, value)) = pair.split_once('=') else {
            return;
        };
        let key = (host.to_owned(), name.trim().to_owned());
        if attributes.to_ascii_lowercase().contains("max-age=0") {
            self.cookies.remove(&key);
        } else {
            self.cookies.insert(key, value.trim().to_owned());
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = pin!(connection);
    let talk = async {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, PAGE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        anyhow::Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    let mut talk = pin!(talk);
    let answer = tokio::select! {
        answer = &mut talk => answer?,
        // A connection that ends at once may have brought the answer all the same.
        ended = &mut connection => {
            ended?;
            talk.await?
        }
    };
    ensure!(
        !answer.status.is_server_error(),
        "answered {}: {}",
        answer.status,
        answer.text
    );
    Ok(answer)
}

/// The address of the link with this text.
fn link(html: &str, label: &str) -> Option<String> {
    html.split("<a ").skip(1).find_map(|after| {
        let (tag, rest) = after.split_once('>')?;
        let (text, _) = rest.split_once("</a>")?;
        let (_, from) = tag.split_once("href=\"")?;
        let (address, _) = from.split_once('"')?;
        (text.trim() == label).then(|| address.replace("&amp;", "&").replace("&#38;", "&"))
    })
}

/// The session's cookie.
const SESSION: &str = "__Host-sallyport";
/// The button in front of a login after a revocation.
const AGAIN: &str = "Sign in again";
/// Marks the development provider's form.
const FORM: &str = "id=\"sign-in\"";
const PERSON: &str = "ada";
const STEPS_MAX: usize = 20;
const PAGE_BYTES_MAX: usize = 1024 * 1024;
const WITHIN: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_by_their_text() {
        let html =
            "<a href=\"/no\">Other</a> <a class=\"b\" href=\"/x?a=1&amp;b=2\"> Sign in again </a>";
        assert_eq!(link(html, AGAIN).as_deref(), Some("/x?a=1&b=2"));
        assert_eq!(link(html, "Nothing"), None);
    }
}
