use super::*;
use crate::ann::layers::{Layer, linear};
use crate::ann::networks::DigitsCnn;
use crate::ann::train::TrainSettings;
use crate::convert::{Balance, convert};
use crate::data;
use crate::data::Shares;
use crate::data::shape::Shape;
use crate::data::tasks::Digits;
use crate::metrics::Accuracy;
use crate::simulate::run::simulate;

fn softmax(logits: &[f32]) -> Vec<f32> {
    let sum: f32 = logits.iter().map(|x| x.exp()).sum();
    logits.iter().map(|x| x.exp() / sum).collect()
}

/// One input, one neuron, two outputs.
fn network(neurons: Layer) -> Arc<Graph> {
    let layers = [linear(vec![1.5], 1), neurons, linear(vec![1.0, -1.0], 1)];
    Graph::chain(Shape::new(1, 1, 1), layers).into()
}

/// One input of 0.6, one neuron of threshold 1, two outputs; two timesteps.
#[test]
fn a_surrogate_gradient_is_what_the_chain_rule_says() {
    let gradients = |surrogate| Gradients {
        classes: 2,
        graph: network(Layer::Neurons),
        spiking: Some((vec![Neurons::new([1.0])], 2, surrogate)),
        device: device::<Cpu>(),
    };
    // v = 0.9, no spike; then v = 1.8, a spike: the mean output is 0.5, -0.5.
    let p = softmax(&[0.5, -0.5]);
    let by_output = [p[0], p[1] - 1.0];
    let by_charge = (by_output[0] - by_output[1]) / 2.0;
    for (surrogate, slopes) in [(Surrogate::Linear, [0.9, 0.2]), (Surrogate::Boxcar, [1.0, 0.0])] {
        // The second potential is the sum of both inputs.
        let expected = by_charge * 1.5 * (slopes[0] + 2.0 * slopes[1]);
        let found = gradients(surrogate).of(&[0.6], &[1]).unwrap();
        assert!((found[0] - expected).abs() < 1e-6, "{found:?} {expected}");
    }
}

/// One input of 0.6, one neuron, two outputs.
#[test]
fn a_quantised_networks_gradient_goes_straight_through() {
    let gradients = |bound| Gradients {
        classes: 2,
        graph: network(Layer::Qcfs { bound, levels: 2 }),
        spiking: None,
        device: device::<Cpu>(),
    };
    // 0.9 is 1 of the levels 0, 1, 2 of a bound of 2, and above a bound of 0.5.
    let p = softmax(&[1.0, -1.0]);
    for (bound, expected) in [(2.0, (p[0] - (p[1] - 1.0)) * 1.5), (0.5, 0.0)] {
        let found = gradients(bound).of(&[0.6], &[1]).unwrap();
        assert!((found[0] - expected).abs() < 1e-6, "{found:?} {expected}");
    }
}

fn trained() -> (Ann<DigitsCnn>, data::Split<Digits>) {
    let digits = data::digits().unwrap();
    let mut digits = digits.split(Shares::default(), 0).unwrap();
    digits.test = digits.test.take(40);
    let mut ann = Ann::<DigitsCnn>::new(0).unwrap();
    let settings = TrainSettings { epochs: 3, ..Default::default() };
    ann.train(&digits.training, &settings).unwrap();
    (ann, digits)
}

