//! Typed layers as dfdx modules, with every size as a const generic, on stable Rust.
//!
//! dfdx itself has convolution and pooling only on nightly Rust. A network is a dfdx tuple of these
//! modules; sizes that do not match do not compile.
//!
//! ```
//! use dfdx::prelude::*;
//! use evospike::ann::modules::{AvgPool2, Conv3x3, Flatten, Relu};
//!
//! type Net = (
//!     (Conv3x3<1, 4, 8>, AvgPool2<4, 8, 4>, Relu),
//!     (Flatten<4, 4, 64>, UnbiasedLinear<64, 10>),
//! );
//! let dev = Cpu::seed_from_u64(0);
//! let net = dev.build_module::<Net, f32>();
//! let images: Tensor<Rank4<5, 1, 8, 8>, f32, _> = dev.ones();
//! let logits: Tensor<Rank2<5, 10>, f32, _> = net.forward(images);
//! ```
//!
//! A layer for eight channels does not take four:
//!
//! ```compile_fail,E0277
//! # use dfdx::prelude::*;
//! # use evospike::ann::modules::{Conv3x3, Relu};
//! type Net = (Conv3x3<1, 4, 8>, Relu, Conv3x3<8, 4, 8>);
//! # let dev = Cpu::seed_from_u64(0);
//! # let net = dev.build_module::<Net, f32>();
//! # let images: Tensor<Rank4<5, 1, 8, 8>, f32, _> = dev.ones();
//! # let features = net.forward(images);
//! ```

use super::describe::keeps_shape;
use super::graph::Graph;
use super::layers::{Layer, Window};
use dfdx::dtypes::Dtype;
use dfdx::nn::modules as built;
use dfdx::nn::{
    BuildModule, BuildOnDevice, ModuleVisitor, NonMutableModule, TensorCollection, TensorOptions,
    ZeroSizedModule,
};
use dfdx::prelude::{
    Const, Device, Dim, HasShape, Module, ModuleMut, OwnedTape, PermuteTo, Rank1, Rank2, Rank3,
    Rank4, ReshapeTo, Shape, Storage, Tape, Tensor, TryMatMul, WithEmptyTape,
};

pub use super::describe::{Describe, Follows};
use crate::ops::{Accelerated, ConvShape, EPSILON, Flat, NormShape, binarise};
pub use dfdx::prelude::{Bias2D, DropoutOneIn, Linear, ReLU, UnbiasedLinear};
use num_traits::Float;
use rand_distr::Uniform;
use rand_distr::uniform::SampleUniform;

/// Batch of images, `B` x `C` x `SIDE` x `SIDE`.
type Batch<B, const C: usize, const SIDE: usize, E, D, T> =
    Tensor<(B, Const<C>, Const<SIDE>, Const<SIDE>), E, D, T>;

/// Reshapes a tensor to a vector, which keeps its gradient.
pub(crate) fn flat<S: Shape, E: Dtype, D: Device<E>, T: Tape<E, D>>(
    tensor: Tensor<S, E, D, T>,
) -> Result<Flat<E, D, T>, D::Err> {
    let size = tensor.shape().num_elements();
    tensor.try_reshape_like(&(size,))
}

/// Values of a parameter as a vector, on a new tape.
fn parameter<S: Shape, E: Dtype, D: Device<E>, T: Tape<E, D>>(
    tensor: &Tensor<S, E, D>,
) -> Result<Flat<E, D, T>, D::Err> {
    flat(tensor.retaped())
}

/// `KERNEL` x `KERNEL` cross-correlation without bias, with stride `STRIDE` and padding `KERNEL` /
/// 2: `IN` x `SIDE` x `SIDE` to `OUT` x `OUT_SIDE` x `OUT_SIDE`. Initial weights are uniformly
/// distributed with the variance 2 / fan-in of He et al. (2015).
///
/// `OUT_SIDE` must be the side of the convolution's output:
///
/// ```compile_fail,E0080
/// use dfdx::prelude::*;
/// use evospike::ann::modules::Conv3x3Stride2;
/// let dev = Cpu::default();
/// let net = dev.build_module::<Conv3x3Stride2<1, 4, 8, 3>, f32>(); // 8 / 2 is 4
/// let images: Tensor<Rank4<5, 1, 8, 8>, f32, _> = dev.ones();
/// net.forward(images);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Conv<
    const IN: usize,
    const OUT: usize,
    const KERNEL: usize,
    const STRIDE: usize,
    const SIDE: usize,
    const OUT_SIDE: usize,
