//! A network with its weights: training, accuracy, loading and saving.

use std::marker::PhantomData;
use std::path::Path;

use dfdx::prelude::Cpu;

use super::graph::Graph;
use super::networks::{Classifier, Network, NetworkDevice};
use super::train::{History, TrainSettings, train};
use super::trainable::{Built, Trainable};
use super::weights;
use super::weights::Names;
use crate::base::{Checkpoint, Result, Resume, Table, all_finite, at_least, show};
use crate::data::{Images, Part, Samples, Task, Training};
use crate::metrics::{Accuracy, Target, is_among_top, predict};

/// Number of images per batch when nothing is trained.
const FORWARD_BATCH: usize = 256;

/// Network `N`, not yet spiking, on the CPU or another [`NetworkDevice`], such as `Ann<Vgg15, Cuda>`.
pub struct Ann<N: Network, D: NetworkDevice = Cpu> {
    pub(super) network: Built,
    types: PhantomData<fn() -> (N, D)>,
}

/// Trained network that does not spike yet: an [`Ann`], or an
/// [`Imported`](crate::simulate::Imported) one.
pub trait Model {
    /// Network that this is one of.
    type Network: Classifier;

    /// The plain layers that the network is, weights included and batch normalisation folded into
    /// them.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) of the device.
    fn graph(&self) -> Result<Graph>;

    /// Logits of every image, one row an image.
    ///
    /// # Errors
    /// Logits that are infinite or no numbers, of weights that overflow;
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    fn logits<P: Part>(&self, images: &Images<P, TaskOf<Self>>) -> Result<Vec<Vec<f32>>>;

    /// Number of images that are classified correctly.
    ///
    /// # Errors
    /// No image, or [`Error::Device`](crate::Error::Device) if memory runs out.
    fn accuracy<P: Part>(&self, images: &Images<P, TaskOf<Self>>) -> Result<Accuracy> {
        Ok(self.target(images, 0.0)?.ann())
    }

    /// Top-k accuracy: number of images whose class is among those of the k largest logits.
    ///
    /// # Errors
    /// No image; k of 0; [`Error::Device`](crate::Error::Device) if memory runs out.
    fn top_accuracy<P: Part>(
        &self,
        k: usize,
        images: &Images<P, TaskOf<Self>>,
    ) -> Result<Accuracy> {
        at_least(1, &[("k", k), ("images", images.len())])?;
        let logits = self.logits(images)?;
        let hits = logits.iter().enumerate();
        let correct = hits.filter(|&(i, row)| is_among_top(k, row, images.label(i))).count();
        Ok(Accuracy { correct, images: logits.len() })
    }

    /// The accuracy that a spiking network is to reach on these images: this network's, less a
    /// margin in percentage points.
    ///
    /// # Errors
    /// No image; a margin that is negative or leaves nothing to reach; [`Error::Device`](crate::Error::Device).
    fn target<P: Part>(
        &self,
        images: &Images<P, TaskOf<Self>>,
        margin_percent: f64,
    ) -> Result<Target> {
        let logits = self.logits(images)?;
        let hits = logits.iter().enumerate();
        let hits: Vec<bool> = hits.map(|(i, row)| predict(row) == images.label(i)).collect();
        Ok(Target::new(hits, margin_percent)?.of_images(images.view().which()))
    }

    /// CRC-32 of the plain layers, weights included: of use in the key of a
    /// [`sweep`](crate::sweep).
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) of the device.
    fn checksum(&self) -> Result<u32> {
        Ok(self.graph()?.checksum())
    }
}

/// Task of a [`Model`].
pub type TaskOf<M> = <<M as Model>::Network as Classifier>::Task;

impl<N: Network, D: NetworkDevice> Model for Ann<N, D> {
    type Network = N;

    fn graph(&self) -> Result<Graph> {
        self.network.graph()
    }

    fn logits<P: Part>(&self, images: &Images<P, N::Task>) -> Result<Vec<Vec<f32>>> {
        logits(&*self.network, images.view(), N::Task::CLASSES)
    }
}

impl<N: Network, D: NetworkDevice> Ann<N, D> {
    /// The network with random weights drawn by `seed`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when there is no such device, or memory runs out.
    pub fn new(seed: u64) -> Result<Self> {
        Ok(Self { network: D::build::<N>(seed)?, types: PhantomData })
    }

    /// Trains on the mean cross-entropy between the logits and the (smoothed) labels.
    /// [`Resume::train`] keeps a checkpoint of it.
    ///
    /// # Errors
    /// Returns an error if a setting is out of range, or [`Error::Diverged`](crate::Error::Diverged).
    pub fn train(
        &mut self,
        images: &Images<Training, N::Task>,
        settings: &TrainSettings,
    ) -> Result<History> {
        self.run(images, settings, None)
    }

    fn run(
        &mut self,
        images: &Images<Training, N::Task>,
        settings: &TrainSettings,
        resume: Option<&Resume<'_>>,
    ) -> Result<History> {
        let (network, images) = (&mut *self.network, images.view());
        train(network, images, N::Task::CLASSES, settings, N::NAME, resume)
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

    /// dfdx's path of each layer that has parameters: what a table of [`Names`] must map.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    pub fn names(&self) -> Result<Vec<String>> {
        weights::paths(&*self.network)
    }

    pub(crate) fn network_mut(&mut self) -> &mut dyn Trainable {
        &mut *self.network
    }

    fn table(&self) -> Table {
        match self.graph() {
            Ok(graph) => graph.table(N::NAME),
            Err(error) => Table::new(error.to_string(), []),
        }
    }
}

impl Resume<'_> {
    /// [`Ann::train`] with a checkpoint, written before the first epoch and after each. To resume,
    /// make the network as before, by the same seed.
    ///
    /// # Errors
    /// Returns the errors of [`Ann::train`], and those of [`Resume`].
    pub fn train<N: Network, D: NetworkDevice>(
        &self,
        ann: &mut Ann<N, D>,
        images: &Images<Training, N::Task>,
        settings: &TrainSettings,
    ) -> Result<History> {
        ann.run(images, settings, Some(self))
    }

    /// Whether the training with this checkpoint was on these images, in any order; none if there is
    /// no such file, or none of training.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is damaged, or is of another version.
    pub fn trained_on<K: Task>(&self, images: &Images<Training, K>) -> Result<Option<bool>> {
        let found = Checkpoint::read(self.path())?;
        let found = found.and_then(|found| found.identity["sorted_images_checksum"].as_u64());
        Ok(found.map(|found| found == u64::from(images.view().which_sorted())))
    }
}

show!(impl [N: Network, D: NetworkDevice] Ann<N, D> as table);

fn logits(network: &dyn Trainable, images: Samples<'_>, classes: usize) -> Result<Vec<Vec<f32>>> {
    let all: Vec<usize> = (0..images.len()).collect();
    let mut rows = Vec::with_capacity(all.len());
    for batch in all.chunks(FORWARD_BATCH) {
        let logits = network.forward(images.batch(batch), batch.len())?;
        all_finite("logits", &logits)?; // of which one would be the largest, or the first class
        rows.extend(logits.chunks_exact(classes).map(<[f32]>::to_vec));
    }
    Ok(rows)
}
