//! What evolution changed, and why: measurements that explain an evolved network.
//!
//! - [`scales`] and [`agreement`]: whether evolutions of other seeds found the same;
//! - [`firing_rates`] and [`first_spikes`]: how activity fills the layers over time;
//! - [`conversion_error`]: what each layer says less what the ANN says, divided by cause;
//! - [`threshold_sensitivity`] and [`elementary_effects`]: which layer's threshold matters;
//! - [`layer_statistics`], [`activation_statistics`] and [`correlations`]: what the scales follow;
//! - [`activation_map`]: where in an image a layer's spikes come close together.
//!
//! Each gives tidy rows for [`write_csv`](crate::report::write_csv), and each has a chart of them.
//! They run on images of any part, so that clean and attacked images can be compared; layers of
//! neurons are numbered from 0, timesteps from 1. A network is asked for as
//! [`snn.network()`](crate::convert::Snn::network).
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
pub(crate) mod conversion;
pub(crate) mod scales;
pub(crate) mod sensitivity;
#[cfg(test)]
mod tests;

pub use activity::{
    ActivationMapRow, FiringRateRow, FirstSpikeRow, activation_map, activation_map_chart,
    firing_rates, firing_rates_chart, first_spikes, first_spikes_chart,
};
pub use conversion::{ConversionErrorRow, ErrorPart, conversion_error, conversion_error_chart};
pub use scales::*;
pub use sensitivity::{
    EffectRow, Effects, SensitivityRow, elementary_effects, elementary_effects_chart, morris,
    threshold_sensitivity, threshold_sensitivity_chart,
};
