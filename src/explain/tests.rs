//! On networks small enough to be computed by hand.

use rand::RngExt;

use super::*;
use crate::ann::graph::Graph;
use crate::ann::layers::linear;
use crate::ann::layers::{Layer, Window};
use crate::ann::model::Ann;
use crate::ann::networks::DigitsCnn;
use crate::base::files::{read_csv, rounded, write_csv};
use crate::base::random::{Stream, rng};
use crate::convert::convert;
use crate::data::embedded::digits;
use crate::data::images::Whole;
use crate::data::shape::Shape;
use crate::data::tasks::Classify;
use crate::data::{Images, Shares};
use crate::evolve::fitness::Objective;
use crate::evolve::genome::Gene;
use crate::evolve::settings::EvolveSettings;
use crate::evolve::thresholds::ThresholdRow;
use crate::explain::conversion::Neuron;
use crate::explain::stats::{pearson, ranks};
use crate::metrics::Target;
use crate::simulate::network::SpikingNetwork;
use crate::simulate::neurons::{Charge, Neurons};
use crate::simulate::settings::SimulateSettings;

type Pixels = Classify<1, 2, 2>; // 1 x 2 x 2, 2 classes

/// Two neurons of threshold 2; class 0 sums what the first pixels give, class 1 the last.
fn two_neurons() -> SpikingNetwork {
    let first = vec![1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0];
    let last = vec![1.0, 0.0, 0.0, 1.0];
    let layers = [linear(first, 4), Layer::Neurons, linear(last, 2)];
    let neurons = vec![Neurons::new([2.0])];
    SpikingNetwork::new(Graph::chain(Shape::new(1, 2, 2), layers), neurons).unwrap()
}

/// Currents of 1.1 and 0, of 0 and 1.2, of 0.8 and 0.1.
fn three_images() -> Images<Whole, Pixels> {
    let pixels = vec![255, 51, 0, 0, 0, 0, 102, 255, 204, 0, 51, 0];
    Images::from_arrays(pixels, vec![0, 1, 0]).unwrap()
}

fn threshold_rows(seeds: &[&[f64]]) -> Vec<ThresholdRow> {
    let layers = seeds.iter().enumerate().flat_map(|(seed, scales)| {
        let scales = scales.iter().enumerate();
        scales.map(move |(layer, &scale)| (seed as u64, layer, scale))
    });
    let row = |(seed, layer, scale)| ThresholdRow {
        seed,
        initial_potential: 0.0,
        margin_points: 1.0,
        layer,
        neurons: 1,
        baseline_threshold: 1.0,
        evolved_threshold: scale as f32,
        scale,
        charge_scale: 2.0 * scale,
    };
    layers.map(row).collect()
}

#[test]
fn seeds_agree_by_the_order_of_their_scales() {
    let rows = threshold_rows(&[&[1.0, 2.0, 3.0], &[2.0, 4.0, 9.0], &[3.0, 2.0, 1.0]]);
    assert!((agreement(&rows).unwrap() - (1.0 - 1.0 - 1.0) / 3.0).abs() < 1e-12);
    assert!((agreement(&rows[..6]).unwrap() - 1.0).abs() < 1e-12);
    let found = scales(&rows).unwrap();
    assert_eq!((found[0].mean_scale, found[0].seeds), (2.0, 3));
    assert_eq!(found[0].standard_deviation, Some(1.0));
    assert_eq!(found[0].mean_charge_scale, 4.0);
    assert_eq!(scales(&rows[..3]).unwrap()[0].standard_deviation, None);
    let error = |rows: &[ThresholdRow]| agreement(rows).unwrap_err().to_string();
    assert!(error(&rows[..3]).contains("those of 1 seed"));
    assert!(error(&rows[..5]).contains("2 of 3 layers of seed 1"));
    let twice = [&rows[..], &rows[..1]].concat();
    assert!(error(&twice).contains("layer 0 of seed 0 twice"));
    assert!(error(&[]).contains("none"));
    let flat = threshold_rows(&[&[1.0, 2.0], &[1.0, 1.0]]);
    assert!(error(&flat).contains("equal scales of all layers of seed 1"));
}

#[test]
fn equal_values_share_their_mean_rank() {
    assert_eq!(ranks(&[5.0, 1.0, 5.0, 0.0]), [2.5, 1.0, 2.5, 0.0]);
    let r = pearson(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]).unwrap();
    assert!((r - 0.5).abs() < 1e-12);
    assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
}

