//! The whole pipeline on the embedded pictures of clothes: the main job of the command line.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::candidates::{Measured, measure};
use super::kinds::{NeuronKind, NeuronsSettings, rung};
use super::neurons::{NeuronLatencyRow, NeuronRow};
use super::rows::Report;
use super::steps::{StepCache, changed, complete};
use crate::ann::{Ann, Classifier, FashionCnn, TrainSettings};
use crate::base::{Output, Result, Resume, each_once, show};
use crate::data::{Split, fashion as embedded};
use crate::evolve::Gene;
use crate::simulate::Spikes;

/// Settings of [`fashion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FashionSettings {
    /// Seeds, one whole experiment each: a seed divides the images, draws the initial weights,
    /// orders the batches and drives the evolution.
    pub seeds: Vec<u64>,
    /// Share of the training images to hold out.
    pub held_out: f64,
    /// Settings of the ANN's training; its seed is replaced by each of `seeds`.
    pub training: TrainSettings,
    /// Settings of the conversions and evolutions; their seeds are replaced by each of `seeds`. The
    /// first kind of neurons is the one that others are compared with.
    pub neurons: NeuronsSettings,
}

show!(FashionSettings as fields);

impl Default for FashionSettings {
    fn default() -> Self {
        let usual = NeuronsSettings::default();
        let scale = (Gene::Scale, [0.5, 2.0]);
        let kind = |name: &str, spikes, from, timesteps, genome| NeuronKind {
            name: name.into(),
            spikes,
            from,
            timesteps,
            genome,
        };
        Self {
            seeds: vec![0],
            held_out: 0.2,
            training: TrainSettings::fashion(),
            neurons: NeuronsSettings {
                kinds: vec![
                    kind("plain", Spikes::PLAIN, 8, 16, vec![scale]),
                    kind("signed", Spikes::SIGNED, 3, 5, vec![scale, (Gene::Initial, [-0.5, 1.5])]),
                ],
                evolutions: vec![rung(1000, 10, 0.08), rung(3000, 2, 0.04)],
                ..usual
            },
        }
    }
}

/// Runs the whole pipeline on the embedded pictures of clothes: trains, converts to each kind of
/// neurons, evolves, and measures on the test images.
///
/// The files are `latency.csv`, `neurons.csv` with all networks, `accuracy.csv`, `convergence.csv`,
/// `settings.json`, `timing.csv` and a chart of the first seed. The result of every step is kept in
/// `folder/.checkpoints`: after an interruption at any moment, the same call resumes from there.
/// When another thread sets `stop`, it ends after the current step, epoch or generation.
///
/// # Errors
/// Returns an error if a setting is out of range or the folder cannot be written to;
/// [`Error::Stopped`](crate::Error::Stopped) after `stop`.
pub fn fashion(
    settings: &FashionSettings,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Report<NeuronLatencyRow>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let data = embedded()?;
    let (mut rows, mut neurons) = (Vec::new(), Vec::new());
    let (mut accuracy, mut convergence, mut timing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut images, mut weights) = (Vec::new(), Vec::new());
    for &seed in &settings.seeds {
        let steps = StepCache::new("fashion", &folder, stop);
        let mut steps = steps.part(&format!("seed {seed}"));
        let parts = data.hold_out(settings.held_out, seed)?;
        let ann = settings.trained(seed, &parts, &mut steps)?;
        let kinds = changed(&settings.neurons, |neurons| neurons.seeds = vec![seed]);
        let measured = measure(&ann, &parts, &kinds, &mut steps)?;
        let Measured { networks, targets, .. } = &measured;
        let [two, one, _] = targets;
        for target in [two, one] {
            rows.extend(NeuronLatencyRow::of(networks, target, |_| 0)?);
        }
        neurons.extend(NeuronRow::of(&measured)?);
        accuracy.extend(measured.accuracy());
        if seed == settings.seeds[0] {
            let chart = measured.chart("Clothes, test images")?;
            chart.save(output.path("accuracy.svg"))?;
        }
        let [held_out, test, weight] = measured.checksums;
        images.extend([held_out, test]);
        weights.push(weight);
        convergence.extend(measured.convergence);
        timing.extend(steps.timing);
    }
    output.csv("latency.csv", &rows)?;
    output.csv("neurons.csv", neurons)?;
    output.csv("accuracy.csv", accuracy)?;
    output.csv("convergence.csv", convergence)?;
    output.csv("timing.csv", timing)?;
    let names = ("fashion", FashionCnn::NAME);
    complete(output, rows, names, [&images, &weights], ("settings.json", settings))
}

impl FashionSettings {
    /// Returns an error for settings out of range, before anything is trained.
    fn check(&self) -> Result<()> {
        each_once("seeds", &self.seeds)?;
        self.training.check()?;
        self.neurons.check()
    }

    /// The network trained with one seed.
    fn trained(
        &self,
        seed: u64,
        parts: &Split<<FashionCnn as Classifier>::Task>,
        steps: &mut StepCache<'_>,
    ) -> Result<Ann<FashionCnn>> {
        let mut ann = Ann::new(seed)?;
        let training = changed(&self.training, |training| training.seed = seed);
        let resume = Resume::at(steps.path("train", "checkpoint")).stopped_by(steps.stop);
        resume.train(&mut ann, &parts.training, &training)?;
        Ok(ann)
    }
}
