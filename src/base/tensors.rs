//! Named tensors and the safetensors files that hold them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::files::write_file;
use super::table::one_line;

/// Named tensor of a network.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedTensor {
    /// Path given by dfdx: positions in tuples and a field, such as `0.1.weight`.
    pub name: String,
    /// Size of each dimension, slowest first.
    pub shape: Vec<usize>,
    /// Values in row-major order.
    pub values: Vec<f32>,
}

one_line!(impl [] NamedTensor: tensor, "tensor {} {:?}", tensor.name, tensor.shape);

impl NamedTensor {
    /// Returns the values as little-endian bytes, as in files.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// Returns the name and the bytes, as checksums take them.
    pub(crate) fn entry(&self) -> (&str, Cow<'_, [u8]>) {
        (&self.name, self.bytes().into())
    }
}

impl View for &NamedTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        debug_assert_eq!(self.shape.iter().product::<usize>(), self.values.len());
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(&*self.values)
    }
}

/// Tensor as it is written at half precision.
struct Half<'a>(&'a NamedTensor);

impl View for Half<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F16
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let halves = self.0.values.iter().map(|&x| f16::from_f32(x));
        halves.flat_map(f16::to_le_bytes).collect()
    }

    fn data_len(&self) -> usize {
        size_of::<f16>() * self.0.values.len()
    }
}

/// Number format of the tensors in a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// 32 bits: the numbers as they are.
    Single,
    /// 16 bits (IEEE 754 binary16): half the size, numbers rounded to 11 significant bits.
    Half,
}

/// Parses the header of a safetensors file; the crate checks it against the file's length.
pub(crate) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes).map_err(|error| {
        let expected = "a whole safetensors file";
        Error::data(path.display(), "header", error, expected)
    })
}

/// Returns the checked values of a tensor of a file.
pub(crate) fn values(
    path: &Path,
    file: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>> {
    let place = || format!("tensor `{name}`");
    let tensor = file
        .tensor(name)
        .map_err(|error| Error::data(path.display(), place(), error, "a tensor of this name"))?;
    if tensor.shape() != shape {
        let found = format!("shape {:?}", tensor.shape());
        let expected = format!("{shape:?}");
        return Err(Error::data(path.display(), place(), found, expected));
    }
    let (halves, _) = tensor.data().as_chunks();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => halves.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => halves.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        other => {
            let found = format!("{other:?}");
            return Err(Error::data(path.display(), place(), found, "F32, F16 or BF16"));
        }
    };
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(values),
        Some(bad) => Err(Error::data(path.display(), place(), bad, "finite numbers")),
    }
}

/// Writes a safetensors file of tensors with one metadata entry, since the order of several would
/// be random.
///
/// # Errors
/// A number too large for half precision, or a file that cannot be written.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &[NamedTensor],
    (key, text): (&str, String),
    precision: Precision,
) -> Result<()> {
    let metadata = Some(HashMap::from([(key.into(), text)]));
    let bytes = match precision {
        Precision::Single => {
            let tensors = tensors.iter().map(|tensor| (&tensor.name, tensor));
            safetensors::serialize(tensors, metadata)
        }
        Precision::Half => {
            for tensor in tensors {
                let large = |x: &&f32| x.is_finite() && f16::from_f32(**x).is_infinite();
                if let Some(large) = tensor.values.iter().find(large) {
                    let found = format!("{large} in tensor `{}`", tensor.name);
                    let expected = "at most 65504, or single precision";
                    return Err(Error::parameter("precision", found, expected));
                }
            }
            let tensors = tensors.iter().map(|tensor| (&tensor.name, Half(tensor)));
            safetensors::serialize(tensors, metadata)
        }
    };
    write_file(path, &bytes.map_err(Error::write(path))?)
}
