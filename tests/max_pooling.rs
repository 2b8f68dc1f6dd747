//! Ways to max-pool spikes, compared on one network: the table of the guide.
//!
//! Reads `tests/data/pytorch/max-pool.safetensors`, which `tests/pytorch_max_pool.py` trains. With
//! `EVOSPIKE_WRITE` set, writes the table to `src/guide/max_pooling.md`; else the table there must be
//! what is measured.

use std::path::Path;

use evospike::ann::graph::Graph;
use evospike::ann::layers::{CHANNELS_FIRST, Layer, Window};
use evospike::data::{Task, Whole};
use evospike::prelude::*;
use evospike::simulate::SpikingNetwork;
use rayon::prelude::*;
use safetensors::SafeTensors;

const TIMESTEPS: [usize; 6] = [4, 8, 16, 32, 64, 128];
const LAST: usize = 128;

/// What a pool emits for the spikes of its four inputs, whose sums so far are given.
type Pool = fn(&[f32; 4], &[f32; 4]) -> f32;

/// A spike of any input passes.
fn any(spikes: &[f32; 4], _: &[f32; 4]) -> f32 {
    spikes.iter().copied().fold(0.0, f32::max)
}

/// Only spikes of the input that has fired most often pass (Rueckauer et al. 2017).
fn gate(spikes: &[f32; 4], sums: &[f32; 4]) -> f32 {
    let most = (0..4).rev().max_by(|&a, &b| sums[a].total_cmp(&sums[b])).unwrap();
    spikes[most]
}

/// The change of the largest sum.
fn running(spikes: &[f32; 4], sums: &[f32; 4]) -> f32 {
    let largest = |values: [f32; 4]| values.into_iter().fold(f32::MIN, f32::max);
    largest(*sums) - largest([0, 1, 2, 3].map(|i| sums[i] - spikes[i]))
}

/// A convolution by 3 x 3 with its neurons and a pool, by definition.
struct Stage<'a> {
    side: usize,
    inputs: usize,
    weight: &'a [f32],
    bias: &'a [f32],
    thresholds: &'a [f32],
}

impl Stage<'_> {
    /// Runs one timestep: input values by channel, row, column to the charges that the pool emits.
    fn step(&self, x: &[f32], potentials: &mut [f32], sums: &mut [f32], pool: Pool) -> Vec<f32> {
        let (side, half, plane) = (self.side, self.side / 2, self.side * self.side);
        let mut z: Vec<f32> = (0..potentials.len()).map(|i| self.bias[i / plane]).collect();
        for (i, &value) in x.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            let (channel, row, column) = (i / plane, i % plane / side, i % side);
            for (kr, kc) in (0..9).map(|place| (place / 3, place % 3)) {
                let (r, c) = (row + 1, column + 1);
                let Some((r, c)) = r.checked_sub(kr).zip(c.checked_sub(kc)) else { continue };
                if r >= side || c >= side {
                    continue;
                }
                for output in 0..self.bias.len() {
                    let weight = (output * self.inputs + channel) * 9 + kr * 3 + kc;
                    z[output * plane + r * side + c] += self.weight[weight] * value;
                }
            }
        }
        let spikes = potentials.iter_mut().zip(&z).enumerate().map(|(i, (v, z))| {
            *v += z;
            let fires = *v >= self.thresholds[i / plane];
            *v -= if fires { self.thresholds[i / plane] } else { 0.0 };
            f32::from(fires)
        });
        let spikes: Vec<f32> = spikes.collect();
        sums.iter_mut().zip(&spikes).for_each(|(sum, spike)| *sum += spike);
        let emitted = (0..self.bias.len() * half * half).map(|i| {
            let (channel, row, column) = (i / (half * half), i % (half * half) / half, i % half);
            let corner = channel * plane + 2 * row * side + 2 * column;
            let four = [corner, corner + 1, corner + side, corner + side + 1];
            let [spikes, sums] = [&spikes[..], sums].map(|values| four.map(|at| values[at]));
            pool(&spikes, &sums) * self.thresholds[channel]
        });
        emitted.collect()
    }
}

/// Whether an image is classified correctly after each timestep.
fn hits(
    stages: &[Stage<'_>; 2],
    (weight, bias): (&[f32], &[f32]),
    (pixels, label): (&[f32], usize),
    pool: Pool,
) -> Vec<bool> {
    let start = |stage: &Stage<'_>| -> [Vec<f32>; 2] {
        let plane = stage.side * stage.side;
        let potential = |i: usize| stage.thresholds[i / plane] / 2.0;
        let size = stage.bias.len() * plane;
        [(0..size).map(potential).collect(), vec![0.0; size]]
    };
    let mut states = stages.each_ref().map(start);
    let mut logits = vec![0.0; bias.len()];
    let step = |_| {
        let mut x = pixels.to_vec();
        for (stage, [potentials, sums]) in stages.iter().zip(&mut states) {
            x = stage.step(&x, potentials, sums, pool);
        }
        for (class, logit) in logits.iter_mut().enumerate() {
            let weights = weight[class * x.len()..].iter().zip(&x);
            *logit += bias[class] + weights.map(|(w, x)| w * x).sum::<f32>();
        }
        metrics::predict(&logits) == label
    };
    (0..LAST).map(step).collect()
}