#[test]
fn activity_over_time_is_counted() {
    let run = two_neurons().simulate(&three_images(), 4).unwrap();
    let rates: Vec<f64> =
        firing_rates("one", &run).iter().map(|row| row.firing_rate_percent).collect();
    // Spikes at 2 and 4, at 2 and 4, at 3: of three images and two neurons.
    assert_eq!(rates, [0.0, 33.3333, 16.6667, 33.3333]);
    let rows = first_spikes("one", &two_neurons(), &three_images(), 5).unwrap();
    let expected = FirstSpikeRow {
        network: "one".into(),
        layer: 0,
        neurons: 2,
        timesteps: 5,
        fired_percent: 50.0,
        mean_timestep: Some(2.3333),
        median_timestep: Some(2),
    };
    assert_eq!(rows, [expected]);
    // The same from traces, longer than the engine computes at a time.
    let (snn, images) = (residual(), four_by_four());
    for row in first_spikes("one", &snn, &images, 100).unwrap() {
        let mut first = Vec::new();
        for image in 0..images.len() {
            let trace = snn.trace(&images.input(image), 100).unwrap();
            let spikes = |neuron| {
                let fired = |fired: &Vec<usize>| fired.contains(&neuron);
                trace.spikes[row.layer].iter().position(fired)
            };
            first.extend((0..row.neurons).filter_map(spikes).map(|t| t + 1));
        }
        first.sort_unstable();
        let mean = first.iter().sum::<usize>() as f64 / first.len() as f64;
        assert_eq!(row.mean_timestep, Some(rounded(mean)));
        assert_eq!(row.median_timestep, Some(first[(first.len() - 1) / 2]));
        let share = first.len() as f64 / (row.neurons * images.len()) as f64;
        assert_eq!(row.fired_percent, rounded(100.0 * share));
    }
    let none = &first_spikes("one", &two_neurons(), &three_images(), 1).unwrap()[0];
    assert_eq!((none.fired_percent, none.mean_timestep), (0.0, None));
    assert_eq!(none.median_timestep, None);
}

/// A calibrated potential is an initial one in other units: the causes of errors are the same.
#[test]
fn calibrated_potentials_count_as_initial_ones() {
    let (snn, images) = (residual(), four_by_four());
    let errors = |neurons: Vec<Neurons>| {
        let snn = SpikingNetwork { neurons, ..snn.clone() };
        conversion_error("one", &snn, &images, &[3]).unwrap()
    };
    let potential = |neurons: &Neurons| neurons.threshold.iter().map(|t| t / 2.0).collect();
    let moved = snn.neurons.iter().map(|neurons| Neurons {
        initial: 0.0,
        potential: potential(neurons),
        ..neurons.clone()
    });
    assert_eq!(errors(moved.collect()), errors(snn.neurons.clone()));
}

/// A neuron that gets 0.75, with its spikes up to T = 2 and then the five parts.
#[test]
fn each_cause_makes_its_part() {
    let neuron = |size, charge| Neuron {
        input: 0.75,
        size,
        charge,
        most: 1.0,
        initial: 0.0,
        activation: 0.75,
    };
    let parts = |threshold, charge, spikes| neuron(threshold, charge).parts(spikes, 2);
    assert_eq!(parts(1.0, 1.0, 1), [0.0, 0.0, 0.0, -0.25, 0.0]);
    assert_eq!(parts(1.0, 2.0, 1), [0.0, 0.75, 0.0, -0.5, 0.0]);
    assert_eq!(parts(0.5, 0.5, 2), [0.0, 0.0, -0.25, 0.0, 0.0]);
    assert_eq!(parts(1.0, 1.0, 2), [0.0, 0.0, 0.0, -0.25, 0.5]);
    // Twice as many spikes are possible, so that nothing is clipped.
    let burst = Neuron { most: 2.0, ..neuron(0.5, 0.5) };
    assert_eq!(burst.parts(3, 2), [0.0; 5]);
    let other = Neuron { activation: 0.5, ..neuron(1.0, 1.0) };
    assert_eq!(other.parts(1, 2)[0], 0.25);
    // Two thresholds, but for rounding: either number of spikes is right.
    let near = Neuron { input: 1.0 - 1e-7, ..neuron(1.0, 1.0) };
    assert_eq!([1, 2].map(|spikes| near.parts(spikes, 2)[4]), [0.0; 2]);
}

