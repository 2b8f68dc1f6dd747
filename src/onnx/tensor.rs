//! Constants of a graph, and the memory that they may take.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use half::{bf16, f16};

use super::model::{Data, TensorProto};
use crate::base::{Error, Result};

/// Constant of a graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub shape: Vec<usize>,
    pub values: Values,
}

/// Values in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    /// Of whole numbers, and of truth values as 0 and 1.
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

/// What is left of the memory that constants and layers may take, in values: a multiple of what the
/// file holds, so that no file asks for more than it justifies.
pub(super) struct Budget {
    left: usize,
    /// Bytes of the file and those beside it.
    bytes: usize,
}

/// Values that a network may have for each byte of its file. Weights of 16 bits are half a value a
/// byte, and as much again where they are cast, transposed and copied to a layer.
const VALUES_A_BYTE: usize = 4;
/// Largest number of axes of a value.
const MOST_AXES: usize = 16;
/// Values that any file may ask for, such as the weights of a shortcut between a few channels.
const FREE_VALUES: usize = 1 << 14;

impl Budget {
    /// Budget of a file of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { left: bytes.saturating_mul(VALUES_A_BYTE).saturating_add(FREE_VALUES), bytes }
    }

    /// Takes memory for values of a shape; returns their number, or what is wrong and what is
    /// expected.
    pub fn take(&mut self, shape: &[usize]) -> Result<usize, (String, String)> {
        if shape.len() > MOST_AXES {
            return Err((format!("{} axes", shape.len()), format!("at most {MOST_AXES}")));
        }
        let mut sizes = shape.iter();
        let size = sizes.try_fold(1usize, |all, &size| all.checked_mul(size));
        match size.and_then(|size| Some((size, self.left.checked_sub(size)?))) {
            Some((size, left)) => {
                self.left = left;
                Ok(size)
            }
            None => Err((
                format!("{shape:?} values"),
                format!("no more than a file of {} bytes justifies", self.bytes),
            )),
        }
    }

    /// Adds what a file beside the model holds.
    fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.left = self.left.saturating_add(bytes.saturating_mul(VALUES_A_BYTE));
    }
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(values) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }

    /// The values at these places.
    fn at(&self, places: impl Iterator<Item = usize>) -> Self {
        match self {
            Self::Ints(values) => Self::Ints(places.map(|place| values[place]).collect()),
            Self::Floats(values) => Self::Floats(places.map(|place| values[place]).collect()),
        }
    }
}

impl Tensor {
    pub fn ints(values: Vec<i64>) -> Self {
        Self { shape: vec![values.len()], values: Values::Ints(values) }
    }

    /// Values that are read as whole numbers: those of shapes, axes and counts.
    pub fn integers(&self) -> Option<&[i64]> {
        match &self.values {
            Values::Ints(values) => Some(values),
            Values::Floats(_) => None,
        }
    }

    /// Values as floating-point numbers.
    pub fn floats(&self) -> Vec<f32> {
        match &self.values {
            Values::Ints(values) => values.iter().map(|&value| value as f32).collect(),
            Values::Floats(values) => values.clone(),
        }
    }

    /// A value that is alone in its tensor.
    pub fn one(&self) -> Option<f32> {
        match &self.values {
            Values::Ints(values) if values.len() == 1 => Some(values[0] as f32),
            Values::Floats(values) if values.len() == 1 => Some(values[0]),
            _ => None,
        }
    }

    /// A tensor of this shape whose value at each index is this tensor's at another. The caller has
    /// taken the memory.
    pub fn picked(&self, shape: Vec<usize>, place: impl Fn(&[usize]) -> usize) -> Self {
        let size: usize = shape.iter().product();
        let mut index = vec![0; shape.len()];
        let places = (0..size).map(|_| {
            let place = place(&index);
            for (number, &size) in index.iter_mut().zip(&shape).rev() {
                *number += 1;
                if *number < size {
                    break;
                }
                *number = 0;
            }
            place
        });
        let values = self.values.at(places);
        Self { shape, values }
    }

