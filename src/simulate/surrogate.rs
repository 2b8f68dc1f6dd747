//! Derivative that stands in the place of a spike's, which has none.

use serde::{Deserialize, Serialize};

/// Derivative of a spike by u, how far the membrane potential lies above the threshold, in
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
    pub const ALL: [Self; 5] =
        [Self::Linear, Self::Sigmoid, Self::ArcTan, Self::Boxcar, Self::SpikeTiming];

    /// Derivative at `u`, `since` timesteps after the neuron's last spike; infinity before its
    /// first.
    ///
    /// ```
    /// use evospike::through_time::surrogate::Surrogate;
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
