//! Settings of a run.

use serde::{Deserialize, Serialize};

use crate::base::table::show;
use crate::simulate::codes::InputCode;

/// Settings of [`simulate`]. A number is one: so many timesteps, and the rest as usual.
///
/// ```
/// use evospike::prelude::*;
///
/// let settings = SimulateSettings { code: InputCode::Poisson { seed: 0 }, ..64.into() };
/// assert_eq!(settings.timesteps, 64);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulateSettings {
    /// 1 to 65,536.
    pub timesteps: usize,
    /// How images are given to the network.
    pub code: InputCode,
    /// Whether to count the spikes of every single neuron, which takes memory.
    pub per_neuron: bool,
}

show!(SimulateSettings as fields);

impl From<usize> for SimulateSettings {
    fn from(timesteps: usize) -> Self {
        Self {
            timesteps,
            code: InputCode::Direct,
            per_neuron: false,
        }
    }
}
