//! Finding again, or removing, what a create has made whose answer was lost.
//!
//! Every create writes its id and the number of its attempt in a label. A container that carries the mark of an attempt
//! that was given up, and that has never been started, is nobody's: it is removed where and when it turns up.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use wharf_engine::{Client, Error};
use wharf_model::{Class, Container, Phase, Snapshot};

/// The label that holds a create's id and attempt.
pub(crate) const MARK: &str = "wharf.create";

/// Creates that were given up and are remembered: a lost answer is rare, and it turns up when its node does.
const REMEMBERED: usize = 10_000;

/// Removing what never ran is quick.
const REMOVE_WITHIN: Duration = Duration::from_secs(10);

/// One create: its id, and how often it has been tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Creation {
    id: Box<str>,
    attempt: u32,
}

/// The attempts that were given up, in memory and in a file: what they made may turn up after a restart. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Orphans(Arc<Mutex<GivenUp>>);

#[derive(Debug)]
struct GivenUp {
    attempts: BTreeMap<Box<str>, u32>,
    journal: File,
}

impl Creation {
    /// A new create, before its first attempt.
    pub(crate) fn new() -> Self {
        let mut bytes = [0; 16];
        // The kernel's generator never fails once it is seeded, which it is long before we run.
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        debug_assert_eq!(filled, Ok(bytes.len()));
        Self { id: bytes.iter().map(|byte| format!("{byte:02x}")).collect(), attempt: 0 }
    }

    /// The next attempt.
    pub(crate) fn next(&mut self) {
        self.attempt += 1;
    }

    /// What the label says.
    fn parse(mark: &str) -> Option<Self> {
        let (id, attempt) = mark.split_once('.')?;
        Some(Self { id: id.into(), attempt: attempt.parse().ok()? })
    }
}

impl fmt::Display for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.attempt)
    }
}

impl Orphans {
    /// Reads which attempts were given up from a file, and goes on to write it.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut journal = File::options().create(true).read(true).append(true).mode(0o600).open(path)?;
        let mut text = String::new();
        journal.read_to_string(&mut text)?;
        // A line that was cut off by a crash is no line: its create had not been tried again yet.
        let lines: Vec<_> = text.lines().filter_map(Creation::parse).collect();
        let skipped = lines.len().saturating_sub(REMEMBERED);
        let attempts: BTreeMap<_, _> = lines.into_iter().skip(skipped).map(|made| (made.id, made.attempt)).collect();
        if skipped > 0 {
            journal.set_len(0)?;
            for (id, attempt) in &attempts {
                writeln!(journal, "{id}.{attempt}")?;
            }
        }
        Ok(Self(Arc::new(Mutex::new(GivenUp { attempts, journal }))))
    }

    /// This attempt, and those before it, are given up: whatever they made is nobody's.
    pub(crate) fn give_up(&self, creation: &Creation) {
        let mut given_up = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.attempts.insert(creation.id.clone(), creation.attempt);
        if given_up.attempts.len() > REMEMBERED {
            given_up.attempts.pop_first();
        }
        // One write of one short line, once in a blue moon: not worth a thread.
        if let Err(error) = writeln!(given_up.journal, "{creation}") {
            tracing::warn!("cannot note a create that was given up: {error}");
        }
    }

    /// Removes a container if it is what a given-up create has left.
    ///
    /// # Errors
    /// If the engine cannot be asked to, or fails to. That it is gone, or has been started in the meantime, is none.
    pub(super) async fn remove_if_orphan(
        &self,
        container: &Container,
        client: &Client,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        if !self.is_orphan(container, snapshot) {
            return Ok(());
        }
        tracing::info!(container = %container.name, "removing what a create has left whose answer was lost");
        // No force: an engine refuses to remove what somebody has started in the meantime.
        let path = format!("/containers/{}", container.id);
        let request = client.request(http::Method::DELETE, &path, wharf_engine::empty())?;
        match client.call(request, REMOVE_WITHIN).await {
            Err(error) if !matches!(error.class(), Class::NotFound | Class::Conflict) => Err(error),
            _ => Ok(()),
        }
    }

    fn is_orphan(&self, container: &Container, snapshot: &Snapshot) -> bool {
        if container.phase != Phase::Created {
            return false;
        }
        let Some(creation) = container.labels.get(MARK).and_then(Creation::parse) else { return false };
        let given_up = self.0.lock().unwrap_or_else(PoisonError::into_inner).attempts.get(&creation.id).copied();
        if given_up.is_some_and(|attempt| creation.attempt <= attempt) {
            return true;
        }
        // Another manager's, or this one's before it was started again: a later attempt has won.
        snapshot.containers_named(&container.name).any(|twin| {
            let mark = twin.labels.get(MARK).and_then(Creation::parse);
            twin.id != container.id
                && mark.is_some_and(|mark| mark.id == creation.id && mark.attempt > creation.attempt)
        })
    }
}
