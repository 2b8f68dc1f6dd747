//! Kinds of neurons for few timesteps, and the settings of their comparison.

use serde::{Deserialize, Serialize};

use super::steps::changed;
use crate::base::{Error, Result, at_least, each_once, require, show, some_timesteps};
use crate::evolve::{CmaEsSettings, EvolveSettings, Gene, Objective, Search};
use crate::simulate::Spikes;
use crate::through_time::Attack;

/// Kind of neurons of [`neurons`](crate::reproduce::neurons), and how it is evolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronKind {
    /// Name in the files.
    pub name: String,
    /// Spikes of the neurons in all layers.
    pub spikes: Spikes,
    /// Timestep that the networks are to be good at: conversions are calibrated for it and chosen by
    /// their error after it, and it is the first that counts in the evolution.
    pub from: usize,
    /// Number of timesteps per simulation in the evolution.
    pub timesteps: usize,
    /// Genes of the evolution and their ranges.
    pub genome: Vec<(Gene, [f64; 2])>,
}

impl NeuronKind {
    /// Kind of neurons of the default [`NeuronsSettings`], by its name.
    ///
    /// # Errors
    /// Returns an error if there is none of this name; it lists all.
    pub fn named(name: &str) -> Result<Self> {
        let kinds = NeuronsSettings::default().kinds;
        let names: Vec<&str> = kinds.iter().map(|kind| &*kind.name).collect();
        let known = names.join(", ");
        let kind = kinds.iter().find(|kind| kind.name == name).cloned();
        kind.ok_or_else(|| Error::parameter("neuron", name, known))
    }
}

/// Settings of [`neurons`](crate::reproduce::neurons).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronsSettings {
    /// Seeds of the optimiser, one evolution of each kind for each.
    pub seeds: Vec<u64>,
    /// Kinds of neurons.
    pub kinds: Vec<NeuronKind>,
    /// Initial membrane potential of the conversions, in sizes of a spike.
    pub initial: f32,
    /// Number of training images whose activations set the thresholds.
    pub balance_images: usize,
    /// Percentiles of conversions with one threshold per channel. Where the best is the first or the
    /// last, further ones are tried beyond it, each cutting off half or twice as much.
    pub percentiles: Vec<f64>,
    /// Numbers of spikes for which the thresholds per channel of other conversions have the least
    /// squared error ([`Balance::LeastSquaresPerChannel`](crate::convert::Balance)), as multiples of
    /// the most that a neuron can fire until the timestep that its kind is to be good at.
    pub least_squares: Vec<f64>,
    /// Range of one factor on all thresholds ([`Gene::Scale`]).
    pub factors: [f64; 2],
    /// Number of factors to try in that range, and, where the best is at one of its ends, beyond it in
    /// the same ratio.
    pub factor_points: usize,
    /// Number of held-out images to choose conversions and the gap of early exit on; all of them if
    /// there are fewer.
    pub baseline_images: usize,
    /// Number of timesteps per simulation, except in the evolution.
    pub timesteps: usize,
    /// Evolutions one after the other, each of what the one before found, on all held-out images; none
    /// for conversions alone. Seed, genome, timesteps and the first timestep that counts are replaced
    /// by those of each run.
    pub evolutions: Vec<EvolveSettings>,
    /// Number of test images, drawn at random once; all of them if there are fewer.
    pub test_images: usize,
    /// Attack, through the ANN, on the held-out and the test images; `None` for clean ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<Attack>,
}

show!(NeuronsSettings as fields);

impl Default for NeuronsSettings {
    fn default() -> Self {
        let genome = || vec![(Gene::Scale, [0.6, 1.6]), (Gene::Initial, [-0.5, 1.5])];
        let kind = |name: &str, spikes, from, timesteps| {
            let (name, genome) = (name.into(), genome());
            NeuronKind { name, spikes, from, timesteps, genome }
        };
        Self {
            seeds: vec![0, 1, 2],
            kinds: vec![
                kind("plain", Spikes::PLAIN, 12, 16),
                kind("signed", Spikes::SIGNED, 5, 7),
                kind("burst", Spikes::burst(2), 3, 5),
                kind("two_levels", Spikes::levels(2), 3, 4),
                kind("four_levels", Spikes::levels(4), 2, 3),
                kind("eight_levels", Spikes::levels(8), 1, 2),
            ],
            initial: 0.5,
            balance_images: 1000,
            percentiles: vec![99.9, 99.7, 99.5, 99.0],
            least_squares: vec![1.0, 1.5, 2.0],
            factors: [0.7, 1.2],
            factor_points: 5,
            baseline_images: 5000,
            timesteps: 16,
            evolutions: vec![rung(400, 12, 0.06), rung(1000, 2, 0.03)],
            test_images: 10_000,
            attack: None,
        }
    }
}

/// Settings of an evolution by CMA-ES on batches of images.
pub(super) fn rung(batch: usize, generations: usize, sigma: f64) -> EvolveSettings {
    EvolveSettings {
        search: Search::CmaEs(CmaEsSettings { population: Some(12), sigma }),
        objective: Objective::CrossEntropy { from: 1, price: 0.0 },
        generations,
        batch: Some(batch),
        ..EvolveSettings::default()
    }
}

impl NeuronsSettings {
    /// Settings of an evolution of one kind.
    pub(super) fn evolution(&self, rung: usize, kind: &NeuronKind, seed: u64) -> EvolveSettings {
        let (from, timesteps) = (kind.from, kind.timesteps);
        changed(&self.evolutions[rung], |settings| {
            (settings.seed, settings.timesteps) = (seed, timesteps);
            settings.genome.clone_from(&kind.genome);
            match &mut settings.objective {
                Objective::Divergence { from: own, .. }
                | Objective::CrossEntropy { from: own, .. } => *own = from,
                _ => (),
            }
        })
    }

    /// Whether every setting is in its range, which the experiment checks first.
    ///
    /// # Errors
    /// The first setting that is not.
    pub fn check(&self) -> Result<()> {
        each_once("seeds", &self.seeds)?;
        each_once("kinds", &self.kinds)?;
        each_once("percentiles", &self.percentiles)?;
        if !self.least_squares.is_empty() {
            each_once("least_squares", &self.least_squares)?;
        }
        for &multiple in &self.least_squares {
            let holds = (1.0..=1000.0).contains(&multiple);
            require(holds, "least_squares", multiple, "multiples from 1 to 1000")?;
        }
        if !self.evolutions.is_empty() {
            each_once("evolutions", &self.evolutions)?;
        }
        let images = [
            ("balance_images", self.balance_images),
            ("baseline_images", self.baseline_images),
            ("test_images", self.test_images),
        ];
        at_least(1, &images)?;
        at_least(2, &[("factor_points", self.factor_points)])?;
        some_timesteps("timesteps", self.timesteps)?;
        if let Some(attack) = &self.attack {
            attack.check()?;
        }
        let initial = self.initial;
        require(initial.is_finite(), "initial", initial, "finite sizes of a spike")?;
        for kind in &self.kinds {
            let (holds, most) = ((1..=self.timesteps).contains(&kind.from), self.timesteps);
            require(holds, "from", kind.from, format!("1..={most}, those of the test run"))?;
            for rung in 0..self.evolutions.len() {
                self.evolution(rung, kind, 0).check()?;
            }
        }
        Ok(())
    }
}
