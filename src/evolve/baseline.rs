//! Baseline conversion that an evolution starts from and is compared with.

use super::fitness::{Evaluator, Objective, Stopping};
use crate::ann::Classifier;
use crate::base::{Error, Result};
use crate::convert::{Balance, Conversion};
use crate::data::{HeldOut, Images};
use crate::metrics::Target;
use crate::simulate::{SimulateSettings, Snn};

impl<N: Classifier> Conversion<N> {
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
        self.best_of(images, target, settings, Ok)
    }

    /// Returns the best of the usual conversions, each with other neurons by `change`; like
    /// [`best`](Self::best).
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(conversion: Conversion<DigitsCnn>, parts: Split<Digits>, target: Target)
    /// # -> evospike::Result<()> {
    /// let signed = |snn: Snn<_>| snn.with_initial(0.5)?.with_spikes(Spikes::SIGNED);
    /// let (balance, snn) = conversion.best_of(&parts.held_out, &target, 16, signed)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an error in the same cases as [`best`](Self::best), or if `change` does.
    pub fn best_of(
        &self,
        images: &Images<HeldOut, N::Task>,
        target: &Target,
        settings: impl Into<SimulateSettings>,
        change: impl Fn(Snn<N>) -> Result<Snn<N>>,
    ) -> Result<(Balance, Snn<N>)> {
        let settings = settings.into();
        let mut candidates = Vec::new();
        for balance in Balance::SWEEP {
            match self.balance(balance) {
                // A percentile so low that the threshold of a sparse layer is 0 is no candidate.
                Err(Error::Layer { .. }) => (),
                snn => candidates.push((balance, change(snn?)?)),
            }
        }
        let expected = "a balance with thresholds above 0";
        let none = || Error::parameter("conversion", "thresholds of 0", expected);
        // Candidates differ in their neurons only.
        let network = candidates.first().ok_or_else(none)?.1.network();
        let evaluator = Evaluator::new(network, images, target, Objective::Latency, settings)?;
        let (mut best, mut least) = (0, None);
        for (i, (_, snn)) in candidates.iter().enumerate() {
            let fitness = evaluator.against(snn.neurons(), least, Stopping::Certain)?;
            if least.is_none_or(|least| fitness < least) {
                (best, least) = (i, Some(fitness));
            }
        }
        Ok(candidates.swap_remove(best))
    }
}
