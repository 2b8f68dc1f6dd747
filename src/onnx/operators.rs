//! Nodes that depend on the image: what layer each becomes.

use super::fold::{order, reshaped, slices, squeezed, unsqueezed};
use super::layout::{Activation, Along, IMAGE};
use super::node::{NodeReader, Value};
use super::tensor::{Budget, Tensor, is_float};
use crate::ann::graph::Graph;
use crate::ann::layers::{Axis, CHANNELS_FIRST, Layer, Window};
use crate::base::{Error, Result};
use crate::data::Shape;

/// Operators that become layers, or nothing, beside those that are computed while the file is read.
pub(super) const OPERATORS: &[&str] = &[
    "AveragePool",
    "BatchNormalization",
    "Clip",
    "Conv",
    "Dropout",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Pad",
    "ReduceMean",
    "Relu",
    "Softmax",
    "Split",
    "Sum",
];

/// Why an operator that others ask for is none of [`OPERATORS`].
pub(super) fn reason(operator: &str) -> Option<&'static str> {
    const REASONS: [(&[&str], &str); 7] = [
        (
            &[
                "Celu",
                "Elu",
                "Erf",
                "Gelu",
                "HardSigmoid",
                "HardSwish",
                "LeakyRelu",
                "Mish",
                "PRelu",
                "Selu",
                "Sigmoid",
                "Softplus",
                "Softsign",
                "Swish",
                "Tanh",
                "ThresholdedRelu",
            ],
            "ReLU, or Clip from 0, the activations that neurons come to by their rate: train the \
             network with one of these",
        ),
        (
            &["Attention", "GRU", "LSTM", "MultiHeadAttention", "RNN", "Scan", "Loop", "If"],
            "a feed-forward network whose weights do not depend on the image",
        ),
        (
            &[
                "GroupNormalization",
                "InstanceNormalization",
                "LayerNormalization",
                "LRN",
                "LpNormalization",
                "RMSNormalization",
            ],
            "BatchNormalization, which is the same for all images",
        ),
        (
            &[
                "ConvInteger",
                "DequantizeLinear",
                "DynamicQuantizeLinear",
                "MatMulInteger",
                "QLinearConv",
                "QLinearMatMul",
                "QuantizeLinear",
            ],
            "the network before it was quantised",
        ),
        (
            &["ConvTranspose", "DepthToSpace", "Resize", "Upsample"],
            "a network that classifies images",
        ),
        (&["ArgMax", "TopK"], "a network that ends in its logits, one value a class"),
        (&["FusedConv", "FusedMatMul", "FusedGemm"], "a file that ONNX Runtime has not optimised"),
    ];
    REASONS.iter().find(|(operators, _)| operators.contains(&operator)).map(|reason| reason.1)
}

/// The network that is being read.
pub(super) struct Network {
    pub graph: Graph,
    /// Shape of every value of the graph, the image's first.
    pub shapes: Vec<Shape>,
    /// Whether a value is never negative.
    pub positive: Vec<bool>,
    pub budget: Budget,
    /// What became of nodes that are no layers of their own.
    pub notes: Vec<String>,
}

impl Network {
    pub fn new(input: Shape, budget: Budget) -> Self {
        Self {
            graph: Graph::new(input),
            shapes: vec![input],
            positive: vec![false],
            budget,
            notes: Vec::new(),
        }
    }

    /// Takes the image for another shape of as many values, if nothing has used it yet.
    fn reshape_input(&mut self, shape: Shape) -> bool {
        let fits = self.shapes.len() == 1 && self.shapes[0].size() == shape.size();
        if fits {
            self.graph.input = shape;
            self.shapes[0] = shape;
        }
        fits
    }

    /// Adds a layer; returns the number of its output.
    pub fn add(&mut self, node: &NodeReader<'_>, layer: Layer, inputs: &[usize]) -> Result<usize> {
        let named = [node.node.name, node.node.outputs[0]];
        let name = named.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let shapes: Vec<Shape> = inputs.iter().map(|&value| self.shapes[value]).collect();
        let shape =
            layer.output(self.graph.nodes.len(), name, &shapes).map_err(|error| match error {
                Error::Layer { found, expected, .. } => node.wrong(found, expected),
                other => other,
            })?;
        let positive = match &layer {
            Layer::Neurons | Layer::Clipped { .. } => true,
            Layer::AvgPool { .. } | Layer::MaxPool { .. } | Layer::Sum | Layer::Concat => {
                inputs.iter().all(|&value| self.positive[value])
            }
            _ => false,
        };
        self.shapes.push(shape);
        self.positive.push(positive);
        Ok(self.graph.add(name, layer, inputs))
    }

