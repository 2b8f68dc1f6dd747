//! Common parts of all steps: errors, seeds, ranks, locks, progress.

pub mod background;
pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub mod error;
pub(crate) mod files;
pub(crate) mod lock;
pub(crate) mod progress;
pub mod random;
pub mod ranks;
pub mod resume;
pub(crate) mod table;
pub mod tensors;
