use super::*;
use crate::ann::graph::Graph;
use crate::ann::layers::Layer;
use crate::ann::layers::linear;
use crate::data::images::Whole;
use crate::data::shape::Shape;
use crate::data::tasks::Classify;
use crate::metrics::AccuracyCurve;
use crate::metrics::predict;
use crate::simulate::codes::InputCode;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::network::Trace;
use crate::simulate::network::raster_chart;
use crate::simulate::neurons::Neurons;

type Pixels = Classify<1, 2, 2>; // 1 x 2 x 2, 2 classes

/// Two neurons; class 0 sums what the first pixels give, class 1 the last.
fn network() -> SpikingNetwork {
    #[rustfmt::skip]
    let first = vec![
        1.0, 0.5, 0.0, 0.0,
        0.0, 0.0, 0.5, 1.0,
    ];
    let layers = [linear(first, 4), Layer::Neurons, linear(vec![1.0, 0.0, 0.0, 1.0], 2)];
    let neurons = vec![Neurons::new([2.0])];
    SpikingNetwork::new(Graph::chain(Shape::new(1, 2, 2), layers), neurons).unwrap()
}

fn images() -> Images<Whole, Pixels> {
    let pixels = vec![255, 51, 0, 0, 0, 0, 102, 255, 204, 0, 51, 0];
    Images::from_arrays(pixels, vec![0, 1, 0]).unwrap()
}

/// Finite weights whose sums are not: such an output is no class.
#[test]
fn outputs_that_overflow_are_an_error() {
    let run = |weight: f32| {
        let last = linear(vec![weight, -weight, weight, weight], 2);
        let layers = [linear(vec![1.0; 8], 4), Layer::Neurons, last];
        let neurons = vec![Neurons::new([0.5])];
        let graph = Graph::chain(Shape::new(1, 2, 2), layers);
        let network = SpikingNetwork::new(graph, neurons).unwrap();
        network.simulate(&images(), 8).map_err(|error| error.to_string())
    };
    assert!(run(1e37).is_ok());
    let error = run(3e38).unwrap_err();
    assert!(error.contains("layer 1 (output): found sums that are infinite"), "{error}");
}

#[test]
fn coded_images_give_the_spikes_of_their_frames() {
    for code in [
        InputCode::Direct,
        InputCode::Poisson { seed: 5 },
        InputCode::Phase { period: 4 },
        InputCode::Latency { period: 200 },
    ] {
        // More timesteps than the engine computes at a time.
        let (images, timesteps) = (images(), 150);
        let settings = SimulateSettings { code, ..timesteps.into() };
        let run = network().simulate(&images, settings).unwrap();
        let mut spikes = vec![0; timesteps];
        let mut correct = vec![0; timesteps];
        for i in 0..images.len() {
            let frames = images.encoded(i, code, timesteps).unwrap();
            let trace = network().trace(&frames, timesteps).unwrap();
            let mut sum = [0.0; 2];
            for t in 0..timesteps {
                spikes[t] += trace.spikes[0][t].len() as u64;
                sum[0] += trace.output[t][0];
                sum[1] += trace.output[t][1];
                correct[t] += usize::from(predict(&sum) == images.label(i));
            }
        }
        assert_eq!(run.layers[0].spikes, spikes, "{code}");
        assert_eq!(run.curve, AccuracyCurve::new(3, correct).unwrap(), "{code}");
        assert!(spikes.iter().sum::<u64>() > 100, "{code}");
    }
}

#[test]
fn each_neuron_is_counted() {
    let settings = SimulateSettings { per_neuron: true, ..100.into() };
    let run = network().simulate(&images(), settings).unwrap();
    let mut expected = [0, 0];
    for i in 0..3 {
        let trace = network().trace(&images().input(i), 100).unwrap();
        trace.spikes[0].iter().flatten().for_each(|&neuron| expected[neuron] += 1);
    }
    assert!(expected[0] != expected[1]);
    assert_eq!(run.layers[0].per_neuron, Some(expected.to_vec()));
    assert_eq!(run.layers[1].per_neuron, None); // the output does not spike
    let sum: u64 = run.layers[0].spikes.iter().sum();
    assert_eq!(sum, expected.iter().sum::<u64>());
    assert_eq!(run.spikes_per_image(0), sum as f64 / 3.0);
    let plain = network().simulate(&images(), 100).unwrap();
    assert_eq!(plain.layers[0].per_neuron, None);
    assert_eq!((plain.curve, plain.input), (run.curve, None));
}

