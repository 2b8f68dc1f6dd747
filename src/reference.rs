//! The plain simulator: a dense loop over timesteps on dfdx tensors that reads like the equations,
//! on any device that runs the layers. It is slow on a CPU and what the fast engine is tested
//! against; on a GPU it is the simulator.
//!
//! Values are kept as one vector for all inputs: channels, rows, columns, one input after the
//! other. The equations are those of [`neurons`](mod@crate::neurons).

use dfdx::prelude::{
    ChooseFrom, Device, HasShape, ReshapeTo, Shape as DfdxShape, Tensor, TryAdd, TryMatMul, TryMul,
    TrySub, ge, gt,
};

use crate::error::{Error, Result};
use crate::layers::{Layer, Shape};
use crate::neurons::{Neurons, Reset};
use crate::ops::{Accelerated, ConvShape, convolve_plainly};
use crate::simulate::{Trace, check_frames};

type Values<D> = Tensor<(usize,), f32, D>;

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
    let mut network = Dense {
        device,
        count,
        parameters: neurons.iter(),
        layer: 0,
        states: 0,
    };
    let (mut steps, output) = network.build(layers, input)?;
    if network.parameters.next().is_some() {
        let expected = format!("{}, one a layer of neurons", network.states);
        return Err(Error::parameter("neurons", neurons.len(), expected));
    }
    let mut traces = vec![
        Trace {
            spikes: vec![Vec::new(); network.states],
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
        let current = advance(&mut steps, x, count, &mut spikes)?.as_vec();
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

/// One layer made ready for a device.
enum Step<D: Device<f32>> {
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
    Fire(State<D>),
}

/// A layer of neurons, a value for each neuron of each input.
struct State<D: Device<f32>> {
    v: Values<D>,
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

fn tensor<D: Device<f32>>(device: &D, values: Vec<f32>) -> Result<Values<D>> {
    let size = (values.len(),);
    device
        .try_tensor_from_vec(values, size)
        .map_err(Error::device)
}

/// One timestep of all layers, in order. The charge of every neuron that fired is what the next
/// layer gets.
fn advance<D: Accelerated<f32>>(
    steps: &mut [Step<D>],
    mut x: Values<D>,
    count: usize,
    spikes: &mut Vec<Vec<bool>>,
) -> Result<Values<D>> {
    for step in steps {
        x = match step {
            Step::Convolve {
                weight,
                bias,
                shape,
            } => {
                let z = convolve_plainly(x, weight.clone(), *shape).map_err(Error::device)?;
                plus(z, bias)?
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
                let body = advance(body, x.clone(), count, spikes)?;
                let shortcut = advance(shortcut, x, count, spikes)?;
                body.try_add(shortcut).map_err(Error::device)?
            }
            Step::Fire(state) => {
                let (charges, fired) = state.step(x).map_err(Error::device)?;
                spikes.push(fired);
                charges
            }
        };
    }
    Ok(x)
}

fn plus<D: Device<f32>>(z: Values<D>, bias: &Option<Values<D>>) -> Result<Values<D>> {
    match bias {
        Some(bias) => z.try_add(bias.clone()).map_err(Error::device),
        None => Ok(z),
    }
}

impl<D: Device<f32>> State<D> {
    /// One timestep with input current `z`: the charges of the spikes, and who fired.
    fn step(&mut self, z: Values<D>) -> Result<(Values<D>, Vec<bool>), D::Err> {
        let z = z.try_add(self.current.clone())?;
        let mut v = self.v.clone().try_mul(self.leak.clone())?;
        let mut ready = None;
        v = match &self.waiting {
            None => v.try_add(z)?,
            Some(waiting) => {
                let waits = gt(waiting, &self.zero);
                ready = Some(waits.clone());
                let z = waits.try_choose(self.zero.clone(), z)?;
                v.try_add(z)?
            }
        };
        // In numbers, since masks have no "and": 1 where a neuron fires.
        let reached = ge(&v, &self.threshold);
        let mut fires = reached.try_choose(self.one.clone(), self.zero.clone())?;
        if let Some(waits) = ready {
            fires = waits.try_choose(self.zero.clone(), fires)?;
        }
        let spike = gt(&fires, &self.zero);
        let after = match self.reset {
            Reset::Subtract => v.clone().try_sub(self.threshold.clone())?,
            Reset::Zero => self.zero.clone(),
        };
        self.v = spike.clone().try_choose(after, v)?;
        if let Some(waiting) = self.waiting.take() {
            let less = waiting.clone().try_sub(self.one.clone())?;
            let less = gt(&waiting, &self.zero).try_choose(less, waiting)?;
            self.waiting = Some(spike.clone().try_choose(self.refractory.clone(), less)?);
        }
        let fired = fires.as_vec().into_iter().map(|x| x > 0.0).collect();
        Ok((
            spike.try_choose(self.charge.clone(), self.zero.clone())?,
            fired,
        ))
    }
}

/// Makes layers ready.
struct Dense<'a, D> {
    device: &'a D,
    count: usize,
    parameters: std::slice::Iter<'a, Neurons>,
    /// Number of the layer, those within residual ones counted.
    layer: usize,
    states: usize,
}

impl<D: Accelerated<f32>> Dense<'_, D> {
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

    fn build(&mut self, layers: &[Layer], mut shape: Shape) -> Result<(Vec<Step<D>>, Shape)> {
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
                Layer::Neurons => {
                    let Some(neurons) = self.parameters.next() else {
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
                        v: self.spread(&initial, shape)?,
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
