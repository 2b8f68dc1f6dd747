//! The reference simulators, on dfdx tensors and any device that runs the layers: what the fast
//! engine is tested against, and on a card the simulator.
//!
//! Both run one layer after the other, each over all timesteps, neurons and convolutions by their
//! definitions on tensors. They share no code that computes with the fast engine, and on a CPU they are slow.
//! [`trace`] gives every spike; a network that is [`on`](SpikingNetwork::on) a device leaves spikes
//! there, and gives what [`simulate`](crate::simulate::simulate()) and evolution need.

use std::cell::RefCell;

use dfdx::prelude::{Axis, HasShape, ReshapeTo, SumTo};

use super::fire::Spikes;
use super::steps::tensor;
use super::surrogate::Surrogate;
use super::unrolled::Unrolled;
use crate::ann::{Classifier, Graph};
use crate::base::{Error, Result};
use crate::data::{Samples, Shape};
use crate::metrics::{Hits, predict};
use crate::ops::{Accelerated, Backend, Values};
use crate::simulate::{
    Device, LayerSpikes, Neurons, Outputs, SimulateSettings, Simulation, Snn, Source,
    SpikingNetwork, Stage, Stages, Trace, check_frames, overflow,
};

/// Values of the widest layer over all timesteps that are on the device at once, where one image has
/// fewer: 1 GiB, and some times as much for what is made of them.
const KEPT: usize = 1 << 28;
/// Images that are simulated at once at the most: their spikes are added in numbers that are exact up
/// to 2²⁴.
const MOST: usize = 1 << 16;

/// Traces of `count` inputs, as
/// [`SpikingNetwork::trace`](crate::simulate::SpikingNetwork::trace) gives them. `inputs` holds one
/// input after the other, each the same in all timesteps; or all inputs of the first timestep, then
/// all of the second, and so on.
///
/// # Errors
/// Layers or neurons that do not fit, weights or inputs that are not finite, a number of values that is not that of the inputs, or [`Error::Device`].
pub fn trace<D: Accelerated<f32>>(
    device: &D,
    graph: &Graph,
    neurons: &[Neurons],
    inputs: &[f32],
    count: usize,
    timesteps: usize,
) -> Result<Vec<Trace>> {
    if timesteps == 0 || count == 0 {
        let found = format!("{count} inputs, {timesteps} timesteps");
        return Err(Error::parameter("timesteps", found, "1 or more of each"));
    }
    let size = graph.input.size();
    check_frames("inputs", inputs, count * size, timesteps)?;
    let unrolled = Unrolled::spiking(device, graph, neurons, timesteps, Surrogate::default())?;
    let frames = match inputs.len() == count * size {
        true => 1,
        false => timesteps,
    };
    let trace = |i: usize| {
        let own = (0..frames).flat_map(|t| &inputs[(t * count + i) * size..][..size]);
        let own = tensor(device, own.copied().collect())?;
        let (mut spikes, mut counts) = (Vec::new(), Vec::new());
        let see = |layer: Spikes<D>| {
            let fired = |row: &[f32]| -> (Vec<usize>, Vec<i8>) {
                let fired = row.iter().enumerate().filter(|(_, count)| **count != 0.0);
                fired.map(|(neuron, &count)| (neuron, count as i8)).unzip()
            };
            let (neurons, each) = rows(&layer.as_vec(), timesteps).map(fired).unzip();
            spikes.push(neurons);
            counts.push(each);
            Ok(())
        };
        let output = unrolled.run(own, (1, frames), see, |_| Ok(()))?;
        let output = rows(&output, timesteps).map(<[f32]>::to_vec).collect();
        Ok(Trace { spikes, counts, output })
    };
    (0..count).map(trace).collect()
}

/// `values` in `count` rows.
fn rows(values: &[f32], count: usize) -> impl Iterator<Item = &[f32]> {
    let each = values.len() / count;
    (0..count).map(move |row| &values[row * each..][..each])
}

impl SpikingNetwork {
    /// The network, simulated on device `D`: dfdx's `Cuda`, or its `Cpu` to compare. Accuracy,
    /// numbers of spikes, outputs and evolution are then computed there, by the definitions of
    /// [`reference`](self), spike for spike equal where sums are exact. What needs every single spike
    /// still runs on the CPU's engine: traces, first spikes, calibration, live early exit.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such device.
    pub fn on<D: Backend>(&self) -> Result<Self> {
        D::again()?;
        let device = Device { name: std::any::type_name::<D>(), run: run::<D> };
        Ok(Self { device: Some(device), ..self.clone() })
    }
}

impl<N: Classifier> Snn<N> {
    /// The network, simulated on device `D`, as by [`SpikingNetwork::on`].
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// use dfdx::prelude::Cpu; // or Cuda
    /// # fn example(snn: Snn<DigitsCnn>, parts: Split<Digits>, target: Target) -> evospike::Result<()> {
    /// let snn = snn.on::<Cpu>()?;
    /// let run = simulate(&snn, &parts.test, 64)?;
    /// let evolution = evolve(&snn, &parts.held_out, &target, &EvolveSettings::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such device.
    pub fn on<D: Backend>(&self) -> Result<Self> {
        let mut snn = self.clone();
        snn.network = self.network.on::<D>()?;
        Ok(snn)
    }
}