>;

/// 3 x 3 [convolution](Conv) with same padding: `IN` x `SIDE` x `SIDE` to `OUT` x `SIDE` x `SIDE`.
pub type Conv3x3<const IN: usize, const OUT: usize, const SIDE: usize> =
    Conv<IN, OUT, 3, 1, SIDE, SIDE>;
/// 3 x 3 [convolution](Conv) with stride 2: `IN` x `SIDE` x `SIDE` to `OUT` x `HALF` x `HALF`.
pub type Conv3x3Stride2<const IN: usize, const OUT: usize, const SIDE: usize, const HALF: usize> =
    Conv<IN, OUT, 3, 2, SIDE, HALF>;
/// 1 x 1 [convolution](Conv) with stride 2, for shortcuts of residual networks:
/// `IN` x `SIDE` x `SIDE` to `OUT` x `HALF` x `HALF`.
pub type Conv1x1Stride2<const IN: usize, const OUT: usize, const SIDE: usize, const HALF: usize> =
    Conv<IN, OUT, 1, 2, SIDE, HALF>;

/// [`Conv`] with its weights on a device.
#[derive(Debug, Clone)]
pub struct BuiltConv<
    const IN: usize,
    const OUT: usize,
    const KERNEL: usize,
    const STRIDE: usize,
    const SIDE: usize,
    const OUT_SIDE: usize,
    E: Dtype,
    D: Storage<E>,
> {
    /// Weights, output channels x input channels x rows x columns.
    pub weight: Tensor<Rank4<OUT, IN, KERNEL, KERNEL>, E, D>,
}

// Writes the six sizes once for all implementations.
macro_rules! for_conv {
    ($([$($generics:tt)*] ($($of:tt)*) { $($body:tt)* })*) => {$(
        impl<
            const IN: usize, const OUT: usize, const KERNEL: usize,
            const STRIDE: usize, const SIDE: usize, const OUT_SIDE: usize,
            $($generics)*
        > $($of)* { $($body)* }
    )*};
}

for_conv! {
    [E: Dtype, D: Device<E>]
    (BuildOnDevice<D, E> for Conv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE>
        where BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, E, D>: BuildModule<D, E>)
    {
        type Built = BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, E, D>;
    }

    [E: Dtype, D: Storage<E>]
    (BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, E, D>)
    {
        const SHAPE: ConvShape = {
            let shape = ConvShape {
                inputs: IN,
                outputs: OUT,
                side: SIDE,
                kernel: KERNEL,
                stride: STRIDE,
                padding: KERNEL / 2,
            };
            assert!(shape.out_side() == OUT_SIDE, "Conv: OUT_SIDE is SIDE / STRIDE, rounded up");
            shape
        };
    }

    [E: Dtype + Float + SampleUniform, D: Device<E>]
    (TensorCollection<E, D> for BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, E, D>)
    {
        type To<E2: Dtype, D2: Device<E2>> =
            BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, E2, D2>;

        fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
            visitor: &mut V,
        ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
            visitor.visit_fields(
                Self::tensor(
                    "weight",
                    |s| &s.weight,
                    |s| &mut s.weight,
                    TensorOptions::reset_with(|weight| {
                        let fan_in = (KERNEL * KERNEL * IN) as f64;
                        let limit = E::from_f64((6.0 / fan_in).sqrt()).unwrap_or(E::ONE);
                        weight.try_fill_with_distr(Uniform::new(-limit, limit))
                    }),
                ),
                |weight| BuiltConv { weight },
            )
        }
    }

    []
    (Follows<Rank3<IN, SIDE, SIDE>> for Conv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE>)
    {
        type Out = Rank3<OUT, OUT_SIDE, OUT_SIDE>;
    }

    [D: Device<f32>]
    (Describe for BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, f32, D>)
    {
        fn describe(&self, graph: &mut Graph, input: usize) -> usize {
            let layer = Layer::Conv {
                weight: self.weight.as_vec(),
                bias: None,
                inputs: IN,
                outputs: OUT,
                window: Window::square(KERNEL, STRIDE, Self::SHAPE.padding),
                groups: 1,
            };
            graph.add("", layer, [input])
        }
    }

    [E: Dtype, D: Storage<E>]
    (NonMutableModule for BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, E, D>)
    {}

    [B: Dim, E: Dtype, D: Accelerated<E>, T: Tape<E, D>]
    (Module<Batch<B, IN, SIDE, E, D, T>>
        for BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, E, D>)
    {
        type Output = Batch<B, OUT, OUT_SIDE, E, D, T>;
        type Error = D::Err;

        fn try_forward(
            &self,
            images: Batch<B, IN, SIDE, E, D, T>,
        ) -> Result<Self::Output, D::Err> {
            self.try_forward_by(images, parameter(&self.weight)?)
        }
    }

    [B: Dim, E: Dtype, D: Accelerated<E>, T: Tape<E, D>]
    (Weighted<Batch<B, IN, SIDE, E, D, T>, E, D, T>
        for BuiltConv<IN, OUT, KERNEL, STRIDE, SIDE, OUT_SIDE, E, D>)
    {
        type Output = Batch<B, OUT, OUT_SIDE, E, D, T>;
        const OUTPUTS: usize = OUT;

        fn try_weight(&self) -> Result<Flat<E, D, T>, D::Err> {
            parameter(&self.weight)
        }

        fn try_forward_by(
            &self,
            images: Batch<B, IN, SIDE, E, D, T>,
            weight: Flat<E, D, T>,
        ) -> Result<Self::Output, D::Err> {
            let batch = images.shape().0;
            D::convolve(flat(images)?, weight, Self::SHAPE)?
                .try_reshape_like(&(batch, Const, Const, Const))
        }
    }
}

