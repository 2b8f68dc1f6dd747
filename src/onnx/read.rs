//! Reading of a network from an ONNX file.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use super::fold::{self, fold};
use super::layout::{Activation, Along, CHANNELS_LAST, IMAGE};
use super::model::{Model, Node, Port, TensorProto, own};
use super::node::{NodeReader, Value, place, quoted};
use super::operators::{self, Network, reason};
use super::source::source;
use super::tensor::{self, Budget, Tensor};
use crate::ann::graph::Graph;
use crate::ann::layers::{Axis, Layer, MOST_VALUES, Window};
use crate::base::{Error, Result, Table};
use crate::data::Shape;

/// Versions of ONNX's operators that are read.
const VERSIONS: std::ops::RangeInclusive<i64> = 7..=26;

/// Network of an ONNX file.
#[derive(Clone)]
pub struct Onnx {
    /// Layers of the network, which end in one value a class.
    pub graph: Graph,
    /// Whether the file's input has its channels last, as in Keras; the graph has them first.
    pub channels_last: bool,
    /// What became of nodes that are no layers, a line each.
    pub notes: Vec<String>,
    /// Softmax that the file has behind the last layer, and whether it gives logarithms.
    pub(super) softmax: Option<bool>,
}

impl Onnx {
    /// Reads the network of an ONNX file. See [`onnx`](mod@crate::onnx).
    ///
    /// `input` is the shape of an image, for a file that leaves it open or takes a row of pixels;
    /// none if the file says it.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged or is no ONNX model; an image shape that the file does
    /// not say or has otherwise; a node or an attribute that evospike has no layer for, or that does
    /// not fit the values it takes; more memory than the file justifies.
    pub fn read(path: impl AsRef<Path>, input: Option<Shape>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        if let Some((found, expected)) = other_format(&bytes) {
            return Err(Error::data(path.display(), "format", found, expected));
        }
        let model = Model::read(path, &bytes)?;
        let budget = Budget::new(bytes.len());
        Reader { path, model: &model }.network(input, budget)
    }

    /// The network for images whose channels are in the opposite order: blue, green, red for a
    /// network of red, green, blue, and the other way round.
    pub fn with_channels_reversed(&self) -> Self {
        let input = self.graph.input;
        let (inputs, outputs) = (input.channels, input.channels);
        let mut weight = vec![0.0; inputs * outputs];
        (0..inputs).for_each(|channel| weight[(channel + 1) * inputs - 1 - channel] = 1.0);
        let (bias, window) = (None, Window::ONE);
        let turn = Layer::Conv { weight, bias, inputs, outputs, window, groups: 1 };
        let mut graph = Graph::new(input);
        graph.add("channels reversed", turn, [0]);
        for node in &self.graph.nodes {
            let inputs: Vec<usize> = node.inputs.iter().map(|value| value + 1).collect();
            graph.add(node.name.clone(), node.layer.clone(), inputs);
        }
        Self { graph, ..self.clone() }
    }

    /// The layers with batch normalisation folded into the weights before it.
    pub(super) fn folded(&self) -> Result<Graph> {
        let mut graph = self.graph.clone();
        graph.fold()?;
        Ok(graph)
    }

    /// The layers, with the shapes that they give, their weights and multiply-accumulates.
    ///
    /// # Errors
    /// A layer that does not fit what it takes, after a change of [`graph`](Self::graph).
    pub fn table(&self) -> Result<Table> {
        self.graph.shapes()?;
        Ok(self.graph.table("ONNX file"))
    }

    /// Names of the layers of batch normalisation that are folded into the weights before them.
    ///
    /// # Errors
    /// A layer that does not fit what it takes, after a change of [`graph`](Self::graph).
    pub fn folds(&self) -> Result<Vec<String>> {
        self.graph.clone().fold()
    }

    /// Source of the network as a typed one ([`network!`](crate::network)), with which it can be
    /// trained; or else the first layer that no typed one is.
    ///
    /// # Errors
    /// A layer that does not fit what it takes, after a change of [`graph`](Self::graph).
    pub fn source(&self) -> Result<Result<String, String>> {
        Ok(source(&self.graph, &self.graph.shapes()?))
    }
}

