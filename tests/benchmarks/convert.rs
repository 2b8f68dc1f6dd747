//! Time and memory of recording the activations from which a conversion takes its thresholds.
//!
//! `cargo bench --bench convert` needs no data: weights and images are random. A half-width VGG15 for
//! CIFAR-10 and a VGG16 for ImageNet; the rate of the plain forward pass is measured on the first
//! images of the same, and once all are converted. Writes `results/benchmarks/convert.csv`.

mod common;

use std::error::Error;
use std::time::Instant;

use evospike::ann::networks::{Vgg15HalfBn, Vgg16};
use evospike::data::Task;
use evospike::prelude::*;
use serde::{Deserialize, Serialize};

use common::{in_own_processes, noise, peak_memory};

#[derive(Serialize, Deserialize)]
struct Row {
    network: String,
    images: usize,
    seconds: f64,
    images_per_second: f64,
    forward_images_per_second: f64,
    ratio_to_forward: f64,
    /// Peak memory before: the network, its images, and their making.
    before_mib: f64,
    peak_memory_mib: f64,
}

fn converted<N: Network>(network: &str, count: usize) -> evospike::Result<Row> {
    let whole = data::TrainTest::<N::Task>::new(noise(count + count / 8)?, noise(1)?)?;
    let images = whole.hold_out(0.1, 0)?.training.take(count);
    let ann = Ann::<N>::new(0)?;
    let before = peak_memory();
    let start = Instant::now();
    drop(convert(&ann, &images)?);
    let seconds = start.elapsed().as_secs_f64();
    let peak_memory_mib = peak_memory(); // before the forward pass, which takes more
    let some = images.take(count.min(if N::Task::SHAPE.height > 100 { 20 } else { 2000 }));
    let start = Instant::now();
    ann.logits(&some)?;
    let forward = some.len() as f64 / start.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    let rounded = |x: f64| (x * 100.0).round() / 100.0;
    Ok(Row {
        network: network.into(),
        images: count,
        seconds: rounded(seconds),
        images_per_second: rounded(rate),
        forward_images_per_second: rounded(forward),
        ratio_to_forward: rounded(rate / forward),
        before_mib: before,
        peak_memory_mib,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let cases = [
        ("Vgg15HalfBn", 1000),
        ("Vgg15HalfBn", 20_000),
        ("Vgg15HalfBn", 50_000),
        ("Vgg16", 100),
        ("Vgg16", 300),
    ];
    let cases = cases.map(|(network, images)| (network.to_string(), images));
    let measure = |(network, images): (String, usize)| {
        Ok(match network.as_str() {
            "Vgg15HalfBn" => converted::<Vgg15HalfBn>(&network, images)?,
            "Vgg16" => converted::<Vgg16>(&network, images)?,
            _ => return Err(format!("{network}: expected Vgg15HalfBn or Vgg16").into()),
        })
    };
    let say = |row: &Row| {
        format!(
            "{}, {} images: {:.1} s, {:.0} images/s, {:.2} of the forward pass's {:.0}, {:.0} MiB \
             at most",
            row.network,
            row.images,
            row.seconds,
            row.images_per_second,
            row.ratio_to_forward,
            row.forward_images_per_second,
            row.peak_memory_mib,
        )
    };
    in_own_processes("convert.csv", cases, measure, say)?;
    Ok(())
}
