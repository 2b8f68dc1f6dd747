//! Plain layers of feed-forward networks, to which typed and imported networks are reduced for
//! conversion and simulation.

use flate2::Crc;

use crate::base::{Error, Result, one_line};
use crate::data::Shape;
use crate::ops::qcfs_of;

/// Layer of a feed-forward network, with weights in PyTorch's order.
#[derive(Clone, PartialEq)]
pub enum Layer {
    /// Cross-correlation, as in PyTorch's `Conv2d`. A depthwise one has as many groups as inputs.
    Conv {
        /// Weights, `outputs` x `inputs` / `groups` x rows x columns of the kernel, row by row.
        weight: Vec<f32>,
        /// Bias, one per output channel, added in every timestep of the SNN.
        bias: Option<Vec<f32>>,
        /// Number of input channels.
        inputs: usize,
        /// Number of output channels.
        outputs: usize,
        /// Kernel, its stride and the zeros around the image.
        window: Window,
        /// Number of groups: each has an equal share of the inputs and of the outputs, in order.
        groups: usize,
    },
    /// Fully connected layer over all values of an image.
    Linear {
        /// Weights, `outputs` x `inputs`, row by row.
        weight: Vec<f32>,
        /// Bias, one per output, added in every timestep of the SNN.
        bias: Option<Vec<f32>>,
        /// Number of input features.
        inputs: usize,
        /// Number of output features.
        outputs: usize,
        /// Axes of the flattened image, the slowest first: [`CHANNELS_FIRST`] in PyTorch.
        order: [Axis; 3],
    },
    /// Mean of each window.
    AvgPool {
        /// Windows and the padding around the image.
        window: Window,
        /// Whether an output side is rounded up: a last window may reach beyond the padding, where
        /// nothing counts.
        ceil: bool,
        /// Whether the zeros of the padding count as values.
        count_padding: bool,
    },
    /// Largest value of each window. Padding is never the largest.
    MaxPool {
        /// Windows and the padding around the image.
        window: Window,
        /// Whether an output side is rounded up: a last window may reach beyond the padding.
        ceil: bool,
    },
    /// x * scale + shift, such as batch normalisation that is not folded into weights.
    ScaleShift {
        /// Factors, one per channel.
        scale: Vec<f32>,
        /// Summands, one per channel.
        shift: Vec<f32>,
    },
    /// Sum of any number of inputs of one shape.
    Sum,
    /// Channels of any number of inputs of one height and width, one after the other.
    Concat,
    /// ReLU in the ANN, integrate-and-fire neurons in the SNN.
    Neurons,
    /// ReLU with an upper bound in the ANN, such as ReLU6; integrate-and-fire neurons in the SNN,
    /// with thresholds not above the bound.
    Clipped {
        /// Upper bound of the activation. Above 0.
        bound: f32,
    },
    /// [`Qcfs`](crate::ann::modules::Qcfs) in the ANN, integrate-and-fire neurons in the SNN.
    Qcfs {
        /// λ, the upper bound of the activation. Above 0.
        bound: f32,
        /// L, the number of levels above 0. 1 or more.
        levels: usize,
    },
}

one_line!(impl [] Layer: layer, "{}, {} weights", layer.kind(), layer.parameters());

/// Rectangular windows of a convolution or of pooling, rows before columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns of a window.
    pub size: [usize; 2],
    /// Steps between windows, in rows and columns.
    pub stride: [usize; 2],
    /// Steps between the values of a window, in rows and columns; 1 for adjacent ones.
    pub dilation: [usize; 2],
    /// Rows and columns of padding: above, left of, below and right of the image.
    pub padding: [usize; 4],
}

impl Window {
    /// Each value by itself.
    pub const ONE: Self = Self::square(1, 1, 0);

    /// Square windows of adjacent values.
    pub const fn square(size: usize, stride: usize, padding: usize) -> Self {
        Self { size: [size; 2], stride: [stride; 2], dilation: [1; 2], padding: [padding; 4] }
    }

    /// Number of windows, in rows and columns, on an image of `height` x `width`; 0 where none fits.
    /// Rounded up (`ceil`), a last window may reach beyond the padding, but starts inside the image
    /// or the padding before it, as in PyTorch.
    pub fn outputs(&self, height: usize, width: usize, ceil: bool) -> [usize; 2] {
        [0, 1].map(|axis| {
            let (side, stride) = ([height, width][axis], self.stride[axis]);
            let [before, after] = [self.padding[axis], self.padding[axis + 2]];
            let reach = self.size[axis].saturating_sub(1).saturating_mul(self.dilation[axis]);
            let all = side.saturating_add(before).saturating_add(after);
            let Some(room) = all.checked_sub(reach.saturating_add(1)) else {
                return 0;
            };
            let (count, rest) = ((room / stride.max(1)).saturating_add(1), room % stride.max(1));
            let starts_inside = count.saturating_mul(stride) < side.saturating_add(before);
            count.saturating_add(usize::from(ceil && rest > 0 && starts_inside))
        })
    }

