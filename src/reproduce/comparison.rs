//! What the works around the paper do to one small network, side by side.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ann::layers::checksum;
use crate::ann::model::Ann;
use crate::ann::networks::{DigitsBinary, DigitsCnn, DigitsQcfs, Mlp, Network};
use crate::ann::train::TrainSettings;
use crate::base::check::not_empty;
use crate::base::check::require;
use crate::base::check::some_timesteps;
use crate::base::error::Result;
use crate::base::files::Output;
use crate::base::table::show;
use crate::convert::{Balance, Conversion, convert};
use crate::data::digits::digits;
use crate::data::images::{Images, Shares, Split, Training};
use crate::data::tasks::Digits;
use crate::evolve::cmaes::CmaEsSettings;
use crate::evolve::fitness::Objective;
use crate::evolve::run::evolve;
use crate::evolve::search::Search;
use crate::evolve::settings::EvolveSettings;
use crate::metrics::AccuracyRow;
use crate::metrics::accuracy_chart;
use crate::metrics::{AccuracyCurve, Target};
use crate::reproduce::rows::MethodRow;
use crate::reproduce::rows::Report;
use crate::reproduce::steps::Provenance;
use crate::simulate::codes::InputCode;
use crate::simulate::network::Snn;
use crate::simulate::run::simulate;
use crate::simulate::settings::SimulateSettings;
use crate::simulate::simulator::Simulation;
use crate::stdp::{Stdp, StdpSettings};
use crate::through_time::hybrid::{HybridSettings, Trained, train_through_time};

/// Settings of [`comparison`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonSettings {
    /// Everything once for each: the seed divides the images, draws and orders what is drawn and
    /// ordered.
    pub seeds: Vec<u64>,
    /// Shares of the held-out and the test part.
    pub shares: Shares,
    /// The accuracy that latency is to, in percent: one for all methods and seeds.
    pub target_percent: f64,
    /// Timesteps of converted networks, and of those that evolve to a low latency.
    pub timesteps: usize,
    /// Timesteps that a conversion is calibrated for, of which the best is taken.
    pub calibrations: Vec<usize>,
    /// Training of the ANNs; its seed is replaced by each of `seeds`.
    pub training: TrainSettings,
    /// Evolution of the thresholds; its seed is replaced by each of `seeds`.
    pub evolution: EvolveSettings,
    /// Training through time, and its timesteps, which are few; its seed is replaced by each of
    /// `seeds`, what is trained by each of [`Trained`].
    pub hybrid: HybridSettings,
    /// The layer that learns without labels; its seed is replaced by each of `seeds`.
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
        not_empty("seeds", &self.seeds)?;
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

/// What is measured of every network of one seed.
struct Bench<'a> {
    seed: u64,
    parts: &'a Split<Digits>,
    /// CRC-32 of the trained network that most methods start from.
    weights_checksum: u32,
    /// On the test images.
    target: Target,
    rows: Vec<MethodRow>,
    curves: Vec<(String, AccuracyCurve)>,
}

impl Bench<'_> {
    fn measure<N: Network<Task = Digits>>(
        &mut self,
        method: impl Into<String>,
        snn: &Snn<N>,
        run: SimulateSettings,
        seconds: f64,
    ) -> Result<()> {
        self.record(method, simulate(snn, &self.parts.test, run)?, seconds);
        Ok(())
    }

    fn record(&mut self, method: impl Into<String>, run: Simulation, seconds: f64) {
        let method = method.into();
        let layers = run.layers.len() - 1; // the output does not spike
        let spikes: f64 = (0..layers).map(|layer| run.spikes_per_image(layer)).sum();
        let input: u64 = run.input.iter().flatten().sum();
        self.rows.push(MethodRow::new(
            &method,
            self.seed,
            &self.target,
            &run.curve,
            spikes + input as f64 / run.curve.images() as f64,
            seconds,
        ));
        self.curves.push((method, run.curve));
    }
}

/// Seconds, and what was made in them.
fn timed<T>(make: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let started = Instant::now();
    let made = make()?;
    Ok((made, started.elapsed().as_secs_f64()))
}

