use std::path::Path;

use super::*;
use crate::ann::graph::Graph;
use crate::ann::model::Ann;
use crate::ann::networks::Classifier;
use crate::ann::networks::{DigitsQcfs, Mlp, Network};
use crate::ann::trainable::Values;
use crate::base::lock::Lock;
use crate::base::tensors::NamedTensor;
use crate::data;
use crate::data::images::Images;
use crate::data::images::Training;
use crate::data::tasks::Digits;
use crate::data::{Shares, Split};

mod small {
    use crate::ann::modules::*;
    use crate::data::tasks::Digits;
    use crate::network;
    network! {
        pub Small for Digits = (
            (Conv3x3<1, 4, 8>, BatchNorm<4, 8>, AvgPool2<4, 8, 4>, Relu, DropoutOneIn<10>),
            (Flatten<4, 4, 64>, UnbiasedLinear<64, 16>, BatchNorm1d<16>, Relu),
            Linear<16, 10>,
        );
    }
    /// The same name and weights, but another order of the layers without weights.
    pub mod changed {
        use super::*;
        network! {
            pub Small for Digits = (
                (Conv3x3<1, 4, 8>, BatchNorm<4, 8>, Relu, AvgPool2<4, 8, 4>, DropoutOneIn<10>),
                (Flatten<4, 4, 64>, UnbiasedLinear<64, 16>, BatchNorm1d<16>, Relu),
                Linear<16, 10>,
            );
        }
    }
    network! {
        /// The same layers.
        pub Other for Digits = (
            (Conv3x3<1, 4, 8>, BatchNorm<4, 8>, AvgPool2<4, 8, 4>, Relu, DropoutOneIn<10>),
            (Flatten<4, 4, 64>, UnbiasedLinear<64, 16>, BatchNorm1d<16>, Relu),
            Linear<16, 10>,
        );
    }
}
use small::{Other, Small};

/// A network that breaks off after some steps, as a machine that is switched off.
pub(crate) struct Breaks(pub Box<dyn Trainable>, pub usize);

impl Trainable for Breaks {
    fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>> {
        self.0.forward(pixels, count)
    }
    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        step: &Step,
    ) -> Result<(f32, Vec<f32>)> {
        self.1 = (self.1.checked_sub(1)).ok_or(Error::Device("broken off".into()))?;
        self.0.step(pixels, targets, count, step)
    }
    fn seed(&mut self, seed: u64) -> Result<()> {
        self.0.seed(seed)
    }
    fn tensors(&self, kind: Values) -> Result<Vec<NamedTensor>> {
        self.0.tensors(kind)
    }
    fn set_tensors(&mut self, kind: Values, tensors: &[NamedTensor]) -> Result<()> {
        self.0.set_tensors(kind, tensors)
    }
    fn types(&self) -> Result<&'static str> {
        self.0.types()
    }
    fn graph(&self) -> Result<Graph> {
        self.0.graph()
    }
}

fn digits() -> Split<Digits> {
    data::digits().unwrap().split(Shares::default(), 0).unwrap()
}

fn settings(optimiser: Optimiser) -> TrainSettings {
    TrainSettings {
        epochs: 4,
        batch: 32,
        optimiser,
        learning_rate: 0.02,
        warmup_epochs: 0.5,
        weight_decay: 1e-3,
        label_smoothing: 0.1,
        augment: Augment { crop_padding: 1, flip: true },
        ..TrainSettings::default()
    }
}

/// Breaks off in epoch 3, as the last run of the tests below.
fn broken_off(path: &Path, settings: &TrainSettings) {
    let images = digits().training.take(100); // 4 batches
    let mut net = Breaks(Small::build(0).unwrap(), 10);
    let name = Small::NAME;
    let resume = Resume::at(path);
    train(&mut net, images.view(), 10, settings, name, Some(&resume)).unwrap_err();
}

