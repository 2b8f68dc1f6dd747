//! Weights in safetensors files, for exchange with PyTorch.
//!
//! The name of a layer of a typed network is dfdx's path: its positions in the tuples, so that the
//! first layer of the second block is `1.0`. [`Names`] maps these names to those in a file. Names
//! of tensors (`weight`, `bias`, `running_mean`, `running_var`) and their shapes are the same on
//! both sides. A state dict written by PyTorch,
//!
//! ```python
//! net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32, bias=False), nn.ReLU(), nn.Linear(32, 10))
//! safetensors.torch.save_file(net.state_dict(), "net.safetensors")
//! ```
//!
//! is read as a network of evospike, and the other way round:
//!
//! ```
//! use evospike::prelude::*;
//!
//! network! {
//!     pub Net for Digits = ((Flatten<1, 8, 64>, UnbiasedLinear<64, 32>, Relu), Linear<32, 10>);
//! }
//! let names = Names::new([("0.1", "1"), ("1", "3")]); // evospike's and PyTorch's names
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("net.safetensors"); // your file
//! # Ann::<Net>::new(1)?.save(&file, &names)?;
//! let ann = Ann::<Net>::load(&file, &names)?;
//! ann.save(&file, &names)?; // net.load_state_dict(safetensors.torch.load_file(...))
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! [`Ann::names`](crate::ann::Ann::names) lists the names that a table must map.
//!
//! Convolutions have no bias here. One with a bias, PyTorch's default, is a convolution and a
//! [`Bias2D`](crate::ann::modules::Bias2D) behind it, which take the same name:
//!
//! ```
//! use evospike::ann::modules::Bias2D;
//! use evospike::prelude::*;
//!
//! // nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
//! network! {
//!     pub Net for Digits =
//!         ((Conv3x3<1, 4, 8>, Bias2D<4>, Relu), Flatten<4, 8, 256>, Linear<256, 10>);
//! }
//! let names = Names::new([("0.0", "0"), ("0.1", "0"), ("2", "3")]);
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("net.safetensors");
//! # Ann::<Net>::new(1)?.save(&file, &names)?;
//! let ann = Ann::<Net>::load(&file, &names)?;
//! assert_eq!(ann.names()?, ["0.0", "0.1", "2"]);
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! Where batch normalisation stands right behind a layer of weights, a bias in the file is folded
//! into it: its running mean is less by the bias.
//!
//! A state dict does not hold batch normalisation's ε. It is 1e-5 here, PyTorch's default; a network
//! trained with another, such as Keras's 1e-3, needs [`Names::with_epsilon`] for its own outputs.
//!
//! Every tensor of the network must be in the file and every tensor of the file in the network,
//! except `num_batches_tracked`, which evaluation does not need and PyTorch fills in. Half precision
//! (`float16` and `bfloat16`) is read as well as single; `float16` is written with
//! [`Names::half_precision`].

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::trainable::{Trainable, Values};
use crate::base::{Error, NamedTensor, Precision, Result, parse, require, values, write_tensors};
use crate::ops::EPSILON;

/// Name of PyTorch's counter of training batches, which only continued training needs.
const COUNTER: &str = "num_batches_tracked";

/// Name of a tensor of running variances.
pub(super) const VARIANCE: &str = "running_var";

/// Range of a tensor's values: name of the tensor, condition, description of the condition.
pub(super) type Range = (&'static str, fn(f32) -> bool, &'static str);

const RANGES: [Range; 2] = [
    (VARIANCE, |x| x >= 0.0, "variances, which are not negative"),
    ("bound", |x| x > 0.0, "a bound above 0"),
];

/// Names of a network's layers in a file, its ε of batch normalisation and its number format. See
/// [the module](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Names {
    /// Names of the layers with parameters; none for dfdx's own names.
    layers: Option<Vec<Layer>>,
    /// What the file's network adds to a variance before the square root.
    epsilon: f64,
    /// Number format of a file that is written.
    precision: Precision,
}

/// dfdx's path of a layer, and its name in the file.
type Layer = (String, String);

impl Names {
    /// Maps dfdx's path of every layer that has parameters to its name in the file.
    pub fn new<A: Into<String>, B: Into<String>>(layers: impl IntoIterator<Item = (A, B)>) -> Self {
        let layers = layers.into_iter();
        let layers = layers.map(|(a, b)| (a.into(), b.into())).collect();
        Self { layers: Some(layers), ..Self::own() }
    }

