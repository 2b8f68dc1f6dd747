use std::fs;
use std::path::{Path, PathBuf};

use hdf5_pure::{FileBuilder, GroupBuilder};
use rand::RngExt;

use crate::ann::graph::Graph;
use crate::ann::layers::{CHANNELS_FIRST, Layer, Window};
use crate::ann::model::{Ann, Model};
use crate::ann::networks::{DigitsCnn, Mlp, ResNet20};
use crate::ann::train::TrainSettings;
use crate::base::error::Result;
use crate::base::random::{Stream, rng};
use crate::convert::{Balance, convert};
use crate::data::Shares;
use crate::data::embedded::digits;
use crate::data::shape::Shape;
use crate::nir::graph::{DT, METADATA, leak, time_constant};
use crate::nir::nodes::above;
use crate::nir::write::{floats, integers, text};
use crate::simulate::network::{Snn, SpikingNetwork};
use crate::simulate::neurons::{Charge, Neurons, Reset, Spikes};
use crate::simulate::run::simulate;
use crate::simulate::synapses::Stages;

/// Thresholds of single channels go into weights, exactly where they are powers of two; what importers
/// lack is in the table.
#[test]
fn importers_get_one_threshold_a_layer_and_the_same_spikes() {
    use crate::nir::Importer;

    let grid = |layer: Layer| match layer {
        Layer::Conv { weight, bias, inputs, outputs, window, groups } => {
            let round = |x: &f32| (x * 16.0).round() / 16.0;
            let weight = weight.iter().map(round).collect();
            let bias = bias.map(|bias| bias.iter().map(round).collect());
            Layer::Conv { weight, bias, inputs, outputs, window, groups }
        }
        other => other,
    };
    let layers = [
        grid(conv(1, 4, 3, 1, true)),
        Layer::Neurons,
        grid(conv(4, 4, 3, 1, false)),
        Layer::average(2),
        Layer::Neurons,
        grid(conv(4, 10, 4, 1, false)),
        Layer::average(4),
    ];
    let graph = Graph::chain(Shape::new(1, 8, 8), layers);
    let first = Neurons { current: vec![0.125], ..Neurons::new([0.5, 1.0, 0.25, 2.0]) };
    let second = Neurons { initial: 0.5, ..Neurons::new([0.25, 0.5, 0.5, 1.0]) };
    let network = SpikingNetwork::new(graph, vec![first, second]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.nir");
    let image: Vec<f32> = noise(64, 3).iter().map(|x| (x * 16.0).round() / 16.0).collect();
    let expected = network.trace(&image, 24).unwrap();
    for importer in [Importer::SnnTorch, Importer::SpikingJelly] {
        let table = network.save_for(&path, importer).unwrap().to_string();
        for said in ["soft reset", "reset to zero", "initial potential", "named_children"] {
            assert!(table.contains(said), "{table}");
        }
        let back = SpikingNetwork::load(&path, None).unwrap();
        for neurons in back.neurons() {
            assert_eq!((&neurons.threshold[..], &neurons.leak[..]), (&[1.0][..], &[1.0][..]));
        }
        let found = back.trace(&image, 24).unwrap();
        assert!(expected.spikes.concat().concat().len() > 200);
        assert_eq!(
            (found.spikes, found.output),
            (expected.spikes.clone(), expected.output.clone())
        );
    }
    let leaky =
        network.neurons().iter().map(|neurons| Neurons { leak: vec![0.5], ..neurons.clone() });
    let graph = Graph::clone(&network.stages.graph);
    let leaky = SpikingNetwork::new(graph, leaky.collect()).unwrap();
    for (importer, exact) in [(Importer::SnnTorch, false), (Importer::SpikingJelly, true)] {
        let table = leaky.save_for(&path, importer).unwrap().to_string();
        assert_eq!(table.contains("if "), exact, "{table}");
    }
    let leaks = Neurons { leak: vec![0.5, 1.0, 1.0, 1.0], ..Neurons::new([1.0]) };
    let leaky =
        SpikingNetwork::new(Graph::clone(&network.stages.graph), vec![leaks, Neurons::new([1.0])]);
    let error = leaky.unwrap().save_for(&path, Importer::SnnTorch).unwrap_err().to_string();
    assert!(error.contains("a leak for each channel, expected one leak"), "{error}");
    let mut sum = Graph::chain(Shape::new(1, 2, 2), [conv(1, 2, 3, 1, true), Layer::Neurons]);
    sum.add("", Layer::Sum, [2, 1]);
    [Layer::Neurons, linear(8, 3, false)].into_iter().for_each(|layer| _ = sum.then(layer));
    let neurons = vec![Neurons::new([1.0]), Neurons::new([0.5, 1.0])];
    let error = SpikingNetwork::new(sum, neurons).unwrap().save_for(&path, Importer::SnnTorch);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("behind a layer without weights"), "{error}");
}

