use super::*;
use crate::ann::networks::{DigitsCnn, Mlp};
use crate::data;
use crate::data::tasks::Digits;
use crate::data::{Shares, Split};

fn digits(seed: u64) -> Split<Digits> {
    let digits = data::digits().unwrap();
    digits.split(Shares::default(), seed).unwrap()
}

/// All time constants halve in a timestep.
fn halving() -> StdpSettings {
    let tau = std::f32::consts::LN_2.recip();
    StdpSettings {
        threshold: 1.0,
        tau_membrane: tau,
        refractory: 1,
        theta_plus: 0.5,
        tau_theta: tau,
        inhibition: 0.5,
        tau_trace: tau,
        nu_pre: 0.125,
        nu_post: 0.25,
        ..StdpSettings::default()
    }
}

#[track_caller]
fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "found {found:?}, expected {expected:?}");
    }
}

/// One neuron with two inputs, by hand.
#[test]
fn pairs_of_spikes_change_weights() {
    let rule = halving();
    let mut state = State::new(2, 1, vec![0.75, 0.5]);
    // Inputs that spike; then whether the neuron does, v, θ, the inputs' and its own trace, w.
    let mut expect = |input: &[usize], fires: bool, [v, theta, x0, x1, y, w0, w1]: [f32; 7]| {
        step(&rule, &mut state, input, true);
        assert_eq!(state.spikes.len(), usize::from(fires));
        close(&state.potential, &[v]);
        close(&state.theta, &[theta]);
        close(&state.pre, &[x0, x1]);
        close(&state.post, &[y]);
        close(&state.weights, &[w0, w1]);
    };
    expect(&[0], false, [0.75, 0.0, 1.0, 0.0, 0.0, 0.75, 0.5]);
    expect(&[1], false, [0.875, 0.0, 0.5, 1.0, 0.0, 0.75, 0.5]);
    // At 0.4375 + 0.75. Input 0: 0.75 - 1/8 + 1/4; input 1, a timestep before: 0.5 + 1/8.
    expect(&[0], true, [0.0, 0.5, 1.0, 0.5, 1.0, 0.875, 0.625]);
    // Refractory; a spike that comes too late.
    expect(&[1], false, [0.0, 0.25, 0.5, 1.0, 0.5, 0.875, 0.5625]);
    expect(&[0, 1], true, [0.0, 0.625, 1.0, 1.0, 1.0, 1.0, 0.6875]);
    expect(&[], false, [0.0, 0.3125, 0.5, 0.5, 0.5, 1.0, 0.6875]);
    // No weight above 1.
    expect(&[0, 1], true, [0.0, 0.65625, 1.0, 1.0, 1.0, 1.0, 0.8125]);

    // Without learning it fires, after a refractory timestep, and learns nothing.
    let before = state.clone();
    for _ in 0..2 {
        step(&rule, &mut state, &[0, 1], false);
    }
    assert_eq!(state.spikes, [0]);
    assert_eq!(state, before);
}

#[test]
fn weights_do_not_become_negative() {
    let rule = halving();
    let mut state = State::new(2, 1, vec![1.0, 0.05]);
    step(&rule, &mut state, &[0], true);
    assert_eq!(state.spikes, [0]);
    step(&rule, &mut state, &[1], true); // 0.05 - 1/16
    assert_eq!(state.weights[1], 0.0);
}

#[test]
fn neurons_compete() {
    // Neurons 0 and 1 reach their threshold with input 0, neuron 2 gets 0.9 of it.
    let weights = vec![1.25, 1.5, 0.9];
    let mut rule = halving();
    for (one_spike, spikes, left) in [(true, vec![1], 0.85), (false, vec![0, 1], 0.35)] {
        rule.one_spike = one_spike;
        let mut state = State::new(1, 3, weights.clone());
        step(&rule, &mut state, &[0], true);
        assert_eq!(state.spikes, spikes);
        close(&state.potential, &[0.0, 0.0, 0.9]);
        close(&state.theta, &[0.5, 0.5, 0.0]); // who loses the spike is reset all the same
        assert_eq!(state.post[0], f32::from(u8::from(!one_spike)));
        // A timestep later each spike has taken 0.5 from neuron 2, at 0.45 + w - 0.5 or - 1.
        state.weights[2] = 0.9;
        step(&rule, &mut state, &[0], true);
        close(&state.potential, &[0.0, 0.0, left]);
    }
    // Of equals the lowest; no neuron inhibits itself.
    rule.one_spike = true;
    rule.refractory = 0;
    rule.nu_post = 0.0;
    let mut state = State::new(1, 2, vec![2.0, 2.0]);
    step(&rule, &mut state, &[0], false);
    assert_eq!(state.spikes, [0]);
    step(&rule, &mut state, &[], false);
    close(&state.potential, &[0.0, -0.5]);
}

