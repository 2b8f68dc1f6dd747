//! Images and labels, and the three parts of them that must not mix.
//!
//! The part is in the type. [`Images<Training, K>`](Images) trains a network and sets its
//! thresholds, [`Images<HeldOut, K>`](Images) is what evolution and every other choice may look
//! at, and [`Images<Test, K>`](Images) can only be measured on: no function that trains, converts
//! or evolves takes it.
//!
//! ```compile_fail,E0308
//! # use evospike::prelude::*;
//! # fn main() -> evospike::Result<()> {
//! let digits = data::digits()?.split(Shares::default(), 0)?;
//! let mut ann = Ann::<DigitsCnn>::new(0)?;
//! ann.train(&digits.test, &TrainSettings::default())?; // expected `Training`, found `Test`
//! # Ok(()) }
//! ```
//!
//! Sets that come with a test part are read as [`TrainTest`]: [`cifar10`], [`cifar100`], [`idx`]
//! for the MNIST family, [`folder`] for images in folders, and [`Images::from_arrays`] for
//! anything else.
//!
//! ```no_run
//! use evospike::prelude::*;
//!
//! let cifar = data::cifar10("data")?.normalised(&data::Normalisation::CIFAR10)?;
//! let parts = cifar.hold_out(0.1, 0)?; // a tenth of the training images, for evolution
//! # Ok::<(), evospike::Error>(())
//! ```

pub(crate) mod augment;
pub(crate) mod digits;
pub(crate) mod folder;
pub(crate) mod formats;
pub(crate) mod images;
pub(crate) mod lists;
pub(crate) mod shape;
pub(crate) mod tasks;

pub use augment::Augment;
pub use digits::digits;
pub use folder::{class_folders, folder};
pub use formats::{cifar10, cifar100, idx, idx_files};
pub use images::*;
pub use shape::Shape;
pub use tasks::*;
