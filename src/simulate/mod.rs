//! Simulation over timesteps, and the accuracy after every one of them from a single run.
//!
//! What a neuron does in a timestep is defined in [`neurons`](mod@crate::simulate::neurons). Layers update in
//! order within a timestep, with no delay between them. The first layer's input is the image itself
//! at every timestep (direct coding) or what another [`InputCode`] makes of it. The output layer
//! has no neurons: it sums its input current over the timesteps, and the largest sum is the
//! prediction.

pub mod codes;
pub(crate) mod compile;
pub(crate) mod early_exit;
pub mod energy;
pub(crate) mod engine;
pub(crate) mod imported;
pub(crate) mod lanes;
pub(crate) mod maps;
pub(crate) mod network;
pub mod neurons;
pub(crate) mod outputs;
pub(crate) mod run;
pub(crate) mod settings;
pub(crate) mod simulator;
pub(crate) mod surrogate;
pub(crate) mod synapses;
pub(crate) mod unrolling;

pub use early_exit::{EarlyExit, Exit};
pub use imported::Imported;
pub use network::{PerLayer, Snn, SpikingNetwork, Trace, raster_chart};
pub use outputs::Outputs;
pub use run::simulate;
pub use settings::SimulateSettings;
pub use simulator::{LayerSpikes, Simulation, SpikesRow};

pub(crate) use codes::InputCode;
pub(crate) use network::check_frames;
pub(crate) use neurons::{Activity, Charge, Neuron, Neurons, Reset, Spikes, State, step, times};
pub(crate) use simulator::{Device, LayerByLayer, Simulator, overflow};
pub(crate) use synapses::{Source, Stage, Stages};
pub(crate) use unrolling::{TapeGradients, Unrolling, Wanted};