/// Numbers that look random in -0.5..0.5.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = rng(seed, Stream::Weights);
    (0..count).map(|_| rng.random_range(-0.5..0.5)).collect()
}

/// A convolution, one around a shortcut, pooling; thresholds, charges and currents by channel.
fn residual() -> SpikingNetwork {
    let conv = |inputs: usize, seed| Layer::Conv {
        weight: noise(3 * inputs * 9, seed),
        bias: Some(noise(3, seed + 1)),
        inputs,
        outputs: 3,
        window: Window::square(3, 1, 1),
        groups: 1,
    };
    let mut graph = Graph::chain(Shape::new(1, 4, 4), [conv(1, 0), Layer::Neurons, conv(3, 2)]);
    graph.add("", Layer::Sum, [3, 2]);
    for layer in [Layer::average(2), Layer::Neurons, linear(noise(24, 4), 12)] {
        graph.then(layer);
    }
    let neurons = |seed| Neurons {
        initial: 0.5,
        charge: Charge::Fixed(vec![0.7, 0.9, 1.1]),
        current: noise(3, seed).iter().map(|x| x / 10.0).collect(),
        ..Neurons::new([0.8, 1.0, 0.6])
    };
    let neurons = vec![neurons(5), neurons(6)];
    SpikingNetwork::new(graph, neurons).unwrap()
}

fn four_by_four() -> Images<Whole, Classify<1, 4, 2>> {
    let pixels = (0..32).map(|i| (i * 83 % 256) as u8).collect();
    Images::from_arrays(pixels, vec![0, 1]).unwrap()
}

#[test]
fn the_parts_add_up_to_the_difference_from_the_ann() {
    let (snn, images, timesteps) = (residual(), four_by_four(), [100, 7]);
    let rows = conversion_error("one", &snn, &images, &timesteps).unwrap();
    assert_eq!(rows.len(), 2 * 2 * 6);
    for row in rows.chunks(6) {
        let (layer, timestep) = (row[0].layer, row[0].timestep);
        let sum: f64 = row[..5].iter().map(|row| row.mean_percent).sum();
        assert!((sum - row[5].mean_percent).abs() < 1e-3);
        // The total again, from spikes and activations by channel, row, column.
        let shape = snn.stages.stages[layer].output;
        let (mut total, mut squares) = (0.0, 0.0);
        for image in 0..images.len() {
            let input = images.input(image); // one channel: the order is the same
            let trace = snn.trace(&input, timestep).unwrap();
            for neuron in trace.spikes[layer].iter().flatten() {
                let channel = neuron / (shape.height * shape.width);
                total += f64::from(snn.neurons()[layer].charges()[channel]);
            }
            for z in &snn.stages.forward(&input)[layer] {
                let a = f64::from(z.max(0.0));
                total -= a * timestep as f64;
                squares += a * a;
            }
        }
        let count = (images.len() * shape.size()) as f64;
        let percent = 100.0 * total / timestep as f64 / count / (squares / count).sqrt();
        assert!((percent - row[5].mean_percent).abs() < 1e-3);
        // The first layer's input is even.
        assert!(layer > 0 || row[4].rms_percent == 0.0, "{row:?}");
    }
    assert_eq!((rows[0].timestep, rows[12].timestep), (7, 100));
    assert!(rows[..12].iter().all(|row| row.rms_percent > 0.0 || row.layer == 0));
}

#[test]
fn a_layer_is_measured_in_percent_of_its_activations() {
    // 1.1, 1.2, 0.8, 0.1 and two 0; no spike in one timestep: all is quantisation.
    let rows = conversion_error("one", &two_neurons(), &three_images(), &[1]).unwrap();
    let root = ((1.21 + 1.44 + 0.64 + 0.01) / 6.0f64).sqrt();
    for part in [3, 5] {
        assert_eq!(rows[part].rms_percent, 100.0);
        assert_eq!(rows[part].mean_percent, rounded(-100.0 * 3.2 / 6.0 / root));
    }
    assert_eq!(rows[5].residual_thresholds, Some(rounded(1.6 / 6.0)));
    assert_eq!(rows[0].residual_thresholds, None);

    let mut leaky = two_neurons();
    leaky.neurons[0].leak = vec![0.9];
    let error = conversion_error("one", &leaky, &three_images(), &[1]);
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("layer 0 (neurons): found a leak"), "{error}");
    let dark = Images::<Whole, Pixels>::from_arrays(vec![0; 4], vec![0]).unwrap();
    let error = conversion_error("one", &two_neurons(), &dark, &[1]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("root mean square 0"), "{error}");
    let error = conversion_error("one", &two_neurons(), &three_images(), &[0]);
    assert!(error.unwrap_err().to_string().starts_with("timesteps: found [0]"));
}