/// What a file is that is no ONNX, and how to get one.
fn other_format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const PYTORCH: &str = "an ONNX file: in Python, with the model that the weights belong to, \
        `torch.onnx.export(model.eval(), torch.zeros(1, 3, 32, 32), \"model.onnx\", dynamo=False)` \
        for images of 3 x 32 x 32";
    const KERAS: &str = "an ONNX file: in Python, `model.export(\"model.onnx\", format=\"onnx\")`, or \
        `python3 -m tf2onnx.convert`";
    const WEIGHTS: &str = "an ONNX file, which has the layers as well; a typed network (`network!`) \
        takes the weights alone: `Ann::load`";
    let json = bytes.get(8) == Some(&b'{') && bytes.get(4..8) == Some(&[0; 4]);
    let mark = |mark: &[u8]| bytes.starts_with(mark);
    let has = |name: &[u8]| bytes.windows(name.len()).take(1 << 16).any(|window| window == name);
    Some(match () {
        () if mark(b"PK") && (has(b"config.json") || has(b"model.weights.h5")) => {
            ("a file of Keras", KERAS)
        }
        () if mark(b"PK") || mark(b"\x80\x02") => {
            ("a file of PyTorch, or another archive or pickle", PYTORCH)
        }
        () if mark(b"\x89HDF") => ("an HDF5 file, such as Keras writes", KERAS),
        () if bytes.get(4..8) == Some(b"TFL3") => ("a file of TensorFlow Lite", KERAS),
        () if json => ("a safetensors file", WEIGHTS),
        () if bytes.is_empty() => ("no bytes", "an ONNX file"),
        () => return None,
    })
}

struct Reader<'a> {
    path: &'a Path,
    model: &'a Model<'a>,
}

impl<'a> Reader<'a> {
    fn wrong(&self, place: impl ToString, found: impl ToString, expected: impl ToString) -> Error {
        Error::data(self.path.display(), place, found, expected)
    }

    fn network(&self, input: Option<Shape>, budget: Budget) -> Result<Onnx> {
        let opset = self.model.opset;
        if !VERSIONS.contains(&opset) {
            let expected = format!("{} to {}", VERSIONS.start(), VERSIONS.end());
            return Err(self.wrong("opset", opset, expected));
        }
        let initialisers: HashMap<&str, &TensorProto<'_>> =
            self.model.initialisers.iter().map(|tensor| (tensor.name, tensor)).collect();
        let [output] = &self.model.outputs[..] else {
            let names: Vec<&str> = self.model.outputs.iter().map(|port| port.name).collect();
            return Err(self.wrong("outputs", quoted(&names), "one, the logits"));
        };
        // Before version 4 of the format, every initialiser is an input too.
        let mut inputs = self.model.inputs.iter();
        let inputs: Vec<&Port<'_>> =
            inputs.by_ref().filter(|port| !initialisers.contains_key(port.name)).collect();
        let [port] = inputs[..] else {
            let names: Vec<&str> = inputs.iter().map(|port| port.name).collect();
            return Err(self.wrong("inputs", quoted(&names), "one, the images"));
        };
        let nodes = self.needed(output.name);
        let (image, channels_last) = self.image(port, input, &nodes)?;
        let mut network = Network::new(image.shape, budget);
        let mut values: HashMap<&str, Value> = HashMap::new();
        values.insert(port.name, Value::Activation(image));
        let mut folded = 0;
        for node in &nodes {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for name in &node.inputs {
                inputs.push(match (*name, values.get(name), initialisers.get(name)) {
                    ("", ..) => None,
                    (_, Some(value), _) => Some(value.clone()),
                    (_, None, Some(tensor)) => {
                        let tensor = Rc::new(tensor::read(self.path, tensor, &mut network.budget)?);
                        values.insert(name, Value::Constant(tensor.clone()));
                        Some(Value::Constant(tensor))
                    }
                    (name, None, None) => {
                        let found = format!("input `{name}`");
                        let expected = "the image, a constant, or an output of a node before it";
                        return Err(self.wrong(place(node), found, expected));
                    }
                });
            }
            // Optional inputs at the end that are left out.
            while let Some(None) = inputs.last() {
                inputs.pop();
            }
            let reader = NodeReader::new(self.path, node, inputs);
            let outputs = self.outputs(&reader, &mut network)?;
            if let Some(Value::Constant(_)) = outputs.first() {
                folded += 1;
            }
            reader.no_other_attribute()?;
            for (name, value) in node.outputs.iter().zip(outputs) {
                if values.insert(name, value).is_some() {
                    let found = format!("output `{name}`");
                    return Err(self.wrong(place(node), found, "a name of its own"));
                }
            }
        }
        if folded > 0 {
            network.notes.push(format!("{folded} nodes: computed, since they depend on no image"));
        }
        let Some(Value::Activation(last)) = values.get(output.name) else {
            let found = "no node that gives it";
            return Err(self.wrong(
                format!("output `{}`", output.name),
                found,
                "logits of the image",
            ));
        };
        let (last, Shape { height, width, .. }) = (last.clone(), last.shape);
        if last.view.is_some() || (height, width) != (1, 1) || last.value == 0 {
            let place = format!("output `{}`", output.name);
            return Err(self.wrong(place, format!("values of {last}"), "one value a class"));
        }
        let softmax = nodes.iter().rev().find_map(|node| match node.operator {
            "Softmax" => Some(false),
            "LogSoftmax" => Some(true),
            _ => None,
        });
        let graph = tidy(network.graph, last.value);
        Ok(Onnx { graph, channels_last, notes: network.notes, softmax })
    }