    /// Adds a layer that keeps the layout of what it takes.
    pub fn then(
        &mut self,
        node: &NodeReader<'_>,
        layer: Layer,
        of: &Activation,
    ) -> Result<Activation> {
        let of = self.settled(node, of)?;
        let value = self.add(node, layer, &[of.value])?;
        Ok(of.moved(value, self.shapes[value]))
    }

    /// The values that a node with an input that depends on the image gives; none for an operator
    /// that is not known.
    ///
    /// # Errors
    /// Inputs or attributes that do not fit, or that no layer has.
    pub fn apply(&mut self, node: &NodeReader<'_>, opset: i64) -> Result<Option<Vec<Activation>>> {
        let output = match node.node.operator {
            "Conv" => self.conv(node)?,
            "BatchNormalization" => self.normalise(node)?,
            "Relu" => self.clip(node, 0, Some(0.0), None)?,
            "Clip" => {
                let bounds = (node.float_or_input("min", 1)?, node.float_or_input("max", 2)?);
                self.clip(node, 0, bounds.0, bounds.1)?
            }
            "Max" | "Min" => self.bound(node)?,
            "MaxPool" | "AveragePool" => self.pool(node)?,
            "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" | "ReduceMax" => {
                self.reduce(node)?
            }
            "Gemm" => self.gemm(node)?,
            "MatMul" => {
                let weight = node.constant(1)?;
                self.linear(node, weight.transposed(&rank_2(node, weight)?), None)?
            }
            "Add" | "Sum" | "Sub" | "Mul" | "Div" => self.arithmetic(node)?,
            "Neg" => {
                let of = node.activation(0)?;
                let shape = self.settled(node, of)?.shape;
                self.scale(node, of, vec![-1.0; shape.channels], vec![0.0; shape.channels])?
            }
            "Concat" => self.concat(node)?,
            "Pad" => self.pad(node)?,
            "Slice" => {
                let of = node.activation(0)?;
                let slices = slices(node, &of.sizes())?;
                self.sliced(node, of, &slices)?
            }
            "Split" => return self.split(node).map(Some),
            "Gather" => self.gather(node)?,
            "Identity" => node.activation(0)?.clone(),
            "Dropout" => {
                let (_, _) = (node.float("ratio", 0.5)?, node.int("seed", 0)?);
                let trains = node.maybe_constant(2)?.is_some_and(|mode| mode.one() != Some(0.0));
                let expected = "a network that was exported for evaluation: model.eval()";
                node.require(!trains, "training mode", expected)?;
                self.note(node, "left out: it acts in training only");
                node.activation(0)?.clone()
            }
            "Cast" => {
                let to = node.int("to", 1)?;
                let _ = (node.int("saturate", 1)?, node.text("round_mode", "up")?);
                let found = format!("attribute `to` {to} for values that depend on the image");
                node.require(is_float(to), found, "a type of floating-point numbers")?;
                node.activation(0)?.clone()
            }
            "Softmax" | "LogSoftmax" => self.softmax(node, opset)?,
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" => self.relabel(node)?,
            _ => return Ok(None),
        };
        // Axes of size 1 take no values, but memory.
        node.take(&mut self.budget, &vec![1; output.dims.len()])?;
        Ok(Some(vec![output]))
    }

    fn note(&mut self, node: &NodeReader<'_>, what: impl std::fmt::Display) {
        self.notes.push(format!("{}: {what}", super::node::place(node.node)));
    }

