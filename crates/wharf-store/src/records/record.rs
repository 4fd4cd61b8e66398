//! Records: values as JSON with a format number, so that a later Wharf can read what an earlier one wrote.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Key, KeyError, Prefix};

/// A type of which values are stored, each under its own key below [`Record::PREFIX`].
///
/// Stored is `{"format": FORMAT, "record": …}`. A change that an older reader would misunderstand raises
/// [`Record::FORMAT`]; [`Record::read_older`] then reads what was written before.
pub trait Record: Serialize + DeserializeOwned {
    /// What the keys begin with, such as `claims/`.
    const PREFIX: &'static str;

    /// The number of the format that is written.
    const FORMAT: u32;

    /// Reads a format with a smaller number. A type with more than one format implements it.
    ///
    /// # Errors
    /// What serde says; by default that there is none.
    fn read_older(format: u32, json: &str) -> Result<Self, serde_json::Error> {
        let _ = json;
        Err(serde::de::Error::custom(format_args!("there never was a format {format}")))
    }

    /// The prefix of the keys.
    ///
    /// # Errors
    /// If [`Record::PREFIX`] is none.
    fn prefix() -> Result<Prefix, KeyError> {
        Prefix::new(Self::PREFIX)
    }

    /// The key of the record of this name.
    ///
    /// # Errors
    /// If the name does not fit into a key.
    fn key(name: &str) -> Result<Key, KeyError> {
        Self::prefix()?.key(name)
    }

    /// The record as it is stored under the key.
    ///
    /// # Errors
    /// [`RecordError::Write`] for a value that JSON cannot hold, such as a map whose keys are no strings.
    fn encode(&self, key: &Key) -> Result<Bytes, RecordError> {
        let envelope = Written { format: Self::FORMAT, record: self };
        let json = serde_json::to_vec(&envelope).map_err(|source| RecordError::Write { key: key.clone(), source })?;
        Ok(json.into())
    }

    /// Reads what is stored under the key.
    ///
    /// # Errors
    /// See [`RecordError`]; each names the key.
    fn decode(key: &Key, stored: &[u8]) -> Result<Self, RecordError> {
        let unreadable = |source| RecordError::Unreadable { key: key.clone(), source };
        let envelope: Envelope<'_> = serde_json::from_slice(stored).map_err(unreadable)?;
        let json = envelope.record.get();
        match envelope.format {
            format if format > Self::FORMAT => {
                Err(RecordError::Newer { key: key.clone(), format, known: Self::FORMAT })
            }
            format if format == Self::FORMAT => serde_json::from_str(json).map_err(unreadable),
            format => Self::read_older(format, json).map_err(unreadable),
        }
    }
}

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer Wharf wrote it.
    #[error("key {key}: format {format} is of a newer Wharf; this one knows formats up to {known}")]
    Newer {
        /// Where it is stored.
        key: Key,
        /// Its format.
        format: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// It is not what is expected there.
    #[error("key {key}: the record cannot be read")]
    Unreadable {
        /// Where it is stored.
        key: Key,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It cannot be written as JSON.
    #[error("key {key}: the record cannot be written")]
    Write {
        /// Where it would be stored.
        key: Key,
        /// What is wrong.
        source: serde_json::Error,
    },
}

#[derive(Serialize)]
struct Written<'a, T> {
    format: u32,
    record: &'a T,
}

/// The record stays text until its format is known.
#[derive(Deserialize)]
struct Envelope<'a> {
    format: u32,
    #[serde(borrow)]
    record: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Claim {
        node: u32,
    }

    impl Record for Claim {
        const PREFIX: &'static str = "claims/";
        const FORMAT: u32 = 2;

        fn read_older(format: u32, json: &str) -> Result<Self, serde_json::Error> {
            assert_eq!(format, 1);
            Ok(Self { node: serde_json::from_str(json)? })
        }
    }

    fn decode(json: &str) -> Result<Claim, RecordError> {
        Claim::decode(&Claim::key("web").unwrap(), json.as_bytes())
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let key = Claim::key("web").unwrap();
        assert_eq!(key.as_str(), "claims/web");
        let stored = Claim { node: 7 }.encode(&key).unwrap();
        assert_eq!(stored, r#"{"format":2,"record":{"node":7}}"#);
        assert_eq!(Claim::decode(&key, &stored).unwrap(), Claim { node: 7 });
    }

    #[test]
    fn an_older_format_is_read() {
        assert_eq!(decode(r#"{"format":1,"record":7}"#).unwrap(), Claim { node: 7 });
    }

    #[test]
    fn a_newer_format_is_refused_before_its_record_is_looked_at() {
        let error = decode(r#"{"format":3,"record":["anything"],"more":1}"#).unwrap_err();
        assert_eq!(error.to_string(), "key claims/web: format 3 is of a newer Wharf; this one knows formats up to 2");
    }

    #[test]
    fn what_is_no_record_gives_an_error_that_names_the_key() {
        for json in ["", "{}", "7", r#"{"record":{"node":7}}"#, r#"{"format":2,"record":{}}"#] {
            let error = decode(json).unwrap_err();
            assert_eq!(error.to_string(), "key claims/web: the record cannot be read");
            assert!(error.source().is_some());
        }
    }
}
