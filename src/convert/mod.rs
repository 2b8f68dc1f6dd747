//! Conversion of a trained network to a spiking network, with thresholds balanced from activations.
//!
//! Every ReLU or [`Qcfs`](crate::ann::modules::Qcfs) becomes a layer of integrate-and-fire neurons.
//! The weights stay as they are; the threshold of a layer is a statistic of its outputs on training
//! images, and a spike carries the threshold of its layer as charge. This is the data-based
//! normalisation of Diehl et al. (2015) and Rueckauer et al. (2017) without its division of the
//! weights: dividing the weights of a layer by its scale, times the scale before it, and its biases
//! by its scale, gives the same spikes with every threshold 1.
//!
//! For few timesteps, two changes help: neurons that start at half a threshold (Bu et al. 2022;
//! [`Snn::with`](crate::simulate::Snn::with)), and currents that compensate for what spikes lose on average
//! ([`Conversion::calibrated`]). A network trained with [`Qcfs`](crate::ann::modules::Qcfs) has
//! learned its thresholds, and converts with little error at very few timesteps
//! ([`Balance::Learned`]).

mod activations;
pub(crate) mod conversion;

pub use conversion::{Balance, Conversion, convert};
