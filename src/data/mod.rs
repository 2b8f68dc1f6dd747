//! Images and labels in three parts that must not mix: training, held-out and test.
//!
//! The part is in the type. [`Images<Training, K>`](Images) are for training a network and setting
//! its thresholds, [`Images<HeldOut, K>`](Images) for evolution and every other choice, and
//! [`Images<Test, K>`](Images) only for measuring: no function that trains, converts or evolves
//! takes them.
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
//! Data sets that have a test part are read as [`TrainTest`]: [`cifar10`], [`cifar100`], [`idx`]
//! for the MNIST family, [`tiny_imagenet`], [`folder`](fn@folder) for images in folders, and
//! [`Images::from_arrays`] for anything else.
//!
//! ```no_run
//! use evospike::prelude::*;
//!
//! let cifar = data::cifar10("data")?.normalised(&data::Normalisation::CIFAR10)?;
//! let parts = cifar.hold_out(0.1, 0)?; // a tenth of the training images, for evolution
//! # Ok::<(), evospike::Error>(())
//! ```

pub(crate) mod archives;
pub(crate) mod augment;
pub(crate) mod embedded;
pub(crate) mod folder;
pub(crate) mod formats;
pub(crate) mod images;
pub(crate) mod lists;
pub(crate) mod pickle;
pub(crate) mod shape;
pub(crate) mod split;
pub(crate) mod tasks;
pub(crate) mod tiny_imagenet;

pub use augment::Augment;
pub use embedded::{digits, fashion};
pub use folder::{FolderSettings, class_folders, class_folders_with, folder, folder_with};
pub use formats::{cifar10, cifar100, idx, idx_files};
pub use images::*;
pub use shape::Shape;
pub use split::*;
pub use tasks::*;
pub use tiny_imagenet::tiny_imagenet;

pub(crate) use images::Samples;
