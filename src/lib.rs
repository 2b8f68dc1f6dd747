//! draft
#![warn(missing_docs)]
pub mod ann;
pub mod convert;
pub mod data;
pub mod error;
pub mod evolve;
mod kernels;
pub mod layers;
pub mod metrics;
pub mod modules;
pub mod networks;
pub mod ops;
pub mod plot;
mod progress;
pub mod random;
pub mod report;
pub mod reproduce;
pub mod simulate;
mod winograd;
pub use error::{Error, Result};

/// Everything a notebook needs: `use evospike::prelude::*;`.
pub mod prelude {
    pub use crate::ann::{Ann, TrainSettings};
    pub use crate::convert::{Balance, Conversion, Snn, convert};
    pub use crate::data::{
        self, Cifar10, Cifar100, Digits, HeldOut, ImageNet, Images, Shares, Split, Test, Training,
    };
    pub use crate::evolve::{DeSettings, Evolution, EvolveSettings, evolve};
    pub use crate::metrics::{Accuracy, AccuracyCurve, Target, improvement_percent};
    pub use crate::modules::{
        AvgPool2, BatchNorm, BatchNorm1d, Conv1x1Stride2, Conv3x3, Conv3x3Stride2, DropoutOneIn,
        Flatten, GlobalAvgPool, Identity, Linear, ReLU, Relu, ResidualAdd, UnbiasedLinear,
    };
    pub use crate::network;
    pub use crate::networks::{self, DigitsCnn, Network};
    pub use crate::plot::{self, Chart, Goal};
    pub use crate::report::{self, Output, Table, write_csv};
    pub use crate::simulate::{Simulation, simulate};
}
