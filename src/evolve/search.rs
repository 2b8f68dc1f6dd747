//! What gradient-free optimisers have in common: they are asked for points and told their fitness.
//!
//! A [`Search`] is an optimiser's settings and starts it; every optimiser is an [`Optimise`].
//!
//! ```
//! use evospike::evolve::cmaes::CmaEsSettings;
//! use evospike::evolve::search::{Optimise, Search};
//!
//! let search = Search::CmaEs(CmaEsSettings::default());
//! let mut optimiser = search.start::<f64>(&[[-5.0, 4.0]; 3], None, 0)?;
//! for _ in 0..100 {
//!     let points = optimiser.ask();
//!     let sphere = points.iter().map(|x| x.iter().map(|x| x * x).sum()).collect();
//!     optimiser.tell(sphere)?;
//! }
//! assert!(optimiser.best().unwrap().1 < 1e-8);
//! # Ok::<(), evospike::Error>(())
//! ```

use std::cmp::Ordering;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::base::random::{Rng, Stream, rng};
use crate::evolve::cmaes::{CmaEs, CmaEsSettings};
use crate::evolve::de::{DeSettings, DifferentialEvolution};

/// What an optimiser makes small. Only its order counts; a value that compares to nothing, such as
/// NaN, is worse than every value that does.
pub trait Cost: PartialOrd + Clone {
    /// The value as a number, for stopping rules that need more than the order. Where there is none,
    /// they never stop a search.
    fn number(&self) -> Option<f64> {
        None
    }
}

impl Cost for f64 {
    fn number(&self) -> Option<f64> {
        Some(*self)
    }
}

/// Whether `a` is better than `b`.
pub(crate) fn better<F: PartialOrd>(a: &F, b: &F) -> bool {
    let compares = |x: &F| x.partial_cmp(x).is_some();
    match a.partial_cmp(b) {
        Some(order) => order == Ordering::Less,
        None => compares(a) && !compares(b),
    }
}

/// An optimiser in ask and tell form: [`ask`](Self::ask), measure, [`tell`](Self::tell), again.
///
/// Its random numbers are a matter of its seed: an optimiser that is started again and told the same
/// asks the same.
pub trait Optimise<F> {
    /// The points whose fitness is to be told next, each one value a gene, within the bounds; none
    /// once the search is [`done`](Self::done). Asking twice gives the same.
    fn ask(&self) -> Vec<Vec<f64>>;

    /// Takes the fitness of the points asked for, in their order.
    ///
    /// # Errors
    /// Not one fitness a point; nothing is changed then.
    fn tell(&mut self, fitness: Vec<F>) -> Result<()>;

    /// The best point so far and its fitness; none before the first [`tell`](Self::tell).
    fn best(&self) -> Option<(Vec<f64>, F)>;

    /// What the search takes for the best after all that it was told, not a point that it asked for:
    /// the mean of CMA-ES, none elsewhere. Where fitness is a matter of luck, it is the better
    /// answer.
    fn mean(&self) -> Option<Vec<f64>> {
        None
    }

    /// For each point asked for, the fitness that it must not exceed to matter, so that a worse one
    /// need not be measured to the end: its parent's in differential evolution, none elsewhere.
    fn rivals(&self) -> Vec<Option<F>> {
        self.ask().iter().map(|_| None).collect()
    }

    /// Whether there is nothing more to ask.
    fn done(&self) -> bool;
}

/// An optimiser and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Search {
    /// Differential evolution.
    De(DeSettings),
    /// Evolution strategy with covariance matrix adaptation.
    CmaEs(CmaEsSettings),
    /// Points drawn uniformly from the bounds, the start first: what every optimiser must beat.
    Random {
        /// Points asked for at a time.
        population: usize,
    },
    /// The same value for all genes: a search over one parameter. All points are asked for at once,
    /// the start first where there is one, and each once. The values divide the range that all
    /// bounds have in common evenly, its ends included: by ratio where it lies above 0, as suits
    /// factors, else by difference.
    Sweep {
        /// Values, 2 or more.
        points: usize,
    },
}

impl Default for Search {
    fn default() -> Self {
        Self::De(DeSettings::default())
    }
}

