//! The layers' maths, once for any device and number, and faster on the CPU in `f32`.
//!
//! Tensors come as [`Flat`] vectors with their sizes beside them: dfdx reshapes for nothing, a
//! reshaped tensor keeps its gradient, and what does not depend on sizes is compiled once.

pub(crate) mod backend;
#[allow(unsafe_code)]
pub(crate) mod kernels;
#[allow(unsafe_code)]
pub(crate) mod matrix;
pub(crate) mod shapes;
pub(crate) mod simd;
pub(crate) mod winograd;

pub use backend::*;
pub use shapes::*;
