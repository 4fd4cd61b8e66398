//! The agent's keys, and its end of TLS once it has joined.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{PrivateKeyDer, pem::PemObject},
};

use crate::certificate::{self, CertificateError};

/// A new key, and the request to have it signed.
pub struct KeyRequest {
    /// The private key as PKCS #8 in PEM, which stays on the node.
    pub key: String,
    /// The request as PKCS #10 (RFC 2986) in PEM. It names nobody: that is the authority's business.
    pub request: String,
}

/// Why an agent cannot connect.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The authority's or the node's certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The node's key cannot be read.
    #[error("the node's key cannot be read")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// They cannot be used, or not together.
    #[error("the certificates cannot be used")]
    Tls(#[from] rustls::Error),
}

/// Makes a key of ECDSA P-256 and a request for it.
///
/// # Errors
/// If the system has no random bytes.
pub fn generate_csr() -> Result<KeyRequest, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?.pem()?;
    Ok(KeyRequest { key: key.serialize_pem(), request })
}

/// How a node that has joined speaks TLS 1.3 to managers: it shows its certificate, and believes who shows one that the
/// authority signed. Connect for [`manager_name`](crate::names::manager_name), whatever the address is.
///
/// # Errors
/// See [`AgentError`].
pub fn agent_config(authority: &str, certificate: &str, key: &str) -> Result<ClientConfig, AgentError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate::from_pem(authority)?)?;
    let chain = vec![certificate::from_pem(certificate)?];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(AgentError::Key)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    // Managers give no tickets.
    config.resumption = Resumption::disabled();
    Ok(config)
}

// === impl KeyRequest ===

impl std::fmt::Debug for KeyRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyRequest").field("request", &self.request).finish_non_exhaustive()
    }
}