/// Built layer that can also compute with weights other than its own.
pub trait Weighted<X, E: Dtype, D: Device<E>, T: Tape<E, D>> {
    /// Output of the layer.
    type Output;
    /// Number of output channels, the first dimension of the weights.
    const OUTPUTS: usize;

    /// Weights of the layer.
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn try_weight(&self) -> Result<Flat<E, D, T>, D::Err>;

    /// Computes the output with the given weights.
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn try_forward_by(&self, x: X, weight: Flat<E, D, T>) -> Result<Self::Output, D::Err>;
}

impl<const IN: usize, const OUT: usize, B: Dim, E: Dtype, D: Device<E>, T: Tape<E, D>>
    Weighted<Tensor<(B, Const<IN>), E, D, T>, E, D, T> for built::UnbiasedLinear<IN, OUT, E, D>
{
    type Output = Tensor<(B, Const<OUT>), E, D, T>;
    const OUTPUTS: usize = OUT;

    fn try_weight(&self) -> Result<Flat<E, D, T>, D::Err> {
        parameter(&self.weight)
    }

    fn try_forward_by(
        &self,
        x: Tensor<(B, Const<IN>), E, D, T>,
        weight: Flat<E, D, T>,
    ) -> Result<Self::Output, D::Err> {
        let weight: Tensor<Rank2<OUT, IN>, E, D, T> = weight.try_reshape_like(&(Const, Const))?;
        x.try_matmul(weight.try_permute::<Rank2<IN, OUT>, _>()?)
    }
}

/// Convolution or [`UnbiasedLinear`] with binary weights: `Binary<Conv3x3<16, 32, 8>>` uses the
/// sign of each weight times the mean magnitude of the weights of its output channel (binary-weight
/// network of Rastegari et al. 2016, "XNOR-Net"; spiking in Lu and Sengupta 2020, "Exploring the
/// Connection Between Binary and Spiking Neural Networks", Front. Neurosci. 14:535).
///
/// Gradients train the real-valued weights, see [`Accelerated::binarise`]. As in these papers, the
/// first and the last layer of a network should keep real weights. The papers' centring and
/// clipping of the real weights at each step, and multiplication of gradients by the number of
/// weights, which has no effect with Adam, are left out. Conversion takes the binary weights.
#[derive(Debug, Clone, Copy, Default)]
pub struct Binary<L> {
    /// Layer with the real-valued weights.
    pub latent: L,
}

