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