/// One image has no variance: alone in a batch it would spoil the running ones.
#[test]
fn a_last_image_alone_joins_the_batch_before_it() {
    let images = digits().training.take(33);
    let trained = |batch| {
        let mut ann = Ann::<Small>::new(0).unwrap();
        let settings = TrainSettings { batch, ..settings(Optimiser::Adam) };
        ann.train(&images, &settings).unwrap();
        ann.network.tensors(Values::Parameters).unwrap()
    };
    assert!(trained(32) == trained(33) && trained(16) != trained(33));
    let alone = TrainSettings { batch: 1, ..settings(Optimiser::Adam) };
    for (count, settings) in [(33, &alone), (1, &settings(Optimiser::Adam))] {
        let mut ann = Ann::<Small>::new(0).unwrap();
        let error = ann.train(&images.take(count), settings).unwrap_err().to_string();
        assert!(error.contains("batch: found 1, expected 2 images or more"), "{error}");
    }
    Ann::<Mlp>::new(0).unwrap().train(&images, &alone).unwrap();
}

#[test]
fn a_bound_that_is_none_any_more_ends_training_at_once() {
    let mut ann = Ann::<DigitsQcfs>::new(0).unwrap();
    let settings = TrainSettings {
        learning_rate: 0.5,
        weight_decay: 10.0,
        schedule: Schedule::Constant,
        ..TrainSettings::default()
    };
    let error = ann.train(&digits().training, &settings).unwrap_err().to_string();
    let (start, end) = ("bound: found -", "in `0.1.bound` after step 1, expected a bound above 0");
    assert!(error.starts_with(start) && error.contains(end), "{error}");
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    let images = digits().training.take(100);
    for optimiser in [Optimiser::NESTEROV, Optimiser::Adam] {
        let settings = settings(optimiser);
        let whole = {
            let mut ann = Ann::<Small>::new(0).unwrap();
            let history = ann.train(&images, &settings).unwrap();
            (ann.network.tensors(Values::Parameters).unwrap(), history)
        };
        for threads in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("small.checkpoint");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                broken_off(&path, &settings);
                let mut ann = Ann::<Small>::new(0).unwrap();
                let history = Resume::at(&path).train(&mut ann, &images, &settings).unwrap();
                let tensors = ann.network.tensors(Values::Parameters).unwrap();
                assert!((tensors, history) == whole, "{optimiser:?}, {threads} threads");
                // A finished run is read back, not run again.
                let bytes = std::fs::read(&path).unwrap();
                let mut ann = Ann::<Small>::new(0).unwrap();
                Resume::at(&path).train(&mut ann, &images, &settings).unwrap();
                assert!(ann.network.tensors(Values::Parameters).unwrap() == whole.0);
                assert!(std::fs::read(&path).unwrap() == bytes);
            });
        }
    }
}

