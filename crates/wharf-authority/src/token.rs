//! Join tokens: what an administrator copies to a new node.
//!
//! A token is `wharf-1-DIGEST-SECRET`. DIGEST is the SHA-256 of the authority's certificate, by which the agent knows
//! the right manager. SECRET is 16 random bytes, by which the manager knows the agent, and a checksum of 4 bytes, by which
//! both know that the token was copied well. Both are base32 (RFC 4648 section 6) in lower case, without padding.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

/// What every token begins with, before its version.
const MARK: &str = "wharf";

/// The version of the form that is described above.
const VERSION: &str = "1";

/// 128 bits cannot be guessed.
const SECRET_BYTES: usize = 16;

/// A mistyped token passes once in 2³² times, and then is an unknown one.
const CHECKSUM_BYTES: usize = 4;

/// The length of the digest's part: 32 bytes, 5 bits a character.
const DIGEST_CHARACTERS: usize = 52;

/// The length of the secret's part: 20 bytes, 5 bits a character.
const SECRET_CHARACTERS: usize = 32;

/// The SHA-256 of an authority's certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// What only a token's holder knows. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

/// What a node needs to join. Its `Display` is the whole token, its `Debug` hides the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Names the authority.
    pub authority: Digest,
    /// Proves that the node was asked to join.
    pub secret: Secret,
}

/// Why a text is no join token. None of them repeats the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is something else.
    #[error("a join token begins with {MARK}-{VERSION}-")]
    NoToken,
    /// A newer Wharf issued it.
    #[error("the join token has version {0:?}; this Wharf knows version {VERSION}")]
    Version(String),
    /// Something is missing, or something follows.
    #[error("a join token has 4 parts with a - between them, this one has {0}: it was not copied whole")]
    Parts(usize),
    /// A part is too short or too long.
    #[error("part {part} of the join token has {length} characters, not {expected}: it was not copied whole")]
    Length {
        /// Which part, from 1.
        part: usize,
        /// How many characters it has.
        length: usize,
        /// How many it should have.
        expected: usize,
    },
    /// A character that occurs in no token.
    #[error("character {position} of the join token is {character:?}; there must be one of a-z and 2-7")]
    Character {
        /// Where, from 1.
        position: usize,
        /// What is there.
        character: char,
    },
    /// The checksum is not that of the rest.
    #[error("the join token was mistyped: its checksum is wrong")]
    Checksum,
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomBytes;

// === impl Digest ===

impl Digest {
    /// The digest of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({self})")
    }
}

// === impl Secret ===

impl Secret {
    /// A new secret.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn random() -> Result<Self, NoRandomBytes> {
        Ok(Self(random()?))
    }

    /// What the manager keeps of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

// === impl JoinToken ===

impl JoinToken {
    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        let mut hash = Sha256::new();
        hash.update(MARK);
        hash.update(VERSION);
        hash.update(self.authority.0);
        hash.update(self.secret.0);
        let hash: [u8; 32] = hash.finalize().into();
        let mut checksum = [0; CHECKSUM_BYTES];
        checksum.copy_from_slice(&hash[..CHECKSUM_BYTES]);
        checksum
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = [&self.secret.0[..], &self.checksum()].concat();
        write!(formatter, "{MARK}-{VERSION}-{}-{}", self.authority, encode(&secret))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let parts: Vec<&str> = text.split('-').collect();
        match *parts {
            [mark, ..] if mark != MARK => return Err(TokenError::NoToken),
            [_] => return Err(TokenError::NoToken),
            [_, version, ..] if version != VERSION => return Err(TokenError::Version(version.to_owned())),
            _ => {}
        }
        let [mark, version, digest, secret] = *parts else { return Err(TokenError::Parts(parts.len())) };
        let position = mark.len() + version.len() + 3;
        let digest_bytes = decode(digest, 3, DIGEST_CHARACTERS, position)?;
        let secret_bytes = decode(secret, 4, SECRET_CHARACTERS, position + digest.len() + 1)?;
        let (secret, checksum) = secret_bytes.split_at(SECRET_BYTES);
        let token = Self {
            authority: Digest(digest_bytes.try_into().expect("52 characters of base32 are 32 bytes")),
            secret: Secret(secret.try_into().expect("it was split there")),
        };
        if token.checksum() == checksum { Ok(token) } else { Err(TokenError::Checksum) }
    }
}

pub(crate) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], NoRandomBytes> {
    let mut bytes = [0; LENGTH];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| NoRandomBytes)?;
    Ok(bytes)
}

fn encode(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// Decodes a part whose first character is the token's at the position, from 1.
fn decode(text: &str, part: usize, expected: usize, position: usize) -> Result<Vec<u8>, TokenError> {
    let is_other = |(_, character): &(usize, char)| !matches!(character.to_ascii_lowercase(), 'a'..='z' | '2'..='7');
    if let Some((index, character)) = text.chars().enumerate().find(is_other) {
        return Err(TokenError::Character { position: position + index, character });
    }
    if text.len() != expected {
        return Err(TokenError::Length { part, length: text.len(), expected });
    }
    // What is left is bits after the last byte that are not zero.
    BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| TokenError::Checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken { authority: Digest::of(b"certificate"), secret: Secret([0xa5; SECRET_BYTES]) }
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let text = token().to_string();
        assert_eq!(text.len(), 8 + 52 + 1 + 32);
        assert!(text.starts_with("wharf-1-"));
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token()), "as it comes from a file");
        let (mark, parts) = text.split_at(8);
        assert_eq!(format!("{mark}{}", parts.to_uppercase()).parse(), Ok(token()));
    }

    #[test]
    fn what_logs_show_does_not_hold_the_secret() {
        let shown = format!("{:?}", token());
        assert!(shown.contains("Secret(…)"), "{shown}");
        assert!(!shown.contains("165") && !shown.contains("a5a5"), "{shown}");
    }

    #[test]
    fn a_mistyped_token_is_told_what_and_where() {
        let text = token().to_string();
        let with = |position: usize, new: &str| {
            let mut text = text.clone();
            text.replace_range(position - 1..position, new);
            text.parse::<JoinToken>()
        };
        assert_eq!("".parse::<JoinToken>(), Err(TokenError::NoToken));
        assert_eq!("wharf".parse::<JoinToken>(), Err(TokenError::NoToken));
        assert_eq!("SWMTKN-1-x-y".parse::<JoinToken>(), Err(TokenError::NoToken));
        assert_eq!(with(7, "2"), Err(TokenError::Version("2".into())));
        assert_eq!(text[..60].parse::<JoinToken>(), Err(TokenError::Parts(3)));
        assert_eq!(text[..92].parse::<JoinToken>(), Err(TokenError::Length { part: 4, length: 31, expected: 32 }));
        assert_eq!(with(9, ""), Err(TokenError::Length { part: 3, length: 51, expected: 52 }));
        assert_eq!(with(9, "0"), Err(TokenError::Character { position: 9, character: '0' }));
        assert_eq!(with(20, "ö"), Err(TokenError::Character { position: 20, character: 'ö' }));
        assert_eq!(with(93, "!"), Err(TokenError::Character { position: 93, character: '!' }));
        let error = with(70, "1").unwrap_err().to_string();
        assert_eq!(error, "character 70 of the join token is '1'; there must be one of a-z and 2-7");
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = token().to_string();
        for position in (8..60).chain(61..93) {
            let mut changed = text.clone();
            let new = if &text[position..=position] == "a" { "b" } else { "a" };
            changed.replace_range(position..=position, new);
            assert_eq!(changed.parse::<JoinToken>(), Err(TokenError::Checksum), "{position}");
        }
    }
}
