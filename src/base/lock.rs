//! One writer at a time: what a run goes on from, or writes into, is locked until it ends.
//!
//! The operating system locks a hidden file beside it, and unlocks it when the process dies, however
//! it does; only the empty file then stays, for the next run to lock and remove.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use same_file::Handle;

use crate::base::error::{Error, Result};
use crate::base::ranks;

/// A hidden file beside another.
pub(crate) fn beside(path: &Path, extension: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    path.with_file_name(format!(".{}.{extension}", name.display()))
}

/// Opens a file, and makes it if it is missing, that nobody else has open by this function: waits
/// for them, or else gives none.
pub(crate) fn open_alone(path: &Path, wait: bool) -> io::Result<Option<Handle>> {
    loop {
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let locked = match wait {
            true => file.lock().map_err(TryLockError::Error),
            false => file.try_lock(),
        };
        match locked {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Some file systems of clusters have no locks; they have to do without.
            Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Unsupported => {
                return Err(error);
            }
            _ => (),
        }
        let file = Handle::from_file(file)?;
        // Whoever had it may have removed or renamed it just before.
        match Handle::from_path(path) {
            Ok(there) if there == file => return Ok(Some(file)),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => (),
        }
    }
}

/// Held by who writes.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    /// None where nobody can write, or another rank does.
    file: Option<Handle>,
}

impl Lock {
    /// Locks a file, which need not be there.
    ///
    /// # Errors
    /// [`Error::Busy`] where someone else holds it.
    pub fn of_file(path: &Path) -> Result<Self> {
        Self::new(path, beside(path, "lock"))
    }

    /// Locks a folder, which is made if it is missing; not what is in folders in it.
    ///
    /// # Errors
    /// As [`of_file`](Self::of_file).
    pub fn of_folder(path: &Path) -> Result<Self> {
        Self::new(path, path.join(".lock"))
    }

    fn new(what: &Path, path: PathBuf) -> Result<Self> {
        // Of several ranks only the first one writes; the others would stand in its way.
        if !ranks::leads() {
            return Ok(Self { path, file: None });
        }
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        match folder.and_then(|()| open_alone(&path, false)) {
            Ok(Some(file)) => Ok(Self {
                path,
                file: Some(file),
            }),
            Ok(None) => Err(Error::Busy { path: what.into() }),
            Err(error) => match error.kind() {
                // What is there can still be read, and nobody else writes either.
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    Ok(Self { path, file: None })
                }
                _ => Err(Error::io(what)(error)),
            },
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path); // still locked: nobody else relies on it
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_holds_it_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/run.checkpoint");
        let lock = Lock::of_file(&path).unwrap();
        let error = Lock::of_file(&path).unwrap_err().to_string();
        assert!(
            error.contains("run.checkpoint: another process or notebook cell"),
            "{error}"
        );
        let others = [path.with_file_name("other"), path.with_extension("")];
        let others = others.map(|path| Lock::of_file(&path).unwrap());
        let around = Lock::of_folder(path.parent().unwrap()).unwrap();
        assert!(Lock::of_folder(path.parent().unwrap()).is_err());
        drop((lock, others, around));
        // Nothing stays, and what a process that was killed left is no lock.
        let left = || fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left(), 0);
        fs::write(beside(&path, "lock"), "").unwrap();
        drop(Lock::of_file(&path).unwrap());
        assert_eq!(left(), 0);
    }

    /// Removing what is locked lets no two have it.
    #[test]
    fn many_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let Ok(_lock) = Lock::of_file(&path) else {
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        turns.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(turns.into_inner() > 8);
    }
}