#[test]
fn the_guides_table_is_what_is_measured() -> evospike::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(root.join("tests/data/pytorch/max-pool.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let bytes = file.tensor(name).unwrap().data().as_chunks().0.iter();
        bytes.map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let names = ["0.weight", "0.bias", "3.weight", "3.bias", "7.weight", "7.bias"];
    let [first, first_bias, second, second_bias, last, last_bias] = names.map(floats);
    let mut graph = Graph::new(Digits::SHAPE);
    for (inputs, weight, bias) in [(1, &first, &first_bias), (12, &second, &second_bias)] {
        let (weight, outputs, bias) = (weight.clone(), bias.len(), Some(bias.clone()));
        let window = Window::square(3, 1, 1);
        graph.then(Layer::Conv { weight, bias, inputs, outputs, window, groups: 1 });
        graph.then(Layer::Neurons);
        graph.then(Layer::MaxPool { window: Window::square(2, 2, 0), ceil: false });
    }
    let (weight, bias) = (last.clone(), Some(last_bias.clone()));
    graph.then(Layer::Linear { weight, bias, inputs: 96, outputs: 10, order: CHANNELS_FIRST });
    let network = Imported::<Digits>::new(graph)?;

    let digits: Images<Whole, Digits> = data::digits()?;
    let (some, test) = (digits.clone().take(1200), digits.range(1200..digits.len()));
    let ann = network.accuracy(&test)?;
    let pytorchs = file.tensor("correct").unwrap().data().iter();
    assert_eq!(ann.correct, pytorchs.filter(|&&correct| correct == 1).count());

    let parts = some.split(Shares::default(), 0)?;
    let snn = convert(&network, &parts.training)?.balance(Balance::PercentilePerChannel(99.9))?;
    let snn = snn.with_initial(0.5)?;
    let neurons = snn.neurons();
    let stages =
        [(8, 1, &first, &first_bias, &neurons[0]), (4, 12, &second, &second_bias, &neurons[1])];
    let stages = stages.map(|(side, inputs, weight, bias, neurons)| Stage {
        side,
        inputs,
        weight,
        bias,
        thresholds: &neurons.threshold,
    });
    let correct = |pool: Pool| -> Vec<usize> {
        let images = (0..test.len())
            .into_par_iter()
            .map(|i| hits(&stages, (&last, &last_bias), (&test.input(i), test.label(i)), pool));
        let images: Vec<Vec<bool>> = images.collect();
        (0..LAST).map(|t| images.iter().filter(|hits| hits[t]).count()).collect()
    };
    let of_engine = |network: &SpikingNetwork| -> evospike::Result<Vec<usize>> {
        let run = network.simulate(&test, LAST)?;
        Ok(run.curve.iter().map(|accuracy| accuracy.correct).collect())
    };
    let (by_definition, plain) = (correct(running), of_engine(&snn)?);
    // The engine's pool is the running maximum, but for the order of sums.
    let apart = by_definition.iter().zip(&plain).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(apart <= Some(2), "{by_definition:?} {plain:?}");
    let rows = [
        ("a spike of any input passes", correct(any)),
        (
            "gate: spikes of the input with the highest rate pass (Rueckauer et al. 2017)",
            correct(gate),
        ),
        ("change of the largest running sum (evospike)", plain),
        (
            "the same, signed spikes (`Spikes::SIGNED`)",
            of_engine(snn.with_spikes(Spikes::SIGNED)?.network())?,
        ),
    ];
    let percent = |correct: usize| 100.0 * correct as f64 / test.len() as f64;
    let mut table = format!(
        "| way to pool; accuracy in % after T timesteps, ANN {:.1} % | {} |\n|---|{}\n",
        ann.percent(),
        TIMESTEPS.map(|t| format!("T = {t}")).join(" | "),
        "---|".repeat(TIMESTEPS.len()),
    );
    for (way, correct) in &rows {
        let cells = TIMESTEPS.map(|t| format!("{:.1}", percent(correct[t - 1])));
        table += &format!("| {way} | {} |\n", cells.join(" | "));
    }
    println!("{table}");
    assert!(rows[2].1[LAST - 1] + 3 >= ann.correct, "the running maximum comes to the ANN");
    let path = root.join("src/guide/max_pooling.md");
    if std::env::var_os("EVOSPIKE_WRITE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), table, "EVOSPIKE_WRITE=1 writes it anew");
    Ok(())
}
