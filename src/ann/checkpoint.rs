//! What a broken-off training run goes on from.
//!
//! A safetensors file: weights, running statistics, the optimiser's moments, the order of the
//! images, and as metadata what run it is of, where the random numbers stand and the history.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ann::optimiser::Optimiser;
use crate::ann::train::{Epoch, TrainSettings};
use crate::ann::trainable::{NamedTensor, Trainable, Values};
use crate::ann::weights;
use crate::ann::weights::Bytes;
use crate::base::error::{Error, Result};
use crate::data::images::Samples;

const KEY: &str = "evospike checkpoint";
const ORDER: &str = "order";
const VERSION: u32 = 2;

/// A training run: two that are the same end with the same weights.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    network: String,
    settings: TrainSettings,
    images: usize,
    /// CRC-32 of what the network sees of them and of their labels.
    images_checksum: u32,
    /// CRC-32.
    first_weights_checksum: u32,
}

impl Run {
    pub fn new(
        name: &str,
        network: &dyn Trainable,
        images: Samples<'_>,
        settings: &TrainSettings,
    ) -> Result<Self> {
        let mut weights = flate2::Crc::new();
        for tensor in network.tensors(Values::Parameters)? {
            let bytes = Bytes::floats(tensor.name.clone(), &tensor);
            weights.update(bytes.name.as_bytes());
            weights.update(&bytes.data);
        }
        Ok(Self {
            network: name.into(),
            settings: settings.clone(),
            images: images.len(),
            images_checksum: images.checksum(),
            first_weights_checksum: weights.sum(),
        })
    }
}

/// The file of a run.
pub(crate) struct Checkpoint<'a> {
    path: &'a Path,
    run: Run,
}

/// Where a run stands, apart from its tensors.
pub(crate) struct State {
    pub order: Vec<usize>,
    /// Of the random numbers, in words.
    pub position: u128,
    pub history: Vec<Epoch>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    /// What wrote it.
    evospike: String,
    run: Run,
    position: u128,
    history: Vec<Epoch>,
}

fn moment(number: usize) -> String {
    format!("moment{}", number + 1)
}

/// Of the header's text and the tensors, which come in the order of their names.
fn checksum<'b>(text: &str, tensors: impl IntoIterator<Item = (&'b str, &'b [u8])>) -> u32 {
    let mut checksum = flate2::Crc::new();
    checksum.update(text.as_bytes());
    for (name, data) in tensors {
        checksum.update(name.as_bytes());
        checksum.update(data);
    }
    checksum.sum()
}

impl<'a> Checkpoint<'a> {
    pub fn new(path: &'a Path, run: Run) -> Self {
        Self { path, run }
    }

    pub fn save(
        &self,
        network: &dyn Trainable,
        order: &[usize],
        position: u128,
        history: &[Epoch],
    ) -> Result<()> {
        let mut tensors = Vec::new();
        let kinds = (0..self.run.settings.optimiser.moments())
            .map(|number| (moment(number), Values::Moment(number)));
        for (prefix, kind) in kinds.chain([("parameters".into(), Values::Parameters)]) {
            for tensor in network.tensors(kind)? {
                tensors.push(Bytes::floats(format!("{prefix}/{}", tensor.name), &tensor));
            }
        }
        let order = order.iter();
        tensors.push(Bytes {
            name: ORDER.into(),
            dtype: Dtype::U64,
            shape: vec![order.len()],
            data: order.flat_map(|&i| (i as u64).to_le_bytes()).collect(),
        });
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let header = serde_json::to_string(&HeaderRef {
            version: VERSION,
            evospike: env!("CARGO_PKG_VERSION"),
            run: &self.run,
            position,
            history,
        });
        let header = header.map_err(Error::write(self.path))?;
        let named = tensors.iter().map(|t| (t.name.as_str(), t.data.as_slice()));
        let checksum = checksum(&header, named);
        weights::write(
            self.path,
            &tensors,
            (KEY, format!("{checksum:08x} {header}")),
        )
    }

    /// Puts the file's state into the network, or does nothing where there is no file.
    pub fn load(&self, network: &mut dyn Trainable, optimiser: Optimiser) -> Result<Option<State>> {
        let bytes = match fs::read(self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(self.path)(error)),
        };
        let file = weights::parse(self.path, &bytes)?;
        let header = self.header(&bytes, &file)?;
        if header.run != self.run {
            return Err(self.difference(&header.run));
        }
        let epochs = self.run.settings.epochs;
        if header.history.len() > epochs {
            let found = header.history.len();
            return Err(self.wrong("history", found, format!("at most {epochs} epochs")));
        }
        let order = self.order(&file)?;

