//! What the command line reads and runs.

pub(crate) mod experiments;
pub(crate) mod source;

pub(crate) use experiments::{FashionArguments, Reproduce, print_files, run_fashion};
pub(crate) use source::{Net, Source, Work, beside, load_trained, wrong};
