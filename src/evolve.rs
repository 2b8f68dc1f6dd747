//! Neuroevolution: differential evolution tunes the thresholds of a converted network, with the
//! simulated spiking network's own latency and accuracy as its feedback (Lu and Sengupta 2022).
//!
//! [`DifferentialEvolution`] is the optimiser alone, in ask and tell form. [`evolve`] puts it to
//! work on held-out images.

use std::cmp::Ordering;

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::convert::{Balance, Conversion, Snn, scale};
use crate::data::{HeldOut, Images, Task};
use crate::error::{Error, Result};
use crate::layers::Stages;
use crate::metrics::Target;
use crate::networks::Network;
use crate::neurons::Neurons;
use crate::plot;
use crate::progress::Progress;
use crate::random::{Rng, Stream, rng};
use crate::report::show;
use crate::simulate::Simulator;

/// What a mutant is made of, in the notation of Storn and Price (1997) and SciPy. F is the
/// mutation factor, r are members drawn without repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    /// best + F (r0 - r1)
    Best1,
    /// r0 + F (r1 - r2)
    Rand1,
    /// r0 + F (best - r0 + r1 - r2)
    RandToBest1,
    /// parent + F (best - parent + r0 - r1)
    CurrentToBest1,
    /// best + F (r0 + r1 - r2 - r3)
    Best2,
    /// r0 + F (r1 + r2 - r3 - r4)
    Rand2,
}

impl Mutation {
    fn members(self) -> usize {
        match self {
            Self::Best1 | Self::CurrentToBest1 => 2,
            Self::Rand1 | Self::RandToBest1 => 3,
            Self::Best2 => 4,
            Self::Rand2 => 5,
        }
    }
}

/// Which genes of the mutant a trial takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Crossover {
    /// Each with the probability `recombination`, and one at least.
    Binomial,
    /// A run of neighbours, its length geometric in `recombination`.
    Exponential,
}

/// Settings of [`DifferentialEvolution`]; names and defaults are those of SciPy's
/// `differential_evolution` with deferred updating.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeSettings {
    /// Makes the mutant.
    pub mutation: Mutation,
    /// Mixes it with its parent.
    pub crossover: Crossover,
    /// F is drawn from this range anew each generation (dithering); 0..2, the first below the second
    /// or equal.
    pub factor: [f64; 2],
    /// Probability CR that a gene comes from the mutant, 0..=1.
    pub recombination: f64,
    /// Members of the population for each gene; 5 members at least.
    pub population: usize,
}

impl Default for DeSettings {
    fn default() -> Self {
        Self {
            mutation: Mutation::Best1,
            crossover: Crossover::Binomial,
            factor: [0.5, 1.0],
            recombination: 0.7,
            population: 15,
        }
    }
}

impl DeSettings {
    fn check(&self) -> Result<()> {
        let [low, high] = self.factor;
        if !(0.0 <= low && low <= high && high < 2.0) {
            let found = format!("{:?}", self.factor);
            return Err(Error::parameter(
                "factor",
                found,
                "0 <= first <= second < 2",
            ));
        }
        if !(0.0..=1.0).contains(&self.recombination) {
            let found = self.recombination;
            return Err(Error::parameter("recombination", found, "0 to 1"));
        }
        if self.population == 0 {
            return Err(Error::parameter("population", 0, "1 or more"));
        }
        Ok(())
    }
}

