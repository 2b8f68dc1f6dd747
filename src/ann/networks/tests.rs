use super::*;
use crate::ann::layers::Layer;
use crate::ann::optimiser::{Optimiser, Step};
use crate::data::{Cifar10, Digits};
use crate::simulate::SpikingNetwork;
use crate::simulate::synapses::Stages;

fn pixels<N: Network>(images: usize) -> Vec<f32> {
    let values = 0..images * N::Task::SHAPE.size();
    values.map(|i| (i * 7919 % 256) as f32 / 255.0).collect()
}

fn adam(number: usize, learning_rate: f64) -> Step {
    Step { optimiser: Optimiser::Adam, number, learning_rate, weight_decay: 0.0 }
}

#[test]
fn networks_have_the_parameters_they_should() {
    fn parameters<N: Network>() -> usize {
        N::build(0).unwrap().graph().unwrap().parameters()
    }
    let vgg = |[a, b, c, d, hidden]: [usize; 5], classes| {
        let places = 3 * a + a * a + a * b + b * b + b * c + 2 * c * c + c * d + 5 * d * d;
        9 * places + d * hidden + hidden * classes
    };
    let biases = |[a, b, c, d, hidden]: [usize; 5]| 2 * a + 2 * b + 3 * c + 6 * d + hidden;
    let (full, quarter) = ([64, 128, 256, 512, 4096], [16, 32, 64, 128, 256]);
    assert_eq!(parameters::<Vgg15Cifar100>(), vgg(full, 100));
    assert_eq!(parameters::<Vgg15QuarterBn>(), vgg(quarter, 10) + biases(quarter));
    let stages = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64);
    let shortcuts = 16 * 32 + 32 * 64;
    let channels = 7 * 16 + (6 + 1) * 32 + (6 + 1) * 64; // a bias each, once folded
    assert_eq!(parameters::<ResNet20>(), stages + shortcuts + 640 + channels);
}

#[test]
fn residual_networks_train_and_convert() {
    let mut net = ResNet20::build(1).unwrap();
    let targets: Vec<f32> = (0..40).map(|i| f32::from(i % 10 == i / 10)).collect();
    let mut step = |number| {
        let step = adam(number, 1e-3);
        net.step(pixels::<ResNet20>(4), targets.clone(), 4, &step).unwrap().0
    };
    let first = step(1);
    let last = (2..7).map(step).last().unwrap();
    assert!(last < first, "{first} {last}");
    let stages = Stages::of_task::<Cifar10>(net.graph().unwrap()).unwrap();
    assert_eq!(stages.spiking(), 19);
}

#[test]
fn an_imagenet_sized_network_runs() {
    let net = Vgg16::build(0).unwrap();
    let logits = net.forward(pixels::<Vgg16>(1), 1).unwrap();
    assert_eq!(logits.len(), 1000);
    assert!(logits.iter().all(|x| x.is_finite() && *x != 0.0));
}

mod folded {
    use crate::ann::modules::*;
    use crate::data::tasks::Digits;
    network! {
        pub Folded for Digits = (
            (Conv3x3<1, 8, 8>, BatchNorm<8, 8>, AvgPool2<8, 8, 4>, Relu),
            (Conv3x3<8, 10, 4>, AvgPool2<10, 4, 2>, BatchNorm<10, 2>, Relu),
            (Flatten<10, 2, 40>, UnbiasedLinear<40, 12>, BatchNorm1d<12>, Relu),
            Linear<12, 10>,
        );
    }
}

/// dfdx's logits with batch normalisation apart, and the engine's with it folded.
#[test]
fn folded_normalisation_gives_the_same_logits() {
    use folded::Folded;
    let mut net = Folded::build(3).unwrap();
    let targets: Vec<f32> = (0..320).map(|i| f32::from(i % 10 == i / 10 % 10)).collect();
    for number in 1..=20 {
        let step = adam(number, 0.01);
        net.step(pixels::<Folded>(32), targets.clone(), 32, &step).unwrap();
    }
    let graph = net.graph().unwrap();
    assert!(matches!(&graph.nodes[0].layer, Layer::Conv { bias: Some(_), .. }));
    assert_eq!(graph.nodes.len(), 9);
    let stages = Stages::of_task::<Digits>(graph).unwrap();
    let logits = net.forward(pixels::<Folded>(32), 32).unwrap();
    // One channel: rows, columns, channels is the same order.
    for (image, logits) in pixels::<Folded>(32).chunks(64).zip(logits.chunks(10)) {
        let values = stages.forward(image).pop().unwrap();
        for (a, b) in values.iter().zip(logits) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

/// The bias flows at every timestep: without it, or with it scaled by a threshold, the spiking
/// network would lose its accuracy.
#[test]
fn a_folded_network_spikes_as_it_classified() {
    use crate::prelude::*;
    let digits = data::digits().unwrap().split(Shares::default(), 0).unwrap();
    let mut ann = Ann::<folded::Folded>::new(0).unwrap();
    let settings = TrainSettings { epochs: 8, ..TrainSettings::default() };
    ann.train(&digits.training, &settings).unwrap();
    let snn = convert(&ann, &digits.training.take(200))
        .and_then(|conversion| conversion.balance(Balance::Max))
        .unwrap();
    let images = digits.held_out.take(200);
    let run = simulate(&snn, &images, 300).unwrap();
    let ann = ann.accuracy(&images).unwrap();
    let last = run.curve.after(300).unwrap().correct;
    assert!(ann.correct > 160, "{ann:?}");
    assert!(last + 6 >= ann.correct, "{last} {ann:?}");
}

/// What a binary network's layers hold, and that it trains, converts and keeps its weights as
/// whole numbers.
#[test]
fn a_binary_network_spikes_as_it_classified() {
    use crate::prelude::*;
    let digits = data::digits().unwrap().split(Shares::default(), 0).unwrap();
    let mut ann = Ann::<DigitsBinary>::new(0).unwrap();
    let settings = TrainSettings { epochs: 8, ..TrainSettings::default() };
    ann.train(&digits.training, &settings).unwrap();
    let graph = ann.graph().unwrap();
    let weights = graph.nodes.iter().filter_map(|node| match &node.layer {
        Layer::Conv { weight, outputs, .. } | Layer::Linear { weight, outputs, .. } => {
            Some((weight, *outputs))
        }
        _ => None,
    });
    let binary = weights.map(|(weight, outputs)| {
        let mut channels = weight.chunks_exact(weight.len() / outputs);
        channels.all(|channel| channel.iter().all(|w| w.abs() == channel[0].abs()))
    });
    let expected = [false, true, true, true, true, true, false];
    assert_eq!(binary.collect::<Vec<_>>(), expected);

    let stages = Stages::of_task::<Digits>(graph).unwrap();
    let images = digits.held_out.take(200);
    for (i, logits) in ann.logits(&images).unwrap().iter().enumerate() {
        let values = stages.forward(&images.input(i)).pop().unwrap();
        for (a, b) in values.iter().zip(logits) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
    let conversion = convert(&ann, &digits.training.take(200)).unwrap();
    let snn = conversion.balance(Balance::Max).unwrap();
    let correct = |network: &SpikingNetwork| {
        let run = network.simulate(&images, 200).unwrap();
        run.curve.after(200).unwrap().correct
    };
    let (ann, last) = (ann.accuracy(&images).unwrap(), correct(snn.network()));
    assert!(ann.correct > 160, "{ann:?}");
    assert!(last + 6 >= ann.correct, "{last} {ann:?}");
}
