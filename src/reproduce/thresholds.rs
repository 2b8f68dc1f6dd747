//! The paper's main result: lower latency by evolved thresholds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::grid::{Grid, tried};
use super::rows::{ComparisonRow, Report};
use super::steps::{
    NetworkRows, StepCache, TimingRow, changed, check_margin, complete, evolution_charts, key_of,
};
use crate::ann::{Classifier, Model, TaskOf};
use crate::base::{
    Error, Output, Result, Resume, at_least, each_once, require, show, some_timesteps,
};
use crate::convert::{Balance, Conversion, convert};
use crate::data::{HeldOut, Images, Split, Test, TrainTest};
use crate::evolve::optimise::better;
use crate::evolve::{
    CmaEsSettings, Evaluator, Evolution, EvolveSettings, Fitness, Gene, Objective, Search, Stopping,
};
use crate::metrics::{AccuracyCurve, AccuracyRow, Target, accuracy_chart};
use crate::simulate::{Simulation, Snn, simulate};

/// Settings of [`thresholds`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdsSettings {
    /// Seeds, one evolution each: a seed drives the optimiser and orders its images.
    pub seeds: Vec<u64>,
    /// Initial membrane potentials as fractions of the threshold, one comparison each.
    pub initial: Vec<f32>,
    /// Number of training images whose activations set the thresholds.
    pub balance_images: usize,
    /// Percentiles of conversions with one threshold per layer; the best is a baseline. This and the
    /// other grids go on beyond an end that is the best for a reported target or the evolution's.
    pub percentiles: Vec<f64>,
    /// Percentiles of conversions with one threshold per channel; the best is a stronger baseline.
    pub channel_percentiles: Vec<f64>,
    /// Numbers of timesteps to calibrate the best conversion per channel for; the best calibration
    /// is the strongest baseline without evolution.
    pub calibrations: Vec<usize>,
    /// Number of held-out images to choose baselines on; all of them if there are fewer.
    pub baseline_images: usize,
    /// Number of timesteps per simulation, except in the evolution.
    pub timesteps: usize,
    /// Settings of the evolution, on all held-out images in an order that the seed decides; the
    /// seed is replaced by each of `seeds`.
    pub evolution: EvolveSettings,
    /// Margin of the evolution's target below the ANN's accuracy, in percentage points.
    pub margin_points: f64,
    /// Range of one factor for all thresholds ([`Gene::Threshold`]). The conversion with the best
    /// factor is the one-parameter baseline, and the start of the evolution.
    pub sweep_factors: [f64; 2],
    /// Number of factors to try in that range; the grid goes on beyond an end that is the best.
    pub sweep_points: usize,
    /// Margins of the reported targets below the ANN's accuracy, in percentage points.
    pub reported_margins: Vec<f64>,
    /// Number of test images, drawn at random once; all of them if there are fewer.
    pub test_images: usize,
}

show!(ThresholdsSettings as fields);

impl Default for ThresholdsSettings {
    fn default() -> Self {
        Self {
            seeds: vec![0, 1, 2],
            initial: vec![0.0, 0.5],
            balance_images: 1000,
            percentiles: vec![100.0, 99.95, 99.9, 99.8, 99.7, 99.5],
            channel_percentiles: vec![99.9, 99.8, 99.7, 99.5, 99.0],
            calibrations: vec![16, 32, 64],
            baseline_images: 2000,
            timesteps: 128,
            evolution: EvolveSettings {
                search: Search::CmaEs(CmaEsSettings { population: Some(14), sigma: 0.1 }),
                objective: Objective::MeanLatency,
                genome: vec![(Gene::Scale, [0.75, 1.25]), (Gene::Threshold, [0.88, 1.12])],
                generations: 13,
                timesteps: 112,
                stopping: Stopping::Never,
                batch: Some(400),
                ..EvolveSettings::default()
            },
            margin_points: 1.0,
            sweep_factors: [0.91, 1.0],
            sweep_points: 7,
            reported_margins: vec![0.5, 1.0, 2.0],
            test_images: 10_000,
        }
    }
}

