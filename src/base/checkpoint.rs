//! Checkpoints: the files that long work resumes from, in one format for all kinds of work.
//!
//! A checkpoint is a safetensors file. Its tensors are those of the work, if any. Its metadata
//! holds the versions of the format and of the crate, what else determines the result of the work
//! (its *identity*) and its progress (its *state*), with the CRC-32 of all of it.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use flate2::Crc;
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::{Error, Result};
use super::tensors::{NamedTensor, Precision, parse, values, write_tensors};

const KEY: &str = "evospike checkpoint";
/// Version of the format; up to version 4, training and evolution had formats of their own.
const VERSION: u32 = 5;
/// Version of the crate, which is part of every identity.
const CRATE: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    version: u32,
    evospike: &'a str,
    #[serde(borrow)]
    identity: &'a RawValue,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// Returns the CRC-32 of a text and of the names and bytes of tensors.
fn checksum<'b>(text: &str, tensors: impl IntoIterator<Item = (&'b str, impl AsRef<[u8]>)>) -> u32 {
    let mut checksum = Crc::new();
    checksum.update(text.as_bytes());
    for (name, data) in tensors {
        checksum.update(name.as_bytes());
        checksum.update(data.as_ref());
    }
    checksum.sum()
}

/// Returns the error of a checkpoint with other content than expected.
pub(crate) fn wrong(
    path: &Path,
    place: &str,
    found: impl ToString,
    expected: impl ToString,
) -> Error {
    Error::data(path.display(), place, found, expected)
}

/// Returns the error of a file that is not a checkpoint of this version.
pub(crate) fn damaged(path: &Path, found: impl ToString) -> Error {
    let expected = "a whole checkpoint; delete it to start anew";
    wrong(path, "checkpoint", found, expected)
}

/// Writes a checkpoint.
pub(crate) fn write_checkpoint(
    path: &Path,
    identity: &impl Serialize,
    state: &impl Serialize,
    mut tensors: Vec<NamedTensor>,
) -> Result<()> {
    let raw = |value: serde_json::Result<Box<RawValue>>| value.map_err(Error::write(path));
    let header = serde_json::to_string(&Header {
        version: VERSION,
        evospike: CRATE,
        identity: &raw(serde_json::value::to_raw_value(identity))?,
        state: &raw(serde_json::value::to_raw_value(state))?,
    });
    let header = header.map_err(Error::write(path))?;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let checksum = checksum(&header, tensors.iter().map(NamedTensor::entry));
    write_tensors(path, &tensors, (KEY, format!("{checksum:08x} {header}")), Precision::Single)
}

/// Returns the text of a checkpoint's header, checked against its checksum.
fn header(path: &Path, bytes: &[u8], file: &SafeTensors<'_>) -> Result<String> {
    let metadata = SafeTensors::read_metadata(bytes).ok();
    let metadata = metadata.and_then(|(_, metadata)| metadata.metadata().clone());
    let entry = metadata.and_then(|mut entries: HashMap<_, _>| entries.remove(KEY));
    let Some(entry) = entry else {
        return Err(damaged(path, format!("no `{KEY}` in its metadata")));
    };
    let (sum, text) = entry.split_once(' ').unwrap_or(("", &entry));
    let mut names = file.names();
    names.sort_unstable();
    let tensors: Vec<_> = (names.into_iter())
        .filter_map(|name| Some((name, file.tensor(name).ok()?.data())))
        .collect();
    let found = checksum(text, tensors);
    if u32::from_str_radix(sum, 16) != Ok(found) {
        return Err(damaged(path, format!("checksum {found:08x} for {sum}")));
    }
    Ok(text.into())
}

/// A whole checkpoint of this version of the crate.
pub(crate) struct Checkpoint {
    pub identity: Value,
    state: Box<RawValue>,
    tensors: Vec<NamedTensor>,
}

