//! Hybrid training: further training of a converted network as a spiking network, by
//! backpropagation through time with surrogate gradients.
//!
//! A converted network is accurate after many timesteps; a few epochs of training through a few
//! timesteps make it accurate after those (Rathi et al. 2020, "Enabling Deep Spiking Neural
//! Networks with Hybrid Conversion and Spike Timing Dependent Backpropagation"). DIET-SNN trains
//! thresholds and leaks of the layers too, for images as constant currents and 5 to 25 timesteps
//! (Rathi and Roy 2021, "DIET-SNN: A Low-Latency Spiking Neural Network With Direct Input Encoding
//! and Leakage and Threshold Optimization"). [`Trained::Thresholds`] keeps the weights and tunes by
//! gradients what [`evolve`](mod@crate::evolve) tunes without.
//!
//! ```
//! # use evospike::prelude::*;
//! # let digits = data::digits()?.split(Shares::default(), 0)?;
//! # let mut ann = Ann::<DigitsCnn>::new(0)?;
//! # ann.train(&digits.training, &TrainSettings { epochs: 2, ..Default::default() })?;
//! let snn = convert(&ann, &digits.training)?.balance(Balance::Percentile(99.0))?;
//! let settings = HybridSettings {
//!     trained: Trained::All, // as DIET-SNN
//!     timesteps: 4,
//!     train: TrainSettings { epochs: 1, ..HybridSettings::default().train },
//!     ..HybridSettings::default()
//! };
//! let hybrid = train_through_time(&snn, &digits.training, &settings)?;
//! let curve = simulate(&hybrid.snn, &digits.test, 4)?.curve;
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! Dropout (with one mask for all timesteps) and Poisson input of the authors' programs are left
//! out.

use std::sync::Arc;

use dfdx::prelude::{Cpu, Gradients, HasShape};
use serde::{Deserialize, Serialize};

use super::device::device_of;
use super::steps::tensor;
use super::surrogate::Surrogate;
use crate::ann::{
    Classifier, Graph, History, Moments, Optimiser, Step as OptimiserStep, TrainSettings,
    Trainable, Update, Values, train,
};
use crate::base::{Error, NamedTensor, Result, Resume, require, show, some_timesteps};
use crate::data::{Augment, Images, Task, Training};
use crate::ops::Plain;
use crate::simulate::{Charge, Device, Neurons, Snn, Unrolling, Wanted, times};

/// Parameters to train; all others stay unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trained {
    /// Weights and biases (Rathi et al. 2020).
    Weights,
    /// One factor per layer for the threshold. The charge of a spike changes with the threshold
    /// ([`Gene::Scale`](crate::evolve::Gene)) unless it is fixed
    /// ([`Gene::Threshold`](crate::evolve::Gene)).
    Thresholds,
    /// One factor per layer for the threshold, and one for the leak.
    ThresholdsAndLeaks,
    /// Weights, biases, thresholds and leaks (DIET-SNN).
    All,
}

impl Trained {
    fn weights(self) -> bool {
        matches!(self, Self::Weights | Self::All)
    }

    fn thresholds(self) -> bool {
        !matches!(self, Self::Weights)
    }

    fn leaks(self) -> bool {
        matches!(self, Self::ThresholdsAndLeaks | Self::All)
    }
}

/// Settings of [`train_through_time`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HybridSettings {
    /// Parameters to train.
    pub trained: Trained,
    /// Number of timesteps per simulation; the loss is the cross-entropy of the output current's
    /// mean over them. Time and memory grow with it.
    pub timesteps: usize,
    /// Derivative of spikes.
    pub surrogate: Surrogate,
    /// Settings of the training; weight decay applies to weights only.
    pub train: TrainSettings,
}

impl Default for HybridSettings {
    /// Settings of DIET-SNN for a small network and a small data set.
    fn default() -> Self {
        Self {
            trained: Trained::All,
            timesteps: 8,
            surrogate: Surrogate::Linear,
            train: TrainSettings {
                epochs: 10,
                optimiser: Optimiser::Adam,
                learning_rate: 1e-3,
                weight_decay: 0.0,
                augment: Augment::NONE,
                ..TrainSettings::default()
            },
        }
    }
}

