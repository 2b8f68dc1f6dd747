//! Networks of ONNX files: their logits are ONNX Runtime's, by plain loops over the layers, and what
//! is no such file is refused with a message that says what is wrong where. `onnx_small.py` writes
//! the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use evospike::ann::graph::Graph;
use evospike::ann::layers::{Axis, Layer, Window};
use evospike::data::{Normalisation, Shape};
use evospike::onnx::Onnx;
use evospike::prelude::*;
use safetensors::SafeTensors;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx")
}

/// Values of a channel in the order of the rows: the layers in plain loops, which the files' own
/// logits check, and nothing of the engine.
pub fn forward(graph: &Graph, image: &[f32]) -> Vec<f32> {
    let shapes = graph.shapes().unwrap();
    let mut all: Vec<Vec<f64>> = vec![image.iter().map(|&x| x.into()).collect()];
    for (node, output) in graph.nodes.iter().zip(&shapes[1..]) {
        let (from, of) = (shapes[node.inputs[0]], &all[node.inputs[0]]);
        let at = |c: usize, y: usize, x: usize| of[(c * from.height + y) * from.width + x];
        let each = |value: &dyn Fn(usize, usize, usize) -> f64| {
            let Shape { channels, height, width } = *output;
            let places = (0..channels * height * width)
                .map(|i| value(i / width / height, i / width % height, i % width));
            places.collect::<Vec<f64>>()
        };
        // The rows and columns of a window in the image, with their places in the window.
        let inside = |window: &Window, y: usize, x: usize| {
            let side = |axis: usize, out: usize, side: usize| {
                let places = (0..window.size[axis]).filter_map(move |k| {
                    let place = out * window.stride[axis] + k * window.dilation[axis];
                    let place = place.checked_sub(window.padding[axis])?;
                    (place < side).then_some((k, place))
                });
                places.collect::<Vec<_>>()
            };
            let columns = side(1, x, from.width);
            let rows = side(0, y, from.height).into_iter();
            rows.flat_map(move |row| columns.clone().into_iter().map(move |column| (row, column)))
        };
        let sum = |values: &dyn Fn(usize) -> f64| (0..of.len()).map(values).sum::<f64>();
        let value = match &node.layer {
            Layer::Conv { weight, bias, inputs, outputs, window, groups } => each(&|c, y, x| {
                let (own, first) = (inputs / groups, c / (outputs / groups) * (inputs / groups));
                let places = inside(window, y, x).map(|((ky, y), (kx, x))| {
                    let place = |i| ((c * own + i) * window.size[0] + ky) * window.size[1] + kx;
                    (0..own).map(|i| f64::from(weight[place(i)]) * at(first + i, y, x)).sum::<f64>()
                });
                places.sum::<f64>() + bias.as_ref().map_or(0.0, |bias| bias[c].into())
            }),
            Layer::Linear { weight, bias, inputs, order, .. } => each(&|output, _, _| {
                let sizes = order.map(|axis| match axis {
                    Axis::Channels => from.channels,
                    Axis::Rows => from.height,
                    Axis::Columns => from.width,
                });
                let sum = sum(&|number| {
                    let index = [
                        number / sizes[2] / sizes[1],
                        number / sizes[2] % sizes[1],
                        number % sizes[2],
                    ];
                    let along = |axis| index[order.iter().position(|&own| own == axis).unwrap()];
                    let value = at(along(Axis::Channels), along(Axis::Rows), along(Axis::Columns));
                    f64::from(weight[output * inputs + number]) * value
                });
                sum + bias.as_ref().map_or(0.0, |bias| bias[output].into())
            }),
            Layer::AvgPool { window, count_padding, ceil } => each(&|c, y, x| {
                assert!(!(*ceil && *count_padding) || window.padding == [1; 4]);
                let values: Vec<f64> =
                    inside(window, y, x).map(|((_, y), (_, x))| at(c, y, x)).collect();
                let side = |axis: usize, out: usize, side: usize| {
                    let end = side + window.padding[axis] + window.padding[axis + 2];
                    window.size[axis].min(end - out * window.stride[axis])
                };
                let count = match count_padding {
                    true => side(0, y, from.height) * side(1, x, from.width),
                    false => values.len(),
                };
                values.iter().sum::<f64>() / count as f64
            }),
            Layer::MaxPool { window, .. } => each(&|c, y, x| {
                let values = inside(window, y, x).map(|((_, y), (_, x))| at(c, y, x));
                values.fold(f64::NEG_INFINITY, f64::max)
            }),
            Layer::ScaleShift { scale, shift } => {
                each(&|c, y, x| at(c, y, x) * f64::from(scale[c]) + f64::from(shift[c]))
            }
            Layer::Sum => each(&|c, y, x| {
                let place = (c * from.height + y) * from.width + x;
                node.inputs.iter().map(|&value| all[value][place]).sum()
            }),
            Layer::Concat => node.inputs.iter().flat_map(|&value| all[value].clone()).collect(),
            Layer::Neurons => each(&|c, y, x| at(c, y, x).max(0.0)),
            Layer::Clipped { bound } => each(&|c, y, x| at(c, y, x).clamp(0.0, (*bound).into())),
            other => panic!("{other:?}"),
        };
        all.push(value);
    }
    all.pop().unwrap().into_iter().map(|x| x as f32).collect()
}

