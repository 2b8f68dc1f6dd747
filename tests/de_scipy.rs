//! Differential evolution against SciPy's, by statistical test.
//!
//! Reads `tests/data/golden/de_scipy.csv`: what SciPy's `differential_evolution` reached on four
//! functions in 3 and 8 dimensions with eight strategies, 30 seeds each. The settings are in the
//! folder's README. In every such group three things must be the same but for chance: the rate of
//! success, by Fisher's exact test, and the evaluations and the best values, by Mann and Whitney's U
//! test. Holm's correction keeps the chance that any of all these tests fails for nothing at 5 %.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;

use evospike::evolve::de::{Crossover, DeSettings, DifferentialEvolution, Mutation};
use evospike::evolve::optimise::Optimise;
use rayon::prelude::*;
use serde::Deserialize;

/// A best value below this is a success.
const SUCCESS: f64 = 1e-2;
const GENERATIONS: usize = 200;
const LEVEL: f64 = 0.05;
/// This crate's runs of each group; fewer where they are slow.
const SEEDS: u64 = if cfg!(debug_assertions) { 6 } else { 30 };

#[derive(Deserialize)]
struct Row {
    function: String,
    dimensions: usize,
    bound: f64,
    strategy: String,
    evaluations: usize,
    best: f64,
}

/// Runs of one setting.
#[derive(Default)]
struct Runs {
    evaluations: Vec<f64>,
    best: Vec<f64>,
}

impl Runs {
    /// Successes, of how many.
    fn successes(&self) -> [usize; 2] {
        let successes = self.best.iter().filter(|best| **best < SUCCESS);
        [successes.count(), self.best.len()]
    }
}

fn function(name: &str) -> fn(&[f64]) -> f64 {
    match name {
        "rosenbrock" => |x| {
            let term = |x: &[f64]| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2);
            x.windows(2).map(term).sum()
        },
        "rastrigin" => |x| {
            let term = |x: &f64| x * x - 10.0 * (TAU * x).cos();
            10.0 * x.len() as f64 + x.iter().map(term).sum::<f64>()
        },
        "ackley" => |x| {
            let mean = |f: fn(f64) -> f64| x.iter().map(|&x| f(x)).sum::<f64>() / x.len() as f64;
            let (square, cosine) = (mean(|x| x * x), mean(|x| (TAU * x).cos()));
            20.0 + 1f64.exp() - 20.0 * (-0.2 * square.sqrt()).exp() - cosine.exp()
        },
        "griewank" => |x| {
            let wave = |(i, x): (usize, &f64)| (x / (i as f64 + 1.0).sqrt()).cos();
            let squares = x.iter().map(|x| x * x).sum::<f64>();
            1.0 + squares / 4000.0 - x.iter().enumerate().map(wave).product::<f64>()
        },
        other => panic!("function `{other}`"),
    }
}

fn strategy(name: &str) -> (Mutation, Crossover) {
    let (mutation, crossover) = name.split_at(name.len() - 3);
    let mutation = match mutation {
        "best1" => Mutation::Best1,
        "rand1" => Mutation::Rand1,
        "randtobest1" => Mutation::RandToBest1,
        "currenttobest1" => Mutation::CurrentToBest1,
        "best2" => Mutation::Best2,
        "rand2" => Mutation::Rand2,
        other => panic!("strategy `{other}`"),
    };
    match crossover {
        "bin" => (mutation, Crossover::Binomial),
        "exp" => (mutation, Crossover::Exponential),
        other => panic!("crossover `{other}`"),
    }
}

/// What this crate reaches in the place of SciPy's `row`, with other seeds.
fn runs(row: &Row, recombination: f64) -> Runs {
    let (mutation, crossover) = strategy(&row.strategy);
    let settings = DeSettings {
        mutation,
        crossover,
        recombination,
        population: 10,
        atol: 1e-8,
        ..DeSettings::default()
    };
    let bounds = vec![[-row.bound, 0.9 * row.bound]; row.dimensions];
    let f = function(&row.function);
    let mut runs = Runs::default();
    for seed in 0..SEEDS {
        let mut de = DifferentialEvolution::new(&bounds, None, settings.clone(), seed).unwrap();
        let mut evaluations = 0;
        for _ in 0..=GENERATIONS {
            let points = de.ask();
            evaluations += points.len();
            de.tell(points.iter().map(|x| f(x)).collect()).unwrap();
        }
        runs.evaluations.push(evaluations as f64);
        runs.best.push(de.best().unwrap().1);
    }
    runs
}

