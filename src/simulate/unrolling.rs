//! What a device needs for gradients of a network, and what it gives.

use super::neurons::Neurons;
use super::surrogate::Surrogate;
use crate::ann::Graph;

/// Network whose logits and gradients are wanted: an ANN, or neurons over some timesteps.
pub(crate) struct Unrolling<'a> {
    pub graph: &'a Graph,
    pub neurons: Option<&'a [Neurons]>,
    pub timesteps: usize,
    pub surrogate: Surrogate,
}

/// What gradients are by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The inputs, one tensor.
    Inputs,
    /// Weights and biases in the order of the layers, then threshold, charge and leak of every
    /// layer of neurons, one value per channel.
    Parameters,
}

/// Gradients of inputs that share a tape: of their mean loss.
pub(crate) struct TapeGradients {
    /// Number of inputs.
    pub inputs: usize,
    pub loss: f32,
    pub logits: Vec<f32>,
    /// What is [`Wanted`].
    pub tensors: Vec<Vec<f32>>,
}
