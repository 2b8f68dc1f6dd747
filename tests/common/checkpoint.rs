//! Checkpoints taken apart and forged.
#![allow(dead_code)] // each test uses a part of it

use serde_json::Value;

const KEY: &str = "evospike checkpoint";

/// Header of a safetensors file, and the bytes behind it.
pub fn parts(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?) as usize;
    let header = serde_json::from_slice(bytes.get(8..8 + length)?).ok()?;
    Some((header, &bytes[8 + length..]))
}

/// A safetensors file of this header and these bytes.
pub fn joined(header: &[u8], tensors: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header, tensors].concat()
}

/// What a checkpoint says beside its tensors, as JSON text; none of a file that is no checkpoint.
pub fn said(bytes: &[u8]) -> Option<String> {
    let (header, _) = parts(bytes)?;
    let entry = header["__metadata__"][KEY].as_str()?;
    Some(entry.split_once(' ')?.1.to_owned())
}

/// A checkpoint that says `text`, under the right checksum, with this header and these tensors.
pub fn forged(mut header: Value, tensors: &[u8], text: &str) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(text.as_bytes());
    for (name, tensor) in header.as_object().into_iter().flatten() {
        let [from, to] = [0, 1].map(|i| tensor["data_offsets"][i].as_u64().unwrap_or(0) as usize);
        if let Some(data) = tensors.get(from..to).filter(|_| name != "__metadata__") {
            sum.update(name.as_bytes());
            sum.update(data);
        }
    }
    let metadata = header.get_mut("__metadata__");
    if let Some(entry) = metadata.and_then(|all| all.get_mut(KEY)) {
        *entry = format!("{:08x} {text}", sum.sum()).into();
    }
    joined(header.to_string().as_bytes(), tensors)
}
