//! Thresholds before and after evolution: rows and chart.

use std::borrow::Borrow;

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ann::Classifier;
use crate::base::chart::{Key, axes, bar, colour, draw, legend, small_font, table};
use crate::base::{Chart, Result, owned, rounded};
use crate::simulate::Snn;

/// Row of `thresholds.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdRow {
    /// Seed of the run.
    pub seed: u64,
    /// Initial membrane potential of the network before evolution, in thresholds.
    pub initial_potential: f32,
    /// Margin of the target below the ANN's accuracy, in percentage points.
    pub margin_points: f64,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Number of neurons in the layer.
    pub neurons: usize,
    /// Threshold after conversion, in units of the ReLU's output.
    pub baseline_threshold: f32,
    /// Threshold after evolution, in units of the ReLU's output.
    pub evolved_threshold: f32,
    /// Evolved threshold / baseline threshold.
    pub scale: f64,
    /// Evolved / baseline charge of a spike: if it equals the scale, the thresholds changed as
    /// those of balancing do; if not, the gain of the layer changed.
    pub charge_scale: f64,
}

impl ThresholdRow {
    /// Returns the rows of a network before and after evolution, one per layer.
    pub fn of<N: Classifier>(
        seed: u64,
        margin_points: f64,
        before: &Snn<N>,
        after: &Snn<N>,
    ) -> Vec<Self> {
        let charge = |snn: &Snn<N>, layer: usize| -> f64 {
            let charges = snn.neurons()[layer].charges();
            charges.iter().map(|&x| f64::from(x)).sum::<f64>() / charges.len() as f64
        };
        let thresholds = before.thresholds().into_iter().zip(after.thresholds());
        let layers = thresholds.zip(before.sizes()).enumerate();
        let row = |(layer, ((was, is), neurons)): (usize, ((f32, f32), usize))| Self {
            seed,
            initial_potential: before.neurons()[layer].initial,
            margin_points,
            layer,
            neurons,
            baseline_threshold: was,
            evolved_threshold: is,
            scale: rounded(f64::from(is) / f64::from(was)),
            charge_scale: rounded(charge(after, layer) / charge(before, layer)),
        };
        layers.map(row).collect()
    }
}

/// Draws the threshold of every layer before and after evolution.
///
/// # Errors
/// Returns [`Error::Chart`](crate::Error::Chart) if plotters fails.
pub fn thresholds_chart(
    title: &str,
    layers: impl IntoIterator<Item: Borrow<ThresholdRow>>,
) -> Result<Chart> {
    let layers: Vec<ThresholdRow> = owned(layers);
    draw(title, 2, |area| {
        let values = |row: &ThresholdRow| [row.baseline_threshold, row.evolved_threshold];
        let highest = layers.iter().flat_map(values).fold(0.0, f32::max);
        let x_title = "layer of neurons (from 0; above the bars: evolved / baseline)";
        let x = -0.5..layers.len() as f64 - 0.5;
        let y = 0.0..f64::from(highest) * 1.15;
        let mut axes = axes(area, title, [x_title, "threshold"], x, y)?;
        for i in 0..2 {
            let colour = colour(i);
            for row in &layers {
                let left = row.layer as f64 - 0.34 + 0.34 * i as f64;
                let height = f64::from(values(row)[i]);
                bar(&mut axes, [(left, 0.0), (left + 0.32, height)], colour.filled())?;
            }
        }
        let (x, y) = (axes.x_range(), axes.y_range());
        let notes = layers.iter().filter_map(|row| {
            let height = f64::from(values(row)[0].max(values(row)[1])) + f64::from(highest) * 0.06;
            let style = small_font().into_font().color(&BLACK);
            let place = (row.layer as f64 - 0.16, height);
            let within = x.contains(&place.0) && y.contains(&place.1);
            within.then(|| Text::new(format!("× {:.2}", row.scale), place, style))
        });
        axes.draw_series(notes.collect::<Vec<_>>())?;
        let entries =
            [("as converted".into(), Key::Bar(colour(0))), ("evolved".into(), Key::Bar(colour(1)))];
        legend(area, &entries)?;
        let row = |row: &ThresholdRow| {
            let [baseline, evolved] = values(row).map(|threshold| threshold.to_string());
            [row.layer.to_string(), baseline, evolved]
        };
        let header = ["layer", "baseline_threshold", "evolved_threshold"];
        table(header, layers.iter().map(row))
    })
}
