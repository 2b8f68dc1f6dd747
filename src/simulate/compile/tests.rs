//! Every kind of layer against the logits of PyTorch: the stages of the engine, and the layers on
//! a device.
//!
//! Reads `tests/data/pytorch/layers.safetensors`, which `tests/pytorch_layers.py` writes.

use std::path::Path;

use dfdx::prelude::Cpu;
use safetensors::SafeTensors;
use serde_json::Value;

use super::*;
use crate::ann::layers::{CHANNELS_FIRST, CHANNELS_LAST, Window};
use crate::simulate::network::SpikingNetwork;
use crate::simulate::neurons::Neurons;
use crate::simulate::synapses::to_channels_last;
use crate::through_time::reference;
use crate::through_time::steps::tensor;
use crate::through_time::unrolled::Unrolled;

/// Inputs and logits of each network.
struct File<'a>(SafeTensors<'a>);

impl File<'_> {
    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let tensor = self.0.tensor(name).unwrap();
        let values = tensor.data().as_chunks().0.iter();
        (tensor.shape().to_vec(), values.map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn layer(&self, node: &Value) -> Layer {
        let values = |field: &str| node[field].as_str().map(|name| self.tensor(name));
        let sizes = |field: &str| -> Vec<usize> {
            let numbers = node[field].as_array().into_iter().flatten();
            numbers.map(|number| number.as_u64().unwrap() as usize).collect()
        };
        let two = |field: &str| <[usize; 2]>::try_from(sizes(field)).unwrap_or([1; 2]);
        let window = |size: [usize; 2]| Window {
            size,
            stride: two("stride"),
            dilation: two("dilation"),
            padding: sizes("padding").try_into().unwrap(),
        };
        let (truth, bias) = (|field: &str| node[field].as_bool().unwrap(), values("bias"));
        let bias = bias.map(|(_, values)| values);
        match node["op"].as_str().unwrap() {
            "conv" => {
                let (shape, weight) = values("weight").unwrap();
                let groups = node["groups"].as_u64().unwrap() as usize;
                let (inputs, outputs) = (shape[1] * groups, shape[0]);
                let window = window([shape[2], shape[3]]);
                Layer::Conv { weight, bias, inputs, outputs, window, groups }
            }
            "linear" => {
                let (shape, weight) = values("weight").unwrap();
                let order = if truth("last") { CHANNELS_LAST } else { CHANNELS_FIRST };
                Layer::Linear { weight, bias, inputs: shape[1], outputs: shape[0], order }
            }
            "avg" => Layer::AvgPool {
                window: window(two("size")),
                ceil: truth("ceil"),
                count_padding: truth("count"),
            },
            "max" => Layer::MaxPool { window: window(two("size")), ceil: truth("ceil") },
            "norm" => Layer::ScaleShift {
                scale: values("scale").unwrap().1,
                shift: values("shift").unwrap().1,
            },
            "sum" => Layer::Sum,
            "concat" => Layer::Concat,
            "relu" => Layer::Neurons,
            "clip" => Layer::Clipped { bound: node["bound"].as_f64().unwrap() as f32 },
            other => panic!("operation `{other}`"),
        }
    }

    fn graph(&self, network: &Value) -> Graph {
        let shape: Vec<usize> = serde_json::from_value(network["shape"].clone()).unwrap();
        let mut graph = Graph::new(Shape::new(shape[0], shape[1], shape[2]));
        for node in network["nodes"].as_array().unwrap() {
            let inputs: Vec<usize> = serde_json::from_value(node["inputs"].clone()).unwrap();
            graph.add(node["op"].as_str().unwrap(), self.layer(node), inputs);
        }
        graph
    }
}

/// Names, graphs, inputs and logits.
fn networks() -> Vec<(String, Graph, Vec<f32>, Vec<f32>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pytorch/layers.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let networks = &metadata.metadata().as_ref().unwrap()["networks"];
    let networks: Vec<Value> = serde_json::from_str(networks).unwrap();
    let file = File(SafeTensors::deserialize(&bytes).unwrap());
    let read = |network: &Value| {
        let name = network["name"].as_str().unwrap();
        let values = |kind: &str| file.tensor(&format!("{name}.{kind}")).1;
        (name.to_owned(), file.graph(network), values("input"), values("logits"))
    };
    networks.iter().map(read).collect()
}

