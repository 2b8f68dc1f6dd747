//! Spike-timing-dependent plasticity (STDP): a layer of neurons that learns from images without
//! labels. It classifies by votes of its neurons, or initialises the first weights of a network.
//!
//! The layer is that of Diehl and Cook (2015, "Unsupervised learning of digit recognition using
//! spike-timing-dependent plasticity", Front. Comput. Neurosci. 9:99) without inhibitory neurons,
//! as in BindsNET's `DiehlAndCook2015v2` (Hazan et al. 2018, Front. Neuroinform. 12:89): every
//! neuron inhibits all others. Pixels are encoded as Poisson spikes. In timestep t, neuron j, whose
//! potential v is relative to rest, receives the spikes s_i(t) of the pixels through weights w_ij,
//! and the spikes of the other neurons one timestep later:
//!
//! ```text
//! v_j(t) = e^(-1/τ_m) v_j(t-1) + Σ_i w_ij s_i(t) - inhibition Σ_(k≠j) s_k(t-1)    1. integrate
//! θ_j(t) = e^(-1/τ_θ) θ_j(t-1)
//! s_j(t) = 1 if v_j(t) >= threshold + θ_j(t) else 0                               2. fire
//! v_j(t) = 0,  θ_j(t) = θ_j(t) + theta_plus                 where it fired        3. adapt
//! x_i(t) = 1 if s_i(t) else e^(-1/τ_x) x_i(t-1)             likewise x_j          4. traces
//! w_ij   = w_ij - nu_pre s_i(t) x_j(t)                      depression            5. STDP
//! w_ij   = w_ij + nu_post x_i(t) s_j(t)                     potentiation
//! w_ij   = min(max(w_ij, 0), 1)
//! ```
//!
//! This is pair-based STDP with nearest-neighbour spike pairing (Morrison, Diesmann and Gerstner
//! 2008, "Phenomenological models of synaptic plasticity based on spike timing"), BindsNET's
//! `PostPre`. During the refractory period after a spike, a neuron ignores its input. If several
//! neurons reach their thresholds in the same timestep, all are reset and adapt; with `one_spike`,
//! only the one furthest above its threshold spikes (the lowest index among equals; BindsNET draws
//! one at random). Before the first image and after every image, the weights of each neuron are
//! normalised to the sum `weight_sum`. Potentials, traces and refractory periods are reset for
//! every image; weights and θ are kept.
//!
//! `tests/stdp_bindsnet.py` runs this rule in BindsNET. A test compares the spikes, which are
//! equal, and potentials, θ, traces and weights, which are equal up to rounding, in every timestep.
//!
//! ```
//! use evospike::prelude::*;
//! use evospike::stdp::{Stdp, StdpSettings};
//!
//! let digits = data::digits()?.split(Shares::default(), 0)?;
//! let settings = StdpSettings { neurons: 20, epochs: 1, ..Default::default() };
//! let mut stdp = Stdp::<Digits>::new(settings)?;
//! stdp.train(&digits.training)?; // ignores the labels
//!
//! let labelled = stdp.label(&digits.training)?; // a class for each neuron
//! let run = labelled.simulate(&digits.test, 100)?;
//! println!("{:?} after 100 timesteps", run.curve.after(100));
//!
//! # mod own { use evospike::prelude::*; network! {
//! #     /// Twenty neurons.
//! #     pub Small for Digits = ((Flatten<1, 8, 64>, UnbiasedLinear<64, 20>, Relu), UnbiasedLinear<20, 10>);
//! # } }
//! # type Small = own::Small;
//! let mut ann = Ann::<Small>::new(0)?; // its first layer has 20 neurons
//! stdp.pretrain(&mut ann)?;
//! ann.train(&digits.training, &TrainSettings { epochs: 1, ..Default::default() })?;
//! # Ok::<(), evospike::Error>(())
//! ```

use std::marker::PhantomData;

use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ann::{Ann, Network, NetworkDevice, Values};
use crate::base::heat_map::pictures;
use crate::base::{
    Chart, Error, Progress, Result, Rng, Stream, Table, at_least, fields, require, rng, show,
    some_timesteps,
};
use crate::data::{Images, Part, Samples, Shape, Task, Training};
use crate::metrics::{Hits, predict};
use crate::simulate::{InputCode, LayerSpikes, Simulation};

