use super::*;
use crate::ann::graph::Graph;
use crate::ann::layers::{CHANNELS_FIRST, Layer, Window};
use crate::data::shape::Shape;

/// Not multiples of anything.
fn noise(n: usize, seed: usize) -> impl Iterator<Item = f32> {
    let even = move |i| (((i * 7919 + seed) % 1009) as f32 - 450.0) / 1000.0;
    (0..n).map(even).map(|x: f32| x + x * x / 7.0)
}

/// 40 channels: one whole block and a part of one.
fn stages() -> Stages {
    let weights = |count, seed| noise(count, seed).collect::<Vec<f32>>();
    let conv = |inputs: usize, seed, bias| Layer::Conv {
        weight: weights(40 * inputs * 9, seed),
        bias,
        inputs,
        outputs: 40,
        window: Window::square(3, 1, 1),
        groups: 1,
    };
    let linear = Layer::Linear {
        weight: weights(160 * 3, 4),
        bias: None,
        inputs: 160,
        outputs: 3,
        order: CHANNELS_FIRST,
    };
    let (first, second) = (conv(2, 1, Some(weights(40, 2))), conv(40, 3, None));
    let (pool, neurons) = (Layer::average(2), Layer::Neurons);
    let layers = [first, neurons.clone(), second, pool, neurons, linear];
    Stages::new(Graph::chain(Shape::new(2, 4, 4), layers)).unwrap()
}

#[test]
fn every_instruction_set_gives_the_same_spikes() {
    let stages = stages();
    for (reset, leak, refractory, spikes) in [
        (Reset::Subtract, 1.0, 0, Spikes::PLAIN),
        (Reset::Zero, 0.9, 0, Spikes::PLAIN),
        (Reset::Subtract, 0.9, 2, Spikes::PLAIN),
        (Reset::Subtract, 1.0, 0, Spikes::levels(2)),
        (Reset::Subtract, 1.0, 0, Spikes { levels: 3, ..Spikes::burst(3) }),
    ] {
        let common = Neurons { spikes, initial: 0.5, ..Neurons::new([0.7]) };
        let neurons = Neurons { reset, leak: vec![leak], refractory, ..common };
        let drive: Vec<f32> = noise(40 * 16, 5).collect();
        let run = |vectors| {
            let mut engine = Engine::new(&stages, &[neurons.clone(), neurons.clone()]).unwrap();
            engine.vectors = vectors;
            let (mut spikes, mut output) = (Vec::new(), Vec::new());
            engine.run(
                &[vec![Some(Drive::Constant(&drive)), None, None]],
                200, // two chunks
                &mut engine.scratch(1),
                |_, chunk| {
                    for t in 0..chunk.timesteps {
                        spikes.extend(chunk.events.iter().map(|events| {
                            let fired = events.at(t).iter().copied();
                            fired.zip(events.counts(t)).collect::<Vec<_>>()
                        }));
                        output.extend(chunk.output(t).map(f32::to_bits));
                    }
                    true
                },
            );
            (spikes, output)
        };
        let plain = run(Vectors::Plain);
        assert!(plain.0.iter().map(Vec::len).sum::<usize>() > 1000);
        for vectors in Vectors::all() {
            assert!(run(vectors) == plain, "{vectors:?}, {neurons:?}");
        }
    }
}
