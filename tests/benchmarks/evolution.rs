//! Evolutions of the committed VGG15 on CIFAR-10: their rates, and what `evolution.py` compares SciPy and
//! SpikingJelly with.
//!
//! `cargo bench --bench evolution -- --cifar=FOLDER` evolves it with each kind of neurons and objective for
//! two generations, on one thread and on all, and writes evaluations per second to
//! `results/benchmarks/evaluations.csv`.
//!
//! `... -- serve --cifar=FOLDER` evolves signed neurons. It answers a line `evospike`, or `de` and a number of
//! generations (differential evolution as in SciPy, on 400 images that stay the same), with a line of JSON:
//! the seconds taken, networks evaluated, and the accuracy on all held-out images, in percent, on average
//! over the timesteps that the evolution counted.

use std::error::Error;
use std::io::{self, BufRead};
use std::path::Path;
use std::time::Instant;

use evospike::ann::networks::Vgg15HalfBn;
use evospike::convert::Conversion;
use evospike::data::{Cifar10, HeldOut, Images, Normalisation};
use evospike::evolve::Stopping;
use evospike::metrics::Target;
use evospike::prelude::*;
use evospike::report::write_csv;
use serde::Serialize;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(cifar) = arguments.iter().find_map(|argument| argument.strip_prefix("--cifar="))
    else {
        println!("needs CIFAR-10: --cifar=FOLDER");
        return Ok(());
    };
    let weights = format!("{ROOT}/results/cifar10/vgg15-half-bn.safetensors");
    let data = data::cifar10(Path::new(cifar))?.normalised(&Normalisation::CIFAR10)?;
    let parts = data.hold_out_listed(format!("{weights}.held-out.txt"), 0)?;
    let ann = Ann::<Vgg15HalfBn>::load(&weights, &Names::own())?;
    let conversion = convert(&ann, &parts.training.take(1000))?;
    if arguments.iter().any(|argument| argument == "serve") {
        return serve(&ann, &conversion, &parts.held_out);
    }
    let images = parts.held_out.take(1000);
    rates(&conversion, &images, &ann.target(&images, 1.0)?)
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The network with neurons of these spikes, and settings of its evolution on batches of images.
fn start(
    conversion: &Conversion<Vgg15HalfBn>,
    spikes: Spikes,
    objective: Objective,
    (timesteps, batch): (usize, usize),
) -> evospike::Result<(Snn<Vgg15HalfBn>, EvolveSettings)> {
    let snn = conversion.balance(Balance::PercentilePerChannel(99.7))?;
    let settings = EvolveSettings {
        search: Search::CmaEs(CmaEsSettings { population: Some(12), sigma: 0.06 }),
        objective,
        genome: vec![(Gene::Scale, [0.6, 1.6]), (Gene::Initial, [-0.5, 1.5])],
        timesteps,
        batch: Some(batch),
        stopping: Stopping::Never,
        ..EvolveSettings::default()
    };
    Ok((snn.with_initial(0.5)?.with_spikes(spikes)?, settings))
}

fn serve(
    ann: &Ann<Vgg15HalfBn>,
    conversion: &Conversion<Vgg15HalfBn>,
    held_out: &Images<HeldOut, Cifar10>,
) -> Result<(), Box<dyn Error>> {
    let (from, timesteps, batch) = (5, 7, 400);
    let (target, fixed) = (ann.target(held_out, 1.0)?, held_out.take(batch));
    let fixed_target = ann.target(&fixed, 1.0)?;
    let entropy = Objective::CrossEntropy { from, price: 0.0 };
    let (snn, usual) = start(conversion, Spikes::SIGNED, entropy, (timesteps, batch))?;
    let accuracy = |snn: &Snn<Vgg15HalfBn>| -> evospike::Result<f64> {
        let curve = simulate(snn, held_out, timesteps)?.curve;
        let counted = (from..=timesteps).filter_map(|t| curve.after(t));
        Ok(counted.map(Accuracy::percent).sum::<f64>() / (timesteps - from + 1) as f64)
    };
    println!("{}", json!({ "accuracy": accuracy(&snn)? }));
    for line in io::stdin().lock().lines() {
        let line = line?;
        let clock = Instant::now();
        let (evolved, evaluations) = match line.trim().strip_prefix("de ") {
            // As `reproduce neurons` does: many small batches, then a few large ones.
            None => {
                let first = EvolveSettings { generations: 12, ..usual.clone() };
                let first = evolve(&snn, held_out, &target, &first)?;
                let last = CmaEsSettings { population: Some(12), sigma: 0.03 };
                let last = EvolveSettings {
                    search: Search::CmaEs(last),
                    generations: 2,
                    batch: Some(1000),
                    ..usual.clone()
                };
                let last = evolve(&first.snn, held_out, &target, &last)?;
                let runs = [&first, &last].map(|evolution| evolution.generations.last());
                (last.snn.clone(), runs.iter().flatten().map(|g| g.evaluations).sum::<usize>())
            }
            Some(generations) => {
                let de = EvolveSettings {
                    search: Search::De(DeSettings { population: 1, ..DeSettings::default() }),
                    generations: generations.parse()?,
                    batch: None,
                    ..usual.clone()
                };
                let evolution = evolve(&snn, &fixed, &fixed_target, &de)?;
                let evaluations = evolution.generations.last().map_or(0, |g| g.evaluations);
                (evolution.snn, evaluations)
            }
        };
        let seconds = clock.elapsed().as_secs_f64();
        let accuracy = accuracy(&evolved)?;
        println!(
            "{}",
            json!({ "seconds": seconds, "evaluations": evaluations, "accuracy": accuracy })
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
    /// Seconds of 13 generations of 12 networks.
    evolution_seconds: f64,
}

fn rates(
    conversion: &Conversion<Vgg15HalfBn>,
    images: &Images<HeldOut, Cifar10>,
    target: &Target,
) -> Result<(), Box<dyn Error>> {
    let entropy = |from| Objective::CrossEntropy { from, price: 0.0 };
    let divergence = |from| Objective::Divergence { from, price: 0.0 };
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rows = Vec::new();
    for (neurons, spikes, timesteps, name, objective, batch) in [
        ("plain", Spikes::PLAIN, 64, "latency", Objective::MeanLatency, 100),
        ("plain", Spikes::PLAIN, 16, "cross-entropy", entropy(12), 100),
        ("signed", Spikes::SIGNED, 8, "cross-entropy", entropy(5), 400),
        ("signed", Spikes::SIGNED, 8, "divergence", divergence(5), 50),
        ("two levels", Spikes::levels(2), 4, "cross-entropy", entropy(3), 400),
        ("eight levels", Spikes::levels(8), 2, "cross-entropy", entropy(1), 400),
    ] {
        let (snn, usual) = start(conversion, spikes, objective, (timesteps, batch))?;
        for threads in [1, all] {
            let settings = EvolveSettings { generations: 1, ..usual.clone() };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let evolution = pool.install(|| evolve(&snn, images, target, &settings))?;
            let last = evolution.generations.last().ok_or("no generation")?;
            let each = evolution.seconds / last.evaluations as f64;
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
                evolution_seconds: (13.0 * 12.0 * each).round(),
            });
        }
    }
    write_csv(format!("{ROOT}/results/benchmarks/evaluations.csv"), rows)?;
    Ok(())
}