#[test]
fn weights_are_scaled_to_their_sum() {
    let mut state = State::new(2, 3, vec![0.25, 0.0, 0.5, 0.75, 0.0, 1.0]);
    state.normalise(3.0);
    close(&state.weights, &[0.75, 0.0, 1.0, 2.25, 0.0, 2.0]);
}

/// What `tests/stdp_bindsnet.py` wrote.
#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    settings: StdpSettings,
    weights: Vec<f32>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    input: Vec<usize>,
    spikes: Vec<usize>,
    potential: Vec<f32>,
    theta: Vec<f32>,
    pre: Vec<f32>,
    post: Vec<f32>,
    weights: Vec<f32>,
}

#[test]
fn the_rule_is_bindsnets() {
    let text = include_str!("../../tests/data/stdp_bindsnet.json");
    let fixture: Fixture = serde_json::from_str(text).unwrap();
    assert_eq!(fixture.cases.len(), 2);
    for case in fixture.cases {
        let settings = &case.settings;
        let inputs = case.weights.len() / settings.neurons;
        settings.check(inputs).unwrap();
        let mut state = State::new(inputs, settings.neurons, case.weights);
        assert_eq!(case.steps.len(), 2 * settings.timesteps);
        for (t, expected) in case.steps.iter().enumerate() {
            if t % settings.timesteps == 0 {
                state.rest();
                state.normalise(settings.weight_sum);
            }
            step(settings, &mut state, &expected.input, true);
            assert_eq!(state.spikes, expected.spikes, "timestep {t}");
            close(&state.potential, &expected.potential);
            close(&state.theta, &expected.theta);
            close(&state.pre, &expected.pre);
            close(&state.post, &expected.post);
            close(&state.weights, &expected.weights);
        }
    }
}

fn small(seed: u64) -> StdpSettings {
    StdpSettings { neurons: 50, epochs: 2, seed, ..StdpSettings::default() }
}

#[test]
fn a_layer_learns_digits_without_labels() {
    let digits = digits(10);
    let mut stdp = Stdp::<Digits>::new(small(10)).unwrap();
    let accuracy = |stdp: &Stdp<Digits>| {
        let labelled = stdp.label(&digits.training).unwrap();
        let run = labelled.simulate(&digits.held_out, 100).unwrap();
        // As many spikes as a layer with one in each timestep can have, and votes for each.
        let spikes = &run.layers[0].spikes;
        assert!(spikes.iter().all(|&count| count <= 449));
        assert_eq!(&run.layers[1].operations, spikes);
        let input = run.input.unwrap();
        for t in 1..100 {
            let operations = 50 * input[t] + 49 * spikes[t - 1];
            assert_eq!(run.layers[0].operations[t], operations);
        }
        run.curve.after(100).unwrap().percent()
    };
    let before = accuracy(&stdp);
    stdp.train(&digits.training).unwrap();
    let after = accuracy(&stdp);
    assert!(after > 75.0 && after > before + 10.0, "{before} {after}");
    for j in 0..50 {
        let sum: f32 = stdp.weights(j).unwrap().iter().sum();
        assert!((sum - 16.0).abs() < 1e-3, "{sum}");
    }
    assert!(stdp.thresholds().any(|threshold| threshold > 2.5));
}

#[test]
fn threads_do_not_change_the_result() {
    let digits = digits(11);
    let run = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let settings = StdpSettings { epochs: 1, ..small(seed) };
            let mut stdp = Stdp::<Digits>::new(settings).unwrap();
            let training = digits.training.take(100);
            stdp.train(&training).unwrap();
            let labelled = stdp.label(&training).unwrap();
            labelled.simulate(&digits.held_out.take(100), 60).unwrap()
        })
    };
    assert_eq!(run(1, 0), run(3, 0));
    assert_ne!(run(1, 0), run(1, 1));
}

#[test]
fn votes_are_means_over_the_neurons_of_a_class() {
    // An input that reaches all three neurons in each timestep; two vote for class 1.
    let digits = digits(12);
    let settings = StdpSettings {
        neurons: 3,
        rate: 1.0,
        threshold: 1e-3,
        refractory: 0,
        inhibition: 0.0,
        one_spike: false,
        ..StdpSettings::default()
    };
    let mut labelled =
        Stdp::<Digits>::new(settings).and_then(|stdp| stdp.label(&digits.training)).unwrap();
    let right = |labelled: &Labelled<Digits>, class| {
        let run = labelled.simulate(&digits.test, 20).unwrap();
        let of_class = (0..digits.test.len()).filter(|&i| digits.test.label(i) == class);
        assert_eq!(run.spikes_per_image(0), 60.0);
        (run.curve.after(20).unwrap().correct, of_class.count())
    };
    // 1 against (1 + 1) / 2: of equal outputs the lowest class.
    labelled.labels = vec![Some(1), Some(0), Some(1)];
    let (found, expected) = right(&labelled, 0);
    assert_eq!(found, expected);
    labelled.labels = vec![Some(4), None, Some(4)];
    let (found, expected) = right(&labelled, 4);
    assert_eq!(found, expected);
}

