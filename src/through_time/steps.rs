//! Layers on a device, and how they run on a batch of inputs over all timesteps.

use dfdx::prelude::{
    Axes2, Axis, BroadcastTo, Device, HasShape, NoneTape, PermuteTo, ReshapeTo, SelectTo, Tape,
    Tensor, TryAdd, TryConcatAlong, TryMatMul, TryMul,
};

use crate::ann::{Activation, Graph, Layer, Node, Window};
use crate::base::{Error, Result};
use crate::data::Shape;
use crate::ops::{
    Accelerated, ConvShape, Flat, Patches, Values, average_patches, convolve_patches,
    convolve_plainly, max_patches,
};
use crate::simulate::Neurons;

/// Layers on a device, in the order of a graph.
pub(crate) struct Steps<D: Device<f32>> {
    pub steps: Vec<Step<D>>,
    /// Numbers of the values that each step takes: 0 is the input, k the output of step k - 1.
    inputs: Vec<Vec<usize>>,
    /// Number of steps that take each value.
    uses: Vec<usize>,
    /// Size of the largest value.
    largest: usize,
    /// Shape of the output.
    pub output: Shape,
}

/// One layer, its parameters on a device.
pub(crate) enum Step<D: Device<f32>> {
    /// Squares on a square, for which devices have fast operations.
    Convolve {
        weight: Values<D>,
        bias: Option<Values<D>>,
        shape: ConvShape,
    },
    /// Any other convolution.
    ConvolvePatches {
        weight: Values<D>,
        bias: Option<Values<D>>,
        patches: Patches,
        groups: usize,
    },
    /// Weights as the layer has them, a row for each output.
    Multiply {
        weight: Values<D>,
        bias: Option<Values<D>>,
        inputs: usize,
    },
    /// Squares next to each other on a square.
    AveragePool {
        side: usize,
        size: usize,
    },
    /// Any other average pooling, with one over the number of values of each output.
    AveragePatches {
        patches: Patches,
        shares: Values<D>,
    },
    MaxPool(Patches),
    /// A factor and a summand for each channel.
    ScaleShift([Values<D>; 2]),
    Sum,
    Concat,
    /// Only in an ANN.
    Relu,
    /// Only in an ANN.
    Clip(f32),
    /// Only in an ANN.
    Qcfs {
        bound: Values<D>,
        levels: usize,
    },
    /// Only in a spiking network.
    Fire(Fire<D>),
}

impl<D: Device<f32>> Step<D> {
    /// Weights and bias.
    pub fn weights(&self) -> impl Iterator<Item = &Values<D>> {
        let tensors = match self {
            Self::Convolve { weight, bias, .. }
            | Self::ConvolvePatches { weight, bias, .. }
            | Self::Multiply { weight, bias, .. } => Some((weight, bias)),
            _ => None,
        };
        tensors.into_iter().flat_map(|(weight, bias)| std::iter::once(weight).chain(bias))
    }

    /// Threshold, charge and leak of a layer of neurons, one value per channel.
    pub fn parameters(&self) -> impl Iterator<Item = &Values<D>> {
        let fire = match self {
            Self::Fire(fire) => Some([&fire.threshold, &fire.charge, &fire.leak]),
            _ => None,
        };
        fire.into_iter().flatten()
    }
}

/// A layer of neurons, its parameters on a device.
pub(crate) struct Fire<D: Device<f32>> {
    pub neurons: Neurons,
    pub channels: usize,
    /// Neurons per channel.
    pub positions: usize,
    /// Sizes of a spike, which are thresholds of plain neurons: one per channel, as leaks and charges.
    pub threshold: Values<D>,
    pub leak: Values<D>,
    pub charge: Values<D>,
}

impl<D: Device<f32>> Fire<D> {
    pub fn new(device: &D, neurons: &Neurons, channels: usize, positions: usize) -> Result<Self> {
        let by_channel = |values: &[f32]| {
            let values = values.iter().copied().cycle();
            tensor(device, values.take(channels).collect())
        };
        Ok(Self {
            channels,
            positions,
            threshold: by_channel(&neurons.spike_sizes())?,
            leak: by_channel(&neurons.leak)?,
            charge: by_channel(&neurons.charges())?,
            neurons: neurons.clone(),
        })
    }
}

pub(crate) fn tensor<D: Device<f32>>(device: &D, values: Vec<f32>) -> Result<Values<D>> {
    let size = (values.len(),);
    device.try_tensor_from_vec(values, size).map_err(Error::device)
}