#[test]
fn random_spikes_depend_on_neither_threads_nor_other_images() {
    let settings = || SimulateSettings { code: InputCode::Poisson { seed: 1 }, ..40.into() };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let run = || network().simulate(&images(), settings()).unwrap();
        pool.build().unwrap().install(run)
    };
    assert_eq!(run(1), run(2));
    let first = network().simulate(&images().take(2), settings()).unwrap();
    let all = run(2);
    assert!((0..40).all(|t| first.layers[0].spikes[t] <= all.layers[0].spikes[t]));
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "2\n").unwrap();
    let last = images().listed(list.path()).unwrap();
    let last = network().simulate(&last, settings()).unwrap();
    for t in 0..40 {
        let apart = first.layers[0].spikes[t] + last.layers[0].spikes[t];
        assert_eq!(apart, all.layers[0].spikes[t]);
    }
}

#[test]
fn nothing_runs_on_bad_input() {
    let error = |result: Result<Simulation>| result.unwrap_err().to_string();
    assert_eq!(error(network().simulate(&images(), 0)), "timesteps: found 0, expected 1 or more");
    assert_eq!(
        error(network().simulate(&images(), 65_537)),
        "timesteps: found 65537, expected at most 65536"
    );
    assert_eq!(
        error(network().simulate(&images().take(0), 8)),
        "images: found none, expected at least one"
    );
    let code = InputCode::Phase { period: 40 };
    let settings = SimulateSettings { code, ..8.into() };
    assert_eq!(
        error(network().simulate(&images(), settings)),
        "code.period: found 40, expected 1..=16 timesteps"
    );
    let digits = crate::data::digits().unwrap();
    let message = error(network().simulate(&digits, 8));
    assert!(message.starts_with("images: found 1 x 8 x 8"), "{message}");
    let error = |input: &[f32]| network().trace(input, 3).unwrap_err().to_string();
    assert_eq!(
        error(&[0.0, 1.0, f32::NAN, 0.0]),
        "input: found NaN at place 2, expected finite values"
    );
    assert!(error(&[0.0; 8]).starts_with("input: found 8 values, expected 4, or 4 for each"));
}