fn settings(timesteps: usize) -> EvolveSettings {
    EvolveSettings {
        genome: vec![(Gene::Threshold, [0.5, 2.0])],
        objective: Objective::Latency,
        timesteps,
        ..EvolveSettings::default()
    }
}

/// All images are right when the second spikes, which gets 1.2 a timestep.
#[test]
fn latency_follows_the_threshold() {
    let (snn, images) = (two_neurons(), three_images());
    let target = Target::new([true; 3], 0.0).unwrap();
    let latencies = |timesteps| {
        let settings = settings(timesteps);
        let factors = [0.5, 1.0, 2.0];
        let rows = threshold_sensitivity("one", &snn, &images, &target, &settings, &factors);
        let rows = rows.unwrap().into_iter().map(|row| row.latency_timesteps);
        rows.collect::<Vec<_>>()
    };
    assert_eq!(latencies(8), [Some(1), Some(2), Some(4)]);
    assert_eq!(latencies(3), [Some(1), Some(2), None]);
    let bad = threshold_sensitivity("one", &snn, &images, &target, &settings(3), &[0.0]);
    assert!(bad.unwrap_err().to_string().starts_with("factors: found 0"));

    // Thresholds of 1, 2, 3, 4 are latencies of 1, 2, 3, 4.
    let rows = elementary_effects("one", &snn, &images, &target, &settings(8), 5).unwrap();
    let expected = EffectRow {
        network: "one".into(),
        gene: "Threshold".into(),
        layer: 0,
        mu: 3.0,
        mu_star: 3.0,
        sigma: 0.0,
    };
    assert_eq!(rows, [expected]);
}

#[test]
fn morris_tells_linear_inputs_from_those_that_interact() {
    let bounds = [[-1.0, 1.0], [0.0, 3.0], [0.0, 1.0], [0.0, 1.0]];
    let mut calls = 0;
    let found = morris(&bounds, 20, 1, |x| {
        assert!(x.iter().zip(&bounds).all(|(x, [low, high])| low <= x && x <= high));
        calls += 1;
        Ok(5.0 * x[0] - 2.0 * x[1] + x[2] * x[3])
    });
    let found = found.unwrap();
    assert_eq!(calls, 20 * 5);
    for (effects, expected) in found.iter().zip([10.0, -6.0]) {
        assert!((effects.mu - expected).abs() < 1e-9);
        assert!((effects.mu_star - expected.abs()).abs() < 1e-9 && effects.sigma < 1e-9);
    }
    // The effect of one is the other's value: 0, 1/3, 2/3 or 1, each as often.
    for effects in &found[2..] {
        assert!((effects.mu - 0.5).abs() < 0.3 && (0.2..0.5).contains(&effects.sigma));
    }
    assert!(morris(&bounds, 1, 0, |_| Ok(0.0)).is_err());
    assert!(morris(&[[1.0, 1.0]], 2, 0, |_| Ok(0.0)).is_err());
}

#[test]
fn statistics_of_layers_correlate_with_scales() {
    let settings = SimulateSettings { per_neuron: true, ..5.into() };
    let run = two_neurons().simulate(&three_images().take(1), settings).unwrap();
    let rows = layer_statistics(&two_neurons(), &run).unwrap();
    let values: Vec<(&str, f64)> = (rows.iter().map(|row| (&*row.statistic, row.value))).collect();
    let expected = [
        ("depth", 0.0),
        ("neurons", 2.0),
        ("fan-in", 4.0),
        ("firing rate (%)", 20.0),
        ("silent (%)", 50.0),
    ];
    assert_eq!(values, expected);
    assert!(layer_statistics(&residual(), &run).is_err());

    let scales = scales(&threshold_rows(&[&[1.0, 3.0, 2.0]])).unwrap();
    let row =
        |statistic: &str, layer, value| StatisticRow { statistic: statistic.into(), layer, value };
    let mut rows = vec![row("depth", 0, 1.0), row("depth", 1, 2.0), row("depth", 2, 3.0)];
    rows.extend([0, 1, 2].map(|layer| row("same", layer, 1.0)));
    let found = correlations(&rows, &scales).unwrap();
    assert_eq!((found[0].spearman, found[0].pearson), (Some(0.5), Some(0.5)));
    assert_eq!((found[1].spearman, found[1].layers), (None, 3));
    let error = correlations(&rows[..5], &scales).unwrap_err().to_string();
    assert!(error.contains("2 values of same"), "{error}");
}

