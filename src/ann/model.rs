//! A network with its weights: training, accuracy, loading and saving.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;
use std::time::Instant;

use dfdx::losses::cross_entropy_with_logits_loss;
use dfdx::nn::{
    BuildOnDevice, RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorMut,
    ViewTensorName, ViewTensorRef, ZeroGrads,
};
#[cfg(feature = "cuda")]
use dfdx::prelude::Cuda;
use dfdx::prelude::{
    Backward, Const, Cpu, Device, Gradients, HasErr, HasShape, Module, ModuleMut, NoneTape,
    OwnedTape, Rank1, Rank3, RealizeTo, Shape as DfdxShape, Tensor, Trace,
};
use rand::Rng as _;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::ann::checkpoint::{Checkpoint, Run};
#[cfg(feature = "cuda")]
use crate::ann::confined::Confined;
use crate::ann::layers::{Layer, Stages};
use crate::ann::modules::{Describe, Follows};
use crate::ann::networks::Network;
use crate::ann::optimiser::{Optimiser, Schedule, Step, Update};
use crate::ann::weights::{self, Names};
use crate::base::error::{Error, Result};
use crate::base::lock::Lock;
use crate::base::progress::Progress;
use crate::base::random::{Rng, Stream, rng};
use crate::data::images::{Augment, Classify, Images, Part, Samples, Task, Training};
use crate::metrics::{Accuracy, Target, predict};
use crate::ops::backend::Backend;
use crate::report::{Table, show};

/// Images that are classified at a time when nothing is trained.
const FORWARD_BATCH: usize = 256;

/// A typed network behind an interface without types, so that code that uses it is compiled once.
pub trait Trainable {
    /// Logits of `count` images, one row an image.
    ///
    /// # Errors
    /// [`Error::Device`] when memory cannot be had.
    fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>>;

    /// One step of an optimiser on the mean cross-entropy between the images' logits and
    /// `targets`, class probabilities; gives the loss before the step and the logits.
    ///
    /// # Errors
    /// [`Error::Device`] when memory cannot be had.
    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        step: &Step,
    ) -> Result<(f32, Vec<f32>)>;

    /// Seeds what the network draws while it trains: dropout.
    ///
    /// # Errors
    /// [`Error::Device`] of the device.
    fn seed(&mut self, seed: u64) -> Result<()>;

    /// A copy of all tensors of one kind, in the order of the layers.
    ///
    /// # Errors
    /// [`Error::Device`] when memory cannot be had.
    fn tensors(&self, kind: Values) -> Result<Vec<NamedTensor>>;

    /// Sets all tensors of one kind: those that [`tensors`](Self::tensors) gives, in its order.
    ///
    /// # Errors
    /// Tensors missing, left over or of another name or shape; then none is changed.
    fn set_tensors(&mut self, kind: Values, tensors: &[NamedTensor]) -> Result<()>;

    /// The plain layers that the network is, weights included.
    ///
    /// # Errors
    /// [`Error::Device`] of the device.
    fn layers(&self) -> Result<Vec<Layer>>;
}

/// A network that any thread may use.
pub type Built = Box<dyn Trainable + Send + Sync>;

/// What the tensors of a network are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Weights, and the running statistics of batch normalisation.
    Parameters,
    /// What the optimiser keeps for each weight, from 0: SGD its velocity, Adam the running means
    /// of the gradient and of its square. None before the first step.
    Moment(usize),
}

/// A tensor of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The path that dfdx gives it: places in tuples and a field, such as `0.1.weight`.
    pub name: String,
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f32>,
}

type ImageBatch<D, const C: usize, const SIDE: usize, T> =
    Tensor<(usize, Const<C>, Const<SIDE>, Const<SIDE>), f32, D, T>;
type Logits<D, const CLASSES: usize, T> = Tensor<(usize, Const<CLASSES>), f32, D, T>;

/// A built module with its device and the state of its optimiser.
#[doc(hidden)]
pub struct Typed<M, D: Backend, const C: usize, const SIDE: usize, const CLASSES: usize> {
    module: M,
    /// Where images are put; what dropout draws comes from there.
    device: D,
    moments: Vec<Gradients<f32, D>>,
}

/// Copies tensors out of a module.
struct Read<'a, D: Device<f32>> {
    /// In place of the parameters.
    moments: Option<&'a Gradients<f32, D>>,
    tensors: Vec<NamedTensor>,
}

