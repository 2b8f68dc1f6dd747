//! What evolution changed in each layer, and how far from the ANN that leaves it.

use serde::{Deserialize, Serialize};

use super::candidates::{EVOLVED, Measured, Tested};
use super::steps::{StepCache, key_of};
use crate::ann::Classifier;
use crate::base::{Error, Result, rounded};
use crate::data::{HeldOut, Images};
use crate::evolve::ThresholdRow;
use crate::explain::{ErrorPart, conversion_error};

/// Row of `neurons-changes.csv`: one layer of an evolved network and of the conversion that it was
/// evolved from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronChangeRow {
    /// Kind of neurons.
    pub neuron: String,
    /// Seed of the evolution.
    pub seed: u64,
    /// Layer of neurons, from 0.
    pub layer: usize,
    /// Evolved threshold / threshold of the conversion.
    pub threshold_scale: f64,
    /// Initial membrane potential of the conversion, in sizes of a spike.
    pub initial_before: f32,
    /// Initial membrane potential after evolution, in sizes of a spike.
    pub initial_after: f32,
    /// Timestep after which the outputs are compared with the ANN's activations: that which the
    /// kind is to be good at.
    pub timestep: usize,
    /// Root mean square of the conversion's error, in percent of that of the ANN's activations, on
    /// held-out images.
    pub error_before_percent: f64,
    /// The same after evolution.
    pub error_after_percent: f64,
    /// Mean of the conversion's error, signed, in percent of the root mean square of the ANN's
    /// activations.
    pub mean_error_before_percent: f64,
    /// The same after evolution.
    pub mean_error_after_percent: f64,
}

/// Number of held-out images on which the errors are measured.
const IMAGES: usize = 100;

impl NeuronChangeRow {
    /// Rows of every evolved network that differs from its conversion.
    pub(super) fn of<N: Classifier>(
        measured: &Measured<N>,
        held_out: &Images<HeldOut, N::Task>,
        steps: &mut StepCache<'_>,
    ) -> Result<Vec<Self>> {
        let images = held_out.take(IMAGES);
        let mut rows = Vec::new();
        let evolved = measured.networks.iter().filter(|network| network.chosen.network == EVOLVED);
        for after in evolved {
            let Some(before) = after.chosen.start.map(|start| &measured.networks[start]) else {
                continue;
            };
            if before.chosen.snn.neurons() == after.chosen.snn.neurons() {
                continue;
            }
            let mut errors = |network: &Tested<N>| {
                let timesteps = [network.chosen.kind.from];
                let (name, snn) = (network.chosen.to_string(), &network.chosen.snn);
                let key = (key_of(snn, &images), timesteps);
                let parts = steps.step(&format!("conversion error, {name}"), &key, || {
                    conversion_error(&name, snn, &images, &timesteps)
                })?;
                let total = parts.into_iter().filter(|row| row.part == ErrorPart::Total);
                Ok::<_, Error>(total.collect::<Vec<_>>())
            };
            let errors = [errors(before)?, errors(after)?];
            let [before, chosen] = [&before.chosen, &after.chosen];
            let thresholds = ThresholdRow::of(chosen.seed, 0.0, &before.snn, &chosen.snn);
            rows.extend(thresholds.into_iter().map(|row| {
                let [error_before, error_after] = errors.each_ref().map(|rows| &rows[row.layer]);
                Self {
                    neuron: chosen.kind.name.clone(),
                    seed: chosen.seed,
                    layer: row.layer,
                    threshold_scale: row.scale,
                    initial_before: row.initial_potential,
                    initial_after: rounded(chosen.snn.neurons()[row.layer].initial.into()) as f32,
                    timestep: chosen.kind.from,
                    error_before_percent: error_before.rms_percent,
                    error_after_percent: error_after.rms_percent,
                    mean_error_before_percent: error_before.mean_percent,
                    mean_error_after_percent: error_after.mean_percent,
                }
            }));
        }
        Ok(rows)
    }
}