    /// Keeps dfdx's names, which its own `save_safetensors` uses.
    pub fn own() -> Self {
        Self { layers: None, epsilon: EPSILON, precision: Precision::Single }
    }

    /// Names for a file whose network normalises by √(variance + `epsilon`): 1e-3 in Keras and 1e-5,
    /// the default, in PyTorch, unless the layer was given another.
    ///
    /// The network itself always adds 1e-5, so that loading adds the difference to the running
    /// variances, which gives the same outputs, and saving subtracts it.
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Names for a file that is half as large when it is written: `float16`, whose numbers have 11
    /// significant bits and are at most 65504.
    pub fn half_precision(self) -> Self {
        Self { precision: Precision::Half, ..self }
    }

    /// Adds the difference to the network's own ε to running variances; subtracts it if `sign` is -1.
    fn move_variances(&self, tensor: &mut NamedTensor, sign: f64) -> Result<()> {
        if field(&tensor.name) != VARIANCE {
            return Ok(());
        }
        for variance in &mut tensor.values {
            let moved = f64::from(*variance) + sign * (self.epsilon - EPSILON);
            let found = format!("{}, and a running variance of {variance}", self.epsilon);
            let rounding = f64::from(*variance * f32::EPSILON);
            require(moved >= -rounding, "epsilon", found, format!("a sum of {EPSILON} or more"))?;
            *variance = moved.max(0.0) as f32;
        }
        Ok(())
    }

    /// Names for the batch-normalised VGG15s of [`networks`](crate::ann::networks) in a PyTorch
    /// module with `f = nn.Sequential(...)`, in which a block is a convolution, batch
    /// normalisation, optionally pooling, and ReLU, followed by `fc1`, its batch normalisation
    /// `bn`, and `fc2`.
    pub fn vgg15_bn() -> Self {
        let mut layers = Vec::new();
        let mut place = 0;
        for (stage, blocks) in [2, 2, 3, 3, 3].into_iter().enumerate() {
            for block in 0..blocks {
                for part in 0..2 {
                    let path = format!("0.{stage}.{block}.{part}");
                    layers.push((path, format!("f.{}", place + part)));
                }
                let pooled = block + 1 == blocks;
                place += if pooled { 4 } else { 3 };
            }
        }
        let head = [("0.5.1.0", "fc1"), ("0.5.1.1", "bn"), ("1", "fc2")];
        layers.extend(head.map(|(path, name)| (path.into(), name.into())));
        Self::new(layers)
    }

    /// Names of tensors in the file.
    fn of_tensors(&self, tensors: &[NamedTensor]) -> Result<Vec<String>> {
        let epsilon = self.epsilon;
        let holds = epsilon >= 0.0 && epsilon.is_finite();
        require(holds, "epsilon", epsilon, "a finite number of 0 or more")?;
        let Some(layers) = &self.layers else {
            return Ok(tensors.iter().map(|tensor| tensor.name.clone()).collect());
        };
        let mut unused: BTreeSet<&str> = layers.iter().map(|(path, _)| path.as_str()).collect();
        let mut names = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let (path, field) = tensor.name.rsplit_once('.').unwrap_or(("", &tensor.name));
            let Some((_, layer)) = layers.iter().find(|(layer, _)| layer == path) else {
                let found = format!("none for layer `{path}`");
                return Err(Error::parameter("names", found, "a name for every layer"));
            };
            unused.remove(path);
            let name = match layer.as_str() {
                "" => field.to_owned(),
                layer => format!("{layer}.{field}"),
            };
            if names.contains(&name) {
                let found = format!("`{name}` twice");
                return Err(Error::parameter("names", found, "a name of its own for each layer"));
            }
            names.push(name);
        }
        match unused.first() {
            None => Ok(names),
            Some(path) => Err(Error::parameter(
                "names",
                format!("layer `{path}`"),
                "layers of the network that have parameters",
            )),
        }
    }
}

/// Last part of a tensor's name.
fn field(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, field)| field)
}

/// The condition that values of the tensor called `name` meet, if there is one.
pub(super) fn range(name: &str) -> Option<&'static Range> {
    RANGES.iter().find(|range| range.0 == field(name))
}

