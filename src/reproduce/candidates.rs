//! Networks of each kind of neurons, converted in the usual ways and evolved, all chosen on held-out
//! images, and their runs on the test images.

use std::fmt;

use serde::Serialize;

use super::grid::{Grid, tried};
use super::kinds::{NeuronKind, NeuronsSettings};
use super::steps::{StepCache, TimingRow, key_of};
use crate::ann::{Classifier, Model, TaskOf};
use crate::base::{Chart, Error, Result, Resume, rounded};
use crate::convert::{Balance, Conversion, convert};
use crate::data::{HeldOut, Images, Split, Task};
use crate::evolve::{Evaluator, Objective};
use crate::metrics::{Accuracy, AccuracyCurve, AccuracyRow, Target, accuracy_chart};
use crate::simulate::{Exit, SimulateSettings, Simulation, Snn, Spikes, simulate};

/// What [`measure`] found.
pub(super) struct Measured<N: Classifier> {
    pub networks: Vec<Tested<N>>,
    pub convergence: Vec<GenerationRow>,
    /// Targets on the test images: 2, 1 and 0.5 points below the ANN.
    pub targets: [Target; 3],
    /// Top-5 accuracy of the ANN on the test images, for a task of many classes.
    pub ann_top_5: Option<Accuracy>,
    /// CRC-32 of the held-out and the test images, and of the weights.
    pub checksums: [u32; 3],
}

impl<N: Classifier> Measured<N> {
    /// Accuracies of all networks on the test images.
    pub fn accuracy(&self) -> Vec<AccuracyRow> {
        let networks = self.networks.iter();
        let rows = networks.flat_map(|Tested { chosen, run, .. }| {
            AccuracyRow::of(chosen.seed, &chosen.to_string(), &run.curve).collect::<Vec<_>>()
        });
        rows.collect()
    }

    /// Top-5 accuracies of the ANN and of all networks on the test images, for a task of many classes.
    pub fn top_5(&self) -> Result<Vec<AccuracyRow>> {
        let mut rows = Vec::new();
        for Tested { chosen, top_5, .. } in &self.networks {
            let Some((ann, curve)) = self.ann_top_5.zip(top_5.as_ref()) else { continue };
            if rows.is_empty() {
                // The same after every timestep.
                let ann = AccuracyCurve::new(ann.images, vec![ann.correct; curve.timesteps()])?;
                rows.extend(AccuracyRow::of(chosen.seed, "ANN", &ann));
            }
            rows.extend(AccuracyRow::of(chosen.seed, &chosen.to_string(), curve));
        }
        Ok(rows)
    }

    /// Accuracies, against the target 1 point below the ANN, of percentile conversions and of what
    /// evolution found with the first seed: a network better than the conversion that it started
    /// from, or this conversion. Of one kind of neurons, both; without evolution, the calibrated ones.
    pub fn chart(&self, title: &str) -> Result<Chart> {
        let all = || self.networks.iter().map(|network| &network.chosen);
        let one =
            all().all(|chosen| all().next().is_some_and(|of| of.kind.name == chosen.kind.name));
        let shown = |(place, Tested { chosen, .. }): &(usize, &Tested<N>)| match chosen.start {
            Some(start) => {
                let first = all().next().is_some_and(|of| of.seed == chosen.seed);
                first && self.networks[start].chosen.step != chosen.step
            }
            None => {
                // The first seed comes first.
                let found = all().find(|of| of.start == Some(*place));
                let kept = found.is_some_and(|found| one || found.step == chosen.step);
                let last = chosen.network == CALIBRATED && all().all(|of| of.start.is_none());
                chosen.network == PERCENTILE || kept || last
            }
        };
        let curves = self.networks.iter().enumerate().filter(shown);
        let curves = curves.map(|(_, Tested { chosen, run, .. })| (chosen.to_string(), &run.curve));
        accuracy_chart(title, curves, Some(&self.targets[1]))
    }
}

