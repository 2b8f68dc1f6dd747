//! Typed layers as dfdx modules, every size a const generic, on stable Rust.
//!
//! dfdx has convolution and pooling on nightly only. These modules bring them to stable: an
//! ordinary dfdx tuple of them is a network, and a size that does not follow on does not compile.
//!
//! ```
//! use dfdx::prelude::*;
//! use evospike::modules::{AvgPool2, Conv3x3, Flatten};
//!
//! type Net = (
//!     (Conv3x3<1, 4, 8>, AvgPool2<4, 8, 4>, ReLU),
//!     (Flatten<4, 4, 64>, UnbiasedLinear<64, 10>),
//! );
//! let dev = Cpu::seed_from_u64(0);
//! let net = dev.build_module::<Net, f32>();
//! let images: Tensor<Rank4<5, 1, 8, 8>, f32, _> = dev.ones();
//! let logits: Tensor<Rank2<5, 10>, f32, _> = net.forward(images);
//! ```
//!
//! Four channels do not go into a layer that takes eight:
//!
//! ```compile_fail,E0277
//! # use dfdx::prelude::*;
//! # use evospike::modules::{AvgPool2, Conv3x3, Flatten};
//! type Net = (Conv3x3<1, 4, 8>, ReLU, Conv3x3<8, 4, 8>);
//! # let dev = Cpu::seed_from_u64(0);
//! # let net = dev.build_module::<Net, f32>();
//! # let images: Tensor<Rank4<5, 1, 8, 8>, f32, _> = dev.ones();
//! # let features = net.forward(images);
//! ```

use dfdx::dtypes::Dtype;
use dfdx::nn::modules as built;
use dfdx::nn::{
    BuildModule, BuildOnDevice, ModuleVisitor, NonMutableModule, TensorCollection, TensorOptions,
    ZeroSizedModule,
};
use dfdx::prelude::{
    Axes2, Axes3, Axis, Const, Device, Dim, GatherTo, HasShape, MeanTo, Module, PermuteTo, Rank1,
    Rank3, Rank4, ReLU, ReshapeTo, Storage, Tape, Tensor, TryConcatAlong, TryMatMul,
    UnbiasedLinear,
};
use num_traits::Float;
use rand_distr::Uniform;
use rand_distr::uniform::SampleUniform;

use crate::layers::Layer;

/// Images of `C` channels in a batch of `B`.
type Batch<B, const C: usize, const SIDE: usize, E, D, T> =
    Tensor<(B, Const<C>, Const<SIDE>, Const<SIDE>), E, D, T>;

/// 3 x 3 cross-correlation with same padding and no bias: `IN` x `SIDE` x `SIDE` to `OUT` x
/// `SIDE` x `SIDE`. First weights are uniform with the variance 2 / fan-in of He et al. (2015).
#[derive(Debug, Clone, Copy, Default)]
pub struct Conv3x3<const IN: usize, const OUT: usize, const SIDE: usize>;

/// [`Conv3x3`] with its weights on a device.
#[derive(Debug, Clone)]
pub struct BuiltConv3x3<
    const IN: usize,
    const OUT: usize,
    const SIDE: usize,
    E: Dtype,
    D: Storage<E>,
> {
    /// Kernels: output channel, input channel, row, column.
    pub weight: Tensor<Rank4<OUT, IN, 3, 3>, E, D>,
}

impl<const IN: usize, const OUT: usize, const SIDE: usize, E: Dtype, D: Device<E>>
    BuildOnDevice<D, E> for Conv3x3<IN, OUT, SIDE>
where
    BuiltConv3x3<IN, OUT, SIDE, E, D>: BuildModule<D, E>,
{
    type Built = BuiltConv3x3<IN, OUT, SIDE, E, D>;
}

impl<const IN: usize, const OUT: usize, const SIDE: usize, E: Dtype, D: Storage<E>> NonMutableModule
    for BuiltConv3x3<IN, OUT, SIDE, E, D>
{
}

