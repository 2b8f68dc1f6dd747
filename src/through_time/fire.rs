//! A layer of neurons as one operation on a tape, over all its timesteps.

use dfdx::prelude::{
    Axes2, Axes3, BroadcastTo, ChooseFrom, Cpu, Device, HasErr, HasShape, NoneTape, PermuteTo,
    PutTape, ReshapeTo, SelectTo, SplitTape, Tape, Tensor, TryAdd, TryMul, TryStack, TrySub, gt,
};
use rayon::prelude::*;

use crate::base::error::Result;
use crate::ops::backend::Backend;
use crate::ops::backend::{Flat, copy, output, split, values};
use crate::ops::matrix::Buffer;
use crate::simulate::neurons::{Neurons, Reset};
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

/// Thresholds, leaks and charges of each channel.
pub(crate) type Parameters<D, T> = [Flat<f32, D, T>; 3];

/// A device that runs neurons over time. What is given here is the definition, on dfdx's operations;
/// the CPU has its own.
pub trait Fires: Backend {
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

#[cfg(test)]
mod tests {
    use crate::through_time::steps::tensor;

    use super::*;
    use dfdx::prelude::{Axis, SumTo, Trace};

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
}
