//! Surrogate gradients: what stands for the derivative of a spike, which has none.
//!
//! A neuron fires when its membrane potential v reaches its threshold θ. With u = v / θ - 1, so
//! that all layers are alike whatever their thresholds, the derivative of the spike by v is taken
//! to be `slope(u)` / θ (Neftci, Mostafa and Zenke 2019, "Surrogate Gradient Learning in Spiking
//! Neural Networks"). Every slope's integral is 1, the height of the step that it stands for.

use serde::{Deserialize, Serialize};

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
}

impl Surrogate {
    /// The derivative at `u`.
    ///
    /// ```
    /// use evospike::surrogate::Surrogate;
    /// assert_eq!(Surrogate::Linear.slope(-0.25), 0.75);
    /// assert_eq!(Surrogate::Boxcar.slope(0.5), 0.0);
    /// ```
    pub fn slope(self, u: f32) -> f32 {
        match self {
            Self::Linear => (1.0 - u.abs()).max(0.0),
            Self::Sigmoid => {
                let e = (-4.0 * u.abs()).exp();
                4.0 * e / ((1.0 + e) * (1.0 + e))
            }
            Self::ArcTan => 1.0 / (1.0 + (std::f32::consts::PI * u).powi(2)),
            Self::Boxcar => f32::from(u8::from(u.abs() < 0.5)),
        }
    }

    /// The derivatives by the potentials of neurons with these thresholds.
    pub(crate) fn slopes(self, potentials: &[f32], thresholds: &[f32]) -> Vec<f32> {
        let neurons = potentials.iter().zip(thresholds);
        neurons
            .map(|(v, threshold)| self.slope(v / threshold - 1.0) / threshold)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slope_is_even_and_its_integral_is_1() {
        for surrogate in [
            Surrogate::Linear,
            Surrogate::Sigmoid,
            Surrogate::ArcTan,
            Surrogate::Boxcar,
        ] {
            let step = 1.0 / 256.0;
            let at = |i: i32| surrogate.slope((i as f32 + 0.5) * step);
            let sum: f32 = (-51_200..51_200).map(at).sum::<f32>() * step;
            assert!((sum - 1.0).abs() < 2e-3, "{surrogate:?}: {sum}");
            assert!((0..900).all(|i| at(i) == at(-1 - i)), "{surrogate:?}");
            let slopes = surrogate.slopes(&[1.5], &[2.0]);
            assert_eq!(slopes, [surrogate.slope(-0.25) / 2.0]);
        }
    }
}
