//! A layer of neurons over all timesteps, as one operation on a tape.

use dfdx::prelude::{
    Axes2, Axes3, BroadcastTo, ChooseFrom, Cpu, Device, HasErr, HasShape, NoneTape, PermuteTo,
    PutTape, ReshapeTo, SelectTo, SplitTape, Tape, Tensor, TryAdd, TryMul, TryStack, TrySub, ge,
    gt, lt,
};
use rayon::prelude::*;

use super::surrogate::{Surrogate, spike};
use crate::base::Result;
use crate::ops::{Backend, Buffer, Flat, Values, output, split, values};
use crate::simulate::{Activity, Neuron, Neurons, Reset, State, step};

/// Sizes and settings of one call of [`Fires::fire`].
#[derive(Clone)]
pub struct FireShape {
    /// Inputs of the batch.
    pub(crate) inputs: usize,
    /// Timesteps of the simulation.
    pub(crate) timesteps: usize,
    /// Channels of the layer.
    pub(crate) channels: usize,
    /// Neurons per channel.
    pub(crate) positions: usize,
    /// Reset, refractory period, initial potential and constant currents. Thresholds, leaks and
    /// charges come as tensors, since they have gradients.
    pub(crate) neurons: Neurons,
    /// Derivative of a spike.
    pub(crate) surrogate: Surrogate,
}

/// Thresholds, leaks and charges, one of each per channel.
pub(crate) type Parameters<D, T> = [Flat<f32, D, T>; 3];

/// Numbers of spikes, 1 or 0 if they are plain, by input, timestep, channel and position.
pub(crate) type Spikes<D, T = NoneTape> = Tensor<(usize, usize, usize, usize), f32, D, T>;

