//! Nodes that depend on the image: what layer each becomes.

use super::fold::{AxisSlice, order, reduced, reshaped, slices, squeezed, unsqueezed};
use super::layout::{Activation, Along, CHANNELS_LAST, IMAGE, View};
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
    positive: Vec<bool>,
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
    fn add(&mut self, node: &NodeReader<'_>, layer: Layer, inputs: &[usize]) -> Result<usize> {
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
    fn then(&mut self, node: &NodeReader<'_>, layer: Layer, of: &Activation) -> Result<Activation> {
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

    /// Size, stride, dilation and padding of the windows that a node has on an image.
    fn window(
        &self,
        node: &NodeReader<'_>,
        of: &Activation,
        kernel: Option<&[usize]>,
    ) -> Result<Window> {
        let spatial = of.dims.len().saturating_sub(2);
        let image = of.is(&IMAGE) || of.is(&[IMAGE[0], IMAGE[1], IMAGE[3]]) && of.shape.height == 1;
        node.require(image, format!("an input of {of}"), "batch, channels, rows, columns")?;
        let numbers = |name: &'static str, count: usize, least: i64| {
            let Some(all) = node.ints(name)? else {
                return Ok(None);
            };
            let good = all.len() == count && all.iter().all(|&x| (least..1 << 31).contains(&x));
            let expected = format!("{count} whole numbers of {least} or more");
            node.require(good, format!("attribute `{name}` {all:?}"), expected)?;
            Ok(Some(all.iter().map(|&x| x as usize).collect::<Vec<_>>()))
        };
        let own = numbers("kernel_shape", spatial, 1)?;
        let size = match (own, kernel) {
            (Some(own), Some(kernel)) if own != kernel => {
                let expected = format!("{kernel:?} as the weights have");
                return Err(node.wrong(format!("attribute `kernel_shape` {own:?}"), expected));
            }
            (Some(own), _) => own,
            (None, Some(kernel)) => kernel.to_vec(),
            (None, None) => return Err(node.wrong("no attribute `kernel_shape`", "one")),
        };
        let stride = numbers("strides", spatial, 1)?.unwrap_or(vec![1; spatial]);
        let dilation = numbers("dilations", spatial, 1)?.unwrap_or(vec![1; spatial]);
        let pads = numbers("pads", 2 * spatial, 0)?.unwrap_or(vec![0; 2 * spatial]);
        let automatic = node.text("auto_pad", "NOTSET")?;
        // Of one-dimensional values, columns alone.
        let both = |all: &[usize], fill: usize| match *all {
            [rows, columns] => [rows, columns],
            _ => [fill, all[0]],
        };
        let (size, stride, dilation) = (both(&size, 1), both(&stride, 1), both(&dilation, 1));
        let (before, after) = pads.split_at(spatial);
        let [[top, left], [bottom, right]] = [both(before, 0), both(after, 0)];
        let mut padding = [top, left, bottom, right];
        match automatic {
            "NOTSET" | "" => (),
            "VALID" => padding = [0; 4],
            "SAME_UPPER" | "SAME_LOWER" => {
                let sides = [of.shape.height, of.shape.width];
                for axis in 0..2 {
                    let reach = (size[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
                    let steps = (sides[axis].div_ceil(stride[axis]) - 1) * stride[axis];
                    let all = steps.saturating_add(reach).saturating_sub(sides[axis]);
                    let (less, more) = (all / 2, all - all / 2);
                    let upper = automatic == "SAME_UPPER";
                    padding[axis] = if upper { less } else { more };
                    padding[axis + 2] = if upper { more } else { less };
                }
            }
            other => {
                let expected = "`NOTSET`, `SAME_UPPER`, `SAME_LOWER` or `VALID`";
                return Err(node.wrong(format!("attribute `auto_pad` `{other}`"), expected));
            }
        }
        Ok(Window { size, stride, dilation, padding })
    }

    /// The value with its view a layer of its own, unless the view only adds zeros around the image,
    /// which are returned for a window to add.
    fn padded(
        &mut self,
        node: &NodeReader<'_>,
        of: &Activation,
    ) -> Result<(Activation, [usize; 4])> {
        match &of.view {
            Some(view) if view.only_pads() => {
                let padding = view.padding;
                Ok((of.moved(of.value, self.shapes[of.value]), padding))
            }
            _ => Ok((self.settled(node, of)?, [0; 4])),
        }
    }

    fn conv(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let (weight, bias) = (node.constant(1)?, node.maybe_constant(2)?);
        let rank = of.dims.len();
        let found = format!("weights of shape {:?} for an input of {of}", weight.shape);
        node.require(
            weight.shape.len() == rank && (3..5).contains(&rank),
            found,
            "as many axes, 3 or 4",
        )?;
        let mut window = self.window(node, of, Some(&weight.shape[2..]))?;
        let groups = node.int("group", 1)?;
        let found = format!("attribute `group` {groups}");
        let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0);
        let groups = groups.ok_or_else(|| node.wrong(found, "1 or more"))?;
        let (of, padding) = self.padded(node, of)?;
        window.padding.iter_mut().zip(padding).for_each(|(all, more)| *all += more);
        node.take(&mut self.budget, &weight.shape)?;
        let layer = Layer::Conv {
            weight: weight.floats(),
            bias: bias.map(|bias| bias.floats()),
            inputs: weight.shape[1].saturating_mul(groups),
            outputs: weight.shape[0],
            window,
            groups,
        };
        let value = self.add(node, layer, &[of.value])?;
        Ok(Activation::new(value, self.shapes[value], of.batch, &axes_of(rank)))
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

    fn pool(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let mut window = self.window(node, of, None)?;
        let ceil = node.int("ceil_mode", 0)? != 0;
        let average = node.node.operator == "AveragePool";
        let mut count_padding = average && node.int("count_include_pad", 0)? != 0;
        if !average {
            node.only("storage_order", 0)?;
        }
        // Zeros of `Pad` are values, which a largest value of 0 or more is not less for.
        let joins = match average {
            true => count_padding || window.padding == [0; 4],
            false => self.positive[of.value],
        };
        let (of, padding) = match joins {
            true => self.padded(node, of)?,
            false => (self.settled(node, of)?, [0; 4]),
        };
        window.padding.iter_mut().zip(padding).for_each(|(all, more)| *all += more);
        count_padding |= average && padding != [0; 4];
        let layer = match average {
            true => Layer::AvgPool { window, ceil, count_padding },
            false => Layer::MaxPool { window, ceil },
        };
        let value = self.add(node, layer, &[of.value])?;
        Ok(Activation::new(value, self.shapes[value], of.batch, &axes_of(of.dims.len())))
    }

    /// Pooling of whole rows, columns or images.
    fn reduce(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = self.settled(node, node.activation(0)?)?;
        let rank = of.dims.len();
        let (axes, keep) = match node.node.operator.starts_with("Global") {
            true => ((2..rank).collect(), true),
            false => {
                let keep = node.int("keepdims", 1)? != 0;
                let Some(axes) = reduced(node, rank)? else {
                    return Ok(of);
                };
                (axes, keep)
            }
        };
        let gone: Vec<Along> =
            axes.iter().flat_map(|&axis| of.dims[axis].iter().copied()).collect();
        let good = gone.iter().all(|axis| matches!(axis, Some(Axis::Rows | Axis::Columns)));
        node.require(good, format!("axes {axes:?} of {of}"), "rows, columns or both")?;
        let size = [Axis::Rows, Axis::Columns].map(|axis| match gone.contains(&Some(axis)) {
            true => of.size_of(Some(axis)),
            false => 1,
        });
        let window = Window { size, stride: size, ..Window::ONE };
        let layer = match node.node.operator {
            "GlobalMaxPool" | "ReduceMax" => Layer::MaxPool { window, ceil: false },
            _ => Layer::AvgPool { window, ceil: false, count_padding: false },
        };
        let mut pooled = match size {
            [1, 1] => of,
            _ => self.then(node, layer, &of)?,
        };
        if !keep {
            let left = (0..rank).filter(|axis| !axes.contains(axis));
            pooled.dims = left.map(|axis| pooled.dims[axis].clone()).collect();
        }
        Ok(pooled)
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

/// Rows, columns and channels of a value that has each along a dimension of its own.
fn image_axes(node: &NodeReader<'_>, of: &Activation) -> Result<Vec<Along>> {
    let layouts = [&IMAGE[..], &CHANNELS_LAST, &[IMAGE[0], IMAGE[1], IMAGE[3]], &IMAGE[..2]];
    let found = layouts.into_iter().find(|axes| of.is(axes)).map(<[Along]>::to_vec);
    found.ok_or_else(|| node.wrong(format!("an input of {of}"), "batch, channels, rows, columns"))
}

// Parts of images.
impl Network {
    fn pad(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let rank = of.dims.len();
        let mode = node.text("mode", "constant")?;
        node.require(mode == "constant", format!("attribute `mode` `{mode}`"), "`constant`")?;
        let value = node.float_or_input("value", 2)?.unwrap_or_default();
        node.require(value == 0.0, format!("padding of {value}"), 0)?;
        let pads = node.ints_or_input("pads", 1)?.unwrap_or_default();
        let axes = match node.maybe_constant(3)? {
            None => (0..rank).collect(),
            Some(axes) => node.axes(axes.integers().unwrap_or_default(), rank)?,
        };
        let good =
            pads.len() == 2 * axes.len() && pads.iter().all(|pad| (0..1 << 31).contains(pad));
        node.require(good, format!("pads {pads:?}"), "two numbers of 0 or more for each axis")?;
        let (before, after) = pads.split_at(axes.len());
        let names = image_axes(node, of)?;
        let (mut padding, mut channels) = ([0; 4], [0; 2]);
        for ((&axis, &before), &after) in axes.iter().zip(before).zip(after) {
            let (before, after) = (before as usize, after as usize);
            match names[axis] {
                Some(Axis::Channels) => channels = [before, after],
                Some(Axis::Rows) => [padding[0], padding[2]] = [before, after],
                Some(Axis::Columns) => [padding[1], padding[3]] = [before, after],
                None => node.require(before + after == 0, "padding of the batch", "none")?,
            }
        }
        let mut of = of.clone();
        if padding != [0; 4] {
            of = self.uncut(node, of)?;
            let view = of.view.get_or_insert(View::ALL);
            view.padding.iter_mut().zip(padding).for_each(|(all, more)| *all += more);
            of.shape.height += padding[0] + padding[2];
            of.shape.width += padding[1] + padding[3];
        }
        if channels != [0; 2] {
            let [before, after] = channels;
            let count = before + of.shape.channels + after;
            node.take(&mut self.budget, &[count, 4])?;
            let own = self.channels(&of);
            let all = [vec![None; before], own, vec![None; after]].concat();
            of.view.get_or_insert(View::ALL).channels = Some(all);
            of.shape.channels = count;
        }
        Ok(Activation::new(of.value, of.shape, of.batch, &names).with_view(of.view))
    }

    /// Channel of the graph's value that each channel is.
    fn channels(&self, of: &Activation) -> Vec<Option<usize>> {
        let own = of.view.as_ref().and_then(|view| view.channels.clone());
        own.unwrap_or_else(|| (0..of.shape.channels).map(Some).collect())
    }

    /// The value, of which all rows and columns are there for zeros to be put around.
    fn uncut(&mut self, node: &NodeReader<'_>, of: Activation) -> Result<Activation> {
        match &of.view {
            Some(view) if (view.start, view.step) != ([0; 2], [1; 2]) || self.is_cut(&of) => {
                self.settled(node, &of)
            }
            _ => Ok(of),
        }
    }

    /// Whether rows or columns at the end are missing.
    fn is_cut(&self, of: &Activation) -> bool {
        let Some(view) = &of.view else { return false };
        let (own, [top, left, bottom, right]) = (self.shapes[of.value], view.padding);
        own.height + top + bottom != of.shape.height || own.width + left + right != of.shape.width
    }

    fn sliced(
        &mut self,
        node: &NodeReader<'_>,
        of: &Activation,
        slices: &[AxisSlice],
    ) -> Result<Activation> {
        let sizes = of.sizes();
        let all = slices.iter().zip(&sizes).all(|(slice, &size)| *slice == AxisSlice::all(size));
        if all {
            return Ok(of.clone());
        }
        let names = image_axes(node, of)?;
        let mut of = of.clone();
        let cuts = |axis: usize| slices[axis] != AxisSlice::all(sizes[axis]);
        for (dim, slice) in slices.iter().enumerate().filter(|(dim, _)| cuts(*dim)) {
            let found = format!("{} values of axis {dim} in steps of {}", slice.count, slice.step);
            let axis = match names[dim] {
                Some(Axis::Channels) => {
                    node.require(slice.count > 0, found, "1 or more")?;
                    node.take(&mut self.budget, &[slice.count, 4])?;
                    let own = self.channels(&of);
                    let chosen = (0..slice.count).map(|i| own[slice.place(i)]).collect();
                    of.view.get_or_insert(View::ALL).channels = Some(chosen);
                    of.shape.channels = slice.count;
                    continue;
                }
                Some(Axis::Rows) => 0,
                Some(Axis::Columns) => 1,
                None => return Err(node.wrong("a part of the batch", "all images")),
            };
            let good = slice.count > 0 && slice.step > 0;
            node.require(good, found, "1 or more, in steps above 0")?;
            if of.view.as_ref().is_some_and(|view| view.padding != [0; 4]) {
                of = self.settled(node, &of)?;
            }
            let view = of.view.get_or_insert(View::ALL);
            view.start[axis] += slice.start * view.step[axis];
            view.step[axis] = view.step[axis].saturating_mul(slice.step as usize);
            match axis {
                0 => of.shape.height = slice.count,
                _ => of.shape.width = slice.count,
            }
        }
        Ok(Activation::new(of.value, of.shape, of.batch, &names).with_view(of.view))
    }

    fn split(&mut self, node: &NodeReader<'_>) -> Result<Vec<Activation>> {
        let of = node.activation(0)?;
        let axis = node.axis(node.int("axis", 0)?, of.dims.len())?;
        node.int("num_outputs", 0)?;
        let (size, parts) = (of.sizes()[axis], node.node.outputs.len());
        let counts = match node.ints_or_input("split", 1)? {
            Some(counts) => {
                counts.iter().map(|&count| usize::try_from(count).unwrap_or(0)).collect()
            }
            // Equal parts, of which the last may be smaller.
            None => {
                let each = size.div_ceil(parts);
                (0..parts)
                    .map(|part| each.min(size.saturating_sub(part * each)))
                    .collect::<Vec<_>>()
            }
        };
        let sum = counts.iter().fold(0usize, |all, &count| all.saturating_add(count));
        let good = counts.len() == parts && sum == size;
        node.require(good, format!("parts of {counts:?}"), format!("{parts} that make {size}"))?;
        let mut start = 0;
        let mut outputs = Vec::with_capacity(parts);
        for count in counts {
            let mut slices: Vec<_> = of.sizes().into_iter().map(AxisSlice::all).collect();
            slices[axis] = AxisSlice { start, step: 1, count };
            start += count;
            outputs.push(self.sliced(node, of, &slices)?);
        }
        Ok(outputs)
    }

    /// Channels in another order, or some of them.
    fn gather(&mut self, node: &NodeReader<'_>) -> Result<Activation> {
        let of = node.activation(0)?;
        let axis = node.axis(node.int("axis", 0)?, of.dims.len())?;
        let names = image_axes(node, of)?;
        let indices = node.constant(1)?;
        let size = of.shape.channels as i64;
        let good = names[axis] == Some(Axis::Channels) && indices.shape.len() == 1;
        node.require(good, format!("axis {axis} of {of}"), "a row of channels")?;
        let mut of = of.clone();
        node.take(&mut self.budget, &[indices.shape[0], 4])?;
        let own = self.channels(&of);
        let chosen = indices.integers().unwrap_or_default().iter();
        let chosen = chosen.map(|&index| if index < 0 { index + size } else { index });
        let chosen = chosen.map(|index| own.get(usize::try_from(index).ok()?).copied());
        let chosen: Option<Vec<_>> = chosen.collect();
        let chosen = chosen.filter(|chosen| !chosen.is_empty());
        let found = format!("indices {:?}", indices.values);
        let chosen =
            chosen.ok_or_else(|| node.wrong(found, format!("those of {size} channels")))?;
        of.shape.channels = chosen.len();
        of.view.get_or_insert(View::ALL).channels = Some(chosen);
        Ok(Activation::new(of.value, of.shape, of.batch, &names).with_view(of.view))
    }

    /// The value with its view, if it has one, as a convolution that picks what the view holds.
    pub fn settled(&mut self, node: &NodeReader<'_>, of: &Activation) -> Result<Activation> {
        let Some(view) = &of.view else {
            return Ok(of.clone());
        };
        let own = self.shapes[of.value];
        let sides = [(own.height, of.shape.height), (own.width, of.shape.width)];
        // The smallest window that holds what is taken, and takes no more steps than that.
        let size = [0, 1].map(|axis| {
            let ((side, count), start, step) = (sides[axis], view.start[axis], view.step[axis]);
            let pads = view.padding[axis] + view.padding[axis + 2];
            match (side + pads - start - 1) / step + 1 == count {
                true => start + 1,
                false => side + pads - (count - 1) * step,
            }
        });
        let window = Window { size, stride: view.step, padding: view.padding, ..Window::ONE };
        let (inputs, outputs) = (own.channels, of.shape.channels);
        let groups = if view.channels.is_none() { inputs } else { 1 };
        let shape = [outputs, inputs / groups, size[0], size[1]];
        let count = node.take(&mut self.budget, &shape)?;
        let mut weight = vec![0.0; count];
        let place = view.start[0] * size[1] + view.start[1];
        for output in 0..outputs {
            let input = match &view.channels {
                None => Some(0),
                Some(channels) => channels[output],
            };
            if let Some(input) = input {
                weight[(output * (inputs / groups) + input) * size[0] * size[1] + place] = 1.0;
            }
        }
        let layer = Layer::Conv { weight, bias: None, inputs, outputs, window, groups };
        let value = self.add(node, layer, &[of.value])?;
        self.notes.push(format!(
            "a part of {own} or zeros around it, before {}: a {} x {} convolution of stride {} x {}",
            super::node::place(node.node), size[0], size[1], view.step[0], view.step[1],
        ));
        Ok(of.moved(value, self.shapes[value]))
    }
}

fn axes_of(rank: usize) -> Vec<Along> {
    match rank {
        3 => vec![IMAGE[0], IMAGE[1], IMAGE[3]],
        _ => IMAGE.to_vec(),
    }
}

/// The order that turns a matrix round.
fn rank_2(node: &NodeReader<'_>, weight: &Tensor) -> Result<[usize; 2]> {
    let found = format!("weights of shape {:?}", weight.shape);
    node.require(weight.shape.len() == 2, found, "inputs x outputs")?;
    Ok([1, 0])
}
