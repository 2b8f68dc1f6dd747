//! The messages of an ONNX file that a network needs, by `onnx.proto`.

use std::path::Path;

use super::protobuf::{Broken, Value, doubles, fields, floats, integers};
use crate::base::{Error, Result};

/// An ONNX file.
pub(super) struct Model<'a> {
    /// Version of the operators.
    pub opset: i64,
    pub nodes: Vec<Node<'a>>,
    pub initialisers: Vec<TensorProto<'a>>,
    pub inputs: Vec<Port<'a>>,
    pub outputs: Vec<Port<'a>>,
}

pub(super) struct Node<'a> {
    pub name: &'a str,
    pub operator: &'a str,
    /// Whose operator it is; empty for ONNX's own.
    pub domain: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub attributes: Vec<(&'a str, Attribute<'a>)>,
}

#[derive(Debug)]
pub(super) enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Text(&'a str),
    Tensor(TensorProto<'a>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// Of another type.
    Other,
}

/// Tensor of a file.
#[derive(Debug, Default)]
pub(super) struct TensorProto<'a> {
    pub name: &'a str,
    pub dims: Vec<i64>,
    /// Number of the data type.
    pub kind: i64,
    pub data: Data<'a>,
}

/// Where the values of a tensor are.
#[derive(Debug, Default)]
pub(super) enum Data<'a> {
    #[default]
    None,
    Raw(&'a [u8]),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Doubles(Vec<f64>),
    /// In another file: keys and values.
    External(Vec<(&'a str, &'a str)>),
}

/// Input or output of the graph.
#[derive(Debug, Default)]
pub(super) struct Port<'a> {
    pub name: &'a str,
    /// Sizes of the dimensions, none where they are open; none if the file does not say.
    pub dims: Option<Vec<Option<i64>>>,
}

/// Reader of a file's messages.
#[derive(Clone, Copy)]
struct Reader<'a> {
    path: &'a Path,
    file: &'a [u8],
}

impl<'a> Model<'a> {
    /// Reads the file that these bytes are.
    ///
    /// # Errors
    /// Bytes that are no ONNX model, or one of operators of an unknown version.
    pub fn read(path: &'a Path, file: &'a [u8]) -> Result<Self> {
        Reader { path, file }.model()
    }
}

impl<'a> Reader<'a> {
    fn wrong(&self, at: &[u8], found: impl ToString, expected: impl ToString) -> Error {
        let byte = at.as_ptr().addr().wrapping_sub(self.file.as_ptr().addr());
        Error::data(self.path.display(), format!("byte {byte}"), found, expected)
    }