impl<D: Device<f32>> TensorVisitor<f32, D> for Read<'_, D> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = <D as HasErr>::Err;
    type E2 = f32;
    type D2 = D;

    fn visit<S: DfdxShape>(
        &mut self,
        options: TensorOptions<S, f32, D>,
        (tensor, name): (&Tensor<S, f32, D>, String),
    ) -> Result<Option<Tensor<S, f32, D>>, Self::Err> {
        let values = match self.moments {
            None => tensor.as_vec(),
            // A step makes moments for every parameter.
            Some(moments) if options.do_gradient_update => moments.get(tensor).as_vec(),
            Some(_) => return Ok(None),
        };
        self.tensors.push(NamedTensor {
            name,
            shape: tensor.shape().concrete().into(),
            values,
        });
        Ok(None)
    }
}

/// Compares tensors with a module's, or copies them into it.
struct Write<'a, D: Device<f32>> {
    copy: bool,
    /// In place of the parameters.
    moments: Option<&'a mut Gradients<f32, D>>,
    tensors: std::slice::Iter<'a, NamedTensor>,
}

impl<D: Backend> TensorVisitor<f32, D> for Write<'_, D> {
    type Viewer = (ViewTensorMut, ViewTensorName);
    type Err = Error;
    type E2 = f32;
    type D2 = D;

    fn visit<S: DfdxShape>(
        &mut self,
        options: TensorOptions<S, f32, D>,
        (tensor, name): (&mut Tensor<S, f32, D>, String),
    ) -> Result<Option<Tensor<S, f32, D>>> {
        if self.moments.is_some() && !options.do_gradient_update {
            return Ok(None);
        }
        let shape: Vec<usize> = tensor.shape().concrete().into();
        let expected = || format!("`{name}` of shape {shape:?}");
        let Some(new) = self.tensors.next() else {
            return Err(Error::parameter("tensors", "the end", expected()));
        };
        if new.name != name || new.shape != shape {
            let found = format!("`{}` of shape {:?}", new.name, new.shape);
            return Err(Error::parameter("tensors", found, expected()));
        }
        if new.values.len() != tensor.shape().num_elements() {
            let found = format!("{} values of `{name}`", new.values.len());
            return Err(Error::parameter("tensors", found, expected()));
        }
        match &mut self.moments {
            _ if !self.copy => {}
            None => tensor.copy_from(&new.values),
            Some(moments) => D::set(moments, tensor, &new.values).map_err(Error::device)?,
        }
        Ok(None)
    }
}

impl<M, D: Backend, const C: usize, const SIDE: usize, const CLASSES: usize> Trainable
    for Typed<M, D, C, SIDE, CLASSES>
where
    M: TensorCollection<f32, D>
        + Describe
        + Module<ImageBatch<D, C, SIDE, NoneTape>, Output = Logits<D, CLASSES, NoneTape>>
        + ModuleMut<
            ImageBatch<D, C, SIDE, OwnedTape<f32, D>>,
            Output = Logits<D, CLASSES, OwnedTape<f32, D>>,
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
        step: &Step,
    ) -> Result<(f32, Vec<f32>)> {
        let images = self.batch(pixels, count)?;
        let tape = self.module.try_alloc_grads().map_err(Error::device)?;
        let logits = self
            .module
            .try_forward_mut(images.trace(tape))
            .map_err(Error::device)?;
        let values = logits.as_vec();
        let logits = logits.try_realize().map_err(Error::device)?;
        let (loss, mut gradients) = backward(logits, targets)?;
        if step.number == 1 {
            self.moments.clear();
        }
        let moments = step.optimiser.moments();
        self.moments.resize_with(moments, Gradients::leaky);
        M::iter_tensors(&mut RecursiveWalker {
            m: &mut self.module,
            f: &mut Update {
                step,
                moments: &mut self.moments,
                gradients: &mut gradients,
            },
        })
        .map_err(Error::device)?;
        Ok((loss, values))
    }

    fn seed(&mut self, seed: u64) -> Result<()> {
        self.device = D::open(seed)?;
        Ok(())
    }

    fn tensors(&self, kind: Values) -> Result<Vec<NamedTensor>> {
        let moments = match kind {
            Values::Parameters => None,
            Values::Moment(number) => match self.moments.get(number) {
                Some(moments) => Some(moments),
                None => return Ok(Vec::new()),
            },
        };
        let mut read = Read {
            moments,
            tensors: Vec::new(),
        };
        M::iter_tensors(&mut RecursiveWalker {
            m: (&self.module, String::new()),
            f: &mut read,
        })
        .map_err(Error::device)?;
        Ok(read.tensors)
    }

    fn set_tensors(&mut self, kind: Values, tensors: &[NamedTensor]) -> Result<()> {
        let mut moments = match kind {
            Values::Parameters => None,
            Values::Moment(_) => Some(self.module.try_alloc_grads().map_err(Error::device)?),
        };
        for copy in [false, true] {
            let mut write = Write {
                copy,
                moments: moments.as_mut(),
                tensors: tensors.iter(),
            };
            M::iter_tensors(&mut RecursiveWalker {
                m: (&mut self.module, String::new()),
                f: &mut write,
            })?;
            if let Some(rest) = write.tensors.next() {
                let found = format!("`{}` after the last", rest.name);
                return Err(Error::parameter("tensors", found, "no more tensors"));
            }
        }
        if let (Values::Moment(number), Some(new)) = (kind, moments) {
            let count = self.moments.len().max(number + 1);
            self.moments.resize_with(count, Gradients::leaky);
            self.moments[number] = new;
        }
        Ok(())
    }

    fn layers(&self) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        self.module.describe(&mut layers);
        Ok(layers)
    }
}