    /// Outputs of a node.
    fn outputs(&self, node: &NodeReader<'_>, network: &mut Network) -> Result<Vec<Value>> {
        let operator = node.node.operator;
        let unknown = || {
            let domain = node.node.domain;
            let found = match own(domain) {
                true => format!("operator `{operator}`"),
                false => format!("operator `{operator}` of `{domain}`"),
            };
            let mut known: Vec<&str> = [operators::OPERATORS, fold::OPERATORS].concat();
            known.sort_unstable();
            match reason(operator) {
                Some(reason) => node.wrong(found, reason),
                None => node.wrong(found, format!("one of {}", known.join(", "))),
            }
        };
        if !own(node.node.domain) {
            return Err(unknown());
        }
        let shape_of = |value: &Value| match value {
            Value::Constant(tensor) => tensor.shape.clone(),
            Value::Activation(activation) => activation.sizes(),
        };
        let ints = |values: Vec<i64>, shape| Tensor { shape, ..Tensor::ints(values) };
        let constant = |tensor: Tensor| vec![Value::Constant(Rc::new(tensor))];
        match (operator, node.inputs.first()) {
            ("Shape", Some(Some(value))) => {
                let sizes: Vec<i64> = shape_of(value).iter().map(|&size| size as i64).collect();
                let rank = sizes.len() as i64;
                let within =
                    |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank);
                let start = within(node.int("start", 0)?) as usize;
                let end = within(node.int("end", rank)?) as usize;
                let sizes = sizes.get(start..end).unwrap_or_default().to_vec();
                return Ok(constant(Tensor::ints(sizes)));
            }
            ("Size", Some(Some(value))) => {
                let size: usize = shape_of(value).iter().product();
                return Ok(constant(ints(vec![size as i64], Vec::new())));
            }
            ("Softmax" | "LogSoftmax", _) if !self.ends(&node.node.outputs) => {
                let expected = "no softmax, or one at the end, where it changes no prediction";
                return Err(node.wrong(format!("operator `{operator}` before others"), expected));
            }
            _ => (),
        }
        let depends = |value: &Option<Value>| matches!(value, Some(Value::Activation(_)));
        if node.inputs.iter().any(depends) {
            let outputs = network.apply(node, self.model.opset)?.ok_or_else(unknown)?;
            return Ok(outputs.into_iter().map(Value::Activation).collect());
        }
        fold(node, &mut network.budget)?.map(constant).ok_or_else(unknown)
    }

    /// Whether nothing but names of axes follows these values.
    fn ends(&self, names: &[&str]) -> bool {
        let mut last: HashSet<&str> = names.iter().copied().collect();
        for node in &self.model.nodes {
            if node.inputs.iter().any(|name| last.contains(name)) {
                let passes = ["Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"];
                if !passes.contains(&node.operator) {
                    return false;
                }
                last.extend(&node.outputs);
            }
        }
        true
    }

    /// Nodes that an output depends on, in the order of the file.
    fn needed(&self, output: &'a str) -> Vec<&'a Node<'a>> {
        let mut givers: HashMap<&str, usize> = HashMap::new();
        for (number, node) in self.model.nodes.iter().enumerate() {
            givers.extend(
                node.outputs.iter().filter(|name| !name.is_empty()).map(|name| (*name, number)),
            );
        }
        let (mut needed, mut left) = (vec![false; self.model.nodes.len()], vec![output]);
        while let Some(name) = left.pop() {
            if let Some(&number) = givers.get(name)
                && !std::mem::replace(&mut needed[number], true)
            {
                left.extend(&self.model.nodes[number].inputs);
            }
        }
        let nodes = self.model.nodes.iter().zip(needed);
        nodes.filter(|(_, needed)| *needed).map(|(node, _)| node).collect()
    }

    /// The image that an input is, and whether its channels are last.
    fn image(
        &self,
        port: &Port<'_>,
        said: Option<Shape>,
        nodes: &[&Node<'_>],
    ) -> Result<(Activation, bool)> {
        let shown = |dims: &[Option<i64>]| {
            let sizes = dims.iter().map(|size| size.map_or("?".into(), |size| size.to_string()));
            format!("[{}]", sizes.collect::<Vec<_>>().join(", "))
        };
        let place = format!("input `{}`", port.name);
        let Some(dims) = &port.dims else {
            return Err(self.wrong(place, "no shape", "batch, channels, rows, columns"));
        };
        let found = format!("shape {}", shown(dims));
        let fail = |expected: String| self.wrong(&place, &found, expected);
        let (mut axes, last): (Vec<Along>, bool) = match dims.len() {
            2 => (IMAGE[..2].to_vec(), false),
            // A signal of channels, or an image of one.
            3 if self.first(port.name, nodes).is_some_and(|node| node.operator == "Conv") => {
                (vec![IMAGE[0], IMAGE[1], IMAGE[3]], false)
            }
            3 => (vec![IMAGE[0], IMAGE[2], IMAGE[3]], false),
            4 if self.channels_last(port.name, dims, nodes) => (CHANNELS_LAST.to_vec(), true),
            4 => (IMAGE.to_vec(), false),
            _ => return Err(fail("2 to 4 dimensions, a batch of images".into())),
        };
        let mut shape = Shape::new(1, 1, 1);
        let mut batch = 1;
        for (&axis, size) in axes.iter().zip(dims) {
            let own = match axis {
                None => {
                    // Any number may be open here.
                    batch = size.map_or(1, |size| usize::try_from(size).unwrap_or(usize::MAX));
                    continue;
                }
                Some(Axis::Channels) => &mut shape.channels,
                Some(Axis::Rows) => &mut shape.height,
                Some(Axis::Columns) => &mut shape.width,
            };
            let of_said = said.map(|said| match axis {
                _ if dims.len() == 2 => said.size(),
                Some(Axis::Rows) => said.height,
                Some(Axis::Columns) => said.width,
                _ => said.channels,
            });
            *own = match (size, of_said) {
                (Some(size), _) => usize::try_from(*size).unwrap_or(usize::MAX),
                (None, Some(said)) => said,
                (None, None) => {
                    let expected =
                        "sizes of an image: evospike import --input 3x224x224, or a task";
                    return Err(fail(format!("{expected}, such as Classify<3, 224, 1000>")));
                }
            };
        }
        if let Some(said) = said {
            if dims.len() == 2 && shape.size() == said.size() {
                (axes, shape) = (vec![IMAGE[0]], said);
            }
            if shape != said {
                return Err(fail(format!("images of {said}")));
            }
        }
        let sizes = [shape.channels, shape.height, shape.width, batch];
        let mut all = sizes.iter();
        let all = all.try_fold(1usize, |all, &size| all.checked_mul(size));
        if !all.is_some_and(|all| (1..=MOST_VALUES).contains(&all)) {
            return Err(fail(format!("1 to {MOST_VALUES} values")));
        }
        let mut image = Activation::new(0, shape, batch, &axes);
        if image.dims.len() < dims.len() {
            let mut flat = Activation::new(0, shape, batch, &IMAGE[1..]).dims.concat();
            flat.retain(Option::is_some);
            image.dims.push(flat);
        }
        Ok((image, last))
    }

    /// The first node that tells the order of an image's axes, from the image on.
    fn first<'n>(&self, input: &str, nodes: &[&'n Node<'n>]) -> Option<&'n Node<'n>> {
        let mut name = input;
        for node in nodes {
            if node.inputs.contains(&name) {
                match node.operator {
                    "Add" | "Cast" | "Div" | "Identity" | "Mul" | "Pad" | "Sub" => {
                        name = node.outputs.first()?;
                    }
                    "Shape" => (),
                    _ => return Some(node),
                }
            }
        }
        None
    }

    /// Whether an image of four dimensions has its channels last: the first thing that is done to it
    /// is to move them, or its sizes look so and no convolution takes it as it is.
    fn channels_last(&self, input: &str, dims: &[Option<i64>], nodes: &[&Node<'_>]) -> bool {
        let first = self.first(input, nodes);
        let moves = first.is_some_and(|node| {
            node.operator == "Transpose"
                && node.attributes.iter().any(|(name, value)| {
                    let super::model::Attribute::Ints(order) = value else { return false };
                    *name == "perm" && order == &[0, 3, 1, 2]
                })
        });
        let colours = |size: Option<i64>| matches!(size, Some(1 | 3));
        let looks = colours(dims[3]) && !colours(dims[1]);
        let windows = first
            .is_some_and(|node| node.operator.contains("Conv") || node.operator.contains("Pool"));
        moves || looks && !windows
    }
}

