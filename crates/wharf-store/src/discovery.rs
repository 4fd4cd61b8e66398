//! Discovery: which engines belong to the fleet.

mod entry;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::MissedTickBehavior;
use wharf_model::Endpoint;

pub use self::entry::{EntryError, expand};

/// A file is looked at this often. It is small, and a look costs microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest file that is read: 65,536 addresses with room for comments.
const FILE_LIMIT: u64 = 8 << 20;

/// Where engines are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// `nodes://…`: these, for ever.
    Nodes(BTreeSet<Endpoint>),
    /// `file://PATH`: one entry per line, `#` begins a comment; changes are followed.
    File(PathBuf),
}

/// Why engines cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another scheme.
    #[error("discovery by {0}:// is not supported yet: want nodes://ADDRESS:PORT,… or file://PATH")]
    Scheme(String),
    /// An entry that names no engine.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// No entry at all.
    #[error("no engine is named: want nodes://ADDRESS:PORT,…")]
    Empty,
    /// A path that is none.
    #[error("file://{0}: the path must begin with a slash")]
    Path(String),
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line of the file.
    #[error("{}, line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        source: EntryError,
    },
}

/// What discovery has found.
#[derive(Debug)]
pub enum Change {
    /// The fleet is these engines now.
    Set(BTreeSet<Endpoint>),
    /// It cannot be told; what was found before still holds.
    Problem(Error),
}

/// Follows a discovery.
#[derive(Debug)]
pub struct Watch {
    discovery: Discovery,
    told: Option<Result<BTreeSet<Endpoint>, String>>,
    look: tokio::time::Interval,
}

impl Discovery {
    /// Reads `nodes://A:1,B:2`, `file:///PATH`, a bare list of addresses, or `unix:///PATH` for one engine of this machine.
    ///
    /// # Errors
    /// See [`Error`]. A file is read, too, so that a bad one is told of at once; one that changes later may be bad for a while.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let entries = match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => {
                read(Path::new(path))?;
                return Ok(Self::File(path.into()));
            }
            Some(("file", path)) => return Err(Error::Path(path.to_owned())),
            Some(("nodes", entries)) => entries,
            Some(("unix" | "tcp" | "http", _)) | None => text,
            Some((scheme, _)) => return Err(Error::Scheme(scheme.to_owned())),
        };
        let mut endpoints = BTreeSet::new();
        for entry in entries.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            expand(entry, &mut endpoints)?;
        }
        if endpoints.is_empty() { Err(Error::Empty) } else { Ok(Self::Nodes(endpoints)) }
    }

    /// Begins to follow it. Needs a tokio runtime.
    pub fn watch(self) -> Watch {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watch { discovery: self, told: None, look }
    }
}

impl Watch {
    /// The first time what there is, at once; later times the next change, when it comes. May be dropped and called again.
    pub async fn next(&mut self) -> Change {
        loop {
            self.look.tick().await;
            let found = match &self.discovery {
                Discovery::Nodes(_) if self.told.is_some() => std::future::pending().await,
                Discovery::Nodes(endpoints) => Ok(endpoints.clone()),
                Discovery::File(path) => {
                    let path = path.clone();
                    // A file on a network may hang: that must not hang the manager.
                    let found = tokio::task::spawn_blocking(move || read(&path)).await;
                    found.unwrap_or(Err(Error::Empty))
                }
            };
            let news = found.as_ref().map(Clone::clone).map_err(ToString::to_string);
            if self.told.as_ref() == Some(&news) {
                continue;
            }
            self.told = Some(news);
            return match found {
                Ok(endpoints) => Change::Set(endpoints),
                Err(error) => Change::Problem(error),
            };
        }
    }
}

fn read(path: &Path) -> Result<BTreeSet<Endpoint>, Error> {
    let file = |source| Error::File { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(file)?.len();
    if size > FILE_LIMIT {
        return Err(file(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_LIMIT} bytes"))));
    }
    let text = std::fs::read_to_string(path).map_err(file)?;
    let mut endpoints = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or("").trim();
        if !entry.is_empty() {
            expand(entry, &mut endpoints).map_err(|source| Error::Line {
                path: path.to_owned(),
                line: number + 1,
                source,
            })?;
        }
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests;