    fn normalise(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let epsilon = f64::from(node.float("epsilon", 1e-5)?);
        node.float("momentum", 0.9)?;
        node.only("training_mode", 0)?;
        node.only("spatial", 1)?;
        let along = of.dims.len() > 1 && of.runs_over(1, Axis::Channels);
        node.require(along, format!("an input of {of}"), "channels as its second axis")?;
        let channels = of.shape.channels;
        let values = |number: usize| {
            let tensor = node.constant(number)?;
            let found = format!("{} of shape {:?}", node.input_name(number), tensor.shape);
            node.require(tensor.shape == [channels], found, format!("[{channels}]"))?;
            Ok(tensor.floats().into_iter().map(f64::from))
        };
        let factors = values(1)?
            .zip(values(4)?)
            .map(|(factor, variance)| factor / (variance + epsilon).sqrt());
        let factors: Vec<f64> = factors.collect();
        let shift = values(2)?.zip(values(3)?).zip(&factors);
        let shift = shift.map(|((bias, mean), factor)| (bias - mean * factor) as f32).collect();
        let factors = factors.into_iter().map(|factor| factor as f32).collect();
        self.scale(node, of, factors, shift)
    }

    fn scale(
        &mut self,
        node: &NodeReader<'_>,
        of: &Activation,
        scale: Vec<f32>,
        shift: Vec<f32>,
    ) -> Result<Activation> {
        self.then(node, Layer::ScaleShift { scale, shift }, of)
    }

    /// ReLU, with a bound or without.
    fn clip(
        &mut self,
        node: &NodeReader<'_>,
        number: usize,
        low: Option<f32>,
        high: Option<f32>,
    ) -> Result<Activation> {
        let of = node.activation(number)?;
        let positive = self.positive[of.value];
        let from_0 = match low {
            Some(low) => low == 0.0 || low < 0.0 && positive,
            None => positive,
        };
        let high = high.filter(|&high| high < f32::MAX);
        let shown = |bound: Option<f32>| bound.map_or("none".into(), |bound| bound.to_string());
        let found = format!("bounds {} and {}", shown(low), shown(high));
        let good = from_0 && high.is_none_or(|high| high > 0.0);
        node.require(
            good,
            found,
            "0 and a bound above 0, or none: spikes stand for values of 0 and above",
        )?;
        match high {
            None if positive => Ok(of.clone()),
            None => self.then(node, Layer::Neurons, of),
            Some(bound) => self.then(node, Layer::Clipped { bound }, of),
        }
    }

    /// `Max` or `Min` with a number.
    fn bound(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let constant =
            |number: usize| matches!(node.inputs.get(number), Some(Some(Value::Constant(_))));
        let of = usize::from(constant(0));
        let two = node.inputs.len() == 2 && constant(1 - of);
        node.require(two, "inputs that depend on the image", "one, and a number")?;
        let bound = node.constant(1 - of)?;
        let found = format!("bounds of shape {:?}", bound.shape);
        let bound = bound.one().ok_or_else(|| node.wrong(found, "one number"))?;
        match node.node.operator {
            "Max" => self.clip(node, of, Some(bound), None),
            _ => self.clip(node, of, None, Some(bound)),
        }
    }

    fn gemm(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        node.only("transA", 0)?;
        let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
        let weight = node.constant(1)?;
        let turned = rank_2(node, weight)?;
        let mut weight = match node.int("transB", 0)? {
            0 => weight.transposed(&turned),
            _ => weight.as_ref().clone(),
        };
        node.take(&mut self.budget, &weight.shape)?;
        if alpha != 1.0 {
            let values = weight.floats().into_iter().map(|value| value * alpha).collect();
            weight.values = super::tensor::Values::Floats(values);
        }
        let outputs = weight.shape[0];
        let bias = node.maybe_constant(2)?.map(|bias| {
            let values = bias.floats();
            let found = format!("{} of shape {:?}", node.input_name(2), bias.shape);
            let good =
                values.len() == 1 || values.len() == outputs && bias.shape.last() == Some(&outputs);
            node.require(good, found, format!("[{outputs}]"))?;
            let values = values.iter().cycle().take(outputs);
            Ok(values.map(|value| value * beta).collect())
        });
        self.linear(node, weight, bias.transpose()?)
    }

