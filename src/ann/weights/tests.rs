use dfdx::nn::{LoadFromSafetensors, SaveToSafetensors};
use dfdx::prelude::{Cpu, DeviceBuildExt, Module, Rank4, SampleTensor, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::ann::model::Ann;
use crate::ann::model::Model;
use crate::ann::networks::{Network, Vgg15HalfBn, Vgg15QuarterBnCifar100};
use crate::data;
use crate::data::images::Whole;
use crate::data::images::{Images, Normalisation};
use crate::data::tasks::{Cifar10, Digits};
use crate::simulate::synapses::to_channels_last;

mod small {
    use crate::ann::modules::*;
    use crate::data::tasks::Digits;
    use crate::network;
    pub type Layers = (
        (Conv3x3<1, 4, 8>, BatchNorm<4, 8>, AvgPool2<4, 8, 4>, Relu),
        (ResidualAdd<(Conv3x3<4, 4, 4>, BatchNorm<4, 4>)>, Relu),
        (Flatten<4, 4, 64>, UnbiasedLinear<64, 16>, BatchNorm1d<16>, Relu),
        Linear<16, 10>,
    );
    network! {
        pub Small for Digits = Layers;
    }
}
use small::Small;

fn names() -> Names {
    Names::new([
        ("0.0", "stem"),
        ("0.1", "norm"),
        ("1.0.body.0", "layers.0.conv"),
        ("1.0.body.1", "layers.0.norm"),
        ("2.1", "fc1"),
        ("2.2", "bn"),
        ("3", ""),
    ])
}

#[test]
fn dfdx_reads_and_writes_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
    let device = Cpu::seed_from_u64(3);
    let mut module = device.build_module::<small::Layers, f32>();
    let images: Tensor<Rank4<5, 1, 8, 8>, f32, Cpu> = device.sample_normal();
    module.save_safetensors(&theirs).unwrap();
    let ann = Ann::<Small>::load(&theirs, &Names::own()).unwrap();
    ann.save(&ours, &Names::own()).unwrap();
    let expected = module.forward(images.clone()).as_vec();
    let mut network = Small::build(9).unwrap();
    assert_ne!(network.forward(images.as_vec(), 5).unwrap(), expected);
    load(&mut *network, &ours, &Names::own()).unwrap();
    assert_eq!(network.forward(images.as_vec(), 5).unwrap(), expected);

    let other = Ann::<Small>::new(4).unwrap();
    other.save(&ours, &Names::own()).unwrap();
    module.load_safetensors(&ours).unwrap();
    let other = Small::build(4).unwrap().forward(images.as_vec(), 5).unwrap();
    assert_eq!(module.forward(images).as_vec(), other);
}

#[test]
fn names_are_pytorchs_and_files_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    Ann::<Small>::new(1).unwrap().save(&one, &names()).unwrap();
    let bytes = fs::read(&one).unwrap();
    let file = parse(&one, &bytes).unwrap();
    let mut found = file.names();
    found.sort_unstable();
    assert_eq!(found.len(), 17);
    assert_eq!(found[..2], ["bias", "bn.bias"]);
    assert!(found.contains(&"layers.0.norm.running_var"));
    assert_eq!(file.tensor("stem.weight").unwrap().shape(), [4, 1, 3, 3]);
    let ann = Ann::<Small>::load(&one, &names()).unwrap();
    ann.save(&two, &names()).unwrap();
    assert!(fs::read(&two).unwrap() == bytes);
}

#[test]
fn half_precision_rounds_once() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    let mut network = Small::build(1).unwrap();
    let half = names().half_precision();
    save(&*network, &one, &half).unwrap();
    let mut rounded = Small::build(2).unwrap();
    load(&mut *rounded, &one, &half).unwrap();
    let tensors = |network: &dyn Trainable| network.tensors(Values::Parameters).unwrap();
    for (tensor, rounded) in tensors(&*network).iter().zip(tensors(&*rounded)) {
        let to_half = tensor.values.iter().map(|&x| half::f16::from_f32(x).to_f32());
        assert_eq!(to_half.collect::<Vec<_>>(), rounded.values);
    }
    assert_ne!(tensors(&*network)[0].values, tensors(&*rounded)[0].values);
    save(&*rounded, &two, &half).unwrap();
    assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());

    let mut large = tensors(&*network);
    large[0].values[0] = 7e4;
    network.set_tensors(Values::Parameters, &large).unwrap();
    let error = save(&*network, &one, &half).unwrap_err().to_string();
    assert_eq!(
        error,
        "precision: found 70000 in tensor `stem.weight`, expected at most 65504, or single precision"
    );
}

