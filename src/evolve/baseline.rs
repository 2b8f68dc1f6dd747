//! Baseline conversion that an evolution starts from and is compared with.

use super::fitness::{Evaluator, Fitness, Objective, Stopping};
use crate::ann::Network;
use crate::base::{Error, Result};
use crate::convert::{Balance, Conversion};
use crate::data::{HeldOut, Images};
use crate::metrics::Target;
use crate::simulate::{SimulateSettings, Snn};

impl<N: Network> Conversion<N> {
    /// Returns the best of the usual conversions ([`Balance::SWEEP`]): the one with the lowest
    /// latency on held-out images, and among equals the one with the smallest deficit before it.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(conversion: Conversion<DigitsCnn>, parts: Split<Digits>, target: Target)
    /// # -> evospike::Result<()> {
    /// let (balance, snn) = conversion.best(&parts.held_out, &target, 64)?;
    /// println!("{balance}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error if there is no image, a parameter is out of range, or no balance gives
    /// thresholds above 0.
    pub fn best(
        &self,
        images: &Images<HeldOut, N::Task>,
        target: &Target,
        settings: impl Into<SimulateSettings>,
    ) -> Result<(Balance, Snn<N>)> {
        let settings = settings.into();
        let mut best: Option<(Fitness, Balance, Snn<N>)> = None;
        for balance in Balance::SWEEP {
            let snn = match self.balance(balance) {
                // A percentile so low that the threshold of a sparse layer is 0 is no candidate.
                Err(Error::Layer { .. }) => continue,
                snn => snn?,
            };
            let objective = Objective::Latency;
            let evaluator = Evaluator::new(snn.network(), images, target, objective, settings)?;
            let least = best.as_ref().map(|(fitness, ..)| *fitness);
            let fitness = evaluator.against(snn.neurons(), least, Stopping::Certain)?;
            if least.is_none_or(|least| fitness < least) {
                best = Some((fitness, balance, snn));
            }
        }
        let expected = "a balance with thresholds above 0";
        let none = || Error::parameter("conversion", "thresholds of 0", expected);
        best.map(|(_, balance, snn)| (balance, snn)).ok_or_else(none)
    }
}
