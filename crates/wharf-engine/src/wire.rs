//! What engines send, read into the model's types. Only the few fields that Wharf decides on are read; what an engine adds
//! is ignored, what it leaves out has a sensible value: engines of any age are read.

mod container;
mod event;
mod host;
mod thing;

use jiff::Timestamp as JiffTimestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use wharf_model::Timestamp;

pub use self::{
    container::{container, fingerprint, is_agent, listed, listed_container},
    event::{Event, Touched, event},
    host::engine,
    thing::{image_tagged, images, networks, volumes},
};

/// Why an engine's answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not such JSON.
    #[error("{what} cannot be read: {source}")]
    Json {
        /// What was expected.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A field has no sensible value.
    #[error("{what} has a senseless {field}: {value:?}")]
    Field {
        /// What it belongs to.
        what: &'static str,
        /// Its name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// What answers is itself a manager of engines.
    #[error("it is itself a manager ({0}), not an engine: name the engines that it manages instead")]
    Manager(String),
}

fn parse<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Json { what, source })
}

/// Docker's times: RFC 3339, and the year 1 for "never".
fn time(text: &str) -> Option<Timestamp> {
    let time: JiffTimestamp = text.parse().ok()?;
    let nanos = i64::try_from(time.as_nanosecond()).ok()?;
    (nanos > 0).then(|| Timestamp::from_nanos(nanos))
}

/// Reads every entry of a list; one that cannot be read does not lose the others.
fn each<'a, T>(entries: Vec<&'a RawValue>, read: impl Fn(&'a RawValue) -> Result<T, Error>) -> (Vec<T>, Vec<Error>) {
    let (mut items, mut rejects) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        match read(entry) {
            Ok(item) => items.push(item),
            Err(error) => rejects.push(error),
        }
    }
    (items, rejects)
}

#[cfg(test)]
mod tests;
