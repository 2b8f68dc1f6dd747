//! Adversarial images: small changes of images that make networks misclassify them.
//!
//! Lu and Sengupta (2022) evolve networks for images under attack, and find that these reach their
//! accuracy earlier than converted ones. An attack increases the cross-entropy L of an image's
//! label along its gradient with respect to the image, which dfdx's automatic differentiation
//! gives. Pixels x lie in 0..=1, and ε is the largest change of a pixel, in units of 1/255 (one
//! step of an 8-bit image):
//!
//! ```text
//! x' = clip(x + ε sign(∂L/∂x))                              FGSM (Goodfellow et al. 2015)
//! x' = clip(Π(x' + α sign(∂L/∂x'))), repeated              PGD (Madry et al. 2018)
//! x' = clip(x + N(0, σ²))                                   Gaussian noise, independent of
//! networks
//! ```
//!
//! where clip limits pixels to 0..=1 and Π to within ε of the original. The gradient is that of the
//! ANN (attacks on an ANN transfer to networks converted from it), or with [`Spiking`] that of the
//! spiking network itself, through all its timesteps.
//!
//! ```
//! # use evospike::prelude::*;
//! # let digits = data::digits()?.split(Shares::default(), 0)?;
//! # let mut ann = Ann::<DigitsCnn>::new(0)?;
//! # ann.train(&digits.training, &TrainSettings { epochs: 5, ..Default::default() })?;
//! let attacked = attack(&ann, &digits.test, Attack::Fgsm { epsilon_255: 8.0 })?;
//! assert!(ann.accuracy(&attacked)?.percent() < ann.accuracy(&digits.test)?.percent());
//! # Ok::<(), evospike::Error>(())
//! ```

use std::fmt;
use std::sync::Arc;

use dfdx::prelude::Cpu;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::device::{device, device_of};
use super::fire::Fires;
use super::surrogate::Surrogate;
use crate::ann::{Ann, Classifier, Graph, Model, Network, NetworkDevice};
use crate::base::{
    Error, Progress, Result, Rng, Stream, at_least, image_rng, normal, require, some_timesteps,
};
use crate::data::{Images, Part, Task};
use crate::simulate::{Device, Imported, Neurons, Snn, Unrolling, Wanted};

/// Change of images by an attack.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Attack {
    /// Fast gradient sign method: one step (Goodfellow, Shlens and Szegedy 2015, "Explaining
    /// and Harnessing Adversarial Examples").
    Fgsm {
        /// Change ε of each pixel, in 1/255.
        epsilon_255: f64,
    },
    /// Projected gradient descent: several steps within ε of the image (Madry et al. 2018, "Towards
    /// Deep Learning Models Resistant to Adversarial Attacks").
    Pgd {
        /// Largest total change ε of each pixel, in 1/255.
        epsilon_255: f64,
        /// Change α of each pixel per step, in 1/255.
        step_255: f64,
        /// Number of steps, 1 or more.
        steps: usize,
        /// Seed of a random start within ε of the image; `None` to start at the image.
        random_start: Option<u64>,
    },
    /// Gaussian noise on every pixel, independent of the network.
    Noise {
        /// Standard deviation σ, in 1/255.
        std_255: f64,
        /// Seed of the noise.
        seed: u64,
    },
}

impl Attack {
    /// PGD as commonly used on CIFAR-10: ten steps of ε/4, starting at the image.
    pub fn pgd(epsilon_255: f64) -> Self {
        Self::Pgd { epsilon_255, step_255: epsilon_255 / 4.0, steps: 10, random_start: None }
    }

    /// Attack of a kind and a size in 1/255: `fgsm:2`, `pgd:1` (ten steps of ε/4) or `noise:8` (seed 0).
    ///
    /// # Errors
    /// Returns an error if the text is none of these, or the size is not 0 to 255.
    pub fn named(text: &str) -> Result<Self> {
        let known = || Error::parameter("attack", text, "fgsm, pgd or noise, and a size: fgsm:2");
        let (kind, size) = text.split_once(':').ok_or_else(known)?;
        let size = size.parse().map_err(|_| known())?;
        let attack = match kind {
            "fgsm" => Self::Fgsm { epsilon_255: size },
            "pgd" => Self::pgd(size),
            "noise" => Self::Noise { std_255: size, seed: 0 },
            _ => return Err(known()),
        };
        attack.check()?;
        Ok(attack)
    }

