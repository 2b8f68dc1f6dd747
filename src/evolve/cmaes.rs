//! CMA-ES, the evolution strategy with covariance matrix adaptation, after Hansen's tutorial (arXiv
//! 1604.00772, 2016: the algorithm of figure 6 with the default parameters of table 1, including
//! negative weights), in ask-and-tell form.

use serde::{Deserialize, Serialize};

use super::optimise::{Best, Bounds, Cost, Optimise, better, check_members, check_told};
use crate::base::{Result, Rng, Stream, normal, require, rng, show};

/// Settings of [`CmaEs`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CmaEsSettings {
    /// Number of points per generation, 2 or more; none: 4 + floor(3 ln genes).
    pub population: Option<usize>,
    /// Initial standard deviation of each gene, as a fraction of the width of its bounds, above 0
    /// and at most 1.
    pub sigma: f64,
}

show!(CmaEsSettings as fields);

impl Default for CmaEsSettings {
    /// Returns the default of the tutorial, a standard deviation of 0.3 widths.
    fn default() -> Self {
        Self { population: None, sigma: 0.3 }
    }
}

impl CmaEsSettings {
    pub(crate) fn check(&self) -> Result<()> {
        check_members("population", self.population.unwrap_or(2), 2)?;
        let holds = self.sigma > 0.0 && self.sigma <= 1.0;
        require(holds, "sigma", self.sigma, "0 to 1, not 0")
    }
}

/// Parameters that table 1 derives from the number of genes n and the population.
struct Parameters {
    /// Weights w, that of the best point first; the second half is negative.
    weights: Vec<f64>,
    mu_eff: f64,
    c_sigma: f64,
    d_sigma: f64,
    c_c: f64,
    c_1: f64,
    c_mu: f64,
    /// Expected length of a standard normal vector.
    chi: f64,
}

impl Parameters {
    fn new(n: f64, population: usize) -> Self {
        let mu = population / 2;
        let lambda = population as f64;
        let raw = (1..=population).map(|i| ((lambda + 1.0) / 2.0).ln() - (i as f64).ln());
        let mut weights: Vec<f64> = raw.collect();
        let effective = |w: &[f64]| {
            let squares: f64 = w.iter().map(|w| w * w).sum();
            w.iter().sum::<f64>().powi(2) / squares
        };
        let mu_eff = effective(&weights[..mu]);
        let mu_eff_negative = effective(&weights[mu..]);
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0);
        let excess = ((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0;
        let c_1 = 2.0 / ((n + 1.3).powi(2) + mu_eff);
        let rank_mu = 0.25 + mu_eff + 1.0 / mu_eff - 2.0;
        let c_mu = (1.0 - c_1).min(2.0 * rank_mu / ((n + 2.0).powi(2) + mu_eff));
        let negative = (1.0 + c_1 / c_mu)
            .min(1.0 + 2.0 * mu_eff_negative / (mu_eff + 2.0))
            .min((1.0 - c_1 - c_mu) / (n * c_mu));
        let sum = |w: &[f64], sign: f64| -> f64 { w.iter().map(|w| (sign * w).max(0.0)).sum() };
        let (up, down) = (sum(&weights, 1.0), sum(&weights, -1.0));
        for w in &mut weights {
            *w *= if *w >= 0.0 { 1.0 / up } else { negative / down };
        }
        Self {
            weights,
            mu_eff,
            c_sigma,
            d_sigma: 1.0 + 2.0 * excess.max(0.0) + c_sigma,
            c_c: (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n),
            c_1,
            c_mu,
            chi: n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n)),
        }
    }
}

/// CMA-ES optimiser, minimising any ordered fitness: only ranks count.
///
/// It searches the unit box of the bounds. A point outside is mapped into it by pycma's
/// `BoundTransform` (Hansen's reference implementation), which folds smoothly at every bound, so
/// that the minimum may lie on a bound. It is [`done`](Optimise::done) by the criteria of the
/// tutorial's appendix B.3: all steps are shorter than 1e-12 times the initial ones, have grown by
/// 1e4, or the covariance matrix has a condition number above 1e14.
pub struct CmaEs<F> {
    parameters: Parameters,
    bounds: Bounds,
    first_sigma: f64,
    rng: Rng,
    generation: f64,
    mean: Vec<f64>,
    sigma: f64,
    path_sigma: Vec<f64>,
    path_c: Vec<f64>,
    covariance: Matrix,
    /// Eigenvectors B of the covariance matrix, one per row, and the square roots D of its
    /// eigenvalues.
    axes: Matrix,
    lengths: Vec<f64>,
    /// Points to measure, as steps y from the mean in units of sigma; empty once the search is
    /// done.
    steps: Vec<Vec<f64>>,
    best: Best<F>,
}

type Matrix = Vec<Vec<f64>>;