impl<E: Dtype, D: Device<E>, L: BuildOnDevice<D, E>> BuildOnDevice<D, E> for Binary<L> {
    type Built = Binary<L::Built>;
}

impl<E: Dtype, D: Device<E>, L: TensorCollection<E, D>> TensorCollection<E, D> for Binary<L> {
    type To<E2: Dtype, D2: Device<E2>> = Binary<L::To<E2, D2>>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(Self::module("latent", |s| &s.latent, |s| &mut s.latent), |latent| {
            Binary { latent }
        })
    }
}

impl<L> NonMutableModule for Binary<L> {}

impl<S: Shape, E: Dtype, D: Accelerated<E>, T: Tape<E, D>, L> Module<Tensor<S, E, D, T>>
    for Binary<L>
where
    L: Weighted<Tensor<S, E, D, T>, E, D, T>,
{
    type Output = L::Output;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<S, E, D, T>) -> Result<L::Output, D::Err> {
        let weight = D::binarise(self.latent.try_weight()?, L::OUTPUTS)?;
        self.latent.try_forward_by(x, weight)
    }
}

/// Defines layers without parameters: types, sizes and forward passes.
macro_rules! plain_layers {
    ($($(#[$doc:meta])* $name:ident [$($size:ident)*]
        ($($from:ty),*) to ($($to:ty),*)
        if $holds:expr, $rule:literal;
        |$x:ident| $forward:expr;
        |$graph:ident, $input:ident| $describe:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $name<$(const $size: usize),*>;

        impl<$(const $size: usize),*> ZeroSizedModule for $name<$($size),*> {}
        impl<$(const $size: usize),*> NonMutableModule for $name<$($size),*> {}
        impl<$(const $size: usize,)* B: Dim, E: Dtype, D: Accelerated<E>, T: Tape<E, D>>
            Module<Tensor<(B, $($from),*), E, D, T>> for $name<$($size),*>
        {
            type Output = Tensor<(B, $($to),*), E, D, T>;
            type Error = D::Err;

            fn try_forward(
                &self,
                input: Tensor<(B, $($from),*), E, D, T>,
            ) -> Result<Self::Output, D::Err> {
                const { assert!($holds, $rule) };
                let batch = input.shape().0;
                let $x = flat(input)?;
                $forward?.try_reshape_like(&(batch, $(<$to>::default()),*))
            }
        }
        impl<$(const $size: usize),*> Follows<($($from,)*)> for $name<$($size),*> {
            type Out = ($($to,)*);
        }
        impl<$(const $size: usize),*> Describe for $name<$($size),*> {
            fn describe(&self, $graph: &mut Graph, $input: usize) -> usize {
                $describe
            }
        }
    )*};
}

plain_layers! {
    /// Average pooling over 2 x 2 squares: `CHANNELS` x `SIDE` x `SIDE` to `CHANNELS` x `HALF` x
    /// `HALF`. `SIDE` must be twice `HALF`:
    ///
    /// ```compile_fail,E0080
    /// use dfdx::prelude::*;
    /// use evospike::ann::modules::AvgPool2;
    /// let dev = Cpu::default();
    /// let images: Tensor<Rank4<5, 1, 8, 8>, f32, _> = dev.ones();
    /// AvgPool2::<1, 8, 3>.forward(images);
    /// ```
    AvgPool2 [CHANNELS SIDE HALF]
        (Const<CHANNELS>, Const<SIDE>, Const<SIDE>) to (Const<CHANNELS>, Const<HALF>, Const<HALF>)
        if SIDE == 2 * HALF, "AvgPool2: SIDE must be twice HALF";
        |images| D::average_pool(images, SIDE, 2);
        |graph, input| graph.add("", Layer::average(2), [input]);

    /// Mean of every channel: `CHANNELS` x `SIDE` x `SIDE` to `CHANNELS` features.
    GlobalAvgPool [CHANNELS SIDE]
        (Const<CHANNELS>, Const<SIDE>, Const<SIDE>) to (Const<CHANNELS>)
        if SIDE > 0, "GlobalAvgPool: SIDE must not be 0";
        |images| D::average_pool(images, SIDE, SIDE);
        |graph, input| graph.add("", Layer::average(SIDE), [input]);

    /// Flattening of `CHANNELS` x `SIDE` x `SIDE` to `FEATURES`, row by row. `FEATURES` must be the
    /// product of the sizes:
    ///
    /// ```compile_fail,E0080
    /// use dfdx::prelude::*;
    /// use evospike::ann::modules::Flatten;
    /// let dev = Cpu::default();
    /// let images: Tensor<Rank4<5, 2, 4, 4>, f32, _> = dev.ones();
    /// Flatten::<2, 4, 16>.forward(images);
    /// ```
    Flatten [CHANNELS SIDE FEATURES]
        (Const<CHANNELS>, Const<SIDE>, Const<SIDE>) to (Const<FEATURES>)
        if FEATURES == CHANNELS * SIDE * SIDE, "Flatten: FEATURES is CHANNELS x SIDE x SIDE";
        |images| Ok::<_, D::Err>(images);
        // No layer: [`Layer::Linear`] flattens images itself.
        |_graph, input| input;
}

/// max(x, 0), like dfdx's `ReLU` but on all cores. Converted to a layer of neurons.
#[derive(Debug, Clone, Copy, Default)]
pub struct Relu;

impl ZeroSizedModule for Relu {}

impl NonMutableModule for Relu {}

impl<S: Shape, E: Dtype, D: Accelerated<E>, T: Tape<E, D>> Module<Tensor<S, E, D, T>> for Relu {
    type Output = Tensor<S, E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, input: Tensor<S, E, D, T>) -> Result<Self::Output, D::Err> {
        let shape = *input.shape();
        D::relu(flat(input)?)?.try_reshape_like(&shape)
    }
}