    /// Name of the attack in tables, without its size.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fgsm { .. } => "FGSM",
            Self::Pgd { .. } => "PGD",
            Self::Noise { .. } => "noise",
        }
    }

    /// Size of the attack: ε, or σ of noise, in 1/255.
    pub fn epsilon_255(&self) -> f64 {
        match *self {
            Self::Fgsm { epsilon_255 } | Self::Pgd { epsilon_255, .. } => epsilon_255,
            Self::Noise { std_255, .. } => std_255,
        }
    }

    /// Returns an error for settings out of range, before anything runs.
    pub(crate) fn check(&self) -> Result<()> {
        let within = |value: f64| (0.0..=255.0).contains(&value);
        let size = |name, value| require(within(value), name, value, "0 to 255");
        match *self {
            Self::Fgsm { epsilon_255 } => size("epsilon_255", epsilon_255),
            Self::Pgd { epsilon_255, step_255, steps, .. } => {
                at_least(1, &[("steps", steps)])?;
                size("epsilon_255", epsilon_255)?;
                size("step_255", step_255)
            }
            Self::Noise { std_255, .. } => size("std_255", std_255),
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/255", self.kind(), self.epsilon_255())?;
        match self {
            Self::Pgd { step_255, steps, .. } => write!(f, ", {steps} steps of {step_255}/255"),
            _ => Ok(()),
        }
    }
}

/// Network for task `K` whose loss has a gradient with respect to the input: an [`Ann`], an
/// [`Imported`] network, or a spiking network in a [`Spiking`].
pub trait Differentiable<K: Task> {
    /// Prepares the network's gradients.
    ///
    /// # Errors
    /// Returns an error if a setting is out of range.
    fn gradients(&self) -> Result<Gradients>;
}

impl<N: Network, D: NetworkDevice + Fires> Differentiable<N::Task> for Ann<N, D> {
    fn gradients(&self) -> Result<Gradients> {
        Ok(Gradients {
            classes: N::Task::CLASSES,
            graph: self.graph()?.into(),
            spiking: None,
            device: device::<D>(),
        })
    }
}

impl<K: Task> Differentiable<K> for Imported<K> {
    fn gradients(&self) -> Result<Gradients> {
        Ok(Gradients {
            classes: K::CLASSES,
            graph: Arc::new(self.graph()?),
            spiking: None,
            device: device::<Cpu>(),
        })
    }
}

/// Spiking network with the settings of its gradient: backpropagation through `timesteps`, with a
/// [`Surrogate`] for the derivative of spikes and no gradient through resets. The loss is the
/// cross-entropy of the output current's mean over the timesteps, for images in direct coding. A
/// network that is [`on`](Snn::on) a device is attacked there.
///
/// ```no_run
/// # use evospike::prelude::*;
/// # fn example(snn: Snn<DigitsCnn>, images: Images<Test, Digits>) -> evospike::Result<()> {
/// let spiking = Spiking { snn: &snn, timesteps: 16, surrogate: Surrogate::Linear };
/// let attacked = attack(&spiking, &images, Attack::Fgsm { epsilon_255: 8.0 })?;
/// # Ok(()) }
/// ```
pub struct Spiking<'a, N: Classifier> {
    /// Spiking network.
    pub snn: &'a Snn<N>,
    /// Number of timesteps, 1 or more; time and memory grow with it.
    pub timesteps: usize,
    /// Derivative of spikes.
    pub surrogate: Surrogate,
}

impl<N: Classifier> Differentiable<N::Task> for Spiking<'_, N> {
    fn gradients(&self) -> Result<Gradients> {
        some_timesteps("timesteps", self.timesteps)?;
        Ok(Gradients {
            classes: N::Task::CLASSES,
            graph: Arc::clone(&self.snn.network().stages.graph),
            spiking: Some((self.snn.neurons().to_vec(), self.timesteps, self.surrogate)),
            device: device_of(self.snn.network()),
        })
    }
}

/// Gradients of a network's loss with respect to its input.
pub struct Gradients {
    classes: usize,
    graph: Arc<Graph>,
    spiking: Option<(Vec<Neurons>, usize, Surrogate)>,
    device: Device,
}

