//! Keys and prefixes: text that every back end can hold.

use std::{borrow::Borrow, fmt};

/// The longest key in bytes. etcd and Consul allow more; a path of ZooKeeper and a file's path stay readable with it.
pub const KEY_LIMIT: usize = 512;

/// The name of a value: segments of printable ASCII, joined by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// What keys begin with: nothing, or whole segments with a `/` after each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

/// Why a text is no key or prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has no character.
    #[error("a key is empty")]
    Empty,
    /// It has more than [`KEY_LIMIT`] bytes.
    #[error("a key has {0} bytes; {KEY_LIMIT} are allowed")]
    Long(usize),
    /// Two slashes in a row, or one at an end.
    #[error("key {0:?}: a segment is empty")]
    EmptySegment(String),
    /// `.` and `..` mean something else in paths.
    #[error("key {0:?}: a segment is . or ..")]
    Dots(String),
    /// A character that is not printable ASCII.
    #[error("key {key:?}: {character:?} is not printable ASCII")]
    Character {
        /// The whole text.
        key: String,
        /// The first bad character.
        character: char,
    },
    /// A prefix that ends within a segment.
    #[error("prefix {0:?} does not end with a slash")]
    Open(String),
}

// === impl Key ===

impl Key {
    /// Checks a key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        check(&text)?;
        Ok(Self(text))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

// For look-ups by text: it orders as the key does.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

// === impl Prefix ===

impl Prefix {
    /// The prefix of every key.
    pub fn all() -> Self {
        Self(String::new())
    }

    /// Checks a prefix such as `claims/`; the empty one is [`Prefix::all`].
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() {
            return Ok(Self::all());
        }
        match text.strip_suffix('/') {
            Some(segments) => check(segments)?,
            None => return Err(KeyError::Open(text)),
        }
        Ok(Self(text))
    }

    /// Whether the key begins with it.
    pub fn covers(&self, key: &Key) -> bool {
        key.0.starts_with(&self.0)
    }

    /// The key of this name below it.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn key(&self, name: &str) -> Result<Key, KeyError> {
        Key::new(format!("{}{name}", self.0))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(text: &str) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    if text.len() > KEY_LIMIT {
        return Err(KeyError::Long(text.len()));
    }
    if let Some(character) = text.chars().find(|character| !matches!(character, ' '..='~')) {
        return Err(KeyError::Character { key: text.to_owned(), character });
    }
    for segment in text.split('/') {
        match segment {
            "" => return Err(KeyError::EmptySegment(text.to_owned())),
            "." | ".." => return Err(KeyError::Dots(text.to_owned())),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_segments_of_printable_ascii() {
        for text in ["a", "a/b", "claims/web one", "~", "a/.b/..c", &"k".repeat(KEY_LIMIT)] {
            assert_eq!(Key::new(text).unwrap().as_str(), text);
        }
        let long = "k".repeat(KEY_LIMIT + 1);
        for (text, error) in [
            ("", KeyError::Empty),
            (&*long, KeyError::Long(KEY_LIMIT + 1)),
            ("/a", KeyError::EmptySegment("/a".into())),
            ("a/", KeyError::EmptySegment("a/".into())),
            ("a//b", KeyError::EmptySegment("a//b".into())),
            ("a/../b", KeyError::Dots("a/../b".into())),
            ("a\tb", KeyError::Character { key: "a\tb".into(), character: '\t' }),
            ("ä", KeyError::Character { key: "ä".into(), character: 'ä' }),
        ] {
            assert_eq!(Key::new(text), Err(error));
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        let prefix = Prefix::new("claims/").unwrap();
        assert!(prefix.covers(&Key::new("claims/web").unwrap()));
        assert!(!prefix.covers(&Key::new("claims2/web").unwrap()));
        assert!(!prefix.covers(&Key::new("claims").unwrap()));
        assert!(Prefix::new("").unwrap().covers(&Key::new("claims").unwrap()));
        assert_eq!(Prefix::new("claims"), Err(KeyError::Open("claims".into())));
        assert_eq!(prefix.key("web").unwrap().as_str(), "claims/web");
        assert_eq!(prefix.key(""), Err(KeyError::EmptySegment("claims/".into())));
    }
}
