//! Thresholds that evolution found, and their correlations.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::ann::networks::Network;
use crate::base::chart;
use crate::base::chart::Chart;
use crate::base::error::{Error, Result};
use crate::base::files::rounded;
use crate::convert::{Balance, Conversion};
use crate::evolve::thresholds::ThresholdRow;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::simulator::Simulation;

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
    /// Mean of evolved over baseline charge of a spike.
    pub mean_charge_scale: f64,
}

/// Mean and standard deviation over seeds of each layer's scale.
///
/// # Errors
/// No row, or not every layer of every seed once: rows of several margins, say.
pub fn scales(rows: &[ThresholdRow]) -> Result<Vec<ScaleRow>> {
    let seeds: Vec<Vec<f64>> = by_seed(rows)?.into_values().collect();
    let row = |layer: usize| {
        let of_layer: Vec<f64> = seeds.iter().map(|scales| scales[layer]).collect();
        let charges = rows.iter().filter(|row| row.layer == layer);
        let charges: Vec<f64> = charges.map(|row| row.charge_scale).collect();
        ScaleRow {
            layer,
            seeds: seeds.len(),
            mean_scale: rounded(mean(&of_layer)),
            standard_deviation: standard_deviation(&of_layer).map(rounded),
            mean_charge_scale: rounded(mean(&charges)),
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
    let mean: Vec<_> = mean.map(|row| (row.layer as f64, row.mean_scale)).collect();
    let mut lines = vec![("mean".to_string(), mean)];
    lines.extend(by_seed(rows)?.iter().map(seed));
    chart::lines(title, [LAYER, "evolved / baseline threshold"], lines)
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
    let layers = rows.iter().map(|row| row.layer.saturating_add(1)).max();
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

pub(super) const LAYER: &str = "layer of neurons";

/// Refuses rows that are not all of one of these.
pub(super) fn one<T: PartialEq + Display>(
    what: &str,
    mut values: impl Iterator<Item = T>,
) -> Result<()> {
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
pub(super) fn lines(
    points: impl Iterator<Item = (String, (f64, f64))>,
) -> Vec<(String, Vec<(f64, f64)>)> {
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
pub(super) fn heat_map(
    title: &str,
    [across, up]: [&str; 2],
    cells: impl Iterator<Item = (String, String, Option<f64>)>,
) -> Result<Chart> {
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    let mut values: Vec<Vec<Option<f64>>> = Vec::new();
    for (column, row, value) in cells {
        let (column, row) = (place(&mut columns, column), place(&mut rows, row));
        values.resize(values.len().max(row + 1), Vec::new());
        let length = values[row].len().max(column + 1);
        values[row].resize(length, None);
        values[row][column] = value;
    }
    chart::heat_map(title, (across, &columns), (up, &rows), &values)
}

/// Of a name among others, to which it is added if it is new.
pub(super) fn place(names: &mut Vec<String>, name: String) -> usize {
    let known = names.iter().position(|other| *other == name);
    known.unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of a sample; none of fewer than two values.
pub(super) fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    let others = values.len().checked_sub(1).filter(|&others| others > 0)?;
    Some((squares / others as f64).sqrt())
}

/// None where the values of either are all equal.
pub(super) fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
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
pub(super) fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

/// The mean rank where values are equal.
pub(super) fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}
