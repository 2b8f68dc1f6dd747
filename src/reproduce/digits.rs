//! The whole way on the embedded digits.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ann::layers::checksum;
use crate::ann::model::Ann;
use crate::ann::networks::{DigitsCnn, Network};
use crate::ann::train::TrainSettings;
use crate::base::check::not_empty;
use crate::base::error::Result;
use crate::base::files::Output;
use crate::base::table::show;
use crate::convert::{Balance, convert};
use crate::data::digits::digits as embedded;
use crate::data::images::Shares;
use crate::evolve::fitness::Objective;
use crate::evolve::generation::ConvergenceRow;
use crate::evolve::run::{Evolution, evolve};
use crate::evolve::settings::EvolveSettings;
use crate::evolve::thresholds::ThresholdRow;
use crate::evolve::thresholds::thresholds_chart;
use crate::metrics::AccuracyRow;
use crate::metrics::Target;
use crate::metrics::accuracy_chart;
use crate::reproduce::rows::LatencyRow;
use crate::reproduce::rows::Report;
use crate::reproduce::steps::Provenance;
use crate::reproduce::steps::TimingRow;
use crate::reproduce::steps::check_margin;
use crate::simulate::network::Snn;
use crate::simulate::run::simulate;
use crate::simulate::simulator::Simulation;
use crate::simulate::simulator::SpikesRow;

/// Settings of [`digits`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DigitsSettings {
    /// One whole experiment for each: the seed divides the images, draws the first weights, orders
    /// the batches and drives the evolution.
    pub seeds: Vec<u64>,
    /// Shares of the held-out and the test part.
    pub shares: Shares,
    /// Training of the ANN; its seed is replaced by each of `seeds`.
    pub training: TrainSettings,
    /// Evolution of the thresholds; its seed is replaced by each of `seeds`.
    pub evolution: EvolveSettings,
    /// How far below the ANN's accuracy the targets lie, in percentage points; a row of the result
    /// each, with the conversion that is best for it on the held-out images as its baseline and an
    /// evolution of its own. The charts show the first.
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
    /// Refuses settings out of range before anything is trained.
    fn check(&self) -> Result<()> {
        not_empty("seeds", &self.seeds)?;
        not_empty("margins_percent", &self.margins_percent)?;
        let averaged = self.evolution.objective == Objective::MeanLatency;
        for &margin in &self.margins_percent {
            check_margin("margins_percent", margin, averaged)?;
        }
        self.training.check()?;
        self.evolution.check()
    }
}

/// What one seed gave for one margin.
struct Run {
    margin_percent: f64,
    /// On the test images.
    target: Target,
    /// The best on the held-out images; evolution starts from it.
    balance: Balance,
    baseline: Snn<DigitsCnn>,
    evolution: Evolution<DigitsCnn>,
    /// On the test images.
    before: Simulation,
    after: Simulation,
}

/// What one seed gave.
struct Seed {
    /// CRC-32 of the trained network.
    weights_checksum: u32,
    /// Conversions that are usual, on the test images.
    usual: Vec<(Balance, Simulation)>,
    /// For each margin.
    runs: Vec<Run>,
}