/// Probability that two equal rates give counts as unlikely as these or more: `a` of `m` and `b` of
/// `n`.
fn fisher([a, m]: [usize; 2], [b, n]: [usize; 2]) -> f64 {
    let ln_choose =
        |n: usize, k: usize| -> f64 { (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum() };
    let both = a + b;
    let ln_chance = |a| ln_choose(m, a) + ln_choose(n, both - a) - ln_choose(m + n, both);
    let all = (both.saturating_sub(n)..=both.min(m)).map(ln_chance);
    let observed = ln_chance(a) + 1e-9;
    all.filter(|ln| *ln <= observed).map(f64::exp).sum()
}

/// Two-sided p of Mann and Whitney's U by its normal approximation, with corrections for ties and
/// for continuity.
fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = a.iter().map(|&x| (x, true)).collect();
    all.extend(b.iter().map(|&x| (x, false)));
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ranks, mut ties, mut before) = (0.0, 0.0, 0.0);
    for tied in all.chunk_by(|x, y| x.0 == y.0) {
        let t = tied.len() as f64;
        let own = tied.iter().filter(|(_, own)| *own).count() as f64;
        ranks += own * (before + (t + 1.0) / 2.0);
        ties += t * t * t - t;
        before += t;
    }
    let (m, n) = (a.len() as f64, b.len() as f64);
    let u = ranks - m * (m + 1.0) / 2.0;
    let variance = m * n / 12.0 * (m + n + 1.0 - ties / ((m + n) * (m + n - 1.0)));
    if variance <= 0.0 {
        return 1.0; // all are equal
    }
    let z = ((u - m * n / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    erfc(z / 2f64.sqrt())
}

/// Within 1.2e-7 of its value, relatively (Numerical Recipes, section 6.2); `x` is 0 or more.
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x);
    let coefficients = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let polynomial = coefficients.iter().rev().fold(0.0, |sum, c| sum * t + c);
    t * (polynomial - x * x).exp()
}

struct Test {
    group: String,
    kind: &'static str,
    p: f64,
}

/// Holm's correction: the tests with their corrected p, the least first.
fn holm(mut tests: Vec<Test>) -> Vec<Test> {
    tests.sort_by(|a, b| a.p.total_cmp(&b.p));
    let (count, mut least) = (tests.len(), 0f64);
    for (i, test) in tests.iter_mut().enumerate() {
        least = least.max((test.p * (count - i) as f64).min(1.0));
        test.p = least;
    }
    tests
}

#[test]
fn evolution_is_statistically_scipys() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/de_scipy.csv");
    let mut groups: BTreeMap<String, (Runs, Row)> = BTreeMap::new();
    for row in csv::Reader::from_path(file).unwrap().deserialize() {
        let row: Row = row.unwrap();
        let name = format!("{} {} {}", row.function, row.dimensions, row.strategy);
        let (evaluations, best) = (row.evaluations as f64, row.best);
        let (scipy, _) = groups.entry(name).or_insert((Runs::default(), row));
        scipy.evaluations.push(evaluations);
        scipy.best.push(best);
    }
    assert_eq!(groups.len(), 64);
    let compare = |recombination: f64, only: &str| {
        let chosen = groups.par_iter().filter(|(name, _)| name.ends_with(only));
        let tests = chosen.flat_map_iter(|(name, (scipy, row))| {
            assert_eq!(scipy.best.len(), 30, "{name}");
            let ours = runs(row, recombination);
            let success = fisher(ours.successes(), scipy.successes());
            let evaluations = mann_whitney(&ours.evaluations, &scipy.evaluations);
            let best = mann_whitney(&ours.best, &scipy.best);
            let test = |(kind, p)| Test { group: name.clone(), kind, p };
            [("success", success), ("evaluations", evaluations), ("best", best)].map(test)
        });
        holm(tests.collect())
    };

    let same = compare(0.7, "");
    assert_eq!(same.len(), 3 * 64);
    let least = &same[0];
    println!("least corrected p: {} in {} of {}", least.p, least.kind, least.group);
    assert!(least.p > LEVEL, "{} of {} differ", least.kind, least.group);

    // Each kind of test sees another setting.
    let other = compare(0.3, " best1bin");
    for kind in ["success", "evaluations", "best"] {
        let rejected = other.iter().filter(|test| test.kind == kind && test.p < LEVEL);
        let rejected = rejected.count();
        println!("recombination 0.3: {rejected} of 8 groups differ in {kind}");
        assert!(rejected > 0, "{kind}");
    }
}

#[test]
fn tests_are_the_textbooks() {
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    // By SciPy: fisher_exact, mannwhitneyu(method="asymptotic").
    assert!(close(fisher([3, 15], [12, 15]), 0.002814330708742636));
    assert_eq!(fisher([15, 15], [15, 15]), 1.0);
    let (a, b) = ([1.0, 2.0, 2.0, 3.0, 7.0], [2.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert!(close(mann_whitney(&a, &b), 0.09647980350895838));
    assert_eq!(mann_whitney(&[1.0; 4], &[1.0; 4]), 1.0);
    let test = |p| Test { group: String::new(), kind: "", p };
    let corrected = holm([0.04, 0.01, 0.03].map(test).into());
    let corrected = corrected.iter().map(|test| test.p);
    assert!(corrected.zip([0.03, 0.06, 0.06]).all(|(a, b)| close(a, b)));
}
