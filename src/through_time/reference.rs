//! The reference simulators, on dfdx tensors and any device that runs the layers: what the fast
//! engine is tested against, and on a card the simulator.
//!
//! Both run one layer after the other, each over all timesteps, neurons and convolutions by their
//! definitions on tensors. They share no code that computes with the fast engine, and on a CPU they are slow.
//! [`trace`] gives every spike; a network that is [`on`](crate::simulate::SpikingNetwork::on) a device
//! leaves spikes there, and gives what [`simulate`](crate::simulate::simulate()) and evolution need.

use std::cell::RefCell;
use std::ops::Range;

use dfdx::prelude::{Axis, HasShape, ReshapeTo, SumTo};

use super::fire::Spikes;
use super::steps::tensor;
use super::surrogate::Surrogate;
use super::unrolled::{Memory, Unrolled};
use crate::ann::Graph;
use crate::base::{Error, Result};
use crate::data::{Samples, Shape};
use crate::metrics::{Hits, predict};
use crate::ops::{Accelerated, Backend, Values};
use crate::simulate::{
    LayerSpikes, Neurons, Outputs, SimulateSettings, Simulation, Source, Stage, Stages, Trace,
    check_frames, overflow,
};

/// Values of the widest layer over all timesteps that are on the device at once, where one image has
/// fewer: 1 GiB, and some times as much for what is made of them.
pub(super) const KEPT: usize = 1 << 28;
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
        let memory = &mut Memory::new();
        let output = unrolled.run(own, (1, frames), (timesteps, memory), see, |_| Ok(()))?;
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

/// A run of neurons on images, on device `D`: numbers of spikes and output currents come back.
pub(super) fn run<D: Backend>(
    stages: &Stages,
    neurons: &[Neurons],
    images: Samples<'_>,
    settings: SimulateSettings,
) -> Result<Simulation> {
    run_keeping::<D>(KEPT, stages, neurons, images, settings)
}