impl<const IN: usize, const OUT: usize, const SIDE: usize, E, D: Device<E>> TensorCollection<E, D>
    for BuiltConv3x3<IN, OUT, SIDE, E, D>
where
    E: Dtype + Float + SampleUniform,
{
    type To<E2: Dtype, D2: Device<E2>> = BuiltConv3x3<IN, OUT, SIDE, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            Self::tensor(
                "weight",
                |s| &s.weight,
                |s| &mut s.weight,
                TensorOptions::reset_with(|weight| {
                    let limit = E::from_f64((6.0 / (9 * IN) as f64).sqrt()).unwrap_or(E::ONE);
                    weight.try_fill_with_distr(Uniform::new(-limit, limit))
                }),
            ),
            |weight| BuiltConv3x3 { weight },
        )
    }
}

/// For every kernel place and output position, which pixel it reads; `pixels` stands for the
/// zeros of the padding. In the order input channel, kernel row, kernel column, row, column.
fn patches(channels: usize, side: usize) -> Vec<usize> {
    let mut indices = Vec::with_capacity(channels * 9 * side * side);
    for channel in 0..channels {
        for (kernel_row, kernel_column) in (0..3).flat_map(|r| (0..3).map(move |c| (r, c))) {
            for (row, column) in (0..side).flat_map(|r| (0..side).map(move |c| (r, c))) {
                // With one zero before the image: 0 is padding, 1..=side the image.
                let (row, column) = (row + kernel_row, column + kernel_column);
                let inside = (1..=side).contains(&row) && (1..=side).contains(&column);
                indices.push(if inside {
                    (channel * side + row - 1) * side + column - 1
                } else {
                    channels * side * side
                });
            }
        }
    }
    indices
}

impl<const IN: usize, const OUT: usize, const SIDE: usize, B: Dim, E, D, T>
    Module<Batch<B, IN, SIDE, E, D, T>> for BuiltConv3x3<IN, OUT, SIDE, E, D>
where
    E: Dtype,
    D: Device<E>,
    T: Tape<E, D>,
{
    type Output = Batch<B, OUT, SIDE, E, D, T>;
    type Error = D::Err;

    /// Gathers the patches into columns and multiplies by the kernels, on any device.
    fn try_forward(&self, images: Batch<B, IN, SIDE, E, D, T>) -> Result<Self::Output, D::Err> {
        let device = self.weight.device().clone();
        let (batch, positions) = (images.shape().0, SIDE * SIDE);
        let count = batch.size();
        let pixels = images
            .try_reshape_like(&(count, IN * positions))?
            .try_permute::<(usize, usize), Axes2<1, 0>>()?;
        let zeros: Tensor<(usize, usize), E, D> = device.try_zeros_like(&(1, count))?;
        let indices = patches(IN, SIDE);
        let indices: Tensor<(usize,), usize, D> =
            device.try_tensor_from_vec(indices.clone(), (indices.len(),))?;
        let columns: Tensor<(usize, usize), E, D, T> = (pixels, zeros)
            .try_concat_along(Axis::<0>)?
            .try_gather(indices)?;
        self.weight
            .retaped::<T>()
            .try_reshape_like(&(OUT, IN * 9))?
            .try_matmul(columns.try_reshape_like(&(IN * 9, positions * count))?)?
            .try_reshape_like(&(OUT, positions, count))?
            .try_permute::<(usize, usize, usize), Axes3<2, 0, 1>>()?
            .try_reshape_like(&(batch, Const, Const, Const))
    }
}

/// Average pooling over 2 x 2 squares: `CHANNELS` x `SIDE` x `SIDE` to `CHANNELS` x `HALF` x
/// `HALF`. `SIDE` must be twice `HALF`:
///
/// ```compile_fail,E0080
/// use dfdx::prelude::*;
/// use evospike::modules::AvgPool2;
/// let dev = Cpu::default();
/// let images: Tensor<Rank4<5, 1, 8, 8>, f32, _> = dev.ones();
/// AvgPool2::<1, 8, 3>.forward(images);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct AvgPool2<const CHANNELS: usize, const SIDE: usize, const HALF: usize>;

