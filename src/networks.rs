//! Named networks: their layers are typed, and compiled once in the library.

use crate::ann::Trainable;
use crate::data::Task;
use crate::error::Result;

/// A network with a name, made by [`network!`](crate::network). The layers stand behind
/// [`Trainable`], so that code which uses a network compiles quickly.
pub trait Network: 'static {
    /// What the network classifies.
    type Task: Task;
    /// The network's name as people write it.
    const NAME: &'static str;
    /// The network on the CPU, its first weights drawn by `seed`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when memory cannot be had.
    fn build(seed: u64) -> Result<Box<dyn Trainable>>;
}

/// Defines a named network from typed layers: a few lines in a program or a notebook cell.
///
/// ```
/// use evospike::prelude::*;
///
/// network! {
///     /// One hidden layer of neurons.
///     pub Small for Digits = (
///         (Conv3x3<1, 8, 8>, AvgPool2<8, 8, 4>, ReLU),
///         (Flatten<8, 4, 128>, UnbiasedLinear<128, 10>),
///     );
/// }
/// let ann = Ann::<Small>::new(0)?;
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// A layer that does not fit the one before it does not compile, and neither does one that has no
/// spiking counterpart:
///
/// ```compile_fail,E0277
/// # use evospike::prelude::*;
/// network! {
///     pub Wrong for Digits = (
///         (Conv3x3<1, 8, 8>, AvgPool2<8, 8, 4>, ReLU),
///         (Flatten<8, 4, 128>, UnbiasedLinear<64, 10>), // 64 where 128 come
///     );
/// }
/// ```
#[macro_export]
macro_rules! network {
    ($(#[$doc:meta])* $vis:vis $name:ident for $task:ty = $layers:ty;) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        $vis enum $name {}

        impl $crate::networks::Network for $name {
            type Task = $task;
            const NAME: &'static str = stringify!($name);
            fn build(seed: u64) -> $crate::Result<Box<dyn $crate::ann::Trainable>> {
                $crate::ann::build::<$layers, _, _, _>(::std::marker::PhantomData::<$task>, seed)
            }
        }
    };
}

mod digits_cnn {
    use crate::data::Digits;
    use crate::modules::{AvgPool2, Conv3x3, Flatten};
    use dfdx::prelude::{ReLU, UnbiasedLinear};

    network! {
        /// The paper's kind of network for 8 x 8 digits: four layers of neurons, average pooling
        /// before ReLU, no bias.
        pub DigitsCnn for Digits = (
            (Conv3x3<1, 16, 8>, ReLU),
            (Conv3x3<16, 16, 8>, AvgPool2<16, 8, 4>, ReLU),
            (Conv3x3<16, 32, 4>, AvgPool2<32, 4, 2>, ReLU),
            (Flatten<32, 2, 128>, UnbiasedLinear<128, 64>, ReLU),
            UnbiasedLinear<64, 10>,
        );
    }
}
pub use digits_cnn::DigitsCnn;

/// VGG15 of 3 x 32 x 32 images with batch normalisation, of five widths; its first linear layer has
/// `$hidden` outputs.
macro_rules! vgg15_bn {
    ($($(#[$doc:meta])* $name:ident, $module:ident: $a:literal $b:literal $c:literal $d:literal
        flat $flat:literal hidden $hidden:literal; $task:ident $classes:literal;)*) => {$(
        mod $module {
            use crate::data::$task;
            use crate::modules::{AvgPool2, BatchNorm, BatchNorm1d, Conv3x3, Flatten, Relu};
            use dfdx::prelude::UnbiasedLinear;

            type Conv<const IN: usize, const OUT: usize, const SIDE: usize> =
                (Conv3x3<IN, OUT, SIDE>, BatchNorm<OUT, SIDE>, Relu);
            type Pooled<const IN: usize, const OUT: usize, const SIDE: usize, const HALF: usize> =
                (Conv3x3<IN, OUT, SIDE>, BatchNorm<OUT, SIDE>, AvgPool2<OUT, SIDE, HALF>, Relu);

            network! {
                $(#[$doc])*
                pub $name for $task = (
                    (Conv<3, $a, 32>, Pooled<$a, $a, 32, 16>),
                    (Conv<$a, $b, 16>, Pooled<$b, $b, 16, 8>),
                    (Conv<$b, $c, 8>, Conv<$c, $c, 8>, Pooled<$c, $c, 8, 4>),
                    (Conv<$c, $d, 4>, Conv<$d, $d, 4>, Pooled<$d, $d, 4, 2>),
                    (Conv<$d, $d, 2>, Conv<$d, $d, 2>, Pooled<$d, $d, 2, 1>),
                    (
                        (Flatten<$d, 1, $flat>, UnbiasedLinear<$flat, $hidden>),
                        (BatchNorm1d<$hidden>, Relu, UnbiasedLinear<$hidden, $classes>),
                    ),
                );
            }
        }
        pub use $module::$name;
    )*};
}

vgg15_bn! {
    /// VGG15 of half the usual width with batch normalisation, for CIFAR-10.
    Vgg15HalfBn, vgg15_half_bn: 32 64 128 256 flat 256 hidden 512; Cifar10 10;
    /// VGG15 of a quarter of the usual width with batch normalisation, for CIFAR-10: one that two
    /// cores can train.
    Vgg15QuarterBn, vgg15_quarter_bn: 16 32 64 128 flat 128 hidden 256; Cifar10 10;
}