/// Chooses the networks on held-out images and runs each on the test images.
pub(super) fn measure<M: Model>(
    ann: &M,
    parts: &Split<TaskOf<M>>,
    settings: &NeuronsSettings,
    steps: &mut StepCache<'_>,
) -> Result<Measured<M::Network>> {
    let checksums = [parts.held_out.checksum(), parts.test.checksum(), ann.checksum()?];
    let training = parts.training.take(settings.balance_images);
    let held_out = parts.held_out.take(settings.baseline_images);
    let choosing = ann.target(&held_out, 1.0)?;
    let experiment = Experiment {
        conversion: convert(ann, &training)?,
        gap_target: choosing.with_margin(0.5)?,
        choosing: (&held_out, &choosing),
        evolving: (&parts.held_out, &ann.target(&parts.held_out, 1.0)?),
        settings,
    };
    let (mut chosen, mut convergence) = (Vec::new(), Vec::new());
    for kind in &settings.kinds {
        experiment.kind(kind, &mut chosen, &mut convergence, steps)?;
    }
    let images = parts.test.take(settings.test_images);
    let target = ann.target(&images, 1.0)?;
    let run = SimulateSettings { outputs: true, ..settings.timesteps.into() };
    let many = <TaskOf<M> as Task>::CLASSES >= MANY_CLASSES;
    let mut networks = Vec::new();
    for chosen in chosen {
        let key = (key_of(&chosen.snn, &images), run, chosen.gap, many);
        let fit = |(kept, _, top_5): &(Simulation, Option<Exit>, Option<AccuracyCurve>)| {
            let whole = kept.is_of(images.len(), settings.timesteps) && kept.outputs.is_none();
            whole && top_5.is_some() == many
        };
        // Outputs of many classes would be too many to keep.
        let step = format!("test, {}", chosen.step);
        let (run, exit, top_5) = steps.step_that(&step, &key, fit, || {
            let mut run = simulate(&chosen.snn, &images, run)?;
            let exit = chosen.gap.map(|gap| run.exit_at(gap)).transpose()?;
            let top_5 = many.then(|| run.top_curve(5, &images)).transpose()?;
            run.outputs = None;
            Ok((run, exit, top_5))
        })?;
        networks.push(Tested { chosen, run, exit, top_5 });
    }
    let ann_top_5 = many.then(|| ann.top_accuracy(5, &images)).transpose()?;
    let targets = [target.with_margin(2.0)?, target.clone(), target.with_margin(0.5)?];
    Ok(Measured { networks, convergence, targets, ann_top_5, checksums })
}

/// Row of `neurons-convergence.csv`: one generation of one evolution.
#[derive(Serialize)]
pub(super) struct GenerationRow {
    neuron: String,
    seed: u64,
    /// Number of the evolution in the settings, from 0.
    evolution: usize,
    generation: usize,
    evaluations: usize,
    /// Objective of the best and the median network on the batch of this generation.
    best: f64,
    median: f64,
    /// Objective of the optimiser's mean, on the same images in all generations.
    incumbent: Option<f64>,
}

/// Network chosen on held-out images.
pub(super) struct Chosen<N: Classifier> {
    pub kind: NeuronKind,
    /// Sort of the network: percentile, factor, least_squares, calibrated or evolved.
    pub network: &'static str,
    pub seed: u64,
    /// How it was chosen among others of its sort.
    pub conversion: String,
    pub snn: Snn<N>,
    /// What its steps are named after.
    step: String,
    /// Gap of early exit, if one reaches the target.
    pub gap: Option<f32>,
    /// Place, in the list of all networks, of the conversion that it was evolved from: the strongest
    /// of its kind.
    pub start: Option<usize>,
}

impl<N: Classifier> fmt::Display for Chosen<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.kind.name, self.network)?;
        match self.network {
            EVOLVED => write!(f, ", seed {}", self.seed),
            _ => Ok(()),
        }
    }
}

/// A chosen network and its run on the test images.
pub(super) struct Tested<N: Classifier> {
    pub chosen: Chosen<N>,
    pub run: Simulation,
    /// Early exit at the chosen gap.
    pub exit: Option<Exit>,
    /// Top-5 accuracy after every timestep, for a task of many classes.
    pub top_5: Option<AccuracyCurve>,
}

/// Number of classes from which on top-5 accuracy is customary.
const MANY_CLASSES: usize = 100;

/// Sort of the conversions by percentiles.
pub(super) const PERCENTILE: &str = "percentile";

/// Sort of the conversions with calibrated currents or potentials.
const CALIBRATED: &str = "calibrated";

/// Sort of a network that evolution found.
pub(super) const EVOLVED: &str = "evolved";

/// The network, and what is chosen on held-out images.
struct Experiment<'a, N: Classifier> {
    conversion: Conversion<N>,
    choosing: (&'a Images<HeldOut, N::Task>, &'a Target),
    gap_target: Target,
    evolving: (&'a Images<HeldOut, N::Task>, &'a Target),
    settings: &'a NeuronsSettings,
}

/// A conversion, its name and its error on held-out images.
type Candidate<N> = (String, Snn<N>, f64);

