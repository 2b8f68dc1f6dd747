//! Surrogate gradients, in the place of the derivative of a spike, which has none.
//!
//! A neuron fires when its membrane potential v reaches its threshold θ. With u = v / θ - 1, so
//! that all layers are alike whatever their thresholds, the derivative of the spike by v is taken
//! to be `slope(u)` / θ (Neftci, Mostafa and Zenke 2019, "Surrogate Gradient Learning in Spiking
//! Neural Networks"). The integral of every slope that depends on u is 1, the height of a spike.

use dfdx::nn::{Module, NonMutableModule};
use dfdx::prelude::{
    ChooseFrom, Device, HasShape, ReshapeTo, Shape, Tape, Tensor, TryAdd, TryDiv, TryMul, TrySub,
    ge, lt,
};

use crate::ann::flat;
use crate::ops::{Flat, Values, copy};
pub use crate::simulate::surrogate::Surrogate;

impl Surrogate {
    /// [`slope`](Self::slope) of every neuron, on the device.
    fn slopes<D: Device<f32>>(self, u: Values<D>, since: Values<D>) -> Result<Values<D>, D::Err> {
        match self {
            Self::Linear => u.try_abs()?.try_negate()?.try_add(1.0)?.try_relu(),
            Self::Sigmoid => {
                let s = u.try_mul(4.0)?.try_sigmoid()?;
                let rest = s.clone().try_negate()?.try_add(1.0)?;
                s.try_mul(rest)?.try_mul(4.0)
            }
            Self::ArcTan => {
                let square = u.try_mul(std::f32::consts::PI)?.try_square()?;
                square.try_add(1.0)?.try_recip()
            }
            Self::Boxcar => {
                let zero = u.device().try_zeros_like(u.shape())?;
                let one = u.device().try_ones_like(u.shape())?;
                lt(&u.try_abs()?, &one.clone().try_mul(0.5)?).try_choose(one, zero)
            }
            Self::SpikeTiming => since.try_mul(-0.01)?.try_exp()?.try_mul(0.3),
        }
    }
}

/// Spikes: 1 where a membrane potential reaches its threshold, else 0. The derivative by v is
/// `slope` / θ, with the surrogate's slope `since` timesteps after the last spike, and that by θ is
/// -`slope` v / θ², which is that of v / θ - 1.
pub(crate) fn spike<D: Device<f32>, T: Tape<f32, D>>(
    v: Flat<f32, D, T>,
    threshold: Flat<f32, D, T>,
    surrogate: Surrogate,
    since: Values<D>,
) -> Result<Flat<f32, D, T>, D::Err> {
    let (zero, one) = (v.device().try_zeros_like(v.shape())?, v.device().try_ones_like(v.shape())?);
    let spikes = ge(&v, &threshold).try_choose(one, zero)?;
    if !T::OWNS_TAPE {
        return Ok(spikes.retaped());
    }
    let (v_now, threshold_now) = (copy(&v)?, copy(&threshold)?);
    let share = v_now.clone().try_div(threshold_now.clone())?;
    let slope = surrogate.slopes(share.clone().try_sub(1.0)?, since)?;
    let by_v = slope.try_div(threshold_now.clone())?;
    let by_threshold = by_v.clone().try_mul(share)?.try_negate()?;
    // A tensor less a copy of itself is 0, with a gradient.
    let v = v.try_sub(v_now)?.try_mul(by_v)?;
    let threshold = threshold.try_sub(threshold_now)?.try_mul(by_threshold)?;
    v.try_add(threshold)?.try_add(spikes)
}

/// Spikes as a dfdx module, any shape to the same shape: 1 where a membrane potential reaches the
/// threshold, else 0, with a surrogate for the derivative. Integration and reset are for the program
/// around it to write, in dfdx's operations.
///
/// [`train_through_time`](crate::through_time::hybrid::train_through_time) does not need it.
///
/// ```
/// use dfdx::prelude::*;
/// use evospike::through_time::surrogate::{Spike, Surrogate};
///
/// let dev = Cpu::default();
/// let fire = Spike { threshold: 1.0, surrogate: Surrogate::Boxcar };
/// let input: Tensor<Rank1<3>, f32, _> = dev.tensor([0.2, 0.6, 1.5]);
/// let v = input.leaky_trace() * 1.5; // 0.3, 0.9, 2.25
/// let spikes = fire.forward(v);
/// assert_eq!(spikes.array(), [0.0, 0.0, 1.0]);
/// let gradients = spikes.sum().backward();
/// assert_eq!(gradients.get(&input).array(), [0.0, 1.5, 0.0]); // 1 within half a threshold of it
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Spike {
    /// Threshold θ, above 0.
    pub threshold: f32,
    /// Derivative of a spike; 0 for [`Surrogate::SpikeTiming`], since no earlier spike is known.
    pub surrogate: Surrogate,
}

impl NonMutableModule for Spike {}

impl<S: Shape, D: Device<f32>, T: Tape<f32, D>> Module<Tensor<S, f32, D, T>> for Spike {
    type Output = Tensor<S, f32, D, T>;
    type Error = D::Err;

    fn try_forward(&self, v: Tensor<S, f32, D, T>) -> Result<Self::Output, D::Err> {
        let (shape, v) = (*v.shape(), flat(v)?);
        let (device, size) = (v.device().clone(), v.shape().0);
        let all = |value: f32| device.try_tensor_from_vec(vec![value; size], (size,));
        let threshold = all(self.threshold)?.retaped();
        let spikes = spike(v, threshold, self.surrogate, all(f32::INFINITY)?)?;
        spikes.try_reshape_like(&shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::{Cpu, TensorFromVec};

    #[test]
    fn tensors_have_the_slopes_of_numbers() {
        let device = Cpu::default();
        let u: Vec<f32> = (-40..=40).map(|i| i as f32 / 16.0).collect();
        let since: Vec<f32> = (0..81).map(|i| i as f32).collect();
        let tensor = |values: &[f32]| device.tensor_from_vec(values.to_vec(), (values.len(),));
        for surrogate in Surrogate::ALL {
            let slopes = surrogate.slopes(tensor(&u), tensor(&since)).unwrap();
            for (i, found) in slopes.as_vec().into_iter().enumerate() {
                let expected = surrogate.slope(u[i], since[i]);
                assert!((found - expected).abs() < 1e-6, "{surrogate:?} at {}", u[i]);
            }
        }
    }
}
