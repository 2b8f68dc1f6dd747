//! Layers made ready for a device.

use dfdx::prelude::{
    Axes2, BroadcastTo, Device, HasShape, PermuteTo, ReshapeTo, Tape, TryAdd, TryMatMul,
};

use crate::ann::layers::{Activation, Layer};
use crate::base::error::{Error, Result};
use crate::data::shape::Shape;
use crate::ops::backend::{Accelerated, Flat, Values, convolve_plainly};
use crate::ops::shapes::ConvShape;
use crate::simulate::neurons::Neurons;
use crate::simulate::synapses::output_shape;

/// One layer made ready for a device.
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
    /// Of the ANN.
    Relu,
    /// Of the ANN.
    Qcfs {
        bound: Values<D>,
        levels: usize,
    },
    Fire(Fire<D>),
}

/// A layer of neurons made ready.
pub(crate) struct Fire<D: Device<f32>> {
    pub neurons: Neurons,
    pub channels: usize,
    /// Neurons of a channel.
    pub positions: usize,
    /// Of each channel, as what spikes carry and leaks are.
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
            threshold: by_channel(&neurons.threshold)?,
            leak: by_channel(&neurons.leak)?,
            charge: by_channel(neurons.charges())?,
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
    device
        .try_tensor_from_vec(values, size)
        .map_err(Error::device)
}

impl<D: Accelerated<f32>> Step<D> {
    /// What a layer without neurons makes of `rows` inputs; `plainly` adds up each convolution's
    /// products in their order.
    pub fn forward<T: Tape<f32, D>>(
        &self,
        x: Flat<f32, D, T>,
        rows: usize,
        plainly: bool,
    ) -> Result<Flat<f32, D, T>> {
        match self {
            Self::Convolve {
                weight,
                bias,
                shape,
            } => {
                let z = match plainly {
                    true => convolve_plainly(x, weight.retaped(), *shape),
                    false => D::convolve(x, weight.retaped(), *shape),
                };
                plus(z, bias, rows)
            }
            Self::Multiply {
                weight,
                bias,
                inputs,
            } => {
                let outputs = weight.shape().0 / inputs;
                let weight = weight.retaped::<T>();
                let z = x.try_reshape_like(&(rows, *inputs)).and_then(|x| {
                    let columns = weight
                        .try_reshape_like(&(outputs, *inputs))?
                        .try_permute::<(usize, usize), Axes2<1, 0>>()?;
                    x.try_matmul(columns)?.try_reshape_like(&(rows * outputs,))
                });
                plus(z, bias, rows)
            }
            Self::AveragePool { side, size } => {
                D::average_pool(x, *side, *size).map_err(Error::device)
            }
            Self::Relu => D::relu(x).map_err(Error::device),
            Self::Qcfs { bound, levels } => {
                D::qcfs(x, bound.retaped(), *levels).map_err(Error::device)
            }
            Self::Add { .. } | Self::Fire(_) => Ok(x), // handled where it is known what flows
        }
    }
}

/// A bias for each channel of each row.
fn plus<D: Device<f32>, T: Tape<f32, D>>(
    z: std::result::Result<Flat<f32, D, T>, D::Err>,
    bias: &Option<Values<D>>,
    rows: usize,
) -> Result<Flat<f32, D, T>> {
    let z = z.map_err(Error::device)?;
    let Some(bias) = bias else {
        return Ok(z);
    };
    let (size, channels) = (*z.shape(), bias.shape().0);
    let each = (rows, channels, size.0 / (rows * channels).max(1));
    let bias = bias.retaped::<T>();
    z.try_reshape_like(&each)
        .and_then(|z| z.try_add(bias.try_broadcast_like::<_, Axes2<0, 2>>(&each)?))
        .and_then(|z| z.try_reshape_like(&size))
        .map_err(Error::device)
}

/// Makes layers ready.
pub(crate) struct Dense<'a, D> {
    device: &'a D,
    /// Of each layer of neurons; none of the ANN.
    parameters: Option<std::slice::Iter<'a, Neurons>>,
    /// Number of the layer, those within residual ones counted.
    layer: usize,
    states: usize,
}

