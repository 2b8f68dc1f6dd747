//! Graphs of NIR.

use std::collections::HashMap;
use std::iter;
use std::path::Path;
use std::slice;

use hdf5_pure::{DType, Dataset, File, FileBuilder, Group, GroupBuilder, VlenStringReadOptions};

use crate::ann::layers::Layer;
use crate::ann::model::Ann;
use crate::ann::networks::Network;
use crate::base::error::{Error, Result};
use crate::base::files::write_file;
use crate::data::shape::Shape;
use crate::simulate::network::Snn;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::neurons::{Charge, Neurons, Reset};
use crate::simulate::synapses::output_shape;
use crate::simulate::synapses::{LANES, Stages};

/// Seconds of a timestep, if the graph does not say.
const DT: f64 = 1e-4;
/// Of the Python package whose format this is.
const VERSION: &str = "1.0.8";
/// Entry of a node's metadata that holds the parameters of its neurons.
const METADATA: &str = "evospike";
/// Largest stride, padding or side of a pool that is read.
const MOST_STEPS: i64 = 1 << 16;
/// Values of a node's output that are read at most; a VGG16 for ImageNet has 3.2 million.
const MOST_VALUES: usize = 1 << 22;
/// Weights of a layer that are made up at most: with pooling folded into them, or of neurons that
/// are the last layer.
const MOST_WEIGHTS: usize = 1 << 27;
/// Bytes that one byte of a file can stand for: the limit of deflate.
const MOST_INFLATION: u64 = 1032;
/// Additions within each other that are read.
const MOST_NESTED: usize = 32;

impl<N: Network> Snn<N> {
    /// Writes the network as a NIR file. See [`nir`](mod@crate::nir).
    ///
    /// # Errors
    /// As [`SpikingNetwork::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.network.save(path)
    }

    /// The network of a NIR file. See [`nir`](mod@crate::nir).
    ///
    /// # Errors
    /// As [`SpikingNetwork::load`]; layers other than those of `N`.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let network = SpikingNetwork::load(&path)?;
        let outline = |stages: &Stages| -> Vec<String> {
            let layers = stages.stages.iter();
            let layers = layers.map(|stage| format!("{} to {}", stage.name, stage.output));
            let input = iter::once(format!("an input of {}", stages.input));
            input.chain(layers).collect()
        };
        let found = outline(&network.stages);
        let expected = outline(&Stages::of_ann(&Ann::<N>::new(0)?)?);
        let nothing = || iter::repeat("nothing".to_owned());
        let both = found.into_iter().chain(nothing());
        let both = both.zip(expected.iter().cloned().chain(nothing()));
        let all = expected.len().max(network.stages.stages.len() + 1);
        match both.take(all).find(|(found, expected)| found != expected) {
            None => Self::new(network.stages, network.neurons),
            Some((found, expected)) => {
                let place = format!("layers of {}", N::NAME);
                Err(Error::data(path.as_ref().display(), place, found, expected))
            }
        }
    }
}

impl SpikingNetwork {
    /// Writes the network as a NIR file. See [`nir`](mod@crate::nir).
    ///
    /// # Errors
    /// Charges of 0, leaks near 0 or layers that NIR cannot say; a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut writer = Writer {
            nodes: Vec::new(),
            edges: Vec::new(),
            neurons: self.neurons.iter(),
            layer: 0,
        };
        let input = self.stages.input;
        let wire = Wire {
            from: Vec::new(),
            shape: input,
            flat: false,
            charge: vec![1.0],
            bias: None,
        };
        let wire = writer.add(&wire, Kind::Input, input, false);
        let wire = writer.layers(&self.stages.layers, wire)?;
        writer.add(&wire, Kind::Output, wire.shape, wire.flat);
        write_file(path, &writer.bytes().map_err(Error::write(path))?)
    }

    /// The network of a NIR file. See [`nir`](mod@crate::nir).
    ///
    /// # Errors
    /// A file that cannot be read, is damaged or not HDF5; a node that evospike has no layer for,
    /// that does not fit the one before it, holds values out of range or is part of a loop.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let size = bytes.len() as u64;
        let file = File::from_bytes(bytes)
            .map_err(|error| Error::data(path.display(), "header", error, "an HDF5 file"))?;
        let graph = Fields::of(path, size, "node".into(), &file.root())?;
        let (input, layers, neurons, classes) = Reader::new(&graph)?.network()?;
        Self::new(input, &layers, neurons, classes).map_err(|error| {
            let expected = "a network that evospike can simulate";
            Error::data(path.display(), "graph", error, expected)
        })
    }
}

/// What a channel has of values that are one for all or one each.
fn of<T: Copy>(values: &[T], channel: usize) -> T {
    values[channel % values.len()]
}

/// The membrane's time constant in seconds. Where other channels leak and this one does not, one
/// so long that what is left after a timestep is 1 in single precision.
fn time_constant(leak: f32, dt: f64) -> f64 {
    dt / (1.0 - f64::from(leak)).max(2f64.powi(-30))
}

fn leak(time_constant: f64, dt: f64) -> f32 {
    (1.0 - dt / time_constant) as f32
}

/// The least `f32` above: at or above it is above `threshold`.
fn above(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    match f64::from(nearest) > threshold {
        true => nearest,
        false => nearest.next_up(),
    }
}

/// Sizes of an output as NIR has them.
fn sizes(shape: Shape, flat: bool) -> Vec<usize> {
    match flat {
        true => vec![shape.size()],
        false => vec![shape.channels, shape.height, shape.width],
    }
}

/// Whether a layer hands on what it gets.
fn is_identity(layer: &Layer) -> bool {
    let (weight, outputs) = match layer {
        Layer::Conv {
            weight,
            bias: None,
            inputs,
            outputs,
            kernel: 1,
            stride: 1,
            padding: 0,
        }
        | Layer::Linear {
            weight,
            bias: None,
            inputs,
            outputs,
        } if inputs == outputs => (weight, *outputs),
        _ => return false,
    };
    let one = |i| f32::from(i / outputs == i % outputs);
    weight.iter().enumerate().all(|(i, &w)| w == one(i))
}