/// Result of [`train_through_time`].
pub struct Hybrid<N: Classifier> {
    /// Trained network.
    pub snn: Snn<N>,
    /// History of the training, with the accuracy after the last timestep.
    pub history: History,
}

impl<N: Classifier> Hybrid<N> {
    /// Shows the training in a notebook whose cell ends in the value; evcxr calls this.
    pub fn evcxr_display(&self) {
        self.history.evcxr_display();
    }
}

show!(HybridSettings as fields);

/// Trains a spiking network further by backpropagation through its timesteps, with images as
/// constant currents. [`Resume::train_through_time`] does so with a checkpoint. A network that is
/// [`on`](Snn::on) a device is trained there.
///
/// # Errors
/// Returns an error if a setting is out of range or a layer is not square; [`Error::Diverged`].
pub fn train_through_time<N: Classifier>(
    snn: &Snn<N>,
    images: &Images<Training, N::Task>,
    settings: &HybridSettings,
) -> Result<Hybrid<N>> {
    run(snn, images, settings, None)
}

impl Resume<'_> {
    /// Runs [`train_through_time`] with a checkpoint, written before the first epoch and after
    /// each.
    ///
    /// # Errors
    /// Returns the errors of [`train_through_time`], and those of [`Resume`].
    pub fn train_through_time<N: Classifier>(
        &self,
        snn: &Snn<N>,
        images: &Images<Training, N::Task>,
        settings: &HybridSettings,
    ) -> Result<Hybrid<N>> {
        run(snn, images, settings, Some(self))
    }
}

fn run<N: Classifier>(
    snn: &Snn<N>,
    images: &Images<Training, N::Task>,
    settings: &HybridSettings,
    resume: Option<&Resume<'_>>,
) -> Result<Hybrid<N>> {
    some_timesteps("timesteps", settings.timesteps)?;
    let mut network = SpikingTrainer::of(snn, settings)?;
    let (view, classes) = (images.view(), N::Task::CLASSES);
    let name = name(snn, settings);
    let history = train(&mut network, view, classes, &settings.train, &name, resume)?;
    let mut trained = Snn::from_graph(network.graph()?, network.neurons())?;
    trained.network.device = snn.network().device;
    Ok(Hybrid { snn: trained, history })
}

/// Name of a run: all that its checkpoint keeps besides tensors and training settings.
fn name<N: Classifier>(snn: &Snn<N>, settings: &HybridSettings) -> String {
    let mut neurons = flate2::Crc::new();
    neurons.update(format!("{:?}", snn.neurons()).as_bytes());
    let (trained, timesteps) = (settings.trained, settings.timesteps);
    let (surrogate, neurons) = (settings.surrogate, neurons.sum());
    let what = format!("{trained:?}, {surrogate:?}, neurons {neurons:08x}");
    format!("{} through {timesteps} timesteps ({what})", N::NAME)
}

/// Spiking network with the interface of trainable networks. Its tensors and its optimiser stay on the
/// CPU; gradients are computed on the network's device.
struct SpikingTrainer {
    /// Layers, with the weights of before the training.
    graph: Arc<Graph>,
    neurons: Vec<Neurons>,
    /// Bound of every layer of neurons, as of clipped ReLUs.
    bounds: Vec<f32>,
    /// Weights and biases in the order of the layers, then factors of each layer of neurons for its
    /// threshold and leak before the training: one value each, so that an optimiser step has the same
    /// relative size in every layer.
    tensors: Vec<Plain>,
    trained: Trained,
    timesteps: usize,
    surrogate: Surrogate,
    device: Device,
    moments: Moments<Cpu>,
}

/// Lower bound of the factors.
const LEAST_FACTOR: f32 = 0.01;

impl SpikingTrainer {
    fn new(
        graph: Arc<Graph>,
        neurons: &[Neurons],
        bounds: Vec<f32>,
        settings: &HybridSettings,
        device: Device,
    ) -> Result<Self> {
        let weights = graph.nodes.iter().flat_map(|node| node.layer.weights());
        let factors = (0..2 * neurons.len()).map(|_| vec![1.0]);
        let tensors = weights.cloned().chain(factors);
        Ok(Self {
            tensors: tensors
                .map(|values| tensor(&Cpu::default(), values))
                .collect::<Result<_>>()?,
            graph,
            neurons: neurons.to_vec(),
            bounds,
            trained: settings.trained,
            timesteps: settings.timesteps,
            surrogate: settings.surrogate,
            device,
            moments: Moments::NONE,
        })
    }

