//! Additions per second of this machine, and time and memory of simulating VGG15 and, for images of
//! several sides, a network of six convolutions.
//!
//! `cargo bench --bench limits` needs no data: weights and images are random, thresholds the 99.9th
//! percentile. Writes `results/benchmarks/limits.csv`, and to `growth.csv` how time and memory grow.

mod common;

use std::time::Instant;

use evospike::ann::graph::Graph;
use evospike::ann::layers::{CHANNELS_FIRST, Layer, Window};
use evospike::ann::networks::{Vgg15, Vgg15HalfBn, Vgg15QuarterBn};
use evospike::ann::{Model, TaskOf};
use evospike::data::{Cifar10, Classify, Normalisation, Shape};
use evospike::prelude::*;
use evospike::random::{Stream, rng};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use common::{in_own_processes, noise, peak_memory};

#[derive(Serialize, Deserialize)]
struct Row {
    network: String,
    images: usize,
    timesteps: usize,
    seconds: f64,
    image_timesteps_per_second: f64,
    synaptic_operations_per_second: f64,
    mean_firing_rate_percent: f64,
    peak_memory_mib: f64,
}

/// How the seconds and the peak memory of a simulation grow with one of its sizes s: as s to the power
/// of an exponent, between two rows.
#[derive(Serialize)]
struct Growth {
    size: &'static str,
    from: usize,
    to: usize,
    seconds_exponent: f64,
    memory_exponent: f64,
    /// Size that would take 16 GiB.
    largest_in_16_gib: f64,
}

impl Growth {
    fn new(size: &'static str, [from, to]: [(usize, &Row); 2]) -> Self {
        let rounded = |x: f64| (x * 100.0).round() / 100.0;
        let grown = (to.0 as f64 / from.0 as f64).ln();
        let exponent = |of: fn(&Row) -> f64| rounded((of(to.1) / of(from.1)).ln() / grown);
        // A run with more images or timesteps is rated by its time, not by a rate that rounds it.
        let seconds =
            |row: &Row| (row.images * row.timesteps) as f64 / row.image_timesteps_per_second;
        let memory = exponent(|row| row.peak_memory_mib);
        // Less than proportional is a constant and a part that is proportional.
        let (least, most) = (from.1.peak_memory_mib, to.1.peak_memory_mib);
        let largest = match memory < 1.0 {
            true => to.0 as f64 + (16_384.0 - most) * (to.0 - from.0) as f64 / (most - least),
            false => to.0 as f64 * (16_384.0 / most).powf(1.0 / memory),
        };
        Self {
            size,
            from: from.0,
            to: to.0,
            seconds_exponent: exponent(seconds),
            memory_exponent: memory,
            largest_in_16_gib: largest.round(),
        }
    }
}

fn simulated<N: Network<Task = Cifar10>>(
    network: &str,
    images: usize,
    timesteps: usize,
) -> evospike::Result<Row> {
    let whole = data::TrainTest::new(noise(100)?, noise(images)?)?;
    let parts = whole.normalised(&Normalisation::CIFAR10)?.hold_out(0.1, 0)?;
    measured(Ann::<N>::new(0)?, network, &parts, timesteps)
}

/// Six convolutions, three average pools, and a linear layer behind them.
fn of_side<const SIDE: usize>(images: usize, timesteps: usize) -> evospike::Result<Row> {
    let mut rng = rng(0, Stream::Weights);
    let mut weights = |outputs: usize, inputs: usize| {
        let bound = (6.0 / inputs as f32).sqrt(); // He's, uniform
        (0..outputs * inputs).map(|_| rng.random_range(-bound..bound)).collect()
    };
    let mut graph = Graph::new(Shape::new(3, SIDE, SIDE));
    for (stage, [inputs, outputs]) in [[3, 32], [32, 64], [64, 128]].into_iter().enumerate() {
        for inputs in [inputs, outputs] {
            graph.then(Layer::Conv {
                weight: weights(outputs, inputs * 9),
                bias: None,
                inputs,
                outputs,
                window: Window::square(3, 1, 1),
                groups: 1,
            });
            graph.then(Layer::Neurons);
        }
        let side = if stage < 2 { 2 } else { SIDE / 4 };
        let window = Window::square(side, side, 0);
        graph.then(Layer::AvgPool { window, ceil: false, count_padding: false });
    }
    let (inputs, outputs, order) = (128, 10, CHANNELS_FIRST);
    graph.then(Layer::Linear {
        weight: weights(outputs, inputs),
        bias: None,
        inputs,
        outputs,
        order,
    });
    let network = Imported::<Classify<3, SIDE, 10>>::new(graph)?;
    let parts = data::TrainTest::new(noise(100)?, noise(images)?)?.hold_out(0.1, 0)?;
    measured(network, &format!("convolutions, side {SIDE}"), &parts, timesteps)
}