/// The image in channels, rows, columns.
pub fn channels_first(onnx: &Onnx, image: &[f32]) -> Vec<f32> {
    let Shape { channels, height, width } = onnx.graph.input;
    match onnx.channels_last {
        false => image.to_vec(),
        true => {
            let places = (0..image.len()).map(|i| (i / width / height, i % (width * height)));
            places.map(|(channel, place)| image[place * channels + channel]).collect()
        }
    }
}

fn read(name: &str, input: Option<Shape>) -> Onnx {
    Onnx::read(data().join(name).with_extension("onnx"), input).unwrap_or_else(|e| panic!("{e}"))
}

/// Largest difference of the logits from those of ONNX Runtime, softmax not taken.
fn largest_difference(name: &str, onnx: &Onnx) -> f32 {
    let bytes = fs::read(data().join("reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |part: &str| {
        let tensor = file.tensor(&format!("{name}.{part}")).unwrap();
        let (numbers, _) = tensor.data().as_chunks();
        numbers.iter().map(|&four| f32::from_le_bytes(four)).collect::<Vec<f32>>()
    };
    let (images, logits) = (tensor("input"), tensor("logits"));
    let size = onnx.graph.input.size();
    let softmax = onnx.notes.iter().find(|note| note.contains("oftmax"));
    let mut largest = 0f32;
    for (image, logits) in images.chunks_exact(size).zip(logits.chunks_exact(5)) {
        let mut found = forward(&onnx.graph, &channels_first(onnx, image));
        if let Some(note) = softmax {
            let sum: f32 = found.iter().map(|x| x.exp()).sum();
            let log = note.contains("LogSoftmax");
            found.iter_mut().for_each(|x| *x -= sum.ln());
            found.iter_mut().filter(|_| !log).for_each(|x| *x = x.exp());
        }
        let differences = found.iter().zip(logits).map(|(a, b)| (a - b).abs());
        largest = differences.fold(largest, f32::max);
    }
    largest
}

#[test]
fn networks_have_the_logits_of_onnx_runtime() {
    let kinds = [
        "vgg",
        "mobilenet",
        "resnet",
        "resnet-closed",
        "squeezenet",
        "windows",
        "signal",
        "flat",
        "parts",
        "dynamo",
        "keras",
        "external",
        "double",
    ];
    for (name, most) in kinds.map(|name| (name, 1e-5)).into_iter().chain([("half", 2e-3)]) {
        let largest = largest_difference(name, &read(name, None));
        assert!(largest < most, "{name}: {largest}");
    }
}

/// A field of a message of Protocol Buffers.
fn field(number: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = varint(number << 3 | 2);
    bytes.extend(varint(value.len() as u64));
    bytes.extend(value);
    bytes
}

fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A node: operator, inputs, output and whole numbers as attributes.
fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]) -> Vec<u8> {
    let mut bytes: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
    bytes.extend(field(2, output.as_bytes()));
    bytes.extend(field(3, format!("the {operator}").as_bytes()));
    bytes.extend(field(4, operator.as_bytes()));
    for (name, values) in attributes {
        let mut attribute = field(1, name.as_bytes());
        match values {
            [one] => attribute.extend([number(3, *one), number(20, 2)].concat()),
            many => {
                attribute.extend(many.iter().flat_map(|&value| number(8, value)));
                attribute.extend(number(20, 7));
            }
        }
        bytes.extend(field(5, &attribute));
    }
    field(1, &bytes)
}