/// [`run`] with so many values on the device at once.
fn run_keeping<D: Backend>(
    kept: usize,
    stages: &Stages,
    neurons: &[Neurons],
    images: Samples<'_>,
    settings: SimulateSettings,
) -> Result<Simulation> {
    let (timesteps, classes) = (settings.timesteps, stages.classes());
    let surrogate = Surrogate::default();
    let unrolled = Unrolled::spiking(&D::again()?, &stages.graph, neurons, timesteps, surrogate)?;
    // Pieces of images, and of timesteps where those of one image are too many.
    let (batch, piece) = pieces(unrolled.steps.widest(), timesteps, kept);
    let mut counts = Counts::new(stages, timesteps, settings.outputs);
    let mut input_spikes = vec![0; timesteps];
    let mut hits = vec![false; images.len() * timesteps];
    let mut sums = vec![0.0; if settings.outputs { hits.len() * classes } else { 0 }];
    let (peak, size) = (images.peak(), stages.input().size());
    for first in (0..images.len()).step_by(batch) {
        let batch = first..images.len().min(first + batch);
        let coded = |image: usize| {
            let (pixels, index) = (images.input(image), images.index(image));
            settings.code.frames(&pixels, peak, timesteps, index)
        };
        let coded: Vec<Vec<f32>> = batch.clone().map(coded).collect();
        for coded in &coded {
            for (spikes, frame) in input_spikes.iter_mut().zip(coded.chunks(size).cycle()) {
                *spikes += frame.iter().filter(|&&x| x != 0.0).count() as u64;
            }
        }
        let mut memory = Memory::new();
        let mut summed = vec![vec![0.0; classes]; batch.len()];
        for from in (0..timesteps).step_by(piece) {
            let piece = piece.min(timesteps - from);
            let frames = if settings.code.is_direct() { 1 } else { piece };
            let own = |coded: &Vec<f32>| {
                // One period after the other.
                let skipped = from % (coded.len() / size) * size;
                let values = coded.iter().cycle().skip(skipped).take(frames * size);
                values.copied().collect::<Vec<f32>>()
            };
            let x = tensor(&D::again()?, coded.iter().flat_map(own).collect())?;
            let counts = RefCell::new(counts.of(batch.clone(), from..from + piece));
            let output = unrolled.run(
                x,
                (batch.len(), frames),
                (piece, &mut memory),
                |spikes| counts.borrow_mut().neurons(spikes),
                |values| counts.borrow_mut().pool(values, neurons),
            )?;
            let outputs = output.chunks_exact(piece * classes);
            for ((image, output), sum) in batch.clone().zip(outputs).zip(&mut summed) {
                for (t, now) in (from..).zip(output.chunks_exact(classes)) {
                    sum.iter_mut().zip(now).for_each(|(sum, z)| *sum += z);
                    let at = image * timesteps + t;
                    hits[at] = predict(sum) == images.label(image);
                    if settings.outputs {
                        sums[at * classes..][..classes].copy_from_slice(sum);
                    }
                }
            }
        }
        if summed.iter().flatten().any(|sum| !sum.is_finite()) {
            return Err(overflow(stages));
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

/// Numbers of images and of timesteps of each at once, where a frame of one becomes `widest` values
/// and so many are kept.
fn pieces(widest: usize, timesteps: usize, kept: usize) -> (usize, usize) {
    let piece = (kept / widest.max(1)).clamp(1, timesteps);
    ((kept / (widest * piece).max(1)).clamp(1, MOST), piece)
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
    /// Numbers of the pools in the order of the graph.
    order: Vec<usize>,
    /// Spikes of all neurons, by image and timestep; none unless they are asked for.
    by_image: Vec<u32>,
    each_image: bool,
    /// Images and timesteps of this piece.
    images: Range<usize>,
    piece: Range<usize>,
    /// Layers and pools that it has passed.
    passed: [usize; 2],
}

impl<'a> Counts<'a> {
    fn new(stages: &'a Stages, timesteps: usize, each_image: bool) -> Self {
        let spiking = &stages.stages[..stages.spiking()];
        let zeros = |shape: Shape| vec![0; timesteps * shape.size()];
        let mut order: Vec<usize> = (0..stages.pools.len()).collect();
        order.sort_by_key(|&pool| stages.pools[pool].number);
        Self {
            layers: spiking.iter().map(|stage| zeros(stage.output)).collect(),
            pools: stages.pools.iter().map(|pool| zeros(pool.output)).collect(),
            order,
            by_image: Vec::new(),
            each_image,
            images: 0..0,
            piece: 0..0,
            passed: [0; 2],
            stages,
            timesteps,
        }
    }

    /// Begins a piece of these images and timesteps.
    fn of(&mut self, images: Range<usize>, piece: Range<usize>) -> &mut Self {
        if self.each_image {
            self.by_image.resize(images.end * self.timesteps, 0);
        }
        (self.images, self.piece, self.passed) = (images, piece, [0; 2]);
        self
    }

    /// Adds the spikes of the next layer.
    fn neurons<D: Backend>(&mut self, spikes: Spikes<D>) -> Result<(), D::Err> {
        let spikes = spikes.try_abs()?;
        let (_, piece, channels, positions) = *spikes.shape();
        let by_neuron = spikes.clone().try_sum::<(usize, usize, usize), Axis<0>>()?.as_vec();
        let sums = &mut self.layers[self.passed[0]][self.piece.start * channels * positions..];
        sums.iter_mut().zip(by_neuron).for_each(|(sum, count)| *sum += count as u64);
        if self.each_image {
            // By image, timestep and channel, each of which is exact.
            let by_channel = spikes.try_sum::<(usize, usize, usize), Axis<3>>()?.as_vec();
            for (image, counts) in
                self.images.clone().zip(by_channel.chunks_exact(piece * channels))
            {
                let sums = &mut self.by_image[image * self.timesteps + self.piece.start..];
                for (sum, counts) in sums.iter_mut().zip(counts.chunks_exact(channels)) {
                    *sum += counts.iter().map(|&count| count as u32).sum::<u32>();
                }
            }
        }
        self.passed[0] += 1;
        Ok(())
    }

    /// Adds what the next max pool emits, which may be several for the engine: one for each layer
    /// whose channels it joins.
    fn pool<D: Backend>(&mut self, values: Values<D>, neurons: &[Neurons]) -> Result<(), D::Err> {
        let images = self.images.len();
        let each = values.shape().0 / images;
        let sums = values
            .try_abs()?
            .try_reshape_like(&(images, each))?
            .try_sum::<(usize,), Axis<0>>()?
            .as_vec();
        let frame = each / self.piece.len();
        let mut first = 0;
        while first < frame {
            let number = self.order[self.passed[1]];
            let pool = &self.stages.pools[number];
            let (size, positions) = (pool.output.size(), pool.output.height * pool.output.width);
            // Charges are what spikes bring: they are divided by that of one.
            let charges = neurons[pool.layer].charges();
            let counts = &mut self.pools[number][self.piece.start * size..];
            for (counts, sums) in counts.chunks_exact_mut(size).zip(sums.chunks_exact(frame)) {
                for (i, (count, sum)) in counts.iter_mut().zip(&sums[first..]).enumerate() {
                    let charge = charges[i / positions % charges.len()];
                    *count += (sum / charge).abs().round() as u64;
                }
            }
            first += size;
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
    use crate::simulate::neurons::Spikes as Graded;
    use crate::simulate::{InputCode, SpikingNetwork};
    use dfdx::prelude::Cpu;

    use crate::through_time::fire::tests::noise;

    #[test]
    fn pieces_fit_what_is_kept() {
        assert_eq!(pieces(100, 64, 10_000), (1, 64));
        assert_eq!(pieces(100, 64, 100_000), (15, 64));
        assert_eq!(pieces(100, 64, 1000), (1, 10));
        assert_eq!(pieces(100, 64, 10), (1, 1)); // less is not possible
    }

    fn dyadic(count: usize, seed: usize) -> Vec<f32> {
        noise(count, seed).iter().map(|x| ((x - 0.4) * 16.0).round() / 16.0).collect()
    }

    fn conv(inputs: usize, outputs: usize, seed: usize) -> Layer {
        Layer::Conv {
            weight: dyadic(outputs * inputs * 9, seed),
            bias: Some(dyadic(outputs, seed + 1)),
            inputs,
            outputs,
            window: Window::square(3, 1, 1),
            groups: 1,
        }
    }

    fn linear(inputs: usize, outputs: usize) -> Layer {
        let (weight, bias) = (dyadic(outputs * inputs, 9), None);
        Layer::Linear { weight, bias, inputs, outputs, order: CHANNELS_FIRST }
    }

    /// Holds runs in pieces to those of the engine.
    fn pieces_change_nothing(network: &SpikingNetwork) {
        let digits = crate::data::digits().unwrap().take(5);
        for code in [InputCode::Direct, InputCode::Latency { period: 3 }] {
            let settings = SimulateSettings { code, per_neuron: true, outputs: true, ..7.into() };
            let expected = network.simulate(&digits, settings).unwrap();
            for kept in [1, 600, 1500, 1 << 28] {
                let (stages, images) = (&network.stages, digits.view());
                let found =
                    run_keeping::<Cpu>(kept, stages, &network.neurons, images, settings).unwrap();
                assert!(found == expected, "{kept}");
            }
            assert!(expected.pools.iter().flatten().sum::<u64>() > 100);
        }
    }

    const POOL: Layer = Layer::MaxPool { window: Window::square(2, 2, 0), ceil: false };

    /// Max pools, refractory periods, graded spikes and input codes go on where the piece before ended.
    #[test]
    fn pieces_do_not_change_a_run() {
        let layers =
            [conv(1, 4, 1), Layer::Neurons, POOL, conv(4, 4, 5), Layer::Neurons, linear(64, 10)];
        let graph = Graph::chain(Shape::new(1, 8, 8), layers);
        let first = Neurons { refractory: 1, ..Neurons::new([0.5]) };
        let second = Neurons { spikes: Graded::levels(2), ..Neurons::new([0.75]) };
        pieces_change_nothing(&SpikingNetwork::new(graph, vec![first, second]).unwrap());
    }

    /// The engine has them in another order than the graph.
    #[test]
    fn pools_of_pools_are_counted_each_as_its_own() {
        let mut graph = Graph::new(Shape::new(1, 8, 8));
        let first = graph.add("", conv(1, 2, 1), [0]);
        let first = graph.add("", Layer::Neurons, [first]);
        let second = graph.add("", conv(1, 4, 5), [0]);
        let second = graph.add("", Layer::Neurons, [second]);
        graph.add("", Layer::Concat, [second, first]);
        graph.then(POOL);
        graph.then(POOL);
        graph.then(linear(24, 10));
        let neurons = vec![
            Neurons::new([0.5]),
            Neurons { spikes: Graded::levels(2), ..Neurons::new([0.25]) },
        ];
        pieces_change_nothing(&SpikingNetwork::new(graph, neurons).unwrap());
    }

    /// Convolution, pooling, a residual sum of what is constant and what is not, two layers of
    /// neurons: logits are the mean of the reference's output currents.
    #[test]
    fn an_unrolled_network_is_the_reference() {
        let input = Shape::new(1, 4, 4);
        let mut graph = Graph::chain(input, [conv(1, 4, 1), Layer::Neurons, conv(4, 4, 5)]);
        graph.add("", Layer::Sum, [3, 1]);
        graph.then(Layer::average(2));
        graph.then(Layer::Neurons);
        graph.then(linear(16, 3));
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
