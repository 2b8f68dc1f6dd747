//! Layers and neurons of the nodes of a graph.

use super::fields::{Fields, MOST_VALUES};
use super::graph::{Axes, METADATA, ROUNDING, add_current, identity, leak, spread};
use crate::ann::{CHANNELS_FIRST, Graph, Layer, Window};
use crate::base::{Error, Result};
use crate::data::Shape;
use crate::simulate::{Charge, Neurons, Reset};

/// Output of a node.
#[derive(Clone)]
pub(super) struct Wire {
    /// Number of the value in the network.
    pub value: usize,
    pub axes: Axes,
    /// Charge of the spikes, one or one per channel, by which the weights after them are divided.
    pub charge: Vec<f32>,
    /// Weights since the last neurons.
    pub weights: Option<Weights>,
    /// Whether no other node takes the values since the last weights or neurons.
    pub alone: bool,
}

/// Layer of weights that neurons may follow.
#[derive(Clone)]
pub(super) struct Weights {
    /// Shape of their input.
    before: Shape,
    /// Number of their layer.
    layer: usize,
    /// Their bias; empty behind a fork, where it does not belong to the neurons of one branch alone.
    bias: Vec<f64>,
}

impl Wire {
    /// The image.
    pub fn image(axes: Axes) -> Self {
        Self { value: 0, axes, charge: vec![1.0], weights: None, alone: false }
    }

    /// The same output, for one of several nodes.
    pub fn fork(&mut self) {
        self.alone = false;
        if let Some(weights) = &mut self.weights {
            weights.bias.clear();
        }
    }
}

/// Network so far.
pub(super) struct Network {
    pub graph: Graph,
    pub neurons: Vec<Neurons>,
    /// Seconds per timestep.
    pub dt: f64,
}

impl Network {
    /// Adds up the outputs of nodes that lead to `node`.
    pub fn join(&mut self, node: &Fields<'_>, mut wires: Vec<Wire>) -> Result<Wire> {
        if wires.len() > 1 {
            wires.iter_mut().for_each(|wire| self.drop_identity(wire));
        }
        let mut wires = wires.into_iter();
        let Some(first) = wires.next() else {
            return Err(node.wrong("no edge that leads to it", "one or more"));
        };
        let (mut values, mut sum) = (vec![first.value], first);
        for other in wires {
            let [a, b] = [&sum, &other].map(|wire| wire.axes.sizes());
            let found = format_args!("inputs of shapes {a:?} and {b:?}");
            node.require(sum.axes == other.axes, found, "inputs of one shape")?;
            let found = "inputs of spikes whose charges differ";
            node.require(sum.charge == other.charge, found, "weights that hold the charges")?;
            values.push(other.value);
            let has_bias = |wire: &Wire| wire.weights.as_ref().is_some_and(|w| !w.bias.is_empty());
            if sum.weights.is_none() || has_bias(&other) && !has_bias(&sum) {
                sum.weights = other.weights;
            }
            sum.alone = false;
        }
        if values.len() > 1 {
            // The same sum for another node is the same layer.
            let mut nodes = self.graph.nodes.iter();
            let known = nodes.position(|n| n.layer == Layer::Sum && n.inputs == values);
            sum.value = match known {
                Some(number) => number + 1,
                None => self.graph.add("", Layer::Sum, values),
            };
        }
        Ok(sum)
    }

    /// Reads a node that takes `wire`; none for the output.
    pub fn read(&mut self, node: &Fields<'_>, mut wire: Wire) -> Result<Option<Wire>> {
        let (kind, Axes { shape, flat }) = (node.text("type")?, wire.axes);
        let image = !flat || !matches!(&*kind, "Conv2d" | "AvgPool2d" | "SumPool2d");
        node.require(image, "one axis", "channels, rows and columns")?;
        match kind.as_str() {
            "Conv2d" | "Affine" | "Linear" => self.weights(node, &mut wire, kind == "Conv2d")?,
            "AvgPool2d" => _ = self.pool(node, &mut wire)?,
            "SumPool2d" => {
                let values = self.pool(node, &mut wire)?;
                self.scale(&mut wire, &[values as f32]);
            }
            "Flatten" => {
                let axes = wire.axes.sizes().len() as i64;
                let [start, end] = [node.integers("start_dim")?, node.integers("end_dim")?];
                let first = start == [0] || start == [-axes];
                let whole = first && (end == [-1] || end == [axes - 1]);
                let found = format_args!("axes {start:?} to {end:?}");
                node.require(whole || flat, found, "all axes, 0 to -1")?;
                wire.axes.flat = true;
            }
            "Scale" => {
                let factors = per_neuron(node, "scale", wire.axes)?;
                let factors: Vec<f32> = factors.iter().map(|&factor| factor as f32).collect();
                let factors = per_channel(node, "scale", shape, &factors)?;
                self.scale(&mut wire, &factors);
            }
            "IF" | "LIF" => {
                let layer = self.neurons.len();
                let neurons = neurons(node, wire.axes, self.dt, layer, kind == "LIF")?;
                wire.check_charge(node)?;
                self.subtract(&mut wire, &neurons.current);
                self.drop_identity(&mut wire);
                (wire.charge, wire.weights) = (neurons.charges().to_vec(), None);
                wire.value = self.graph.add("", Layer::Neurons, [wire.value]);
                wire.alone = true;
                self.neurons.push(neurons);
            }
            "Output" => {
                wire.check_charge(node)?;
                let (found, given) = (node.sizes()?, wire.axes.sizes());
                let expected = format_args!("{given:?}, as the node before gives");
                node.require(found == given, format_args!("shape {found:?}"), expected)?;
                return Ok(None);
            }
            _ => {
                let expected =
                    "Conv2d, Affine, Linear, AvgPool2d, SumPool2d, Flatten, Scale, IF or LIF";
                return Err(node.wrong(format!("a node of type {kind}"), expected));
            }
        }
        Ok(Some(wire))
    }

