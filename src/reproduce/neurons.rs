//! Neurons for few timesteps: each kind of spikes, converted in the usual ways and evolved.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::candidates::{EVOLVED, Measured, PERCENTILE, Tested, measure};
use super::changes::NeuronChangeRow;
use super::kinds::NeuronsSettings;
use super::rows::{Report, Row};
use super::steps::{StepCache, complete};
use crate::ann::{Classifier, Model, TaskOf};
use crate::base::{Output, Result, Table, latency_text, rounded};
use crate::data::Split;
use crate::metrics::{Improvement, Target};
use crate::simulate::Simulation;
use crate::through_time::{Differentiable, attack};

/// Row of `neurons.csv`: one network on the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronRow {
    /// Kind of neurons.
    pub neuron: String,
    /// Network of this kind: percentile, factor, least_squares, calibrated or evolved.
    pub network: String,
    /// Seed of the evolution; of other networks the first of all seeds.
    pub seed: u64,
    /// Accuracy of the ANN, in percent.
    pub ann_accuracy_percent: f64,
    /// Accuracy after timestep 1, in percent.
    pub accuracy_t1_percent: Option<f64>,
    /// Accuracy after timestep 2, in percent.
    pub accuracy_t2_percent: Option<f64>,
    /// Accuracy after timestep 3, in percent.
    pub accuracy_t3_percent: Option<f64>,
    /// Accuracy after timestep 4, in percent.
    pub accuracy_t4_percent: Option<f64>,
    /// Accuracy after timestep 6, in percent.
    pub accuracy_t6_percent: Option<f64>,
    /// Accuracy after timestep 8, in percent.
    pub accuracy_t8_percent: Option<f64>,
    /// Accuracy after timestep 16, in percent.
    pub accuracy_t16_percent: Option<f64>,
    /// Latency to 2 points below the ANN, in timesteps; empty if that is not reached to stay.
    pub latency_margin_2_timesteps: Option<usize>,
    /// Latency to 1 point below the ANN.
    pub latency_margin_1_timesteps: Option<usize>,
    /// Latency to 0.5 points below the ANN.
    pub latency_margin_0_5_timesteps: Option<usize>,
    /// Mean timesteps per image with early exit, if the accuracy is then at most 1 point below the
    /// ANN's; the gap was chosen on held-out images for half a point less.
    pub early_exit_mean_timesteps: Option<f64>,
    /// Number of spikes per image up to the latency at 1 point, or in the whole run without one.
    pub spikes_per_image: f64,
    /// Energy up to the same timestep divided by the ANN's.
    pub energy_ratio: f64,
    /// How the conversion was chosen among others of its sort on held-out images.
    pub conversion: String,
    /// Timestep of the gain.
    pub gain_timestep: Option<usize>,
    /// Accuracy won in this timestep by evolution, in percentage points over the strongest
    /// conversion of the same kind; empty for other networks.
    pub gain_points: Option<f64>,
    /// Lower bound of the gain at 95 % confidence, over test images.
    pub gain_low_points: Option<f64>,
    /// Upper bound of the gain at 95 % confidence.
    pub gain_high_points: Option<f64>,
}

impl NeuronRow {
    /// Rows of all networks that [`measure`] found.
    pub(super) fn of<N: Classifier>(measured: &Measured<N>) -> Result<Vec<Self>> {
        let Measured { networks, targets, .. } = measured;
        networks.iter().map(|network| Self::new(network, networks, targets)).collect()
    }

    /// Row of one of the networks.
    fn new<N: Classifier>(
        network: &Tested<N>,
        all: &[Tested<N>],
        targets: &[Target; 3],
    ) -> Result<Self> {
        let Tested { chosen, run, exit, .. } = network;
        let after = |t| run.curve.after(t).map(|accuracy| rounded(accuracy.percent()));
        let [two, one, half] = targets.each_ref().map(|target| run.curve.latency(target));
        let spent = one.unwrap_or(run.curve.timesteps());
        let spikes = run.layers.iter().flat_map(|layer| &layer.spikes[..spent]).sum::<u64>();
        let exit = exit.filter(|exit| targets[1].is_reached(exit.accuracy_percent));
        let from = chosen.kind.from;
        let gain = chosen.start.map(|start| gain(&all[start].run, run, from));
        Ok(Self {
            neuron: chosen.kind.name.clone(),
            network: chosen.network.into(),
            seed: chosen.seed,
            ann_accuracy_percent: rounded(targets[0].ann().percent()),
            accuracy_t1_percent: after(1),
            accuracy_t2_percent: after(2),
            accuracy_t3_percent: after(3),
            accuracy_t4_percent: after(4),
            accuracy_t6_percent: after(6),
            accuracy_t8_percent: after(8),
            accuracy_t16_percent: after(16),
            latency_margin_2_timesteps: two,
            latency_margin_1_timesteps: one,
            latency_margin_0_5_timesteps: half,
            early_exit_mean_timesteps: exit.map(|exit| rounded(exit.mean_timesteps)),
            spikes_per_image: rounded(spikes as f64 / run.curve.images() as f64),
            energy_ratio: rounded(chosen.snn.energy(run, spent)?.ratio()),
            conversion: chosen.conversion.clone(),
            gain_timestep: gain.map(|_| from),
            gain_points: gain.map(|[gain, _, _]| rounded(gain)),
            gain_low_points: gain.map(|[_, low, _]| rounded(low)),
            gain_high_points: gain.map(|[_, _, high]| rounded(high)),
        })
    }
}