impl<const CHANNELS: usize, const SIDE: usize, const HALF: usize> ZeroSizedModule
    for AvgPool2<CHANNELS, SIDE, HALF>
{
}
impl<const CHANNELS: usize, const SIDE: usize, const HALF: usize> NonMutableModule
    for AvgPool2<CHANNELS, SIDE, HALF>
{
}

impl<const CHANNELS: usize, const SIDE: usize, const HALF: usize, B: Dim, E, D, T>
    Module<Batch<B, CHANNELS, SIDE, E, D, T>> for AvgPool2<CHANNELS, SIDE, HALF>
where
    E: Dtype,
    D: Device<E>,
    T: Tape<E, D>,
{
    type Output = Batch<B, CHANNELS, HALF, E, D, T>;
    type Error = D::Err;

    fn try_forward(
        &self,
        images: Batch<B, CHANNELS, SIDE, E, D, T>,
    ) -> Result<Self::Output, D::Err> {
        const { assert!(SIDE == 2 * HALF, "AvgPool2: SIDE must be twice HALF") };
        let batch = images.shape().0;
        let pairs_of_rows = batch.size() * CHANNELS * HALF;
        images
            .try_reshape_like(&(pairs_of_rows, Const::<2>, Const::<HALF>, Const::<2>))?
            .try_mean::<(usize, Const<HALF>), Axes2<1, 3>>()?
            .try_reshape_like(&(batch, Const, Const, Const))
    }
}

/// `CHANNELS` x `SIDE` x `SIDE` as one vector of `FEATURES`, in that order. `FEATURES` must be
/// their product.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flatten<const CHANNELS: usize, const SIDE: usize, const FEATURES: usize>;

impl<const CHANNELS: usize, const SIDE: usize, const FEATURES: usize> ZeroSizedModule
    for Flatten<CHANNELS, SIDE, FEATURES>
{
}
impl<const CHANNELS: usize, const SIDE: usize, const FEATURES: usize> NonMutableModule
    for Flatten<CHANNELS, SIDE, FEATURES>
{
}

impl<const CHANNELS: usize, const SIDE: usize, const FEATURES: usize, B: Dim, E, D, T>
    Module<Batch<B, CHANNELS, SIDE, E, D, T>> for Flatten<CHANNELS, SIDE, FEATURES>
where
    E: Dtype,
    D: Device<E>,
    T: Tape<E, D>,
{
    type Output = Tensor<(B, Const<FEATURES>), E, D, T>;
    type Error = D::Err;

    fn try_forward(
        &self,
        images: Batch<B, CHANNELS, SIDE, E, D, T>,
    ) -> Result<Self::Output, D::Err> {
        const {
            assert!(
                FEATURES == CHANNELS * SIDE * SIDE,
                "Flatten: FEATURES is CHANNELS x SIDE x SIDE"
            )
        };
        let batch = images.shape().0;
        images.try_reshape_like(&(batch, Const))
    }
}

/// A layer, or a tuple of layers, that takes an input of shape `In` and can be converted to
/// spiking neurons: the spiking constraints and the sizes, checked when the network is defined.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take what the layer before it gives, {In}, or does not convert to spiking neurons",
    label = "this layer does not fit here",
    note = "sizes follow on: Conv3x3<IN, OUT, SIDE> gives (Const<OUT>, Const<SIDE>, Const<SIDE>), AvgPool2<CHANNELS, SIDE, HALF> halves SIDE, Flatten gives (Const<FEATURES>,)",
    note = "layers that convert: Conv3x3, AvgPool2, Flatten, UnbiasedLinear, ReLU and tuples of them"
)]
pub trait Follows<In> {
    /// Shape of one output, without the batch.
    type Out;
}