/// A graph to be written.
struct Writer<'a> {
    nodes: Vec<Node<'a>>,
    /// Numbers of nodes.
    edges: Vec<[usize; 2]>,
    /// Of the layers to come.
    neurons: slice::Iter<'a, Neurons>,
    /// Number of the layer, those within residual ones counted.
    layer: usize,
}

struct Node<'a> {
    kind: Kind<'a>,
    /// Sizes of what comes in and of what goes out.
    input: Vec<usize>,
    output: Vec<usize>,
}

enum Kind<'a> {
    Input,
    Conv {
        weight: Vec<f64>,
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: Vec<f64>,
    },
    Linear {
        weight: Vec<f64>,
        bias: Option<Vec<f64>>,
    },
    AvgPool(usize),
    Flatten,
    /// With the same as JSON.
    Neurons(&'a Neurons, String),
    Output,
}

/// What flows from some nodes, which adds up.
#[derive(Clone)]
struct Wire {
    from: Vec<usize>,
    shape: Shape,
    /// One axis in NIR, rather than channels, rows and columns.
    flat: bool,
    /// What the weights to come are multiplied by: one, or one a channel.
    charge: Vec<f32>,
    /// The node whose bias adds to every value.
    bias: Option<usize>,
}

impl<'a> Writer<'a> {
    fn add(&mut self, wire: &Wire, kind: Kind<'a>, shape: Shape, flat: bool) -> Wire {
        let node = self.nodes.len();
        self.edges
            .extend(wire.from.iter().map(|&from| [from, node]));
        let weights = matches!(kind, Kind::Conv { .. } | Kind::Linear { .. });
        self.nodes.push(Node {
            kind,
            input: sizes(wire.shape, wire.flat),
            output: sizes(shape, flat),
        });
        Wire {
            from: vec![node],
            shape,
            flat,
            charge: vec![1.0],
            bias: weights.then_some(node),
        }
    }

    fn layers(&mut self, layers: &[Layer], mut wire: Wire) -> Result<Wire> {
        for layer in layers {
            let number = self.layer;
            self.layer += 1;
            let wrong = |found: String, expected: &str| {
                Err(Error::layer(number, layer.kind(), found, expected))
            };
            let double = |bias: &Option<Vec<f32>>| -> Option<Vec<f64>> {
                let bias = bias.as_ref()?;
                Some(bias.iter().map(|&b| f64::from(b)).collect())
            };
            if wire.flat && matches!(layer, Layer::Conv { .. } | Layer::AvgPool { .. }) {
                let expected =
                    "none after a linear layer: NIR has no node that gives an image back";
                return wrong(layer.kind().into(), expected);
            }
            wire = match layer {
                Layer::Conv {
                    weight,
                    bias,
                    outputs,
                    kernel,
                    stride,
                    padding,
                    ..
                } => {
                    let shape = output_shape(number, layer, wire.shape)?;
                    let kind = Kind::Conv {
                        weight: charged(weight, &wire, kernel * kernel),
                        kernel: *kernel,
                        stride: *stride,
                        padding: *padding,
                        bias: double(bias).unwrap_or_else(|| vec![0.0; *outputs]),
                    };
                    self.add(&wire, kind, shape, false)
                }
                Layer::Linear { weight, bias, .. } => {
                    let shape = output_shape(number, layer, wire.shape)?;
                    let places = wire.shape.height * wire.shape.width;
                    let kind = Kind::Linear {
                        weight: charged(weight, &wire, places),
                        bias: double(bias),
                    };
                    let wire = self.flat(wire);
                    self.add(&wire, kind, shape, true)
                }
                Layer::AvgPool { size } => {
                    let Shape {
                        channels,
                        height,
                        width,
                    } = wire.shape;
                    let shape = Shape::new(channels, height / size, width / size);
                    Wire {
                        charge: wire.charge.clone(),
                        bias: wire.bias,
                        ..self.add(&wire, Kind::AvgPool(*size), shape, false)
                    }
                }
                Layer::ScaleShift { .. } => {
                    return wrong("no weights before it".into(), "weights to fold it into");
                }
                Layer::Residual { body, shortcut } => {
                    if wire.from.len() > 1 {
                        return wrong("a sum before it".into(), "neurons between two additions");
                    }
                    wire.bias = None;
                    let mut body = self.layers(body, wire.clone())?;
                    let mut shortcut = self.layers(shortcut, wire)?;
                    if body.flat != shortcut.flat {
                        (body, shortcut) = (self.flat(body), self.flat(shortcut));
                    }
                    let (same, apart) =
                        (body.from == shortcut.from, body.charge != shortcut.charge);
                    if same || apart && body.charge[..] != [1.0] {
                        body = self.identity(body);
                    }
                    if (same || apart) && shortcut.charge[..] != [1.0] {
                        shortcut = self.identity(shortcut);
                    }
                    Wire {
                        from: [body.from, shortcut.from].concat(),
                        bias: body.bias.or(shortcut.bias),
                        ..shortcut
                    }
                }
                Layer::Neurons | Layer::Qcfs { .. } => {
                    let Some(neurons) = self.neurons.next() else {
                        return wrong("no parameters".into(), "one set a layer of neurons");
                    };
                    if neurons.charges().contains(&0.0) {
                        let expected = "others, since the weights behind hold them";
                        return wrong("a charge of 0".into(), expected);
                    }
                    let lost = |&&of: &&f32| leak(time_constant(of, DT), DT) != of;
                    if let Some(lost) = neurons.leak.iter().find(lost) {
                        let expected = "one that a time constant can say, from 1e-7 on";
                        return wrong(format!("a leak of {lost}"), expected);
                    }
                    let flows = neurons.current.iter().any(|&current| current != 0.0);
                    if wire.charge[..] != [1.0] || flows && wire.bias.is_none() {
                        wire = self.identity(wire);
                    }
                    if let Some(node) = wire.bias.filter(|_| flows) {
                        self.add_to_bias(node, &neurons.current);
                    }
                    let Ok(json) = serde_json::to_string(neurons) else {
                        return wrong("parameters".into(), "those that JSON can hold");
                    };
                    let kind = Kind::Neurons(neurons, json);
                    Wire {
                        charge: neurons.charges().to_vec(),
                        ..self.add(&wire, kind, wire.shape, wire.flat)
                    }
                }
            };
        }
        Ok(wire)
    }

