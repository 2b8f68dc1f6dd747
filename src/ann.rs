//! The ordinary network (ANN): trained by gradient descent with dfdx's automatic differentiation.

use std::marker::PhantomData;

use dfdx::losses::cross_entropy_with_logits_loss;
use dfdx::nn::{
    BuildOnDevice, RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorMut,
    ZeroGrads,
};
use dfdx::prelude::{
    AdamConfig, AsArray, Backward, Const, Cpu, Gradients, Module, ModuleMut, NoneTape, OwnedTape,
    Rank1, Rank3, Shape as DfdxShape, Tensor, TensorFromVec, Trace, WeightDecay,
};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::data::{Augment, Classify, Images, Part, Samples, Task, Training};
use crate::error::{Error, Result};
use crate::layers::{Layer, Stages};
use crate::metrics::{Accuracy, Target, predict};
use crate::modules::{Describe, Follows};
use crate::networks::Network;
use crate::progress::Progress;
use crate::random::{Stream, rng};
use crate::report::{Table, show};

/// Images that are classified at a time when nothing is trained.
const FORWARD_BATCH: usize = 256;

/// A typed network behind an interface without types, so that code that uses it is compiled once.
pub trait Trainable: Send + Sync {
    /// Logits of `count` images, one row an image.
    ///
    /// # Errors
    /// [`Error::Device`] when memory cannot be had.
    fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>>;

    /// One step of Adam on the mean cross-entropy between the images' logits and `targets`,
    /// class probabilities; gives the loss before the step and the logits.
    ///
    /// # Errors
    /// [`Error::Device`] when memory cannot be had.
    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        adam: &AdamConfig,
    ) -> Result<(f32, Vec<f32>)>;

    /// The plain layers that the network is, weights included.
    fn layers(&self) -> Vec<Layer>;
}

type ImageBatch<const C: usize, const SIDE: usize, T> =
    Tensor<(usize, Const<C>, Const<SIDE>, Const<SIDE>), f32, Cpu, T>;
type Logits<const CLASSES: usize, T> = Tensor<(usize, Const<CLASSES>), f32, Cpu, T>;

/// A built module with its device and the state of its optimiser.
#[doc(hidden)]
pub struct Typed<M, const C: usize, const SIDE: usize, const CLASSES: usize> {
    module: M,
    device: Cpu,
    adam: Adam,
}

/// Adam (Kingma and Ba 2015) on dfdx's kernels. dfdx's own keeps its moments private.
struct Adam {
    steps: i32,
    moment1: Gradients<f32, Cpu>,
    moment2: Gradients<f32, Cpu>,
}

/// Visits every parameter once a step.
struct AdamStep<'a> {
    state: &'a mut Adam,
    config: &'a AdamConfig,
    gradients: &'a mut Gradients<f32, Cpu>,
}

impl TensorVisitor<f32, Cpu> for AdamStep<'_> {
    type Viewer = ViewTensorMut;
    type Err = <Cpu as dfdx::prelude::HasErr>::Err;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: DfdxShape>(
        &mut self,
        options: TensorOptions<S, f32, Cpu>,
        parameter: &mut Tensor<S, f32, Cpu>,
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Self::Err> {
        if options.do_gradient_update {
            self.config.try_update(
                self.state.steps,
                parameter,
                self.state.moment1.get_or_alloc_mut(parameter)?,
                self.state.moment2.get_or_alloc_mut(parameter)?,
                self.gradients.get_or_alloc_mut(parameter)?,
            )?;
        }
        Ok(None)
    }
}

impl<M, const C: usize, const SIDE: usize, const CLASSES: usize> Trainable
    for Typed<M, C, SIDE, CLASSES>
where
    M: TensorCollection<f32, Cpu>
        + Describe
        + Send
        + Sync
        + Module<ImageBatch<C, SIDE, NoneTape>, Output = Logits<CLASSES, NoneTape>>
        + ModuleMut<
            ImageBatch<C, SIDE, OwnedTape<f32, Cpu>>,
            Output = Logits<CLASSES, OwnedTape<f32, Cpu>>,
        >,
{
    fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>> {
        let images = self.batch(pixels, count)?;
        let logits = self.module.try_forward(images).map_err(Error::device)?;
        Ok(logits.as_vec())
    }

    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        adam: &AdamConfig,
    ) -> Result<(f32, Vec<f32>)> {
        let images = self.batch(pixels, count)?;
        let targets = self
            .device
            .try_tensor_from_vec(targets, (count, Const::<CLASSES>))
            .map_err(Error::device)?;
        let tape = self.module.try_alloc_grads().map_err(Error::device)?;
        let logits = self
            .module
            .try_forward_mut(images.trace(tape))
            .map_err(Error::device)?;
        let values = logits.as_vec();
        let loss = cross_entropy_with_logits_loss(logits, targets);
        let value = loss.array();
        let mut gradients = loss.try_backward().map_err(Error::device)?;
        self.adam.steps += 1;
        M::iter_tensors(&mut RecursiveWalker {
            m: &mut self.module,
            f: &mut AdamStep {
                state: &mut self.adam,
                config: adam,
                gradients: &mut gradients,
            },
        })
        .map_err(Error::device)?;
        Ok((value, values))
    }

    fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        self.module.describe(&mut layers);
        layers
    }
}