impl<const IN: usize, const OUT: usize, const SIDE: usize> Follows<Rank3<IN, SIDE, SIDE>>
    for Conv3x3<IN, OUT, SIDE>
{
    type Out = Rank3<OUT, SIDE, SIDE>;
}
impl<const CHANNELS: usize, const SIDE: usize, const HALF: usize>
    Follows<Rank3<CHANNELS, SIDE, SIDE>> for AvgPool2<CHANNELS, SIDE, HALF>
{
    type Out = Rank3<CHANNELS, HALF, HALF>;
}
impl<const CHANNELS: usize, const SIDE: usize, const FEATURES: usize>
    Follows<Rank3<CHANNELS, SIDE, SIDE>> for Flatten<CHANNELS, SIDE, FEATURES>
{
    type Out = Rank1<FEATURES>;
}
impl<const IN: usize, const OUT: usize> Follows<Rank1<IN>> for UnbiasedLinear<IN, OUT> {
    type Out = Rank1<OUT>;
}
impl<In> Follows<In> for ReLU {
    type Out = In;
}

/// A built module that tells which plain layers it is.
pub trait Describe {
    /// Appends the module's layers, weights included.
    fn describe(&self, layers: &mut Vec<Layer>);
}

impl<const IN: usize, const OUT: usize, const SIDE: usize, D: Device<f32>> Describe
    for BuiltConv3x3<IN, OUT, SIDE, f32, D>
{
    fn describe(&self, layers: &mut Vec<Layer>) {
        layers.push(Layer::Conv {
            weight: self.weight.as_vec(),
            inputs: IN,
            outputs: OUT,
            kernel: 3,
            stride: 1,
            padding: 1,
        });
    }
}
impl<const CHANNELS: usize, const SIDE: usize, const HALF: usize> Describe
    for AvgPool2<CHANNELS, SIDE, HALF>
{
    fn describe(&self, layers: &mut Vec<Layer>) {
        layers.push(Layer::AvgPool { size: 2 });
    }
}
impl<const CHANNELS: usize, const SIDE: usize, const FEATURES: usize> Describe
    for Flatten<CHANNELS, SIDE, FEATURES>
{
    /// Nothing: [`Layer::Linear`] takes images as they are.
    fn describe(&self, _: &mut Vec<Layer>) {}
}
impl<const IN: usize, const OUT: usize, D: Device<f32>> Describe
    for built::UnbiasedLinear<IN, OUT, f32, D>
{
    fn describe(&self, layers: &mut Vec<Layer>) {
        layers.push(Layer::Linear {
            weight: self.weight.as_vec(),
            inputs: IN,
            outputs: OUT,
        });
    }
}
impl Describe for ReLU {
    fn describe(&self, layers: &mut Vec<Layer>) {
        layers.push(Layer::Neurons);
    }
}

macro_rules! tuples {
    ($($first:ident $($name:ident $before:ident)*;)*) => {$(
        impl<In, $first: Follows<In>, $($name: Follows<$before::Out>),*> Follows<In>
            for ($first, $($name,)*)
        {
            type Out = tuples!(@last $first $($name)*);
        }
        impl<$first: Describe, $($name: Describe),*> Describe for ($first, $($name,)*) {
            #[allow(non_snake_case)]
            fn describe(&self, layers: &mut Vec<Layer>) {
                let ($first, $($name,)*) = self;
                $first.describe(layers);
                $($name.describe(layers);)*
            }
        }
    )*};
    (@last $only:ident) => { $only::Out };
    (@last $head:ident $($tail:ident)+) => { tuples!(@last $($tail)+) };
}

