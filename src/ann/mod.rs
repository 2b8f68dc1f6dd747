//! The ordinary network (ANN): trained by gradient descent with dfdx's automatic differentiation.
//!
//! ```no_run
//! use evospike::ann::networks::Vgg15QuarterBn;
//! use evospike::prelude::*;
//!
//! let cifar = data::cifar10("data")?.normalised(&data::Normalisation::CIFAR10)?;
//! let parts = cifar.hold_out(0.1, 0)?;
//! let settings = TrainSettings { epochs: 30, learning_rate: 0.05, ..TrainSettings::cifar() };
//! let mut ann = Ann::<Vgg15QuarterBn>::new(0)?;
//! let resume = Resume::at("vgg15.checkpoint"); // training takes hours
//! resume.train(&mut ann, &parts.training, &settings)?;
//! ann.save("vgg15.safetensors", &Names::own())?;
//! let ann = Ann::<Vgg15QuarterBn>::load("vgg15.safetensors", &Names::own())?;
//! println!("{:.2} %", ann.accuracy(&parts.test)?.percent());
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! Your own images: see [`data`](crate::data). Your own network: [`network!`](crate::network).
//! Weights from PyTorch: [`weights`].

pub(crate) mod describe;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod device_thread;
pub mod graph;
pub mod layers;
pub(crate) mod model;
pub mod modules;
pub mod networks;
pub mod optimiser;
pub(crate) mod train;
pub(crate) mod trainable;
pub(crate) mod typed;
pub mod weights;

pub use crate::base::tensors::NamedTensor;
pub use model::{Ann, Model, TaskOf};
pub use train::{Epoch, History, TrainSettings};
pub use trainable::{Built, Trainable, Values};
#[cfg(feature = "cuda")]
pub use typed::build_on_card;
pub use typed::{Typed, build};

pub(crate) use graph::{Graph, Node};
#[cfg(feature = "nir")]
pub(crate) use layers::CHANNELS_FIRST;
pub(crate) use layers::{Activation, Layer, Window};
pub(crate) use modules::flat;
pub(crate) use networks::{
    Classifier, DigitsBinary, DigitsCnn, DigitsQcfs, FashionCnn, Mlp, Network, NetworkDevice,
};
pub(crate) use optimiser::{Moments, Optimiser, Step, Update};
pub(crate) use train::train;
pub(crate) use typed::backward;