    /// Products with weights, outputs x inputs, along the last axis: a fully connected layer, or a
    /// 1 x 1 convolution where the last axis is the channels of an image.
    fn linear(
        &mut self,
        node: &NodeReader<'_>,
        weight: Tensor,
        bias: Option<Vec<f32>>,
    ) -> Result<Activation> {
        let of = self.settled(node, node.activation(0)?)?;
        node.take(&mut self.budget, &weight.shape)?;
        let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
        let Some((last, before)) = of.dims.split_last() else {
            return Err(node.wrong("a single value", "a row of them for each image"));
        };
        let size: usize = last.iter().map(|&axis| of.size_of(axis)).product();
        let found = format!("weights of {inputs} inputs and {outputs} outputs for {of}");
        node.require(size == inputs, found, format!("{size} inputs"))?;
        let mut image = of.axes().filter(Option::is_some);
        let layer = if image.all(|axis| last.contains(&axis)) && !last.contains(&None) {
            let mut order = last.iter().flatten().copied().collect::<Vec<_>>();
            order.extend(CHANNELS_FIRST.into_iter().filter(|axis| !last.contains(&Some(*axis))));
            let order = order.try_into().unwrap_or(CHANNELS_FIRST);
            Layer::Linear { weight: weight.floats(), bias, inputs, outputs, order }
        } else if of.runs_over(of.dims.len() - 1, Axis::Channels) {
            let weight = weight.floats();
            Layer::Conv { weight, bias, inputs, outputs, window: Window::ONE, groups: 1 }
        } else {
            let expected = "flattened images, or images whose last axis is the channels";
            return Err(node.wrong(format!("products along the last axis of {of}"), expected));
        };
        let dims = [before, &[vec![Some(Axis::Channels)]]].concat();
        let value = self.add(node, layer, &[of.value])?;
        Ok(of.with_dims(dims).moved(value, self.shapes[value]))
    }

    /// Sums of values that depend on the image, and constants added to one or multiplied by it.
    fn arithmetic(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let operator = node.node.operator;
        let constants =
            node.inputs.iter().filter(|input| matches!(input, Some(Value::Constant(_))));
        let constants = constants.count();
        if constants == 0 && matches!(operator, "Add" | "Sum" | "Sub") {
            return self.sum(node);
        }
        if constants != 1 || node.inputs.len() != 2 {
            let found = "a product or quotient of values that depend on the image";
            return Err(node.wrong(found, "a constant factor, as weights are"));
        }
        let first = matches!(node.inputs[0], Some(Value::Constant(_)));
        let of = node.activation(usize::from(first))?;
        let (of, values) = self.per_channel(node, of, node.constant(usize::from(!first))?)?;
        let all = |value: f32| vec![value; values.len()];
        let (scale, shift) = match (operator, first) {
            ("Mul", _) => (values.clone(), all(0.0)),
            ("Div", false) => (values.iter().map(|value| value.recip()).collect(), all(0.0)),
            ("Sub", false) => (all(1.0), values.iter().map(|value| -value).collect()),
            ("Sub", true) => (all(-1.0), values.clone()),
            ("Div", true) => {
                return Err(node
                    .wrong("a quotient by values that depend on the image", "a constant divisor"));
            }
            _ => (all(1.0), values.clone()),
        };
        self.scale(node, &of, scale, shift)
    }

    /// One value for each channel, from a constant that stretches to a value, and the value with as
    /// many axes as the constant.
    fn per_channel(
        &mut self,
        node: &NodeReader<'_>,
        of: &Activation,
        constant: &Tensor,
    ) -> Result<(Activation, Vec<f32>)> {
        let mut of = self.settled(node, of)?;
        let more = constant.shape.len().saturating_sub(of.dims.len());
        of.dims.splice(..0, vec![Vec::new(); more]);
        let channels = of.shape.channels;
        let before = of.dims.len() - constant.shape.len();
        let good =
            constant.shape.iter().zip(before..).all(|(&size, dim)| {
                size == 1 || size == channels && of.runs_over(dim, Axis::Channels)
            });
        let found = format!("a constant of shape {:?} for {of}", constant.shape);
        node.require(good, found, "one number, or one a channel")?;
        node.take(&mut self.budget, &[channels, 2])?;
        let values = constant.floats();
        Ok((of, if values.len() == 1 { vec![values[0]; channels] } else { values }))
    }

    fn sum(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let rank = (0..node.inputs.len()).map(|number| Ok(node.activation(number)?.dims.len()));
        let rank = rank.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default();
        let mut all: Vec<Activation> = Vec::with_capacity(node.inputs.len());
        for number in 0..node.inputs.len() {
            let mut of = self.settled(node, node.activation(number)?)?;
            of.dims.splice(..0, vec![Vec::new(); rank - of.dims.len()]);
            if let Some(first) = all.first() {
                let same = of.dims == first.dims && of.shape == first.shape;
                node.require(same, format!("inputs of {first} and {of}"), "inputs of one shape")?;
            }
            if number == 1 && node.node.operator == "Sub" {
                let channels = of.shape.channels;
                of = self.scale(node, &of, vec![-1.0; channels], vec![0.0; channels])?;
            }
            all.push(of);
        }
        let values: Vec<usize> = all.iter().map(|of| of.value).collect();
        let value = match values[..] {
            [one] => one,
            _ => self.add(node, Layer::Sum, &values)?,
        };
        Ok(all[0].moved(value, self.shapes[value]))
    }

