//! Writing of networks as NIR graphs.

use std::borrow::Cow;
use std::path::Path;
use std::slice;

use hdf5_pure::{FileBuilder, GroupBuilder};

use super::graph::{Axes, DT, METADATA, add_current, identity, leak, spread, time_constant};
use crate::ann::{Classifier, Graph, Layer, Window, graph};
use crate::base::{Error, Result, write_file};
use crate::data::Shape;
use crate::simulate::{Neurons, Snn, SpikingNetwork};

/// Time constant of a leak that single precision does not tell from none, in timesteps.
const NO_LEAK: f64 = (1u64 << 30) as f64;

/// Version of the Python package `nir` whose format is written.
const VERSION: &str = "1.0.8";

/// Simulator whose importer of NIR files is to take a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importer {
    /// snnTorch 1.0: `snntorch.import_nir.import_from_nir`.
    SnnTorch,
    /// SpikingJelly 2.0: `spikingjelly.activation_based.nir_exchange.import_from_nir`.
    SpikingJelly,
}

impl<N: Classifier> Snn<N> {
    /// Writes the network as a NIR file. See [`nir`](mod@crate::nir).
    ///
    /// # Errors
    /// The same as those of [`SpikingNetwork::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.network.save(path)
    }
}

impl SpikingNetwork {
    /// Writes the network as a NIR file. See [`nir`](mod@crate::nir).
    ///
    /// # Errors
    /// Returns an error if a charge is 0, a leak is near 0, NIR has no node for a layer, or the
    /// file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write(path.as_ref(), &self.stages.graph, &self.neurons, None)
    }
}

/// Writes layers and the parameters of the neurons, as NIR defines them or as an importer takes them.
pub(super) fn write(
    path: &Path,
    graph: &Graph,
    neurons: &[Neurons],
    importer: Option<Importer>,
) -> Result<()> {
    let mut writer = Writer { nodes: Vec::new(), neurons: neurons.iter(), importer };
    let (shapes, uses) = (graph.shapes()?, graph.uses());
    let axes = Axes { shape: graph.input, flat: false };
    let (from, charge) = (Vec::new(), vec![1.0]);
    let start = Wire { from, axes, charge, bias: None, weights: None };
    let mut last = writer.end(start, "Input");
    let mut wires = vec![last.clone()];
    for (number, node) in graph.nodes.iter().enumerate() {
        let inputs = node.inputs.iter().map(|&value| Wire {
            // A bias that other layers take as well does not belong to the neurons of one.
            bias: wires[value].bias.filter(|_| uses[value] == 1),
            ..wires[value].clone()
        });
        let inputs = inputs.collect();
        last = writer.layer(number, node, inputs, shapes[number + 1])?;
        wires.push(last.clone());
    }
    if last.charge[..] != [1.0] {
        last = writer.identity(last);
    }
    writer.end(last, "Output");
    write_file(path, &writer.bytes().map_err(Error::write(path))?)
}

/// Graph to be written.
struct Writer<'a> {
    nodes: Vec<Node<'a>>,
    /// Parameters of the layers of neurons that are not written yet.
    neurons: slice::Iter<'a, Neurons>,
    /// Importer that is to take the graph.
    importer: Option<Importer>,
}

struct Node<'a> {
    kind: &'static str,
    /// Nodes from which edges lead here.
    from: Vec<usize>,
    /// Writes all datasets but the bias.
    write: Box<dyn Fn(&mut GroupBuilder) + 'a>,
    /// Bias of a layer of weights. The current of the neurons after it is added to it.
    bias: Option<Vec<f64>>,
}

/// Output of a node, or of several nodes whose outputs add up.
#[derive(Clone)]
struct Wire {
    from: Vec<usize>,
    axes: Axes,
    /// Charge of the spikes, one or one per channel: a factor on the weights after them.
    charge: Vec<f32>,
    /// Node whose bias adds to every value.
    bias: Option<usize>,
    /// Node of weights since the last neurons.
    weights: Option<usize>,
}

