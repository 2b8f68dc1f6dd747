use super::*;
use crate::ann::graph::Graph;
use crate::ann::layers::{CHANNELS_FIRST, Layer, Window};
use crate::data::images::Images;
use crate::data::images::Whole;
use crate::data::shape::Shape;
use crate::data::tasks::Classify;
use crate::simulate::codes::InputCode;
use crate::simulate::neurons::Neurons;
use crate::simulate::settings::SimulateSettings;

type Pixels = Classify<1, 4, 2>;

/// A convolution and pooling, a convolution around a shortcut, a linear layer.
fn network() -> SpikingNetwork {
    let conv = |inputs: usize, outputs: usize, kernel: usize| Layer::Conv {
        weight: vec![0.25; outputs * inputs * kernel * kernel],
        bias: None,
        inputs,
        outputs,
        window: Window::square(kernel, 1, kernel / 2),
        groups: 1,
    };
    let mut graph =
        Graph::chain(Shape::new(1, 4, 4), [conv(1, 3, 3), Layer::average(2), Layer::Neurons]);
    let body = graph.then(conv(3, 3, 3));
    graph.add("", Layer::Sum, [body, body - 1]);
    graph.then(Layer::Neurons);
    graph.then(Layer::Linear {
        weight: vec![1.0; 24],
        bias: None,
        inputs: 12,
        outputs: 2,
        order: CHANNELS_FIRST,
    });
    let neurons = vec![Neurons::new([1.0]), Neurons::new([1.0])];
    SpikingNetwork::new(graph, neurons).unwrap()
}

fn images() -> Images<Whole, Pixels> {
    let pixels = (0..32).map(|i| (i * 83 % 256) as u8).collect();
    Images::from_arrays(pixels, vec![0, 1]).unwrap()
}

#[test]
fn operations_are_macs_times_spikes_a_neuron() {
    let run = network().simulate(&images(), 10).unwrap();
    let energy = network().energy(&run, 6).unwrap();
    let macs = [4 * 4 * 3 * 9, 2 * 2 * 3 * 3 * 9, 12 * 2].map(f64::from);
    let found: Vec<f64> = energy.layers.iter().map(|layer| layer.ann).collect();
    assert_eq!(found, macs);
    let first = &energy.layers[0];
    assert_eq!((first.accumulates, first.multiply_accumulates), (0.0, macs[0]));
    let mut picojoules = 4.6 * macs[0];
    for (i, layer) in energy.layers.iter().enumerate().skip(1) {
        let spikes: u64 = run.layers[i - 1].spikes[..6].iter().sum();
        assert!(spikes > 0);
        let expected = macs[i] * spikes as f64 / 2.0 / 12.0; // 2 images, 12 neurons
        assert!((layer.accumulates - expected).abs() < 1e-9);
        assert_eq!(layer.multiply_accumulates, 0.0);
        picojoules += 0.9 * expected;
    }
    assert!((energy.snn_picojoules() - picojoules).abs() < 1e-6);
    let ann = 4.6 * macs.iter().sum::<f64>();
    assert!((energy.ratio() - picojoules / ann).abs() < 1e-9);
    assert!(network().energy(&run, 10).unwrap().snn_picojoules() > picojoules);
    let again = energy.recomputed();
    let more = 5.0 * 4.6 * macs[0];
    assert!((again.snn_picojoules() - picojoules - more).abs() < 1e-6);
}

#[test]
fn a_code_that_spikes_multiplies_nothing() {
    let code = InputCode::Latency { period: 5 };
    let settings = SimulateSettings { code, ..10.into() };
    let run = network().simulate(&images(), settings).unwrap();
    let spikes = run.input.as_ref().unwrap();
    assert_eq!(spikes[..5], spikes[5..]);
    // Every pixel that rounds to a fifth or more spikes once a period.
    let lit = (0..32).filter(|i| i * 83 % 256 >= 26).count() as u64;
    assert_eq!(spikes[..5].iter().sum::<u64>(), lit);
    let energy = network().energy(&run, 5).unwrap();
    let first = &energy.layers[0];
    assert_eq!(first.multiply_accumulates, 0.0);
    assert_eq!(first.accumulates, 432.0 * lit as f64 / 2.0 / 16.0);
}

#[test]
fn runs_of_other_networks_and_lengths_are_named() {
    let run = network().simulate(&images(), 10).unwrap();
    for timesteps in [0, 11] {
        let error = network().energy(&run, timesteps).unwrap_err().to_string();
        assert_eq!(error, format!("timesteps: found {timesteps}, expected 1..=10, the run's"));
    }
    let mut other = run;
    other.layers.remove(0);
    let error = network().energy(&other, 1).unwrap_err().to_string();
    assert!(error.starts_with("run: found layers of [12, 2] neurons"), "{error}");
}
