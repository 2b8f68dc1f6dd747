//! Seconds of one training step and of one forward pass of the half-width VGG15.
use std::time::Instant;

use dfdx::prelude::AdamConfig;
use evospike::networks::{Network, Vgg15HalfBn};

fn main() -> evospike::Result<()> {
    let batch = 128;
    let mut net = Vgg15HalfBn::build(0)?;
    let pixels: Vec<f32> = (0..batch * 3072)
        .map(|i| (i * 7919 % 256) as f32 / 255.0)
        .collect();
    let mut targets = vec![0.0; batch * 10];
    for i in 0..batch {
        targets[i * 10 + i % 10] = 1.0;
    }
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    let (mut steps, mut passes) = (Vec::new(), Vec::new());
    for _ in 0..12 {
        let start = Instant::now();
        let (loss, _) = net.step(
            pixels.clone(),
            targets.clone(),
            batch,
            &AdamConfig::default(),
        )?;
        steps.push(start.elapsed().as_secs_f64());
        assert!(loss.is_finite());
        let start = Instant::now();
        net.forward(pixels.clone(), batch)?;
        passes.push(start.elapsed().as_secs_f64());
    }
    println!(
        "step {:.3} s, forward {:.3} s",
        median(steps),
        median(passes)
    );
    Ok(())
}
