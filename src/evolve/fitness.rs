//! Fitness of a network: objectives, and their measurement on held-out images.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::optimise::Cost;
use crate::base::{Result, require, show};
use crate::data::{Images, Part, Task};
use crate::metrics::Target;
use crate::simulate::{Neurons, SimulateSettings, Simulation, Simulator, SpikingNetwork};

/// Objective to minimise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// Latency, and between equal latencies the deficit: percentage points below the target, summed
    /// over the timesteps before it. This is the objective of the paper. The latency alone is an
    /// integer with many equal values, undefined if the target is never reached.
    #[default]
    Latency,
    /// Mean latency: number of timesteps with an accuracy below the target, averaged over all
    /// targets from the ANN's accuracy to twice the margin below it. A latency depends on the last
    /// images to become correct; this average depends on all images, so it is less noisy on few
    /// images.
    MeanLatency,
    /// Percentage of images that are wrong after a timestep.
    ErrorAt {
        /// Timestep, from 1.
        timestep: usize,
    },
    /// Area between the ANN's accuracy and the accuracy curve: percentage points below the ANN,
    /// summed over all timesteps.
    Area,
    /// Divergence from the ANN: Kullback-Leibler divergence of the softmax of the mean output from the
    /// softmax of the ANN's logits, in nats, averaged over all images and the timesteps `from` to the
    /// last, plus `price` times the energy of all timesteps divided by the ANN's. It needs no labels
    /// and ranks networks on a few dozen images as the accuracy does on hundreds.
    Divergence {
        /// First timestep that counts, from 1.
        from: usize,
        /// Price of the ANN's energy in nats, 0 or more.
        price: f64,
    },
    /// Cross-entropy of the softmax of the mean output with the labels, with the same averages and
    /// price as [`Divergence`](Self::Divergence). It goes on telling good networks apart where the
    /// divergence no longer does, but needs more images.
    CrossEntropy {
        /// First timestep that counts, from 1.
        from: usize,
        /// Price of the ANN's energy in nats, 0 or more.
        price: f64,
    },
    /// Latency in timesteps, plus `price` times the energy up to it divided by the ANN's energy
    /// ([`Energy::ratio`](crate::simulate::energy::Energy::ratio)).
    LatencyAndEnergy {
        /// Price of the ANN's energy in timesteps, 0 or more.
        price: f64,
    },
}

impl Objective {
    /// Returns an error if a setting is out of range, before any work.
    pub(crate) fn check(self, timesteps: usize) -> Result<()> {
        let within = |name, timestep| {
            let expected = format!("1..={timesteps}, those of the simulation");
            require((1..=timesteps).contains(&timestep), name, timestep, expected)
        };
        let priced = |price: f64, unit: &str| {
            let expected = format!("0 or more {unit}");
            require(price >= 0.0 && price.is_finite(), "price", price, expected)
        };
        match self {
            Self::ErrorAt { timestep } => within("timestep", timestep),
            Self::Divergence { from, price } | Self::CrossEntropy { from, price } => {
                within("from", from)?;
                priced(price, "nats")
            }
            Self::LatencyAndEnergy { price } => priced(price, "timesteps"),
            _ => Ok(()),
        }
    }

    /// Returns the axis label of the objective in charts.
    pub(crate) fn label(self) -> String {
        match self {
            Self::Latency => "latency (timesteps)".into(),
            Self::MeanLatency => "mean latency (timesteps)".into(),
            Self::ErrorAt { timestep } => format!("error after timestep {timestep} (%)"),
            Self::Area => "area below the ANN's accuracy (points × timesteps)".into(),
            Self::LatencyAndEnergy { .. } => "latency and price of energy (timesteps)".into(),
            Self::Divergence { .. } => "divergence from the ANN (nats)".into(),
            Self::CrossEntropy { .. } => "cross-entropy (nats)".into(),
        }
    }
}

/// Fitness of a network on some images, ordered by its objective; smaller is better.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Fitness {
    /// First timestep from which the accuracy stays at or above the target; the number of timesteps
    /// + 1 if there is none.
    pub latency: usize,
    /// Deficit: percentage points below the target, summed over the timesteps before the latency.
    pub deficit: f64,
    /// Value of the objective, if it is not the latency itself; between equal values the latency
    /// decides.
    pub cost: Option<f64>,
}

