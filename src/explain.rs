//! What evolution changed, and why: measurements that explain an evolved network.
//!
//! - [`scales`] and [`agreement`]: whether evolutions of other seeds found the same;
//! - [`firing_rates`] and [`first_spikes`]: how activity fills the layers over time;
//! - [`conversion_error`]: what each layer says less what the ANN says, divided by cause;
//! - [`threshold_sensitivity`] and [`elementary_effects`]: which layer's threshold matters;
//! - [`layer_statistics`], [`activation_statistics`] and [`correlations`]: what the scales follow;
//! - [`activation_map`]: where in an image a layer's spikes come close together.
//!
//! Each gives tidy rows for [`write_csv`](crate::report::write_csv), and each has a chart of them.
//! They run on images of any part, so that clean and attacked images can be compared; layers of
//! neurons are numbered from 0, timesteps from 1. A network is asked for as
//! [`snn.network()`](crate::convert::Snn::network).
//!
//! ```
//! use evospike::prelude::*;
//!
//! # let digits = data::digits()?.split(Shares::default(), 0)?;
//! # let ann = Ann::<DigitsCnn>::new(0)?;
//! # let snn = convert(&ann, &digits.training.take(20))?.balance(Balance::Max)?;
//! # let images = digits.test.take(2);
//! let errors = explain::conversion_error("converted", snn.network(), &images, &[8, 32])?;
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = |name: &str| folder.path().join(name); // your folder, such as results/mine
//! write_csv(file("errors.csv"), &errors)?;
//! let late: Vec<_> = errors.into_iter().filter(|row| row.timestep == 32).collect();
//! explain::conversion_error_chart("After 32 timesteps", &late)?.save(file("errors.svg"))?;
//! # Ok::<(), evospike::Error>(())
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::convert::{Balance, Conversion};
use crate::data::{Images, Part, Task};
use crate::encode::InputCode;
use crate::error::{Error, Result};
use crate::evolve::EvolveSettings;
use crate::fitness::Judge;
use crate::genome::Genome;
use crate::layers::{Stage, to_channels_last};
use crate::metrics::Target;
use crate::networks::Network;
use crate::neurons::{Charge, Neurons, Reset};
use crate::plot::{self, Chart};
use crate::progress::Progress;
use crate::random::{Stream, rng};
use crate::report::{ThresholdRow, rounded};
use crate::simulate::{Simulation, SpikingNetwork};

/// The scales that evolutions of some seeds found for one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleRow {
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Number of seeds.
    pub seeds: usize,
    /// Mean of evolved over baseline threshold.
    pub mean_scale: f64,
    /// Of the sample, with one seed less than there are; empty for one seed.
    pub standard_deviation: Option<f64>,
}

/// Mean and standard deviation over seeds of each layer's scale. Whether the charge of a spike
/// followed the threshold ([`Gene::Scale`](crate::evolve::Gene)) or not (`Gene::Threshold`) the
/// rows do not say: give only rows of one kind of evolution.
///
/// # Errors
/// No row, or not every layer of every seed once: rows of several margins, say.
pub fn scales(rows: &[ThresholdRow]) -> Result<Vec<ScaleRow>> {
    let seeds: Vec<Vec<f64>> = by_seed(rows)?.into_values().collect();
    let row = |layer: usize| {
        let of_layer: Vec<f64> = seeds.iter().map(|scales| scales[layer]).collect();
        ScaleRow {
            layer,
            seeds: seeds.len(),
            mean_scale: rounded(mean(&of_layer)),
            standard_deviation: standard_deviation(&of_layer).map(rounded),
        }
    };
    Ok((0..seeds[0].len()).map(row).collect())
}

/// How far seeds agree on which layers get higher thresholds and which lower ones: Spearman's rank
/// correlation over all layers between the scales of two seeds, averaged over all pairs. 1 is the
/// same order in all, 0 what chance gives.
///
/// # Errors
/// As [`scales`]; fewer than two seeds; a seed whose scales are all equal, which have no order.
pub fn agreement(rows: &[ThresholdRow]) -> Result<f64> {
    let seeds: Vec<(u64, Vec<f64>)> = by_seed(rows)?.into_iter().collect();
    if seeds.len() < 2 {
        return Err(Error::parameter(
            "rows",
            "those of 1 seed",
            "2 seeds or more",
        ));
    }
    if let Some((seed, _)) = seeds.iter().find(|(_, all)| spearman(all, all).is_none()) {
        let found = format!("equal scales of all layers of seed {seed}");
        return Err(Error::parameter("rows", found, "scales that differ"));
    }
    let pairs = seeds.iter().enumerate().flat_map(|(i, (_, a))| {
        let others = seeds[..i].iter();
        others.filter_map(move |(_, b)| spearman(a, b))
    });
    Ok(mean(&pairs.collect::<Vec<f64>>()))
}

/// The scale of every layer, a line for each seed and one for their mean.
///
/// # Errors
/// As [`scales`]; [`Error::Chart`] when plotters fails.
pub fn scales_chart(title: &str, rows: &[ThresholdRow]) -> Result<Chart> {
    let place = |(layer, scale): (usize, &f64)| (layer as f64, *scale);
    let seed = |(seed, scales): (&u64, &Vec<f64>)| {
        let points = scales.iter().enumerate().map(place);
        (format!("seed {seed}"), points.collect())
    };
    let mean = scales(rows)?.into_iter();
    let mean = mean.map(|row| (row.layer as f64, row.mean_scale)).collect();
    let mut lines = vec![("mean".to_string(), mean)];
    lines.extend(by_seed(rows)?.iter().map(seed));
    plot::lines(title, [LAYER, "evolved / baseline threshold"], &lines)
}

/// Scales of all layers of each seed.
fn by_seed(rows: &[ThresholdRow]) -> Result<BTreeMap<u64, Vec<f64>>> {
    let mut seeds: BTreeMap<u64, BTreeMap<usize, f64>> = BTreeMap::new();
    let expected = "every layer of every seed once, of one experiment and margin";
    for row in rows {
        let layers = seeds.entry(row.seed).or_default();
        if layers.insert(row.layer, row.scale).is_some() {
            let found = format!("layer {} of seed {} twice", row.layer, row.seed);
            return Err(Error::parameter("rows", found, expected));
        }
    }
    let layers = rows.iter().map(|row| row.layer + 1).max();
    let Some(layers) = layers else {
        return Err(Error::parameter("rows", "none", expected));
    };
    if let Some((seed, found)) = seeds.iter().find(|(_, found)| found.len() != layers) {
        let found = format!("{} of {layers} layers of seed {seed}", found.len());
        return Err(Error::parameter("rows", found, expected));
    }
    let scales = |layers: BTreeMap<usize, f64>| layers.into_values().collect();
    let seeds = seeds.into_iter();
    Ok(seeds.map(|(seed, layers)| (seed, scales(layers))).collect())
}

/// Activity of one layer in one timestep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FiringRateRow {
    /// Which network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// From 1.
    pub timestep: usize,
    /// Share of the neurons that fire in it, averaged over images.
    pub firing_rate_percent: f64,
}

/// The firing rate of each layer in each timestep of a run.
pub fn firing_rates(network: &str, run: &Simulation) -> Vec<FiringRateRow> {
    let images = run.curve.images();
    // The output layer, the last, does not spike.
    let layers = run
        .layers
        .split_last()
        .map_or(&[][..], |(_, layers)| layers);
    let rows = layers.iter().enumerate().flat_map(|(number, layer)| {
        let all = (images * layer.neurons) as f64;
        let spikes = layer.spikes.iter().enumerate();
        spikes.map(move |(t, &spikes)| FiringRateRow {
            network: network.into(),
            layer: number,
            timestep: t + 1,
            firing_rate_percent: rounded(100.0 * spikes as f64 / all),
        })
    });
    rows.collect()
}

