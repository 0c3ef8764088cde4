//! TLS to the local app: whom to believe, under which name, and why a handshake failed.
//!
//! Verified by default, with this machine's roots or with the ones that were named. Doing without is a
//! choice that somebody made, and is told elsewhere.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How to shake hands with one local app. Cheap to clone; clones share the sessions that a later
/// handshake resumes.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Whose signature makes a certificate good.
#[derive(Clone, Debug)]
pub(crate) enum Roots {
    /// This machine's roots.
    System,
    /// These roots, or one of these certificates itself, and no others.
    Given(Vec<CertificateDer<'static>>),
    /// Anybody's: the connection is encrypted and may be to anybody.
    Anybody,
}

/// Why a handshake failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Refused {
    /// The certificate is nobody's whom we trust, or out of date.
    Certificate(String),
    /// It is for other names.
    Name(String),
    /// It speaks TLS, and not this version of HTTP.
    Protocol,
    /// Everything else.
    Handshake(String),
}

impl Tls {
    /// For a local app whose certificate is for `name`, and that shall speak `alpn`.
    ///
    /// # Errors
    /// A sentence, when the name or a root is not usable.
    pub(crate) fn new(name: &str, alpn: &[u8], roots: Roots) -> Result<Self, String> {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| format!("{name:?} cannot be the name in a certificate"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = verifier(roots, &provider)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            // The platform's own verifier, and the two below, come in by this door only.
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// Shakes hands. The socket is closed when it fails.
    pub(super) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| Refused::from(&error))?;
        let spoken = stream.get_ref().1.alpn_protocol();
        // An app without ALPN speaks HTTP/1.1; HTTP/2 must be agreed on (RFC 9113 §3.2).
        let wants_http2 = self.config.alpn_protocols.iter().any(|name| name == b"h2");
        if spoken.is_none() && wants_http2 {
            return Err(Refused::Protocol);
        }
        Ok(stream)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl From<&io::Error> for Refused {
    fn from(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|source| source.downcast_ref::<Error>());
        let Some(tls) = tls else {
            let is_end = error.kind() == io::ErrorKind::UnexpectedEof;
            return Self::Handshake(if is_end {
                "it closed the connection during the handshake".to_owned()
            } else {
                error.to_string()
            });
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "rustls has some thirty errors and adds more; the rest are told in its words"
        )]
        match tls {
            Error::InvalidCertificate(
                wrong @ (CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. }),
            ) => Self::Name(wrong.to_string()),
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                Self::Certificate("nobody trusted here has signed it".to_owned())
            }
            Error::InvalidCertificate(CertificateError::Other(wrong)) => {
                let name = wrong.0.to_string();
                Self::Certificate(match name.as_str() {
                    "CaUsedAsEndEntity" => "it has signed itself".to_owned(),
                    _ => name,
                })
            }
            Error::InvalidCertificate(wrong) => Self::Certificate(wrong.to_string()),
            Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            | Error::NoApplicationProtocol => Self::Protocol,
            Error::InvalidMessage(_) => Self::Handshake("what answers there is no TLS".to_owned()),
            other => Self::Handshake(other.to_string()),
        }
    }
}

fn verifier(
    roots: Roots,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    Ok(match roots {
        Roots::System => {
            let system = rustls_platform_verifier::Verifier::new(Arc::clone(provider));
            Arc::new(system.map_err(|error| {
                format!("this machine's root certificates cannot be used: {error}")
            })?)
        }
        Roots::Given(certificates) => Arc::new(Given::new(certificates, provider)?),
        Roots::Anybody => Arc::new(Anybody(Arc::clone(provider))),
    })
}

/// Believes certificates under the given ones, and the given ones themselves: what `openssl req -x509`
/// makes for an app is marked as a CA, which no path may end in.
#[derive(Debug)]
struct Given {
    certificates: Vec<CertificateDer<'static>>,
    under: Arc<WebPkiServerVerifier>,
}

impl Given {
    fn new(
        certificates: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| format!("a given CA certificate is not usable: {error}"))?;
        }
        let under =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| error.to_string())?;
        Ok(Self {
            certificates,
            under,
        })
    }
}

impl ServerCertVerifier for Given {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.certificates.iter().any(|given| given == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.under
            .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.under
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.under
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.under.supported_verify_schemes()
    }
}

/// Believes every certificate whose key its owner holds.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