/// The methods around the paper on the embedded digits: one network, one target, everything chosen
/// on held-out images and measured once on test images.
///
/// Writes into `folder` `comparison.csv`, `accuracy.csv`, `settings.json` and the chart
/// `gradients.svg`: thresholds by evolution and by gradients. The same settings give the same bytes
/// but for the seconds.
///
/// # Errors
/// Settings out of range, or a folder that cannot be written to; then nothing in it is changed.
pub fn comparison(
    settings: &ComparisonSettings,
    folder: impl Into<PathBuf>,
) -> Result<Report<MethodRow>> {
    settings.check()?;
    let output = Output::new(folder)?;
    let (mut methods, mut accuracy) = (Vec::new(), Vec::new());
    let (mut weights, mut chart) = (Vec::new(), None);
    for &seed in &settings.seeds {
        let parts = digits()?.split(settings.shares, seed)?;
        let bench = of_seed(settings, seed, &parts)?;
        for (method, curve) in &bench.curves {
            accuracy.extend(AccuracyRow::of(seed, method, curve));
        }
        if chart.is_none() {
            let few = settings.hybrid.timesteps;
            let drawn = |(method, _): &&(String, AccuracyCurve)| {
                [PERCENTILE, EVOLVED, DIET].contains(&method.as_str()) || method.contains("for T")
            };
            let curves = bench.curves.iter().filter(drawn).map(|(method, curve)| {
                let correct = curve.iter().take(few).map(|accuracy| accuracy.correct);
                let first = AccuracyCurve::new(curve.images(), correct.collect())?;
                Ok((method.as_str(), first))
            });
            let curves = curves.collect::<Result<Vec<_>>>()?;
            let title = format!("The first {few} timesteps, digits, seed {seed}");
            chart = Some(accuracy_chart(&title, curves, Some(&bench.target))?);
        }
        methods.extend(bench.rows);
        weights.push(bench.weights_checksum);
    }
    if let Some(chart) = chart {
        chart.save(output.path("gradients.svg"))?;
    }
    output.csv("comparison.csv", &methods)?;
    output.csv("accuracy.csv", accuracy)?;
    output.json(
        "settings.json",
        &Provenance::new(
            ("comparison", DigitsCnn::NAME),
            [digits()?.view().checksum()],
            weights,
            settings,
        ),
    )?;
    Ok(Report {
        rows: methods,
        files: output.complete()?,
    })
}

const PERCENTILE: &str = "percentile";

const EVOLVED: &str = "evolved thresholds";

const DIET: &str = "DIET-SNN";