/// The firing rates (%) of one network as colours, layers over timesteps.
///
/// # Errors
/// Rows of several networks, or none; [`Error::Chart`] when plotters fails.
pub fn firing_rates_chart(title: &str, rows: &[FiringRateRow]) -> Result<Chart> {
    one("networks", rows.iter().map(|row| &row.network))?;
    let cells = rows.iter().map(|row| {
        let rate = Some(row.firing_rate_percent);
        (row.timestep.to_string(), row.layer.to_string(), rate)
    });
    heat_map(title, ["timestep", LAYER], cells)
}

/// When the neurons of one layer first fire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstSpikeRow {
    /// Which network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// In the layer.
    pub neurons: usize,
    /// Of the whole run.
    pub timesteps: usize,
    /// Share of neurons that fire at all in the run, averaged over images.
    pub fired_percent: f64,
    /// Mean timestep of the first spike, from 1, of those that fire; empty where none does.
    pub mean_timestep: Option<f64>,
    /// The first timestep by which half of them have fired.
    pub median_timestep: Option<usize>,
}

/// When the neurons of each layer first fire, over all images and neurons: how fast information
/// travels through the network.
///
/// # Errors
/// No image, no timestep; images of another shape, or of more classes, than the network's.
pub fn first_spikes<P: Part, K: Task>(
    network: &str,
    snn: &SpikingNetwork,
    images: &Images<P, K>,
    timesteps: usize,
) -> Result<Vec<FirstSpikeRow>> {
    let simulator = snn.simulator(images, InputCode::Direct)?;
    let layers = simulator.first_spikes(snn.neurons(), timesteps)?;
    let layers = layers.into_iter().zip(&snn.stages.stages).enumerate();
    let row = |(layer, (first, stage)): (usize, (Vec<u64>, &Stage))| {
        let neurons = stage.output.size();
        let fired: u64 = first.iter().sum();
        let timesteps_from_1 = (1..).zip(&first);
        let sum: u64 = timesteps_from_1.map(|(t, count)| t * count).sum();
        let mut up_to = first.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let median = up_to.position(|count| 2 * count >= fired).map(|t| t + 1);
        FirstSpikeRow {
            network: network.into(),
            layer,
            neurons,
            timesteps,
            fired_percent: rounded(100.0 * fired as f64 / (neurons * images.len()) as f64),
            mean_timestep: (fired > 0).then(|| rounded(sum as f64 / fired as f64)),
            median_timestep: median.filter(|_| fired > 0),
        }
    };
    Ok(layers.map(row).collect())
}

/// The mean timestep of the first spike of each layer, a line a network.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn first_spikes_chart(title: &str, rows: &[FirstSpikeRow]) -> Result<Chart> {
    let lines = lines(rows.iter().filter_map(|row| {
        let at = (row.layer as f64, row.mean_timestep?);
        Some((row.network.clone(), at))
    }));
    plot::lines(title, [LAYER, "mean timestep of the first spike"], &lines)
}

/// A cause of conversion error; see [`conversion_error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorPart {
    /// The layers before say something else than the ANN's, or a current was added.
    Inherited,
    /// A spike carries another charge than the threshold.
    Gain,
    /// No more than a spike a timestep can be said.
    Clipping,
    /// Only whole spikes can be said.
    Quantisation,
    /// The input is not the same at every timestep.
    Unevenness,
    /// All of them: what the layer says less what the ANN's says.
    Total,
}

impl ErrorPart {
    const ALL: [Self; 6] = [
        Self::Inherited,
        Self::Gain,
        Self::Clipping,
        Self::Quantisation,
        Self::Unevenness,
        Self::Total,
    ];
}

/// One part of the conversion error of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversionErrorRow {
    /// Which network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// T: what was said in timesteps 1..=T.
    pub timestep: usize,
    /// The cause.
    pub part: ErrorPart,
    /// Mean over neurons and images, in percent of the root mean square of the ANN's activations.
    pub mean_percent: f64,
    /// Root mean square over neurons and images, in percent of that of the ANN's activations.
    pub rms_percent: f64,
    /// Mean magnitude of what is left of the input in the membrane, |v(T) - v(0)| / θ; only where
    /// the part is the total.
    pub residual_thresholds: Option<f64>,
}

/// How far computed potentials may be from the engine's, which adds up single-precision currents in
/// another order: in thresholds, for each timestep. A potential so near to a whole number of
/// thresholds counts as on the side on which the neuron was.
const TOLERANCE: f64 = 1e-5;

/// The difference between what a layer says and what the ANN's says, divided by cause (after Bu et
/// al. 2022, "Optimal ANN-SNN Conversion", section 3, whose parts are clipping, quantisation and
/// unevenness).
///
/// Of a neuron let z be the mean input current over timesteps 1..=T, given the charges that arrived
/// from the layers before, with the bias and its own current; θ the threshold, c the charge of a
/// spike, v the initial potential, n the number of spikes, and a the ANN's activation on the same
/// image. With clip(z) = z limited to 0..=θ and m = floor((zT + v) / θ) limited to 0..=T, the
/// spikes that an even input would cause, c n / T - a is the sum of
///
/// ```text
/// inherited     max(z, 0) - a
/// gain          (c / θ - 1) clip(z)
/// clipping      clip(z) - max(z, 0)
/// quantisation  c (m / T - clip(z) / θ)
/// unevenness    c (n - m) / T
/// ```
///
/// exactly. A potential within 1e-5 T thresholds of a whole number counts as on the side on which
/// the neuron was, so that rounding makes no unevenness. Each timestep asked for costs a dense pass
/// an image besides the simulation: some ten images are enough.
///
/// # Errors
/// Neurons with leak, hard reset or refractory period; a layer whose activations are all 0; no
/// image, no timestep; images of another shape, or of more classes, than the network's.
pub fn conversion_error<P: Part, K: Task>(
    network: &str,
    snn: &SpikingNetwork,
    images: &Images<P, K>,
    timesteps: &[usize],
) -> Result<Vec<ConversionErrorRow>> {
    for (layer, neurons) in snn.neurons().iter().enumerate() {
        check_plain(layer, neurons)?;
    }
    let mut timesteps = timesteps.to_vec();
    timesteps.sort_unstable();
    timesteps.dedup();
    if timesteps.first().is_none_or(|&first| first == 0) {
        let found = format!("{timesteps:?}");
        return Err(Error::parameter("timesteps", found, "some, 1 or more each"));
    }
    let simulator = snn.simulator(images, InputCode::Direct)?;
    let sums = simulator.spikes_up_to(snn.neurons(), &timesteps, |image, spikes| {
        error_sums(snn, &images.input(image), &timesteps, spikes)
    })?;
    let mut rows = Vec::new();
    for (i, &timestep) in timesteps.iter().enumerate() {
        for (layer, stage) in snn.stages.stages[..snn.neurons().len()].iter().enumerate() {
            // Of images in order, so that the sums are the same with any number of threads.
            let mut all = ErrorSums::default();
            sums.iter().for_each(|sums| all.add(&sums[i][layer]));
            let count = (stage.output.size() * images.len()) as f64;
            let activation = (all.activation / count).sqrt();
            if activation.is_nan() || activation <= 0.0 {
                let found = "activations that are all 0";
                return Err(Error::layer(layer, "neurons", found, "some above 0"));
            }
            let of = |(part, [sum, squares]): (ErrorPart, [f64; 2])| ConversionErrorRow {
                network: network.into(),
                layer,
                timestep,
                part,
                mean_percent: rounded(100.0 * sum / count / activation),
                rms_percent: rounded(100.0 * (squares / count).sqrt() / activation),
                residual_thresholds: (part == ErrorPart::Total)
                    .then(|| rounded(all.residual / count)),
            };
            rows.extend(ErrorPart::ALL.into_iter().zip(all.parts).map(of));
        }
    }
    Ok(rows)
}