impl<M, D: Backend, const C: usize, const SIDE: usize, const CLASSES: usize>
    Typed<M, D, C, SIDE, CLASSES>
{
    fn build<L: BuildOnDevice<D, f32, Built = M>>(seed: u64) -> Result<Self> {
        let device = D::open(rng(seed, Stream::Weights).next_u64())?;
        Ok(Self {
            module: L::try_build_on_device(&device).map_err(Error::device)?,
            device,
            moments: Vec::new(),
        })
    }

    fn batch(&self, pixels: Vec<f32>, count: usize) -> Result<ImageBatch<D, C, SIDE, NoneTape>> {
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

/// The mean cross-entropy with class probabilities, and its gradients. The sizes are not in the
/// types, so that this is compiled once, not in every notebook cell with a network.
pub(crate) fn backward<D: Device<f32>>(
    logits: Tensor<(usize, usize), f32, D, OwnedTape<f32, D>>,
    targets: Vec<f32>,
) -> Result<(f32, Gradients<f32, D>)> {
    let targets = logits
        .device()
        .try_tensor_from_vec(targets, *logits.shape());
    let targets = targets.map_err(Error::device)?;
    let loss = cross_entropy_with_logits_loss(logits, targets);
    let value = loss.as_vec()[0];
    Ok((value, loss.try_backward().map_err(Error::device)?))
}

/// What [`network!`](crate::network) calls: layers `L` on the CPU with weights drawn by `seed`.
///
/// # Errors
/// [`Error::Device`] when memory cannot be had.
pub fn build<L, const C: usize, const SIDE: usize, const CLASSES: usize>(
    _: PhantomData<Classify<C, SIDE, CLASSES>>,
    seed: u64,
) -> Result<Built>
where
    L: Follows<Rank3<C, SIDE, SIDE>, Out = Rank1<CLASSES>> + BuildOnDevice<Cpu, f32>,
    Typed<L::Built, Cpu, C, SIDE, CLASSES>: Trainable + Send + Sync + 'static,
{
    let network = Typed::<L::Built, Cpu, C, SIDE, CLASSES>::build::<L>(seed)?;
    Ok(Box::new(network))
}

/// [`build`] on the first NVIDIA card.
///
/// # Errors
/// [`Error::Device`] when there is none, or memory cannot be had.
#[cfg(feature = "cuda")]
pub fn build_on_card<L, const C: usize, const SIDE: usize, const CLASSES: usize>(
    _: PhantomData<Classify<C, SIDE, CLASSES>>,
    seed: u64,
) -> Result<Built>
where
    L: Follows<Rank3<C, SIDE, SIDE>, Out = Rank1<CLASSES>> + BuildOnDevice<Cuda, f32>,
    Typed<L::Built, Cuda, C, SIDE, CLASSES>: Trainable + 'static,
{
    Ok(Box::new(Confined::new(move || {
        let network = Typed::<L::Built, Cuda, C, SIDE, CLASSES>::build::<L>(seed)?;
        Ok(Box::new(network))
    })?))
}

/// How a network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// What a step makes of a gradient.
    pub optimiser: Optimiser,
    /// After the warm-up.
    pub learning_rate: f64,
    /// How the learning rate changes after the warm-up.
    pub schedule: Schedule,
    /// Epochs over which the learning rate rises from near 0, fractions allowed; fewer than there
    /// are.
    pub warmup_epochs: f64,
    /// How weights fall to 0, of every parameter: in SGD this times the weight is added to the
    /// gradient, in Adam the weight falls by this times the learning rate.
    pub weight_decay: f64,
    /// Share of each target, 0..=1, that is divided among all classes (Szegedy et al. 2016), as
    /// in PyTorch's `CrossEntropyLoss`.
    pub label_smoothing: f64,
    /// How the images vary from epoch to epoch.
    pub augment: Augment,
    /// Orders and varies the images, and drops out.
    pub seed: u64,
}

impl Default for TrainSettings {
    /// For a small network and a small data set.
    fn default() -> Self {
        Self {
            epochs: 30,
            batch: 16,
            optimiser: Optimiser::Adam,
            learning_rate: 5e-3,
            schedule: Schedule::Cosine,
            warmup_epochs: 0.0,
            weight_decay: 0.1,
            label_smoothing: 0.0,
            augment: Augment::NONE,
            seed: 0,
        }
    }
}

impl TrainSettings {
    /// What the digits' results are made with: the default, but images that move by a pixel and
    /// smoothed labels.
    pub fn digits() -> Self {
        Self {
            label_smoothing: 0.1,
            augment: Augment {
                crop_padding: 1,
                flip: false,
            },
            ..Self::default()
        }
    }

    /// What batch-normalised networks for CIFAR-10 and CIFAR-100 are commonly trained with. A
    /// network without batch normalisation needs a tenth of the learning rate.
    pub fn cifar() -> Self {
        Self {
            epochs: 100,
            batch: 128,
            optimiser: Optimiser::NESTEROV,
            learning_rate: 0.1,
            schedule: Schedule::Cosine,
            warmup_epochs: 1.0,
            weight_decay: 5e-4,
            label_smoothing: 0.1,
            augment: Augment::CIFAR,
            seed: 0,
        }
    }

    /// Whether every setting is in its range, which training checks first.
    ///
    /// # Errors
    /// The first setting that is not.
    pub fn check(&self) -> Result<()> {
        let positive = [("epochs", self.epochs), ("batch", self.batch)];
        for (name, value) in positive {
            if value == 0 {
                return Err(Error::parameter(name, value, "1 or more"));
            }
        }
        self.optimiser.check()?;
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            let found = self.learning_rate;
            return Err(Error::parameter("learning_rate", found, "more than 0"));
        }
        if !(0.0..self.epochs as f64).contains(&self.warmup_epochs) {
            let expected = format!("0 to less than the {} epochs", self.epochs);
            return Err(Error::parameter(
                "warmup_epochs",
                self.warmup_epochs,
                expected,
            ));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            let found = self.weight_decay;
            return Err(Error::parameter("weight_decay", found, "0 or more"));
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            let found = self.label_smoothing;
            return Err(Error::parameter("label_smoothing", found, "0 to 1"));
        }
        Ok(())
    }

    /// What the targets are of the label's class and of every other class.
    fn targets(&self, classes: usize) -> [f32; 2] {
        let shared = self.label_smoothing / classes as f64;
        [(1.0 - self.label_smoothing + shared) as f32, shared as f32]
    }
}