/// Values between two layers: one frame per timestep of each input, one input after the other, or
/// one frame per input where all timesteps are the same.
pub(crate) struct Flow<D: Device<f32>, T> {
    pub x: Flat<f32, D, T>,
    pub inputs: usize,
    /// Frames per input.
    pub frames: usize,
    /// Whether spikes made them, whose frames are timesteps.
    pub fired: bool,
}

impl<D: Device<f32>, T: Tape<f32, D>> Flow<D, T> {
    /// The same values in `frames` frames per input.
    pub fn over(self, frames: usize) -> Result<Self> {
        if self.frames == frames {
            return Ok(self);
        }
        let (all, inputs, fired) = (self.x.shape().0, self.inputs, self.fired);
        let each = all / inputs.max(1);
        let rows = self.x.try_reshape_like(&(inputs, each));
        let x = rows
            .and_then(|x| x.try_broadcast_like::<_, Axis<1>>(&(inputs, frames, each)))
            .and_then(|x| x.try_reshape_like(&(all * frames,)))
            .map_err(Error::device)?;
        Ok(Self { x, inputs, frames, fired })
    }
}

impl<D: Accelerated<f32>> Steps<D> {
    /// Largest number of values that one frame becomes: those of all windows of a layer, or of the
    /// layer's input or output.
    pub fn widest(&self) -> usize {
        let windows = |step: &Step<D>| match step {
            Step::Convolve { shape, .. } => shape.places() * shape.positions(),
            Step::ConvolvePatches { patches, .. }
            | Step::AveragePatches { patches, .. }
            | Step::MaxPool(patches) => patches.indices.len(),
            _ => 1,
        };
        self.steps.iter().map(windows).fold(self.largest, usize::max)
    }

    /// Runs all layers, neurons by `fire` and max pools by `pool`. `plainly` runs convolutions by
    /// definition, which adds up the products in their order.
    pub fn forward<T: Tape<f32, D>>(
        &self,
        flow: Flow<D, T>,
        plainly: bool,
        fire: &mut impl FnMut(&Fire<D>, Flow<D, T>) -> Result<Flow<D, T>>,
        pool: &mut impl FnMut(&Patches, Flow<D, T>) -> Result<Flow<D, T>>,
    ) -> Result<Flow<D, T>> {
        let (mut values, mut left) = (vec![Some(flow)], self.uses.clone());
        for (step, numbers) in self.steps.iter().zip(&self.inputs) {
            let mut inputs = Vec::with_capacity(numbers.len());
            for &number in numbers {
                left[number] -= 1;
                // The last that takes a value gets its tape.
                inputs.extend(match (left[number], &values[number]) {
                    (1.., Some(flow)) => Some(flow.retaped()),
                    _ => values[number].take(),
                });
            }
            values.push(Some(step.forward(inputs, plainly, fire, pool)?));
        }
        values.pop().flatten().ok_or_else(|| Error::network("no layer", "at least one"))
    }
}

impl<D: Device<f32>, T: Tape<f32, D>> Flow<D, T> {
    /// The same values with a tape of their own.
    fn retaped(&self) -> Self {
        Self { x: self.x.retaped(), ..*self }
    }
}

impl<D: Accelerated<f32>> Step<D> {
    fn forward<T: Tape<f32, D>>(
        &self,
        mut flows: Vec<Flow<D, T>>,
        plainly: bool,
        fire: &mut impl FnMut(&Fire<D>, Flow<D, T>) -> Result<Flow<D, T>>,
        pool: &mut impl FnMut(&Patches, Flow<D, T>) -> Result<Flow<D, T>>,
    ) -> Result<Flow<D, T>> {
        if let Self::Sum | Self::Concat = self {
            return self.join(flows);
        }
        let Some(flow) = flows.pop() else {
            return Err(Error::network("a layer without input", "one"));
        };
        match self {
            Self::Fire(neurons) => return fire(neurons, flow),
            Self::MaxPool(patches) => return pool(patches, flow),
            _ => (),
        }
        let Flow { x, inputs, frames, fired } = flow;
        let rows = inputs * frames;
        let x = match self {
            Self::Convolve { weight, bias, shape } => {
                let z = match plainly {
                    true => convolve_plainly(x, weight.retaped(), *shape),
                    false => D::convolve(x, weight.retaped(), *shape),
                };
                z.and_then(|z| add_bias(z, bias, rows))
            }
            Self::ConvolvePatches { weight, bias, patches, groups } => {
                let z = convolve_patches(x, weight.retaped(), patches, *groups);
                z.and_then(|z| add_bias(z, bias, rows))
            }
            Self::Multiply { weight, bias, inputs } => {
                multiply(x, weight, (*inputs, rows)).and_then(|z| add_bias(z, bias, rows))
            }
            Self::AveragePool { side, size } => D::average_pool(x, *side, *size),
            Self::AveragePatches { patches, shares } => {
                average_patches(x, patches, shares.retaped())
            }
            Self::ScaleShift([scale, shift]) => scale_shift(x, scale, shift, rows),
            Self::Relu => D::relu(x),
            Self::Clip(bound) => x.try_clamp(0.0, *bound),
            Self::Qcfs { bound, levels } => D::qcfs(x, bound.retaped(), *levels),
            Self::Fire(_) | Self::MaxPool(_) | Self::Sum | Self::Concat => Ok(x),
        };
        let x = x.map_err(Error::device)?;
        Ok(Flow { x, inputs, frames, fired })
    }

