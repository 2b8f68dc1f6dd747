//! Training of any network: settings, epochs and the loop over them.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::time::Instant;

use rand::Rng as _;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::ann::checkpoint::{Checkpoint, Run};
use crate::ann::optimiser::{Optimiser, Schedule, Step};
use crate::ann::trainable::Trainable;
use crate::base::error::{Error, Result};
use crate::base::lock::Lock;
use crate::base::progress::Progress;
use crate::base::random::{Rng, Stream, rng};
use crate::base::table::{Table, show};
use crate::data::augment::Augment;
use crate::data::images::Samples;
use crate::metrics::predict;

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

#[cfg(test)]
pub(crate) mod tests;