#[test]
fn weights_for_training_are_centred_and_scaled() {
    // Three inputs, two neurons: w = (1, 0, 0.5) and (0, 1, 0.5), less 0.5 each.
    let found = centred(&[1.0, 0.0, 0.0, 1.0, 0.5, 0.5], 2, 2.0);
    let x = 2.0 * 1.5f32.sqrt(); // of root mean square 2
    close(&found, &[x, -x, 0.0, -x, x, 0.0]);
    assert_eq!(centred(&[0.5, 0.25], 1, 2.0), [0.0, 0.0]);
}

#[test]
fn a_network_starts_from_what_was_learnt() {
    let settings = StdpSettings { neurons: 128, ..small(0) };
    let stdp = Stdp::<Digits>::new(settings).unwrap();
    let mut ann = Ann::<Mlp>::new(0).unwrap();
    let before = ann.network_mut().tensors(Values::Parameters).unwrap();
    stdp.pretrain(&mut ann).unwrap();
    let after = ann.network_mut().tensors(Values::Parameters).unwrap();
    assert_eq!(before[1..], after[1..]);
    let rms = root_mean_square(&before[0].values);
    let mean: Vec<f32> = (0..64)
        .map(|i| (0..128).map(|j| stdp.weights(j).unwrap()[i]).sum::<f32>() / 128.0)
        .collect();
    for (j, row) in after[0].values.chunks_exact(64).enumerate() {
        let own: Vec<f32> =
            stdp.weights(j).unwrap().iter().zip(&mean).map(|(w, m)| w - m).collect();
        let scale = rms / root_mean_square(&own);
        close(row, &own.iter().map(|w| w * scale).collect::<Vec<_>>());
    }

    let error = stdp.pretrain(&mut Ann::<DigitsCnn>::new(0).unwrap()).unwrap_err();
    let expected =
        "ann: found first weights of shape [16, 1, 3, 3] in DigitsCnn, expected [128, 64]";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_is_out_of_range_is_named() {
    let error = |change: fn(&mut StdpSettings)| {
        let mut settings = StdpSettings::default();
        change(&mut settings);
        Stdp::<Digits>::new(settings).unwrap_err().to_string()
    };
    let not_above_0 = "expected finite and above 0";
    let not_from_0 = "expected finite, 0 or more";
    for (error, name, expected) in [
        (error(|s| s.neurons = 0), "neurons", "expected 1 or more"),
        (error(|s| s.epochs = 0), "epochs", "expected 1 or more"),
        (error(|s| s.timesteps = 0), "timesteps", "expected 1 or more"),
        (error(|s| s.threshold = 0.0), "threshold", not_above_0),
        (error(|s| s.tau_membrane = f32::NAN), "tau_membrane", not_above_0),
        (error(|s| s.tau_theta = f32::INFINITY), "tau_theta", not_above_0),
        (error(|s| s.tau_trace = -1.0), "tau_trace", not_above_0),
        (error(|s| s.theta_plus = -1.0), "theta_plus", not_from_0),
        (error(|s| s.inhibition = f32::NAN), "inhibition", not_from_0),
        (error(|s| s.nu_pre = -1.0), "nu_pre", not_from_0),
        (error(|s| s.nu_post = f32::INFINITY), "nu_post", not_from_0),
        (error(|s| s.rate = 1.5), "rate", "expected above 0, at most 1"),
        (error(|s| s.weight_sum = 65.0), "weight_sum", "expected above 0, at most 64"),
    ] {
        assert!(error.starts_with(&format!("{name}: found")), "{error}");
        assert!(error.ends_with(expected), "{error}");
    }

    let digits = digits(0);
    let mut stdp = Stdp::<Digits>::new(small(0)).unwrap();
    let labelled = stdp.label(&digits.training).unwrap();
    let none = digits.training.take(0);
    let normalisation = data::Normalisation::new([0.3], [0.4]).unwrap();
    let normalised = digits.training.normalised(&normalisation).unwrap();
    let before = stdp.layer.state.clone();
    for error in [
        stdp.train(&none).unwrap_err(),
        stdp.train(&normalised).unwrap_err(),
        stdp.label(&none).unwrap_err(),
        stdp.label(&normalised).unwrap_err(),
        labelled.simulate(&normalised, 1).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("images: found "), "{error}");
    }
    assert_eq!(stdp.layer.state, before);
    let error = labelled.simulate(&digits.test, 0).unwrap_err().to_string();
    assert!(error.starts_with("timesteps: found 0"), "{error}");
}