/// The whole way on the embedded digits: train, convert, simulate, evolve, report.
///
/// Writes into `folder`, over the files of an earlier run only when all new ones are complete:
/// `latency.csv`, `accuracy.csv`, `convergence.csv`, `thresholds.csv`, `spikes.csv`,
/// `settings.json`, `timing.csv`, and charts of the first seed. The same settings give the same
/// bytes, but for `timing.csv`.
///
/// # Errors
/// Settings out of range, or a folder that cannot be written to; then nothing in it is changed.
pub fn digits(settings: &DigitsSettings, folder: impl Into<PathBuf>) -> Result<Report<LatencyRow>> {
    settings.check()?;
    let output = Output::new(folder)?;
    let mut timing = Vec::new();
    let mut runs = Vec::new();
    for &seed in &settings.seeds {
        runs.push((seed, run(settings, seed, &mut timing)?));
    }

    let mut latency = Vec::new();
    let (mut accuracy, mut spikes) = (Vec::new(), Vec::new());
    let (mut convergence, mut thresholds) = (Vec::new(), Vec::new());
    for (seed, of_seed) in &runs {
        for (name, simulation) in of_seed.named() {
            accuracy.extend(AccuracyRow::of(*seed, &name, &simulation.curve));
            spikes.extend(SpikesRow::of(*seed, &name, simulation));
        }
        for run in &of_seed.runs {
            let (seed, margin) = (*seed, run.margin_percent);
            let (before, after) = (&run.before, &run.after);
            latency.push(LatencyRow::new(
                seed,
                &run.target,
                run.balance,
                before,
                after,
            )?);
            let generations = run.evolution.generations.iter();
            convergence
                .extend(generations.map(|state| ConvergenceRow::new(seed, 0.0, margin, state)));
            let evolved = &run.evolution.snn;
            thresholds.push(ThresholdRow::of(seed, margin, &run.baseline, evolved));
        }
    }
    let (seed, of_seed) = &runs[0];
    let first = &of_seed.runs[0];
    let named = |text: &str| {
        let margin = first.margin_percent;
        format!("{text}, digits, seed {seed}, target {margin} % below the ANN")
    };
    let mut curves: Vec<_> = (of_seed.usual.iter())
        .filter(|(balance, _)| *balance != first.balance)
        .map(|(balance, run)| (balance.to_string(), &run.curve))
        .collect();
    curves.push((format!("{} (baseline)", first.balance), &first.before.curve));
    curves.push(("evolved".into(), &first.after.curve));
    let chart = accuracy_chart(
        &named("Accuracy on test images"),
        curves,
        Some(&first.target),
    )?;
    chart.save(output.path("accuracy.svg"))?;
    let chart = first.evolution.convergence(&named("Evolution"))?;
    chart.save(output.path("convergence.svg"))?;
    let chart = thresholds_chart(&named("Thresholds"), &thresholds[0])?;
    chart.save(output.path("thresholds.svg"))?;
    output.csv("latency.csv", &latency)?;
    output.csv("accuracy.csv", accuracy)?;
    output.csv("spikes.csv", spikes)?;
    output.csv("convergence.csv", convergence)?;
    output.csv("thresholds.csv", thresholds.concat())?;
    output.csv("timing.csv", timing)?;
    let weights = runs.iter().map(|(_, of_seed)| of_seed.weights_checksum);
    let weights: Vec<u32> = weights.collect();
    output.json(
        "settings.json",
        &Provenance::new(
            ("digits", DigitsCnn::NAME),
            [embedded()?.view().checksum()],
            weights,
            settings,
        ),
    )?;
    Ok(Report {
        rows: latency,
        files: output.complete()?,
    })
}

impl Seed {
    /// Every network simulated on the test images, with its name.
    fn named(&self) -> impl Iterator<Item = (String, &Simulation)> {
        let usual = self
            .usual
            .iter()
            .map(|(balance, run)| (balance.to_string(), run));
        usual.chain(self.runs.iter().flat_map(|run| {
            let margin = run.margin_percent;
            [
                (
                    format!("{} (baseline, margin {margin})", run.balance),
                    &run.before,
                ),
                (format!("evolved (margin {margin})"), &run.after),
            ]
        }))
    }
}

fn run(settings: &DigitsSettings, seed: u64, timing: &mut Vec<TimingRow>) -> Result<Seed> {
    let mut clock = Instant::now();
    let mut done = |step| {
        let seconds = clock.elapsed().as_secs_f64();
        timing.push(TimingRow::new(format!("{step}, seed {seed}"), seconds));
        clock = Instant::now();
    };
    let timesteps = settings.evolution.timesteps;
    let digits = embedded()?.split(settings.shares, seed)?;
    let mut ann = Ann::<DigitsCnn>::new(seed)?;
    let training = TrainSettings {
        seed,
        ..settings.training.clone()
    };
    ann.train(&digits.training, &training)?;
    done("train");

    let conversion = convert(&ann, &digits.training)?;
    done("convert");

    let evolution = EvolveSettings {
        seed,
        ..settings.evolution.clone()
    };
    let mut found = Vec::new();
    for &margin in &settings.margins_percent {
        let goal = ann.target(&digits.held_out, margin)?;
        let (balance, baseline) = conversion.best(&digits.held_out, &goal, timesteps)?;
        let evolution = evolve(&baseline, &digits.held_out, &goal, &evolution)?;
        found.push((margin, balance, baseline, evolution));
    }
    done("evolve");

    let test = |snn: &Snn<DigitsCnn>| simulate(snn, &digits.test, timesteps);
    let mut runs = Vec::new();
    for (margin_percent, balance, baseline, evolution) in found {
        runs.push(Run {
            margin_percent,
            target: ann.target(&digits.test, margin_percent)?,
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
    Ok(Seed {
        weights_checksum: checksum(&ann.layers()?),
        usual,
        runs,
    })
}