    /// Sum or concatenation of flows, in as many frames as the one with the most.
    fn join<T: Tape<f32, D>>(&self, flows: Vec<Flow<D, T>>) -> Result<Flow<D, T>> {
        let frames = flows.iter().map(|flow| flow.frames).max().unwrap_or(1);
        let mut flows = flows.into_iter().map(|flow| flow.over(frames));
        let Some(first) = flows.next() else {
            return Err(Error::network("a sum of nothing", "at least one input"));
        };
        flows.try_fold(first?, |one, other| {
            let (inputs, other) = (one.inputs, other?);
            let x = match self {
                Self::Concat => concat(one.x, other.x, inputs * frames),
                _ => D::sum(one.x, other.x),
            };
            let fired = one.fired || other.fired;
            Ok(Flow { x: x.map_err(Error::device)?, inputs, frames, fired })
        })
    }
}

/// Values of rows of one tensor, each followed by those of the other's row.
fn concat<D: Device<f32>, T: Tape<f32, D>>(
    one: Flat<f32, D, T>,
    other: Flat<f32, D, T>,
    rows: usize,
) -> Result<Flat<f32, D, T>, D::Err> {
    let [a, b] = [&one, &other].map(|x| x.shape().0 / rows.max(1));
    let pair = (one.try_reshape_like(&(rows, a))?, other.try_reshape_like(&(rows, b))?);
    pair.try_concat_along(Axis::<1>)?.try_reshape_like(&(rows * (a + b),))
}

/// What a max pool emits, and the sums of the spikes that it has got.
type Pooled<D, T> = (Flow<D, T>, Option<Values<D>>);

/// Largest value of each window; of spikes the change in each timestep of the largest sum so far. The
/// sums go on from those `before`, none at the start, and are given for the next timesteps.
pub(crate) fn max_pool<D: Device<f32>, T: Tape<f32, D>>(
    flow: Flow<D, T>,
    patches: &Patches,
    before: Option<Values<D>>,
) -> Result<Pooled<D, T>, D::Err> {
    let Flow { x, inputs, frames, fired } = flow;
    if !fired {
        return Ok((Flow { x: max_patches(x, patches)?, inputs, frames, fired }, None));
    }
    let device = x.device().clone();
    let each = x.shape().0 / (inputs * frames).max(1);
    // Products with a matrix of some x other frames, of each input.
    let over_frames = |x: Flat<f32, D, T>, to: usize, of: &dyn Fn(usize, usize) -> f32| {
        let from = frames + 1;
        let matrix = (0..to * from).map(|i| of(i / from, i % from)).collect();
        let matrix = device.try_tensor_from_vec(matrix, (to, from))?;
        // Copied for each input: on a card, dfdx multiplies no matrix that is broadcast.
        let matrix = matrix.try_broadcast_like::<_, Axis<0>>(&(inputs, to, from))?;
        let matrix = matrix.try_contiguous()?.retaped::<T>();
        let each = x.shape().0 / (inputs * from).max(1);
        let product = matrix.try_matmul(x.try_reshape_like(&(inputs, from, each))?)?;
        product.try_reshape_like(&(inputs * to * each,))
    };
    let before = match before {
        Some(sums) => sums,
        None => device.try_tensor_from_vec(vec![0.0; inputs * each], (inputs * each,))?,
    };
    let before = before.retaped::<T>().try_reshape_like(&(inputs, 1, each))?;
    let x = (before, x.try_reshape_like(&(inputs, frames, each))?).try_concat_along(Axis::<1>)?;
    let x = x.try_reshape_like(&(inputs * (frames + 1) * each,))?;
    let sums = over_frames(x, frames + 1, &|now, then| if then <= now { 1.0 } else { 0.0 })?;
    let last = device.try_tensor_from_vec(vec![frames; inputs], (inputs,))?;
    let after: Tensor<(usize, usize), f32, D> = sums
        .retaped::<NoneTape>()
        .try_reshape_like(&(inputs, frames + 1, each))?
        .try_select(last)?;
    let after = after.try_reshape_like(&(inputs * each,))?;
    let largest = max_patches(sums, patches)?;
    let x = over_frames(largest, frames, &|now, then| match then.checked_sub(now) {
        Some(0) => -1.0,
        Some(1) => 1.0,
        _ => 0.0,
    })?;
    Ok((Flow { x, inputs, frames, fired }, Some(after)))
}