/// A tensor of ones.
fn ones(name: &str, dims: &[i64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = dims.iter().flat_map(|&size| number(1, size)).collect();
    bytes.extend(number(2, 1));
    let count = dims.iter().product::<i64>() as usize;
    bytes.extend(field(8, name.as_bytes()));
    bytes.extend(field(9, &1f32.to_le_bytes().repeat(count)));
    field(5, &bytes)
}

fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let mut bytes = [number(1, values.len() as i64), number(2, 7)].concat();
    bytes.extend(values.iter().flat_map(|&value| number(7, value)));
    bytes.extend(field(8, name.as_bytes()));
    field(5, &bytes)
}

fn port(kind: u64, name: &str, dims: &[i64]) -> Vec<u8> {
    let dims =
        dims.iter().map(|&size| field(1, &if size > 0 { number(1, size) } else { field(2, b"n") }));
    let tensor = [number(1, 1), field(2, &dims.collect::<Vec<_>>().concat())].concat();
    let kind_of = field(2, &field(1, &tensor));
    field(kind, &[field(1, name.as_bytes()), kind_of].concat())
}

/// A model whose image `x` has these sizes, and whose logits are `y`.
fn model(dims: &[i64], parts: &[Vec<u8>]) -> Vec<u8> {
    let graph = [parts.concat(), port(11, "x", dims), port(12, "y", &[0, 5])].concat();
    let opset = field(8, &number(2, 17));
    [number(1, 8), field(7, &graph), opset].concat()
}

const IMAGE: [i64; 4] = [0, 3, 4, 4];

fn error(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    fs::write(&path, bytes).unwrap();
    let error = Onnx::read(&path, None).err().expect("an error").to_string();
    let rest = error.strip_prefix(&*path.to_string_lossy());
    rest.unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn errors_name_the_node_what_was_found_and_what_is_possible() {
    let relu = |from: &str, to: &str| node("Relu", &[from], to, &[]);
    let head = [
        node("Flatten", &["r"], "f", &[]),
        node("MatMul", &["f", "w"], "y", &[]),
        ones("w", &[48, 5]),
    ];
    let with = |first: Vec<u8>| model(&IMAGE, &[&[first], &head[..]].concat());
    // As it should be.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.onnx"), with(relu("x", "r"))).unwrap();
    let good = Onnx::read(folder.path().join("good.onnx"), None).unwrap();
    assert_eq!(good.graph.nodes.len(), 2);

    let conv = |attributes: &[(&str, &[i64])]| {
        let conv = node("Conv", &["x", "k"], "r", attributes);
        model(&IMAGE, &[&[conv, ones("k", &[3, 3, 1, 1])], &head[..]].concat())
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            with(node("Sigmoid", &["x"], "r", &[])),
            ", node `the Sigmoid` (Sigmoid): found operator `Sigmoid`, expected ReLU",
        ),
        (with(node("Unheard", &["x"], "r", &[])), "expected one of Abs, Add, "),
        (
            conv(&[("colour", &[1])]),
            ", node `the Conv` (Conv): found attribute `colour`, expected none but `kernel_shape`, ",
        ),
        (
            conv(&[("kernel_shape", &[2, 2])]),
            "found attribute `kernel_shape` [2, 2], expected [1, 1] as the weights have",
        ),
        (conv(&[("group", &[2])]), "found 6 input channels, expected 3 as the layer before gives"),
        (
            conv(&[("strides", &[0, 1])]),
            "found attribute `strides` [0, 1], expected 2 whole numbers of 1 or more",
        ),
        (
            conv(&[("dilations", &[9, 9]), ("pads", &[1, 2, 3])]),
            "found attribute `pads` [1, 2, 3], expected 4 whole numbers",
        ),
        (
            with(relu("y", "r")),
            "found input `y`, expected the image, a constant, or an output of a node before it",
        ),
        (with(relu("nothing", "r")), "found input `nothing`"),
        (
            with(node("Mul", &["x", "x"], "r", &[])),
            "found a product or quotient of values that depend on the image",
        ),
        (
            with(node("Softmax", &["x"], "r", &[])),
            "found operator `Softmax` before others, expected no softmax",
        ),
        (
            with(node("ReduceMean", &["x"], "r", &[("axes", &[0, 1])])),
            "expected rows, columns or both",
        ),
        (
            with(node("Reshape", &["x", "s"], "r", &[])).into_iter().chain(Vec::new()).collect(),
            "found input `s`",
        ),
        (
            with(node("Transpose", &["x"], "r", &[("perm", &[0, 1, 2])])),
            "found attribute `perm` [0, 1, 2], expected 4 axes",
        ),
        (
            model(&IMAGE, &[relu("x", "y")]),
            ", output `y`: found values of [1, 3 channels, 4 rows, 4 columns], expected one value a class",
        ),
        (
            model(&[0, 3, 0, 0], &head),
            ", input `x`: found shape [?, 3, ?, ?], expected sizes of an image",
        ),
        (
            model(&[0, 3, 1 << 40, 1 << 40], &head),
            ", input `x`: found shape [?, 3, 1099511627776, ",
        ),
        (model(&[0, 3, 2, 2, 2], &head), "expected 2 to 4 dimensions"),
        (Vec::new(), ", format: found no bytes"),
        (b"PK\x03\x04archive/data.pkl".to_vec(), ", format: found a file of PyTorch"),
        (b"\x80\x02}q\x00.".to_vec(), "torch.onnx.export(model.eval()"),
        (b"PK\x03\x04metadata.jsonconfig.json".to_vec(), ", format: found a file of Keras"),
        (b"\x89HDF\r\n\x1a\n".to_vec(), ", format: found an HDF5 file"),
        (b"\x10\0\0\0\0\0\0\0{\"a\":".to_vec(), ", format: found a safetensors file"),
        (b"hello".to_vec(), ", byte 2: found bytes that are no field of Protocol Buffers"),
        (number(1, 8), ", byte 0: found no graph, or no version"),
    ];
    for (bytes, expected) in cases {
        let error = error(&bytes);
        assert!(error.contains(expected), "{error}\nis not: {expected}");
    }
}

