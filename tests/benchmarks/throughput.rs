//! Images that the committed VGG15 classifies in a second, for `throughput.py`.
//!
//! `cargo bench --bench throughput -- serve --data=FOLDER` chooses the gap of early exit for each kind
//! of neuron, or the size of its spikes, on held-out images, 1 point below the ANN, and prints the
//! names of its systems as a line of JSON. Each line `SYSTEM FIRST COUNT` on standard input, a range
//! of the test images, is answered with another: seconds, correct images, and timesteps and spikes of
//! all images together.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead};
use std::path::Path;
use std::time::Instant;

use evospike::ann::networks::Vgg15HalfBn;
use evospike::data::Cifar10;
use evospike::prelude::*;
use serde_json::json;

/// Timesteps after which an image leaves at the latest.
const MOST: usize = 8;

enum System {
    /// The ANN, as the engine's own dense pass over it.
    Ann(Imported<Cifar10>),
    /// All images for the timesteps from which the accuracy stays 1 point below the ANN's, as
    /// `results/cifar10/comparison.csv` has them.
    Fixed(Snn<Vgg15HalfBn>, usize),
    EarlyExit(Snn<Vgg15HalfBn>, f32),
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let data = arguments.iter().find_map(|argument| argument.strip_prefix("--data="));
    let (Some(data), true) = (data, arguments.iter().any(|argument| argument == "serve")) else {
        println!("needs CIFAR-10: run tests/benchmarks/throughput.py");
        return Ok(());
    };
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/cifar10");
    let weights = results.join("vgg15-half-bn.safetensors");
    let cifar = data::cifar10(data)?.normalised(&data::Normalisation::CIFAR10)?;
    let parts = cifar.hold_out_listed(format!("{}.held-out.txt", weights.display()), 0)?;
    let ann = Ann::<Vgg15HalfBn>::load(&weights, &Names::own())?;
    let conversion = convert(&ann, &parts.training.take(1000))?;

    let mut systems =
        BTreeMap::from([("evospike, ANN".to_string(), System::Ann(Imported::new(ann.graph()?)?))]);
    let plain = conversion.balance(Balance::Percentile(99.8))?;
    systems.insert("evospike, plain, percentile".into(), System::Fixed(plain, 93));
    let least_squares = |most, spikes| {
        let snn = conversion.balance(Balance::LeastSquaresPerChannel { spikes: most })?;
        snn.with_initial(0.5)?.with_spikes(spikes)
    };
    let target = ann.target(&parts.held_out, 1.0)?;
    for (name, most, spikes) in [
        ("signed", 8, Spikes::levels(1)),
        ("two levels", 9, Spikes::levels(2)),
        ("four levels", 8, Spikes::levels(4)),
    ] {
        let snn = least_squares(most, spikes)?;
        let settings = SimulateSettings { outputs: true, ..MOST.into() };
        let exits = simulate(&snn, &parts.held_out, settings)?.early_exit()?;
        if let Some(exit) = exits.best(&target) {
            let name = format!("evospike, {name}, early exit");
            systems.insert(name, System::EarlyExit(snn, exit.gap));
        }
    }
    // In one timestep, which is enough for as many levels: with the largest spikes, so the fewest, that
    // stay 1 point below the ANN.
    let eight = least_squares(12, Spikes::levels(8))?;
    for factor in [1.3, 1.25, 1.2, 1.15, 1.1, 1.05, 1.0] {
        let snn = eight.scaled(&vec![factor; eight.neurons().len()])?;
        if simulate(&snn, &parts.held_out, 1)?.curve.latency(&target).is_some() {
            systems.insert("evospike, eight levels".into(), System::Fixed(snn, 1));
            break;
        }
    }
    println!("{}", json!(systems.keys().collect::<Vec<_>>()));
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.rsplitn(3, ' ');
        let (Some(count), Some(first), Some(name)) = (words.next(), words.next(), words.next())
        else {
            return Err("expected SYSTEM FIRST COUNT".into());
        };
        let (first, count): (usize, usize) = (first.parse()?, count.parse()?);
        let images = parts.test.range(first..first + count);
        let start = Instant::now();
        let (correct, timesteps, spikes) = match &systems[name] {
            System::Ann(network) => (network.accuracy(&images)?.correct as f64, count as f64, 0.0),
            System::Fixed(snn, timesteps) => {
                let run = simulate(snn, &images, *timesteps)?;
                let spikes = run.layers.iter().flat_map(|layer| &layer.spikes).sum::<u64>();
                let last = run.curve.iter().last().map_or(0, |accuracy| accuracy.correct);
                (last as f64, (timesteps * count) as f64, spikes as f64)
            }
            System::EarlyExit(snn, gap) => {
                let exit = snn.simulate_until(&images, MOST, *gap)?;
                let count = count as f64;
                let correct = (exit.accuracy_percent * count / 100.0).round();
                (correct, exit.mean_timesteps * count, exit.spikes_per_image * count)
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        let answer = json!({
            "seconds": seconds, "correct": correct, "timesteps": timesteps, "spikes": spikes,
        });
        println!("{answer}");
    }
    Ok(())
}
