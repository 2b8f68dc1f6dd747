//! The reference simulators, on dfdx tensors and any device that runs the layers: what the fast
//! engine is tested against, and on a card the simulator.
//!
//! Both run one layer after the other, each over all timesteps, neurons and convolutions by their
//! definitions on tensors. They share no code that computes with the fast engine, and on a CPU they are slow.
//! [`trace`] gives every spike; [`simulate`] leaves spikes on the device and gives what an accuracy
//! curve needs.

use dfdx::prelude::{Axes3, SumTo};

use super::steps::tensor;
use super::surrogate::Surrogate;
use super::unrolled::Unrolled;
use crate::ann::Graph;
use crate::base::{Chart, Error, Result, one_line, show, some_timesteps};
use crate::data::{Images, Part, Task};
use crate::metrics::{AccuracyCurve, Hits, accuracy_chart, predict};
use crate::ops::{Accelerated, Backend};
use crate::simulate::{Neurons, SpikingNetwork, Trace, check_frames};

/// Values of the widest layer over all timesteps that [`simulate`] keeps on the device at once: 256
/// MiB, and some times as much for intermediate results.
const KEPT: usize = 1 << 26;

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
        let output = unrolled.run(own, (1, frames), |layer| {
            let fired = |row: &[f32]| -> (Vec<usize>, Vec<i8>) {
                let fired = row.iter().enumerate().filter(|(_, count)| **count != 0.0);
                fired.map(|(neuron, &count)| (neuron, count as i8)).unzip()
            };
            let (neurons, each) = rows(&layer.as_vec(), timesteps).map(fired).unzip();
            spikes.push(neurons);
            counts.push(each);
            Ok(())
        })?;
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

/// Result of [`simulate`]: all that is copied back from the device.
#[derive(Clone, PartialEq)]
pub struct Counts {
    /// Accuracy after every timestep.
    pub curve: AccuracyCurve,
    /// Spikes in each timestep of all neurons of a layer on all images, layer by layer.
    pub spikes: Vec<Vec<u64>>,
}

one_line!(impl [] Counts: counts, "simulation: {:?}", counts.curve);

impl Counts {
    fn chart(&self) -> Result<Chart> {
        accuracy_chart("Accuracy after every timestep", [("reference", &self.curve)], None)
    }
}

show!(impl [] Counts as chart);

/// Accuracy and spike counts on all images over some timesteps, in direct coding, on any device.
/// Spikes stay there; counts and output currents come back.
///
/// ```
/// # use evospike::prelude::*;
/// use dfdx::prelude::Cpu; // or Cuda
/// use evospike::through_time::reference;
/// # fn example(snn: Snn<DigitsCnn>, images: Images<Test, Digits>) -> evospike::Result<()> {
/// let counts = reference::simulate::<Cpu, _, _>(snn.network(), &images, 64)?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// No image, no timestep; images of another shape, or of more classes, than the network's;
/// [`Error::Device`].
pub fn simulate<D: Backend, P: Part, K: Task>(
    network: &SpikingNetwork,
    images: &Images<P, K>,
    timesteps: usize,
) -> Result<Counts> {
    some_timesteps("timesteps", timesteps)?;
    network.check_task::<K>()?;
    images.view().check_some()?;
    let (device, stages) = (D::open(0)?, &network.stages);
    let unrolled = Unrolled::spiking(
        &device,
        &stages.graph,
        &network.neurons,
        timesteps,
        Surrogate::default(),
    )?;
    let widest = stages.stages.iter().map(|stage| stage.output.size()).max();
    let widest = widest.unwrap_or(1).max(1);
    // Spikes are counted in numbers that are exact up to 2²⁴.
    let most = (1 << 24) / widest;
    let batch = (KEPT / widest.saturating_mul(timesteps)).min(most).max(1);
    let mut hits = Vec::with_capacity(images.len() * timesteps);
    let mut spikes = vec![vec![0; timesteps]; network.neurons.len()];
    for first in (0..images.len()).step_by(batch) {
        let last = images.len().min(first + batch);
        let inputs = (first..last).flat_map(|image| images.input(image)).collect();
        let (inputs, mut layers) = (tensor(&device, inputs)?, spikes.iter_mut());
        let output = unrolled.run(inputs, (last - first, 1), |spikes| {
            let sums = spikes.try_abs()?.try_sum::<(usize,), Axes3<0, 2, 3>>()?.as_vec();
            let counts = layers.next().into_iter().flatten();
            counts.zip(sums).for_each(|(count, sum)| *count += sum as u64);
            Ok(())
        })?;
        for (image, output) in (first..last).zip(output.chunks_exact(timesteps * K::CLASSES)) {
            let mut sum = vec![0.0; K::CLASSES];
            for now in output.chunks_exact(K::CLASSES) {
                sum.iter_mut().zip(now).for_each(|(sum, z)| *sum += z);
                hits.push(predict(&sum) == images.label(image));
            }
        }
    }
    Ok(Counts { curve: Hits::new(timesteps, hits).curve(), spikes })
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
