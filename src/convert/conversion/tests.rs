use super::*;
use crate::ann::graph::Graph;
use crate::ann::layers::{CHANNELS_FIRST, Layer, Window};
use crate::ann::model::Ann;
use crate::ann::networks::{DigitsCnn, Network};
use crate::ann::train::TrainSettings;
use crate::base::{Stream, rng};
use crate::data::embedded::digits;
use crate::data::images::Whole;
use crate::data::shape::Shape;
use crate::data::{Digits, Shares, Split};
use crate::simulate::network::SpikingNetwork;
use crate::simulate::network::Trace;
use crate::simulate::neurons::Charge;
use crate::simulate::run::simulate;
use rand::RngExt;

#[test]
fn percentiles_are_numpys() {
    // numpy.percentile([0, 0, 0, 0, 1, 2, 4, 8, 16, 32], p), as one channel and as two
    let one = Activations::of(&[&[4.0, 0.0, 32.0, 0.0, 1.0, 0.0, 16.0, 8.0, 0.0, 2.0]]);
    let two = Activations::of(&[&[4.0, 0.0, 32.0, 0.0, 1.0], &[0.0, 16.0, 8.0, 0.0, 2.0]]);
    for (percent, expected) in
        [(100.0, 32.0), (99.9, 31.856), (90.0, 17.6), (50.0, 1.5), (40.0, 0.6), (30.0, 0.0)]
    {
        for activations in [&one, &two] {
            let found = activations.percentile(percent);
            assert!((found - expected).abs() < 1e-4, "{percent}: {found}");
        }
    }
    let medians: Vec<f32> = two.percentiles(50.0).collect();
    assert_eq!(medians, [1.0, 2.0]);
    let means: Vec<f64> = two.means().collect();
    assert_eq!(means, [37.0 / 5.0, 26.0 / 5.0]);
}

#[test]
fn histograms_are_close_to_all_activations() {
    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let images = digits.training.take(150); // more than a batch
    let stages = Stages::new(Ann::<DigitsCnn>::new(0).unwrap().graph().unwrap()).unwrap();
    let record = |kept| Activations::record_keeping(kept, &stages, images.view()).unwrap();
    let exact = record(usize::MAX);
    // From the first batch on, and from a later one on.
    for (layer, exact) in exact.iter().enumerate() {
        for histogram in [record(0), record(100_000)].map(|mut layers| layers.swap_remove(layer)) {
            assert_eq!(histogram.len(), exact.len());
            let counts = |a: &Activations| a.channels.iter().map(Channel::len).collect::<Vec<_>>();
            assert_eq!(counts(&histogram), counts(exact));
            let largest = |a: &Activations| a.percentiles(100.0).collect::<Vec<_>>();
            assert_eq!(largest(&histogram), largest(exact));
            for percent in [30.0, 60.0, 90.0, 99.0, 99.9] {
                let pairs = histogram.percentiles(percent).zip(exact.percentiles(percent));
                let whole = (histogram.percentile(percent), exact.percentile(percent));
                for (found, expected) in pairs.chain([whole]) {
                    let error = (found - expected).abs();
                    assert!(error <= expected / 1024.0, "{percent}: {found}, expected {expected}");
                }
            }
            for (found, expected) in histogram.means().zip(exact.means()) {
                assert!((found - expected).abs() <= expected / 1024.0, "{found}, {expected}");
            }
            let (found, expected) = (histogram.least_squares(8), exact.least_squares(8));
            assert!((found / expected - 1.0).abs() < 0.02, "{found}, expected {expected}");
        }
    }
    let bins: usize = record(0).iter().flat_map(|layer| layer.positive()).count();
    let all: usize = exact.iter().flat_map(|layer| layer.positive()).count();
    assert!(bins < all / 4 * 3, "{bins} bins of {all} activations");
}

#[test]
fn a_channel_that_is_silent_takes_its_layers_threshold() {
    let activations = Activations::of(&[&[1.0, 2.0, 3.0], &[0.0; 3], &[0.0, 0.0, 8.0]]);
    let at = |percent| {
        let layer = || activations.percentile(percent);
        per_channel(activations.percentiles(percent), layer).threshold
    };
    assert_eq!(at(100.0), [3.0, 8.0, 8.0]);
    assert_eq!(at(50.0), [2.0, 0.0, 0.0]);
}