impl ThresholdsSettings {
    /// Whether every setting is in its range, which the experiment checks first.
    ///
    /// # Errors
    /// The first setting that is not.
    pub fn check(&self) -> Result<()> {
        each_once("seeds", &self.seeds)?;
        each_once("initial", &self.initial)?;
        each_once("percentiles", &self.percentiles)?;
        each_once("channel_percentiles", &self.channel_percentiles)?;
        each_once("calibrations", &self.calibrations)?;
        each_once("reported_margins", &self.reported_margins)?;
        let images = [
            ("balance_images", self.balance_images),
            ("baseline_images", self.baseline_images),
            ("test_images", self.test_images),
        ];
        at_least(1, &images)?;
        at_least(self.evolution.timesteps, &[("timesteps", self.timesteps)])?;
        at_least(2, &[("sweep_points", self.sweep_points)])?;
        some_timesteps("timesteps", self.timesteps)?;
        for initial in &self.initial {
            let expected = "finite fractions of the threshold";
            require(initial.is_finite(), "initial", initial, expected)?;
        }
        let averaged = self.evolution.objective == Objective::MeanLatency;
        check_margin("margin_points", self.margin_points, averaged)?;
        for &margin in &self.reported_margins {
            check_margin("reported_margins", margin, false)?;
        }
        self.evolution.check()
    }

    /// Checks the settings of an experiment that needs exactly one initial potential.
    pub(super) fn check_of_one_initial(&self) -> Result<()> {
        self.check()?;
        let (one, found) = (self.initial.len() == 1, format!("{:?}", self.initial));
        require(one, "initial", found, "one initial potential")
    }

    /// The reported targets: a target with each of the reported margins.
    fn reported(&self, target: &Target) -> Result<Vec<Target>> {
        self.reported_margins.iter().map(|&margin| target.with_margin(margin)).collect()
    }

    /// Index of the reported margin that is nearest to this one.
    pub(super) fn nearest_margin(&self, points: f64) -> usize {
        let margins = self.reported_margins.iter();
        let distances = margins.map(|margin| (margin - points).abs());
        let nearest = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.map_or(0, |(index, _)| index)
    }
}

/// Network and data of [`thresholds`].
pub struct ThresholdsInput<'a, M: Model> {
    /// The trained network.
    pub ann: &'a M,
    /// The data set, normalised as for the network's training.
    pub data: &'a TrainTest<TaskOf<M>>,
    /// File that lists the training images that the network was not trained on: one index into the
    /// data set per line.
    pub held_out_list: &'a Path,
}

/// Runs the paper's main experiment: how much earlier a network with evolved thresholds
/// reaches a target accuracy than the best conversions of the same trained network, with the same
/// initial potential, reset and leak.
///
/// Everything is chosen on held-out images; each final network sees the test images once. The files
/// are those of [`digits`](super::digits()), with `comparison.csv` instead of `latency.csv`. The
/// result of every step is kept in `folder/.checkpoints`: after an interruption at any moment, the
/// same call resumes from there. When another thread sets `stop`, the experiment ends after the
/// current step or generation.
///
/// # Errors
/// Returns an error if a setting is out of range, the list does not fit the data or the folder
/// cannot be written to; [`Error::Stopped`] after `stop`.
pub fn thresholds<M: Model>(
    input: &ThresholdsInput<'_, M>,
    settings: &ThresholdsSettings,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Report<ComparisonRow>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let workspace = Workspace::new(input, settings)?;
    let mut steps = StepCache::new("reproduce thresholds", &folder, stop);
    let images = workspace.parts.test.take(settings.test_images);
    let target = input.ann.target(&images, settings.margin_points)?;
    let targets = settings.reported(&target)?;

    let (mut comparisons, mut rows) = (Vec::new(), NetworkRows::default());
    for &initial in &settings.initial {
        let experiment = workspace.experiment(initial);
        let found = experiment.search(&mut steps)?;
        let names = |network: &str| {
            let name = experiment.name(network);
            [format!("test, {name}"), name]
        };
        let accuracy = &mut rows.accuracy;
        let tested = experiment.test(found.networks(), &images, names, &mut steps, accuracy)?;
        for (target, baselines) in targets.iter().zip(&found.baselines) {
            for evolved in &found.evolved {
                for baseline in baselines {
                    comparisons.push(ComparisonRow::new(
                        (initial, evolved.seed),
                        target,
                        (baseline.kind, &baseline.name),
                        [
                            (&baseline.snn, &tested[&baseline.name]),
                            (&evolved.evolution.snn, &tested[&evolved.name()]),
                        ],
                    )?);
                }
            }
        }
        for evolved in &found.evolved {
            let (seed, margins) = (evolved.seed, (initial, settings.margin_points));
            rows.add_evolution(seed, margins, &found.conversions.start, &evolved.evolution);
        }
        experiment.charts(&output, &found, &tested, &targets)?;
    }
    output.csv("comparison.csv", &comparisons)?;
    output.csv("timing.csv", &steps.timing)?;
    rows.write(&output)?;
    workspace.complete(output, comparisons, "thresholds", settings)
}

