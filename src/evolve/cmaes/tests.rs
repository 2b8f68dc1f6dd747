use super::*;

/// Points measured until the fitness is below 1e-9, in the box that is best known: [-3, 5].
fn evaluations(genes: usize, seed: u64, f: impl Fn(&[f64]) -> f64) -> usize {
    let settings = CmaEsSettings { sigma: 0.2, ..CmaEsSettings::default() };
    let x0 = vec![2.5; genes];
    let mut es = CmaEs::new(&vec![[-3.0, 5.0]; genes], Some(&x0), settings, seed).unwrap();
    let mut count = 0;
    while !es.done() {
        let points = es.ask();
        count += points.len();
        es.tell(points.iter().map(|x| f(x)).collect()).unwrap();
        if es.best().unwrap().1 < 1e-9 {
            return count;
        }
    }
    panic!("seed {seed} ended at {:?} after {count}", es.best());
}

fn median(genes: usize, f: impl Fn(&[f64]) -> f64) -> usize {
    let mut counts: Vec<usize> = (0..9).map(|s| evaluations(genes, s, &f)).collect();
    counts.sort_unstable();
    counts[4]
}

fn ellipsoid(x: &[f64]) -> f64 {
    let last = (x.len() - 1) as f64;
    let axis = |(i, x): (usize, &f64)| 1e6f64.powf(i as f64 / last) * x * x;
    x.iter().enumerate().map(axis).sum()
}

/// Householder's reflection at the hyperplane normal to (1, 2, 3, ...).
fn rotated(x: &[f64]) -> Vec<f64> {
    let v: Vec<f64> = (1..=x.len()).map(|i| i as f64).collect();
    let mut y = x.to_vec();
    add(&mut y, -2.0 * dot(&v, x) / dot(&v, &v), &v);
    y
}
#[test]
fn needs_as_many_evaluations_as_the_reference() {
    // Medians of 11 runs of pycma 4.5 in the same box, from the same start, to the same value.
    let rosenbrock = |x: &[f64]| {
        let term = |x: &[f64]| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2);
        x.windows(2).map(term).sum()
    };
    for (name, found, expected) in [
        ("sphere", median(10, |x| dot(x, x)), 1640),
        ("ellipsoid", median(10, ellipsoid), 4290),
        ("rotated", median(10, |x| ellipsoid(&rotated(x))), 4700),
        ("Rosenbrock", median(10, rosenbrock), 5220),
    ] {
        let ratio = found as f64 / f64::from(expected);
        assert!((0.75..1.33).contains(&ratio), "{name}: {found} {expected}");
    }
}

#[test]
fn only_ranks_count_and_steps_end() {
    let run = |f: fn(f64) -> f64| {
        let bounds = [[0.25, 2.0]; 4];
        let mut es = CmaEs::new(&bounds, None, CmaEsSettings::default(), 3).unwrap();
        let mut asked = Vec::new();
        while !es.done() {
            let points = es.ask();
            let sum = |x: &Vec<f64>| f(x.iter().sum());
            es.tell(points.iter().map(sum).collect()).unwrap();
            asked.push(points);
        }
        (asked, es.best().unwrap().0)
    };
    let (asked, best) = run(|x| x);
    assert!(best.iter().all(|x| x - 0.25 < 1e-9), "{best:?}"); // on all four bounds
    assert_eq!(run(|x| x * 8.0 - 1.0), (asked, best));
}

#[test]
fn bounds_fold_smoothly() {
    for i in -300..=400 {
        let x = f64::from(i) / 100.0;
        let y = fold(x);
        assert!((0.0..=1.0).contains(&y), "{x}: {y}");
        assert!((fold(unfold(y)) - y).abs() < 1e-12, "{x}");
        assert!((fold(x + 1e-6) - y).abs() <= 1.01e-6, "{x}");
    }
    assert_eq!([fold(0.3), fold(-RIM), fold(1.0 + RIM)], [0.3, 0.0, 1.0]);
}

#[test]
fn eigenvectors_rebuild_the_matrix() {
    let entry = |i: usize, j: usize| 1.0 / (1 + i + j) as f64; // Hilbert's, condition 1e7
    let hilbert: Matrix = (0..6).map(|i| (0..6).map(|j| entry(i, j)).collect()).collect();
    let (values, vectors) = eigen(&hilbert);
    let mut rebuilt = vec![vec![0.0; 6]; 6];
    for (value, vector) in values.iter().zip(&vectors) {
        assert!(*value > 0.0 && (dot(vector, vector) - 1.0).abs() < 1e-14);
        add_outer(&mut rebuilt, *value, vector);
    }
    for (row, expected) in rebuilt.iter().zip(&hilbert) {
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-14;
        assert!(row.iter().zip(expected).all(close));
    }
    let least = values.iter().fold(f64::INFINITY, |a, &b| a.min(b));
    assert!((least / 1.082_799_484_565_55e-7 - 1.0).abs() < 1e-6);
}

#[test]
fn settings_out_of_range_are_named() {
    let message = |population, sigma| {
        let settings = CmaEsSettings { population, sigma };
        settings.check().unwrap_err().to_string()
    };
    assert!(message(Some(1), 0.3).starts_with("population"));
    for sigma in [0.0, 1.1, f64::NAN] {
        assert!(message(None, sigma).starts_with("sigma"));
    }
}
