//! Files that appear only when complete: CSV, JSON, and all files of one experiment.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Error, Result};
use super::lock::{Lock, beside, create_folder, followed, open_alone, sync_folder};
use super::ranks;

/// Writes a CSV file with a header; it appears under its name only when it is complete.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn write_csv<T: Serialize>(
    path: impl AsRef<Path>,
    rows: impl IntoIterator<Item = T>,
) -> Result<()> {
    let path = path.as_ref();
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(Error::write(path))?;
    }
    write_file(path, &writer.into_inner().map_err(Error::write(path))?)
}

/// Reads the text of a CSV file that [`write_csv`] wrote.
///
/// # Errors
/// Returns an error if the file cannot be read or ends within a row.
pub(crate) fn read_table(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    match text.lines().enumerate().last() {
        // A number of which digits are missing is still a number.
        Some((i, line)) if !text.ends_with('\n') => {
            let cell = line.rsplit(',').next().unwrap_or_default();
            let found = format!("`{cell}` and no line break behind it");
            let place = format!("line {}, last cell", i + 1);
            Err(Error::data(path.display(), place, found, "a whole file"))
        }
        _ => Ok(text),
    }
}

/// Reads a CSV file that [`write_csv`] wrote, such as one of [`reproduce`](crate::reproduce).
///
/// ```
/// use evospike::prelude::*;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let file = folder.path().join("accuracy.csv"); // "results/digits/accuracy.csv"
/// let curve = AccuracyCurve::new(4, vec![1, 3, 4])?;
/// write_csv(&file, report::AccuracyRow::of(0, "evolved", &curve))?;
/// let rows: Vec<report::AccuracyRow> = read_csv(&file)?;
/// assert_eq!(report::AccuracyRow::curve(&rows, 0, "evolved")?, curve);
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error if the file cannot be read or ends within a row, or a row is not of this type.
pub fn read_csv<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Vec<T>> {
    let path = path.as_ref();
    let text = read_table(path)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let row = |(i, row): (usize, csv::Result<T>)| {
        row.map_err(|error| {
            let expected = format!("a {}", std::any::type_name::<T>());
            Error::data(path.display(), format!("row {}", i + 1), error, expected)
        })
    };
    reader.deserialize().enumerate().map(row).collect()
}

/// Writes a JSON file; it appears under its name only when it is complete.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(Error::write(path))?;
    text.push('\n');
    write_file(path, text.as_bytes())
}

/// Writes a hidden file beside `path` and renames it, so that a reader never sees half of it, even
/// after a loss of power. A hidden file left by a killed process is overwritten. With several
/// ranks, only rank 0 writes.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if !ranks::leads() {
        return Ok(());
    }
    // Renaming would replace a device such as /dev/null.
    if path.exists() && !path.is_file() {
        return Err(Error::write(path)("not a file"));
    }
    let target = followed(path); // a symbolic link stays one
    let folder = match target.parent() {
        Some(folder) if folder != "" => folder,
        _ => Path::new("."),
    };
    create_folder(folder).map_err(Error::io(folder))?;
    let beside = beside(&target, "incomplete");
    let opened = open_alone(&beside, true).map_err(Error::io(path))?;
    let Some(mut opened) = opened else {
        unreachable!("it was waited for");
    };
    let file = opened.as_file_mut();
    let written = (file.set_len(0))
        .and_then(|()| file.write_all(bytes))
        // Otherwise a loss of power could leave the name with no content.
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, &target));
    if written.is_err() {
        let _ = fs::remove_file(&beside); // the error above says more
    }
    written.map_err(Error::io(path))?;
    sync_folder(folder);
    Ok(())
}

/// Output files of one experiment: written into a temporary folder, and moved over those of an
/// earlier run only when all of them are complete. Other files in the folder are left alone.
///
/// ```no_run
/// use evospike::report::Output;
///
/// let output = Output::new("results/mine")?;
/// output.csv("numbers.csv", [("a", 1), ("b", 2)])?;
/// let files = output.complete()?;
/// # Ok::<(), evospike::Error>(())
/// ```
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    incomplete: PathBuf,
    _lock: Option<Lock>,
}

impl Output {
    /// Starts the files of `folder`, which is created if it is missing.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written to, and [`Error::Busy`] while another
    /// `Output` of it exists, in this process or another.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let incomplete = folder.join(".incomplete");
        if !ranks::leads() {
            return Ok(Self { folder, incomplete, _lock: None });
        }
        let lock = Lock::of_folder(&folder)?;
        let left = match fs::remove_dir_all(&incomplete) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed, // of a process that was killed
        };
        left.and_then(|()| fs::create_dir(&incomplete)).map_err(Error::io(&folder))?;
        Ok(Self { folder, incomplete, _lock: Some(lock) })
    }

    /// Adds a CSV file with a header.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn csv<T: Serialize>(&self, name: &str, rows: impl IntoIterator<Item = T>) -> Result<()> {
        write_csv(self.path(name), rows)
    }

    /// Adds a JSON file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        write_json(&self.path(name), value)
    }

    /// Returns the path at which to write a file of this name until all are complete, such as by
    /// [`Chart::save`](crate::plot::Chart::save).
    pub fn path(&self, name: &str) -> PathBuf {
        self.incomplete.join(name)
    }

    /// Moves the files to their folder and returns their paths.
    ///
    /// # Errors
    /// Returns an error if a file cannot be moved.
    pub fn complete(self) -> Result<Vec<PathBuf>> {
        if !ranks::leads() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&self.incomplete).map_err(Error::io(&self.incomplete))?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io(&self.incomplete))?;
            let path = self.folder.join(entry.file_name());
            if path.is_symlink() {
                // Its target may be on another file system.
                let bytes = fs::read(entry.path()).map_err(Error::io(&path))?;
                write_file(&path, &bytes)?;
            } else {
                fs::rename(entry.path(), &path).map_err(Error::io(&path))?;
            }
            files.push(path);
        }
        sync_folder(&self.folder);
        files.sort();
        Ok(files)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if ranks::leads() {
            let _ = fs::remove_dir_all(&self.incomplete); // nothing more can be done about it here
        }
    }
}

