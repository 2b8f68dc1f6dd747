//! A spiking network on the tape, a layer over all its timesteps after the other.

use dfdx::prelude::{
    Axes2, Axes3, Axis, BroadcastTo, ChooseFrom, Cpu, Device, Gradients, HasErr, HasShape, MeanTo,
    NoneTape, PermuteTo, PutTape, ReshapeTo, SelectTo, SplitTape, SumTo, Tape, Tensor, Trace,
    TryAdd, TryMul, TryStack, TrySub, gt,
};
use rayon::prelude::*;

use crate::ann::layers::{Layer, Shape};
use crate::ann::model::backward;
use crate::base::error::{Error, Result};
use crate::ops::backend::{Accelerated, Flat, Values, copy, output, split, values};
use crate::ops::kernels::Buffer;
use crate::simulate::neurons::{Neurons, Reset};
use crate::through_time::reference::{Dense, Fire, Step, tensor};
use crate::through_time::surrogate::{Surrogate, spike};

/// What [`Fires::fire`] runs.
#[derive(Clone)]
pub struct FireShape {
    pub inputs: usize,
    pub timesteps: usize,
    pub channels: usize,
    /// Neurons of a channel.
    pub positions: usize,
    pub neurons: Neurons,
    pub surrogate: Surrogate,
}

impl FireShape {
    fn neurons(&self) -> usize {
        self.channels * self.positions
    }

    /// A value of each channel, from one for all or one a channel.
    fn of(&self, values: &[f32]) -> Vec<f32> {
        values.iter().copied().cycle().take(self.channels).collect()
    }
}

/// Thresholds, leaks and charges of each channel.
type Parameters<D, T> = [Flat<f32, D, T>; 3];

/// A device that runs neurons over time. What is given here is the definition, on dfdx's operations;
/// the CPU has its own.
pub trait Fires: Accelerated<f32> {
    /// The charges of the spikes of all timesteps of each input, from their currents, or from one
    /// current for all timesteps.
    fn fire<T: Tape<f32, Self>>(
        z: Flat<f32, Self, T>,
        parameters: Parameters<Self, T>,
        shape: FireShape,
    ) -> Result<Flat<f32, Self, T>, Self::Err> {
        fire_plainly(z, parameters, shape)
    }
}

#[cfg(feature = "cuda")]
impl Fires for dfdx::prelude::Cuda {}

/// [`Fires::fire`] as it is defined.
fn fire_plainly<D: Device<f32>, T: Tape<f32, D>>(
    z: Flat<f32, D, T>,
    parameters: Parameters<D, T>,
    shape: FireShape,
) -> Result<Flat<f32, D, T>, D::Err> {
    let device = z.device().clone();
    let (inputs, each) = (shape.inputs, shape.neurons());
    let all = inputs * each;
    let constant = z.shape().0 == all;
    let frames = if constant { 1 } else { shape.timesteps };
    let spread = |values: Flat<f32, D, T>| {
        values
            .try_broadcast_like::<_, Axes2<0, 2>>(&(inputs, shape.channels, shape.positions))?
            .try_reshape_like(&(all,))
    };
    let current = shape.of(&shape.neurons.current);
    let current = device.try_tensor_from_vec(current, (shape.channels,))?;
    let current = spread(current.retaped())?.retaped::<NoneTape>();
    // Every use of a tensor below has a tape of its own; those that came with them are added last.
    let (z, mut tape) = z.try_reshape_like(&(inputs, frames, each))?.split_tape();
    let [threshold, leak, charge] = parameters.map(|values| {
        let (values, other) = spread(values)?.split_tape();
        tape = std::mem::take(&mut tape).merge(other);
        Ok(values)
    });
    let (threshold, leak, charge) = (threshold?, leak?, charge?);
    let constant_of = |value: f32| device.try_tensor_from_vec(vec![value; all], (all,));
    let (zero, one) = (constant_of(0.0)?, constant_of(1.0)?);
    let refractory = constant_of(shape.neurons.refractory as f32)?;
    let mut r = threshold.retaped::<T>().try_mul(shape.neurons.initial)?;
    // Timesteps for which the input is still ignored, and since the last spike.
    let (mut waiting, mut since) = (zero.clone(), constant_of(f32::INFINITY)?);
    let mut outputs = Vec::new();
    for t in 0..shape.timesteps {
        let frame = vec![if constant { 0 } else { t }; inputs];
        let frame = device.try_tensor_from_vec(frame, (inputs,))?;
        let now: Tensor<(usize, usize), f32, D, T> = z.retaped::<T>().try_select(frame)?;
        let now = now.try_reshape_like(&(all,))?.try_add(current.clone())?;
        let ready = gt(&waiting, &zero).try_choose(zero.clone(), one.clone())?;
        let v = r
            .try_mul(leak.clone())?
            .try_add(now.try_mul(ready.clone())?)?;
        // The output takes the tape along: what is left in the last potentials does not.
        let left = v.retaped::<T>();
        let spikes = spike(v, threshold.retaped(), shape.surrogate, since.clone())?;
        let spikes = spikes.try_mul(ready)?;
        let fired = copy(&spikes)?;
        r = match shape.neurons.reset {
            Reset::Subtract => left.try_sub(threshold.retaped::<T>().try_mul(fired.clone())?)?,
            Reset::Zero => left.try_mul(fired.clone().try_negate()?.try_add(1.0)?)?,
        };
        let fired = gt(&fired, &zero);
        let less = waiting.try_sub(1.0)?.try_relu()?;
        waiting = fired.clone().try_choose(refractory.clone(), less)?;
        since = fired.try_choose(one.clone(), since.try_add(1.0)?)?;
        let charges = spikes.try_mul(charge.clone())?;
        outputs.push(charges.try_reshape_like(&(inputs, each))?);
    }
    let stacked: Tensor<(usize, usize, usize), f32, D, T> = outputs.try_stack()?;
    let (out, other) = stacked
        .try_permute::<(usize, usize, usize), Axes3<1, 0, 2>>()?
        .try_reshape_like(&(inputs * shape.timesteps * each,))?
        .split_tape();
    Ok(out.put_tape(tape.merge(other)))
}

