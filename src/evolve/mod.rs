//! Neuroevolution: a gradient-free optimiser tunes the neurons of a converted network, with the
//! simulated spiking network's own latency and accuracy as its feedback (Lu and Sengupta 2022).
//!
//! What is changed is a genome ([`Gene`]), what is made small an [`Objective`], and who searches a
//! [`Search`]: differential evolution, as in the paper, or another optimiser.

pub mod cmaes;
pub mod de;
pub(crate) mod fitness;
pub(crate) mod genome;
pub mod nsga;
pub(crate) mod run;
pub mod search;

pub use run::*;
