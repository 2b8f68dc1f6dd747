//! Training of any network: settings, epochs and the loop over them.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::time::Instant;

use flate2::Crc;
use rand::Rng as _;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::optimiser::{Optimiser, Schedule, Step};
use super::trainable::{Trainable, Values};
use super::weights::VARIANCE;
use crate::base::{
    Error, NamedTensor, Progress, Ranks, Result, Resume, Rng, Steps, Stream, Table, at_least,
    do_steps, require, rng, show,
};
use crate::data::{Augment, Samples};
use crate::metrics::predict;

/// Settings of training by gradient descent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Number of passes over the training images. With a constant schedule, more of them continue
    /// a finished checkpoint.
    pub epochs: usize,
    /// Number of images per batch; a last batch of one image joins the one before it. At least 2
    /// for a network with batch normalisation, since one image has no variance.
    pub batch: usize,
    /// Optimiser.
    pub optimiser: Optimiser,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Schedule of the learning rate after the warm-up.
    pub schedule: Schedule,
    /// Number of epochs over which the learning rate rises from near 0, fractions allowed; less than
    /// `epochs`.
    pub warmup_epochs: f64,
    /// Weight decay of every parameter: in SGD this times the weight is added to the gradient, in
    /// Adam the weight falls by this times the learning rate.
    pub weight_decay: f64,
    /// Share of each target, 0..=1, that is divided among all classes (Szegedy et al. 2016), as
    /// in PyTorch's `CrossEntropyLoss`.
    pub label_smoothing: f64,
    /// Augmentation of the images.
    pub augment: Augment,
    /// Seed of the order of the images, their augmentation and dropout.
    pub seed: u64,
}

impl Default for TrainSettings {
    /// Settings for a small network and a small data set.
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
    /// Settings of the results on the digits: the default, but images that move by a pixel and
    /// smoothed labels.
    pub fn digits() -> Self {
        Self {
            label_smoothing: 0.1,
            augment: Augment { crop_padding: 1, flip: false },
            ..Self::default()
        }
    }

    /// Settings of the main job on the embedded pictures of clothes, which it trains in seconds.
    pub fn fashion() -> Self {
        Self {
            epochs: 6,
            batch: 64,
            learning_rate: 0.05,
            warmup_epochs: 0.5,
            label_smoothing: 0.0,
            augment: Augment { crop_padding: 0, flip: true },
            ..Self::cifar()
        }
    }

    /// Settings common for batch-normalised networks on CIFAR-10 and CIFAR-100. A
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
        at_least(1, &[("epochs", self.epochs), ("batch", self.batch)])?;
        self.optimiser.check()?;
        let rate = self.learning_rate;
        require(rate > 0.0 && rate.is_finite(), "learning_rate", rate, "more than 0")?;
        let (warmup, epochs) = (self.warmup_epochs, self.epochs);
        let expected = format!("0 to less than the {epochs} epochs");
        let holds = (0.0..epochs as f64).contains(&warmup);
        require(holds, "warmup_epochs", warmup, expected)?;
        let decay = self.weight_decay;
        require(decay >= 0.0 && decay.is_finite(), "weight_decay", decay, "0 or more")?;
        let smoothing = self.label_smoothing;
        require((0.0..=1.0).contains(&smoothing), "label_smoothing", smoothing, "0 to 1")
    }

    /// Targets of the label's class and of every other class.
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
    /// Accuracy on the batches as they were trained on, each before its step, in percent.
    pub training_accuracy_percent: f64,
}

/// Loss and accuracy of each epoch of a training run.
#[derive(Clone, PartialEq)]
pub struct History(Vec<Epoch>);

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

/// A training run: a network, what it is trained on, and how far it came.
struct TrainingRun<'a> {
    network: &'a mut dyn Trainable,
    images: Samples<'a>,
    classes: usize,
    settings: &'a TrainSettings,
    /// Places of the images, shuffled once more every epoch.
    order: Vec<usize>,
    rng: Rng,
    history: Vec<Epoch>,
}

