//! Comparison with spike trains of other simulators, spike by spike.
//!
//! Reads every `*.safetensors` file in `tests/data/golden` and its folder `graded`, or in the folder
//! `EVOSPIKE_GOLDEN`. Each holds a network, an input and the spikes of another simulator; the README
//! of the folder describes the format.

use std::path::{Path, PathBuf};

use dfdx::prelude::Cpu;
use evospike::ann::graph::Graph;
use evospike::ann::layers::{CHANNELS_FIRST, Layer, Window};
use evospike::data::Shape;
use evospike::ops::Accelerated;
use evospike::simulate::neurons::{Charge, Negative, Neurons, Reset, Spikes};
use evospike::simulate::{SpikingNetwork, Trace};
use evospike::through_time::reference;
use safetensors::SafeTensors;
use serde_json::Value;

/// Contents of one file.
struct Golden<'a> {
    tensors: SafeTensors<'a>,
    layers: Value,
    timesteps: usize,
    spikes_as_input: bool,
}

/// Spikes of a layer of neurons; plain ones where it says nothing of them.
fn spikes(layer: &Value) -> Spikes {
    let small = |value: &Value| value.as_u64().map(|number| number as u8);
    let negative = layer["negative"].as_object().map(|negative| Negative {
        threshold: negative["threshold"].as_f64().unwrap() as f32,
        most: small(&negative["max"]).unwrap(),
    });
    let (levels, most) = (small(&layer["levels"]), small(&layer["max_spikes"]));
    Spikes { levels: levels.unwrap_or(1), most: most.unwrap_or(1), negative }
}