/// Accuracy won after a timestep, in percentage points, and its 95 % interval over images: the mean
/// difference of hits on the same images, plus and minus 1.96 standard errors.
fn gain(before: &Simulation, after: &Simulation, timestep: usize) -> [f64; 3] {
    let difference = |(before, after): (&[bool], &[bool])| {
        f64::from(u8::from(after[timestep - 1])) - f64::from(u8::from(before[timestep - 1]))
    };
    let differences = || before.hits.rows().zip(after.hits.rows()).map(difference);
    let images = before.hits.images() as f64;
    let mean = differences().sum::<f64>() / images;
    let squares: f64 = differences().map(|d| (d - mean).powi(2)).sum();
    let error = 1.96 * squares.sqrt() / images;
    [mean, mean - error, mean + error].map(|share| 100.0 * share)
}

impl Row for NeuronRow {
    fn table(rows: &[Self]) -> Table {
        let title = "Accuracy on test images (%) and latency (timesteps)";
        let header = [
            "neurons",
            "network",
            "seed",
            "T = 1",
            "2",
            "3",
            "4",
            "6",
            "8",
            "16",
            "ANN - 2",
            "- 1",
            "- 0.5",
            "early exit",
            "energy",
            "gain (points)",
        ];
        let number =
            |x: Option<f64>, digits: usize| x.map_or("".into(), |x| format!("{x:.digits$}"));
        let row = |row: &Self| {
            let accuracies = [
                row.accuracy_t1_percent,
                row.accuracy_t2_percent,
                row.accuracy_t3_percent,
                row.accuracy_t4_percent,
                row.accuracy_t6_percent,
                row.accuracy_t8_percent,
                row.accuracy_t16_percent,
            ];
            let latencies = [
                row.latency_margin_2_timesteps,
                row.latency_margin_1_timesteps,
                row.latency_margin_0_5_timesteps,
            ];
            let gain = match (row.gain_points, row.gain_low_points, row.gain_high_points) {
                (Some(gain), Some(low), Some(high)) => format!("{gain:.1} ({low:.1} to {high:.1})"),
                _ => String::new(),
            };
            let first = [row.neuron.clone(), row.network.clone(), row.seed.to_string()];
            let last = [
                number(row.early_exit_mean_timesteps, 2),
                format!("{:.2}", row.energy_ratio),
                gain,
            ];
            let accuracies = accuracies.map(|accuracy| number(accuracy, 1));
            first
                .into_iter()
                .chain(accuracies)
                .chain(latencies.map(latency_text))
                .chain(last)
                .collect()
        };
        Table::of(title, header, rows.iter().map(row))
    }
}

/// Row of `neurons-latency.csv`, and of `latency.csv` of the main job: one network at one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronLatencyRow {
    /// Seed of the experiment.
    pub seed: u64,
    /// Kind of neurons.
    pub neuron: String,
    /// Network of this kind: the strongest percentile conversion, the strongest conversion of any
    /// sort, or evolved; where nothing is evolved, the strongest conversion of each sort.
    pub network: String,
    /// Accuracy of the ANN on the test images, in percent.
    pub ann_accuracy_percent: f64,
    /// Margin of the target below that accuracy, in percentage points.
    pub margin_points: f64,
    /// Latency on the test images, in timesteps; empty if the target is never reached.
    pub latency_timesteps: Option<usize>,
    /// Improvement of the latency on the percentile conversion of the same kind ([`fashion`]: of plain
    /// neurons), in percent; empty if either latency is, and for that conversion.
    ///
    /// [`fashion`]: crate::reproduce::fashion()
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

impl NeuronLatencyRow {
    /// Rows, at one target, of percentile conversions, the strongest conversions and evolved networks,
    /// or of all conversions where nothing is evolved, each compared with the network in the place that
    /// `with` gives for its own.
    pub(super) fn of<N: Classifier>(
        networks: &[Tested<N>],
        target: &Target,
        with: impl Fn(usize) -> usize,
    ) -> Result<Vec<Self>> {
        let started = |place| networks.iter().any(|network| network.chosen.start == Some(place));
        let none_evolved = networks.iter().all(|network| network.chosen.network != EVOLVED);
        let shown = networks.iter().enumerate().filter(|(place, network)| {
            let name = &network.chosen.network;
            none_evolved || started(*place) || [PERCENTILE, EVOLVED].contains(name)
        });
        let row = |(place, network): (usize, &Tested<N>)| {
            let first = Some(with(place)).filter(|with| *with != place).map(|with| &networks[with]);
            let start = network.chosen.start.map(|start| &networks[start]);
            Self::new(network, target, first, start)
        };
        shown.map(row).collect()
    }

