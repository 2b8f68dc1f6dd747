use super::super::device::device;
use super::*;
use crate::ann::graph::Graph;
use crate::ann::layers::{Layer, linear};
use crate::ann::model::Ann;
use crate::ann::networks::DigitsCnn;
use crate::ann::train::tests::Breaks;
use crate::convert::{Balance, convert};
use crate::data;
use crate::data::shape::Shape;
use crate::data::tasks::Digits;
use crate::data::{Shares, Split};
use crate::metrics::predict;
use crate::simulate::neurons::Spikes;
use crate::simulate::run::simulate;

/// One input of 0.6, a weight of 1.5, a neuron of threshold 1 and no leak, outputs of weights 1
/// and -1; two timesteps, the second label: the steps of gradient descent by hand.
#[test]
fn a_step_is_what_the_chain_rule_says() {
    let layers = [linear(vec![1.5], 1), Layer::Neurons, linear(vec![1.0, -1.0], 1)];
    let graph = Arc::new(Graph::chain(Shape::new(1, 1, 1), layers));
    // v = 0.9, no spike; then v = 1.8, a spike: the mean output is 0.5, -0.5.
    let p = 0.5f32.exp() / (0.5f32.exp() + (-0.5f32).exp());
    let by_charge = p; // half of p - (-p): each spike counts half
    let slopes = [0.9, 0.2]; // triangle
    let by_threshold = -by_charge * (slopes[0] * 0.9 + slopes[1] * 1.8);
    let by_spikes = by_charge; // one spike, whose charge is the threshold
    let by_leak = by_charge * slopes[1] * 0.9;
    let by_weight = by_charge * 0.6 * (slopes[0] + 2.0 * slopes[1]);
    for (charge, by_threshold) in
        [(Charge::Unit, by_threshold), (Charge::Threshold, by_threshold + by_spikes)]
    {
        let neurons = Neurons { charge, ..Neurons::new([1.0]) };
        let settings = HybridSettings { timesteps: 2, ..HybridSettings::default() };
        let mut trainer = SpikingTrainer::new(
            graph.clone(),
            &[neurons],
            vec![f32::INFINITY],
            &settings,
            device::<Cpu>(),
        )
        .unwrap();
        let step = OptimiserStep {
            optimiser: Optimiser::Sgd { momentum: 0.0, nesterov: false },
            number: 1,
            learning_rate: 0.1,
            weight_decay: 0.0,
        };
        trainer.step(vec![0.6], vec![0.0, 1.0], 1, &step).unwrap();
        let found: Vec<f32> = trainer.tensors.iter().flat_map(|x| x.as_vec()).collect();
        let output = 0.5 * p; // by an output weight: the mean charge of 0.5 times ±p
        let expected = [
            1.5 - 0.1 * by_weight,
            1.0 - 0.1 * output,
            -1.0 + 0.1 * output,
            1.0 - 0.1 * by_threshold,
            1.0 - 0.1 * by_leak,
        ];
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-6, "{i}: {found} {expected}");
        }
    }
}

fn converted() -> (Snn<DigitsCnn>, Split<Digits>) {
    let digits = data::digits().unwrap();
    let digits = digits.split(Shares::default(), 0).unwrap();
    let mut ann = Ann::<DigitsCnn>::new(0).unwrap();
    let settings = TrainSettings { epochs: 3, ..Default::default() };
    ann.train(&digits.training, &settings).unwrap();
    let conversion = convert(&ann, &digits.training).unwrap();
    (conversion.balance(Balance::Percentile(99.0)).unwrap(), digits)
}

fn settings(trained: Trained) -> HybridSettings {
    HybridSettings {
        trained,
        timesteps: 6,
        train: TrainSettings { epochs: 2, ..HybridSettings::default().train },
        ..HybridSettings::default()
    }
}

#[test]
fn training_changes_what_it_should_and_helps_after_few_timesteps() {
    let (snn, digits) = converted();
    let accuracy = |snn: &Snn<DigitsCnn>| {
        let run = simulate(snn, &digits.test, 6).unwrap();
        run.curve.after(6).unwrap().percent()
    };
    let before = accuracy(&snn);
    for trained in
        [Trained::Weights, Trained::Thresholds, Trained::ThresholdsAndLeaks, Trained::All]
    {
        let hybrid = train_through_time(&snn, &digits.training, &settings(trained)).unwrap();
        let after = accuracy(&hybrid.snn);
        println!("{trained:?}: {before:.1} to {after:.1} %");
        assert!(after > before + 5.0, "{trained:?}: {before} to {after}");
        let (old, new) = (snn.network(), hybrid.snn.network());
        assert_eq!(old.stages.graph != new.stages.graph, trained.weights());
        for (old, new) in old.neurons().iter().zip(new.neurons()) {
            assert_eq!(old.threshold != new.threshold, trained.thresholds());
            assert!(trained.leaks() || old.leak == new.leak);
            assert!(new.check(0, 1).is_ok());
        }
    }
}