fn check_plain(layer: usize, neurons: &Neurons) -> Result<()> {
    let found = match neurons {
        Neurons { leak, .. } if leak.iter().any(|&leak| leak != 1.0) => "a leak",
        Neurons {
            reset: Reset::Zero, ..
        } => "hard reset",
        Neurons {
            refractory: 1.., ..
        } => "a refractory period",
        _ => return Ok(()),
    };
    let expected = "integrate-and-fire neurons with soft reset, without leak or refractory period";
    Err(Error::layer(layer, "neurons", found, expected))
}

/// Over neurons and images.
#[derive(Default)]
struct ErrorSums {
    /// Of each of [`ErrorPart::ALL`] the sum, and that of squares.
    parts: [[f64; 2]; 6],
    /// Sum of squares of the ANN's.
    activation: f64,
    residual: f64,
}

impl ErrorSums {
    fn add(&mut self, more: &Self) {
        let parts = self.parts.iter_mut().flatten();
        parts
            .zip(more.parts.iter().flatten())
            .for_each(|(sum, x)| *sum += x);
        self.activation += more.activation;
        self.residual += more.residual;
    }

    fn neuron(&mut self, neuron: &Neuron, spikes: u32, timesteps: usize) {
        let (parts, steps) = (neuron.parts(spikes, timesteps), timesteps as f64);
        let said = neuron.charge * f64::from(spikes) / steps;
        let all = parts.into_iter().chain([said - neuron.activation]);
        for ([sum, squares], part) in self.parts.iter_mut().zip(all) {
            *sum += part;
            *squares += part * part;
        }
        self.activation += neuron.activation * neuron.activation;
        self.residual += (neuron.input * steps / neuron.threshold - f64::from(spikes)).abs();
    }
}

/// One neuron on one image.
struct Neuron {
    /// Mean current.
    input: f64,
    threshold: f64,
    charge: f64,
    /// Potential at first, in thresholds.
    initial: f64,
    /// The ANN's.
    activation: f64,
}

impl Neuron {
    /// All but the total.
    fn parts(&self, spikes: u32, timesteps: usize) -> [f64; 5] {
        let (steps, spikes) = (timesteps as f64, f64::from(spikes));
        let said = self.input.max(0.0);
        let share = (self.input / self.threshold).clamp(0.0, 1.0);
        let potential = self.input * steps / self.threshold + self.initial;
        let slack = TOLERANCE * steps;
        let [least, most] = [potential - slack, potential + slack];
        let [least, most] = [least, most].map(|x| x.floor().clamp(0.0, steps));
        let even = spikes.clamp(least, most);
        [
            said - self.activation,
            (self.charge - self.threshold) * share,
            self.threshold * share - said,
            self.charge * (even / steps - share),
            self.charge * (spikes - even) / steps,
        ]
    }
}

/// Sums over the neurons of one image, by timestep and layer, from the spikes of each neuron.
fn error_sums(
    snn: &SpikingNetwork,
    input: &[f32],
    timesteps: &[usize],
    spikes: &[Vec<Vec<u32>>],
) -> Vec<Vec<ErrorSums>> {
    let stages = &snn.stages;
    let mut image = vec![0.0; input.len()];
    to_channels_last(stages.input, input, &mut image);
    let ann = stages.forward(&image);
    let at = |(&timesteps, spikes): (&usize, &Vec<Vec<u32>>)| {
        let said = |layer: usize, _: &[f32]| {
            let charges = snn.neurons()[layer].charges().iter().cycle();
            let said = spikes[layer].iter().zip(charges);
            said.map(|(&n, &charge)| (f64::from(charge) * f64::from(n) / timesteps as f64) as f32)
                .collect()
        };
        let inputs = stages.currents(&image, said);
        let layers = snn.neurons().iter().zip(spikes).zip(ann.iter().zip(inputs));
        let sums = layers.map(|((neurons, spikes), (ann, inputs))| {
            // One value for the layer or one a channel, and channels vary fastest.
            let own = |values: &[f32], i: usize| f64::from(values[i % values.len()]);
            let mut sums = ErrorSums::default();
            for (i, (&input, &spikes)) in inputs.iter().zip(spikes).enumerate() {
                let neuron = Neuron {
                    input: f64::from(input) + own(&neurons.current, i),
                    threshold: own(&neurons.threshold, i),
                    charge: own(neurons.charges(), i),
                    initial: neurons.initial.into(),
                    activation: ann[i].max(0.0).into(),
                };
                sums.neuron(&neuron, spikes, timesteps);
            }
            sums
        });
        sums.collect()
    };
    timesteps.iter().zip(spikes).map(at).collect()
}

/// The root mean square of every part in each layer, of one network after one timestep.
///
/// # Errors
/// Rows of several networks or timesteps, or none; [`Error::Chart`] when plotters fails.
pub fn conversion_error_chart(title: &str, rows: &[ConversionErrorRow]) -> Result<Chart> {
    one("networks", rows.iter().map(|row| &row.network))?;
    one("timesteps", rows.iter().map(|row| row.timestep))?;
    let lines = lines(rows.iter().map(|row| {
        let at = (row.layer as f64, row.rms_percent);
        (format!("{:?}", row.part).to_lowercase(), at)
    }));
    let rms = "root mean square error (% of the activations')";
    plot::lines(title, [LAYER, rms], &lines)
}

/// A network with the thresholds of one layer multiplied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensitivityRow {
    /// Which network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// On its thresholds; the charge of a spike stays.
    pub factor: f64,
    /// Empty where the target is never reached.
    pub latency_timesteps: Option<usize>,
    /// Percentage points below the target, summed over the timesteps before the latency.
    pub deficit_points: f64,
    /// What the objective makes small, where that is not the latency.
    pub cost: Option<f64>,
}

/// The latency with the thresholds of one layer at a time multiplied by each of some factors, as
/// [`Gene::Threshold`](crate::evolve::Gene) does: what the layer's threshold alone decides. Of the
/// settings, the objective and the timesteps count; with
/// [`Objective::MeanLatency`](crate::evolve::Objective) small effects show too.
///
/// # Errors
/// Settings out of range, a factor that is not above 0, a target made on other images, no image, or
/// images of another shape or of more classes than the network's.
pub fn threshold_sensitivity<P: Part, K: Task>(
    network: &str,
    snn: &SpikingNetwork,
    images: &Images<P, K>,
    target: &Target,
    settings: &EvolveSettings,
    factors: &[f64],
) -> Result<Vec<SensitivityRow>> {
    settings.check()?;
    if let Some(bad) = factors.iter().find(|&&f| !(f > 0.0 && f.is_finite())) {
        return Err(Error::parameter("factors", bad, "finite factors above 0"));
    }
    let judge = Judge::new(snn, images, target, settings.objective, settings.timesteps)?;
    let layers = snn.neurons().len();
    let mut progress = Progress::new("threshold sensitivity", layers * factors.len());
    let mut rows = Vec::with_capacity(layers * factors.len());
    for layer in 0..layers {
        for &factor in factors {
            let mut neurons = snn.neurons().to_vec();
            neurons[layer].charge = Charge::Fixed(neurons[layer].charges().to_vec());
            neurons[layer].scale_thresholds(factor);
            let fitness = judge.fitness(&neurons)?;
            progress.step(|| format!("layer {layer}"));
            rows.push(SensitivityRow {
                network: network.into(),
                layer,
                factor,
                latency_timesteps: Some(fitness.latency).filter(|&t| t <= settings.timesteps),
                deficit_points: rounded(fitness.deficit),
                cost: fitness.cost.map(rounded),
            });
        }
    }
    progress.finish(String::new);
    Ok(rows)
}

