//! Named networks of typed layers.

use dfdx::prelude::Cpu;

use super::graph::Graph;
use super::modules::{
    AvgPool2, BatchNorm, BatchNorm1d, Binary, Conv3x3, Flatten, Qcfs, ReLU, Relu, UnbiasedLinear,
};
use super::trainable::Built;
use crate::base::Result;
use crate::data::{Digits, Fashion, Mnist, Task};
use crate::ops::Backend;

/// Network of a classification task, whether its layers are typed or known at run time: what
/// conversions, spiking networks and evolutions are of.
pub trait Classifier: 'static {
    /// Classification task of the network.
    type Task: Task;
    /// Name of the network, for tables and errors.
    const NAME: &'static str;
    /// Layers that every network of this type has, with some weights; none where they differ.
    ///
    /// # Errors
    /// Returns [`Error::Device`](crate::Error::Device) if memory runs out.
    fn layers() -> Result<Option<Graph>> {
        Ok(None)
    }
}

/// Named network, defined by [`network!`](crate::network). Its layers are behind the trait
/// [`Trainable`](crate::ann::Trainable), so that code that uses a network compiles quickly.
pub trait Network: Classifier {
    /// Builds the network on the CPU, with initial weights that depend on `seed`.
    ///
    /// # Errors
    /// Returns [`Error::Device`](crate::Error::Device) if memory runs out.
    fn build(seed: u64) -> Result<Built>;
    /// Builds the network on the first NVIDIA GPU.
    ///
    /// # Errors
    /// Returns [`Error::Device`](crate::Error::Device) if there is no GPU or memory runs out.
    #[cfg(feature = "cuda")]
    fn build_on_card(seed: u64) -> Result<Built>;
}

/// Device for named networks: dfdx's `Cpu` or `Cuda`.
pub trait NetworkDevice: Backend {
    /// Builds a network on the device, with initial weights that depend on `seed`.
    ///
    /// # Errors
    /// Returns [`Error::Device`](crate::Error::Device) if there is no such device or memory runs
    /// out.
    fn build<N: Network>(seed: u64) -> Result<Built>;
}

impl NetworkDevice for Cpu {
    fn build<N: Network>(seed: u64) -> Result<Built> {
        N::build(seed)
    }
}

#[cfg(feature = "cuda")]
impl NetworkDevice for dfdx::prelude::Cuda {
    fn build<N: Network>(seed: u64) -> Result<Built> {
        N::build_on_card(seed)
    }
}

