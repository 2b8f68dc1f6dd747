//! Neuroevolution: differential evolution tunes the thresholds of a converted network, with the
//! simulated spiking network's own latency and accuracy as its feedback (Lu and Sengupta 2022).
//!
//! [`evolve`] puts an optimiser, [`DifferentialEvolution`], to work on held-out images.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::convert::{Balance, Conversion, Snn, scale};
use crate::data::{HeldOut, Images, Task};
use crate::de::{DeSettings, DifferentialEvolution};
use crate::error::{Error, Result};
use crate::layers::Stages;
use crate::metrics::Target;
use crate::networks::Network;
use crate::neurons::Neurons;
use crate::plot;
use crate::progress::Progress;
use crate::report::show;
use crate::search::{Cost, Optimise};
use crate::simulate::Simulator;

/// What evolution makes small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// How good a network is on some images; the smaller by its objective, the better.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Fitness {
    /// First timestep from which the accuracy stays at or above the target; one more than there
    /// are timesteps where it does not.
    pub latency: usize,
    /// Percentage points below the target, summed over the timesteps before the latency.
    pub deficit: f64,
    /// Of [`Objective::MeanLatency`], in timesteps; none of other objectives.
    pub mean_latency: Option<f64>,
}

impl Fitness {
    /// Worse than any network's.
    const WORST: Self = Self {
        latency: usize::MAX,
        deficit: f64::INFINITY,
        mean_latency: None,
    };

    /// The first number decides, the second between equals.
    fn order(&self) -> [f64; 2] {
        match self.mean_latency {
            None => [self.latency as f64, self.deficit],
            Some(mean) => [mean, self.latency as f64],
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

/// Measures networks on held-out images.
struct Judge<'a> {
    simulator: Simulator<'a>,
    target: &'a Target,
    objective: Objective,
    timesteps: usize,
}

impl<'a> Judge<'a> {
    fn new<K: Task>(
        stages: &'a Stages,
        images: &'a Images<HeldOut, K>,
        target: &'a Target,
        settings: &EvolveSettings,
    ) -> Result<Self> {
        settings.check()?;
        if target.ann().images != images.len() {
            return Err(Error::parameter(
                "target",
                format!("one made on {} images", target.ann().images),
                format!("the ANN's on these {} held-out images", images.len()),
            ));
        }
        if settings.objective == Objective::MeanLatency && target.margin() == 0.0 {
            let expected = "a target below the ANN's accuracy, to average down to twice as far";
            return Err(Error::parameter("target", "a margin of 0", expected));
        }
        Ok(Self {
            simulator: Simulator::new(stages, images.view())?,
            target,
            objective: settings.objective,
            timesteps: settings.timesteps,
        })
    }

    fn fitness(&self, neurons: &[Neurons]) -> Result<Fitness> {
        self.after(neurons, self.timesteps)
    }

    /// The fitness after fewer timesteps: never worse than after all of them.
    fn after(&self, neurons: &[Neurons], timesteps: usize) -> Result<Fitness> {
        let run = self.simulator.run(neurons, timesteps)?;
        let (latency, deficit) = run.curve.shortfall(self.target);
        let mean_latency = match self.objective {
            Objective::Latency => None,
            Objective::MeanLatency => {
                let (ann, points) = (self.target.ann().percent(), 2.0 * self.target.margin());
                let below = run.curve.iter().map(|accuracy| ann - accuracy.percent());
                Some(below.map(|below| below.clamp(0.0, points) / points).sum())
            }
        };
        Ok(Fitness {
            latency,
            deficit,
            mean_latency,
        })
    }

    /// The fitness, or [`Fitness::WORST`] of a network that is seen to be worse than `parent`
    /// after as many timesteps as the parent's latency or mean latency.
    fn against(&self, neurons: &[Neurons], parent: Fitness) -> Result<Fitness> {
        let first = match parent.mean_latency {
            None => parent.latency,
            Some(mean) => mean as usize + 1,
        };
        if first < self.timesteps && self.after(neurons, first)? > parent {
            return Ok(Fitness::WORST);
        }
        self.fitness(neurons)
    }
}

/// Settings of [`evolve`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvolveSettings {
    /// The optimiser's settings.
    pub optimiser: DeSettings,
    /// What is made small.
    pub objective: Objective,
    /// Range of the factor on each layer's threshold; holds 1, the network as it was converted.
    pub scales: [f64; 2],
    /// Generations after the initial population.
    pub generations: usize,
    /// Timesteps of each simulation.
    pub timesteps: usize,
    /// Whether the simulation of a network that can no longer be as good as its parent stops early.
    /// The same networks win either way.
    pub stop_early: bool,
    /// Seeds the optimiser.
    pub seed: u64,
}

impl Default for EvolveSettings {
    fn default() -> Self {
        Self {
            optimiser: DeSettings {
                population: 5,
                ..DeSettings::default()
            },
            objective: Objective::Latency,
            scales: [0.25, 2.0],
            generations: 10,
            timesteps: 64,
            stop_early: true,
            seed: 0,
        }
    }
}

impl EvolveSettings {
    /// Refuses settings out of range, so that nothing runs first.
    pub(crate) fn check(&self) -> Result<()> {
        self.optimiser.check()?;
        if self.timesteps == 0 {
            return Err(Error::parameter("timesteps", 0, "1 or more"));
        }
        let [low, high] = self.scales;
        if !(0.0 < low && low <= 1.0 && 1.0 <= high && low < high && high.is_finite()) {
            let found = format!("{:?}", self.scales);
            return Err(Error::parameter(
                "scales",
                found,
                "0 < first <= 1 <= second, not both 1",
            ));
        }
        Ok(())
    }
}

/// The state of an evolution after one generation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// 0 is the initial population.
    pub generation: usize,
    /// Networks simulated so far.
    pub evaluations: usize,
    /// The best member.
    pub best: Fitness,
    /// The median member.
    pub median: Fitness,
}

