use super::*;
use crate::ann::networks::Network;
use crate::ann::trainable::Values;

mod linear {
    use crate::ann::modules::{Flatten, UnbiasedLinear};
    use crate::data::tasks::Classify;
    use crate::network;
    network! {
        pub Two for Classify<1, 1, 2> = (Flatten<1, 1, 1>, UnbiasedLinear<1, 2>);
    }
}

/// Three steps on one weight a class, by hand: the gradient of the cross-entropy is (softmax -
/// target) times the input.
fn by_hand(step: impl Fn(usize, f64, f64, &mut [f64; 2]) -> f64, first: &[f32]) -> Vec<f64> {
    let mut weights: Vec<f64> = first.iter().map(|&w| f64::from(w)).collect();
    let mut moments = [[0.0; 2]; 2];
    for number in 1..=3 {
        let exps: Vec<f64> = weights.iter().map(|w| (w * 0.75).exp()).collect();
        let sum: f64 = exps.iter().sum();
        let targets = [0.9, 0.1];
        for i in 0..2 {
            let gradient = (exps[i] / sum - targets[i]) * 0.75;
            weights[i] = step(number, weights[i], gradient, &mut moments[i]);
        }
    }
    weights
}

#[track_caller]
fn check(optimiser: Optimiser, step: impl Fn(usize, f64, f64, &mut [f64; 2]) -> f64) {
    let mut net = linear::Two::build(5).unwrap();
    let weights =
        |net: &dyn crate::ann::Trainable| net.tensors(Values::Parameters).unwrap().remove(0).values;
    let expected = by_hand(step, &weights(&*net));
    for number in 1..=3 {
        let step = Step { optimiser, number, learning_rate: 0.1, weight_decay: 0.2 };
        net.step(vec![0.75], vec![0.9, 0.1], 1, &step).unwrap();
    }
    for (found, expected) in weights(&*net).iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
    }
}

// torch/optim/sgd.py: buf = momentum * buf + grad, grad + momentum * buf where it is Nesterov's.
#[test]
fn sgd_steps_as_by_hand() {
    let momentum = |m: f64, nesterov: bool| {
        move |_, w: f64, gradient: f64, v: &mut [f64; 2]| {
            let gradient = gradient + 0.2 * w;
            v[0] = m * v[0] + gradient;
            w - 0.1 * if nesterov { gradient + m * v[0] } else { v[0] }
        }
    };
    for (m, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        let optimiser = Optimiser::Sgd { momentum: m, nesterov };
        check(optimiser, momentum(m, nesterov));
    }
}

#[test]
fn adam_steps_as_by_hand() {
    check(Optimiser::Adam, |number, w, gradient, moments| {
        moments[0] = 0.9 * moments[0] + 0.1 * gradient;
        moments[1] = 0.999 * moments[1] + 0.001 * gradient * gradient;
        let mean = moments[0] / (1.0 - 0.9f64.powi(number as i32));
        let square = moments[1] / (1.0 - 0.999f64.powi(number as i32));
        w - 0.1 * mean / (square.sqrt() + 1e-8) - 0.1 * 0.2 * w
    });
}

#[test]
fn the_first_step_forgets_the_steps_before() {
    let after = |earlier: usize| {
        let mut net = linear::Two::build(5).unwrap();
        let first = net.tensors(Values::Parameters).unwrap();
        for number in (1..=earlier).chain([1]) {
            if number == 1 {
                net.set_tensors(Values::Parameters, &first).unwrap();
            }
            let step = Step {
                optimiser: Optimiser::NESTEROV,
                number,
                learning_rate: 0.1,
                weight_decay: 0.0,
            };
            net.step(vec![0.75], vec![0.9, 0.1], 1, &step).unwrap();
        }
        net.tensors(Values::Parameters).unwrap()
    };
    assert_eq!(after(0), after(3));
}

#[test]
fn schedules_rise_and_fall() {
    let shares = |schedule: Schedule, warmup| -> Vec<f64> {
        (0..8).map(|step| schedule.share(step, 8, warmup)).collect()
    };
    assert_eq!(
        shares(Schedule::Linear, 3),
        [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.19999999999999996]
    );
    assert_eq!(shares(Schedule::Constant, 1), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let cosine = shares(Schedule::Cosine, 0);
    assert_eq!((cosine[0], cosine[4]), (1.0, 0.5));
    assert!((cosine[2] - 0.853_553_390_593_273_8).abs() < 1e-15);
    assert!(cosine[7] > 0.0 && cosine[7] < 0.04);
    // A warm-up as long as the whole run never falls.
    assert_eq!(shares(Schedule::Cosine, 8)[7], 8.0 / 9.0);
}