/// Quantisation clip-floor-shift (QCFS), the activation of Bu et al. (2022), "Optimal ANN-SNN
/// Conversion for High-accuracy and Ultra-low-latency Spiking Neural Networks", ICLR:
/// λ clip(floor(x L / λ + 1/2) / L, 0, 1), with L = `LEVELS` and one trained bound λ per layer.
///
/// Its levels are the outputs of neurons of threshold λ that start at λ / 2 and run for L
/// timesteps, so that a network trained with it keeps its accuracy at very few timesteps: convert
/// it with [`Balance::Learned`](crate::convert::Balance::Learned). Gradients pass straight through
/// floor, see [`Accelerated::qcfs`]. λ starts at `BOUND`, 8 as in the authors' code, and has weight
/// decay, as there. 8 suits normalised inputs: inputs below λ / 2L give 0, so that a network
/// without batch normalisation needs a smaller `BOUND`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Qcfs<const LEVELS: usize, const BOUND: usize = 8>;

/// [`Qcfs`] with its bound on a device.
#[derive(Debug, Clone)]
pub struct BuiltQcfs<const LEVELS: usize, const BOUND: usize, E: Dtype, D: Storage<E>> {
    /// λ, one value.
    pub bound: Tensor<Rank1<1>, E, D>,
}

impl<const LEVELS: usize, const BOUND: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E>
    for Qcfs<LEVELS, BOUND>
{
    type Built = BuiltQcfs<LEVELS, BOUND, E, D>;
}

impl<const LEVELS: usize, const BOUND: usize, E: Dtype, D: Device<E>> TensorCollection<E, D>
    for BuiltQcfs<LEVELS, BOUND, E, D>
{
    type To<E2: Dtype, D2: Device<E2>> = BuiltQcfs<LEVELS, BOUND, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            Self::tensor(
                "bound",
                |s| &s.bound,
                |s| &mut s.bound,
                TensorOptions::reset_with(|bound| {
                    bound.copy_from(&[E::from_usize(BOUND).unwrap_or(E::ONE)]);
                    Ok(())
                }),
            ),
            |bound| BuiltQcfs { bound },
        )
    }
}

impl<const LEVELS: usize, const BOUND: usize, E: Dtype, D: Storage<E>> NonMutableModule
    for BuiltQcfs<LEVELS, BOUND, E, D>
{
}

impl<const LEVELS: usize, const BOUND: usize, S: Shape, E: Dtype, D: Accelerated<E>, T: Tape<E, D>>
    Module<Tensor<S, E, D, T>> for BuiltQcfs<LEVELS, BOUND, E, D>
{
    type Output = Tensor<S, E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, input: Tensor<S, E, D, T>) -> Result<Self::Output, D::Err> {
        const { assert!(LEVELS > 0 && BOUND > 0, "Qcfs: LEVELS and BOUND must not be 0") };
        let shape = *input.shape();
        D::qcfs(flat(input)?, parameter(&self.bound)?, LEVELS)?.try_reshape_like(&shape)
    }
}

