//! Neurons for few timesteps: each kind of spikes, converted in the usual ways and evolved.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::rows::{Report, Row};
use super::steps::{StepCache, TimingRow, changed, complete};
use crate::ann::{Ann, Network};
use crate::base::{
    Error, Output, Result, Resume, Table, at_least, each_once, latency_text, require, rounded,
    show, some_timesteps,
};
use crate::convert::{Balance, Conversion, convert};
use crate::data::{HeldOut, Images, Split};
use crate::evolve::{CmaEsSettings, Evaluator, EvolveSettings, Gene, Objective, Search};
use crate::metrics::{AccuracyRow, Target, accuracy_chart};
use crate::simulate::{SimulateSettings, Simulation, Snn, Spikes, simulate};

/// Kind of neurons of [`neurons`], and how it is evolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronKind {
    /// Name in the files.
    pub name: String,
    /// Spikes of the neurons in all layers.
    pub spikes: Spikes,
    /// First timestep that counts in the evolution: the one that it is to be good at.
    pub from: usize,
    /// Number of timesteps per simulation in the evolution.
    pub timesteps: usize,
}

/// Settings of [`neurons`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronsSettings {
    /// Seeds of the optimiser, one evolution of each kind for each.
    pub seeds: Vec<u64>,
    /// Kinds of neurons.
    pub kinds: Vec<NeuronKind>,
    /// Initial membrane potential of the conversions, in sizes of a spike.
    pub initial: f32,
    /// Number of training images whose activations set the thresholds.
    pub balance_images: usize,
    /// Percentiles of conversions with one threshold per channel.
    pub percentiles: Vec<f64>,
    /// Range of one factor on all thresholds ([`Gene::Scale`]).
    pub factors: [f64; 2],
    /// Number of factors to try in that range.
    pub factor_points: usize,
    /// Numbers of timesteps to calibrate the best percentile conversion for, by currents and by
    /// initial potentials.
    pub calibrations: Vec<usize>,
    /// Number of held-out images to choose conversions and the gap of early exit on; all of them if
    /// there are fewer.
    pub baseline_images: usize,
    /// Number of timesteps per simulation, except in the evolution.
    pub timesteps: usize,
    /// Evolutions one after the other, each of what the one before found, on all held-out images.
    /// Seed, timesteps and the first timestep that counts are replaced by those of each run.
    pub evolutions: Vec<EvolveSettings>,
    /// Number of test images, drawn at random once; all of them if there are fewer.
    pub test_images: usize,
}

show!(NeuronsSettings as fields);

impl Default for NeuronsSettings {
    fn default() -> Self {
        let kind = |name: &str, spikes, from, timesteps| {
            let name = name.into();
            NeuronKind { name, spikes, from, timesteps }
        };
        let rung = |objective, batch, generations, sigma| EvolveSettings {
            search: Search::CmaEs(CmaEsSettings { population: Some(12), sigma }),
            objective,
            genome: vec![(Gene::Scale, [0.6, 1.6]), (Gene::Initial, [0.0, 1.0])],
            generations,
            batch: Some(batch),
            ..EvolveSettings::default()
        };
        let (divergence, entropy) = (
            Objective::Divergence { from: 1, price: 0.0 },
            Objective::CrossEntropy { from: 1, price: 0.0 },
        );
        Self {
            seeds: vec![0, 1, 2],
            kinds: vec![
                kind("plain", Spikes::PLAIN, 12, 16),
                kind("signed", Spikes::SIGNED, 5, 7),
                kind("burst", Spikes::burst(2), 3, 5),
                kind("two_levels", Spikes::levels(2), 3, 5),
                kind("four_levels", Spikes::levels(4), 2, 4),
            ],
            initial: 0.5,
            balance_images: 1000,
            percentiles: vec![99.9, 99.7, 99.5, 99.0],
            factors: [0.7, 1.2],
            factor_points: 5,
            calibrations: vec![1, 2, 3],
            baseline_images: 1000,
            timesteps: 16,
            evolutions: vec![rung(divergence, 200, 12, 0.08), rung(entropy, 500, 4, 0.04)],
            test_images: 10_000,
        }
    }
}

