//! Comparison of the event-driven engine with the dense reference, spike by spike, on random small
//! networks.
//!
//! Weights, inputs and thresholds are multiples of a power of two, so that the order of a sum does
//! not change it.

use dfdx::prelude::Cpu;
use evospike::ann::layers::Layer;
use evospike::data::{self, Digits, Images, Shape, Task, Whole};
use evospike::ops::Backend;
use evospike::simulate::SpikingNetwork;
use evospike::simulate::neurons::{Charge, Negative, Neurons, Reset, Spikes};
use evospike::through_time::reference;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};

type Rng = rand_chacha::ChaCha8Rng;

struct Builder {
    rng: Rng,
    shape: Shape,
    neurons: Vec<Neurons>,
}

impl Builder {
    /// Multiples of 1/64 in -0.5..=0.5, half of them 0.
    fn weights(&mut self, count: usize) -> Vec<f32> {
        let mut weight = || match self.rng.random::<bool>() {
            true => self.rng.random_range(-32..=32) as f32 / 64.0,
            false => 0.0,
        };
        (0..count).map(|_| weight()).collect()
    }

    fn bias(&mut self, count: usize) -> Option<Vec<f32>> {
        self.rng.random::<bool>().then(|| self.weights(count))
    }

    fn channels(&mut self) -> usize {
        self.rng.random_range(1..=40) // more than are computed at once
    }

    fn conv(&mut self, outputs: usize, kernel: usize, stride: usize, padding: usize) -> Layer {
        let inputs = self.shape.channels;
        let side = (self.shape.height + 2 * padding - kernel) / stride + 1;
        self.shape = Shape::new(outputs, side, side);
        Layer::Conv {
            weight: self.weights(outputs * inputs * kernel * kernel),
            bias: self.bias(outputs),
            inputs,
            outputs,
            kernel,
            stride,
            padding,
        }
    }

    fn fire(&mut self) -> Layer {
        let each = |builder: &mut Self, values: &[f32]| -> Vec<f32> {
            let count = match builder.rng.random::<bool>() {
                true => 1,
                false => builder.shape.channels,
            };
            (0..count).map(|_| values[builder.rng.random_range(0..values.len())]).collect()
        };
        let plain = self.rng.random::<bool>();
        let neurons = Neurons {
            threshold: each(self, &[0.25, 0.5, 0.75, 1.0, 1.75]),
            spikes: if plain { Spikes::PLAIN } else { self.spikes() },
            leak: match self.rng.random_range(0..3) {
                0 => each(self, &[1.0, 0.5, 0.875]),
                _ => vec![1.0],
            },
            reset: match plain && self.rng.random::<bool>() {
                true => Reset::Zero,
                false => Reset::Subtract,
            },
            initial: [0.0, 0.5][self.rng.random_range(0..2)],
            refractory: match plain {
                true => [0, 0, 1, 3][self.rng.random_range(0..4)],
                false => 0,
            },
            charge: match self.rng.random_range(0..3) {
                0 => Charge::Threshold,
                1 => Charge::Unit,
                _ => Charge::Fixed(each(self, &[0.5, 1.0, 2.0])),
            },
            current: each(self, &[0.0, 0.0, 0.125, -0.25]),
            potential: each(self, &[0.0, 0.0, 0.25, -0.125]),
        };
        self.neurons.push(neurons);
        Layer::Neurons
    }

    /// Levels are powers of two.
    fn spikes(&mut self) -> Spikes {
        let negative = self.rng.random::<bool>().then(|| Negative {
            threshold: [0.0, 0.5, 1.0, 1.25][self.rng.random_range(0..4)],
            most: self.rng.random_range(1..=3),
        });
        Spikes {
            levels: [1, 1, 2, 4][self.rng.random_range(0..4)],
            most: self.rng.random_range(1..=5),
            negative,
        }
    }

    fn pool(&mut self) -> Option<Layer> {
        if self.rng.random::<bool>() || !self.shape.height.is_multiple_of(2) {
            return None;
        }
        self.shape = Shape::new(self.shape.channels, self.shape.height / 2, self.shape.width / 2);
        Some(Layer::AvgPool { size: 2 })
    }

    /// Layers of random blocks, and a linear output layer.
    fn network(&mut self, blocks: usize, classes: usize) -> Vec<Layer> {
        let mut layers = self.block();
        for _ in 0..blocks {
            layers.extend(match self.rng.random::<bool>() {
                true => self.block(),
                false => self.residual(),
            });
        }
        layers.extend(self.pool());
        let inputs = self.shape.size();
        layers.push(Layer::Linear {
            weight: self.weights(classes * inputs),
            bias: self.bias(classes),
            inputs,
            outputs: classes,
        });
        layers
    }

