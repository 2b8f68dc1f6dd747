//! How good a network is: objectives, and their measurement on held-out images.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::table::show;
use crate::data::images::{Images, Part};
use crate::data::tasks::Task;
use crate::evolve::optimise::Cost;
use crate::metrics::Target;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::neurons::Neurons;
use crate::simulate::settings::SimulateSettings;
use crate::simulate::simulator::{Simulation, Simulator};

/// What evolution makes small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// The latency, and between equal latencies how far the accuracy stayed below the target
    /// before it: the paper's. Latency alone would be a plateau of whole numbers, undefined where
    /// the target is never reached.
    #[default]
    Latency,
    /// Timesteps with an accuracy below the target, averaged over all targets from the ANN's
    /// accuracy to twice the margin below it. A latency is decided by the last images to turn
    /// right; this average counts all of them, so that on few images it is less a matter of luck.
    MeanLatency,
    /// Percentage of images that are wrong after a timestep.
    ErrorAt {
        /// From 1.
        timestep: usize,
    },
    /// Area between the ANN's accuracy and the curve: percentage points below it, summed over
    /// all timesteps.
    Area,
    /// The latency in timesteps, and `price` more for every energy of the ANN that is spent up to
    /// it ([`Energy::ratio`](crate::simulate::energy::Energy::ratio)).
    LatencyAndEnergy {
        /// Timesteps that an energy of the ANN is worth, 0 or more.
        price: f64,
    },
}

impl Objective {
    /// Refuses settings out of range, so that nothing runs first.
    pub(crate) fn check(self, timesteps: usize) -> Result<()> {
        match self {
            Self::ErrorAt { timestep } if !(1..=timesteps).contains(&timestep) => {
                let expected = format!("1..={timesteps}, those of the simulation");
                Err(Error::parameter("timestep", timestep, expected))
            }
            Self::LatencyAndEnergy { price } if !(price >= 0.0 && price.is_finite()) => {
                Err(Error::parameter("price", price, "0 or more timesteps"))
            }
            _ => Ok(()),
        }
    }

    /// What its cost is called in charts; none of [`Latency`](Self::Latency).
    pub(crate) fn label(self) -> String {
        match self {
            Self::Latency => "latency (timesteps)".into(),
            Self::MeanLatency => "mean latency (timesteps)".into(),
            Self::ErrorAt { timestep } => format!("error after timestep {timestep} (%)"),
            Self::Area => "area below the ANN's accuracy (points × timesteps)".into(),
            Self::LatencyAndEnergy { .. } => "latency and price of energy (timesteps)".into(),
        }
    }
}

/// How good a network is on some images; the smaller by its objective, the better.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Fitness {
    /// First timestep from which the accuracy stays at or above the target; one more than there
    /// are timesteps where it does not.
    pub latency: usize,
    /// Percentage points below the target, summed over the timesteps before the latency.
    pub deficit: f64,
    /// What the objective makes small, where that is not the latency itself; between equal ones the
    /// latency decides.
    pub cost: Option<f64>,
}

show!(Fitness as fields);

impl Fitness {
    /// Worse than any network's: that of one that was not measured to the end.
    pub(crate) const WORST: Self = Self {
        latency: usize::MAX,
        deficit: f64::INFINITY,
        cost: Some(f64::INFINITY),
    };

    /// None where the network was stopped early.
    pub(crate) fn measured(self) -> Option<Self> {
        (self.latency != Self::WORST.latency).then_some(self)
    }

    /// What charts show.
    pub(crate) fn value(&self) -> f64 {
        self.cost.unwrap_or(self.latency as f64)
    }

    /// The first number decides, the second between equals.
    fn order(&self) -> [f64; 2] {
        match self.cost {
            None => [self.latency as f64, self.deficit],
            Some(cost) => [cost, self.latency as f64],
        }
    }
}

impl PartialEq for Fitness {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl PartialOrd for Fitness {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.order().partial_cmp(&other.order())
    }
}

impl Cost for Fitness {}

/// When the simulation of a network that cannot win stops before the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Stopping {
    /// Never: every network runs on all images for all timesteps.
    Never,
    /// When it is certain that it cannot win: after as many timesteps as its rival's latency (of
    /// [`Objective::Latency`]) or cost (of [`Objective::MeanLatency`]), on all images. Other
    /// objectives know no such timestep. The same network is found as with `Never`.
    #[default]
    Certain,
}

/// Measures networks on images.
pub(crate) struct Evaluator<'a> {
    network: &'a SpikingNetwork,
    simulator: Simulator<'a>,
    target: &'a Target,
    objective: Objective,
    timesteps: usize,
}