impl Checkpoint {
    /// Reads a checkpoint of any work; none if there is no file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is damaged, or is of another version of the
    /// format or of the crate, which may compute something else.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path)(error)),
        };
        let other = |place, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display| {
            wrong(path, place, found, format!("{expected}; delete the file to start anew"))
        };
        if bytes.first() == Some(&b'{') {
            return Err(other("format version", &"one before 5", &VERSION));
        }
        let file = parse(path, &bytes)?;
        let text = header(path, &bytes, &file)?;
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(&text).map_err(|e| damaged(path, e))?;
        if version != VERSION {
            return Err(other("format version", &version, &VERSION));
        }
        let header: Header<'_> = serde_json::from_str(&text).map_err(|e| damaged(path, e))?;
        if header.evospike != CRATE {
            return Err(other("version of evospike", &header.evospike, &CRATE));
        }
        let identity = serde_json::from_str(header.identity.get());
        let names = file.names().into_iter();
        let tensors = names.map(|name| {
            let shape = file.tensor(name).map(|tensor| tensor.shape().to_vec());
            let shape = shape.map_err(|error| damaged(path, error))?;
            Ok(NamedTensor { name: name.into(), values: values(path, &file, name, &shape)?, shape })
        });
        let mut tensors = tensors.collect::<Result<Vec<_>>>()?;
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(Self {
            identity: identity.map_err(|e| damaged(path, e))?,
            state: header.state.to_owned(),
            tensors,
        }))
    }
}

/// Reads the checkpoint of the work with this identity; none if there is no file.
///
/// # Errors
/// Returns the errors of [`Checkpoint::read`], and an error if the file belongs to another identity,
/// naming the first difference.
pub(crate) fn read_checkpoint<S: for<'de> Deserialize<'de>>(
    path: &Path,
    identity: &impl Serialize,
) -> Result<Option<(S, Vec<NamedTensor>)>> {
    let Some(found) = Checkpoint::read(path)? else {
        return Ok(None);
    };
    let own = serde_json::to_string(identity).map_err(Error::write(path))?;
    let own: Value = serde_json::from_str(&own).map_err(Error::write(path))?;
    check_same(path, &found.identity, &own, "as in this run; delete the file to start anew")?;
    let state = serde_json::from_str(found.state.get()).map_err(|e| damaged(path, e))?;
    Ok(Some((state, found.tensors)))
}

/// Returns an error with the first difference of a file's identity from the one of `whose`.
pub(crate) fn check_same(path: &Path, found: &Value, own: &Value, whose: &str) -> Result<()> {
    difference("", found, own).map_or(Ok(()), |(place, found, own)| {
        Err(wrong(path, &place, found, format!("{own}, {whose}")))
    })
}

/// Returns the first field in which two values differ, and both values.
fn difference(place: &str, found: &Value, expected: &Value) -> Option<(String, String, String)> {
    if let (Value::Object(found), Value::Object(expected)) = (found, expected) {
        let mut keys = expected.keys().chain(found.keys());
        return keys.find_map(|key| {
            let place = match place {
                "" => key.clone(),
                place => format!("{place}.{key}"),
            };
            let of = |map: &serde_json::Map<_, _>| map.get(key).cloned().unwrap_or_default();
            difference(&place, &of(found), &of(expected))
        });
    }
    (found != expected).then(|| (place.into(), short(found), short(expected)))
}

/// Formats a value as text, truncated to 60 characters.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_formats_and_other_identities_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digits.checkpoint");
        let tensor = NamedTensor { name: "weight".into(), shape: vec![2], values: vec![0.5, -1.5] };
        let read = |identity: &Value| read_checkpoint::<Vec<u8>>(&path, identity);
        let own = serde_json::json!({"work": "train", "settings": {"seed": 0}});
        assert!(read(&own).unwrap().is_none());
        write_checkpoint(&path, &own, &[1, 2], vec![tensor.clone()]).unwrap();
        assert_eq!(read(&own).unwrap(), Some((vec![1, 2], vec![tensor])));

        let error = |identity: &Value| read(identity).unwrap_err().to_string();
        let other = serde_json::json!({"work": "train", "settings": {"seed": 1}});
        let expected = "settings.seed: found 0, expected 1, as in this run";
        assert!(error(&other).contains(expected), "{}", error(&other));

        for (text, expected) in [
            (r#"{"version":2,"run":{}}"#, "format version: found 2, expected 5"),
            (
                r#"{"version":5,"evospike":"0.0.9","identity":{},"state":[]}"#,
                concat!("evospike: found 0.0.9, expected ", env!("CARGO_PKG_VERSION")),
            ),
        ] {
            let sum = checksum(text, std::iter::empty::<(&str, Vec<u8>)>());
            write_tensors(&path, &[], (KEY, format!("{sum:08x} {text}")), Precision::Single)
                .unwrap();
            let expected = format!("{expected}; delete the file to start anew");
            assert!(error(&own).ends_with(&expected), "{}", error(&own));
        }
        fs::write(&path, r#"{"checksum":1,"content":{}}"#).unwrap();
        assert!(error(&own).contains("found one before 5"), "{}", error(&own));
    }
}
