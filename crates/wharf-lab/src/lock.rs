//! One process at a time changes a lab.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// Held for as long as it lives. The kernel lets go of it when its process dies, however it dies.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        loop {
            let folder = path.parent().unwrap_or(path);
            fs::create_dir_all(folder).map_err(Error::file(folder))?;
            let file =
                File::options().create(true).truncate(false).write(true).open(path).map_err(Error::file(path))?;
            flock(file.as_fd(), FlockOperation::LockExclusive).map_err(|error| Error::file(path)(error.into()))?;
            // Who had it before may have removed the file on the way out.
            let same = |on_disk: fs::Metadata| file.metadata().is_ok_and(|held| held.ino() == on_disk.ino());
            if fs::metadata(path).is_ok_and(same) {
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }

    /// Lets go of it and leaves no file.
    pub(crate) fn remove(self) {
        drop(fs::remove_file(&self.path));
        drop(self.file);
    }
}
