//! Simulation of a spiking network on images.

use super::network::Snn;
use super::settings::SimulateSettings;
use super::simulator::Simulation;
use crate::ann::Classifier;
use crate::base::Result;
use crate::data::{Images, Part};

/// Simulates the network on every image.
///
/// ```
/// # use evospike::prelude::*;
/// # let digits = data::digits()?.split(Shares::default(), 0)?;
/// # let ann = Ann::<DigitsCnn>::new(0)?;
/// # let snn = convert(&ann, &digits.training.take(20))?.balance(Balance::Max)?;
/// # let images = digits.test.take(4);
/// let run = simulate(&snn, &images, 64)?; // 64 timesteps
/// let code = InputCode::Poisson { seed: 0 };
/// let spikes = simulate(&snn, &images, SimulateSettings { code, ..64.into() })?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// # Errors
/// Returns an error if there is no image or no timestep, or the period of an input code is out of
/// range.
pub fn simulate<N: Classifier, P: Part>(
    snn: &Snn<N>,
    images: &Images<P, N::Task>,
    settings: impl Into<SimulateSettings>,
) -> Result<Simulation> {
    snn.network.simulate(images, settings)
}

#[cfg(test)]
mod tests;