/// The cost of one network as colours, layers over factors; the latency where that is what the
/// objective makes small.
///
/// # Errors
/// Rows of several networks, or none; [`Error::Chart`] when plotters fails.
pub fn threshold_sensitivity_chart(title: &str, rows: &[SensitivityRow]) -> Result<Chart> {
    one("networks", rows.iter().map(|row| &row.network))?;
    let cells = rows.iter().map(|row| {
        let latency = row.latency_timesteps.map(|latency| latency as f64);
        let (factor, layer) = (row.factor.to_string(), row.layer.to_string());
        (factor, layer, row.cost.or(latency))
    });
    heat_map(title, ["factor on the layer's thresholds", LAYER], cells)
}

/// Elementary effects of one input of a function: how much it changes while the input goes through
/// its whole range, were it linear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effects {
    /// μ, the mean.
    pub mu: f64,
    /// μ*, the mean magnitude: how much the input matters.
    pub mu_star: f64,
    /// σ, the standard deviation: how far that depends on where it and the other inputs are.
    pub sigma: f64,
}

/// Morris's screening of a function's inputs (Morris 1991, "Factorial sampling plans for preliminary
/// computational experiments"; μ* of Campolongo et al. 2007): on random trajectories over a grid of
/// four levels each input takes one step, of two thirds of its range. One evaluation for each
/// bound and one more, on each trajectory; 10 to 50 trajectories are usual.
///
/// ```
/// use evospike::explain::morris;
///
/// let effects = morris(&[[0.0, 1.0], [0.0, 10.0]], 4, 0, |x| Ok(3.0 * x[0] - x[1]))?;
/// assert!((effects[0].mu - 3.0).abs() < 1e-9 && (effects[1].mu_star - 10.0).abs() < 1e-9);
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Fewer than two trajectories, bounds that are not finite and in order, or an error of the
/// function.
pub fn morris(
    bounds: &[[f64; 2]],
    trajectories: usize,
    seed: u64,
    mut function: impl FnMut(&[f64]) -> Result<f64>,
) -> Result<Vec<Effects>> {
    const LEVELS: u32 = 4;
    const STEP: u32 = LEVELS / 2;
    if trajectories < 2 {
        return Err(Error::parameter("trajectories", trajectories, "2 or more"));
    }
    if let Some(bad) = bounds
        .iter()
        .find(|[low, high]| !(low < high && (high - low).is_finite()))
    {
        return Err(Error::parameter(
            "bounds",
            format!("{bad:?}"),
            "finite, in order",
        ));
    }
    let point = |levels: &[u32]| -> Vec<f64> {
        let place = |level: u32| f64::from(level) / f64::from(LEVELS - 1);
        let values = levels.iter().zip(bounds);
        values
            .map(|(&level, [low, high])| low + (high - low) * place(level))
            .collect()
    };
    let mut rng = rng(seed, Stream::Sensitivity);
    let mut effects = vec![Vec::with_capacity(trajectories); bounds.len()];
    for _ in 0..trajectories {
        let mut levels: Vec<u32> = bounds.iter().map(|_| rng.random_range(0..LEVELS)).collect();
        let mut order: Vec<usize> = (0..bounds.len()).collect();
        order.shuffle(&mut rng);
        let mut before = function(&point(&levels))?;
        for input in order {
            // Of every level, only one way stays on the grid.
            let sign = if levels[input] < STEP { 1.0 } else { -1.0 };
            levels[input] = (levels[input] + STEP) % LEVELS;
            let after = function(&point(&levels))?;
            let step = f64::from(STEP) / f64::from(LEVELS - 1);
            effects[input].push(sign * (after - before) / step);
            before = after;
        }
    }
    let of = |effects: Vec<f64>| Effects {
        mu: mean(&effects),
        mu_star: mean(
            &effects
                .iter()
                .map(|effect| effect.abs())
                .collect::<Vec<f64>>(),
        ),
        sigma: standard_deviation(&effects).unwrap_or(0.0),
    };
    Ok(effects.into_iter().map(of).collect())
}

/// Elementary effects of one value of a genome, in units of the objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectRow {
    /// Which network.
    pub network: String,
    /// As [`Gene`](crate::evolve::Gene) calls it.
    pub gene: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Of the layer's channels, from 0; 0 where a gene has one value a layer.
    pub group: usize,
    /// Mean effect of going through the whole range.
    pub mu: f64,
    /// Mean magnitude of the effect.
    pub mu_star: f64,
    /// Standard deviation of the effect: interaction with other values, or curvature.
    pub sigma: f64,
}

/// Which values of a genome matter, by [`morris`]: of the settings, the genome, the objective, the
/// timesteps and the seed count. Simulates one network more than the genome has values, for each
/// trajectory.
///
/// # Errors
/// As [`evolve`](crate::evolve::evolve) and [`morris`]; images of another shape, or of more classes,
/// than the network's.
pub fn elementary_effects<P: Part, K: Task>(
    network: &str,
    snn: &SpikingNetwork,
    images: &Images<P, K>,
    target: &Target,
    settings: &EvolveSettings,
    trajectories: usize,
) -> Result<Vec<EffectRow>> {
    settings.check()?;
    let genome = Genome::new(&settings.genome, snn.neurons())?;
    let judge = Judge::new(snn, images, target, settings.objective, settings.timesteps)?;
    let bounds = genome.bounds();
    let runs = trajectories.saturating_mul(bounds.len() + 1);
    let mut progress = Progress::new("elementary effects", runs);
    let effects = morris(&bounds, trajectories, settings.seed, |values| {
        let fitness = judge.fitness(&genome.express(values))?;
        progress.step(|| format!("cost {:.2}", fitness.value()));
        Ok(fitness.value())
    })?;
    progress.finish(String::new);
    let places = settings.genome.iter().flat_map(|&(gene, _)| {
        let layers = 0..snn.neurons().len();
        layers.flat_map(move |layer| (0..gene.each()).map(move |group| (gene, layer, group)))
    });
    let row = |((gene, layer, group), effects): (_, Effects)| EffectRow {
        network: network.into(),
        gene: format!("{gene:?}"),
        layer,
        group,
        mu: rounded(effects.mu),
        mu_star: rounded(effects.mu_star),
        sigma: rounded(effects.sigma),
    };
    Ok(places.zip(effects).map(row).collect())
}

/// μ* and σ of each layer of one network, two lines for each gene and group of channels.
///
/// # Errors
/// Rows of several networks, or none; [`Error::Chart`] when plotters fails.
pub fn elementary_effects_chart(title: &str, rows: &[EffectRow]) -> Result<Chart> {
    one("networks", rows.iter().map(|row| &row.network))?;
    let lines = lines(rows.iter().flat_map(|row| {
        let name = match row.gene.starts_with("Groups") {
            true => format!("{}, group {}", row.gene, row.group),
            false => row.gene.clone(),
        };
        let value = |symbol, value| (format!("{name}: {symbol}"), (row.layer as f64, value));
        [value("μ*", row.mu_star), value("σ", row.sigma)]
    }));
    plot::lines(title, [LAYER, "elementary effect (objective)"], &lines)
}

/// A number that describes a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatisticRow {
    /// What the number is.
    pub statistic: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// In the statistic's unit.
    pub value: f64,
}