fn of_seed<'a>(
    settings: &ComparisonSettings,
    seed: u64,
    parts: &'a Split<Digits>,
) -> Result<Bench<'a>> {
    let few = settings.hybrid.timesteps;
    let run = SimulateSettings::from(settings.timesteps);
    let run_few = SimulateSettings::from(few);
    let (ann, trained_for) = timed(|| settings.trained::<DigitsCnn>(seed, parts))?;
    let conversion = convert(&ann, &parts.training)?;
    // The accuracies that the target lies below are the ANN's, of other methods too.
    let below = |accuracy: f64| accuracy - settings.target_percent;
    let goal = ann.accuracy(&parts.held_out)?.percent();
    let goal = ann.target(&parts.held_out, below(goal))?;
    let target = ann.accuracy(&parts.test)?.percent();
    let mut bench = Bench {
        seed,
        parts,
        weights_checksum: checksum(&ann.layers()?),
        target: ann.target(&parts.test, below(target))?,
        rows: Vec::new(),
        curves: Vec::new(),
    };

    let snn = settings.percentile(&conversion, parts, &goal, InputCode::Direct)?;
    bench.measure(PERCENTILE, &snn, run, trained_for)?;
    let (calibrated, seconds) = timed(|| {
        let mut best: Option<((usize, f64), Snn<DigitsCnn>)> = None;
        for timesteps in &settings.calibrations {
            let snn = conversion.calibrated(&snn, *timesteps)?;
            let curve = simulate(&snn, &parts.held_out, run)?.curve;
            let shortfall = curve.shortfall(&goal);
            if best.as_ref().is_none_or(|(least, _)| shortfall < *least) {
                best = Some((shortfall, snn));
            }
        }
        Ok(best)
    })?;
    if let Some((_, snn)) = calibrated {
        bench.measure("calibrated", &snn, run, trained_for + seconds)?;
    }

    let evolution = settings.evolution(seed);
    let (by_evolution, seconds) = timed(|| evolved(&snn, parts, &goal, &evolution))?;
    bench.measure(EVOLVED, &by_evolution, run, trained_for + seconds)?;

    // The same unknowns, a factor a layer, for the same timestep.
    let for_few = EvolveSettings {
        objective: Objective::ErrorAt { timestep: few },
        timesteps: few,
        ..evolution.clone()
    };
    let (by_evolution, seconds) = timed(|| evolved(&snn, parts, &goal, &for_few))?;
    let name = format!("evolved thresholds for T = {few}");
    bench.measure(name, &by_evolution, run_few, trained_for + seconds)?;

    let through_time = |trained, images: &Images<Training, Digits>| -> Result<_> {
        let mut hybrid = settings.hybrid.clone();
        (hybrid.trained, hybrid.train.seed) = (trained, seed);
        let (hybrid, seconds) = timed(|| train_through_time(&snn, images, &hybrid))?;
        Ok((hybrid.snn, trained_for + seconds))
    };
    let held_out = parts.held_out.clone().into_training();
    let by_gradient = format!("thresholds by gradient for T = {few}");
    for (method, trained, images) in [
        (
            format!("{by_gradient}, held-out images"),
            Trained::Thresholds,
            &held_out,
        ),
        (by_gradient, Trained::Thresholds, &parts.training),
        (
            "thresholds and leaks by gradient".into(),
            Trained::ThresholdsAndLeaks,
            &parts.training,
        ),
        ("hybrid training".into(), Trained::Weights, &parts.training),
        (DIET.into(), Trained::All, &parts.training),
    ] {
        let (snn, seconds) = through_time(trained, images)?;
        bench.measure(method, &snn, run_few, seconds)?;
    }

    for (name, code) in [
        ("Poisson input", InputCode::Poisson { seed }),
        ("phase input", InputCode::Phase { period: 8 }),
        ("latency input", InputCode::Latency { period: 8 }),
    ] {
        let run = SimulateSettings { code, ..run };
        let snn = settings.percentile(&conversion, parts, &goal, code)?;
        bench.measure(format!("{name}, percentile"), &snn, run, trained_for)?;
        let coded = EvolveSettings {
            code,
            ..evolution.clone()
        };
        let (snn, seconds) = timed(|| evolved(&snn, parts, &goal, &coded))?;
        let name = format!("{name}, evolved thresholds");
        bench.measure(name, &snn, run, trained_for + seconds)?;
    }

    let (ann, trained_for) = timed(|| settings.trained::<DigitsQcfs>(seed, parts))?;
    let snn = convert(&ann, &parts.training)?.balance(Balance::Learned)?;
    bench.measure("QCFS", &snn, run_few, trained_for)?;
    let for_few = EvolveSettings {
        timesteps: few,
        ..evolution.clone()
    };
    let (snn, seconds) = timed(|| evolved(&snn, parts, &goal, &for_few))?;
    let name = "QCFS, evolved thresholds";
    bench.measure(name, &snn, run_few, trained_for + seconds)?;

    let (ann, trained_for) = timed(|| settings.trained::<DigitsBinary>(seed, parts))?;
    let conversion = convert(&ann, &parts.training)?;
    let snn = settings.percentile(&conversion, parts, &goal, InputCode::Direct)?;
    bench.measure("binary weights, percentile", &snn, run, trained_for)?;
    let (snn, seconds) = timed(|| evolved(&snn, parts, &goal, &evolution))?;
    let name = "binary weights, evolved thresholds";
    bench.measure(name, &snn, run, trained_for + seconds)?;

    let (stdp, votes_for) = timed(|| {
        let mut stdp = settings.stdp(seed, settings.stdp.neurons)?;
        stdp.train(&parts.training)?;
        stdp.label(&parts.training)
    })?;
    let votes = stdp.simulate(&parts.test, settings.timesteps)?;
    bench.record("STDP, votes", votes, votes_for);
    for from_stdp in [false, true] {
        let (ann, trained_for) = timed(|| {
            let mut ann = Ann::<Mlp>::new(seed)?;
            if from_stdp {
                let mut stdp = settings.stdp(seed, MLP_NEURONS)?;
                stdp.train(&parts.training)?;
                stdp.pretrain(&mut ann)?;
            }
            ann.train(&parts.training, &settings.training(seed))?;
            Ok(ann)
        })?;
        let conversion = convert(&ann, &parts.training)?;
        let snn = settings.percentile(&conversion, parts, &goal, InputCode::Direct)?;
        let start = if from_stdp { "STDP" } else { "random weights" };
        let name = format!("fully connected from {start}, percentile");
        bench.measure(name, &snn, run, trained_for)?;
    }
    Ok(bench)
}

/// Of the first layer of [`Mlp`].
const MLP_NEURONS: usize = 128;

fn evolved<N: Network<Task = Digits>>(
    snn: &Snn<N>,
    parts: &Split<Digits>,
    goal: &Target,
    settings: &EvolveSettings,
) -> Result<Snn<N>> {
    Ok(evolve(snn, &parts.held_out, goal, settings)?.snn)
}

impl ComparisonSettings {
    fn training(&self, seed: u64) -> TrainSettings {
        TrainSettings {
            seed,
            ..self.training.clone()
        }
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

    fn stdp(&self, seed: u64, neurons: usize) -> Result<Stdp<Digits>> {
        Stdp::new(StdpSettings {
            neurons,
            seed,
            ..self.stdp.clone()
        })
    }

    fn evolution(&self, seed: u64) -> EvolveSettings {
        EvolveSettings {
            seed,
            timesteps: self.timesteps,
            ..self.evolution.clone()
        }
    }

    /// The percentile conversion of the lowest latency on held-out images.
    fn percentile<N: Network<Task = Digits>>(
        &self,
        conversion: &Conversion<N>,
        parts: &Split<Digits>,
        goal: &Target,
        code: InputCode,
    ) -> Result<Snn<N>> {
        let run = SimulateSettings {
            code,
            ..self.timesteps.into()
        };
        Ok(conversion.best(&parts.held_out, goal, run)?.1)
    }
}
