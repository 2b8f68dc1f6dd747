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
        /// The paper's kind of network for 8 x 8 digits: six layers of neurons, average pooling
        /// before ReLU, no bias.
        pub DigitsCnn for Digits = (
            (Conv3x3<1, 16, 8>, ReLU, Conv3x3<16, 16, 8>, AvgPool2<16, 8, 4>, ReLU),
            (Conv3x3<16, 32, 4>, ReLU, Conv3x3<32, 32, 4>, AvgPool2<32, 4, 2>, ReLU),
            (Conv3x3<32, 32, 2>, ReLU),
            (Flatten<32, 2, 128>, UnbiasedLinear<128, 64>, ReLU),
            UnbiasedLinear<64, 10>,
        );
    }
}
pub use digits_cnn::DigitsCnn;
