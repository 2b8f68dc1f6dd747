//! Neuroevolution: a gradient-free optimiser tunes the neurons of a converted network, with the
//! simulated spiking network's own latency and accuracy as its feedback (Lu and Sengupta 2022).
//!
//! A genome ([`Gene`]) lists the parameters to change, an [`Objective`] is minimised, and a
//! [`Search`] is the optimiser: differential evolution, as in the paper, or another
//! one.

pub(crate) mod baseline;
pub mod cmaes;
pub mod de;
pub(crate) mod fitness;
pub(crate) mod generation;
pub(crate) mod genome;
pub mod nsga;
pub mod optimise;
pub(crate) mod pareto;
pub(crate) mod run;
pub mod search;
pub(crate) mod settings;
pub(crate) mod thresholds;

pub use fitness::{Fitness, Objective, Stopping};
pub use generation::{ConvergenceRow, Generation, convergence_chart};
pub use genome::Gene;
pub use pareto::{Compromise, CompromiseRow, Front, front_chart, pareto};
pub use run::{Evolution, evolve};
pub use settings::EvolveSettings;
pub use thresholds::{ThresholdRow, thresholds_chart};

pub(crate) use cmaes::CmaEsSettings;
pub(crate) use fitness::Evaluator;
pub(crate) use genome::Genome;
pub(crate) use search::Search;