/// Few bytes that ask for much.
#[test]
fn forged_files_take_no_more_than_they_justify() {
    let image = [0, 1, 2, 2];
    let much = "no more than a file of ";
    let constant = [integers("s", &[1 << 20, 1 << 20]), node("ConstantOfShape", &["s"], "y", &[])];
    let grown =
        [integers("s", &[1, 1 << 22]), ones("o", &[1, 1]), node("Expand", &["o", "s"], "y", &[])];
    let padded = [
        integers("p", &[0, 1 << 20, 0, 0, 0, 0, 0, 0]),
        node("Pad", &["x", "p"], "a", &[]),
        node("Relu", &["a"], "y", &[]),
    ];
    let axes: Vec<i64> = (0..40).collect();
    let many = [integers("s", &axes), node("Unsqueeze", &["x", "s"], "y", &[])];
    for (parts, expected) in
        [(&constant[..], much), (&grown, much), (&padded, much), (&many, "at most 16")]
    {
        let error = error(&model(&image, parts));
        assert!(error.contains(expected), "{error}");
    }
    let whole = fs::read(data().join("vgg.onnx")).unwrap();
    for length in (0..whole.len()).step_by(7) {
        error(&whole[..length]);
    }
}

#[test]
fn external_data_stays_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let whole = fs::read(data().join("external.onnx")).unwrap();
    fs::write(&path, &whole).unwrap();
    let error = |path: &Path| Onnx::read(path, None).err().unwrap().to_string();
    assert!(error(&path).contains("`external.data`: No such file"), "{}", error(&path));
    fs::write(folder.path().join("external.data"), [0; 10]).unwrap();
    assert!(
        error(&path).contains("of `external.data`, which has 10, expected"),
        "{}",
        error(&path)
    );
    let text = String::from_utf8_lossy(&whole).into_owned();
    assert!(text.contains("external.data"));
    let mut outside = whole;
    while let Some(at) = outside.windows(13).position(|name| name == b"external.data") {
        outside[at..at + 13].copy_from_slice(b"../rnal..data");
    }
    fs::write(&path, &outside).unwrap();
    assert!(error(&path).contains("expected the name of a file in the folder of the model"));
}

