//! Whole experiments: data in, tidy CSV files and charts out.

mod adversarial;
mod cifar10;
mod comparison;
pub(crate) mod digits;
mod explain;

pub use adversarial::{AdversarialReport, AdversarialSettings, AttackedBy, adversarial};
pub use cifar10::{Cifar10Input, Cifar10Report, Cifar10Settings, cifar10};
pub use comparison::{ComparisonReport, ComparisonSettings, comparison};
pub use digits::*;
pub use explain::{ExplainSettings, explain};
