//! Settings of an evolution.

use serde::{Deserialize, Serialize};

use super::de::DeSettings;
use super::fitness::{Evaluator, Objective, Stopping};
use super::genome::Gene;
use super::search::Search;
use crate::ann::Classifier;
use crate::base::{Result, require, show, some_timesteps};
use crate::data::{HeldOut, Images};
use crate::metrics::Target;
use crate::simulate::{InputCode, SimulateSettings, Snn};

show!(EvolveSettings as fields);

/// Settings of [`evolve`](crate::evolve::evolve).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvolveSettings {
    /// Optimiser and its settings.
    pub search: Search,
    /// Objective to minimise.
    pub objective: Objective,
    /// Genes to change and the range of their values, which includes the network as it is.
    pub genome: Vec<(Gene, [f64; 2])>,
    /// Number of generations after the initial population.
    pub generations: usize,
    /// Number of timesteps per simulation.
    pub timesteps: usize,
    /// Early stopping of the simulation of a network that cannot win.
    pub stopping: Stopping,
    /// Number of images per generation (batch): each generation uses the next images, through all
    /// of them in turn; none: all images. This avoids overfitting to the few images that fit the
    /// available time. Only for [`Search::CmaEs`], which compares only networks of the same
    /// generation; the result is its mean.
    pub batch: Option<usize>,
    /// Seed of the optimiser.
    pub seed: u64,
    /// Input coding of the images.
    // Left out of files if it is the default, as it was before this setting existed.
    #[serde(default, skip_serializing_if = "InputCode::is_direct")]
    pub code: InputCode,
}

impl Default for EvolveSettings {
    fn default() -> Self {
        Self {
            search: Search::De(DeSettings { population: 5, ..DeSettings::default() }),
            objective: Objective::Latency,
            genome: vec![(Gene::Scale, [0.25, 2.0])],
            generations: 10,
            timesteps: 64,
            stopping: Stopping::Certain,
            batch: None,
            seed: 0,
            code: InputCode::Direct,
        }
    }
}

impl EvolveSettings {
    /// Returns an error if a setting is out of range, before any work.
    pub(crate) fn check(&self) -> Result<()> {
        self.search.check()?;
        some_timesteps("timesteps", self.timesteps)?;
        super::genome::check(&self.genome)?;
        if let Some(batch) = self.batch {
            require(batch > 0, "batch", batch, "1 image or more")?;
            let holds = matches!(self.search, Search::CmaEs(_));
            let found = format!("one of {:?}", self.search);
            let expected = "Search::CmaEs; others compare generations with each other";
            require(holds, "batch", found, expected)?;
        }
        self.objective.check(self.timesteps)
    }

    /// Returns the number of images that a generation is measured on, out of `images`.
    pub(crate) fn batch_of(&self, images: usize) -> Result<usize> {
        let batch = self.batch.unwrap_or(images);
        let expected = format!("at most the {images} held-out images");
        require(batch <= images, "batch", batch, expected)?;
        Ok(batch)
    }

    pub(crate) fn run(&self) -> SimulateSettings {
        SimulateSettings { code: self.code, ..self.timesteps.into() }
    }

    pub(super) fn evaluator<'a, N: Classifier>(
        &self,
        snn: &'a Snn<N>,
        images: &'a Images<HeldOut, N::Task>,
        target: &'a Target,
    ) -> Result<Evaluator<'a>> {
        Evaluator::new(snn.network(), images, target, self.objective, self.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::table::fields;

    #[test]
    fn fields_have_the_names_that_a_caller_writes() {
        let settings = EvolveSettings::default();
        let table = fields("EvolveSettings", &settings).to_string();
        for row in ["timesteps", "search.De.population", "batch", "stopping"] {
            let found = table.lines().filter(|line| line.trim().starts_with(row));
            assert_eq!(found.count(), 1, "{row}: {table}");
        }
    }
}