/// Parameters of the layer and of its training. The equations are in [`stdp`](crate::stdp).
/// Potentials are in units of weight times spike, times in timesteps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StdpSettings {
    /// Number of neurons in the layer: 1 or more.
    pub neurons: usize,
    /// Number of passes over the training images: 1 or more.
    pub epochs: usize,
    /// Number of timesteps per image, in training and to label the neurons: 1 or more.
    pub timesteps: usize,
    /// Probability that the brightest pixel spikes in a timestep, above 0 to 1. The probability of
    /// other pixels is proportional to their brightness.
    pub rate: f32,
    /// Threshold of a neuron before adaptation: above 0.
    pub threshold: f32,
    /// τ_m, time constant of the membrane potential: above 0.
    pub tau_membrane: f32,
    /// Refractory period in timesteps, in which a neuron ignores its input.
    pub refractory: usize,
    /// Increase of a neuron's threshold per spike: 0 or more. In a larger layer each neuron fires
    /// less often and needs a larger increase or more epochs.
    pub theta_plus: f32,
    /// τ_θ, time constant of θ, the adaptation of the threshold: above 0.
    pub tau_theta: f32,
    /// Decrease of the potential of every other neuron per spike: 0 or more.
    pub inhibition: f32,
    /// At most one neuron spikes per timestep.
    pub one_spike: bool,
    /// τ_x, time constant of the traces: above 0.
    pub tau_trace: f32,
    /// Learning rate of depression, at presynaptic spikes: 0 or more.
    pub nu_pre: f32,
    /// Learning rate of potentiation, at postsynaptic spikes: 0 or more.
    pub nu_post: f32,
    /// Sum of a neuron's weights before each image: above 0, at most as many as it has inputs.
    pub weight_sum: f32,
    /// Seed of the initial weights, the order of the images and the spikes of the pixels.
    pub seed: u64,
}

show!(StdpSettings as fields);

impl Default for StdpSettings {
    /// Settings chosen on held-out digits for 100 neurons.
    fn default() -> Self {
        Self {
            neurons: 100,
            epochs: 6,
            timesteps: 100,
            rate: 0.5,
            threshold: 2.0,
            tau_membrane: 20.0,
            refractory: 2,
            theta_plus: 0.05,
            tau_theta: 1e7,
            inhibition: 120.0,
            one_spike: true,
            tau_trace: 10.0,
            nu_pre: 3e-4,
            nu_post: 0.02,
            weight_sum: 16.0,
            seed: 0,
        }
    }
}

impl StdpSettings {
    /// Checks that every parameter is in its range, for a layer of `inputs`.
    fn check(&self, inputs: usize) -> Result<()> {
        at_least(1, &[("neurons", self.neurons), ("epochs", self.epochs)])?;
        some_timesteps("timesteps", self.timesteps)?;
        for (name, value) in [
            ("threshold", self.threshold),
            ("tau_membrane", self.tau_membrane),
            ("tau_theta", self.tau_theta),
            ("tau_trace", self.tau_trace),
        ] {
            require(value > 0.0 && value.is_finite(), name, value, "finite and above 0")?;
        }
        for (name, value) in [
            ("theta_plus", self.theta_plus),
            ("inhibition", self.inhibition),
            ("nu_pre", self.nu_pre),
            ("nu_post", self.nu_post),
        ] {
            require(value >= 0.0 && value.is_finite(), name, value, "finite, 0 or more")?;
        }
        for (name, value, most) in
            [("rate", self.rate, 1.0), ("weight_sum", self.weight_sum, inputs as f32)]
        {
            let expected = format!("above 0, at most {most}");
            require(value > 0.0 && value <= most, name, value, expected)?;
        }
        Ok(())
    }
}

/// State of the layer that changes while it runs.
#[derive(Debug, Clone, PartialEq)]
struct State {
    /// w, inputs x neurons, row by row.
    weights: Vec<f32>,
    /// θ, one per neuron.
    theta: Vec<f32>,
    /// v, one per neuron.
    potential: Vec<f32>,
    /// Rest of each neuron's refractory period, in timesteps.
    refractory: Vec<usize>,
    /// x_i, one trace per input.
    pre: Vec<f32>,
    /// x_j, one trace per neuron.
    post: Vec<f32>,
    /// Neurons that spiked in the last timestep.
    spikes: Vec<usize>,
}

