//! The manager's side of join tokens: which were issued, and what they are good for.
//!
//! It is a state machine without clock, randomness and I/O. The manager keeps its records in the store, and stores a
//! changed one, with the version that it read as condition, before it acts on a redeemed token: so a token of single use
//! is used once, whichever manager is asked.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{
    names::NodeNumber,
    token::{Digest, JoinToken, Secret},
};

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// New nodes may join, as many as come.
    AnyNode,
    /// This node may join, once.
    Node(NodeNumber),
}

/// The SHA-256 of a token's secret. It names the token; the secret cannot be found from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash([u8; 32]);

/// A text that is no [`TokenHash`].
#[derive(Debug, thiserror::Error)]
#[error("the name of a token is 64 hexadecimal digits")]
pub struct NoTokenHash;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Names the token.
    pub hash: TokenHash,
    /// What it allows.
    pub scope: Scope,
    /// The first second at which it is no longer valid, since 1970.
    pub expires: u64,
    /// Whether a token of single use has been used.
    pub used: bool,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was not issued here, or it expired long ago.
    #[error("the join token is not known here: issue a new one")]
    Unknown,
    /// Its time is over.
    #[error("the join token has expired: issue a new one")]
    Expired,
    /// It is for single use.
    #[error("the join token has been used: issue a new one")]
    Used,
}

/// The tokens of a fleet.
#[derive(Debug)]
pub struct Tokens {
    authority: Digest,
    records: BTreeMap<TokenHash, TokenRecord>,
}

// === impl Tokens ===

impl Tokens {
    /// The tokens that were kept, for the authority with this digest.
    pub fn new(authority: Digest, records: impl IntoIterator<Item = TokenRecord>) -> Self {
        Self { authority, records: records.into_iter().map(|record| (record.hash, record)).collect() }
    }

    /// Adds a token with this secret, which is to be new and random. Gives the token, which is shown once, and the
    /// record to be kept.
    pub fn issue(
        &mut self,
        secret: Secret,
        scope: Scope,
        valid: Duration,
        now: SystemTime,
    ) -> (JoinToken, TokenRecord) {
        let hash = TokenHash(secret.hash());
        let expires = seconds(now).saturating_add(valid.as_secs());
        let record = TokenRecord { hash, scope, expires, used: false };
        self.records.insert(hash, record.clone());
        (JoinToken { authority: self.authority, secret }, record)
    }

    /// Uses a token. Gives its record, which has changed if it is for single use, and says what it allows.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn redeem(&mut self, secret: &Secret, now: SystemTime) -> Result<TokenRecord, Refusal> {
        let hash = secret.hash();
        // All are compared, each in constant time, so that how long it takes tells nothing.
        let mut found = None;
        for record in self.records.values_mut() {
            if bool::from(record.hash.0.ct_eq(&hash)) {
                found = Some(record);
            }
        }
        let record = found.ok_or(Refusal::Unknown)?;
        if record.is_expired(now) {
            return Err(Refusal::Expired);
        }
        if record.used {
            return Err(Refusal::Used);
        }
        record.used = matches!(record.scope, Scope::Node(_));
        Ok(record.clone())
    }

    /// Forgets the tokens that have expired. Gives their names.
    pub fn sweep(&mut self, now: SystemTime) -> Vec<TokenHash> {
        let expired = self.records.extract_if(.., |_, record| record.is_expired(now));
        expired.map(|(hash, _)| hash).collect()
    }

    /// The tokens that are kept.
    pub fn records(&self) -> impl Iterator<Item = &TokenRecord> {
        self.records.values()
    }
}

// === impl TokenRecord ===

impl TokenRecord {
    fn is_expired(&self, now: SystemTime) -> bool {
        seconds(now) >= self.expires
    }
}

// === impl TokenHash ===

impl fmt::Display for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for TokenHash {
    type Error = NoTokenHash;

    fn try_from(text: String) -> Result<Self, NoTokenHash> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NoTokenHash)?;
        Ok(Self(bytes.try_into().map_err(|_| NoTokenHash)?))
    }
}

/// Whole seconds since 1970; a clock that is before that is at 0.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn tokens() -> Tokens {
        Tokens::new(Digest([7; 32]), [])
    }

    fn issue(tokens: &mut Tokens, scope: Scope) -> JoinToken {
        tokens.issue(Secret::random().unwrap(), scope, HOUR, now()).0
    }

    #[test]
    fn a_token_for_any_node_is_good_until_it_expires() {
        let mut tokens = tokens();
        let token = issue(&mut tokens, Scope::AnyNode);
        assert_eq!(token.authority, Digest([7; 32]));
        let last = now() + HOUR - Duration::from_secs(1);
        for time in [now(), now(), last] {
            assert_eq!(tokens.redeem(&token.secret, time).map(|record| record.scope), Ok(Scope::AnyNode));
        }
        assert_eq!(tokens.redeem(&token.secret, now() + HOUR), Err(Refusal::Expired));
    }

    #[test]
    fn a_token_for_one_node_is_used_once() {
        let mut tokens = tokens();
        let token = issue(&mut tokens, Scope::Node(NodeNumber(7)));
        let record = tokens.redeem(&token.secret, now()).unwrap();
        assert_eq!((record.scope, record.used), (Scope::Node(NodeNumber(7)), true));
        assert_eq!(tokens.redeem(&token.secret, now()), Err(Refusal::Used));
        assert_eq!(tokens.redeem(&token.secret, now() + HOUR), Err(Refusal::Expired));
    }

    #[test]
    fn a_secret_of_somebody_else_is_unknown() {
        let mut tokens = tokens();
        issue(&mut tokens, Scope::AnyNode);
        assert_eq!(tokens.redeem(&Secret::random().unwrap(), now()), Err(Refusal::Unknown));
    }

    #[test]
    fn expired_tokens_are_swept_and_others_kept() {
        let mut tokens = tokens();
        let old = issue(&mut tokens, Scope::AnyNode);
        let (new, record) = tokens.issue(Secret::random().unwrap(), Scope::AnyNode, 2 * HOUR, now());
        assert_eq!(tokens.sweep(now()), []);
        assert_eq!(tokens.sweep(now() + HOUR), [TokenHash(old.secret.hash())]);
        assert_eq!(tokens.records().collect::<Vec<_>>(), [&record]);
        assert_eq!(tokens.redeem(&old.secret, now()), Err(Refusal::Unknown));
        assert!(tokens.redeem(&new.secret, now() + HOUR).is_ok());
    }

    #[test]
    fn records_are_kept_as_json_without_the_secret() {
        let mut tokens = tokens();
        let token = issue(&mut tokens, Scope::Node(NodeNumber(7)));
        tokens.redeem(&token.secret, now()).unwrap();
        let json = serde_json::to_string(&tokens.records().collect::<Vec<_>>()).unwrap();
        let hash = HEXLOWER.encode(&token.secret.hash());
        let expected = format!(r#"[{{"hash":"{hash}","scope":{{"node":7}},"expires":1800003600,"used":true}}]"#);
        assert_eq!(json, expected);

        let records: Vec<TokenRecord> = serde_json::from_str(&json).unwrap();
        let mut again = Tokens::new(Digest([7; 32]), records);
        assert_eq!(again.redeem(&token.secret, now()), Err(Refusal::Used));
        assert!(serde_json::from_str::<TokenHash>("\"abcd\"").is_err());
    }
}