fn noise(count: usize, seed: usize) -> Vec<f32> {
    let number = |i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.4;
    (0..count).map(number).collect()
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, bias: bool) -> Layer {
    Layer::Conv {
        weight: noise(outputs * inputs * kernel * kernel, outputs + kernel),
        bias: bias.then(|| noise(outputs, 5)),
        inputs,
        outputs,
        window: Window::square(kernel, stride, kernel / 2),
        groups: 1,
    }
}

fn linear(inputs: usize, outputs: usize, bias: bool) -> Layer {
    Layer::Linear {
        weight: noise(outputs * inputs, inputs),
        bias: bias.then(|| noise(outputs, 6)),
        inputs,
        outputs,
        order: CHANNELS_FIRST,
    }
}

/// Adds layers behind a value; gives the number of their output.
fn behind(graph: &mut Graph, value: usize, layers: impl IntoIterator<Item = Layer>) -> usize {
    layers.into_iter().fold(value, |value, layer| graph.add("", layer, [value]))
}

/// Adds a residual addition behind the last layer.
fn residual(graph: &mut Graph, body: Vec<Layer>, shortcut: Vec<Layer>) {
    let from = graph.nodes.len();
    let ends = [body, shortcut].map(|layers| behind(graph, from, layers));
    graph.add("", Layer::Sum, ends);
}

/// Networks and the channels of every layer of neurons.
fn networks() -> Vec<(Graph, Vec<usize>)> {
    use Layer::Neurons;
    let (shape, pool) = (Shape::new(2, 8, 8), || Layer::average(2));
    let chain = [
        conv(2, 5, 3, 1, true),
        Neurons,
        conv(5, 6, 3, 2, false),
        pool(),
        Neurons,
        pool(),
        Neurons, // with no weights before them
        linear(6, 7, true),
        Neurons,
        linear(7, 3, false),
    ];
    let mut sums = Graph::chain(shape, [conv(2, 5, 3, 1, false), Neurons]);
    residual(&mut sums, vec![conv(5, 5, 3, 1, true), Neurons, conv(5, 5, 3, 1, false)], vec![]);
    sums.then(Neurons);
    let body = vec![conv(5, 4, 3, 2, false), Neurons, conv(4, 4, 3, 1, true)];
    residual(&mut sums, body, vec![conv(5, 4, 1, 2, true)]);
    sums.then(Neurons);
    // A sum of spikes of different charges, with weights behind it.
    residual(&mut sums, vec![conv(4, 4, 3, 1, false), Neurons], vec![]);
    sums.then(pool());
    sums.then(linear(16, 3, true));
    let mut flat = Graph::chain(shape, [linear(128, 9, false), Neurons]);
    let start = flat.nodes.len();
    let inner = behind(&mut flat, start, [linear(9, 9, true), Neurons]);
    let body = behind(&mut flat, inner, [linear(9, 9, false), Neurons, linear(9, 9, false)]);
    let sum = flat.add("", Layer::Sum, [body, inner, start]);
    behind(&mut flat, sum, [Neurons, linear(9, 3, false)]);
    // Windows that differ in rows and columns, groups, scaled spikes, and neurons as the last layer.
    let window = Window { size: [3, 2], stride: [1, 2], dilation: [2, 1], padding: [1, 0, 1, 0] };
    let grouped = Layer::Conv {
        weight: noise(6 * 2 * 6, 3),
        bias: None,
        inputs: 4,
        outputs: 6,
        window,
        groups: 2,
    };
    let window = Window { padding: [1, 0, 1, 0], ..Window::square(2, 2, 0) };
    let padded = Layer::AvgPool { window, ceil: false, count_padding: true };
    let scale = Layer::ScaleShift { scale: vec![0.5, 1.5, -0.25, 1.0], shift: vec![0.0; 4] };
    let layers = [conv(2, 4, 3, 1, true), Neurons, scale, grouped, padded, Neurons];
    let mut windows = Graph::chain(shape, layers);
    windows.then(linear(6 * 4 * 2, 3, true));
    windows.then(Neurons);
    vec![
        (Graph::chain(shape, chain), vec![5, 6, 6, 7]),
        (sums, vec![5, 5, 5, 4, 4, 4]),
        (flat, vec![9, 9, 9, 9]),
        (windows, vec![4, 6, 3]),
    ]
}