impl State {
    fn new(inputs: usize, neurons: usize, weights: Vec<f32>) -> Self {
        Self {
            weights,
            theta: vec![0.0; neurons],
            potential: vec![0.0; neurons],
            refractory: vec![0; neurons],
            pre: vec![0.0; inputs],
            post: vec![0.0; neurons],
            spikes: Vec::new(),
        }
    }

    /// Resets everything but weights and θ, before an image.
    fn rest(&mut self) {
        self.potential.fill(0.0);
        self.refractory.fill(0);
        self.pre.fill(0.0);
        self.post.fill(0.0);
        self.spikes.clear();
    }

    /// Scales the weights of each neuron to the sum `to`, unless all are 0.
    fn normalise(&mut self, to: f32) {
        let neurons = self.theta.len();
        let mut sums = vec![0.0; neurons];
        for row in self.weights.chunks_exact(neurons) {
            sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += w);
        }
        for row in self.weights.chunks_exact_mut(neurons) {
            for (w, sum) in row.iter_mut().zip(&sums).filter(|(_, sum)| **sum > 0.0) {
                *w *= to / sum;
            }
        }
    }
}

/// Runs one timestep in which the inputs `input` spike: steps 1 to 5 of the [module](crate::stdp)'s
/// equations. Without `learning`, θ and the weights do not change and traces are not computed. The
/// neurons that spike are stored in the state.
fn step(rule: &StdpSettings, state: &mut State, input: &[usize], learning: bool) {
    let neurons = state.theta.len();
    let decay = |tau: f32| (-1.0 / tau).exp();

    let mut current = vec![-rule.inhibition * state.spikes.len() as f32; neurons];
    for &j in &state.spikes {
        current[j] += rule.inhibition; // a neuron does not inhibit itself
    }
    for &i in input {
        let row = &state.weights[i * neurons..][..neurons];
        current.iter_mut().zip(row).for_each(|(z, w)| *z += w);
    }

    let [potential_decay, theta_decay] = [rule.tau_membrane, rule.tau_theta].map(decay);
    let mut highest = f32::NEG_INFINITY;
    state.spikes.clear();
    for (j, z) in current.into_iter().enumerate() {
        let (v, theta) = (&mut state.potential[j], &mut state.theta[j]);
        *v *= potential_decay;
        match &mut state.refractory[j] {
            0 => *v += z,
            left => *left -= 1,
        }
        if learning {
            *theta *= theta_decay;
        }
        let threshold = rule.threshold + *theta;
        if *v < threshold {
            continue;
        }
        let above = *v - threshold;
        *v = 0.0;
        state.refractory[j] = rule.refractory;
        if learning {
            *theta += rule.theta_plus;
        }
        if !rule.one_spike {
            state.spikes.push(j);
        } else if above > highest {
            highest = above;
            state.spikes = vec![j];
        }
    }

    if !learning {
        return;
    }
    let trace_decay = decay(rule.tau_trace);
    for (traces, spikes) in [(&mut state.pre, input), (&mut state.post, state.spikes.as_slice())] {
        traces.iter_mut().for_each(|x| *x *= trace_decay);
        spikes.iter().for_each(|&k| traces[k] = 1.0);
    }
    for &i in input {
        let row = &mut state.weights[i * neurons..][..neurons];
        let synapses = row.iter_mut().zip(&state.post);
        synapses.for_each(|(w, x)| *w -= rule.nu_pre * x);
    }
    for (row, x) in state.weights.chunks_exact_mut(neurons).zip(&state.pre) {
        state.spikes.iter().for_each(|&j| row[j] += rule.nu_post * x);
        row.iter_mut().for_each(|w| *w = w.clamp(0.0, 1.0));
    }
}

/// Layer without the type of its task.
#[derive(Debug, Clone)]
struct Layer {
    settings: StdpSettings,
    state: State,
}

impl Layer {
    /// Trains on one image and returns the number of spikes.
    fn learn(&mut self, images: Samples<'_>, i: usize, seed: u64) -> usize {
        let mut spikes = 0;
        self.state.rest();
        for input in self.spikes(images, i, self.settings.timesteps, seed) {
            step(&self.settings, &mut self.state, &input, true);
            spikes += self.state.spikes.len();
        }
        self.state.normalise(self.settings.weight_sum);
        spikes
    }

