//! What gradient-free optimisers have in common: they are asked for points and told their fitness.

use std::cmp::Ordering;

use rand::RngExt;

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::random::Rng;
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
