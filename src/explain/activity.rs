//! Activity over time: how it fills the layers, and where in an image.

use serde::{Deserialize, Serialize};

use crate::base::chart;
use crate::base::chart::Chart;
use crate::base::error::{Error, Result};
use crate::base::files::rounded;
use crate::data::images::{Images, Part};
use crate::data::tasks::Task;
use crate::explain::scales::{LAYER, heat_map, lines, one};
use crate::simulate::codes::InputCode;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::simulator::Simulation;
use crate::simulate::synapses::Stage;

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
    chart::lines(title, [LAYER, "mean timestep of the first spike"], lines)
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
