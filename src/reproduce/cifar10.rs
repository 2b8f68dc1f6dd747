//! The paper's headline: latency won on CIFAR-10 by evolved thresholds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::ann::layers::checksum;
use crate::ann::model::Ann;
use crate::ann::networks::Network;
use crate::base::check::at_least;
use crate::base::check::not_empty;
use crate::base::check::require;
use crate::base::check::some_timesteps;
use crate::base::error::{Error, Result};
use crate::base::files::Output;
use crate::base::resume::Resume;
use crate::base::table::show;
use crate::convert::{Balance, Conversion, convert};
use crate::data::images::{HeldOut, Images, Split, TrainTest};
use crate::data::tasks::Cifar10;
use crate::evolve::cmaes::CmaEsSettings;
use crate::evolve::fitness::{Objective, Stopping};
use crate::evolve::generation::ConvergenceRow;
use crate::evolve::genome::Gene;
use crate::evolve::genome::Genome;
use crate::evolve::run::{Evolution, evolve};
use crate::evolve::search::Search;
use crate::evolve::settings::EvolveSettings;
use crate::evolve::thresholds::ThresholdRow;
use crate::evolve::thresholds::thresholds_chart;
use crate::metrics::AccuracyRow;
use crate::metrics::accuracy_chart;
use crate::metrics::{AccuracyCurve, Target};
use crate::reproduce::rows::ComparisonRow;
use crate::reproduce::rows::Report;
use crate::reproduce::steps::StepCache;
use crate::reproduce::steps::{Provenance, TimingRow, check_margin};
use crate::simulate::network::Snn;
use crate::simulate::neurons::Neurons;
use crate::simulate::run::simulate;
use crate::simulate::simulator::Simulation;

/// Settings of [`cifar10`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cifar10Settings {
    /// One evolution for each: the seed drives the optimiser and chooses its images.
    pub seeds: Vec<u64>,
    /// Initial potentials in thresholds: a comparison each, of networks that have it in common.
    pub initial: Vec<f32>,
    /// Training images whose activations thresholds are balanced from.
    pub balance_images: usize,
    /// Conversions with a threshold a layer, of which the best is the baseline.
    pub percentiles: Vec<f64>,
    /// Conversions with a threshold a channel, of which the best is the stronger baseline.
    pub channel_percentiles: Vec<f64>,
    /// Timesteps that the best conversion with a threshold a channel is calibrated for: the best of
    /// these is the strongest conversion that there is.
    pub calibrations: Vec<usize>,
    /// Held-out images that baselines are chosen on; no more than there are.
    pub baseline_images: usize,
    /// Timesteps of every simulation but evolution's.
    pub timesteps: usize,
    /// Evolution, on all held-out images, in an order that its seed decides; it is replaced by each
    /// of `seeds`.
    pub evolution: EvolveSettings,
    /// The evolution's target, in percentage points below the ANN.
    pub margin_points: f64,
    /// Range of the factor that is tried on all thresholds at once ([`Gene::Threshold`]): with the
    /// best, it is the evolution's one-parameter rival and what it starts from.
    pub sweep_factors: [f64; 2],
    /// Factors in that range.
    pub sweep_points: usize,
    /// Targets that are reported, in percentage points below the ANN.
    pub reported_margins: Vec<f64>,
    /// Test images, drawn at random once; no more than there are.
    pub test_images: usize,
}

show!(Cifar10Settings as fields);

impl Default for Cifar10Settings {
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
                search: Search::CmaEs(CmaEsSettings {
                    population: Some(14),
                    sigma: 0.15,
                }),
                objective: Objective::MeanLatency,
                genome: vec![(Gene::Scale, [0.75, 1.25]), (Gene::Threshold, [0.88, 1.12])],
                generations: 15,
                timesteps: 56,
                stopping: Stopping::Never,
                batch: Some(500),
                ..EvolveSettings::default()
            },
            margin_points: 2.0,
            sweep_factors: [0.91, 1.0],
            sweep_points: 7,
            reported_margins: vec![0.5, 1.0, 2.0],
            test_images: 10_000,
        }
    }
}