/// Data and networks of an experiment on one trained network.
pub(super) struct Workspace<'a, M: Model> {
    input: &'a ThresholdsInput<'a, M>,
    settings: &'a ThresholdsSettings,
    /// Parts of the data, divided by seed 0.
    pub parts: Split<TaskOf<M>>,
    pub conversion: Conversion<M::Network>,
    /// CRC-32 of the held-out and the test images.
    pub images_checksums: [u32; 2],
    /// CRC-32 of the trained network.
    pub weights_checksum: u32,
}

impl<'a, M: Model> Workspace<'a, M> {
    /// Divides the data and converts the network.
    pub fn new(
        input: &'a ThresholdsInput<'a, M>,
        settings: &'a ThresholdsSettings,
    ) -> Result<Self> {
        let parts = input.parts(0)?;
        settings.evolution.batch_of(parts.held_out.len())?;
        let conversion = convert(input.ann, &parts.training.take(settings.balance_images))?;
        let images_checksums = [parts.held_out.checksum(), parts.test.checksum()];
        let weights_checksum = input.ann.checksum()?;
        Ok(Self { input, settings, parts, conversion, images_checksums, weights_checksum })
    }

    /// Experiment with neurons of this initial potential.
    pub fn experiment(&self, initial: f32) -> Experiment<'_, M> {
        Experiment {
            input: self.input,
            held_out: &self.parts.held_out,
            conversion: &self.conversion,
            settings: self.settings,
            initial,
        }
    }

    /// Completes the files of an experiment and gives its report.
    pub fn complete<R, S: Serialize>(
        &self,
        output: Output,
        rows: Vec<R>,
        experiment: &str,
        settings: &S,
    ) -> Result<Report<R>> {
        let checksums = [&self.images_checksums[..], &[self.weights_checksum]];
        complete(
            output,
            rows,
            (experiment, M::Network::NAME),
            checksums,
            ("settings.json", settings),
        )
    }
}

impl<M: Model> ThresholdsInput<'_, M> {
    /// Parts of the data, each in an order that the seed decides.
    pub(super) fn parts(&self, seed: u64) -> Result<Split<TaskOf<M>>> {
        self.data.hold_out_listed(self.held_out_list, seed)
    }
}

/// Search for the best networks on held-out images, with one initial potential.
pub(super) struct Experiment<'a, M: Model> {
    pub input: &'a ThresholdsInput<'a, M>,
    held_out: &'a Images<HeldOut, TaskOf<M>>,
    conversion: &'a Conversion<M::Network>,
    settings: &'a ThresholdsSettings,
    pub initial: f32,
}

/// Conversion to choose from, and the timesteps that it is calibrated for, if any.
#[derive(Clone, Copy)]
struct Candidate(Balance, Option<usize>);

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.1 {
            Some(timesteps) => write!(f, ", calibrated for {timesteps} timesteps"),
            None => Ok(()),
        }
    }
}

/// A candidate, its converted network and the accuracy of that on held-out images.
type Measured<N> = (Candidate, Snn<N>, AccuracyCurve);

/// Candidates of one kind.
struct CandidateGroup<N: Classifier> {
    kind: &'static str,
    measured: Vec<Measured<N>>,
}

/// Place of the candidate of the lowest latency, and of those the one of the least deficit.
fn fastest<N: Classifier>(measured: &[Measured<N>], target: &Target) -> Option<usize> {
    let shortfalls = measured.iter().map(|(_, _, curve)| curve.shortfall(target)).enumerate();
    let best = shortfalls.min_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    best.map(|(place, _)| place)
}

