//! Every layer's gradients against central differences in `f64`, where the definition runs, and the
//! kernels for `f32` against the definition.

use dfdx::nn::{
    BuildOnDevice, RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ToDtype,
    ViewTensorMut, ViewTensorRef,
};
use dfdx::prelude::*;
use evospike::ann::modules::{
    AvgPool2, BatchNorm, BatchNorm1d, Binary, Conv, Conv1x1Stride2, Conv3x3, Conv3x3Stride2,
    Flatten, GlobalAvgPool, Identity, Qcfs, Relu, ResidualAdd,
};

/// Adds `by` to parameter number `at`, counted over all tensors, or random values to all of them.
struct Nudge {
    at: usize,
    by: f64,
}

impl TensorVisitor<f64, Cpu> for Nudge {
    type Viewer = ViewTensorMut;
    type Err = CpuError;
    type E2 = f64;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        options: TensorOptions<S, f64, Cpu>,
        tensor: &mut Tensor<S, f64, Cpu>,
    ) -> Result<Option<Tensor<S, f64, Cpu>>, CpuError> {
        if options.do_gradient_update {
            let mut values = tensor.as_vec();
            if let Some(value) = values.get_mut(self.at) {
                *value += self.by;
            }
            self.at = self.at.wrapping_sub(values.len());
            tensor.copy_from(&values);
        }
        Ok(None)
    }
}

/// Gradients of all trained parameters, one after the other.
struct Collect<'a, E: Dtype>(&'a Gradients<E, Cpu>, Vec<f64>)
where
    Cpu: Device<E>;

impl<E: Dtype + Into<f64>> TensorVisitor<E, Cpu> for Collect<'_, E>
where
    Cpu: Device<E>,
{
    type Viewer = ViewTensorRef;
    type Err = CpuError;
    type E2 = E;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        options: TensorOptions<S, E, Cpu>,
        tensor: &Tensor<S, E, Cpu>,
    ) -> Result<Option<Tensor<S, E, Cpu>>, CpuError> {
        if options.do_gradient_update {
            let gradient = self.0.get(tensor).as_vec();
            self.1.extend(gradient.into_iter().map(Into::into));
        }
        Ok(None)
    }
}

fn close(a: &[f64], b: &[f64], tolerance: f64, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(0.1_f64, |m, b| m.max(b.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what} {i}: {a} {b}");
    }
}

/// Output, gradient by the input and by the parameters of the sum of squares of the output times
/// `mix`.
macro_rules! results {
    ($net:expr, $forward:ident, $input:expr, $mix:expr) => {{
        #[allow(unused_mut)]
        let mut net = $net.clone();
        let out = net.$forward($input.clone().leaky_trace());
        let values: Vec<f64> = out.as_vec().into_iter().map(f64::from).collect();
        let gradients = (out * $mix.clone()).square().sum::<Rank0, _>().backward();
        let by_input: Vec<f64> =
            gradients.get(&$input).as_vec().into_iter().map(f64::from).collect();
        let mut collect = Collect(&gradients, Vec::new());
        TensorCollection::iter_tensors(&mut RecursiveWalker { m: &net, f: &mut collect }).unwrap();
        (values, by_input, collect.1)
    }};
}