impl Cifar10Settings {
    /// Refuses settings out of range before anything runs.
    pub(super) fn check(&self) -> Result<()> {
        not_empty("seeds", &self.seeds)?;
        not_empty("initial", &self.initial)?;
        not_empty("percentiles", &self.percentiles)?;
        not_empty("channel_percentiles", &self.channel_percentiles)?;
        not_empty("calibrations", &self.calibrations)?;
        not_empty("reported_margins", &self.reported_margins)?;
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

    /// [`check`](Self::check) of an experiment that goes on from one initial potential.
    pub(super) fn check_of_one_initial(&self) -> Result<()> {
        self.check()?;
        let found = format!("{:?}", self.initial);
        require(
            self.initial.len() == 1,
            "initial",
            found,
            "one initial potential",
        )
    }

    /// Place of the reported margin that is nearest to this one.
    pub(super) fn nearest_margin(&self, points: f64) -> usize {
        let distances = self
            .reported_margins
            .iter()
            .map(|margin| (margin - points).abs());
        let nearest = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.map_or(0, |(place, _)| place)
    }
}

/// What [`cifar10`] works on.
pub struct Cifar10Input<'a, N: Network<Task = Cifar10>> {
    /// The trained network.
    pub ann: &'a Ann<N>,
    /// Normalised as it was trained.
    pub data: &'a TrainTest<Cifar10>,
    /// Lists the training images that it was not trained on, by their place, one a line.
    pub held_out_list: &'a Path,
}

/// The paper's headline on CIFAR-10: how much earlier a network with evolved thresholds reaches a
/// target accuracy than the best conversions of the same trained network, with the same initial
/// potential, reset and leak.
///
/// Everything is chosen on held-out images; each final network sees the test images once. Files as
/// of [`digits`](super::digits()), with `comparison.csv` instead of `latency.csv`. Every step's
/// result is kept in `folder/.checkpoints`, and the same call goes on from there after an
/// interruption, whenever it comes; when `stop` is set by another thread, it ends after the running
/// step or generation.
///
/// # Errors
/// Settings out of range; a list that does not fit the data; a folder that cannot be written to;
/// [`Error::Stopped`].
pub fn cifar10<N: Network<Task = Cifar10>>(
    input: &Cifar10Input<'_, N>,
    settings: &Cifar10Settings,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Report<ComparisonRow>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let (workspace, mut steps) = Workspace::new(input, settings, &folder, stop)?;
    let test = workspace.parts.test.take(settings.test_images);
    let targets: Vec<Target> = (settings.reported_margins.iter())
        .map(|&margin| input.ann.target(&test, margin))
        .collect::<Result<_>>()?;

    let mut rows = Vec::new();
    let (mut accuracy, mut convergence, mut layers) = (Vec::new(), Vec::new(), Vec::new());
    for &initial in &settings.initial {
        let experiment = workspace.experiment(initial);
        let found = experiment.search(&mut steps)?;
        let mut tested: BTreeMap<String, Simulation> = BTreeMap::new();
        for (name, snn) in &found.networks() {
            let name_here = experiment.name(name);
            let step = format!("test, {name_here}");
            let run = steps.step(&step, || simulate(snn, &test, settings.timesteps))?;
            accuracy.extend(AccuracyRow::of(0, &name_here, &run.curve));
            tested.insert(name.clone(), run);
        }
        for (margin, target) in targets.iter().enumerate() {
            for evolved in &found.evolved {
                for rival in &found.rivals[margin] {
                    rows.push(ComparisonRow::new(
                        (initial, evolved.seed),
                        target,
                        (rival.kind, &rival.name),
                        [
                            (&rival.snn, &tested[&rival.name]),
                            (&evolved.evolution.snn, &tested[&evolved.name()]),
                        ],
                    )?);
                }
            }
        }
        for evolved in &found.evolved {
            let margin = settings.margin_points;
            convergence.extend(evolved.convergence(initial, margin));
            layers.extend(evolved.thresholds(&found.start, margin));
        }
        experiment.charts(&output, &found, &tested, &targets)?;
    }
    output.csv("comparison.csv", &rows)?;
    output.csv("accuracy.csv", accuracy)?;
    output.csv("convergence.csv", convergence)?;
    output.csv("thresholds.csv", layers)?;
    output.csv("timing.csv", &steps.timing)?;
    workspace.write_settings(&output, "cifar10", settings)?;
    Ok(Report {
        rows,
        files: output.complete()?,
    })
}

