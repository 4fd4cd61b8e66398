//! The agent's end of TLS while it joins: it knows the authority by its digest alone.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{certificate, names::manager_name, token::Digest};

/// More certificates than this are not looked at. A manager sends two.
const CHAIN_LIMIT: usize = 8;

/// One attempt to join.
#[derive(Debug)]
pub struct Joining {
    /// How to connect. The server must show a certificate for the manager's name, whatever name the connector is given,
    /// signed by the authority of the token, whose certificate must be in the chain.
    pub config: ClientConfig,
    found: Arc<OnceLock<CertificateDer<'static>>>,
}

/// The server belongs to another fleet, or somebody is in between.
#[derive(Debug, thiserror::Error)]
#[error("the manager is not of the fleet that issued the join token: no certificate has the digest {0}")]
pub struct OtherAuthority(pub Digest);

#[derive(Debug)]
struct ByDigest {
    authority: Digest,
    provider: Arc<CryptoProvider>,
    found: Arc<OnceLock<CertificateDer<'static>>>,
}

// === impl Joining ===

impl Joining {
    /// Prepares to join the fleet whose authority has this digest.
    ///
    /// # Errors
    /// If TLS cannot be used at all.
    pub fn new(authority: Digest) -> Result<Self, Error> {
        let provider = Arc::new(crypto::ring::default_provider());
        let found = Arc::new(OnceLock::new());
        let verifier = ByDigest { authority, provider: Arc::clone(&provider), found: Arc::clone(&found) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { config, found })
    }

    /// The authority's certificate as PEM, to be kept, once a connection has been made.
    pub fn authority(&self) -> Option<String> {
        self.found.get().map(certificate::to_pem)
    }
}

// === impl ByDigest ===

impl ServerCertVerifier for ByDigest {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let intermediates = intermediates.get(..CHAIN_LIMIT).unwrap_or(intermediates);
        let authority = intermediates.iter().find(|certificate| Digest::of(certificate) == self.authority);
        let authority = authority.ok_or_else(|| {
            let other = OtherError(Arc::new(OtherAuthority(self.authority)));
            Error::InvalidCertificate(CertificateError::Other(other))
        })?;
        // From here on it is an ordinary root, and rustls checks name, time, use and signatures as it does for any.
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let name = manager_name();
        let verified = verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)?;
        self.found.get_or_init(|| authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
