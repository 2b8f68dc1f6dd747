//! draft
#![warn(missing_docs)]
pub mod ann;
pub mod convert;
pub mod data;
pub mod error;
pub mod evolve;
pub mod layers;
pub mod metrics;
pub mod modules;
pub mod networks;
pub mod plot;
mod progress;
pub mod random;
pub mod report;
pub mod reproduce;
pub mod simulate;
pub use error::{Error, Result};

/// Everything a notebook needs: `use evospike::prelude::*;`.
pub mod prelude {
    pub use crate::ann::{Ann, TrainSettings};
    pub use crate::convert::{Balance, Conversion, Snn, convert};
    pub use crate::data::{self, Digits, HeldOut, Images, Shares, Split, Test, Training};
    pub use crate::evolve::{DeSettings, Evolution, EvolveSettings, best_balance, evolve};
    pub use crate::metrics::{Accuracy, AccuracyCurve, Target, improvement_percent};
    pub use crate::modules::{AvgPool2, Conv3x3, Flatten};
    pub use crate::network;
    pub use crate::networks::{DigitsCnn, Network};
    pub use crate::plot::{self, Chart};
    pub use crate::report::{self, Output, Table, write_csv};
    pub use crate::simulate::{Simulation, simulate};
    pub use dfdx::prelude::{ReLU, UnbiasedLinear};
}
