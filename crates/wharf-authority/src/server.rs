//! The manager's end of TLS.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
};

use crate::{
    authority::{Authority, Identity},
    certificate::{self, CertificateError},
    names::NodeNumber,
};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The authority's certificate cannot be used to check others.
    #[error("the authority's certificate cannot be used")]
    Authority(#[source] VerifierBuilderError),
    /// The identity cannot be used.
    #[error("the manager's certificate cannot be used")]
    Identity(#[from] rustls::Error),
}

/// Why the other end of a connection is no node.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It showed no certificate.
    #[error("this needs a node's certificate: join first")]
    NoCertificate,
    /// Its certificate names no node.
    #[error("this needs a node's certificate")]
    Certificate(#[from] CertificateError),
}

/// How a manager serves TLS 1.3: with its identity, and the authority's certificate after it, by whose digest joining
/// agents know it. Who shows a certificate must have one that the authority signed for a client and that is valid now;
/// who shows none is let in, and [`peer`] tells.
///
/// # Errors
/// See [`ServerError`].
pub fn server_config(authority: &Authority, identity: Identity) -> Result<ServerConfig, ServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(ServerError::Authority)?;
    let chain = vec![identity.certificate, authority.certificate().clone()];
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(identity.key))?;
    // A resumed session would outlive the certificate that it began with. Agents connect rarely: they need no tickets.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The node at the other end, from what [`peer_certificates`](rustls::CommonState::peer_certificates) gives.
///
/// # Errors
/// See [`PeerError`].
pub fn peer(certificates: Option<&[CertificateDer<'_>]>) -> Result<NodeNumber, PeerError> {
    let certificate = certificates.and_then(<[_]>::first).ok_or(PeerError::NoCertificate)?;
    Ok(certificate::node_of(certificate)?)
}