#[test]
fn an_open_shape_is_said_by_the_caller() {
    let pool = node("GlobalAveragePool", &["r"], "g", &[]);
    let parts = [
        node("Conv", &["x", "k"], "c", &[]),
        ones("k", &[5, 3, 2, 2]),
        node("Relu", &["c"], "r", &[]),
        pool,
        node("Flatten", &["g"], "y", &[]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    fs::write(&path, model(&[0, 3, 0, 0], &parts)).unwrap();
    let onnx = Onnx::read(&path, Some(Shape::new(3, 6, 8))).unwrap();
    assert_eq!(onnx.graph.shapes().unwrap()[1], Shape::new(5, 5, 7));
    let error = Onnx::read(&path, Some(Shape::new(1, 6, 8))).err().unwrap().to_string();
    assert!(error.contains("found shape [?, 3, ?, ?], expected images of 1 x 6 x 8"), "{error}");
}

mod typed {
    use evospike::ann::modules::*;
    use evospike::prelude::*;

    network! {
        pub Net for data::Classify<3, 8, 5> = (
            (Conv3x3<3, 4, 8>, Bias2D<4>, Relu),
            (ResidualAdd<(Conv3x3Stride2<4, 6, 8, 4>, BatchNorm<6, 4>, Relu, Conv3x3<6, 6, 4>, BatchNorm<6, 4>), Conv1x1Stride2<4, 6, 8, 4>>, Relu),
            (GlobalAvgPool<6, 4>, Linear<6, 5>),
        );
    }
}

#[test]
fn a_network_of_typed_layers_is_their_source() {
    let source = |name: &str| read(name, None).source().unwrap();
    // As in the module above, in which it compiles.
    let written = source("resnet").unwrap();
    let this = include_str!("onnx.rs");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let at = this.find("    network! {\n        pub Net").unwrap();
    let above = &this[at..][..this[at..].find("    }\n}").unwrap() + 6];
    assert_eq!(words(&written), words(above));
    typed::Net::build(0).unwrap();
    assert_eq!(source("flat").unwrap_err(), "`/conv/Conv`: conv"); // no padding
    assert!(source("digits").unwrap_err().contains("max pooling"));
    assert_eq!(source("signal").unwrap_err(), "images of 2 x 1 x 16, which are not square");
}

/// A file of the folder that the authors share, if it is there.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models").join(name);
    let there = path.is_file();
    if !there {
        println!("skipped: no {}", path.display());
    }
    there.then_some(path)
}

#[test]
fn published_networks_have_their_logits() {
    let normalisation = Normalisation::IMAGENET;
    for (name, reference, most) in [
        ("resnet20-cifar10", "resnet20-cifar10", 1e-4),
        ("resnet20-cifar10-convshortcut", "resnet20-cifar10", 1e-4),
        ("squeezenet1_0-imagenet", "squeezenet1_0-imagenet", 1e-3),
    ] {
        let file = shared(&format!("{name}.onnx"));
        let Some((file, reference)) =
            file.zip(shared(&format!("{reference}-reference.safetensors")))
        else {
            return;
        };
        let check = Onnx::read(file, None).unwrap().check(reference, Some(&normalisation)).unwrap();
        println!("{name}: {check:?}");
        assert!(check.largest_difference < most, "{name}: {check:?}");
        assert_eq!(check.same_predictions, check.images, "{name}");
    }
}

/// Of all 10,000 images, if EVOSPIKE_CIFAR10 says where they are, lossless.
#[test]
fn resnet20_has_its_accuracy() {
    let Some(folder) = std::env::var_os("EVOSPIKE_CIFAR10") else {
        println!("skipped: no EVOSPIKE_CIFAR10");
        return;
    };
    let Some(file) = shared("resnet20-cifar10.onnx") else { return };
    let network = Imported::<data::Cifar10>::new(Onnx::read(file, None).unwrap().graph).unwrap();
    let cifar = data::cifar10(folder).unwrap().normalised(&Normalisation::IMAGENET).unwrap();
    let accuracy = network.accuracy(&cifar.hold_out(0.1, 0).unwrap().test).unwrap();
    println!("{accuracy}");
    assert!(accuracy.percent() > 91.70 && accuracy.percent() < 91.76, "{accuracy}");
}

/// Of the 1,300 images of VeriSilicon/acuity-dataset, if EVOSPIKE_IMAGENET says where they are: the
/// folder of `dataset.txt`. ONNX Runtime gets 930 right, with pixels of another JPEG decoder.
#[test]
fn squeezenet_has_its_accuracy() {
    let Some(folder) = std::env::var_os("EVOSPIKE_IMAGENET").map(PathBuf::from) else {
        println!("skipped: no EVOSPIKE_IMAGENET");
        return;
    };
    let Some(file) = shared("squeezenet1_0-imagenet.onnx") else { return };
    type ImageNet227 = data::Classify<3, 227, 1000>;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for line in fs::read_to_string(folder.join("dataset.txt")).unwrap().lines() {
        let Some((path, label)) = line.split_once(',') else { continue };
        let image = image::open(folder.join(path.trim())).unwrap().to_rgb8();
        assert_eq!(image.dimensions(), (227, 227));
        for channel in 0..3 {
            pixels.extend(image.pixels().map(|pixel| pixel.0[channel]));
        }
        labels.push(label.trim().parse().unwrap());
    }
    let images = Images::<data::Whole, ImageNet227>::from_arrays(pixels, labels).unwrap();
    let mean = [123.0, 117.0, 104.0].map(|x: f32| x / 255.0);
    let caffe = Normalisation::new(mean, [1.0 / 255.0; 3]).unwrap();
    let images = images.normalised(&caffe).unwrap();
    let onnx = Onnx::read(file, None).unwrap().with_channels_reversed();
    let network = Imported::<ImageNet227>::new(onnx.graph).unwrap();
    let accuracy = network.accuracy(&images).unwrap();
    println!("{accuracy}");
    assert_eq!(accuracy.images, 1300);
    assert!(accuracy.correct.abs_diff(930) <= 5, "{accuracy}");
}

/// Logits that are no numbers differ from nothing.
#[test]
fn logits_that_overflow_are_an_error() {
    let mut onnx = read("digits", None);
    for node in &mut onnx.graph.nodes {
        if let Layer::Linear { weight, .. } = &mut node.layer {
            let sign = |(i, w): (usize, &mut f32)| *w = if i % 2 == 0 { 3e38 } else { -3e38 };
            weight.iter_mut().enumerate().for_each(sign);
        }
    }
    let error = onnx.check(data().join("digits-reference.safetensors"), None).unwrap_err();
    assert!(error.to_string().starts_with("logits: found "), "{error}");
}

#[test]
fn the_command_line_checks_an_imported_network() {
    let folder = tempfile::tempdir().unwrap();
    let pickle = folder.path().join("model.pt");
    fs::write(&pickle, b"PK\x03\x04 pickled").unwrap();
    let run = |model: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evospike"));
        let output = command.arg("import").arg(model).args(more).output().unwrap();
        let [said, error] = [output.stdout, output.stderr].map(|of| String::from_utf8(of).unwrap());
        (output.status.code(), said, error)
    };
    let (model, reference) =
        (data().join("digits.onnx"), data().join("digits-reference.safetensors"));
    let reference = ["--check", reference.to_str().unwrap()];
    let (code, said, error) = run(&model, &reference);
    assert_eq!(code, Some(0), "{said}{error}");
    assert!(said.contains("max pooling") && said.contains("16 of 16"), "{said}");
    let (code, said, error) = run(&model, &[&reference[..], &["--tolerance", "1e-12"]].concat());
    assert_eq!(code, Some(1), "{said}{error}");
    let (code, _, error) = run(&pickle, &[]);
    assert!(code == Some(1) && error.contains("torch.onnx.export"), "{error}");
}

