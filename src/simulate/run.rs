//! Simulation of a spiking network on images.

use super::network::Snn;
use super::settings::SimulateSettings;
use super::simulator::Simulation;
use crate::ann::Classifier;
use crate::base::{Result, at_least, require};
use crate::data::{Images, Part, Task};
use crate::metrics::{AccuracyCurve, is_among_top};

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

impl Simulation {
    /// Top-k accuracy after every timestep: an image counts if its class is among those of the k
    /// largest summed outputs. `images` are those of the run, in which
    /// [`SimulateSettings::outputs`](crate::simulate::SimulateSettings::outputs) must have been set.
    ///
    /// # Errors
    /// k of 0, another number of images than the run's, or a run that did not keep its outputs.
    pub fn top_curve<P: Part, K: Task>(
        &self,
        k: usize,
        images: &Images<P, K>,
    ) -> Result<AccuracyCurve> {
        at_least(1, &[("k", k)])?;
        let count = self.hits.images();
        require(images.len() == count, "images", images.len(), format!("the run's {count}"))?;
        let timesteps = self.curve.timesteps();
        let mut correct = vec![0; timesteps];
        for (place, outputs) in self.outputs()?.rows().enumerate() {
            let (image, t) = (place / timesteps, place % timesteps);
            correct[t] += usize::from(is_among_top(k, outputs, images.label(image)));
        }
        AccuracyCurve::new(count, correct)
    }
}

#[cfg(test)]
mod tests;