/// Of one input: potentials before their resets, a timestep after the other, and who fired or
/// waited.
struct Course<'a> {
    shape: &'a FireShape,
    potentials: &'a [f32],
    threshold: &'a [f32],
}

const FIRED: u8 = 1;
const WAITED: u8 = 2;

impl FireShape {
    /// Runs one input.
    fn run(
        &self,
        z: &[f32],
        [threshold, leak, charge]: [&[f32]; 3],
        v: &mut [f32],
        out: &mut [f32],
    ) {
        let (each, neurons) = (self.neurons(), &self.neurons);
        let current = self.of(&neurons.current);
        let mut waiting = vec![0; if neurons.refractory > 0 { each } else { 0 }];
        let spread = |i: usize| threshold[i / self.positions] * neurons.initial;
        let mut r: Vec<f32> = (0..each).map(spread).collect();
        let rows = v.chunks_exact_mut(each).zip(out.chunks_exact_mut(each));
        for ((v, out), z) in rows.zip(z.chunks_exact(each).cycle()) {
            for c in 0..self.channels {
                let (threshold, leak) = (threshold[c], leak[c]);
                for i in c * self.positions..(c + 1) * self.positions {
                    let waits = waiting.get(i).is_some_and(|&left| left > 0);
                    let z = if waits { 0.0 } else { z[i] + current[c] };
                    v[i] = leak * r[i] + z;
                    let fires = v[i] >= threshold && !waits;
                    out[i] = if fires { charge[c] } else { 0.0 };
                    r[i] = neurons.reset.apply(v[i], threshold, fires);
                    if let Some(left) = waiting.get_mut(i) {
                        *left = match fires {
                            true => neurons.refractory,
                            false => left.saturating_sub(1),
                        };
                    }
                }
            }
        }
    }
}

