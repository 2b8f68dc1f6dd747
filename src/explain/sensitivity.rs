//! Which layer's threshold, and which value of a genome, matters.

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::base::chart;
use crate::base::chart::Chart;
use crate::base::error::{Error, Result};
use crate::base::files::rounded;
use crate::base::progress::Progress;
use crate::base::random::{Stream, rng};
use crate::data::images::{Images, Part};
use crate::data::tasks::Task;
use crate::evolve::fitness::Evaluator;
use crate::evolve::genome::Genome;
use crate::evolve::settings::EvolveSettings;
use crate::explain::scales::{LAYER, heat_map, lines, mean, one, standard_deviation};
use crate::metrics::Target;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::neurons::Charge;

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
    let evaluator = Evaluator::new(snn, images, target, settings.objective, settings.run())?;
    let layers = snn.neurons().len();
    let mut progress = Progress::new("threshold sensitivity", layers * factors.len());
    let mut rows = Vec::with_capacity(layers * factors.len());
    for layer in 0..layers {
        for &factor in factors {
            let mut neurons = snn.neurons().to_vec();
            neurons[layer].charge = Charge::Fixed(neurons[layer].charges().to_vec());
            neurons[layer].scale_thresholds(factor);
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

/// μ* and σ of each layer of one network, two lines for each gene.
///
/// # Errors
/// Rows of several networks, or none; [`Error::Chart`] when plotters fails.
pub fn elementary_effects_chart(title: &str, rows: &[EffectRow]) -> Result<Chart> {
    one("networks", rows.iter().map(|row| &row.network))?;
    let lines = lines(rows.iter().flat_map(|row| {
        let value = |symbol, value| (format!("{}: {symbol}", row.gene), (row.layer as f64, value));
        [value("μ*", row.mu_star), value("σ", row.sigma)]
    }));
    chart::lines(title, [LAYER, "elementary effect (objective)"], lines)
}