fn kinds(channels: usize) -> Vec<Neurons> {
    let each =
        |least: f32| -> Vec<f32> { (0..channels).map(|i| least + 0.137 * i as f32).collect() };
    let mut leaks = vec![1.0; channels];
    leaks[1] = 0.9;
    leaks[2] = 1.0 - f32::EPSILON / 2.0;
    vec![
        Neurons::new([0.7]),
        Neurons { initial: 0.5, refractory: 1, ..Neurons::new(each(0.3)) },
        Neurons {
            leak: vec![0.93],
            reset: Reset::Zero,
            charge: Charge::Unit,
            current: noise(channels, 8),
            ..Neurons::new([0.4])
        },
        Neurons {
            leak: leaks,
            charge: Charge::Fixed(each(0.29)),
            current: vec![0.031],
            ..Neurons::new([0.5])
        },
        // Equal numbers, but the engine rounds in another order where there is one a channel.
        Neurons {
            charge: Charge::Fixed(vec![0.313; channels]),
            ..Neurons::new(vec![0.6; channels])
        },
    ]
}

#[test]
fn networks_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one.nir", "two.nir"].map(|name| folder.path().join(name));
    for (graph, channels) in networks() {
        for kind in 0..6 {
            let layer = channels.iter().enumerate();
            // The last time, each layer of another kind.
            let neurons = layer.map(|(i, &channels)| {
                kinds(channels)[if kind == 5 { i % 5 } else { kind }].clone()
            });
            let network = SpikingNetwork::new(graph.clone(), neurons.collect()).unwrap();
            network.save(&one).unwrap();
            let again = SpikingNetwork::load(&one, None).unwrap();
            assert_eq!(again.neurons, network.neurons, "{kind}");
            assert!(*again.stages.graph == graph, "{kind}: {:?}", again.stages.graph.nodes);
            let input: Vec<f32> = noise(graph.input.size(), 3).iter().map(|x| 2.0 * x).collect();
            let trace = network.trace(&input, 40).unwrap();
            assert!(trace.spikes.iter().all(|layer| layer.iter().any(|t| !t.is_empty())));
            assert!(again.trace(&input, 40).unwrap() == trace, "{kind}");
            again.save(&two).unwrap();
            assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
        }
    }
}

#[test]
fn typed_networks_come_back_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.nir");
    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let mut ann = Ann::<DigitsCnn>::new(0).unwrap();
    let epochs = TrainSettings { epochs: 1, ..Default::default() };
    ann.train(&digits.training, &epochs).unwrap();
    let conversion = convert(&ann, &digits.training.take(100)).unwrap();
    let snn = conversion.balance(Balance::PercentilePerChannel(99.0)).unwrap();
    let snn = conversion.calibrated(&snn, 16).unwrap();
    snn.save(&path).unwrap();
    let again = Snn::<DigitsCnn>::load(&path, None).unwrap();
    assert_eq!(again.neurons(), snn.neurons());
    let signed = snn.with_spikes(Spikes::SIGNED).unwrap();
    let error = signed.save(folder.path().join("signed.nir")).unwrap_err().to_string();
    assert!(error.contains("expected plain spikes, the only ones that NIR knows"), "{error}");
    let images = digits.test.take(20);
    let run = |snn: &Snn<DigitsCnn>| simulate(snn, &images, 32).unwrap();
    assert!(run(&again) == run(&snn));
    let error = Snn::<Mlp>::load(&path, None).err().unwrap().to_string();
    assert!(error.contains("layers of Mlp: found conv 3x3"), "{error}");

    let stages = Stages::new(Ann::<ResNet20>::new(0).unwrap().graph().unwrap()).unwrap();
    let neurons = vec![Neurons::new([0.1]); stages.spiking()];
    let snn = Snn::<ResNet20>::new(stages.into(), neurons).unwrap();
    snn.save(&path).unwrap();
    let again = Snn::<ResNet20>::load(&path, None).unwrap();
    let image = noise(3 * 32 * 32, 0);
    let trace = |snn: &Snn<ResNet20>| snn.network.trace(&image, 4).unwrap();
    assert!(trace(&again) == trace(&snn));
}

