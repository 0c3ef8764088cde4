//! Asks the endpoint until it wants a login. Names under `.localhost` need not resolve here, and the
//! edge's certificates come from a CA of its own, so both are brought along.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use url::Url;

/// Asks until the answer is that of a served endpoint: 401, because a login is wanted.
pub(super) async fn until_it_answers(url: &str, ca_file: impl AsRef<Path>) -> anyhow::Result<()> {
    let url = Url::parse(url).context("this is no address")?;
    let tls = trusting(ca_file.as_ref())?;
    let until = Instant::now() + ANSWER_WITHIN;
    loop {
        let said = match timeout(TRY_WITHIN, status(&url, &tls)).await {
            Ok(Ok(StatusCode::UNAUTHORIZED)) => return Ok(()),
            Ok(Ok(status)) => format!("it answers {status}"),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it does not answer".to_owned(),
        };
        if Instant::now() >= until {
            bail!("{said} after {} s", ANSWER_WITHIN.as_secs());
        }
        sleep(TRY_EVERY).await;
    }
}

/// One request on a connection of its own.
async fn status(url: &Url, tls: &TlsConnector) -> anyhow::Result<StatusCode> {
    let host = url.host_str().context("the address has no host")?;
    let port = url
        .port_or_known_default()
        .context("the address has no port")?;
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let stream = tls
        .connect(ServerName::try_from(host.to_owned())?, stream)
        .await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(url.path())
        .header("host", format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())?;
    let mut response = pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut response => response?,
        // A connection that ends at once may have brought the answer all the same.
        ended = connection => {
            ended?;
            response.await?
        }
    };
    Ok(response.status())
}

fn trusting(ca_file: &Path) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file)
        .with_context(|| format!("cannot read {}", ca_file.display()))?;
    for certificate in certificates {
        roots.add(certificate?)?;
    }
    ensure!(
        !roots.is_empty(),
        "{} holds no certificate",
        ca_file.display()
    );
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const TRY_WITHIN: Duration = Duration::from_secs(5);
const TRY_EVERY: Duration = Duration::from_millis(100);