impl<N: Classifier> Experiment<'_, N> {
    /// Adds the error on held-out images, in percent, after the timestep that the kind is to be good
    /// at.
    fn measured(
        &self,
        kind: &NeuronKind,
        candidates: Vec<(String, Snn<N>)>,
        steps: &mut StepCache<'_>,
    ) -> Result<Vec<Candidate<N>>> {
        let (images, target) = self.choosing;
        let objective = Objective::ErrorAt { timestep: kind.from };
        let error = |(name, snn): (String, Snn<N>)| {
            let key = (key_of(&snn, images), kind.from);
            let error = steps.step(&format!("held-out, {}, {name}", kind.name), &key, || {
                let run = kind.from.into();
                let evaluator = Evaluator::new(snn.network(), images, target, objective, run)?;
                Ok(evaluator.fitness(snn.neurons())?.value())
            })?;
            Ok((name, snn, error))
        };
        candidates.into_iter().map(error).collect()
    }

    /// Conversions on a grid, each with its error.
    fn on_grid(
        &self,
        kind: &NeuronKind,
        grid: Grid,
        conversion: impl Fn(f64) -> Result<Option<(String, Snn<N>)>>,
        steps: &mut StepCache<'_>,
    ) -> Result<Vec<Candidate<N>>> {
        let at = |value| {
            let converted = conversion(value)?.into_iter().collect();
            Ok(self.measured(kind, converted, steps)?.pop())
        };
        let best = |found: &[Candidate<N>]| {
            let errors = found.iter().map(|(.., error)| *error).enumerate();
            errors.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place).into_iter().collect()
        };
        grid.search(at, best)
    }

    /// Conversions by percentiles per channel.
    fn percentiles(
        &self,
        kind: &NeuronKind,
        steps: &mut StepCache<'_>,
    ) -> Result<Vec<Candidate<N>>> {
        let conversion = |percent| {
            let balance = Balance::PercentilePerChannel(percent);
            let snn = tried(self.balanced(kind, balance))?;
            Ok(snn.map(|snn| (balance.to_string(), snn)))
        };
        let grid = Grid::of_percentiles(&self.settings.percentiles);
        self.on_grid(kind, grid, conversion, steps)
    }

    /// Conversions by least squares per channel.
    fn least_squares(&self, kind: &NeuronKind) -> Result<Vec<(String, Snn<N>)>> {
        let Spikes { levels, most, .. } = kind.spikes;
        let conversion = |multiple: &f64| {
            let spikes = (multiple * (usize::from(most) * kind.from) as f64).ceil() as usize;
            let balance = Balance::LeastSquaresPerChannel { spikes };
            let snn = self.balanced(kind, balance)?;
            // The threshold is the most that a neuron fires in a timestep; of bursts, that is more
            // than one threshold.
            let scale = f64::from(levels) / f64::from(most);
            Ok((balance.to_string(), snn.scaled(&vec![scale; snn.neurons().len()])?))
        };
        self.settings.least_squares.iter().map(conversion).collect()
    }

    fn balanced(&self, kind: &NeuronKind, balance: Balance) -> Result<Snn<N>> {
        let snn = self.conversion.balance(balance)?;
        snn.with_initial(self.settings.initial)?.with_spikes(kind.spikes)
    }

    /// A conversion with every threshold multiplied by each of the factors.
    fn factors(
        &self,
        kind: &NeuronKind,
        (name, snn, _): &Candidate<N>,
        steps: &mut StepCache<'_>,
    ) -> Result<Vec<Candidate<N>>> {
        let conversion = |factor: f64| {
            let scaled = snn.scaled(&vec![factor; snn.neurons().len()])?;
            Ok(Some((format!("{name}, factor {factor:.3}"), scaled)))
        };
        let grid = Grid::of_factors(self.settings.factors, self.settings.factor_points);
        self.on_grid(kind, grid, conversion, steps)
    }

    /// Every conversion with its initial potentials calibrated, and the best percentile and those by
    /// least squares with their currents calibrated.
    fn calibrated(
        &self,
        kind: &NeuronKind,
        (percentiles, best): (&[Candidate<N>], &Candidate<N>),
        least_squares: &[Candidate<N>],
        steps: &mut StepCache<'_>,
    ) -> Result<Vec<(String, Snn<N>)>> {
        let mut calibrate = |(name, snn, _): &Candidate<N>, what: &str| {
            let name = format!("{name}, {what} calibrated for {} timesteps", kind.from);
            let step = format!("calibrated, {}, {name}", kind.name);
            let on = (snn, &self.conversion.images);
            let snn = steps.calibrated(&step, on, || match what {
                "currents" => self.conversion.calibrated(snn, kind.from),
                _ => self.conversion.calibrated_potentials(snn, kind.from),
            })?;
            Ok((name, snn))
        };
        let currents = std::iter::once(best).chain(least_squares).map(|of| (of, "currents"));
        let potentials = percentiles.iter().chain(least_squares).map(|of| (of, "potentials"));
        currents.chain(potentials).map(|(of, what)| calibrate(of, what)).collect()
    }

    /// Converts and evolves one kind of neurons.
    fn kind(
        &self,
        kind: &NeuronKind,
        chosen: &mut Vec<Chosen<N>>,
        convergence: &mut Vec<GenerationRow>,
        steps: &mut StepCache<'_>,
    ) -> Result<()> {
        let settings = self.settings;
        let percentiles = self.percentiles(kind, steps)?;
        let percentile = best(percentiles.clone())?;
        let factor = best(self.factors(kind, &percentile, steps)?)?;
        let least_squares = self.measured(kind, self.least_squares(kind)?, steps)?;
        let from = (&*percentiles, &percentile);
        let calibrated = self.calibrated(kind, from, &least_squares, steps)?;
        let calibrated = best(self.measured(kind, calibrated, steps)?)?;

        let first = chosen.len();
        let mut conversions =
            vec![(PERCENTILE, percentile), ("factor", factor), (CALIBRATED, calibrated)];
        if !least_squares.is_empty() {
            conversions.insert(2, ("least_squares", best(least_squares)?));
        }
        let strongest = conversions.iter().enumerate();
        let strongest = strongest.min_by(|(_, a), (_, b)| a.1.2.total_cmp(&b.1.2));
        let start = first + strongest.map_or(0, |(place, _)| place);
        let strongest = conversions[start - first].1.clone();
        let seed = settings.seeds[0];
        for (network, (conversion, snn, _)) in conversions {
            let (kind, gap, start) = (kind.clone(), None, None);
            let step = format!("{}, {network}", kind.name);
            chosen.push(Chosen { kind, network, seed, conversion, snn, step, gap, start });
        }
        for &seed in settings.seeds.iter().filter(|_| !settings.evolutions.is_empty()) {
            // What an evolution found is kept only if it errs less than what it started from, on more
            // images than a generation has.
            let mut kept = strongest.clone();
            let (images, target) = self.evolving;
            for rung in 0..settings.evolutions.len() {
                let evolution = settings.evolution(rung, kind, seed);
                let name = format!("evolution {rung}, {}, seed {seed}", kind.name);
                let resume = Resume::at(steps.path(&name, "checkpoint")).stopped_by(steps.stop);
                let evolved = resume.evolve(&kept.1, images, target, &evolution)?;
                steps.timing.push(TimingRow::new(&name, evolved.seconds));
                convergence.extend(evolved.generations.iter().map(|state| GenerationRow {
                    neuron: kind.name.clone(),
                    seed,
                    evolution: rung,
                    generation: state.generation,
                    evaluations: state.evaluations,
                    best: rounded(state.best.value()),
                    median: rounded(state.median.value()),
                    incumbent: state.incumbent.map(|fitness| rounded(fitness.value())),
                }));
                let evolved = vec![(format!("evolution {rung}, seed {seed}"), evolved.snn)];
                let evolved = self.measured(kind, evolved, steps)?;
                kept = best([vec![kept], evolved].concat())?;
            }
            let (name, snn, _) = kept;
            let unevolved = &chosen[start];
            let (conversion, step) = match name == unevolved.conversion {
                true => (format!("{name}, as no evolution was better"), unevolved.step.clone()),
                false => {
                    (format!("from {}", unevolved.conversion), format!("{}, {name}", kind.name))
                }
            };
            let (kind, network, start) = (kind.clone(), EVOLVED, Some(start));
            chosen.push(Chosen { kind, network, seed, conversion, snn, step, gap: None, start });
        }
        for chosen in &mut chosen[first..] {
            chosen.gap = self.gap(chosen, steps)?;
        }
        Ok(())
    }

    /// Gap of early exit that reaches half a point below the ANN on held-out images.
    fn gap(&self, chosen: &Chosen<N>, steps: &mut StepCache<'_>) -> Result<Option<f32>> {
        let (snn, images, target) = (&chosen.snn, self.choosing.0, &self.gap_target);
        let settings = SimulateSettings { outputs: true, ..self.settings.timesteps.into() };
        let key = (key_of(snn, images), settings, target.margin());
        steps.step(&format!("gap, {}", chosen.step), &key, || {
            let run = simulate(snn, images, settings)?;
            Ok(run.early_exit()?.best(target).map(|exit| exit.gap))
        })
    }
}

/// The candidate of the lowest error; among equals, the first.
fn best<N: Classifier>(candidates: Vec<Candidate<N>>) -> Result<Candidate<N>> {
    let best = candidates.into_iter().min_by(|a, b| a.2.total_cmp(&b.2));
    let found = "none with thresholds above 0";
    best.ok_or_else(|| Error::parameter("percentiles", found, "at least one"))
}