    fn concat(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let mut all: Vec<Activation> = Vec::with_capacity(node.inputs.len());
        for number in 0..node.inputs.len() {
            all.push(self.settled(node, node.activation(number)?)?);
        }
        let Some(first) = all.first().cloned() else {
            return Err(node.wrong("no input", "one or more"));
        };
        let axis = node.axis(node.int("axis", 1)?, first.dims.len())?;
        for of in &all {
            let channels = of.dims.len() == first.dims.len() && of.runs_over(axis, Axis::Channels);
            node.require(channels, format!("axis {axis} of {of}"), "the channels")?;
            let rest = |of: &Activation| [&of.dims[..axis], &of.dims[axis + 1..]].concat();
            let found = format!("inputs of {first} and {of}");
            node.require(rest(of) == rest(&first), found, "images in one order of their axes")?;
        }
        let values: Vec<usize> = all.iter().map(|of| of.value).collect();
        let value = self.add(node, Layer::Concat, &values)?;
        let mut dims = first.dims.clone();
        dims[axis] = vec![Some(Axis::Channels)];
        Ok(first.with_dims(dims).moved(value, self.shapes[value]))
    }

    /// `Softmax` at the end, which changes no prediction: the caller has seen that nothing follows.
    fn softmax(&mut self, node: &NodeReader<'_>, opset: i64) -> Result<Activation> {
        let of = node.activation(0)?;
        let flattens = opset < 13;
        let axis = node.axis(node.int("axis", if flattens { 1 } else { -1 })?, of.dims.len())?;
        let end = if flattens { of.dims.len() } else { axis + 1 };
        let over: Vec<Along> = of.dims[axis..end].concat();
        let good = of.axes().all(|along| along.is_none() || over.contains(&along));
        node.require(good, format!("axis {axis} of {of}"), "the classes")?;
        self.note(node, "left out: the largest output is the same");
        Ok(of.clone())
    }

    /// Nodes that move no value.
    fn relabel(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let rank = of.dims.len();
        let dims = match node.node.operator {
            "Transpose" => order(node, rank)?.iter().map(|&axis| of.dims[axis].clone()).collect(),
            "Flatten" => {
                let axis = node.axis(node.int("axis", 1)?, rank + 1)?;
                vec![of.dims[..axis].concat(), of.dims[axis..].concat()]
            }
            "Squeeze" => {
                let (left, _) = squeezed(node, &of.sizes())?;
                left.iter().map(|&axis| of.dims[axis].clone()).collect()
            }
            "Unsqueeze" => {
                let mut dims = of.dims.clone();
                unsqueezed(node, rank)?.iter().for_each(|&axis| dims.insert(axis, Vec::new()));
                dims
            }
            _ => {
                let sizes = reshaped(node, &of.sizes())?;
                // A row of pixels that the network takes for an image.
                if let ([batch, channels, height, width], 0) = (&sizes[..], of.value)
                    && of.reshaped(&sizes).is_none()
                    && of.dims.len() == 2
                    && *batch == of.batch
                {
                    let shape = Shape::new(*channels, *height, *width);
                    if self.reshape_input(shape) {
                        return Ok(Activation::new(0, shape, of.batch, &IMAGE));
                    }
                }
                return of.reshaped(&sizes).ok_or_else(|| {
                    let expected = "a shape that splits neither channels, rows nor columns";
                    node.wrong(format!("a shape of {sizes:?} for {of}"), expected)
                });
            }
        };
        Ok(of.with_dims(dims))
    }
}

/// The order that turns a matrix round.
fn rank_2(node: &NodeReader<'_>, weight: &Tensor) -> Result<[usize; 2]> {
    let found = format!("weights of shape {:?}", weight.shape);
    node.require(weight.shape.len() == 2, found, "inputs x outputs")?;
    Ok([1, 0])
}
