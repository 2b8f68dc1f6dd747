//! Trains a network with dfdx, converts it to a spiking network, simulates it, and evolves its
//! thresholds: the system of *Neuroevolution Guided Hybrid Spiking Neural Network Training* (Lu and
//! Sengupta, Front. Neurosci. 16:838523, 2022), made for evcxr Jupyter notebooks.
//!
//! The whole pipeline, on handwritten digits that are embedded in the crate:
//!
//! ```
//! use evospike::prelude::*;
//!
//! let digits = data::digits()?.split(Shares::default(), 0)?; // training, held-out, test
//!
//! let mut ann = Ann::<DigitsCnn>::new(0)?; // every size of its layers is in its type
//! ann.train(&digits.training, &TrainSettings { epochs: 5, ..Default::default() })?;
//!
//! let conversion = convert(&ann, &digits.training)?; // thresholds from activations
//! let snn = conversion.balance(Balance::Percentile(99.9))?;
//! let before = simulate(&snn, &digits.test, 64)?; // accuracy after each of 64 timesteps
//!
//! let target = ann.target(&digits.held_out, 1.0)?; // 1 percentage point below the ANN
//! let settings = EvolveSettings { generations: 1, ..Default::default() };
//! let evolved = evolve(&snn, &digits.held_out, &target, &settings)?;
//! let after = simulate(&evolved.snn, &digits.test, 64)?;
//!
//! let target = ann.target(&digits.test, 1.0)?;
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = |name: &str| folder.path().join(name); // your folder, such as results/mine
//! write_csv(file("accuracy.csv"), report::AccuracyRow::of(0, "evolved", &after.curve))?;
//! let curves = [("converted", &before.curve), ("evolved", &after.curve)];
//! plot::accuracy("Digits", curves, Some(&target))?.save(file("accuracy.svg"))?;
//! println!("{}", target.improvement(&before, &after)?); // latencies, gain, 95 % interval
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! Data flows in one direction, with one module per step: [`data`] → [`ann`] →
//! [`convert`](mod@convert) → [`simulate`](mod@simulate) → [`evolve`](mod@evolve) → [`report`] and
//! [`plot`].
//!
//! The [`guide`] has a page for each topic.
//!
//! - [`metrics`] defines accuracy, target and latency.
//! - [`networks`](ann::networks) are named tuples of typed [`modules`](ann::modules); the
//!   simulation engine runs [`graphs`](ann::graph) of plain [`layers`](ann::layers), as which
//!   networks trained elsewhere come in ([`imported`](guide::imported)).
//! - `onnx` reads networks of PyTorch and Keras, [`weights`](ann::weights) exchanges weights with
//!   PyTorch, and `nir` spiking networks with other simulators.
//! - [`search`](evolve::search) selects the optimiser of an evolution: differential evolution
//!   ([`de`](evolve::de)) or CMA-ES ([`cmaes`](evolve::cmaes)); for several objectives there is
//!   NSGA-II ([`nsga`](evolve::nsga)).
//! - [`reproduce`] runs whole experiments, and [`sweep`] your own measurement at every combination
//!   of some values.
//! - [`background`] runs work beside a notebook, and [`ranks`] distributes an evolution over many
//!   machines.
//! - [`explain`] measures what evolution changed, and why.
//!
//! Results are the same for the same seed ([`random`]), with any number of threads, on one machine.
#![warn(missing_docs)]
// Except in the vector kernels, each block with its reason.
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod ann;
mod base;
pub mod convert;
pub mod data;
pub mod evolve;
pub mod explain;
pub mod guide;
pub mod metrics;
#[cfg(feature = "nir")]
pub mod nir;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod ops;
pub mod plot;
pub mod report;
pub mod reproduce;
pub mod simulate;
pub mod stdp;
pub mod sweep;
pub mod through_time;

// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use base::error::{Error, Result};
pub use base::{background, error, random, ranks, resume};

/// Names that most notebooks need: `use evospike::prelude::*;`.
pub mod prelude {
    pub use crate::ann::modules::{
        AvgPool2, BatchNorm, Conv3x3, Flatten, Linear, Relu, UnbiasedLinear,
    };
    pub use crate::ann::networks::{self, DigitsCnn, Network};
    pub use crate::ann::weights::Names;
    pub use crate::ann::{Ann, Model, TrainSettings};
    pub use crate::background::Background;
    pub use crate::convert::{Balance, Conversion, convert};
    pub use crate::data::{self, Digits, HeldOut, Images, Shares, Split, Test, Training};
    pub use crate::evolve::cmaes::CmaEsSettings;
    pub use crate::evolve::de::DeSettings;
    pub use crate::evolve::nsga::NsgaSettings;
    pub use crate::evolve::search::Search;
    pub use crate::evolve::{Evolution, EvolveSettings, Gene, Objective, evolve, pareto};
    pub use crate::explain;
    pub use crate::metrics::{self, Accuracy, AccuracyCurve, Target};
    pub use crate::network;
    pub use crate::plot::{self, Chart};
    pub use crate::report::{self, Table, read_csv, write_csv};
    pub use crate::resume::Resume;
    pub use crate::simulate::codes::InputCode;
    pub use crate::simulate::neurons::{Neurons, Reset, Spikes};
    pub use crate::simulate::{Imported, SimulateSettings, Simulation, Snn, simulate};
    pub use crate::sweep::Sweep;
    pub use crate::through_time::attack::{Attack, Spiking, attack};
    pub use crate::through_time::hybrid::{HybridSettings, Trained, train_through_time};
    pub use crate::through_time::surrogate::Surrogate;
}
