//! The paper's third claim: the changes that evolution makes, and their reasons.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::steps::{StepCache, changed, check_margin, key_of};
use super::thresholds::{ThresholdsInput, ThresholdsSettings, Workspace};
use crate::ann::{Ann, Model, Network};
use crate::base::{Output, Result, at_least, show};
use crate::evolve::{Objective, ThresholdRow};
use crate::explain::{
    activation_map, activation_statistics, conversion_error, correlations, elementary_effects,
    firing_rates, first_spikes, layer_statistics, scales, threshold_sensitivity,
};
use crate::simulate::{SimulateSettings, SpikingNetwork};
use crate::through_time::{Attack, attack};

/// Settings of [`explain`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainSettings {
    /// Settings of the experiment whose networks are explained, with one initial potential.
    pub clean: ThresholdsSettings,
    /// Attack whose images are compared with the clean ones.
    pub attack: Attack,
    /// Number of test images whose activity is measured, clean and attacked.
    pub images: usize,
    /// Number of timesteps of these measurements.
    pub timesteps: usize,
    /// Number of test images whose conversion error is measured.
    pub error_images: usize,
    /// Timesteps after which the conversion error is measured.
    pub error_timesteps: Vec<usize>,
    /// Number of held-out images on which the sensitivity to thresholds is measured.
    pub sensitivity_images: usize,
    /// Factors for the thresholds of one layer at a time.
    pub factors: Vec<f64>,
    /// Number of trajectories of the elementary effects.
    pub trajectories: usize,
    /// Percentile of the activations that the largest activation is compared with.
    pub percentile: f64,
    /// Number of test images to map.
    pub map_images: usize,
    /// Indices of the layers of neurons to map.
    pub map_layers: Vec<usize>,
    /// Timesteps after which layers are mapped.
    pub map_timesteps: Vec<usize>,
}

show!(ExplainSettings as fields);

impl Default for ExplainSettings {
    fn default() -> Self {
        Self {
            clean: ThresholdsSettings { initial: vec![0.0], ..ThresholdsSettings::default() },
            attack: Attack::Fgsm { epsilon_255: 2.0 },
            images: 500,
            timesteps: 64,
            error_images: 100,
            error_timesteps: vec![8, 16, 32, 64, 128],
            sensitivity_images: 250,
            factors: vec![0.8, 0.9, 1.1, 1.25],
            trajectories: 4,
            percentile: 99.9,
            map_images: 2,
            map_layers: vec![1],
            map_timesteps: vec![16],
        }
    }
}

impl ExplainSettings {
    /// Whether every setting is in its range, which the experiment checks first.
    ///
    /// # Errors
    /// The first setting that is not.
    pub fn check(&self) -> Result<()> {
        self.clean.check_of_one_initial()?;
        self.attack.check()?;
        at_least(1, &[("images", self.images), ("timesteps", self.timesteps)])?;
        at_least(1, &[("error_images", self.error_images)])?;
        at_least(1, &[("sensitivity_images", self.sensitivity_images)])?;
        at_least(2, &[("trajectories", self.trajectories)])?;
        check_margin("margin_points", self.clean.margin_points, true)
    }
}

