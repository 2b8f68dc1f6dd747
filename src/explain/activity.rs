//! Activity over time: firing rates, first spikes, and maps of activity in an image.

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use super::charts::{LAYER, lines, one};
use crate::base::heat_map::heat_map_of;
use crate::base::{Chart, Result, chart, owned, require, rounded};
use crate::data::{Images, Part, Task};
use crate::simulate::{InputCode, Simulation, SpikingNetwork, Stage};

/// Firing rate of one layer in one timestep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FiringRateRow {
    /// Name of the network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Timestep, from 1.
    pub timestep: usize,
    /// Number of spikes per neuron in the timestep, in percent, averaged over images: the share of the
    /// neurons that fire, if spikes are plain.
    pub firing_rate_percent: f64,
}

/// Computes the firing rate of each layer in each timestep of a run.
pub fn firing_rates(network: &str, run: &Simulation) -> Vec<FiringRateRow> {
    let images = run.curve.images();
    // The output layer, the last, does not spike.
    let layers = run.layers.split_last().map_or(&[][..], |(_, layers)| layers);
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

/// Draws the firing rates (%) of one network as a heat map, layers over timesteps.
///
/// # Errors
/// Returns an error for rows of several networks or no rows, or if plotters fails.
pub fn firing_rates_chart(
    title: &str,
    rows: impl IntoIterator<Item: Borrow<FiringRateRow>>,
) -> Result<Chart> {
    let rows: Vec<FiringRateRow> = owned(rows);
    one("networks", rows.iter().map(|row| &row.network))?;
    let cells = rows.iter().map(|row| {
        let rate = Some(row.firing_rate_percent);
        (row.timestep.to_string(), row.layer.to_string(), rate)
    });
    heat_map_of(title, ["timestep", LAYER], cells)
}

/// Timesteps of the first spikes of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstSpikeRow {
    /// Name of the network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Number of neurons in the layer.
    pub neurons: usize,
    /// Number of timesteps of the run.
    pub timesteps: usize,
    /// Share of neurons that fire in the run, in percent, averaged over images.
    pub fired_percent: f64,
    /// Mean timestep of the first spike, from 1, over neurons that fire; empty where none does.
    pub mean_timestep: Option<f64>,
    /// Timestep, from 1, by which half of the neurons that fire have fired; empty where none does.
    pub median_timestep: Option<usize>,
}

/// Computes the timesteps of the first spikes of each layer, over all images and neurons: the speed
/// at which information travels through the network.
///
/// # Errors
/// Returns an error if there are no images or timesteps, or if the images have another shape or
/// more classes than the network.
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

/// Draws the mean timestep of the first spike over layers, one line per network.
///
/// # Errors
/// Returns an error if plotters fails.
pub fn first_spikes_chart(
    title: &str,
    rows: impl IntoIterator<Item: Borrow<FirstSpikeRow>>,
) -> Result<Chart> {
    let rows: Vec<FirstSpikeRow> = owned(rows);
    let lines = lines(rows.iter().filter_map(|row| {
        let at = (row.layer as f64, row.mean_timestep?);
        Some((row.network.clone(), at))
    }));
    chart::lines(title, [LAYER, "mean timestep of the first spike"], lines)
}

/// Score of one position of a spike activation map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivationMapRow {
    /// Name of the network.
    pub network: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Timestep, from 1.
    pub timestep: usize,
    /// Row of the layer's output, from 0 at the top.
    pub row: usize,
    /// Column of the layer's output, from 0 at the left.
    pub column: usize,
    /// Score, summed over channels.
    pub score: f64,
}

/// Computes the spike activation map of a layer on one input (Kim and Panda 2021, "Visual
/// explanations from spiking neural networks using inter-spike intervals", Sci. Rep. 11:19037) in
/// each of `timesteps`.
///
/// In timestep t, the score of a neuron that fires is the sum of exp(-γ (t - t')) over the
/// timesteps t' < t in which it fired before; the score of a neuron that does not fire is 0. Scores
/// are summed over channels. `input` has the order of [`SpikingNetwork::trace`]. `gamma` is γ, 0.5
/// in the authors' program.
///
/// # Errors
/// Returns an error if the network does not have the layer, there are no timesteps, γ is below 0 or
/// the input does not fit.
pub fn activation_map(
    network: &str,
    snn: &SpikingNetwork,
    input: &[f32],
    layer: usize,
    timesteps: &[usize],
    gamma: f64,
) -> Result<Vec<ActivationMapRow>> {
    let layers = snn.neurons().len();
    let expected = format_args!("less than {layers}, the layers of neurons");
    require(layer < layers, "layer", layer, expected)?;
    let good = gamma >= 0.0 && gamma.is_finite();
    require(good, "gamma", gamma, "0 or more")?;
    let found = format_args!("{timesteps:?}");
    let good = !timesteps.is_empty() && !timesteps.contains(&0);
    require(good, "timesteps", found, "some, 1 or more each")?;
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
            fired.iter().for_each(|&neuron| map[neuron % area] += scores[neuron]);
            rows.extend(map.iter().enumerate().map(|(place, &score)| ActivationMapRow {
                network: network.into(),
                layer,
                timestep: t,
                row: place / shape.width,
                column: place % shape.width,
                score,
            }));
        }
        fired.iter().for_each(|&neuron| scores[neuron] += 1.0);
    }
    Ok(rows)
}

/// Draws one map as a heat map, its first row at the top.
///
/// # Errors
/// Returns an error for rows of several networks, layers or timesteps or no rows, or if plotters
/// fails.
pub fn activation_map_chart(
    title: &str,
    rows: impl IntoIterator<Item: Borrow<ActivationMapRow>>,
) -> Result<Chart> {
    let rows: Vec<ActivationMapRow> = owned(rows);
    one("networks", rows.iter().map(|row| &row.network))?;
    one("layers", rows.iter().map(|row| row.layer))?;
    one("timesteps", rows.iter().map(|row| row.timestep))?;
    let mut rows: Vec<&ActivationMapRow> = rows.iter().collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.row), row.column));
    let cells = rows.into_iter();
    let cells = cells.map(|row| (row.column.to_string(), row.row.to_string(), Some(row.score)));
    heat_map_of(title, ["column", "row"], cells)
}