/// Statistics of each layer of a network and a run of it: `depth` (the layer's number), `neurons`,
/// `fan-in` (multiply-accumulates of the ANN that end in a neuron), `firing rate (%)`, and
/// `silent (%)`, the share of neurons that fire on no image; this one only where
/// [`SimulateSettings::per_neuron`](crate::simulate::SimulateSettings::per_neuron) counted them.
///
/// # Errors
/// A run of another network.
pub fn layer_statistics(snn: &SpikingNetwork, run: &Simulation) -> Result<Vec<StatisticRow>> {
    snn.check_run(run)?;
    let stages = snn.stages.stages[..snn.neurons().len()].iter();
    let rows = stages
        .zip(&run.layers)
        .enumerate()
        .flat_map(|(layer, (stage, spikes))| {
            let neurons = stage.output.size() as f64;
            let silent = spikes.per_neuron.as_ref().map(|spikes| {
                let silent = spikes.iter().filter(|&&spikes| spikes == 0).count();
                ("silent (%)", 100.0 * silent as f64 / neurons)
            });
            let rows = [
                ("depth", layer as f64),
                ("neurons", neurons),
                ("fan-in", stage.products as f64 / neurons),
                ("firing rate (%)", 100.0 * run.firing_rate(layer)),
            ];
            let row = move |(name, value): (&str, f64)| StatisticRow {
                statistic: name.into(),
                layer,
                value,
            };
            rows.into_iter().chain(silent).map(row)
        });
    Ok(rows.collect())
}

/// How far the largest activation of each layer on the training images lies above a percentile of
/// them: `max / p99`, say.
///
/// # Errors
/// A percentile out of range, or one that is 0 since most of a layer's activations are.
pub fn activation_statistics<N: Network>(
    conversion: &Conversion<N>,
    percentile: f64,
) -> Result<Vec<StatisticRow>> {
    let most = conversion.balance(Balance::Max)?.thresholds();
    let many = conversion
        .balance(Balance::Percentile(percentile))?
        .thresholds();
    let layers = most.into_iter().zip(many).enumerate();
    let row = |(layer, (most, many)): (usize, (f32, f32))| StatisticRow {
        statistic: format!("max / p{percentile}"),
        layer,
        value: f64::from(most) / f64::from(many),
    };
    Ok(layers.map(row).collect())
}

/// Correlation of one statistic with the evolved scales, over layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorrelationRow {
    /// Of the layers.
    pub statistic: String,
    /// Spearman's rank correlation; empty where all layers are alike.
    pub spearman: Option<f64>,
    /// Pearson's correlation; empty where all layers are alike.
    pub pearson: Option<f64>,
    /// Number of layers.
    pub layers: usize,
}

/// How the mean scales of layers correlate with each statistic of these layers.
///
/// Layers are few: with 14 of them, a coefficient below about 0.53 in magnitude cannot be told from
/// chance at 5 %, and of twenty statistics that mean nothing one is expected to exceed it.
///
/// # Errors
/// No scale; statistics that do not have every layer with a scale once.
pub fn correlations(
    statistics: &[StatisticRow],
    scales: &[ScaleRow],
) -> Result<Vec<CorrelationRow>> {
    if scales.is_empty() {
        return Err(Error::parameter("scales", "none", "one a layer"));
    }
    let mut names: Vec<&str> = Vec::new();
    for row in statistics {
        if !names.contains(&&*row.statistic) {
            names.push(&row.statistic);
        }
    }
    let mean_scales: Vec<f64> = scales.iter().map(|row| row.mean_scale).collect();
    let row = |name: &str| {
        let value = |scale: &ScaleRow| {
            let mut own = statistics.iter();
            own.find(|row| row.statistic == name && row.layer == scale.layer)
                .map(|row| row.value)
        };
        let values: Vec<f64> = scales.iter().filter_map(value).collect();
        let found = statistics
            .iter()
            .filter(|row| row.statistic == name)
            .count();
        if values.len() != scales.len() || found != scales.len() {
            let found = format!("{found} values of {name}");
            let expected = format!("one for each of the {} layers with a scale", scales.len());
            return Err(Error::parameter("statistics", found, expected));
        }
        Ok(CorrelationRow {
            statistic: name.into(),
            spearman: spearman(&values, &mean_scales).map(rounded),
            pearson: pearson(&values, &mean_scales).map(rounded),
            layers: scales.len(),
        })
    };
    names.into_iter().map(row).collect()
}

/// Both coefficients of every statistic as colours.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn correlations_chart(title: &str, rows: &[CorrelationRow]) -> Result<Chart> {
    let cells = rows.iter().flat_map(|row| {
        let cell = |name: &str, value| (row.statistic.clone(), name.into(), value);
        [cell("r", row.pearson), cell("ρ", row.spearman)]
    });
    let titles = ["statistic of the layer", "Pearson's r, Spearman's ρ"];
    heat_map(title, titles, cells)
}

/// One place of a spike activation map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivationMapRow {
    /// Which network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// From 1.
    pub timestep: usize,
    /// Of the layer's output, from 0 at the top.
    pub row: usize,
    /// Of the layer's output, from 0 at the left.
    pub column: usize,
    /// Sum over channels.
    pub score: f64,
}

/// The spike activation map of a layer on one input (Kim and Panda 2021, "Visual explanations from
/// spiking neural networks using inter-spike intervals", Sci. Rep. 11:19037) after each of some
/// timesteps t: a neuron that fires in t scores the sum of exp(-γ (t - t')) over the timesteps
/// t' < t in which it fired before, one that does not fire scores 0, and the scores of all channels
/// are summed. The input is as for [`SpikingNetwork::trace`]; `gamma`, γ, is 0.5 in the authors'
/// program.
///
/// # Errors
/// A layer that the network does not have; no timestep; a γ below 0; an input that does not fit.
pub fn activation_map(
    network: &str,
    snn: &SpikingNetwork,
    input: &[f32],
    layer: usize,
    timesteps: &[usize],
    gamma: f64,
) -> Result<Vec<ActivationMapRow>> {
    let layers = snn.neurons().len();
    if layer >= layers {
        let expected = format!("less than {layers}, the layers of neurons");
        return Err(Error::parameter("layer", layer, expected));
    }
    if !(gamma >= 0.0 && gamma.is_finite()) {
        return Err(Error::parameter("gamma", gamma, "0 or more"));
    }
    if timesteps.is_empty() || timesteps.contains(&0) {
        let found = format!("{timesteps:?}");
        return Err(Error::parameter("timesteps", found, "some, 1 or more each"));
    }
    let last = timesteps.iter().copied().max().unwrap_or(0);
    let trace = snn.trace(input, last)?;
    let shape = snn.stages.stages[layer].output;
    let area = shape.height * shape.width;
    let mut scores = vec![0.0; shape.size()];
    let mut rows = Vec::new();
    for (t, fired) in (1..).zip(&trace.spikes[layer]) {
        scores.iter_mut().for_each(|score| *score *= (-gamma).exp());
        if timesteps.contains(&t) {
            let mut map = vec![0.0; area];
            // Neurons are numbered by channel, row, column.
            fired
                .iter()
                .for_each(|&neuron| map[neuron % area] += scores[neuron]);
            rows.extend(
                map.iter()
                    .enumerate()
                    .map(|(place, &score)| ActivationMapRow {
                        network: network.into(),
                        layer,
                        timestep: t,
                        row: place / shape.width,
                        column: place % shape.width,
                        score,
                    }),
            );
        }
        fired.iter().for_each(|&neuron| scores[neuron] += 1.0);
    }
    Ok(rows)
}

