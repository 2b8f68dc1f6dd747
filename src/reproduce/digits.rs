//! The whole pipeline on the embedded digits.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::rows::{LatencyRow, Report};
use super::steps::{NetworkRows, TimingRow, changed, check_margin, complete, evolution_charts};
use crate::ann::{Ann, Classifier, DigitsCnn, Model, TrainSettings};
use crate::base::{Output, Result, each_once, show};
use crate::convert::{Balance, convert};
use crate::data::{Shares, digits as embedded};
use crate::evolve::{Evolution, EvolveSettings, Objective, evolve};
use crate::metrics::{AccuracyRow, Target, accuracy_chart};
use crate::simulate::{Simulation, Snn, SpikesRow, simulate};

/// Settings of [`digits`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DigitsSettings {
    /// Seeds, one whole experiment each: a seed divides the images, draws the initial weights,
    /// orders the batches and drives the evolution.
    pub seeds: Vec<u64>,
    /// Shares of the held-out and the test images.
    pub shares: Shares,
    /// Settings of the ANN's training; its seed is replaced by each of `seeds`.
    pub training: TrainSettings,
    /// Settings of the thresholds' evolution; its seed is replaced by each of `seeds`.
    pub evolution: EvolveSettings,
    /// Margins of the targets below the ANN's accuracy, in percentage points. Each has its own row
    /// of the result, its own evolution, and as its baseline the conversion that is best for it on
    /// the held-out images. The charts show the first.
    pub margins_percent: Vec<f64>,
}

show!(DigitsSettings as fields);

impl Default for DigitsSettings {
    fn default() -> Self {
        Self {
            seeds: vec![0],
            shares: Shares::default(),
            training: TrainSettings::digits(),
            evolution: EvolveSettings {
                objective: Objective::MeanLatency,
                ..EvolveSettings::default()
            },
            margins_percent: vec![1.0, 2.0, 5.0],
        }
    }
}

impl DigitsSettings {
    /// Returns an error for settings out of range, before anything is trained.
    fn check(&self) -> Result<()> {
        each_once("seeds", &self.seeds)?;
        each_once("margins_percent", &self.margins_percent)?;
        let averaged = self.evolution.objective == Objective::MeanLatency;
        for &margin in &self.margins_percent {
            check_margin("margins_percent", margin, averaged)?;
        }
        self.training.check()?;
        self.evolution.check()
    }
}

/// Results of one seed and one margin.
struct MarginRun {
    margin_percent: f64,
    /// Target on the test images.
    test_target: Target,
    /// Conversion that is best on the held-out images, from which evolution starts.
    balance: Balance,
    baseline: Snn<DigitsCnn>,
    evolution: Evolution<DigitsCnn>,
    /// Run of the baseline on the test images.
    before: Simulation,
    /// Run of the evolved network on the test images.
    after: Simulation,
}

/// Results of one seed.
struct SeedRun {
    /// CRC-32 of the trained network.
    weights_checksum: u32,
    /// Runs of commonly used conversions on the test images.
    usual: Vec<(Balance, Simulation)>,
    margins: Vec<MarginRun>,
}

/// Runs the whole pipeline on the embedded digits: trains, converts, simulates, evolves, reports.
///
/// Writes `latency.csv`, `accuracy.csv`, `convergence.csv`, `thresholds.csv`, `spikes.csv`,
/// `settings.json`, `timing.csv` and charts of the first seed into `folder`. Files of an earlier
/// run are replaced only once all new ones are complete. On one machine, the same settings
/// give the same bytes, except in `timing.csv`.
///
/// # Errors
/// Returns an error if a setting is out of range or the folder cannot be written to; nothing in
/// the folder is changed then.
pub fn digits(settings: &DigitsSettings, folder: impl Into<PathBuf>) -> Result<Report<LatencyRow>> {
    settings.check()?;
    let output = Output::new(folder)?;
    let (mut timing, mut latency, mut spikes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rows, mut weights) = (NetworkRows::default(), Vec::new());
    for (number, &seed) in settings.seeds.iter().enumerate() {
        let run = run(settings, seed, &mut timing)?;
        weights.push(run.weights_checksum);
        for (name, simulation) in run.simulations() {
            (rows.accuracy).extend(AccuracyRow::of(seed, &name, &simulation.curve));
            spikes.extend(SpikesRow::of(seed, &name, simulation));
        }
        for run in &run.margins {
            let (target, before, after) = (&run.test_target, &run.before, &run.after);
            latency.push(LatencyRow::new(seed, target, run.balance, before, after)?);
            let margin = (0.0, run.margin_percent);
            rows.add_evolution(seed, margin, &run.baseline, &run.evolution);
        }
        if number == 0 {
            run.charts(seed, &output)?;
        }
    }
    output.csv("latency.csv", &latency)?;
    output.csv("spikes.csv", spikes)?;
    output.csv("timing.csv", timing)?;
    rows.write(&output)?;
    let names = ("digits", DigitsCnn::NAME);
    let images = [embedded()?.checksum()];
    complete(output, latency, names, [&images, &weights], ("settings.json", settings))
}