impl Search {
    /// Refuses settings out of range, so that nothing runs first.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::De(settings) => settings.check(),
            Self::CmaEs(settings) => settings.check(),
            Self::Random { population } => check_members("population", *population, 1),
            Self::Sweep { points } => check_members("points", *points, 2),
        }
    }

    /// Starts in the box `bounds`, a pair of least and greatest value for each gene. `x0`, a point
    /// in it, is among the first points; it is the first mean of CMA-ES.
    ///
    /// # Errors
    /// Settings, bounds or `x0` out of range; a sweep whose bounds have no range in common.
    pub fn start<F: Cost + Send + 'static>(
        &self,
        bounds: &[[f64; 2]],
        x0: Option<&[f64]>,
        seed: u64,
    ) -> Result<Box<dyn Optimise<F> + Send>> {
        self.check()?;
        Ok(match *self {
            Self::De(ref settings) => Box::new(DifferentialEvolution::new(
                bounds,
                x0,
                settings.clone(),
                seed,
            )?),
            Self::CmaEs(ref settings) => Box::new(CmaEs::new(bounds, x0, settings.clone(), seed)?),
            Self::Random { population } => {
                Box::new(RandomSearch::new(bounds, x0, population, seed)?)
            }
            Self::Sweep { points } => Box::new(Sweep::new(bounds, x0, points)?),
        })
    }
}

/// Members of a population at most, which are all in memory.
const MOST_MEMBERS: usize = 1 << 16;

pub(crate) fn check_members(name: &'static str, members: usize, least: usize) -> Result<()> {
    match (least..=MOST_MEMBERS).contains(&members) {
        true => Ok(()),
        false => {
            let expected = format!("{least} to {MOST_MEMBERS}");
            Err(Error::parameter(name, members, expected))
        }
    }
}

/// Searches know points of the unit box only; these are the real axes, in order.
pub(crate) struct Bounds(Vec<[f64; 2]>);

impl Bounds {
    pub fn new(bounds: &[[f64; 2]]) -> Result<Self> {
        let ordered = |[low, high]: &[f64; 2]| low <= high && (high - low).is_finite();
        if bounds.is_empty() || !bounds.iter().all(ordered) {
            let expected = "at least one finite pair, the first below the second or equal";
            return Err(Error::parameter("bounds", format!("{bounds:?}"), expected));
        }
        Ok(Self(bounds.to_vec()))
    }

    pub fn genes(&self) -> usize {
        self.0.len()
    }

    /// Genes that are not fixed by equal bounds.
    pub fn free_genes(&self) -> usize {
        self.0.iter().filter(|[low, high]| low < high).count()
    }

    /// From the unit box into the bounds.
    pub fn point(&self, unit: &[f64]) -> Vec<f64> {
        let axes = unit.iter().zip(&self.0);
        axes.map(|(x, &[low, high])| (low + x * (high - low)).clamp(low, high))
            .collect()
    }

    pub fn points(&self, units: &[Vec<f64>]) -> Vec<Vec<f64>> {
        units.iter().map(|unit| self.point(unit)).collect()
    }

    /// Into the unit box; what lies outside the bounds goes to its edge.
    pub fn unit(&self, point: &[f64]) -> Vec<f64> {
        let axes = point.iter().zip(&self.0);
        axes.map(|(x, &[low, high])| match high - low {
            0.0 => 0.5,
            width => ((x - low) / width).clamp(0.0, 1.0),
        })
        .collect()
    }

    /// Into the unit box.
    pub fn unit_start(&self, x0: &[f64]) -> Result<Vec<f64>> {
        let inside = |(x, [low, high]): (&f64, &[f64; 2])| (low..=high).contains(&x);
        if x0.len() != self.genes() || !x0.iter().zip(&self.0).all(inside) {
            let expected = format!("a point in {:?}", self.0);
            return Err(Error::parameter("x0", format!("{x0:?}"), expected));
        }
        Ok(self.unit(x0))
    }
}

/// One number in 0..1 for each gene.
pub(crate) fn uniform(rng: &mut Rng, genes: usize) -> Vec<f64> {
    (0..genes).map(|_| rng.random()).collect()
}

/// That there is one fitness a point.
pub(crate) fn check_told<F>(points: &[Vec<f64>], fitness: &[F]) -> Result<()> {
    if fitness.len() == points.len() {
        return Ok(());
    }
    Err(Error::parameter(
        "fitness",
        format!("{} values", fitness.len()),
        format!("{}, one a point asked for", points.len()),
    ))
}

/// The best of all points told.
pub(crate) struct Best<F>(Option<(Vec<f64>, F)>);

impl<F: Cost> Best<F> {
    pub fn new() -> Self {
        Self(None)
    }

    pub fn keep(&mut self, points: &[Vec<f64>], fitness: &[F]) {
        for (point, fitness) in points.iter().zip(fitness) {
            if self
                .0
                .as_ref()
                .is_none_or(|(_, best)| better(fitness, best))
            {
                self.0 = Some((point.clone(), fitness.clone()));
            }
        }
    }