/// List of up to three names, for error messages.
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<_> = names.by_ref().take(3).map(|n| format!("`{n}`")).collect();
    match (first.len(), names.count()) {
        (0, _) => "nothing".into(),
        (_, 0) => first.join(", "),
        (_, more) => format!("{} and {more} more", first.join(", ")),
    }
}

/// dfdx's path of each layer that has parameters, in the order of the network.
pub(crate) fn paths(network: &dyn Trainable) -> Result<Vec<String>> {
    let tensors = network.tensors(Values::Parameters)?;
    let paths = tensors.iter().map(|tensor| tensor.name.rsplit_once('.').map_or("", |path| path.0));
    let mut paths: Vec<String> = paths.map(Into::into).collect();
    paths.dedup();
    Ok(paths)
}

/// Name in the file of the bias of a layer that has weights alone, and the number of the running
/// mean that it is folded into; none without batch normalisation right behind the layer.
fn folded_bias(tensors: &[NamedTensor], of: usize, in_file: &str) -> Option<(String, usize)> {
    let path = tensors[of].name.strip_suffix(".weight")?;
    let (block, place) = path.rsplit_once('.').map_or(("", path), |(block, place)| (block, place));
    let next = place.parse::<usize>().ok()? + 1;
    let next = if block.is_empty() { next.to_string() } else { format!("{block}.{next}") };
    let mean = tensors.iter().position(|tensor| tensor.name == format!("{next}.running_mean"))?;
    let fits = tensors[of].shape.len() > 1 && tensors[of].shape[0] == tensors[mean].values.len();
    let bias = in_file.strip_suffix("weight")?;
    fits.then(|| (format!("{bias}bias"), mean))
}

pub(crate) fn load(network: &mut dyn Trainable, path: &Path, names: &Names) -> Result<()> {
    let mut tensors = network.tensors(Values::Parameters)?;
    let in_file = names.of_tensors(&tensors)?;
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let file = parse(path, &bytes)?;
    let mut left: BTreeSet<&str> = file.names().into_iter().collect();
    left.retain(|name| *name != COUNTER && !name.ends_with(&format!(".{COUNTER}")));
    let missing: Vec<&str> =
        (in_file.iter().map(String::as_str)).filter(|name| !left.remove(name)).collect();
    let folded = (0..tensors.len()).filter_map(|of| folded_bias(&tensors, of, &in_file[of]));
    let folded: Vec<_> = folded.filter(|(bias, _)| left.remove(bias.as_str())).collect();
    if !missing.is_empty() || !left.is_empty() {
        let biases = left.iter().any(|name| field(name) == "bias");
        let place = match biases && missing.is_empty() {
            true => "; a convolution's bias needs Bias2D or batch normalisation right behind it",
            false => "",
        };
        return Err(Error::data(
            path.display(),
            "tensors",
            format!("{} left over", list(left)),
            match missing.is_empty() {
                true => format!("the {} of the network and no more{place}", in_file.len()),
                false => format!("{} as well", list(missing)),
            },
        ));
    }
    for (tensor, name) in tensors.iter_mut().zip(&in_file) {
        tensor.values = values(path, &file, name, &tensor.shape)?;
        if let Some((_, holds, expected)) = range(&tensor.name)
            && let Some(bad) = tensor.values.iter().find(|&&x| !holds(x))
        {
            let place = format!("tensor `{name}`");
            return Err(Error::data(path.display(), place, bad, *expected));
        }
        names.move_variances(tensor, 1.0)?;
    }
    for (name, mean) in &folded {
        let mean = &mut tensors[*mean];
        let bias = values(path, &file, name, &mean.shape)?;
        mean.values.iter_mut().zip(bias).for_each(|(mean, bias)| *mean -= bias);
    }
    network.set_tensors(Values::Parameters, &tensors)
}

pub(crate) fn save(network: &dyn Trainable, path: &Path, names: &Names) -> Result<()> {
    let mut tensors = network.tensors(Values::Parameters)?;
    tensors.iter_mut().try_for_each(|tensor| names.move_variances(tensor, -1.0))?;
    let tensors = names.of_tensors(&tensors)?.into_iter().zip(tensors);
    let tensors = tensors.map(|(name, tensor)| NamedTensor { name, ..tensor });
    // Metadata that PyTorch's tools expect.
    let tensors: Vec<NamedTensor> = tensors.collect();
    write_tensors(path, &tensors, ("format", "pt".into()), names.precision)
}

#[cfg(test)]
mod tests;
