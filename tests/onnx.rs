//! Networks of ONNX files: their logits are ONNX Runtime's, by plain loops over the layers, and what
//! is no such file is refused with a message that says what is wrong where. `onnx_small.py` writes
//! the files.

use std::fs;
use std::path::{Path, PathBuf};

use evospike::ann::graph::Graph;
use evospike::ann::layers::{Axis, Layer, Window};
use evospike::data::Shape;
use evospike::onnx::Onnx;
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
