//! Plain layers: what a typed network becomes, and what the engine runs.
//!
//! A network is a list of [`Layer`]s. For the engine the list is compiled into *stages*: the
//! synapses up to and including one layer of neurons. Everything linear in a stage is one
//! convolution, exactly (up to rounding, and without it on a dyadic grid):
//!
//! - a convolution of kernel K, stride S and padding P followed by n x n average pooling is the
//!   convolution of kernel K + S(n - 1), stride S n and padding P whose kernel is the mean of n²
//!   shifted copies;
//! - average pooling before a convolution only changes which outputs an input reaches;
//! - a fully connected layer is a convolution whose kernel covers the whole image.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Shape of an image or of a layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Feature maps; colours of an image.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// A shape of `channels` x `height` x `width`.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    /// Number of values.
    pub const fn size(self) -> usize {
        self.channels * self.height * self.width
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.channels, self.height, self.width)
    }
}

/// One layer of a feed-forward network. Weights are in PyTorch's order.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// Cross-correlation with square kernels.
    Conv {
        /// `outputs` x `inputs` x `kernel` x `kernel` weights.
        weight: Vec<f32>,
        /// What every output of a channel adds to its input, at every timestep once it spikes.
        bias: Option<Vec<f32>>,
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// Zeros around the image.
        padding: usize,
    },
    /// Fully connected; takes its input as channels, rows, columns.
    Linear {
        /// `outputs` x `inputs` weights.
        weight: Vec<f32>,
        /// What every output adds to its input, at every timestep once it spikes.
        bias: Option<Vec<f32>>,
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
    },
    /// Mean of `size` x `size` squares.
    AvgPool {
        /// Side of a square, and step between squares.
        size: usize,
    },
    /// Batch normalisation with nothing before it to fold it into: x * scale + shift by channel.
    ScaleShift {
        /// One factor a channel.
        scale: Vec<f32>,
        /// One summand a channel.
        shift: Vec<f32>,
    },
    /// The sum of what two lists of layers make of the same input.
    Residual {
        /// The longer way.
        body: Vec<Layer>,
        /// The shorter way; no layer is the input as it is.
        shortcut: Vec<Layer>,
    },
    /// ReLU in the ANN, integrate-and-fire neurons in the SNN.
    Neurons,
}

impl Layer {
    /// The layer's kind as error messages and tables name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::Linear { .. } => "linear",
            Self::AvgPool { .. } => "average pooling",
            Self::ScaleShift { .. } => "batch normalisation",
            Self::Residual { .. } => "residual",
            Self::Neurons => "neurons",
        }
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        let sum = |layers: &[Self]| layers.iter().map(Self::parameters).sum::<usize>();
        match self {
            Self::Conv { weight, bias, .. } | Self::Linear { weight, bias, .. } => {
                weight.len() + bias.as_ref().map_or(0, Vec::len)
            }
            Self::ScaleShift { scale, shift } => scale.len() + shift.len(),
            Self::Residual { body, shortcut } => sum(body) + sum(shortcut),
            Self::AvgPool { .. } | Self::Neurons => 0,
        }
    }

    /// Appends the layer to others: batch normalisation becomes part of the weights and bias
    /// before it. A mean of outputs and what is done to every output alike may change places, so
    /// average pooling can stand between.
    pub(crate) fn fold_into(self, layers: &mut Vec<Self>) {
        let pooling = |layer: &&mut Self| matches!(layer, Self::AvgPool { .. });
        match (&self, layers.iter_mut().rev().find(|layer| !pooling(layer))) {
            (
                Self::ScaleShift { scale, shift },
                Some(
                    Self::Conv {
                        weight,
                        bias,
                        outputs,
                        ..
                    }
                    | Self::Linear {
                        weight,
                        bias,
                        outputs,
                        ..
                    },
                ),
            ) if *outputs == scale.len() && *outputs > 0 => {
                let each = weight.len() / *outputs;
                for (weights, scale) in weight.chunks_exact_mut(each).zip(scale) {
                    weights.iter_mut().for_each(|w| *w *= scale);
                }
                let bias = bias.get_or_insert_with(|| vec![0.0; *outputs]);
                for (bias, (scale, shift)) in bias.iter_mut().zip(scale.iter().zip(shift)) {
                    *bias = *bias * scale + shift;
                }
            }
            _ => layers.push(self),
        }
    }
}