impl<M, const C: usize, const SIDE: usize, const CLASSES: usize> Typed<M, C, SIDE, CLASSES> {
    fn batch(&self, pixels: Vec<f32>, count: usize) -> Result<ImageBatch<C, SIDE, NoneTape>> {
        let found = pixels.len();
        if found != count * C * SIDE * SIDE {
            return Err(Error::parameter(
                "pixels",
                format!("{found} values for {count} images"),
                format!("{C} x {SIDE} x {SIDE} an image"),
            ));
        }
        self.device
            .try_tensor_from_vec(pixels, (count, Const, Const, Const))
            .map_err(Error::device)
    }
}

/// What [`network!`](crate::network) calls: layers `L` on the CPU with weights drawn by `seed`.
///
/// # Errors
/// [`Error::Device`] when memory cannot be had.
pub fn build<L, const C: usize, const SIDE: usize, const CLASSES: usize>(
    _: PhantomData<Classify<C, SIDE, CLASSES>>,
    seed: u64,
) -> Result<Box<dyn Trainable>>
where
    L: Follows<Rank3<C, SIDE, SIDE>, Out = Rank1<CLASSES>> + BuildOnDevice<Cpu, f32>,
    Typed<L::Built, C, SIDE, CLASSES>: Trainable + 'static,
{
    use rand::Rng as _;
    let device = Cpu::seed_from_u64(rng(seed, Stream::Weights).next_u64());
    Ok(Box::new(Typed::<L::Built, C, SIDE, CLASSES> {
        module: L::try_build_on_device(&device).map_err(Error::device)?,
        device,
        adam: Adam {
            steps: 0,
            moment1: Gradients::leaky(),
            moment2: Gradients::leaky(),
        },
    }))
}

/// How a network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// Adam's learning rate at the start; it falls to 0 along half a cosine.
    pub learning_rate: f64,
    /// Decoupled weight decay (Loshchilov and Hutter 2019).
    pub weight_decay: f64,
    /// How the images vary from epoch to epoch.
    pub augment: Augment,
    /// Orders and varies the images.
    pub seed: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            epochs: 30,
            batch: 16,
            learning_rate: 5e-3,
            weight_decay: 0.1,
            augment: Augment::NONE,
            seed: 0,
        }
    }
}

