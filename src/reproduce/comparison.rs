//! Comparison of the paper with related methods on one small network.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::rows::{MethodRow, Report};
use super::steps::{changed, complete};
use crate::ann::{
    Ann, Classifier, DigitsBinary, DigitsCnn, DigitsQcfs, Mlp, Model, Network, TrainSettings,
};
use crate::base::{Output, Result, each_once, require, show, some_timesteps};
use crate::convert::{Balance, Conversion, convert};
use crate::data::{Digits, Shares, Split, digits};
use crate::evolve::{CmaEsSettings, EvolveSettings, Objective, Search, evolve};
use crate::metrics::{Accuracy, AccuracyCurve, AccuracyRow, Target, accuracy_chart};
use crate::simulate::{InputCode, SimulateSettings, Simulation, Snn, simulate};
use crate::stdp::{Stdp, StdpSettings};
use crate::through_time::{HybridSettings, Trained, train_through_time};

/// Settings of [`comparison`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonSettings {
    /// Seeds, one whole comparison each: a seed divides the images and drives everything random.
    pub seeds: Vec<u64>,
    /// Shares of the held-out and the test images.
    pub shares: Shares,
    /// Target accuracy of the latency, in percent, the same for all methods and seeds.
    pub target_percent: f64,
    /// Number of timesteps per simulation of converted networks, and of those evolved from them.
    pub timesteps: usize,
    /// Numbers of timesteps to calibrate the conversion for; the best calibration is kept.
    pub calibrations: Vec<usize>,
    /// Settings of the ANNs' training; its seed is replaced by each of `seeds`.
    pub training: TrainSettings,
    /// Settings of the thresholds' evolution; its seed is replaced by each of `seeds`.
    pub evolution: EvolveSettings,
    /// Settings of training through time, over few timesteps; its seed is replaced by each of
    /// `seeds`, and `trained` by each of [`Trained`].
    pub hybrid: HybridSettings,
    /// Settings of the layer that learns without labels; its seed is replaced by each of `seeds`.
    pub stdp: StdpSettings,
}

show!(ComparisonSettings as fields);

impl Default for ComparisonSettings {
    fn default() -> Self {
        Self {
            seeds: vec![0, 1, 2],
            shares: Shares::default(),
            target_percent: 95.0,
            timesteps: 64,
            calibrations: vec![8, 16, 32, 64],
            training: TrainSettings::digits(),
            evolution: EvolveSettings {
                objective: Objective::MeanLatency,
                search: Search::CmaEs(CmaEsSettings::default()),
                generations: 30,
                ..EvolveSettings::default()
            },
            hybrid: HybridSettings::default(),
            stdp: StdpSettings::default(),
        }
    }
}

impl ComparisonSettings {
    fn check(&self) -> Result<()> {
        each_once("seeds", &self.seeds)?;
        let target = self.target_percent;
        let holds = target > 0.0 && target < 100.0;
        require(holds, "target_percent", target, "above 0, less than 100")?;
        some_timesteps("timesteps", self.timesteps)?;
        some_timesteps("hybrid.timesteps", self.hybrid.timesteps)?;
        self.training.check()?;
        self.hybrid.train.check()?;
        self.evolution.check()
    }
}

/// Methods compared with one seed, and what was measured of their networks.
struct SeedComparison<'a> {
    settings: &'a ComparisonSettings,
    seed: u64,
    parts: Split<Digits>,
    held_out_target: Target,
    test_target: Target,
    rows: Vec<MethodRow>,
    curves: Vec<(String, AccuracyCurve)>,
}

/// Returns what `make` gives, and the seconds that it took.
fn timed<T>(make: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let started = Instant::now();
    let made = make()?;
    Ok((made, started.elapsed().as_secs_f64()))
}