/// Dropout is in no layer: only the type of the network tells it.
#[test]
fn a_checkpoint_of_other_dropout_is_refused() {
    mod often {
        use crate::ann::modules::*;
        use crate::data::tasks::Digits;
        crate::network! {
            pub Net for Digits = ((Flatten<1, 8, 64>, UnbiasedLinear<64, 8>, Relu, DropoutOneIn<2>),
                UnbiasedLinear<8, 10>);
        }
    }
    mod seldom {
        use crate::ann::modules::*;
        use crate::data::tasks::Digits;
        crate::network! {
            pub Net for Digits = ((Flatten<1, 8, 64>, UnbiasedLinear<64, 8>, Relu, DropoutOneIn<9>),
                UnbiasedLinear<8, 10>);
        }
    }
    fn train<N: Network<Task = Digits>>(path: &Path) -> Result<f64> {
        let settings = TrainSettings { epochs: 1, ..TrainSettings::default() };
        let (mut ann, images) = (Ann::<N>::new(0)?, digits().training.take(100));
        Ok(Resume::at(path).train(&mut ann, &images, &settings)?[0].loss)
    }
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    let loss = train::<often::Net>(&one).unwrap();
    assert_eq!(train::<often::Net>(&one).unwrap(), loss);
    assert_ne!(train::<seldom::Net>(&other).unwrap(), loss);
    let error = train::<seldom::Net>(&one).unwrap_err().to_string();
    assert!(error.contains("layer_types_checksum: found "), "{error}");
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.checkpoint");
    let settings = settings(Optimiser::NESTEROV);
    broken_off(&path, &settings);
    let images = digits().training.take(100);
    #[track_caller]
    fn refused<N: Network<Task = Digits>>(
        path: &Path,
        seed: u64,
        images: &Images<Training, Digits>,
        settings: &TrainSettings,
        expected: &str,
    ) {
        let mut ann = Ann::<N>::new(seed).unwrap();
        let before = ann.network.tensors(Values::Parameters).unwrap();
        let error = Resume::at(path).train(&mut ann, images, settings).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected) && error.contains("small.checkpoint"), "{error}");
        assert!(ann.network.tensors(Values::Parameters).unwrap() == before);
    }
    let expected = "learning_rate: found 0.02, expected 0.03, as in this run";
    let faster = TrainSettings { learning_rate: 0.03, ..settings.clone() };
    refused::<Small>(&path, 0, &images, &faster, expected);
    let adam = TrainSettings { optimiser: Optimiser::Adam, ..settings.clone() };
    refused::<Small>(&path, 0, &images, &adam, "settings.optimiser");
    refused::<Small>(&path, 0, &images.take(99), &settings, "images: found 100");
    let normalisation = data::Normalisation::new([0.3], [0.4]).unwrap();
    let normalised = images.normalised(&normalisation).unwrap();
    refused::<Small>(&path, 0, &normalised, &settings, "images_checksum");
    refused::<Small>(&path, 1, &images, &settings, "first_layers_checksum");
    refused::<small::changed::Small>(&path, 0, &images, &settings, "first_layers_checksum");
    refused::<Other>(&path, 0, &images, &settings, "work: found \"train Small\"");
}

#[test]
fn a_second_training_by_the_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.checkpoint");
    let images = digits().training.take(100);
    let train = || {
        let mut ann = Ann::<Small>::new(0).unwrap();
        Resume::at(&path).train(&mut ann, &images, &settings(Optimiser::Adam))
    };
    let lock = Lock::of_file(&path).unwrap();
    assert!(matches!(train(), Err(Error::Busy { path: busy }) if busy == path));
    drop(lock);
    train().unwrap();
}

#[test]
fn a_damaged_checkpoint_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.checkpoint");
    let settings = settings(Optimiser::Adam);
    broken_off(&path, &settings);
    let images = digits().training.take(100);
    let good = std::fs::read(&path).unwrap();
    let mut damaged: Vec<Vec<u8>> =
        (0..good.len()).step_by(499).map(|n| good[..n].into()).collect();
    damaged.extend((0..good.len()).step_by(97).map(|byte| {
        let mut bytes = good.clone();
        bytes[byte] ^= 4;
        bytes
    }));
    damaged.push([&good[..], &[0; 8]].concat());
    let mut ann = Ann::<Small>::new(0).unwrap();
    let before = ann.network.tensors(Values::Parameters).unwrap();
    for bytes in damaged {
        std::fs::write(&path, &bytes).unwrap();
        let error = Resume::at(&path).train(&mut ann, &images, &settings).unwrap_err();
        assert!(error.to_string().contains("small.checkpoint"), "{error}");
    }
    assert!(ann.network.tensors(Values::Parameters).unwrap() == before);
    let folder = folder.path().join("small.checkpoint/not-a-folder");
    assert!(Resume::at(folder).train(&mut ann, &images, &settings).is_err());
}