/// A device that runs neurons over time. The method given here is the definition, on dfdx's
/// operations and for any device; the CPU has its own.
pub trait Fires: Backend {
    /// Charges of the spikes, by input, timestep, channel and position, from the input currents in
    /// the same order, or from currents that are the same in all timesteps.
    ///
    /// # Errors
    /// The device's, such as memory that cannot be had.
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

/// [`Fires::fire`] by definition.
fn fire_plainly<D: Device<f32>, T: Tape<f32, D>>(
    z: Flat<f32, D, T>,
    [threshold, leak, charge]: Parameters<D, T>,
    shape: FireShape,
) -> Result<Flat<f32, D, T>, D::Err> {
    let (spikes, _) = spikes(z, [threshold, leak], &shape, None)?;
    charges(spikes, charge)
}

/// State of a layer's neurons between two timesteps, one value a neuron and input: of plain neurons
/// their potentials, what is left of the refractory period, and the timesteps since their last spike;
/// of others their potentials and the sums of their spikes.
pub(crate) type Carried<D> = Vec<Values<D>>;

/// Spikes, and the state after them.
pub(crate) type Fired<D, T = NoneTape> = (Spikes<D, T>, Carried<D>);

/// Spikes of a layer by definition: [`step`] for all neurons of the batch at once, on dfdx's
/// operations, with the derivatives that [`through_time`](crate::through_time) defines. The neurons go
/// on from the state `before`, none at the start, and theirs is given for the next timesteps.
pub(crate) fn spikes<D: Device<f32>, T: Tape<f32, D>>(
    z: Flat<f32, D, T>,
    [threshold, leak]: [Flat<f32, D, T>; 2],
    shape: &FireShape,
    before: Option<Carried<D>>,
) -> Result<Fired<D, T>, D::Err> {
    let device = z.device().clone();
    let (inputs, each) = (shape.inputs, shape.each());
    let all = inputs * each;
    let frames = if z.shape().0 == all { 1 } else { shape.timesteps };
    let spread = |values: Flat<f32, D, T>| {
        values
            .try_broadcast_like::<_, Axes2<0, 2>>(&(inputs, shape.channels, shape.positions))?
            .try_reshape_like(&(all,))
    };
    let current = shape.by_channel(&shape.neurons.current);
    let current = device.try_tensor_from_vec(current, (shape.channels,))?;
    let current = spread(current.retaped())?.retaped::<NoneTape>();
    // Every use of a tensor below has a tape of its own; those that came with them are added last.
    let (z, tape) = z.try_reshape_like(&(inputs, frames, each))?.split_tape();
    let (threshold, other) = spread(threshold)?.split_tape();
    let tape = tape.merge(other);
    let (leak, other) = spread(leak)?.split_tape();
    let tape = tape.merge(other);
    let constant = |value: f32| device.try_tensor_from_vec(vec![value; all], (all,));
    let (zero, one) = (constant(0.0)?, constant(1.0)?);
    let refractory = constant(shape.neurons.refractory as f32)?;
    let potential = shape.by_channel(&shape.neurons.potential);
    let potential = device.try_tensor_from_vec(potential, (shape.channels,))?;
    let potential = spread(potential.retaped())?.retaped::<NoneTape>();
    let mut r = threshold.retaped::<T>().try_mul(shape.neurons.initial)?.try_add(potential)?;
    // Timesteps that are left of the refractory period, and since the last spike.
    let (mut waiting, mut since) = (zero.clone(), constant(f32::INFINITY)?);
    if let Some(Ok([potential, left, last])) = before.map(<[Values<D>; 3]>::try_from) {
        (r, waiting, since) = (potential.retaped(), left, last);
    }
    let mut spikes = Vec::new();
    for t in 0..shape.timesteps {
        let frame = device.try_tensor_from_vec(vec![t % frames; inputs], (inputs,))?;
        let now: Tensor<(usize, usize), f32, D, T> = z.retaped::<T>().try_select(frame)?;
        let now = now.try_reshape_like(&(all,))?.try_add(current.clone())?;
        let waits = gt(&waiting, &zero);
        let now = waits.clone().try_choose(zero.retaped::<T>(), now)?;
        let v = r.try_mul(leak.clone())?.try_add(now)?;
        // The spikes take the tape along: no spike depends on the last potentials after reset.
        let left = v.retaped::<T>();
        let s = spike(v, threshold.retaped(), shape.surrogate, since.clone())?;
        let s = waits.try_choose(zero.retaped::<T>(), s)?;
        let fired = gt(&s.retaped::<NoneTape>(), &zero);
        r = match shape.neurons.reset {
            Reset::Subtract => {
                let (threshold, zero) = (threshold.retaped::<T>(), zero.retaped::<T>());
                left.try_sub(fired.clone().try_choose(threshold, zero)?)?
            }
            Reset::Zero => fired.clone().try_choose(zero.retaped::<T>(), left)?,
        };
        let less = waiting.try_sub(1.0)?.try_relu()?;
        waiting = fired.clone().try_choose(refractory.clone(), less)?;
        since = fired.try_choose(one.clone(), since.try_add(1.0)?)?;
        spikes.push(s.try_reshape_like(&(inputs, each))?);
    }
    let spikes: Tensor<(usize, usize, usize), f32, D, T> = spikes.try_stack()?;
    let (spikes, other) = spikes
        .try_permute::<(usize, usize, usize), Axes3<1, 0, 2>>()?
        .try_reshape_like(&(inputs, shape.timesteps, shape.channels, shape.positions))?
        .split_tape();
    let after = vec![r.retaped::<NoneTape>(), waiting, since];
    Ok((spikes.put_tape(tape.merge(other)), after))
}

/// Numbers of spikes of a layer by definition, whatever its
/// [`Spikes`](crate::simulate::neurons::Spikes): on dfdx's operations, without derivatives. States are
/// those of [`spikes`].
pub(crate) fn graded_spikes<D: Device<f32>>(
    z: Values<D>,
    [size, leak]: [Values<D>; 2],
    shape: &FireShape,
    before: Option<Carried<D>>,
) -> Result<Fired<D>, D::Err> {
    let device = z.device().clone();
    let (inputs, each, graded) = (shape.inputs, shape.each(), shape.neurons.spikes);
    let all = inputs * each;
    let frames = if z.shape().0 == all { 1 } else { shape.timesteps };
    let spread = |values: Values<D>| {
        values
            .try_broadcast_like::<_, Axes2<0, 2>>(&(inputs, shape.channels, shape.positions))?
            .try_reshape_like(&(all,))
    };
    let current = shape.by_channel(&shape.neurons.current);
    let current = spread(device.try_tensor_from_vec(current, (shape.channels,))?)?;
    let z = z.try_reshape_like(&(inputs, frames, each))?;
    let (size, leak) = (spread(size)?, spread(leak)?);
    let constant = |value: f32| device.try_tensor_from_vec(vec![value; all], (all,));
    let (zero, one) = (constant(0.0)?, constant(1.0)?);
    let added = shape.by_channel(&shape.neurons.potential);
    let added = spread(device.try_tensor_from_vec(added, (shape.channels,))?)?;
    let mut potential = size.clone().try_mul(shape.neurons.initial)?.try_add(added)?;
    let mut sum = zero.clone();
    if let Some(Ok([last, said])) = before.map(<[Values<D>; 2]>::try_from) {
        (potential, sum) = (last, said);
    }
    let mut spikes = Vec::new();
    for t in 0..shape.timesteps {
        let frame = device.try_tensor_from_vec(vec![t % frames; inputs], (inputs,))?;
        let now: Tensor<(usize, usize), f32, D> = z.clone().try_select(frame)?;
        let now = now.try_reshape_like(&(all,))?.try_add(current.clone())?;
        let v = potential.try_mul(leak.clone())?.try_add(now)?;
        let mut count = zero.clone();
        for j in 1..=graded.most {
            let fires = ge(&v, &size.clone().try_mul(f32::from(j))?);
            count = count.try_add(fires.try_choose(one.clone(), zero.clone())?)?;
        }
        let below = graded.negative.map_or(0, |negative| negative.most);
        for j in 1..=below {
            let nu = graded.negative.map_or(0.0, |negative| negative.threshold);
            let depth = size.clone().try_mul(nu + f32::from(j - 1))?.try_negate()?;
            let fires = lt(&v, &depth).try_choose(one.clone(), zero.clone())?;
            let said = ge(&sum, &constant(f32::from(j))?);
            let fires = said.try_choose(fires, zero.clone())?;
            count = count.try_sub(fires)?;
        }
        potential = v.try_sub(size.clone().try_mul(count.clone())?)?;
        sum = sum.try_add(count.clone())?;
        spikes.push(count.try_reshape_like(&(inputs, each))?);
    }
    let spikes: Tensor<(usize, usize, usize), f32, D> = spikes.try_stack()?;
    let spikes = spikes
        .try_permute::<(usize, usize, usize), Axes3<1, 0, 2>>()?
        .try_reshape_like(&(inputs, shape.timesteps, shape.channels, shape.positions))?;
    Ok((spikes, vec![potential, sum]))
}

/// Spikes times their charges, of which there is one per channel.
pub(crate) fn charges<D: Device<f32>, T: Tape<f32, D>>(
    spikes: Spikes<D, T>,
    charge: Flat<f32, D, T>,
) -> Result<Flat<f32, D, T>, D::Err> {
    let each = *spikes.shape();
    let charge = charge.try_broadcast_like::<_, Axes3<0, 1, 3>>(&each)?;
    let size = (each.0 * each.1 * each.2 * each.3,);
    spikes.try_mul(charge)?.try_reshape_like(&size)
}

impl FireShape {
    /// Neurons of the layer.
    fn each(&self) -> usize {
        self.channels * self.positions
    }