show!(Fitness as fields);

impl Fitness {
    /// Fitness worse than that of any network, for one that was not measured to the end.
    pub(crate) const WORST: Self =
        Self { latency: usize::MAX, deficit: f64::INFINITY, cost: Some(f64::INFINITY) };

    /// Returns the fitness; none if the network was stopped early.
    pub(crate) fn measured(self) -> Option<Self> {
        (self.latency != Self::WORST.latency).then_some(self)
    }

    /// Returns the value shown in charts.
    pub(crate) fn value(&self) -> f64 {
        self.cost.unwrap_or(self.latency as f64)
    }

    /// Returns the sort key: the first number decides, the second between equals.
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

/// Early stopping of the simulation of a network that cannot win.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Stopping {
    /// Never: every network runs on all images for all timesteps.
    Never,
    /// When it is certain that it cannot win: after as many timesteps as its rival's latency (with
    /// [`Objective::Latency`]) or cost (with [`Objective::MeanLatency`]), on all images. Other
    /// objectives have no such timestep. The result is the same as with `Never`.
    #[default]
    Certain,
}

/// Evaluator of networks on images.
pub(crate) struct Evaluator<'a> {
    network: &'a SpikingNetwork,
    simulator: Simulator<'a>,
    target: &'a Target,
    objective: Objective,
    timesteps: usize,
    /// The ANN's logits of every image, where the objective needs them.
    logits: Vec<f32>,
}

impl<'a> Evaluator<'a> {
    /// Creates an evaluator on any part of the data; evolution itself only has held-out images.
    pub fn new<P: Part, K: Task>(
        network: &'a SpikingNetwork,
        images: &'a Images<P, K>,
        target: &'a Target,
        objective: Objective,
        run: SimulateSettings,
    ) -> Result<Self> {
        let timesteps = run.timesteps;
        objective.check(timesteps)?;
        target.check_on(images.len(), images.view().which())?;
        let holds = objective != Objective::MeanLatency || target.margin() != 0.0;
        let expected = "a target below the ANN's accuracy, to average down to twice as far";
        require(holds, "target", "a margin of 0", expected)?;
        let mut simulator = network.simulator(images, run.code)?;
        let diverges = matches!(objective, Objective::Divergence { .. });
        simulator.outputs = diverges || matches!(objective, Objective::CrossEntropy { .. });
        Ok(Self {
            logits: if diverges { simulator.logits() } else { Vec::new() },
            simulator,
            network,
            target,
            objective,
            timesteps,
        })
    }

    /// Returns the share of targets, from the ANN's accuracy to twice the margin below it, that an
    /// accuracy this far below the ANN does not reach.
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
            Objective::Divergence { from, price } => {
                let divergence = run.outputs()?.divergence(&self.logits, self.timesteps, from);
                Some(divergence + self.priced(run, price)?)
            }
            Objective::CrossEntropy { from, price } => {
                let label = |image| self.simulator.label(image);
                let entropy = run.outputs()?.cross_entropy(label, self.timesteps, from);
                Some(entropy + self.priced(run, price)?)
            }
            Objective::LatencyAndEnergy { price } => {
                let spent = latency.min(run.curve.timesteps());
                let energy = self.network.energy(run, spent)?.ratio();
                Some(latency as f64 + price * energy)
            }
        };
        Ok(Fitness { latency, deficit, cost })
    }

    /// Price of the energy of a whole run.
    fn priced(&self, run: &Simulation, price: f64) -> Result<f64> {
        match price {
            0.0 => Ok(0.0),
            price => Ok(price * self.network.energy(run, self.timesteps)?.ratio()),
        }
    }

    /// Measures the latency, the percentage of images that are wrong after the last timestep, and
    /// the energy up to the latency divided by the ANN's.
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

    /// Measures the fitness; returns [`Fitness::WORST`] for a network that was stopped because it
    /// cannot win against `rival`.
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
        let of = |latency, deficit, cost| Fitness { latency, deficit, cost };
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
