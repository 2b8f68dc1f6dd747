//! Statistics of layers, and their correlations with the evolved scales.

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use super::scales::ScaleRow;
use super::stats::{pearson, spearman};
use crate::ann::Classifier;
use crate::base::heat_map::heat_map_of;
use crate::base::{Chart, Result, distinct, owned, require, rounded};
use crate::convert::{Balance, Conversion};
use crate::simulate::{Simulation, SpikingNetwork};

/// Value of one statistic for one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatisticRow {
    /// Name of the statistic, with its unit.
    pub statistic: String,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Value in the statistic's unit.
    pub value: f64,
}

/// Computes statistics of each layer of a network from a run of it: `depth` (number of the layer),
/// `neurons`, `fan-in` (multiply-accumulates of the ANN per neuron), `firing rate (%)`, and
/// `silent (%)`, the share of neurons that fire on no image. The last one needs a run with
/// [`SimulateSettings::per_neuron`](crate::simulate::SimulateSettings::per_neuron).
///
/// # Errors
/// Returns an error if the run is of another network.
pub fn layer_statistics(snn: &SpikingNetwork, run: &Simulation) -> Result<Vec<StatisticRow>> {
    snn.check_run(run)?;
    let stages = snn.stages.stages[..snn.neurons().len()].iter();
    let rows = stages.zip(&run.layers).enumerate().flat_map(|(layer, (stage, spikes))| {
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
        let row =
            move |(name, value): (&str, f64)| StatisticRow { statistic: name.into(), layer, value };
        rows.into_iter().chain(silent).map(row)
    });
    Ok(rows.collect())
}

/// Computes the largest activation of each layer on the training images over a percentile of its
/// activations, with the name `max / p99`, for example.
///
/// # Errors
/// Returns an error if the percentile is out of range, or is 0 because most of a layer's
/// activations are.
pub fn activation_statistics<N: Classifier>(
    conversion: &Conversion<N>,
    percentile: f64,
) -> Result<Vec<StatisticRow>> {
    let most = conversion.balance(Balance::Max)?.thresholds();
    let many = conversion.balance(Balance::Percentile(percentile))?.thresholds();
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
    /// Name of the statistic.
    pub statistic: String,
    /// Spearman's rank correlation; empty where all layers have the same value.
    pub spearman: Option<f64>,
    /// Pearson's correlation; empty where all layers have the same value.
    pub pearson: Option<f64>,
    /// Number of layers.
    pub layers: usize,
}

/// Correlates each statistic of layers with the mean scales of these layers.
///
/// Layers are few: with 14 of them, a coefficient below about 0.53 in magnitude cannot be told from
/// chance at the 5 % level, and one of twenty meaningless statistics is expected to exceed it.
///
/// # Errors
/// Returns an error if there are no scales, or if a statistic does not have one value for every
/// layer with a scale.
pub fn correlations(
    statistics: &[StatisticRow],
    scales: &[ScaleRow],
) -> Result<Vec<CorrelationRow>> {
    require(!scales.is_empty(), "scales", "none", "one a layer")?;
    let names = distinct(statistics.iter().map(|row| &*row.statistic));
    let mean_scales: Vec<f64> = scales.iter().map(|row| row.mean_scale).collect();
    let row = |name: &str| {
        let value = |scale: &ScaleRow| {
            let mut own = statistics.iter();
            own.find(|row| row.statistic == name && row.layer == scale.layer).map(|row| row.value)
        };
        let values: Vec<f64> = scales.iter().filter_map(value).collect();
        let found = statistics.iter().filter(|row| row.statistic == name);
        let (found, all) = (found.count(), scales.len());
        let once = values.len() == all && found == all;
        let found = format_args!("{found} values of {name}");
        let expected = format_args!("one for each of the {all} layers with a scale");
        require(once, "statistics", found, expected)?;
        Ok(CorrelationRow {
            statistic: name.into(),
            spearman: spearman(&values, &mean_scales).map(rounded),
            pearson: pearson(&values, &mean_scales).map(rounded),
            layers: scales.len(),
        })
    };
    names.into_iter().map(row).collect()
}

/// Draws both coefficients of every statistic as a heat map.
///
/// # Errors
/// Returns an error if plotters fails.
pub fn correlations_chart(
    title: &str,
    rows: impl IntoIterator<Item: Borrow<CorrelationRow>>,
) -> Result<Chart> {
    let rows: Vec<CorrelationRow> = owned(rows);
    let cells = rows.iter().flat_map(|row| {
        let cell = |name: &str, value| (row.statistic.clone(), name.into(), value);
        [cell("r", row.pearson), cell("ρ", row.spearman)]
    });
    let titles = ["statistic of the layer", "Pearson's r, Spearman's ρ"];
    heat_map_of(title, titles, cells)
}