/// Batch normalisation of images (Ioffe and Szegedy 2015), `CHANNELS` x `SIDE` x `SIDE`: normalises
/// every channel to mean 0 and variance 1, multiplies by `weight` and adds `bias`.
///
/// ε is 1e-5 and the momentum of the running mean and the unbiased running variance is 0.1, as in
/// PyTorch; weights that were trained with another ε load by
/// [`Names::with_epsilon`](crate::ann::weights::Names::with_epsilon). [`ModuleMut`] with a tape trains; [`Module`] uses the running statistics, also with a
/// tape, since an attack on a trained network needs gradients.
///
/// Conversion folds it into the weights of the convolution or linear layer before it; average
/// pooling may stand between.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchNorm<const CHANNELS: usize, const SIDE: usize>;

/// Batch normalisation of `FEATURES` features, after a linear layer; see [`BatchNorm`].
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchNorm1d<const FEATURES: usize>;

/// [`BatchNorm`] or [`BatchNorm1d`] with its parameters on a device.
#[derive(Debug, Clone)]
pub struct BuiltBatchNorm<const CHANNELS: usize, E: Dtype, D: Storage<E>> {
    /// Scale, one per channel, initially 1.
    pub weight: Tensor<Rank1<CHANNELS>, E, D>,
    /// Shift, one per channel, initially 0.
    pub bias: Tensor<Rank1<CHANNELS>, E, D>,
    /// Running mean, one per channel, without gradient.
    pub running_mean: Tensor<Rank1<CHANNELS>, E, D>,
    /// Running unbiased variance, one per channel, without gradient.
    pub running_var: Tensor<Rank1<CHANNELS>, E, D>,
}

/// Momentum of the running statistics.
const MOMENTUM: f64 = 0.1;

impl<const CHANNELS: usize, const SIDE: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E>
    for BatchNorm<CHANNELS, SIDE>
{
    type Built = BuiltBatchNorm<CHANNELS, E, D>;
}

impl<const FEATURES: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E> for BatchNorm1d<FEATURES> {
    type Built = BuiltBatchNorm<FEATURES, E, D>;
}

impl<const CHANNELS: usize, E: Dtype, D: Device<E>> TensorCollection<E, D>
    for BuiltBatchNorm<CHANNELS, E, D>
{
    type To<E2: Dtype, D2: Device<E2>> = BuiltBatchNorm<CHANNELS, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            (
                Self::tensor(
                    "weight",
                    |s| &s.weight,
                    |s| &mut s.weight,
                    TensorOptions::reset_to_ones(),
                ),
                Self::tensor("bias", |s| &s.bias, |s| &mut s.bias, TensorOptions::reset_to_zeros()),
                Self::tensor(
                    "running_mean",
                    |s| &s.running_mean,
                    |s| &mut s.running_mean,
                    TensorOptions::detached(|t| t.try_fill_with_zeros()),
                ),
                Self::tensor(
                    "running_var",
                    |s| &s.running_var,
                    |s| &mut s.running_var,
                    TensorOptions::detached(|t| t.try_fill_with_ones()),
                ),
            ),
            |(weight, bias, running_mean, running_var)| BuiltBatchNorm {
                weight,
                bias,
                running_mean,
                running_var,
            },
        )
    }
}

impl<const CHANNELS: usize, E: Dtype, D: Accelerated<E>> BuiltBatchNorm<CHANNELS, E, D> {
    fn evaluate<T: Tape<E, D>>(&self, x: Flat<E, D, T>, positions: usize) -> Normed<E, D, T> {
        let statistics = [parameter(&self.running_mean)?, parameter(&self.running_var)?];
        let shape = NormShape { channels: CHANNELS, positions };
        let (weight, bias) = (parameter(&self.weight)?, parameter(&self.bias)?);
        D::normalise_by(x, weight, bias, statistics, shape)
    }