    fn flat(&mut self, wire: Wire) -> Wire {
        if wire.flat {
            return wire;
        }
        Wire {
            charge: wire.charge.clone(),
            bias: wire.bias,
            ..self.add(&wire, Kind::Flatten, wire.shape, true)
        }
    }

    /// Weights that do nothing but hold the charge.
    fn identity(&mut self, wire: Wire) -> Wire {
        let side = match wire.flat {
            true => wire.shape.size(),
            false => wire.shape.channels,
        };
        let one = |i| f32::from(i / side == i % side);
        let weight: Vec<f32> = (0..side * side).map(one).collect();
        let kind = match wire.flat {
            true => Kind::Linear {
                weight: charged(&weight, &wire, side / wire.shape.channels),
                bias: None,
            },
            false => Kind::Conv {
                weight: charged(&weight, &wire, 1),
                kernel: 1,
                stride: 1,
                padding: 0,
                bias: vec![0.0; side],
            },
        };
        self.add(&wire, kind, wire.shape, wire.flat)
    }

    fn add_to_bias(&mut self, node: usize, current: &[f32]) {
        let node = &mut self.nodes[node];
        let outputs = node.output[0];
        let bias = match &mut node.kind {
            Kind::Conv { bias, .. } => bias,
            Kind::Linear { bias, .. } => bias.get_or_insert_with(|| vec![0.0; outputs]),
            _ => return,
        };
        let each = bias.len() / current.len();
        for (i, bias) in bias.iter_mut().enumerate() {
            *bias += f64::from(of(current, i / each));
        }
    }
}

/// Weights times the charge of the spikes that reach them, exactly; `places` of each channel.
fn charged(weight: &[f32], wire: &Wire, places: usize) -> Vec<f64> {
    let channels = wire.shape.channels;
    let weight = weight.iter().enumerate();
    let charge = |i: usize| f64::from(of(&wire.charge, i / places % channels));
    weight.map(|(i, &w)| f64::from(w) * charge(i)).collect()
}

impl Writer<'_> {
    fn bytes(&self) -> std::result::Result<Vec<u8>, hdf5_pure::Error> {
        let name = |node: usize| match self.nodes[node].kind {
            Kind::Input => "input".to_owned(),
            Kind::Output => "output".to_owned(),
            _ => {
                // In the order of the alphabet, which HDF5 keeps groups in, too.
                let digits = self.nodes.len().to_string().len();
                format!("layer{node:0digits$}")
            }
        };
        let mut file = FileBuilder::new();
        file.create_dataset("version")
            .with_vlen_strings(&[VERSION])
            .with_shape(&[]);
        let mut graph = file.create_group("node");
        text(&mut graph, "type", "NIRGraph");
        let mut metadata = graph.create_group("metadata");
        metadata
            .create_dataset("dt")
            .with_f64_data(&[DT])
            .with_shape(&[]);
        graph.add_group(metadata.finish());
        let edges: Vec<String> = self
            .edges
            .iter()
            .flatten()
            .map(|&node| name(node))
            .collect();
        let edges: Vec<&str> = edges.iter().map(String::as_str).collect();
        graph
            .create_dataset("edges")
            .with_vlen_strings(&edges)
            .with_shape(&[self.edges.len() as u64, 2]);
        let mut nodes = graph.create_group("nodes");
        for (number, node) in self.nodes.iter().enumerate() {
            let mut group = nodes.create_group(&name(number));
            node.write(&mut group);
            nodes.add_group(group.finish());
        }
        graph.add_group(nodes.finish());
        file.add_group(graph.finish());
        file.finish()
    }
}

impl Node<'_> {
    fn write(&self, group: &mut GroupBuilder) {
        let (inputs, outputs) = (&self.input, &self.output);
        let pair = |group: &mut _, name, value| wholes(group, name, &[value; 2]);
        let each = |values: &[f32]| -> Vec<f64> {
            // Of every neuron, those of a channel one after the other.
            let all: usize = outputs.iter().product();
            let places = all / values.len();
            (0..all).map(|i| of(values, i / places).into()).collect()
        };
        match &self.kind {
            Kind::Input => {
                text(group, "type", "Input");
                wholes(group, "shape", inputs);
            }
            Kind::Conv {
                weight,
                kernel,
                stride,
                padding,
                bias,
            } => {
                text(group, "type", "Conv2d");
                wholes(group, "input_shape", &inputs[1..]);
                let shape = [outputs[0], inputs[0], *kernel, *kernel];
                floats(group, "weight", weight, &shape);
                pair(group, "stride", *stride);
                pair(group, "padding", *padding);
                pair(group, "dilation", 1);
                group
                    .create_dataset("groups")
                    .with_i64_data(&[1])
                    .with_shape(&[]);
                floats(group, "bias", bias, &outputs[..1]);
            }
            Kind::Linear { weight, bias } => {
                let kind = if bias.is_some() { "Affine" } else { "Linear" };
                text(group, "type", kind);
                floats(group, "weight", weight, &[outputs[0], inputs[0]]);
                if let Some(bias) = bias {
                    floats(group, "bias", bias, outputs);
                }
            }
            Kind::AvgPool(size) => {
                text(group, "type", "AvgPool2d");
                pair(group, "kernel_size", *size);
                pair(group, "stride", *size);
                pair(group, "padding", 0);
            }
            Kind::Flatten => {
                text(group, "type", "Flatten");
                wholes(group, "input_type", inputs);
                for (name, value) in [("start_dim", 0), ("end_dim", -1)] {
                    group
                        .create_dataset(name)
                        .with_i64_data(&[value])
                        .with_shape(&[]);
                }
            }
            Kind::Neurons(neurons, json) => {
                let leaks = neurons.leak.iter().any(|&leak| leak != 1.0);
                text(group, "type", if leaks { "LIF" } else { "IF" });
                let mut resistance = each(&[1.0]);
                if leaks {
                    let constants = each(&neurons.leak).into_iter();
                    let constants = constants.map(|leak| time_constant(leak as f32, DT));
                    resistance = constants.collect();
                    dynamics(group, "tau", &resistance, outputs);
                    dynamics(group, "v_leak", &each(&[0.0]), outputs);
                }
                resistance.iter_mut().for_each(|r| *r /= DT);
                dynamics(group, "r", &resistance, outputs);
                let thresholds = neurons.threshold.iter().map(|of| of.next_down());
                let thresholds: Vec<f32> = thresholds.collect();
                dynamics(group, "v_threshold", &each(&thresholds), outputs);
                dynamics(group, "v_reset", &each(&[0.0]), outputs);
                let mut metadata = group.create_group("metadata");
                text(&mut metadata, METADATA, json);
                group.add_group(metadata.finish());
            }
            Kind::Output => {
                text(group, "type", "Output");
                wholes(group, "shape", outputs);
            }
        }
    }
}