/// Differential evolution (Storn and Price 1997), minimising any ordered fitness.
///
/// [`ask`](Self::ask) gives the points to measure, [`tell`](Self::tell) takes their fitness. The
/// first ones are the initial population, a Latin hypercube; a trial replaces its parent if it is
/// no worse. A fitness that cannot be compared, such as NaN, is never better.
///
/// ```
/// use evospike::evolve::{DeSettings, DifferentialEvolution};
///
/// let mut de = DifferentialEvolution::new(&[[-5.0, 4.0]; 2], None, DeSettings::default(), 0)?;
/// for _ in 0..60 {
///     let points = de.ask();
///     let sphere = points.iter().map(|x| x[0] * x[0] + x[1] * x[1]).collect();
///     de.tell(sphere)?;
/// }
/// assert!(de.best().unwrap().1 < 1e-8);
/// # Ok::<(), evospike::Error>(())
/// ```
pub struct DifferentialEvolution<F> {
    settings: DeSettings,
    bounds: Vec<[f64; 2]>,
    rng: Rng,
    /// In units of the bounds. The best member is the first.
    population: Vec<Vec<f64>>,
    fitness: Vec<F>,
    trials: Vec<Vec<f64>>,
}

impl<F: PartialOrd + Copy> DifferentialEvolution<F> {
    /// Starts in the box `bounds`; `x0`, where given, is a member of the initial population.
    ///
    /// # Errors
    /// Settings, bounds or `x0` out of range.
    pub fn new(
        bounds: &[[f64; 2]],
        x0: Option<&[f64]>,
        settings: DeSettings,
        seed: u64,
    ) -> Result<Self> {
        settings.check()?;
        let ordered = |[low, high]: &[f64; 2]| low < high && (high - low).is_finite();
        if bounds.is_empty() || !bounds.iter().all(ordered) {
            let found = format!("{bounds:?}");
            return Err(Error::parameter(
                "bounds",
                found,
                "at least one pair, low < high",
            ));
        }
        let members = (settings.population * bounds.len()).max(settings.mutation.members() + 1);
        let mut de = Self {
            rng: rng(seed, Stream::Evolution),
            population: Vec::new(),
            fitness: Vec::new(),
            trials: Vec::new(),
            bounds: bounds.to_vec(),
            settings,
        };
        de.trials = de.latin_hypercube(members.max(5));
        if let Some(x0) = x0 {
            let inside = |(x, [low, high]): (&f64, &[f64; 2])| (low..=high).contains(&x);
            if x0.len() != bounds.len() || !x0.iter().zip(bounds).all(inside) {
                let expected = format!("a point in {bounds:?}");
                return Err(Error::parameter("x0", format!("{x0:?}"), expected));
            }
            let unit = x0.iter().zip(bounds);
            de.trials[0] = unit
                .map(|(x, [low, high])| (x - low) / (high - low))
                .collect();
        }
        Ok(de)
    }

    /// One point in each of `members` slices of every axis (McKay et al. 1979).
    fn latin_hypercube(&mut self, members: usize) -> Vec<Vec<f64>> {
        let mut points = vec![vec![0.0; self.bounds.len()]; members];
        let mut slices: Vec<usize> = (0..members).collect();
        for axis in 0..self.bounds.len() {
            slices.shuffle(&mut self.rng);
            for (point, &slice) in points.iter_mut().zip(&slices) {
                point[axis] = (slice as f64 + self.rng.random::<f64>()) / members as f64;
            }
        }
        points
    }

    /// The points whose fitness [`tell`](Self::tell) takes next; asking twice gives the same.
    pub fn ask(&self) -> Vec<Vec<f64>> {
        self.trials
            .iter()
            .map(|trial| self.in_bounds(trial))
            .collect()
    }

    fn in_bounds(&self, unit: &[f64]) -> Vec<f64> {
        let axes = unit.iter().zip(&self.bounds);
        axes.map(|(x, [low, high])| low + x * (high - low))
            .collect()
    }