macro_rules! check {
    ($($name:ident: $net:ty, $forward:ident, $input:ty => $output:ty;)*) => {$(
        #[test]
        fn $name() {
            type Built = <$net as BuildOnDevice<Cpu, f32>>::Built;
            let dev = Cpu::seed_from_u64(3);
            let fast: Built = dev.build_module::<$net, f32>();
            let exact = ToDtype::<f32, Cpu>::to_dtype::<f64>(&fast);
            let input32: Tensor<$input, f32, _> = dev.sample_normal();
            let mix32: Tensor<$output, f32, _> = dev.sample_normal();
            let (input, mix) = (input32.clone().to_dtype::<f64>(), mix32.clone().to_dtype::<f64>());

            let (a, b) = (
                results!(fast, $forward, input32, mix32),
                results!(exact, $forward, input, mix),
            );
            close(&a.0, &b.0, 2e-5, "fast output");
            close(&a.1, &b.1, 1e-4, "fast gradient by input");
            close(&a.2, &b.2, 1e-4, "fast gradient by parameters");

            let loss = |net: &<Built as TensorCollection<f32, Cpu>>::To<f64, Cpu>, input: &Tensor<$input, f64, Cpu>| -> f64 {
                #[allow(unused_mut)]
                let mut net = net.clone();
                let out = net.$forward(input.clone().leaky_trace());
                (out * mix.clone()).as_vec().iter().map(|x| x * x).sum()
            };
            // A stride through the values, no more than 60 of each, keeps large layers cheap.
            let step = 1e-5;
            for i in (0..b.1.len()).step_by(b.1.len() / 60 + 1) {
                let at = |by: f64| {
                    let mut values = input.as_vec();
                    values[i] += by;
                    loss(&exact, &dev.tensor_from_vec(values, Default::default()))
                };
                let numeric = (at(step) - at(-step)) / (2.0 * step);
                assert!((numeric - b.1[i]).abs() < 1e-5 * (1.0 + numeric.abs()), "input {i}: {numeric} {}", b.1[i]);
            }
            for i in (0..b.2.len()).step_by(b.2.len() / 60 + 1) {
                let at = |by: f64| {
                    let mut net = exact.clone();
                    TensorCollection::iter_tensors(&mut RecursiveWalker { m: &mut net, f: &mut Nudge { at: i, by } }).unwrap();
                    loss(&net, &input)
                };
                let numeric = (at(step) - at(-step)) / (2.0 * step);
                assert!((numeric - b.2[i]).abs() < 1e-5 * (1.0 + numeric.abs()), "parameter {i}: {numeric} {}", b.2[i]);
            }
        }
    )*};
}