    /// Inputs that spike in each timestep.
    fn spikes(
        &self,
        images: Samples<'_>,
        i: usize,
        timesteps: usize,
        seed: u64,
    ) -> impl Iterator<Item = Vec<usize>> + use<> {
        // The code emits a spike in every timestep for an input at the peak.
        let peak = images.peak() / self.settings.rate;
        let code = InputCode::Poisson { seed };
        let frames = code.frames(&images.input(i), peak, timesteps, images.index(i));
        let inputs = self.state.pre.len();
        (0..timesteps).map(move |t| {
            let frame = &frames[t * inputs..][..inputs];
            (0..inputs).filter(|&i| frame[i] > 0.0).collect()
        })
    }

    /// Runs every image without learning. `read` gets, for every timestep of an image, the number
    /// of inputs that spike and the neurons that spike.
    fn run<T: Send>(
        &self,
        images: Samples<'_>,
        timesteps: usize,
        read: impl Fn(&mut dyn Iterator<Item = (usize, Vec<usize>)>) -> T + Sync,
    ) -> Vec<T> {
        let images_run = (0..images.len()).into_par_iter().map_init(
            || self.state.clone(),
            |state, i| {
                state.rest();
                let inputs = self.spikes(images, i, timesteps, self.settings.seed);
                read(&mut inputs.map(|input| {
                    step(&self.settings, state, &input, false);
                    (input.len(), state.spikes.clone())
                }))
            },
        );
        images_run.collect()
    }
}

/// Layer that learns images of task `K` by STDP.
pub struct Stdp<K: Task> {
    layer: Layer,
    /// Source of the images' order and the pixels' spikes; the next training continues with it.
    rng: Rng,
    task: PhantomData<fn() -> K>,
}

impl<K: Task> Stdp<K> {
    /// Creates a layer with one input per pixel and uniformly distributed weights.
    ///
    /// # Errors
    /// Returns an error if a parameter is out of range.
    pub fn new(settings: StdpSettings) -> Result<Self> {
        let inputs = K::SHAPE.size();
        settings.check(inputs)?;
        let mut rng = rng(settings.seed, Stream::Stdp);
        let weights = (0..inputs * settings.neurons).map(|_| rng.random());
        let mut state = State::new(inputs, settings.neurons, weights.collect());
        state.normalise(settings.weight_sum);
        Ok(Self { layer: Layer { settings, state }, rng, task: PhantomData })
    }

    /// Trains on the images, with another order and other spikes in every epoch. Labels are not
    /// used. A second call continues training.
    ///
    /// # Errors
    /// Returns an error if there are no images, or if they are normalised: pixels must be firing
    /// rates.
    pub fn train(&mut self, images: &Images<Training, K>) -> Result<()> {
        let images = pixels(images)?;
        let StdpSettings { neurons, epochs, .. } = self.layer.settings;
        let mut order: Vec<usize> = (0..images.len()).collect();
        let mut progress =
            Progress::new(format!("STDP, {neurons} neurons"), epochs.saturating_mul(order.len()));
        let mut spikes = 0;
        for epoch in 1..=epochs {
            order.shuffle(&mut self.rng);
            let seed = self.rng.random();
            spikes = 0;
            for (shown, &i) in order.iter().enumerate() {
                spikes += self.layer.learn(images, i, seed);
                progress.step(|| {
                    let each = spikes as f64 / (shown + 1) as f64;
                    format!("epoch {epoch}/{epochs}, {each:.1} spikes an image")
                });
            }
        }
        progress.finish(|| {
            let each = spikes as f64 / order.len() as f64;
            format!("{each:.1} spikes an image")
        });
        Ok(())
    }

    /// Weights of a neuron, numbered from 0, as an image: channels x rows x columns.
    ///
    /// # Errors
    /// Returns an error if the layer has no such neuron.
    pub fn weights(&self, neuron: usize) -> Result<Vec<f32>> {
        let neurons = self.layer.settings.neurons;
        require(neuron < neurons, "neuron", neuron, format!("less than {neurons}"))?;
        let rows = self.layer.state.weights.chunks_exact(neurons);
        Ok(rows.map(|row| row[neuron]).collect())
    }