impl<'a> Evaluator<'a> {
    /// On whatever part of the data; evolution itself only has held-out images.
    pub fn new<P: Part, K: Task>(
        network: &'a SpikingNetwork,
        images: &'a Images<P, K>,
        target: &'a Target,
        objective: Objective,
        run: SimulateSettings,
    ) -> Result<Self> {
        let timesteps = run.timesteps;
        objective.check(timesteps)?;
        target.check_on(images.len())?;
        if objective == Objective::MeanLatency && target.margin() == 0.0 {
            let expected = "a target below the ANN's accuracy, to average down to twice as far";
            return Err(Error::parameter("target", "a margin of 0", expected));
        }
        Ok(Self {
            simulator: network.simulator(images, run.code)?,
            network,
            target,
            objective,
            timesteps,
        })
    }

    /// Of a timestep, the share of targets from the ANN's accuracy to twice the margin below it
    /// that the accuracy does not reach.
    fn below(&self, points_below_ann: f64) -> f64 {
        let points = 2.0 * self.target.margin();
        points_below_ann.clamp(0.0, points) / points
    }

    fn of(&self, run: &Simulation) -> Result<Fitness> {
        let (latency, deficit) = run.curve.shortfall(self.target);
        let ann = self.target.ann().percent();
        let below = run.curve.iter().map(|accuracy| ann - accuracy.percent());
        let cost = match self.objective {
            Objective::Latency => None,
            Objective::MeanLatency => Some(below.map(|points| self.below(points)).sum()),
            Objective::ErrorAt { timestep } => {
                let accuracy = run.curve.iter().nth(timestep - 1);
                accuracy.map(|accuracy| 100.0 - accuracy.percent())
            }
            Objective::Area => Some(below.sum()),
            Objective::LatencyAndEnergy { price } => {
                let spent = latency.min(run.curve.timesteps());
                let energy = self.network.energy(run, spent)?.ratio();
                Some(latency as f64 + price * energy)
            }
        };
        Ok(Fitness {
            latency,
            deficit,
            cost,
        })
    }

    /// Latency, percentage of images that are wrong in the end, and energy up to the latency over
    /// the ANN's.
    pub fn compromise(&self, neurons: &[Neurons]) -> Result<(usize, f64, f64)> {
        let run = self.simulator.run(neurons, self.timesteps)?;
        let (latency, _) = run.curve.shortfall(self.target);
        let last = run.curve.iter().last();
        let error = last.map_or(100.0, |accuracy| 100.0 - accuracy.percent());
        let energy = self.network.energy(&run, latency.min(self.timesteps))?;
        Ok((latency, error, energy.ratio()))
    }

    pub fn fitness(&self, neurons: &[Neurons]) -> Result<Fitness> {
        self.of(&self.simulator.run(neurons, self.timesteps)?)
    }

    /// The fitness, or [`Fitness::WORST`] of a network that was stopped since it cannot win against
    /// `rival`.
    pub fn against(
        &self,
        neurons: &[Neurons],
        rival: Option<Fitness>,
        stopping: Stopping,
    ) -> Result<Fitness> {
        match (stopping, rival) {
            (Stopping::Never, _) | (_, None) => self.fitness(neurons),
            (Stopping::Certain, Some(rival)) => {
                let first = match self.objective {
                    Objective::Latency => rival.latency,
                    // Fewer timesteps never cost more.
                    Objective::MeanLatency => rival.value() as usize + 1,
                    _ => return self.fitness(neurons),
                };
                if first < self.timesteps {
                    let run = self.simulator.run(neurons, first)?;
                    if self.of(&run)? > rival {
                        return Ok(Fitness::WORST);
                    }
                }
                self.fitness(neurons)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_say_what_counts() {
        let of = |latency, deficit, cost| Fitness {
            latency,
            deficit,
            cost,
        };
        let by_cost = |latency, cost| of(latency, 0.0, Some(cost));
        assert!(by_cost(9, 10.0) < by_cost(3, 11.0));
        assert!(by_cost(3, 10.0) < by_cost(9, 10.0));
        assert!(by_cost(9, 1e9) < Fitness::WORST);
        let fitness = |latency, deficit| of(latency, deficit, None);
        assert!(fitness(3, 50.0) < fitness(4, 1.0));
        assert!(fitness(4, 1.0) < fitness(4, 2.0));
        assert!(fitness(65, 900.0) < Fitness::WORST);
        assert!(Fitness::WORST.measured().is_none());
        assert!(fitness(65, 900.0).measured().is_some());
    }
}
