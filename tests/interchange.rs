//! Spiking networks go to Python and come from there as NIR files. `interchange.py` says how.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use evospike::ann::graph::Graph;
use evospike::ann::layers::{CHANNELS_FIRST, Layer, Window};
use evospike::data::Shape;
use evospike::nir::Importer;
use evospike::prelude::*;
use evospike::simulate::SpikingNetwork;
use evospike::simulate::neurons::Charge;
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

/// Spikes of a network.
#[derive(Serialize, Deserialize)]
struct Expected {
    samples: Vec<Sample>,
    /// Share of spikes that sums in another order may move.
    #[serde(default)]
    tolerance: f64,
}

#[derive(Serialize, Deserialize)]
struct Sample {
    input: Vec<f32>,
    /// By layer and timestep.
    spikes: Vec<Vec<Vec<usize>>>,
    output: Vec<Vec<f32>>,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn files_of_the_python_package_give_its_spikes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("python.nir");
    let data = repository().join("tests/data");
    let file = fs::File::open(data.join("python.nir.gz")).unwrap();
    std::io::copy(&mut GzDecoder::new(file), &mut fs::File::create(&path).unwrap()).unwrap();
    let network = SpikingNetwork::load(&path, None).unwrap();
    let expected = fs::read(data.join("python.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&expected).unwrap();
    for sample in &expected.samples {
        let trace = network.trace(&sample.input, sample.output.len()).unwrap();
        assert!(trace.spikes.iter().flatten().flatten().count() > 100);
        assert_eq!(trace.spikes, sample.spikes);
        assert_eq!(trace.output, sample.output);
    }
}

/// Writes a network and its spikes.
fn write(folder: &Path, name: &str, network: &SpikingNetwork, inputs: &[Vec<f32>], tolerance: f64) {
    let path = folder.join(name).with_extension("nir");
    match name {
        "snnTorch" => _ = network.save_for(path, Importer::SnnTorch).unwrap(),
        "SpikingJelly" => _ = network.save_for(path, Importer::SpikingJelly).unwrap(),
        _ => network.save(path).unwrap(),
    }
    let sample = |input: &Vec<f32>| {
        let trace = network.trace(input, 32).unwrap();
        let (input, spikes, output) = (input.clone(), trace.spikes, trace.output);
        Sample { input, spikes, output }
    };
    let samples = inputs.iter().map(sample).collect();
    let text = serde_json::to_string(&Expected { samples, tolerance }).unwrap();
    fs::write(folder.join(name).with_extension("json"), text).unwrap();
}

/// A residual network on a grid, where every sum is exact. Its thresholds are odd numbers of steps of
/// a finer one, so that no potential is just at them.
fn on_a_grid() -> SpikingNetwork {
    let grid = |n: usize, seed: usize| -> Vec<f32> {
        let number = |i| (((i * 7919 + seed * 104_729) % 19) as f32 - 8.0) / 16.0;
        (0..n).map(number).collect()
    };
    let conv = |inputs: usize, outputs: usize, kernel: usize, seed| Layer::Conv {
        weight: grid(outputs * inputs * kernel * kernel, seed),
        bias: Some(grid(outputs, seed + 1)),
        inputs,
        outputs,
        window: Window::square(kernel, 1, kernel / 2),
        groups: 1,
    };
    let linear = |inputs: usize, outputs: usize, seed| Layer::Linear {
        weight: grid(outputs * inputs, seed),
        bias: None,
        inputs,
        outputs,
        order: CHANNELS_FIRST,
    };
    let body = [conv(4, 4, 3, 3), Layer::Neurons, conv(4, 4, 3, 5)];
    let mut graph = Graph::chain(Shape::new(2, 6, 6), [conv(2, 4, 3, 1), Layer::Neurons]);
    body.into_iter().for_each(|layer| _ = graph.then(layer));
    graph.add("", Layer::Sum, [5, 2]);
    let rest = [
        Layer::Neurons,
        conv(4, 6, 1, 7),
        Layer::average(2),
        Layer::Neurons,
        linear(54, 8, 9),
        Layer::Neurons,
        linear(8, 3, 11),
    ];
    rest.into_iter().for_each(|layer| _ = graph.then(layer));
    let off = |count: usize| -> Vec<f32> {
        (0..count).map(|i| (9001 + 3000 * i) as f32 / 16_384.0).collect()
    };
    let neurons = vec![
        Neurons { charge: Charge::Fixed(vec![0.5, 1.0, 0.75, 1.25]), ..Neurons::new(off(4)) },
        Neurons {
            leak: vec![0.5],
            reset: Reset::Zero,
            charge: Charge::Unit,
            ..Neurons::new(off(1))
        },
        Neurons { charge: Charge::Fixed(vec![1.5]), ..Neurons::new(off(4)) },
        Neurons {
            leak: vec![0.5, 1.0, 0.75, 1.0, 1.0, 1.0],
            charge: Charge::Unit,
            current: vec![0.25],
            reset: Reset::Zero,
            ..Neurons::new(off(6))
        },
        Neurons { charge: Charge::Unit, reset: Reset::Zero, ..Neurons::new(off(1)) },
    ];
    SpikingNetwork::new(graph, neurons).unwrap()
}

#[test]
fn python_gives_the_spikes_of_our_files() {
    let Some(python) = env::var_os("EVOSPIKE_PYTHON") else {
        eprintln!("skipped: EVOSPIKE_PYTHON is missing, see tests/interchange.py");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let noise = |n: usize| (0..n).map(|i| (i * 31 % 17) as f32 / 16.0).collect();
    write(folder.path(), "grid", &on_a_grid(), &[noise(72)], 0.0);

    let digits = data::digits().unwrap().split(Shares::default(), 0).unwrap();
    let mut ann = Ann::<DigitsCnn>::new(0).unwrap();
    let settings = TrainSettings { epochs: 5, ..Default::default() };
    ann.train(&digits.training, &settings).unwrap();
    let conversion = convert(&ann, &digits.training).unwrap();
    let snn = conversion.balance(Balance::PercentilePerChannel(99.9)).unwrap();
    let inputs: Vec<Vec<f32>> = (0..5).map(|i| digits.test.input(i)).collect();
    write(folder.path(), "digits", snn.network(), &inputs, 1e-3);
    for name in ["snnTorch", "SpikingJelly"] {
        write(folder.path(), name, snn.network(), &inputs, 1e-3);
    }
    // What the importers of other simulators take.
    let hard = conversion.balance(Balance::Percentile(99.9)).unwrap();
    let hard = hard.with(|neurons| neurons.reset = Reset::Zero).unwrap();
    write(folder.path(), "hard", hard.network(), &inputs, 1e-3);
    let leaky = hard.with(|neurons| neurons.leak = vec![0.9]).unwrap();
    write(folder.path(), "leaky", leaky.network(), &inputs, 1e-3);

    let status = Command::new(python)
        .arg(repository().join("tests/interchange.py"))
        .arg("check")
        .arg(folder.path())
        .status();
    assert!(status.unwrap().success());
}