check! {
    conv_of_odd_side: Conv3x3<3, 4, 5>, forward, Rank4<2, 3, 5, 5> => Rank4<2, 4, 5, 5>;
    conv_of_one_image: Conv3x3<3, 5, 6>, forward, Rank4<1, 3, 6, 6> => Rank4<1, 5, 6, 6>;
    conv_of_many_channels: Conv3x3<17, 19, 4>, forward, Rank4<9, 17, 4, 4> => Rank4<9, 19, 4, 4>;
    conv_of_tiles_of_two: Conv3x3<8, 16, 6>, forward, Rank4<11, 8, 6, 6> => Rank4<11, 16, 6, 6>;
    conv_of_many_small_images: Conv3x3<16, 24, 2>, forward, Rank4<37, 16, 2, 2> => Rank4<37, 24, 2, 2>;
    conv_of_tiles_of_four: Conv3x3<24, 16, 4>, forward, Rank4<37, 24, 4, 4> => Rank4<37, 16, 4, 4>;
    conv_of_wide_images: Conv3x3<8, 8, 32>, forward, Rank4<9, 8, 32, 32> => Rank4<9, 8, 32, 32>;
    conv_of_large_images: Conv3x3<8, 8, 48>, forward, Rank4<9, 8, 48, 48> => Rank4<9, 8, 48, 48>;
    conv_of_few_images: Conv3x3<8, 8, 12>, forward, Rank4<3, 8, 12, 12> => Rank4<3, 8, 12, 12>;
    conv_of_one_pixel: Conv3x3<9, 10, 1>, forward, Rank4<3, 9, 1, 1> => Rank4<3, 10, 1, 1>;
    conv_of_five: Conv<2, 3, 5, 1, 6, 6>, forward, Rank4<2, 2, 6, 6> => Rank4<2, 3, 6, 6>;
    strided_conv: Conv3x3Stride2<3, 4, 6, 3>, forward, Rank4<3, 3, 6, 6> => Rank4<3, 4, 3, 3>;
    strided_conv_of_odd_side: Conv3x3Stride2<2, 4, 7, 4>, forward, Rank4<2, 2, 7, 7> => Rank4<2, 4, 4, 4>;
    strided_1x1_conv: Conv1x1Stride2<3, 4, 8, 4>, forward, Rank4<2, 3, 8, 8> => Rank4<2, 4, 4, 4>;
    pool: AvgPool2<3, 6, 3>, forward, Rank4<2, 3, 6, 6> => Rank4<2, 3, 3, 3>;
    global_pool: GlobalAvgPool<3, 5>, forward, Rank4<2, 3, 5, 5> => Rank2<2, 3>;
    relu: Relu, forward, Rank2<3, 7> => Rank2<3, 7>;
    norm: BatchNorm<3, 5>, forward_mut, Rank4<4, 3, 5, 5> => Rank4<4, 3, 5, 5>;
    norm_of_one_image: BatchNorm<3, 3>, forward_mut, Rank4<1, 3, 3, 3> => Rank4<1, 3, 3, 3>;
    norm_of_features: BatchNorm1d<6>, forward_mut, Rank2<5, 6> => Rank2<5, 6>;
    norm_of_a_trained_network: BatchNorm<3, 5>, forward, Rank4<4, 3, 5, 5> => Rank4<4, 3, 5, 5>;
    residual: ResidualAdd<(Conv3x3<3, 3, 4>, BatchNorm<3, 4>, Relu), Identity>, forward_mut,
        Rank4<2, 3, 4, 4> => Rank4<2, 3, 4, 4>;
    residual_that_halves:
        ResidualAdd<(Conv3x3Stride2<3, 4, 4, 2>, Relu, Conv3x3<4, 4, 2>), Conv1x1Stride2<3, 4, 4, 2>>,
        forward, Rank4<2, 3, 4, 4> => Rank4<2, 4, 2, 2>;
    network:
        ((Conv3x3<3, 4, 4>, BatchNorm<4, 4>, AvgPool2<4, 4, 2>, Relu), Flatten<4, 2, 16>, UnbiasedLinear<16, 5>),
        forward_mut, Rank4<3, 3, 4, 4> => Rank2<3, 5>;
}