/// Data and networks of an experiment on one trained network.
pub(super) struct Workspace<'a, N: Network<Task = Cifar10>> {
    input: &'a Cifar10Input<'a, N>,
    settings: &'a Cifar10Settings,
    /// Parts of the data, divided by seed 0.
    pub parts: Split<Cifar10>,
    pub conversion: Conversion<N>,
    /// CRC-32 of the held-out and of the test images.
    pub images_checksums: [u32; 2],
    /// CRC-32 of the trained network.
    pub weights_checksum: u32,
}

impl<'a, N: Network<Task = Cifar10>> Workspace<'a, N> {
    /// Converts the network; gives the kept results of its steps as well.
    pub fn new(
        input: &'a Cifar10Input<'a, N>,
        settings: &'a Cifar10Settings,
        folder: &Path,
        stop: &'a AtomicBool,
    ) -> Result<(Self, StepCache<'a>)> {
        let parts = input.parts(0)?;
        settings.evolution.batch_of(parts.held_out.len())?;
        let conversion = convert(input.ann, &parts.training.take(settings.balance_images))?;
        let thresholds = conversion.balance(Balance::Max)?.thresholds();
        let images_checksums = [
            parts.held_out.view().checksum(),
            parts.test.view().checksum(),
        ];
        let weights_checksum = checksum(&input.ann.layers()?);
        // Steps are named after the rest.
        let common = Cifar10Settings {
            seeds: Vec::new(),
            initial: Vec::new(),
            reported_margins: Vec::new(),
            ..settings.clone()
        };
        let version = env!("CARGO_PKG_VERSION");
        let checksums = (images_checksums, weights_checksum);
        let key = (version, N::NAME, common, checksums, thresholds);
        let steps = StepCache::new("reproduce cifar10", folder, &key, stop)?;
        let workspace = Self {
            input,
            settings,
            parts,
            conversion,
            images_checksums,
            weights_checksum,
        };
        Ok((workspace, steps))
    }

    /// The experiment with neurons of this initial potential.
    pub fn experiment(&self, initial: f32) -> Experiment<'_, N> {
        Experiment {
            input: self.input,
            held_out: &self.parts.held_out,
            conversion: &self.conversion,
            settings: self.settings,
            initial,
        }
    }

    /// Key of steps that depend on these settings, the network and the images.
    pub fn key<S: Serialize>(&self, settings: S) -> impl Serialize {
        let checksums = (self.images_checksums, self.weights_checksum);
        (env!("CARGO_PKG_VERSION"), N::NAME, settings, checksums)
    }

    /// Writes what made the files of an experiment.
    pub fn write_settings<S: Serialize>(
        &self,
        output: &Output,
        experiment: &str,
        settings: &S,
    ) -> Result<()> {
        let weights = [self.weights_checksum];
        let names = (experiment, N::NAME);
        let made_by = Provenance::new(names, self.images_checksums, weights, settings);
        output.json("settings.json", &made_by)
    }
}