    pub fn get(&self) -> Option<(Vec<f64>, F)> {
        self.0.clone()
    }
}

struct RandomSearch<F> {
    bounds: Bounds,
    population: usize,
    rng: Rng,
    points: Vec<Vec<f64>>,
    best: Best<F>,
}

impl<F: Cost> RandomSearch<F> {
    fn new(bounds: &[[f64; 2]], x0: Option<&[f64]>, population: usize, seed: u64) -> Result<Self> {
        let mut search = Self {
            bounds: Bounds::new(bounds)?,
            population,
            rng: rng(seed, Stream::Evolution),
            points: Vec::new(),
            best: Best::new(),
        };
        search.draw();
        if let Some(x0) = x0 {
            search.bounds.unit_start(x0)?;
            search.points[0] = x0.to_vec();
        }
        Ok(search)
    }

    fn draw(&mut self) {
        let draw = |_| {
            self.bounds
                .point(&uniform(&mut self.rng, self.bounds.genes()))
        };
        self.points = (0..self.population).map(draw).collect();
    }
}

impl<F: Cost> Optimise<F> for RandomSearch<F> {
    fn ask(&self) -> Vec<Vec<f64>> {
        self.points.clone()
    }

    fn tell(&mut self, fitness: Vec<F>) -> Result<()> {
        check_told(&self.points, &fitness)?;
        self.best.keep(&self.points, &fitness);
        self.draw();
        Ok(())
    }

    fn best(&self) -> Option<(Vec<f64>, F)> {
        self.best.get()
    }

    fn done(&self) -> bool {
        false
    }
}

struct Sweep<F> {
    points: Vec<Vec<f64>>,
    best: Best<F>,
}

impl<F: Cost> Sweep<F> {
    fn new(bounds: &[[f64; 2]], x0: Option<&[f64]>, points: usize) -> Result<Self> {
        let checked = Bounds::new(bounds)?;
        let low = bounds.iter().fold(f64::NEG_INFINITY, |x, b| x.max(b[0]));
        let high = bounds.iter().fold(f64::INFINITY, |x, b| x.min(b[1]));
        if low >= high {
            let expected = "a range that all genes have in common, to sweep";
            return Err(Error::parameter("bounds", format!("{bounds:?}"), expected));
        }
        let value = |i: usize| {
            let share = i as f64 / (points - 1) as f64;
            let value = match low > 0.0 {
                _ if i == points - 1 => high,
                true => low * (high / low).powf(share),
                false => low + (high - low) * share,
            };
            vec![value.clamp(low, high); bounds.len()]
        };
        let x0 = x0.map(|x0| checked.unit_start(x0).map(|_| x0.to_vec()));
        let x0 = x0.transpose()?;
        let grid = (0..points)
            .map(value)
            .filter(|point| x0.as_ref() != Some(point));
        Ok(Self {
            points: x0.iter().cloned().chain(grid).collect(),
            best: Best::new(),
        })
    }
}

impl<F: Cost> Optimise<F> for Sweep<F> {
    fn ask(&self) -> Vec<Vec<f64>> {
        self.points.clone()
    }

    fn tell(&mut self, fitness: Vec<F>) -> Result<()> {
        check_told(&self.points, &fitness)?;
        self.best.keep(&self.points, &fitness);
        self.points.clear();
        Ok(())
    }

    fn best(&self) -> Option<(Vec<f64>, F)> {
        self.best.get()
    }