/// A layer of batch normalisation as Keras computes it.
#[test]
fn another_epsilon_gives_its_own_logits() {
    let folder = tempfile::tempdir().unwrap();
    let [path, back] = ["keras", "back"].map(|name| folder.path().join(name));
    let mut network = Small::build(1).unwrap();
    let mut tensors = network.tensors(Values::Parameters).unwrap();
    for tensor in tensors.iter_mut().filter(|tensor| field(&tensor.name) == VARIANCE) {
        (0..).zip(&mut tensor.values).for_each(|(i, variance)| *variance = 0.002 * i as f32);
    }
    network.set_tensors(Values::Parameters, &tensors).unwrap();
    save(&*network, &path, &names()).unwrap();
    let keras = names().with_epsilon(1e-3);
    let ann = Ann::<Small>::load(&path, &keras).unwrap();
    let scales = |weight: &[f32], layer: &crate::ann::layers::Layer| match layer {
        crate::ann::layers::Layer::Conv { weight: folded, .. } => {
            folded.iter().zip(weight).map(|(folded, weight)| folded / weight).collect::<Vec<f32>>()
        }
        other => panic!("{other:?}"),
    };
    let scales = scales(&tensors[0].values, &ann.graph().unwrap().nodes[0].layer);
    for (i, scale) in scales.iter().enumerate() {
        let expected = 1.0 / (0.002 * (i / 9) as f32 + 1e-3).sqrt();
        assert!((scale / expected - 1.0).abs() < 1e-5, "{scale} {expected}");
    }
    ann.save(&back, &keras).unwrap();
    let again = Ann::<Small>::load(&back, &keras).unwrap();
    assert_eq!(again.graph().unwrap(), ann.graph().unwrap());
    for (epsilon, expected) in [
        (0.0, "epsilon: found 0, and a running variance of 0, expected a sum of 0.00001"),
        (-1.0, "epsilon: found -1, expected a finite number"),
    ] {
        let error = Ann::<Small>::load(&path, &names().with_epsilon(epsilon)).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn names_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let ann = Ann::<Small>::new(1).unwrap();
    let with = |change: &dyn Fn(&mut Vec<Layer>)| {
        let mut layers = names().layers.unwrap();
        change(&mut layers);
        let error = ann.save(&path, &Names::new(layers)).unwrap_err();
        assert!(!path.exists());
        error.to_string()
    };
    assert!(with(&|l| drop(l.pop())).contains("none for layer `3`"));
    assert!(with(&|l| l[1].1 = "stem".into()).contains("`stem.weight` twice"));
    let unused = with(&|l| l.push(("9.9".into(), "x".into())));
    assert!(unused.contains("layer `9.9`"), "{unused}");
}

/// Tensor as it stands in a file.
struct Bytes {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// Tensors of a good file, changed.
fn changed(change: impl Fn(&mut Vec<Bytes>)) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.safetensors");
    let network = Small::build(1).unwrap();
    let tensors = network.tensors(Values::Parameters).unwrap();
    let named = names().of_tensors(&tensors).unwrap().into_iter().zip(&tensors);
    let of = |(name, t): (String, &NamedTensor)| Bytes {
        name,
        dtype: Dtype::F32,
        shape: t.shape.clone(),
        data: t.bytes(),
    };
    let mut bytes = named.map(of).collect();
    change(&mut bytes);
    let views = bytes.iter().map(|t: &Bytes| {
        let view = TensorView::new(t.dtype, t.shape.clone(), &t.data);
        (t.name.as_str(), view.unwrap())
    });
    let file = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    fs::write(&path, file).unwrap();
    Ann::<Small>::load(&path, &names()).map(drop)
}

#[test]
fn what_does_not_fit_is_named() {
    changed(|_| {}).unwrap();
    let counter = || Bytes {
        name: "norm.num_batches_tracked".into(),
        dtype: Dtype::I64,
        shape: Vec::new(),
        data: vec![0; 8],
    };
    changed(|t| t.push(counter())).unwrap();
    let half = |t: &mut Vec<Bytes>, dtype| {
        t[0].data = vec![0; 72];
        t[0].dtype = dtype;
    };
    changed(|t| half(t, Dtype::F16)).unwrap();
    changed(|t| half(t, Dtype::BF16)).unwrap();
    for (change, expected) in [
        (
            (|t| drop(t.drain(..5))) as fn(&mut Vec<Bytes>),
            "nothing left over, expected `stem.weight`, `norm.weight`, `norm.bias` and 2 more",
        ),
        (|t| t[0].name = "steam.weight".into(), "`steam.weight` left over"),
        (|t| t[0].shape = vec![4, 9], "shape [4, 9], expected [4, 1, 3, 3]"),
        (|t| t[0].dtype = Dtype::I32, "`stem.weight`: found I32, expected F32, F16 or BF16"),
        (|t| t[0].data[..4].copy_from_slice(&f32::NAN.to_le_bytes()), "`stem.weight`: found NaN"),
        (
            |t| t[4].data[..4].copy_from_slice(&(-1f32).to_le_bytes()),
            "`norm.running_var`: found -1",
        ),
    ] {
        let error = changed(change).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("changed.safetensors"), "{error}");
    }
}