    /// One value per channel, from one per channel or one for all.
    fn by_channel(&self, values: &[f32]) -> Vec<f32> {
        values.iter().copied().cycle().take(self.channels).collect()
    }

    /// Runs one input: fills, by timestep and neuron, the membrane potentials before the reset, the
    /// neurons' activities, and the charges of the spikes.
    fn forward(
        &self,
        z: &[f32],
        [threshold, leak, charge]: [&[f32]; 3],
        (potentials, activities): (&mut [f32], &mut [Activity]),
        charges: &mut [f32],
    ) {
        let (each, positions, neurons) = (self.each(), self.positions, &self.neurons);
        let current = self.by_channel(&neurons.current);
        let added = self.by_channel(&neurons.potential);
        let start = |i: usize| {
            let channel = i / positions;
            let potential = threshold[channel] * neurons.initial + added[channel];
            State { potential, waiting: 0 }
        };
        let mut states: Vec<State> = (0..each).map(start).collect();
        let timesteps = (potentials.chunks_exact_mut(each))
            .zip(activities.chunks_exact_mut(each))
            .zip(charges.chunks_exact_mut(each));
        for (((potentials, activities), charges), z) in timesteps.zip(z.chunks_exact(each).cycle())
        {
            for c in 0..self.channels {
                let neuron = Neuron {
                    threshold: threshold[c],
                    leak: leak[c],
                    current: current[c],
                    reset: neurons.reset,
                    refractory: neurons.refractory.try_into().unwrap_or(u32::MAX),
                };
                for i in c * positions..(c + 1) * positions {
                    (states[i], potentials[i], activities[i]) = step(&neuron, states[i], z[i]);
                    let fired = activities[i] == Activity::Fired;
                    charges[i] = if fired { charge[c] } else { 0.0 };
                }
            }
        }
    }

