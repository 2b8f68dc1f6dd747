//! Differential evolution (Storn and Price 1997), with the surface of SciPy's
//! `differential_evolution`, in ask and tell form.

use std::cmp::Ordering;

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::{Rng, Stream, rng};

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
    pub(crate) fn check(&self) -> Result<()> {
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
/// use evospike::de::{DeSettings, DifferentialEvolution};
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
}