#[test]
fn least_squares_weighs_clipping_against_steps() {
    // At one timestep a neuron says 0 or its threshold. For one value of 4 beside n of 1 that
    // is an error of n for the threshold 4, and of 9 for 1.
    let mut values = vec![1.0; 5];
    values.extend([4.0, 0.0, 0.0]);
    assert_eq!(Activations::of(&[&values]).least_squares(1), 4.0);
    values.extend([1.0; 5]);
    assert_eq!(Activations::of(&[&values]).least_squares(1), 1.0);
    // At four timesteps 4 says 1 as well.
    assert_eq!(Activations::of(&[&values]).least_squares(4), 4.0);
    assert_eq!(Activations::of(&[&[0.0; 3]]).least_squares(4), 0.0);
}

#[test]
fn channels_have_thresholds_of_their_own() {
    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let images = digits.training.take(30);
    let ann = Ann::<DigitsCnn>::new(0).unwrap();
    let conversion = convert(&ann, &images).unwrap();
    let snn = conversion.balance(Balance::MaxPerChannel).unwrap();
    let stages = Stages::new(ann.graph().unwrap()).unwrap();
    for (layer, neurons) in snn.neurons().iter().enumerate() {
        let channels = stages.stages[layer].output.channels;
        let mut most = vec![0f32; channels];
        for i in 0..images.len() {
            // One colour: rows, columns, channels is the same order.
            for (j, z) in stages.forward(&images.input(i))[layer].iter().enumerate() {
                most[j % channels] = most[j % channels].max(*z);
            }
        }
        let all = most.iter().copied().fold(0.0, f32::max);
        let expected = most.iter().map(|&z| if z > 0.0 { z } else { all });
        assert_eq!(neurons.threshold, expected.collect::<Vec<_>>());
    }
    let same = conversion.balance(Balance::PercentilePerChannel(100.0));
    assert_eq!(same.unwrap().neurons(), snn.neurons());
}

/// The largest current into each layer, found by the plain simulator of the layers before it.
#[test]
fn spike_norm_thresholds_are_the_largest_currents_of_the_spiking_network() {
    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let (images, timesteps) = (digits.training.take(5), 70);
    let ann = Ann::<DigitsCnn>::new(0).unwrap();
    let conversion = convert(&ann, &images).unwrap();
    let code = InputCode::Poisson { seed: 2 };
    let snn = conversion.balance(Balance::SpikeNorm { timesteps, code });
    let neurons = snn.unwrap().neurons().to_vec();
    let frames: Vec<_> =
        (0..images.len()).map(|i| images.encoded(i, code, timesteps).unwrap()).collect();
    let at = |t: usize| frames.iter().flat_map(move |f| &f[t * 64..][..64]);
    let inputs: Vec<f32> = (0..timesteps).flat_map(at).copied().collect();
    let graph = ann.graph().unwrap();
    let ends = (0..graph.nodes.len()).filter(|&i| graph.nodes[i].layer == Layer::Neurons);
    for (layer, end) in ends.enumerate() {
        let traces = crate::through_time::reference::trace(
            &dfdx::prelude::Cpu::default(),
            &Graph { nodes: graph.nodes[..end].to_vec(), ..graph },
            &neurons[..layer],
            &inputs,
            images.len(),
            timesteps,
        );
        let traces = traces.unwrap();
        let currents = traces.iter().flat_map(|trace| trace.output.iter().flatten());
        let expected = currents.copied().fold(0.0, f32::max);
        let found = neurons[layer].threshold[0];
        assert!((found / expected - 1.0).abs() < 1e-4, "{layer}: {found}, expected {expected}");
    }
}

type Pixel = crate::data::Classify<1, 1, 2>;
crate::network! {
    Tiny for Pixel = (
        (Flatten<1, 1, 1>, UnbiasedLinear<1, 2>, Relu),
        (UnbiasedLinear<2, 1>, Relu),
        UnbiasedLinear<1, 2>,
    );
}
use crate::ann::modules::{Flatten, Relu, UnbiasedLinear};

fn linear(weight: &[f32], inputs: usize) -> Layer {
    Layer::Linear {
        weight: weight.to_vec(),
        bias: None,
        inputs,
        outputs: weight.len() / inputs,
        order: CHANNELS_FIRST,
    }
}