/// Network that evolved networks are compared with.
pub(super) struct Baseline<N: Classifier> {
    pub kind: &'static str,
    pub name: String,
    pub snn: Snn<N>,
}

/// Evolution with one seed.
pub(super) struct Evolved<N: Classifier> {
    pub seed: u64,
    pub evolution: Evolution<N>,
}

impl<N: Classifier> Evolved<N> {
    pub fn name(&self) -> String {
        format!("evolved, seed {}", self.seed)
    }
}

/// Conversions of every kind, with their accuracy on held-out images.
pub(super) struct Conversions<N: Classifier> {
    groups: Vec<CandidateGroup<N>>,
    /// Best percentile per channel, whose thresholds evolution changes.
    pub start: Snn<N>,
    /// The same with the best constant factor, where evolution starts.
    pub constant: Snn<N>,
    factor: f64,
}

impl<N: Classifier> Conversions<N> {
    /// The best conversion of each kind for a target.
    pub fn baselines(&self, target: &Target) -> Result<Vec<Baseline<N>>> {
        let best = self.groups.iter().map(|group| {
            let (candidate, snn, _) = group.best(target)?;
            Ok(Baseline { kind: group.kind, name: candidate.to_string(), snn: snn.clone() })
        });
        let constant = Baseline {
            kind: "constant factor",
            name: format!("factor {:.3}", self.factor),
            snn: self.constant.clone(),
        };
        best.chain([Ok(constant)]).collect()
    }
}

/// Networks chosen on held-out images.
pub(super) struct SearchResult<N: Classifier> {
    pub conversions: Conversions<N>,
    /// Baselines for each reported margin.
    pub baselines: Vec<Vec<Baseline<N>>>,
    pub evolved: Vec<Evolved<N>>,
}

impl<'a, M: Model> Experiment<'a, M> {
    /// The same experiment with other settings.
    pub fn with(self, settings: &'a ThresholdsSettings) -> Self {
        Self { settings, ..self }
    }
}

