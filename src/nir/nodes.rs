//! Layers and neurons of the nodes of a graph.

use super::fields::{Fields, MOST_VALUES};
use super::graph::{Axes, METADATA, ROUNDING, add_current, identity, leak, spread};
use crate::ann::{CHANNELS_FIRST, Layer, Window};
use crate::base::{Error, Result};
use crate::data::Shape;
use crate::simulate::{Charge, LANES, Neurons, Reset, output_shape};

/// Layers between two nodes, and the output of the last one.
pub(super) struct Branch {
    pub layers: Vec<Layer>,
    pub axes: Axes,
    /// Charge of the spikes, one or one per channel, by which the weights after them are divided.
    pub charge: Vec<f32>,
    /// Shape of the input of the weights since the last neurons, and their bias. The bias is empty
    /// behind a fork, where it does not belong to the neurons of one branch alone.
    pub weights: Option<(Shape, Vec<f64>)>,
    /// Node at which the branch ends: one that several edges lead to, or the output.
    pub end: usize,
    /// Number of edges to the end that belong to the branch; 0 at the output.
    pub edges: usize,
}

impl Branch {
    /// Starts a branch to node `end` from the output of this one.
    pub fn fork(&self, end: usize) -> Self {
        let weights = self.weights.as_ref();
        Self {
            layers: Vec::new(),
            charge: self.charge.clone(),
            weights: weights.map(|(shape, _)| (*shape, Vec::new())),
            end,
            ..*self
        }
    }

    /// Adds up the outputs of two branches that end in `node`.
    pub fn join(&mut self, node: &Fields<'_>, body: Self, shortcut: Self) -> Result<()> {
        let [a, b] = [&body, &shortcut].map(|branch| branch.axes.sizes());
        let found = format_args!("inputs of shapes {a:?} and {b:?}");
        node.require(body.axes == shortcut.axes, found, "inputs of one shape")?;
        let found = "inputs of spikes whose charges differ";
        let same = body.charge == shortcut.charge;
        node.require(same, found, "weights that hold the charges")?;
        let has_bias = |branch: &Self| matches!(&branch.weights, Some((_, b)) if !b.is_empty());
        let first = has_bias(&body) || !has_bias(&shortcut);
        self.weights = if first { body.weights } else { shortcut.weights };
        self.layers.push(Layer::Residual { body: body.layers, shortcut: shortcut.layers });
        (self.axes, self.charge, self.end) = (body.axes, body.charge, body.end);
        self.edges = body.edges + shortcut.edges;
        Ok(())
    }

    /// Reads a node, and whether it is the output. Appends its neurons to those of other layers.
    pub fn read(&mut self, node: &Fields<'_>, dt: f64, all: &mut Vec<Neurons>) -> Result<bool> {
        let (kind, Axes { shape, flat }) = (node.text("type")?, self.axes);
        let image = !flat || !matches!(&*kind, "Conv2d" | "AvgPool2d" | "SumPool2d");
        node.require(image, "one axis", "channels, rows and columns")?;
        match kind.as_str() {
            "Conv2d" | "Affine" | "Linear" => self.weights(node, kind == "Conv2d")?,
            "AvgPool2d" => _ = self.pool(node)?,
            "SumPool2d" => {
                let size = self.pool(node)?;
                self.scale(node, all, &[(size * size) as f32])?;
            }
            "Flatten" => {
                let axes = self.axes.sizes().len() as i64;
                let [start, end] = [node.integers("start_dim")?, node.integers("end_dim")?];
                let whole = start == [0] && (end == [-1] || end == [axes - 1]);
                let found = format_args!("axes {start:?} to {end:?}");
                node.require(whole || flat, found, "all axes, 0 to -1")?;
                self.axes.flat = true;
            }
            "Scale" => {
                let factors = per_neuron(node, "scale", self.axes)?;
                let factors: Vec<f32> = factors.iter().map(|&factor| factor as f32).collect();
                let factors = per_channel(node, "scale", shape, &factors)?;
                self.scale(node, all, &factors)?;
            }
            "IF" | "LIF" => {
                let neurons = neurons(node, self.axes, dt, all.len(), kind == "LIF")?;
                self.check_charge(node)?;
                self.subtract(&neurons.current);
                self.drop_identity(all);
                (self.charge, self.weights) = (neurons.charges().to_vec(), None);
                self.layers.push(Layer::Neurons);
                all.push(neurons);
            }
            "Output" => {
                self.check_charge(node)?;
                let (found, given) = (node.sizes()?, self.axes.sizes());
                let expected = format_args!("{given:?}, as the node before gives");
                node.require(found == given, format_args!("shape {found:?}"), expected)?;
                return Ok(true);
            }
            _ => {
                let expected =
                    "Conv2d, Affine, Linear, AvgPool2d, SumPool2d, Flatten, Scale, IF or LIF";
                return Err(node.wrong(format!("a node of type {kind}"), expected));
            }
        }
        Ok(false)
    }