    /// Reads the fields of a message with a function that takes the number and value of each, and
    /// gives none for a value of the wrong type.
    fn each(
        &self,
        message: &'a [u8],
        mut take: impl FnMut(u64, Value<'a>) -> Result<Option<()>>,
    ) -> Result<()> {
        for field in fields(message) {
            let (number, value) = field.map_err(|Broken(at)| {
                self.wrong(at, "bytes that are no field of Protocol Buffers", "a whole ONNX file")
            })?;
            if take(number, value)?.is_none() {
                let found = format!("field {number} of the wrong type");
                return Err(self.wrong(message, found, "a whole ONNX file"));
            }
        }
        Ok(())
    }

    fn model(&self) -> Result<Model<'a>> {
        let (mut graph, mut opset) = (None, None);
        self.each(self.file, |number, value| match (number, value) {
            (7, Value::Bytes(bytes)) => Ok(set(&mut graph, bytes)),
            (8, Value::Bytes(bytes)) => {
                let (mut domain, mut version) = ("", 0);
                self.each(bytes, |number, value| {
                    Ok(match number {
                        1 => text(value).map(|text| domain = text),
                        2 => int(value).map(|int| version = int),
                        _ => Some(()),
                    })
                })?;
                if own(domain) {
                    opset = Some(version);
                }
                Ok(Some(()))
            }
            (7 | 8, _) => Ok(None),
            _ => Ok(Some(())),
        })?;
        let (Some(graph), Some(opset)) = (graph, opset) else {
            let found = "no graph, or no version of ONNX's operators";
            return Err(self.wrong(self.file, found, "an ONNX model"));
        };
        let mut model = Model {
            opset,
            nodes: Vec::new(),
            initialisers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        self.each(graph, |number, value| {
            match (number, value) {
                (1, Value::Bytes(bytes)) => model.nodes.push(self.node(bytes)?),
                (5, Value::Bytes(bytes)) => model.initialisers.push(self.tensor(bytes)?),
                (11, Value::Bytes(bytes)) => model.inputs.push(self.port(bytes)?),
                (12, Value::Bytes(bytes)) => model.outputs.push(self.port(bytes)?),
                (1 | 5 | 11 | 12, _) => return Ok(None),
                _ => (),
            }
            Ok(Some(()))
        })?;
        Ok(model)
    }

    fn node(&self, message: &'a [u8]) -> Result<Node<'a>> {
        let mut node = Node {
            name: "",
            operator: "",
            domain: "",
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: Vec::new(),
        };
        self.each(message, |number, value| {
            Ok(match number {
                1 => text(value).map(|name| node.inputs.push(name)),
                2 => text(value).map(|name| node.outputs.push(name)),
                3 => text(value).map(|name| node.name = name),
                4 => text(value).map(|name| node.operator = name),
                5 => match value {
                    Value::Bytes(bytes) => push(&mut node.attributes, self.attribute(bytes)?),
                    _ => None,
                },
                7 => text(value).map(|name| node.domain = name),
                _ => Some(()),
            })
        })?;
        if node.operator.is_empty() || node.outputs.is_empty() {
            let found = "a node without an operator or an output";
            return Err(self.wrong(message, found, "a whole ONNX file"));
        }
        Ok(node)
    }

    fn attribute(&self, message: &'a [u8]) -> Result<(&'a str, Attribute<'a>)> {
        let (mut name, mut kind) = ("", None);
        let (mut all_ints, mut all_floats) = (Vec::new(), Vec::new());
        let (mut one_int, mut one_float) = (None, None);
        let (mut one_text, mut tensor) = (None, None);
        self.each(message, |number, value| {
            Ok(match (number, value) {
                (1, value) => text(value).map(|text| name = text),
                (2, Value::Fixed32(bytes)) => set(&mut one_float, f32::from_le_bytes(bytes)),
                (3, value) => int(value).map(|int| one_int = Some(int)),
                (4, value) => text(value).map(|text| one_text = Some(text)),
                (5, Value::Bytes(bytes)) => set(&mut tensor, self.tensor(bytes)?),
                (7, value) => floats(value, &mut all_floats),
                (8, value) => integers(value, &mut all_ints),
                (20, value) => int(value).map(|int| kind = Some(int)),
                (2 | 5, _) => None,
                _ => Some(()),
            })
        })?;
        // Before version 2 files had no type; what is 0 or empty may be left out.
        let kind = kind.filter(|&kind| kind != 0).unwrap_or({
            let found = [
                one_float.is_some(),
                one_int.is_some(),
                one_text.is_some(),
                tensor.is_some(),
                false,
                !all_floats.is_empty(),
                !all_ints.is_empty(),
            ];
            found.iter().position(|&found| found).map_or(0, |place| place as i64 + 1)
        });
        let value = match kind {
            1 => Attribute::Float(one_float.unwrap_or_default()),
            2 => Attribute::Int(one_int.unwrap_or_default()),
            3 => Attribute::Text(one_text.unwrap_or_default()),
            4 => Attribute::Tensor(tensor.unwrap_or_default()),
            6 => Attribute::Floats(all_floats),
            7 => Attribute::Ints(all_ints),
            _ => Attribute::Other,
        };
        Ok((name, value))
    }

    fn tensor(&self, message: &'a [u8]) -> Result<TensorProto<'a>> {
        let mut tensor = TensorProto::default();
        let (mut raw, mut external, mut outside) = (None, Vec::new(), false);
        let (mut all_floats, mut all_ints, mut all_doubles) = (Vec::new(), Vec::new(), Vec::new());
        self.each(message, |number, value| {
            Ok(match (number, value) {
                (1, value) => integers(value, &mut tensor.dims),
                (2, value) => int(value).map(|int| tensor.kind = int),
                (4, value) => floats(value, &mut all_floats),
                // Of `int32_data` and `uint64_data` as well, of which a tensor has one.
                (5 | 7 | 11, value) => integers(value, &mut all_ints),
                (8, value) => text(value).map(|text| tensor.name = text),
                (9, Value::Bytes(bytes)) => set(&mut raw, bytes),
                (10, value) => doubles(value, &mut all_doubles),
                (13, Value::Bytes(bytes)) => {
                    let (mut key, mut said) = ("", "");
                    self.each(bytes, |number, value| {
                        Ok(match number {
                            1 => text(value).map(|text| key = text),
                            2 => text(value).map(|text| said = text),
                            _ => Some(()),
                        })
                    })?;
                    push(&mut external, (key, said))
                }
                (14, value) => int(value).map(|place| outside = place == 1),
                (9 | 13, _) => None,
                _ => Some(()),
            })
        })?;
        tensor.data = match raw {
            _ if outside => Data::External(external),
            Some(raw) => Data::Raw(raw),
            None if !all_floats.is_empty() => Data::Floats(all_floats),
            None if !all_ints.is_empty() => Data::Ints(all_ints),
            None if !all_doubles.is_empty() => Data::Doubles(all_doubles),
            None => Data::None,
        };
        Ok(tensor)
    }

    fn port(&self, message: &'a [u8]) -> Result<Port<'a>> {
        let mut port = Port::default();
        let mut kind = None;
        self.each(message, |number, value| {
            Ok(match number {
                1 => text(value).map(|text| port.name = text),
                2 => bytes(value).map(|bytes| kind = Some(bytes)),
                _ => Some(()),
            })
        })?;
        // TypeProto, its tensor, the tensor's shape.
        let mut shape = kind;
        for field in [1, 2] {
            let Some(outer) = shape.take() else { break };
            self.each(outer, |number, value| {
                Ok(match number == field {
                    true => bytes(value).map(|bytes| shape = Some(bytes)),
                    false => Some(()),
                })
            })?;
        }
        let Some(shape) = shape else { return Ok(port) };
        let mut dims = Vec::new();
        self.each(shape, |number, value| {
            let (1, Value::Bytes(dimension)) = (number, value) else { return Ok(Some(())) };
            let mut size = None;
            self.each(dimension, |number, value| {
                Ok(match number {
                    1 => int(value).map(|int| size = Some(int)),
                    _ => Some(()),
                })
            })?;
            // Some exporters write -1 or 0 for a dimension that is open.
            dims.push(size.filter(|&size| size > 0));
            Ok(Some(()))
        })?;
        port.dims = Some(dims);
        Ok(port)
    }
}

fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    *place = Some(value);
    Some(())
}

fn push<T>(to: &mut Vec<T>, value: T) -> Option<()> {
    to.push(value);
    Some(())
}

/// Whether a domain is ONNX's own.
pub(super) fn own(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn bytes(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn text(value: Value<'_>) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}

fn int(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Varint(number) => Some(number as i64),
        _ => None,
    }
}
