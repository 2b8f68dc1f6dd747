//! The plain simulator: a dense loop over timesteps on dfdx tensors that reads like the equations,
//! on any device that runs the layers. It is slow on a CPU and what the fast engine is tested
//! against; on a GPU it is the simulator.
//!
//! Values are kept as one vector for all inputs: channels, rows, columns, one input after the
//! other. The equations are those of [`neurons`](mod@crate::neurons).

use dfdx::prelude::{
    ChooseFrom, Device, HasShape, NoneTape, ReshapeTo, Shape as DfdxShape, Tape, Tensor, TryAdd,
    TryMatMul, TryMul, TrySub, ge, gt,
};

use crate::error::{Error, Result};
use crate::layers::{Activation, Layer, Shape};
use crate::neurons::{Neurons, Reset};
use crate::ops::{Accelerated, ConvShape, Flat, convolve_plainly};
use crate::simulate::{Trace, check_frames};
use crate::surrogate::Surrogate;

type Values<D> = Flat<f32, D, NoneTape>;
/// Charges of spikes, and who fired.
type Fired<D, T> = (Flat<f32, D, T>, Vec<bool>);

/// Runs on `inputs`, one after the other, each the same at every timestep, and gives what
/// [`SpikingNetwork::trace`](crate::simulate::SpikingNetwork::trace) gives for each. With as many
/// values as all timesteps' inputs have, `inputs` holds all inputs of the first timestep, then all
/// of the second, ...
///
/// # Errors
/// Layers or neurons that do not fit, images or kernels that are not square, weights or inputs that
/// are not finite, a number of values that is not that of some inputs, or [`Error::Device`].
pub fn trace<D: Accelerated<f32>>(
    device: &D,
    input: Shape,
    layers: &[Layer],
    neurons: &[Neurons],
    inputs: &[f32],
    count: usize,
    timesteps: usize,
) -> Result<Vec<Trace>> {
    let each = count * input.size();
    if timesteps == 0 || count == 0 {
        let found = format!("{count} inputs, {timesteps} timesteps");
        return Err(Error::parameter("timesteps", found, "1 or more of each"));
    }
    check_frames("inputs", inputs, each, timesteps)?;
    let mut network = Dense::new(device, count, Some(neurons));
    let (mut steps, output) = network.build(layers, input)?;
    let states = network.complete(neurons.len())?;
    let mut traces = vec![
        Trace {
            spikes: vec![Vec::new(); states],
            output: Vec::new(),
        };
        count
    ];
    for t in 0..timesteps {
        let frame = match inputs.len() == each {
            true => inputs,
            false => &inputs[t * each..][..each],
        };
        let x = tensor(device, frame.to_vec())?;
        let mut spikes = Vec::new();
        let current = Rule::Plain.advance(&mut steps, x, count, &mut spikes)?;
        let current = current.as_vec();
        for (i, trace) in traces.iter_mut().enumerate() {
            trace
                .output
                .push(current[i * output.size()..][..output.size()].to_vec());
            for (layer, fired) in trace.spikes.iter_mut().zip(&spikes) {
                let size = fired.len() / count;
                let own = &fired[i * size..][..size];
                layer.push((0..size).filter(|&neuron| own[neuron]).collect());
            }
        }
    }
    Ok(traces)
}

/// One layer made ready for a device; on a tape, potentials remember where they came from.
pub(crate) enum Step<D: Device<f32>, T> {
    Convolve {
        weight: Values<D>,
        bias: Option<Values<D>>,
        shape: ConvShape,
    },
    Multiply {
        weight: Tensor<(usize, usize), f32, D>,
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
    Fire(State<D, T>),
}

/// A layer of neurons, a value for each neuron of each input.
pub(crate) struct State<D: Device<f32>, T> {
    v: Flat<f32, D, T>,
    threshold: Values<D>,
    leak: Values<D>,
    charge: Values<D>,
    current: Values<D>,
    zero: Values<D>,
    one: Values<D>,
    /// Timesteps for which the input is still ignored.
    waiting: Option<Values<D>>,
    refractory: Values<D>,
    reset: Reset,
}

pub(crate) fn tensor<D: Device<f32>>(device: &D, values: Vec<f32>) -> Result<Values<D>> {
    let size = (values.len(),);
    device
        .try_tensor_from_vec(values, size)
        .map_err(Error::device)
}

/// How layers advance.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// As the equations are written, each sum in its order.
    Plain,
    /// By the device's own convolution; spikes have a gradient.
    Differentiable(Surrogate),
}

