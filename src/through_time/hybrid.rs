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
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::steps::{Fire, Step, tensor};
use super::surrogate::Surrogate;
use super::unrolled::Unrolled;
use crate::ann::{
    Classifier, Graph, History, Layer, Moments, Optimiser, Step as OptimiserStep, TrainSettings,
    Trainable, Update, Values, train,
};
use crate::base::{Error, NamedTensor, Result, Resume, require, show, some_timesteps};
use crate::data::{Augment, Images, Task, Training};
use crate::ops::{Backend, Plain};
use crate::simulate::{Charge, Neurons, Snn, times};

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
/// constant currents. [`Resume::train_through_time`] does so with a checkpoint.
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
    Ok(Hybrid { snn: Snn::from_graph(network.graph()?, network.neurons())?, history })
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

/// Spiking network with the interface of trainable networks.
struct SpikingTrainer {
    network: Unrolled<Cpu>,
    /// Layers before the training.
    graph: Arc<Graph>,
    neurons: Vec<Neurons>,
    /// Bound of every layer of neurons, as of clipped ReLUs.
    bounds: Vec<f32>,
    /// Factors of each layer of neurons for its threshold and leak before the training: one value
    /// each, so that an optimiser step has the same relative size in every layer.
    factors: Vec<[Plain; 2]>,
    trained: Trained,
    moments: Moments<Cpu>,
}

/// Lower bound of the factors.
const LEAST_FACTOR: f32 = 0.01;

/// Gradients of one tape: the loss, the number of images, logits, and the gradient of each tensor.
struct Part {
    loss: f32,
    images: usize,
    logits: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

impl SpikingTrainer {
    fn of<N: Classifier>(snn: &Snn<N>, settings: &HybridSettings) -> Result<Self> {
        let graph = Arc::clone(&snn.network().stages.graph);
        Self::new(graph, snn.neurons(), snn.bounds(), settings)
    }

    fn new(
        graph: Arc<Graph>,
        neurons: &[Neurons],
        bounds: Vec<f32>,
        settings: &HybridSettings,
    ) -> Result<Self> {
        let device = Cpu::default();
        let (timesteps, surrogate) = (settings.timesteps, settings.surrogate);
        let one = |_: &Neurons| Ok([tensor(&device, vec![1.0])?, tensor(&device, vec![1.0])?]);
        Ok(Self {
            network: Unrolled::spiking(&device, &graph, neurons, timesteps, surrogate)?,
            factors: neurons.iter().map(one).collect::<Result<_>>()?,
            graph,
            neurons: neurons.to_vec(),
            bounds,
            trained: settings.trained,
            moments: Moments::NONE,
        })
    }

    /// Neurons of all layers, in order, with the factors applied.
    fn neurons(&self) -> Vec<Neurons> {
        let layers = self.neurons.iter().zip(&self.factors).zip(&self.bounds);
        let layers = layers.map(|((neurons, factors), &bound)| {
            let [threshold, leak] = factors.each_ref().map(|factor| factor.as_vec()[0]);
            let mut neurons = neurons.clone();
            neurons.scale_thresholds(f64::from(threshold));
            neurons.clip(bound);
            let leaks = neurons.leak.iter_mut();
            leaks.for_each(|value| times(value, f64::from(leak)));
            neurons
        });
        layers.collect()
    }

    /// Limits the factors to their range and applies them to the neurons of the network.
    fn express(&mut self) -> Result<()> {
        for (neurons, [threshold, leak]) in self.neurons.iter().zip(&mut self.factors) {
            let most = neurons.leak.iter().copied().fold(LEAST_FACTOR, f32::max);
            for (factor, most) in [(threshold, f32::INFINITY), (leak, 1.0 / most)] {
                let within = factor.as_vec()[0].clamp(LEAST_FACTOR, most);
                factor.copy_from(&[within]);
            }
        }
        let mut layers = self.neurons().into_iter();
        for step in &mut self.network.steps.steps {
            if let Step::Fire(fire) = step
                && let Some(neurons) = layers.next()
            {
                *fire = Fire::new(&Cpu::default(), &neurons, fire.channels, fire.positions)?;
            }
        }
        Ok(())
    }

    fn part(&self, pixels: &[f32], targets: &[f32]) -> Result<Part> {
        let x = tensor(&Cpu::default(), pixels.to_vec())?;
        let (loss, logits, by) = self.network.gradients(&x, targets.to_vec())?;
        let mut gradients = Vec::new();
        let mut factors = Vec::new();
        let mut neurons = self.neurons.iter();
        for step in &self.network.steps.steps {
            gradients.extend(step.weights().map(|weight| by.get(weight).as_vec()));
            if let Step::Fire(fire) = step
                && let Some(neurons) = neurons.next()
            {
                // θ is its factor times the original θ.
                let by_factor = |tensor: &Plain, first: &[f32]| -> f32 {
                    let by = by.get(tensor).as_vec().into_iter();
                    by.zip(first.iter().cycle()).map(|(by, x)| by * x).sum()
                };
                let mut threshold = by_factor(&fire.threshold, &neurons.threshold);
                if neurons.charge == Charge::Threshold {
                    threshold += by_factor(&fire.charge, &neurons.threshold);
                }
                factors.push(vec![threshold]);
                factors.push(vec![by_factor(&fire.leak, &neurons.leak)]);
            }
        }
        gradients.extend(factors);
        Ok(Part { loss, images: pixels.len() / self.graph.input.size(), logits, gradients })
    }

