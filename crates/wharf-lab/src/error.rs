use std::{io, path::PathBuf};

/// Why a lab does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, links and rules are root's.
    #[error("a lab needs root: namespaces, links and firewall rules are made. Try: sudo wharf lab …")]
    NotRoot,
    /// Programs that are not installed.
    #[error("{programs} not found: apt-get install --no-install-recommends {packages}")]
    Missing {
        /// What is missing.
        programs: String,
        /// The Debian packages that have it.
        packages: String,
    },
    /// A name that cannot be one.
    #[error("{0:?} cannot name a lab: want a letter, then at most 7 letters and digits, all lower case")]
    Name(String),
    /// There is no such lab.
    #[error("there is no lab {name}; {known}")]
    NoLab {
        /// The name.
        name: String,
        /// The labs there are, as a sentence.
        known: String,
    },
    /// There is no such node.
    #[error("lab {lab} has no {node}: it has {known}")]
    NoNode {
        /// The lab.
        lab: String,
        /// What was asked for.
        node: String,
        /// The nodes there are.
        known: String,
    },
    /// Nodes than can be.
    #[error("{0} nodes: a lab has 1 to 200")]
    Count(usize),
    /// No free network.
    #[error("no free network in 10.213.0.0/16: take down another lab (wharf lab ls)")]
    NoNetwork,
    /// The kernel lacks a feature.
    #[error("{0}")]
    Kernel(String),
    /// A program failed.
    #[error("{command} failed: {message}")]
    Command {
        /// What was run.
        command: String,
        /// What it said.
        message: String,
    },
    /// A file cannot be read, written or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An engine does not start.
    #[error("the engine of {node} did not {what}: the end of {}:\n{tail}", log.display())]
    Engine {
        /// Its node.
        node: String,
        /// What it was to do.
        what: &'static str,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("{0}")]
    Late(String),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