    /// Rows (`axis` 0) or columns (1) of window number `out` that lie inside an image of `side`, each
    /// with its row or column of the image.
    pub(crate) fn inside(
        &self,
        axis: usize,
        out: usize,
        side: usize,
    ) -> impl ExactSizeIterator<Item = (usize, usize)> + Clone {
        let (corner, padding) = (out * self.stride[axis], self.padding[axis]);
        let dilation = self.dilation[axis];
        let first = padding.saturating_sub(corner).div_ceil(dilation);
        let end = (side + padding).saturating_sub(corner).div_ceil(dilation);
        let places = first..end.min(self.size[axis]);
        places.map(move |place| (place, corner + place * dilation - padding))
    }

    /// Number of rows (`axis` 0) or columns (1) that count in the mean of each of `outs` windows on
    /// an image of `side`: those inside, or also those in the padding, but none beyond it.
    pub(crate) fn counts(
        &self,
        axis: usize,
        outs: usize,
        side: usize,
        count_padding: bool,
    ) -> Vec<usize> {
        let all = side + self.padding[axis] + self.padding[axis + 2];
        let count = |out: usize| match count_padding {
            true => {
                let left = all - out * self.stride[axis];
                left.div_ceil(self.dilation[axis]).min(self.size[axis])
            }
            false => self.inside(axis, out, side).len(),
        };
        (0..outs).map(count).collect()
    }
}

/// Axis of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Channels.
    Channels,
    /// Rows.
    Rows,
    /// Columns.
    Columns,
}

/// Order of the values of a flattened image in PyTorch and ONNX: channels, rows, columns.
pub const CHANNELS_FIRST: [Axis; 3] = [Axis::Channels, Axis::Rows, Axis::Columns];
/// Order of the values of a flattened image in Keras: rows, columns, channels.
pub const CHANNELS_LAST: [Axis; 3] = [Axis::Rows, Axis::Columns, Axis::Channels];

/// Largest number of values in the output of a layer; a VGG16 for ImageNet has 3.2 million.
pub const MOST_VALUES: usize = 1 << 26;
/// Largest size, stride, dilation or padding of a window.
const MOST_STEPS: usize = 1 << 26;

impl Layer {
    /// Average pooling over `size` x `size` squares next to each other.
    pub const fn average(size: usize) -> Self {
        Self::AvgPool { window: Window::square(size, size, 0), ceil: false, count_padding: false }
    }