/// A run of neurons on images, on device `D`: numbers of spikes and output currents come back.
fn run<D: Backend>(
    stages: &Stages,
    neurons: &[Neurons],
    images: Samples<'_>,
    settings: SimulateSettings,
) -> Result<Simulation> {
    let (timesteps, classes) = (settings.timesteps, stages.classes());
    let surrogate = Surrogate::default();
    let unrolled = Unrolled::spiking(&D::again()?, &stages.graph, neurons, timesteps, surrogate)?;
    let values = unrolled.steps.widest().saturating_mul(timesteps);
    let batch = (KEPT / values.max(1)).clamp(1, MOST);
    let mut counts = Counts::new(stages, timesteps, settings.outputs);
    let mut input_spikes = vec![0; timesteps];
    let mut hits = Vec::with_capacity(images.len() * timesteps);
    let mut sums = Vec::new();
    for first in (0..images.len()).step_by(batch) {
        let batch = first..images.len().min(first + batch);
        let (peak, size) = (images.peak(), stages.input().size());
        let frames = if settings.code.is_direct() { 1 } else { timesteps };
        let mut inputs = Vec::with_capacity(batch.len() * frames * size);
        for image in batch.clone() {
            let (pixels, index) = (images.input(image), images.index(image));
            let coded = settings.code.frames(&pixels, peak, timesteps, index);
            inputs.extend(coded.iter().cycle().take(frames * size)); // one period after the other
            for (spikes, frame) in input_spikes.iter_mut().zip(coded.chunks(size).cycle()) {
                *spikes += frame.iter().filter(|&&x| x != 0.0).count() as u64;
            }
        }
        let x = tensor(&D::again()?, inputs)?;
        let counts = RefCell::new(counts.of(batch.len()));
        let output = unrolled.run(
            x,
            (batch.len(), frames),
            |spikes| counts.borrow_mut().neurons(spikes),
            |values| counts.borrow_mut().pool(values, neurons),
        )?;
        for (image, output) in batch.zip(output.chunks_exact(timesteps * classes)) {
            let mut sum = vec![0.0; classes];
            for now in output.chunks_exact(classes) {
                sum.iter_mut().zip(now).for_each(|(sum, z)| *sum += z);
                hits.push(predict(&sum) == images.label(image));
                if settings.outputs {
                    sums.extend_from_slice(&sum);
                }
            }
            if sum.iter().any(|sum| !sum.is_finite()) {
                return Err(overflow(stages));
            }
        }
    }
    let hits = Hits::new(timesteps, hits);
    let (layers, pools) = counts.layers(settings.per_neuron);
    Ok(Simulation {
        curve: hits.curve(),
        hits,
        input: (!settings.code.is_direct()).then_some(input_spikes),
        layers,
        pools,
        outputs: settings.outputs.then_some(Outputs { classes, sums, spikes: counts.by_image }),
    })
}

/// Numbers of spikes of a run.
struct Counts<'a> {
    stages: &'a Stages,
    timesteps: usize,
    /// Spikes of every neuron in each timestep on all images, layer by layer: by timestep, channel
    /// and position.
    layers: Vec<Vec<u64>>,
    /// What every max pool emits, in the same order.
    pools: Vec<Vec<u64>>,
    /// Spikes of all neurons, by image and timestep; none unless they are asked for.
    by_image: Vec<u32>,
    each_image: bool,
    /// Images of this batch, and layers and pools that it has passed.
    images: usize,
    passed: [usize; 2],
}

impl<'a> Counts<'a> {
    fn new(stages: &'a Stages, timesteps: usize, each_image: bool) -> Self {
        let spiking = &stages.stages[..stages.spiking()];
        let zeros = |shape: Shape| vec![0; timesteps * shape.size()];
        Self {
            layers: spiking.iter().map(|stage| zeros(stage.output)).collect(),
            pools: stages.pools.iter().map(|pool| zeros(pool.output)).collect(),
            by_image: Vec::new(),
            each_image,
            images: 0,
            passed: [0; 2],
            stages,
            timesteps,
        }
    }

    /// Begins a batch of so many images.
    fn of(&mut self, images: usize) -> &mut Self {
        if self.each_image {
            self.by_image.resize(self.by_image.len() + images * self.timesteps, 0);
        }
        (self.images, self.passed) = (images, [0; 2]);
        self
    }

    /// Adds the spikes of the next layer.
    fn neurons<D: Backend>(&mut self, spikes: Spikes<D>) -> Result<(), D::Err> {
        let spikes = spikes.try_abs()?;
        let by_neuron = spikes.clone().try_sum::<(usize, usize, usize), Axis<0>>()?.as_vec();
        let sums = self.layers[self.passed[0]].iter_mut();
        sums.zip(by_neuron).for_each(|(sum, count)| *sum += count as u64);
        if self.each_image {
            let channels = spikes.shape().2;
            // By image, timestep and channel, each of which is exact.
            let by_channel = spikes.try_sum::<(usize, usize, usize), Axis<3>>()?.as_vec();
            let first = self.by_image.len() - self.images * self.timesteps;
            let sums = self.by_image[first..].iter_mut().zip(by_channel.chunks_exact(channels));
            sums.for_each(|(sum, counts)| *sum += counts.iter().map(|&x| x as u32).sum::<u32>());
        }
        self.passed[0] += 1;
        Ok(())
    }