/// A network compiled for the engine.
#[derive(Debug, Clone)]
pub(crate) struct Stages {
    pub input: Shape,
    /// The last one has no neurons: it integrates its input current.
    pub stages: Vec<Stage>,
}

/// Synapses and the neurons they end in.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// As people write it: `conv 3x3, average pooling`.
    pub name: String,
    pub input: Shape,
    pub output: Shape,
    /// Weights by input channel, kernel row, kernel column, output channel: the weights that one
    /// input adds to one output position are contiguous.
    weight: Vec<f32>,
    /// For every input position, the output positions that it reaches.
    taps: Vec<Tap>,
    /// Where the taps of an input position start; one more entry closes the last.
    tap_start: Vec<u32>,
    /// Weights of one input channel.
    channel_stride: usize,
    /// What each output channel adds to its input; empty for none.
    bias: Vec<f32>,
}

/// An input position reaches an output position through one place of the kernel.
#[derive(Debug, Clone, Copy)]
struct Tap {
    /// First channel of the output position.
    output: u32,
    /// First weight of the kernel's place, within an input channel.
    kernel: u32,
}

/// A convolution that is still growing: pooling is folded into it.
struct Synapses {
    pool: usize,
    weight: Vec<f32>, // [inputs][kernel][kernel][outputs]
    inputs: usize,
    outputs: usize,
    kernel: [usize; 2],
    stride: usize,
    padding: usize,
    bias: Vec<f32>,
}

