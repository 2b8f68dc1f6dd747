//! Handwritten digits embedded in the crate.

use std::io::Read;

use super::images::{Images, Whole, numbered};
use super::tasks::{Digits, Task};
use crate::base::{Error, Result};

/// Loads the 1,797 UCI handwritten digits, which are embedded in the crate.
///
/// E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49,
/// CC BY 4.0. Pixels have the values 0, 1/16, ..., 1; 1 is ink.
///
/// # Errors
/// Returns an error only if the embedded file is damaged.
pub fn digits() -> Result<Images<Whole, Digits>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&include_bytes!("digits.csv.gz")[..])
        .read_to_string(&mut text)
        .map_err(|error| Error::data("digits.csv.gz", "gzip", error, "a gzip file"))?;
    from_csv("digits.csv.gz", text.as_bytes(), 16)
}

/// Reads lines of pixels, each 0..=`full_scale`, followed by a label.
pub(super) fn from_csv<K: Task>(
    file: &str,
    text: impl Read,
    full_scale: u8,
) -> Result<Images<Whole, K>> {
    let size = K::SHAPE.size();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    for (number, record) in reader.records().enumerate() {
        let place = format!("line {}", number + 1);
        let record = record.map_err(|e| Error::data(file, &place, e, "comma-separated values"))?;
        if record.len() != size + 1 {
            return Err(Error::data(
                file,
                place,
                format!("{} values", record.len()),
                format!("{size} pixels and a label"),
            ));
        }
        for (column, value) in record.iter().enumerate() {
            let limit = if column < size { usize::from(full_scale) } else { K::CLASSES - 1 };
            match value.parse::<u16>() {
                Ok(value) if usize::from(value) <= limit && column < size => {
                    pixels.push(value as u8);
                }
                Ok(value) if usize::from(value) <= limit => labels.push(value),
                _ => {
                    let place = format!("line {}, value {}", number + 1, column + 1);
                    let expected = format!("a whole number from 0 to {limit}");
                    return Err(Error::data(file, place, format!("`{value}`"), expected));
                }
            }
        }
    }
    if labels.is_empty() {
        return Err(Error::data(file, "end", "no line", "at least one image"));
    }
    let names = numbered(K::CLASSES);
    Ok(Images::new(pixels, labels, full_scale.into(), names))
}
