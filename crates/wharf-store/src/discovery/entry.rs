use std::collections::BTreeSet;

use wharf_model::{Endpoint, ParseEndpointError};

/// Engines of one fleet: more than a manager is built for, and a typo's range is caught.
const LIMIT: usize = 65_536;

/// Ranges of one entry: the four numbers of an address, and the port.
const RANGES: usize = 5;

/// Why an entry names no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It is no address.
    #[error(transparent)]
    Endpoint(#[from] ParseEndpointError),
    /// A range that is none.
    #[error("{0:?} has a range that is none: want [FIRST:LAST], such as 10.0.0.[11:13]:2375")]
    Range(String),
    /// Too many engines.
    #[error("{0:?}: a fleet of more than {LIMIT} engines")]
    Limit(String),
}

/// Adds the engines that an entry names: `10.0.0.11:2375`, `10.0.0.[11:13]:2375`, `10.0.0.11:[2375:2380]`,
/// `unix:///PATH`.
///
/// # Errors
/// See [`EntryError`].
pub fn expand(entry: &str, endpoints: &mut BTreeSet<Endpoint>) -> Result<(), EntryError> {
    if entry.matches('[').count() > RANGES {
        return Err(EntryError::Range(entry.chars().take(100).collect()));
    }
    let Some((before, first, last, after)) = range(entry) else {
        endpoints.insert(entry.parse()?);
        return if endpoints.len() > LIMIT { Err(EntryError::Limit(entry.to_owned())) } else { Ok(()) };
    };
    let bad = || EntryError::Range(entry.to_owned());
    let (first, last): (u32, u32) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first > last {
        return Err(bad());
    }
    if endpoints.len() + (last - first) as usize >= LIMIT {
        return Err(EntryError::Limit(entry.to_owned()));
    }
    // One range after the other: `10.0.[0:1].[1:2]:2375` are four.
    (first..=last).try_for_each(|number| expand(&format!("{before}{number}{after}"), endpoints))
}

/// Takes the first `[FIRST:LAST]` apart. An IPv6 address in brackets is no range: it is not two numbers.
fn range(entry: &str) -> Option<(&str, &str, &str, &str)> {
    let (before, rest) = entry.split_once('[')?;
    let (inside, after) = rest.split_once(']')?;
    let (first, last) = inside.split_once(':')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(first) && digits(last)).then_some((before, first, last, after))
}