fn text(group: &mut GroupBuilder, name: &str, value: &str) {
    let dataset = group.create_dataset(name);
    dataset.with_vlen_strings(&[value]).with_shape(&[]);
}

fn wholes(group: &mut GroupBuilder, name: &str, values: &[usize]) {
    let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
    group.create_dataset(name).with_i64_data(&values);
}

/// In single precision where that is exact.
fn floats(group: &mut GroupBuilder, name: &str, values: &[f64], shape: &[usize]) {
    let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    let single: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let exact = single.iter().zip(values).all(|(&a, &b)| f64::from(a) == b);
    let dataset = group.create_dataset(name);
    match exact {
        true => dataset.with_f32_data(&single),
        false => dataset.with_f64_data(values),
    };
    dataset.with_shape(&shape);
}

/// Of every neuron, which are mostly the same.
fn dynamics(group: &mut GroupBuilder, name: &str, values: &[f64], shape: &[usize]) {
    let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    let dataset = group.create_dataset(name);
    dataset.with_f64_data(values).with_shape(&shape);
    dataset.with_shuffle().with_deflate(6);
}

/// A group of a file, and what its errors name.
struct Fields<'a> {
    path: &'a Path,
    /// Bytes of the file.
    size: u64,
    place: String,
    group: Group,
}

impl<'a> Fields<'a> {
    /// The group called `name` in another.
    fn of(path: &'a Path, size: u64, name: String, parent: &Group) -> Result<Self> {
        let group = parent.group(&name).map_err(|error| {
            let expected = format!("a group `{name}`");
            Error::data(path.display(), "graph", error, expected)
        })?;
        let place = format!("node `{name}`");
        Ok(Self {
            path,
            size,
            place,
            group,
        })
    }

    fn wrong(&self, found: impl ToString, expected: impl ToString) -> Error {
        Error::data(self.path.display(), &self.place, found, expected)
    }

    /// Bytes that the file can stand for.
    fn most_bytes(&self) -> u64 {
        self.size.saturating_mul(MOST_INFLATION)
    }

    /// Weights that are made up at most: as many as the file could hold.
    fn most_weights(&self) -> usize {
        MOST_WEIGHTS.min((self.most_bytes() / 4) as usize)
    }

    fn has(&self, name: &str) -> Result<bool> {
        let names = self.group.datasets();
        let names = names.map_err(|error| self.wrong(error, "a whole group"))?;
        Ok(names.iter().any(|other| other == name))
    }

    /// A dataset that holds no more than its file can, with its sizes and their product.
    fn dataset(&self, name: &str) -> Result<(Dataset, Vec<usize>, usize)> {
        let missing = |error| self.wrong(error, format!("a dataset `{name}`"));
        let dataset = self.group.dataset(name).map_err(missing)?;
        let shape = dataset.shape().map_err(missing)?;
        let elements = shape
            .iter()
            .try_fold(1u64, |all, &size| all.checked_mul(size));
        let bytes =
            elements.and_then(|elements| elements.checked_mul(dataset.element_size().ok()?));
        // Only chunks are compressed.
        let most = match dataset.is_chunked() {
            true => self.most_bytes(),
            false => self.size,
        };
        if bytes.is_none_or(|bytes| bytes > most) {
            let found = format!("`{name}` of shape {shape:?}");
            return Err(self.wrong(found, format!("what a file of {} bytes holds", self.size)));
        }
        // They are fewer than the bytes of a file in memory times a small number.
        let shape: Vec<usize> = shape.into_iter().map(|size| size as usize).collect();
        let elements = shape.iter().product();
        Ok((dataset, shape, elements))
    }

    /// Strings of a dataset, with its sizes.
    fn texts(&self, name: &str) -> Result<(Vec<String>, Vec<usize>)> {
        let (dataset, shape, elements) = self.dataset(name)?;
        let texts = match dataset.dtype() {
            Ok(DType::VariableLengthString) => {
                let most = VlenStringReadOptions::new().with_max_payload_bytes(self.size as usize);
                dataset.read_vlen_strings(most)
            }
            _ => dataset.read_string(),
        };
        let texts = texts.map_err(|error| self.wrong(error, format!("text as `{name}`")))?;
        match texts.len() == elements {
            true => Ok((texts, shape)),
            false => Err(self.wrong(format!("{} texts", texts.len()), elements)),
        }
    }

    fn text(&self, name: &str) -> Result<String> {
        let (mut texts, _) = self.texts(name)?;
        match (texts.pop(), texts.pop()) {
            (Some(text), None) => Ok(text),
            _ => Err(self.wrong("several texts or none", format!("one text as `{name}`"))),
        }
    }