#[test]
fn the_spread_of_activations_is_at_least_one() {
    let digits = digits().unwrap().split(Shares::default(), 0).unwrap();
    let ann = Ann::<DigitsCnn>::new(0).unwrap();
    let conversion = convert(&ann, &digits.training.take(10)).unwrap();
    let rows = activation_statistics(&conversion, 99.0).unwrap();
    assert_eq!((rows.len(), &*rows[0].statistic), (6, "max / p99"));
    assert!(rows.iter().all(|row| row.value >= 1.0));
}

#[test]
fn a_map_sums_channels_whose_spikes_come_close_together() {
    // Two channels of 2 x 2: the pixel and half of it; of threshold 1, a pixel of 1 spikes at
    // every timestep and at every second.
    let conv = Layer::Conv {
        weight: vec![1.0, 0.5],
        bias: None,
        inputs: 1,
        outputs: 2,
        window: Window::square(1, 1, 0),
        groups: 1,
    };
    let layers = [conv, Layer::Neurons, linear(vec![1.0; 16], 8)];
    let neurons = vec![Neurons::new([1.0])];
    let snn = SpikingNetwork::new(Graph::chain(Shape::new(1, 2, 2), layers), neurons).unwrap();
    let input = [0.0, 1.0, 0.0, 0.0];
    let rows = activation_map("one", &snn, &input, 0, &[3, 4], 2f64.ln()).unwrap();
    let at = |row: usize| (rows[row].timestep, rows[row].row, rows[row].column);
    assert_eq!((at(1), at(7)), ((3, 0, 1), (4, 1, 1)));
    // At 3, 1/2 + 1/4; at 4, 1/2 + 1/4 + 1/8 and the other channel's 1/4.
    let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
    for (score, expected) in scores.iter().zip([0.0, 0.75, 0.0, 0.0, 0.0, 1.125, 0.0, 0.0]) {
        assert!((score - expected).abs() < 1e-12, "{scores:?}");
    }
    assert!(activation_map("one", &snn, &input, 1, &[3], 0.5).is_err());
    assert!(activation_map("one", &snn, &input, 0, &[], 0.5).is_err());
    assert!(activation_map_chart("Map", &rows).unwrap_err().to_string().contains("several"));
    activation_map_chart("Map", &rows[..4]).unwrap();
}

#[test]
fn rows_come_back_from_files_and_make_charts() {
    let (snn, images) = (residual(), four_by_four());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.csv");
    macro_rules! there_and_back {
        ($rows:expr, $chart:ident) => {{
            let rows = $rows;
            write_csv(&file, &rows).unwrap();
            assert_eq!(read_csv(&file).ok(), Some(rows.clone()));
            assert!($chart("Title", &rows).unwrap().svg().contains("Title"));
        }};
    }
    let run = snn.simulate(&images, 20).unwrap();
    there_and_back!(firing_rates("one", &run), firing_rates_chart);
    there_and_back!(first_spikes("one", &snn, &images, 20).unwrap(), first_spikes_chart);
    let errors = conversion_error("one", &snn, &images, &[20]).unwrap();
    there_and_back!(errors, conversion_error_chart);
    let target = Target::new([true, false], 1.0).unwrap();
    let settings = EvolveSettings {
        genome: vec![(Gene::Scale, [0.5, 2.0]), (Gene::Threshold, [0.5, 2.0])],
        objective: Objective::MeanLatency,
        ..settings(20)
    };
    let rows = threshold_sensitivity("one", &snn, &images, &target, &settings, &[0.5, 2.0]);
    there_and_back!(rows.unwrap(), threshold_sensitivity_chart);
    let rows = elementary_effects("one", &snn, &images, &target, &settings, 2).unwrap();
    assert_eq!((rows.len(), rows[3].layer), (2 + 2, 1));
    there_and_back!(rows, elementary_effects_chart);
    let scales = threshold_rows(&[&[1.0, 0.5], &[1.5, 0.75]]);
    there_and_back!(scales.clone(), scales_chart);
    let statistics = layer_statistics(&snn, &run).unwrap();
    let rows = correlations(&statistics, &super::scales(&scales).unwrap()).unwrap();
    there_and_back!(rows, correlations_chart);
}