    /// Passes by weights that only hold the charge of spikes of the neurons before them.
    pub fn drop_identity(&self, wire: &mut Wire) {
        let last = wire.value.checked_sub(1).map(|number| &self.graph.nodes[number]);
        if let (Some(weights), Some(last)) = (&wire.weights, last)
            && is_identity(&last.layer)
            && !self.neurons.is_empty()
        {
            (wire.value, wire.axes.shape) = (last.inputs[0], weights.before);
            wire.weights = None;
        }
    }

    /// Subtracts the neurons' own current from the bias before them.
    fn subtract(&mut self, wire: &mut Wire, current: &[f32]) {
        if let Some(Weights { layer, bias: doubles, .. }) = &mut wire.weights
            && let Layer::Conv { bias, .. } | Layer::Linear { bias, .. } =
                &mut self.graph.nodes[*layer].layer
            && !doubles.is_empty()
            && current.iter().any(|&current| current != 0.0)
        {
            add_current(doubles, current, -1.0);
            *bias = single(doubles);
        }
    }

    /// Adds a convolution or a linear layer.
    fn weights(&mut self, node: &Fields<'_>, wire: &mut Wire, conv: bool) -> Result<()> {
        let Axes { shape: input, flat } = wire.axes;
        let found = "a second layer of weights with no neurons between";
        let expected = "neurons after each layer of weights";
        node.require(wire.weights.is_none(), found, expected)?;
        let found = format_args!("an input of {input}");
        node.require(conv || flat, found, "one axis, by a node Flatten")?;
        let (weight, sizes) = node.floats("weight")?;
        let (outputs, each, kernel) = match sizes[..] {
            [outputs, inputs] if !conv => (outputs, inputs, [1; 2]),
            [outputs, each, rows, columns] if conv => (outputs, each, [rows, columns]),
            _ => {
                let expected = match conv {
                    true => "outputs, inputs and the sides of a kernel",
                    false => "outputs and inputs",
                };
                return Err(node.wrong(format!("weights of shape {sizes:?}"), expected));
            }
        };
        let groups = if conv { node.both("groups", 1)?[0] } else { 1 };
        let inputs = each.saturating_mul(groups);
        let found = format_args!("{groups} groups of weights {sizes:?} for {input}");
        let expected = format_args!("{} inputs in all, and outputs in groups", input.channels);
        let fits = !conv || inputs == input.channels && outputs.is_multiple_of(groups);
        node.require(fits, found, expected)?;
        // Each output has the weights, and so the charges, of the inputs of its group.
        let charges: Vec<f32> = spread(&wire.charge, if conv { inputs } else { each }).collect();
        let outputs_each = (outputs / groups).max(1);
        let per_output = (weight.len() / outputs.max(1)).max(1);
        let by_charge = |(o, weights): (usize, &[f64])| {
            let group = charges.chunks(each.max(1)).nth(o / outputs_each).unwrap_or_default();
            let charges: Vec<f32> = match group.len() {
                0 => vec![1.0; weights.len()],
                _ => spread(group, weights.len()).collect(),
            };
            let weights = weights.iter().zip(charges);
            weights.map(|(weight, charge)| (weight / f64::from(charge)) as f32).collect::<Vec<_>>()
        };
        let weight = weight.chunks(per_output).enumerate().flat_map(by_charge).collect();
        let doubles = match node.text("type")?.as_str() {
            "Linear" => vec![0.0; outputs],
            _ => node.floats("bias")?.0,
        };
        let bias = single(&doubles);
        let layer = match conv {
            false => Layer::Linear { weight, bias, inputs, outputs, order: CHANNELS_FIRST },
            true => {
                let (stride, dilation) = (node.both("stride", 1)?, node.both("dilation", 1)?);
                let [above, left] = match node.is_text("padding")? {
                    false => node.both("padding", 0)?,
                    true => {
                        let text = node.text("padding")?;
                        let odd = kernel.iter().all(|side| side % 2 == 1);
                        let same = text == "same" && stride == [1; 2] && odd;
                        let found = format_args!("padding `{text}`");
                        let expected = "a number, or `same` for an odd kernel of stride 1";
                        node.require(same || text == "valid", found, expected)?;
                        let half = [0, 1].map(|axis| (kernel[axis] - 1) * dilation[axis] / 2);
                        if same { half } else { [0; 2] }
                    }
                };
                let padding = [above, left, above, left];
                let window = Window { size: kernel, stride, dilation, padding };
                Layer::Conv { weight, bias, inputs, outputs, window, groups }
            }
        };
        let shape = output(node, &layer, input)?;
        let found = format_args!("an output of {shape} with {} biases", doubles.len());
        node.require(doubles.len() == outputs, found, "a bias for each channel")?;
        wire.value = self.graph.add("", layer, [wire.value]);
        wire.axes = Axes { shape, flat: !conv };
        let layer = wire.value - 1;
        wire.weights = Some(Weights { before: input, layer, bias: doubles });
        (wire.charge, wire.alone) = (vec![1.0], true);
        Ok(())
    }

