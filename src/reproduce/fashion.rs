//! The whole pipeline on the embedded pictures of clothes: the main job of the command line.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::candidates::{EVOLVED, Measured, Tested, measure};
use super::kinds::{NeuronKind, NeuronsSettings, rung};
use super::neurons::NeuronRow;
use super::rows::{Report, Row};
use super::steps::{StepCache, changed, complete};
use crate::ann::{Ann, Classifier, FashionCnn, Network, TrainSettings};
use crate::base::{Output, Result, Resume, Table, each_once, latency_text, rounded, show};
use crate::data::{Split, fashion as embedded};
use crate::evolve::Gene;
use crate::metrics::{Improvement, Target};
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

/// Row of `latency.csv`: one network at one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FashionRow {
    /// Seed of the experiment.
    pub seed: u64,
    /// Kind of neurons.
    pub neuron: String,
    /// Network of this kind: the strongest percentile conversion, the strongest conversion of any
    /// sort, or evolved.
    pub network: String,
    /// Accuracy of the ANN on the test images, in percent.
    pub ann_accuracy_percent: f64,
    /// Margin of the target below that accuracy, in percentage points.
    pub margin_points: f64,
    /// Latency on the test images, in timesteps; empty if the target is never reached.
    pub latency_timesteps: Option<usize>,
    /// Improvement of the latency on the percentile conversion of plain neurons, in percent; empty
    /// if either latency is, and for that conversion.
    pub improvement_percent: Option<f64>,
    /// Lower bound of the improvement at 95 % confidence, over test images.
    pub improvement_low_percent: Option<f64>,
    /// Upper bound of the improvement at 95 % confidence.
    pub improvement_high_percent: Option<f64>,
    /// The same improvement of an evolved network on the conversion that it was evolved from, the
    /// strongest of the same neurons.
    pub evolution_percent: Option<f64>,
    /// Lower bound of that improvement at 95 % confidence.
    pub evolution_low_percent: Option<f64>,
    /// Upper bound of that improvement at 95 % confidence.
    pub evolution_high_percent: Option<f64>,
    /// How the network was converted.
    pub conversion: String,
}

/// An improvement and its interval, as a row has them.
type Won = [Option<f64>; 3];

impl FashionRow {
    /// Row of a network at the target of one margin, where `first` is the network that all are
    /// compared with.
    fn new<N: Network>(
        seed: u64,
        network: &Tested<N>,
        target: &Target,
        first: Option<&Tested<N>>,
        start: Option<&Tested<N>>,
    ) -> Result<Self> {
        let Tested { chosen, run, .. } = network;
        let won = |before: Option<&Tested<N>>| -> Result<Won> {
            let Some(before) = before else {
                return Ok([None; 3]);
            };
            let won = target.improvement_of(&before.run.hits, &run.hits, seed)?.rounded();
            let Improvement { percent, interval: [low, high], .. } = won;
            Ok([percent, Some(low), Some(high)])
        };
        let ([improvement, low, high], evolution) = (won(first)?, won(start)?);
        Ok(Self {
            seed,
            neuron: chosen.kind.name.clone(),
            network: chosen.network.into(),
            ann_accuracy_percent: rounded(target.ann().percent()),
            margin_points: target.margin(),
            latency_timesteps: run.curve.latency(target),
            improvement_percent: improvement,
            improvement_low_percent: low,
            improvement_high_percent: high,
            evolution_percent: evolution[0],
            evolution_low_percent: evolution[1],
            evolution_high_percent: evolution[2],
            conversion: chosen.conversion.clone(),
        })
    }
}

impl Row for FashionRow {
    fn table(rows: &[Self]) -> Table {
        let title = "Latency on test images (timesteps), and how much lower it is (95 % interval)";
        let header = [
            "seed",
            "target",
            "neurons",
            "network",
            "latency",
            "than plain percentile",
            "than unevolved",
        ];
        let won = |won: Won| match won {
            [percent, Some(low), Some(high)] => {
                let percent = percent.map_or("?".into(), |percent| format!("{percent:.0}"));
                format!("{percent} % ({low:.0} to {high:.0})")
            }
            _ => String::new(),
        };
        let row = |row: &Self| {
            let improvement = [
                row.improvement_percent,
                row.improvement_low_percent,
                row.improvement_high_percent,
            ];
            let evolution =
                [row.evolution_percent, row.evolution_low_percent, row.evolution_high_percent];
            vec![
                row.seed.to_string(),
                format!("ANN ({:.1} %) - {}", row.ann_accuracy_percent, row.margin_points),
                row.neuron.clone(),
                row.network.clone(),
                latency_text(row.latency_timesteps),
                won(improvement),
                won(evolution),
            ]
        };
        Table::of(title, header, rows.iter().map(row))
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
) -> Result<Report<FashionRow>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let data = embedded()?;
    let (mut rows, mut neurons) = (Vec::new(), Vec::new());
    let (mut accuracy, mut convergence, mut timing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut images, mut weights) = (Vec::new(), Vec::new());
    for &seed in &settings.seeds {
        let steps = StepCache::new("fashion", &folder, &(), stop)?;
        let mut steps = steps.part(&format!("seed {seed}"));
        let parts = data.hold_out(settings.held_out, seed)?;
        let ann = settings.trained(seed, &parts, &mut steps)?;
        let kinds = changed(&settings.neurons, |neurons| neurons.seeds = vec![seed]);
        let measured = measure(&ann, &parts, &kinds, &mut steps)?;
        let Measured { networks, targets, .. } = &measured;
        let [two, one, _] = targets;
        for target in [two, one] {
            for (i, network) in networks.iter().enumerate() {
                let first = networks.first().filter(|_| i > 0);
                let start = network.chosen.start.map(|start| &networks[start]);
                let started = networks.iter().any(|network| network.chosen.start == Some(i));
                if started || ["percentile", EVOLVED].contains(&network.chosen.network) {
                    rows.push(FashionRow::new(seed, network, target, first, start)?);
                }
            }
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