    /// The tensor with its axes in another order.
    pub fn transposed(&self, order: &[usize]) -> Self {
        let steps = strides(&self.shape);
        let steps: Vec<usize> = order.iter().map(|&axis| steps[axis]).collect();
        let shape = order.iter().map(|&axis| self.shape[axis]).collect();
        self.picked(shape, |index| index.iter().zip(&steps).map(|(i, step)| i * step).sum())
    }
}

/// Distance between neighbours along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Name and bytes of a value of ONNX's data types, by number.
fn kind(number: i64) -> Option<(&'static str, usize)> {
    const KINDS: [(&str, usize); 17] = [
        ("undefined", 0),
        ("float32", 4),
        ("uint8", 1),
        ("int8", 1),
        ("uint16", 2),
        ("int16", 2),
        ("int32", 4),
        ("int64", 8),
        ("string", 0),
        ("bool", 1),
        ("float16", 2),
        ("float64", 8),
        ("uint32", 4),
        ("uint64", 8),
        ("complex64", 0),
        ("complex128", 0),
        ("bfloat16", 2),
    ];
    KINDS.get(usize::try_from(number).ok()?).copied().filter(|kind| kind.1 > 0)
}

/// Whether a data type is of floating-point numbers, rather than whole ones.
pub(super) fn is_float(number: i64) -> bool {
    matches!(number, 1 | 10 | 11 | 16)
}

/// Reads the values of a tensor of the file at `path`.
///
/// # Errors
/// A tensor that is not whole, of an unknown type, or larger than its file.
pub(super) fn read(path: &Path, tensor: &TensorProto<'_>, budget: &mut Budget) -> Result<Tensor> {
    let place = format!("tensor `{}`", tensor.name);
    let wrong =
        |found: String, expected: String| Error::data(path.display(), &place, found, expected);
    let Some((name, bytes_each)) = kind(tensor.kind) else {
        let found = format!("data type {}", tensor.kind);
        let expected = "a tensor of numbers: float16, float32, float64, bfloat16, int64, ...";
        return Err(wrong(found, expected.into()));
    };
    let sizes = tensor.dims.iter().map(|&size| usize::try_from(size).ok());
    let Some(shape) = sizes.collect::<Option<Vec<usize>>>() else {
        return Err(wrong(format!("shape {:?}", tensor.dims), "sizes of 0 or more".into()));
    };
    let elements = shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
    let elements = elements.unwrap_or(usize::MAX);
    let expected = || format!("{elements} values of {name} for shape {shape:?}");
    let external;
    let raw = match &tensor.data {
        Data::Raw(raw) => Some(*raw),
        Data::External(entries) => {
            let length = elements.saturating_mul(bytes_each);
            external = beside(path, &place, entries, length)?;
            budget.add(external.len());
            Some(&external[..])
        }
        _ => None,
    };
    let found = match (raw, &tensor.data) {
        (Some(raw), _) if elements.checked_mul(bytes_each) != Some(raw.len()) => {
            return Err(wrong(format!("{} bytes", raw.len()), expected()));
        }
        (Some(_), _) => elements,
        (_, Data::Floats(values)) => values.len(),
        (_, Data::Ints(values)) => values.len(),
        (_, Data::Doubles(values)) => values.len(),
        _ => 0,
    };
    if found != elements {
        return Err(wrong(format!("{found} values"), expected()));
    }
    budget.take(&shape).map_err(|(found, expected)| wrong(found, expected))?;
    let floats = |of: fn([u8; 2]) -> f32, raw: &[u8]| {
        Values::Floats(raw.as_chunks().0.iter().map(|&two| of(two)).collect())
    };
    macro_rules! each {
        ($raw:ident as $kind:ty) => {
            $raw.as_chunks().0.iter().map(|&bytes| <$kind>::from_le_bytes(bytes))
        };
    }
    let half = |bytes| f16::from_le_bytes(bytes).to_f32();
    let brain = |bytes| bf16::from_le_bytes(bytes).to_f32();
    let values = match (tensor.kind, raw, &tensor.data) {
        (1, Some(raw), _) => Values::Floats(each!(raw as f32).collect()),
        (10, Some(raw), _) => floats(half, raw),
        (16, Some(raw), _) => floats(brain, raw),
        (11, Some(raw), _) => Values::Floats(each!(raw as f64).map(|x| x as f32).collect()),
        (2 | 9, Some(raw), _) => Values::Ints(raw.iter().map(|&byte| byte.into()).collect()),
        (3, Some(raw), _) => Values::Ints(each!(raw as i8).map(i64::from).collect()),
        (4, Some(raw), _) => Values::Ints(each!(raw as u16).map(i64::from).collect()),
        (5, Some(raw), _) => Values::Ints(each!(raw as i16).map(i64::from).collect()),
        (6, Some(raw), _) => Values::Ints(each!(raw as i32).map(i64::from).collect()),
        (12, Some(raw), _) => Values::Ints(each!(raw as u32).map(i64::from).collect()),
        (_, Some(raw), _) => Values::Ints(each!(raw as i64).collect()),
        (1, _, Data::Floats(values)) => Values::Floats(values.clone()),
        // Their bits.
        (10, _, Data::Ints(bits)) => {
            Values::Floats(bits.iter().map(|&bits| half((bits as u16).to_le_bytes())).collect())
        }
        (16, _, Data::Ints(bits)) => {
            Values::Floats(bits.iter().map(|&bits| brain((bits as u16).to_le_bytes())).collect())
        }
        (11, _, Data::Doubles(values)) => {
            Values::Floats(values.iter().map(|&value| value as f32).collect())
        }
        (kind, _, Data::Ints(values)) if !is_float(kind) => Values::Ints(values.clone()),
        (kind, _, Data::None) if is_float(kind) => Values::Floats(Vec::new()),
        (_, _, Data::None) => Values::Ints(Vec::new()),
        _ => return Err(wrong("values of another type".into(), expected())),
    };
    Ok(Tensor { shape, values })
}