    fn train<T: Tape<E, D>>(&mut self, x: Flat<E, D, T>, positions: usize) -> Normed<E, D, T> {
        let shape = NormShape { channels: CHANNELS, positions };
        let n = (x.shape().0 / CHANNELS) as f64;
        let (weight, bias) = (parameter(&self.weight)?, parameter(&self.bias)?);
        let (y, mean, variance) = D::normalise(x, weight, bias, shape)?;
        let size = (Const::<CHANNELS>,);
        let (mean, variance) = (mean.try_reshape_like(&size)?, variance.try_reshape_like(&size)?);
        self.running_mean.try_axpy(1.0 - MOMENTUM, &mean, MOMENTUM)?;
        // A single value has no unbiased variance; its variance of 0 is used.
        let unbiased = n / (n - 1.0).max(1.0);
        self.running_var.try_axpy(1.0 - MOMENTUM, &variance, MOMENTUM * unbiased)?;
        Ok(y)
    }
}

type Normed<E, D, T> = Result<Flat<E, D, T>, <D as dfdx::prelude::HasErr>::Err>;

macro_rules! batch_norm {
    ([$($side:ident)*] $positions:expr; $($size:ty),*) => {
        impl<const CHANNELS: usize, $(const $side: usize,)* B: Dim, E: Dtype, D, T: Tape<E, D>>
            Module<Tensor<(B, $($size),*), E, D, T>> for BuiltBatchNorm<CHANNELS, E, D>
        where
            D: Accelerated<E>,
        {
            type Output = Tensor<(B, $($size),*), E, D, T>;
            type Error = D::Err;

            fn try_forward(
                &self,
                x: Tensor<(B, $($size),*), E, D, T>,
            ) -> Result<Self::Output, D::Err> {
                let size = *x.shape();
                self.evaluate(flat(x)?, $positions)?.try_reshape_like(&size)
            }
        }
        impl<const CHANNELS: usize, $(const $side: usize,)* B: Dim, E: Dtype, D>
            ModuleMut<Tensor<(B, $($size),*), E, D, OwnedTape<E, D>>>
            for BuiltBatchNorm<CHANNELS, E, D>
        where
            D: Accelerated<E>,
        {
            type Output = Tensor<(B, $($size),*), E, D, OwnedTape<E, D>>;
            type Error = D::Err;

            fn try_forward_mut(
                &mut self,
                x: Tensor<(B, $($size),*), E, D, OwnedTape<E, D>>,
            ) -> Result<Self::Output, D::Err> {
                let size = *x.shape();
                self.train(flat(x)?, $positions)?.try_reshape_like(&size)
            }
        }
    };
}

batch_norm!([] 1; Const<CHANNELS>);

batch_norm!([SIDE] SIDE * SIDE; Const<CHANNELS>, Const<SIDE>, Const<SIDE>);

/// Residual addition (He et al. 2016): `body(x) + shortcut(x)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResidualAdd<Body, Shortcut = Identity> {
    /// Layers of the main branch.
    pub body: Body,
    /// [`Identity`], or a convolution if the size changes.
    pub shortcut: Shortcut,
}

/// Identity: the output is the input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity;

impl ZeroSizedModule for Identity {}

impl NonMutableModule for Identity {}

impl<X> Module<X> for Identity
where
    X: dfdx::prelude::HasErr,
{
    type Output = X;
    type Error = X::Err;

    fn try_forward(&self, x: X) -> Result<X, X::Err> {
        Ok(x)
    }
}

impl<E: Dtype, D: Device<E>, F: BuildOnDevice<D, E>, R: BuildOnDevice<D, E>> BuildOnDevice<D, E>
    for ResidualAdd<F, R>
{
    type Built = ResidualAdd<F::Built, R::Built>;
}

impl<E: Dtype, D: Device<E>, F: TensorCollection<E, D>, R: TensorCollection<E, D>>
    TensorCollection<E, D> for ResidualAdd<F, R>
{
    type To<E2: Dtype, D2: Device<E2>> = ResidualAdd<F::To<E2, D2>, R::To<E2, D2>>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            (
                Self::module("body", |s| &s.body, |s| &mut s.body),
                Self::module("shortcut", |s| &s.shortcut, |s| &mut s.shortcut),
            ),
            |(body, shortcut)| ResidualAdd { body, shortcut },
        )
    }
}

