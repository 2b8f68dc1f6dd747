//! Surrogate gradients: what stands for the derivative of a spike, which has none.
//!
//! A neuron fires when its membrane potential v reaches its threshold θ. With u = v / θ - 1, so
//! that all layers are alike whatever their thresholds, the derivative of the spike by v is taken
//! to be `slope(u)` / θ (Neftci, Mostafa and Zenke 2019, "Surrogate Gradient Learning in Spiking
//! Neural Networks"). The integral of every slope that depends on u is 1, the height of the step that
//! it stands for.

use dfdx::prelude::{Device, HasShape, Tape, TryAdd, TryMul, TrySub};
use serde::{Deserialize, Serialize};

use crate::ops::Flat;

/// The derivative of a spike by u, how far the membrane potential lies above the threshold, in
/// thresholds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Surrogate {
    /// max(0, 1 - |u|), a triangle (Bellec et al. 2018, "Long short-term memory and
    /// learning-to-learn in networks of spiking neurons", with a dampening of 1).
    #[default]
    Linear,
    /// 4 σ(4u) (1 - σ(4u)), that of the logistic function σ: SpikingJelly's `Sigmoid`.
    Sigmoid,
    /// 1 / (1 + (πu)²), that of the arctangent (Fang et al. 2021, "Incorporating Learnable
    /// Membrane Time Constant"): SpikingJelly's `ATan`, its α of 2.
    ArcTan,
    /// 1 where |u| < 1/2 (Wu et al. 2018, "Spatio-Temporal Backpropagation", equation 24, a = 1).
    Boxcar,
    /// 0.3 exp(-0.01 Δt), Δt the timesteps since the neuron's last spike, whatever u is; 0 before
    /// its first (Rathi et al. 2020, "Enabling Deep Spiking Neural Networks with Hybrid Conversion
    /// and Spike Timing Dependent Backpropagation", equation 11 and its α and β).
    SpikeTiming,
}

impl Surrogate {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Linear,
        Self::Sigmoid,
        Self::ArcTan,
        Self::Boxcar,
        Self::SpikeTiming,
    ];

    /// The derivative at `u`, `since` timesteps after the neuron's last spike; infinity before its
    /// first.
    ///
    /// ```
    /// use evospike::surrogate::Surrogate;
    /// assert_eq!(Surrogate::Linear.slope(-0.25, f32::INFINITY), 0.75);
    /// assert_eq!(Surrogate::Boxcar.slope(0.5, 1.0), 0.0);
    /// ```
    pub fn slope(self, u: f32, since: f32) -> f32 {
        match self {
            Self::Linear => (1.0 - u.abs()).max(0.0),
            Self::Sigmoid => {
                let e = (-4.0 * u.abs()).exp();
                4.0 * e / ((1.0 + e) * (1.0 + e))
            }
            Self::ArcTan => 1.0 / (1.0 + (std::f32::consts::PI * u).powi(2)),
            Self::Boxcar => f32::from(u8::from(u.abs() < 0.5)),
            Self::SpikeTiming => 0.3 * (-0.01 * since).exp(),
        }
    }
}

/// 1 where a potential reaches its threshold, else 0; the derivative by the potential is `slope`,
/// that by the threshold -`slope` v / θ, which is that of v / θ - 1.
pub(crate) fn spike<D: Device<f32>, T: Tape<f32, D>>(
    v: Flat<f32, D, T>,
    threshold: Flat<f32, D, T>,
    slope: impl Fn(usize, f32, f32) -> f32,
) -> Result<Flat<f32, D, T>, D::Err> {
    let (device, size) = (v.device().clone(), *v.shape());
    let (potentials, thresholds) = (v.as_vec(), threshold.as_vec());
    let pairs = || potentials.iter().zip(&thresholds);
    let tensor = |values: Vec<f32>| device.try_tensor_from_vec(values, size);
    let spikes = pairs().map(|(v, threshold)| f32::from(u8::from(v >= threshold)));
    let by_v: Vec<f32> = pairs()
        .enumerate()
        .map(|(i, (&v, &threshold))| slope(i, v, threshold))
        .collect();
    let by_threshold = pairs()
        .zip(&by_v)
        .map(|((v, threshold), s)| -s * v / threshold);
    let (spikes, by_threshold) = (spikes.collect(), by_threshold.collect());
    // A value less a copy of itself is 0, with a gradient.
    let v = v.try_sub(tensor(potentials)?)?.try_mul(tensor(by_v)?)?;
    let threshold = threshold.try_sub(tensor(thresholds)?)?;
    v.try_add(threshold.try_mul(tensor(by_threshold)?)?)?
        .try_add(tensor(spikes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slope_is_even_and_its_integral_is_1() {
        for surrogate in &Surrogate::ALL[..4] {
            let step = 1.0 / 256.0;
            let at = |i: i32| surrogate.slope((i as f32 + 0.5) * step, 1.0);
            let sum: f32 = (-51_200..51_200).map(at).sum::<f32>() * step;
            assert!((sum - 1.0).abs() < 2e-3, "{surrogate:?}: {sum}");
            assert!((0..900).all(|i| at(i) == at(-1 - i)), "{surrogate:?}");
        }
    }

    #[test]
    fn spike_timing_looks_at_time_only() {
        let slope = |u, since| Surrogate::SpikeTiming.slope(u, since);
        assert_eq!(slope(-3.0, 100.0), 0.3 * (-1.0f32).exp());
        assert_eq!(slope(0.5, f32::INFINITY), 0.0);
    }
}