impl Course<'_> {
    /// Who fired and who waited at each timestep.
    fn flags(&self) -> Vec<u8> {
        let each = self.shape.neurons();
        let mut waiting = vec![0; each];
        let of = |(place, &v): (usize, &f32)| {
            let i = place % each;
            let waits = waiting[i] > 0;
            let fires = v >= self.threshold[i / self.shape.positions] && !waits;
            waiting[i] = match fires {
                true => self.shape.neurons.refractory,
                false => waiting[i].saturating_sub(1),
            };
            (u8::from(fires) * FIRED) | (u8::from(waits) * WAITED)
        };
        self.potentials.iter().enumerate().map(of).collect()
    }

    /// Timesteps since the last spike before each timestep.
    fn since(&self, flags: &[u8]) -> Vec<f32> {
        let mut since = vec![f32::INFINITY; self.shape.neurons()];
        let rows = flags.chunks_exact(since.len());
        let mut all = Vec::with_capacity(flags.len());
        for flags in rows {
            all.extend_from_slice(&since);
            for (since, flags) in since.iter_mut().zip(flags) {
                *since = if flags & FIRED > 0 { 1.0 } else { *since + 1.0 };
            }
        }
        all
    }

    /// From the gradient by the output: adds the one by the currents to `dz`, and gives those by
    /// threshold, leak and charge, a value a channel.
    fn backward(&self, [leak, charge]: [&[f32]; 2], dy: &[f32], dz: &mut [f32]) -> [Vec<f64>; 3] {
        let (shape, threshold, each) = (self.shape, self.threshold, self.shape.neurons());
        let flags = self.flags();
        let since = match shape.surrogate {
            Surrogate::SpikeTiming => self.since(&flags),
            _ => Vec::new(),
        };
        let mut sums = [(); 3].map(|()| vec![0.0; shape.channels]);
        let mut by_r = vec![0.0f32; each];
        for t in (0..shape.timesteps).rev() {
            let dz = match dz.len() == each {
                true => &mut *dz,
                false => &mut dz[t * each..][..each],
            };
            for c in 0..shape.channels {
                let (threshold, leak, charge) = (threshold[c], leak[c], charge[c]);
                let mut by = [0.0f32; 3];
                for i in c * shape.positions..(c + 1) * shape.positions {
                    let at = t * each + i;
                    let (fired, waited) = (flags[at] & FIRED > 0, flags[at] & WAITED > 0);
                    let v = self.potentials[at];
                    let slope = match waited {
                        true => 0.0,
                        false => {
                            let since = since.get(at).copied().unwrap_or(f32::INFINITY);
                            shape.surrogate.slope(v / threshold - 1.0, since) / threshold
                        }
                    };
                    let by_spike = dy[at] * charge;
                    let mut by_v = by_spike * slope;
                    by[0] -= by_v * v / threshold;
                    match (fired, shape.neurons.reset) {
                        (true, Reset::Zero) => {}
                        (true, Reset::Subtract) => {
                            by_v += by_r[i];
                            by[0] -= by_r[i];
                        }
                        (false, _) => by_v += by_r[i],
                    }
                    if !waited {
                        dz[i] += by_v;
                    }
                    let before = match t {
                        0 => shape.neurons.initial * threshold,
                        _ => {
                            let fired = flags[at - each] & FIRED > 0;
                            let v = self.potentials[at - each];
                            shape.neurons.reset.apply(v, threshold, fired)
                        }
                    };
                    by[1] += by_v * before;
                    by[2] += if fired { dy[at] } else { 0.0 };
                    by_r[i] = by_v * leak;
                }
                for (sums, by) in sums.iter_mut().zip(by) {
                    sums[c] += f64::from(by);
                }
            }
        }
        for (i, by_r) in by_r.iter().enumerate() {
            sums[0][i / shape.positions] += f64::from(by_r * shape.neurons.initial);
        }
        sums
    }
}

impl Fires for Cpu {
    fn fire<T: Tape<f32, Self>>(
        z: Flat<f32, Self, T>,
        parameters: Parameters<Self, T>,
        shape: FireShape,
    ) -> Result<Flat<f32, Self, T>, <Self as HasErr>::Err> {
        let (z, mut tape) = split(z)?;
        let parameters = parameters.map(|parameter| {
            let (parameter, other) = split(parameter)?;
            tape = std::mem::take(&mut tape).merge(other);
            Ok(parameter)
        });
        let [threshold, leak, charge] = parameters;
        let parameters = [threshold?, leak?, charge?];
        let data = parameters.each_ref().map(values);
        let each = shape.timesteps * shape.neurons();
        let own = z.shape().0 / shape.inputs; // once, or every timestep's
        let mut v = Buffer::new(shape.inputs * each);
        let mut out = Buffer::new(shape.inputs * each);
        {
            let (z, data) = (values(&z), data.each_ref().map(|values| &**values));
            let rows = v
                .par_chunks_exact_mut(each)
                .zip(out.par_chunks_exact_mut(each));
            let rows = rows.zip(z.par_chunks_exact(own));
            rows.for_each(|((v, out), z)| shape.run(z, data, v, out));
        }
        let (by_z, by_parameters) = (z.ghost(), parameters.each_ref().map(Tensor::ghost));
        output(z.device(), out, tape, move |dy, gradients| {
            let [threshold, leak, charge] = data.each_ref().map(|values| &**values);
            let dz = gradients.get_or_alloc_mut(&by_z)?;
            let rows = dz.par_chunks_exact_mut(own).zip(dy.par_chunks_exact(each));
            let rows = rows.zip(v.par_chunks_exact(each));
            let sums = rows.map(|((dz, dy), potentials)| {
                let course = Course {
                    shape: &shape,
                    potentials,
                    threshold,
                };
                course.backward([leak, charge], dy, dz)
            });
            // One input after the other, whoever was ready first.
            for sums in sums.collect::<Vec<_>>() {
                for (parameter, sums) in by_parameters.iter().zip(sums) {
                    let by = gradients.get_or_alloc_mut(parameter)?.iter_mut();
                    by.zip(sums).for_each(|(by, sum)| *by += sum as f32);
                }
            }
            Ok(())
        })
    }
}