#[test]
fn leaks_and_thresholds_are_exact() {
    let mut rng = rng(0, Stream::Split);
    for _ in 0..10_000 {
        let bits = rng.random_range(1e-6f32.to_bits()..1f32.to_bits());
        let of = f32::from_bits(bits);
        assert_eq!(leak(time_constant(of, DT), DT), of);
        assert_eq!(above(of.next_down().into()), of);
    }
    assert_eq!(leak(time_constant(1.0, DT), DT), 1.0);
    // v > 0.1 as a double: the nearest f32 lies above it.
    assert_eq!(above(0.1), 0.1);
    assert_eq!(above(0.3f32.into()), 0.3f32.next_up());
}

type Fill = fn(&mut GroupBuilder);

/// A file of these nodes, between an input of 4 values and an output of 2.
fn file(path: &Path, nodes: &[(&str, Fill)], edges: &[(&str, &str)]) {
    let mut file = FileBuilder::new();
    let mut graph = file.create_group("node");
    text(&mut graph, "type", "NIRGraph");
    let edges: Vec<&str> = edges.iter().flat_map(|&(from, to)| [from, to]).collect();
    let dataset = graph.create_dataset("edges");
    dataset.with_vlen_strings(&edges).with_shape(&[edges.len() as u64 / 2, 2]);
    let mut group = graph.create_group("nodes");
    let input: Fill = |group| {
        text(group, "type", "Input");
        integers(group, "shape", &[4]);
    };
    let output: Fill = |group| {
        text(group, "type", "Output");
        integers(group, "shape", &[2]);
    };
    for (name, fill) in [("in", input), ("out", output)].iter().chain(nodes) {
        let mut node = group.create_group(name);
        fill(&mut node);
        group.add_group(node.finish());
    }
    graph.add_group(group.finish());
    file.add_group(graph.finish());
    file.write(path).unwrap();
}

fn two_by_four(group: &mut GroupBuilder) {
    text(group, "type", "Linear");
    floats(group, "weight", &[1.0, 0.5, 0.25, 0.0, 2.0, 0.0, 0.0, 0.0], &[2, 4]);
}

fn fires(group: &mut GroupBuilder, threshold: f64, r: f64) {
    text(group, "type", "IF");
    for (name, value) in [("v_threshold", threshold), ("r", r), ("v_reset", 0.0)] {
        floats(group, name, &[value; 2], &[2]);
    }
}

fn leaky(group: &mut GroupBuilder, tau: f64, r: f64) {
    text(group, "type", "LIF");
    for (name, value) in [("v_threshold", 1.0), ("tau", tau), ("r", r), ("v_leak", 0.0)] {
        floats(group, name, &[value; 2], &[2]);
    }
}

fn loaded(nodes: &[(&str, Fill)], edges: &[(&str, &str)]) -> Result<SpikingNetwork> {
    loaded_at(nodes, edges, None)
}

fn loaded_at(
    nodes: &[(&str, Fill)],
    edges: &[(&str, &str)],
    dt: Option<f64>,
) -> Result<SpikingNetwork> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.nir");
    file(&path, nodes, edges);
    SpikingNetwork::load(&path, dt)
}

const CHAIN: [(&str, &str); 3] = [("in", "a"), ("a", "b"), ("b", "out")];