/// One map as colours, its first row at the top.
///
/// # Errors
/// Rows of several networks, layers or timesteps, or none; [`Error::Chart`] when plotters fails.
pub fn activation_map_chart(title: &str, rows: &[ActivationMapRow]) -> Result<Chart> {
    one("networks", rows.iter().map(|row| &row.network))?;
    one("layers", rows.iter().map(|row| row.layer))?;
    one("timesteps", rows.iter().map(|row| row.timestep))?;
    let mut rows: Vec<&ActivationMapRow> = rows.iter().collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.row), row.column));
    let cells = rows.into_iter();
    let cells = cells.map(|row| (row.column.to_string(), row.row.to_string(), Some(row.score)));
    heat_map(title, ["column", "row"], cells)
}

const LAYER: &str = "layer of neurons";

/// Refuses rows that are not all of one of these.
fn one<T: PartialEq + Display>(what: &str, mut values: impl Iterator<Item = T>) -> Result<()> {
    let first = values.next();
    let Some(first) = first else {
        return Err(Error::parameter("rows", "none", "at least one"));
    };
    match values.find(|value| *value != first) {
        Some(other) => {
            let found = format!("several {what}: {first}, {other}");
            Err(Error::parameter(
                "rows",
                found,
                "those of one, chosen before",
            ))
        }
        None => Ok(()),
    }
}

/// The points of each name, names in the order in which they come.
fn lines(points: impl Iterator<Item = (String, (f64, f64))>) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for (name, point) in points {
        match lines.iter_mut().find(|(other, _)| *other == name) {
            Some((_, points)) => points.push(point),
            None => lines.push((name, vec![point])),
        }
    }
    lines
}

/// From cells with their names across and up, both in the order in which they come.
fn heat_map(
    title: &str,
    [across, up]: [&str; 2],
    cells: impl Iterator<Item = (String, String, Option<f64>)>,
) -> Result<Chart> {
    let (mut columns, mut rows) = (Names::default(), Names::default());
    let mut values: Vec<Vec<Option<f64>>> = Vec::new();
    for (column, row, value) in cells {
        let (column, row) = (columns.place(column), rows.place(row));
        values.resize(values.len().max(row + 1), Vec::new());
        let length = values[row].len().max(column + 1);
        values[row].resize(length, None);
        values[row][column] = value;
    }
    let (columns, rows) = (columns.order, rows.order);
    plot::heat_map(title, (across, &columns), (up, &rows), &values)
}

#[derive(Default)]
struct Names {
    order: Vec<String>,
    places: HashMap<String, usize>,
}

impl Names {
    fn place(&mut self, name: String) -> usize {
        let next = self.order.len();
        let place = *self.places.entry(name.clone()).or_insert(next);
        if place == next {
            self.order.push(name);
        }
        place
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of a sample; none of fewer than two values.
fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    let others = values.len().checked_sub(1).filter(|&others| others > 0)?;
    Some((squares / others as f64).sqrt())
}

/// None where the values of either are all equal.
fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let same = |values: &[f64]| values.iter().all(|value| *value == values[0]);
    if same(a) || same(b) {
        return None;
    }
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |(a, b): (&f64, &f64)| (a - mean_a) * (b - mean_b);
    let squares = |values: &[f64], mean: f64| -> f64 {
        values.iter().map(|value| (value - mean).powi(2)).sum()
    };
    let sum: f64 = a.iter().zip(b).map(product).sum();
    Some(sum / (squares(a, mean_a) * squares(b, mean_b)).sqrt())
}

/// None where the values of either are all equal.
fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