    /// Takes the fitness of the points asked for, in their order, and makes the next trials.
    ///
    /// # Errors
    /// Not one fitness a point; nothing is changed then.
    pub fn tell(&mut self, fitness: Vec<F>) -> Result<()> {
        if fitness.len() != self.trials.len() {
            return Err(Error::parameter(
                "fitness",
                format!("{} values", fitness.len()),
                format!("{}, one a point asked for", self.trials.len()),
            ));
        }
        if self.fitness.is_empty() {
            self.population = std::mem::take(&mut self.trials);
            self.fitness = fitness;
        } else {
            let trials = std::mem::take(&mut self.trials);
            for (i, (trial, new)) in trials.into_iter().zip(fitness).enumerate() {
                if new <= self.fitness[i] {
                    self.population[i] = trial;
                    self.fitness[i] = new;
                }
            }
        }
        let best = (1..self.fitness.len()).fold(0, |best, i| {
            match self.fitness[i].partial_cmp(&self.fitness[best]) {
                Some(Ordering::Less) => i,
                // What compares to nothing, not even itself, gives way to what does.
                None if self.fitness[i].partial_cmp(&self.fitness[i]).is_some() => i,
                _ => best,
            }
        });
        self.population.swap(0, best);
        self.fitness.swap(0, best);
        let [low, high] = self.settings.factor;
        let factor = low + (high - low) * self.rng.random::<f64>();
        self.trials = (0..self.population.len())
            .map(|parent| self.trial(parent, factor))
            .collect();
        Ok(())
    }

    fn trial(&mut self, parent: usize, factor: f64) -> Vec<f64> {
        let genes = self.bounds.len();
        let mut others: Vec<usize> = (0..self.population.len())
            .filter(|&i| i != parent)
            .collect();
        let (drawn, _) = others.partial_shuffle(&mut self.rng, self.settings.mutation.members());
        let member = |i: usize, gene: usize| self.population[drawn[i]][gene];
        let mutant = |gene: usize| {
            let (best, own) = (self.population[0][gene], self.population[parent][gene]);
            let r = |i| member(i, gene);
            match self.settings.mutation {
                Mutation::Best1 => best + factor * (r(0) - r(1)),
                Mutation::Rand1 => r(0) + factor * (r(1) - r(2)),
                Mutation::RandToBest1 => r(0) + factor * (best - r(0) + r(1) - r(2)),
                Mutation::CurrentToBest1 => own + factor * (best - own + r(0) - r(1)),
                Mutation::Best2 => best + factor * (r(0) + r(1) - r(2) - r(3)),
                Mutation::Rand2 => r(0) + factor * (r(1) + r(2) - r(3) - r(4)),
            }
        };
        let first = self.rng.random_range(0..genes);
        let mut taken = vec![false; genes];
        match self.settings.crossover {
            Crossover::Binomial => {
                for taken in &mut taken {
                    *taken = self.rng.random::<f64>() < self.settings.recombination;
                }
                taken[first] = true;
            }
            Crossover::Exponential => {
                for step in 0..genes {
                    if step > 0 && self.rng.random::<f64>() >= self.settings.recombination {
                        break;
                    }
                    taken[(first + step) % genes] = true;
                }
            }
        }
        let mut trial = self.population[parent].clone();
        for gene in (0..genes).filter(|&gene| taken[gene]) {
            trial[gene] = mutant(gene);
        }
        for gene in &mut trial {
            if !(0.0..=1.0).contains(gene) {
                *gene = self.rng.random(); // back into the box, as SciPy does
            }
        }
        trial
    }

    /// The best point so far and its fitness; none before the first [`tell`](Self::tell).
    pub fn best(&self) -> Option<(Vec<f64>, F)> {
        Some((self.in_bounds(self.population.first()?), self.fitness[0]))
    }