        let parameters = network.tensors(Values::Parameters)?;
        let read = |prefix: &str| -> Result<Vec<NamedTensor>> {
            let mut tensors = Vec::new();
            for tensor in &parameters {
                let name = format!("{prefix}/{}", tensor.name);
                if prefix == "parameters" || file.tensor(&name).is_ok() {
                    tensors.push(NamedTensor {
                        values: weights::values(self.path, &file, &name, &tensor.shape)?,
                        ..tensor.clone()
                    });
                }
            }
            Ok(tensors)
        };
        let new = read("parameters")?;
        if !header.history.is_empty() {
            for number in 0..optimiser.moments() {
                let moments = read(&moment(number))?;
                network
                    .set_tensors(Values::Moment(number), &moments)
                    .map_err(|error| {
                        self.wrong(&moment(number), error, "one for every weight".into())
                    })?;
            }
        }
        network.set_tensors(Values::Parameters, &new)?;
        Ok(Some(State {
            order,
            position: header.position,
            history: header.history,
        }))
    }

    fn header(&self, bytes: &[u8], file: &SafeTensors<'_>) -> Result<Header> {
        let metadata = SafeTensors::read_metadata(bytes).ok();
        let metadata = metadata.and_then(|(_, metadata)| metadata.metadata().clone());
        let entry = metadata.and_then(|mut entries: HashMap<_, _>| entries.remove(KEY));
        let expected = || "the checkpoint of a training run".to_owned();
        let Some(entry) = entry else {
            return Err(self.wrong("metadata", format!("no `{KEY}`"), expected()));
        };
        let (sum, text) = entry.split_once(' ').unwrap_or(("", &entry));
        let mut names = file.names();
        names.sort_unstable();
        let tensors: Vec<_> = (names.into_iter())
            .filter_map(|name| Some((name, file.tensor(name).ok()?.data())))
            .collect();
        let found = checksum(text, tensors);
        if u32::from_str_radix(sum, 16) != Ok(found) {
            let found = format!("checksum {found:08x}");
            return Err(self.wrong("tensors", found, format!("{sum}: the file is damaged")));
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let failed = |error: serde_json::Error| self.wrong("metadata", error, expected());
        let Version { version } = serde_json::from_str(text).map_err(failed)?;
        if version != VERSION {
            let expected = format!("{VERSION}; delete the file to start anew");
            return Err(self.wrong("format version", version, expected));
        }
        serde_json::from_str(text).map_err(failed)
    }

    fn order(&self, file: &SafeTensors<'_>) -> Result<Vec<usize>> {
        let tensor = file.tensor(ORDER).ok();
        let tensor = tensor.filter(|tensor| tensor.dtype() == Dtype::U64);
        let (indices, _) = tensor.as_ref().map_or(&[][..], |t| t.data()).as_chunks();
        let order: Vec<usize> = (indices.iter())
            .map(|bytes| u64::from_le_bytes(*bytes) as usize)
            .collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted.into_iter().eq(0..self.run.images) {
            return Ok(order);
        }
        let expected = format!("the {} images in some order", self.run.images);
        Err(self.wrong(ORDER, format!("{} indices", order.len()), expected))
    }

    fn wrong(&self, place: &str, found: impl ToString, expected: String) -> Error {
        Error::data(self.path.display(), place, found, expected)
    }

    /// Names the first thing that differs.
    fn difference(&self, found: &Run) -> Error {
        let [found, expected] = [found, &self.run].map(|run| serde_json::to_value(run).ok());
        let (found, expected) = (found.unwrap_or_default(), expected.unwrap_or_default());
        let (place, found, expected) = difference("", &found, &expected).unwrap_or_default();
        let expected = format!("{expected}, as in this run; delete the file to start anew");
        self.wrong(&place, found, expected)
    }
}

/// [`Header`], borrowed.
#[derive(Serialize)]
struct HeaderRef<'a> {
    version: u32,
    evospike: &'a str,
    run: &'a Run,
    position: u128,
    history: &'a [Epoch],
}

fn difference(place: &str, found: &Value, expected: &Value) -> Option<(String, String, String)> {
    if let (Value::Object(found), Value::Object(expected)) = (found, expected) {
        let mut keys = found.keys().chain(expected.keys());
        return keys.find_map(|key| {
            let place = match place {
                "" => key.clone(),
                place => format!("{place}.{key}"),
            };
            let of = |map: &serde_json::Map<_, _>| map.get(key).cloned().unwrap_or_default();
            difference(&place, &of(found), &of(expected))
        });
    }
    (found != expected).then(|| (place.into(), found.to_string(), expected.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::networks::{DigitsCnn, Network};
    use crate::data;
    use crate::data::images::Shares;

    #[test]
    fn an_older_format_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digits.checkpoint");
        let digits = data::digits().unwrap().split(Shares::default(), 0).unwrap();
        let settings = TrainSettings::default();
        let mut network = DigitsCnn::build(0).unwrap();
        let images = digits.training.view();
        let run = Run::new("digits", &*network, images, &settings).unwrap();
        let text = format!(
            r#"{{"version":1,"run":{}}}"#,
            serde_json::to_string(&run).unwrap()
        );
        let header = format!("{:08x} {text}", checksum(&text, []));
        weights::write(&path, &[], (KEY, header)).unwrap();
        let loaded = Checkpoint::new(&path, run).load(&mut *network, settings.optimiser);
        let error = loaded.err().unwrap().to_string();
        let expected = "format version: found 1, expected 2; delete the file to start anew";
        assert!(
            error.ends_with(&format!("digits.checkpoint, {expected}")),
            "{error}"
        );
    }
}