    /// All tensors: weights in the order of the layers, then the factors.
    fn all(&self) -> Vec<&Plain> {
        let weights = self.network.steps.steps.iter().flat_map(Step::weights);
        weights.chain(self.factors.iter().flatten()).collect()
    }

    fn all_mut(&mut self) -> Vec<&mut Plain> {
        let weights = self.network.steps.steps.iter_mut().flat_map(Step::weights_mut);
        weights.chain(self.factors.iter_mut().flatten()).collect()
    }

    /// Name of every tensor, and whether it is trained.
    fn names(&self) -> Vec<(String, bool)> {
        let weights = self.all().len() - 2 * self.factors.len();
        let weights = (0..weights).map(|i| (format!("weights.{i}"), self.trained.weights()));
        let trained = [self.trained.thresholds(), self.trained.leaks()];
        let factors = (0..self.factors.len()).flat_map(|i| {
            let name = |factor| format!("neurons.{i}.{factor}");
            [(name("threshold"), trained[0]), (name("leak"), trained[1])]
        });
        weights.chain(factors).collect()
    }
}

impl Trainable for SpikingTrainer {
    fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>> {
        let size = Cpu::TAPE * self.graph.input.size();
        let parts = pixels.par_chunks(size).map(|pixels| {
            let x = tensor(&Cpu::default(), pixels.to_vec())?;
            let logits = self.network.logits(x, pixels.len() / self.graph.input.size())?;
            Ok(logits.as_vec())
        });
        let logits = parts.collect::<Result<Vec<_>>>()?.concat();
        debug_assert!(logits.len().is_multiple_of(count));
        Ok(logits)
    }

    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        step: &OptimiserStep,
    ) -> Result<(f32, Vec<f32>)> {
        let classes = targets.len() / count;
        let pixels = pixels.par_chunks(Cpu::TAPE * self.graph.input.size());
        let parts = pixels.zip(targets.par_chunks(Cpu::TAPE * classes));
        let parts = parts.map(|(pixels, targets)| self.part(pixels, targets));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        // Parts are added in order, independent of which was computed first.
        let share = |part: &Part| part.images as f32 / count as f32;
        let loss = parts.iter().map(|part| part.loss * share(part)).sum();
        let mut sums: Vec<Vec<f32>> = Vec::new();
        for part in &parts {
            sums.resize_with(part.gradients.len(), Vec::new);
            for (sum, gradient) in sums.iter_mut().zip(&part.gradients) {
                sum.resize(gradient.len(), 0.0);
                let pairs = sum.iter_mut().zip(gradient);
                pairs.for_each(|(sum, by)| *sum += by * share(part));
            }
        }
        let mut moments = std::mem::replace(&mut self.moments, Moments::NONE);
        let of_step = moments.of(step);
        let mut gradients = Gradients::leaky();
        let (names, factors) = (self.names(), 2 * self.factors.len());
        let tensors = self.all_mut();
        let weights = tensors.len() - factors;
        for (i, tensor) in tensors.into_iter().enumerate() {
            if !names[i].1 {
                continue;
            }
            let gradient = gradients.get_or_alloc_mut(tensor).map_err(Error::device)?;
            gradient.copy_from_slice(&sums[i]);
            let weight_decay = if i < weights { step.weight_decay } else { 0.0 };
            let mut update = Update {
                step: &OptimiserStep { weight_decay, ..*step },
                moments: of_step,
                gradients: &mut gradients,
            };
            update.apply(tensor).map_err(Error::device)?;
        }
        self.moments = moments;
        self.express()?;
        let logits = parts.into_iter().flat_map(|part| part.logits).collect();
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
        let tensors = self.names().into_iter().zip(self.all());
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
        let mut own = self.all_mut();
        let sizes: Vec<usize> = own.iter().map(|tensor| tensor.shape().0).collect();
        let fits = |((i, (name, _)), new): (&(usize, (String, bool)), &NamedTensor)| {
            *name == new.name && new.shape == [sizes[*i]] && new.values.len() == sizes[*i]
        };
        let holds = wanted.len() == tensors.len() && wanted.iter().zip(tensors).all(fits);
        let found = format!("{} of other names or sizes", tensors.len());
        let expected = format!("the {} of this network", wanted.len());
        require(holds, "tensors", found, expected)?;
        let pairs = wanted.iter().map(|(i, _)| *i).zip(tensors);
        match kind {
            Values::Parameters => {
                pairs.for_each(|(i, new)| own[i].copy_from(&new.values));
                self.express()
            }
            Values::Moment(number) => {
                let mut moments = Gradients::leaky();
                for (i, new) in pairs {
                    let moment = moments.get_or_alloc_mut(own[i]).map_err(Error::device)?;
                    moment.copy_from_slice(&new.values);
                }
                self.moments.set(number, moments);
                Ok(())
            }
        }
    }

    fn graph(&self) -> Result<Graph> {
        let mut tensors = self.all().into_iter();
        let mut graph = Graph::clone(&self.graph);
        for node in &mut graph.nodes {
            if let Layer::Conv { weight, bias, .. } | Layer::Linear { weight, bias, .. } =
                &mut node.layer
            {
                for (values, tensor) in [weight].into_iter().chain(bias).zip(&mut tensors) {
                    *values = tensor.as_vec();
                }
            }
        }
        Ok(graph)
    }
}

#[cfg(test)]
mod tests;