/// Everything that decides the final weights of a run, beside the network.
#[derive(Serialize)]
struct Identity {
    settings: TrainSettings,
    images: usize,
    /// CRC-32 of what the network sees of them and of their labels.
    images_checksum: u32,
    /// CRC-32 of which images they are, in whatever order.
    sorted_images_checksum: u32,
    /// CRC-32 of the layers before the first step, weights included.
    first_layers_checksum: u32,
    /// CRC-32 of the name of the layers' type, dropout included, of which no layer tells.
    layer_types_checksum: u32,
}

/// State that a run resumes from, beside its tensors.
#[derive(Serialize, Deserialize)]
struct State {
    order: Vec<usize>,
    /// Position in the stream of random numbers, in words.
    position: u64,
    history: Vec<Epoch>,
}

/// Trains any network; its checkpoint and its progress call it `name`.
pub(crate) fn train(
    network: &mut dyn Trainable,
    images: Samples<'_>,
    classes: usize,
    settings: &TrainSettings,
    name: &str,
    resume: Option<&Resume<'_>>,
) -> Result<History> {
    settings.check()?;
    settings.augment.check(images.shape())?;
    images.check_some()?;
    if settings.batch.min(images.len()) == 1 {
        let tensors = network.tensors(Values::Parameters)?;
        let normalised = tensors.iter().any(|tensor| tensor.name.ends_with(VARIANCE));
        require(!normalised, "batch", 1, "2 images or more, for batch normalisation")?;
    }
    let mut run = TrainingRun {
        network,
        images,
        classes,
        settings,
        order: (0..images.len()).collect(),
        rng: rng(settings.seed, Stream::Batches),
        history: Vec::new(),
    };
    let steps = settings.epochs.saturating_mul(run.batches());
    // Each of several ranks trains for itself.
    let ranks = Ranks::alone();
    let done = do_steps(&mut run, &format!("train {name}"), steps, resume, &ranks);
    done.map_err(|error| match error {
        Error::Data { file, place, found, expected } if place == "settings.epochs" => {
            let why = "only a constant schedule of the learning rate goes on with more epochs";
            Error::data(file, place, found, format!("{expected} ({why})"))
        }
        error => error,
    })?;
    Ok(History(run.history))
}

impl Steps for TrainingRun<'_> {
    type Identity = Identity;
    type State = State;

    /// Called before the first step, while the weights are the first.
    fn identity(&self) -> Result<Identity> {
        let mut settings = self.settings.clone();
        if settings.schedule == Schedule::Constant {
            settings.epochs = 0; // more of them begin like fewer
        }
        let mut types = Crc::new();
        types.update(self.network.types()?.as_bytes());
        Ok(Identity {
            settings,
            images: self.images.len(),
            images_checksum: self.images.checksum(),
            sorted_images_checksum: self.images.which_sorted(),
            first_layers_checksum: self.network.graph()?.checksum(),
            layer_types_checksum: types.sum(),
        })
    }

    fn state(&self) -> Result<(State, Vec<NamedTensor>)> {
        let state = State {
            order: self.order.clone(),
            position: self.rng.get_word_pos() as u64,
            history: self.history.clone(),
        };
        let mut tensors = Vec::new();
        for (prefix, kind) in self.kinds() {
            for tensor in self.network.tensors(kind)? {
                let name = format!("{prefix}/{}", tensor.name);
                tensors.push(NamedTensor { name, ..tensor });
            }
        }
        Ok((state, tensors))
    }

    fn restore(&mut self, state: State, tensors: Vec<NamedTensor>) -> Result<usize> {
        let mut sorted = state.order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.images.len()) {
            let expected = format!("the {} images in some order", self.images.len());
            let found = format!("{} indices", state.order.len());
            return Err(Error::parameter("order", found, expected));
        }
        if state.history.len() > self.settings.epochs {
            let found = format!("{} done", state.history.len());
            let expected = format!("at most the {} of this run", self.settings.epochs);
            return Err(Error::parameter("epochs", found, expected));
        }
        let mut tensors: HashMap<String, NamedTensor> =
            (tensors.into_iter()).map(|tensor| (tensor.name.clone(), tensor)).collect();
        let own = self.network.tensors(Values::Parameters)?;
        let mut found = Vec::new();
        for (prefix, kind) in self.kinds() {
            let of_kind = own.iter().filter_map(|own| {
                let tensor = tensors.remove(&format!("{prefix}/{}", own.name))?;
                Some(NamedTensor { name: own.name.clone(), ..tensor })
            });
            found.push((kind, of_kind.collect::<Vec<_>>()));
        }
        // Before the first step there are no moments; parameters come last, so that nothing is
        // changed where anything is missing.
        let first = if state.history.is_empty() { found.len() - 1 } else { 0 };
        for (kind, tensors) in &found[first..] {
            self.network.set_tensors(*kind, tensors)?;
        }
        self.rng.set_word_pos(state.position.into());
        (self.order, self.history) = (state.order, state.history);
        Ok(self.history.len() * self.batches())
    }

    fn step(&mut self, _: &Ranks<'_>, progress: &mut Progress) -> Result<Option<String>> {
        if self.done() {
            return Ok(None);
        }
        self.epoch(progress)?;
        let epoch = self.history.len();
        Ok(Some(format!("epoch {epoch}, {}", self.summary())))
    }

    fn done(&self) -> bool {
        self.history.len() >= self.settings.epochs
    }

    fn summary(&self) -> String {
        self.history.last().map_or_else(String::new, Epoch::to_string)
    }
}