    /// Finite numbers, with their sizes.
    fn floats(&self, name: &str) -> Result<(Vec<f64>, Vec<usize>)> {
        let (dataset, shape, elements) = self.dataset(name)?;
        let values = dataset.read_f64();
        let values = values.map_err(|error| self.wrong(error, format!("numbers as `{name}`")))?;
        if values.len() != elements {
            return Err(self.wrong(format!("{} values of `{name}`", values.len()), elements));
        }
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok((values, shape)),
            Some(bad) => Err(self.wrong(format!("{bad} in `{name}`"), "finite numbers")),
        }
    }

    fn wholes(&self, name: &str) -> Result<Vec<i64>> {
        let (dataset, ..) = self.dataset(name)?;
        let values = dataset.read_i64();
        values.map_err(|error| self.wrong(error, format!("whole numbers as `{name}`")))
    }

    /// A number, the same for rows and columns, from `least` on.
    fn both(&self, name: &str, least: i64) -> Result<usize> {
        let values = self.wholes(name)?;
        match values[..] {
            [one] | [one, _]
                if values.iter().all(|&v| v == one) && (least..=MOST_STEPS).contains(&one) =>
            {
                Ok(one as usize)
            }
            _ => {
                let expected =
                    format!("one number of {least} to {MOST_STEPS} for rows and columns");
                Err(self.wrong(format!("`{name}` {values:?}"), expected))
            }
        }
    }

    /// The sizes of an input or output.
    fn sizes(&self) -> Result<Vec<usize>> {
        let sizes = self.wholes("shape")?;
        let positive = sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0));
        let positive: Vec<usize> = positive.collect();
        let size = positive
            .iter()
            .try_fold(1usize, |all, &size| all.checked_mul(size));
        match size.is_some_and(|size| (1..=MOST_VALUES).contains(&size)) {
            true => Ok(positive),
            false => {
                let expected = format!("1 to {MOST_VALUES} values");
                Err(self.wrong(format!("shape {sizes:?}"), expected))
            }
        }
    }
}

/// What comes out of a node.
#[derive(Clone)]
struct Value {
    shape: Shape,
    /// One axis in NIR, rather than channels, rows and columns.
    flat: bool,
    /// Charge of the spikes that the weights to come hold: one, or one a channel.
    charge: Vec<f32>,
    /// Weights since the last neurons: what came into them, and their bias; empty where it lies
    /// before a fork and so does not belong to the neurons of one way alone.
    weights: Option<(Shape, Vec<f64>)>,
}

/// What lies on the way to a node that several edges lead to, or to the output.
struct Way {
    layers: Vec<Layer>,
    value: Value,
    end: usize,
    /// How many of the end's edges are its; none at the output.
    edges: usize,
}

/// A graph that is being read.
struct Reader<'a> {
    graph: &'a Fields<'a>,
    nodes: Vec<Fields<'a>>,
    /// Of each node, those that its edges lead to, in the order of the file.
    next: Vec<Vec<usize>>,
    /// Edges that lead to each node.
    before: Vec<usize>,
    seen: Vec<bool>,
    /// Seconds of a timestep.
    dt: f64,
    neurons: Vec<Neurons>,
}

impl<'a> Reader<'a> {
    fn new(graph: &'a Fields<'a>) -> Result<Self> {
        let kind = graph.text("type")?;
        if kind != "NIRGraph" {
            return Err(graph.wrong(kind, "NIRGraph"));
        }
        let dt = match graph.group.dataset("metadata/dt") {
            Err(_) => DT,
            Ok(_) => match graph.floats("metadata/dt")?.0[..] {
                [dt] if dt > 0.0 => dt,
                ref other => return Err(graph.wrong(format!("dt {other:?}"), "one above 0")),
            },
        };
        let nodes = Fields::of(graph.path, graph.size, "nodes".into(), &graph.group)?;
        let names = nodes.group.groups();
        let names = names.map_err(|error| graph.wrong(error, "groups of nodes"))?;
        let node = |name: &String| Fields::of(graph.path, graph.size, name.clone(), &nodes.group);
        let (edges, shape) = graph.texts("edges")?;
        if !matches!(shape[..], [_, 2]) {
            return Err(graph.wrong(format!("edges of shape {shape:?}"), "two names an edge"));
        }
        let numbers: HashMap<&String, usize> = names.iter().zip(0..).collect();
        let (mut next, mut before) = (vec![Vec::new(); names.len()], vec![0; names.len()]);
        for edge in edges.chunks_exact(2) {
            let number = |name: &String| {
                let number = numbers.get(name).copied();
                number.ok_or_else(|| graph.wrong(format!("an edge of `{name}`"), "one of a node"))
            };
            let (from, to) = (number(&edge[0])?, number(&edge[1])?);
            next[from].push(to);
            before[to] += 1;
        }
        Ok(Self {
            nodes: names.iter().map(node).collect::<Result<_>>()?,
            graph,
            next,
            before,
            seen: vec![false; names.len()],
            dt,
            neurons: Vec::new(),
        })
    }