#[test]
fn neurons_may_be_last_and_gains_divide_thresholds() {
    for fill in [
        (|g| fires(g, 1.5, 1e4)) as Fill, // 1/dt
        |g| fires(g, 1.5, 1.0),
        |g| fires(g, 3.0, 2e4),
    ] {
        let nodes: [(&str, Fill); 2] = [("a", two_by_four), ("b", fill)];
        let network = loaded_at(&nodes, &CHAIN, Some(1e-4)).unwrap();
        assert_eq!(network.neurons[0].threshold, [1.5f32.next_up()]);
        let trace = network.trace(&[1.0, 0.0, 0.0, 0.0], 4).unwrap();
        // 1, 2 > 1.5 to 0, ...; 2 each time.
        assert_eq!(trace.spikes[0], [vec![1], vec![0, 1], vec![1], vec![0, 1]]);
        assert_eq!(trace.output[1], [1.0, 1.0]);
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let fired: Fill = |g| fires(g, 1.0, 1e4);
    let wrong = |nodes: &[(&str, Fill)], edges: &[(&str, &str)], expected: &str| {
        let error = loaded(nodes, edges).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("foreign.nir"), "{error}");
    };
    let second = |second: Fill, expected: &str| {
        wrong(&[("a", two_by_four), ("b", second)], &CHAIN, expected);
    };
    second(|g| text(g, "type", "CubaLIF"), "node `b`: found a node of type CubaLIF");
    second(two_by_four, "node `b`: found a second layer of weights");
    second(|g| fires(g, f64::NAN, 1e4), "node `b`: found NaN in `v_threshold`");
    second(|g| fires(g, -1.0, 1e4), "node `b`: found threshold -1");
    second(|g| text(g, "type", "IF"), "a dataset `r`");
    let three: Fill = |g| {
        text(g, "type", "IF");
        floats(g, "v_threshold", &[1.0; 3], &[3]);
        floats(g, "r", &[1e4], &[1]);
    };
    second(three, "`v_threshold` of shape [3], expected [2]");
    let reset: Fill = |g| {
        text(g, "type", "IF");
        for (name, value) in [("v_threshold", 1.0), ("r", 1e4), ("v_reset", -1.0)] {
            floats(g, name, &[value], &[1]);
        }
    };
    second(reset, "`v_reset` -1, expected 0");
    let other: Fill = |g| {
        fires(g, 1.0, 1e4);
        let mut metadata = g.create_group("metadata");
        let neurons = serde_json::to_string(&Neurons::new([2.0])).unwrap();
        text(&mut metadata, METADATA, &neurons);
        g.add_group(metadata.finish());
    };
    second(other, "thresholds or leaks other than those of `metadata/evospike`");
    let nodes: [(&str, Fill); 2] = [("a", two_by_four), ("b", fired)];
    wrong(&nodes, &[("in", "a"), ("a", "b"), ("b", "a"), ("b", "out")], "circle");
    wrong(&nodes, &[("in", "a"), ("a", "c")], "an edge of `c`");
    let twice = [("in", "a"), ("a", "b"), ("b", "out"), ("a", "b")];
    wrong(&nodes, &twice, "found the edge from `a` to `b` twice");
    wrong(&nodes, &[("in", "a"), ("a", "out")], "node `b`");
    wrong(&nodes, &[("in", "b"), ("b", "a"), ("a", "out")], "shape [2], expected [4]");
    wrong(&nodes, &[("in", "a"), ("a", "b"), ("b", "out"), ("in", "out")], "node `out`");
}

/// A packed file of the folder `tests/data`.
fn data(name: &str) -> Vec<u8> {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut bytes = Vec::new();
    let packed = fs::File::open(data.join(name)).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut bytes).unwrap();
    bytes
}