/// What flows between layers: values of each input, once or for every timestep.
struct Flow<D: Device<f32>, T> {
    x: Flat<f32, D, T>,
    frames: usize,
}

/// A network made ready: as a spiking one over some timesteps, or as an ANN.
pub(crate) struct Unrolled<D: Device<f32>> {
    pub steps: Vec<Step<D>>,
    classes: usize,
    timesteps: usize,
    surrogate: Surrogate,
}

impl<D: Fires> Unrolled<D> {
    pub fn spiking(
        device: &D,
        (input, layers): (Shape, &[Layer]),
        neurons: &[Neurons],
        timesteps: usize,
        surrogate: Surrogate,
    ) -> Result<Self> {
        let (steps, output) = Dense::new(device, Some(neurons)).build(layers, input)?;
        Ok(Self {
            steps,
            classes: output.size(),
            timesteps,
            surrogate,
        })
    }

    pub fn ann(device: &D, (input, layers): (Shape, &[Layer])) -> Result<Self> {
        let (steps, output) = Dense::new(device, None).build(layers, input)?;
        Ok(Self {
            steps,
            classes: output.size(),
            timesteps: 1,
            surrogate: Surrogate::default(),
        })
    }

    /// Output currents of every timestep of each input, and of each layer of neurons the spikes of
    /// all inputs in every timestep. All else stays on the device.
    pub fn count(&self, x: Values<D>, inputs: usize) -> Result<(Vec<f32>, Vec<Vec<u64>>)> {
        let mut counts = Vec::new();
        let fire = &mut |fire: &Fire<D>, z| {
            let ones = tensor(fire.charge.device(), vec![1.0; fire.channels])?;
            let spikes = self.fire(fire, z, inputs, &ones)?;
            let each = (inputs, self.timesteps, fire.channels, fire.positions);
            let counted = spikes.try_reshape_like(&each).and_then(|spikes| {
                let sums = spikes.clone().try_sum::<(usize,), Axes3<0, 2, 3>>()?;
                let charges = fire.charge.clone();
                let charges = charges.try_broadcast_like::<_, Axes3<0, 1, 3>>(&each)?;
                let size = (inputs * self.timesteps * fire.channels * fire.positions,);
                Ok((sums, spikes.try_mul(charges)?.try_reshape_like(&size)?))
            });
            let (sums, charges) = counted.map_err(Error::device)?;
            counts.push(sums.as_vec().into_iter().map(|sum| sum as u64).collect());
            Ok(charges)
        };
        // Sums in their order: on a grid they are exact.
        let flow = self.advance(&self.steps, Flow { x, frames: 1 }, (inputs, true), fire)?;
        let output = flow.over(self.timesteps, inputs)?.as_vec();
        Ok((output, counts))
    }

    /// Logits: of a spiking network the output current's mean over the timesteps, with every input
    /// a constant current.
    pub fn logits<T: Tape<f32, D>>(
        &self,
        x: Flat<f32, D, T>,
        inputs: usize,
    ) -> Result<Tensor<(usize, usize), f32, D, T>> {
        let fire = &mut |fire: &Fire<D>, z| self.fire(fire, z, inputs, &fire.charge);
        let flow = self.advance(&self.steps, Flow { x, frames: 1 }, (inputs, false), fire)?;
        let each = (inputs, flow.frames, self.classes);
        let mean = flow.x.try_reshape_like(&each);
        mean.and_then(|x| x.try_mean::<(usize, usize), Axis<1>>())
            .map_err(Error::device)
    }

