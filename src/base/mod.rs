//! What every step needs: errors, seeds, ranks, locks, progress.

pub mod background;
pub mod error;
pub(crate) mod lock;
pub(crate) mod progress;
pub mod random;
pub mod ranks;
