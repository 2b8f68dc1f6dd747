//! A network behind an interface without types, and its tensors.

use super::graph::Graph;
use super::optimiser::Step;
use crate::base::{NamedTensor, Result};

/// A typed network behind an interface without types, so that code that uses it is compiled once.
pub trait Trainable {
    /// Logits of `count` images, one row an image.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>>;

    /// One step of an optimiser on the mean cross-entropy between the images' logits and
    /// `targets`, class probabilities; gives the loss before the step and the logits.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        step: &Step,
    ) -> Result<(f32, Vec<f32>)>;

    /// Seeds what the network draws while it trains: dropout.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) of the device.
    fn seed(&mut self, seed: u64) -> Result<()>;

    /// A copy of all tensors of one kind, in the order of the layers.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    fn tensors(&self, kind: Values) -> Result<Vec<NamedTensor>>;

    /// Sets all tensors of one kind: those that [`tensors`](Self::tensors) gives, in its order.
    ///
    /// # Errors
    /// Tensors missing, left over or of another name or shape; then none is changed.
    fn set_tensors(&mut self, kind: Values, tensors: &[NamedTensor]) -> Result<()>;

    /// Name of the type of the layers, which tells what acts in training alone: dropout.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) of the device.
    fn types(&self) -> Result<&'static str> {
        Ok("")
    }

    /// The plain layers that the network is, weights included and batch normalisation folded into
    /// them.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) of the device.
    fn graph(&self) -> Result<Graph>;
}

/// A network that any thread may use.
pub type Built = Box<dyn Trainable + Send + Sync>;

/// Kind of the tensors of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Weights, and the running statistics of batch normalisation.
    Parameters,
    /// Moment that the optimiser keeps for each weight, from 0: SGD its velocity, Adam the running means
    /// of the gradient and of its square. None before the first step.
    Moment(usize),
}