#[test]
fn logits_that_overflow_are_an_error() {
    let mut ann = Ann::<Small>::new(1).unwrap();
    let mut tensors = ann.network_mut().tensors(Values::Parameters).unwrap();
    let weights = tensors.iter_mut().filter(|tensor| tensor.name.ends_with("weight"));
    weights.for_each(|tensor| tensor.values.fill(3e38));
    ann.network_mut().set_tensors(Values::Parameters, &tensors).unwrap();
    let error = ann.accuracy(&data::digits().unwrap().take(3)).unwrap_err().to_string();
    assert!(error.starts_with("logits: found "), "{error}");
}

#[test]
fn half_precision_is_read() {
    let floats = [1.0f32, -0.5, 0.25, 2.0];
    let f16 = floats.map(|x| half::f16::from_f32(x).to_le_bytes()).concat();
    let bf16 = floats.map(|x| half::bf16::from_f32(x).to_le_bytes()).concat();
    for (dtype, bytes) in [(Dtype::F16, f16), (Dtype::BF16, bf16)] {
        let view = TensorView::new(dtype, vec![2, 2], &bytes).unwrap();
        let file = safetensors::serialize([("x", view)], None).unwrap();
        let path = Path::new("half");
        let found = values(path, &parse(path, &file).unwrap(), "x", &[2, 2]).unwrap();
        assert_eq!(found, floats, "{dtype:?}");
    }
}

#[test]
fn latent_weights_are_saved_and_loaded() {
    use crate::ann::networks::DigitsBinary;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("binary");
    let ann = Ann::<DigitsBinary>::new(1).unwrap();
    ann.save(&path, &Names::own()).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = parse(&path, &bytes).unwrap();
    let weight = values(&path, &file, "0.2.latent.weight", &[16, 16, 3, 3]).unwrap();
    assert_ne!(weight[0].abs(), weight[1].abs());
    let loaded = Ann::<DigitsBinary>::load(&path, &Names::own()).unwrap();
    assert_eq!(loaded.graph().unwrap(), ann.graph().unwrap());
}

