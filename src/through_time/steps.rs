//! Layers on a device, and how they run on a batch of inputs over all timesteps.

use dfdx::prelude::{
    Axes2, Axis, BroadcastTo, Device, HasShape, PermuteTo, ReshapeTo, Tape, TryAdd, TryMatMul,
};

use crate::ann::{Activation, Layer};
use crate::base::{Error, Result};
use crate::data::Shape;
use crate::ops::{Accelerated, ConvShape, Flat, Values, convolve_plainly};
use crate::simulate::{Neurons, output_shape};

/// One layer, its parameters on a device.
pub(crate) enum Step<D: Device<f32>> {
    Convolve {
        weight: Values<D>,
        bias: Option<Values<D>>,
        shape: ConvShape,
    },
    /// Weights as the layer has them, a row for each output.
    Multiply {
        weight: Values<D>,
        bias: Option<Values<D>>,
        inputs: usize,
    },
    AveragePool {
        side: usize,
        size: usize,
    },
    Add {
        body: Vec<Self>,
        shortcut: Vec<Self>,
    },
    /// Only in an ANN.
    Relu,
    /// Only in an ANN.
    Qcfs {
        bound: Values<D>,
        levels: usize,
    },
    /// Only in a spiking network.
    Fire(Fire<D>),
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

/// Calls `with` for every step in order, those of residual ones in their place.
pub(crate) fn each_step<'a, D: Device<f32>>(
    steps: &'a [Step<D>],
    with: &mut impl FnMut(&'a Step<D>),
) {
    for step in steps {
        match step {
            Step::Add { body, shortcut } => {
                each_step(body, with);
                each_step(shortcut, with);
            }
            step => with(step),
        }
    }
}

/// [`each_step`], to be changed.
pub(crate) fn each_step_mut<'a, D: Device<f32>>(
    steps: &'a mut [Step<D>],
    with: &mut impl FnMut(&'a mut Step<D>),
) {
    for step in steps {
        match step {
            Step::Add { body, shortcut } => {
                each_step_mut(body, with);
                each_step_mut(shortcut, with);
            }
            step => with(step),
        }
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
}

impl<D: Device<f32>, T: Tape<f32, D>> Flow<D, T> {
    /// The same values in `frames` frames per input.
    pub fn over(self, frames: usize) -> Result<Self> {
        if self.frames == frames {
            return Ok(self);
        }
        let (all, inputs) = (self.x.shape().0, self.inputs);
        let each = all / inputs.max(1);
        let rows = self.x.try_reshape_like(&(inputs, each));
        let x = rows
            .and_then(|x| x.try_broadcast_like::<_, Axis<1>>(&(inputs, frames, each)))
            .and_then(|x| x.try_reshape_like(&(all * frames,)))
            .map_err(Error::device)?;
        Ok(Self { x, inputs, frames })
    }
}

/// Runs layers one after the other, neurons by `fire`. `plainly` runs convolutions by definition,
/// which adds up the products in their order.
pub(crate) fn forward<D: Accelerated<f32>, T: Tape<f32, D>>(
    steps: &[Step<D>],
    flow: Flow<D, T>,
    plainly: bool,
    fire: &mut impl FnMut(&Fire<D>, Flow<D, T>) -> Result<Flow<D, T>>,
) -> Result<Flow<D, T>> {
    let mut steps = steps.iter();
    steps.try_fold(flow, |flow, step| step.forward(flow, plainly, fire))
}

impl<D: Accelerated<f32>> Step<D> {
    fn forward<T: Tape<f32, D>>(
        &self,
        Flow { x, inputs, frames }: Flow<D, T>,
        plainly: bool,
        fire: &mut impl FnMut(&Fire<D>, Flow<D, T>) -> Result<Flow<D, T>>,
    ) -> Result<Flow<D, T>> {
        let rows = inputs * frames;
        let x = match self {
            Self::Convolve { weight, bias, shape } => {
                let z = match plainly {
                    true => convolve_plainly(x, weight.retaped(), *shape),
                    false => D::convolve(x, weight.retaped(), *shape),
                };
                z.and_then(|z| add_bias(z, bias, rows))
            }
            Self::Multiply { weight, bias, inputs } => {
                multiply(x, weight, (*inputs, rows)).and_then(|z| add_bias(z, bias, rows))
            }
            Self::AveragePool { side, size } => D::average_pool(x, *side, *size),
            Self::Relu => D::relu(x),
            Self::Qcfs { bound, levels } => D::qcfs(x, bound.retaped(), *levels),
            Self::Fire(neurons) => return fire(neurons, Flow { x, inputs, frames }),
            Self::Add { body, shortcut } => {
                let other = x.retaped();
                let body = forward(body, Flow { x, inputs, frames }, plainly, fire)?;
                let x = other;
                let shortcut = forward(shortcut, Flow { x, inputs, frames }, plainly, fire)?;
                let frames = body.frames.max(shortcut.frames);
                let x = D::sum(body.over(frames)?.x, shortcut.over(frames)?.x);
                let x = x.map_err(Error::device)?;
                return Ok(Flow { x, inputs, frames });
            }
        };
        let x = x.map_err(Error::device)?;
        Ok(Flow { x, inputs, frames })
    }
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

/// Layers on a device, and the shape of their output: with the parameters of every layer of neurons,
/// or as an ANN.
///
/// # Errors
/// Layers or neurons that do not fit, images or kernels that are not square, weights that are not
/// finite, or [`Error::Device`].
pub(crate) fn build<D: Accelerated<f32>>(
    device: &D,
    (input, layers): (Shape, &[Layer]),
    neurons: Option<&[Neurons]>,
) -> Result<(Vec<Step<D>>, Shape)> {
    let mut builder = Builder { device, neurons, layers: 0, firing: 0 };
    let built = builder.build(layers, input)?;
    match neurons {
        Some(neurons) if neurons.len() > builder.firing => {
            let expected = format!("{}, one a layer of neurons", builder.firing);
            Err(Error::parameter("neurons", neurons.len(), expected))
        }
        _ => Ok(built),
    }
}

struct Builder<'a, D> {
    device: &'a D,
    /// Parameters of each layer of neurons; none in an ANN.
    neurons: Option<&'a [Neurons]>,
    /// Layers so far, those within residual ones counted.
    layers: usize,
    /// Layers of neurons so far, in a spiking network.
    firing: usize,
}

impl<D: Accelerated<f32>> Builder<'_, D> {
    fn build(&mut self, layers: &[Layer], mut shape: Shape) -> Result<(Vec<Step<D>>, Shape)> {
        let mut steps = Vec::with_capacity(layers.len());
        for layer in layers {
            let (step, output) = self.step(layer, shape)?;
            steps.push(step);
            shape = output;
        }
        Ok((steps, shape))
    }

    fn step(&mut self, layer: &Layer, shape: Shape) -> Result<(Step<D>, Shape)> {
        let number = self.layers;
        self.layers += 1;
        let wrong = |found: String, expected: &str| {
            Err(Error::layer(number, layer.kind(), found, expected))
        };
        let is_square = shape.height == shape.width;
        if matches!(layer, Layer::Conv { .. } | Layer::AvgPool { .. }) && !is_square {
            return wrong(format!("an image of {shape}"), "a square one");
        }
        let weights = |weight: &Vec<f32>, bias: &Option<Vec<f32>>| -> Result<_> {
            let bias = bias.clone().map(|bias| tensor(self.device, bias));
            Ok((tensor(self.device, weight.clone())?, bias.transpose()?))
        };
        Ok(match layer {
            Layer::Conv { weight, bias, inputs, outputs, window, .. } => {
                let [kernel, stride, padding] =
                    [&window.size[0], &window.stride[0], &window.padding[0]];
                let output = output_shape(number, layer, shape)?;
                let shape = ConvShape {
                    inputs: *inputs,
                    outputs: *outputs,
                    side: shape.height,
                    kernel: *kernel,
                    stride: *stride,
                    padding: *padding,
                };
                let (weight, bias) = weights(weight, bias)?;
                let step = Step::Convolve { weight, bias, shape };
                (step, output)
            }
            Layer::Linear { weight, bias, inputs, .. } => {
                let output = output_shape(number, layer, shape)?;
                let (weight, bias) = weights(weight, bias)?;
                let inputs = *inputs;
                let step = Step::Multiply { weight, bias, inputs };
                (step, output)
            }
            Layer::AvgPool { window, .. } => {
                let size = window.size[0];
                let side = shape.height;
                if size == 0 || !side.is_multiple_of(size) {
                    let found = format!("squares of side {size}");
                    return wrong(found, "a side that divides the image's");
                }
                let output = Shape::new(shape.channels, side / size, side / size);
                (Step::AveragePool { side, size }, output)
            }
            Layer::ScaleShift { .. } => {
                let found = "batch normalisation by itself".into();
                return wrong(found, "one folded into weights");
            }
            Layer::Residual { body, shortcut } => {
                let (body, output) = self.build(body, shape)?;
                let (shortcut, shape) = self.build(shortcut, shape)?;
                if output != shape {
                    return wrong(format!("{output}"), "the shape of the shortcut");
                }
                (Step::Add { body, shortcut }, output)
            }
            Layer::MaxPool { .. } | Layer::Sum | Layer::Concat | Layer::Clipped { .. } => {
                return wrong("a layer that is not simulated yet".into(), "another");
            }
            Layer::Neurons | Layer::Qcfs { .. } => {
                let activation = layer.activation(number)?;
                let Some(neurons) = self.neurons else {
                    let step = match activation {
                        Activation::Qcfs { bound, levels } => {
                            Step::Qcfs { bound: tensor(self.device, vec![bound])?, levels }
                        }
                        _ => Step::Relu,
                    };
                    return Ok((step, shape));
                };
                let Some(neurons) = neurons.get(self.firing) else {
                    return wrong("no parameters".into(), "those of a layer of neurons");
                };
                neurons.check(number, shape.channels)?;
                self.firing += 1;
                let (channels, positions) = (shape.channels, shape.height * shape.width);
                let fire = Fire::new(self.device, neurons, channels, positions)?;
                (Step::Fire(fire), shape)
            }
        })
    }
}
