//! What the command line reads and runs.

#[cfg(feature = "onnx")]
pub(crate) mod evolve;
pub(crate) mod experiments;
#[cfg(feature = "onnx")]
pub(crate) mod import;
pub(crate) mod source;

pub(crate) use experiments::{FashionArguments, Reproduce, print_files, run_fashion};
pub(crate) use source::{ImageArguments, Net, Work, beside, load_trained, wrong};
#[cfg(feature = "onnx")]
pub(crate) use {evolve::EvolveArguments, import::ImportArguments};
