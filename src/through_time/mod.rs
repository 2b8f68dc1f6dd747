//! Backpropagation through time: a spiking network on dfdx's tape, one layer after the other, each
//! over all timesteps, as spikes only go forward. To linear layers the timesteps are more inputs; a
//! layer of neurons is one operation, whose derivatives are defined here.
//!
//! In the equations of [`step`](crate::simulate::neurons::step), with a charge q per spike and a
//! [`Surrogate`] slope h for the derivative of s by v / θ - 1:
//!
//! ```text
//! out(t) = q s(t)      ∂s(t)/∂v(t) = h / θ      ∂s(t)/∂θ = -h v(t) / θ²
//! ```
//!
//! In the resets s(t) has no derivative: through resets the errors of surrogates would add up.
//! SpikingJelly (`detach_reset`) and the authors of DIET-SNN (Rathi and Roy) do the same.

pub mod attack;
pub(crate) mod device;
pub mod fire;
pub mod hybrid;
pub mod reference;
pub(crate) mod steps;
pub mod surrogate;
pub(crate) mod unrolled;

pub(crate) use attack::{Attack, Differentiable, Spiking, attack};
pub(crate) use hybrid::{HybridSettings, Trained, train_through_time};
pub(crate) use surrogate::Surrogate;