    /// Kind of the layer, for error messages and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::Linear { .. } => "linear",
            Self::AvgPool { .. } => "average pooling",
            Self::MaxPool { .. } => "max pooling",
            Self::ScaleShift { .. } => "scale and shift",
            Self::Sum => "sum",
            Self::Concat => "concatenation",
            Self::Neurons => "ReLU",
            Self::Clipped { .. } => "clipped ReLU",
            Self::Qcfs { .. } => "QCFS",
        }
    }

    /// Weights and biases of a convolution or a linear layer.
    pub(crate) fn weights(&self) -> impl Iterator<Item = &Vec<f32>> {
        let tensors = match self {
            Self::Conv { weight, bias, .. } | Self::Linear { weight, bias, .. } => {
                Some((weight, bias))
            }
            _ => None,
        };
        tensors.into_iter().flat_map(|(weight, bias)| [weight].into_iter().chain(bias))
    }

    /// [`weights`](Self::weights), to be changed.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        let tensors = match self {
            Self::Conv { weight, bias, .. } | Self::Linear { weight, bias, .. } => {
                Some((weight, bias))
            }
            _ => None,
        };
        tensors.into_iter().flat_map(|(weight, bias)| [weight].into_iter().chain(bias))
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        match self {
            Self::ScaleShift { scale, shift } => scale.len() + shift.len(),
            _ => self.weights().map(Vec::len).sum(),
        }
    }

    /// Number of multiply-accumulates of the ANN for an input of this shape: of convolutions, their
    /// padding included, and linear layers. 0 for a layer that does not take this shape.
    pub fn products(&self, input: Shape) -> u64 {
        match (self, self.output(0, "", &[input])) {
            (Self::Conv { weight, .. } | Self::Linear { weight, .. }, Ok(output)) => {
                weight.len() as u64 * (output.height * output.width) as u64
            }
            _ => 0,
        }
    }

    /// Shape of the output for inputs of these shapes. `number` and `name` say in an error which
    /// layer it is.
    ///
    /// # Errors
    /// [`Error::Layer`] for a layer that does not fit its inputs or has values that are not finite
    /// or out of range.
    pub fn output(&self, number: usize, name: &str, inputs: &[Shape]) -> Result<Shape> {
        let wrong = |found: String, expected: String| {
            let kind = match name {
                "" => self.kind().to_string(),
                name => format!("{} `{name}`", self.kind()),
            };
            Err(Error::layer(number, kind, found, expected))
        };
        let Some(&shape) = inputs.first() else {
            return wrong("no input".into(), "at least 1".into());
        };
        if inputs.len() > 1 && !matches!(self, Self::Sum | Self::Concat) {
            return wrong(format!("{} inputs", inputs.len()), "1".into());
        }
        if let Some((name, bad, expected)) = self.not_finite() {
            return wrong(format!("{name} {bad}"), expected.into());
        }
        if let Some((found, expected)) = self.wrong_outputs() {
            return wrong(found, expected);
        }
        let output = match self {
            Self::Conv { weight, inputs, outputs, window, groups, .. } => {
                if *inputs != shape.channels {
                    let expected = format!("{} as the layer before gives", shape.channels);
                    return wrong(format!("{inputs} input channels"), expected);
                }
                let divides = |channels: usize| *groups > 0 && channels.is_multiple_of(*groups);
                if !divides(*inputs) || !divides(*outputs) {
                    let found = format!("{groups} groups of {inputs} inputs, {outputs} outputs");
                    return wrong(found, "a number that divides both".into());
                }
                let [rows, columns] = window.size;
                let each = (inputs / groups).saturating_mul(rows).saturating_mul(columns);
                if weight.len() != outputs.saturating_mul(each) {
                    let expected = format!("{outputs} x {} x {rows} x {columns}", inputs / groups);
                    return wrong(format!("{} weights", weight.len()), expected);
                }
                Shape { channels: *outputs, ..shape }
            }
            Self::Linear { weight, inputs, outputs, order, .. } => {
                if *inputs != shape.size() {
                    let expected = format!("{} as the layer before gives ({shape})", shape.size());
                    return wrong(format!("{inputs} inputs"), expected);
                }
                if CHANNELS_FIRST.iter().any(|axis| !order.contains(axis)) {
                    return wrong(format!("axes {order:?}"), "each of the three once".into());
                }
                if weight.len() != outputs.saturating_mul(*inputs) {
                    let expected = format!("{outputs} x {inputs}");
                    return wrong(format!("{} weights", weight.len()), expected);
                }
                Shape::new(*outputs, 1, 1)
            }
            Self::ScaleShift { scale, shift } => {
                let channels = shape.channels;
                if scale.len() != channels || shift.len() != channels {
                    let found = format!("{} factors and {} summands", scale.len(), shift.len());
                    return wrong(found, format!("{channels} of each, one per channel"));
                }
                shape
            }
            Self::Sum => {
                if let Some(other) = inputs.iter().find(|&&other| other != shape) {
                    let found = format!("an input of {other}");
                    return wrong(found, format!("{shape} as of the first"));
                }
                shape
            }
            Self::Concat => {
                let mut channels = 0usize;
                for other in inputs {
                    if (other.height, other.width) != (shape.height, shape.width) {
                        let found = format!("an input of {other}");
                        let expected = format!("the first's {} x {}", shape.height, shape.width);
                        return wrong(found, expected);
                    }
                    channels = channels.saturating_add(other.channels);
                }
                Shape { channels, ..shape }
            }
            Self::Clipped { bound } | Self::Qcfs { bound, .. } if *bound <= 0.0 => {
                return wrong(format!("bound {bound}"), "a finite bound above 0".into());
            }
            Self::Qcfs { levels: 0, .. } => return wrong("no level".into(), "1 or more".into()),
            _ => shape,
        };
        let Some((window, ceil)) = self.window() else {
            return Ok(output);
        };
        let Window { size, stride, dilation, padding } = *window;
        let steps = [size, stride, dilation].concat();
        let good = |&step: &usize| (1..=MOST_STEPS).contains(&step);
        if !steps.iter().all(good) || padding.iter().any(|&padding| padding > MOST_STEPS) {
            let steps = format!("size {size:?}, stride {stride:?}, dilation {dilation:?}");
            let expected = format!("at least 1 everywhere but in padding, at most {MOST_STEPS}");
            return wrong(format!("{steps}, padding {padding:?}"), expected);
        }
        let [height, width] = window.outputs(shape.height, shape.width, ceil);
        if height == 0 || width == 0 {
            let [rows, columns] = [0, 1].map(|axis| (size[axis] - 1) * dilation[axis] + 1);
            let expected = format!("at least the window's {rows} x {columns}");
            return wrong(format!("an image of {shape}"), expected);
        }
        let values = height.saturating_mul(width).saturating_mul(output.channels);
        if values > MOST_VALUES {
            let found = format!("an output of {} x {height} x {width}", output.channels);
            return wrong(found, format!("at most {MOST_VALUES} values"));
        }
        let empty =
            |axis, outs, side| (0..outs).any(|out| window.inside(axis, out, side).next().is_none());
        let pools = !matches!(self, Self::Conv { .. });
        if pools && (empty(0, height, shape.height) || empty(1, width, shape.width)) {
            let found = format!("windows {size:?} in padding {padding:?} on {shape}");
            return wrong(found, "windows that each hold a value of the image".into());
        }
        Ok(Shape { height, width, ..output })
    }

    /// Windows of a convolution or of pooling, and whether output sides are rounded up.
    pub(crate) fn window(&self) -> Option<(&Window, bool)> {
        match self {
            Self::Conv { window, .. } => Some((window, false)),
            Self::AvgPool { window, ceil, .. } | Self::MaxPool { window, ceil } => {
                Some((window, *ceil))
            }
            _ => None,
        }
    }

    /// What is wrong with the number of outputs or biases.
    fn wrong_outputs(&self) -> Option<(String, String)> {
        let (Self::Conv { bias, outputs, .. } | Self::Linear { bias, outputs, .. }) = self else {
            return None;
        };
        match bias {
            _ if *outputs == 0 => Some(("no output".into(), "at least 1".into())),
            Some(bias) if bias.len() != *outputs => {
                let expected = format!("{outputs}, one an output channel");
                Some((format!("{} biases", bias.len()), expected))
            }
            _ => None,
        }
    }

    /// Name and value of a parameter that is not finite, and what is expected.
    fn not_finite(&self) -> Option<(&'static str, f32, &'static str)> {
        let bad = |name, values: &[f32], expected| {
            let bad = values.iter().copied().find(|value| !value.is_finite());
            bad.map(|bad| (name, bad, expected))
        };
        match self {
            Self::Conv { weight, bias, .. } | Self::Linear { weight, bias, .. } => {
                let bias = bias.as_deref().unwrap_or_default();
                bad("weight", weight, "finite weights")
                    .or_else(|| bad("bias", bias, "finite biases"))
            }
            Self::ScaleShift { scale, shift } => bad("factor", scale, "finite factors")
                .or_else(|| bad("summand", shift, "finite summands")),
            Self::Clipped { bound } | Self::Qcfs { bound, .. } => {
                bad("bound", &[*bound], "a finite bound above 0")
            }
            _ => None,
        }
    }

    /// Adds sizes and values to a checksum.
    pub(super) fn add_to(&self, checksum: &mut Crc) {
        let mut add = |sizes: &[usize], values: [&[f32]; 2]| {
            for &size in sizes.iter().chain(&values.map(<[f32]>::len)) {
                checksum.update(&(size as u64).to_le_bytes());
            }
            for values in values {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                checksum.update(&bytes.collect::<Vec<u8>>());
            }
        };
        let windows = |kind, window: &Window, more: [usize; 3]| {
            let Window { size, stride, dilation, padding } = window;
            [&[kind], &more[..], size, stride, dilation, padding].concat()
        };
        match self {
            Self::Conv { weight, bias, inputs, outputs, window, groups } => add(
                &windows(0, window, [*inputs, *outputs, *groups]),
                [weight, bias.as_deref().unwrap_or_default()],
            ),
            Self::Linear { weight, bias, inputs, outputs, order } => {
                let [a, b, c] = order.map(|axis| axis as usize);
                let bias = bias.as_deref().unwrap_or_default();
                add(&[1, *inputs, *outputs, a, b, c], [weight, bias])
            }
            Self::AvgPool { window, ceil, count_padding } => {
                let more = [usize::from(*ceil), usize::from(*count_padding), 0];
                add(&windows(2, window, more), [&[]; 2])
            }
            Self::MaxPool { window, ceil } => {
                add(&windows(7, window, [usize::from(*ceil), 0, 0]), [&[]; 2])
            }
            Self::ScaleShift { scale, shift } => add(&[3], [scale, shift]),
            Self::Neurons => add(&[5], [&[]; 2]),
            Self::Qcfs { bound, levels } => add(&[6, *levels], [&[*bound], &[]]),
            Self::Clipped { bound } => add(&[8], [&[*bound], &[]]),
            Self::Sum => add(&[9], [&[]; 2]),
            Self::Concat => add(&[10], [&[]; 2]),
        }
    }

    /// Whether the layer is one of neurons.
    pub(crate) fn fires(&self) -> bool {
        matches!(self, Self::Neurons | Self::Clipped { .. } | Self::Qcfs { .. })
    }

    /// Activation of a layer of neurons in the ANN.
    pub(crate) fn activation(&self) -> Activation {
        match *self {
            Self::Clipped { bound } => Activation::Clipped { bound },
            Self::Qcfs { bound, levels } => Activation::Qcfs { bound, levels },
            _ => Activation::Relu,
        }
    }

    /// Description for tables: the kind and, of a convolution, its kernel.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Conv { window: Window { size: [rows, columns], .. }, .. } => {
                format!("conv {rows}x{columns}")
            }
            layer => layer.kind().into(),
        }
    }

    /// Brings the weights of a linear layer over an image of this shape into PyTorch's order.
    pub(crate) fn order_channels_first(&mut self, image: Shape) {
        let Self::Linear { weight, inputs, order, .. } = self else {
            return;
        };
        let from = std::mem::replace(order, CHANNELS_FIRST);
        if from == CHANNELS_FIRST {
            return;
        }
        let side = |axis| match axis {
            Axis::Channels => image.channels,
            Axis::Rows => image.height,
            Axis::Columns => image.width,
        };
        // Distance in the old order of neighbours along an axis.
        let steps = CHANNELS_FIRST.map(|axis| {
            let after = from.iter().skip_while(|&&other| other != axis).skip(1);
            after.map(|&axis| side(axis)).product::<usize>()
        });
        let positions = image.height * image.width;
        for weights in weight.chunks_exact_mut(*inputs) {
            let old = weights.to_vec();
            for (at, weight) in weights.iter_mut().enumerate() {
                let (channel, position) = (at / positions, at % positions);
                let place = [channel, position / image.width, position % image.width];
                *weight = old[(0..3).map(|axis| place[axis] * steps[axis]).sum::<usize>()];
            }
        }
    }

    /// Multiplies each output channel of a layer of weights by a factor, and adds a summand.
    pub(crate) fn scale_outputs(&mut self, scale: &[f32], shift: &[f32]) {
        let (Self::Conv { weight, bias, .. } | Self::Linear { weight, bias, .. }) = self else {
            return;
        };
        let each = (weight.len() / scale.len().max(1)).max(1);
        for (weights, scale) in weight.chunks_exact_mut(each).zip(scale) {
            weights.iter_mut().for_each(|w| *w *= scale);
        }
        let bias = bias.get_or_insert_with(|| vec![0.0; scale.len()]);
        for (bias, (scale, shift)) in bias.iter_mut().zip(scale.iter().zip(shift)) {
            *bias = *bias * scale + shift;
        }
    }
}

/// Activation of a layer of neurons in the ANN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    Relu,
    Clipped {
        bound: f32,
    },
    Qcfs {
        bound: f32,
        levels: usize,
    },
    /// No activation: the output layer.
    Identity,
}

impl Activation {
    /// Largest output that spikes must not exceed; infinity for none. Thresholds of QCFS may be
    /// above its bound, as the ANN's own at few levels.
    pub fn bound(self) -> f32 {
        match self {
            Self::Clipped { bound } => bound,
            _ => f32::INFINITY,
        }
    }

    pub fn of(self, x: f32) -> f32 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Clipped { bound } => x.max(0.0).min(bound),
            Self::Qcfs { bound, levels } => qcfs_of(x, bound, levels as f32),
            Self::Identity => x,
        }
    }
}

/// Fully connected layer without bias.
#[cfg(test)]
pub(crate) fn linear(weight: Vec<f32>, inputs: usize) -> Layer {
    let outputs = weight.len() / inputs;
    Layer::Linear { outputs, bias: None, weight, inputs, order: CHANNELS_FIRST }
}