#[test]
fn settings_out_of_range_are_named() {
    for (name, change) in [
        ("epochs", (|s| s.epochs = 0) as fn(&mut TrainSettings)),
        ("batch", |s| s.batch = 0),
        ("learning_rate", |s| s.learning_rate = f64::NAN),
        ("warmup_epochs", |s| s.warmup_epochs = 30.0),
        ("warmup_epochs", |s| s.warmup_epochs = -0.5),
        ("weight_decay", |s| s.weight_decay = f64::INFINITY),
        ("label_smoothing", |s| s.label_smoothing = 1.1),
        ("momentum", |s| {
            s.optimiser = Optimiser::Sgd { momentum: 1.0, nesterov: false };
        }),
        ("momentum", |s| {
            s.optimiser = Optimiser::Sgd { momentum: 0.0, nesterov: true };
        }),
        ("augment.crop_padding", |s| s.augment.crop_padding = 8),
    ] {
        let mut settings = TrainSettings::default();
        change(&mut settings);
        let mut ann = Ann::<Small>::new(0).unwrap();
        let error = ann.train(&digits().training, &settings).unwrap_err();
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

/// torch.nn.CrossEntropyLoss: (1 - s) times the label's negative log-probability, plus s /
/// classes times the sum of all.
#[test]
fn label_smoothing_is_pytorchs() {
    let s = 0.1;
    let settings = TrainSettings { label_smoothing: s, ..TrainSettings::default() };
    let [on, off] = settings.targets(10);
    let mut net = Small::build(0).unwrap();
    let mut targets = vec![off; 20];
    (targets[3], targets[17]) = (on, on);
    let step =
        Step { optimiser: Optimiser::Adam, number: 1, learning_rate: 1e-3, weight_decay: 0.0 };
    let pixels = (0..128).map(|i| (i * 7919 % 256) as f32 / 255.0).collect();
    let (loss, logits) = net.step(pixels, targets, 2, &step).unwrap();
    let mut expected = 0.0;
    for (row, label) in logits.chunks(10).zip([3, 7]) {
        let exps: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
        let total: f64 = exps.iter().sum();
        let losses: Vec<f64> = exps.iter().map(|e| -(e / total).ln()).collect();
        expected += (1.0 - s) * losses[label] + s / 10.0 * losses.iter().sum::<f64>();
    }
    assert!((f64::from(loss) - expected / 2.0).abs() < 1e-6, "{loss}");
    assert_eq!(TrainSettings::default().targets(3), [1.0, 0.0]);
}

#[test]
fn tensors_go_out_and_in_by_name() {
    let mut net = Small::build(0).unwrap();
    let mut tensors = net.tensors(Values::Parameters).unwrap();
    let names: Vec<_> = tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "0.0.weight",
            "0.1.weight",
            "0.1.bias",
            "0.1.running_mean",
            "0.1.running_var",
            "1.1.weight",
            "1.2.weight",
            "1.2.bias",
            "1.2.running_mean",
            "1.2.running_var",
            "2.weight",
            "2.bias",
        ]
    );
    assert_eq!(tensors[0].shape, [4, 1, 3, 3]);
    assert!(net.tensors(Values::Moment(0)).unwrap().is_empty());
    tensors[11].values[3] = 7.5;
    net.set_tensors(Values::Parameters, &tensors).unwrap();
    assert_eq!(net.tensors(Values::Parameters).unwrap(), tensors);

    let mut wrong = [(); 4].map(|()| tensors.clone());
    wrong[0][0].values[0] = 99.0; // must not arrive
    wrong[0].pop();
    wrong[1].push(tensors[0].clone());
    wrong[2].swap(1, 2);
    wrong[3][0].shape = vec![4, 9];
    for wrong in wrong {
        let error = net.set_tensors(Values::Parameters, &wrong).unwrap_err();
        assert!(error.to_string().starts_with("tensors: found"), "{error}");
    }
    assert_eq!(net.tensors(Values::Parameters).unwrap(), tensors);
}