    /// Returns an error if the spikes have a charge that no weights hold.
    fn check_charge(&self, node: &Fields<'_>) -> Result<()> {
        let expected = "weights that hold it, before";
        node.require(self.charge[..] == [1.0], "spikes with a charge", expected)
    }

    /// Removes weights that only hold the charge of spikes of the neurons before them.
    pub fn drop_identity(&mut self, neurons: &[Neurons]) {
        let passes = !neurons.is_empty() && self.layers.last().is_some_and(is_identity);
        if let Some((before, _)) = self.weights.take_if(|_| passes) {
            self.axes.shape = before;
            self.layers.pop();
        }
    }

    /// Subtracts the neurons' own current from the bias before them.
    fn subtract(&mut self, current: &[f32]) {
        if let Some((_, doubles)) = &mut self.weights
            && let Some(bias) = bias(&mut self.layers)
            && !doubles.is_empty()
            && current.iter().any(|&current| current != 0.0)
        {
            add_current(doubles, current, -1.0);
            *bias = single(doubles);
        }
    }

    /// Adds a convolution or a linear layer.
    fn weights(&mut self, node: &Fields<'_>, conv: bool) -> Result<()> {
        let Axes { shape: input, flat } = self.axes;
        let found = "a second layer of weights with no neurons between";
        let expected = "neurons after each layer of weights";
        node.require(self.weights.is_none(), found, expected)?;
        let found = format_args!("an input of {input}");
        node.require(conv || flat, found, "one axis, by a node Flatten")?;
        let (weight, sizes) = node.floats("weight")?;
        let (outputs, inputs, kernel) = match sizes[..] {
            [outputs, inputs] if !conv => (outputs, inputs, 1),
            [outputs, inputs, kernel, side] if conv && kernel == side => (outputs, inputs, kernel),
            _ => {
                let expected = match conv {
                    true => "outputs, inputs and a square kernel",
                    false => "outputs and inputs",
                };
                return Err(node.wrong(format!("weights of shape {sizes:?}"), expected));
            }
        };
        let charges = spread(&self.charge, weight.len() / outputs.max(1));
        let weight = weight.iter().zip(charges.cycle());
        let weight = weight.map(|(weight, charge)| (weight / f64::from(charge)) as f32);
        let weight = weight.collect();
        let doubles = match node.text("type")?.as_str() {
            "Linear" => vec![0.0; outputs],
            _ => node.floats("bias")?.0,
        };
        let bias = single(&doubles);
        let layer = match conv {
            false => Layer::Linear { weight, bias, inputs, outputs, order: CHANNELS_FIRST },
            true => {
                for name in ["dilation", "groups"] {
                    let found = node.both(name, 1)?;
                    node.require(found == 1, format_args!("{name} {found}"), 1)?;
                }
                let stride = node.both("stride", 1)?;
                let padding = match node.is_text("padding")? {
                    false => node.both("padding", 0)?,
                    true => {
                        let text = node.text("padding")?;
                        let same = text == "same" && stride == 1 && kernel % 2 == 1;
                        let found = format_args!("padding `{text}`");
                        let expected = "a number, or `same` for an odd kernel of stride 1";
                        node.require(same || text == "valid", found, expected)?;
                        if same { kernel / 2 } else { 0 }
                    }
                };
                let window = Window::square(kernel, stride, padding);
                Layer::Conv { weight, bias, inputs, outputs, window, groups: 1 }
            }
        };
        let shape = output_shape(0, &layer, input).map_err(|error| match error {
            Error::Layer { found, expected, .. } => node.wrong(found, expected),
            other => other,
        })?;
        let sides = shape.height.saturating_mul(shape.width);
        let good = sides.saturating_mul(outputs) <= MOST_VALUES && doubles.len() == outputs;
        let found = format_args!("an output of {shape} with {} biases", doubles.len());
        let expected = format!("at most {MOST_VALUES} values, and a bias for each channel");
        node.require(good, found, expected)?;
        self.layers.push(layer);
        self.axes = Axes { shape, flat: !conv };
        (self.charge, self.weights) = (vec![1.0], Some((input, doubles)));
        Ok(())
    }

