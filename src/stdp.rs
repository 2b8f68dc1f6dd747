//! Spike-timing-dependent plasticity (STDP): a layer of neurons that learns from images without
//! their labels, read out directly or as the first weights of a network to train.
//!
//! The layer is that of Diehl and Cook (2015, "Unsupervised learning of digit recognition using
//! spike-timing-dependent plasticity", Front. Comput. Neurosci. 9:99) without their inhibitory
//! neurons, as BindsNET's `DiehlAndCook2015v2` has it (Hazan et al. 2018, Front. Neuroinform.
//! 12:89): every neuron inhibits all others. Pixels are Poisson spikes. In timestep t neuron j,
//! whose potential v is counted from rest, gets the spikes s_i(t) of the pixels by weights w_ij,
//! and those of the other neurons one timestep later:
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
//! This is pair-based STDP with nearest spikes (Morrison, Diesmann and Gerstner 2008,
//! "Phenomenological models of synaptic plasticity based on spike timing"), BindsNET's `PostPre`.
//! During the refractory period after a spike a neuron takes no input. Where several neurons
//! reach their threshold at once, all are reset and adapt, and with `one_spike` only the one
//! furthest above it spikes (the lowest of equals; BindsNET draws one). Before the first image and
//! after every image the weights of each neuron are scaled to the sum `weight_sum`; then
//! potentials, traces and refractory periods start anew, while weights and θ stay.
//!
//! `tests/stdp_bindsnet.py` has BindsNET run this rule; a test demands its spikes, and its
//! potentials, θ, traces and weights to rounding, in every timestep.
//!
//! ```
//! use evospike::prelude::*;
//!
//! let digits = data::digits()?.split(Shares::default(), 0)?;
//! let settings = StdpSettings { neurons: 20, epochs: 1, ..Default::default() };
//! let mut stdp = Stdp::<Digits>::new(settings)?;
//! stdp.train(&digits.training)?; // does not look at labels
//!
//! let labelled = stdp.label(&digits.training)?; // the class that each neuron fires for
//! let run = labelled.simulate(&digits.test, 100)?;
//! println!("{:?} after 100 timesteps", run.curve.after(100));
//!
//! # mod own { use evospike::prelude::*; network! {
//! #     /// Twenty neurons.
//! #     pub Small for Digits = ((Flatten<1, 8, 64>, UnbiasedLinear<64, 20>, Relu), UnbiasedLinear<20, 10>);
//! # } }
//! # type Small = own::Small;
//! let mut ann = Ann::<Small>::new(0)?; // whose first layer has 20 neurons
//! stdp.pretrain(&mut ann)?;
//! ann.train(&digits.training, &TrainSettings { epochs: 1, ..Default::default() })?;
//! # Ok::<(), evospike::Error>(())
//! ```

use std::marker::PhantomData;

use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ann::model::{Ann, Values};
use crate::ann::networks::Network;
use crate::base::error::{Error, Result};
use crate::base::progress::Progress;
use crate::base::random::{Rng, Stream, rng};
use crate::data::images::{Images, Part, Samples, Task, Training};
use crate::metrics::{Hits, predict};
use crate::ops::backend::Backend;
use crate::report::{Table, fields, show};
use crate::simulate::codes::InputCode;
use crate::simulate::run::{LayerSpikes, Simulation, some_timesteps};

/// Parameters of the layer and of its training; the equations are in [`stdp`](crate::stdp).
/// Potentials are in units of a weight's charge, times in timesteps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StdpSettings {
    /// Neurons in the layer: 1 or more.
    pub neurons: usize,
    /// Passes over the training images: 1 or more.
    pub epochs: usize,
    /// For which an image is shown, in training and to find the neurons' labels: 1 or more.
    pub timesteps: usize,
    /// Probability that the brightest pixel spikes in a timestep, above 0 to 1; of other pixels in
    /// proportion.
    pub rate: f32,
    /// Threshold of a neuron that has not adapted: above 0.
    pub threshold: f32,
    /// τ_m, time constant of the membrane potential: above 0.
    pub tau_membrane: f32,
    /// Timesteps after a spike in which a neuron takes no input.
    pub refractory: usize,
    /// What a spike adds to the threshold of its neuron: 0 or more. With more neurons each fires
    /// less often, and more of it or more epochs are needed.
    pub theta_plus: f32,
    /// τ_θ, time constant of θ, what was added to the threshold: above 0.
    pub tau_theta: f32,
    /// What a spike takes from the potential of every other neuron: 0 or more.
    pub inhibition: f32,
    /// Whether at most one neuron spikes in a timestep.
    pub one_spike: bool,
    /// τ_x, time constant of the traces: above 0.
    pub tau_trace: f32,
    /// Learning rate of depression, at presynaptic spikes: 0 or more.
    pub nu_pre: f32,
    /// Learning rate of potentiation, at postsynaptic spikes: 0 or more.
    pub nu_post: f32,
    /// Sum of a neuron's weights before each image: above 0, at most as many as it has inputs.
    pub weight_sum: f32,
    /// Draws the first weights, the order of the images and the pixels' spikes.
    pub seed: u64,
}