impl<'a, D: Accelerated<f32>> Dense<'a, D> {
    /// With the parameters of every layer of neurons, or as an ANN.
    pub fn new(device: &'a D, neurons: Option<&'a [Neurons]>) -> Self {
        Self {
            device,
            parameters: neurons.map(<[Neurons]>::iter),
            layer: 0,
            states: 0,
        }
    }

    /// Whether all parameters are in use.
    pub fn complete(self, neurons: usize) -> Result<()> {
        if self
            .parameters
            .is_some_and(|mut left| left.next().is_some())
        {
            let expected = format!("{}, one a layer of neurons", self.states);
            return Err(Error::parameter("neurons", neurons, expected));
        }
        Ok(())
    }

    pub fn build(&mut self, layers: &[Layer], mut shape: Shape) -> Result<(Vec<Step<D>>, Shape)> {
        let mut steps = Vec::new();
        for layer in layers {
            let number = self.layer;
            self.layer += 1;
            let wrong = |found: String, expected: &str| {
                Err(Error::layer(number, layer.kind(), found, expected))
            };
            if matches!(layer, Layer::Conv { .. } | Layer::AvgPool { .. })
                && shape.height != shape.width
            {
                return wrong(format!("an image of {shape}"), "a square one");
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
                    let conv = ConvShape {
                        inputs: *inputs,
                        outputs: *outputs,
                        side: shape.height,
                        kernel: *kernel,
                        stride: *stride,
                        padding: *padding,
                    };
                    shape = output_shape(number, layer, shape)?;
                    let bias = bias.clone().map(|bias| tensor(self.device, bias));
                    let bias = bias.transpose()?;
                    let weight = tensor(self.device, weight.clone())?;
                    steps.push(Step::Convolve {
                        weight,
                        bias,
                        shape: conv,
                    });
                }
                Layer::Linear {
                    weight,
                    bias,
                    inputs,
                    ..
                } => {
                    shape = output_shape(number, layer, shape)?;
                    let bias = bias.clone().map(|bias| tensor(self.device, bias));
                    let bias = bias.transpose()?;
                    let weight = tensor(self.device, weight.clone())?;
                    steps.push(Step::Multiply {
                        weight,
                        bias,
                        inputs: *inputs,
                    });
                }
                Layer::AvgPool { size } => {
                    if *size == 0 || !shape.height.is_multiple_of(*size) {
                        return wrong(
                            format!("squares of side {size}"),
                            "a side that divides the image's",
                        );
                    }
                    steps.push(Step::AveragePool {
                        side: shape.height,
                        size: *size,
                    });
                    shape = Shape::new(shape.channels, shape.height / size, shape.width / size);
                }
                Layer::ScaleShift { .. } => {
                    return wrong(
                        "batch normalisation by itself".into(),
                        "one folded into weights",
                    );
                }
                Layer::Residual { body, shortcut } => {
                    let (body, body_shape) = self.build(body, shape)?;
                    let (shortcut, shortcut_shape) = self.build(shortcut, shape)?;
                    if body_shape != shortcut_shape {
                        return wrong(format!("{body_shape}"), "the shape of the shortcut");
                    }
                    shape = body_shape;
                    steps.push(Step::Add { body, shortcut });
                }
                Layer::Neurons | Layer::Qcfs { .. } => {
                    let activation = layer.activation(number)?;
                    let Some(parameters) = &mut self.parameters else {
                        steps.push(match activation {
                            Activation::Qcfs { bound, levels } => Step::Qcfs {
                                bound: tensor(self.device, vec![bound])?,
                                levels,
                            },
                            _ => Step::Relu,
                        });
                        continue;
                    };
                    let Some(neurons) = parameters.next() else {
                        return wrong("no parameters".into(), "those of a layer of neurons");
                    };
                    neurons.check(number, shape.channels)?;
                    self.states += 1;
                    let (channels, positions) = (shape.channels, shape.height * shape.width);
                    let fire = Fire::new(self.device, neurons, channels, positions)?;
                    steps.push(Step::Fire(fire));
                }
            }
        }
        Ok((steps, shape))
    }
}