impl<F: Cost> CmaEs<F> {
    /// Creates the optimiser in the box `bounds`, with its initial mean at `x0` or in the middle.
    ///
    /// # Errors
    /// Returns an error if the settings, the bounds or `x0` are out of range.
    pub fn new(
        bounds: &[[f64; 2]],
        x0: Option<&[f64]>,
        settings: CmaEsSettings,
        seed: u64,
    ) -> Result<Self> {
        settings.check()?;
        let bounds = Bounds::new(bounds)?;
        let n = bounds.genes();
        let mean = match x0 {
            Some(x0) => bounds.unit_start(x0)?.into_iter().map(unfold).collect(),
            None => vec![0.5; n],
        };
        let usual = 4 + (3.0 * (n as f64).ln()) as usize;
        let mut es = Self {
            parameters: Parameters::new(n as f64, settings.population.unwrap_or(usual)),
            bounds,
            first_sigma: settings.sigma,
            rng: rng(seed, Stream::Evolution),
            generation: 0.0,
            mean,
            sigma: settings.sigma,
            path_sigma: vec![0.0; n],
            path_c: vec![0.0; n],
            covariance: identity(n),
            axes: identity(n),
            lengths: vec![1.0; n],
            steps: Vec::new(),
            best: Best::new(),
        };
        es.draw();
        Ok(es)
    }

    /// Samples y = B D z, z standard normal.
    fn draw(&mut self) {
        let Self { axes, lengths, rng, .. } = self;
        let draw = |_| {
            let mut step = vec![0.0; lengths.len()];
            for (axis, length) in axes.iter().zip(&*lengths) {
                let z = normal(rng);
                add(&mut step, length * z, axis);
            }
            step
        };
        self.steps = (0..self.parameters.weights.len()).map(draw).collect();
    }

    /// Returns the point at a step from the mean.
    fn place(&self, step: &[f64]) -> Vec<f64> {
        let axes = self.mean.iter().zip(step);
        let unit: Vec<f64> = axes.map(|(m, y)| fold(m + self.sigma * y)).collect();
        self.bounds.point(&unit)
    }

    /// Returns C^(-1/2) y.
    fn whiten(&self, y: &[f64]) -> Vec<f64> {
        let mut white = vec![0.0; y.len()];
        for (axis, length) in self.axes.iter().zip(&self.lengths) {
            add(&mut white, dot(axis, y) / length, axis);
        }
        white
    }

    /// Updates mean, step size and covariance matrix from the steps, sorted from best to worst.
    fn update(&mut self, steps: &[Vec<f64>]) {
        let n = self.mean.len();
        let Parameters { mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu, chi, .. } = self.parameters;
        let weights = &self.parameters.weights;
        let mut shift = vec![0.0; n];
        for (step, &w) in steps.iter().zip(weights).filter(|(_, w)| **w > 0.0) {
            add(&mut shift, w, step);
        }
        add(&mut self.mean, self.sigma, &shift);
        let white = self.whiten(&shift);
        let factor = (c_sigma * (2.0 - c_sigma) * mu_eff).sqrt();
        decay(&mut self.path_sigma, c_sigma, factor, &white);
        self.generation += 1.0;
        let length = dot(&self.path_sigma, &self.path_sigma).sqrt();
        self.sigma *= ((c_sigma / d_sigma) * (length / chi - 1.0)).exp();
        let settled = (1.0 - (1.0 - c_sigma).powf(2.0 * self.generation)).sqrt();
        let h = f64::from(length / settled < (1.4 + 2.0 / (n as f64 + 1.0)) * chi);
        let factor = h * (c_c * (2.0 - c_c) * mu_eff).sqrt();
        decay(&mut self.path_c, c_c, factor, &shift);
        let kept =
            1.0 + c_1 * (1.0 - h) * c_c * (2.0 - c_c) - c_1 - c_mu * weights.iter().sum::<f64>();
        let mut covariance = std::mem::take(&mut self.covariance);
        for row in &mut covariance {
            row.iter_mut().for_each(|c| *c *= kept);
        }
        add_outer(&mut covariance, c_1, &self.path_c);
        for (step, &w) in steps.iter().zip(weights) {
            // Negative weights are scaled, so that the matrix stays positive definite.
            let w = match w >= 0.0 {
                true => w,
                false => {
                    let white = self.whiten(step);
                    w * n as f64 / dot(&white, &white)
                }
            };
            add_outer(&mut covariance, c_mu * w, step);
        }
        self.covariance = covariance;
    }

    /// Updates the eigenvalues and returns whether to continue: no criterion of appendix B.3 holds.
    fn decompose(&mut self) -> bool {
        let (values, axes) = eigen(&self.covariance);
        let (least, most) =
            values.iter().fold((f64::INFINITY, 0.0f64), |(a, b), &x| (a.min(x), b.max(x)));
        self.lengths = values.iter().map(|x| x.sqrt()).collect();
        self.axes = axes;
        let longest = self.sigma * most.sqrt() / self.first_sigma;
        values.iter().all(|x| *x > 0.0) && most <= 1e14 * least && longest > 1e-12 && longest < 1e4
    }
}

