//! Datasets of a node, with bounds on what a damaged file may ask for.

use std::collections::HashSet;
use std::path::Path;

use half::{bf16, f16};
use hdf5_pure::{
    DType, Dataset, Datatype, DatatypeByteOrder, FormatError, Group, VlenStringReadOptions,
};

use crate::base::{Error, Result};

/// Largest stride, padding or side of a pool.
const MOST_STEPS: i64 = 1 << 16;
/// Largest number of values in a node's output; a VGG16 for ImageNet has 3.2 million.
pub(super) const MOST_VALUES: usize = 1 << 22;
/// Largest number of weights of a layer that the file does not hold: with pooling folded into them,
/// or of neurons that are the last layer.
const MOST_WEIGHTS: usize = 1 << 27;
/// Largest number of bytes that one byte of a file can stand for: the limit of deflate.
const MOST_INFLATION: u64 = 1032;

/// File that is being read.
pub(super) struct Source<'a> {
    path: &'a Path,
    /// Bytes.
    size: u64,
    /// Names of what may be its links.
    links: HashSet<Vec<u8>>,
}

impl<'a> Source<'a> {
    pub fn new(path: &'a Path, bytes: &[u8]) -> Self {
        let links = (0..bytes.len()).filter_map(|start| link(&bytes[start..]));
        let links = links.filter(|name| name.iter().all(u8::is_ascii_graphic));
        Self { path, size: bytes.len() as u64, links: links.map(Into::into).collect() }
    }
}

/// Name of the soft or external link that these bytes may begin with, which the HDF5 library passes
/// over as if it were not there: a message of version 1 with flags, the kind of link, its order and
/// character set if the flags say so, and the length of the name before the name.
fn link(bytes: &[u8]) -> Option<&[u8]> {
    let &[1, flags @ 0x08..0x20, 1..=255, ..] = bytes else {
        return None;
    };
    let (ordered, in_utf8) = (usize::from(flags >> 2 & 1), usize::from(flags >> 4));
    let (start, digits) = (3 + 8 * ordered + in_utf8, 1 << (flags & 3));
    let length = bytes.get(start..start + digits)?.iter().rev();
    let length = length.fold(0usize, |all, &digit| all << 8 | usize::from(digit));
    let name = bytes.get(start + digits..)?.get(..length);
    name.filter(|name| flags & 0x08 != 0 && !name.is_empty())
}

/// Group of a file, with what error messages name.
pub(super) struct Fields<'a> {
    source: &'a Source<'a>,
    place: String,
    pub group: Group,
}

impl<'a> Fields<'a> {
    /// Opens the group called `name` of the file's root.
    pub fn new(source: &'a Source<'a>, name: &str, parent: &Group) -> Result<Self> {
        let group = parent.group(name).map_err(|error| {
            let expected = format!("a group `{name}`, not behind a link");
            Error::data(source.path.display(), "graph", error, expected)
        })?;
        Ok(Self { source, place: format!("node `{name}`"), group })
    }

