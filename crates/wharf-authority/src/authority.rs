//! The authority: signs who is a manager and who is which node.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{
    certificate::{self, CertificateError},
    names::{MANAGER_NAME, NodeNumber},
    token::{self, Digest, NoRandomBytes},
};

/// The authority's name in its certificate.
const AUTHORITY_NAME: &str = "Wharf fleet CA";

/// Ten years: every agent holds the authority's certificate, so that changing it means joining anew.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// A manager signs its own certificate when it starts and long before this ends.
const IDENTITY_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Certificates are valid from before they are signed, for those whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// The largest request that is looked at. One with a P-256 key has some 400 bytes.
const REQUEST_LIMIT: usize = 16 << 10;

/// RFC 5280 section 4.1.2.2 allows 20 bytes; 16 random ones do not repeat.
const SERIAL_BYTES: usize = 16;

/// The fleet's certificate authority. Whoever has its key is every node and every manager.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// Nothing that it signs outlives it.
    until: SystemTime,
}

/// An authority as text: keep the key sealed.
pub struct AuthorityPem {
    /// Its certificate, which is public.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// A manager's certificate and key. `Debug` does not show the key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, signed by the authority.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivatePkcs8KeyDer<'static>,
}

/// Why the authority does not sign, or is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No random bytes for a serial number.
    #[error(transparent)]
    NoRandomBytes(#[from] NoRandomBytes),
    /// Making or signing a certificate failed.
    #[error("the certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// The authority's certificate cannot be read.
    #[error("the authority cannot be read")]
    Certificate(#[from] CertificateError),
    /// The authority's key cannot be read.
    #[error("the authority's key cannot be read")]
    Key(#[source] rcgen::Error),
    /// The certificate is not one of an authority.
    #[error("the certificate is not one of an authority")]
    NotAnAuthority,
    /// The key is not the certificate's.
    #[error("the authority's key is not that of its certificate")]
    OtherKey,
    /// The authority's life is over.
    #[error("the authority has expired")]
    Expired,
    /// A time that no certificate can hold.
    #[error("the certificate would be valid for too long")]
    Life,
    /// The request for a certificate is none, or is signed by another key.
    #[error("the request for a certificate is not valid: {0}")]
    Request(&'static str),
}

// === impl Authority ===

impl Authority {
    /// A new authority, with a new key.
    ///
    /// # Errors
    /// If the system has no random bytes, or the clock is off by centuries.
    pub fn create(now: SystemTime) -> Result<Self, Error> {
        let until = now.checked_add(AUTHORITY_LIFE).ok_or(Error::Life)?;
        let mut params = params(AUTHORITY_NAME, now, until)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let made = CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?;
        Self::from_pem(&made.pem(), &made.key().serialize_pem())
    }

    /// Reads what [`Authority::to_pem`] gave.
    ///
    /// # Errors
    /// If one of them cannot be read, or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let certificate = certificate::from_pem(certificate)?;
        let key = KeyPair::from_pem(key).map_err(Error::Key)?;
        let parsed = certificate::parse(&certificate)?;
        if !parsed.is_ca() {
            return Err(Error::NotAnAuthority);
        }
        if parsed.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(Error::OtherKey);
        }
        let (_, until) = certificate::life(parsed.validity());
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate, issuer, until })
    }

    /// Its certificate and key, to be kept.
    pub fn to_pem(&self) -> AuthorityPem {
        AuthorityPem { certificate: certificate::to_pem(&self.certificate), key: self.issuer.key().serialize_pem() }
    }

    /// Its certificate, which is public.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What join tokens know it by.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// A certificate and a new key for a manager's listener, valid for 90 days. It is for [`MANAGER_NAME`] and for the
    /// given DNS names and IP addresses, by which others than agents may connect.
    ///
    /// # Errors
    /// If a name is none, or the authority has expired.
    pub fn server_identity(&self, names: &[String], now: SystemTime) -> Result<Identity, Error> {
        let names = std::iter::once(MANAGER_NAME.to_owned()).chain(names.iter().cloned());
        let mut params = self.params(MANAGER_NAME, names.collect(), now, IDENTITY_LIFE)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.der().clone(), key: key.serialize_der().into() })
    }

    /// Signs a node's certificate, valid for the duration but no longer than the authority. Gives it as PEM.
    ///
    /// Of the request, which is PKCS #10 (RFC 2986) in PEM, only the public key is taken, after its signature has shown
    /// that the asker has the private one. Names and extensions that it asks for are ignored.
    ///
    /// # Errors
    /// If the request is not valid, or its key is not of ECDSA P-256.
    pub fn sign(&self, request: &str, node: NodeNumber, valid: Duration, now: SystemTime) -> Result<String, Error> {
        let key = requested_key(request)?;
        let mut params = self.params(&node.to_string(), vec![node.dns_name()], now, valid)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(certificate::to_pem(certificate.der()))
    }

    fn params(
        &self,
        name: &str,
        names: Vec<String>,
        now: SystemTime,
        valid: Duration,
    ) -> Result<CertificateParams, Error> {
        if now >= self.until {
            return Err(Error::Expired);
        }
        let until = now.checked_add(valid).ok_or(Error::Life)?.min(self.until);
        let mut params = params(name, now, until)?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        Ok(params)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").field("digest", &self.digest()).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthorityPem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthorityPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// What all certificates have in common.
fn params(name: &str, now: SystemTime, until: SystemTime) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date(now.checked_sub(CLOCK_SKEW).ok_or(Error::Life)?)?;
    params.not_after = date(until)?;
    params.serial_number = Some(serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn serial() -> Result<SerialNumber, Error> {
    let mut bytes: [u8; SERIAL_BYTES] = token::random()?;
    // RFC 5280 section 4.1.2.2: a positive number. Its first byte neither makes it negative nor is zero.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn date(time: SystemTime) -> Result<OffsetDateTime, Error> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| Error::Life)?.as_secs();
    let seconds = i64::try_from(seconds).map_err(|_| Error::Life)?;
    let date = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Life)?;
    // RFC 5280 section 4.1.2.5 has four digits for the year.
    if date.year() > 9999 { Err(Error::Life) } else { Ok(date) }
}

/// The public key of a request whose signature is right.
fn requested_key(request: &str) -> Result<SubjectPublicKeyInfo, Error> {
    if request.len() > REQUEST_LIMIT {
        return Err(Error::Request("it is too long"));
    }
    let pem = pem::parse(request).map_err(|_| Error::Request("it is no PEM"))?;
    let Ok(([], request)) = X509CertificationRequest::from_der(pem.contents()) else {
        return Err(Error::Request("it is no request"));
    };
    request.verify_signature().map_err(|_| Error::Request("its signature is not that of its key"))?;
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| Error::Request("its key is of no known kind"))?;
    if key.algorithm() == &PKCS_ECDSA_P256_SHA256 {
        Ok(key)
    } else {
        Err(Error::Request("its key is not of ECDSA P-256"))
    }
}

#[cfg(test)]
mod tests;
