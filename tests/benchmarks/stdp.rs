//! A layer trained by STDP on the digits: how well it classifies by votes, and whether a network
//! that starts from its weights learns from fewer labels or epochs.
//!
//! ```text
//! cargo bench --bench stdp
//! ```
//!
//! Seeds 0, 1 and 2 divide the digits and draw everything else; accuracy is on test images.

use std::time::Instant;

use evospike::ann::networks::Mlp;
use evospike::prelude::*;
use evospike::stdp::Stdp;
use evospike::stdp::StdpSettings;

const SEEDS: [u64; 3] = [0, 1, 2];
const TIMESTEPS: usize = 100;

fn main() -> evospike::Result<()> {
    let mut votes = Table::new(
        "Votes of the neurons",
        [
            "neurons",
            "epochs",
            "seed",
            "accuracy %",
            "latency to it - 2",
            "spikes an image",
            "input spikes",
            "training s",
        ],
    );
    for (neurons, epochs) in [(100, 6), (400, 12)] {
        for seed in SEEDS {
            let digits = data::digits()?.split(Shares::default(), seed)?;
            let mut stdp =
                Stdp::<Digits>::new(StdpSettings { neurons, epochs, seed, ..Default::default() })?;
            let started = Instant::now();
            stdp.train(&digits.training)?;
            let labelled = stdp.label(&digits.training)?;
            let seconds = started.elapsed().as_secs_f64();
            let run = labelled.simulate(&digits.test, TIMESTEPS)?;
            let target = run.target(2.0)?;
            let latency = run.curve.latency(&target);
            let input: u64 = run.input.iter().flatten().sum();
            votes.row([
                neurons.to_string(),
                epochs.to_string(),
                seed.to_string(),
                format!("{:.2}", target.percent() + target.margin()),
                latency.map_or("never".into(), |t| t.to_string()),
                format!("{:.2}", run.spikes_per_image(0)),
                format!("{:.0}", input as f64 / run.curve.images() as f64),
                format!("{seconds:.2}"),
            ]);
        }
    }
    println!("{votes}");

    let mut start = Table::new(
        "An Mlp's accuracy %, by where it starts",
        ["labels", "epochs", "seed", "random", "STDP"],
    );
    for (labels, epochs) in [
        (50, 30),
        (100, 30),
        (200, 30),
        (usize::MAX, 1),
        (usize::MAX, 2),
        (usize::MAX, 5),
        (usize::MAX, 30),
    ] {
        for seed in SEEDS {
            let digits = data::digits()?.split(Shares::default(), seed)?;
            let labelled = digits.training.take(labels);
            let accuracy = |pretrained: Option<&Stdp<Digits>>| {
                let mut ann = Ann::<Mlp>::new(seed)?;
                if let Some(stdp) = pretrained {
                    stdp.pretrain(&mut ann)?;
                }
                let settings = TrainSettings { epochs, seed, ..Default::default() };
                ann.train(&labelled, &settings)?;
                ann.accuracy(&digits.test)
            };
            let mut stdp = Stdp::<Digits>::new(StdpSettings {
                neurons: 128, // of the Mlp's first layer
                seed,
                ..Default::default()
            })?;
            stdp.train(&digits.training)?; // all images, without labels
            let [random, pretrained] = [accuracy(None)?, accuracy(Some(&stdp))?];
            start.row([
                labelled.len().to_string(),
                epochs.to_string(),
                seed.to_string(),
                format!("{:.2}", random.percent()),
                format!("{:.2}", pretrained.percent()),
            ]);
        }
    }
    println!("{start}");
    Ok(())
}
