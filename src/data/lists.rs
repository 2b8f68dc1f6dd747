//! Text files of indices of images.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::base::{Error, Result};

/// Reads indices below `images`, one per line and each at most once.
pub(super) fn index_file(path: &Path, images: usize) -> Result<Vec<usize>> {
    let wrong = |place: String, found: String, expected: String| {
        Error::data(path.display(), place, found, expected)
    };
    // A longer file is no list of unique indices and is not read to its end.
    let limit = 32 * (images as u64 + 1);
    let file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    if read.map_err(Error::io(path))? as u64 > limit {
        return Err(wrong(
            format!("byte {limit}"),
            "more bytes".into(),
            format!("at most one index for each of {images} images"),
        ));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let place = format!("byte {}", error.valid_up_to());
        wrong(place, "no text".into(), "one index a line".into())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text); // the byte-order mark of Windows
    let mut seen = vec![false; images];
    let mut indices = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("line {}", number + 1);
        let index = line.trim().parse().ok();
        let Some(index) = index.filter(|&index: &usize| index < images) else {
            let expected = format!("an index below {images}");
            return Err(wrong(place, format!("`{}`", shown(line)), expected));
        };
        if std::mem::replace(&mut seen[index], true) {
            let found = format!("index {index} a second time");
            return Err(wrong(place, found, "every index at most once".into()));
        }
        indices.push(index);
    }
    if indices.is_empty() {
        let expected = "at least one index".into();
        return Err(wrong("line 1".into(), "the end of the file".into(), expected));
    }
    Ok(indices)
}

/// Start of a line, for error messages.
fn shown(line: &str) -> String {
    line.chars().take(40).collect()
}