/// The graph that ends in a value: without layers that nothing takes, with constants that are added
/// behind weights as their bias, and with a bound behind ReLU as one layer.
fn tidy(mut graph: Graph, last: usize) -> Graph {
    graph.nodes.truncate(last);
    let mut uses = vec![0; last + 1];
    uses[last] = 1;
    // Every layer stands behind those that it takes.
    for number in (0..last).rev() {
        if uses[number + 1] > 0 {
            graph.nodes[number].inputs.iter().for_each(|&value| uses[value] += 1);
        }
    }
    // Number of each value in the graph that is left.
    let mut place = vec![0; last + 1];
    let mut tidied = Graph::new(graph.input);
    for (number, mut node) in graph.nodes.into_iter().enumerate() {
        if uses[number + 1] == 0 {
            continue;
        }
        let before = node.inputs[0];
        node.inputs.iter_mut().for_each(|value| *value = place[*value]);
        let alone = before > 0 && uses[before] == 1;
        let joined = alone && join(&mut tidied.nodes[place[before] - 1].layer, &node.layer);
        if !joined {
            tidied.nodes.push(node);
        }
        place[number + 1] = if joined { place[before] } else { tidied.nodes.len() };
    }
    tidied
}

/// Whether a layer does what one behind it does as well.
fn join(layer: &mut Layer, next: &Layer) -> bool {
    match (layer, next) {
        (
            Layer::Conv { bias, outputs, .. } | Layer::Linear { bias, outputs, .. },
            Layer::ScaleShift { scale, shift },
        ) if scale.iter().all(|&scale| scale == 1.0) => {
            let bias = bias.get_or_insert_with(|| vec![0.0; *outputs]);
            bias.iter_mut().zip(shift).for_each(|(bias, shift)| *bias += shift);
            true
        }
        (Layer::Clipped { bound }, Layer::Clipped { bound: other }) => {
            *bound = bound.min(*other);
            true
        }
        (layer @ Layer::Neurons, Layer::Clipped { bound }) => {
            *layer = Layer::Clipped { bound: *bound };
            true
        }
        _ => false,
    }
}
