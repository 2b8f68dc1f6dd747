//! Seconds of training steps and inference passes of the half-width VGG15, batch 128: one JSON
//! line a measurement. `cargo bench --bench training` takes ten of each; with `-- serve`, every
//! line `step` or `pass` on standard input is answered by one measurement, so that another
//! program (`training.py`) can take turns.

use std::io::{self, BufRead};
use std::time::Instant;

use evospike::ann::networks::{Network, Vgg15HalfBn};
use evospike::ann::optimiser::{Optimiser, Step};
use serde_json::json;

const BATCH: usize = 128;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut net = Vgg15HalfBn::build(0)?;
    let pixels: Vec<f32> = (0..BATCH * 3072).map(|i| (i * 7919 % 256) as f32 / 255.0).collect();
    let targets: Vec<f32> = (0..BATCH * 10).map(|i| f32::from(i % 10 == i / 10 % 10)).collect();
    let mut number = 0;
    let mut measure = |what: &str| -> Result<(), Box<dyn std::error::Error>> {
        let (pixels, targets) = (pixels.clone(), targets.clone());
        let start = Instant::now();
        match what {
            "step" => {
                number += 1;
                let step = Step {
                    optimiser: Optimiser::Adam,
                    number,
                    learning_rate: 1e-3,
                    weight_decay: 0.0,
                };
                let (loss, _) = net.step(pixels, targets, BATCH, &step)?;
                assert!(loss.is_finite());
            }
            "pass" => drop(net.forward(pixels, BATCH)?),
            other => return Err(format!("{other}: expected step or pass").into()),
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", json!({ "what": what, "seconds": seconds }));
        Ok(())
    };
    if std::env::args().any(|argument| argument == "serve") {
        for line in io::stdin().lock().lines() {
            measure(line?.trim())?;
        }
    } else {
        for _ in 0..10 {
            measure("step")?;
            measure("pass")?;
        }
    }
    Ok(())
}
