//! The store of a single manager: one file of redb.
//!
//! **Invariant:** what was answered is on the disk. Writers that wait at the same time share one transaction of the
//! file, and so its flush: one of them commits for all, while the next ones gather behind it.

mod open;
mod table;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use redb::{Database, ReadableDatabase};
use tokio::sync::{Mutex as Turn, Semaphore, oneshot};

use self::table::Batch;
use super::{Answer, Check, Error, History, Key, Listing, Operation, Prefix, Store, Version, Versioned, Watch};

/// This many transactions gather for one commit; more wait outside. It bounds the memory to 64 MiB of values, and at
/// some 200 commits a second it still is more than a fleet writes.
const GATHER_LIMIT: usize = 256;

/// A store in a file, which one process opens at a time.
#[derive(Debug)]
pub struct File {
    shared: Arc<Shared>,
    /// Places among those that gather.
    places: Semaphore,
    /// Who holds it commits.
    turn: Arc<Turn<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The file's path, for errors.
    name: String,
    database: Database,
    waiting: Mutex<Vec<Request>>,
    history: Arc<History>,
}

#[derive(Debug)]
struct Request {
    checks: Vec<Check>,
    operations: Vec<Operation>,
    answer: oneshot::Sender<Result<Version, Error>>,
}

// === impl File ===

impl File {
    /// Opens the file, or makes it; only its owner may read it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if another process has it open, or the file system refuses; [`Error::Broken`] if it is
    /// damaged, is something else, or a newer Wharf wrote it.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let path = path.to_owned();
        let (database, version) = match tokio::task::spawn_blocking(move || open::open(&path)).await {
            Ok(opened) => opened?,
            Err(stopped) => return Err(broken(&name, "opening it failed", stopped)),
        };
        let shared = Shared { name, database, waiting: Mutex::default(), history: History::new(version) };
        Ok(Self { shared: Arc::new(shared), places: Semaphore::new(GATHER_LIMIT), turn: Arc::default() })
    }

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        let work = move || read(&shared.database.begin_read()?);
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(broken(&self.shared.name, "it cannot be read", error)),
            Err(stopped) => Err(broken(&self.shared.name, "it cannot be read", stopped)),
        }
    }

    async fn write(&self, checks: Vec<Check>, operations: Vec<Operation>) -> Result<Version, Error> {
        super::admit(&checks, &operations)?;
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        let (answer, mut answered) = oneshot::channel();
        let request = Request { checks, operations, answer };
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let stopped = |error| broken(&self.shared.name, "writing stopped", error);
        let turn = tokio::select! {
            biased;
            given = &mut answered => return given.map_err(stopped)?,
            turn = Arc::clone(&self.turn).lock_owned() => turn,
        };
        let shared = Arc::clone(&self.shared);
        // The turn goes with the work, which goes on when this future is dropped.
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            shared.commit_waiting();
        });
        // The end of the work and not only the answer is waited for: then nothing holds the file open any more.
        work.await.map_err(|error| broken(&self.shared.name, "writing stopped", error))?;
        answered.await.map_err(stopped)?
    }
}

impl Store for File {
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Versioned>> {
        let key = key.clone();
        Box::pin(self.read(move |transaction| table::get(transaction, &key)))
    }

    fn list<'a>(&'a self, prefix: &'a Prefix) -> Answer<'a, Listing> {
        Box::pin(async {
            let below = prefix.clone();
            let (entries, version) = self.read(move |transaction| table::list(transaction, &below)).await?;
            let keyed = |(text, value)| match Key::new(text) {
                Ok(key) => Ok((key, value)),
                Err(error) => Err(broken(&self.shared.name, "it holds a key that is none", error)),
            };
            let entries = entries.into_iter().map(keyed).collect::<Result<_, _>>()?;
            Ok(Listing { entries, version })
        })
    }

    fn transact(&self, checks: Vec<Check>, operations: Vec<Operation>) -> Answer<'_, Version> {
        Box::pin(self.write(checks, operations))
    }

    fn watch<'a>(&'a self, prefix: &'a Prefix, from: Version) -> Answer<'a, Watch> {
        Box::pin(async move {
            // The file's version and not the history's, which lags a moment behind what a listing may have shown.
            let present = self.read(table::version).await?;
            Ok(if from > present { History::lost(prefix) } else { self.shared.history.watch(prefix, from) })
        })
    }
}

// === impl Shared ===

impl Shared {
    /// Commits what waits, and answers. Whoever calls it has the turn.
    fn commit_waiting(&self) {
        let mut requests = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        // A write that was given up must not happen at some later time.
        requests.retain(|request| !request.answer.is_closed());
        if requests.is_empty() {
            return;
        }
        match self.commit(&requests) {
            Ok(outcomes) => {
                for (request, outcome) in requests.into_iter().zip(outcomes) {
                    // Who gave up meanwhile needs no answer.
                    request.answer.send(outcome).ok();
                }
            }
            Err(error) => {
                let error = broken(&self.name, "it cannot be written", error);
                for request in requests {
                    request.answer.send(Err(error.clone())).ok();
                }
            }
        }
    }

    fn commit(&self, requests: &[Request]) -> Result<Vec<Result<Version, Error>>, redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut batch = Batch::new(&transaction)?;
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            outcomes.push(batch.apply(&request.checks, &request.operations)?);
        }
        let commits = batch.finish()?;
        if commits.is_empty() {
            transaction.abort()?;
        } else {
            transaction.commit()?;
        }
        for (version, changes) in commits {
            self.history.push(version, changes);
        }
        Ok(outcomes)
    }
}

fn broken(store: &str, problem: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Broken { store: store.to_owned(), problem: problem.to_owned(), source: Some(Arc::new(source)) }
}

#[cfg(test)]
mod tests;
