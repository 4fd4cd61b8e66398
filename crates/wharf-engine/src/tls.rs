//! TLS as Docker's own daemon and clients have it: files in PEM form, and `verify` or not. TLS 1.2 and newer.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The files of `--tlscacert`, `--tlscert` and `--tlskey`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whom to trust.
    pub ca: Option<PathBuf>,
    /// Who we are, and whoever vouches for it.
    pub cert: Option<PathBuf>,
    /// The key that proves it.
    pub key: Option<PathBuf>,
}

/// Why TLS cannot be had with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not there, not readable, or not PEM.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// They do not fit together.
    #[error("{0}")]
    Config(#[from] rustls::Error),
    /// Nobody in the file can vouch for a client.
    #[error("{}: {message}", path.display())]
    Verifier {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
}

/// How engines, and managers, are dialled.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// The name that the other side's certificate has to be of; `None` for the host's.
    name: Option<&'static str>,
}

/// How clients are served.
#[derive(Clone)]
pub struct TlsServer(TlsAcceptor);

/// A stream within TLS, and who its client has proved to be.
pub struct TlsServed<S> {
    /// The stream.
    pub stream: tokio_rustls::server::TlsStream<S>,
    /// The client's certificate in DER form; only where clients are verified.
    pub client: Option<Vec<u8>>,
}

impl TlsClient {
    /// A client with the certificate of the files, if there is one; `verify` makes engines prove who they are, to the CA of the
    /// files. Without it, anybody is believed, as Docker's `--tls` does.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(files: &TlsFiles, verify: bool) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &files.ca {
            Some(ca) if verify => builder.with_root_certificates(roots(ca)?),
            _ => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider()))),
        };
        let config = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => builder.with_client_auth_cert(certificates(cert)?, private_key(key)?)?,
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), name: None })
    }

    /// A client that is configured already, for one whose certificate is of this name, whatever its address is.
    pub fn of(config: Arc<ClientConfig>, name: &'static str) -> Self {
        Self { config, name: Some(name) }
    }

    /// Wraps a stream to a host of that name or address.
    ///
    /// # Errors
    /// If the host's name is none that a certificate can have, or the handshake fails.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<tokio_rustls::client::TlsStream<S>> {
        let name = self.name.unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

impl TlsServer {
    /// A server with the certificate of the files; `verify` takes only clients that the CA of the files vouches for.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn new(files: &TlsFiles, verify: bool) -> Result<Self, TlsError> {
        let missing = |what: &str| TlsError::Config(rustls::Error::General(format!("{what} is missing")));
        let cert = files.cert.as_ref().ok_or_else(|| missing("the certificate"))?;
        let key = files.key.as_ref().ok_or_else(|| missing("the key"))?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = if verify {
            let ca = files.ca.as_ref().ok_or_else(|| missing("the CA's certificate"))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider()).build();
            let verifier =
                verifier.map_err(|error| TlsError::Verifier { path: ca.clone(), message: error.to_string() })?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(certificates(cert)?, private_key(key)?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Wraps a client's stream.
    ///
    /// # Errors
    /// If the handshake fails.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsServed<S>> {
        let stream = self.0.accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let client = certificate.map(|certificate| certificate.to_vec());
        Ok(TlsServed { stream, client })
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient")
    }
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsServer")
    }
}

impl<S> std::fmt::Debug for TlsServed<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsServed")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn file<'a, E: std::fmt::Display>(path: &'a Path) -> impl Fn(E) -> TlsError + 'a {
    move |error| TlsError::File { path: path.to_owned(), message: error.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(file(path))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(file(path))?;
    if found.is_empty() { Err(file(path)("there is no certificate in it")) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(file(path))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(file(path))?;
    }
    Ok(roots)
}

/// Believes whatever an engine says it is: Docker's `--tls` without `--tlsverify`.
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