    /// Adds what the next max pool emits, which may be several for the engine: one for each layer
    /// whose channels it joins.
    fn pool<D: Backend>(&mut self, values: Values<D>, neurons: &[Neurons]) -> Result<(), D::Err> {
        let each = values.shape().0 / self.images;
        let sums = values
            .try_abs()?
            .try_reshape_like(&(self.images, each))?
            .try_sum::<(usize,), Axis<0>>()?
            .as_vec();
        let frame = each / self.timesteps;
        let mut from = 0;
        while from < frame {
            let pool = &self.stages.pools[self.passed[1]];
            let (size, positions) = (pool.output.size(), pool.output.height * pool.output.width);
            // Charges are what spikes bring: they are divided by that of one.
            let charges = neurons[pool.layer].charges();
            let counts = self.pools[self.passed[1]].chunks_exact_mut(size);
            for (counts, sums) in counts.zip(sums.chunks_exact(frame)) {
                for (i, (count, sum)) in counts.iter_mut().zip(&sums[from..]).enumerate() {
                    let charge = charges[i / positions % charges.len()];
                    *count += (sum / charge).abs().round() as u64;
                }
            }
            from += size;
            self.passed[1] += 1;
        }
        Ok(())
    }

    /// Activity of every layer and pool.
    fn layers(&self, per_neuron: bool) -> (Vec<LayerSpikes>, Vec<Vec<u64>>) {
        let sums = |counts: &[u64]| {
            let frames = counts.chunks_exact(counts.len() / self.timesteps);
            frames.map(|frame| frame.iter().sum()).collect::<Vec<u64>>()
        };
        let layer = |(i, stage): (usize, &Stage)| {
            let mut operations = vec![0; self.timesteps];
            for synapses in &stage.synapses {
                let counts = match synapses.source {
                    Source::Image => continue,
                    Source::Neurons(layer) => &self.layers[layer],
                    Source::Pool(pool) => &self.pools[pool],
                };
                let fan_out = synapses.fan_out();
                let frames = counts.chunks_exact(counts.len() / self.timesteps);
                for (operations, frame) in operations.iter_mut().zip(frames) {
                    let weights = frame.iter().zip(fan_out.iter().cycle());
                    *operations += weights.map(|(count, weights)| count * weights).sum::<u64>();
                }
            }
            let counts = self.layers.get(i);
            LayerSpikes {
                neurons: stage.output.size(),
                spikes: counts.map_or_else(|| vec![0; self.timesteps], |counts| sums(counts)),
                operations,
                per_neuron: counts.filter(|_| per_neuron).map(|counts| {
                    let mut all = vec![0; stage.output.size()];
                    for frame in counts.chunks_exact(all.len()) {
                        all.iter_mut().zip(frame).for_each(|(sum, count)| *sum += count);
                    }
                    all
                }),
            }
        };
        let stages = self.stages.stages.iter().enumerate();
        (stages.map(layer).collect(), self.pools.iter().map(|counts| sums(counts)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::layers::{CHANNELS_FIRST, Layer, Window};
    use crate::data::shape::Shape;
    use dfdx::prelude::Cpu;

    use crate::through_time::fire::tests::noise;

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
            window: Window::square(3, 1, 1),
            groups: 1,
        };
        let input = Shape::new(1, 4, 4);
        let mut graph = Graph::chain(input, [conv(1, 1), Layer::Neurons, conv(4, 5)]);
        graph.add("", Layer::Sum, [3, 1]);
        graph.then(Layer::average(2));
        graph.then(Layer::Neurons);
        graph.then(Layer::Linear {
            weight: dyadic(3 * 16, 9),
            bias: None,
            inputs: 16,
            outputs: 3,
            order: CHANNELS_FIRST,
        });
        let neurons = [Neurons::new([0.75]), Neurons::new([0.5, 1.0, 0.25, 1.5])];
        let (count, timesteps) = (3, 8);
        let images = dyadic(16 * count, 21);
        let device = Cpu::default();
        let unrolled =
            Unrolled::spiking(&device, &graph, &neurons, timesteps, Surrogate::Linear).unwrap();
        let x = tensor(&device, images.clone()).unwrap();
        let found = unrolled.logits(x, count).unwrap().as_vec();
        let traces = trace(&device, &graph, &neurons, &images, count, timesteps).unwrap();
        let mean = |trace: &Trace| -> Vec<f32> {
            let sum = |class: usize| trace.output.iter().map(|row| row[class]).sum::<f32>();
            (0..3).map(|class| sum(class) / timesteps as f32).collect()
        };
        assert_eq!(found, traces.iter().flat_map(mean).collect::<Vec<_>>());
        assert!(traces.iter().all(|trace| trace.spikes.concat().concat().len() > 20));
    }
}