/// Two neurons, then one, on images of one pixel of 0.6.
fn tiny(first: [f32; 2], second: f32) -> Result<Conversion<Tiny>> {
    let layers = [
        linear(&first, 1),
        Layer::Neurons,
        linear(&[second; 2], 2),
        Layer::Neurons,
        linear(&[1.0, 0.0], 1),
    ];
    let images = Images::<Whole, Pixel>::from_arrays(vec![153; 8], vec![0; 8])?;
    let images = images.split(Shares::default(), 0)?.training;
    Conversion::of(Stages::new(Graph::chain(Shape::new(1, 1, 1), layers))?, &images)
}

#[test]
fn calibration_makes_up_for_what_spikes_lose() {
    let conversion = tiny([1.0, 0.5], 0.5).unwrap();
    let snn = conversion.balance(Balance::Max).unwrap();
    let snn = snn.with(|neurons| neurons.threshold = vec![1.0]).unwrap();
    let calibrated = conversion.calibrated(&snn, 2).unwrap();
    // In two timesteps, 0.6 and 0.3 give one spike and none: 0.1 and 0.3 are lost. With them,
    // 0.7 and 0.6, both spike in the second timestep, and so does the last neuron: a mean of
    // 0.5 where the activation is 0.45. Uncalibrated layers before it would leave it silent.
    let currents = |layer: usize| &calibrated.neurons()[layer].current;
    let near = |found: &[f32], expected: &[f32]| {
        found.len() == expected.len()
            && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6)
    };
    assert!(near(currents(0), &[0.1, 0.3]), "{:?}", currents(0));
    assert!(near(currents(1), &[-0.05]), "{:?}", currents(1));
    let trace = calibrated.network().trace(&[0.6], 2).unwrap();
    assert_eq!(trace.spikes[0], [vec![], vec![0, 1]]);
    // A second calibration adds to the first: one spike for 0.6 again, and one too much for 0.3.
    let twice = conversion.calibrated(&calibrated, 2).unwrap();
    let currents = &twice.neurons()[0].current;
    assert!(near(currents, &[0.2, 0.1]), "{currents:?}");
}

#[test]
fn what_cannot_be_calibrated_is_named() {
    let conversion = tiny([1.0, 0.5], 0.5).unwrap();
    let snn = conversion.balance(Balance::Max).unwrap();
    let message = |result: Result<Snn<Tiny>>| result.err().unwrap().to_string();
    let other = tiny([1.0, 0.5], 0.5).unwrap().calibrated(&snn, 2);
    assert_eq!(
        message(other),
        "snn: found another network, expected one that this conversion balanced"
    );
    let code = InputCode::Direct;
    for result in [
        conversion.calibrated(&snn, 0),
        conversion.balance(Balance::SpikeNorm { timesteps: 0, code }),
        conversion.balance(Balance::LeastSquares { timesteps: 0 }),
    ] {
        assert_eq!(message(result), "timesteps: found 0, expected 1 or more");
    }
    let least = conversion.balance(Balance::LeastSquaresPerChannel { spikes: 0 });
    assert_eq!(message(least), "spikes: found 0, expected 1 or more");
    assert!(
        message(conversion.balance(Balance::PercentilePerChannel(0.0)))
            .starts_with("percentile: found 0")
    );
    let error = message(snn.with(|neurons| neurons.current = vec![f32::NAN]));
    assert_eq!(error, "layer 0 (neurons): found current NaN, expected finite currents");
    let error = message(conversion.balance(Balance::Learned));
    assert!(error.starts_with("balance: found learned, of a network whose layer 0"), "{error}");
    // Neurons that nothing reaches: no threshold is right.
    let silent = tiny([-1.0, -0.5], 0.5).unwrap();
    for balance in [
        Balance::MaxPerChannel,
        Balance::SpikeNorm { timesteps: 4, code },
        Balance::LeastSquares { timesteps: 4 },
        Balance::LeastSquaresPerChannel { spikes: 4 },
    ] {
        let error = message(silent.balance(balance));
        let start = "layer 0 (neurons): found threshold ";
        assert!(error.starts_with(start), "{balance}: {error}");
    }
    let error = tiny([f32::NAN, 0.5], 0.5).err().unwrap().to_string();
    assert_eq!(error, "layer 0 (linear): found weight NaN, expected finite weights");
    let error = tiny([f32::MAX, f32::MAX], 1.0).err().unwrap().to_string();
    assert_eq!(error, "layer 1 (neurons): found activation inf, expected finite ones");
}