    /// Weights of some neurons as pictures, white where they are largest.
    ///
    /// # Errors
    /// Returns an error if the layer has no such neuron, or images have neither one channel nor three.
    pub fn pictures(&self, neurons: impl IntoIterator<Item = usize>) -> Result<Chart> {
        let weights = neurons.into_iter().map(|neuron| Ok((neuron, self.weights(neuron)?)));
        let weights = weights.collect::<Result<Vec<_>>>()?;
        let most = weights
            .iter()
            .flat_map(|(_, weights)| weights)
            .fold(f32::MIN_POSITIVE, |a, &b| a.max(b));
        let shares = weights.iter().map(|(neuron, weights)| {
            (format!("neuron {neuron}"), weights.iter().map(|w| w / most).collect::<Vec<_>>())
        });
        let Shape { channels, height, width } = K::SHAPE;
        pictures("Weights", [channels, height, width], shares)
    }

    /// Threshold of every neuron, including its adaptation θ.
    pub fn thresholds(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        let theta = self.layer.state.theta.iter();
        theta.map(|theta| self.layer.settings.threshold + theta)
    }

    /// Labels each neuron with the class whose images it spikes most for, averaged over `images`
    /// (the lowest class among equals). Weights and thresholds do not change.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`train`](Self::train).
    pub fn label(&self, images: &Images<Training, K>) -> Result<Labelled<K>> {
        let images = pixels(images)?;
        let timesteps = self.layer.settings.timesteps;
        let counts = self.layer.run(images, timesteps, |run| {
            let mut counts = vec![0u32; self.layer.settings.neurons];
            for (_, spikes) in run {
                spikes.into_iter().for_each(|j| counts[j] += 1);
            }
            counts
        });
        let mut shown = vec![0u32; K::CLASSES];
        let mut sums = vec![vec![0u32; K::CLASSES]; self.layer.settings.neurons];
        for (i, counts) in counts.into_iter().enumerate() {
            let class = images.label(i);
            shown[class] += 1;
            let sums = sums.iter_mut().zip(counts);
            sums.for_each(|(sums, count)| sums[class] += count);
        }
        let label = |sums: Vec<u32>| {
            let mean = |(&sum, &shown): (&u32, &u32)| sum as f32 / shown.max(1) as f32;
            let means: Vec<f32> = sums.iter().zip(&shown).map(mean).collect();
            sums.iter().any(|&sum| sum > 0).then(|| predict(&means))
        };
        Ok(Labelled {
            layer: self.layer.clone(),
            labels: sums.into_iter().map(label).collect(),
            task: PhantomData,
        })
    }

    /// Replaces the first weights of a network by those of this layer, as the start of training
    /// with labels: unsupervised pre-training (Lee et al. 2018, "Training deep spiking
    /// convolutional neural networks with STDP-based unsupervised pre-training followed by
    /// supervised fine-tuning", Front. Neurosci. 12:435, whose layers are convolutions).
    ///
    /// Weights learnt by STDP are not negative and resemble each other, which slows training more
    /// than they help. Therefore the mean over the neurons is subtracted from each weight, and the
    /// weights of each neuron are scaled to the root mean square of the weights that they replace.
    ///
    /// # Errors
    /// Returns an error if the network's first layer is not fully connected or has another number
    /// of neurons.
    pub fn pretrain<N: Network<Task = K>, D: NetworkDevice>(
        &self,
        ann: &mut Ann<N, D>,
    ) -> Result<()> {
        let network = ann.network_mut();
        let mut tensors = network.tensors(Values::Parameters)?;
        let shape = [self.layer.settings.neurons, K::SHAPE.size()];
        match tensors.first_mut() {
            Some(first) if first.shape == shape => {
                let rms = root_mean_square(&first.values);
                first.values = centred(&self.layer.state.weights, self.layer.settings.neurons, rms);
            }
            first => {
                let found = first.map_or("no weights".into(), |first| {
                    format!("first weights of shape {:?} in {}", first.shape, N::NAME)
                });
                return Err(Error::parameter("ann", found, format!("{shape:?}")));
            }
        }
        network.set_tensors(Values::Parameters, &tensors)
    }
}

/// Checks that there are images whose pixels can be firing rates.
fn pixels<P: Part, K: Task>(images: &Images<P, K>) -> Result<Samples<'_>> {
    images.view().check_some()?;
    if let Some(normalisation) = images.normalisation() {
        let found = format!("normalised ones, {normalisation:?}");
        let expected = "images as they are, whose pixels are rates of spikes";
        return Err(Error::parameter("images", found, expected));
    }
    Ok(images.view())
}

