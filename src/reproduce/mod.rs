//! Whole experiments: data in, tidy CSV files and charts out.

pub(crate) mod adversarial;
pub(crate) mod candidates;
pub(crate) mod changes;
pub(crate) mod comparison;
pub(crate) mod digits;
pub(crate) mod explain;
pub(crate) mod fashion;
mod grid;
pub(crate) mod kinds;
pub(crate) mod neurons;
pub(crate) mod rows;
pub(crate) mod steps;
pub(crate) mod thresholds;

pub use adversarial::{AdversarialSettings, AttackedBy, adversarial};
pub use changes::NeuronChangeRow;
pub use comparison::{ComparisonSettings, comparison};
pub use digits::*;
pub use explain::{ExplainSettings, explain};
pub use fashion::{FashionSettings, fashion};
pub use kinds::{NeuronKind, NeuronsSettings};
pub use neurons::{NeuronLatencyRow, NeuronRow, neurons};
pub use rows::*;
pub use thresholds::{ThresholdsInput, ThresholdsSettings, thresholds};