impl Rule {
    /// One timestep of all layers, in order. The charge of every neuron that fired is what the next
    /// layer gets.
    pub fn advance<D: Accelerated<f32>, T: Tape<f32, D>>(
        self,
        steps: &mut [Step<D, T>],
        mut x: Flat<f32, D, T>,
        count: usize,
        spikes: &mut Vec<Vec<bool>>,
    ) -> Result<Flat<f32, D, T>> {
        for step in steps {
            x = match step {
                Step::Convolve {
                    weight,
                    bias,
                    shape,
                } => {
                    let weight = weight.retaped();
                    let z = match self {
                        Self::Plain => convolve_plainly(x, weight, *shape),
                        Self::Differentiable(_) => D::convolve(x, weight, *shape),
                    };
                    plus(z.map_err(Error::device)?, bias)?
                }
                Step::Multiply {
                    weight,
                    bias,
                    inputs,
                } => {
                    let x = x
                        .try_reshape_like(&(count, *inputs))
                        .map_err(Error::device)?;
                    let z = x.try_matmul(weight.clone()).map_err(Error::device)?;
                    let size = z.shape().num_elements();
                    plus(z.try_reshape_like(&(size,)).map_err(Error::device)?, bias)?
                }
                Step::AveragePool { side, size } => {
                    D::average_pool(x, *side, *size).map_err(Error::device)?
                }
                Step::Add { body, shortcut } => {
                    let other = x.retaped();
                    let body = self.advance(body, x, count, spikes)?;
                    let shortcut = self.advance(shortcut, other, count, spikes)?;
                    body.try_add(shortcut).map_err(Error::device)?
                }
                Step::Relu => D::relu(x).map_err(Error::device)?,
                Step::Qcfs { bound, levels } => {
                    D::qcfs(x, bound.retaped(), *levels).map_err(Error::device)?
                }
                Step::Fire(state) => {
                    let (charges, fired) = state.step(x, self).map_err(Error::device)?;
                    spikes.push(fired);
                    charges
                }
            };
        }
        Ok(x)
    }
}

fn plus<D: Device<f32>, T: Tape<f32, D>>(
    z: Flat<f32, D, T>,
    bias: &Option<Values<D>>,
) -> Result<Flat<f32, D, T>> {
    match bias {
        Some(bias) => z.try_add(bias.clone()).map_err(Error::device),
        None => Ok(z),
    }
}

impl<D: Device<f32>, T: Tape<f32, D>> State<D, T> {
    /// One timestep with input current `z`.
    fn step(&mut self, z: Flat<f32, D, T>, rule: Rule) -> Result<Fired<D, T>, D::Err> {
        let z = z.try_add(self.current.clone())?;
        let before = std::mem::replace(&mut self.v, self.zero.retaped());
        let mut v = before.try_mul(self.leak.clone())?;
        let mut ready = None;
        v = match &self.waiting {
            None => v.try_add(z)?,
            Some(waiting) => {
                let waits = gt(waiting, &self.zero);
                ready = Some(waits.clone());
                let z = waits.try_choose(self.zero.retaped::<T>(), z)?;
                v.try_add(z)?
            }
        };
        // In numbers, since masks have no "and": 1 where a neuron fires.
        let potential = v.retaped::<NoneTape>();
        let reached = ge(&potential, &self.threshold);
        let mut fires = reached.try_choose(self.one.clone(), self.zero.clone())?;
        if let Some(waits) = ready {
            fires = waits.try_choose(self.zero.clone(), fires)?;
        }
        let spike = gt(&fires, &self.zero);
        // The charges take the tape along: it ends in the output, and what is left in the last
        // timestep's potentials does not.
        let left = v.retaped::<T>();
        let charges = match rule {
            Rule::Plain => spike
                .clone()
                .try_choose(self.charge.clone(), self.zero.clone())?
                .retaped(),
            Rule::Differentiable(surrogate) => {
                let (device, values) = (v.device().clone(), potential.as_vec());
                let slope = surrogate.slopes(&values, &self.threshold.as_vec());
                let slope = device.try_tensor_from_vec(slope, *v.shape())?;
                // The potential less a copy of itself is 0, with a gradient.
                let copy = device.try_tensor_from_vec(values, *v.shape())?;
                let nothing = v.try_sub(copy)?;
                let spikes = nothing.try_mul(slope)?.try_add(fires.clone())?;
                spikes.try_mul(self.charge.clone())?
            }
        };
        // What a spike resets gets no gradient of its own.
        self.v = match self.reset {
            Reset::Subtract => {
                let drop = spike
                    .clone()
                    .try_choose(self.threshold.clone(), self.zero.clone())?;
                left.try_sub(drop)?
            }
            Reset::Zero => spike.clone().try_choose(self.zero.retaped::<T>(), left)?,
        };
        if let Some(waiting) = self.waiting.take() {
            let less = waiting.clone().try_sub(self.one.clone())?;
            let less = gt(&waiting, &self.zero).try_choose(less, waiting)?;
            self.waiting = Some(spike.try_choose(self.refractory.clone(), less)?);
        }
        let fired = fires.as_vec().into_iter().map(|x| x > 0.0).collect();
        Ok((charges, fired))
    }
}