#[test]
fn a_network_on_a_device_is_trained_and_stays_there() {
    use crate::simulate::{TapeGradients, Unrolling, Wanted};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn counted(
        network: &Unrolling<'_>,
        inputs: &[f32],
        targets: &[f32],
        wanted: Wanted,
    ) -> Result<Vec<TapeGradients>> {
        CALLS.fetch_add(1, Relaxed);
        (device::<Cpu>().gradients)(network, inputs, targets, wanted)
    }

    let (snn, digits) = converted();
    let mut on_device = snn.clone();
    on_device.network.device =
        Some(Device { name: "counts", gradients: counted, ..device::<Cpu>() });
    let (images, settings) = (digits.training.take(64), settings(Trained::All));
    let hybrid = train_through_time(&on_device, &images, &settings).unwrap();
    assert_eq!(CALLS.load(Relaxed), 2 * 4); // two epochs of batches of 16
    assert_eq!(hybrid.snn.network().device.unwrap().name, "counts");
    let expected = train_through_time(&snn, &images, &settings).unwrap();
    assert_eq!(hybrid.history, expected.history);
    assert_eq!(hybrid.snn.neurons(), expected.snn.neurons());
    assert!(expected.snn.network().device.is_none());
}

#[test]
fn the_engine_runs_what_was_trained() {
    let (snn, digits) = converted();
    let settings = settings(Trained::All);
    let trainer = SpikingTrainer::of(&snn, &settings).unwrap();
    let images = digits.test.take(100);
    let pixels = (0..100).flat_map(|i| images.view().input(i)).collect();
    let logits = trainer.forward(pixels, 100).unwrap();
    let right = logits.chunks(10).enumerate();
    let right = right.filter(|(i, row)| predict(row) == images.label(*i));
    let run = simulate(&snn, &images, settings.timesteps).unwrap();
    let engine = run.curve.after(settings.timesteps).unwrap().percent();
    assert!((right.count() as f64 - engine).abs() <= 1.0);
}

#[test]
fn a_resumed_run_ends_with_the_same_network_at_any_thread_count() {
    let (snn, digits) = converted();
    let images = digits.training.take(100);
    let two = settings(Trained::All);
    let whole = train_through_time(&snn, &images, &two).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hybrid.checkpoint");
    let mut one = two.clone();
    one.train.epochs = 1;
    one.train.schedule = crate::ann::optimiser::Schedule::Constant;
    // Another run's file is refused: the settings differ, or the timesteps, or the neurons.
    let resume = Resume::at(&path);
    resume.train_through_time(&snn, &images, &one).unwrap();
    let refused = |snn: &Snn<DigitsCnn>, settings: &HybridSettings| {
        let run = resume.train_through_time(snn, &images, settings);
        run.err().unwrap().to_string()
    };
    assert!(refused(&snn, &two).contains("settings."));
    let mut other = one.clone();
    other.timesteps = 7;
    assert!(refused(&snn, &other).contains("work: found"));
    let half = snn.with(|neurons| neurons.initial = 0.5).unwrap();
    assert!(refused(&half, &one).contains("work: found"));
    std::fs::remove_file(&path).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.unwrap().install(|| {
        // Broken off in the second epoch: 100 images are 7 batches.
        let trainer = SpikingTrainer::of(&snn, &two).unwrap();
        let mut broken = Breaks(Box::new(trainer), 10);
        let (view, name) = (images.view(), name(&snn, &two));
        train(&mut broken, view, 10, &two.train, &name, Some(&resume)).unwrap_err();
        let hybrid = resume.train_through_time(&snn, &images, &two).unwrap();
        assert_eq!(hybrid.snn.neurons(), whole.snn.neurons());
        assert_eq!(hybrid.history, whole.history);
        let layers = |hybrid: &Hybrid<DigitsCnn>| hybrid.snn.network().stages.graph.clone();
        assert!(layers(&hybrid) == layers(&whole));
    });
}

#[test]
fn no_timestep_is_an_error() {
    let (snn, digits) = converted();
    let none = HybridSettings { timesteps: 0, ..HybridSettings::default() };
    let error = train_through_time(&snn, &digits.training, &none).err().unwrap();
    assert!(error.to_string().starts_with("timesteps: found 0"), "{error}");
}

#[test]
fn spikes_without_derivatives_are_refused() {
    let (snn, digits) = converted();
    let signed = snn.with_spikes(Spikes::SIGNED).unwrap();
    let settings = HybridSettings { timesteps: 2, ..HybridSettings::default() };
    let error = train_through_time(&signed, &digits.training.take(8), &settings).err().unwrap();
    let error = error.to_string();
    assert!(error.starts_with("neurons: found Spikes"), "{error}");
    assert!(error.contains("expected plain spikes, the only ones with derivatives"), "{error}");
}