/// One pass over the training images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Mean cross-entropy with the smoothed labels, in nats.
    pub loss: f64,
    /// On the batches as they were trained on, each before its step.
    pub training_accuracy_percent: f64,
}

/// How training went, epoch by epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct History(Vec<Epoch>);

impl From<Vec<Epoch>> for History {
    fn from(epochs: Vec<Epoch>) -> Self {
        Self(epochs)
    }
}

impl Deref for History {
    type Target = [Epoch];
    fn deref(&self) -> &[Epoch] {
        &self.0
    }
}

impl History {
    fn table(&self) -> Table {
        let header = ["epoch", "loss", "training accuracy (%)"];
        let mut table = Table::new("Training", header);
        for epoch in self.iter() {
            table.row([
                epoch.epoch.to_string(),
                format!("{:.4}", epoch.loss),
                format!("{:.2}", epoch.training_accuracy_percent),
            ]);
        }
        table
    }
}

show!(impl [] History as table);
show!(Epoch as text);
show!(TrainSettings as fields);

/// Network `N`, not yet spiking, on the CPU or another [`Backend`], such as `Ann<Vgg15, Cuda>`.
pub struct Ann<N: Network, D: Backend = Cpu> {
    network: Built,
    types: PhantomData<fn() -> (N, D)>,
}

impl<N: Network, D: Backend> Ann<N, D> {
    /// The network with random weights drawn by `seed`.
    ///
    /// # Errors
    /// [`Error::Device`] when there is no such device, or memory cannot be had.
    pub fn new(seed: u64) -> Result<Self> {
        Ok(Self {
            network: D::build::<N>(seed)?,
            types: PhantomData,
        })
    }

    /// Trains on the cross-entropy.
    ///
    /// # Errors
    /// A setting out of range, or [`Error::Diverged`].
    pub fn train(
        &mut self,
        images: &Images<Training, N::Task>,
        settings: &TrainSettings,
    ) -> Result<History> {
        self.run(images, settings, None)
    }