/// Largest difference of values that must be as many.
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_are_pytorchs() {
    for (name, graph, input, expected) in networks() {
        let mut folded = graph.clone();
        folded.fold().unwrap();
        for graph in [&graph, &folded] {
            let stages = Stages::new(graph.clone()).unwrap();
            let logits = input.chunks(graph.input.size()).flat_map(|input| {
                let mut value = vec![0.0; input.len()];
                to_channels_last(graph.input, input, &mut value);
                stages.forward(&value).pop().unwrap()
            });
            let compiled = apart(&logits.collect::<Vec<_>>(), &expected);
            let device = Cpu::default();
            let network = Unrolled::ann(&device, graph).unwrap();
            let x = tensor(&device, input.clone()).unwrap();
            let on_device = apart(&network.logits(x, 3).unwrap().as_vec(), &expected);
            println!("{name}: {compiled} {on_device}");
            assert!(compiled < 1e-5 && on_device < 1e-5, "{name}: {compiled} {on_device}");
        }
    }
}

/// Neurons of small thresholds say after many timesteps what the activations are, and the engine
/// and the reference fire the same spikes but for rounding.
#[test]
fn spikes_come_to_pytorchs_logits() {
    for (name, graph, input, expected) in networks() {
        let of = |node: &Node| match node.layer {
            Layer::Clipped { bound } => Some(Neurons::new([bound])),
            Layer::Neurons => Some(Neurons::new([6.0])),
            _ => None,
        };
        let neurons: Vec<Neurons> = graph.nodes.iter().filter_map(of).collect();
        let (timesteps, size) = (4000, graph.input.size());
        let network = SpikingNetwork::new(graph.clone(), neurons.clone()).unwrap();
        for (input, expected) in input.chunks(size).zip(expected.chunks(expected.len() / 3)) {
            let trace = network.trace(input, timesteps).unwrap();
            let sum = |class: usize| trace.output.iter().map(|row| row[class]).sum::<f32>();
            let mean: Vec<f32> =
                (0..expected.len()).map(|class| sum(class) / timesteps as f32).collect();
            assert!(apart(&mean, expected) < 0.05, "{name}: {mean:?}, expected {expected:?}");
        }
        let few = 6;
        let device = Cpu::default();
        let there = reference::trace(&device, &graph, &neurons, &input[..size], 1, few).unwrap();
        let here = network.trace(&input[..size], few).unwrap();
        assert!(here.spikes == there[0].spikes, "{name}");
        for (here, there) in here.output.iter().zip(&there[0].output) {
            assert!(apart(here, there) < 1e-4, "{name}");
        }
    }
}

fn linear(inputs: usize, outputs: usize) -> Layer {
    let (weight, order) = (vec![1.0; inputs * outputs], CHANNELS_FIRST);
    Layer::Linear { weight, bias: None, inputs, outputs, order }
}

