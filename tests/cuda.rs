//! A card gives what the CPU gives: logits, training, attacks, to the rounding of sums.
//!
//! Spikes are compared in `golden.rs` and `engines.rs`. Without the feature `cuda`, or without a
//! card, nothing runs.

#[cfg(not(feature = "cuda"))]
#[test]
fn a_card_gives_what_the_cpu_gives() {
    println!("skipped: built without the feature cuda");
}

#[cfg(feature = "cuda")]
#[test]
fn a_card_gives_what_the_cpu_gives() {
    use dfdx::prelude::{Cpu, Cuda};
    use evospike::ann::networks::NetworkDevice;
    use evospike::ops::Backend;
    use evospike::prelude::*;
    use evospike::through_time::fire::Fires;

    if let Err(error) = Cuda::open(0) {
        return println!("skipped: {error}");
    }
    let digits = data::digits().unwrap().split(Shares::default(), 0).unwrap();
    // Few steps: in two epochs of small batches, Adam turns the rounding of the first weights into half
    // a logit, on the CPU as well.
    let settings = TrainSettings { epochs: 2, batch: 450, ..TrainSettings::digits() };

    /// Logits before and after training, outputs of a network trained through time, and attacked
    /// pixels.
    fn run<D: NetworkDevice + Fires>(
        parts: &Split<Digits>,
        settings: &TrainSettings,
    ) -> (Vec<Vec<Vec<f32>>>, Vec<Vec<f32>>) {
        let images = parts.test.take(64);
        let mut ann = Ann::<DigitsCnn, D>::new(0).unwrap();
        let first = ann.logits(&images).unwrap();
        ann.train(&parts.training, settings).unwrap();
        let last = ann.logits(&images).unwrap();
        let snn = convert(&ann, &parts.training).unwrap();
        let snn = snn.balance(Balance::Percentile(99.0)).unwrap().on::<D>().unwrap();
        let hybrid = HybridSettings {
            timesteps: 4,
            train: TrainSettings { epochs: 1, ..HybridSettings::default().train },
            ..HybridSettings::default()
        };
        let hybrid = train_through_time(&snn, &parts.training, &hybrid).unwrap();
        let losses = hybrid.history.iter().map(|epoch| epoch.loss as f32).collect();
        let spiking = Spiking { snn: &snn, timesteps: 8, surrogate: Surrogate::Linear };
        let fgsm = Attack::Fgsm { epsilon_255: 8.0 };
        let through_ann = attack(&ann, &images, fgsm).unwrap();
        let through_snn = attack(&spiking, &images, fgsm).unwrap();
        let pixels = |images: &Images<Test, Digits>| {
            (0..images.len()).flat_map(|i| images.pixels(i)).collect()
        };
        (vec![first, last, vec![losses]], vec![pixels(&through_ann), pixels(&through_snn)])
    }

    let (expected, expected_pixels) = run::<Cpu>(&digits, &settings);
    let (found, found_pixels) = run::<Cuda>(&digits, &settings);
    // Sums are rounded in another order, which training passes on, and spikes even more.
    let parts = [("before training", 1e-4), ("after training", 1e-2), ("through time", 0.1)];
    for ((expected, found), (part, tolerance)) in expected.iter().zip(&found).zip(parts) {
        for (a, b) in expected.concat().iter().zip(found.concat()) {
            assert!((a - b).abs() <= tolerance * a.abs().max(1.0), "{part}: {a} {b}");
        }
    }
    // A gradient near 0 may have another sign.
    for (expected, found) in expected_pixels.iter().zip(&found_pixels) {
        let other = expected.iter().zip(found).filter(|(a, b)| (**a - **b).abs() > 1e-3);
        assert!(other.count() * 20 < expected.len());
    }
}