impl NeuronsSettings {
    /// Settings of an evolution of one kind.
    fn evolution(&self, rung: usize, kind: &NeuronKind, seed: u64) -> EvolveSettings {
        let (from, timesteps) = (kind.from, kind.timesteps);
        changed(&self.evolutions[rung], |settings| {
            (settings.seed, settings.timesteps) = (seed, timesteps);
            match &mut settings.objective {
                Objective::Divergence { from: own, .. }
                | Objective::CrossEntropy { from: own, .. } => *own = from,
                _ => (),
            }
        })
    }

    fn check(&self) -> Result<()> {
        each_once("seeds", &self.seeds)?;
        each_once("kinds", &self.kinds)?;
        each_once("percentiles", &self.percentiles)?;
        each_once("calibrations", &self.calibrations)?;
        each_once("evolutions", &self.evolutions)?;
        let images = [
            ("balance_images", self.balance_images),
            ("baseline_images", self.baseline_images),
            ("test_images", self.test_images),
        ];
        at_least(1, &images)?;
        at_least(2, &[("factor_points", self.factor_points)])?;
        some_timesteps("timesteps", self.timesteps)?;
        let initial = self.initial;
        require(initial.is_finite(), "initial", initial, "finite sizes of a spike")?;
        for kind in &self.kinds {
            for rung in 0..self.evolutions.len() {
                self.evolution(rung, kind, 0).check()?;
            }
        }
        Ok(())
    }
}

/// Row of `neurons.csv`: one network on the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronRow {
    /// Kind of neurons.
    pub neuron: String,
    /// Network of this kind: percentile, factor, calibrated or evolved.
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

/// Row of `neurons-convergence.csv`: one generation of one evolution.
#[derive(Serialize)]
struct GenerationRow {
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
struct Chosen<N: Network> {
    kind: usize,
    network: &'static str,
    seed: u64,
    conversion: String,
    snn: Snn<N>,
    /// Gap of early exit, if one reaches the target.
    gap: Option<f32>,
    /// Place of the strongest conversion of the same kind.
    start: Option<usize>,
}

/// Compares kinds of neurons for few timesteps, each converted by percentiles per channel, with the
/// best constant factor, calibrated, and evolved from the strongest of these, with no weight
/// retrained.
///
/// Everything is chosen on held-out images; each network sees the test images once. The files are
/// `neurons.csv`, and the curves, generations, chart and settings as `neurons-*`. The result of
/// every step is kept in `folder/.checkpoints`: after an interruption at any moment, the same call
/// resumes from there. When another thread sets `stop`, it ends after the current step or generation.
///
/// # Errors
/// Returns an error if a setting is out of range or the folder cannot be written to;
/// [`Error::Stopped`] after `stop`.
pub fn neurons<N: Network>(
    ann: &Ann<N>,
    parts: &Split<N::Task>,
    settings: &NeuronsSettings,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Report<NeuronRow>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let checksums = [parts.held_out.checksum(), parts.test.checksum()];
    let weights = ann.checksum()?;
    let training = parts.training.take(settings.balance_images);
    // Seeds are in the steps' names, and the steps of a kind depend on no other.
    let common = changed(settings, |settings| {
        settings.seeds.clear();
        settings.kinds.clear();
    });
    let all = (N::NAME, common, checksums, weights, training.checksum());
    let key = |kind: usize| (&all, &settings.kinds[kind]);
    let mut steps = StepCache::new("reproduce neurons", &folder, &key(0), stop)?;
    let held_out = parts.held_out.take(settings.baseline_images);
    let experiment = Experiment {
        conversion: convert(ann, &training)?,
        choosing: (&held_out, &ann.target(&held_out, 1.0)?),
        gap_target: ann.target(&held_out, 0.5)?,
        evolving: (&parts.held_out, &ann.target(&parts.held_out, 1.0)?),
        settings,
    };
    let (mut chosen, mut convergence) = (Vec::new(), Vec::new());
    for kind in 0..settings.kinds.len() {
        steps.depend_on(&key(kind))?;
        experiment.kind(kind, &mut chosen, &mut convergence, &mut steps)?;
    }

    let images = parts.test.take(settings.test_images);
    let targets = [2.0, 1.0, 0.5].map(|margin| ann.target(&images, margin));
    let [two, one, half] = targets;
    let targets = [two?, one?, half?];
    let run = SimulateSettings { outputs: true, ..settings.timesteps.into() };
    let (mut tested, mut accuracy): (Vec<Simulation>, Vec<AccuracyRow>) = Default::default();
    for network in &chosen {
        let name = experiment.name(network);
        let step = format!("test, {name}");
        steps.depend_on(&key(network.kind))?;
        let simulation = steps.step(&step, || simulate(&network.snn, &images, run))?;
        accuracy.extend(AccuracyRow::of(network.seed, &name, &simulation.curve));
        tested.push(simulation);
    }
    let rows = chosen.iter().enumerate();
    let rows = rows.map(|(i, network)| experiment.row(network, i, &tested, &targets));
    let rows: Vec<NeuronRow> = rows.collect::<Result<_>>()?;
    let shown = chosen.iter().zip(&tested).filter(|(network, _)| network.seed == settings.seeds[0]);
    let shown = shown.filter(|(network, _)| ["percentile", "evolved"].contains(&network.network));
    let curves = shown.map(|(network, run)| (experiment.name(network), &run.curve));
    let chart = accuracy_chart("Test images", curves, Some(&targets[1]))?;
    chart.save(output.path("neurons-accuracy.svg"))?;
    output.csv("neurons.csv", &rows)?;
    output.csv("neurons-accuracy.csv", &accuracy)?;
    output.csv("neurons-convergence.csv", &convergence)?;
    output.csv("neurons-timing.csv", &steps.timing)?;
    complete(
        output,
        rows,
        ("neurons", N::NAME),
        [&checksums, &[weights]],
        ("neurons-settings.json", settings),
    )
}

/// The network, and what is chosen on held-out images.
struct Experiment<'a, N: Network> {
    conversion: Conversion<N>,
    choosing: (&'a Images<HeldOut, N::Task>, &'a Target),
    gap_target: Target,
    evolving: (&'a Images<HeldOut, N::Task>, &'a Target),
    settings: &'a NeuronsSettings,
}