    /// Timesteps since the last spike, by timestep and neuron; infinity before the first.
    fn since(&self, activities: &[Activity]) -> Vec<f32> {
        let mut since = vec![f32::INFINITY; self.each()];
        let mut all = Vec::with_capacity(activities.len());
        for activities in activities.chunks_exact(self.each()) {
            all.extend_from_slice(&since);
            for (since, activity) in since.iter_mut().zip(activities) {
                *since = match activity {
                    Activity::Fired => 1.0,
                    _ => *since + 1.0,
                };
            }
        }
        all
    }

    /// Goes back through the timesteps of one input that [`forward`](Self::forward) ran: adds the
    /// gradient by the input currents to `dz`, and gives those by threshold, leak and charge, one
    /// per channel, from the gradient `dy` by the charges of the spikes.
    fn backward(
        &self,
        [threshold, leak, charge]: [&[f32]; 3],
        (potentials, activities): (&[f32], &[Activity]),
        dy: &[f32],
        dz: &mut [f32],
    ) -> [Vec<f64>; 3] {
        let (each, positions, reset) = (self.each(), self.positions, self.neurons.reset);
        let since = match self.surrogate {
            Surrogate::SpikeTiming => self.since(activities),
            _ => Vec::new(),
        };
        let added = self.by_channel(&self.neurons.potential);
        let mut sums = [(); 3].map(|()| vec![0.0; self.channels]);
        let mut by_r = vec![0.0f32; each]; // by the potentials after the reset
        for t in (0..self.timesteps).rev() {
            // Currents that are the same in all timesteps get the sum.
            let dz = match dz.len() == each {
                true => &mut *dz,
                false => &mut dz[t * each..][..each],
            };
            for c in 0..self.channels {
                let (threshold, leak, charge) = (threshold[c], leak[c], charge[c]);
                let [mut by_threshold, mut by_leak, mut by_charge] = [0.0f32; 3];
                for i in c * positions..(c + 1) * positions {
                    let at = t * each + i;
                    let (v, activity) = (potentials[at], activities[at]);
                    let slope = match activity {
                        Activity::Refractory => 0.0,
                        _ => {
                            let since = since.get(at).copied().unwrap_or(f32::INFINITY);
                            self.surrogate.slope(v / threshold - 1.0, since) / threshold
                        }
                    };
                    let mut by_v = dy[at] * charge * slope;
                    by_threshold -= by_v * v / threshold;
                    match (activity, reset) {
                        (Activity::Fired, Reset::Zero) => {}
                        (Activity::Fired, Reset::Subtract) => {
                            by_v += by_r[i];
                            by_threshold -= by_r[i];
                        }
                        _ => by_v += by_r[i],
                    }
                    if activity != Activity::Refractory {
                        dz[i] += by_v;
                    }
                    let r_before = match at.checked_sub(each) {
                        None => self.neurons.initial * threshold + added[c],
                        Some(at) => {
                            let fired = activities[at] == Activity::Fired;
                            reset.apply(potentials[at], threshold, fired)
                        }
                    };
                    by_leak += by_v * r_before;
                    if activity == Activity::Fired {
                        by_charge += dy[at];
                    }
                    by_r[i] = by_v * leak;
                }
                for (sums, by) in sums.iter_mut().zip([by_threshold, by_leak, by_charge]) {
                    sums[c] += f64::from(by);
                }
            }
        }
        for (i, by_r) in by_r.iter().enumerate() {
            sums[0][i / positions] += f64::from(by_r * self.neurons.initial);
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
        let (z, tape) = split(z)?;
        let [threshold, leak, charge] = parameters.map(split);
        let ((threshold, a), (leak, b), (charge, c)) = (threshold?, leak?, charge?);
        let (parameters, tape) = ([threshold, leak, charge], tape.merge(a).merge(b).merge(c));
        let data = parameters.each_ref().map(values);
        let each = shape.timesteps * shape.each();
        let own = z.shape().0 / shape.inputs; // of one timestep, or of all
        let mut potentials = Buffer::new(shape.inputs * each);
        let mut activities = vec![Activity::Silent; shape.inputs * each];
        let mut charges = Buffer::new(shape.inputs * each);
        {
            let (z, data) = (values(&z), data.each_ref().map(|values| &**values));
            let inputs = (potentials.par_chunks_exact_mut(each))
                .zip(activities.par_chunks_exact_mut(each))
                .zip(charges.par_chunks_exact_mut(each))
                .zip(z.par_chunks_exact(own));
            inputs.for_each(|((recorded, charges), z)| shape.forward(z, data, recorded, charges));
        }
        let (by_z, by_parameters) = (z.ghost(), parameters.each_ref().map(Tensor::ghost));
        output(z.device(), charges, tape, move |dy, gradients| {
            let data = data.each_ref().map(|values| &**values);
            let dz = gradients.get_or_alloc_mut(&by_z)?;
            let inputs = (potentials.par_chunks_exact(each))
                .zip(activities.par_chunks_exact(each))
                .zip(dy.par_chunks_exact(each))
                .zip(dz.par_chunks_exact_mut(own));
            let sums = inputs.map(|((recorded, dy), dz)| shape.backward(data, recorded, dy, dz));
            // One input after the other, whichever was ready first.
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
pub(crate) mod tests {
    use super::*;
    use dfdx::prelude::{Axis, Backward, CpuError, OwnedTape, SumTo, Trace};
    use proptest::prelude::*;

    use crate::simulate::neurons::Charge;
    use crate::through_time::steps::tensor;

    /// Values that look random, and lie in 0..1.
    pub(crate) fn noise(count: usize, seed: usize) -> Vec<f32> {
        let of = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0;
        (0..count).map(of).collect()
    }

    type Taped = Flat<f32, Cpu, OwnedTape<f32, Cpu>>;

    /// The output, and the gradients of its sum with other weights everywhere.
    fn fired(
        fire: impl FnOnce(Taped, [Taped; 3], FireShape) -> Result<Taped, CpuError>,
        z: Vec<f32>,
        shape: &FireShape,
    ) -> (Vec<f32>, [Vec<f32>; 4]) {
        let device = Cpu::default();
        let neurons = &shape.neurons;
        let parameters = [&neurons.threshold[..], &neurons.leak, &neurons.charges()]
            .map(|values| tensor(&device, shape.by_channel(values)).unwrap());
        let z = tensor(&device, z).unwrap();
        let on_tape = parameters.each_ref().map(|p| p.leaky_trace());
        let out = fire(z.leaky_trace(), on_tape, shape.clone()).unwrap();
        let values = out.as_vec();
        let weights = tensor(&device, noise(values.len(), 3)).unwrap();
        let gradients = out.try_mul(weights).unwrap();
        let gradients = gradients.sum::<(), Axis<0>>().backward();
        let [threshold, leak, charge] = parameters.map(|p| gradients.get(&p).as_vec());
        (values, [gradients.get(&z).as_vec(), threshold, leak, charge])
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
                    charge: Charge::Fixed(charge),
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
