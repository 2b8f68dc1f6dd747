//! Locks for one writer at a time: a file that a run resumes from, or a folder that it writes into,
//! is locked until the run ends.
//!
//! The operating system locks a hidden file beside it, and unlocks it when the process ends, for
//! whatever reason; then only the empty file remains, which the next run locks and removes.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use flate2::Crc;
use same_file::Handle;

use super::error::{Error, Result};
use super::ranks;

/// Longest name of a file in common file systems, in bytes.
const LONGEST_NAME: usize = 255;

/// Returns the path of a hidden file beside another file.
pub(crate) fn beside(path: &Path, extension: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let mut hidden = format!(".{}.{extension}", name.display());
    if hidden.len() > LONGEST_NAME {
        let mut checksum = Crc::new();
        checksum.update(name.as_encoded_bytes());
        hidden = format!(".{:08x}.{extension}", checksum.sum());
    }
    path.with_file_name(hidden)
}

/// Creates a folder, and those that it is in, so that a loss of power leaves it there.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|folder| *folder != "" && !folder.exists());
    let missing: Vec<_> = missing.collect();
    fs::create_dir_all(folder)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        sync_folder(if parent == "" { Path::new(".") } else { parent });
    }
    Ok(())
}

/// Writes the names of what is in a folder to the disk.
pub(crate) fn sync_folder(folder: &Path) {
    // Not every system can; then a loss of power may leave the old files, which are whole as well.
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
}

/// Returns the path that a symbolic link leads to, or the path itself; no file need be there.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    // Linux follows no more.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path.with_file_name(target);
    }
    path
}

/// Opens a file that nobody else has opened by this function, and creates it if it is missing. If
/// somebody has, waits for them and returns a file that can be written, or returns none.
pub(crate) fn open_alone(path: &Path, wait: bool) -> io::Result<Option<Handle>> {
    loop {
        let mut options = File::options();
        let opened = options.write(true).create(true).truncate(false).open(path);
        let (file, own) = match opened {
            // Another user's file, which can be locked all the same.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                (File::open(path).map_err(|_| error)?, false)
            }
            opened => (opened?, true),
        };
        let locked = match wait {
            true => file.lock().map_err(TryLockError::Error),
            false => file.try_lock(),
        };
        match locked {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => continue,
            // Network and container file systems have many errors for the lack of locks.
            Err(TryLockError::Error(error)) if own => warn_once(path, &error),
            Err(TryLockError::Error(_)) => return Err(ErrorKind::PermissionDenied.into()),
        }
        let file = Handle::from_file(file)?;
        // The previous holder may have removed or renamed it just before.
        match Handle::from_path(path) {
            // A killed process left it: nobody writes it, and its folder may let it be replaced.
            Ok(there) if there == file && wait && !own => fs::remove_file(path)?,
            Ok(there) if there == file => return Ok(Some(file)),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => (),
        }
    }
}

/// Warns once that nobody can know whether others write.
fn warn_once(path: &Path, error: &io::Error) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        let path = path.display();
        eprintln!("warning: {path}: no locks here ({error}): write with one process at a time");
    });
}

/// Lock held by the writer of a file or folder.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    /// Locked file; none if this user cannot write there, or if another rank writes.
    file: Option<Handle>,
}

impl Lock {
    /// Locks a file, which need not exist.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] if somebody else holds the lock.
    pub fn of_file(path: &Path) -> Result<Self> {
        Self::new(path, beside(&followed(path), "lock"))
    }

    /// Locks a folder, which is created if it is missing, but not the folders inside it.
    ///
    /// # Errors
    /// Returns the errors of [`of_file`](Self::of_file).
    pub fn of_folder(path: &Path) -> Result<Self> {
        Self::new(path, path.join(".lock"))
    }

    fn new(what: &Path, path: PathBuf) -> Result<Self> {
        // Only rank 0 writes; the other ranks would block it.
        if !ranks::leads() {
            return Ok(Self { path, file: None });
        }
        let folder = path.parent().map_or(Ok(()), create_folder);
        match folder.and_then(|()| open_alone(&path, false)) {
            Ok(Some(file)) => Ok(Self { path, file: Some(file) }),
            Ok(None) => Err(Error::Busy { path: what.into() }),
            Err(error) => match error.kind() {
                ErrorKind::PermissionDenied if path.exists() => {
                    let reason = "another user's lock: delete it unless they write";
                    Err(Error::write(&path)(reason))
                }
                // Existing files can still be read, and none can be replaced.
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
        assert!(error.contains("run.checkpoint: another process or notebook cell"), "{error}");
        let others = [path.with_file_name("other"), path.with_extension("")];
        let others = others.map(|path| Lock::of_file(&path).unwrap());
        let around = Lock::of_folder(path.parent().unwrap()).unwrap();
        assert!(Lock::of_folder(path.parent().unwrap()).is_err());
        drop((lock, others, around));
        // No file remains, and the file of a killed process is not a lock.
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