    fn done(&self) -> bool {
        self.points.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::de::{Init, Updating};

    const BOUNDS: [[f64; 2]; 3] = [[0.25, 2.0], [0.5, 2.0], [0.25, 4.0]];
    const X0: [f64; 3] = [1.0, 1.5, 0.25];

    fn every_search() -> Vec<Search> {
        let de = |updating, init| {
            Search::De(DeSettings {
                updating,
                init,
                population: 4,
                ..DeSettings::default()
            })
        };
        vec![
            de(Updating::Deferred, Init::LatinHypercube),
            de(Updating::Immediate, Init::Sobol),
            de(Updating::Deferred, Init::Halton),
            de(Updating::Immediate, Init::Random),
            Search::CmaEs(CmaEsSettings::default()),
            Search::Random { population: 7 },
            Search::Sweep { points: 9 },
        ]
    }

    fn sphere(x: &[f64]) -> f64 {
        x.iter().map(|x| (x - 0.8).powi(2)).sum()
    }

    #[test]
    fn replay_asks_the_same() {
        for search in every_search() {
            let mut first = search.start::<f64>(&BOUNDS, Some(&X0), 5).unwrap();
            let mut told = Vec::new();
            for _ in 0..60 {
                let fitness: Vec<f64> = first.ask().iter().map(|x| sphere(x)).collect();
                told.push(fitness.clone());
                first.tell(fitness).unwrap();
            }
            let mut again = search.start::<f64>(&BOUNDS, Some(&X0), 5).unwrap();
            let mut other = search.start::<f64>(&BOUNDS, Some(&X0), 6).unwrap();
            let seeded = !matches!(search, Search::Sweep { .. });
            assert_eq!(again.ask() != other.ask(), seeded, "{search:?}");
            for fitness in told {
                again.tell(fitness).unwrap();
            }
            assert_eq!(again.ask(), first.ask(), "{search:?}");
            assert_eq!(again.best(), first.best());
            assert!(other.tell(vec![0.0; 1000]).is_err());
        }
    }

    #[test]
    fn every_search_keeps_the_bounds_and_the_best() {
        for search in every_search() {
            let mut optimiser = search.start::<f64>(&BOUNDS, Some(&X0), 1).unwrap();
            assert!(optimiser.best().is_none());
            let mut least = f64::INFINITY;
            for _ in 0..40 {
                let points = optimiser.ask();
                assert_eq!(optimiser.rivals().len(), points.len());
                assert_eq!(optimiser.done(), points.is_empty());
                for x in &points {
                    let inside = |(x, b): (&f64, &[f64; 2])| (b[0]..=b[1]).contains(x);
                    assert!(x.iter().zip(&BOUNDS).all(inside), "{search:?}: {x:?}");
                }
                // The minimum is a corner; NaN is never the best.
                let fitness = points.iter().map(|x| match x[0] > 1.9 {
                    true => f64::NAN,
                    false => x.iter().sum(),
                });
                let fitness: Vec<f64> = fitness.collect();
                least = fitness.iter().fold(least, |a, &b| a.min(b));
                optimiser.tell(fitness).unwrap();
            }
            let (x, best) = optimiser.best().unwrap();
            assert_eq!((best, x.iter().sum()), (least, least), "{search:?}");
        }
    }

    #[test]
    fn sweeps_by_ratio_or_by_difference() {
        let points = |bounds: &[[f64; 2]]| {
            let search = Search::Sweep { points: 4 }.start::<f64>(bounds, None, 0);
            search.map(|search| search.ask())
        };
        let factors = points(&BOUNDS).unwrap(); // 0.5 to 2
        for (point, exponent) in factors.iter().zip([-3.0, -1.0, 1.0, 3.0]) {
            let expected = 2f64.powf(exponent / 3.0);
            assert!(point.iter().all(|x| (x - expected).abs() < 1e-12));
        }
        let straight = points(&[[-1.0, 2.0], [-3.0, 5.0]]).unwrap();
        assert_eq!(straight, [-1.0, 0.0, 1.0, 2.0].map(|x| vec![x; 2]));
        let message = points(&[[0.0, 1.0], [1.0, 2.0]]).err().unwrap().to_string();
        assert!(message.starts_with("bounds"), "{message}");
        // A start on the grid is asked for once.
        let search = Search::Sweep { points: 2 };
        let search = search.start::<f64>(&[[0.5, 1.0]; 2], Some(&[1.0; 2]), 0);
        assert_eq!(search.unwrap().ask(), [[1.0; 2], [0.5; 2]]);
    }

    #[test]
    fn settings_and_bounds_out_of_range_are_named() {
        let message = |search: Search, bounds: &[[f64; 2]], x0: Option<&[f64]>| {
            let error = search.start::<f64>(bounds, x0, 0).err();
            error.unwrap().to_string()
        };
        for search in every_search() {
            for bounds in [&[][..], &[[1.0, 0.5]], &[[0.0, f64::INFINITY]]] {
                assert!(message(search.clone(), bounds, None).starts_with("bounds"));
            }
            for x0 in [&[0.2, 1.0, 1.0][..], &[1.0], &[1.0, f64::NAN, 1.0]] {
                assert!(message(search.clone(), &BOUNDS, Some(x0)).starts_with("x0"));
            }
        }
        for population in [0, usize::MAX] {
            let random = Search::Random { population };
            assert!(message(random, &BOUNDS, None).starts_with("population"));
        }
        let one = Search::Sweep { points: 1 };
        assert!(message(one, &BOUNDS, None).starts_with("points"));
    }

    #[test]
    fn settings_survive_json() {
        for search in every_search() {
            let json = serde_json::to_string(&search).unwrap();
            assert_eq!(serde_json::from_str::<Search>(&json).unwrap(), search);
        }
    }
}
