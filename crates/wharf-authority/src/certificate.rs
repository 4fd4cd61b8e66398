//! What both sides read in certificates.

use std::time::{Duration, SystemTime};

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{
    certificate::{Validity, X509Certificate},
    extensions::GeneralName,
};

use crate::names::NodeNumber;

/// A certificate is renewed when this part of its life is over: a third of it is left to try again in.
const RENEW_AT: (u32, u32) = (2, 3);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is no X.509 certificate in DER.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// It is no PEM, or holds no certificate.
    #[error("the text holds no certificate in PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// It names no node, or not only one.
    #[error("the certificate is not that of one node")]
    NotANode,
}

/// The node that a certificate was signed for. Whether the fleet's authority signed it, TLS has checked.
///
/// # Errors
/// See [`CertificateError`].
pub fn node_of(certificate: &[u8]) -> Result<NodeNumber, CertificateError> {
    let certificate = parse(certificate)?;
    let names = certificate.subject_alternative_name().map_err(unreadable)?.ok_or(CertificateError::NotANode)?;
    match &*names.value.general_names {
        [GeneralName::DNSName(name)] => NodeNumber::from_dns_name(name).ok_or(CertificateError::NotANode),
        _ => Err(CertificateError::NotANode),
    }
}

/// When a certificate is to be renewed: after two thirds of its life.
///
/// # Errors
/// If it is no certificate.
pub fn renew_after(certificate: &[u8]) -> Result<SystemTime, CertificateError> {
    let (from, until) = life(parse(certificate)?.validity());
    let life = until.duration_since(from).unwrap_or_default();
    let (part, of) = RENEW_AT;
    Ok(from + life * part / of)
}

/// The first certificate of a PEM text.
///
/// # Errors
/// If there is none.
pub fn from_pem(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(CertificateError::Pem)
}

/// A certificate as PEM.
pub fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", certificate.to_vec()), config)
}

pub(crate) fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(CertificateError::Unreadable("more follows it".to_owned())),
        Err(error) => Err(CertificateError::Unreadable(error.to_string())),
    }
}

/// The first and the last moment at which a certificate is valid. Moments before 1970 count as 1970.
pub(crate) fn life(validity: &Validity) -> (SystemTime, SystemTime) {
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
    (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()))
}

fn unreadable(error: impl ToString) -> CertificateError {
    CertificateError::Unreadable(error.to_string())
}