#[test]
fn an_anns_gradient_is_the_losss_slope() {
    let (ann, digits) = trained();
    let images = digits.test;
    let loss = |pixels: Vec<f32>, i: usize| {
        let logits = ann.logits(&images.take(1).with_pixels(pixels).unwrap());
        let logits = logits.unwrap();
        -softmax(&logits[0])[images.label(i)].ln()
    };
    // Between 0 and 1, since in an empty corner every ReLU has its kink.
    let image = images.pixels(0).into_iter().zip((0..64).map(|i| (i * 37 % 64) as f32));
    let image: Vec<f32> = image.map(|(x, noise)| 0.2 + 0.5 * x + noise / 256.0).collect();
    let gradients = Differentiable::gradients(&ann).unwrap();
    let found = gradients.of(&image, &[images.label(0)]).unwrap();
    let mut close = 0;
    for i in 0..64 {
        let [up, down] = [2e-3, -2e-3].map(|h| {
            let mut pixels = image.clone();
            pixels[i] += h;
            let pixel = pixels[i];
            (loss(pixels, 0), pixel)
        });
        let slope = (up.0 - down.0) / (up.1 - down.1);
        close += usize::from((slope - found[i]).abs() < 0.05 * slope.abs().max(0.02));
    }
    assert!(close >= 60, "{close} of 64"); // a few kinks of ReLU lie within h
}

#[test]
fn attacks_stay_within_epsilon_and_make_networks_wrong() {
    let (ann, digits) = trained();
    let images = digits.test;
    let conversion = convert(&ann, &digits.training).unwrap();
    let snn = conversion.balance(Balance::Percentile(99.9)).unwrap();
    let spiking = Spiking { snn: &snn, timesteps: 8, surrogate: Surrogate::Linear };
    let clean = ann.accuracy(&images).unwrap().percent();
    let pgd = Attack::Pgd { epsilon_255: 24.0, step_255: 8.0, steps: 4, random_start: Some(3) };
    let noise = Attack::Noise { std_255: 24.0, seed: 3 };
    let of = |attacked: &Images<data::Test, Digits>, within: f32| {
        let mut moved = 0.0f32;
        for i in 0..images.len() {
            assert_eq!(images.label(i), attacked.label(i));
            assert_eq!(images.index(i), attacked.index(i));
            let pixels = images.pixels(i).into_iter().zip(attacked.pixels(i));
            moved = pixels.fold(moved, |most, (a, b)| most.max((a - b).abs()));
        }
        assert!(moved <= within + 1e-6 && moved > 0.9 * within.min(0.1), "{moved}");
        let run = simulate(&snn, attacked, 32).unwrap();
        [ann.accuracy(attacked).unwrap(), run.curve.after(32).unwrap()].map(Accuracy::percent)
    };
    let fgsm = Attack::Fgsm { epsilon_255: 24.0 };
    let by_ann = of(&attack(&ann, &images, fgsm).unwrap(), 24.0 / 255.0);
    let by_pgd = of(&attack(&ann, &images, pgd).unwrap(), 24.0 / 255.0);
    let by_snn = of(&attack(&spiking, &images, fgsm).unwrap(), 24.0 / 255.0);
    let by_noise = of(&attack(&ann, &images, noise).unwrap(), 1.0);
    println!("clean {clean}: {by_ann:?} {by_pgd:?} {by_snn:?} {by_noise:?}");
    assert!(by_ann[0] < clean - 5.0 && by_pgd[0] <= by_ann[0]);
    assert!(by_snn[1] < by_noise[1]);
    // The same again, and the first half as before whatever follows it.
    let again = attack(&ann, &images.take(20), pgd).unwrap();
    let whole = attack(&ann, &images, pgd).unwrap();
    assert!((0..16).all(|i| again.pixels(i) == whole.pixels(i)));
}

#[test]
fn settings_out_of_range_are_named() {
    let digits = data::digits().unwrap().take(1);
    let ann = Ann::<DigitsCnn>::new(0).unwrap();
    let refused = |bad| attack(&ann, &digits, bad).err().unwrap().to_string();
    assert!(refused(Attack::Fgsm { epsilon_255: -1.0 }).starts_with("epsilon_255: found -1"));
    let pgd =
        |step_255, steps| Attack::Pgd { epsilon_255: 1.0, step_255, steps, random_start: None };
    assert!(refused(pgd(1.0, 0)).starts_with("steps: found 0"));
    assert!(refused(pgd(f64::NAN, 1)).starts_with("step_255: found NaN"));
    let noise = Attack::Noise { std_255: 300.0, seed: 0 };
    assert!(refused(noise).starts_with("std_255: found 300"));
}