impl Gradients {
    /// Computes the gradient of each image's cross-entropy with its label with respect to the
    /// inputs, in the order of the inputs: images, channels, rows, columns.
    ///
    /// # Errors
    /// Returns an error if the number of inputs does not fit the labels or a label is no class;
    /// [`Error::Device`] if memory cannot be allocated.
    pub fn of(&self, inputs: &[f32], labels: &[usize]) -> Result<Vec<f32>> {
        let size = self.graph.input.size();
        let holds = inputs.len() == labels.len() * size;
        let expected = format!("{size} for each of {} labels", labels.len());
        require(holds, "inputs", format!("{} values", inputs.len()), expected)?;
        let expected = format!("classes below {}", self.classes);
        for &label in labels {
            require(label < self.classes, "labels", label, &expected)?;
        }
        let mut targets = vec![0.0; labels.len() * self.classes];
        for (row, &label) in targets.chunks_exact_mut(self.classes).zip(labels) {
            row[label] = 1.0;
        }
        let (neurons, timesteps, surrogate) = match &self.spiking {
            Some((neurons, timesteps, surrogate)) => (Some(&neurons[..]), *timesteps, *surrogate),
            None => (None, 1, Surrogate::default()),
        };
        let network = Unrolling { graph: &self.graph, neurons, timesteps, surrogate };
        let tapes = (self.device.gradients)(&network, inputs, &targets, Wanted::Inputs)?;
        // The loss of a tape is the mean over its images.
        let each = tapes.into_iter().flat_map(|tape| {
            let images = tape.inputs as f32;
            tape.tensors.concat().into_iter().map(move |x| x * images)
        });
        Ok(each.collect())
    }
}

/// Attacks images: gives the same images, labels and part with changed pixels.
///
/// # Errors
/// Returns an error if a setting is out of range; [`Error::Device`] if memory cannot be allocated.
pub fn attack<P: Part, K: Task>(
    network: &impl Differentiable<K>,
    images: &Images<P, K>,
    attack: Attack,
) -> Result<Images<P, K>> {
    attack.check()?;
    let gradients = network.gradients()?;
    let batches: Vec<usize> = (0..images.len()).step_by(BATCH).collect();
    let mut progress = Progress::new(format!("attack {} images", images.len()), batches.len());
    let mut pixels = Vec::with_capacity(images.len() * K::SHAPE.size());
    for from in batches {
        let batch = images.range(from..from + BATCH);
        pixels.extend(attacked(&gradients, &batch, attack)?);
        progress.step(|| attack.to_string());
    }
    progress.finish(|| attack.to_string());
    images.with_pixels(pixels)
}

/// Number of images between two reports of progress.
const BATCH: usize = 256;

fn attacked<P: Part, K: Task>(
    gradients: &Gradients,
    images: &Images<P, K>,
    attack: Attack,
) -> Result<Vec<f32>> {
    let size = K::SHAPE.size();
    let original: Vec<f32> = (0..images.len()).flat_map(|i| images.pixels(i)).collect();
    let labels: Vec<usize> = (0..images.len()).map(|i| images.label(i)).collect();
    let share = |of_255: f64| (of_255 / 255.0) as f32;
    let climb = |x: &mut Vec<f32>, step: f32, within: f32| -> Result<()> {
        let now = images.with_pixels(x.clone())?;
        let inputs: Vec<f32> = (0..now.len()).flat_map(|i| now.input(i)).collect();
        // Normalisation divides by a positive number, so the signs for input and pixel agree.
        let by_input = gradients.of(&inputs, &labels)?;
        for ((x, by), &original) in x.iter_mut().zip(by_input).zip(&original) {
            let sign = if by == 0.0 { 0.0 } else { by.signum() };
            let moved = (*x + step * sign).clamp(original - within, original + within);
            *x = moved.clamp(0.0, 1.0);
        }
        Ok(())
    };
    // Random numbers of an image do not depend on the other images.
    let drawn = |seed: u64, draw: &dyn Fn(&mut Rng) -> f32| -> Vec<f32> {
        let of = |i| {
            let mut rng = image_rng(seed, Stream::Attack, images.index(i));
            let pixels = original[i * size..][..size].iter();
            let moved = pixels.map(|x| (x + draw(&mut rng)).clamp(0.0, 1.0));
            moved.collect::<Vec<f32>>()
        };
        (0..images.len()).flat_map(of).collect()
    };
    let mut x = original.clone();
    match attack {
        Attack::Fgsm { epsilon_255 } => climb(&mut x, share(epsilon_255), share(epsilon_255))?,
        Attack::Pgd { epsilon_255, step_255, steps, random_start } => {
            let epsilon = share(epsilon_255);
            if let Some(seed) = random_start {
                x = drawn(seed, &|rng| epsilon * (2.0 * rng.random::<f32>() - 1.0));
            }
            for _ in 0..steps {
                climb(&mut x, share(step_255), epsilon)?;
            }
        }
        Attack::Noise { std_255, seed } => {
            let std = share(std_255);
            x = drawn(seed, &|rng| std * normal(rng) as f32);
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests;