fn measured<M: Model>(
    network: M,
    name: &str,
    parts: &data::Split<TaskOf<M>>,
    timesteps: usize,
) -> evospike::Result<Row> {
    let snn = convert(&network, &parts.training.take(20))?.balance(Balance::Percentile(99.9))?;
    drop(network); // which a simulation does not need
    let images = parts.test.len();
    let start = Instant::now();
    let run = simulate(&snn, &parts.test, timesteps)?;
    let seconds = start.elapsed().as_secs_f64();
    let operations: u64 = run.layers.iter().flat_map(|layer| &layer.operations).sum();
    let spikes: u64 = run.layers.iter().flat_map(|layer| &layer.spikes).sum();
    let neurons: usize = snn.sizes().iter().sum();
    let image_timesteps = (images * timesteps) as f64;
    Ok(Row {
        network: name.into(),
        images,
        timesteps,
        seconds: (seconds * 100.0).round() / 100.0,
        image_timesteps_per_second: (image_timesteps / seconds).round(),
        synaptic_operations_per_second: (operations as f64 / seconds).round(),
        mean_firing_rate_percent: (spikes as f64 / image_timesteps / neurons as f64 * 1e4).round()
            / 100.0,
        peak_memory_mib: peak_memory(),
    })
}

/// Additions per second, by all threads, of rows of 32 weights into registers. Each thread reads rows
/// from `bytes` bytes in random order: the engine's inner loop and nothing else.
fn additions(bytes: usize) -> f64 {
    let rows = bytes / 128;
    let weights = vec![[1.0f32; 32]; rows];
    let mut rng = rng(0, Stream::Split);
    let order: Vec<u32> = (0..1 << 16).map(|_| rng.random_range(0..rows as u32)).collect();
    let repeats = 400;
    let add = || {
        for _ in 0..repeats {
            let order = std::hint::black_box(&order);
            widest(
                #[inline(always)]
                || _ = std::hint::black_box(sum(&weights, order)),
            );
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seconds = (0..3).map(|_| {
        let start = Instant::now();
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(add))));
        start.elapsed().as_secs_f64()
    });
    let least = seconds.fold(f64::INFINITY, f64::min);
    (threads * repeats * order.len() * 32) as f64 / least
}

#[inline(always)]
fn sum(weights: &[[f32; 32]], order: &[u32]) -> [f32; 32] {
    // Two sums, since an addition takes longer than the processor needs to begin the next.
    let mut sums = [[0.0; 32]; 2];
    for pair in order.chunks_exact(2) {
        for (sum, &row) in sums.iter_mut().zip(pair) {
            for (sum, weight) in sum.iter_mut().zip(&weights[row as usize]) {
                *sum += weight;
            }
        }
    }
    std::array::from_fn(|lane| sums[0][lane] + sums[1][lane])
}

/// Runs `work` compiled for the widest vectors of this processor.
fn widest(work: impl FnOnce()) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(work: impl FnOnce()) {
            work();
        }
        #[target_feature(enable = "avx512f")]
        fn avx512(work: impl FnOnce()) {
            work();
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512.
            return unsafe { avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { avx2(work) };
        }
    }
    work();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cases = [
        ("VGG15, half width", 50, 100),
        ("VGG15, half width", 200, 100),
        ("VGG15, half width", 50, 250),
        ("VGG15, half width", 1000, 100),
        ("VGG15, quarter width", 50, 100),
        ("VGG15, full width", 50, 100),
        ("VGG15, full width", 1000, 250),
        ("convolutions, side 32", 20, 100),
        ("convolutions, side 128", 20, 100),
    ];
    let cases = cases.map(|(name, images, timesteps)| (name.to_string(), images, timesteps));
    let measure = |(name, images, timesteps): (String, usize, usize)| {
        Ok(match name.as_str() {
            "VGG15, full width" => simulated::<Vgg15>(&name, images, timesteps)?,
            "VGG15, half width" => simulated::<Vgg15HalfBn>(&name, images, timesteps)?,
            "VGG15, quarter width" => simulated::<Vgg15QuarterBn>(&name, images, timesteps)?,
            "convolutions, side 32" => of_side::<32>(images, timesteps)?,
            "convolutions, side 128" => of_side::<128>(images, timesteps)?,
            _ => return Err(format!("{name}: expected one of the cases").into()),
        })
    };
    let say = |row: &Row| {
        format!(
            "{}, {} images, {} timesteps: {:.1} s, {:.0} image-timesteps/s, {:.1} G synaptic \
             operations/s, {:.1} % of neurons spike in a timestep, {:.0} MiB at most",
            row.network,
            row.images,
            row.timesteps,
            row.seconds,
            row.image_timesteps_per_second,
            row.synaptic_operations_per_second / 1e9,
            row.mean_firing_rate_percent,
            row.peak_memory_mib,
        )
    };
    let rows = in_own_processes("limits.csv", cases, measure, say)?;
    if let [half, _, longer, more, quarter, full, _, side_32, side_128] = &rows[..] {
        let growth = [
            Growth::new("images", [(half.images, half), (more.images, more)]),
            Growth::new("timesteps", [(half.timesteps, half), (longer.timesteps, longer)]),
            Growth::new("channels of the first layer", [(16, quarter), (64, full)]),
            Growth::new("side of the images", [(32, side_32), (128, side_128)]),
        ];
        write_csv(concat!(env!("CARGO_MANIFEST_DIR"), "/results/benchmarks/growth.csv"), growth)?;
        for (kib, place) in
            [(16, "first-level cache"), (512, "second-level cache"), (1 << 19, "memory")]
        {
            let rate = additions(kib << 10) / 1e9;
            println!("additions of weights from {kib} KiB ({place}): {rate:.1} G/s on all cores");
        }
    }
    Ok(())
}
