//! Operations of layers for any device and type of number, and faster ones for `f32` on the CPU.
//!
//! Tensors are [`Flat`] vectors with their sizes passed separately: reshaping costs nothing in
//! dfdx, a reshaped tensor keeps its gradient, and code that does not depend on sizes is compiled
//! once.

pub(crate) mod backend;
pub(crate) mod kernels;
#[allow(unsafe_code)]
pub(crate) mod matrix;
pub(crate) mod shapes;
pub(crate) mod simd;
pub(crate) mod winograd;

pub use backend::*;
pub use shapes::*;

pub(crate) use backend::{
    Plain, Values, average_patches, convolve_patches, copy, max_patches, output, split, values,
};
pub(crate) use kernels::{binarise, qcfs_of};
pub(crate) use matrix::Buffer;
pub(crate) use shapes::Patches;