impl<'a> Golden<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        let metadata = metadata.metadata().clone().expect("metadata");
        Self {
            tensors: SafeTensors::deserialize(bytes).unwrap(),
            layers: serde_json::from_str(&metadata["layers"]).unwrap(),
            timesteps: metadata["timesteps"].parse().unwrap(),
            spikes_as_input: match metadata["input"].as_str() {
                "spikes" => true,
                "direct" => false,
                other => panic!("input `{other}`"),
            },
        }
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors.tensor(name).unwrap().shape().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.tensor(name).unwrap();
        let bytes = tensor.data().as_chunks::<4>().0;
        bytes.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }

    /// Numbers of spikes: bytes, signed ones of signed neurons.
    fn counts(&self, name: &str) -> Vec<i8> {
        self.tensors.tensor(name).unwrap().data().iter().map(|&byte| byte as i8).collect()
    }

    /// Input values, number of images, and shape of one image.
    fn input(&self) -> (Vec<f32>, usize, Shape) {
        let shape = self.shape("input");
        let shape = &shape[usize::from(self.spikes_as_input)..];
        let each = match *shape {
            [_, features] => Shape::new(features, 1, 1),
            [_, channels, height, width] => Shape::new(channels, height, width),
            _ => panic!("an input of {shape:?}"),
        };
        (self.floats("input"), shape[0], each)
    }

    /// Adds layers behind a value of the graph, and each layer's neurons and the name of its spikes to
    /// `neurons`. Gives the number of their output.
    fn layers(
        &self,
        of: &Value,
        graph: &mut Graph,
        mut at: usize,
        neurons: &mut Vec<(Neurons, String)>,
    ) -> usize {
        for layer in of.as_array().unwrap() {
            let text = |key: &str| layer[key].as_str().unwrap();
            let size = |key: &str| layer[key].as_u64().unwrap() as usize;
            let number = |key: &str| layer[key].as_f64().unwrap() as f32;
            let bias = || layer["bias"].as_str().map(|name| self.floats(name));
            match text("op") {
                "conv" => {
                    let shape = self.shape(text("weight"));
                    at = graph.add(
                        "",
                        Layer::Conv {
                            weight: self.floats(text("weight")),
                            bias: bias(),
                            inputs: shape[1],
                            outputs: shape[0],
                            window: Window::square(shape[2], size("stride"), size("padding")),
                            groups: 1,
                        },
                        [at],
                    );
                }
                "linear" => {
                    let shape = self.shape(text("weight"));
                    at = graph.add(
                        "",
                        Layer::Linear {
                            weight: self.floats(text("weight")),
                            bias: bias(),
                            inputs: shape[1],
                            outputs: shape[0],
                            order: CHANNELS_FIRST,
                        },
                        [at],
                    );
                }
                "avgpool" => at = graph.add("", Layer::average(size("size")), [at]),
                "flatten" => {} // linear layers take images
                "residual" => {
                    let body = self.layers(&layer["body"], graph, at, neurons);
                    let shortcut = self.layers(&layer["shortcut"], graph, at, neurons);
                    at = graph.add("", Layer::Sum, [body, shortcut]);
                }
                "neuron" => {
                    let threshold = match &layer["threshold"] {
                        Value::String(name) => self.floats(name),
                        number => vec![number.as_f64().unwrap() as f32],
                    };
                    let parameters = Neurons {
                        leak: vec![number("leak")],
                        reset: match text("reset") {
                            "subtract" => Reset::Subtract,
                            "zero" => Reset::Zero,
                            other => panic!("reset `{other}`"),
                        },
                        initial: number("v_init"),
                        charge: Charge::Unit,
                        spikes: spikes(layer),
                        ..Neurons::new(threshold)
                    };
                    neurons.push((parameters, text("spikes").into()));
                    at = graph.add("", Layer::Neurons, [at]);
                }
                other => panic!("layer `{other}`"),
            }
        }
        at
    }

    fn reference<D: Accelerated<f32>>(
        &self,
        device: &D,
        (graph, neurons): (&Graph, &[Neurons]),
        input: &[f32],
        images: usize,
    ) -> Vec<Trace> {
        let timesteps = self.timesteps;
        reference::trace(device, graph, neurons, input, images, timesteps).unwrap()
    }

    /// Compares every spike and the output current of every timestep. Returns the number of spikes.
    fn check(&self, file: &Path) -> usize {
        let mut neurons = Vec::new();
        let (input, images, shape) = self.input();
        let mut graph = Graph::new(shape);
        self.layers(&self.layers, &mut graph, 0, &mut neurons);
        let (neurons, names): (Vec<_>, Vec<_>) = neurons.into_iter().unzip();
        let output = self.floats("output");
        let classes = self.shape("output")[2];
        let network = (&graph, &neurons[..]);
        let all = self.reference(&Cpu::default(), network, &input, images);
        #[cfg(feature = "cuda")]
        match <dfdx::prelude::Cuda as evospike::ops::Backend>::open(0) {
            Ok(card) => assert!(all == self.reference(&card, network, &input, images), "on a card"),
            Err(error) => println!("skipped on a card: {error}"),
        }
        let network = SpikingNetwork::new(graph, neurons).unwrap();
        let expected: Vec<Vec<i8>> = names.iter().map(|name| self.counts(name)).collect();
        let mut spikes = 0;
        for image in 0..images {
            let frame = |t: usize| &input[(t * images + image) * shape.size()..][..shape.size()];
            let input: Vec<f32> = match self.spikes_as_input {
                true => (0..self.timesteps).flat_map(frame).copied().collect(),
                false => frame(0).to_vec(),
            };
            let trace = network.trace(&input, self.timesteps).unwrap();
            assert!(
                all[image] == trace,
                "{}, image {image}: the reference differs",
                file.display()
            );
            for t in 0..self.timesteps {
                for (layer, expected) in expected.iter().enumerate() {
                    let neurons = expected.len() / self.timesteps / images;
                    let expected = &expected[(t * images + image) * neurons..][..neurons];
                    let fired = (0..neurons).filter(|&i| expected[i] != 0);
                    let counts = fired.clone().map(|i| expected[i]);
                    let (file, name) = (file.display(), &names[layer]);
                    assert_eq!(
                        (&trace.spikes[layer][t], &trace.counts[layer][t]),
                        (&fired.collect::<Vec<_>>(), &counts.collect::<Vec<_>>()),
                        "{file}: {name}, image {image}, timestep {t}"
                    );
                    spikes += trace.spikes[layer][t].len();
                }
                let expected = &output[(t * images + image) * classes..][..classes];
                let file = file.display();
                assert_eq!(
                    trace.output[t], expected,
                    "{file}: output, image {image}, timestep {t}"
                );
            }
        }
        spikes
    }
}

#[test]
fn golden_spike_trains_are_equal() {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let folder = std::env::var_os("EVOSPIKE_GOLDEN").map_or_else(own, PathBuf::from);
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut files = entries(&folder);
    if folder.join("graded").is_dir() {
        files.extend(entries(&folder.join("graded")));
    }
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    assert!(!files.is_empty(), "{folder:?} holds no *.safetensors file");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let spikes = Golden::read(&bytes).check(&file);
        assert!(spikes > 0, "{} has no spike", file.display());
        println!("{}: {spikes} spikes equal", file.display());
    }
}