/// Rueckauer et al. 2017, section 2.2.3: weights times the scale before them over their own,
/// biases over their own, every threshold 1. By powers of two the same numbers up to an
/// exponent, so the same spikes; by any others the same up to rounding.
#[test]
fn thresholds_as_charges_are_normalised_weights_and_biases() {
    let noise = |n: usize, seed: usize| -> Vec<f32> {
        let value = |i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1000.0 - 0.44;
        (0..n).map(value).collect()
    };
    let network = |scales: [f32; 3], normalised: bool| {
        // Into each layer, and out of it.
        let [a, b, c] = scales.map(|scale| if normalised { scale } else { 1.0 });
        let times = |values: Vec<f32>, factor: f32| -> Vec<f32> {
            values.into_iter().map(|w| w * factor).collect()
        };
        let conv = |inputs: usize, outputs: usize, seed, before: f32, own: f32| Layer::Conv {
            weight: times(noise(outputs * inputs * 9, seed), before / own),
            bias: Some(times(noise(outputs, seed + 1), 1.0 / own)),
            inputs,
            outputs,
            window: Window::square(3, 1, 1),
            groups: 1,
        };
        let linear = |inputs: usize, outputs: usize, seed, before: f32, own: f32| Layer::Linear {
            weight: times(noise(outputs * inputs, seed), before / own),
            bias: Some(times(noise(outputs, seed + 1), 1.0 / own)),
            inputs,
            outputs,
            order: CHANNELS_FIRST,
        };
        let layers = [
            conv(2, 5, 1, 1.0, a),
            Layer::Neurons,
            conv(5, 7, 3, a, b),
            Layer::average(2),
            Layer::Neurons,
            linear(28, 9, 5, b, c),
            Layer::Neurons,
            linear(9, 4, 7, c, 1.0),
        ];
        let neurons = |scale| Neurons {
            initial: 0.5,
            ..match normalised {
                true => Neurons { charge: Charge::Unit, ..Neurons::new([1.0]) },
                false => Neurons::new([scale]),
            }
        };
        let neurons = scales.map(neurons).to_vec();
        SpikingNetwork::new(Graph::chain(Shape::new(2, 4, 4), layers), neurons).unwrap()
    };
    let (input, timesteps) = (noise(32, 9), 100);
    let run = |scales, normalised| {
        let trace = network(scales, normalised).trace(&input, timesteps);
        trace.unwrap()
    };
    let exact = [0.5, 4.0, 2.0];
    let ours = run(exact, false);
    assert_eq!(ours, run(exact, true));
    let spikes = |trace: &Trace| -> Vec<usize> {
        let layers = trace.spikes.iter();
        layers.map(|layer| layer.iter().map(Vec::len).sum()).collect()
    };
    assert!(spikes(&ours).iter().all(|&spikes| spikes > 50), "{:?}", spikes(&ours));
    let rounded = [0.3, 1.7, 0.9];
    let pairs = spikes(&run(rounded, false)).into_iter().zip(spikes(&run(rounded, true)));
    for (ours, theirs) in pairs {
        assert!(ours.abs_diff(theirs) * 50 <= theirs, "{ours} {theirs}");
    }
}

/// Two timesteps of a neuron that starts half a threshold up say what two levels do.
#[test]
fn learned_thresholds_say_what_quantised_activations_do() {
    let (bound, levels) = (0.5, 2);
    let weights = [-1.0, 0.0, 0.24, 0.26, 0.7, 0.8, 9.0];
    let layers = [
        linear(&weights, 1),
        Layer::Qcfs { bound, levels },
        linear(&[[1.0; 7], [0.0; 7]].concat(), 7),
    ];
    let stages = Stages::new(Graph::chain(Shape::new(1, 1, 1), layers)).unwrap();
    let of_ann: Vec<f32> =
        stages.forward(&[0.5])[0].iter().map(|&z| stages.stages[0].activation.of(z)).collect();
    assert_eq!(of_ann, [0.0, 0.0, 0.0, 0.25, 0.25, 0.5, 0.5]);
    let images = Images::<Whole, Pixel>::from_arrays(vec![128; 8], vec![0; 8]).unwrap();
    let images = images.split(Shares::default(), 0).unwrap().training;
    let conversion = Conversion::<Tiny>::of(stages, &images).unwrap();
    let snn = conversion.balance(Balance::Learned).unwrap();
    let expected = Neurons { initial: 0.5, ..Neurons::new([bound]) };
    assert_eq!(snn.neurons(), [expected]);
    let trace = snn.network().trace(&[0.5], levels).unwrap();
    for (neuron, a) in of_ann.iter().enumerate() {
        let fired = trace.spikes[0].iter().filter(|s| s.contains(&neuron));
        assert_eq!(bound * fired.count() as f32 / levels as f32, *a, "{neuron}");
    }
    // The statistics are those of the activation, which no image takes above its bound.
    let max = conversion.balance(Balance::Max).unwrap();
    assert_eq!(max.thresholds(), [bound]);
}