/// Rows of values times a factor per channel, plus a summand per channel.
fn scale_shift<D: Device<f32>, T: Tape<f32, D>>(
    x: Flat<f32, D, T>,
    scale: &Values<D>,
    shift: &Values<D>,
    rows: usize,
) -> Result<Flat<f32, D, T>, D::Err> {
    let (size, channels) = (*x.shape(), scale.shape().0);
    let each = (rows, channels, size.0 / (rows * channels).max(1));
    let scale = scale.retaped::<T>().try_broadcast_like::<_, Axes2<0, 2>>(&each)?;
    let shift = shift.retaped::<T>().try_broadcast_like::<_, Axes2<0, 2>>(&each)?;
    x.try_reshape_like(&each)?.try_mul(scale)?.try_add(shift)?.try_reshape_like(&size)
}

/// Products of weights, a row for each output, with `rows` rows of `inputs` values.
fn multiply<D: Device<f32>, T: Tape<f32, D>>(
    x: Flat<f32, D, T>,
    weight: &Values<D>,
    (inputs, rows): (usize, usize),
) -> Result<Flat<f32, D, T>, D::Err> {
    let outputs = weight.shape().0 / inputs;
    let columns = weight
        .retaped::<T>()
        .try_reshape_like(&(outputs, inputs))?
        .try_permute::<(usize, usize), Axes2<1, 0>>()?;
    let x = x.try_reshape_like(&(rows, inputs))?;
    x.try_matmul(columns)?.try_reshape_like(&(rows * outputs,))
}

/// Sums of `rows` rows of values and a bias per channel.
fn add_bias<D: Device<f32>, T: Tape<f32, D>>(
    z: Flat<f32, D, T>,
    bias: &Option<Values<D>>,
    rows: usize,
) -> Result<Flat<f32, D, T>, D::Err> {
    let Some(bias) = bias else {
        return Ok(z);
    };
    let (size, channels) = (*z.shape(), bias.shape().0);
    let each = (rows, channels, size.0 / (rows * channels).max(1));
    let bias = bias.retaped::<T>();
    let bias = bias.try_broadcast_like::<_, Axes2<0, 2>>(&each)?;
    let z = z.try_reshape_like(&each)?;
    z.try_add(bias)?.try_reshape_like(&size)
}

/// Layers on a device: with the parameters of every layer of neurons, or as an ANN.
///
/// # Errors
/// Layers or neurons that do not fit, values that are not finite, or [`Error::Device`].
pub(crate) fn build<D: Accelerated<f32>>(
    device: &D,
    graph: &Graph,
    neurons: Option<&[Neurons]>,
) -> Result<Steps<D>> {
    let graph = graph.clone().normalised()?;
    let shapes = graph.shapes()?;
    let (mut steps, mut firing) = (Vec::with_capacity(graph.nodes.len()), 0);
    for (number, node) in graph.nodes.iter().enumerate() {
        let (input, output) = (shapes[node.inputs[0]], shapes[number + 1]);
        if let (true, Some(neurons)) = (node.layer.fires(), neurons) {
            let Some(neurons) = neurons.get(firing) else {
                let expected = "those of a layer of neurons";
                return Err(Error::layer(number, node.kind(), "no parameters", expected));
            };
            neurons.check(number, output.channels)?;
            neurons.check_bound(number, node.layer.activation().bound())?;
            firing += 1;
            let (channels, positions) = (output.channels, output.height * output.width);
            steps.push(Step::Fire(Fire::new(device, neurons, channels, positions)?));
        } else {
            steps.push(step(device, node, [input, output])?);
        }
    }
    if let Some(neurons) = neurons.filter(|neurons| neurons.len() > firing) {
        let expected = format!("{firing}, one a layer of neurons");
        return Err(Error::parameter("neurons", neurons.len(), expected));
    }
    let output = shapes[graph.nodes.len()];
    let uses = graph.uses();
    let largest = shapes.iter().map(|shape| shape.size()).max().unwrap_or(1);
    let inputs = graph.nodes.into_iter().map(|node| node.inputs).collect();
    Ok(Steps { steps, inputs, uses, largest, output })
}