/// What [`evolve`] found.
pub struct Evolution<N: Network> {
    /// The best network.
    pub snn: Snn<N>,
    /// The factor on each layer's threshold.
    pub scales: Vec<f64>,
    /// How good it is on the held-out images.
    pub fitness: Fitness,
    /// How it went.
    pub generations: Vec<Generation>,
}

impl<N: Network> Evolution<N> {
    fn chart(&self) -> Result<plot::Chart> {
        plot::convergence("Evolution on held-out images", &self.generations)
    }
}

show!(impl [N: Network] Evolution<N> as chart);

/// Evolves a factor on each layer's threshold towards a lower latency on held-out images.
///
/// # Errors
/// No image, or settings out of range.
pub fn evolve<N: Network>(
    snn: &Snn<N>,
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    settings: &EvolveSettings,
) -> Result<Evolution<N>> {
    let layers = snn.neurons().len();
    let judge = Judge::new(&snn.network.stages, images, target, settings)?;
    let mut de: DifferentialEvolution<Fitness> = DifferentialEvolution::new(
        &vec![settings.scales; layers],
        Some(&vec![1.0; layers]),
        settings.optimiser.clone(),
        settings.seed,
    )?;
    let mut generations = Vec::with_capacity(settings.generations + 1);
    let mut evaluations = 0;
    let mut progress = Progress::new(format!("evolve {}", N::NAME), settings.generations + 1);
    for generation in 0..=settings.generations {
        let points = de.ask();
        evaluations += points.len();
        let fitness = points.iter().enumerate().map(|(i, scales)| {
            let neurons = scale(snn.neurons(), scales);
            match de.fitness().get(i) {
                Some(&parent) if settings.stop_early => judge.against(&neurons, parent),
                _ => judge.fitness(&neurons),
            }
        });
        let fitness = fitness.collect::<Result<_>>()?;
        de.tell(fitness)?;
        let mut sorted = de.fitness().to_vec();
        sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        let state = Generation {
            generation,
            evaluations,
            best: sorted[0],
            median: sorted[(sorted.len() - 1) / 2],
        };
        generations.push(state);
        progress.step(|| summary(&state));
    }
    progress.finish(|| generations.last().map_or_else(String::new, summary));
    let Some((scales, fitness)) = de.best() else {
        unreachable!("at least one generation was told");
    };
    Ok(Evolution {
        snn: snn.scaled(&scales)?,
        scales,
        fitness,
        generations,
    })
}

fn summary(state: &Generation) -> String {
    let Fitness {
        latency,
        mean_latency,
        ..
    } = state.best;
    let mean = mean_latency.map_or_else(String::new, |mean| format!(", mean {mean:.2}"));
    format!("best latency {latency} timesteps{mean}")
}

/// The conversion of the lowest latency on held-out images, and of those the one of the least
/// deficit before it: the baseline that an evolution starts from and is compared with.
///
/// # Errors
/// No balance gives thresholds above 0, no image, or settings out of range.
pub fn best_balance<N: Network>(
    conversion: &Conversion<N>,
    balances: &[Balance],
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    settings: &EvolveSettings,
) -> Result<(Balance, Snn<N>)> {
    let settings = EvolveSettings {
        objective: Objective::Latency,
        ..settings.clone()
    };
    let judge = Judge::new(conversion.stages(), images, target, &settings)?;
    let mut best: Option<(Fitness, Balance, Snn<N>)> = None;
    for &balance in balances {
        let snn = match conversion.balance(balance) {
            // So low a percentile that a sparse layer's threshold is 0 is no candidate.
            Err(Error::Layer { .. }) => continue,
            snn => snn?,
        };
        let fitness = judge.fitness(snn.neurons())?;
        if best.as_ref().is_none_or(|(least, ..)| fitness < *least) {
            best = Some((fitness, balance, snn));
        }
    }
    let (_, balance, snn) = best.ok_or_else(|| {
        Error::parameter(
            "balances",
            format!("{balances:?}"),
            "one with thresholds above 0",
        )
    })?;
    Ok((balance, snn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_say_what_counts() {
        let of = |latency, deficit, mean_latency| Fitness {
            latency,
            deficit,
            mean_latency,
        };
        let by_mean = |latency, mean| of(latency, 0.0, Some(mean));
        assert!(by_mean(9, 10.0) < by_mean(3, 11.0));
        assert!(by_mean(3, 10.0) < by_mean(9, 10.0));
        assert!(by_mean(9, 1e9) < Fitness::WORST);
        let fitness = |latency, deficit| of(latency, deficit, None);
        assert!(fitness(3, 50.0) < fitness(4, 1.0));
        assert!(fitness(4, 1.0) < fitness(4, 2.0));
        assert!(fitness(65, 900.0) < Fitness::WORST);
    }
}