    /// Adds average pooling and gives the side of its squares.
    fn pool(&mut self, node: &Fields<'_>) -> Result<usize> {
        let size = node.both("kernel_size", 1)?;
        let (stride, padding) = (node.both("stride", 1)?, node.both("padding", 0)?);
        let shape = &mut self.axes.shape;
        let divides = |side: usize| side.is_multiple_of(size);
        let covers = divides(shape.height) && divides(shape.width);
        let found =
            format_args!("squares of side {size}, stride {stride}, padding {padding} on {shape}");
        let expected = "squares next to each other that cover the image, and no padding";
        node.require(stride == size && padding == 0 && covers, found, expected)?;
        (shape.height, shape.width) = (shape.height / size, shape.width / size);
        self.layers.push(Layer::average(size));
        // Simulation folds pooling into the kernel of the convolution before it.
        let mut pooled = 1;
        for layer in self.layers.iter().rev() {
            match layer {
                Layer::AvgPool { window, .. } => pooled *= window.size[0],
                Layer::Conv { inputs, outputs, window, .. } => {
                    let (kernel, stride) = (window.size[0], window.stride[0]);
                    let side = kernel + stride * (pooled - 1);
                    let weights = inputs * outputs.next_multiple_of(LANES);
                    let most = node.most_weights();
                    let good = side.saturating_mul(side).saturating_mul(weights) <= most;
                    let found = format_args!("pooling that makes the kernel {side} x {side}");
                    node.require(good, found, format_args!("at most {most} weights"))?;
                    break;
                }
                _ => break,
            }
        }
        Ok(size)
    }

    /// Multiplies the output of the last layer by one factor, or one per channel: weights and bias,
    /// or the charge of spikes.
    fn scale(&mut self, node: &Fields<'_>, all: &mut [Neurons], factors: &[f32]) -> Result<()> {
        let channels = self.axes.shape.channels;
        let scale: Vec<f32> = spread(factors, channels).collect();
        let mut last = self.layers.iter().rev();
        let last = last.find(|layer| !matches!(layer, Layer::AvgPool { .. }));
        match (last, all.last_mut()) {
            (Some(Layer::Conv { .. } | Layer::Linear { .. }), _) => {
                let biases = self.weights.iter_mut().flat_map(|(_, doubles)| doubles);
                let biases = biases.zip(&scale);
                biases.for_each(|(bias, &factor)| *bias *= f64::from(factor));
                let shift = vec![0.0; channels];
                Layer::ScaleShift { scale, shift }.fold_into(&mut self.layers);
            }
            (Some(Layer::Neurons), Some(neurons)) => {
                let charges = neurons.charges();
                let charges = spread(&charges, channels).zip(&scale);
                let charges = charges.map(|(charge, factor)| charge * factor);
                neurons.charge = Charge::Fixed(charges.collect());
            }
            _ => {
                let expected = "weights or neurons right before it, or only pooling between";
                return Err(node.wrong("a factor on the input or on a sum", expected));
            }
        }
        Ok(())
    }
}

/// Bias of the weights that layers end in, but for pooling; that of the body of a residual layer.
fn bias(layers: &mut [Layer]) -> Option<&mut Option<Vec<f32>>> {
    let mut last = layers.iter_mut().rev();
    match last.find(|layer| !matches!(layer, Layer::AvgPool { .. }))? {
        Layer::Conv { bias, .. } | Layer::Linear { bias, .. } => Some(bias),
        Layer::Residual { body, shortcut } => bias(body).or_else(|| bias(shortcut)),
        _ => None,
    }
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