impl Stages {
    /// Checks that the layers fit each other and compiles them.
    pub fn new(input: Shape, layers: &[Layer], classes: usize) -> Result<Self> {
        let mut stages = Vec::new();
        let mut names = Vec::new();
        let mut stage_input = input;
        let mut shape = input;
        let mut pool = 1;
        let mut synapses: Option<Synapses> = None;
        for (i, layer) in layers.iter().enumerate() {
            let wrong = |found: String, expected: String| {
                Err(Error::layer(i, layer.kind(), found, expected))
            };
            if let Layer::Conv {
                weight,
                bias,
                outputs,
                ..
            }
            | Layer::Linear {
                weight,
                bias,
                outputs,
                ..
            } = layer
            {
                let bias = bias.as_deref();
                if let Some(bad) = weight.iter().find(|w| !w.is_finite()) {
                    return wrong(format!("weight {bad}"), "finite weights".into());
                }
                if let Some(bad) = bias.and_then(|b| b.iter().find(|b| !b.is_finite())) {
                    return wrong(format!("bias {bad}"), "finite biases".into());
                }
                if let Some(bias) = bias.filter(|bias| bias.len() != *outputs) {
                    return wrong(
                        format!("{} biases", bias.len()),
                        format!("{outputs}, one an output channel"),
                    );
                }
                if synapses.is_some() {
                    return wrong(
                        "a second layer of weights with no neurons between".into(),
                        "a ReLU after each layer of weights".into(),
                    );
                }
            }
            match layer {
                Layer::Conv {
                    weight,
                    bias,
                    inputs,
                    outputs,
                    kernel,
                    stride,
                    padding,
                } => {
                    if *inputs != shape.channels {
                        return wrong(
                            format!("{inputs} input channels"),
                            format!("{} as the layer before gives", shape.channels),
                        );
                    }
                    if *stride == 0 || *kernel == 0 || *outputs == 0 {
                        return wrong(
                            format!("kernel {kernel}, stride {stride}, {outputs} outputs"),
                            "at least 1 of each".into(),
                        );
                    }
                    if weight.len() != inputs * outputs * kernel * kernel {
                        return wrong(
                            format!("{} weights", weight.len()),
                            format!("{outputs} x {inputs} x {kernel} x {kernel}"),
                        );
                    }
                    let [height, width] = [shape.height, shape.width].map(|side| {
                        (side + 2 * padding)
                            .checked_sub(*kernel)
                            .map_or(0, |room| room / stride + 1)
                    });
                    if height * width == 0 {
                        return wrong(
                            format!("an image of {shape}"),
                            format!("at least the kernel's {kernel} x {kernel}"),
                        );
                    }
                    synapses = Some(Synapses {
                        pool,
                        weight: channels_last(weight, *outputs, *inputs, [*kernel; 2]),
                        inputs: *inputs,
                        outputs: *outputs,
                        kernel: [*kernel; 2],
                        stride: *stride,
                        padding: *padding,
                        bias: bias.clone().unwrap_or_default(),
                    });
                    shape = Shape::new(*outputs, height, width);
                    names.push(format!("conv {kernel}x{kernel}"));
                }
                Layer::Linear {
                    weight,
                    bias,
                    inputs,
                    outputs,
                } => {
                    if *inputs != shape.size() {
                        return wrong(
                            format!("{inputs} inputs"),
                            format!("{} as the layer before gives ({shape})", shape.size()),
                        );
                    }
                    if weight.len() != inputs * outputs || *outputs == 0 {
                        return wrong(
                            format!("{} weights", weight.len()),
                            format!("{outputs} x {inputs}"),
                        );
                    }
                    let kernel = [shape.height, shape.width];
                    synapses = Some(Synapses {
                        pool,
                        weight: channels_last(weight, *outputs, shape.channels, kernel),
                        inputs: shape.channels,
                        outputs: *outputs,
                        kernel,
                        stride: 1,
                        padding: 0,
                        bias: bias.clone().unwrap_or_default(),
                    });
                    shape = Shape::new(*outputs, 1, 1);
                    names.push("linear".into());
                }
                Layer::AvgPool { size } => {
                    let divides = |side: usize| side.is_multiple_of(*size);
                    if *size == 0 || !divides(shape.height) || !divides(shape.width) {
                        return wrong(
                            format!("squares of side {size}"),
                            format!("a side that divides {} and {}", shape.height, shape.width),
                        );
                    }
                    match &mut synapses {
                        Some(synapses) => synapses.pool_after(*size),
                        None => pool *= size,
                    }
                    shape.height /= size;
                    shape.width /= size;
                    names.push("average pooling".into());
                }
                Layer::ScaleShift { .. } => {
                    return wrong(
                        "no weights of as many outputs before it".into(),
                        "a convolution or linear layer to fold it into, with nothing but average pooling between".into(),
                    );
                }
                Layer::Residual { .. } => {
                    return wrong(
                        "a residual addition".into(),
                        "a plain chain of layers: residual networks cannot be simulated yet".into(),
                    );
                }
                Layer::Neurons => {
                    let Some(synapses) = synapses.take() else {
                        return wrong(
                            "neurons with no weights before them".into(),
                            "a convolution or linear layer before each ReLU".into(),
                        );
                    };
                    let name = std::mem::take(&mut names).join(", ");
                    stages.push(synapses.stage(name, stage_input, shape)?);
                    (stage_input, pool) = (shape, 1);
                }
            }
        }
        let Some(synapses) = synapses else {
            return Err(Error::network(
                "neurons or pooling as the last layer",
                "a linear layer or convolution that gives one value a class",
            ));
        };
        if stages.is_empty() {
            return Err(Error::network("no layer of neurons", "at least one"));
        }
        if shape != Shape::new(classes, 1, 1) {
            return Err(Error::network(
                format!("an output of {shape}"),
                format!("{classes} x 1 x 1, one value a class"),
            ));
        }
        stages.push(synapses.stage(names.join(", "), stage_input, shape)?);
        Ok(Self { input, stages })
    }

    /// Number of layers of neurons.
    pub fn spiking(&self) -> usize {
        self.stages.len() - 1
    }
}

/// [outputs][inputs][rows][columns] to [inputs][rows][columns][outputs].
fn channels_last(weight: &[f32], outputs: usize, inputs: usize, kernel: [usize; 2]) -> Vec<f32> {
    let each = inputs * kernel[0] * kernel[1];
    let mut out = vec![0.0; weight.len()];
    for (o, weights) in weight.chunks_exact(each).enumerate() {
        for (i, &w) in weights.iter().enumerate() {
            out[i * outputs + o] = w;
        }
    }
    out
}