show!(StdpSettings as fields);

impl Default for StdpSettings {
    /// Chosen for 100 neurons on held-out digits.
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
    /// Whether every parameter is in its range, for a layer of so many inputs.
    fn check(&self, inputs: usize) -> Result<()> {
        for (name, value) in [("neurons", self.neurons), ("epochs", self.epochs)] {
            if value == 0 {
                return Err(Error::parameter(name, value, "1 or more"));
            }
        }
        some_timesteps("timesteps", self.timesteps)?;
        for (name, value) in [
            ("threshold", self.threshold),
            ("tau_membrane", self.tau_membrane),
            ("tau_theta", self.tau_theta),
            ("tau_trace", self.tau_trace),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::parameter(name, value, "finite and above 0"));
            }
        }
        for (name, value) in [
            ("theta_plus", self.theta_plus),
            ("inhibition", self.inhibition),
            ("nu_pre", self.nu_pre),
            ("nu_post", self.nu_post),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::parameter(name, value, "finite, 0 or more"));
            }
        }
        for (name, value, most) in [
            ("rate", self.rate, 1.0),
            ("weight_sum", self.weight_sum, inputs as f32),
        ] {
            if !(value > 0.0 && value <= most) {
                let expected = format!("above 0, at most {most}");
                return Err(Error::parameter(name, value, expected));
            }
        }
        Ok(())
    }
}

/// What changes in the layer while it runs.
#[derive(Debug, Clone, PartialEq)]
struct State {
    /// w, a row of neurons for each input.
    weights: Vec<f32>,
    /// θ of each neuron.
    theta: Vec<f32>,
    /// v of each neuron.
    potential: Vec<f32>,
    /// Timesteps left in which each neuron takes no input.
    refractory: Vec<usize>,
    /// x of each input.
    pre: Vec<f32>,
    /// x of each neuron.
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

    /// Before an image: nothing is left of the one before but weights and θ.
    fn rest(&mut self) {
        self.potential.fill(0.0);
        self.refractory.fill(0);
        self.pre.fill(0.0);
        self.post.fill(0.0);
        self.spikes.clear();
    }