impl<'a> Writer<'a> {
    /// Adds a node that takes `wire` and gives its output, which only comes from elsewhere.
    fn add<F>(&mut self, wire: Wire, kind: &'static str, write: F) -> Wire
    where
        F: Fn(&mut GroupBuilder) + 'a,
    {
        let from = vec![self.nodes.len()];
        self.nodes.push(Node { kind, from: wire.from, write: Box::new(write), bias: None });
        Wire { from, ..wire }
    }

    /// Adds an input or output.
    fn end(&mut self, wire: Wire, kind: &'static str) -> Wire {
        let sizes = wire.axes.sizes();
        self.add(wire, kind, move |group| integers(group, "shape", &sizes))
    }

    /// Adds the node of a layer that takes these outputs.
    fn layer(
        &mut self,
        number: usize,
        node: &'a graph::Node,
        mut inputs: Vec<Wire>,
        output: Shape,
    ) -> Result<Wire> {
        let layer = &node.layer;
        let wrong =
            |found: &str, expected: &str| Err(Error::layer(number, node.kind(), found, expected));
        let Some(mut wire) = inputs.pop() else {
            return wrong("no input", "1");
        };
        if let Layer::Sum = layer {
            return Ok(self.sum(inputs, wire));
        }
        if let (Some((window, ceil)), false) = (layer.window(), wire.axes.flat) {
            let [above, left, below, right] = window.padding;
            if [above, left] != [below, right] {
                let found = format!("padding {:?}", window.padding);
                return wrong(&found, "as much below as above and right as left, as NIR has it");
            }
            let shape = wire.axes.shape;
            if ceil
                && window.outputs(shape.height, shape.width, false) != [output.height, output.width]
            {
                return wrong("sides rounded up", "rounded down, as NIR has them");
            }
        } else if layer.window().is_some() {
            let expected = "none after a linear layer: NIR has no node that gives an image back";
            return wrong(layer.kind(), expected);
        }
        if let (Layer::Conv { .. } | Layer::Linear { .. }, Some(_)) = (layer, wire.weights) {
            let found = "a second layer of weights with no neurons between";
            return wrong(found, "neurons after each layer of weights");
        }
        match layer {
            Layer::Conv { weight, bias, inputs, window, groups, outputs } => {
                let [rows, columns] = window.size;
                let sizes = vec![*outputs, inputs / groups, rows, columns];
                Ok(self.weights(wire, (weight, bias), sizes, (*window, *groups), output))
            }
            Layer::Linear { weight, bias, inputs, outputs, .. } => {
                let sizes = vec![*outputs, *inputs];
                Ok(self.weights(wire, (weight, bias), sizes, (Window::ONE, 1), output))
            }
            Layer::AvgPool { window, count_padding, .. } => {
                let Window { size, stride, dilation, padding: [above, left, ..] } = *window;
                if dilation != [1; 2] || !count_padding && window.padding != [0; 4] {
                    let found = "dilation, or means without the padding";
                    return wrong(found, "means of adjacent values, padding counted as zeros");
                }
                wire.axes.shape = output;
                Ok(self.add(wire, "AvgPool2d", move |group| {
                    integers(group, "kernel_size", &size);
                    integers(group, "stride", &stride);
                    integers(group, "padding", &[above, left]);
                }))
            }
            Layer::ScaleShift { scale, shift } => {
                if shift.iter().any(|&shift| shift != 0.0) {
                    return wrong("a shift behind no weights", "a scale alone, as NIR has it");
                }
                wire.bias = None;
                let sizes = wire.axes.sizes();
                Ok(self.add(wire, "Scale", move |group| {
                    let scale: Vec<f64> = scale.iter().map(|&factor| factor.into()).collect();
                    per_neuron(group, "scale", &scale, &sizes);
                }))
            }
            Layer::MaxPool { .. } | Layer::Concat | Layer::Sum => {
                wrong(layer.kind(), "a layer that NIR has a node for")
            }
            Layer::Neurons | Layer::Clipped { .. } | Layer::Qcfs { .. } => {
                let Some(neurons) = self.neurons.next() else {
                    return wrong("no parameters", "one set a layer of neurons");
                };
                if !neurons.spikes.is_plain() {
                    let found = format!("{:?}", neurons.spikes);
                    return wrong(&found, "plain spikes, the only ones that NIR knows");
                }
                if neurons.charges().contains(&0.0) {
                    let expected = "others, since the weights behind hold them";
                    return wrong("a charge of 0", expected);
                }
                let lost = |&&exact: &&f32| leak(time_constant(exact, DT), DT) != exact;
                if let Some(lost) = neurons.leak.iter().find(lost) {
                    let expected = "one that a time constant can say, from 1e-7 on";
                    return wrong(&format!("a leak of {lost}"), expected);
                }
                let Ok(json) = serde_json::to_string(neurons) else {
                    return wrong("parameters", "those that JSON can hold");
                };
                Ok(self.neurons(wire, neurons, json))
            }
        }
    }

    /// Outputs whose values add up in the node that takes them.
    fn sum(&mut self, wires: Vec<Wire>, last: Wire) -> Wire {
        let mut wires = [wires, vec![last.clone()]].concat();
        if wires.iter().any(|wire| wire.axes.flat) {
            wires = wires.into_iter().map(|wire| self.flat(wire)).collect();
        }
        let differ = wires.iter().any(|wire| wire.charge != last.charge);
        let mut sum = Wire { from: Vec::new(), bias: None, weights: None, ..last };
        for mut wire in wires {
            // Two edges between the same nodes would be one.
            let same = wire.from.iter().any(|from| sum.from.contains(from));
            if same || differ && wire.charge[..] != [1.0] {
                // It takes spikes with their charge, and is no layer of weights of the network.
                let weights = wire.weights;
                wire = Wire { weights, ..self.identity(wire) };
            }
            sum = Wire {
                from: [sum.from, wire.from].concat(),
                bias: sum.bias.or(wire.bias),
                weights: sum.weights.or(wire.weights),
                ..wire
            };
        }
        sum
    }

    /// Adds a convolution or a linear layer whose output has `shape`. Sizes of weights are outputs,
    /// inputs and, for a convolution, twice the side of the kernel.
    fn weights(
        &mut self,
        wire: Wire,
        (weight, bias): (impl Into<Cow<'a, [f32]>>, &Option<Vec<f32>>),
        sizes: Vec<usize>,
        (window, groups): (Window, usize),
        shape: Shape,
    ) -> Wire {
        let flat = sizes.len() == 2;
        let mut wire = if flat { self.flat(wire) } else { wire };
        let (input, outputs, node) = (wire.axes.shape, sizes[0], self.nodes.len());
        let charge = std::mem::replace(&mut wire.charge, vec![1.0]);
        (wire.axes, wire.bias) = (Axes { shape, flat }, Some(node));
        wire.weights = Some(node);
        let (weight, kind) = (weight.into(), if flat { "Linear" } else { "Conv2d" });
        let wire = self.add(wire, kind, move |group| {
            // Each output has the weights, and so the charges, of the inputs of its group.
            let each = weight.len() / outputs;
            let charges: Vec<f32> = spread(&charge, each * groups).collect();
            let groups_of = |o: usize| &charges[o * groups / outputs * each..][..each];
            // Exact: the product of two `f32` fits in an `f64`.
            let charged = weight.chunks_exact(each).enumerate().flat_map(|(o, weights)| {
                let charged = weights.iter().zip(groups_of(o));
                charged.map(|(&weight, &charge)| f64::from(weight) * f64::from(charge))
            });
            let charged: Vec<f64> = charged.collect();
            if flat {
                return floats(group, "weight", &charged, &sizes);
            }
            integers(group, "input_shape", &[input.height, input.width]);
            floats(group, "weight", &charged, &sizes);
            integers(group, "stride", &window.stride);
            integers(group, "padding", &window.padding[..2]);
            integers(group, "dilation", &window.dilation);
            integer(group, "groups", groups as i64);
        });
        let bias = bias.as_ref();
        let bias = bias.map(|bias| bias.iter().map(|&b| b.into()).collect());
        self.nodes[node].bias = bias.or_else(|| (!flat).then(|| vec![0.0; outputs]));
        wire
    }

    /// Adds weights that only hold the charge of the spikes.
    fn identity(&mut self, wire: Wire) -> Wire {
        let Axes { shape, flat } = wire.axes;
        let sizes = match flat {
            true => vec![shape.size(); 2],
            false => vec![shape.channels, shape.channels, 1, 1],
        };
        let weight: Vec<f32> = identity(sizes[0]).collect();
        self.weights(wire, (weight, &None), sizes, (Window::ONE, 1), shape)
    }

    fn flat(&mut self, mut wire: Wire) -> Wire {
        if wire.axes.flat {
            return wire;
        }
        let sizes = wire.axes.sizes();
        wire.axes.flat = true;
        self.add(wire, "Flatten", move |group| {
            integers(group, "input_type", &sizes);
            // Counted from the last, so that programs that put a batch before them keep it.
            integer(group, "start_dim", -(sizes.len() as i64));
            integer(group, "end_dim", -1);
        })
    }

    fn neurons(&mut self, mut wire: Wire, neurons: &'a Neurons, json: String) -> Wire {
        let flows = neurons.current.iter().any(|&current| current != 0.0);
        if wire.charge[..] != [1.0] || flows && wire.bias.is_none() {
            wire = self.identity(wire);
        }
        let sizes = wire.axes.sizes();
        if let Some(node) = wire.bias.filter(|_| flows) {
            let bias = &mut self.nodes[node].bias;
            let bias = bias.get_or_insert_with(|| vec![0.0; sizes[0]]);
            add_current(bias, &neurons.current, 1.0);
        }
        let leaks = neurons.leak.iter().any(|&leak| leak != 1.0);
        // snnTorch gives an `IF` a leak of 0.9.
        let leaks = leaks || self.importer == Some(Importer::SnnTorch);
        let kind = if leaks { "LIF" } else { "IF" };
        wire.charge = neurons.charges().to_vec();
        (wire.bias, wire.weights) = (None, None);
        self.add(wire, kind, move |group| {
            let mut resistance = vec![1.0 / DT];
            if leaks {
                let constants = neurons.leak.iter().map(|&leak| match leak == 1.0 {
                    true => NO_LEAK * DT,
                    false => time_constant(leak, DT),
                });
                let constants: Vec<f64> = constants.collect();
                per_neuron(group, "tau", &constants, &sizes);
                per_neuron(group, "v_leak", &[0.0], &sizes);
                resistance = constants.iter().map(|constant| constant / DT).collect();
            }
            per_neuron(group, "r", &resistance, &sizes);
            let thresholds = neurons.threshold.iter();
            let thresholds: Vec<f64> = thresholds.map(|x| x.next_down().into()).collect();
            per_neuron(group, "v_threshold", &thresholds, &sizes);
            per_neuron(group, "v_reset", &[0.0], &sizes);
            subgroup(group, "metadata", |group| text(group, METADATA, &json));
        })
    }

    fn bytes(&self) -> std::result::Result<Vec<u8>, hdf5_pure::Error> {
        let count = self.nodes.len();
        // Zeros in front make HDF5's order of groups, the alphabet's, that of the numbers.
        let digits = count.to_string().len();
        let names = (0..count).map(|node| format!("layer{node:0digits$}"));
        let mut names: Vec<String> = names.collect();
        names[0] = "input".into();
        names[count - 1] = "output".into();
        let nodes = names.iter().zip(&self.nodes);
        let mut edges = Vec::new();
        for (name, node) in nodes.clone() {
            edges.extend(node.from.iter().flat_map(|&from| [&*names[from], name]));
        }
        let mut file = FileBuilder::new();
        let version = file.create_dataset("version");
        version.with_vlen_strings(&[VERSION]).with_shape(&[]);
        let mut graph = file.create_group("node");
        text(&mut graph, "type", "NIRGraph");
        subgroup(&mut graph, "metadata", |group| floats(group, "dt", &[DT], &[]));
        let dataset = graph.create_dataset("edges").with_vlen_strings(&edges);
        dataset.with_shape(&[edges.len() as u64 / 2, 2]);
        subgroup(&mut graph, "nodes", |group| {
            nodes.for_each(|(name, node)| subgroup(group, name, |group| node.write(group)));
        });
        file.add_group(graph.finish());
        file.finish()
    }
}

impl Node<'_> {
    fn write(&self, group: &mut GroupBuilder) {
        let affine = self.kind == "Linear" && self.bias.is_some();
        text(group, "type", if affine { "Affine" } else { self.kind });
        (self.write)(group);
        if let Some(bias) = &self.bias {
            floats(group, "bias", bias, &[bias.len()]);
        }
    }
}

pub(super) fn subgroup(group: &mut GroupBuilder, name: &str, fill: impl FnOnce(&mut GroupBuilder)) {
    let mut inner = group.create_group(name);
    fill(&mut inner);
    group.add_group(inner.finish());
}

pub(super) fn text(group: &mut GroupBuilder, name: &str, text: &str) {
    let dataset = group.create_dataset(name);
    dataset.with_vlen_strings(&[text]).with_shape(&[]);
}

fn integer(group: &mut GroupBuilder, name: &str, value: i64) {
    let dataset = group.create_dataset(name);
    dataset.with_i64_data(&[value]).with_shape(&[]);
}

pub(super) fn integers(group: &mut GroupBuilder, name: &str, values: &[usize]) {
    let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
    group.create_dataset(name).with_i64_data(&values);
}

/// Writes values in single precision where that is exact.
pub(super) fn floats(group: &mut GroupBuilder, name: &str, values: &[f64], sizes: &[usize]) {
    let single: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let exact = single.iter().zip(values).all(|(&a, &b)| f64::from(a) == b);
    let dataset = group.create_dataset(name);
    match exact {
        true => dataset.with_f32_data(&single),
        false => dataset.with_f64_data(values),
    };
    dataset.with_shape(&extents(sizes));
}

/// Writes one value per layer or one per channel as one per neuron.
fn per_neuron(group: &mut GroupBuilder, name: &str, values: &[f64], sizes: &[usize]) {
    let all: Vec<f64> = spread(values, sizes.iter().product()).collect();
    let dataset = group.create_dataset(name);
    dataset.with_f64_data(&all).with_shape(&extents(sizes));
    // Most values are equal.
    dataset.with_shuffle().with_deflate(6);
}

fn extents(sizes: &[usize]) -> Vec<u64> {
    sizes.iter().map(|&size| size as u64).collect()
}