impl TrainingRun<'_> {
    /// Number of batches per epoch. One image alone is no last batch, as its variance is 0.
    fn batches(&self) -> usize {
        let (images, batch) = (self.images.len(), self.settings.batch);
        let alone = images > batch && images % batch == 1;
        images.div_ceil(batch) - usize::from(alone)
    }

    /// Kinds of tensors that are kept, with the names of their groups.
    fn kinds(&self) -> Vec<(String, Values)> {
        let moments = 0..self.settings.optimiser.moments();
        let moments = moments.map(|i| (format!("moment{}", i + 1), Values::Moment(i)));
        moments.chain([("parameters".into(), Values::Parameters)]).collect()
    }

    /// Passes once over the images.
    fn epoch(&mut self, progress: &mut Progress) -> Result<()> {
        let (settings, images, classes) = (self.settings, self.images, self.classes);
        let (epoch, batches) = (self.history.len() + 1, self.batches());
        let steps = settings.epochs.saturating_mul(batches);
        let warmup = (settings.warmup_epochs * batches as f64).round() as usize;
        // A seed an epoch, so that the position of dropout need not be kept.
        let mut dropout = rng(settings.seed, Stream::Dropout);
        dropout.set_word_pos(2 * epoch as u128);
        self.network.seed(dropout.next_u64())?;
        self.order.shuffle(&mut self.rng);
        let [on, off] = settings.targets(classes);
        let (mut loss_sum, mut correct, mut seen) = (0.0, 0, 0);
        let started = Instant::now();
        for number in 0..batches {
            let last = number + 1 == batches;
            let start = number * settings.batch;
            let end = if last { self.order.len() } else { start + settings.batch };
            let batch = &self.order[start..end];
            let mut targets = vec![off; batch.len() * classes];
            for (row, &i) in targets.chunks_exact_mut(classes).zip(batch) {
                row[images.label(i)] = on;
            }
            let done = (epoch - 1) * batches + number;
            let share = settings.schedule.share(done, steps, warmup);
            let step = Step {
                optimiser: settings.optimiser,
                number: done + 1,
                learning_rate: settings.learning_rate * share,
                weight_decay: settings.weight_decay,
            };
            let pixels = images.augmented(batch, settings.augment, &mut self.rng);
            let (loss, logits) = self.network.step(pixels, targets, batch.len(), &step)?;
            if !loss.is_finite() {
                return Err(Error::Diverged { epoch, batch: number + 1, loss });
            }
            loss_sum += f64::from(loss) * batch.len() as f64;
            let rows = logits.chunks_exact(classes).zip(batch);
            let right = rows.filter(|(row, i)| predict(row) == images.label(**i));
            correct += right.count();
            seen += batch.len();
            progress.step(|| {
                let pace = seen as f64 / started.elapsed().as_secs_f64();
                let so_far = Epoch::new(epoch, loss_sum, correct, seen);
                let epochs = settings.epochs;
                format!("epoch {epoch}/{epochs}, {so_far}, {pace:.0} images/s")
            });
        }
        (self.history).push(Epoch::new(epoch, loss_sum, correct, seen));
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
