//! Sensitivity of latency to the thresholds of each layer, and of the objective to each gene.

use std::borrow::Borrow;

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::charts::{LAYER, lines, one};
use super::stats::{mean, standard_deviation};
use crate::base::heat_map::heat_map_of;
use crate::base::{Chart, Progress, Result, Stream, at_least, chart, owned, require, rng, rounded};
use crate::data::{Images, Part, Task};
use crate::evolve::{Evaluator, EvolveSettings, Gene, Genome};
use crate::metrics::Target;
use crate::simulate::SpikingNetwork;

/// Latency with the thresholds of one layer multiplied by a factor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensitivityRow {
    /// Name of the network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Factor on the layer's thresholds. Charges of spikes stay the same.
    pub factor: f64,
    /// Latency in timesteps; empty where the target is not reached.
    pub latency_timesteps: Option<usize>,
    /// Percentage points below the target, summed over the timesteps before the latency.
    pub deficit_points: f64,
    /// Value of the objective, where that is not the latency.
    pub cost: Option<f64>,
}

/// Computes the latency with the thresholds of one layer at a time multiplied by each factor, as
/// [`Gene::Threshold`](crate::evolve::Gene) does. Only the objective and the timesteps of the
/// settings are used; with [`Objective::MeanLatency`](crate::evolve::Objective) small effects show
/// too.
///
/// # Errors
/// Returns an error if settings are out of range, a factor is not above 0, the target was made on
/// other images, there are no images, or the images have another shape or more classes than the
/// network.
pub fn threshold_sensitivity<P: Part, K: Task>(
    network: &str,
    snn: &SpikingNetwork,
    images: &Images<P, K>,
    target: &Target,
    settings: &EvolveSettings,
    factors: &[f64],
) -> Result<Vec<SensitivityRow>> {
    settings.check()?;
    for &factor in factors {
        let good = factor > 0.0 && factor.is_finite();
        require(good, "factors", factor, "finite factors above 0")?;
    }
    let evaluator = Evaluator::new(snn, images, target, settings.objective, settings.run())?;
    let layers = snn.neurons().len();
    let mut progress = Progress::new("threshold sensitivity", layers * factors.len());
    let mut rows = Vec::with_capacity(layers * factors.len());
    for layer in 0..layers {
        for &factor in factors {
            let mut neurons = snn.neurons().to_vec();
            Gene::Threshold.express(&mut neurons[layer], factor);
            let fitness = evaluator.fitness(&neurons)?;
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

/// Draws the objective of one network as a heat map, layers over factors; the latency where that is
/// the objective.
///
/// # Errors
/// Returns an error for rows of several networks or no rows, or if plotters fails.
pub fn threshold_sensitivity_chart(
    title: &str,
    rows: impl IntoIterator<Item: Borrow<SensitivityRow>>,
) -> Result<Chart> {
    let rows: Vec<SensitivityRow> = owned(rows);
    one("networks", rows.iter().map(|row| &row.network))?;
    let cells = rows.iter().map(|row| {
        let latency = row.latency_timesteps.map(|latency| latency as f64);
        let (factor, layer) = (row.factor.to_string(), row.layer.to_string());
        (factor, layer, row.cost.or(latency))
    });
    heat_map_of(title, ["factor on the layer's thresholds", LAYER], cells)
}

/// Elementary effects of one input of a function: changes of its value, extrapolated linearly to
/// the whole range of the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effects {
    /// μ, the mean effect.
    pub mu: f64,
    /// μ*, the mean magnitude of the effect: the importance of the input.
    pub mu_star: f64,
    /// σ, the standard deviation of the effect: curvature, and interaction with other inputs.
    pub sigma: f64,
}

/// Screens the inputs of a function by Morris's method (Morris 1991, "Factorial sampling plans for
/// preliminary computational experiments"; μ* of Campolongo et al. 2007): on random trajectories
/// over a grid of four levels, each input takes one step of two thirds of its range. `bounds` are
/// the lower and upper bound of each input. A trajectory takes one evaluation more than there are
/// inputs; 10 to 50 trajectories are usual.
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
/// Returns an error for fewer than two trajectories, for bounds that are not finite or not in
/// order, or if the function returns one.
pub fn morris(
    bounds: &[[f64; 2]],
    trajectories: usize,
    seed: u64,
    mut function: impl FnMut(&[f64]) -> Result<f64>,
) -> Result<Vec<Effects>> {
    const LEVELS: u32 = 4;
    const STEP: u32 = LEVELS / 2;
    at_least(2, &[("trajectories", trajectories)])?;
    for [low, high] in bounds {
        let found = format_args!("[{low:?}, {high:?}]");
        let good = low < high && (high - low).is_finite();
        require(good, "bounds", found, "finite, in order")?;
    }
    let point = |levels: &[u32]| -> Vec<f64> {
        let place = |level: u32| f64::from(level) / f64::from(LEVELS - 1);
        let values = levels.iter().zip(bounds);
        values.map(|(&level, [low, high])| low + (high - low) * place(level)).collect()
    };
    let mut rng = rng(seed, Stream::Sensitivity);
    let mut effects = vec![Vec::with_capacity(trajectories); bounds.len()];
    for _ in 0..trajectories {
        let mut levels: Vec<u32> = bounds.iter().map(|_| rng.random_range(0..LEVELS)).collect();
        let mut order: Vec<usize> = (0..bounds.len()).collect();
        order.shuffle(&mut rng);
        let mut before = function(&point(&levels))?;
        for input in order {
            // From every level, only one direction stays on the grid.
            let sign = if levels[input] < STEP { 1.0 } else { -1.0 };
            levels[input] = (levels[input] + STEP) % LEVELS;
            let after = function(&point(&levels))?;
            let step = f64::from(STEP) / f64::from(LEVELS - 1);
            effects[input].push(sign * (after - before) / step);
            before = after;
        }
    }
    let summary = |effects: Vec<f64>| {
        let magnitudes: Vec<f64> = effects.iter().map(|effect| effect.abs()).collect();
        Effects {
            mu: mean(&effects),
            mu_star: mean(&magnitudes),
            sigma: standard_deviation(&effects).unwrap_or(0.0),
        }
    };
    Ok(effects.into_iter().map(summary).collect())
}

/// Elementary effects of one gene of a genome, in units of the objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectRow {
    /// Name of the network.
    pub network: String,
    /// Name of the [`Gene`](crate::evolve::Gene).
    pub gene: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Mean effect of the gene's whole range.
    pub mu: f64,
    /// Mean magnitude of the effect.
    pub mu_star: f64,
    /// Standard deviation of the effect: curvature, and interaction with other genes.
    pub sigma: f64,
}

/// Computes the elementary effects of each value of a genome, by [`morris`]. Only the genome, the
/// objective, the timesteps and the seed of the settings are used. A trajectory simulates one
/// network more than the genome has values.
///
/// # Errors
/// Returns an error if [`evolve`](crate::evolve::evolve) or [`morris`] does, or if the images have
/// another shape or more classes than the network.
pub fn elementary_effects<P: Part, K: Task>(
    network: &str,
    snn: &SpikingNetwork,
    images: &Images<P, K>,
    target: &Target,
    settings: &EvolveSettings,
    trajectories: usize,
) -> Result<Vec<EffectRow>> {
    settings.check()?;
    let genome = Genome::new(&settings.genome, snn.neurons())?.within(snn.bounds());
    let evaluator = Evaluator::new(snn, images, target, settings.objective, settings.run())?;
    let bounds = genome.bounds();
    let runs = trajectories.saturating_mul(bounds.len() + 1);
    let mut progress = Progress::new("elementary effects", runs);
    let effects = morris(&bounds, trajectories, settings.seed, |values| {
        let fitness = evaluator.fitness(&genome.express(values))?;
        progress.step(|| format!("cost {:.2}", fitness.value()));
        Ok(fitness.value())
    })?;
    progress.finish(String::new);
    let places = settings.genome.iter().flat_map(|&(gene, _)| {
        let layers = 0..snn.neurons().len();
        layers.map(move |layer| (gene, layer))
    });
    let row = |((gene, layer), effects): (_, Effects)| EffectRow {
        network: network.into(),
        gene: format!("{gene:?}"),
        layer,
        mu: rounded(effects.mu),
        mu_star: rounded(effects.mu_star),
        sigma: rounded(effects.sigma),
    };
    Ok(places.zip(effects).map(row).collect())
}

/// Draws μ* and σ over layers for one network, two lines per gene.
///
/// # Errors
/// Returns an error for rows of several networks or no rows, or if plotters fails.
pub fn elementary_effects_chart(
    title: &str,
    rows: impl IntoIterator<Item: Borrow<EffectRow>>,
) -> Result<Chart> {
    let rows: Vec<EffectRow> = owned(rows);
    one("networks", rows.iter().map(|row| &row.network))?;
    let lines = lines(rows.iter().flat_map(|row| {
        let value = |symbol, value| (format!("{}: {symbol}", row.gene), (row.layer as f64, value));
        [value("μ*", row.mu_star), value("σ", row.sigma)]
    }));
    chart::lines(title, [LAYER, "elementary effect (objective)"], lines)
}
