//! Settings of a simulation.

use serde::{Deserialize, Serialize};

use super::codes::InputCode;
use crate::base::show;

/// Settings of [`simulate`](crate::simulate::simulate). A number of timesteps converts to settings
/// with the other fields at their defaults.
///
/// ```
/// use evospike::prelude::*;
///
/// let settings = SimulateSettings { code: InputCode::Poisson { seed: 0 }, ..64.into() };
/// assert_eq!(settings.timesteps, 64);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulateSettings {
    /// Number of timesteps, 1 to 65,536.
    pub timesteps: usize,
    /// Input coding of the images.
    pub code: InputCode,
    /// Whether to count the spikes of each neuron, which takes memory.
    pub per_neuron: bool,
    /// Whether to keep the outputs of every image after every timestep, which takes memory: for
    /// [early exit](crate::simulate::Simulation::early_exit).
    pub outputs: bool,
}

show!(SimulateSettings as fields);

impl From<usize> for SimulateSettings {
    fn from(timesteps: usize) -> Self {
        Self { timesteps, code: InputCode::Direct, per_neuron: false, outputs: false }
    }
}
