//! Backpropagation through time: a spiking network on dfdx's tape, a layer over all its timesteps
//! after the other, as its spikes only go forward. Linear layers take the timesteps for more
//! inputs; a layer of neurons is one operation, whose derivatives are here.
//!
//! For one neuron, with v the membrane potential before its reset, the equations of
//! [`neurons`](mod@crate::simulate::neurons) and a [`Surrogate`] slope h for the derivative of s by v / θ - 1:
//!
//! ```text
//! v(t) = λ r(t-1) + z(t)              s(t) = 1 if v(t) >= θ else 0        out(t) = q s(t)
//! r(t) = v(t) - θ s(t), or v(t) (1 - s(t)), where s has no derivative     r(0) = a fraction of θ
//! ∂s(t)/∂v(t) = h / θ                 ∂s(t)/∂θ = -h v(t) / θ²
//! ```
//!
//! That resets have no derivative of their own is how SpikingJelly (`detach_reset`) and the authors
//! of DIET-SNN (Rathi and Roy) do it: through resets, surrogates' errors would add up.

pub mod attack;
pub mod fire;
pub mod hybrid;
pub mod reference;
pub(crate) mod steps;
pub mod surrogate;
pub(crate) mod unrolled;