    fn of<N: Classifier>(snn: &Snn<N>, settings: &HybridSettings) -> Result<Self> {
        let (network, bounds) = (snn.network(), snn.bounds());
        let graph = Arc::clone(&network.stages.graph);
        Self::new(graph, snn.neurons(), bounds, settings, device_of(network))
    }

    /// Number of tensors that are weights or biases.
    fn weights(&self) -> usize {
        self.tensors.len() - 2 * self.neurons.len()
    }

    /// Neurons of all layers, in order, with the factors applied.
    fn neurons(&self) -> Vec<Neurons> {
        let factors = self.tensors[self.weights()..].chunks_exact(2);
        let layers = self.neurons.iter().zip(factors).zip(&self.bounds);
        let layers = layers.map(|((neurons, factors), &bound)| {
            let mut neurons = neurons.clone();
            neurons.scale_thresholds(f64::from(factors[0].as_vec()[0]));
            neurons.clip(bound);
            let leak = f64::from(factors[1].as_vec()[0]);
            neurons.leak.iter_mut().for_each(|value| times(value, leak));
            neurons
        });
        layers.collect()
    }

    /// Limits the factors to their range.
    fn limit(&mut self) {
        let weights = self.weights();
        for (neurons, factors) in
            self.neurons.iter().zip(self.tensors[weights..].chunks_exact_mut(2))
        {
            let most = neurons.leak.iter().copied().fold(LEAST_FACTOR, f32::max);
            for (factor, most) in factors.iter_mut().zip([f32::INFINITY, 1.0 / most]) {
                let within = factor.as_vec()[0].clamp(LEAST_FACTOR, most);
                factor.copy_from(&[within]);
            }
        }
    }

    /// Calls `work` with the network as it is now.
    fn now<R>(&self, work: impl FnOnce(&Unrolling<'_>) -> Result<R>) -> Result<R> {
        let (graph, neurons) = (self.graph()?, self.neurons());
        let (timesteps, surrogate) = (self.timesteps, self.surrogate);
        work(&Unrolling { graph: &graph, neurons: Some(&neurons), timesteps, surrogate })
    }

    /// Gradients by the tensors, from those by what the network on the device has.
    fn by_tensor(&self, mut by: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let layers = by.split_off(self.weights());
        for (neurons, by_layer) in self.neurons.iter().zip(layers.chunks_exact(3)) {
            // θ is its factor times the original θ.
            let by_factor = |by: &[f32], first: &[f32]| -> f32 {
                by.iter().zip(first.iter().cycle()).map(|(by, x)| by * x).sum()
            };
            let mut threshold = by_factor(&by_layer[0], &neurons.threshold);
            if neurons.charge == Charge::Threshold {
                threshold += by_factor(&by_layer[1], &neurons.threshold);
            }
            by.push(vec![threshold]);
            by.push(vec![by_factor(&by_layer[2], &neurons.leak)]);
        }
        by
    }

    /// Name of every tensor, and whether it is trained.
    fn names(&self) -> Vec<(String, bool)> {
        let weights = 0..self.weights();
        let weights = weights.map(|i| (format!("weights.{i}"), self.trained.weights()));
        let trained = [self.trained.thresholds(), self.trained.leaks()];
        let factors = (0..self.neurons.len()).flat_map(|i| {
            let name = |factor| format!("neurons.{i}.{factor}");
            [(name("threshold"), trained[0]), (name("leak"), trained[1])]
        });
        weights.chain(factors).collect()
    }
}

impl Trainable for SpikingTrainer {
    fn forward(&self, pixels: Vec<f32>, _: usize) -> Result<Vec<f32>> {
        self.now(|network| (self.device.logits)(network, &pixels))
    }

    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        step: &OptimiserStep,
    ) -> Result<(f32, Vec<f32>)> {
        let gradients = self.device.gradients;
        let tapes = self.now(|net| gradients(net, &pixels, &targets, Wanted::Parameters))?;
        // Tapes are added in order, independent of which was computed first.
        let (mut loss, mut logits, mut sums) = (0.0, Vec::new(), Vec::<Vec<f32>>::new());
        for tape in tapes {
            let share = tape.inputs as f32 / count as f32;
            loss += tape.loss * share;
            logits.extend(tape.logits);
            let by = self.by_tensor(tape.tensors);
            sums.resize_with(by.len(), Vec::new);
            for (sum, by) in sums.iter_mut().zip(by) {
                sum.resize(by.len(), 0.0);
                sum.iter_mut().zip(by).for_each(|(sum, by)| *sum += by * share);
            }
        }
        let (names, weights) = (self.names(), self.weights());
        let moments = self.moments.of(step);
        let mut gradients = Gradients::leaky();
        for (i, tensor) in self.tensors.iter_mut().enumerate() {
            if !names[i].1 {
                continue;
            }
            let gradient = gradients.get_or_alloc_mut(tensor).map_err(Error::device)?;
            gradient.copy_from_slice(&sums[i]);
            let weight_decay = if i < weights { step.weight_decay } else { 0.0 };
            let step = &OptimiserStep { weight_decay, ..*step };
            let mut update = Update { step, moments, gradients: &mut gradients };
            update.apply(tensor).map_err(Error::device)?;
        }
        self.limit();
        Ok((loss, logits))
    }