/// Runs the methods around the paper on the embedded digits: one network, one target, everything
/// chosen on held-out images and measured once on test images.
///
/// Writes `comparison.csv`, `accuracy.csv`, `settings.json` and the chart `gradients.svg`
/// (thresholds by evolution and by gradients) into `folder`. On one machine, the same settings
/// give the same bytes, except for the seconds.
///
/// # Errors
/// Returns an error if a setting is out of range or the folder cannot be written to; nothing in
/// the folder is changed then.
pub fn comparison(
    settings: &ComparisonSettings,
    folder: impl Into<PathBuf>,
) -> Result<Report<MethodRow>> {
    settings.check()?;
    let output = Output::new(folder)?;
    let (mut methods, mut accuracy, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (number, &seed) in settings.seeds.iter().enumerate() {
        let parts = digits()?.split(settings.shares, seed)?;
        let (ann, seconds) = timed(|| settings.trained::<DigitsCnn>(seed, &parts))?;
        weights.push(ann.checksum()?);
        // The targets of all methods are set below the accuracy of this ANN.
        let below = |accuracy: Accuracy| accuracy.percent() - settings.target_percent;
        let held_out_margin = below(ann.accuracy(&parts.held_out)?);
        let test_margin = below(ann.accuracy(&parts.test)?);
        let mut compared = SeedComparison {
            settings,
            seed,
            held_out_target: ann.target(&parts.held_out, held_out_margin)?,
            test_target: ann.target(&parts.test, test_margin)?,
            parts,
            rows: Vec::new(),
            curves: Vec::new(),
        };
        compared.run(&ann, seconds)?;
        for (method, curve) in &compared.curves {
            accuracy.extend(AccuracyRow::of(seed, method, curve));
        }
        if number == 0 {
            compared.chart(&output)?;
        }
        methods.extend(compared.rows);
    }
    output.csv("comparison.csv", &methods)?;
    output.csv("accuracy.csv", accuracy)?;
    let names = ("comparison", DigitsCnn::NAME);
    let images = [digits()?.checksum()];
    complete(output, methods, names, [&images, &weights], ("settings.json", settings))
}

const PERCENTILE: &str = "percentile";

const EVOLVED: &str = "evolved thresholds";

const DIET: &str = "DIET-SNN";

/// Number of neurons in the first layer of [`Mlp`].
const MLP_NEURONS: usize = 128;

impl SeedComparison<'_> {
    /// Runs all methods, most of them from this ANN, which took so many seconds to train.
    fn run(&mut self, ann: &Ann<DigitsCnn>, ann_seconds: f64) -> Result<()> {
        let (settings, seed) = (self.settings, self.seed);
        let few = settings.hybrid.timesteps;
        let run = SimulateSettings::from(settings.timesteps);
        let run_few = SimulateSettings::from(few);
        let evolution = changed(&settings.evolution, |evolution| {
            (evolution.seed, evolution.timesteps) = (seed, settings.timesteps);
        });
        let conversion = convert(ann, &self.parts.training)?;
        let snn = self.percentile(PERCENTILE, &conversion, run, ann_seconds)?;
        let (calibrated, seconds) = timed(|| self.calibrated(&conversion, &snn))?;
        if let Some(calibrated) = calibrated {
            self.measure("calibrated", &calibrated, run, ann_seconds + seconds)?;
        }
        self.evolve(EVOLVED, &snn, &evolution, run, ann_seconds)?;
        // The same parameters, one factor per layer, optimised for the same timestep.
        let for_few = changed(&evolution, |evolution| {
            evolution.objective = Objective::ErrorAt { timestep: few };
            evolution.timesteps = few;
        });
        let name = format!("{EVOLVED} for T = {few}");
        self.evolve(&name, &snn, &for_few, run_few, ann_seconds)?;

        let training = self.parts.training.clone();
        let held_out = self.parts.held_out.clone().into_training();
        let by_gradient = format!("thresholds by gradient for T = {few}");
        let leaks = "thresholds and leaks by gradient";
        for (method, trained, images) in [
            (&*format!("{by_gradient}, held-out images"), Trained::Thresholds, &held_out),
            (&by_gradient, Trained::Thresholds, &training),
            (leaks, Trained::ThresholdsAndLeaks, &training),
            ("hybrid training", Trained::Weights, &training),
            (DIET, Trained::All, &training),
        ] {
            let hybrid = changed(&settings.hybrid, |hybrid| {
                (hybrid.trained, hybrid.train.seed) = (trained, seed);
            });
            let (hybrid, seconds) = timed(|| train_through_time(&snn, images, &hybrid))?;
            self.measure(method, &hybrid.snn, run_few, ann_seconds + seconds)?;
        }

        for (name, code) in [
            ("Poisson input", InputCode::Poisson { seed }),
            ("phase input", InputCode::Phase { period: 8 }),
            ("latency input", InputCode::Latency { period: 8 }),
        ] {
            let run = SimulateSettings { code, ..run };
            let method = format!("{name}, {PERCENTILE}");
            let snn = self.percentile(&method, &conversion, run, ann_seconds)?;
            let coded = changed(&evolution, |evolution| evolution.code = code);
            let method = format!("{name}, {EVOLVED}");
            self.evolve(&method, &snn, &coded, run, ann_seconds)?;
        }

        let (ann, seconds) = timed(|| settings.trained::<DigitsQcfs>(seed, &self.parts))?;
        let snn = convert(&ann, &self.parts.training)?.balance(Balance::Learned)?;
        self.measure("QCFS", &snn, run_few, seconds)?;
        let for_few = changed(&evolution, |evolution| evolution.timesteps = few);
        self.evolve("QCFS, evolved thresholds", &snn, &for_few, run_few, seconds)?;

        let (ann, seconds) = timed(|| settings.trained::<DigitsBinary>(seed, &self.parts))?;
        let conversion = convert(&ann, &self.parts.training)?;
        let snn = self.percentile("binary weights, percentile", &conversion, run, seconds)?;
        let name = "binary weights, evolved thresholds";
        self.evolve(name, &snn, &evolution, run, seconds)?;
        self.stdp(run)
    }

    /// Runs the methods that learn without labels first.
    fn stdp(&mut self, run: SimulateSettings) -> Result<()> {
        let (settings, seed) = (self.settings, self.seed);
        let training = self.parts.training.clone();
        let trained = |neurons: usize| -> Result<Stdp<Digits>> {
            let mut stdp = Stdp::new(changed(&settings.stdp, |stdp| {
                (stdp.neurons, stdp.seed) = (neurons, seed);
            }))?;
            stdp.train(&training)?;
            Ok(stdp)
        };
        let (stdp, seconds) = timed(|| trained(settings.stdp.neurons)?.label(&training))?;
        let votes = stdp.simulate(&self.parts.test, settings.timesteps)?;
        self.record("STDP, votes", votes, seconds);
        for start in ["random weights", "STDP"] {
            let (ann, seconds) = timed(|| {
                let mut ann = Ann::<Mlp>::new(seed)?;
                if start == "STDP" {
                    trained(MLP_NEURONS)?.pretrain(&mut ann)?;
                }
                ann.train(&training, &settings.training(seed))?;
                Ok(ann)
            })?;
            let name = format!("fully connected from {start}, {PERCENTILE}");
            self.percentile(&name, &convert(&ann, &training)?, run, seconds)?;
        }
        Ok(())
    }

    /// Measures and returns the percentile conversion of the lowest latency on held-out images.
    fn percentile<N: Network<Task = Digits>>(
        &mut self,
        method: &str,
        conversion: &Conversion<N>,
        run: SimulateSettings,
        seconds: f64,
    ) -> Result<Snn<N>> {
        let (_, snn) = conversion.best(&self.parts.held_out, &self.held_out_target, run)?;
        self.measure(method, &snn, run, seconds)?;
        Ok(snn)
    }

    /// The calibration of the lowest latency on held-out images.
    fn calibrated(
        &self,
        conversion: &Conversion<DigitsCnn>,
        snn: &Snn<DigitsCnn>,
    ) -> Result<Option<Snn<DigitsCnn>>> {
        let mut best: Option<((usize, f64), Snn<DigitsCnn>)> = None;
        for timesteps in &self.settings.calibrations {
            let snn = conversion.calibrated(snn, *timesteps)?;
            let curve = simulate(&snn, &self.parts.held_out, self.settings.timesteps)?.curve;
            let shortfall = curve.shortfall(&self.held_out_target);
            if best.as_ref().is_none_or(|(least, _)| shortfall < *least) {
                best = Some((shortfall, snn));
            }
        }
        Ok(best.map(|(_, snn)| snn))
    }

    /// Evolves a network that took so many seconds to make, and measures what it becomes.
    fn evolve<N: Network<Task = Digits>>(
        &mut self,
        method: &str,
        snn: &Snn<N>,
        evolution: &EvolveSettings,
        run: SimulateSettings,
        seconds: f64,
    ) -> Result<()> {
        let (images, target) = (&self.parts.held_out, &self.held_out_target);
        let (evolved, more) = timed(|| evolve(snn, images, target, evolution))?;
        self.measure(method, &evolved.snn, run, seconds + more)
    }

    /// Simulates a network on the test images and records the run.
    fn measure<N: Network<Task = Digits>>(
        &mut self,
        method: &str,
        snn: &Snn<N>,
        run: SimulateSettings,
        seconds: f64,
    ) -> Result<()> {
        let run = simulate(snn, &self.parts.test, run)?;
        self.record(method, run, seconds);
        Ok(())
    }

    /// Adds the row and the curve of a run on the test images.
    fn record(&mut self, method: &str, run: Simulation, seconds: f64) {
        let layers = run.layers.len() - 1; // the output does not spike
        let spikes: f64 = (0..layers).map(|layer| run.spikes_per_image(layer)).sum();
        let input = run.input.iter().flatten().sum::<u64>() as f64;
        let spikes = spikes + input / run.curve.images() as f64;
        let (target, curve) = (&self.test_target, &run.curve);
        let row = MethodRow::new(method, self.seed, target, curve, spikes, seconds);
        self.rows.push(row);
        self.curves.push((method.into(), run.curve));
    }

    /// Writes the chart of the first timesteps of conversion, evolution and gradients.
    fn chart(&self, output: &Output) -> Result<()> {
        let few = self.settings.hybrid.timesteps;
        let drawn = |(method, _): &&(String, AccuracyCurve)| {
            [PERCENTILE, EVOLVED, DIET].contains(&method.as_str()) || method.contains("for T")
        };
        let curves = self.curves.iter().filter(drawn).map(|(method, curve)| {
            let correct = curve.iter().take(few).map(|accuracy| accuracy.correct);
            let first = AccuracyCurve::new(curve.images(), correct.collect())?;
            Ok((method.as_str(), first))
        });
        let curves = curves.collect::<Result<Vec<_>>>()?;
        let title = format!("The first {few} timesteps, digits, seed {}", self.seed);
        let chart = accuracy_chart(&title, curves, Some(&self.test_target))?;
        chart.save(output.path("gradients.svg"))
    }
}

impl ComparisonSettings {
    fn training(&self, seed: u64) -> TrainSettings {
        changed(&self.training, |training| training.seed = seed)
    }

    fn trained<N: Network<Task = Digits>>(
        &self,
        seed: u64,
        parts: &Split<Digits>,
    ) -> Result<Ann<N>> {
        let mut ann = Ann::new(seed)?;
        ann.train(&parts.training, &self.training(seed))?;
        Ok(ann)
    }
}
