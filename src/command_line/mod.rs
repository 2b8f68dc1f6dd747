//! What the command line reads and runs.

pub(crate) mod experiments;
pub(crate) mod source;

pub(crate) use experiments::{DigitsArguments, Reproduce, print_files, run_digits};
pub(crate) use source::{Net, Source, Work, wrong};