    fn seed(&mut self, _: u64) -> Result<()> {
        Ok(()) // nothing is drawn
    }

    fn tensors(&self, kind: Values) -> Result<Vec<NamedTensor>> {
        let moments = match kind {
            Values::Parameters => None,
            Values::Moment(number) => match self.moments.0.get(number) {
                Some(moments) => Some(moments),
                None => return Ok(Vec::new()),
            },
        };
        let tensors = self.names().into_iter().zip(&self.tensors);
        let tensors = tensors.filter(|((_, trained), _)| *trained || moments.is_none());
        let tensors = tensors.map(|((name, _), tensor)| NamedTensor {
            name,
            shape: vec![tensor.shape().0],
            values: moments.map_or_else(|| tensor.as_vec(), |m| m.get(tensor).as_vec()),
        });
        Ok(tensors.collect())
    }

    fn set_tensors(&mut self, kind: Values, tensors: &[NamedTensor]) -> Result<()> {
        let trained = |trained: &bool| *trained || kind == Values::Parameters;
        let names: Vec<_> = self.names().into_iter().enumerate().collect();
        let wanted: Vec<_> = names.into_iter().filter(|(_, (_, t))| trained(t)).collect();
        let own = &mut self.tensors;
        let fits = |((i, (name, _)), new): (&(usize, (String, bool)), &NamedTensor)| {
            let size = own[*i].shape().0;
            *name == new.name && new.shape == [size] && new.values.len() == size
        };
        let holds = wanted.len() == tensors.len() && wanted.iter().zip(tensors).all(fits);
        let found = format!("{} of other names or sizes", tensors.len());
        let expected = format!("the {} of this network", wanted.len());
        require(holds, "tensors", found, expected)?;
        let pairs = wanted.iter().map(|(i, _)| *i).zip(tensors);
        match kind {
            Values::Parameters => {
                pairs.for_each(|(i, new)| own[i].copy_from(&new.values));
                self.limit();
            }
            Values::Moment(number) => {
                let mut moments = Gradients::leaky();
                for (i, new) in pairs {
                    let moment = moments.get_or_alloc_mut(&own[i]).map_err(Error::device)?;
                    moment.copy_from_slice(&new.values);
                }
                self.moments.set(number, moments);
            }
        }
        Ok(())
    }

    fn graph(&self) -> Result<Graph> {
        let mut graph = Graph::clone(&self.graph);
        let weights = graph.nodes.iter_mut().flat_map(|node| node.layer.weights_mut());
        weights.zip(&self.tensors).for_each(|(values, tensor)| *values = tensor.as_vec());
        Ok(graph)
    }
}

#[cfg(test)]
mod tests;