impl<N: Network<Task = Cifar10>> Cifar10Input<'_, N> {
    /// The data divided, each part in an order that the seed decides.
    pub(super) fn parts(&self, seed: u64) -> Result<Split<Cifar10>> {
        self.data.hold_out_listed(self.held_out_list, seed)
    }
}

/// One setting of the neurons, on the held-out images.
pub(super) struct Experiment<'a, N: Network<Task = Cifar10>> {
    pub input: &'a Cifar10Input<'a, N>,
    held_out: &'a Images<HeldOut, Cifar10>,
    conversion: &'a Conversion<N>,
    settings: &'a Cifar10Settings,
    pub initial: f32,
}

/// A conversion, and the timesteps that it is calibrated for, if it is.
#[derive(Clone, Copy)]
pub(super) struct Candidate(Balance, Option<usize>);

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.1 {
            Some(timesteps) => write!(f, ", calibrated for {timesteps} timesteps"),
            None => Ok(()),
        }
    }
}

/// Candidates of one kind, and what they became.
pub(super) struct Kind<N: Network> {
    pub name: &'static str,
    pub converted: Vec<(Candidate, Snn<N>)>,
}

/// Candidates of one kind, with their accuracy on held-out images.
pub(super) struct Measured<'a, N: Network> {
    kind: &'a Kind<N>,
    curves: Vec<AccuracyCurve>,
}

/// A network that evolution is compared with.
pub(super) struct Rival<N: Network> {
    pub kind: &'static str,
    pub name: String,
    pub snn: Snn<N>,
}

pub(super) struct Evolved<N: Network> {
    pub seed: u64,
    pub evolution: Evolution<N>,
}

impl<N: Network> Clone for Rival<N> {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            name: self.name.clone(),
            snn: self.snn.clone(),
        }
    }
}

impl<N: Network> Evolved<N> {
    /// How it went, for a target so many points below.
    pub fn convergence(
        &self,
        initial: f32,
        margin: f64,
    ) -> impl Iterator<Item = ConvergenceRow> + '_ {
        let generations = self.evolution.generations.iter();
        generations.map(move |state| ConvergenceRow::new(self.seed, initial, margin, state))
    }

    /// Its thresholds beside those that were converted.
    pub fn thresholds(&self, start: &Snn<N>, margin: f64) -> Vec<ThresholdRow> {
        ThresholdRow::of(self.seed, margin, start, &self.evolution.snn)
    }

    pub fn name(&self) -> String {
        format!("evolved, seed {}", self.seed)
    }
}

/// What the held-out images decided.
pub(super) struct Found<N: Network> {
    /// All that there were to choose from.
    pub kinds: Vec<Kind<N>>,
    /// For each reported margin.
    pub rivals: Vec<Vec<Rival<N>>>,
    /// The conversion whose thresholds evolution changed.
    pub start: Snn<N>,
    /// It with the best constant factor, which evolution started from.
    pub constant: Snn<N>,
    pub evolved: Vec<Evolved<N>>,
}