/// The authors' code on the same numbers: `(myfloor(x / up * t + 0.5) / t).clamp(0, 1) * up`, with
/// myfloor's gradient 1 and that of clamp as PyTorch has it, 1 at its ends.
#[test]
fn quantised_activations_are_the_authors() {
    let dev = Cpu::default();
    // λ = 2, L = 4: steps of 0.5, half of one down.
    let x = [-0.3, -0.2, 0.2, 0.25, 1.1, 1.74, 1.9, 2.2, 2.3, 9.0];
    let y = [0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0];
    let by_x = [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    // y / λ - x / λ inside, y / λ outside
    let by_bound = [0.0, 0.1, -0.1, 0.125, -0.05, -0.12, 0.05, -0.1, 1.0, 1.0];
    let dy = [1.0, 2.0, -1.0, 3.0, 1.0, 2.0, 4.0, 1.0, -2.0, 0.5];
    let sum: f64 = by_bound.iter().zip(dy).map(|(a, b)| a * b).sum();
    macro_rules! check {
        ($number:ty) => {
            let mut net = dev.build_module::<Qcfs<4>, $number>();
            assert_eq!(net.bound.as_vec(), [8.0]);
            net.bound.copy_from(&[2.0]);
            let input = dev.tensor(x.map(|x| x as $number));
            let weights = dev.tensor(dy.map(|x| x as $number));
            let out = net.forward(input.leaky_trace());
            assert_eq!(out.as_vec(), y.map(|y| y as $number));
            let gradients = (out * weights).sum::<Rank0, _>().backward();
            let found = gradients.get(&input).as_vec();
            let expected = by_x.iter().zip(dy).map(|(a, b)| (a * b) as $number);
            assert_eq!(found, expected.collect::<Vec<_>>());
            let found = gradients.get(&net.bound).as_vec()[0] as f64;
            assert!((found - sum).abs() < 1e-5, "{found} {sum}");
        };
    }
    check!(f32);
    check!(f64);
}

/// The kernels against the definition, through weights, on more values than a task of one thread.
#[test]
fn quantised_activations_are_the_definition() {
    type Net = (UnbiasedLinear<6, 700>, Qcfs<8, 1>);
    let dev = Cpu::seed_from_u64(6);
    let fast = dev.build_module::<Net, f32>();
    let exact = ToDtype::<f32, Cpu>::to_dtype::<f64>(&fast);
    let input: Tensor<Rank2<31, 6>, f32, _> = dev.sample_normal();
    let mix: Tensor<Rank2<31, 700>, f32, _> = dev.sample_normal();
    let a = results!(fast, forward, input, mix);
    let (input, mix) = (input.to_dtype::<f64>(), mix.to_dtype::<f64>());
    let b = results!(exact, forward, input, mix);
    // In single precision a value may lie on the other side of a step.
    let differ = a.0.iter().zip(&b.0).filter(|(a, b)| (*a - *b).abs() > 1e-6);
    assert!(differ.count() <= 3);
    close(&a.1, &b.1, 1e-3, "gradient by input");
    close(&a.2, &b.2, 1e-3, "gradient by parameters");
}

/// Two outputs, by hand: w = (-0.5, 0, 2, 0.5) and (1, 1, -1, -1), with mean magnitudes 0.75 and 1.
#[test]
fn binary_weights_are_signs_times_means() {
    let dev = Cpu::default();
    macro_rules! check {
        ($number:ty) => {
            let mut net = dev.build_module::<Binary<UnbiasedLinear<4, 2>>, $number>();
            let weights = [-0.5, 0.0, 2.0, 0.5, 1.0, 1.0, -1.0, -1.0];
            net.latent.weight.copy_from(&weights);
            let x: Tensor<Rank2<1, 4>, $number, _> = dev.tensor([[1.0, 2.0, 4.0, 8.0]]);
            let y = net.forward(x.leaky_trace());
            assert_eq!(y.as_vec(), [0.75 * (-1.0 + 2.0 + 4.0 + 8.0), 1.0 + 2.0 - 4.0 - 8.0]);
            let gradients = y.sum::<Rank0, _>().backward();
            assert_eq!(gradients.get(&x).as_vec(), [0.25, 1.75, -0.25, -0.25]);
            // By the binary weights it is x. Through the signs, not that of 2: x times the mean.
            // Through the mean: the sign times a quarter of 13, and of -9.
            let straight = [0.75, 1.5, 0.0, 6.0, 1.0, 2.0, 4.0, 8.0];
            let by_mean = [-3.25, 3.25, 3.25, 3.25, -2.25, -2.25, 2.25, 2.25];
            let expected = straight.iter().zip(by_mean).map(|(a, b)| a + b);
            let found = gradients.get(&net.latent.weight).as_vec();
            assert_eq!(found, expected.collect::<Vec<$number>>());
        };
    }
    check!(f32);
    check!(f64);
}

#[test]
fn binary_convolutions_are_the_definition() {
    type Net = (Binary<Conv3x3<3, 4, 6>>, Relu, Binary<Conv3x3<4, 5, 6>>);
    let dev = Cpu::seed_from_u64(7);
    let fast = dev.build_module::<Net, f32>();
    let exact = ToDtype::<f32, Cpu>::to_dtype::<f64>(&fast);
    let input: Tensor<Rank4<3, 3, 6, 6>, f32, _> = dev.sample_normal();
    let mix: Tensor<Rank4<3, 5, 6, 6>, f32, _> = dev.sample_normal();
    let a = results!(fast, forward, input, mix);
    let (input, mix) = (input.to_dtype::<f64>(), mix.to_dtype::<f64>());
    let b = results!(exact, forward, input, mix);
    close(&a.0, &b.0, 2e-5, "output");
    close(&a.1, &b.1, 1e-4, "gradient by input");
    close(&a.2, &b.2, 1e-4, "gradient by parameters");
    // The same as the plain convolution with the binary weights.
    let mut plain = dev.build_module::<Conv3x3<3, 4, 6>, f64>();
    let weight = exact.0.latent.weight.as_vec();
    let binary = weight.chunks(27).flat_map(|channel| {
        let mean = channel.iter().map(|w| w.abs()).sum::<f64>() / 27.0;
        channel.iter().map(move |w| mean * w.signum())
    });
    plain.weight.copy_from(&binary.collect::<Vec<f64>>());
    let by_binary = exact.0.forward(input.clone()).as_vec();
    close(&by_binary, &plain.forward(input).as_vec(), 1e-12, "sign arithmetic");
}

/// `torch.nn.BatchNorm2d` on the same numbers (PyTorch 2): output and running statistics.
#[test]
fn norm_is_pytorchs() {
    let dev = Cpu::default();
    let mut net = dev.build_module::<BatchNorm<1, 2>, f32>();
    let x: Tensor<Rank4<1, 1, 2, 2>, f32, _> = dev.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]);
    let y = net.forward_mut(x.leaky_trace()).as_vec();
    for (y, expected) in y.iter().zip([-1.069_04, -0.534_52, 0.0, 1.603_56]) {
        assert!((y - expected).abs() < 1e-4, "{y} {expected}");
    }
    assert!((net.running_mean.as_vec()[0] - 0.3).abs() < 1e-6);
    // 0.9 * 1 + 0.1 * 14 / 3
    assert!((net.running_var.as_vec()[0] - 1.366_667).abs() < 1e-5);
}