impl<M: Model> Experiment<'_, M> {
    pub fn name(&self, of: &str) -> String {
        format!("{of}, initial potential {}", self.initial)
    }

    fn convert(&self, candidate: Candidate, steps: &mut StepCache<'_>) -> Result<Snn<M::Network>> {
        let Candidate(balance, calibration) = candidate;
        let snn = self.conversion.balance(balance)?;
        let snn = snn.with_initial(self.initial)?;
        let Some(timesteps) = calibration else {
            return Ok(snn);
        };
        let step = format!("conversion, {}", self.name(&candidate.to_string()));
        let on = (&snn, &self.conversion.images);
        steps.calibrated(&step, on, || self.conversion.calibrated(&snn, timesteps))
    }

    /// Conversions by percentiles and their accuracy on held-out images. The grid goes on beyond an
    /// end that is the best for one of the targets.
    fn percentiles(
        &self,
        kind: &'static str,
        (percentiles, balance): (&[f64], fn(f64) -> Balance),
        (on, images, targets): (&str, &Images<HeldOut, TaskOf<M>>, &[Target]),
        steps: &mut StepCache<'_>,
    ) -> Result<CandidateGroup<M::Network>> {
        let at = |percent| {
            let candidate = Candidate(balance(percent), None);
            let Some(snn) = tried(self.convert(candidate, steps))? else { return Ok(None) };
            self.measured(candidate, snn, (on, images), steps).map(Some)
        };
        let best = |found: &[Measured<M::Network>]| {
            targets.iter().filter_map(|target| fastest(found, target)).collect()
        };
        let measured = Grid::of_percentiles(percentiles).search(at, best)?;
        Ok(CandidateGroup { kind, measured })
    }

    /// A candidate and its accuracy on images that the steps call `on`.
    fn measured(
        &self,
        candidate: Candidate,
        snn: Snn<M::Network>,
        (on, images): (&str, &Images<HeldOut, TaskOf<M>>),
        steps: &mut StepCache<'_>,
    ) -> Result<Measured<M::Network>> {
        let step = format!("{on}, {}", self.name(&candidate.to_string()));
        let timesteps = self.settings.timesteps;
        let key = (key_of(&snn, images), timesteps);
        let fit = |curve: &AccuracyCurve| {
            (curve.images(), curve.timesteps()) == (images.len(), timesteps)
        };
        let curve =
            steps.step_that(&step, &key, fit, || Ok(simulate(&snn, images, timesteps)?.curve))?;
        Ok((candidate, snn, curve))
    }

    /// A conversion with the constant factor on all thresholds that is best for the evolution, and
    /// this factor.
    fn constant(
        &self,
        start: &Snn<M::Network>,
        (on, images, target): (&str, &Images<HeldOut, TaskOf<M>>, &Target),
        steps: &mut StepCache<'_>,
    ) -> Result<(f64, Snn<M::Network>)> {
        let EvolveSettings { objective, timesteps, .. } = self.settings.evolution;
        let at = |factor: f64| {
            let snn = start.with(|neurons| Gene::Threshold.express(neurons, factor))?;
            let key = (key_of(&snn, images), target.margin(), objective, timesteps);
            let step = self.name(&format!("{on}, factor {factor}"));
            let fitness = steps.step(&step, &key, || {
                let run = timesteps.into();
                let evaluator = Evaluator::new(snn.network(), images, target, objective, run)?;
                evaluator.fitness(snn.neurons())
            })?;
            Ok(Some((factor, snn, fitness)))
        };
        let best = |found: &[(f64, Snn<M::Network>, Fitness)]| {
            let places = (0..found.len()).reduce(|a, b| match better(&found[b].2, &found[a].2) {
                true => b,
                false => a,
            });
            places.into_iter().collect::<Vec<usize>>()
        };
        let factors = Grid::of_factors(self.settings.sweep_factors, self.settings.sweep_points);
        let mut found = factors.search(at, best)?;
        let place = best(&found)[0];
        let (factor, snn, _) = found.swap_remove(place);
        Ok((factor, snn))
    }

    /// Converts the network in every way on held-out images that the steps call `on`: for the
    /// evolution's target and for further ones, whose best percentiles are looked for too.
    pub fn conversions(
        &self,
        (on, images): (&str, &Images<HeldOut, TaskOf<M>>),
        (target, others): (&Target, &[Target]),
        steps: &mut StepCache<'_>,
    ) -> Result<Conversions<M::Network>> {
        let settings = self.settings;
        let targets = [others, std::slice::from_ref(target)].concat();
        let all = (on, images, &targets[..]);
        let layers = (&settings.percentiles[..], Balance::Percentile as fn(f64) -> Balance);
        let layers = self.percentiles("percentile", layers, all, steps)?;
        let channels = (&settings.channel_percentiles[..], Balance::PercentilePerChannel as _);
        let channels = self.percentiles("percentile per channel", channels, all, steps)?;
        let (Candidate(balance, _), start, _) = channels.best(target)?;
        let (balance, start) = (*balance, start.clone());
        let calibrated = settings.calibrations.iter().map(|&timesteps| {
            let candidate = Candidate(balance, Some(timesteps));
            let snn = self.convert(candidate, steps)?;
            self.measured(candidate, snn, (on, images), steps)
        });
        let measured = calibrated.collect::<Result<_>>()?;
        let groups = vec![layers, channels, CandidateGroup { kind: "calibrated", measured }];
        let (factor, constant) = self.constant(&start, (on, images, target), steps)?;
        Ok(Conversions { groups, start, constant, factor })
    }

    /// Chooses the baselines and evolves networks on held-out images.
    pub fn search(&self, steps: &mut StepCache<'_>) -> Result<SearchResult<M::Network>> {
        let (settings, ann) = (self.settings, self.input.ann);
        let images = self.held_out.take(settings.baseline_images);
        let target = ann.target(&images, settings.margin_points)?;
        let reported = settings.reported(&target)?;
        let conversions = self.conversions(("held-out", &images), (&target, &reported), steps)?;
        let baselines = reported.iter().map(|target| conversions.baselines(target));
        let baselines = baselines.collect::<Result<_>>()?;
        let mut evolved = Vec::new();
        for &seed in &settings.seeds {
            let images = self.input.parts(seed)?.held_out;
            let target = ann.target(&images, settings.margin_points)?;
            let name = format!("evolution, seed {seed}");
            let on = (&images, &target);
            evolved.push(self.evolve(seed, &conversions.constant, on, &name, steps)?);
        }
        Ok(SearchResult { conversions, baselines, evolved })
    }

    /// Evolves a network for a target on held-out images, with a checkpoint of this name.
    pub fn evolve(
        &self,
        seed: u64,
        start: &Snn<M::Network>,
        (images, target): (&Images<HeldOut, TaskOf<M>>, &Target),
        name: &str,
        steps: &mut StepCache<'_>,
    ) -> Result<Evolved<M::Network>> {
        let settings = changed(&self.settings.evolution, |evolution| evolution.seed = seed);
        let step = self.name(name);
        let path = steps.path(&step, "checkpoint");
        let evolution =
            Resume::at(path).stopped_by(steps.stop).evolve(start, images, target, &settings)?;
        (steps.timing).push(TimingRow::new(&step, evolution.seconds));
        Ok(Evolved { seed, evolution })
    }

    /// Simulates each network once on the test images and adds its accuracy to the rows. `names`
    /// gives the names of a network's step and of its rows.
    pub fn test(
        &self,
        networks: BTreeMap<String, &Snn<M::Network>>,
        images: &Images<Test, TaskOf<M>>,
        names: impl Fn(&str) -> [String; 2],
        steps: &mut StepCache<'_>,
        accuracy: &mut Vec<AccuracyRow>,
    ) -> Result<BTreeMap<String, Simulation>> {
        let mut tested = BTreeMap::new();
        for (name, snn) in networks {
            let [step, label] = names(&name);
            let run = steps.run(&step, snn, images, self.settings.timesteps)?;
            accuracy.extend(AccuracyRow::of(0, &label, &run.curve));
            tested.insert(name, run);
        }
        Ok(tested)
    }

    /// Writes charts of the first evolution, and of all networks at the reported target nearest to
    /// the evolution's.
    fn charts(
        &self,
        output: &Output,
        found: &SearchResult<M::Network>,
        tested: &BTreeMap<String, Simulation>,
        targets: &[Target],
    ) -> Result<()> {
        let nearest = self.settings.nearest_margin(self.settings.margin_points);
        let baselines = found.baselines[nearest].iter();
        let baselines = baselines.map(|baseline| baseline.name.clone());
        let names = baselines.chain(found.evolved.iter().map(Evolved::name));
        let names: Vec<String> = names.collect();
        let curves = names.iter().map(|name| (name, &tested[name].curve));
        let title = |what: &str| format!("{}, {}", M::Network::NAME, self.name(what));
        let suffix = format!("-initial-{}", self.initial);
        let chart = accuracy_chart(&title("test images"), curves, Some(&targets[nearest]))?;
        chart.save(output.path(&format!("accuracy{suffix}.svg")))?;
        let Evolved { seed, evolution } = &found.evolved[0];
        let titles = ["evolution", "thresholds"].map(|what| title(&format!("{what}, seed {seed}")));
        let titles = titles.each_ref().map(String::as_str);
        evolution_charts(output, &suffix, titles, &found.conversions.start, evolution)
    }
}

impl<N: Classifier> SearchResult<N> {
    /// Every network once, by its name.
    pub fn networks(&self) -> BTreeMap<String, &Snn<N>> {
        let baselines = self.baselines.iter().flatten();
        let baselines = baselines.map(|baseline| (baseline.name.clone(), &baseline.snn));
        let evolved = self.evolved.iter();
        let evolved = evolved.map(|evolved| (evolved.name(), &evolved.evolution.snn));
        baselines.chain(evolved).collect()
    }
}

impl<N: Classifier> CandidateGroup<N> {
    /// Candidate of the lowest latency, and of those the one of the least deficit.
    fn best(&self, target: &Target) -> Result<&Measured<N>> {
        let best = fastest(&self.measured, target).map(|place| &self.measured[place]);
        let found = "none with thresholds above 0";
        best.ok_or_else(|| Error::parameter("percentiles", found, "at least one"))
    }
}