impl<N: Network> Experiment<'_, N> {
    fn name(&self, chosen: &Chosen<N>) -> String {
        let kind = &self.settings.kinds[chosen.kind].name;
        match chosen.network {
            "evolved" => format!("{kind}, evolved, seed {}", chosen.seed),
            network => format!("{kind}, {network}"),
        }
    }

    /// Returns the candidate of the lowest cost on held-out images: the last evolution's objective,
    /// on the same timesteps.
    fn cheapest(
        &self,
        kind: usize,
        candidates: Vec<(String, Snn<N>)>,
        sort: &str,
        steps: &mut StepCache<'_>,
    ) -> Result<(String, Snn<N>, f64)> {
        let ((images, target), own) = (self.choosing, &self.settings.kinds[kind]);
        let settings = self.settings.evolution(self.settings.evolutions.len() - 1, own, 0);
        let mut best: Option<(String, Snn<N>, f64)> = None;
        for (name, snn) in candidates {
            let step = format!("held-out, {}, {sort}, {name}", own.name);
            let cost = steps.step(&step, || {
                let (objective, run) = (settings.objective, settings.run());
                let evaluator = Evaluator::new(snn.network(), images, target, objective, run)?;
                Ok(evaluator.fitness(snn.neurons())?.value())
            })?;
            if best.as_ref().is_none_or(|(_, _, least)| cost < *least) {
                best = Some((name, snn, cost));
            }
        }
        let found = "none with thresholds above 0";
        best.ok_or_else(|| Error::parameter("percentiles", found, "at least one"))
    }

    /// Converts and evolves one kind of neurons.
    fn kind(
        &self,
        kind: usize,
        chosen: &mut Vec<Chosen<N>>,
        convergence: &mut Vec<GenerationRow>,
        steps: &mut StepCache<'_>,
    ) -> Result<()> {
        let (settings, own) = (self.settings, &self.settings.kinds[kind]);
        let mut percentiles = Vec::new();
        for &percent in &settings.percentiles {
            let balance = Balance::PercentilePerChannel(percent);
            match self.conversion.balance(balance) {
                // A percentile so low that a sparse layer's threshold is 0 is no candidate.
                Err(Error::Layer { .. }) => (),
                snn => {
                    let snn = snn?.with_initial(settings.initial)?.with_spikes(own.spikes)?;
                    percentiles.push((balance.to_string(), snn));
                }
            }
        }
        let percentile = self.cheapest(kind, percentiles, "percentile", steps)?;
        let (base, layers) = (percentile.1.clone(), percentile.1.neurons().len());
        let [low, high] = settings.factors;
        let factors = (0..settings.factor_points).map(|i| {
            let share = i as f64 / (settings.factor_points - 1) as f64;
            let factor = low * (high / low).powf(share);
            Ok((
                format!("{}, factor {factor:.3}", percentile.0),
                base.scaled(&vec![factor; layers])?,
            ))
        });
        let factor = self.cheapest(kind, factors.collect::<Result<_>>()?, "factor", steps)?;
        let mut calibrated = Vec::new();
        for &timesteps in &settings.calibrations {
            for what in ["currents", "potentials"] {
                let step = format!("calibrated, {}, {what} for {timesteps}", own.name);
                let snn = steps.network(&step, &base, || match what {
                    "currents" => self.conversion.calibrated(&base, timesteps),
                    _ => self.conversion.calibrated_potentials(&base, timesteps),
                })?;
                let name = format!("{}, {what} calibrated for {timesteps} timesteps", percentile.0);
                calibrated.push((name, snn));
            }
        }
        let calibrated = self.cheapest(kind, calibrated, "calibrated", steps)?;

        let first = chosen.len();
        let conversions =
            [("percentile", percentile), ("factor", factor), ("calibrated", calibrated)];
        let strongest = conversions.iter().enumerate();
        let strongest = strongest.min_by(|(_, a), (_, b)| a.1.2.total_cmp(&b.1.2));
        let start = first + strongest.map_or(0, |(place, _)| place);
        for (network, (conversion, snn, _)) in conversions {
            let gap = self.gap(&own.name, network, &snn, steps)?;
            let seed = settings.seeds[0];
            chosen.push(Chosen { kind, network, seed, conversion, snn, gap, start: None });
        }
        for &seed in &settings.seeds {
            let mut snn = chosen[start].snn.clone();
            let (images, target) = self.evolving;
            for rung in 0..settings.evolutions.len() {
                let evolution = settings.evolution(rung, own, seed);
                let step = format!("evolution {rung}, {}, seed {seed}", own.name);
                let resume = Resume::at(steps.path(&step, "checkpoint")).stopped_by(steps.stop);
                let evolved = resume.evolve(&snn, images, target, &evolution)?;
                steps.timing.push(TimingRow::new(&step, evolved.seconds));
                convergence.extend(evolved.generations.iter().map(|state| GenerationRow {
                    neuron: own.name.clone(),
                    seed,
                    evolution: rung,
                    generation: state.generation,
                    evaluations: state.evaluations,
                    best: rounded(state.best.value()),
                    median: rounded(state.median.value()),
                    incumbent: state.incumbent.map(|fitness| rounded(fitness.value())),
                }));
                snn = evolved.snn;
            }
            let gap = self.gap(&own.name, &format!("evolved, seed {seed}"), &snn, steps)?;
            let conversion = format!("from {}", chosen[start].conversion);
            let network = "evolved";
            chosen.push(Chosen { kind, network, seed, conversion, snn, gap, start: Some(start) });
        }
        Ok(())
    }

    /// Gap of early exit that reaches half a point below the ANN on held-out images.
    fn gap(
        &self,
        kind: &str,
        network: &str,
        snn: &Snn<N>,
        steps: &mut StepCache<'_>,
    ) -> Result<Option<f32>> {
        let settings = SimulateSettings { outputs: true, ..self.settings.timesteps.into() };
        steps.step(&format!("gap, {kind}, {network}"), || {
            let run = simulate(snn, self.choosing.0, settings)?;
            Ok(run.early_exit()?.best(&self.gap_target).map(|exit| exit.gap))
        })
    }

    fn row(
        &self,
        chosen: &Chosen<N>,
        place: usize,
        tested: &[Simulation],
        targets: &[Target; 3],
    ) -> Result<NeuronRow> {
        let (run, kind) = (&tested[place], &self.settings.kinds[chosen.kind]);
        let after = |t| run.curve.after(t).map(|accuracy| rounded(accuracy.percent()));
        let [two, one, half] = targets.each_ref().map(|target| run.curve.latency(target));
        let spent = one.unwrap_or(self.settings.timesteps);
        let spikes = run.layers.iter().flat_map(|layer| &layer.spikes[..spent]).sum::<u64>();
        let exit = chosen.gap.map(|gap| run.exit_at(gap)).transpose()?;
        let exit = exit.filter(|exit| exit.accuracy_percent >= targets[1].percent());
        let gain = chosen.start.map(|start| gain(&tested[start], run, kind.from));
        Ok(NeuronRow {
            neuron: kind.name.clone(),
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
            gain_timestep: gain.map(|_| kind.from),
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