macro_rules! residual {
    ($($module:ident $forward:ident $($mut:ident)?;)*) => {$(
        impl<X, S: Shape, E: Dtype, D: Accelerated<E>, T: Tape<E, D>, F, R> $module<X>
            for ResidualAdd<F, R>
        where
            X: WithEmptyTape,
            F: $module<X, Output = Tensor<S, E, D, T>, Error = D::Err>,
            R: $module<X, Output = Tensor<S, E, D, T>, Error = D::Err>,
        {
            type Output = Tensor<S, E, D, T>;
            type Error = D::Err;

            fn $forward(&$($mut)? self, x: X) -> Result<Self::Output, D::Err> {
                let body = self.body.$forward(x.with_empty_tape())?;
                let shortcut = self.shortcut.$forward(x)?;
                let shape = *body.shape();
                D::sum(flat(body)?, flat(shortcut)?)?.try_reshape_like(&shape)
            }
        }
    )*};
}

residual! {
    Module try_forward;
    ModuleMut try_forward_mut mut;
}

impl<const CHANNELS: usize, const SIDE: usize> Follows<Rank3<CHANNELS, SIDE, SIDE>>
    for BatchNorm<CHANNELS, SIDE>
{
    type Out = Rank3<CHANNELS, SIDE, SIDE>;
}

impl<const FEATURES: usize> Follows<Rank1<FEATURES>> for BatchNorm1d<FEATURES> {
    type Out = Rank1<FEATURES>;
}

keeps_shape! { Relu; Qcfs<LEVELS, BOUND>, LEVELS BOUND; Identity; }

impl<In, L: Follows<In>> Follows<In> for Binary<L> {
    type Out = L::Out;
}

impl<In, F: Follows<In>, R: Follows<In, Out = F::Out>> Follows<In> for ResidualAdd<F, R> {
    type Out = F::Out;
}

impl<L: Describe> Describe for Binary<L> {
    /// Adds the layer with its binary weights.
    fn describe(&self, graph: &mut Graph, input: usize) -> usize {
        let before = graph.nodes.len();
        let output = self.latent.describe(graph, input);
        for node in &mut graph.nodes[before..] {
            if let Layer::Conv { weight, outputs, .. } | Layer::Linear { weight, outputs, .. } =
                &mut node.layer
            {
                let latent = weight.clone();
                binarise(*outputs, &latent, weight);
            }
        }
        output
    }
}

impl<const CHANNELS: usize, D: Device<f32>> Describe for BuiltBatchNorm<CHANNELS, f32, D> {
    fn describe(&self, graph: &mut Graph, input: usize) -> usize {
        let epsilon = EPSILON as f32;
        let deviations = self.running_var.as_vec().into_iter();
        let scale: Vec<f32> = (self.weight.as_vec().into_iter())
            .zip(deviations.map(|variance| (variance + epsilon).sqrt()))
            .map(|(weight, deviation)| weight / deviation)
            .collect();
        let shift = (self.bias.as_vec().into_iter())
            .zip(self.running_mean.as_vec().into_iter().zip(&scale))
            .map(|(bias, (mean, scale))| bias - mean * scale)
            .collect();
        graph.add("", Layer::ScaleShift { scale, shift }, [input])
    }
}

impl Describe for Relu {
    fn describe(&self, graph: &mut Graph, input: usize) -> usize {
        graph.add("", Layer::Neurons, [input])
    }
}

impl<const LEVELS: usize, const BOUND: usize, D: Device<f32>> Describe
    for BuiltQcfs<LEVELS, BOUND, f32, D>
{
    fn describe(&self, graph: &mut Graph, input: usize) -> usize {
        let layer = Layer::Qcfs { bound: self.bound.as_vec()[0], levels: LEVELS };
        graph.add("", layer, [input])
    }
}

impl Describe for Identity {
    fn describe(&self, _: &mut Graph, input: usize) -> usize {
        input
    }
}

impl<F: Describe, R: Describe> Describe for ResidualAdd<F, R> {
    fn describe(&self, graph: &mut Graph, input: usize) -> usize {
        let branches = [self.body.describe(graph, input), self.shortcut.describe(graph, input)];
        graph.add("", Layer::Sum, branches)
    }
}

#[cfg(test)]
mod tests;
