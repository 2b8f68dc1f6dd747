//! Thresholds that evolution found, and their agreement between seeds.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::charts::LAYER;
use super::stats::{mean, spearman, standard_deviation};
use crate::base::{Chart, Result, chart, owned, require, rounded};
use crate::evolve::ThresholdRow;

/// Scales of one layer, evolved threshold over baseline threshold, averaged over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleRow {
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Number of seeds.
    pub seeds: usize,
    /// Mean of evolved threshold over baseline threshold.
    pub mean_scale: f64,
    /// Standard deviation of the sample, with n - 1; empty for one seed.
    pub standard_deviation: Option<f64>,
    /// Mean of evolved charge over baseline charge of a spike.
    pub mean_charge_scale: f64,
}

/// Computes mean and standard deviation over seeds of each layer's scale.
///
/// # Errors
/// Returns an error if there are no rows, or not every layer of every seed once, for example rows
/// of several margins.
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

/// Computes the agreement of seeds on the layers that get higher or lower thresholds: Spearman's
/// rank correlation over all layers between the scales of two seeds, averaged over all pairs of
/// seeds. 1 means the same order in all seeds; 0 is the expectation by chance.
///
/// # Errors
/// Returns an error if [`scales`] does, for fewer than two seeds, or for a seed whose scales are
/// all equal and so have no order.
pub fn agreement(rows: &[ThresholdRow]) -> Result<f64> {
    let seeds: Vec<(u64, Vec<f64>)> = by_seed(rows)?.into_iter().collect();
    let several = seeds.len() >= 2;
    require(several, "rows", "those of 1 seed", "2 seeds or more")?;
    for (seed, scales) in &seeds {
        let found = format_args!("equal scales of all layers of seed {seed}");
        let differ = spearman(scales, scales).is_some();
        require(differ, "rows", found, "scales that differ")?;
    }
    let pairs = seeds.iter().enumerate().flat_map(|(i, (_, a))| {
        let others = seeds[..i].iter();
        others.filter_map(move |(_, b)| spearman(a, b))
    });
    Ok(mean(&pairs.collect::<Vec<f64>>()))
}

/// Draws the scales over layers, one line per seed and one for their mean.
///
/// # Errors
/// Returns an error if [`scales`] does, or if plotters fails.
pub fn scales_chart(
    title: &str,
    rows: impl IntoIterator<Item: Borrow<ThresholdRow>>,
) -> Result<Chart> {
    let rows: Vec<ThresholdRow> = owned(rows);
    let place = |(layer, scale): (usize, &f64)| (layer as f64, *scale);
    let seed = |(seed, scales): (&u64, &Vec<f64>)| {
        let points = scales.iter().enumerate().map(place);
        (format!("seed {seed}"), points.collect())
    };
    let mean = scales(&rows)?.into_iter();
    let mean: Vec<_> = mean.map(|row| (row.layer as f64, row.mean_scale)).collect();
    let mut lines = vec![("mean".to_string(), mean)];
    lines.extend(by_seed(&rows)?.iter().map(seed));
    chart::lines(title, [LAYER, "evolved / baseline threshold"], lines)
}

/// Scales of all layers of each seed.
fn by_seed(rows: &[ThresholdRow]) -> Result<BTreeMap<u64, Vec<f64>>> {
    let mut seeds: BTreeMap<u64, BTreeMap<usize, f64>> = BTreeMap::new();
    let expected = "every layer of every seed once, of one experiment and margin";
    for row in rows {
        let layers = seeds.entry(row.seed).or_default();
        let new = layers.insert(row.layer, row.scale).is_none();
        let found = format_args!("layer {} of seed {} twice", row.layer, row.seed);
        require(new, "rows", found, expected)?;
    }
    let layers = rows.iter().map(|row| row.layer.saturating_add(1)).max();
    let layers = layers.unwrap_or(0);
    require(layers > 0, "rows", "none", expected)?;
    for (seed, found) in &seeds {
        let all = found.len() == layers;
        let found = format_args!("{} of {layers} layers of seed {seed}", found.len());
        require(all, "rows", found, expected)?;
    }
    let scales = |layers: BTreeMap<usize, f64>| layers.into_values().collect();
    let seeds = seeds.into_iter();
    Ok(seeds.map(|(seed, layers)| (seed, scales(layers))).collect())
}
