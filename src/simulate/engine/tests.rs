use super::*;
use crate::ann::layers::Layer;
use crate::data::shape::Shape;

/// Not multiples of anything.
fn noise(n: usize, seed: usize) -> impl Iterator<Item = f32> {
    let even = move |i| (((i * 7919 + seed) % 1009) as f32 - 450.0) / 1000.0;
    (0..n).map(even).map(|x: f32| x + x * x / 7.0)
}

/// 40 channels: a whole block and a part of one.
fn stages(weight: fn(usize, usize) -> Vec<f32>) -> Stages {
    let layers = [
        Layer::Conv {
            weight: weight(40 * 2 * 9, 1),
            bias: Some(noise(40, 2).collect()),
            inputs: 2,
            outputs: 40,
            kernel: 3,
            stride: 1,
            padding: 1,
        },
        Layer::Neurons,
        Layer::Conv {
            weight: weight(40 * 40 * 9, 3),
            bias: None,
            inputs: 40,
            outputs: 40,
            kernel: 3,
            stride: 1,
            padding: 1,
        },
        Layer::AvgPool { size: 2 },
        Layer::Neurons,
        Layer::Linear {
            weight: weight(40 * 4 * 3, 4),
            bias: None,
            inputs: 160,
            outputs: 3,
        },
    ];
    Stages::new(Shape::new(2, 4, 4), &layers, 3).unwrap()
}

#[test]
fn every_kind_of_vectors_and_weights_gives_the_same_spikes() {
    let whole = stages(|n, seed| noise(n, seed).collect()).quantised();
    let mut real = whole.clone();
    for synapses in real.stages.iter_mut().flat_map(|stage| &mut stage.synapses) {
        synapses.integers = None;
    }
    same_spikes(&real, &whole);
}

/// Of a magnitude with few digits, so that the sums of the real ones are exact.
#[test]
fn binary_weights_give_the_same_spikes_as_real_ones() {
    let binary = |n, seed| noise(n, seed).map(|x| x.signum() / 16.0).collect();
    let real = stages(binary);
    same_spikes(&real, &real.clone().quantised());
}

fn same_spikes(real: &Stages, whole: &Stages) {
    for (reset, leak, refractory) in [
        (Reset::Subtract, 1.0, 0),
        (Reset::Zero, 0.9, 0),
        (Reset::Subtract, 0.9, 2),
    ] {
        let neurons = Neurons {
            reset,
            leak: vec![leak],
            refractory,
            initial: 0.5,
            ..Neurons::new([0.7])
        };
        let drive: Vec<f32> = noise(40 * 16, 5).collect();
        let run = |stages, vectors| {
            let mut engine = Engine::new(stages, &[neurons.clone(), neurons.clone()]).unwrap();
            engine.vectors = vectors;
            let (mut spikes, mut output) = (Vec::new(), Vec::new());
            engine.run(
                &[Some(Drive::Constant(&drive)), None, None],
                100,
                &mut engine.scratch(),
                |chunk| {
                    for t in 0..chunk.timesteps {
                        spikes.extend(chunk.events.iter().map(|events| events.at(t).to_vec()));
                        output.extend(chunk.output(t).map(f32::to_bits));
                    }
                },
            );
            (spikes, output)
        };
        let plain = run(real, Vectors::Plain);
        assert!(plain.0.iter().map(Vec::len).sum::<usize>() > 1000);
        for vectors in Vectors::all() {
            assert!(run(real, vectors) == plain, "{vectors:?}, {neurons:?}");
            assert!(
                run(whole, vectors) == plain,
                "whole numbers, {vectors:?}, {neurons:?}"
            );
        }
    }
}
