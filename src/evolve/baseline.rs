//! The conversion that an evolution starts from and is compared with.

use crate::ann::networks::Network;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::convert::Balance;
use crate::convert::Conversion;
use crate::data::images::HeldOut;
use crate::data::images::Images;
use crate::evolve::fitness::Evaluator;
use crate::evolve::fitness::Fitness;
use crate::evolve::fitness::Objective;
use crate::evolve::fitness::Stopping;
use crate::metrics::Target;
use crate::simulate::network::Snn;
use crate::simulate::neurons::Neurons;
use crate::simulate::settings::SimulateSettings;
/// The conversion of the lowest latency on held-out images, and of those the one of the least
/// deficit before it: the baseline that an evolution starts from and is compared with.
/// `change` gives its neurons what both have in common, such as an initial potential; `|_| ()`
/// leaves them.
///
/// # Errors
/// No balance gives thresholds above 0, no image, or parameters out of range.
pub fn best_balance<N: Network>(
    conversion: &Conversion<N>,
    balances: &[Balance],
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    timesteps: usize,
    change: impl Fn(&mut Neurons),
) -> Result<(Balance, Snn<N>)> {
    best_balance_of(
        conversion,
        balances,
        images,
        target,
        timesteps.into(),
        change,
    )
}

/// [`best_balance`] for images in any code.
pub(crate) fn best_balance_of<N: Network>(
    conversion: &Conversion<N>,
    balances: &[Balance],
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    run: SimulateSettings,
    change: impl Fn(&mut Neurons),
) -> Result<(Balance, Snn<N>)> {
    let mut best: Option<(Fitness, Balance, Snn<N>)> = None;
    for &balance in balances {
        let snn = match conversion.balance(balance) {
            // So low a percentile that a sparse layer's threshold is 0 is no candidate.
            Err(Error::Layer { .. }) => continue,
            snn => snn?.with(&change)?,
        };
        let evaluator = Evaluator::new(snn.network(), images, target, Objective::Latency, run)?;
        let rival = best.as_ref().map(|(fitness, ..)| *fitness);
        let fitness = evaluator.against(snn.neurons(), rival, Stopping::Certain)?;
        if best.as_ref().is_none_or(|(least, ..)| fitness < *least) {
            best = Some((fitness, balance, snn));
        }
    }
    let (_, balance, snn) = best.ok_or_else(|| {
        Error::parameter(
            "balances",
            format!("{balances:?}"),
            "one with thresholds above 0",
        )
    })?;
    Ok((balance, snn))
}