impl TrainSettings {
    pub(crate) fn check(&self) -> Result<()> {
        let positive = [("epochs", self.epochs), ("batch", self.batch)];
        for (name, value) in positive {
            if value == 0 {
                return Err(Error::parameter(name, value, "1 or more"));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            let found = self.learning_rate;
            return Err(Error::parameter("learning_rate", found, "more than 0"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            let found = self.weight_decay;
            return Err(Error::parameter("weight_decay", found, "0 or more"));
        }
        Ok(())
    }
}

/// One pass over the training images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// On the batches as they were trained on, each before its step.
    pub training_accuracy_percent: f64,
}

/// Network `N`, not yet spiking.
pub struct Ann<N: Network> {
    network: Box<dyn Trainable>,
    name: PhantomData<fn() -> N>,
}

impl<N: Network> Ann<N> {
    /// The network with random weights drawn by `seed`.
    ///
    /// # Errors
    /// [`Error::Device`] when memory cannot be had.
    pub fn new(seed: u64) -> Result<Self> {
        Ok(Self {
            network: N::build(seed)?,
            name: PhantomData,
        })
    }

    /// Trains by Adam on the cross-entropy.
    ///
    /// # Errors
    /// A setting out of range, or [`Error::Diverged`].
    pub fn train(
        &mut self,
        images: &Images<Training, N::Task>,
        settings: &TrainSettings,
    ) -> Result<Vec<Epoch>> {
        let label = format!("train {}", N::NAME);
        train(
            &mut *self.network,
            images.view(),
            N::Task::CLASSES,
            settings,
            &label,
        )
    }

    /// Logits of every image, one row an image.
    ///
    /// # Errors
    /// [`Error::Device`] when memory cannot be had.
    pub fn logits<P: Part>(&self, images: &Images<P, N::Task>) -> Result<Vec<Vec<f32>>> {
        logits(&*self.network, images.view(), N::Task::CLASSES)
    }

    /// How many of the images are classified correctly.
    ///
    /// # Errors
    /// No image, or [`Error::Device`] when memory cannot be had.
    pub fn accuracy<P: Part>(&self, images: &Images<P, N::Task>) -> Result<Accuracy> {
        Ok(self.target(images, 0.0)?.ann())
    }

    /// The accuracy that a spiking network is to reach on these images: this network's, less a
    /// margin in percentage points.
    ///
    /// # Errors
    /// No image; a margin that is negative or leaves nothing to reach; [`Error::Device`].
    pub fn target<P: Part>(
        &self,
        images: &Images<P, N::Task>,
        margin_percent: f64,
    ) -> Result<Target> {
        let logits = self.logits(images)?;
        let hits = logits.iter().enumerate();
        let hits: Vec<bool> = hits
            .map(|(i, row)| predict(row) == images.label(i))
            .collect();
        Target::new(hits, margin_percent)
    }

    /// The plain layers that the network is, weights included.
    pub fn layers(&self) -> Vec<Layer> {
        self.network.layers()
    }

    pub(crate) fn stages(&self) -> Result<Stages> {
        Stages::new(N::Task::SHAPE, &self.layers(), N::Task::CLASSES)
    }

    fn table(&self) -> Table {
        let layers = self.layers();
        let total: usize = layers.iter().map(Layer::parameters).sum();
        let title = format!("{}: {} layers, {total} weights", N::NAME, layers.len());
        let mut table = Table::new(title, ["layer", "kind", "weights"]);
        for (i, layer) in layers.iter().enumerate() {
            let kind = match layer {
                Layer::Neurons => "ReLU",
                other => other.kind(),
            };
            table.row([i.to_string(), kind.into(), layer.parameters().to_string()]);
        }
        table
    }
}

show!(impl [N: Network] Ann<N> as table);

fn train(
    network: &mut dyn Trainable,
    images: Samples<'_>,
    classes: usize,
    settings: &TrainSettings,
    label: &str,
) -> Result<Vec<Epoch>> {
    settings.check()?;
    settings.augment.check(images.shape())?;
    if images.len() == 0 {
        return Err(Error::parameter("images", "none", "at least one"));
    }
    let mut order: Vec<usize> = (0..images.len()).collect();
    let mut rng = rng(settings.seed, Stream::Batches);
    let steps = settings.epochs * images.len().div_ceil(settings.batch);
    let mut step = 0;
    let mut history = Vec::with_capacity(settings.epochs);
    let mut progress = Progress::new(label, settings.epochs);
    for epoch in 1..=settings.epochs {
        order.shuffle(&mut rng);
        let (mut loss_sum, mut correct) = (0.0, 0);
        for (number, batch) in order.chunks(settings.batch).enumerate() {
            let mut targets = vec![0.0; batch.len() * classes];
            for (row, &i) in targets.chunks_exact_mut(classes).zip(batch) {
                row[images.label(i)] = 1.0;
            }
            let done = step as f64 / steps as f64;
            let config = AdamConfig {
                lr: settings.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
                weight_decay: Some(WeightDecay::Decoupled(settings.weight_decay)),
                ..AdamConfig::default()
            };
            let pixels = images.augmented(batch, settings.augment, &mut rng);
            let (loss, logits) = network.step(pixels, targets, batch.len(), &config)?;
            if !loss.is_finite() {
                return Err(Error::Diverged {
                    epoch,
                    batch: number + 1,
                    loss,
                });
            }
            loss_sum += f64::from(loss) * batch.len() as f64;
            let rows = logits.chunks_exact(classes).zip(batch);
            correct += rows
                .filter(|(row, i)| predict(row) == images.label(**i))
                .count();
            step += 1;
        }
        history.push(Epoch {
            epoch,
            loss: loss_sum / images.len() as f64,
            training_accuracy_percent: 100.0 * correct as f64 / images.len() as f64,
        });
        progress.step(|| summary(&history));
    }
    progress.finish(|| summary(&history));
    Ok(history)
}

fn summary(history: &[Epoch]) -> String {
    history.last().map_or_else(String::new, |last| {
        format!(
            "loss {:.4}, training accuracy {:.1} %",
            last.loss, last.training_accuracy_percent
        )
    })
}

fn logits(network: &dyn Trainable, images: Samples<'_>, classes: usize) -> Result<Vec<Vec<f32>>> {
    let all: Vec<usize> = (0..images.len()).collect();
    let mut rows = Vec::with_capacity(all.len());
    for batch in all.chunks(FORWARD_BATCH) {
        let logits = network.forward(images.batch(batch), batch.len())?;
        rows.extend(logits.chunks_exact(classes).map(<[f32]>::to_vec));
    }
    Ok(rows)
}
