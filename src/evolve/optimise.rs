//! Common interface of gradient-free optimisers: they ask for points and are told their fitness.

use std::cmp::Ordering;

use rand::RngExt;

use crate::base::{Result, Rng, require};

/// Objective to minimise. Only the order of values counts; a value that cannot be compared, such as
/// NaN, is worse than every value that can.
pub trait Cost: PartialOrd + Clone {
    /// Returns the value as a number, for stopping rules that need more than the order. Without a
    /// number, they never stop a search.
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

/// Optimiser in ask-and-tell form: call [`ask`](Self::ask), measure the points, call
/// [`tell`](Self::tell), and repeat.
///
/// Its random numbers depend only on its seed: an optimiser that is created again and told the same
/// fitness asks for the same points.
pub trait Optimise<F> {
    /// Returns the points to measure next, one value per gene, within the bounds; empty once the
    /// search is [`done`](Self::done). Calling it twice returns the same.
    fn ask(&self) -> Vec<Vec<f64>>;

    /// Takes the fitness of the points asked for, in their order.
    ///
    /// # Errors
    /// Returns an error if there is not one fitness per point; then nothing is changed.
    fn tell(&mut self, fitness: Vec<F>) -> Result<()>;

    /// Returns the best point so far and its fitness; none before the first [`tell`](Self::tell).
    fn best(&self) -> Option<(Vec<f64>, F)>;

    /// Returns the estimate of the minimum after all that the optimiser was told, which need not be
    /// a point that was measured: the mean of CMA-ES, none elsewhere. It is the better result if
    /// fitness is noisy.
    fn mean(&self) -> Option<Vec<f64>> {
        None
    }

    /// Returns for each point to measure the fitness that it must not exceed to matter, so that a
    /// worse one need not be measured to the end: its parent's in differential evolution, none
    /// elsewhere.
    fn rivals(&self) -> Vec<Option<F>> {
        self.ask().iter().map(|_| None).collect()
    }

    /// Whether the search has ended.
    fn done(&self) -> bool;
}

/// Maximum number of members of a population, which are all in memory.
const MOST_MEMBERS: usize = 1 << 16;

/// Returns an error if the number of members is below `least` or above the maximum.
pub(crate) fn check_members(name: &'static str, members: usize, least: usize) -> Result<()> {
    let holds = (least..=MOST_MEMBERS).contains(&members);
    let expected = format!("{least} to {MOST_MEMBERS}");
    require(holds, name, members, expected)
}

/// Bounds of every gene, in order; optimisers themselves work in the unit box.
pub(crate) struct Bounds(Vec<[f64; 2]>);

impl Bounds {
    pub fn new(bounds: &[[f64; 2]]) -> Result<Self> {
        let ordered = |[low, high]: &[f64; 2]| low <= high && (high - low).is_finite();
        let holds = !bounds.is_empty() && bounds.iter().all(ordered);
        let expected = "at least one finite pair, the first below the second or equal";
        require(holds, "bounds", format!("{bounds:?}"), expected)?;
        Ok(Self(bounds.to_vec()))
    }

    pub fn genes(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of genes that are not fixed by equal bounds.
    pub fn free_genes(&self) -> usize {
        self.0.iter().filter(|[low, high]| low < high).count()
    }

    /// Maps a point from the unit box into the bounds.
    pub fn point(&self, unit: &[f64]) -> Vec<f64> {
        let axes = unit.iter().zip(&self.0);
        axes.map(|(x, &[low, high])| (low + x * (high - low)).clamp(low, high)).collect()
    }

    pub fn points(&self, units: &[Vec<f64>]) -> Vec<Vec<f64>> {
        units.iter().map(|unit| self.point(unit)).collect()
    }

    /// Maps a point into the unit box; points outside the bounds are moved to the nearest bound.
    pub fn unit(&self, point: &[f64]) -> Vec<f64> {
        let axes = point.iter().zip(&self.0);
        axes.map(|(x, &[low, high])| match high - low {
            0.0 => 0.5,
            width => ((x - low) / width).clamp(0.0, 1.0),
        })
        .collect()
    }

    /// Maps a starting point into the unit box, or returns an error if it is outside the bounds.
    pub fn unit_start(&self, x0: &[f64]) -> Result<Vec<f64>> {
        let inside = |(x, [low, high]): (&f64, &[f64; 2])| (low..=high).contains(&x);
        let holds = x0.len() == self.genes() && x0.iter().zip(&self.0).all(inside);
        let expected = format!("a point in {:?}", self.0);
        require(holds, "x0", format!("{x0:?}"), expected)?;
        Ok(self.unit(x0))
    }
}

/// Draws one number in 0..1 for each gene.
pub(crate) fn uniform(rng: &mut Rng, genes: usize) -> Vec<f64> {
    (0..genes).map(|_| rng.random()).collect()
}

/// Returns an error if there is not one fitness per point.
pub(crate) fn check_told<F>(points: &[Vec<f64>], fitness: &[F]) -> Result<()> {
    let found = format!("{} values", fitness.len());
    let expected = format!("{}, one a point asked for", points.len());
    require(fitness.len() == points.len(), "fitness", found, expected)
}

/// Best point of all points told.
pub(crate) struct Best<F>(Option<(Vec<f64>, F)>);

impl<F: Cost> Best<F> {
    pub fn new() -> Self {
        Self(None)
    }

    pub fn keep(&mut self, points: &[Vec<f64>], fitness: &[F]) {
        for (point, fitness) in points.iter().zip(fitness) {
            let best = self.0.as_ref();
            if best.is_none_or(|(_, best)| better(fitness, best)) {
                self.0 = Some((point.clone(), fitness.clone()));
            }
        }
    }

    pub fn get(&self) -> Option<(Vec<f64>, F)> {
        self.0.clone()
    }
}
