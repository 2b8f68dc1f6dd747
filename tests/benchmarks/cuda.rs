//! Images a second on a card and on this CPU: simulations and trainings of the half-width VGG15.
//!
//! `cargo bench --features cuda --bench cuda` writes `results/benchmarks/cuda.csv`. Without a card it
//! says so; without the feature it takes dfdx's `Cpu` for the card, few images, and writes nothing.
//! Where `python3` has SpikingJelly with its CuPy backend, `cuda_spikingjelly.py` measures it in the same call.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

#[cfg(not(feature = "cuda"))]
use dfdx::prelude::Cpu as Card;
#[cfg(feature = "cuda")]
use dfdx::prelude::Cuda as Card;
use evospike::ann::networks::Vgg15HalfBn;
use evospike::data::{Cifar10, Task, Whole};
use evospike::ops::Backend;
use evospike::prelude::*;
use evospike::report::write_csv;
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    card: String,
    work: String,
    images: usize,
    card_images_per_second: f64,
    cpu_images_per_second: f64,
    ratio: f64,
    /// With its CuPy backend on the same card; none where it is not installed.
    spikingjelly_images_per_second: Option<f64>,
}

fn main() -> evospike::Result<()> {
    if let Err(error) = Card::open(0) {
        println!("skipped: {error}");
        return Ok(());
    }
    let cuda = cfg!(feature = "cuda");
    let images = if cuda { 256 } else { 16 };
    let card = name();
    let pixels = (0..2 * images * Cifar10::SHAPE.size()).map(|i| (i * i % 251) as u8).collect();
    let labels = (0..2 * images).map(|i| (i % Cifar10::CLASSES) as u16).collect();
    let data = Images::<Whole, Cifar10>::from_arrays(pixels, labels)?;
    let parts = data.split(Shares { held_out: 0.25, test: 0.25 }, 0)?;
    let ann = Ann::<Vgg15HalfBn>::new(0)?;
    let conversion = convert(&ann, &parts.training.take(100))?;
    let plain = conversion.balance(Balance::PercentilePerChannel(99.9))?;
    let levels = plain.with_initial(0.5)?.with_spikes(Spikes::levels(2))?;
    let mut rows = Vec::new();
    let mut add = |work: &str, images: usize, on_card: Work<'_>, on_cpu: Work<'_>| {
        // Each figure is printed when it is known: a card may be lent for minutes.
        let measure = |place: &str, work_there: Work<'_>| {
            let rate = images as f64 / best_of_3(work_there)?;
            println!("{work}: {rate:.1} images a second on {place}");
            evospike::Result::Ok(rate)
        };
        let (on_card, on_cpu) = (measure(&card, on_card)?, measure("the CPU", on_cpu)?);
        rows.push(Row {
            card: card.clone(),
            work: work.into(),
            images,
            card_images_per_second: on_card,
            cpu_images_per_second: on_cpu,
            ratio: on_card / on_cpu,
            spikingjelly_images_per_second: None,
        });
        evospike::Result::Ok(())
    };
    for (work, snn, timesteps) in
        [("plain, 64 timesteps", &plain, 64), ("two levels, 4 timesteps", &levels, 4)]
    {
        let test = &parts.training.take(images);
        let run = |snn: &Snn<Vgg15HalfBn>| simulate(snn, test, timesteps).map(drop);
        let on_card = snn.on::<Card>()?;
        add(work, images, &mut || run(&on_card), &mut || run(snn))?;
    }
    // An epoch of one batch after another.
    let settings = TrainSettings { epochs: 1, batch: 128.min(images), ..TrainSettings::default() };
    let (mut on_card, mut on_cpu) = (Ann::<Vgg15HalfBn, Card>::new(0)?, ann);
    add(
        "training",
        parts.training.len(),
        &mut || on_card.train(&parts.training, &settings).map(drop),
        &mut || on_cpu.train(&parts.training, &settings).map(drop),
    )?;
    let hybrid = HybridSettings { train: settings, timesteps: 4, ..HybridSettings::default() };
    let training = &parts.training.take(images / 4);
    let run = |snn: &Snn<Vgg15HalfBn>| train_through_time(snn, training, &hybrid).map(drop);
    let on_card = plain.on::<Card>()?;
    let work = "training through 4 timesteps";
    add(work, training.len(), &mut || run(&on_card), &mut || run(&plain))?;
    let spikingjelly = spikingjelly(images);
    for row in &mut rows {
        row.spikingjelly_images_per_second = spikingjelly.get(&row.work).copied();
    }
    if cuda {
        write_csv(concat!(env!("CARGO_MANIFEST_DIR"), "/results/benchmarks/cuda.csv"), rows)?;
    }
    Ok(())
}

/// Name of the card.
fn name() -> String {
    let query = ["--query-gpu=name", "--format=csv,noheader"];
    let output = Command::new("nvidia-smi").args(query).output();
    let name = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let name = name.and_then(|name| Some(name.lines().next()?.trim().to_owned()));
    name.filter(|_| cfg!(feature = "cuda")).unwrap_or_else(|| "dfdx's Cpu".into())
}

/// Images a second of SpikingJelly, by the work that it does as well.
fn spikingjelly(images: usize) -> BTreeMap<String, f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/benchmarks/cuda_spikingjelly.py");
    let device = if cfg!(feature = "cuda") { "cuda" } else { "cpu" };
    let arguments = [script, "--device", device, "--images", &images.to_string()];
    match Command::new("python3").args(arguments).output() {
        Ok(output) if output.status.success() => {
            serde_json::from_slice(&output.stdout).unwrap_or_default()
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            println!("skipped SpikingJelly: {}", said.lines().last().unwrap_or("it failed"));
            BTreeMap::new()
        }
        Err(error) => {
            println!("skipped SpikingJelly: python3: {error}");
            BTreeMap::new()
        }
    }
}

/// Something to measure.
type Work<'a> = &'a mut dyn FnMut() -> evospike::Result<()>;

/// Seconds of the fastest of three calls.
fn best_of_3(work: Work<'_>) -> evospike::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let clock = Instant::now();
        work()?;
        best = best.min(clock.elapsed().as_secs_f64());
    }
    Ok(best)
}
