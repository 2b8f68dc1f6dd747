//! Tables, CSV files and their rows, each of them made beside the step that it is of.

pub use crate::base::files::{Output, read_csv, write_csv};
pub use crate::base::table::Table;
pub use crate::evolve::{CompromiseRow, ConvergenceRow, ThresholdRow};
pub use crate::metrics::AccuracyRow;
pub use crate::reproduce::{
    AttackRow, ComparisonRow, LatencyRow, MethodRow, NeuronChangeRow, NeuronLatencyRow, NeuronRow,
    Row,
};
pub use crate::simulate::SpikesRow;