impl Synapses {
    /// Folds `size` x `size` average pooling of the output into the kernel.
    fn pool_after(&mut self, size: usize) {
        let old = self.kernel;
        let new = old.map(|kernel| kernel + self.stride * (size - 1));
        let outputs = self.outputs;
        let mut weight = vec![0.0; self.inputs * new[0] * new[1] * outputs];
        let each = 1.0 / (size * size) as f32;
        for i in 0..self.inputs {
            for (row, column) in (0..old[0]).flat_map(|r| (0..old[1]).map(move |c| (r, c))) {
                let from = &self.weight[((i * old[0] + row) * old[1] + column) * outputs..];
                for (dr, dc) in (0..size).flat_map(|r| (0..size).map(move |c| (r, c))) {
                    let (r, c) = (row + dr * self.stride, column + dc * self.stride);
                    let to = &mut weight[((i * new[0] + r) * new[1] + c) * outputs..][..outputs];
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += from * each;
                    }
                }
            }
        }
        self.weight = weight;
        self.kernel = new;
        self.stride *= size;
    }

    fn stage(mut self, name: String, input: Shape, output: Shape) -> Result<Stage> {
        let widest = self.weight.len().max(input.size()).max(output.size());
        if u32::try_from(widest).is_err() {
            return Err(Error::network(
                format!("a stage of {widest} values"),
                "at most 2^32 - 1 inputs, outputs and weights a stage",
            ));
        }
        let share = 1.0 / (self.pool * self.pool) as f32;
        self.weight.iter_mut().for_each(|w| *w *= share);
        let (mut taps, mut tap_start) = (Vec::new(), vec![0]);
        for row in 0..input.height {
            for column in 0..input.width {
                // The pooled position that this one is part of, counted with the padding.
                let (row, column) = (
                    row / self.pool + self.padding,
                    column / self.pool + self.padding,
                );
                for r in 0..output.height {
                    let Some(kernel_row) = row.checked_sub(r * self.stride) else {
                        break;
                    };
                    if kernel_row >= self.kernel[0] {
                        continue;
                    }
                    for c in 0..output.width {
                        let Some(kernel_column) = column.checked_sub(c * self.stride) else {
                            break;
                        };
                        if kernel_column < self.kernel[1] {
                            let kernel = kernel_row * self.kernel[1] + kernel_column;
                            taps.push(Tap {
                                output: ((r * output.width + c) * output.channels) as u32,
                                kernel: (kernel * output.channels) as u32,
                            });
                        }
                    }
                }
                tap_start.push(taps.len() as u32);
            }
        }
        Ok(Stage {
            name,
            input,
            output,
            channel_stride: self.kernel[0] * self.kernel[1] * output.channels,
            weight: self.weight,
            taps,
            tap_start,
            bias: self.bias,
        })
    }
}

impl Stage {
    /// Adds to `current` what input `index` (rows, columns, channels) adds to every output it
    /// reaches, times `value`. Of a spike, `value` is 1.
    #[inline(always)]
    pub fn add(&self, index: usize, value: f32, current: &mut [f32]) {
        let (position, channel) = (index / self.input.channels, index % self.input.channels);
        let weight = &self.weight[channel * self.channel_stride..][..self.channel_stride];
        let width = self.output.channels;
        let taps = self.tap_start[position] as usize..self.tap_start[position + 1] as usize;
        for tap in &self.taps[taps] {
            let to = &mut current[tap.output as usize..][..width];
            let from = &weight[tap.kernel as usize..][..width];
            for (to, from) in to.iter_mut().zip(from) {
                *to += from * value;
            }
        }
    }

    /// Sets `current` to what flows without any input, the bias, in units of `charge`.
    #[inline]
    pub fn rest(&self, charge: f32, current: &mut [f32]) {
        if self.bias.is_empty() {
            current.fill(0.0);
            return;
        }
        for current in current.chunks_exact_mut(self.bias.len()) {
            for (current, bias) in current.iter_mut().zip(&self.bias) {
                *current = bias / charge;
            }
        }
    }

    /// The stage's output for one dense input, both as rows, columns, channels.
    pub fn forward(&self, input: &[f32], output: &mut [f32]) {
        self.rest(1.0, output);
        for (index, &value) in input.iter().enumerate() {
            if value != 0.0 {
                self.add(index, value, output);
            }
        }
    }
}

/// From channels, rows, columns to rows, columns, channels.
pub(crate) fn to_channels_last(shape: Shape, from: &[f32], to: &mut [f32]) {
    let positions = shape.height * shape.width;
    for (channel, plane) in from.chunks_exact(positions).enumerate() {
        for (position, &value) in plane.iter().enumerate() {
            to[position * shape.channels + channel] = value;
        }
    }
}