/// Defines a named network from typed layers.
///
/// ```
/// use evospike::prelude::*;
///
/// network! {
///     /// One hidden layer of neurons.
///     pub Small for Digits = (
///         (Conv3x3<1, 8, 8>, AvgPool2<8, 8, 4>, Relu),
///         (Flatten<8, 4, 128>, UnbiasedLinear<128, 10>),
///     );
/// }
/// let ann = Ann::<Small>::new(0)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// In a notebook, put it in a module: a cell keeps its own items but not those of a macro. Running
/// the cell again replaces the network:
///
/// ```
/// # use evospike::prelude::*;
/// mod own {
///     use super::*;
///     network! {
///         pub Small for Digits = (Flatten<1, 8, 64>, UnbiasedLinear<64, 10>);
///     }
/// }
/// use own::Small;
/// # fn main() {}
/// ```
///
/// A layer that does not fit the layer before it, or that cannot be converted to spiking neurons,
/// does not compile:
///
/// ```compile_fail,E0277
/// # use evospike::prelude::*;
/// network! {
///     pub Wrong for Digits = (
///         (Conv3x3<1, 8, 8>, AvgPool2<8, 8, 4>, Relu),
///         (Flatten<8, 4, 128>, UnbiasedLinear<64, 10>), // takes 64 features but gets 128
///     );
/// }
/// ```
#[macro_export]
macro_rules! network {
    ($(#[$doc:meta])* $vis:vis $name:ident for $task:ty = $layers:ty;) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        $vis enum $name {}

        impl $crate::ann::networks::Classifier for $name {
            type Task = $task;
            const NAME: &'static str = stringify!($name);
            fn layers() -> $crate::Result<Option<$crate::ann::graph::Graph>> {
                <Self as $crate::ann::networks::Network>::build(0)?.graph().map(Some)
            }
        }

        impl $crate::ann::networks::Network for $name {
            fn build(seed: u64) -> $crate::Result<$crate::ann::Built> {
                $crate::ann::build::<$layers, _, _, _>(::std::marker::PhantomData::<$task>, seed)
            }
            $crate::build_on_card! { $layers, $task }
        }
    };
}

/// Part of [`network!`](crate::network) for GPUs. It depends on the features of this crate, not on
/// those of the crate that calls the macro.
#[cfg(feature = "cuda")]
#[doc(hidden)]
#[macro_export]
macro_rules! build_on_card {
    ($layers:ty, $task:ty) => {
        fn build_on_card(seed: u64) -> $crate::Result<$crate::ann::Built> {
            $crate::ann::build_on_card::<$layers, _, _, _>(
                ::std::marker::PhantomData::<$task>,
                seed,
            )
        }
    };
}

/// Part of [`network!`](crate::network) without GPUs: nothing.
#[cfg(not(feature = "cuda"))]
#[doc(hidden)]
#[macro_export]
macro_rules! build_on_card {
    ($layers:ty, $task:ty) => {};
}

network! {
    /// Network for 8 x 8 digits, built like those of the paper: six layers of neurons, average
    /// pooling before ReLU, no bias.
    pub DigitsCnn for Digits = (
        (Conv3x3<1, 16, 8>, ReLU, Conv3x3<16, 16, 8>, AvgPool2<16, 8, 4>, ReLU),
        (Conv3x3<16, 32, 4>, ReLU, Conv3x3<32, 32, 4>, AvgPool2<32, 4, 2>, ReLU),
        (Conv3x3<32, 32, 2>, ReLU),
        (Flatten<32, 2, 128>, UnbiasedLinear<128, 64>, ReLU),
        UnbiasedLinear<64, 10>,
    );
}

network! {
    /// [`DigitsCnn`] with [`Qcfs`] instead of ReLU, for very few timesteps.
    /// Its bounds start at 2, since currents are small without batch normalisation.
    pub DigitsQcfs for Digits = (
        (Conv3x3<1, 16, 8>, Qcfs<4, 2>, Conv3x3<16, 16, 8>, AvgPool2<16, 8, 4>, Qcfs<4, 2>),
        (Conv3x3<16, 32, 4>, Qcfs<4, 2>, Conv3x3<32, 32, 4>, AvgPool2<32, 4, 2>, Qcfs<4, 2>),
        (Conv3x3<32, 32, 2>, Qcfs<4, 2>),
        (Flatten<32, 2, 128>, UnbiasedLinear<128, 64>, Qcfs<4, 2>),
        UnbiasedLinear<64, 10>,
    );
}

network! {
    /// [`DigitsCnn`] with [`Binary`] weights except in the first and last
    /// layer.
    pub DigitsBinary for Digits = (
        (Conv3x3<1, 16, 8>, Relu, Binary<Conv3x3<16, 16, 8>>, AvgPool2<16, 8, 4>, Relu),
        (
            (Binary<Conv3x3<16, 32, 4>>, Relu),
            (Binary<Conv3x3<32, 32, 4>>, AvgPool2<32, 4, 2>, Relu),
        ),
        (Binary<Conv3x3<32, 32, 2>>, Relu),
        (Flatten<32, 2, 128>, Binary<UnbiasedLinear<128, 64>>, Relu),
        UnbiasedLinear<64, 10>,
    );
}

network! {
    /// Multilayer perceptron for 8 x 8 digits: two layers of neurons, no bias.
    pub Mlp for Digits = (
        (Flatten<1, 8, 64>, UnbiasedLinear<64, 128>, Relu),
        (UnbiasedLinear<128, 64>, Relu),
        UnbiasedLinear<64, 10>,
    );
}

network! {
    /// Network for the embedded pictures of clothes: four convolutions and a hidden linear layer
    /// with batch normalisation, five layers of neurons; the main job's.
    pub FashionCnn for Fashion = (
        (
            (Conv3x3<1, 16, 14>, BatchNorm<16, 14>, Relu),
            (Conv3x3<16, 32, 14>, BatchNorm<32, 14>, AvgPool2<32, 14, 7>, Relu),
        ),
        (Conv3x3<32, 32, 7>, BatchNorm<32, 7>, Relu),
        (Conv3x3<32, 64, 7>, BatchNorm<64, 7>, Relu),
        (Flatten<64, 7, 3136>, UnbiasedLinear<3136, 64>, BatchNorm1d<64>, Relu),
        UnbiasedLinear<64, 10>,
    );
}

network! {
    /// Network for the MNIST family: two convolutions with average pooling before ReLU and a
    /// hidden linear layer, with batch normalisation; three layers of neurons.
    pub MnistCnn for Mnist = (
        (Conv3x3<1, 16, 28>, BatchNorm<16, 28>, AvgPool2<16, 28, 14>, Relu),
        (Conv3x3<16, 32, 14>, BatchNorm<32, 14>, AvgPool2<32, 14, 7>, Relu),
        (Flatten<32, 7, 1568>, UnbiasedLinear<1568, 128>, BatchNorm1d<128>, Relu),
        UnbiasedLinear<128, 10>,
    );
}

/// Defines blocks of a convolution or linear layer, normalisation or dropout, and ReLU, with or
/// without 2 x 2 average pooling before ReLU.
macro_rules! blocks {
    (plain) => {
        type Block<const IN: usize, const OUT: usize, const SIDE: usize> =
            (Conv3x3<IN, OUT, SIDE>, Relu, DropoutOneIn<10>);
        type Pooled<const IN: usize, const OUT: usize, const SIDE: usize, const HALF: usize> =
            (Conv3x3<IN, OUT, SIDE>, AvgPool2<OUT, SIDE, HALF>, Relu, DropoutOneIn<10>);
        type Hidden<const IN: usize, const OUT: usize> =
            (UnbiasedLinear<IN, OUT>, Relu, DropoutOneIn<10>);
    };
    (norm) => {
        type Block<const IN: usize, const OUT: usize, const SIDE: usize> =
            (Conv3x3<IN, OUT, SIDE>, BatchNorm<OUT, SIDE>, Relu);
        type Pooled<const IN: usize, const OUT: usize, const SIDE: usize, const HALF: usize> =
            (Conv3x3<IN, OUT, SIDE>, BatchNorm<OUT, SIDE>, AvgPool2<OUT, SIDE, HALF>, Relu);
        type Hidden<const IN: usize, const OUT: usize> =
            (UnbiasedLinear<IN, OUT>, BatchNorm1d<OUT>, Relu);
    };
}

/// Defines VGG15s: thirteen convolutions of four widths, the first of which gives planes of 32 x 32,
/// and a hidden linear layer, 2 x 2 average pooling before ReLU, and no bias except that of batch
/// normalisation.
macro_rules! vgg15 {
    ($(mod $module:ident, $kind:ident [$first:ty] $a:literal $b:literal $c:literal $d:literal $hidden:literal {
        $($(#[$doc:meta])* $name:ident for $task:ident $classes:literal;)*
    })*) => {$(
        mod $module {
            #[allow(unused_imports)] // Each kind of block has its own.
            use crate::ann::modules::{AvgPool2, BatchNorm, BatchNorm1d, Conv3x3, DropoutOneIn, Flatten, Relu, UnbiasedLinear};

            blocks!($kind);
            type Features = (
                ($first, Pooled<$a, $a, 32, 16>),
                (Block<$a, $b, 16>, Pooled<$b, $b, 16, 8>),
                (Block<$b, $c, 8>, Block<$c, $c, 8>, Pooled<$c, $c, 8, 4>),
                (Block<$c, $d, 4>, Block<$d, $d, 4>, Pooled<$d, $d, 4, 2>),
                (Block<$d, $d, 2>, Block<$d, $d, 2>, Pooled<$d, $d, 2, 1>),
                (Flatten<$d, 1, $d>, Hidden<$d, $hidden>),
            );
            $(network! {
                $(#[$doc])*
                pub $name for crate::data::tasks::$task = (Features, UnbiasedLinear<$hidden, $classes>);
            })*
        }
        pub use $module::{$($name),*};
    )*};
}

vgg15! {
    mod vgg15, plain [Block<3, 64, 32>] 64 128 256 512 4096 {
        /// VGG15 of Lu and Sengupta (2020) for CIFAR-10: no bias, dropout 0.1.
        Vgg15 for Cifar10 10;
        /// [`Vgg15`] for CIFAR-100.
        Vgg15Cifar100 for Cifar100 100;
    }
    mod vgg15_half, norm [Block<3, 32, 32>] 32 64 128 256 512 {
        /// VGG15 of half the width with batch normalisation, for CIFAR-10.
        Vgg15HalfBn for Cifar10 10;
        /// [`Vgg15HalfBn`] for CIFAR-100.
        Vgg15HalfBnCifar100 for Cifar100 100;
    }
    mod vgg15_half_64, norm [Pooled<3, 32, 64, 32>] 32 64 128 256 512 {
        /// [`Vgg15HalfBn`](crate::ann::networks::Vgg15HalfBn) for Tiny-ImageNet, whose first
        /// convolution is pooled as well: 64 x 64 pixels become planes of 32 x 32.
        Vgg15HalfBnTinyImageNet for TinyImageNet 200;
    }
    mod vgg15_quarter, norm [Block<3, 16, 32>] 16 32 64 128 256 {
        /// VGG15 of a quarter of the width with batch normalisation, for CIFAR-10, small enough for
        /// training on two cores.
        Vgg15QuarterBn for Cifar10 10;
        /// [`Vgg15QuarterBn`] for CIFAR-100.
        Vgg15QuarterBnCifar100 for Cifar100 100;
    }
}

mod resnet20 {
    use crate::ann::modules::{
        BatchNorm, Conv1x1Stride2, Conv3x3, Conv3x3Stride2, GlobalAvgPool, Relu, ResidualAdd,
        UnbiasedLinear,
    };
    use crate::data::tasks::{Cifar10, Cifar100};

    type Body<const C: usize, const SIDE: usize> = (
        (Conv3x3<C, C, SIDE>, BatchNorm<C, SIDE>, Relu),
        (Conv3x3<C, C, SIDE>, BatchNorm<C, SIDE>),
    );
    type Same<const C: usize, const SIDE: usize> = (ResidualAdd<Body<C, SIDE>>, Relu);
    type Halving<const IN: usize, const OUT: usize, const SIDE: usize, const HALF: usize> = (
        ResidualAdd<
            (
                (Conv3x3Stride2<IN, OUT, SIDE, HALF>, BatchNorm<OUT, HALF>, Relu),
                (Conv3x3<OUT, OUT, HALF>, BatchNorm<OUT, HALF>),
            ),
            (Conv1x1Stride2<IN, OUT, SIDE, HALF>, BatchNorm<OUT, HALF>),
        >,
        Relu,
    );
    type Features = (
        (Conv3x3<3, 16, 32>, BatchNorm<16, 32>, Relu),
        (Same<16, 32>, Same<16, 32>, Same<16, 32>),
        (Halving<16, 32, 32, 16>, Same<32, 16>, Same<32, 16>),
        (Halving<32, 64, 16, 8>, Same<64, 8>, Same<64, 8>),
        GlobalAvgPool<64, 8>,
    );

    network! {
        /// ResNet20 (He et al. 2016) for CIFAR-10, with strided convolutions instead of pooling.
        pub ResNet20 for Cifar10 = (Features, UnbiasedLinear<64, 10>);
    }
    network! {
        /// [`ResNet20`] for CIFAR-100.
        pub ResNet20Cifar100 for Cifar100 = (Features, UnbiasedLinear<64, 100>);
    }
}
pub use resnet20::{ResNet20, ResNet20Cifar100};

mod vgg16 {
    use crate::ann::modules::{AvgPool2, Conv3x3, Flatten, Relu, UnbiasedLinear};
    use crate::data::tasks::ImageNet;

    type Block<const IN: usize, const OUT: usize, const SIDE: usize> =
        (Conv3x3<IN, OUT, SIDE>, Relu);
    type Pooled<const IN: usize, const OUT: usize, const SIDE: usize, const HALF: usize> =
        (Conv3x3<IN, OUT, SIDE>, AvgPool2<OUT, SIDE, HALF>, Relu);

    network! {
        /// VGG16 (Simonyan and Zisserman 2015) for ImageNet: average pooling before ReLU, no bias.
        pub Vgg16 for ImageNet = (
            (Block<3, 64, 224>, Pooled<64, 64, 224, 112>),
            (Block<64, 128, 112>, Pooled<128, 128, 112, 56>),
            (Block<128, 256, 56>, Block<256, 256, 56>, Pooled<256, 256, 56, 28>),
            (Block<256, 512, 28>, Block<512, 512, 28>, Pooled<512, 512, 28, 14>),
            (Block<512, 512, 14>, Block<512, 512, 14>, Pooled<512, 512, 14, 7>),
            (
                (Flatten<512, 7, 25088>, UnbiasedLinear<25088, 4096>, Relu),
                (UnbiasedLinear<4096, 4096>, Relu, UnbiasedLinear<4096, 1000>),
            ),
        );
    }
}
pub use vgg16::Vgg16;

#[cfg(test)]
mod tests;