/// Measures the changes that evolution makes, one CSV file for each function of
/// [`explain`](crate::explain).
///
/// The networks are the best percentile conversion, the conversion with the best constant factor
/// (the start of the evolution), and the evolved networks of [`thresholds`](super::thresholds()). They
/// come from the steps in `clean_folder`; steps that are missing are computed there. Activity and
/// errors are measured on test images, clean and attacked through the ANN. Sensitivity is measured
/// on held-out images: of the evolution's objective, and in the elementary effects of the area
/// below the ANN's accuracy ([`Objective::Area`]).
///
/// Returns the paths of `scales.csv`, `firing-rates.csv`, `first-spikes.csv`,
/// `conversion-error.csv`, `sensitivity.csv`, `elementary-effects.csv`, `statistics.csv`,
/// `correlations.csv`, `maps.csv`, `settings.json` and `timing.csv`. Resumes and stops as `thresholds`
/// does.
///
/// # Errors
/// Returns an error if a setting is out of range, the list does not fit the data or a folder cannot
/// be written to; [`Error::Stopped`](crate::Error::Stopped) after `stop`.
pub fn explain<N: Network>(
    input: &ThresholdsInput<'_, Ann<N>>,
    settings: &ExplainSettings,
    clean_folder: impl AsRef<Path>,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Vec<PathBuf>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let workspace = Workspace::new(input, &settings.clean)?;
    let mut clean = StepCache::new("reproduce thresholds", clean_folder.as_ref(), stop);
    let experiment = workspace.experiment(settings.clean.initial[0]);
    let found = experiment.search(&mut clean)?;
    let margin = settings.clean.margin_points;
    let baselines = found.baselines[settings.clean.nearest_margin(margin)].iter();
    let used = ["percentile", "constant factor"];
    let baselines = baselines.filter(|baseline| used.contains(&baseline.kind));
    let baselines = baselines.map(|baseline| (baseline.name.clone(), &baseline.snn));
    let evolved = found.evolved.iter();
    let evolved = evolved.map(|evolved| (evolved.name(), &evolved.evolution.snn));
    let networks: Vec<_> = baselines.chain(evolved).collect();

    let mut steps = StepCache::new("reproduce explain", &folder, stop);
    let images = workspace.parts.test.take(settings.images);
    let attacked = attack(input.ann, &images, settings.attack)?;
    let parts = [(String::new(), &images), (format!(", {}", settings.attack), &attacked)];
    let held_out = workspace.parts.held_out.take(settings.sensitivity_images);
    let target = input.ann.target(&held_out, margin)?;
    let (mut rates, mut spikes, mut errors, mut maps) = (vec![], vec![], vec![], vec![]);
    let mut sensitivity = Vec::new();
    for (name, snn) in &networks {
        let network: &SpikingNetwork = snn.network();
        for (on, images) in &parts {
            let name = format!("{name}{on}");
            let run = steps.run(&format!("run, {name}"), snn, images, settings.timesteps)?;
            rates.extend(firing_rates(&name, &run));
            let key = (key_of(snn, images), settings.timesteps);
            spikes.extend(steps.step(&format!("first spikes, {name}"), &key, || {
                first_spikes(&name, network, images, settings.timesteps)
            })?);
            let some = images.take(settings.error_images);
            let key = (key_of(snn, &some), &settings.error_timesteps);
            errors.extend(steps.step(&format!("conversion error, {name}"), &key, || {
                conversion_error(&name, network, &some, &settings.error_timesteps)
            })?);
            for image in 0..settings.map_images.min(images.len()) {
                for &layer in &settings.map_layers {
                    let name = format!("{name}, image {}", images.index(image));
                    let pixels = images.input(image);
                    let timesteps = &settings.map_timesteps;
                    maps.extend(activation_map(&name, network, &pixels, layer, timesteps, GAMMA)?);
                }
            }
        }
        let evolution = &settings.clean.evolution;
        let factors = &settings.factors;
        let key = (key_of(snn, &held_out), margin, evolution, factors);
        sensitivity.extend(steps.step(&format!("sensitivity, {name}"), &key, || {
            threshold_sensitivity(name, network, &held_out, &target, evolution, factors)
        })?);
    }

    let constant = found.conversions.constant.network();
    // Many networks in the range never reach the target; only the area tells them apart.
    let evolution = changed(&settings.clean.evolution, |evolution| {
        (evolution.objective, evolution.batch) = (Objective::Area, None);
    });
    let trajectories = settings.trajectories;
    let key = (key_of(&found.conversions.constant, &held_out), margin, &evolution, trajectories);
    let effects = steps.step("elementary effects", &key, || {
        let name = "constant factor";
        elementary_effects(name, constant, &held_out, &target, &evolution, trajectories)
    })?;

    let thresholds = found.evolved.iter().flat_map(|evolved| {
        ThresholdRow::of(evolved.seed, margin, &found.conversions.start, &evolved.evolution.snn)
    });
    let scales = scales(&thresholds.collect::<Vec<_>>())?;
    let per_neuron = SimulateSettings { per_neuron: true, ..settings.timesteps.into() };
    let start = steps.run("run, start", &found.conversions.start, &images, per_neuron)?;
    let mut statistics = layer_statistics(found.conversions.start.network(), &start)?;
    let activations = activation_statistics(&workspace.conversion, settings.percentile)?;
    statistics.extend(activations);
    output.csv("scales.csv", &scales)?;
    output.csv("firing-rates.csv", rates)?;
    output.csv("first-spikes.csv", spikes)?;
    output.csv("conversion-error.csv", errors)?;
    output.csv("sensitivity.csv", sensitivity)?;
    output.csv("elementary-effects.csv", effects)?;
    output.csv("correlations.csv", correlations(&statistics, &scales)?)?;
    output.csv("statistics.csv", statistics)?;
    output.csv("maps.csv", maps)?;
    output.csv("timing.csv", &steps.timing)?;
    let report = workspace.complete::<(), _>(output, Vec::new(), "explain", settings)?;
    Ok(report.files)
}

/// Decay γ of the spike activation maps, as the authors set it.
const GAMMA: f64 = 0.5;
