//! Settings of an evolution.

use serde::Deserialize;
use serde::Serialize;

use crate::ann::networks::Network;
use crate::base::check::some_timesteps;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::table::show;
use crate::data::images::HeldOut;
use crate::data::images::Images;
use crate::evolve::de::DeSettings;
use crate::evolve::fitness::Evaluator;
use crate::evolve::fitness::Objective;
use crate::evolve::fitness::Stopping;
use crate::evolve::genome::Gene;
use crate::evolve::search::Search;
use crate::metrics::Target;
use crate::simulate::codes::InputCode;
use crate::simulate::network::Snn;
use crate::simulate::settings::SimulateSettings;
show!(EvolveSettings as fields);

/// Settings of [`evolve`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvolveSettings {
    /// The optimiser.
    pub search: Search,
    /// What is made small.
    pub objective: Objective,
    /// What is changed, and the range of its values; holds the network as it is.
    pub genome: Vec<(Gene, [f64; 2])>,
    /// Number of generations after the initial population.
    pub generations: usize,
    /// Timesteps of each simulation.
    pub timesteps: usize,
    /// When the simulation of a network that cannot win stops early.
    pub stopping: Stopping,
    /// Images that a generation is measured on: the next so many of all, round and round; none:
    /// all of them. So evolution cannot fit the few images that it can afford. For
    /// [`Search::CmaEs`], which compares networks of one generation only, and ends at its mean.
    pub batch: Option<usize>,
    /// Seeds the optimiser.
    pub seed: u64,
    /// How images are given to the network.
    // Left out where it is the usual one: files of evolutions without a choice are still theirs.
    #[serde(default, skip_serializing_if = "InputCode::is_direct")]
    pub code: InputCode,
}

impl Default for EvolveSettings {
    fn default() -> Self {
        Self {
            search: Search::De(DeSettings {
                population: 5,
                ..DeSettings::default()
            }),
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
    /// Refuses settings out of range, so that nothing runs first.
    pub(crate) fn check(&self) -> Result<()> {
        self.search.check()?;
        some_timesteps("timesteps", self.timesteps)?;
        super::genome::check(&self.genome)?;
        match (self.batch, &self.search) {
            (None, _) | (Some(1..), Search::CmaEs(_)) => (),
            (Some(0), _) => return Err(Error::parameter("batch", 0, "1 image or more")),
            (Some(_), search) => {
                let expected = "Search::CmaEs; others compare generations with each other";
                return Err(Error::parameter(
                    "batch",
                    format!("one of {search:?}"),
                    expected,
                ));
            }
        }
        self.objective.check(self.timesteps)
    }

    /// How many of so many images a generation is measured on.
    pub(crate) fn batch_of(&self, images: usize) -> Result<usize> {
        let batch = self.batch.unwrap_or(images);
        if batch > images {
            let expected = format!("at most the {images} held-out images");
            return Err(Error::parameter("batch", batch, expected));
        }
        Ok(batch)
    }

    pub(crate) fn run(&self) -> SimulateSettings {
        SimulateSettings {
            code: self.code,
            ..self.timesteps.into()
        }
    }

    pub(super) fn evaluator<'a, N: Network>(
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