#[test]
fn bounds_are_saved_and_loaded() {
    use crate::ann::networks::DigitsQcfs;
    let folder = tempfile::tempdir().unwrap();
    let [path, bad] = ["good", "bad"].map(|name| folder.path().join(name));
    let mut network = DigitsQcfs::build(1).unwrap();
    let mut tensors = network.tensors(Values::Parameters).unwrap();
    let bounds = tensors.iter_mut().filter(|t| t.name.ends_with(".bound"));
    for (i, tensor) in bounds.enumerate() {
        assert_eq!((&tensor.shape[..], &tensor.values[..]), (&[1][..], &[2.0][..]));
        tensor.values = vec![0.5 + i as f32];
    }
    network.set_tensors(Values::Parameters, &tensors).unwrap();
    save(&*network, &path, &Names::own()).unwrap();
    let ann = Ann::<DigitsQcfs>::load(&path, &Names::own()).unwrap();
    let bounds: Vec<f32> = (ann.graph().unwrap().nodes.iter())
        .filter_map(|node| match &node.layer {
            crate::ann::layers::Layer::Qcfs { bound, levels: 4 } => Some(*bound),
            _ => None,
        })
        .collect();
    assert_eq!(bounds, [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]);
    tensors[1].values = vec![0.0];
    network.set_tensors(Values::Parameters, &tensors).unwrap();
    save(&*network, &bad, &Names::own()).unwrap();
    let error = Ann::<DigitsQcfs>::load(&bad, &Names::own()).err().unwrap();
    let expected = "tensor `0.1.bound`: found 0, expected a bound above 0";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn forged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forged");
    Ann::<Small>::new(1).unwrap().save(&path, &names()).unwrap();
    let good = fs::read(&path).unwrap();
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut forged: Vec<Vec<u8>> = (0..good.len()).step_by(61).map(|n| good[..n].into()).collect();
    forged.push(u64::MAX.to_le_bytes().into());
    forged.push([&99_999_999u64.to_le_bytes()[..], b"{}"].concat());
    for shape in ["[18446744073709551615,2]", "[4611686018427387904]", "[-1]"] {
        for offsets in ["[0,18446744073709551615]", "[0,8]", "[8,0]"] {
            forged.push(header(&format!(
                r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#
            )));
        }
    }
    forged.push(header(&"[".repeat(100_000)));
    for bytes in forged {
        fs::write(&path, bytes).unwrap();
        let error = Ann::<Small>::load(&path, &names()).err().unwrap();
        assert!(error.to_string().contains("forged"), "{error}");
    }
    let nowhere = folder.path().join("nowhere");
    let error = Ann::<Small>::load(nowhere, &names()).err().unwrap();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn the_vgg15_table_names_every_layer() {
    let network = Vgg15QuarterBnCifar100::build(0).unwrap();
    let tensors = network.tensors(Values::Parameters).unwrap();
    let names = Names::vgg15_bn().of_tensors(&tensors).unwrap();
    assert_eq!(names.len(), 13 * 5 + 6);
    let shape = |name: &str| &tensors[names.iter().position(|n| n == name).unwrap()].shape;
    assert_eq!(shape("f.40.weight")[..], [128, 128, 3, 3]);
    assert_eq!(shape("f.8.running_mean")[..], [32]);
    assert_eq!(shape("fc1.weight")[..], [256, 128]);
    assert_eq!(shape("fc2.weight")[..], [100, 256]);
}

fn shared(name: &str) -> Option<std::path::PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    let path = path.join(name);
    if !path.exists() {
        eprintln!("skipped: {} is missing", path.display());
    }
    path.exists().then_some(path)
}

