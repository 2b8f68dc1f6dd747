//! Choice of a gradient-free optimiser and its settings.
//!
//! A [`Search`] holds the settings of an optimiser and starts it; every optimiser is an
//! [`Optimise`].
//!
//! ```
//! use evospike::evolve::cmaes::CmaEsSettings;
//! use evospike::evolve::optimise::Optimise;
//! use evospike::evolve::search::Search;
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

use serde::{Deserialize, Serialize};

use super::cmaes::{CmaEs, CmaEsSettings};
use super::de::{DeSettings, DifferentialEvolution};
use super::optimise::{Best, Bounds, Cost, Optimise, check_members, check_told, uniform};
use crate::base::{Result, Rng, Stream, require, rng};

/// Optimiser and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Search {
    /// Differential evolution.
    De(DeSettings),
    /// Evolution strategy with covariance matrix adaptation.
    CmaEs(CmaEsSettings),
    /// Random search: points drawn uniformly from the bounds, the start first; a baseline for every
    /// other optimiser.
    Random {
        /// Number of points per generation.
        population: usize,
    },
    /// Grid search over one parameter, with the same value for all genes. All points are asked for
    /// at once, the start first if there is one, and each once. The values divide the range common
    /// to all bounds evenly, including its ends: on a logarithmic scale if the range lies above 0,
    /// as suits factors, else on a linear scale.
    Sweep {
        /// Number of values, 2 or more.
        points: usize,
    },
}

impl Default for Search {
    fn default() -> Self {
        Self::De(DeSettings::default())
    }
}

impl Search {
    /// Returns an error if a setting is out of range, before any work.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::De(settings) => settings.check(),
            Self::CmaEs(settings) => settings.check(),
            Self::Random { population } => check_members("population", *population, 1),
            Self::Sweep { points } => check_members("points", *points, 2),
        }
    }

    /// Creates the optimiser in the box `bounds`, a pair of lowest and highest value for each gene.
    /// `x0`, a point in the box, is among the first points; for CMA-ES it is the initial mean.
    ///
    /// # Errors
    /// Returns an error if the settings, the bounds or `x0` are out of range, or the bounds of a
    /// sweep have no range in common.
    pub fn start<F: Cost + Send + 'static>(
        &self,
        bounds: &[[f64; 2]],
        x0: Option<&[f64]>,
        seed: u64,
    ) -> Result<Box<dyn Optimise<F> + Send>> {
        self.check()?;
        Ok(match self.clone() {
            Self::De(settings) => Box::new(DifferentialEvolution::new(bounds, x0, settings, seed)?),
            Self::CmaEs(settings) => Box::new(CmaEs::new(bounds, x0, settings, seed)?),
            Self::Random { population } => Box::new(Listed::random(bounds, x0, population, seed)?),
            Self::Sweep { points } => Box::new(Listed::sweep(bounds, x0, points)?),
        })
    }
}

/// Points that no fitness changes: those of random search and of a sweep.
struct Listed<F> {
    points: Vec<Vec<f64>>,
    /// Draws as many points for the next generation; none if these are all.
    next: Option<(Bounds, Rng)>,
    best: Best<F>,
}

impl<F: Cost> Listed<F> {
    fn random(bounds: &[[f64; 2]], x0: Option<&[f64]>, count: usize, seed: u64) -> Result<Self> {
        let bounds = Bounds::new(bounds)?;
        if let Some(x0) = x0 {
            bounds.unit_start(x0)?;
        }
        let next = Some((bounds, rng(seed, Stream::Evolution)));
        let mut random = Self { points: vec![Vec::new(); count], next, best: Best::new() };
        random.draw();
        if let Some(x0) = x0 {
            random.points[0] = x0.to_vec();
        }
        Ok(random)
    }

    fn sweep(bounds: &[[f64; 2]], x0: Option<&[f64]>, points: usize) -> Result<Self> {
        let checked = Bounds::new(bounds)?;
        let low = bounds.iter().fold(f64::NEG_INFINITY, |x, b| x.max(b[0]));
        let high = bounds.iter().fold(f64::INFINITY, |x, b| x.min(b[1]));
        let expected = "a range that all genes have in common, to sweep";
        require(low < high, "bounds", format!("{bounds:?}"), expected)?;
        let value = |i: usize| {
            let share = i as f64 / (points - 1) as f64;
            let value = match low > 0.0 {
                _ if i == points - 1 => high,
                true => low * (high / low).powf(share),
                false => low + (high - low) * share,
            };
            vec![value.clamp(low, high); bounds.len()]
        };
        if let Some(x0) = x0 {
            checked.unit_start(x0)?;
        }
        let grid = (0..points).map(value).filter(|point| x0 != Some(point));
        let points = x0.map(<[f64]>::to_vec).into_iter().chain(grid).collect();
        Ok(Self { points, next: None, best: Best::new() })
    }

    fn draw(&mut self) {
        match &mut self.next {
            None => self.points.clear(),
            Some((bounds, rng)) => self
                .points
                .iter_mut()
                .for_each(|point| *point = bounds.point(&uniform(rng, bounds.genes()))),
        }
    }
}

impl<F: Cost> Optimise<F> for Listed<F> {
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
        self.points.is_empty()
    }
}

#[cfg(test)]
mod tests;