/// Rounds to four decimals, more than any accuracy here needs, which keeps files readable.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_replaces_only_when_complete() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let read = || fs::read_to_string(folder.path().join("a.csv")).unwrap();
        fs::write(folder.path().join("a.csv"), "old").unwrap();
        fs::write(folder.path().join("mine.txt"), "mine").unwrap();

        let output = Output::new(folder.path()).unwrap();
        output.csv("a.csv", [(1, 2)]).unwrap();
        assert_eq!(read(), "old");
        drop(output); // abandoned, as when a later step fails
        assert_eq!((read().as_str(), names().len()), ("old", 2));

        let output = Output::new(folder.path()).unwrap();
        output.csv("a.csv", [(1, 2)]).unwrap();
        output.json("settings.json", &1).unwrap();
        assert_eq!(output.complete().unwrap().len(), 2);
        assert_eq!(read(), "1,2\n");
        assert_eq!(names(), ["a.csv", "mine.txt", "settings.json"]);
    }

    #[test]
    fn a_folder_has_one_output_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::new(folder.path()).unwrap();
        let error = Output::new(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error}");
        drop(output);
        Output::new(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Leaves a file as a killed process does.
    #[test]
    fn leftovers_are_no_results() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path(".incomplete")).unwrap();
        for name in [".incomplete/old.csv", ".lock", ".b.csv.incomplete"] {
            fs::write(path(name), "half a row that is longer than what comes").unwrap();
        }
        let output = Output::new(folder.path()).unwrap();
        output.csv("a.csv", [1]).unwrap();
        assert_eq!(output.complete().unwrap(), [path("a.csv")]);
        write_csv(path("b.csv"), [2]).unwrap();
        assert_eq!(fs::read_to_string(path("b.csv")).unwrap(), "2\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    /// Each of many writers at once writes all of it.
    #[test]
    fn no_reader_sees_half_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::thread::scope(|scope| {
            for number in 0..4_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..200 {
                        write_file(path, &vec![number; 20_000 - 3000 * usize::from(number)])
                            .unwrap();
                        let bytes = fs::read(path).unwrap();
                        assert_eq!(bytes.len(), 20_000 - 3000 * usize::from(bytes[0]));
                        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("elsewhere")).unwrap();
        fs::write(path("elsewhere/old.csv"), "old").unwrap();
        let link = |name: &str, target: &str| {
            std::os::unix::fs::symlink(target, path(name)).unwrap();
        };
        link("old.csv", "elsewhere/old.csv");
        link("new.csv", "elsewhere/new.csv"); // leads to no file yet
        link("chain.csv", "new.csv");
        let read = |name: &str| {
            assert!(path(name).is_symlink(), "{name}");
            fs::read_to_string(path(name)).unwrap()
        };
        for (number, name) in ["old.csv", "new.csv", "chain.csv"].into_iter().enumerate() {
            write_csv(path(name), [number]).unwrap();
            assert_eq!(read(name), format!("{number}\n"));
        }
        assert_eq!(read("new.csv"), "2\n");
        let lock = Lock::of_file(&path("chain.csv")).unwrap();
        assert!(matches!(Lock::of_file(&path("new.csv")), Err(Error::Busy { .. })));
        drop(lock);
        let output = Output::new(folder.path()).unwrap();
        output.csv("old.csv", [7]).unwrap();
        output.complete().unwrap();
        assert_eq!(read("old.csv"), "7\n");
        assert_eq!(fs::read_dir(path("elsewhere")).unwrap().count(), 2);
    }

    #[test]
    fn the_longest_names_can_be_written_and_locked() {
        let folder = tempfile::tempdir().unwrap();
        for length in [243, 244, 255] {
            let path = folder.path().join("n".repeat(length));
            let _lock = Lock::of_file(&path).unwrap();
            assert!(Lock::of_file(&path).is_err());
            write_csv(&path, [length]).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{length}\n"));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_table_that_ends_within_a_row_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "step,accuracy\n1,47.9497\n2,47").unwrap();
        let error = read_csv::<(usize, f64)>(&path).unwrap_err().to_string();
        let expected = "a.csv, line 3, last cell: found `47` and no line break behind it";
        assert!(error.contains(expected), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = write_file(&socket, b"text").unwrap_err().to_string();
        assert!(error.ends_with("socket: not a file"), "{error}");
        assert!(!socket.is_file());
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Output::new(file.join("sub")).unwrap_err().to_string();
        assert!(error.contains("file/sub"), "{error}");
    }
}