impl<N: Network<Task = Cifar10>> Experiment<'_, N> {
    pub fn name(&self, of: &str) -> String {
        format!("{of}, initial potential {}", self.initial)
    }

    fn convert(&self, candidate: Candidate, steps: &mut StepCache<'_>) -> Result<Snn<N>> {
        let Candidate(balance, calibration) = candidate;
        let snn = self.conversion.balance(balance)?;
        let snn = snn.with(|neurons| neurons.initial = self.initial)?;
        let Some(timesteps) = calibration else {
            return Ok(snn);
        };
        let step = format!("conversion, {}", self.name(&candidate.to_string()));
        let neurons: Vec<Neurons> = steps.step(&step, || {
            let calibrated = self.conversion.calibrated(&snn, timesteps)?;
            Ok(calibrated.neurons().to_vec())
        })?;
        snn.with_neurons(neurons)
    }

    fn kind(
        &self,
        name: &'static str,
        candidates: impl Iterator<Item = Candidate>,
        steps: &mut StepCache<'_>,
    ) -> Result<Kind<N>> {
        let mut converted = Vec::new();
        for candidate in candidates {
            match self.convert(candidate, steps) {
                // So low a percentile that a sparse layer's threshold is 0 is no candidate.
                Err(Error::Layer { .. }) => (),
                snn => converted.push((candidate, snn?)),
            }
        }
        Ok(Kind { name, converted })
    }

    /// The accuracy of conversions on held-out images, `on` which they are called.
    pub fn measure<'a>(
        &self,
        kind: &'a Kind<N>,
        images: &Images<HeldOut, Cifar10>,
        on: &str,
        steps: &mut StepCache<'_>,
    ) -> Result<Measured<'a, N>> {
        let mut curves = Vec::new();
        for (candidate, snn) in &kind.converted {
            let step = format!("{on}, {}", self.name(&candidate.to_string()));
            curves.push(steps.step(&step, || {
                Ok(simulate(snn, images, self.settings.timesteps)?.curve)
            })?);
        }
        Ok(Measured { kind, curves })
    }

    pub fn search(&self, steps: &mut StepCache<'_>) -> Result<Found<N>> {
        let (settings, ann) = (self.settings, self.input.ann);
        let images = self.held_out.take(settings.baseline_images);
        let goal = ann.target(&images, settings.margin_points)?;
        let on = "held-out";
        let percentiles = settings.percentiles.iter().map(|&p| Balance::Percentile(p));
        let percentiles = percentiles.map(|balance| Candidate(balance, None));
        let layers = self.kind("percentile", percentiles, steps)?;
        let layers_measured = self.measure(&layers, &images, on, steps)?;
        let channels = settings.channel_percentiles.iter();
        let channels = channels.map(|&p| Candidate(Balance::PercentilePerChannel(p), None));
        let channels = self.kind("percentile per channel", channels, steps)?;
        let channels_measured = self.measure(&channels, &images, on, steps)?;
        let (Candidate(balance, _), start) = channels_measured.best(&goal)?;
        let start = start.clone();
        let calibrations = settings.calibrations.iter();
        let calibrations = calibrations.map(|&timesteps| Candidate(*balance, Some(timesteps)));
        let calibrated = self.kind("calibrated", calibrations, steps)?;
        let calibrated_measured = self.measure(&calibrated, &images, on, steps)?;

        let factors = [(Gene::Threshold, settings.sweep_factors)];
        let sweep = EvolveSettings {
            search: Search::Sweep {
                points: settings.sweep_points,
            },
            genome: factors.to_vec(),
            generations: 0,
            stopping: Stopping::Never,
            batch: None,
            ..settings.evolution.clone()
        };
        let factor: f64 = steps.step(&self.name("constant factor"), || {
            Ok(evolve(&start, &images, &goal, &sweep)?.genes[0])
        })?;
        let genome = Genome::new(&factors, start.neurons())?;
        let values = vec![factor; genome.bounds().len()];
        let constant = start.with_neurons(genome.express(&values))?;

        let mut rivals = Vec::new();
        for &margin in &settings.reported_margins {
            let goal = ann.target(&images, margin)?;
            let mut of_margin = Vec::new();
            for measured in [&layers_measured, &channels_measured, &calibrated_measured] {
                of_margin.push(measured.rival(&goal)?);
            }
            of_margin.push(Rival {
                kind: "constant factor",
                name: format!("factor {factor:.3}"),
                snn: constant.clone(),
            });
            rivals.push(of_margin);
        }

        let mut evolved = Vec::new();
        for &seed in &settings.seeds {
            let images = self.input.parts(seed)?.held_out;
            let goal = ann.target(&images, settings.margin_points)?;
            let name = format!("evolution, seed {seed}");
            evolved.push(self.evolve(seed, &constant, (&images, &goal), &name, steps)?);
        }
        Ok(Found {
            kinds: vec![layers, channels, calibrated],
            rivals,
            start,
            constant,
            evolved,
        })
    }

    /// Evolves a network on held-out images for a target on them, with a checkpoint by this name.
    pub fn evolve(
        &self,
        seed: u64,
        start: &Snn<N>,
        (images, goal): (&Images<HeldOut, Cifar10>, &Target),
        name: &str,
        steps: &mut StepCache<'_>,
    ) -> Result<Evolved<N>> {
        let settings = EvolveSettings {
            seed,
            ..self.settings.evolution.clone()
        };
        let step = self.name(name);
        let path = steps.path(&step, "checkpoint");
        let evolution = Resume::at(path)
            .stopped_by(steps.stop)
            .evolve(start, images, goal, &settings)?;
        (steps.timing).push(TimingRow::new(&step, evolution.seconds));
        Ok(Evolved { seed, evolution })
    }

    /// Curves of the evolved networks and their rivals at the reported target nearest to the
    /// evolution's, and how the first evolution went.
    fn charts(
        &self,
        output: &Output,
        found: &Found<N>,
        tested: &BTreeMap<String, Simulation>,
        targets: &[Target],
    ) -> Result<()> {
        let nearest = self.settings.nearest_margin(self.settings.margin_points);
        let rivals = found.rivals[nearest].iter().map(|rival| rival.name.clone());
        let names = rivals.chain(found.evolved.iter().map(Evolved::name));
        let names: Vec<String> = names.collect();
        let curves = names.iter().map(|name| (name, &tested[name].curve));
        let title = |what: &str| format!("CIFAR-10, {}", self.name(what));
        let file = |what: &str| format!("{what}-initial-{}.svg", self.initial);
        let chart = accuracy_chart(&title("test images"), curves, Some(&targets[nearest]))?;
        chart.save(output.path(&file("accuracy")))?;
        let Some(evolved) = found.evolved.first() else {
            return Ok(());
        };
        let (seed, evolution) = (evolved.seed, &evolved.evolution);
        let chart = evolution.convergence(&title(&format!("evolution, seed {seed}")))?;
        chart.save(output.path(&file("convergence")))?;
        let margin = self.settings.margin_points;
        let layers = evolved.thresholds(&found.start, margin);
        let chart = thresholds_chart(&title(&format!("thresholds, seed {seed}")), &layers)?;
        chart.save(output.path(&file("thresholds")))
    }
}