    /// Scales the weights of each neuron to the sum `to`, unless all of them are 0.
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

/// One timestep in which the inputs `input` spike: steps 1 to 5 of the [module](crate::stdp)'s
/// equations. Without `learning`, θ and the weights stay as they are and traces are not needed.
/// The neurons that spike are left in the state.
fn step(rule: &StdpSettings, state: &mut State, input: &[usize], learning: bool) {
    let neurons = state.theta.len();
    let decay = |tau: f32| (-1.0 / tau).exp();

    let mut current = vec![-rule.inhibition * state.spikes.len() as f32; neurons];
    for &j in &state.spikes {
        current[j] += rule.inhibition; // not of itself
    }
    for &i in input {
        let row = &state.weights[i * neurons..][..neurons];
        current.iter_mut().zip(row).for_each(|(z, w)| *z += w);
    }

    let [of_potential, of_theta] = [rule.tau_membrane, rule.tau_theta].map(decay);
    let mut highest = f32::NEG_INFINITY;
    state.spikes.clear();
    for (j, z) in current.into_iter().enumerate() {
        let (v, theta) = (&mut state.potential[j], &mut state.theta[j]);
        *v *= of_potential;
        match &mut state.refractory[j] {
            0 => *v += z,
            left => *left -= 1,
        }
        if learning {
            *theta *= of_theta;
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
    let of_trace = decay(rule.tau_trace);
    for (traces, spikes) in [
        (&mut state.pre, input),
        (&mut state.post, state.spikes.as_slice()),
    ] {
        traces.iter_mut().for_each(|x| *x *= of_trace);
        spikes.iter().for_each(|&k| traces[k] = 1.0);
    }
    for &i in input {
        let row = &mut state.weights[i * neurons..][..neurons];
        let synapses = row.iter_mut().zip(&state.post);
        synapses.for_each(|(w, x)| *w -= rule.nu_pre * x);
    }
    for (row, x) in state.weights.chunks_exact_mut(neurons).zip(&state.pre) {
        state
            .spikes
            .iter()
            .for_each(|&j| row[j] += rule.nu_post * x);
        row.iter_mut().for_each(|w| *w = w.clamp(0.0, 1.0));
    }
}

/// The layer without types.
#[derive(Debug, Clone)]
struct Layer {
    settings: StdpSettings,
    state: State,
}

impl Layer {
    /// Learns from one image, and gives the number of spikes.
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
        // Currents are on the scale of the peak, of which there is a spike in each timestep.
        let peak = images.peak() / self.settings.rate;
        let code = InputCode::Poisson { seed };
        let frames = code.frames(&images.input(i), peak, timesteps, images.index(i));
        let inputs = self.state.pre.len();
        (0..timesteps).map(move |t| {
            let frame = &frames[t * inputs..][..inputs];
            (0..inputs).filter(|&i| frame[i] > 0.0).collect()
        })
    }

    /// What `read` makes of each image's run without learning: of every timestep, the number of
    /// inputs and the neurons that spike.
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

/// A layer that learns images of task `K` by STDP.
#[derive(Debug)]
pub struct Stdp<K: Task> {
    layer: Layer,
    /// Of orders and spikes; goes on where training left it.
    rng: Rng,
    task: PhantomData<fn() -> K>,
}

impl<K: Task> Stdp<K> {
    /// A layer with an input for every pixel and weights drawn evenly.
    ///
    /// # Errors
    /// A parameter out of range.
    pub fn new(settings: StdpSettings) -> Result<Self> {
        let inputs = K::SHAPE.size();
        settings.check(inputs)?;
        let mut rng = rng(settings.seed, Stream::Stdp);
        let weights = (0..inputs * settings.neurons).map(|_| rng.random());
        let mut state = State::new(inputs, settings.neurons, weights.collect());
        state.normalise(settings.weight_sum);
        Ok(Self {
            layer: Layer { settings, state },
            rng,
            task: PhantomData,
        })
    }

    /// Shows the images, in another order and as other spikes in every epoch. Labels are not used.
    /// Called again, it goes on.
    ///
    /// # Errors
    /// No image, or images with a normalisation: pixels are rates.
    pub fn train(&mut self, images: &Images<Training, K>) -> Result<()> {
        let images = pixels(images)?;
        let StdpSettings {
            neurons, epochs, ..
        } = self.layer.settings;
        let mut order: Vec<usize> = (0..images.len()).collect();
        let mut progress = Progress::new(
            format!("STDP, {neurons} neurons"),
            epochs.saturating_mul(order.len()),
        );
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

    /// Weights of a neuron, from 0, as an image: channels, rows, columns.
    ///
    /// # Errors
    /// No such neuron.
    pub fn weights(&self, neuron: usize) -> Result<Vec<f32>> {
        let neurons = self.layer.settings.neurons;
        if neuron >= neurons {
            let expected = format!("less than {neurons}");
            return Err(Error::parameter("neuron", neuron, expected));
        }
        let rows = self.layer.state.weights.chunks_exact(neurons);
        Ok(rows.map(|row| row[neuron]).collect())
    }

    /// Threshold of every neuron, adaptation included.
    pub fn thresholds(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        let theta = self.layer.state.theta.iter();
        theta.map(|theta| self.layer.settings.threshold + theta)
    }

    /// The layer with a label for each neuron: the class whose images it spikes most for, on
    /// average over those shown here (of equals, the lowest class). Nothing is learnt but that.
    ///
    /// # Errors
    /// As of [`train`](Self::train).
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

    /// Puts the weights in the place of the first weights of a network, to be trained from there
    /// with labels: unsupervised pre-training (Lee et al. 2018, "Training deep spiking
    /// convolutional neural networks with STDP-based unsupervised pre-training followed by
    /// supervised fine-tuning", Front. Neurosci. 12:435, whose layers are convolutions).
    ///
    /// STDP's weights are not negative and have much in common, which slows training more than
    /// they help. So the mean over the neurons is taken from each weight, and the weights of each
    /// neuron are scaled to the root mean square of those whose place they take.
    ///
    /// # Errors
    /// A network whose first weights are not fully connected, as many neurons as this layer's.
    pub fn pretrain<N: Network<Task = K>, D: Backend>(&self, ann: &mut Ann<N, D>) -> Result<()> {
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

/// The images, if their pixels can be rates.
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

/// Weights, a row of neurons for each input, as a row of inputs for each neuron: less their mean
/// over the neurons and scaled to a root mean square, unless all are 0.
fn centred(weights: &[f32], neurons: usize, rms: f32) -> Vec<f32> {
    let rows = weights.chunks_exact(neurons);
    let means: Vec<f32> = rows
        .map(|row| row.iter().sum::<f32>() / neurons as f32)
        .collect();
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

/// An [`Stdp`] layer whose neurons vote for the class that they have as their label.
#[derive(Debug)]
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

    /// The class of each neuron; none where it never spiked.
    pub fn labels(&self) -> &[Option<usize>] {
        &self.labels
    }

    /// Runs on every image for some timesteps, without learning. The output of a class is the
    /// number of spikes of the neurons with its label, over the number of these neurons (Diehl and
    /// Cook 2015; BindsNET's `all_activity`), summed over the timesteps. In the layers of the
    /// result the neurons' synaptic operations include those of inhibition.
    ///
    /// # Errors
    /// No timestep; otherwise as of [`Stdp::train`].
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
                let output = output.map(|(&votes, &of)| votes as f32 / of.max(1) as f32);
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::networks::{DigitsCnn, Mlp};
    use crate::data::{self, Digits, Shares, Split};

    fn digits(seed: u64) -> Split<Digits> {
        let digits = data::digits().unwrap();
        digits.split(Shares::default(), seed).unwrap()
    }

    /// All time constants halve in a timestep.
    fn halving() -> StdpSettings {
        let tau = std::f32::consts::LN_2.recip();
        StdpSettings {
            threshold: 1.0,
            tau_membrane: tau,
            refractory: 1,
            theta_plus: 0.5,
            tau_theta: tau,
            inhibition: 0.5,
            tau_trace: tau,
            nu_pre: 0.125,
            nu_post: 0.25,
            ..StdpSettings::default()
        }
    }

    #[track_caller]
    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!(
                (a - b).abs() < 1e-5,
                "found {found:?}, expected {expected:?}"
            );
        }
    }

    /// One neuron with two inputs, by hand.
    #[test]
    fn pairs_of_spikes_change_weights() {
        let rule = halving();
        let mut state = State::new(2, 1, vec![0.75, 0.5]);
        // Inputs that spike; then whether the neuron does, v, θ, the inputs' and its own trace, w.
        let mut expect = |input: &[usize], fires: bool, [v, theta, x0, x1, y, w0, w1]: [f32; 7]| {
            step(&rule, &mut state, input, true);
            assert_eq!(state.spikes.len(), usize::from(fires));
            close(&state.potential, &[v]);
            close(&state.theta, &[theta]);
            close(&state.pre, &[x0, x1]);
            close(&state.post, &[y]);
            close(&state.weights, &[w0, w1]);
        };
        expect(&[0], false, [0.75, 0.0, 1.0, 0.0, 0.0, 0.75, 0.5]);
        expect(&[1], false, [0.875, 0.0, 0.5, 1.0, 0.0, 0.75, 0.5]);
        // At 0.4375 + 0.75. Input 0: 0.75 - 1/8 + 1/4; input 1, a timestep before: 0.5 + 1/8.
        expect(&[0], true, [0.0, 0.5, 1.0, 0.5, 1.0, 0.875, 0.625]);
        // Refractory; a spike that comes too late.
        expect(&[1], false, [0.0, 0.25, 0.5, 1.0, 0.5, 0.875, 0.5625]);
        expect(&[0, 1], true, [0.0, 0.625, 1.0, 1.0, 1.0, 1.0, 0.6875]);
        expect(&[], false, [0.0, 0.3125, 0.5, 0.5, 0.5, 1.0, 0.6875]);
        // No weight above 1.
        expect(&[0, 1], true, [0.0, 0.65625, 1.0, 1.0, 1.0, 1.0, 0.8125]);

        // Without learning it fires, after a refractory timestep, and learns nothing.
        let before = state.clone();
        for _ in 0..2 {
            step(&rule, &mut state, &[0, 1], false);
        }
        assert_eq!(state.spikes, [0]);
        assert_eq!(state, before);
    }

    #[test]
    fn weights_do_not_become_negative() {
        let rule = halving();
        let mut state = State::new(2, 1, vec![1.0, 0.05]);
        step(&rule, &mut state, &[0], true);
        assert_eq!(state.spikes, [0]);
        step(&rule, &mut state, &[1], true); // 0.05 - 1/16
        assert_eq!(state.weights[1], 0.0);
    }

    #[test]
    fn neurons_compete() {
        // Neurons 0 and 1 reach their threshold with input 0, neuron 2 gets 0.9 of it.
        let weights = vec![1.25, 1.5, 0.9];
        let mut rule = halving();
        for (one_spike, spikes, left) in [(true, vec![1], 0.85), (false, vec![0, 1], 0.35)] {
            rule.one_spike = one_spike;
            let mut state = State::new(1, 3, weights.clone());
            step(&rule, &mut state, &[0], true);
            assert_eq!(state.spikes, spikes);
            close(&state.potential, &[0.0, 0.0, 0.9]);
            close(&state.theta, &[0.5, 0.5, 0.0]); // who loses the spike is reset all the same
            assert_eq!(state.post[0], f32::from(u8::from(!one_spike)));
            // A timestep later each spike has taken 0.5 from neuron 2, at 0.45 + w - 0.5 or - 1.
            state.weights[2] = 0.9;
            step(&rule, &mut state, &[0], true);
            close(&state.potential, &[0.0, 0.0, left]);
        }
        // Of equals the lowest; no neuron inhibits itself.
        rule.one_spike = true;
        rule.refractory = 0;
        rule.nu_post = 0.0;
        let mut state = State::new(1, 2, vec![2.0, 2.0]);
        step(&rule, &mut state, &[0], false);
        assert_eq!(state.spikes, [0]);
        step(&rule, &mut state, &[], false);
        close(&state.potential, &[0.0, -0.5]);
    }

    #[test]
    fn weights_are_scaled_to_their_sum() {
        let mut state = State::new(2, 3, vec![0.25, 0.0, 0.5, 0.75, 0.0, 1.0]);
        state.normalise(3.0);
        close(&state.weights, &[0.75, 0.0, 1.0, 2.25, 0.0, 2.0]);
    }

    /// What `tests/stdp_bindsnet.py` wrote.
    #[derive(Deserialize)]
    struct Fixture {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        settings: StdpSettings,
        weights: Vec<f32>,
        steps: Vec<Step>,
    }

    #[derive(Deserialize)]
    struct Step {
        input: Vec<usize>,
        spikes: Vec<usize>,
        potential: Vec<f32>,
        theta: Vec<f32>,
        pre: Vec<f32>,
        post: Vec<f32>,
        weights: Vec<f32>,
    }

    #[test]
    fn the_rule_is_bindsnets() {
        let text = include_str!("../tests/data/stdp_bindsnet.json");
        let fixture: Fixture = serde_json::from_str(text).unwrap();
        assert_eq!(fixture.cases.len(), 2);
        for case in fixture.cases {
            let settings = &case.settings;
            let inputs = case.weights.len() / settings.neurons;
            settings.check(inputs).unwrap();
            let mut state = State::new(inputs, settings.neurons, case.weights);
            assert_eq!(case.steps.len(), 2 * settings.timesteps);
            for (t, expected) in case.steps.iter().enumerate() {
                if t % settings.timesteps == 0 {
                    state.rest();
                    state.normalise(settings.weight_sum);
                }
                step(settings, &mut state, &expected.input, true);
                assert_eq!(state.spikes, expected.spikes, "timestep {t}");
                close(&state.potential, &expected.potential);
                close(&state.theta, &expected.theta);
                close(&state.pre, &expected.pre);
                close(&state.post, &expected.post);
                close(&state.weights, &expected.weights);
            }
        }
    }

    fn small(seed: u64) -> StdpSettings {
        StdpSettings {
            neurons: 50,
            epochs: 2,
            seed,
            ..StdpSettings::default()
        }
    }

    #[test]
    fn a_layer_learns_digits_without_labels() {
        let digits = digits(10);
        let mut stdp = Stdp::<Digits>::new(small(10)).unwrap();
        let accuracy = |stdp: &Stdp<Digits>| {
            let labelled = stdp.label(&digits.training).unwrap();
            let run = labelled.simulate(&digits.held_out, 100).unwrap();
            // As many spikes as a layer with one in each timestep can have, and votes for each.
            let spikes = &run.layers[0].spikes;
            assert!(spikes.iter().all(|&count| count <= 449));
            assert_eq!(&run.layers[1].operations, spikes);
            let input = run.input.unwrap();
            for t in 1..100 {
                let operations = 50 * input[t] + 49 * spikes[t - 1];
                assert_eq!(run.layers[0].operations[t], operations);
            }
            run.curve.after(100).unwrap().percent()
        };
        let before = accuracy(&stdp);
        stdp.train(&digits.training).unwrap();
        let after = accuracy(&stdp);
        assert!(after > 75.0 && after > before + 10.0, "{before} {after}");
        for j in 0..50 {
            let sum: f32 = stdp.weights(j).unwrap().iter().sum();
            assert!((sum - 16.0).abs() < 1e-3, "{sum}");
        }
        assert!(stdp.thresholds().any(|threshold| threshold > 2.5));
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let digits = digits(11);
        let run = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let settings = StdpSettings {
                    epochs: 1,
                    ..small(seed)
                };
                let mut stdp = Stdp::<Digits>::new(settings).unwrap();
                let training = digits.training.take(100);
                stdp.train(&training).unwrap();
                let labelled = stdp.label(&training).unwrap();
                labelled.simulate(&digits.held_out.take(100), 60).unwrap()
            })
        };
        assert_eq!(run(1, 0), run(3, 0));
        assert_ne!(run(1, 0), run(1, 1));
    }

    #[test]
    fn votes_are_means_over_the_neurons_of_a_class() {
        // An input that reaches all three neurons in each timestep; two vote for class 1.
        let digits = digits(12);
        let settings = StdpSettings {
            neurons: 3,
            rate: 1.0,
            threshold: 1e-3,
            refractory: 0,
            inhibition: 0.0,
            one_spike: false,
            ..StdpSettings::default()
        };
        let mut labelled = Stdp::<Digits>::new(settings)
            .and_then(|stdp| stdp.label(&digits.training))
            .unwrap();
        let right = |labelled: &Labelled<Digits>, class| {
            let run = labelled.simulate(&digits.test, 20).unwrap();
            let of_class = (0..digits.test.len()).filter(|&i| digits.test.label(i) == class);
            assert_eq!(run.spikes_per_image(0), 60.0);
            (run.curve.after(20).unwrap().correct, of_class.count())
        };
        // 1 against (1 + 1) / 2: of equal outputs the lowest class.
        labelled.labels = vec![Some(1), Some(0), Some(1)];
        let (found, expected) = right(&labelled, 0);
        assert_eq!(found, expected);
        labelled.labels = vec![Some(4), None, Some(4)];
        let (found, expected) = right(&labelled, 4);
        assert_eq!(found, expected);
    }

    #[test]
    fn weights_for_training_are_centred_and_scaled() {
        // Three inputs, two neurons: w = (1, 0, 0.5) and (0, 1, 0.5), less 0.5 each.
        let found = centred(&[1.0, 0.0, 0.0, 1.0, 0.5, 0.5], 2, 2.0);
        let x = 2.0 * 1.5f32.sqrt(); // of root mean square 2
        close(&found, &[x, -x, 0.0, -x, x, 0.0]);
        assert_eq!(centred(&[0.5, 0.25], 1, 2.0), [0.0, 0.0]);
    }

    #[test]
    fn a_network_starts_from_what_was_learnt() {
        let settings = StdpSettings {
            neurons: 128,
            ..small(0)
        };
        let stdp = Stdp::<Digits>::new(settings).unwrap();
        let mut ann = Ann::<Mlp>::new(0).unwrap();
        let before = ann.network_mut().tensors(Values::Parameters).unwrap();
        stdp.pretrain(&mut ann).unwrap();
        let after = ann.network_mut().tensors(Values::Parameters).unwrap();
        assert_eq!(before[1..], after[1..]);
        let rms = root_mean_square(&before[0].values);
        let mean: Vec<f32> = (0..64)
            .map(|i| (0..128).map(|j| stdp.weights(j).unwrap()[i]).sum::<f32>() / 128.0)
            .collect();
        for (j, row) in after[0].values.chunks_exact(64).enumerate() {
            let own: Vec<f32> = stdp
                .weights(j)
                .unwrap()
                .iter()
                .zip(&mean)
                .map(|(w, m)| w - m)
                .collect();
            let scale = rms / root_mean_square(&own);
            close(row, &own.iter().map(|w| w * scale).collect::<Vec<_>>());
        }

        let error = stdp
            .pretrain(&mut Ann::<DigitsCnn>::new(0).unwrap())
            .unwrap_err();
        let expected =
            "ann: found first weights of shape [16, 1, 3, 3] in DigitsCnn, expected [128, 64]";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let error = |change: fn(&mut StdpSettings)| {
            let mut settings = StdpSettings::default();
            change(&mut settings);
            Stdp::<Digits>::new(settings).unwrap_err().to_string()
        };
        let not_above_0 = "expected finite and above 0";
        let not_from_0 = "expected finite, 0 or more";
        for (error, name, expected) in [
            (error(|s| s.neurons = 0), "neurons", "expected 1 or more"),
            (error(|s| s.epochs = 0), "epochs", "expected 1 or more"),
            (
                error(|s| s.timesteps = 0),
                "timesteps",
                "expected 1 or more",
            ),
            (error(|s| s.threshold = 0.0), "threshold", not_above_0),
            (
                error(|s| s.tau_membrane = f32::NAN),
                "tau_membrane",
                not_above_0,
            ),
            (
                error(|s| s.tau_theta = f32::INFINITY),
                "tau_theta",
                not_above_0,
            ),
            (error(|s| s.tau_trace = -1.0), "tau_trace", not_above_0),
            (error(|s| s.theta_plus = -1.0), "theta_plus", not_from_0),
            (error(|s| s.inhibition = f32::NAN), "inhibition", not_from_0),
            (error(|s| s.nu_pre = -1.0), "nu_pre", not_from_0),
            (error(|s| s.nu_post = f32::INFINITY), "nu_post", not_from_0),
            (
                error(|s| s.rate = 1.5),
                "rate",
                "expected above 0, at most 1",
            ),
            (
                error(|s| s.weight_sum = 65.0),
                "weight_sum",
                "expected above 0, at most 64",
            ),
        ] {
            assert!(error.starts_with(&format!("{name}: found")), "{error}");
            assert!(error.ends_with(expected), "{error}");
        }

        let digits = digits(0);
        let mut stdp = Stdp::<Digits>::new(small(0)).unwrap();
        let labelled = stdp.label(&digits.training).unwrap();
        let none = digits.training.take(0);
        let normalisation = data::Normalisation::new([0.3], [0.4]).unwrap();
        let normalised = digits.training.normalised(&normalisation).unwrap();
        let before = stdp.layer.state.clone();
        for error in [
            stdp.train(&none).unwrap_err(),
            stdp.train(&normalised).unwrap_err(),
            stdp.label(&none).unwrap_err(),
            stdp.label(&normalised).unwrap_err(),
            labelled.simulate(&normalised, 1).unwrap_err(),
        ] {
            assert!(error.to_string().starts_with("images: found "), "{error}");
        }
        assert_eq!(stdp.layer.state, before);
        let error = labelled.simulate(&digits.test, 0).unwrap_err().to_string();
        assert!(error.starts_with("timesteps: found 0"), "{error}");
    }
}