/// Makes layers ready.
pub(crate) struct Dense<'a, D> {
    device: &'a D,
    count: usize,
    /// Of each layer of neurons; none of the ANN.
    parameters: Option<std::slice::Iter<'a, Neurons>>,
    /// Number of the layer, those within residual ones counted.
    layer: usize,
    states: usize,
}

impl<'a, D: Accelerated<f32>> Dense<'a, D> {
    /// For so many inputs, with the parameters of every layer of neurons, or as an ANN.
    pub fn new(device: &'a D, count: usize, neurons: Option<&'a [Neurons]>) -> Self {
        Self {
            device,
            count,
            parameters: neurons.map(<[Neurons]>::iter),
            layer: 0,
            states: 0,
        }
    }

    /// How many layers of neurons there were, once all parameters are in use.
    fn complete(self, neurons: usize) -> Result<usize> {
        if self
            .parameters
            .is_some_and(|mut left| left.next().is_some())
        {
            let expected = format!("{}, one a layer of neurons", self.states);
            return Err(Error::parameter("neurons", neurons, expected));
        }
        Ok(self.states)
    }

    /// For every value of all inputs: the channel's.
    fn spread(&self, values: &[f32], shape: Shape) -> Result<Values<D>> {
        let area = shape.height * shape.width;
        let one = (0..shape.size()).map(|i| match values {
            [one] => *one,
            values => values[i / area],
        });
        let one: Vec<f32> = one.collect();
        tensor(self.device, one.repeat(self.count))
    }

    pub fn build<T: Tape<f32, D>>(
        &mut self,
        layers: &[Layer],
        mut shape: Shape,
    ) -> Result<(Vec<Step<D, T>>, Shape)> {
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
                    shape = layer.checked(number, shape)?;
                    let bias = bias
                        .as_ref()
                        .map(|bias| self.spread(bias, shape))
                        .transpose()?;
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
                    outputs,
                } => {
                    shape = layer.checked(number, shape)?;
                    let bias = bias
                        .as_ref()
                        .map(|bias| self.spread(bias, shape))
                        .transpose()?;
                    let mut columns = vec![0.0; weight.len()];
                    for (i, w) in weight.iter().enumerate() {
                        columns[i % inputs * outputs + i / inputs] = *w;
                    }
                    let weight = self
                        .device
                        .try_tensor_from_vec(columns, (*inputs, *outputs));
                    let weight = weight.map_err(Error::device)?;
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
                    let initial: Vec<f32> = neurons
                        .threshold
                        .iter()
                        .map(|t| t * neurons.initial)
                        .collect();
                    let refractory = self.spread(&[neurons.refractory as f32], shape)?;
                    steps.push(Step::Fire(State {
                        v: self.spread(&initial, shape)?.retaped(),
                        threshold: self.spread(&neurons.threshold, shape)?,
                        leak: self.spread(&neurons.leak, shape)?,
                        charge: self.spread(neurons.charges(), shape)?,
                        current: self.spread(&neurons.current, shape)?,
                        zero: self.spread(&[0.0], shape)?,
                        one: self.spread(&[1.0], shape)?,
                        waiting: match neurons.refractory {
                            0 => None,
                            _ => Some(self.spread(&[0.0], shape)?),
                        },
                        refractory,
                        reset: neurons.reset,
                    }));
                }
            }
        }
        Ok((steps, shape))
    }
}