    /// Trains as [`train`](Self::train) does, and keeps everything that training goes on from in
    /// the file `checkpoint`, which is written before the first epoch and after every epoch. Where
    /// the file is there already, training resumes from it and ends with the very weights that it
    /// would have had without a break. To resume, make the network as before, by the same seed.
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let file = folder.path().join("digits.checkpoint"); // your file
    /// let digits = data::digits()?.split(Shares::default(), 0)?;
    /// let mut ann = Ann::<DigitsCnn>::new(0)?;
    /// let settings = TrainSettings { epochs: 1, ..Default::default() };
    /// ann.train_resumable(&digits.training, &settings, file)?;
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`train`](Self::train); a file that cannot be written or read, is damaged, or is of
    /// another network, other first weights, other images or other settings: delete it to start
    /// anew; [`Error::Busy`] while another training writes it.
    pub fn train_resumable(
        &mut self,
        images: &Images<Training, N::Task>,
        settings: &TrainSettings,
        checkpoint: impl AsRef<Path>,
    ) -> Result<History> {
        self.run(images, settings, Some(checkpoint.as_ref()))
    }

    fn run(
        &mut self,
        images: &Images<Training, N::Task>,
        settings: &TrainSettings,
        checkpoint: Option<&Path>,
    ) -> Result<History> {
        let (images, classes) = (images.view(), N::Task::CLASSES);
        let epochs = train(
            &mut *self.network,
            images,
            classes,
            settings,
            N::NAME,
            checkpoint,
        )?;
        Ok(epochs.into())
    }

    /// The network with the weights of a safetensors file, such as PyTorch writes, in which every
    /// tensor has the name that `names` gives it. See [`weights`].
    ///
    /// # Errors
    /// A file that cannot be read or is no safetensors file; a tensor that is missing, left over,
    /// of another shape or type than the network's, or has a value that no trained network has.
    pub fn load(path: impl AsRef<Path>, names: &Names) -> Result<Self> {
        let mut ann = Self::new(0)?;
        weights::load(&mut *ann.network, path.as_ref(), names)?;
        Ok(ann)
    }

    /// Writes the weights, and the running statistics of batch normalisation, as a safetensors
    /// file. See [`weights`].
    ///
    /// # Errors
    /// A layer without a name in `names`, or a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, names: &Names) -> Result<()> {
        weights::save(&*self.network, path.as_ref(), names)
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
    ///
    /// # Errors
    /// [`Error::Device`] of the device.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        self.network.layers()
    }

    pub(crate) fn stages(&self) -> Result<Stages> {
        Stages::new(N::Task::SHAPE, &self.layers()?, N::Task::CLASSES)
    }

    pub(crate) fn network_mut(&mut self) -> &mut dyn Trainable {
        &mut *self.network
    }

    fn table(&self) -> Table {
        let layers = self.layers().unwrap_or_default();
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

show!(impl [N: Network, D: Backend] Ann<N, D> as table);

/// What training goes on from, apart from the network and its optimiser.
struct Course {
    /// Of the images, shuffled once more every epoch.
    order: Vec<usize>,
    rng: Rng,
    history: Vec<Epoch>,
}

/// Trains any network, under a name that its checkpoint and its progress have.
pub(crate) fn train(
    network: &mut dyn Trainable,
    images: Samples<'_>,
    classes: usize,
    settings: &TrainSettings,
    name: &str,
    path: Option<&Path>,
) -> Result<Vec<Epoch>> {
    settings.check()?;
    settings.augment.check(images.shape())?;
    images.check_some()?;
    let _lock = path.map(Lock::of_file).transpose()?;
    let mut course = Course {
        order: (0..images.len()).collect(),
        rng: rng(settings.seed, Stream::Batches),
        history: Vec::new(),
    };
    let checkpoint = match path {
        Some(path) => Some(Checkpoint::new(
            path,
            Run::new(name, network, images, settings)?,
        )),
        None => None,
    };
    if let Some(checkpoint) = &checkpoint {
        match checkpoint.load(network, settings.optimiser)? {
            Some(state) => {
                course.order = state.order;
                course.rng.set_word_pos(state.position);
                course.history = state.history;
            }
            None => course.save(checkpoint, network)?, // or it is known at once that it cannot be
        }
    }
    let batches = images.len().div_ceil(settings.batch);
    let mut progress = Progress::new(
        format!("train {name}"),
        settings.epochs.saturating_mul(batches),
    );
    progress.skip(course.history.len() * batches);
    for _ in course.history.len()..settings.epochs {
        epoch(
            network,
            images,
            classes,
            settings,
            &mut course,
            &mut progress,
        )?;
        if let Some(checkpoint) = &checkpoint {
            course.save(checkpoint, network)?;
        }
    }
    progress.finish(|| summary(&course.history));
    Ok(course.history)
}

impl Course {
    fn save(&self, checkpoint: &Checkpoint<'_>, network: &dyn Trainable) -> Result<()> {
        checkpoint.save(network, &self.order, self.rng.get_word_pos(), &self.history)
    }
}

/// One pass over the images.
fn epoch(
    network: &mut dyn Trainable,
    images: Samples<'_>,
    classes: usize,
    settings: &TrainSettings,
    course: &mut Course,
    progress: &mut Progress,
) -> Result<()> {
    let Course {
        order,
        rng,
        history,
    } = course;
    let epoch = history.len() + 1;
    let batches = images.len().div_ceil(settings.batch);
    let steps = settings.epochs.saturating_mul(batches);
    let warmup = (settings.warmup_epochs * batches as f64).round() as usize;
    // A seed an epoch, so that where dropout stands need not be kept.
    let mut dropout = crate::base::random::rng(settings.seed, Stream::Dropout);
    dropout.set_word_pos(2 * epoch as u128);
    network.seed(dropout.next_u64())?;
    order.shuffle(rng);
    let [on, off] = settings.targets(classes);
    let (mut loss_sum, mut correct, mut seen) = (0.0, 0, 0);
    let started = Instant::now();
    for (number, batch) in order.chunks(settings.batch).enumerate() {
        let mut targets = vec![off; batch.len() * classes];
        for (row, &i) in targets.chunks_exact_mut(classes).zip(batch) {
            row[images.label(i)] = on;
        }
        let done = (epoch - 1) * batches + number;
        let step = Step {
            optimiser: settings.optimiser,
            number: done + 1,
            learning_rate: settings.learning_rate * settings.schedule.share(done, steps, warmup),
            weight_decay: settings.weight_decay,
        };
        let pixels = images.augmented(batch, settings.augment, rng);
        let (loss, logits) = network.step(pixels, targets, batch.len(), &step)?;
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
        seen += batch.len();
        progress.step(|| {
            let pace = seen as f64 / started.elapsed().as_secs_f64();
            let so_far = Epoch::new(epoch, loss_sum, correct, seen);
            let epochs = settings.epochs;
            format!("epoch {epoch}/{epochs}, {so_far}, {pace:.0} images/s")
        });
    }
    history.push(Epoch::new(epoch, loss_sum, correct, seen));
    Ok(())
}

impl Epoch {
    fn new(epoch: usize, loss_sum: f64, correct: usize, images: usize) -> Self {
        Self {
            epoch,
            loss: loss_sum / images as f64,
            training_accuracy_percent: 100.0 * correct as f64 / images as f64,
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (loss, accuracy) = (self.loss, self.training_accuracy_percent);
        write!(f, "loss {loss:.4}, training accuracy {accuracy:.1} %")
    }
}

fn summary(history: &[Epoch]) -> String {
    history.last().map_or_else(String::new, Epoch::to_string)
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::data::{self, Digits, Shares, Split};

    mod small {
        use crate::ann::modules::*;
        use crate::data::Digits;
        use crate::network;
        network! {
            pub Small for Digits = (
                (Conv3x3<1, 4, 8>, BatchNorm<4, 8>, AvgPool2<4, 8, 4>, Relu, DropoutOneIn<10>),
                (Flatten<4, 4, 64>, UnbiasedLinear<64, 16>, BatchNorm1d<16>, Relu),
                Linear<16, 10>,
            );
        }
        network! {
            /// The same layers.
            pub Other for Digits = (
                (Conv3x3<1, 4, 8>, BatchNorm<4, 8>, AvgPool2<4, 8, 4>, Relu, DropoutOneIn<10>),
                (Flatten<4, 4, 64>, UnbiasedLinear<64, 16>, BatchNorm1d<16>, Relu),
                Linear<16, 10>,
            );
        }
    }
    use small::{Other, Small};

    /// A network that breaks off after some steps, as a machine that is switched off.
    pub(crate) struct Breaks(pub Box<dyn Trainable>, pub usize);

    impl Trainable for Breaks {
        fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>> {
            self.0.forward(pixels, count)
        }
        fn step(
            &mut self,
            pixels: Vec<f32>,
            targets: Vec<f32>,
            count: usize,
            step: &Step,
        ) -> Result<(f32, Vec<f32>)> {
            self.1 = (self.1.checked_sub(1)).ok_or(Error::Device("broken off".into()))?;
            self.0.step(pixels, targets, count, step)
        }
        fn seed(&mut self, seed: u64) -> Result<()> {
            self.0.seed(seed)
        }
        fn tensors(&self, kind: Values) -> Result<Vec<NamedTensor>> {
            self.0.tensors(kind)
        }
        fn set_tensors(&mut self, kind: Values, tensors: &[NamedTensor]) -> Result<()> {
            self.0.set_tensors(kind, tensors)
        }
        fn layers(&self) -> Result<Vec<Layer>> {
            self.0.layers()
        }
    }

    fn digits() -> Split<Digits> {
        data::digits().unwrap().split(Shares::default(), 0).unwrap()
    }

    fn settings(optimiser: Optimiser) -> TrainSettings {
        TrainSettings {
            epochs: 4,
            batch: 32,
            optimiser,
            learning_rate: 0.02,
            warmup_epochs: 0.5,
            weight_decay: 1e-3,
            label_smoothing: 0.1,
            augment: Augment {
                crop_padding: 1,
                flip: true,
            },
            ..TrainSettings::default()
        }
    }

    /// Breaks off in epoch 3, as the last run of the tests below.
    fn broken_off(path: &Path, settings: &TrainSettings) {
        let images = digits().training.take(100); // 4 batches
        let mut net = Breaks(Small::build(0).unwrap(), 10);
        let name = Small::NAME;
        train(&mut net, images.view(), 10, settings, name, Some(path)).unwrap_err();
    }

    #[test]
    fn a_resumed_run_ends_with_the_same_bytes() {
        let images = digits().training.take(100);
        for optimiser in [Optimiser::NESTEROV, Optimiser::Adam] {
            let settings = settings(optimiser);
            let whole = {
                let mut ann = Ann::<Small>::new(0).unwrap();
                let history = ann.train(&images, &settings).unwrap();
                (ann.network.tensors(Values::Parameters).unwrap(), history)
            };
            for threads in [1, 2] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("small.checkpoint");
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build().unwrap().install(|| {
                    broken_off(&path, &settings);
                    let mut ann = Ann::<Small>::new(0).unwrap();
                    let history = ann.train_resumable(&images, &settings, &path).unwrap();
                    let tensors = ann.network.tensors(Values::Parameters).unwrap();
                    assert!(
                        (tensors, history) == whole,
                        "{optimiser:?}, {threads} threads"
                    );
                    // A finished run is read back, not run again.
                    let bytes = std::fs::read(&path).unwrap();
                    let mut ann = Ann::<Small>::new(0).unwrap();
                    ann.train_resumable(&images, &settings, &path).unwrap();
                    assert!(ann.network.tensors(Values::Parameters).unwrap() == whole.0);
                    assert!(std::fs::read(&path).unwrap() == bytes);
                });
            }
        }
    }

    #[test]
    fn a_checkpoint_of_another_run_is_refused_by_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.checkpoint");
        let settings = settings(Optimiser::NESTEROV);
        broken_off(&path, &settings);
        let images = digits().training.take(100);
        #[track_caller]
        fn refused<N: Network<Task = Digits>>(
            path: &Path,
            seed: u64,
            images: &Images<Training, Digits>,
            settings: &TrainSettings,
            expected: &str,
        ) {
            let mut ann = Ann::<N>::new(seed).unwrap();
            let before = ann.network.tensors(Values::Parameters).unwrap();
            let error = ann.train_resumable(images, settings, path).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(expected) && error.contains("small.checkpoint"),
                "{error}"
            );
            assert!(ann.network.tensors(Values::Parameters).unwrap() == before);
        }
        let expected = "learning_rate: found 0.02, expected 0.03, as in this run";
        let faster = TrainSettings {
            learning_rate: 0.03,
            ..settings.clone()
        };
        refused::<Small>(&path, 0, &images, &faster, expected);
        let adam = TrainSettings {
            optimiser: Optimiser::Adam,
            ..settings.clone()
        };
        refused::<Small>(&path, 0, &images, &adam, "settings.optimiser");
        refused::<Small>(&path, 0, &images.take(99), &settings, "images: found 100");
        let normalisation = data::Normalisation::new([0.3], [0.4]).unwrap();
        let normalised = images.normalised(&normalisation).unwrap();
        refused::<Small>(&path, 0, &normalised, &settings, "images_checksum");
        refused::<Small>(&path, 1, &images, &settings, "first_weights_checksum");
        refused::<Other>(&path, 0, &images, &settings, "network: found \"Small\"");
    }

    #[test]
    fn a_second_training_by_the_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.checkpoint");
        let images = digits().training.take(100);
        let train = || {
            let mut ann = Ann::<Small>::new(0).unwrap();
            ann.train_resumable(&images, &settings(Optimiser::Adam), &path)
        };
        let lock = Lock::of_file(&path).unwrap();
        assert!(matches!(train(), Err(Error::Busy { path: busy }) if busy == path));
        drop(lock);
        train().unwrap();
    }

    #[test]
    fn a_damaged_checkpoint_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.checkpoint");
        let settings = settings(Optimiser::Adam);
        broken_off(&path, &settings);
        let images = digits().training.take(100);
        let good = std::fs::read(&path).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..good.len())
            .step_by(499)
            .map(|n| good[..n].into())
            .collect();
        damaged.extend((0..good.len()).step_by(97).map(|byte| {
            let mut bytes = good.clone();
            bytes[byte] ^= 4;
            bytes
        }));
        damaged.push([&good[..], &[0; 8]].concat());
        let mut ann = Ann::<Small>::new(0).unwrap();
        let before = ann.network.tensors(Values::Parameters).unwrap();
        for bytes in damaged {
            std::fs::write(&path, &bytes).unwrap();
            let error = ann.train_resumable(&images, &settings, &path).unwrap_err();
            assert!(error.to_string().contains("small.checkpoint"), "{error}");
        }
        assert!(ann.network.tensors(Values::Parameters).unwrap() == before);
        let folder = folder.path().join("small.checkpoint/not-a-folder");
        assert!(ann.train_resumable(&images, &settings, folder).is_err());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (name, change) in [
            ("epochs", (|s| s.epochs = 0) as fn(&mut TrainSettings)),
            ("batch", |s| s.batch = 0),
            ("learning_rate", |s| s.learning_rate = f64::NAN),
            ("warmup_epochs", |s| s.warmup_epochs = 30.0),
            ("warmup_epochs", |s| s.warmup_epochs = -0.5),
            ("weight_decay", |s| s.weight_decay = f64::INFINITY),
            ("label_smoothing", |s| s.label_smoothing = 1.1),
            ("momentum", |s| {
                s.optimiser = Optimiser::Sgd {
                    momentum: 1.0,
                    nesterov: false,
                };
            }),
            ("momentum", |s| {
                s.optimiser = Optimiser::Sgd {
                    momentum: 0.0,
                    nesterov: true,
                };
            }),
            ("augment.crop_padding", |s| s.augment.crop_padding = 8),
        ] {
            let mut settings = TrainSettings::default();
            change(&mut settings);
            let mut ann = Ann::<Small>::new(0).unwrap();
            let error = ann.train(&digits().training, &settings).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }

    /// torch.nn.CrossEntropyLoss: (1 - s) times the label's negative log-probability, plus s /
    /// classes times the sum of all.
    #[test]
    fn label_smoothing_is_pytorchs() {
        let s = 0.1;
        let settings = TrainSettings {
            label_smoothing: s,
            ..TrainSettings::default()
        };
        let [on, off] = settings.targets(10);
        let mut net = Small::build(0).unwrap();
        let mut targets = vec![off; 20];
        (targets[3], targets[17]) = (on, on);
        let step = Step {
            optimiser: Optimiser::Adam,
            number: 1,
            learning_rate: 1e-3,
            weight_decay: 0.0,
        };
        let pixels = (0..128).map(|i| (i * 7919 % 256) as f32 / 255.0).collect();
        let (loss, logits) = net.step(pixels, targets, 2, &step).unwrap();
        let mut expected = 0.0;
        for (row, label) in logits.chunks(10).zip([3, 7]) {
            let exps: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
            let total: f64 = exps.iter().sum();
            let losses: Vec<f64> = exps.iter().map(|e| -(e / total).ln()).collect();
            expected += (1.0 - s) * losses[label] + s / 10.0 * losses.iter().sum::<f64>();
        }
        assert!((f64::from(loss) - expected / 2.0).abs() < 1e-6, "{loss}");
        assert_eq!(TrainSettings::default().targets(3), [1.0, 0.0]);
    }

    #[test]
    fn tensors_go_out_and_in_by_name() {
        let mut net = Small::build(0).unwrap();
        let mut tensors = net.tensors(Values::Parameters).unwrap();
        let names: Vec<_> = tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "0.0.weight",
                "0.1.weight",
                "0.1.bias",
                "0.1.running_mean",
                "0.1.running_var",
                "1.1.weight",
                "1.2.weight",
                "1.2.bias",
                "1.2.running_mean",
                "1.2.running_var",
                "2.weight",
                "2.bias",
            ]
        );
        assert_eq!(tensors[0].shape, [4, 1, 3, 3]);
        assert!(net.tensors(Values::Moment(0)).unwrap().is_empty());
        tensors[11].values[3] = 7.5;
        net.set_tensors(Values::Parameters, &tensors).unwrap();
        assert_eq!(net.tensors(Values::Parameters).unwrap(), tensors);

        let mut wrong = [(); 4].map(|()| tensors.clone());
        wrong[0][0].values[0] = 99.0; // must not arrive
        wrong[0].pop();
        wrong[1].push(tensors[0].clone());
        wrong[2].swap(1, 2);
        wrong[3][0].shape = vec![4, 9];
        for wrong in wrong {
            let error = net.set_tensors(Values::Parameters, &wrong).unwrap_err();
            assert!(error.to_string().starts_with("tensors: found"), "{error}");
        }
        assert_eq!(net.tensors(Values::Parameters).unwrap(), tensors);
    }
}
