//! Comparison of the event-driven engine with the dense reference, spike by spike, on random small
//! networks.
//!
//! Weights, inputs and thresholds are multiples of a power of two, so that the order of a sum does
//! not change it.

use dfdx::prelude::Cpu;
use evospike::Error;
use evospike::ann::graph::Graph;
use evospike::ann::layers::{CHANNELS_FIRST, CHANNELS_LAST, Layer, Window};
use evospike::data::{Shape, Task, Whole};
use evospike::prelude::*;
use evospike::simulate::SpikingNetwork;
use evospike::simulate::neurons::{Charge, Negative, Neurons, Reset, Spikes};
use evospike::through_time::fire::Fires;
use evospike::through_time::reference;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};

type Rng = rand_chacha::ChaCha8Rng;

/// Random network with every kind of layer.
struct Builder {
    rng: Rng,
    graph: Graph,
    /// Shape of the last value.
    shape: Shape,
    neurons: Vec<Neurons>,
    /// Whether the last value is of neurons, so that it can be max-pooled.
    fired: bool,
}

impl Builder {
    fn new(rng: Rng, input: Shape) -> Self {
        Self { rng, graph: Graph::new(input), shape: input, neurons: Vec::new(), fired: false }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    fn chance(&mut self) -> bool {
        self.rng.random()
    }

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

    /// Number of the last value.
    fn last(&self) -> usize {
        self.graph.nodes.len()
    }

    /// Adds a layer if it fits.
    fn add(&mut self, layer: Layer, inputs: Vec<usize>) -> bool {
        self.graph.add("", layer, inputs);
        match self.graph.shapes() {
            Ok(shapes) => {
                self.shape = shapes[self.last()];
                true
            }
            Err(_) => {
                self.graph.nodes.pop();
                false
            }
        }
    }

    fn then(&mut self, layer: Layer) -> bool {
        self.add(layer, vec![self.last()])
    }

    fn window(&mut self, sizes: &[usize]) -> Window {
        let mut two = |of: &[usize]| [self.pick(of), self.pick(of)];
        let (size, stride, dilation) = (two(sizes), two(&[1, 1, 2]), two(&[1, 1, 1, 2]));
        let padding = [0, 1, 2, 3].map(|side| self.rng.random_range(0..=size[side % 2] / 2 + 1));
        Window { size, stride, dilation, padding }
    }

    /// A convolution with any windows and groups.
    fn conv(&mut self) {
        let inputs = self.shape.channels;
        let groups = match self.pick(&[0, 0, 1, 2]) {
            0 => 1,
            1 => inputs, // depthwise
            _ => (1..=inputs)
                .rev()
                .find(|&groups| inputs.is_multiple_of(groups) && groups < 4)
                .unwrap(),
        };
        let outputs = match groups {
            1 => self.channels(),
            _ => groups * self.pick(&[1, 2]),
        };
        loop {
            let window = self.window(&[1, 2, 3]);
            let [rows, columns] = window.size;
            let weight = self.weights(outputs * inputs / groups * rows * columns);
            let bias = self.bias(outputs);
            if self.then(Layer::Conv { weight, bias, inputs, outputs, window, groups }) {
                return;
            }
        }
    }

    /// A convolution that keeps height and width.
    fn same(&mut self, outputs: usize) {
        let inputs = self.shape.channels;
        let weight = self.weights(outputs * inputs * 9);
        let (bias, window) = (self.bias(outputs), Window::square(3, 1, 1));
        assert!(self.then(Layer::Conv { weight, bias, inputs, outputs, window, groups: 1 }));
    }

    /// Average pooling whose windows hold 1, 2 or 4 values, if it fits.
    fn average(&mut self) {
        let (window, ceil, count_padding) = (self.window(&[1, 2]), self.chance(), self.chance());
        self.then(Layer::AvgPool { window, ceil, count_padding });
    }

    /// Max pooling, if it fits.
    fn max(&mut self) {
        let (window, ceil) = (self.window(&[1, 2, 3]), self.chance());
        self.then(Layer::MaxPool { window, ceil });
    }

    fn scale_shift(&mut self, factors: &[f32]) {
        let scale = (0..self.shape.channels).map(|_| self.pick(factors)).collect();
        let shift = self.weights(self.shape.channels);
        assert!(self.then(Layer::ScaleShift { scale, shift }));
    }

    fn fire(&mut self) {
        let clipped = self.chance();
        let bound = self.push_neurons();
        self.then(if clipped { Layer::Clipped { bound } } else { Layer::Neurons });
        self.fired = true;
    }

    /// Adds random neurons, and gives the most that they say in a timestep.
    fn push_neurons(&mut self) -> f32 {
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
        let (sizes, most) = (neurons.threshold.iter(), f32::from(neurons.spikes.most));
        let largest = match &neurons.charge {
            Charge::Fixed(charges) => charges.iter().copied().fold(0.0, f32::max),
            Charge::Unit => 1.0,
            Charge::Threshold => {
                sizes.copied().fold(0.0, f32::max) / f32::from(neurons.spikes.levels)
            }
        };
        self.neurons.push(neurons);
        largest * most
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

    /// Random blocks, and a linear output layer. Gives the network and its neurons.
    fn network(mut self, blocks: usize, classes: usize) -> (Graph, Vec<Neurons>) {
        self.block();
        for _ in 0..blocks {
            match self.pick(&[0, 0, 1, 2]) {
                0 => self.block(),
                1 => self.residual(),
                _ => self.branches(),
            }
        }
        if self.chance() {
            self.average();
        }
        let inputs = self.shape.size();
        let (weight, bias) = (self.weights(classes * inputs), self.bias(classes));
        let order = self.pick(&[CHANNELS_FIRST, CHANNELS_LAST]);
        self.then(Layer::Linear { weight, bias, inputs, outputs: classes, order });
        (self.graph, self.neurons)
    }

    /// What may stand between neurons and weights, weights, and what may stand behind them.
    fn block(&mut self) {
        match self.pick(&[0, 1, 2, 3, 4]) {
            0 => self.average(),
            1 => self.scale_shift(&[0.5, 1.0, -1.0]),
            2 if self.fired => self.max(),
            3 if self.fired => {
                self.scale_shift(&[0.5, 1.0, 0.0]);
                self.max();
            }
            _ => {}
        }
        self.conv();
        match self.pick(&[0, 1, 2, 3, 4]) {
            0 => self.average(),
            1 => self.scale_shift(&[0.5, 1.0, -1.0]),
            2 => self.max(),
            3 => {
                self.max();
                self.scale_shift(&[0.5, 1.0, 0.0]);
                self.max();
            }
            _ => {}
        }
        self.fire();
    }

    /// A sum of two or three branches from the same value.
    fn residual(&mut self) {
        let (from, shape) = (self.last(), self.shape);
        self.same(shape.channels);
        let mut ends = vec![self.last()];
        if self.chance() {
            self.fire();
            self.same(shape.channels);
            ends = vec![self.last()];
        }
        if self.chance() {
            assert!(self.add(Layer::Neurons, vec![from]));
            self.push_neurons();
            ends.push(self.last());
        }
        ends.push(from);
        assert!(self.add(Layer::Sum, ends));
        self.fire();
    }

    /// A concatenation of branches, of neurons or of weights, perhaps pooled.
    fn branches(&mut self) {
        let (from, mut ends) = (self.last(), Vec::new());
        let spikes = self.chance();
        for _ in 0..2 {
            self.shape = self.graph.shapes().unwrap()[from];
            let (inputs, outputs) = (self.shape.channels, self.rng.random_range(1..20));
            let (weight, bias) = (self.weights(outputs * inputs), self.bias(outputs));
            let window = Window::ONE;
            let conv = Layer::Conv { weight, bias, inputs, outputs, window, groups: 1 };
            assert!(self.add(conv, vec![from]));
            if spikes {
                self.fire();
            }
            ends.push(self.last());
        }
        assert!(self.add(Layer::Concat, ends));
        if spikes && self.chance() {
            self.max();
        }
        if self.chance() {
            // Without neurons between.
            self.same(3);
            self.fired = false;
        }
        if !spikes || self.chance() {
            self.fire();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_engine_gives_the_references_spikes(seed: u64, blocks in 1..4usize, timesteps in 1..180usize) {
        let mut rng = Rng::seed_from_u64(seed);
        let mut side = || rng.random_range(1..9);
        let input = Shape::new(side() / 3 + 1, side(), side());
        let frames = if rng.random() { timesteps } else { 1 };
        // Multiples of 1/4 in 0..=2.
        let images: Vec<f32> = (0..2 * frames * input.size()).map(|_| rng.random_range(0..=8) as f32 / 4.0).collect();
        let (graph, neurons) = Builder::new(rng, input).network(blocks, 5);

        let expected = reference::trace(&Cpu::default(), &graph, &neurons, &images, 2, timesteps).unwrap();
        let network = SpikingNetwork::new(graph, neurons).unwrap();
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
fn counts_agree<D: Fires>(seed: u64, blocks: usize, timesteps: usize) -> Result<(), TestCaseError> {
    let (mut rng, shape) = (Rng::seed_from_u64(seed), Digits::SHAPE);
    let code = match rng.random_range(0..3) {
        0 => InputCode::Direct,
        1 => InputCode::Poisson { seed },
        _ => InputCode::Latency { period: 4 }, // of whole numbers
    };
    let (graph, neurons) = Builder::new(rng, shape).network(blocks, Digits::CLASSES);
    let network = SpikingNetwork::new(graph, neurons).unwrap();
    let images: Images<Whole, Digits> = data::digits().unwrap().take(20);
    let settings = SimulateSettings { code, per_neuron: true, outputs: true, ..timesteps.into() };
    let expected = network.simulate(&images, settings).unwrap();
    let found = network.on::<D>().unwrap().simulate(&images, settings).unwrap();
    prop_assert_eq!(&found.input, &expected.input);
    prop_assert_eq!(&found.pools, &expected.pools);
    for (found, expected) in found.layers.iter().zip(&expected.layers) {
        prop_assert_eq!(&found.spikes, &expected.spikes);
        prop_assert_eq!(&found.operations, &expected.operations);
        prop_assert_eq!(&found.per_neuron, &expected.per_neuron);
    }
    prop_assert!(found.outputs == expected.outputs);
    prop_assert!(found == expected);
    Ok(())
}

/// Evolution of thresholds on the engine and on a device: the same genomes in every generation.
///
/// Tells whether the network that the seed draws suits: no layer is silent, some images are right, and
/// thresholds can be evolved.
fn evolutions_agree<D: Fires>(seed: u64) -> evospike::Result<bool> {
    let (graph, neurons) = Builder::new(Rng::seed_from_u64(seed), Digits::SHAPE).network(2, 10);
    let network = Imported::<Digits>::new(graph)?;
    let digits = data::digits()?.split(Shares::default(), 0)?;
    let Ok(snn) = convert(&network, &digits.training.take(20))?.balance(Balance::Max) else {
        return Ok(false);
    };
    let snn = snn.with_neurons(neurons)?;
    let images = digits.held_out.take(20);
    let Ok(target) = network.target(&images, 1.0) else {
        return Ok(false);
    };
    let cross_entropy = Objective::CrossEntropy { from: 3, price: 0.1 };
    let cma_es = Search::CmaEs(CmaEsSettings::default());
    for (search, objective, batch) in [
        (
            Search::De(DeSettings { population: 2, ..DeSettings::default() }),
            Objective::Latency,
            None,
        ),
        (cma_es, cross_entropy, Some(10)),
    ] {
        let settings = EvolveSettings {
            search,
            objective,
            batch,
            genome: vec![(Gene::Threshold, [0.5, 1.5])],
            generations: 2,
            timesteps: 8,
            seed,
            ..EvolveSettings::default()
        };
        let expected = match evolve(&snn, &images, &target, &settings) {
            Err(Error::Parameter { name: "genome" | "margin_percent", .. }) => return Ok(false),
            expected => expected?,
        };
        let found = evolve(&snn.on::<D>()?, &images, &target, &settings)?;
        assert_eq!(found.genes, expected.genes);
        assert_eq!(found.generations, expected.generations);
        assert_eq!(found.fitness, expected.fitness);
    }
    Ok(true)
}

#[test]
fn evolution_on_a_device_is_that_of_the_fast_engine() {
    let done = (0..12).filter(|&seed| evolutions_agree::<Cpu>(seed).unwrap());
    assert!(done.count() >= 3);
}

#[cfg(feature = "cuda")]
#[test]
fn a_card_counts_and_evolves_as_the_fast_engine() {
    use dfdx::prelude::Cuda;
    use evospike::ops::Backend;
    if let Err(error) = Cuda::open(0) {
        return println!("skipped: {error}");
    }
    for seed in 0..8 {
        counts_agree::<Cuda>(seed, 2, 20).unwrap();
        evolutions_agree::<Cuda>(seed).unwrap();
    }
}