impl<F: Cost> Optimise<F> for CmaEs<F> {
    fn ask(&self) -> Vec<Vec<f64>> {
        self.steps.iter().map(|step| self.place(step)).collect()
    }

    fn tell(&mut self, fitness: Vec<F>) -> Result<()> {
        check_told(&self.steps, &fitness)?;
        if self.done() {
            return Ok(());
        }
        self.best.keep(&self.ask(), &fitness);
        let steps = std::mem::take(&mut self.steps);
        let mut ranked: Vec<usize> = (0..steps.len()).collect();
        // Counts better points, since sorting needs a total order, which `PartialOrd` does not
        // promise.
        ranked.sort_by_cached_key(|&i| fitness.iter().filter(|f| better(*f, &fitness[i])).count());
        let ranked: Vec<Vec<f64>> = ranked.iter().map(|&i| steps[i].clone()).collect();
        self.update(&ranked);
        if self.decompose() {
            self.draw();
        }
        Ok(())
    }

    fn best(&self) -> Option<(Vec<f64>, F)> {
        self.best.get()
    }

    fn mean(&self) -> Option<Vec<f64>> {
        Some(self.place(&vec![0.0; self.mean.len()]))
    }

    fn done(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Width of the part of the unit interval next to each bound in which [`fold`] is a parabola.
const RIM: f64 = 0.05;

/// Maps a number into 0..=1 by pycma's `BoundTransform`: the identity except for parabolas within
/// the rims, mirrored at -rim and 1 + rim, where its slope is 0.
fn fold(x: f64) -> f64 {
    let period = 2.0 * (1.0 + 2.0 * RIM);
    let x = (x + RIM).rem_euclid(period);
    let x = x.min(period - x) - RIM;
    if x < RIM {
        (x + RIM) * (x + RIM) / (4.0 * RIM)
    } else if x > 1.0 - RIM {
        1.0 - (1.0 + RIM - x) * (1.0 + RIM - x) / (4.0 * RIM)
    } else {
        x
    }
}

/// Returns the number that [`fold`] maps to `x`.
fn unfold(x: f64) -> f64 {
    if x < RIM {
        2.0 * (RIM * x).sqrt() - RIM
    } else if x > 1.0 - RIM {
        1.0 + RIM - 2.0 * (RIM * (1.0 - x)).sqrt()
    } else {
        x
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += factor * what;
    }
}

/// Updates an evolution path, which keeps the share 1 - `rate` of itself.
fn decay(path: &mut [f64], rate: f64, factor: f64, step: &[f64]) {
    for (path, step) in path.iter_mut().zip(step) {
        *path = (1.0 - rate) * *path + factor * step;
    }
}

fn add_outer(matrix: &mut Matrix, factor: f64, v: &[f64]) {
    for (row, x) in matrix.iter_mut().zip(v) {
        add(row, factor * x, v);
    }
}

fn identity(n: usize) -> Matrix {
    let row = |i| (0..n).map(|j| f64::from(i == j)).collect();
    (0..n).map(row).collect()
}

/// Returns the eigenvalues of a symmetric matrix and their eigenvectors, one per row, by Jacobi's
/// cyclic method (Golub and Van Loan, Matrix Computations, section 8.5).
fn eigen(symmetric: &Matrix) -> (Vec<f64>, Matrix) {
    let n = symmetric.len();
    let mut a = symmetric.clone();
    let mut vectors = identity(n);
    let turn = |p: &mut f64, q: &mut f64, c: f64, s: f64| {
        (*p, *q) = (c * *p - s * *q, s * *p + c * *q);
    };
    for _ in 0..50 {
        let mut turned = false;
        for p in 0..n {
            for q in p + 1..n {
                let off = a[p][q];
                if off.abs() <= f64::EPSILON * (a[p][p] * a[q][q]).abs().sqrt() {
                    continue;
                }
                turned = true;
                let tau = (a[q][q] - a[p][p]) / (2.0 * off);
                let t = tau.signum() / (tau.abs() + tau.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for row in &mut a {
                    let [x, y] = row.get_disjoint_mut([p, q]).expect("two columns");
                    turn(x, y, c, s);
                }
                for rows in [&mut a, &mut vectors] {
                    let [x, y] = rows.get_disjoint_mut([p, q]).expect("two rows");
                    for (x, y) in x.iter_mut().zip(y) {
                        turn(x, y, c, s);
                    }
                }
            }
        }
        if !turned {
            break;
        }
    }
    ((0..n).map(|i| a[i][i]).collect(), vectors)
}

#[cfg(test)]
mod tests;