#[test]
fn tuples_are_saved_and_loaded() {
    type Net = (
        (Conv3x3<3, 4, 4>, BatchNorm<4, 4>, AvgPool2<4, 4, 2>, Relu),
        (Flatten<4, 2, 16>, UnbiasedLinear<16, 5>),
    );
    let dev = Cpu::seed_from_u64(4);
    let mut net = dev.build_module::<Net, f32>();
    let x: Tensor<Rank4<6, 3, 4, 4>, f32, _> = dev.sample_normal();
    let _ = net.forward_mut(x.leaky_trace());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    net.save_safetensors(&path).unwrap();
    let mut other = dev.build_module::<Net, f32>();
    assert_ne!(net.forward(x.clone()).as_vec(), other.forward(x.clone()).as_vec());
    other.load_safetensors(&path).unwrap();
    assert_eq!(net.forward(x.clone()).as_vec(), other.forward(x).as_vec());
    let names = std::fs::read(&path).unwrap();
    let header = String::from_utf8_lossy(&names[8..600]).into_owned();
    for name in ["0.0.weight", "0.1.weight", "0.1.bias", "0.1.running_mean", "0.1.running_var"] {
        assert!(header.contains(&format!("\"{name}\"")), "{name}: {header}");
    }
}

/// Bit for bit: no sum's order depends on how many threads there are.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    type Net = (
        (Conv3x3<3, 16, 16>, BatchNorm<16, 16>, AvgPool2<16, 16, 8>, Relu),
        (Conv3x3<16, 24, 8>, BatchNorm<24, 8>, Relu),
        (Conv3x3Stride2<24, 8, 8, 4>, Relu),
    );
    let dev = Cpu::seed_from_u64(5);
    let net = dev.build_module::<Net, f32>();
    let input: Tensor<Rank4<37, 3, 16, 16>, f32, _> = dev.sample_normal();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let mut net = net.clone();
            let out = net.forward_mut(input.leaky_trace());
            let values = out.as_vec();
            let gradients = out.square().sum::<Rank0, _>().backward();
            let mut collect = Collect(&gradients, Vec::new());
            TensorCollection::iter_tensors(&mut RecursiveWalker { m: &net, f: &mut collect })
                .unwrap();
            (values, gradients.get(&input).as_vec(), collect.1)
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5));
}