#[test]
fn what_spikes_cannot_run_is_named() {
    let pixel = Shape::new(1, 1, 1);
    let between = |layers: Vec<Layer>| {
        let layers = [vec![linear(1, 1)], layers, vec![linear(1, 2)]].concat();
        Stages::new(Graph::chain(pixel, layers)).err().map(|error| error.to_string())
    };
    let max = || Layer::MaxPool { window: Window::ONE, ceil: false };
    let scale = |factor| Layer::ScaleShift { scale: vec![factor], shift: vec![0.5] };
    let named = |number, kind: &str, rest: &str| Some(format!("layer {number} ({kind}): {rest}"));
    assert_eq!(between(vec![Layer::Neurons]), None);
    assert_eq!(between(vec![max(), scale(2.0), max(), Layer::Neurons]), None);
    assert_eq!(between(vec![Layer::Neurons, scale(0.0), max()]), None);
    for layers in [
        vec![max(), scale(-2.0), Layer::Neurons],
        vec![Layer::Neurons, scale(-2.0), max()],
        vec![Layer::Neurons, linear(1, 1), max()],
    ] {
        let error = between(layers).unwrap();
        assert!(error.contains("(max pooling): found max pooling of something else"), "{error}");
    }
    let qcfs = |bound, levels| between(vec![Layer::Qcfs { bound, levels }]);
    let bounds = "expected a finite bound above 0";
    assert_eq!(qcfs(-0.5, 4), named(1, "QCFS", &format!("found bound -0.5, {bounds}")));
    assert_eq!(qcfs(f32::NAN, 4), named(1, "QCFS", &format!("found bound NaN, {bounds}")));
    assert_eq!(qcfs(1.0, 0), named(1, "QCFS", "found no level, expected 1 or more"));
    let clipped = between(vec![Layer::Clipped { bound: 0.0 }]);
    assert_eq!(clipped, named(1, "clipped ReLU", &format!("found bound 0, {bounds}")));

    let mut graph = Graph::new(pixel);
    let first = graph.add("stem", linear(1, 2), [0]);
    graph.add("aside", Layer::Neurons, [first]);
    let relu = graph.add("relu", Layer::Neurons, [first]);
    graph.add("last", linear(2, 2), [relu]);
    let error = Stages::new(graph.clone()).unwrap_err().to_string();
    assert!(error.starts_with("layer 1 (ReLU `aside`): found an output that no layer"), "{error}");
    graph.nodes[1].inputs = vec![3];
    let error = Stages::new(graph).unwrap_err().to_string();
    assert!(error.ends_with("found input 3, expected 0 to 1, the image and the layers before"));
}

#[test]
fn spikes_of_a_clipped_relu_stay_within_its_bound() {
    use crate::simulate::neurons::Spikes;
    let layers = [linear(1, 1), Layer::Clipped { bound: 3.0 }, linear(1, 2)];
    let graph = Graph::chain(Shape::new(1, 1, 1), layers);
    let network = |neurons: Neurons| SpikingNetwork::new(graph.clone(), vec![neurons]);
    for (threshold, spikes, fits) in [
        (3.0, Spikes::PLAIN, true),
        (3.1, Spikes::PLAIN, false),
        (3.0, Spikes::levels(3), true),
        (3.0, Spikes::burst(2), false),
        (1.5, Spikes::burst(2), true),
    ] {
        let mut neurons = Neurons { spikes, ..Neurons::new([threshold]) };
        let error = network(neurons.clone()).err().map(|error| error.to_string());
        let expected = "expected at most 3 in all, the bound of the clipped ReLU";
        assert_eq!(error.is_none(), fits, "{threshold} {spikes:?}");
        assert!(error.is_none_or(|error| error.ends_with(expected)));
        neurons.clip(3.0);
        let trace = network(neurons).unwrap().trace(&[50.0], 8).unwrap();
        assert!(trace.output.iter().all(|output| output[0] <= 3.0), "{:?}", trace.output);
    }
}

/// The pools of later layers may come first in a graph.
#[test]
fn pools_are_in_the_order_of_their_layers() {
    let mut graph = Graph::new(Shape::new(1, 1, 2));
    let conv = || Layer::Conv {
        weight: vec![1.0],
        bias: None,
        inputs: 1,
        outputs: 1,
        window: Window::ONE,
        groups: 1,
    };
    let max = || Layer::MaxPool { window: Window { size: [1, 2], ..Window::ONE }, ceil: false };
    let one = graph.add("", conv(), [0]);
    let one = graph.add("", Layer::Neurons, [one]);
    let two = graph.add("", conv(), [one]);
    let two = graph.add("", Layer::Neurons, [two]);
    let of_two = graph.add("", max(), [two]);
    let of_one = graph.add("", max(), [one]);
    let sum = graph.add("", Layer::Sum, [of_two, of_one]);
    graph.add("", linear(1, 2), [sum]);
    let network = SpikingNetwork::new(graph, vec![Neurons::new([1.0]); 2]).unwrap();
    let layers: Vec<usize> = network.stages.pools.iter().map(|pool| pool.layer).collect();
    assert_eq!(layers, [0, 1]);
    let stages = &network.stages;
    assert_eq!(stages.forward(&[0.25, 0.5]).pop().unwrap(), [1.0; 2]);
    let trace = network.trace(&[0.25, 0.5], 4).unwrap();
    let output: Vec<f32> = trace.output.iter().map(|output| output[0]).collect();
    assert_eq!(output, [0.0, 2.0, 0.0, 2.0]);
}