#[test]
fn a_wrong_reference_is_named() {
    let onnx = read("digits", None);
    let check = onnx.check(data().join("digits-reference.safetensors"), None).unwrap();
    assert!(check.largest_difference < 1e-5 && check.same_predictions == 16, "{check:?}");
    let error = onnx.check(data().join("reference.safetensors"), None).unwrap_err().to_string();
    let expected = "tensor `input` or `images`: found none, expected images of 1 x 8 x 8";
    assert!(error.contains(expected), "{error}");
    // With the softmax that the file ends in.
    let keras = read("keras", None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.safetensors");
    let bytes = fs::read(data().join("reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors =
        ["input", "logits"].map(|part| (part, file.tensor(&format!("keras.{part}")).unwrap()));
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
    let check = keras.check(&path, None).unwrap();
    assert!(check.largest_difference < 1e-5, "{check:?}");
}

#[test]
fn a_network_of_blue_green_red_takes_red_green_blue() {
    let (onnx, reversed) = (read("vgg", None), read("vgg", None).with_channels_reversed());
    let bgr: Vec<f32> = (0..onnx.graph.input.size()).map(|i| (i * 7 % 11) as f32 / 8.0).collect();
    let plane = bgr.len() / 3;
    let rgb: Vec<f32> = bgr.chunks_exact(plane).rev().flatten().copied().collect();
    let (expected, found) = (forward(&onnx.graph, &bgr), forward(&reversed.graph, &rgb));
    assert_ne!(expected, forward(&onnx.graph, &rgb));
    let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) < 1e-5, "{expected:?} {found:?}");
}

#[test]
fn the_command_line_evolves_and_compares_an_imported_network() {
    let folder = tempfile::tempdir().unwrap();
    let model = data().join("digits.onnx");
    let run = |arguments: &[&str], out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evospike"));
        command.args(arguments).arg("--model").arg(&model);
        let output = command.arg("--out").arg(folder.path().join(out)).output().unwrap();
        let [said, error] = [output.stdout, output.stderr].map(|of| String::from_utf8(of).unwrap());
        assert!(output.status.success(), "{error}");
        let table = |name: &str| fs::read_to_string(folder.path().join(out).join(name)).unwrap();
        (said, table(if out == "evolved" { "accuracy.csv" } else { "neurons.csv" }))
    };
    let evolve = ["evolve", "--spikes", "two_levels", "--timesteps", "8", "--generations", "1"];
    let (said, accuracy) = run(&evolve, "evolved");
    assert!(
        said.contains("\nevolved: ") && accuracy.contains("\n0,evolved,8,"),
        "{said}{accuracy}"
    );
    assert!(said.contains("no evolved.nir: layer 1 "), "{said}"); // NIR knows plain spikes only
    let neurons = ["reproduce", "neurons", "--kinds", "four_levels", "--seeds", "0"];
    let (_, rows) = run(&neurons, "neurons");
    let networks = ["percentile", "factor", "least_squares", "calibrated", "evolved"];
    let expected = networks.map(|network| format!("\nfour_levels,{network},0,"));
    assert!(expected.iter().all(|row| rows.contains(row)), "{rows}");
    // Read again from what was kept.
    assert_eq!(run(&neurons, "neurons").1, rows);
    // Good at another timestep: other conversions, and another gain.
    let (_, early) = run(&[&neurons[..], &["--from", "1"]].concat(), "early");
    assert!(early.contains("calibrated for 1 timesteps"), "{early}");
}