    /// Adds average pooling, in which padding counts as zeros, and gives the number of values of a
    /// window.
    fn pool(&mut self, node: &Fields<'_>, wire: &mut Wire) -> Result<usize> {
        let (size, stride) = (node.both("kernel_size", 1)?, node.both("stride", 1)?);
        let [above, left] = node.both("padding", 0)?;
        let padding = [above, left, above, left];
        let window = Window { size, stride, dilation: [1; 2], padding };
        let layer = Layer::AvgPool { window, ceil: false, count_padding: padding != [0; 4] };
        wire.axes.shape = output(node, &layer, wire.axes.shape)?;
        wire.value = self.graph.add("", layer, [wire.value]);
        Ok(size[0] * size[1])
    }

    /// Multiplies an output by one factor, or one per channel: weights and bias, or by a layer of its
    /// own.
    fn scale(&mut self, wire: &mut Wire, factors: &[f32]) {
        let channels = wire.axes.shape.channels;
        let scale: Vec<f32> = spread(factors, channels).collect();
        let shift = vec![0.0; channels];
        // The last layer but pooling.
        let mut at = wire.value.checked_sub(1).filter(|_| wire.alone);
        while let Some(number) = at
            && let Layer::AvgPool { .. } = self.graph.nodes[number].layer
        {
            at = self.graph.nodes[number].inputs[0].checked_sub(1);
        }
        match at.map(|number| &mut self.graph.nodes[number].layer) {
            Some(layer @ (Layer::Conv { .. } | Layer::Linear { .. })) => {
                layer.scale_outputs(&scale, &shift);
                let biases = wire.weights.iter_mut().flat_map(|weights| &mut weights.bias);
                biases.zip(&scale).for_each(|(bias, &factor)| *bias *= f64::from(factor));
            }
            _ => {
                let layer = Layer::ScaleShift { scale, shift };
                wire.value = self.graph.add("", layer, [wire.value]);
            }
        }
    }
}

impl Wire {
    /// Returns an error if the spikes have a charge that no weights hold.
    fn check_charge(&self, node: &Fields<'_>) -> Result<()> {
        let expected = "weights that hold it, before";
        node.require(self.charge[..] == [1.0], "spikes with a charge", expected)
    }
}

/// Shape of the output of a layer, which must not be larger than a file may ask for.
fn output(node: &Fields<'_>, layer: &Layer, input: Shape) -> Result<Shape> {
    let shape = layer.output(0, "", &[input]).map_err(|error| match error {
        Error::Layer { found, expected, .. } => node.wrong(found, expected),
        other => other,
    })?;
    let found = format_args!("an output of {shape}");
    let expected = format_args!("at most {MOST_VALUES} values");
    node.require(shape.size() <= MOST_VALUES, found, expected)?;
    Ok(shape)
}

/// Bias in single precision; none if all values are 0.
fn single(bias: &[f64]) -> Option<Vec<f32>> {
    let single: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
    single.iter().any(|&b| b != 0.0).then_some(single)
}