/// Network after six epochs.
fn trained<N: Network<Task = Digits>>(digits: &Split<Digits>) -> Ann<N> {
    let mut ann = Ann::<N>::new(0).unwrap();
    let settings = TrainSettings { epochs: 6, ..TrainSettings::default() };
    ann.train(&digits.training, &settings).unwrap();
    ann
}

#[test]
fn a_network_trained_with_its_bounds_needs_few_timesteps() {
    use crate::ann::networks::DigitsQcfs;
    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let ann = trained::<DigitsQcfs>(&digits);
    let bounds: Vec<f32> = (ann.graph().unwrap().nodes.iter())
        .filter_map(|node| match &node.layer {
            Layer::Qcfs { bound, .. } => Some(*bound),
            _ => None,
        })
        .collect();
    assert!(bounds.iter().all(|&bound| bound != 2.0), "{bounds:?}");
    // The engine and dfdx see the same network, up to rounding.
    let stages = Stages::new(ann.graph().unwrap()).unwrap();
    let images = digits.held_out.take(50);
    let logits = ann.logits(&images).unwrap();
    let differ = logits.iter().enumerate().filter(|(i, logits)| {
        let ours = stages.forward(&images.input(*i)).pop().unwrap();
        ours.iter().zip(*logits).any(|(a, b)| (a - b).abs() > 1e-3)
    });
    assert!(differ.count() <= 2); // where a value lies on a step
    let conversion = convert(&ann, &digits.training).unwrap();
    let snn = conversion.balance(Balance::Learned).unwrap();
    assert_eq!(snn.thresholds(), bounds);
    assert!(snn.neurons().iter().all(|neurons| neurons.initial == 0.5));
    let at = |snn: &Snn<DigitsQcfs>, timesteps: usize| {
        let run = simulate(snn, &digits.held_out, timesteps).unwrap();
        run.curve.after(timesteps).unwrap().percent()
    };
    let reached = ann.accuracy(&digits.held_out).unwrap().percent();
    let (learned, max) = (at(&snn, 4), conversion.balance(Balance::Max).unwrap());
    assert!(learned > reached - 4.0, "{learned}, ANN {reached}");
    let max = at(&max, 4);
    assert!(max < learned, "{max}, learned {learned}, ANN {reached}");
}

