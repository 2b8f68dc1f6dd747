//! Comparison of a network with logits that another program computed.

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::read::Onnx;
use crate::base::{Error, Result, all_finite, parse, show, values};
use crate::data::Normalisation;
use crate::metrics::predict;
use crate::simulate::Stages;

/// How far a network's logits are from a reference.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct LogitsCheck {
    /// Number of images.
    pub images: usize,
    /// Largest difference of a logit.
    pub largest_difference: f32,
    /// Number of images whose largest logit is of the same class.
    pub same_predictions: usize,
}

show!(LogitsCheck as fields);

impl Onnx {
    /// Compares the network's logits, or their softmax if the file ends in it, with those of a
    /// safetensors file: `logits`, one row an image, for `input`, the numbers that the ONNX file
    /// takes, in its order; or for `images`, bytes of images x channels x rows x columns, which
    /// `normalisation` makes the network's input.
    ///
    /// # Errors
    /// A file that cannot be read or is no such safetensors file; a network that cannot be simulated.
    pub fn check(
        &self,
        reference: impl AsRef<Path>,
        normalisation: Option<&Normalisation>,
    ) -> Result<LogitsCheck> {
        let path = reference.as_ref();
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let file = parse(path, &bytes)?;
        let stages = Stages::new(self.folded()?)?;
        let (shape, classes) = (self.graph.input, stages.classes());
        let wrong = |place: &str, found: String, expected: String| {
            Error::data(path.display(), place, found, expected)
        };
        let names = file.names();
        let has = |name: &str| names.contains(&name);
        let name = if has("input") { "input" } else { "images" };
        let sizes = |name: &str| file.tensor(name).map(|tensor| tensor.shape().to_vec());
        let of_input = sizes(name).unwrap_or_default();
        let count = of_input.first().copied().unwrap_or_default();
        let size = of_input.iter().skip(1).product::<usize>();
        if count == 0 || size != shape.size() {
            let place = "tensor `input` or `images`";
            let found = if has(name) { format!("shape {of_input:?}") } else { "none".into() };
            return Err(wrong(place, found, format!("images of {shape}")));
        }
        let mut input = match name {
            "input" => values(path, &file, name, &of_input)?,
            _ => {
                let tensor = file.tensor(name).ok().filter(|tensor| tensor.dtype() == Dtype::U8);
                let Some(tensor) = tensor else {
                    return Err(wrong("tensor `images`", "no bytes".into(), "U8".into()));
                };
                tensor.data().iter().map(|&byte| f32::from(byte) / 255.0).collect()
            }
        };
        if name == "images"
            && let Some(normalisation) = normalisation
        {
            let (mean, std) = (normalisation.mean(), normalisation.std());
            let found = format!("{mean:?}");
            let good = mean.len() == shape.channels;
            let expected = format!("{} numbers, one a channel", shape.channels);
            good.then_some(()).ok_or_else(|| Error::parameter("mean", found, expected))?;
            let channels =
                (0..input.len()).map(|i| i / shape.height / shape.width % shape.channels);
            let each = input.iter_mut().zip(channels);
            each.for_each(|(pixel, channel)| *pixel = (*pixel - mean[channel]) / std[channel]);
        }
        let logits = values(path, &file, "logits", &[count, classes])?;
        // The engine takes rows, columns, channels.
        let last = self.channels_last && name == "input";
        let pairs = input.par_chunks_exact(shape.size()).zip(logits.par_chunks_exact(classes));
        let of = |(image, logits): (&[f32], &[f32])| {
            let mut currents = match last {
                true => stages.forward(image),
                false => stages.forward(&stages.channels_last(image)),
            };
            let found = self.ended(currents.pop().unwrap_or_default());
            all_finite("logits", &found)?; // `max` would pass over what is no number
            let differences = found.iter().zip(logits).map(|(a, b)| (a - b).abs());
            let same = predict(&found) == predict(logits);
            Ok((differences.fold(0.0, f32::max), usize::from(same)))
        };
        let (largest_difference, same_predictions) =
            pairs.map(of).try_reduce(|| (0.0, 0), |a, b| Ok((a.0.max(b.0), a.1 + b.1)))?;
        Ok(LogitsCheck { images: count, largest_difference, same_predictions })
    }
}

impl Onnx {
    /// What the file's own last node makes of logits.
    fn ended(&self, mut logits: Vec<f32>) -> Vec<f32> {
        let Some(log) = self.softmax else {
            return logits;
        };
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|x| (x - largest).exp()).sum();
        logits.iter_mut().for_each(|x| *x -= largest + sum.ln());
        if !log {
            logits.iter_mut().for_each(|x| *x = x.exp());
        }
        logits
    }
}