// As many as dfdx has: longer networks nest tuples.
tuples! {
    A;
    A B A;
    A B A C B;
    A B A C B F C;
    A B A C B F C G F;
    A B A C B F C G F H G;
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    /// The definition, term by term.
    fn conv(weight: &[f64], image: &[f64], channels: [usize; 2], side: usize) -> Vec<f64> {
        let mut out = vec![0.0; channels[1] * side * side];
        let at = |c: usize, row: isize, column: isize| {
            let inside = |x| (0..side as isize).contains(&x);
            if inside(row) && inside(column) {
                image[(c * side + row as usize) * side + column as usize]
            } else {
                0.0
            }
        };
        for (i, out) in out.iter_mut().enumerate() {
            let (o, row, column) = (i / side / side, i / side % side, i % side);
            for c in 0..channels[0] {
                for k in 0..9 {
                    let (r, s) = (row + k / 3, column + k % 3);
                    *out += weight[(o * channels[0] + c) * 9 + k]
                        * at(c, r as isize - 1, s as isize - 1);
                }
            }
        }
        out
    }

    #[test]
    fn convolution_is_the_definition() {
        let dev = Cpu::seed_from_u64(1);
        let net = dev.build_module::<super::Conv3x3<3, 4, 5>, f64>();
        let images: Tensor<Rank4<2, 3, 5, 5>, f64, _> = dev.sample_normal();
        let out = net.forward(images.clone()).as_vec();
        let (weight, images) = (net.weight.as_vec(), images.as_vec());
        for (image, out) in images.chunks(75).zip(out.chunks(100)) {
            for (a, b) in conv(&weight, image, [3, 4], 5).iter().zip(out) {
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
        }
    }

    #[test]
    fn pooling_is_the_mean_of_squares() {
        let dev = Cpu::default();
        let image: Tensor<Rank4<1, 1, 4, 4>, f32, _> =
            dev.tensor_from_vec((0..16).map(|x| x as f32).collect(), Default::default());
        let out = super::AvgPool2::<1, 4, 2>.forward(image);
        assert_eq!(out.as_vec(), [2.5, 4.5, 10.5, 12.5]);
    }

    /// Analytic gradients of a loss through convolution, pooling and ReLU against central
    /// differences in f64.
    #[test]
    fn gradients_agree_with_finite_differences() {
        type Net = (
            super::Conv3x3<2, 3, 4>,
            super::AvgPool2<3, 4, 2>,
            ReLU,
            super::Flatten<3, 2, 12>,
        );
        let dev = Cpu::seed_from_u64(2);
        let net = dev.build_module::<Net, f64>();
        let images: Tensor<Rank4<2, 2, 4, 4>, f64, _> = dev.sample_normal();
        let mix: Tensor<Rank2<2, 12>, f64, _> = dev.sample_normal();
        let tape = Gradients::leaky();
        let loss = net.forward(images.trace(tape)) * mix.clone();
        let gradients = loss.square().sum::<Rank0, _>().backward();

        let loss_at = |net: &<Net as BuildOnDevice<Cpu, f64>>::Built,
                       images: &Tensor<_, f64, _>| {
            (net.forward(images.clone()) * mix.clone())
                .square()
                .sum::<Rank0, _>()
                .array()
        };
        let step = 1e-5;
        let check = |analytic: Vec<f64>, numeric: &mut dyn FnMut(usize, f64) -> f64| {
            assert!(analytic.iter().any(|g| g.abs() > 0.1));
            for (i, a) in analytic.iter().enumerate() {
                let n = (numeric(i, step) - numeric(i, -step)) / (2.0 * step);
                assert!((a - n).abs() < 1e-6 * (1.0 + a.abs()), "{i}: {a} {n}");
            }
        };
        check(gradients.get(&images).as_vec(), &mut |i, by| {
            let mut values = images.as_vec();
            values[i] += by;
            loss_at(&net, &dev.tensor_from_vec(values, Default::default()))
        });
        check(gradients.get(&net.0.weight).as_vec(), &mut |i, by| {
            let mut net = net.clone();
            let mut values = net.0.weight.as_vec();
            values[i] += by;
            net.0.weight.copy_from(&values);
            loss_at(&net, &images)
        });
    }
}
