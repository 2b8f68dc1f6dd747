//! What a device other than the CPU's engine does for a network.

use super::neurons::Neurons;
use super::settings::SimulateSettings;
use super::simulator::Simulation;
use super::surrogate::Surrogate;
use super::synapses::Stages;
use crate::ann::Graph;
use crate::base::Result;
use crate::data::Samples;

/// Device that networks run on, by its work. It is made where this work is defined, in
/// [`through_time`](crate::through_time).
#[derive(Clone, Copy)]
pub(crate) struct Device {
    /// Name of its type.
    pub name: &'static str,
    /// Simulates neurons on images.
    pub run: fn(&Stages, &[Neurons], Samples<'_>, SimulateSettings) -> Result<Simulation>,
    /// Logits of inputs, one after the other.
    pub logits: fn(&Unrolling<'_>, &[f32]) -> Result<Vec<f32>>,
    /// Gradients of the mean cross-entropy of inputs with class probabilities, one row an input.
    pub gradients: GradientsOn,
}

type GradientsOn = fn(&Unrolling<'_>, &[f32], &[f32], Wanted) -> Result<Vec<TapeGradients>>;

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