/// True for a layer whose output is its input.
fn is_identity(layer: &Layer) -> bool {
    match layer {
        Layer::Conv { weight, bias: None, inputs, outputs, window: Window::ONE, groups: 1 }
        | Layer::Linear { weight, bias: None, inputs, outputs, .. } => {
            inputs == outputs && weight.iter().copied().eq(identity(*outputs))
        }
        _ => false,
    }
}

/// Reads one value, or one per neuron.
fn per_neuron(node: &Fields<'_>, name: &str, axes: Axes) -> Result<Vec<f64>> {
    let ((values, found), sizes) = (node.floats(name)?, axes.sizes());
    let good = values.len() == 1 || found == sizes;
    let found = format_args!("`{name}` of shape {found:?}");
    let expected = format_args!("{sizes:?}, as the node before gives, or one value");
    node.require(good, found, expected)?;
    Ok(values)
}

/// Reduces values per neuron to one per channel, or to one if all are equal.
fn per_channel(node: &Fields<'_>, name: &str, shape: Shape, values: &[f32]) -> Result<Vec<f32>> {
    let equal = |values: &[f32]| values.iter().all(|&value| value == values[0]);
    if equal(values) {
        return Ok(values[..1].to_vec());
    }
    let channels = values.chunks_exact(shape.height * shape.width);
    let found = format_args!("`{name}` that differ within a channel");
    let expected = "one for all neurons, or one a channel";
    node.require(channels.clone().all(equal), found, expected)?;
    Ok(channels.map(|channel| channel[0]).collect())
}

/// Reads layer `layer` of neurons.
fn neurons(node: &Fields<'_>, axes: Axes, dt: f64, layer: usize, leaky: bool) -> Result<Neurons> {
    let resistance = per_neuron(node, "r", axes)?;
    let thresholds = per_neuron(node, "v_threshold", axes)?;
    let constants = match leaky {
        true => per_neuron(node, "tau", axes)?,
        false => vec![f64::INFINITY],
    };
    for name in ["v_reset", "v_leak"] {
        if node.has(name)?
            && let Some(bad) = per_neuron(node, name, axes)?.iter().find(|&&v| v != 0.0)
        {
            return Err(node.wrong(format!("`{name}` {bad}"), 0));
        }
    }
    let most = resistance.len().max(thresholds.len()).max(constants.len());
    let (mut levels, mut leaks) = (Vec::with_capacity(most), Vec::with_capacity(most));
    // Norse and Sinabs count in timesteps.
    let unit = !leaky && resistance.iter().all(|&r| r == 1.0);
    let resistance = spread(&resistance, most).zip(spread(&constants, most));
    for ((r, constant), threshold) in resistance.zip(spread(&thresholds, most)) {
        let left = leak(constant, dt);
        let gain = match (unit, leaky) {
            (true, _) => 1.0,
            (_, true) => r * dt / constant,
            (_, false) => r * dt,
        };
        let gain = if (gain - 1.0).abs() < ROUNDING { 1.0 } else { gain };
        let level = above(threshold / gain);
        let fires = level > 0.0 && level.is_finite() && gain > 0.0;
        let found = format_args!("threshold {threshold}, r {r}, leak {left} in {dt} s");
        let expected = "a threshold and r above 0, and tau above a timestep";
        node.require(fires && left > 0.0 && left <= 1.0, found, expected)?;
        levels.push(level);
        leaks.push(left);
    }
    let threshold = per_channel(node, "v_threshold", axes.shape, &levels)?;
    let found = Neurons {
        leak: per_channel(node, "tau", axes.shape, &leaks)?,
        reset: Reset::Zero,
        charge: Charge::Unit,
        ..Neurons::new(threshold)
    };
    let name = format!("metadata/{METADATA}");
    if !node.has(&name)? {
        return Ok(found);
    }
    let channels = axes.shape.channels;
    let ours: Neurons = serde_json::from_str(&node.text(&name)?)
        .map_err(|error| node.wrong(error, format!("parameters of neurons as `{name}`")))?;
    let checked = ours.check(layer, channels);
    checked.map_err(|error| node.wrong(error, format!("parameters in range as `{name}`")))?;
    let same = |one: &[f32], other: &[f32]| spread(one, channels).eq(spread(other, channels));
    let good = same(&ours.threshold, &found.threshold)
        && same(&ours.leak, &found.leak)
        && !ours.charges().contains(&0.0);
    let found = format_args!("thresholds or leaks other than those of `{name}`");
    node.require(good, found, "the same: remove it where they were changed")?;
    Ok(ours)
}

/// Threshold at or above which a neuron fires that in NIR fires above `threshold`.
pub(super) fn above(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    let above = f64::from(nearest) > threshold;
    if above { nearest } else { nearest.next_up() }
}
