//! Networks that cannot be simulated: both simulators name the layer and the value before they run.

use dfdx::prelude::Cpu;
use evospike::ann::graph::Graph;
use evospike::ann::layers::{CHANNELS_FIRST, Layer, Window};
use evospike::data::Shape;
use evospike::simulate::SpikingNetwork;
use evospike::simulate::neurons::Neurons;
use evospike::through_time::reference;

const INPUT: Shape = Shape::new(1, 2, 2);

fn linear() -> Layer {
    Layer::Linear {
        weight: vec![0.5; 12],
        bias: Some(vec![0.0; 2]),
        inputs: 6,
        outputs: 2,
        order: CHANNELS_FIRST,
    }
}

fn conv(change: impl FnOnce(&mut Vec<f32>, &mut Vec<f32>)) -> Layer {
    let (mut weight, mut bias) = (vec![0.5; 6], vec![0.25; 6]);
    change(&mut weight, &mut bias);
    Layer::Conv {
        weight,
        bias: Some(bias),
        inputs: 1,
        outputs: 6,
        window: Window::square(1, 1, 0),
        groups: 1,
    }
}

/// What both say of a convolution, pooling, neurons and a linear layer.
fn error(first: Layer, neurons: Neurons, input: &[f32], timesteps: usize) -> [String; 2] {
    let layers = [first, Layer::average(2), Layer::Neurons, linear()];
    let graph = Graph::chain(INPUT, layers);
    let network = SpikingNetwork::new(graph.clone(), vec![neurons.clone()]);
    let fast = network.and_then(|network| network.trace(input, timesteps));
    let device = Cpu::default();
    let plain = reference::trace(&device, &graph, &[neurons], input, 1, timesteps);
    [fast.unwrap_err().to_string(), plain.unwrap_err().to_string()]
}

#[test]
fn weights_and_biases_are_named() {
    for (layer, expected) in [
        (conv(|w, _| w[3] = f32::NAN), "found weight NaN, expected finite weights"),
        (conv(|w, _| w[0] = f32::INFINITY), "found weight inf, expected finite weights"),
        (conv(|_, b| b[5] = -f32::INFINITY), "found bias -inf, expected finite biases"),
        (conv(|w, _| w.push(0.0)), "found 7 weights, expected 6 x 1 x 1 x 1"),
        (conv(|_, b| b.truncate(4)), "found 4 biases, expected 6, one an output channel"),
    ] {
        for error in error(layer, Neurons::new([1.0]), &[0.0; 4], 2) {
            assert_eq!(error, format!("layer 0 (conv): {expected}"));
        }
    }
    let sized = |kernel, stride| Layer::Conv {
        weight: vec![0.0; kernel * kernel],
        bias: None,
        inputs: 1,
        outputs: 1,
        window: Window::square(kernel, stride, 0),
        groups: 1,
    };
    for (layer, expected) in [
        (sized(1, 0), "found size [1, 1], stride [0, 0]"),
        (sized(3, 1), "found an image of 1 x 2 x 2, expected at least the window's 3 x 3"),
    ] {
        for error in error(layer, Neurons::new([1.0]), &[0.0; 4], 2) {
            assert!(error.starts_with(&format!("layer 0 (conv): {expected}")), "{error}");
        }
    }
}

#[test]
fn neurons_are_named() {
    let with = |change: fn(&mut Neurons)| {
        let mut neurons = Neurons::new([1.0]);
        change(&mut neurons);
        error(conv(|_, _| ()), neurons, &[0.0; 4], 2)
    };
    for (found, expected) in [
        (with(|n| n.threshold = vec![0.0]), "found threshold 0, "),
        (with(|n| n.threshold = vec![-1.5]), "found threshold -1.5, "),
        (with(|n| n.threshold[0] = f32::NAN), "found threshold NaN, "),
        (with(|n| n.threshold = vec![1.0; 5]), "found 5 thresholds, expected 1, or 6"),
        (with(|n| n.leak = vec![0.0]), "found leak 0, "),
        (with(|n| n.leak = vec![1.5]), "found leak 1.5, "),
        (with(|n| n.current = vec![f32::INFINITY]), "found current inf, "),
        (with(|n| n.current = Vec::new()), "found 0 currents, expected 1, or 6"),
        (with(|n| n.initial = f32::NAN), "found initial potential NaN, "),
    ] {
        for error in found {
            assert!(error.contains("(neurons): ") && error.contains(expected), "{error}");
        }
    }
}

#[test]
fn inputs_and_timesteps_are_named() {
    let error =
        |input: &[f32], timesteps| error(conv(|_, _| ()), Neurons::new([1.0]), input, timesteps);
    for (found, expected) in [
        (error(&[0.0, 0.0, f32::NAN, 0.0], 3), "found NaN at place 2"),
        (error(&[0.0; 5], 3), "found 5 values, expected 4, or 4 for each of 3 timesteps"),
        (error(&[0.0; 4], 0), "timesteps: found"),
    ] {
        for error in found {
            assert!(error.contains(expected), "{error}");
        }
    }
}
