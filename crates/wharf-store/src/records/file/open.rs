//! Opening the file, and telling what is wrong with it.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, DatabaseError, ReadableDatabase, StorageError};

use super::table::{FORMAT_NUMBER, NUMBERS, RECORDS, VERSION_NUMBER};
use crate::records::{Error, Version};

/// The format that is written. A change that an older Wharf would misunderstand raises it.
pub(super) const FORMAT: u64 = 1;

/// Only the owner reads and writes: the records hold secrets.
const MODE: u32 = 0o600;

/// redb's cache. All records of a large fleet fit into it; redb's own default is 1 GiB.
const CACHE_BYTES: usize = 64 << 20;

pub(super) fn open(path: &Path) -> Result<(Database, Version), Error> {
    prepare(path).map_err(|source| unavailable(path, "the file system refuses it", source))?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    // It reads the whole file, which is small, and turns damage into an error where redb would panic later.
    builder.set_check_integrity_on_open(true);
    let database = builder.create(path).map_err(|error| explain(path, error))?;
    let version = initialise(path, &database)?;
    Ok((database, version))
}

/// Makes the file, if there is none, and closes it to others.
fn prepare(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Ok(_) => {
            // The file's name is durable only when its folder is.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            fs::File::open(folder.map_or_else(|| PathBuf::from("."), Path::to_owned))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(MODE))
        }
        Err(error) => Err(error),
    }
}

/// Makes the tables in a new file; checks the format of an old one. Gives the store's version.
fn initialise(path: &Path, database: &Database) -> Result<Version, Error> {
    let damaged = |error| broken(path, "it is damaged", Some(Arc::new(error)));
    let (format, version) = numbers(database).map_err(damaged)?;
    match format {
        Some(FORMAT) => Ok(version),
        Some(format) => {
            let problem = format!("format {format} is of a newer Wharf; this one knows formats up to {FORMAT}");
            Err(broken(path, problem, None))
        }
        None => Err(broken(path, "it is a database, but none of Wharf's", None)),
    }
}

/// The file's format and version. A new file gets them.
fn numbers(database: &Database) -> Result<(Option<u64>, Version), redb::Error> {
    let transaction = database.begin_read()?;
    let is_new = transaction.list_tables()?.next().is_none();
    if is_new {
        let transaction = database.begin_write()?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(NUMBERS)?.insert(FORMAT_NUMBER, FORMAT)?;
        transaction.commit()?;
        return Ok((Some(FORMAT), Version::default()));
    }
    let numbers = match transaction.open_table(NUMBERS) {
        Ok(numbers) => numbers,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((None, Version::default())),
        Err(error) => return Err(error.into()),
    };
    let number = |name| Ok::<_, redb::Error>(numbers.get(name)?.map(|found| found.value()));
    Ok((number(FORMAT_NUMBER)?, Version(number(VERSION_NUMBER)?.unwrap_or(0))))
}

fn explain(path: &Path, error: DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            unavailable(path, "another process has it open", error)
        }
        DatabaseError::UpgradeRequired(_) => broken(path, "its format is too old", Some(Arc::new(error))),
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            unavailable(path, "the file system refuses it", source)
        }
        error => broken(path, "it is damaged, or no store of Wharf's", Some(Arc::new(error))),
    }
}

fn unavailable(path: &Path, problem: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable { store: path.display().to_string(), problem, source: Some(Arc::new(source)) }
}

fn broken(path: &Path, problem: impl Into<String>, source: Option<Arc<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Broken { store: path.display().to_string(), problem: problem.into(), source }
}