    /// Shape of the input, layers, neurons and number of classes.
    fn network(mut self) -> Result<(Shape, Vec<Layer>, Vec<Neurons>, usize)> {
        let mut inputs = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if node.text("type")? == "Input" {
                inputs.push(number);
            }
        }
        let [input] = inputs[..] else {
            let found = format!("{} nodes `Input`", inputs.len());
            return Err(self.graph.wrong(found, "one"));
        };
        let node = &self.nodes[input];
        let sizes = node.sizes()?;
        let (shape, flat) = match sizes[..] {
            [size] => (Shape::new(size, 1, 1), true),
            [channels, height, width] => (Shape::new(channels, height, width), false),
            _ => {
                let expected = "one axis, or channels, rows and columns";
                return Err(node.wrong(format!("shape {sizes:?}"), expected));
            }
        };
        let value = Value {
            shape,
            flat,
            charge: vec![1.0],
            weights: None,
        };
        let way = self.way(input, value, 0)?;
        if way.edges > 0 {
            return Err(self.astray(way.end));
        }
        if let Some(unseen) = self.seen.iter().position(|seen| !seen) {
            return Err(self.astray(unseen));
        }
        let (mut layers, classes) = (way.layers, way.value.shape.size());
        if let Some(Layer::Neurons) = layers.last() {
            let most = self.graph.most_weights();
            if classes > most / classes {
                let found = format!("{classes} neurons as the last layer");
                let expected = format!("one a class, {} at most", most.isqrt());
                return Err(self.graph.wrong(found, expected));
            }
            let one = |i| f32::from(i / classes == i % classes);
            layers.push(Layer::Linear {
                weight: (0..classes * classes).map(one).collect(),
                bias: None,
                inputs: classes,
                outputs: classes,
            });
        }
        Ok((shape, layers, self.neurons, classes))
    }

    fn astray(&self, node: usize) -> Error {
        let found = "edges that lead round in a circle, past the output or apart for good";
        self.nodes[node].wrong(found, "a chain, or two ways from one node to another")
    }

    /// Reads from a node on, what comes into it being `value`.
    fn way(&mut self, mut node: usize, value: Value, nested: usize) -> Result<Way> {
        let mut way = Way {
            layers: Vec::new(),
            value,
            end: node,
            edges: 1,
        };
        let mut met = false;
        loop {
            way.end = node;
            if self.before[node] > 1 && !met {
                self.tidy(&mut way);
                return Ok(way);
            }
            if std::mem::replace(&mut self.seen[node], true) {
                return Err(self.astray(node));
            }
            let last = self.read(node, &mut way)?;
            let next = &self.next[node];
            match (next[..].len(), last) {
                (0, true) => return Ok(Way { edges: 0, ..way }),
                (1, false) => (node, met) = (next[0], false),
                (2, false) if nested < MOST_NESTED => {
                    let [one, other] = [next[0], next[1]];
                    let mut fork = way.value.clone();
                    fork.weights = fork.weights.map(|(shape, _)| (shape, Vec::new()));
                    let mut body = self.way(one, fork.clone(), nested + 1)?;
                    let mut shortcut = self.way(other, fork, nested + 1)?;
                    if body.end != shortcut.end || body.edges == 0 || shortcut.edges == 0 {
                        return Err(self.astray(node));
                    }
                    if body.layers.is_empty() {
                        (body, shortcut) = (shortcut, body);
                    }
                    node = body.end;
                    way.edges = body.edges + shortcut.edges;
                    self.add(&mut way, body, shortcut)?;
                    met = way.edges == self.before[node];
                    if !met {
                        return Ok(Way { end: node, ..way });
                    }
                    way.edges = 1;
                }
                _ => return Err(self.astray(node)),
            }
        }
    }

    /// Two ways that end in the same node.
    fn add(&self, way: &mut Way, body: Way, shortcut: Way) -> Result<()> {
        let node = &self.nodes[body.end];
        let (a, b) = (&body.value, &shortcut.value);
        if (a.shape, a.flat) != (b.shape, b.flat) {
            let sizes = [a, b].map(|value| sizes(value.shape, value.flat));
            let found = format!("inputs of shapes {:?} and {:?}", sizes[0], sizes[1]);
            return Err(node.wrong(found, "inputs of one shape"));
        }
        if a.charge != b.charge {
            let found = "inputs of spikes whose charges differ";
            return Err(node.wrong(found, "weights that hold the charges"));
        }
        let held = |value: &Value| matches!(&value.weights, Some((_, bias)) if !bias.is_empty());
        way.value = match held(a) || !held(b) {
            true => body.value,
            false => shortcut.value,
        };
        way.layers.push(Layer::Residual {
            body: body.layers,
            shortcut: shortcut.layers,
        });
        Ok(())
    }

    /// Takes away weights that only held the charge of spikes.
    fn tidy(&self, way: &mut Way) {
        if let Some((before, _)) = &way.value.weights
            && !self.neurons.is_empty()
            && way.layers.last().is_some_and(is_identity)
        {
            way.value.shape = *before;
            way.value.weights = None;
            way.layers.pop();
        }
    }

    /// Reads a node. Whether it is the output.
    fn read(&mut self, node: usize, way: &mut Way) -> Result<bool> {
        let fields = &self.nodes[node];
        let kind = fields.text("type")?;
        let value = &mut way.value;
        let whole = |value: &Value| match value.charge[..] {
            [1.0] => Ok(()),
            _ => Err(fields.wrong("spikes with a charge", "weights that hold it, before")),
        };
        let image = |value: &Value| match value.flat {
            false => Ok(()),
            true => Err(fields.wrong("one axis", "channels, rows and columns")),
        };
        match kind.as_str() {
            "Input" if self.before[node] == 0 => {}
            "Conv2d" => {
                image(value)?;
                weights(fields, way, true)?;
            }
            "Affine" | "Linear" => weights(fields, way, false)?,
            "AvgPool2d" | "SumPool2d" => {
                image(value)?;
                let size = pool(fields, way)?;
                if kind == "SumPool2d" {
                    let squares = vec![(size * size) as f32];
                    scale(fields, way, &mut self.neurons, squares)?;
                }
            }
            "Flatten" => {
                let axes = sizes(value.shape, value.flat).len() as i64;
                let [start, end] = [fields.wholes("start_dim")?, fields.wholes("end_dim")?];
                let all = start == [0] && (end == [-1] || end == [axes - 1]);
                if !all && !value.flat {
                    let found = format!("axes {start:?} to {end:?}");
                    return Err(fields.wrong(found, "all axes, 0 to -1"));
                }
                value.flat = true;
            }
            "Scale" => {
                let factors = spread(fields, "scale", value)?;
                let factors = by_channel(fields, "scale", value.shape, &factors)?;
                let factors = factors.iter().map(|&factor| factor as f32).collect();
                scale(fields, way, &mut self.neurons, factors)?;
            }
            "IF" | "LIF" => {
                let layer = self.neurons.len();
                let (neurons, ours) = neurons(fields, value, self.dt, layer, kind == "LIF")?;
                whole(value)?;
                subtract(way, &neurons.current);
                self.tidy(way);
                way.value.charge = match ours {
                    true => neurons.charges().to_vec(),
                    false => vec![1.0],
                };
                way.value.weights = None;
                way.layers.push(Layer::Neurons);
                self.neurons.push(neurons);
            }
            "Output" => {
                whole(value)?;
                let (found, given) = (fields.sizes()?, sizes(value.shape, value.flat));
                if found != given {
                    let expected = format!("{given:?}, as the node before gives");
                    return Err(fields.wrong(format!("shape {found:?}"), expected));
                }
                return Ok(true);
            }
            _ => {
                let expected =
                    "Conv2d, Affine, Linear, AvgPool2d, SumPool2d, Flatten, Scale, IF or LIF";
                return Err(fields.wrong(format!("a node of type {kind}"), expected));
            }
        }
        Ok(false)
    }
}

