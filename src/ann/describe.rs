//! Shapes that a typed layer takes and gives, and the plain layers that a built one is.

use super::graph::Graph;
use super::layers::{CHANNELS_FIRST, Layer};
use dfdx::nn::modules as built;
use dfdx::prelude::{Bias2D, Device, DropoutOneIn, Linear, Rank1, Rank3, ReLU, UnbiasedLinear};

/// Layer or tuple of layers that takes an input of shape `In` and can be converted to spiking
/// neurons. Checks sizes and convertibility at compile time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take what the layer before it gives, {In}, or does not convert to spiking neurons",
    label = "this layer does not fit here",
    note = "sizes follow on: Conv3x3<IN, OUT, SIDE> gives (Const<OUT>, Const<SIDE>, Const<SIDE>), AvgPool2<CHANNELS, SIDE, HALF> halves SIDE, Flatten gives (Const<FEATURES>,)",
    note = "layers that convert: Conv3x3, Conv3x3Stride2, Conv1x1Stride2, AvgPool2, GlobalAvgPool, Bias2D, Flatten, UnbiasedLinear, Linear, Binary, BatchNorm, BatchNorm1d, Relu, ReLU, Qcfs, DropoutOneIn, ResidualAdd, Identity and tuples of them"
)]
pub trait Follows<In> {
    /// Shape of the output, without the batch dimension.
    type Out;
}

impl<const IN: usize, const OUT: usize> Follows<Rank1<IN>> for UnbiasedLinear<IN, OUT> {
    type Out = Rank1<OUT>;
}

impl<const IN: usize, const OUT: usize> Follows<Rank1<IN>> for Linear<IN, OUT> {
    type Out = Rank1<OUT>;
}

impl<const C: usize, const H: usize, const W: usize> Follows<Rank3<C, H, W>> for Bias2D<C> {
    type Out = Rank3<C, H, W>;
}

/// Implements [`Follows`] for layers whose output has the shape of their input.
macro_rules! keeps_shape {
    ($($layer:ty $(, $($size:ident)*)?;)*) => {$(
        impl<In $($(, const $size: usize)*)?> Follows<In> for $layer {
            type Out = In;
        }
    )*};
}
pub(super) use keeps_shape;

keeps_shape! { ReLU; DropoutOneIn<N>, N; }

/// Built module that can be reduced to plain layers.
pub trait Describe {
    /// Adds the module's layers, weights included, behind a value of the graph. Returns the number of
    /// their output.
    fn describe(&self, graph: &mut Graph, input: usize) -> usize;
}

macro_rules! linear {
    ($($layer:ident: |$linear:ident| $bias:expr;)*) => {$(
        impl<const IN: usize, const OUT: usize, D: Device<f32>> Describe
            for built::$layer<IN, OUT, f32, D>
        {
            fn describe(&self, graph: &mut Graph, input: usize) -> usize {
                let $linear = self;
                let layer = Layer::Linear {
                    weight: self.weight.as_vec(),
                    bias: $bias,
                    inputs: IN,
                    outputs: OUT,
                    order: CHANNELS_FIRST,
                };
                graph.add("", layer, [input])
            }
        }
    )*};
}

linear! {
    UnbiasedLinear: |_linear| None;
    Linear: |linear| Some(linear.bias.as_vec());
}

impl<const CHANNELS: usize, D: Device<f32>> Describe for built::Bias2D<CHANNELS, f32, D> {
    fn describe(&self, graph: &mut Graph, input: usize) -> usize {
        let (scale, shift) = (vec![1.0; CHANNELS], self.bias.as_vec());
        graph.add("", Layer::ScaleShift { scale, shift }, [input])
    }
}

impl Describe for ReLU {
    fn describe(&self, graph: &mut Graph, input: usize) -> usize {
        graph.add("", Layer::Neurons, [input])
    }
}

impl<const N: usize> Describe for DropoutOneIn<N> {
    /// Adds nothing: dropout only acts in training.
    fn describe(&self, _: &mut Graph, input: usize) -> usize {
        input
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
            fn describe(&self, graph: &mut Graph, input: usize) -> usize {
                let ($first, $($name,)*) = self;
                let output = $first.describe(graph, input);
                $(let output = $name.describe(graph, output);)*
                output
            }
        }
    )*};
    (@last $only:ident) => { $only::Out };
    (@last $head:ident $($tail:ident)+) => { tuples!(@last $($tail)+) };
}

// The lengths of tuples that dfdx supports; longer networks nest tuples.
tuples! {
    A;
    A B A;
    A B A C B;
    A B A C B F C;
    A B A C B F C G F;
    A B A C B F C G F H G;
}
