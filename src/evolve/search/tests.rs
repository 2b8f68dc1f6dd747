use super::*;

const BOUNDS: [[f64; 2]; 3] = [[0.25, 2.0], [0.5, 2.0], [0.25, 4.0]];
const X0: [f64; 3] = [1.0, 1.5, 0.25];

fn every_search() -> Vec<Search> {
    let de = DeSettings { population: 4, ..DeSettings::default() };
    vec![
        Search::De(de),
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
