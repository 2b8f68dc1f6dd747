//! Text files of indices of images.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::base::{Error, Result};

/// Start of the first line, before the CRC-32 of the images as they are listed.
const CHECKSUM: &str = "# CRC-32 of these images: ";

/// Text of a list of images with this CRC-32.
pub(super) fn index_text(indices: &[usize], checksum: u32) -> String {
    let lines: String = indices.iter().map(|index| format!("{index}\n")).collect();
    format!("{CHECKSUM}{checksum}\n{lines}")
}

/// Reads indices below `images`, one per line and each at most once, and the CRC-32 of these images,
/// if the first line has one.
pub(super) fn index_file(path: &Path, images: usize) -> Result<(Vec<usize>, Option<u32>)> {
    let wrong = |place: String, found: String, expected: String| {
        Error::data(path.display(), place, found, expected)
    };
    // A longer file is no list of unique indices and is not read to its end.
    let limit = 32 * (images as u64 + 3);
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
    let checksum = text.lines().next().and_then(|line| line.strip_prefix(CHECKSUM));
    let checksum = checksum.and_then(|number| number.trim().parse().ok());
    let mut seen = vec![false; images];
    let mut indices = Vec::new();
    for (number, line) in text.lines().enumerate().skip(checksum.iter().len()) {
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
    Ok((indices, checksum))
}

/// Start of a line, for error messages.
fn shown(line: &str) -> String {
    line.chars().take(40).collect()
}