impl SeedRun {
    /// Runs of all networks on the test images, with the networks' names.
    fn simulations(&self) -> impl Iterator<Item = (String, &Simulation)> {
        let usual = self.usual.iter();
        let usual = usual.map(|(balance, run)| (balance.to_string(), run));
        usual.chain(self.margins.iter().flat_map(|run| {
            let (balance, margin) = (run.balance, run.margin_percent);
            let baseline = format!("{balance} (baseline, margin {margin})");
            let evolved = format!("evolved (margin {margin})");
            [(baseline, &run.before), (evolved, &run.after)]
        }))
    }

    /// Writes the charts of the first margin.
    fn charts(&self, seed: u64, output: &Output) -> Result<()> {
        let first = &self.margins[0];
        let title = |text: &str| {
            let margin = first.margin_percent;
            format!("{text}, digits, seed {seed}, target {margin} % below the ANN")
        };
        let mut curves: Vec<_> = (self.usual.iter())
            .filter(|(balance, _)| *balance != first.balance)
            .map(|(balance, run)| (balance.to_string(), &run.curve))
            .collect();
        curves.push((format!("{} (baseline)", first.balance), &first.before.curve));
        curves.push(("evolved".into(), &first.after.curve));
        let target = Some(&first.test_target);
        let chart = accuracy_chart(&title("Accuracy on test images"), curves, target)?;
        chart.save(output.path("accuracy.svg"))?;
        let titles = [&*title("Evolution"), &title("Thresholds")];
        evolution_charts(output, "", titles, &first.baseline, &first.evolution)
    }
}

/// Runs the pipeline with one seed.
fn run(settings: &DigitsSettings, seed: u64, timing: &mut Vec<TimingRow>) -> Result<SeedRun> {
    let mut clock = Instant::now();
    let mut done = |step| {
        let seconds = clock.elapsed().as_secs_f64();
        timing.push(TimingRow::new(format!("{step}, seed {seed}"), seconds));
        clock = Instant::now();
    };
    let timesteps = settings.evolution.timesteps;
    let digits = embedded()?.split(settings.shares, seed)?;
    let mut ann = Ann::<DigitsCnn>::new(seed)?;
    let training = changed(&settings.training, |training| training.seed = seed);
    ann.train(&digits.training, &training)?;
    done("train");

    let conversion = convert(&ann, &digits.training)?;
    done("convert");

    let evolution = changed(&settings.evolution, |evolution| evolution.seed = seed);
    let mut evolved = Vec::new();
    for &margin in &settings.margins_percent {
        let target = ann.target(&digits.held_out, margin)?;
        let (balance, baseline) = conversion.best(&digits.held_out, &target, timesteps)?;
        let evolution = evolve(&baseline, &digits.held_out, &target, &evolution)?;
        evolved.push((margin, balance, baseline, evolution));
    }
    done("evolve");

    let test = |snn: &Snn<DigitsCnn>| simulate(snn, &digits.test, timesteps);
    let mut margins = Vec::new();
    for (margin_percent, balance, baseline, evolution) in evolved {
        margins.push(MarginRun {
            margin_percent,
            test_target: ann.target(&digits.test, margin_percent)?,
            balance,
            before: test(&baseline)?,
            after: test(&evolution.snn)?,
            baseline,
            evolution,
        });
    }
    let mut usual = Vec::new();
    for balance in [Balance::Max, Balance::Percentile(99.9)] {
        usual.push((balance, test(&conversion.balance(balance)?)?));
    }
    done("test");
    Ok(SeedRun { weights_checksum: ann.checksum()?, usual, margins })
}