    fn advance<T: Tape<f32, D>>(
        &self,
        steps: &[Step<D>],
        mut flow: Flow<D, T>,
        (inputs, plainly): (usize, bool),
        fire: &mut impl FnMut(&Fire<D>, Flat<f32, D, T>) -> Result<Flat<f32, D, T>>,
    ) -> Result<Flow<D, T>> {
        for step in steps {
            flow = match step {
                Step::Add { body, shortcut } => {
                    let other = Flow {
                        x: flow.x.retaped(),
                        frames: flow.frames,
                    };
                    let body = self.advance(body, flow, (inputs, plainly), fire)?;
                    let shortcut = self.advance(shortcut, other, (inputs, plainly), fire)?;
                    let frames = body.frames.max(shortcut.frames);
                    let [a, b] = [body, shortcut].map(|flow| flow.over(frames, inputs));
                    let x = D::sum(a?, b?).map_err(Error::device)?;
                    Flow { x, frames }
                }
                Step::Fire(neurons) => Flow {
                    x: fire(neurons, flow.x)?,
                    frames: self.timesteps,
                },
                step => Flow {
                    x: step.forward(flow.x, inputs * flow.frames, plainly)?,
                    ..flow
                },
            };
        }
        Ok(flow)
    }

    fn fire<T: Tape<f32, D>>(
        &self,
        fire: &Fire<D>,
        z: Flat<f32, D, T>,
        inputs: usize,
        charge: &Values<D>,
    ) -> Result<Flat<f32, D, T>> {
        let shape = FireShape {
            inputs,
            timesteps: self.timesteps,
            channels: fire.channels,
            positions: fire.positions,
            neurons: fire.neurons.clone(),
            surrogate: self.surrogate,
        };
        let parameters = [&fire.threshold, &fire.leak, charge].map(Tensor::retaped);
        D::fire(z, parameters, shape).map_err(Error::device)
    }
}

impl<D: Device<f32>, T: Tape<f32, D>> Flow<D, T> {
    /// The values, again for every timestep.
    fn over(self, frames: usize, inputs: usize) -> Result<Flat<f32, D, T>> {
        if self.frames == frames {
            return Ok(self.x);
        }
        let (all, each) = (self.x.shape().0, self.x.shape().0 / inputs.max(1));
        let rows = self.x.try_reshape_like(&(inputs, each));
        rows.and_then(|x| x.try_broadcast_like::<_, Axis<1>>(&(inputs, frames, each)))
            .and_then(|x| x.try_reshape_like(&(all * frames,)))
            .map_err(Error::device)
    }
}

/// Inputs that have a tape of their own.
pub(crate) const TAPE: usize = 8;