/// The bias of the weights that layers end in, pooling left out; of a sum, that of the first.
fn bias(layers: &mut [Layer]) -> Option<&mut Option<Vec<f32>>> {
    let mut last = layers.iter_mut().rev();
    match last.find(|layer| !matches!(layer, Layer::AvgPool { .. }))? {
        Layer::Conv { bias, .. } | Layer::Linear { bias, .. } => Some(bias),
        Layer::Residual { body, shortcut } => bias(body).or_else(|| bias(shortcut)),
        _ => None,
    }
}

/// A bias in single precision; none where it is 0.
fn single(bias: &[f64]) -> Option<Vec<f32>> {
    let single: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
    single.iter().any(|&b| b != 0.0).then_some(single)
}

/// Takes the neurons' own currents out of the bias before them.
fn subtract(way: &mut Way, current: &[f32]) {
    if let Some((_, doubles)) = &mut way.value.weights
        && let Some(bias) = bias(&mut way.layers)
        && !doubles.is_empty()
        && current.iter().any(|&current| current != 0.0)
    {
        let each = doubles.len() / current.len();
        for (i, double) in doubles.iter_mut().enumerate() {
            *double -= f64::from(of(current, i / each));
        }
        *bias = single(doubles);
    }
}

/// A convolution, or a linear layer.
fn weights(fields: &Fields<'_>, way: &mut Way, conv: bool) -> Result<()> {
    let value = &mut way.value;
    if value.weights.is_some() {
        let found = "a second layer of weights with no neurons between";
        return Err(fields.wrong(found, "neurons after each layer of weights"));
    }
    if !conv && !value.flat {
        let found = format!("an input of {}", value.shape);
        return Err(fields.wrong(found, "one axis, by a node Flatten"));
    }
    let (weight, sizes) = fields.floats("weight")?;
    let (outputs, inputs, kernel) = match sizes[..] {
        [outputs, inputs] if !conv => (outputs, inputs, 1),
        [outputs, inputs, kernel, side] if conv && kernel == side => (outputs, inputs, kernel),
        _ => {
            let expected = match conv {
                true => "outputs, inputs and a square kernel",
                false => "outputs and inputs",
            };
            return Err(fields.wrong(format!("weights of shape {sizes:?}"), expected));
        }
    };
    let places = match conv {
        true => kernel * kernel,
        false => value.shape.height * value.shape.width,
    };
    let charge = |i: usize| f64::from(of(&value.charge, i / places % value.shape.channels));
    let weight = weight.iter().enumerate();
    let weight = weight.map(|(i, w)| (w / charge(i)) as f32).collect();
    let doubles = match fields.has("bias")? {
        false => vec![0.0; outputs],
        true => fields.floats("bias")?.0,
    };
    let bias = single(&doubles);
    let layer = match conv {
        false => Layer::Linear {
            weight,
            bias,
            inputs,
            outputs,
        },
        true => {
            for (name, least) in [("dilation", 1), ("groups", 1)] {
                let found = fields.both(name, least)?;
                if found != 1 {
                    return Err(fields.wrong(format!("{name} {found}"), 1));
                }
            }
            let stride = fields.both("stride", 1)?;
            let (padding, ..) = fields.dataset("padding")?;
            let padding = match padding.dtype() {
                Ok(DType::VariableLengthString | DType::String) => {
                    match fields.text("padding")?.as_str() {
                        "valid" => 0,
                        "same" if stride == 1 && kernel % 2 == 1 => kernel / 2,
                        other => {
                            let found = format!("padding `{other}`");
                            let expected = "a number, or `same` for an odd kernel of stride 1";
                            return Err(fields.wrong(found, expected));
                        }
                    }
                }
                _ => fields.both("padding", 0)?,
            };
            Layer::Conv {
                weight,
                bias,
                inputs,
                outputs,
                kernel,
                stride,
                padding,
            }
        }
    };
    let shape = output_shape(0, &layer, value.shape).map_err(|error| match error {
        Error::Layer {
            found, expected, ..
        } => fields.wrong(found, expected),
        other => other,
    })?;
    let most = shape
        .height
        .saturating_mul(shape.width)
        .saturating_mul(outputs);
    if most > MOST_VALUES || doubles.len() != outputs {
        let found = format!("an output of {shape} with {} biases", doubles.len());
        let expected = format!("at most {MOST_VALUES} values, and a bias for each channel");
        return Err(fields.wrong(found, expected));
    }
    way.layers.push(layer);
    *value = Value {
        weights: Some((value.shape, doubles)),
        shape,
        flat: !conv,
        charge: vec![1.0],
    };
    Ok(())
}

/// Average pooling. Gives the side of its squares.
fn pool(fields: &Fields<'_>, way: &mut Way) -> Result<usize> {
    let size = fields.both("kernel_size", 1)?;
    let (stride, padding) = (fields.both("stride", 1)?, fields.both("padding", 0)?);
    let shape = &mut way.value.shape;
    let divides = |side: usize| side.is_multiple_of(size);
    if stride != size || padding != 0 || !divides(shape.height) || !divides(shape.width) {
        let found =
            format!("squares of side {size}, stride {stride}, padding {padding} on {shape}");
        let expected = "squares next to each other that cover the image, and no padding";
        return Err(fields.wrong(found, expected));
    }
    (shape.height, shape.width) = (shape.height / size, shape.width / size);
    way.layers.push(Layer::AvgPool { size });
    let mut pooled = 1;
    for layer in way.layers.iter().rev() {
        match layer {
            Layer::AvgPool { size } => pooled *= size,
            Layer::Conv {
                inputs,
                outputs,
                kernel,
                stride,
                ..
            } => {
                let side = kernel + stride * (pooled - 1);
                let weights = inputs * outputs.next_multiple_of(LANES);
                let most = fields.most_weights();
                if side.saturating_mul(side).saturating_mul(weights) > most {
                    let found = format!("pooling that makes the kernel {side} x {side}");
                    let expected = format!("at most {most} weights");
                    return Err(fields.wrong(found, expected));
                }
                break;
            }
            _ => break,
        }
    }
    Ok(size)
}

