//! Measurements that explain what evolution changed in a network, and why.
//!
//! - [`scales`](fn@scales) and [`agreement`]: whether evolutions with other seeds found the same
//!   thresholds;
//! - [`firing_rates`] and [`first_spikes`]: how activity fills the layers over time;
//! - [`conversion_error`]: difference between layers of the network and of the ANN, by cause;
//! - [`threshold_sensitivity`] and [`elementary_effects`]: the layers whose thresholds matter;
//! - [`layer_statistics`], [`activation_statistics`] and [`correlations`](fn@correlations):
//!   statistics of layers that correlate with the scales;
//! - [`activation_map`]: places in an image where a layer's spikes follow each other closely.
//!
//! Each function gives tidy rows for [`write_csv`](crate::report::write_csv), and each kind of rows
//! has a chart. The images can be of any part of the data, so that clean and attacked images can be
//! compared. Layers of neurons are numbered from 0, timesteps from 1. The plain network of an `Snn`
//! is [`snn.network()`](crate::simulate::Snn::network).
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

pub(crate) mod activity;
mod charts;
pub(crate) mod conversion;
pub(crate) mod correlations;
pub(crate) mod scales;
pub(crate) mod sensitivity;
mod stats;

pub use activity::{
    ActivationMapRow, FiringRateRow, FirstSpikeRow, activation_map, activation_map_chart,
    firing_rates, firing_rates_chart, first_spikes, first_spikes_chart,
};
pub use conversion::{ConversionErrorRow, ErrorPart, conversion_error, conversion_error_chart};
pub use correlations::{
    CorrelationRow, StatisticRow, activation_statistics, correlations, correlations_chart,
    layer_statistics,
};
pub use scales::{ScaleRow, agreement, scales, scales_chart};
pub use sensitivity::{
    EffectRow, Effects, SensitivityRow, elementary_effects, elementary_effects_chart, morris,
    threshold_sensitivity, threshold_sensitivity_chart,
};

#[cfg(test)]
mod tests;
