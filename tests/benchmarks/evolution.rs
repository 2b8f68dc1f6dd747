//! Seconds of an evolution of a converted VGG15 on CIFAR-10 images: what `evolution.py` compares
//! SciPy and SpikingJelly with.
//!
//! `cargo bench --bench evolution -- serve --model=FILE --data=FOLDER --images=N --timesteps=T`
//! answers every line, a number of generations, with a line of JSON: the seconds taken, networks
//! evaluated, those of them that were stopped early, and the latency found.
//!
//! `cargo bench --bench evolution -- --cifar=FOLDER` evolves the committed VGG15 with each kind of neurons and
//! objective for two generations, on one thread and on all, and writes evaluations per second to
//! `results/benchmarks/evaluations.csv`.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::Instant;

use evospike::ann::networks::Vgg15HalfBn;
use evospike::data::Cifar10;
use evospike::data::{Normalisation, class_folders};
use evospike::evolve::Stopping;
use evospike::prelude::*;
use evospike::report::write_csv;
use serde::Serialize;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let given = arguments.iter().find_map(|a| a.strip_prefix(name));
        given.ok_or(format!("{name}... is missing"))
    };
    if let Ok(cifar) = option("--cifar=") {
        return rates(Path::new(cifar));
    }
    if !arguments.iter().any(|argument| argument == "serve") {
        println!("needs a model and images: run tests/benchmarks/evolution.py, or --cifar=FOLDER");
        return Ok(());
    }
    let model = PathBuf::from(option("--model=")?);
    let (images, timesteps): (usize, usize) =
        (option("--images=")?.parse()?, option("--timesteps=")?.parse()?);
    let parts = class_folders::<Cifar10>(PathBuf::from(option("--data=")?).join("test"))?
        .normalised(&data::Normalisation::CIFAR10)?
        .listed(model.with_file_name("test-subset-1000.txt"))?
        .split(Shares::default(), 0)?;
    let ann = Ann::<Vgg15HalfBn>::load(&model, &Names::vgg15_bn())?;
    let snn = convert(&ann, &parts.training.take(100))?.balance(Balance::Percentile(99.9))?;
    let images = parts.held_out.take(images);
    let target = ann.target(&images, 2.0)?;
    for line in io::stdin().lock().lines() {
        let settings = EvolveSettings {
            search: Search::De(DeSettings { population: 1, ..DeSettings::default() }),
            genome: vec![(Gene::Threshold, [0.7, 1.2])],
            generations: line?.trim().parse()?,
            timesteps,
            ..EvolveSettings::default()
        };
        let start = Instant::now();
        let evolution = evolve(&snn, &images, &target, &settings)?;
        let seconds = start.elapsed().as_secs_f64();
        let last = evolution.generations.last().ok_or("no generation")?;
        println!(
            "{}",
            json!({
                "seconds": seconds,
                "evaluations": last.evaluations,
                "stopped": last.stopped,
                "latency": evolution.fitness.latency,
            })
        );
    }
    Ok(())
}

#[derive(Serialize)]
struct Rate {
    neurons: &'static str,
    timesteps: usize,
    objective: &'static str,
    images: usize,
    threads: usize,
    evaluations_per_second: f64,
    /// Seconds of an evolution of 13 generations of 12 networks.
    evolution_seconds: f64,
}

fn rates(cifar: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = env!("CARGO_MANIFEST_DIR");
    let weights = format!("{root}/results/cifar10/vgg15-half-bn.safetensors");
    let data = data::cifar10(cifar)?.normalised(&Normalisation::CIFAR10)?;
    let parts = data.hold_out_listed(format!("{weights}.held-out.txt"), 0)?;
    let ann = Ann::<Vgg15HalfBn>::load(&weights, &Names::own())?;
    let conversion = convert(&ann, &parts.training.take(1000))?;
    let images = parts.held_out.take(1000);
    let target = ann.target(&images, 1.0)?;
    let entropy = |from| Objective::CrossEntropy { from, price: 0.0 };
    let divergence = |from| Objective::Divergence { from, price: 0.0 };
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rows = Vec::new();
    for (neurons, spikes, timesteps, name, objective, batch) in [
        ("plain", Spikes::PLAIN, 64, "latency", Objective::MeanLatency, 100),
        ("plain", Spikes::PLAIN, 16, "cross-entropy", entropy(12), 400),
        ("signed", Spikes::SIGNED, 8, "cross-entropy", entropy(5), 400),
        ("signed", Spikes::SIGNED, 8, "divergence", divergence(5), 50),
        ("two levels", Spikes::levels(2), 4, "cross-entropy", entropy(3), 400),
        ("eight levels", Spikes::levels(8), 2, "cross-entropy", entropy(1), 400),
    ] {
        let snn = conversion.balance(Balance::PercentilePerChannel(99.7))?;
        let snn = snn.with_initial(0.5)?.with_spikes(spikes)?;
        for threads in [1, all] {
            let settings = EvolveSettings {
                search: Search::CmaEs(CmaEsSettings { population: Some(12), sigma: 0.06 }),
                objective,
                genome: vec![(Gene::Scale, [0.6, 1.6]), (Gene::Initial, [-0.5, 1.5])],
                generations: 1,
                timesteps,
                batch: Some(batch),
                stopping: Stopping::Never,
                ..EvolveSettings::default()
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let start = Instant::now();
            pool.install(|| evolve(&snn, &images, &target, &settings))?;
            let begun = start.elapsed().as_secs_f64();
            let longer = EvolveSettings { generations: 3, ..settings };
            let start = Instant::now();
            let evolution = pool.install(|| evolve(&snn, &images, &target, &longer))?;
            // What two more generations take, without the beginning and the measurement of the end.
            let seconds = start.elapsed().as_secs_f64() - begun;
            let last = evolution.generations.last().ok_or("no generation")?;
            let each = seconds / 24.0;
            println!(
                "{neurons}, {timesteps} timesteps, {name}, {batch} images, {threads} threads: \
                      {:.2} evaluations/s ({} in all)",
                1.0 / each,
                last.evaluations
            );
            rows.push(Rate {
                neurons,
                timesteps,
                objective: name,
                images: batch,
                threads,
                evaluations_per_second: (100.0 / each).round() / 100.0,
                evolution_seconds: (begun - 12.0 * each + 13.0 * 12.0 * each).round(),
            });
        }
    }
    write_csv(format!("{root}/results/benchmarks/evaluations.csv"), rows)?;
    Ok(())
}