#[test]
fn a_raster_has_a_dot_for_each_spike_of_the_chosen_neurons() {
    let trace = Trace {
        spikes: vec![vec![], vec![vec![3, 7], vec![], vec![1, 7, 9]]],
        counts: vec![vec![], vec![vec![1, 2], vec![], vec![1, -1, 1]]],
        output: Vec::new(),
    };
    let dots = |neurons: &[usize]| {
        let chart = raster_chart("Spikes", &trace, 1, neurons).unwrap();
        let circles = chart.svg().lines().filter(|line| line.contains("<circle"));
        let value = |line: &str, key: &str| -> f64 {
            let rest = line.split_once(key).unwrap().1;
            rest.split('"').next().unwrap().parse().unwrap()
        };
        let at = |line| (value(line, "cx=\""), value(line, "cy=\""));
        circles.map(at).collect::<Vec<_>>()
    };
    // Neuron 7 twice and 1 once, neuron 2 never; the first row is the lowest.
    let found = dots(&[7, 2, 1]);
    assert_eq!(found.len(), 3);
    let (first, last) = (found[0], found[2]);
    assert!(first.0 < last.0 && found[1].0 == last.0);
    assert!(first.1 == found[1].1 && last.1 < first.1);
    assert!(dots(&[2]).is_empty());
    let chart = raster_chart("Spikes", &trace, 1, [7, 2, 1]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    chart.save_data(folder.path().join("raster.csv")).unwrap();
    let saved = std::fs::read_to_string(folder.path().join("raster.csv")).unwrap();
    assert_eq!(saved, "timestep,neuron,spikes\n1,7,2\n3,7,-1\n3,1,1\n");
    let error = |layer, neurons: &[usize]| {
        let chart = raster_chart("Spikes", &trace, layer, neurons);
        chart.unwrap_err().to_string()
    };
    assert!(error(2, &[1]).starts_with("layer: found 2, expected less than 2"));
    assert!(error(1, &[]).starts_with("neurons: found none"));
}

#[test]
fn images_that_are_simulated_together_do_not_mix() {
    use crate::ann::networks::DigitsCnn;
    use crate::ann::{Ann, layers::Window};
    use crate::convert::{Balance, convert};
    use crate::data::{Digits, Shares, Task, digits};
    use crate::simulate::neurons::Spikes;
    use crate::simulate::{Imported, SimulateSettings};

    let parts = digits().unwrap().split(Shares::default(), 0).unwrap();
    let (training, images) = (parts.training.take(50), parts.training.take(500));
    let settings = SimulateSettings { outputs: true, per_neuron: true, ..3.into() };
    let check = |network: SpikingNetwork| {
        let whole = network.simulate(&images, settings).unwrap();
        let mut spikes = vec![0; whole.layers.len()];
        for image in 0..images.len() {
            let one = network.simulate(&images.range(image..image + 1), settings).unwrap();
            let row = |run: &Simulation, image: usize| {
                run.outputs
                    .as_ref()
                    .unwrap()
                    .rows()
                    .skip(3 * image)
                    .take(3)
                    .collect::<Vec<_>>()
                    .concat()
            };
            assert_eq!(row(&whole, image), row(&one, 0), "{image}");
            assert_eq!(whole.hits.rows().nth(image), one.hits.rows().next());
            let layers = spikes.iter_mut().zip(&one.layers);
            layers.for_each(|(sum, layer)| *sum += layer.spikes.iter().sum::<u64>());
        }
        let all = whole.layers.iter().map(|layer| layer.spikes.iter().sum::<u64>());
        assert_eq!(all.collect::<Vec<_>>(), spikes);
        assert_eq!(whole.top_curve(1, &images).unwrap(), whole.curve);
        let all = AccuracyCurve::new(images.len(), vec![images.len(); 3]).unwrap();
        assert_eq!(whole.top_curve(10, &images).unwrap(), all);
        let error = whole.top_curve(5, &images.range(0..9)).unwrap_err().to_string();
        assert!(error.starts_with("images: found 9, expected the run's 500"), "{error}");
        // Some leave at once, some after two timesteps, the others stay.
        let gaps: Vec<f32> = whole.early_exit().unwrap().exits.iter().map(|e| e.gap).collect();
        for gap in [gaps[gaps.len() / 4], gaps[gaps.len() / 2], gaps[gaps.len() * 3 / 4], 1e9] {
            let exit = network.simulate_until(&images, 3, gap).unwrap();
            assert_eq!(exit, whole.exit_at(gap).unwrap());
        }
        assert!(network.simulate_until(&images, 3, f32::NAN).is_err());
        assert!(network.simulate_until(&images, 0, 1.0).is_err());
    };
    let snn = convert(&Ann::<DigitsCnn>::new(0).unwrap(), &training).unwrap();
    let snn = snn.balance(Balance::PercentilePerChannel(99.0)).unwrap();
    check(snn.network().clone());
    check(snn.with_spikes(Spikes::levels(2)).unwrap().network().clone());
    let mut graph = Graph::new(Digits::SHAPE);
    let weight = (0..8 * 9).map(|i| (i * 7 % 13) as f32 / 64.0 - 0.05).collect();
    let window = Window::square(3, 1, 1);
    let conv = Layer::Conv { weight, bias: None, inputs: 1, outputs: 8, window, groups: 1 };
    let conv = graph.add("conv", conv, [0]);
    let relu = graph.add("relu", Layer::Neurons, [conv]);
    let pool = Layer::MaxPool { window: Window::square(2, 2, 0), ceil: false };
    let pool = graph.add("pool", pool, [relu]);
    let weight: Vec<f32> = (0..10 * 128).map(|i| (i * 5 % 11) as f32 / 64.0 - 0.05).collect();
    graph.add("last", linear(weight, 128), [pool]);
    let pooled = Imported::<Digits>::new(graph).unwrap();
    let pooled = convert(&pooled, &training).unwrap().balance(Balance::Max).unwrap();
    check(pooled.network().clone());
}

#[test]
fn layer_by_layer_fires_as_whole_runs_where_spikes_are_taken_again_later() {
    use crate::ann::layers::Window;
    use crate::base::Result;
    use crate::convert::{Balance, convert};
    use crate::data::{Digits, Shares, Task, digits};
    use crate::simulate::neurons::Spikes;
    use crate::simulate::{Imported, LayerByLayer, Simulator};

    let weights = |count: usize| (0..count).map(|i| (i * 7 % 13) as f32 / 64.0 - 0.05).collect();
    let conv = |inputs, outputs| Layer::Conv {
        weight: weights(outputs * inputs * 9),
        bias: None,
        inputs,
        outputs,
        window: Window::square(3, 1, 1),
        groups: 1,
    };
    // Two pools, one on the other; the last layers take spikes of the first, by both and by a third.
    let mut graph = Graph::new(Digits::SHAPE);
    let first = graph.add("first", conv(1, 8), [0]);
    let first = graph.add("relu 1", Layer::Neurons, [first]);
    let pool =
        |side, stride| Layer::MaxPool { window: Window::square(side, stride, 0), ceil: false };
    let pool_1 = graph.add("pool 1", pool(2, 2), [first]);
    let pool_2 = graph.add("pool 2", pool(1, 1), [pool_1]);
    let second = graph.add("second", conv(8, 8), [pool_1]);
    let second = graph.add("relu 2", Layer::Neurons, [second]);
    let third = graph.add("third", conv(8, 8), [second]);
    let third = graph.add("relu 3", Layer::Neurons, [third]);
    let all = graph.add("concat", Layer::Concat, [pool_2, third]);
    graph.add("last", linear(weights(10 * 256), 256), [all]);

    let parts = digits().unwrap().split(Shares::default(), 0).unwrap();
    let images = parts.training.take(60);
    let ann = Imported::<Digits>::new(graph).unwrap();
    let snn = convert(&ann, &images).unwrap().balance(Balance::PercentilePerChannel(99.0)).unwrap();
    for (spikes, timesteps) in [(Spikes::PLAIN, 20), (Spikes::PLAIN, 130), (Spikes::levels(2), 3)] {
        let network = snn.with_spikes(spikes).unwrap().network().clone();
        let (stages, neurons) = (&network.stages, network.neurons());
        let simulator = || Simulator::new(stages, images.view());
        let runs = || LayerByLayer::new(simulator()?, timesteps);
        let mut after_another = runs().unwrap();
        let counts = |layer: usize| -> Result<[Vec<i64>; 2]> {
            let layers = &neurons[..=layer];
            Ok([after_another.channel_spikes(layers)?, runs()?.channel_spikes(layers)?])
        };
        let counts: Vec<_> = (0..neurons.len()).map(counts).map(Result::unwrap).collect();
        assert!(counts.iter().all(|[saved, alone]| saved == alone), "{spikes:?}");
        if spikes.is_plain() {
            let run = simulator().unwrap().run(neurons, timesteps).unwrap();
            let whole = run.layers.iter().map(|layer| layer.spikes.iter().sum::<u64>() as i64);
            let sums = counts.iter().map(|[saved, _]| saved.iter().sum::<i64>());
            assert!(sums.clone().all(|sum| sum > 100));
            assert_eq!(sums.collect::<Vec<_>>(), whole.take(neurons.len()).collect::<Vec<_>>());
        }
    }
}
