//! Images embedded in the crate: handwritten digits, and pictures of clothes.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::formats::{IdxFile, idx_of};
use super::images::{Images, Whole, numbered};
use super::split::TrainTest;
use super::tasks::{Digits, Fashion, Task};
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
    GzDecoder::new(&include_bytes!("digits.csv.gz")[..])
        .read_to_string(&mut text)
        .map_err(|error| Error::data("digits.csv.gz", "gzip", error, "a gzip file"))?;
    from_csv("digits.csv.gz", text.as_bytes(), 16)
}

/// Loads 15,000 training and 10,000 test images of clothes at half size, which are embedded in the
/// crate: the first training images and all test images of Fashion-MNIST, each pixel the mean of
/// four.
///
/// H. Xiao, K. Rasul and R. Vollgraf (2017), Fashion-MNIST, arXiv:1708.07747, MIT licence.
///
/// # Errors
/// Returns an error only if an embedded file is damaged.
pub fn fashion() -> Result<TrainTest<Fashion>> {
    macro_rules! embedded {
        ($name:literal) => {{
            let path = Path::new(concat!($name, "-ubyte.gz"));
            let bytes = include_bytes!(concat!("fashion/", $name, "-ubyte.gz"));
            IdxFile { path, reader: GzDecoder::new(&bytes[..]), packed: true }
        }};
    }
    const NAMES: [&str; 10] = [
        "T-shirt",
        "trousers",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ];
    let read = |files| idx_of(files, NAMES.map(String::from).to_vec());
    let training = read([embedded!("train-images-idx3"), embedded!("train-labels-idx1")])?;
    let test = read([embedded!("t10k-images-idx3"), embedded!("t10k-labels-idx1")])?;
    TrainTest::new(training, test)
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