fn root_mean_square(values: &[f32]) -> f32 {
    (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt()
}

/// Transposes weights from inputs x neurons to neurons x inputs, subtracts the mean over the
/// neurons and scales each neuron's weights to a root mean square, unless all are 0.
fn centred(weights: &[f32], neurons: usize, rms: f32) -> Vec<f32> {
    let rows = weights.chunks_exact(neurons);
    let means: Vec<f32> = rows.map(|row| row.iter().sum::<f32>() / neurons as f32).collect();
    let neuron = |j: usize| {
        let inputs = weights.iter().skip(j).step_by(neurons);
        let values: Vec<f32> = inputs.zip(&means).map(|(w, mean)| w - mean).collect();
        let scale = match root_mean_square(&values) {
            0.0 => 0.0,
            found => rms / found,
        };
        values.into_iter().map(move |w| w * scale)
    };
    (0..neurons).flat_map(neuron).collect()
}

/// [`Stdp`] layer whose neurons vote for the class of their label.
pub struct Labelled<K: Task> {
    layer: Layer,
    labels: Vec<Option<usize>>,
    task: PhantomData<fn() -> K>,
}

show!(impl [K: Task] Stdp<K> as table);
show!(impl [K: Task] Labelled<K> as table);

impl<K: Task> Stdp<K> {
    fn table(&self) -> Table {
        fields("STDP", &self.layer.settings)
    }
}

impl<K: Task> Labelled<K> {
    fn table(&self) -> Table {
        let neurons = self.labels.len();
        let title = format!("STDP, {neurons} neurons, by the class that they vote for");
        let mut table = Table::new(title, ["class", "neurons"]);
        for class in (0..K::CLASSES).map(Some).chain([None]) {
            let own = self.labels.iter().filter(|label| **label == class).count();
            let name = class.map_or("none".into(), |class| class.to_string());
            table.row([name, own.to_string()]);
        }
        table
    }

    /// Class of each neuron; none for a neuron that never spiked.
    pub fn labels(&self) -> &[Option<usize>] {
        &self.labels
    }

    /// Simulates every image for a number of timesteps, without learning. The output of a class is
    /// the number of spikes of the neurons with its label, summed over timesteps and divided by the
    /// number of these neurons (Diehl and Cook 2015; BindsNET's `all_activity`). The synaptic
    /// operations of the result include those of inhibition.
    ///
    /// # Errors
    /// Returns an error if there are no timesteps, and in the same cases as [`Stdp::train`].
    pub fn simulate<P: Part>(&self, images: &Images<P, K>, timesteps: usize) -> Result<Simulation> {
        some_timesteps("timesteps", timesteps)?;
        let images = pixels(images)?;
        let mut voters = vec![0u32; K::CLASSES];
        for &class in self.labels.iter().flatten() {
            voters[class] += 1;
        }
        let runs = self.layer.run(images, timesteps, |run| {
            let mut votes = vec![0u32; K::CLASSES];
            let count = |(inputs, spikes): (usize, Vec<usize>)| {
                let classes = spikes.iter().filter_map(|&j| self.labels[j]);
                classes.for_each(|class| votes[class] += 1);
                let output = votes.iter().zip(&voters);
                let output = output.map(|(&votes, &all)| votes as f32 / all.max(1) as f32);
                (predict(&output.collect::<Vec<_>>()), inputs, spikes.len())
            };
            run.map(count).collect::<Vec<_>>()
        });
        let neurons = self.labels.len();
        let layer = |neurons| LayerSpikes {
            neurons,
            spikes: vec![0; timesteps],
            operations: vec![0; timesteps],
            per_neuron: None,
        };
        let (mut hidden, mut output) = (layer(neurons), layer(K::CLASSES));
        let mut input = vec![0; timesteps];
        let mut hits = Vec::with_capacity(runs.len() * timesteps);
        for (i, run) in runs.into_iter().enumerate() {
            let mut before = 0;
            for (t, (class, inputs, spikes)) in run.into_iter().enumerate() {
                hits.push(class == images.label(i));
                input[t] += inputs as u64;
                hidden.spikes[t] += spikes as u64;
                hidden.operations[t] += (inputs * neurons + before * (neurons - 1)) as u64;
                output.operations[t] += spikes as u64;
                before = spikes;
            }
        }
        let hits = Hits::new(timesteps, hits);
        Ok(Simulation {
            curve: hits.curve(),
            hits,
            input: Some(input),
            layers: vec![hidden, output],
            pools: Vec::new(),
            outputs: None,
        })
    }
}

#[cfg(test)]
mod tests;