/// The mean rank where values are equal.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::Ann;
    use crate::convert::convert;
    use crate::data::{Classify, Shares, Whole, digits};
    use crate::evolve::{Gene, Objective};
    use crate::layers::{Layer, Shape};
    use crate::networks::DigitsCnn;
    use crate::report::{read_csv, write_csv};
    use crate::simulate::SimulateSettings;

    type Pixels = Classify<1, 2, 2>; // 1 x 2 x 2, 2 classes

    fn linear(weight: Vec<f32>, inputs: usize) -> Layer {
        Layer::Linear {
            outputs: weight.len() / inputs,
            bias: None,
            weight,
            inputs,
        }
    }

    /// Two neurons of threshold 2; class 0 sums what the first pixels give, class 1 the last.
    fn two_neurons() -> SpikingNetwork {
        let first = vec![1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0];
        let last = vec![1.0, 0.0, 0.0, 1.0];
        let layers = [linear(first, 4), Layer::Neurons, linear(last, 2)];
        let neurons = vec![Neurons::new([2.0])];
        SpikingNetwork::new(Shape::new(1, 2, 2), &layers, neurons, 2).unwrap()
    }

    /// Currents of 1.1 and 0, of 0 and 1.2, of 0.8 and 0.1.
    fn three_images() -> Images<Whole, Pixels> {
        let pixels = vec![255, 51, 0, 0, 0, 0, 102, 255, 204, 0, 51, 0];
        Images::from_arrays(pixels, vec![0, 1, 0]).unwrap()
    }

    fn threshold_rows(seeds: &[&[f64]]) -> Vec<ThresholdRow> {
        let layers = seeds.iter().enumerate().flat_map(|(seed, scales)| {
            let scales = scales.iter().enumerate();
            scales.map(move |(layer, &scale)| (seed as u64, layer, scale))
        });
        let row = |(seed, layer, scale)| ThresholdRow {
            seed,
            initial_potential: 0.0,
            margin_points: 1.0,
            layer,
            neurons: 1,
            baseline_threshold: 1.0,
            evolved_threshold: scale as f32,
            scale,
        };
        layers.map(row).collect()
    }

    #[test]
    fn seeds_agree_by_the_order_of_their_scales() {
        let rows = threshold_rows(&[&[1.0, 2.0, 3.0], &[2.0, 4.0, 9.0], &[3.0, 2.0, 1.0]]);
        assert!((agreement(&rows).unwrap() - (1.0 - 1.0 - 1.0) / 3.0).abs() < 1e-12);
        assert!((agreement(&rows[..6]).unwrap() - 1.0).abs() < 1e-12);
        let found = scales(&rows).unwrap();
        assert_eq!((found[0].mean_scale, found[0].seeds), (2.0, 3));
        assert_eq!(found[0].standard_deviation, Some(1.0));
        assert_eq!(scales(&rows[..3]).unwrap()[0].standard_deviation, None);
        let error = |rows: &[ThresholdRow]| agreement(rows).unwrap_err().to_string();
        assert!(error(&rows[..3]).contains("those of 1 seed"));
        assert!(error(&rows[..5]).contains("2 of 3 layers of seed 1"));
        let twice = [&rows[..], &rows[..1]].concat();
        assert!(error(&twice).contains("layer 0 of seed 0 twice"));
        assert!(error(&[]).contains("none"));
        let flat = threshold_rows(&[&[1.0, 2.0], &[1.0, 1.0]]);
        assert!(error(&flat).contains("equal scales of all layers of seed 1"));
    }

    #[test]
    fn equal_values_share_their_mean_rank() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 0.0]), [2.5, 1.0, 2.5, 0.0]);
        let r = pearson(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]).unwrap();
        assert!((r - 0.5).abs() < 1e-12);
        assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn activity_over_time_is_counted() {
        let run = two_neurons().simulate(&three_images(), 5).unwrap();
        let rates: Vec<f64> = firing_rates("one", &run)
            .iter()
            .map(|row| row.firing_rate_percent)
            .collect();
        // Spikes at 2 and 4, at 2 and 4, at 3 and 5: of three images and two neurons.
        assert_eq!(rates, [0.0, 33.3333, 16.6667, 33.3333, 16.6667]);
        let rows = first_spikes("one", &two_neurons(), &three_images(), 5).unwrap();
        let expected = FirstSpikeRow {
            network: "one".into(),
            layer: 0,
            neurons: 2,
            timesteps: 5,
            fired_percent: 50.0,
            mean_timestep: Some(2.3333),
            median_timestep: Some(2),
        };
        assert_eq!(rows, [expected]);
        let none = &first_spikes("one", &two_neurons(), &three_images(), 1).unwrap()[0];
        assert_eq!((none.fired_percent, none.mean_timestep), (0.0, None));
        assert_eq!(none.median_timestep, None);
    }

    /// A neuron that gets 0.75, with its spikes up to T = 2 and then the five parts.
    #[test]
    fn each_cause_makes_its_part() {
        let neuron = |threshold, charge| Neuron {
            input: 0.75,
            threshold,
            charge,
            initial: 0.0,
            activation: 0.75,
        };
        let parts = |threshold, charge, spikes| neuron(threshold, charge).parts(spikes, 2);
        assert_eq!(parts(1.0, 1.0, 1), [0.0, 0.0, 0.0, -0.25, 0.0]);
        assert_eq!(parts(1.0, 2.0, 1), [0.0, 0.75, 0.0, -0.5, 0.0]);
        assert_eq!(parts(0.5, 0.5, 2), [0.0, 0.0, -0.25, 0.0, 0.0]);
        assert_eq!(parts(1.0, 1.0, 2), [0.0, 0.0, 0.0, -0.25, 0.5]);
        let other = Neuron {
            activation: 0.5,
            ..neuron(1.0, 1.0)
        };
        assert_eq!(other.parts(1, 2)[0], 0.25);
        // Two thresholds, but for rounding: either number of spikes is right.
        let near = Neuron {
            input: 1.0 - 1e-7,
            ..neuron(1.0, 1.0)
        };
        assert_eq!([1, 2].map(|spikes| near.parts(spikes, 2)[4]), [0.0; 2]);
    }

    /// Numbers that look random in -0.5..0.5.
    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = rng(seed, Stream::Weights);
        (0..count).map(|_| rng.random_range(-0.5..0.5)).collect()
    }

    /// A convolution, one around a shortcut, pooling; thresholds, charges and currents by channel.
    fn residual() -> SpikingNetwork {
        let conv = |inputs: usize, seed| Layer::Conv {
            weight: noise(3 * inputs * 9, seed),
            bias: Some(noise(3, seed + 1)),
            inputs,
            outputs: 3,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let body = vec![conv(3, 2)];
        let layers = [
            conv(1, 0),
            Layer::Neurons,
            Layer::Residual {
                body,
                shortcut: vec![],
            },
            Layer::AvgPool { size: 2 },
            Layer::Neurons,
            linear(noise(24, 4), 12),
        ];
        let neurons = |seed| Neurons {
            initial: 0.5,
            charge: Charge::Fixed(vec![0.7, 0.9, 1.1]),
            current: noise(3, seed).iter().map(|x| x / 10.0).collect(),
            ..Neurons::new([0.8, 1.0, 0.6])
        };
        let neurons = vec![neurons(5), neurons(6)];
        SpikingNetwork::new(Shape::new(1, 4, 4), &layers, neurons, 2).unwrap()
    }

    fn four_by_four() -> Images<Whole, Classify<1, 4, 2>> {
        let pixels = (0..32).map(|i| (i * 83 % 256) as u8).collect();
        Images::from_arrays(pixels, vec![0, 1]).unwrap()
    }

    #[test]
    fn the_parts_add_up_to_the_difference_from_the_ann() {
        let (snn, images, timesteps) = (residual(), four_by_four(), [100, 7]);
        let rows = conversion_error("one", &snn, &images, &timesteps).unwrap();
        assert_eq!(rows.len(), 2 * 2 * 6);
        for row in rows.chunks(6) {
            let (layer, timestep) = (row[0].layer, row[0].timestep);
            let sum: f64 = row[..5].iter().map(|row| row.mean_percent).sum();
            assert!((sum - row[5].mean_percent).abs() < 1e-3);
            // The total again, from spikes and activations by channel, row, column.
            let shape = snn.stages.stages[layer].output;
            let (mut total, mut squares) = (0.0, 0.0);
            for image in 0..images.len() {
                let input = images.input(image); // one channel: the order is the same
                let trace = snn.trace(&input, timestep).unwrap();
                for neuron in trace.spikes[layer].iter().flatten() {
                    let channel = neuron / (shape.height * shape.width);
                    total += f64::from(snn.neurons()[layer].charges()[channel]);
                }
                for z in &snn.stages.forward(&input)[layer] {
                    let a = f64::from(z.max(0.0));
                    total -= a * timestep as f64;
                    squares += a * a;
                }
            }
            let count = (images.len() * shape.size()) as f64;
            let percent = 100.0 * total / timestep as f64 / count / (squares / count).sqrt();
            assert!((percent - row[5].mean_percent).abs() < 1e-3);
            // The first layer's input is even, and rightly quantised.
            assert_eq!(row[4].rms_percent == 0.0, layer == 0, "{row:?}");
            assert!(layer > 0 || row[5].residual_thresholds.unwrap() < 20.0);
        }
        assert_eq!((rows[0].timestep, rows[12].timestep), (7, 100));
    }

    #[test]
    fn a_layer_is_measured_in_percent_of_its_activations() {
        // 1.1, 1.2, 0.8, 0.1 and two 0; no spike in one timestep: all is quantisation.
        let rows = conversion_error("one", &two_neurons(), &three_images(), &[1]).unwrap();
        let root = ((1.21 + 1.44 + 0.64 + 0.01) / 6.0f64).sqrt();
        for part in [3, 5] {
            assert_eq!(rows[part].rms_percent, 100.0);
            assert_eq!(rows[part].mean_percent, rounded(-100.0 * 3.2 / 6.0 / root));
        }
        assert_eq!(rows[5].residual_thresholds, Some(rounded(1.6 / 6.0)));
        assert_eq!(rows[0].residual_thresholds, None);

        let mut leaky = two_neurons();
        leaky.neurons[0].leak = vec![0.9];
        let error = conversion_error("one", &leaky, &three_images(), &[1]);
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("layer 0 (neurons): found a leak"),
            "{error}"
        );
        let error = conversion_error("one", &two_neurons(), &three_images(), &[0]);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("timesteps: found [0]")
        );
    }

    fn settings(timesteps: usize) -> EvolveSettings {
        EvolveSettings {
            genome: vec![(Gene::Threshold, [0.5, 2.0])],
            objective: Objective::Latency,
            timesteps,
            ..EvolveSettings::default()
        }
    }

    /// All images are right when the second spikes, which gets 1.2 a timestep.
    #[test]
    fn latency_follows_the_threshold() {
        let (snn, images) = (two_neurons(), three_images());
        let target = Target::new([true; 3], 0.0).unwrap();
        let latencies = |timesteps| {
            let settings = settings(timesteps);
            let factors = [0.5, 1.0, 2.0];
            let rows = threshold_sensitivity("one", &snn, &images, &target, &settings, &factors);
            let rows = rows.unwrap().into_iter().map(|row| row.latency_timesteps);
            rows.collect::<Vec<_>>()
        };
        assert_eq!(latencies(8), [Some(1), Some(2), Some(4)]);
        assert_eq!(latencies(3), [Some(1), Some(2), None]);
        let bad = threshold_sensitivity("one", &snn, &images, &target, &settings(3), &[0.0]);
        assert!(bad.unwrap_err().to_string().starts_with("factors: found 0"));

        // Thresholds of 1, 2, 3, 4 are latencies of 1, 2, 3, 4.
        let rows = elementary_effects("one", &snn, &images, &target, &settings(8), 5).unwrap();
        let expected = EffectRow {
            network: "one".into(),
            gene: "Threshold".into(),
            layer: 0,
            group: 0,
            mu: 3.0,
            mu_star: 3.0,
            sigma: 0.0,
        };
        assert_eq!(rows, [expected]);
    }

    #[test]
    fn morris_tells_linear_inputs_from_those_that_interact() {
        let bounds = [[-1.0, 1.0], [0.0, 3.0], [0.0, 1.0], [0.0, 1.0]];
        let mut calls = 0;
        let found = morris(&bounds, 20, 1, |x| {
            assert!(
                x.iter()
                    .zip(&bounds)
                    .all(|(x, [low, high])| low <= x && x <= high)
            );
            calls += 1;
            Ok(5.0 * x[0] - 2.0 * x[1] + x[2] * x[3])
        });
        let found = found.unwrap();
        assert_eq!(calls, 20 * 5);
        for (effects, expected) in found.iter().zip([10.0, -6.0]) {
            assert!((effects.mu - expected).abs() < 1e-9);
            assert!((effects.mu_star - expected.abs()).abs() < 1e-9 && effects.sigma < 1e-9);
        }
        // The effect of one is the other's value: 0, 1/3, 2/3 or 1, each as often.
        for effects in &found[2..] {
            assert!((effects.mu - 0.5).abs() < 0.3 && (0.2..0.5).contains(&effects.sigma));
        }
        assert!(morris(&bounds, 1, 0, |_| Ok(0.0)).is_err());
        assert!(morris(&[[1.0, 1.0]], 2, 0, |_| Ok(0.0)).is_err());
    }

    #[test]
    fn statistics_of_layers_correlate_with_scales() {
        let settings = SimulateSettings {
            per_neuron: true,
            ..5.into()
        };
        let run = two_neurons()
            .simulate(&three_images().take(1), settings)
            .unwrap();
        let rows = layer_statistics(&two_neurons(), &run).unwrap();
        let values: Vec<(&str, f64)> =
            (rows.iter().map(|row| (&*row.statistic, row.value))).collect();
        let expected = [
            ("depth", 0.0),
            ("neurons", 2.0),
            ("fan-in", 4.0),
            ("firing rate (%)", 20.0),
            ("silent (%)", 50.0),
        ];
        assert_eq!(values, expected);
        assert!(layer_statistics(&residual(), &run).is_err());

        let scales = scales(&threshold_rows(&[&[1.0, 3.0, 2.0]])).unwrap();
        let row = |statistic: &str, layer, value| StatisticRow {
            statistic: statistic.into(),
            layer,
            value,
        };
        let mut rows = vec![
            row("depth", 0, 1.0),
            row("depth", 1, 2.0),
            row("depth", 2, 3.0),
        ];
        rows.extend([0, 1, 2].map(|layer| row("same", layer, 1.0)));
        let found = correlations(&rows, &scales).unwrap();
        assert_eq!(
            (found[0].spearman, found[0].pearson),
            (Some(0.5), Some(0.5))
        );
        assert_eq!((found[1].spearman, found[1].layers), (None, 3));
        let error = correlations(&rows[..5], &scales).unwrap_err().to_string();
        assert!(error.contains("2 values of same"), "{error}");
    }

    #[test]
    fn the_spread_of_activations_is_at_least_one() {
        let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
        let ann = Ann::<DigitsCnn>::new(0).unwrap();
        let conversion = convert(&ann, &digits.training.take(10)).unwrap();
        let rows = activation_statistics(&conversion, 99.0).unwrap();
        assert_eq!((rows.len(), &*rows[0].statistic), (6, "max / p99"));
        assert!(rows.iter().all(|row| row.value >= 1.0));
    }

    #[test]
    fn a_map_sums_channels_whose_spikes_come_close_together() {
        // Two channels of 2 x 2: the pixel and half of it; of threshold 1, a pixel of 1 spikes at
        // every timestep and at every second.
        let conv = Layer::Conv {
            weight: vec![1.0, 0.5],
            bias: None,
            inputs: 1,
            outputs: 2,
            kernel: 1,
            stride: 1,
            padding: 0,
        };
        let layers = [conv, Layer::Neurons, linear(vec![1.0; 16], 8)];
        let neurons = vec![Neurons::new([1.0])];
        let snn = SpikingNetwork::new(Shape::new(1, 2, 2), &layers, neurons, 2).unwrap();
        let input = [0.0, 1.0, 0.0, 0.0];
        let rows = activation_map("one", &snn, &input, 0, &[3, 4], 2f64.ln()).unwrap();
        let at = |row: usize| (rows[row].timestep, rows[row].row, rows[row].column);
        assert_eq!((at(1), at(7)), ((3, 0, 1), (4, 1, 1)));
        // At 3, 1/2 + 1/4; at 4, 1/2 + 1/4 + 1/8 and the other channel's 1/4.
        let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
        for (score, expected) in scores
            .iter()
            .zip([0.0, 0.75, 0.0, 0.0, 0.0, 1.125, 0.0, 0.0])
        {
            assert!((score - expected).abs() < 1e-12, "{scores:?}");
        }
        assert!(activation_map("one", &snn, &input, 1, &[3], 0.5).is_err());
        assert!(activation_map("one", &snn, &input, 0, &[], 0.5).is_err());
        assert!(
            activation_map_chart("Map", &rows)
                .unwrap_err()
                .to_string()
                .contains("several")
        );
        activation_map_chart("Map", &rows[..4]).unwrap();
    }

    #[test]
    fn rows_come_back_from_files_and_make_charts() {
        let (snn, images) = (residual(), four_by_four());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.csv");
        macro_rules! there_and_back {
            ($rows:expr, $chart:ident) => {{
                let rows = $rows;
                write_csv(&file, &rows).unwrap();
                assert_eq!(read_csv(&file).ok(), Some(rows.clone()));
                assert!($chart("Title", &rows).unwrap().svg().contains("Title"));
            }};
        }
        let run = snn.simulate(&images, 20).unwrap();
        there_and_back!(firing_rates("one", &run), firing_rates_chart);
        there_and_back!(
            first_spikes("one", &snn, &images, 20).unwrap(),
            first_spikes_chart
        );
        let errors = conversion_error("one", &snn, &images, &[20]).unwrap();
        there_and_back!(errors, conversion_error_chart);
        let target = Target::new([true, false], 1.0).unwrap();
        let settings = EvolveSettings {
            genome: vec![(Gene::Scale, [0.5, 2.0]), (Gene::Groups(3), [0.5, 2.0])],
            objective: Objective::MeanLatency,
            ..settings(20)
        };
        let rows = threshold_sensitivity("one", &snn, &images, &target, &settings, &[0.5, 2.0]);
        there_and_back!(rows.unwrap(), threshold_sensitivity_chart);
        let rows = elementary_effects("one", &snn, &images, &target, &settings, 2).unwrap();
        assert_eq!((rows.len(), rows[7].layer, rows[7].group), (2 + 6, 1, 2));
        there_and_back!(rows, elementary_effects_chart);
        let scales = threshold_rows(&[&[1.0, 0.5], &[1.5, 0.75]]);
        there_and_back!(scales.clone(), scales_chart);
        let statistics = layer_statistics(&snn, &run).unwrap();
        let rows = correlations(&statistics, &super::scales(&scales).unwrap()).unwrap();
        there_and_back!(rows, correlations_chart);
    }
}