    /// Row of a network at the target of one margin, where `first` is the network that it is compared
    /// with.
    fn new<N: Classifier>(
        network: &Tested<N>,
        target: &Target,
        first: Option<&Tested<N>>,
        start: Option<&Tested<N>>,
    ) -> Result<Self> {
        let Tested { chosen, run, .. } = network;
        let seed = chosen.seed;
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

impl Row for NeuronLatencyRow {
    fn table(rows: &[Self]) -> Table {
        let title = "Latency on test images (timesteps), and how much lower it is (95 % interval)";
        // A percentile conversion that is compared itself is compared with that of the first kind.
        let compared =
            |row: &Self| row.network == PERCENTILE && row.improvement_low_percent.is_some();
        let percentile = match rows.first().filter(|_| rows.iter().any(compared)) {
            Some(first) => format!("than {} percentile", first.neuron),
            None => "than percentile".into(),
        };
        let header =
            ["seed", "target", "neurons", "network", "latency", &percentile, "than unevolved"];
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

/// Compares kinds of neurons for few timesteps, each converted by percentiles per channel, with the
/// best constant factor, by least squares per channel, calibrated, and evolved from the strongest of
/// these, with no weight retrained. An evolved network that errs no less on held-out images is not
/// kept: its row is then that of the conversion, and says so.
///
/// Everything is chosen on held-out images; each network sees the test images once. With an attack in
/// the settings, both are attacked through the ANN. The files are `neurons.csv`, `neurons-latency.csv`
/// with the latency won over percentiles and by evolution at each target, `neurons-changes.csv` with
/// what evolution changed in each layer, where it found better networks, `neurons-top-5.csv` for tasks
/// of 100 classes or more, and the curves, generations, chart and settings as `neurons-*`. The result
/// of every step is kept in `folder/.checkpoints`: after an interruption at any moment, the same call
/// resumes from there. When another thread sets `stop`, it ends after the current step or generation.
///
/// # Errors
/// Returns an error if a setting is out of range or the folder cannot be written to;
/// [`Error::Stopped`](crate::Error::Stopped) after `stop`.
pub fn neurons<M: Model + Differentiable<TaskOf<M>>>(
    ann: &M,
    parts: &Split<TaskOf<M>>,
    settings: &NeuronsSettings,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Report<NeuronRow>> {
    settings.check()?;
    for evolution in &settings.evolutions {
        evolution.batch_of(parts.held_out.len())?;
    }
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let mut steps = StepCache::new("reproduce neurons", &folder, stop);
    let attacked;
    let parts = match settings.attack {
        None => parts,
        Some(by) => {
            attacked = Split {
                training: parts.training.clone(),
                held_out: attack(ann, &parts.held_out, by)?,
                test: attack(ann, &parts.test.take(settings.test_images), by)?,
            };
            &attacked
        }
    };
    let measured = measure(ann, parts, settings, &mut steps)?;
    let networks = &measured.networks;
    // Each kind begins with its percentile conversion.
    let percentile = |place: usize| {
        let first = (0..=place).rev().find(|&at| networks[at].chosen.network == PERCENTILE);
        first.unwrap_or(place)
    };
    let latencies = measured.targets.iter();
    let latencies = latencies.map(|target| NeuronLatencyRow::of(networks, target, percentile));
    let latencies = latencies.collect::<Result<Vec<_>>>()?.concat();
    let rows = NeuronRow::of(&measured)?;
    let changes = NeuronChangeRow::of(&measured, &parts.held_out, &mut steps)?;
    let title = settings.attack.map_or("Test images".into(), |by| format!("Test images, {by}"));
    let chart = measured.chart(&title)?;
    chart.save(output.path("neurons-accuracy.svg"))?;
    output.csv("neurons.csv", &rows)?;
    output.csv("neurons-latency.csv", latencies)?;
    output.csv("neurons-accuracy.csv", measured.accuracy())?;
    let top_5 = measured.top_5()?;
    if !top_5.is_empty() {
        output.csv("neurons-top-5.csv", top_5)?;
    }
    if !settings.evolutions.is_empty() {
        output.csv("neurons-convergence.csv", &measured.convergence)?;
    }
    if !changes.is_empty() {
        output.csv("neurons-changes.csv", changes)?;
    }
    output.csv("neurons-timing.csv", &steps.timing)?;
    complete(
        output,
        rows,
        ("neurons", M::Network::NAME),
        [&measured.checksums[..2], &measured.checksums[2..]],
        ("neurons-settings.json", settings),
    )
}