impl<N: Network> Found<N> {
    /// Every network once, with its name.
    fn networks(&self) -> BTreeMap<String, &Snn<N>> {
        let rivals = self.rivals.iter().flatten();
        let rivals = rivals.map(|rival| (rival.name.clone(), &rival.snn));
        let evolved = self.evolved.iter();
        rivals
            .chain(evolved.map(|evolved| (evolved.name(), &evolved.evolution.snn)))
            .collect()
    }
}

impl<N: Network> Measured<'_, N> {
    /// The conversion of the lowest latency, and of those the one of the least deficit.
    fn best(&self, target: &Target) -> Result<&(Candidate, Snn<N>)> {
        let curves = self.curves.iter().map(|curve| curve.shortfall(target));
        let best = curves.zip(&self.kind.converted).min_by(|(a, _), (b, _)| {
            let ([a, b], [a_deficit, b_deficit]) = ([a.0, b.0], [a.1, b.1]);
            a.cmp(&b).then(a_deficit.total_cmp(&b_deficit))
        });
        best.map(|(_, converted)| converted).ok_or_else(|| {
            Error::parameter(
                "percentiles",
                "none with thresholds above 0",
                "at least one",
            )
        })
    }

    /// It as a rival.
    pub fn rival(&self, target: &Target) -> Result<Rival<N>> {
        let (candidate, snn) = self.best(target)?;
        Ok(Rival {
            kind: self.kind.name,
            name: candidate.to_string(),
            snn: snn.clone(),
        })
    }
}