impl<D: Fires> Unrolled<D> {
    /// One tape: the loss (mean cross-entropy with class probabilities), the logits, and all
    /// gradients, of which those by `x` and by the steps' tensors are kept.
    pub fn gradients(
        &self,
        x: &Values<D>,
        targets: Vec<f32>,
    ) -> Result<(f32, Vec<f32>, Gradients<f32, D>)> {
        let inputs = targets.len() / self.classes;
        let logits = self.logits(x.leaky_trace(), inputs)?;
        let values = logits.as_vec();
        let (loss, gradients) = backward(logits, targets)?;
        Ok((loss, values, gradients))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::through_time::reference::trace;
    use dfdx::prelude::{Backward, OwnedTape};
    use proptest::prelude::*;

    /// Values that look random, and lie in 0..1.
    fn noise(count: usize, seed: usize) -> Vec<f32> {
        let of = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0;
        (0..count).map(of).collect()
    }

    type Fired = (Vec<f32>, [Vec<f32>; 4]);

    /// The output, and the gradients of its sum with other weights everywhere.
    fn fired(
        fire: impl FnOnce(
            Flat<f32, Cpu, OwnedTape<f32, Cpu>>,
            Parameters<Cpu, OwnedTape<f32, Cpu>>,
            FireShape,
        )
            -> Result<Flat<f32, Cpu, OwnedTape<f32, Cpu>>, dfdx::prelude::CpuError>,
        z: Vec<f32>,
        shape: &FireShape,
    ) -> Fired {
        let device = Cpu::default();
        let of = |values: &[f32]| tensor(&device, shape.of(values)).unwrap();
        let neurons = &shape.neurons;
        let parameters = [
            of(&neurons.threshold),
            of(&neurons.leak),
            of(neurons.charges()),
        ];
        let z = tensor(&device, z).unwrap();
        let on_tape = parameters.each_ref().map(|p| p.leaky_trace());
        let out = fire(z.leaky_trace(), on_tape, shape.clone()).unwrap();
        let values = out.as_vec();
        let weights = tensor(&device, noise(values.len(), 3)).unwrap();
        let gradients = out
            .try_mul(weights)
            .unwrap()
            .sum::<(), Axis<0>>()
            .backward();
        let [threshold, leak, charge] = parameters.map(|p| gradients.get(&p).as_vec());
        (
            values,
            [gradients.get(&z).as_vec(), threshold, leak, charge],
        )
    }

    fn neurons() -> impl Strategy<Value = Neurons> {
        let values = |range: std::ops::Range<f32>| prop::collection::vec(range, 3);
        (
            (values(0.3..2.0), values(0.6..1.0), values(-0.2..0.3)),
            (0..2usize, 0..3usize, -0.5f32..1.0, values(0.5..1.5)),
        )
            .prop_map(
                |((threshold, leak, current), (reset, refractory, initial, charge))| Neurons {
                    leak,
                    current,
                    reset: [Reset::Subtract, Reset::Zero][reset],
                    refractory,
                    initial,
                    charge: crate::simulate::neurons::Charge::Fixed(charge),
                    ..Neurons::new(threshold)
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// dfdx's own derivatives are the oracle.
        #[test]
        fn the_cpus_derivatives_are_those_of_the_definition(
            neurons in neurons(), surrogate in 0..5usize, constant: bool, seed in 0..1000usize
        ) {
            let shape = FireShape {
                inputs: 2,
                timesteps: 6,
                channels: 3,
                positions: 2,
                neurons,
                surrogate: Surrogate::ALL[surrogate],
            };
            let frames = if constant { 1 } else { 6 };
            let z: Vec<f32> = noise(2 * frames * 6, seed).iter().map(|x| 2.0 * x - 0.5).collect();
            let (out, found) = fired(Cpu::fire, z.clone(), &shape);
            let (expected_out, expected) = fired(fire_plainly, z, &shape);
            prop_assert_eq!(out, expected_out);
            for (found, expected) in found.iter().zip(&expected) {
                for (a, b) in found.iter().zip(expected) {
                    prop_assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}");
                }
            }
        }
    }

    /// Convolution, pooling, a residual sum of what is constant and what is not, two layers of
    /// neurons: logits are the mean of the reference's output currents.
    #[test]
    fn an_unrolled_network_is_the_reference() {
        let dyadic = |count: usize, seed| -> Vec<f32> {
            let noise = noise(count, seed).into_iter();
            noise.map(|x| ((x - 0.4) * 16.0).round() / 16.0).collect()
        };
        let conv = |inputs, seed| Layer::Conv {
            weight: dyadic(4 * inputs * 9, seed),
            bias: Some(dyadic(4, seed + 1)),
            inputs,
            outputs: 4,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let layers = [
            conv(1, 1),
            Layer::Residual {
                body: vec![Layer::Neurons, conv(4, 5)],
                shortcut: vec![],
            },
            Layer::AvgPool { size: 2 },
            Layer::Neurons,
            Layer::Linear {
                weight: dyadic(3 * 16, 9),
                bias: None,
                inputs: 16,
                outputs: 3,
            },
        ];
        let neurons = [Neurons::new([0.75]), Neurons::new([0.5, 1.0, 0.25, 1.5])];
        let (input, count, timesteps) = (Shape::new(1, 4, 4), 3, 8);
        let images = dyadic(16 * count, 21);
        let device = Cpu::default();
        let network = (input, &layers[..]);
        let unrolled =
            Unrolled::spiking(&device, network, &neurons, timesteps, Surrogate::Linear).unwrap();
        let x = tensor(&device, images.clone()).unwrap();
        let found = unrolled.logits(x, count).unwrap().as_vec();
        let traces = trace(&device, input, &layers, &neurons, &images, count, timesteps).unwrap();
        let mean = |trace: &crate::simulate::Trace| -> Vec<f32> {
            let sum = |class: usize| trace.output.iter().map(|row| row[class]).sum::<f32>();
            (0..3).map(|class| sum(class) / timesteps as f32).collect()
        };
        assert_eq!(found, traces.iter().flat_map(mean).collect::<Vec<_>>());
        assert!(
            traces
                .iter()
                .all(|trace| trace.spikes.concat().concat().len() > 20)
        );
    }
}
