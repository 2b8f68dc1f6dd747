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
            let settings = DeSettings { mutation, crossover, ..DeSettings::default() };
            let (x, best) = run(settings, 1, sphere);
            assert!(best < 1e-3, "{mutation:?} {crossover:?}: {best}");
            assert_eq!(sphere(&x), best);
        }
    }
}

#[test]
fn a_seed_decides_everything() {
    assert_eq!(run(DeSettings::default(), 5, sphere), run(DeSettings::default(), 5, sphere));
    assert_ne!(run(DeSettings::default(), 5, sphere), run(DeSettings::default(), 6, sphere));
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
            assert!((0.2..=2.0).contains(&x[0]) && (-1.0..=1.0).contains(&x[1]), "{x:?}");
        }
        // The best lies in a corner, so mutants often leave the box.
        de.tell(points.iter().map(|x| x[0] + x[1]).collect()).unwrap();
    }
}

#[test]
fn members_never_get_worse_and_x0_takes_part() {
    let bounds = [[-5.0, 4.0]; 2];
    let x0 = [1.0, 1.0]; // the minimum itself
    let mut de = DifferentialEvolution::new(&bounds, Some(&x0), DeSettings::default(), 3).unwrap();
    de.tell(de.ask().iter().map(|x| sphere(x)).collect()).unwrap();
    assert_eq!(de.best(), Some((x0.to_vec(), 0.0)));
    let before = de.fitness.clone();
    de.tell(vec![f64::NAN; before.len()]).unwrap();
    assert_eq!(de.fitness, before);
    assert!(de.tell(vec![0.0]).is_err());
}

#[test]
fn first_populations_are_stratified() {
    let genes = 5;
    let first = |seed| {
        let settings = DeSettings { population: 6, ..DeSettings::default() };
        let bounds = vec![[0.0, 1.0]; genes];
        let de = DifferentialEvolution::<f64>::new(&bounds, None, settings, seed);
        de.unwrap().ask()
    };
    // Members in each of as many equal slices of an axis as there are.
    let slices = |points: &[Vec<f64>], axis: usize, slices: usize| {
        let mut counts = vec![0; slices];
        for point in points {
            counts[(point[axis] * slices as f64) as usize] += 1;
        }
        counts
    };
    let points = first(1);
    for axis in 0..genes {
        assert_eq!(slices(&points, axis, 30), [1; 30]);
    }
    assert_eq!(first(1), points);
    assert_ne!(first(2), points);
}

#[test]
fn given_members_are_moved_inside_and_equal_bounds_stay() {
    let given = vec![vec![-1.0, 3.0], vec![9.0, 3.0], vec![0.5, 0.0]];
    let settings = |init| DeSettings { init, population: 7, ..DeSettings::default() };
    let bounds = [[0.0, 2.0], [3.0, 3.0]];
    let start = |init| DifferentialEvolution::new(&bounds, None, settings(init), 0);
    assert!(start(Init::Given(given.clone())).is_err()); // 5 at least
    let mut de = start(Init::Given([&given[..], &given].concat())).unwrap();
    let inside = [[0.0, 3.0], [2.0, 3.0], [0.5, 3.0]];
    assert_eq!(de.ask(), [inside, inside].concat());
    for _ in 0..30 {
        let points = de.ask();
        assert!(points.iter().all(|x| x[1] == 3.0));
        de.tell(points.iter().map(|x| sphere(x)).collect()).unwrap();
    }
    let free = start(Init::LatinHypercube).unwrap();
    assert_eq!(free.ask().len(), 7); // for the one gene that is free
}

#[test]
fn converges_by_number_only() {
    #[derive(PartialEq, PartialOrd, Clone)]
    struct Rank(f64);
    impl Cost for Rank {}
    let generations = |settings: DeSettings| {
        let bounds = [[-5.0, 4.0]; 2];
        let mut de = DifferentialEvolution::new(&bounds, None, settings, 2).unwrap();
        let told = |_| {
            de.tell(de.ask().iter().map(|x| 1.0 + sphere(x)).collect()).unwrap();
            !de.done()
        };
        (0..100).map(told).take_while(|more| *more).count()
    };
    let set = |tol, atol| DeSettings { tol, atol, ..DeSettings::default() };
    let counts = [set(0.01, 0.0), set(0.0, 1e-6), set(0.0, 0.0)].map(generations);
    assert!(counts[0] > 3 && counts[1] > counts[0], "{counts:?}");
    // The first population is never judged: SciPy's rule.
    assert_eq!(generations(set(1e9, 0.0)), 1);
    let mut de = DifferentialEvolution::new(&[[0.0, 1.0]], None, set(1e9, 0.0), 0).unwrap();
    for _ in 0..9 {
        de.tell(de.ask().iter().map(|x| Rank(x[0])).collect()).unwrap();
        assert!(!de.done());
    }
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
    assert!(message(&[[1.0, 0.5]], None, good()).starts_with("bounds"));
    assert!(message(&one, Some(&[2.0]), good()).starts_with("x0"));
    let factor = [1.0, 0.5];
    assert!(message(&one, None, DeSettings { factor, ..good() }).starts_with("factor"));
    let recombination = f64::NAN;
    let settings = DeSettings { recombination, ..good() };
    assert!(message(&one, None, settings).starts_with("recombination"));
    let population = 0;
    let settings = DeSettings { population, ..good() };
    assert!(message(&one, None, settings).starts_with("population"));
    let tol = -1.0;
    assert!(message(&one, None, DeSettings { tol, ..good() }).starts_with("tol"));
    let atol = f64::INFINITY;
    assert!(message(&one, None, DeSettings { atol, ..good() }).starts_with("atol"));
}