    /// Opens the group called `name` of this one.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::new(self.source, name, &self.group)
    }

    pub fn wrong(&self, found: impl ToString, expected: impl ToString) -> Error {
        Error::data(self.source.path.display(), &self.place, found, expected)
    }

    /// Returns an error unless `ok`.
    pub fn require(&self, ok: bool, found: impl ToString, expected: impl ToString) -> Result<()> {
        ok.then_some(()).ok_or_else(|| self.wrong(found, expected))
    }

    /// Returns what the HDF5 library gives, or an error with what was expected.
    fn read<T>(&self, of: Result<T, hdf5_pure::Error>, expected: impl ToString) -> Result<T> {
        of.map_err(|error| match error {
            hdf5_pure::Error::Format(FormatError::InvalidLayoutVersion(version)) => {
                let found = format!("a layout of version {version}, which HDF5 2.0 brought");
                self.wrong(found, "one that HDF5 1.14 writes: h5repack --high=v114 converts it")
            }
            error => self.wrong(error, format!("{}, not behind a link", expected.to_string())),
        })
    }

    /// Bytes that the file can stand for.
    fn most_bytes(&self) -> u64 {
        self.source.size.saturating_mul(MOST_INFLATION)
    }

    /// Largest number of weights that the file does not hold: a quarter of those it could hold, since
    /// some are there several times while they are composed.
    pub fn most_weights(&self) -> usize {
        MOST_WEIGHTS.min((self.most_bytes() / 16) as usize)
    }

    /// Whether there is a dataset of this path, such as `metadata/dt`, which a file need not have.
    ///
    /// # Errors
    /// Returns an error if it is damaged, or may be behind a link.
    pub fn has(&self, path: &str) -> Result<bool> {
        match self.group.dataset(path) {
            Err(hdf5_pure::Error::Format(FormatError::PathNotFound(_))) => {
                let links = &self.source.links;
                match path.split('/').find(|name| links.contains(name.as_bytes())) {
                    None => Ok(false),
                    Some(link) => {
                        let expected = format!("`{path}` itself, or nothing of this name");
                        Err(self.wrong(format!("a link `{link}`"), expected))
                    }
                }
            }
            found => self.read(found, format_args!("a dataset `{path}`")).map(|_| true),
        }
    }

    /// Opens a dataset and gives its sizes and their product.
    ///
    /// # Errors
    /// Returns an error if the dataset claims to hold more than its file can.
    fn dataset(&self, name: &str) -> Result<(Dataset, Vec<usize>, usize)> {
        let expected = format!("a dataset `{name}`");
        let dataset = self.read(self.group.dataset(name), &expected)?;
        let shape = self.read(dataset.shape(), &expected)?;
        let mut sizes = shape.iter();
        let elements = sizes.try_fold(1u64, |all, &size| all.checked_mul(size));
        let bytes = elements.and_then(|all| all.checked_mul(dataset.element_size().ok()?));
        // Only chunks are compressed.
        let most = match dataset.is_chunked() {
            true => self.most_bytes(),
            false => self.source.size,
        };
        let found = format_args!("`{name}` of shape {shape:?}");
        let expected = format_args!("what a file of {} bytes holds", self.source.size);
        self.require(bytes.is_some_and(|bytes| bytes <= most), found, expected)?;
        let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        let elements = shape.iter().product();
        Ok((dataset, shape, elements))
    }

    pub fn is_text(&self, name: &str) -> Result<bool> {
        let is_text = |kind| matches!(kind, DType::VariableLengthString | DType::String);
        Ok(self.dataset(name)?.0.dtype().is_ok_and(is_text))
    }

    /// Reads strings and their sizes.
    pub fn texts(&self, name: &str) -> Result<(Vec<String>, Vec<usize>)> {
        let (dataset, shape, elements) = self.dataset(name)?;
        let most = VlenStringReadOptions::new().with_max_payload_bytes(self.source.size as usize);
        let texts = match dataset.dtype() {
            Ok(DType::VariableLengthString) => dataset.read_vlen_strings(most),
            _ => dataset.read_string(),
        };
        let texts = self.read(texts, format_args!("text as `{name}`"))?;
        let count = texts.len();
        self.require(count == elements, format_args!("{count} texts"), elements)?;
        Ok((texts, shape))
    }

    pub fn text(&self, name: &str) -> Result<String> {
        match <[String; 1]>::try_from(self.texts(name)?.0) {
            Ok([text]) => Ok(text),
            Err(_) => Err(self.wrong("several texts or none", format!("one text as `{name}`"))),
        }
    }

    /// Reads finite numbers and their sizes.
    pub fn floats(&self, name: &str) -> Result<(Vec<f64>, Vec<usize>)> {
        let (dataset, shape, elements) = self.dataset(name)?;
        let expected = format!("numbers as `{name}`");
        let values = match self.read(dataset.datatype(), &expected)? {
            Datatype::FloatingPoint { size: 2, byte_order, layout } => {
                let number = match (layout.exponent_size, layout.exponent_bias) {
                    (5, 15) => |bits: u16| f16::from_bits(bits).to_f64(),
                    (8, 127) => |bits: u16| bf16::from_bits(bits).to_f64(),
                    _ => return Err(self.wrong(format!("{layout:?}"), expected)),
                };
                let bits = match byte_order {
                    DatatypeByteOrder::BigEndian => u16::from_be_bytes,
                    _ => u16::from_le_bytes,
                };
                let bytes = self.read(dataset.read_raw(), &expected)?;
                bytes.as_chunks().0.iter().map(|&two| number(bits(two))).collect()
            }
            _ => self.read(dataset.read_f64(), &expected)?,
        };
        let found = format_args!("{} values of `{name}`", values.len());
        self.require(values.len() == elements, found, elements)?;
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok((values, shape)),
            Some(bad) => Err(self.wrong(format!("{bad} in `{name}`"), "finite numbers")),
        }
    }

    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let values = self.dataset(name)?.0.read_i64();
        self.read(values, format_args!("whole numbers as `{name}`"))
    }

    /// Reads a number for rows and one for columns, or one for both.
    pub fn both(&self, name: &str, least: i64) -> Result<[usize; 2]> {
        let values = self.integers(name)?;
        let pair = match values[..] {
            [both] => Some([both; 2]),
            [rows, columns] => Some([rows, columns]),
            _ => None,
        };
        let good = |pair: &[i64; 2]| pair.iter().all(|value| (least..=MOST_STEPS).contains(value));
        let expected = format!("one or two numbers of {least} to {MOST_STEPS}");
        let found = format_args!("`{name}` {values:?}");
        let pair = pair.filter(good).ok_or_else(|| self.wrong(found, expected))?;
        Ok(pair.map(|value| value as usize))
    }

    /// Reads the sizes of an input or output.
    pub fn sizes(&self) -> Result<Vec<usize>> {
        let sizes = self.integers("shape")?;
        let mut positive = sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0));
        let size = positive.try_fold(1usize, |all, size| all.checked_mul(size));
        let good = size.is_some_and(|size| (1..=MOST_VALUES).contains(&size));
        let expected = format!("1 to {MOST_VALUES} values");
        self.require(good, format_args!("shape {sizes:?}"), expected)?;
        Ok(sizes.iter().map(|&size| size as usize).collect())
    }
}