/// Multiplies what the last layer gives: weights and bias, or the charge of spikes.
fn scale(
    fields: &Fields<'_>,
    way: &mut Way,
    neurons: &mut [Neurons],
    factors: Vec<f32>,
) -> Result<()> {
    let shape = way.value.shape;
    let factors: Vec<f32> = (0..shape.channels)
        .map(|channel| of(&factors, channel))
        .collect();
    let pools = |layer: &&Layer| matches!(layer, Layer::AvgPool { .. });
    match (
        way.layers.iter().rev().find(|layer| !pools(layer)),
        neurons.last_mut(),
    ) {
        (Some(Layer::Conv { .. } | Layer::Linear { .. }), _) => {
            let shift = vec![0.0; factors.len()];
            let layer = Layer::ScaleShift {
                scale: factors.clone(),
                shift,
            };
            layer.fold_into(&mut way.layers);
            if let Some((_, doubles)) = &mut way.value.weights {
                let each = doubles.iter_mut().zip(&factors);
                each.for_each(|(double, &factor)| *double *= f64::from(factor));
            }
        }
        (Some(Layer::Neurons), Some(neurons)) => {
            let charges = factors.iter().enumerate();
            let charges = charges.map(|(i, factor)| of(neurons.charges(), i) * factor);
            neurons.charge = Charge::Fixed(charges.collect());
        }
        _ => {
            let expected = "weights or neurons right before it, or only pooling between";
            return Err(fields.wrong("a factor on the input or on a sum", expected));
        }
    }
    Ok(())
}

/// Values of a node, one or one for each of what comes in.
fn spread(fields: &Fields<'_>, name: &str, value: &Value) -> Result<Vec<f64>> {
    let (values, found) = fields.floats(name)?;
    let expected = sizes(value.shape, value.flat);
    match values.len() == 1 || found == expected {
        true => Ok(values),
        false => {
            let expected = format!("{expected:?}, as the node before gives, or one value");
            Err(fields.wrong(format!("`{name}` of shape {found:?}"), expected))
        }
    }
}

/// Values that are the same for all of a channel; one where they are the same for all.
fn by_channel<T: Copy + PartialEq>(
    fields: &Fields<'_>,
    name: &str,
    shape: Shape,
    values: &[T],
) -> Result<Vec<T>> {
    if values.iter().all(|&value| value == values[0]) {
        return Ok(values[..1].to_vec());
    }
    let channels = values.chunks_exact(shape.height * shape.width);
    match channels
        .clone()
        .all(|channel| channel.iter().all(|&value| value == channel[0]))
    {
        true => Ok(channels.map(|channel| channel[0]).collect()),
        false => Err(fields.wrong(
            format!("`{name}` that differ within a channel"),
            "one for all neurons, or one a channel",
        )),
    }
}

/// Neurons, and whether evospike described them.
fn neurons(
    fields: &Fields<'_>,
    value: &Value,
    dt: f64,
    layer: usize,
    leaky: bool,
) -> Result<(Neurons, bool)> {
    let shape = value.shape;
    let resistance = spread(fields, "r", value)?;
    let thresholds = spread(fields, "v_threshold", value)?;
    let constants = match leaky {
        true => spread(fields, "tau", value)?,
        false => Vec::new(),
    };
    for name in ["v_reset", "v_leak"] {
        if fields.has(name)?
            && let Some(bad) = spread(fields, name, value)?.iter().find(|&&v| v != 0.0)
        {
            return Err(fields.wrong(format!("`{name}` {bad}"), 0));
        }
    }
    let most = resistance.len().max(thresholds.len()).max(constants.len());
    let (mut levels, mut leaks) = (Vec::with_capacity(most), Vec::with_capacity(most));
    // Norse and Sinabs count in timesteps.
    let unit = !leaky && resistance.iter().all(|&r| r == 1.0);
    for i in 0..most {
        let (r, threshold) = (of(&resistance, i), of(&thresholds, i));
        let gain = match (unit, leaky) {
            (true, _) => 1.0,
            (_, true) => r * dt / of(&constants, i),
            (_, false) => r * dt,
        };
        let left = if leaky {
            leak(of(&constants, i), dt)
        } else {
            1.0
        };
        // Resistances and time constants of other programs were rounded.
        let gain = if (gain - 1.0).abs() < 1e-6 { 1.0 } else { gain };
        let level = above(threshold / gain);
        let fires = level > 0.0 && level.is_finite() && gain > 0.0;
        let holds = left > 0.0 && left <= 1.0;
        if !(fires && holds) {
            let found = format!("threshold {threshold}, r {r}, leak {left} in {dt} s");
            let expected = "a threshold and r above 0, and tau above a timestep";
            return Err(fields.wrong(found, expected));
        }
        levels.push(level);
        leaks.push(left);
    }
    let threshold = by_channel(fields, "v_threshold", shape, &levels)?;
    let leak = by_channel(fields, "tau", shape, &leaks)?;
    let name = format!("metadata/{METADATA}");
    if fields.group.dataset(&name).is_err() {
        let neurons = Neurons {
            leak,
            reset: Reset::Zero,
            charge: Charge::Unit,
            ..Neurons::new(threshold)
        };
        return Ok((neurons, false));
    }
    let ours: Neurons = serde_json::from_str(&fields.text(&name)?)
        .map_err(|error| fields.wrong(error, format!("parameters of neurons as `{name}`")))?;
    let checked = ours.check(layer, shape.channels);
    checked.map_err(|error| fields.wrong(error, format!("parameters in range as `{name}`")))?;
    let same = |one: &[f32], other: &[f32]| {
        (0..shape.channels).all(|channel| of(one, channel) == of(other, channel))
    };
    if !same(&ours.threshold, &threshold)
        || !same(&ours.leak, &leak)
        || ours.charges().contains(&0.0)
    {
        let found = format!("thresholds or leaks other than those of `{name}`");
        return Err(fields.wrong(found, "the same: remove it where they were changed"));
    }
    Ok((ours, true))
}

#[cfg(test)]
mod tests;
