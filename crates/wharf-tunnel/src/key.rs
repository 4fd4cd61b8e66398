//! The keys that nodes know each other by: Curve25519 (RFC 7748), written in base64 as `wg` writes them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use boringtun::x25519;

/// The length of either key.
const KEY_LENGTH: usize = 32;

/// A text that is not a key.
#[derive(Debug, thiserror::Error)]
#[error("a key is {KEY_LENGTH} bytes in base64, which {text:?} is not")]
pub struct KeyError {
    text: String,
}

/// The secret half of a node's identity. It is wiped from memory when dropped, and never shown.
#[derive(Clone)]
pub struct SecretKey(x25519::StaticSecret);

/// What a node is known by: the public half of its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LENGTH]);

// === impl SecretKey ===

impl SecretKey {
    /// A new key from the kernel's random numbers.
    #[must_use]
    pub fn generate() -> SecretKey {
        SecretKey::from_bytes(random())
    }

    /// The key with these bytes; they are clamped as RFC 7748 §5 says, as `wg genkey` does.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; KEY_LENGTH]) -> SecretKey {
        bytes[0] &= 0b1111_1000;
        bytes[31] &= 0b0111_1111;
        bytes[31] |= 0b0100_0000;
        SecretKey(x25519::StaticSecret::from(bytes))
    }

    /// The bytes, to be kept where nobody else reads.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; KEY_LENGTH] {
        self.0.to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.0).to_bytes())
    }

    pub(crate) fn as_dalek(&self) -> &x25519::StaticSecret {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LENGTH]) -> PublicKey {
        PublicKey(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; KEY_LENGTH] {
        self.0
    }

    pub(crate) fn to_dalek(self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(PublicKey).ok_or_else(|| KeyError { text: text.to_owned() })
    }
}

/// Bytes from the kernel's random numbers.
pub(crate) fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    let filled = filled.expect("the kernel has random numbers for as few as 256 bytes, once it has booted");
    assert_eq!(filled, LENGTH, "up to 256 bytes come in one piece (getrandom(2))");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_reads_back_what_it_prints() {
        let key = SecretKey::generate().public();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert_eq!(key.to_string().len(), 44);
    }

    #[test]
    fn the_public_half_is_that_of_rfc_7748_section_6_1() {
        let secret: [u8; 32] = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c,
            0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let public = SecretKey::from_bytes(secret).public();
        assert_eq!(public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn a_secret_key_survives_its_bytes_and_is_never_shown() {
        let key = SecretKey::generate();
        assert_eq!(SecretKey::from_bytes(key.to_bytes()).public(), key.public());
        assert_eq!(format!("{key:?}"), "SecretKey(hidden)");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "abc", "aGVsbG8=", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo"] {
            assert!(text.parse::<PublicKey>().is_err(), "{text:?}");
        }
    }
}
