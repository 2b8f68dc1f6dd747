use super::*;

/// Zitzler's, Deb's and Thiele's first two problems (2000), 30 genes.
fn zdt(problem: usize, x: &[f64]) -> Vec<f64> {
    let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / (x.len() - 1) as f64;
    let share = x[0] / g;
    let curve = if problem == 1 { share.sqrt() } else { share * share };
    vec![x[0], g * (1.0 - curve)]
}

/// Share of the square up to (1.1, 1.1) that a front of two objectives dominates.
fn hypervolume(front: &[(Vec<f64>, Vec<f64>)]) -> f64 {
    let mut points: Vec<[f64; 2]> = front.iter().map(|(_, f)| [f[0], f[1]]).collect();
    points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut height = 1.1;
    let mut volume = 0.0;
    for [x, y] in points {
        if x < 1.1 && y < height {
            volume += (1.1 - x) * (height - y);
            height = y;
        }
    }
    volume
}

fn run(problem: usize, seed: u64) -> Nsga2 {
    let mut nsga = Nsga2::new(&[[0.0, 1.0]; 30], None, NsgaSettings::default(), seed).unwrap();
    for _ in 0..250 {
        // 25,000 evaluations, as in the paper
        let told = nsga.ask().iter().map(|x| zdt(problem, x)).collect();
        nsga.tell(told).unwrap();
    }
    nsga
}

#[test]
fn finds_the_fronts_of_zdt() {
    // True fronts: 1.21 less the area below the curve, 1/3 and 2/3.
    for (problem, truth) in [(1, 1.21 - 1.0 / 3.0), (2, 1.21 - 2.0 / 3.0)] {
        for seed in 0..2 {
            let front = run(problem, seed).front();
            let volume = hypervolume(&front);
            assert!(volume > truth - 0.015 && volume < truth, "{problem}: {volume}");
            for (_, a) in &front {
                assert!(front.iter().all(|(_, b)| !dominates(b, a)));
            }
            assert!(front.len() > 90);
        }
    }
}

#[test]
fn replay_asks_the_same() {
    let bounds = [[0.25, 2.0], [-1.0, 1.0], [3.0, 3.0]];
    let x0 = [1.0, 0.5, 3.0];
    let settings = NsgaSettings { population: 7, ..NsgaSettings::default() };
    let start = |seed| Nsga2::new(&bounds, Some(&x0), settings.clone(), seed).unwrap();
    let (mut first, mut again) = (start(4), start(4));
    assert_ne!(first.ask(), start(5).ask());
    assert_eq!(first.ask()[0], x0);
    for i in 0..40 {
        let points = first.ask();
        assert_eq!(points, again.ask());
        assert_eq!(points.len(), 7);
        for x in &points {
            let inside = |(x, b): (&f64, &[f64; 2])| (b[0]..=b[1]).contains(x);
            assert!(x.iter().zip(&bounds).all(inside), "{x:?}");
        }
        let spoilt = |x: &Vec<f64>| if i == 3 { f64::NAN } else { x[0] + x[1] };
        let told = points.iter().map(|x| vec![spoilt(x), x[1] - x[0], 1.0]);
        let told: Vec<Vec<f64>> = told.collect();
        first.tell(told.clone()).unwrap();
        again.tell(told).unwrap();
    }
    assert!(first.front().iter().all(|(_, f)| f[0].is_finite()));
}

#[test]
fn sorts_and_spreads() {
    let points = [[0.0, 4.0], [1.0, 2.0], [2.0, 3.0], [3.0, 3.0], [4.0, 0.0]];
    let member =
        |x: &[f64; 2]| Member { genes: Vec::new(), objectives: x.to_vec(), rank: 0, crowding: 0.0 };
    let members: Vec<Member> = points.iter().map(member).collect();
    let fronts = fronts(&members);
    assert_eq!(fronts, [vec![0, 1, 4], vec![2], vec![3]]);
    let spread = crowding(&members, &fronts[0]);
    assert_eq!(spread, [f64::INFINITY, 2.0, f64::INFINITY]);
}

#[test]
fn arguments_out_of_range_are_named() {
    let message = |settings: NsgaSettings| settings.check().unwrap_err().to_string();
    let good = NsgaSettings::default;
    let (population, mutation) = (1, Some(1.5));
    let (crossover, crossover_index, mutation_index) = (f64::NAN, -1.0, f64::INFINITY);
    assert!(message(NsgaSettings { population, ..good() }).starts_with("population"));
    assert!(message(NsgaSettings { mutation, ..good() }).starts_with("mutation:"));
    assert!(message(NsgaSettings { crossover, ..good() }).starts_with("crossover:"));
    let settings = NsgaSettings { crossover_index, ..good() };
    assert!(message(settings).starts_with("crossover_index"));
    let settings = NsgaSettings { mutation_index, ..good() };
    assert!(message(settings).starts_with("mutation_index"));

    let mut nsga = Nsga2::new(&[[0.0, 1.0]], None, good(), 0).unwrap();
    assert!(nsga.tell(vec![vec![1.0]; 3]).is_err());
    assert!(nsga.tell(vec![Vec::new(); 100]).is_err());
    let mut uneven = vec![vec![1.0, 2.0]; 100];
    uneven[99].pop();
    let error = nsga.tell(uneven).unwrap_err().to_string();
    assert!(error.starts_with("objectives"), "{error}");
    nsga.tell(vec![vec![1.0, 2.0]; 100]).unwrap();
}
