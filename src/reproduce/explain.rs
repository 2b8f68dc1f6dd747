//! The paper's third claim: what evolution changed on CIFAR-10, and why.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::ann::networks::Network;
use crate::base::check::at_least;
use crate::base::error::Result;
use crate::base::files::Output;
use crate::base::table::show;
use crate::data::tasks::Cifar10;
use crate::evolve::fitness::Objective;
use crate::evolve::settings::EvolveSettings;
use crate::explain::activity::{activation_map, firing_rates, first_spikes};
use crate::explain::conversion::conversion_error;
use crate::explain::scales;
use crate::explain::scales::{activation_statistics, correlations, layer_statistics};
use crate::explain::sensitivity::{elementary_effects, threshold_sensitivity};
use crate::reproduce::cifar10::Workspace;
use crate::reproduce::cifar10::{Cifar10Input, Cifar10Settings};
use crate::reproduce::steps::StepCache;
use crate::reproduce::steps::check_margin;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::run::simulate;
use crate::simulate::settings::SimulateSettings;
use crate::through_time::attack::{Attack, attack};

/// Settings of [`explain`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainSettings {
    /// The experiment whose networks are explained, with one initial potential.
    pub clean: Cifar10Settings,
    /// What clean images are compared with.
    pub attack: Attack,
    /// Test images whose activity is measured, clean and attacked.
    pub images: usize,
    /// Timesteps of that.
    pub timesteps: usize,
    /// Test images whose conversion error is measured.
    pub error_images: usize,
    /// After each of these.
    pub error_timesteps: Vec<usize>,
    /// Held-out images on which thresholds are changed.
    pub sensitivity_images: usize,
    /// On the thresholds of one layer at a time.
    pub factors: Vec<f64>,
    /// Of the elementary effects.
    pub trajectories: usize,
    /// The largest activation is compared with this percentile.
    pub percentile: f64,
    /// Test images that are mapped.
    pub map_images: usize,
    /// Layers of neurons that are mapped.
    pub map_layers: Vec<usize>,
    /// After each of these.
    pub map_timesteps: Vec<usize>,
}

show!(ExplainSettings as fields);