/// Layer on a device, of an ANN where it is one of neurons.
fn step<D: Accelerated<f32>>(
    device: &D,
    node: &Node,
    [input, output]: [Shape; 2],
) -> Result<Step<D>> {
    let of = |values: &Vec<f32>| tensor(device, values.clone());
    let bias = |bias: &Option<Vec<f32>>| bias.as_ref().map(of).transpose();
    let side = input.height;
    let square = |window: &Window, padding| {
        let [size, stride] = [window.size[0], window.stride[0]];
        input.width == side && *window == Window::square(size, stride, padding)
    };
    Ok(match &node.layer {
        Layer::Conv { weight, bias: b, inputs, outputs, window, groups } => {
            let (weight, bias) = (of(weight)?, bias(b)?);
            let [kernel, stride, padding] = [window.size[0], window.stride[0], window.padding[0]];
            match *groups == 1 && square(window, padding) {
                true => {
                    let (inputs, outputs) = (*inputs, *outputs);
                    let shape = ConvShape { inputs, outputs, side, kernel, stride, padding };
                    Step::Convolve { weight, bias, shape }
                }
                false => {
                    let patches = patches(input, output, window, true);
                    Step::ConvolvePatches { weight, bias, patches, groups: *groups }
                }
            }
        }
        Layer::Linear { weight, bias: b, inputs, .. } => {
            Step::Multiply { weight: of(weight)?, bias: bias(b)?, inputs: *inputs }
        }
        Layer::AvgPool { window, .. }
            if square(window, 0)
                && window.stride == window.size
                && side.is_multiple_of(window.size[0]) =>
        {
            Step::AveragePool { side, size: window.size[0] }
        }
        Layer::AvgPool { window, count_padding, .. } => {
            let counts = [0, 1].map(|axis| {
                let (side, outs) =
                    [(input.height, output.height), (input.width, output.width)][axis];
                window.counts(axis, outs, side, *count_padding)
            });
            let shares = counts[0].iter().flat_map(|rows| {
                counts[1].iter().map(move |columns| 1.0 / (rows * columns) as f32)
            });
            let shares: Vec<f32> = shares.collect();
            Step::AveragePatches {
                patches: patches(input, output, window, false),
                shares: of(&shares.repeat(input.channels))?,
            }
        }
        Layer::MaxPool { window, .. } => Step::MaxPool(patches(input, output, window, false)),
        Layer::ScaleShift { scale, shift } => Step::ScaleShift([of(scale)?, of(shift)?]),
        Layer::Sum => Step::Sum,
        Layer::Concat => Step::Concat,
        Layer::Neurons | Layer::Clipped { .. } | Layer::Qcfs { .. } => {
            match node.layer.activation() {
                Activation::Qcfs { bound, levels } => {
                    Step::Qcfs { bound: tensor(device, vec![bound])?, levels }
                }
                Activation::Clipped { bound } => Step::Clip(bound),
                _ => Step::Relu,
            }
        }
    })
}

/// Values that windows read. With `over_channels` a window spans all channels; else each channel has
/// windows of its own.
fn patches(input: Shape, output: Shape, window: &Window, over_channels: bool) -> Patches {
    let (input_size, plane) = (input.size(), input.height * input.width);
    let positions = output.height * output.width;
    let [rows, columns] = window.size;
    // By place, row by row: what each output position reads on one channel.
    let mut reads = vec![None; rows * columns * positions];
    for out in 0..positions {
        for (row, r) in window.inside(0, out / output.width, input.height) {
            for (column, c) in window.inside(1, out % output.width, input.width) {
                let place = row * columns + column;
                reads[place * positions + out] = Some(r * input.width + c);
            }
        }
    }
    let at = |channel: usize, read: &Option<usize>| {
        read.map_or(input_size, |position| channel * plane + position)
    };
    let channels = 0..input.channels;
    let indices = match over_channels {
        true => channels.flat_map(|channel| reads.iter().map(move |r| at(channel, r))).collect(),
        false => {
            let places = reads.chunks_exact(positions);
            let of_place = |reads: &[Option<usize>]| -> Vec<usize> {
                let channels = 0..input.channels;
                channels.flat_map(|channel| reads.iter().map(move |r| at(channel, r))).collect()
            };
            places.flat_map(of_place).collect()
        }
    };
    let all = positions * if over_channels { 1 } else { input.channels };
    Patches { indices, positions: all, input_size }
}
