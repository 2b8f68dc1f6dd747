//! Time of simulating a converted VGG15 on CIFAR-10 images, for `simulation.py`.
//!
//! `cargo bench --bench simulation -- serve --model=FILE --data=FOLDER --timesteps=T`
//! answers each line `FIRST COUNT` on standard input, a range of the test subset, with a line of
//! JSON: seconds, number of correct images after every timestep, number of synaptic operations, and
//! firing rate per layer in spikes per neuron and timestep.

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::time::Instant;

use evospike::ann::networks::Vgg15HalfBn;
use evospike::data::Cifar10;
use evospike::data::class_folders;
use evospike::prelude::*;
use evospike::simulate::SpikingNetwork;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let given = arguments.iter().find_map(|a| a.strip_prefix(name));
        given.ok_or(format!("{name}... is missing"))
    };
    if !arguments.iter().any(|argument| argument == "serve") {
        println!("needs a model and images: run tests/benchmarks/simulation.py");
        return Ok(());
    }
    let model = PathBuf::from(option("--model=")?);
    let timesteps: usize = option("--timesteps=")?.parse()?;
    let images = class_folders::<Cifar10>(PathBuf::from(option("--data=")?).join("test"))?
        .normalised(&data::Normalisation::CIFAR10)?
        .listed(model.with_file_name("test-subset-1000.txt"))?;

    let ann = Ann::<Vgg15HalfBn>::load(&model, &Names::vgg15_bn())?;
    let stored: Value = serde_json::from_slice(&std::fs::read(model.with_extension("json"))?)?;
    let thresholds: Vec<f32> = serde_json::from_value(stored["thresholds_99.9"].clone())?;
    let neurons = thresholds.into_iter().map(|threshold| Neurons::new([threshold]));
    let network = SpikingNetwork::new(ann.graph()?, neurons.collect())?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (first, count) = line.trim().split_once(' ').ok_or("expected FIRST COUNT")?;
        let (first, count): (usize, usize) = (first.parse()?, count.parse()?);
        let batch = images.range(first..first + count);
        let start = Instant::now();
        let run = network.simulate(&batch, timesteps)?;
        let seconds = start.elapsed().as_secs_f64();
        let correct: Vec<usize> = run.curve.iter().map(|accuracy| accuracy.correct).collect();
        let operations = run.layers.iter().flat_map(|layer| &layer.operations);
        let rates = (0..network.neurons().len()).map(|layer| run.firing_rate(layer));
        println!(
            "{}",
            json!({
                "seconds": seconds,
                "correct": correct,
                "operations": operations.sum::<u64>(),
                "rates": rates.collect::<Vec<f64>>(),
            })
        );
    }
    Ok(())
}