#[test]
fn a_vgg15_of_pytorch_gives_its_logits() {
    let weights = shared("vgg15-w0.5-cifar10.safetensors");
    let reference = shared("vgg15-w0.5-cifar10-reference.safetensors");
    let (Some(weights), Some(reference)) = (weights, reference) else {
        return;
    };
    let bytes = fs::read(&reference).unwrap();
    let file = parse(&reference, &bytes).unwrap();
    let labels = file.tensor("labels").unwrap().data().as_chunks().0.iter();
    let labels: Vec<u16> = labels.map(|b| i64::from_le_bytes(*b) as u16).collect();
    let pixels = file.tensor("images").unwrap().data().to_vec();
    let expected = values(&reference, &file, "logits", &[64, 10]).unwrap();
    let images = Images::<Whole, Cifar10>::from_arrays(pixels, labels).unwrap();
    let images = images.normalised(&Normalisation::CIFAR10).unwrap();

    let ann = Ann::<Vgg15HalfBn>::load(&weights, &Names::vgg15_bn()).unwrap();
    let logits = ann.logits(&images).unwrap().concat();
    let stages = crate::simulate::synapses::Stages::new(ann.graph().unwrap()).unwrap();
    let mut apart = [0f32; 2];
    for (i, expected) in expected.chunks(10).enumerate() {
        let mut value = vec![0.0; stages.input().size()];
        to_channels_last(stages.input(), &images.input(i), &mut value);
        let value = stages.forward(&value).pop().unwrap();
        for (both, expected) in logits[10 * i..].iter().zip(value).zip(expected) {
            apart[0] = apart[0].max((both.0 - expected).abs());
            apart[1] = apart[1].max((both.1 - expected).abs());
        }
    }
    eprintln!("largest difference, unfolded and folded: {apart:?}");
    assert!(apart[0] < 1e-4 && apart[1] < 1e-4, "{apart:?}");

    // And back under the same names, byte for byte but for the metadata.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("back.safetensors");
    ann.save(&path, &Names::vgg15_bn()).unwrap();
    let [theirs, ours] = [&weights, &path].map(|path| fs::read(path).unwrap());
    let [theirs, ours] = [(&weights, &theirs), (&path, &ours)].map(|(p, b)| parse(p, b).unwrap());
    assert_eq!(theirs.len(), ours.len());
    for (name, tensor) in theirs.iter() {
        assert!(ours.tensor(name).unwrap() == tensor, "{name}");
    }
}

/// What `tests/pytorch_small.py` wrote, also with Keras's ε and in half precision.
#[test]
fn a_small_network_of_pytorch_gives_its_logits() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pytorch");
    let path = data.join("small-reference.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = parse(&path, &bytes).unwrap();
    let pixels = file.tensor("images").unwrap().data().to_vec();
    let images = Images::<Whole, Digits>::from_arrays(pixels, vec![0; 32]).unwrap();
    for (weights, epsilon, logits, tolerance) in [
        ("small.safetensors", 1e-5, "logits", 1e-4),
        ("small.safetensors", 1e-3, "logits_1e-3", 1e-4),
        ("small-half.safetensors", 1e-5, "logits", 0.05),
    ] {
        let names = names().with_epsilon(epsilon);
        let ann = Ann::<Small>::load(data.join(weights), &names).unwrap();
        let found = ann.logits(&images).unwrap().concat();
        let stages = crate::simulate::synapses::Stages::new(ann.graph().unwrap()).unwrap();
        let folded = (0..32).flat_map(|i| {
            let mut value = vec![0.0; stages.input().size()];
            to_channels_last(stages.input(), &images.input(i), &mut value);
            stages.forward(&value).pop().unwrap()
        });
        let expected = values(&path, &file, logits, &[32, 10]).unwrap();
        let mut apart = 0f32;
        for ((found, folded), expected) in found.iter().zip(folded).zip(&expected) {
            apart = apart.max((found - expected).abs()).max((folded - expected).abs());
        }
        eprintln!("{weights}, {logits}: largest difference {apart}");
        assert!(apart < tolerance, "{weights}, {logits}: {apart}");
    }
}

/// Takes 20 seconds on two cores, and needs the 10,000 test images as JPEG files: set
/// `EVOSPIKE_CIFAR10_TEST` to their folder, the one of the class folders, to run it.
#[test]
fn a_vgg15_of_pytorch_has_its_accuracy_on_all_test_images() {
    let weights = shared("vgg15-w0.5-cifar10.safetensors");
    let folder = std::env::var_os("EVOSPIKE_CIFAR10_TEST");
    let (Some(weights), Some(folder)) = (weights, folder) else {
        eprintln!("skipped: EVOSPIKE_CIFAR10_TEST or the weights are missing");
        return;
    };
    let images = data::class_folders::<Cifar10>(folder).unwrap();
    let images = images.normalised(&Normalisation::CIFAR10).unwrap();
    let ann = Ann::<Vgg15HalfBn>::load(weights, &Names::vgg15_bn()).unwrap();
    let accuracy = ann.accuracy(&images).unwrap();
    eprintln!("{accuracy:?}");
    assert_eq!(accuracy.images, 10_000);
    assert!((accuracy.percent() - 86.0).abs() <= 0.02, "{accuracy:?}"); // the json's 0.86
}