    /// Fitness of every member of the population, the best first: after the first
    /// [`tell`](Self::tell), the point at each place of [`ask`](Self::ask) competes with the member
    /// at the same place.
    pub fn fitness(&self) -> &[F] {
        &self.fitness
    }
}

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

    fn run(settings: DeSettings, seed: u64, f: impl Fn(&[f64]) -> f64) -> (Vec<f64>, f64) {
        let mut de = DifferentialEvolution::new(&[[-5.0, 4.0]; 3], None, settings, seed).unwrap();
        for _ in 0..150 {
            let fitness = de.ask().iter().map(|x| f(x)).collect();
            de.tell(fitness).unwrap();
        }
        de.best().unwrap()
    }

    fn sphere(x: &[f64]) -> f64 {
        x.iter().map(|x| (x - 1.0) * (x - 1.0)).sum()
    }

    #[test]
    fn every_strategy_finds_the_minimum() {
        use Mutation::*;
        for mutation in [Best1, Rand1, RandToBest1, CurrentToBest1, Best2, Rand2] {
            for crossover in [Crossover::Binomial, Crossover::Exponential] {
                let settings = DeSettings {
                    mutation,
                    crossover,
                    ..DeSettings::default()
                };
                let (x, best) = run(settings, 1, sphere);
                assert!(best < 1e-3, "{mutation:?} {crossover:?}: {best}");
                assert_eq!(sphere(&x), best);
            }
        }
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(
            run(DeSettings::default(), 5, sphere),
            run(DeSettings::default(), 5, sphere)
        );
        assert_ne!(
            run(DeSettings::default(), 5, sphere),
            run(DeSettings::default(), 6, sphere)
        );
    }

    #[test]
    fn points_stay_in_bounds_and_begin_as_a_latin_hypercube() {
        let bounds = [[0.2, 2.0], [-1.0, 1.0]];
        let mut de: DifferentialEvolution<f64> =
            DifferentialEvolution::new(&bounds, None, DeSettings::default(), 3).unwrap();
        let first = de.ask();
        for (axis, [low, high]) in bounds.iter().enumerate() {
            let slice = |x: f64| ((x - low) / (high - low) * 30.0) as usize;
            let mut slices: Vec<usize> = first.iter().map(|x| slice(x[axis])).collect();
            slices.sort_unstable();
            assert_eq!(slices, (0..30).collect::<Vec<_>>());
        }
        for _ in 0..20 {
            let points = de.ask();
            for x in &points {
                assert!(
                    (0.2..=2.0).contains(&x[0]) && (-1.0..=1.0).contains(&x[1]),
                    "{x:?}"
                );
            }
            // The best lies in a corner, so mutants often leave the box.
            de.tell(points.iter().map(|x| x[0] + x[1]).collect())
                .unwrap();
        }
    }

    #[test]
    fn members_never_get_worse_and_x0_takes_part() {
        let bounds = [[-5.0, 4.0]; 2];
        let x0 = [1.0, 1.0]; // the minimum itself
        let mut de =
            DifferentialEvolution::new(&bounds, Some(&x0), DeSettings::default(), 3).unwrap();
        de.tell(de.ask().iter().map(|x| sphere(x)).collect())
            .unwrap();
        assert_eq!(de.best(), Some((x0.to_vec(), 0.0)));
        let before = de.fitness().to_vec();
        de.tell(vec![f64::NAN; before.len()]).unwrap();
        assert_eq!(de.fitness(), before);
        assert!(de.tell(vec![0.0]).is_err());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        type De = DifferentialEvolution<f64>;
        let message = |bounds: &[[f64; 2]], x0: Option<&[f64]>, settings| {
            De::new(bounds, x0, settings, 0).err().unwrap().to_string()
        };
        let good = DeSettings::default;
        let one = [[0.0, 1.0]];
        assert!(message(&[], None, good()).starts_with("bounds"));
        assert!(message(&[[1.0, 1.0]], None, good()).starts_with("bounds"));
        assert!(message(&one, Some(&[2.0]), good()).starts_with("x0"));
        let factor = [1.0, 0.5];
        assert!(message(&one, None, DeSettings { factor, ..good() }).starts_with("factor"));
        let recombination = f64::NAN;
        let settings = DeSettings {
            recombination,
            ..good()
        };
        assert!(message(&one, None, settings).starts_with("recombination"));
        let population = 0;
        let settings = DeSettings {
            population,
            ..good()
        };
        assert!(message(&one, None, settings).starts_with("population"));
    }

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