impl Default for ExplainSettings {
    fn default() -> Self {
        Self {
            clean: Cifar10Settings {
                initial: vec![0.0],
                ..Cifar10Settings::default()
            },
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
    fn check(&self) -> Result<()> {
        self.clean.check_of_one_initial()?;
        self.attack.check()?;
        at_least(
            1,
            &[
                ("images", self.images),
                ("timesteps", self.timesteps),
                ("error_images", self.error_images),
                ("sensitivity_images", self.sensitivity_images),
            ],
        )?;
        at_least(2, &[("trajectories", self.trajectories)])?;
        check_margin("margin_points", self.clean.margin_points, true)
    }
}

/// What evolution changed on CIFAR-10, and why, as one CSV for each function of
/// [`explain`](crate::explain): of the best percentile conversion, of the conversion with the best
/// constant factor, which evolution started from, and of the evolved networks of
/// [`cifar10`](super::cifar10()), which left them in `clean_folder`; where it did not, they are
/// made there. Activity and errors are those on test images, clean and attacked through the ANN;
/// thresholds are changed on held-out images, where elementary effects are those on the area below
/// the ANN's accuracy ([`Objective::Area`]), sensitivity what the evolution made small.
///
/// Gives the files: `scales.csv`, `firing-rates.csv`, `first-spikes.csv`, `conversion-error.csv`,
/// `sensitivity.csv`, `elementary-effects.csv`, `statistics.csv`, `correlations.csv`, `maps.csv`,
/// `settings.json`, `timing.csv`. Resumes and stops as there.
///
/// # Errors
/// Settings out of range; a list that does not fit the data; a folder that cannot be written to;
/// [`Error::Stopped`].
pub fn explain<N: Network<Task = Cifar10>>(
    input: &Cifar10Input<'_, N>,
    settings: &ExplainSettings,
    clean_folder: impl AsRef<Path>,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Vec<PathBuf>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let clean_folder = clean_folder.as_ref();
    let (workspace, mut clean) = Workspace::new(input, &settings.clean, clean_folder, stop)?;
    let experiment = workspace.experiment(settings.clean.initial[0]);
    let found = experiment.search(&mut clean)?;
    let margin = settings.clean.margin_points;
    let rivals = &found.rivals[settings.clean.nearest_margin(margin)];
    let named = |kind: &str| {
        let mut of_kind = rivals.iter().filter(|rival| rival.kind == kind);
        of_kind.next().map(|rival| (rival.name.clone(), &rival.snn))
    };
    let mut networks: Vec<_> = ["percentile", "constant factor"]
        .into_iter()
        .filter_map(named)
        .collect();
    let evolved = found.evolved.iter();
    networks.extend(evolved.map(|evolved| (evolved.name(), &evolved.evolution.snn)));

    let neurons: Vec<_> = networks.iter().map(|(_, snn)| snn.neurons()).collect();
    let key = workspace.key((settings, neurons));
    let mut steps = StepCache::new("reproduce explain", &folder, &key, stop)?;

    let images = workspace.parts.test.take(settings.images);
    let attacked = attack(input.ann, &images, settings.attack)?;
    let parts = [
        (String::new(), &images),
        (format!(", {}", settings.attack), &attacked),
    ];
    let held_out = workspace.parts.held_out.take(settings.sensitivity_images);
    let goal = input.ann.target(&held_out, margin)?;
    let (mut rates, mut spikes, mut errors, mut maps) = (vec![], vec![], vec![], vec![]);
    let mut sensitivity = Vec::new();
    for (name, snn) in &networks {
        let network: &SpikingNetwork = snn.network();
        for (on, images) in &parts {
            let name = format!("{name}{on}");
            let run = steps.step(&format!("run, {name}"), || {
                simulate(snn, images, settings.timesteps)
            })?;
            rates.extend(firing_rates(&name, &run));
            spikes.extend(steps.step(&format!("first spikes, {name}"), || {
                first_spikes(&name, network, images, settings.timesteps)
            })?);
            let some = images.take(settings.error_images);
            errors.extend(steps.step(&format!("conversion error, {name}"), || {
                conversion_error(&name, network, &some, &settings.error_timesteps)
            })?);
            for image in 0..settings.map_images.min(images.len()) {
                for &layer in &settings.map_layers {
                    let name = format!("{name}, image {}", images.index(image));
                    let pixels = images.input(image);
                    let timesteps = &settings.map_timesteps;
                    maps.extend(activation_map(
                        &name, network, &pixels, layer, timesteps, GAMMA,
                    )?);
                }
            }
        }
        let evolution = &settings.clean.evolution;
        sensitivity.extend(steps.step(&format!("sensitivity, {name}"), || {
            let factors = &settings.factors;
            threshold_sensitivity(name, network, &held_out, &goal, evolution, factors)
        })?);
    }

    let constant = found.constant.network();
    // The range holds many networks that reach no target, between which only the area differs.
    let settings_of_effects = EvolveSettings {
        objective: Objective::Area,
        batch: None,
        ..settings.clean.evolution.clone()
    };
    let effects = steps.step("elementary effects", || {
        let (settings_of, trajectories) = (&settings_of_effects, settings.trajectories);
        elementary_effects(
            "constant factor",
            constant,
            &held_out,
            &goal,
            settings_of,
            trajectories,
        )
    })?;

    let evolved = found.evolved.iter();
    let thresholds = evolved.flat_map(|evolved| evolved.thresholds(&found.start, margin));
    let scales = scales(&thresholds.collect::<Vec<_>>())?;
    let per_neuron = SimulateSettings {
        per_neuron: true,
        ..settings.timesteps.into()
    };
    let start = steps.step("run, start", || simulate(&found.start, &images, per_neuron))?;
    let mut statistics = layer_statistics(found.start.network(), &start)?;
    statistics.extend(activation_statistics(
        &workspace.conversion,
        settings.percentile,
    )?);
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
    workspace.write_settings(&output, "explain", settings)?;
    output.complete()
}

/// Of the spike activation maps: the authors'.
const GAMMA: f64 = 0.5;