#[test]
fn an_imported_network_is_attacked_and_explained() -> evospike::Result<()> {
    let graph = Onnx::read(data().join("digits.onnx"), None)?.graph;
    let network = Imported::<data::Digits>::new(graph)?;
    let digits = data::digits()?.split(Shares::default(), 0)?;
    let images = digits.test.take(60);
    let attacked = attack(&network, &images, Attack::Fgsm { epsilon_255: 24.0 })?;
    let right = |images| network.accuracy(images).map(|accuracy| accuracy.correct);
    assert!(right(&attacked)? + 5 < right(&images)?);

    let snn = convert(&network, &digits.training.take(100))?.balance(Balance::Percentile(99.0))?;
    let layers = snn.neurons().len();
    let run = simulate(&snn, &attacked, 8)?;
    assert_eq!(explain::firing_rates("imported", &run).len(), layers * 8);
    let errors = explain::conversion_error("imported", snn.network(), &images, &[4, 64])?;
    let total = |timestep: usize| -> f64 {
        let of = |row: &&explain::ConversionErrorRow| {
            row.timestep == timestep && row.part == explain::ErrorPart::Total
        };
        errors.iter().filter(of).map(|row| row.rms_percent).sum()
    };
    assert!(total(64) < total(4), "{} {}", total(64), total(4));
    Ok(())
}