/// Bytes of a tensor in a file beside the model. Only files of the model's own folder are read.
fn beside(path: &Path, place: &str, entries: &[(&str, &str)], length: usize) -> Result<Vec<u8>> {
    let entry = |key: &str| entries.iter().find(|(other, _)| *other == key).map(|entry| entry.1);
    let location = entry("location").unwrap_or_default();
    let wrong =
        |found: String, expected: String| Error::data(path.display(), place, found, expected);
    let inside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_)));
    if location.is_empty() || !inside {
        let expected = "the name of a file in the folder of the model";
        return Err(wrong(format!("external data in `{location}`"), expected.into()));
    }
    let number = |key: &str, otherwise: usize| match entry(key) {
        None => Ok(otherwise),
        Some(text) => text.parse().map_err(|_| {
            wrong(format!("`{key}` {text} of external data"), "a number of bytes".into())
        }),
    };
    let (offset, said) = (number("offset", 0)?, number("length", length)?);
    let file = path.parent().unwrap_or(Path::new("")).join(location);
    let fail = |error: std::io::Error| {
        let found = format!("external data in `{location}`: {error}");
        wrong(found, "a file in the folder of the model".into())
    };
    let mut open = fs::File::open(&file).map_err(fail)?;
    let whole = open.metadata().map_err(fail)?;
    let end = offset.checked_add(length).filter(|&end| end as u64 <= whole.len());
    if said != length || end.is_none() || !whole.is_file() {
        let found = format!("{said} bytes at {offset} of `{location}`, which has {}", whole.len());
        return Err(wrong(found, format!("{length} bytes of that file")));
    }
    let mut bytes = vec![0; length];
    let read = open.seek(SeekFrom::Start(offset as u64)).and_then(|_| open.read_exact(&mut bytes));
    read.map_err(fail)?;
    Ok(bytes)
}
