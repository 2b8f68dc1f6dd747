//! The wire format of Protocol Buffers, read in place.
//!
//! A message is a row of fields, each a number and a value; a message within a message is the bytes
//! of a field (<https://protobuf.dev/programming-guides/encoding>). Nothing is copied and no length
//! is believed that the bytes do not hold, so that a forged file takes no memory. `rten-onnx` 0.27,
//! the smallest crate that reads ONNX, makes room for the length that a file claims before it reads,
//! follows messages in messages as deep as they go, and takes no packed attributes.

/// A field's value, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

/// The bytes that are no field: from where they start to the end of the message.
#[derive(Debug, PartialEq)]
pub(super) struct Broken<'a>(pub &'a [u8]);

/// Fields of a message, in the order of the file.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// The fields of the message that these bytes are.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Broken<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest;
        if start.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Broken(start));
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = varint(&mut self.rest)?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(*self.rest.split_off(..8)?.first_chunk()?),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).ok()?;
                Value::Bytes(self.rest.split_off(..length)?)
            }
            5 => Value::Fixed32(*self.rest.split_off(..4)?.first_chunk()?),
            _ => return None, // groups, which ONNX never had
        };
        Some((tag >> 3, value))
    }
}

/// Number of 7 bits a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Numbers of a repeated field: one, or many packed into bytes; none of another wire type.
pub(super) fn integers(value: Value<'_>, numbers: &mut Vec<i64>) -> Option<()> {
    match value {
        Value::Varint(number) => numbers.push(number as i64),
        Value::Bytes(mut bytes) => {
            while !bytes.is_empty() {
                numbers.push(varint(&mut bytes)? as i64);
            }
        }
        _ => return None,
    }
    Some(())
}

/// Numbers of a repeated field of `float`s, as [`integers`].
pub(super) fn floats(value: Value<'_>, numbers: &mut Vec<f32>) -> Option<()> {
    match value {
        Value::Fixed32(bytes) => numbers.push(f32::from_le_bytes(bytes)),
        Value::Bytes(bytes) if bytes.len().is_multiple_of(4) => {
            numbers.extend(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)));
        }
        _ => return None,
    }
    Some(())
}

/// Numbers of a repeated field of `double`s, as [`integers`].
pub(super) fn doubles(value: Value<'_>, numbers: &mut Vec<f64>) -> Option<()> {
    match value {
        Value::Fixed64(bytes) => numbers.push(f64::from_le_bytes(bytes)),
        Value::Bytes(bytes) if bytes.len().is_multiple_of(8) => {
            numbers.extend(bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight)));
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wire_type_is_read() {
        let message: Vec<u8> = [
            &[0x08, 0x96, 0x01][..], // 1: varint 150
            &[0x15, 0, 0, 0x80, 0x3f],
            &[0x19, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
            &[0x22, 2, b'a', b'b'],
        ]
        .concat();
        let read: Result<Vec<_>, _> = fields(&message).map(|field| field.map(|f| f.1)).collect();
        let values = [
            Value::Varint(150),
            Value::Fixed32(1f32.to_le_bytes()),
            Value::Fixed64(1f64.to_le_bytes()),
            Value::Bytes(b"ab"),
        ];
        assert_eq!(read.as_deref(), Ok(&values[..]));
    }

    #[test]
    fn a_length_that_the_bytes_do_not_hold_is_broken() {
        for bytes in [
            &[0x0a, 3, 1, 2][..],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x0a, 0x80],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            &[0x15, 0, 0],
            &[0x0b],
        ] {
            let read: Vec<_> = fields(bytes).collect();
            assert_eq!(read, [Err(Broken(bytes))], "{bytes:?}");
        }
    }

    #[test]
    fn numbers_are_packed_or_not() {
        let mut read = Vec::new();
        integers(Value::Varint(u64::MAX), &mut read).unwrap();
        integers(Value::Bytes(&[0x96, 0x01, 7]), &mut read).unwrap();
        assert_eq!(read, [-1, 150, 7]);
        assert_eq!(integers(Value::Bytes(&[0x96]), &mut read), None);
        let mut read = Vec::new();
        floats(Value::Bytes(&[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]), &mut read).unwrap();
        floats(Value::Fixed32(3f32.to_le_bytes()), &mut read).unwrap();
        assert_eq!(read, [1.0, 2.0, 3.0]);
        assert_eq!(floats(Value::Bytes(&[0; 5]), &mut read), None);
        assert_eq!(doubles(Value::Varint(1), &mut Vec::new()), None);
    }
}