    fn block(&mut self) -> Vec<Layer> {
        let mut layers: Vec<Layer> = self.pool().into_iter().collect();
        let outputs = self.channels();
        let kernel = [1, 2, 3, 3][self.rng.random_range(0..4)];
        let kernel = kernel.min(self.shape.height);
        let padding = self.rng.random_range(0..=kernel.div_ceil(2));
        let stride = self.rng.random_range(1..=2);
        layers.push(self.conv(outputs, kernel, stride, padding));
        layers.extend(self.pool());
        layers.push(self.fire());
        layers
    }

    /// Body and shortcut from the same neurons, of the same size or halved.
    fn residual(&mut self) -> Vec<Layer> {
        let from = self.shape;
        let stride = self.rng.random_range(1..=2);
        let outputs = if stride == 1 { from.channels } else { self.channels() };
        let mut body = vec![self.conv(outputs, 3, stride, 1)];
        if self.rng.random::<bool>() {
            body.push(self.fire());
            body.push(self.conv(outputs, 3, 1, 1));
        }
        let to = self.shape;
        self.shape = from;
        let shortcut = match stride {
            1 => Vec::new(),
            _ => vec![self.conv(outputs, 1, stride, 0)],
        };
        assert_eq!(self.shape, to);
        vec![Layer::Residual { body, shortcut }, self.fire()]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_engine_gives_the_references_spikes(seed: u64, blocks in 1..4usize, timesteps in 1..180usize) {
        let mut rng = Rng::seed_from_u64(seed);
        let (channels, side) = (rng.random_range(1..4), rng.random_range(1..9));
        let input = Shape::new(channels, side, side);
        let mut builder = Builder { rng, shape: input, neurons: Vec::new() };
        let layers = builder.network(blocks, 5);
        let varying = builder.rng.random::<bool>();
        let frames = if varying { timesteps } else { 1 };
        // Multiples of 1/4 in 0..=2.
        let images: Vec<f32> = (0..2 * frames * input.size()).map(|_| builder.rng.random_range(0..=8) as f32 / 4.0).collect();

        let neurons = builder.neurons;
        let expected = reference::trace(&Cpu::default(), input, &layers, &neurons, &images, 2, timesteps).unwrap();
        let network = SpikingNetwork::new(input, &layers, neurons, 5).unwrap();
        for (i, expected) in expected.iter().enumerate() {
            let frames = images.chunks(input.size()).skip(i).step_by(2);
            let image: Vec<f32> = frames.flatten().copied().collect();
            let found = network.trace(&image, timesteps).unwrap();
            for (layer, (found, expected)) in found.spikes.iter().zip(&expected.spikes).enumerate() {
                prop_assert_eq!(found, expected, "layer {}", layer);
            }
            prop_assert_eq!(&found.counts, &expected.counts);
            prop_assert_eq!(&found.output, &expected.output);
        }
    }

    #[test]
    fn counting_on_a_device_gives_the_fast_engines_counts(seed: u64, blocks in 1..3usize, timesteps in 1..30usize) {
        counts_agree::<Cpu>(seed, blocks, timesteps)?;
    }
}

/// Comparison of spike counts on digits, whose pixels are sixteenths.
fn counts_agree<D: Backend>(
    seed: u64,
    blocks: usize,
    timesteps: usize,
) -> Result<(), TestCaseError> {
    let (rng, shape) = (Rng::seed_from_u64(seed), Digits::SHAPE);
    let mut builder = Builder { rng, shape, neurons: Vec::new() };
    let layers = builder.network(blocks, Digits::CLASSES);
    let network = SpikingNetwork::new(shape, &layers, builder.neurons, Digits::CLASSES).unwrap();
    let images: Images<Whole, Digits> = data::digits().unwrap().take(20);
    let expected = network.simulate(&images, timesteps).unwrap();
    let found = reference::simulate::<D, _, _>(&network, &images, timesteps).unwrap();
    let layers = expected.layers.iter().take(network.neurons().len());
    let spikes: Vec<_> = layers.map(|layer| layer.spikes.clone()).collect();
    prop_assert_eq!(found.spikes, spikes);
    prop_assert_eq!(found.curve, expected.curve);
    Ok(())
}

#[cfg(feature = "cuda")]
#[test]
fn counting_on_a_card_gives_the_fast_engines_counts() {
    use dfdx::prelude::Cuda;
    if let Err(error) = Cuda::open(0) {
        return println!("skipped: {error}");
    }
    for seed in 0..8 {
        counts_agree::<Cuda>(seed, 2, 20).unwrap();
    }
}