/// Files that `hdf5_files.py` wrote: the same network, or an error, never half of it.
#[test]
fn links_and_half_precision_of_hdf5() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.nir");
    let load = |name: &str| {
        fs::write(&path, data(&format!("hdf5/{name}.nir.gz"))).unwrap();
        SpikingNetwork::load(&path, None).map_err(|error| error.to_string())
    };
    let weight: Vec<f32> = (0..8).map(|i| i as f32 / 8.0).collect();
    for name in ["half", "bfloat", "packed"] {
        let network = load(name).unwrap();
        let Layer::Linear { weight: found, bias, .. } = &network.stages.graph.nodes[0].layer else {
            panic!("{name}: {:?}", network.stages.graph);
        };
        assert_eq!((found, bias), (&weight, &Some(vec![1.0, 2.0])), "{name}");
    }
    for (name, expected) in [
        ("soft-old", "a dataset `bias`, not behind a link"),
        ("soft-new", "a dataset `bias`, not behind a link"),
        ("external", "a dataset `bias`, not behind a link"),
        ("reset-old", "node `b`: found"),
        ("reset-new", "node `b`: found a link `v_reset`, expected `v_reset` itself"),
        ("reset-many", "node `b`: found a link `v_reset`, expected `v_reset` itself"),
        ("reset-external", "node `b`: found a link `v_reset`, expected `v_reset` itself"),
        ("metadata-old", "node `node`: found"),
        ("metadata-new", "found a link `metadata`, expected `metadata/dt` itself"),
        ("packed-2.0", "node `a`: found a layout of version 5, which HDF5 2.0 brought"),
    ] {
        let error = load(name).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn the_length_of_a_timestep_is_known_or_asked_for() {
    let load = |fill: Fill, dt| -> Result<(f32, f32)> {
        let network = loaded_at(&[("a", two_by_four), ("b", fill)], &CHAIN, dt)?;
        Ok((network.neurons[0].leak[0], network.neurons[0].threshold[0]))
    };
    for (fill, dt, leak, threshold) in [
        // snnTorch writes r = τ/dt for its dt, rounded; SpikingJelly for the dt that it is told.
        ((|g| leaky(g, 2e-4, 2.0)) as Fill, None, 0.5, 1.0f32),
        (|g| leaky(g, 1e-3f32.into(), 10.0), None, 0.9, 1.0),
        (|g| leaky(g, 2e-3, 2.0), None, 0.5, 1.0),
        (|g| fires(g, 1.0, 1e3), None, 1.0, 1.0),
        // Norse writes r = 1.
        (|g| leaky(g, 2e-3, 1.0), Some(1e-3), 0.5, 2.0),
        (|g| leaky(g, 2e-3, 2.0), Some(5e-4), 0.75, 2.0),
        (|g| fires(g, 1.0, 1e3), Some(1e-4), 1.0, 10.0),
    ] {
        assert_eq!(load(fill, dt).unwrap(), (leak, threshold.next_up()));
    }
    let error = |fill: Fill, dt| load(fill, dt).unwrap_err().to_string();
    let unknown = error(|g| leaky(g, 2e-3, 1.0), None);
    assert!(unknown.contains("node `b`: found r 1, which does not tell"), "{unknown}");
    for dt in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = error(|g| leaky(g, 2e-3, 2.0), Some(dt));
        assert!(error.contains("expected a number of seconds above 0"), "{error}");
    }
}

#[test]
fn a_file_that_tells_its_timestep_is_not_told_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ours.nir");
    let layers = [linear(128, 9, false), Layer::Neurons, linear(9, 3, false)];
    let neurons = vec![Neurons::new([0.5])];
    let network = SpikingNetwork::new(Graph::chain(Shape::new(2, 8, 8), layers), neurons).unwrap();
    network.save(&path).unwrap();
    SpikingNetwork::load(&path, Some(DT)).unwrap();
    let error = SpikingNetwork::load(&path, Some(1e-3)).unwrap_err().to_string();
    assert!(error.contains("found dt [0.0001], expected 0.001, as `load` was told"), "{error}");
}

/// Files with bytes changed or cut off: an error that names the file, or a network.
#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.nir");
    let (graph, channels) = networks().swap_remove(1);
    let neurons = channels.iter().map(|&channels| kinds(channels)[3].clone());
    let network = SpikingNetwork::new(graph, neurons.collect()).unwrap();
    network.save(&path).unwrap();
    let ours = fs::read(&path).unwrap();
    let python = data("python.nir.gz");
    let mut rng = rng(0, Stream::Split);
    let mut refused = 0;
    for good in [ours, python] {
        let used: Vec<usize> = (0..good.len()).filter(|&i| good[i] != 0).collect();
        for round in 0..400 {
            let mut bad = good.clone();
            for _ in 0..rng.random_range(1..4) {
                // Beside bytes that are used: most are not.
                let at = used[rng.random_range(0..used.len())] + rng.random_range(0..4);
                let at = at.min(bad.len() - 1);
                bad[at] = [0, 1, 0x7f, 0xff, rng.random()][rng.random_range(0..5)];
            }
            if round % 8 == 0 {
                bad.truncate(rng.random_range(0..good.len()));
            }
            fs::write(&path, &bad).unwrap();
            if let Err(error) = SpikingNetwork::load(&path, None) {
                assert!(error.to_string().contains("damaged.nir"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 200, "{refused}");
}
