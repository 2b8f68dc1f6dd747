//! Thresholds before and after evolution: rows and chart.

use std::borrow::Borrow;

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ann::networks::Network;
use crate::base::chart::{Chart, FONT, Key, axes, colour, draw, legend, table};
use crate::base::error::Result;
use crate::base::files::rounded;
use crate::simulate::network::Snn;

/// One line of `thresholds.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdRow {
    /// What the run was seeded with.
    pub seed: u64,
    /// Of the network before evolution, in thresholds.
    pub initial_potential: f32,
    /// How far below the ANN's accuracy the target lies, in percentage points.
    pub margin_points: f64,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// In the layer.
    pub neurons: usize,
    /// As converted, in units of the ReLU's output.
    pub baseline_threshold: f32,
    /// As evolved.
    pub evolved_threshold: f32,
    /// Evolved / baseline.
    pub scale: f64,
    /// Evolved / baseline of what a spike carries: where it is the scale, the thresholds changed as
    /// those of balancing do; where it is not, the layer's output changed its gain.
    pub charge_scale: f64,
}

impl ThresholdRow {
    /// The rows of a network before and after evolution, a layer each.
    pub fn of<N: Network>(
        seed: u64,
        margin_points: f64,
        before: &Snn<N>,
        after: &Snn<N>,
    ) -> Vec<Self> {
        let initial: Vec<f32> = before.neurons().iter().map(|n| n.initial).collect();
        let (before_thresholds, after_thresholds) = (before.thresholds(), after.thresholds());
        let charge = |snn: &Snn<N>, layer: usize| -> f64 {
            let charges = snn.neurons()[layer].charges();
            charges.iter().map(|&x| f64::from(x)).sum::<f64>() / charges.len() as f64
        };
        let thresholds = before_thresholds.into_iter().zip(after_thresholds);
        let layers = thresholds.zip(before.sizes()).enumerate();
        let row = |(layer, ((was, is), neurons))| Self {
            seed,
            initial_potential: initial[layer],
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

/// Threshold of every layer before and after evolution.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn thresholds_chart<R: Borrow<ThresholdRow>>(
    title: &str,
    layers: impl IntoIterator<Item = R>,
) -> Result<Chart> {
    let layers: Vec<ThresholdRow> = layers.into_iter().map(|row| row.borrow().clone()).collect();
    draw(title, 2, |area| {
        let values = |row: &ThresholdRow| [row.baseline_threshold, row.evolved_threshold];
        let highest = layers.iter().flat_map(values).fold(0.0, f32::max);
        let mut axes = axes(
            area,
            title,
            [
                "layer of neurons (from 0; above the bars: evolved / baseline)",
                "threshold",
            ],
            -0.5..layers.len() as f64 - 0.5,
            0.0..f64::from(highest) * 1.15,
        )?;
        for i in 0..2 {
            let colour = colour(i);
            let bars = layers.iter().map(|row| {
                let left = row.layer as f64 - 0.34 + 0.34 * i as f64;
                let height = f64::from(values(row)[i]);
                Rectangle::new([(left, 0.0), (left + 0.32, height)], colour.filled())
            });
            axes.draw_series(bars)?;
        }
        let notes = layers.iter().map(|row| {
            let height = f64::from(values(row)[0].max(values(row)[1])) + f64::from(highest) * 0.06;
            let style = (FONT, 15).into_font().color(&BLACK);
            Text::new(
                format!("× {:.2}", row.scale),
                (row.layer as f64 - 0.16, height),
                style,
            )
        });
        axes.draw_series(notes.collect::<Vec<_>>())?;
        let entries = [
            ("as converted".into(), Key::Bar(colour(0))),
            ("evolved".into(), Key::Bar(colour(1))),
        ];
        legend(area, &entries)?;
        let row = |row: &ThresholdRow| {
            let [baseline, evolved] = values(row);
            [
                row.layer.to_string(),
                baseline.to_string(),
                evolved.to_string(),
            ]
        };
        table(
            ["layer", "baseline_threshold", "evolved_threshold"],
            layers.iter().map(row),
        )
    })
}
