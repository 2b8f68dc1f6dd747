//! What the command line reads and runs.

pub(crate) mod experiments;
#[cfg(feature = "onnx")]
pub(crate) mod import;
pub(crate) mod source;

pub(crate) use experiments::{FashionArguments, Reproduce, print_files, run_fashion};
#[cfg(feature = "onnx")]
pub(crate) use import::ImportArguments;
pub(crate) use source::{Net, Source, Work, beside, load_trained, wrong};
