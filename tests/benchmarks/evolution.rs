//! Seconds of an evolution of a converted VGG15 on CIFAR-10 images: what `evolution.py` compares
//! SciPy and SpikingJelly with.
//!
//! `cargo bench --bench evolution -- serve --model=FILE --data=FOLDER --images=N --timesteps=T`
//! answers every line, a number of generations, with a line of JSON: the seconds taken, networks
//! evaluated, those of them that were stopped early, and the latency found.

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::time::Instant;

use evospike::ann::networks::Vgg15HalfBn;
use evospike::data::Cifar10;
use evospike::data::class_folders;
use evospike::prelude::*;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let given = arguments.iter().find_map(|a| a.strip_prefix(name));
        given.ok_or(format!("{name}... is missing"))
    };
    if !arguments.iter().any(|argument| argument == "serve") {
        println!("needs a model and images: run tests/benchmarks/evolution.py");
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