#[test]
fn least_squares_per_channel_round_to_the_nearest() {
    // By hand: two spikes of 1 make 1 and 2 exactly, a single one stands for both at 1.5. Two spikes
    // stand for 4, 4 and 3 at 11/3, where the nearest percent of 4 is 3.68.
    let activations = Activations::of(&[&[1.0, 2.0, 2.0, 1.0], &[0.0; 4], &[4.0, 4.0, 3.0, 0.0]]);
    let thresholds = |spikes| activations.least_squares_rounded(spikes);
    assert_eq!(thresholds(2), [2.0, 0.0, 3.68]);
    assert_eq!(thresholds(1)[..2], [1.5, 0.0]);

    // The same as going through all activations one by one.
    let mut rng = rng(0, Stream::Split);
    let channel: Vec<f32> = (0..1000).map(|_| rng.random::<f32>().powi(3)).collect();
    let activations = Activations::of(&[&channel]);
    for spikes in [1, 3, 8, 1500, 1 << 30] {
        let steps = spikes as f32;
        let error = |threshold: f32| -> f64 {
            let said =
                |a: f32| (a * (steps / threshold) + 0.5).min(steps).floor() * (threshold / steps);
            channel.iter().map(|&a| f64::from(a - said(a)).powi(2)).sum()
        };
        let most = channel.iter().copied().fold(0.0, f32::max);
        let percents = (1..=100).rev().map(|percent| most * percent as f32 / 100.0);
        let best = percents.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap();
        assert_eq!(activations.least_squares_rounded(spikes), [best], "{spikes} spikes");
    }

    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let conversion = convert(&trained::<DigitsCnn>(&digits), &digits.training).unwrap();
    let error = |balance| {
        let snn = conversion.balance(balance).unwrap();
        let layers = snn.neurons().iter().zip(&conversion.activations);
        let channels = layers.flat_map(|(n, a)| n.threshold.iter().zip(&a.channels));
        let rounded = |a: f32, size: f32| (a / size).round().min(6.0) * size;
        let of = |(&threshold, channel): (&f32, &Channel)| -> f64 {
            let size = threshold / 6.0;
            let errors = channel.positive().map(|(a, count)| (a - rounded(a, size), count));
            errors.map(|(error, count)| f64::from(error * error) * count as f64).sum()
        };
        channels.map(of).sum::<f64>()
    };
    let least = error(Balance::LeastSquaresPerChannel { spikes: 6 });
    for percent in [100.0, 99.9, 99.7, 99.0, 97.0] {
        let percentile = error(Balance::PercentilePerChannel(percent));
        assert!(least < percentile, "{percent}: {least} {percentile}");
    }
}

/// What calibration is for: a trained network's accuracy where timesteps are few.
#[test]
fn calibrated_networks_are_better_early() {
    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let ann = trained::<DigitsCnn>(&digits);
    let conversion = convert(&ann, &digits.training).unwrap();
    let timesteps = 6;
    let accuracy = |snn: &Snn<DigitsCnn>| {
        let run = simulate(snn, &digits.held_out, timesteps).unwrap();
        run.curve.after(timesteps).unwrap().percent()
    };
    let max = conversion.balance(Balance::Max).unwrap();
    let least = conversion.balance(Balance::LeastSquares { timesteps }).unwrap();
    let code = InputCode::Direct;
    let norm = conversion.balance(Balance::SpikeNorm { timesteps, code }).unwrap();
    let channels = conversion.balance(Balance::MaxPerChannel).unwrap();
    let half = least.with(|neurons| neurons.initial = 0.5).unwrap();
    let calibrated = conversion.calibrated(&least, timesteps).unwrap();
    let both = conversion.calibrated(&half, timesteps).unwrap();
    let networks = [&max, &norm, &channels, &least, &half, &calibrated, &both];
    let found = networks.map(accuracy);
    let ann = ann.accuracy(&digits.held_out).unwrap().percent();
    let [max, _, channels, least, half, calibrated, both] = found;
    assert!(channels > max && least > max, "{ann}, {found:?}");
    assert!(half > least && calibrated > least, "{ann}, {found:?}");
    assert!(both > least && both > ann - 5.0, "{ann}, {found:?}");
}

#[test]
fn impossible_thresholds_are_named() {
    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let ann = Ann::<DigitsCnn>::new(0).unwrap();
    let conversion = convert(&ann, &digits.training.take(20)).unwrap();
    let snn = conversion.balance(Balance::Max).unwrap();
    let message = |error: Result<Snn<DigitsCnn>>| error.err().unwrap().to_string();
    for percent in [0.0, -1.0, 100.1, f64::NAN] {
        let error = message(conversion.balance(Balance::Percentile(percent)));
        assert!(error.starts_with("percentile: found"), "{error}");
    }
    let error = message(conversion.balance(Balance::Percentile(1e-9)));
    assert!(error.starts_with("layer 0 (neurons): found threshold 0"), "{error}");
    let error = message(snn.with_neurons(vec![Neurons::new([1.0]); 3]));
    assert_eq!(error, "neurons: found parameters of 3 layers, expected 6, one a layer of neurons");
    let error = message(snn.scaled(&[1.0, 1.0, -1.0, 1.0, 1.0, 1.0]));
    assert!(error.starts_with("layer 2 (neurons): found threshold -"), "{error}");
    assert!(convert(&ann, &digits.training.take(0)).is_err());
}
