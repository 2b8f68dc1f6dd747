//! Seeded randomness: one generator, one independent stream for each step.
//!
//! Functions that draw at random take a seed rather than a generator, so that running a notebook
//! cell a second time gives what it gave the first time. Nothing is drawn from a global generator.

use rand::{RngExt, SeedableRng};
pub use rand_chacha::ChaCha8Rng as Rng;

/// What random numbers are drawn for. Each purpose has a stream of its own, so that a step that
/// draws more numbers does not change the steps after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Dividing images into training, held-out and test parts.
    Split = 1,
    /// A network's first weights.
    Weights = 2,
    /// The order of the training images.
    Batches = 3,
    /// The optimiser of the evolution.
    Evolution = 4,
    /// Resamples of images.
    Bootstrap = 5,
    /// What dropout drops.
    Dropout = 6,
    /// Spikes that images are given to spiking networks as.
    InputSpikes = 7,
    /// Noise on images, and where attacks on them start.
    Attack = 8,
    /// The trajectories of a sensitivity analysis.
    Sensitivity = 9,
    /// The first weights of a layer that STDP trains, and the order of the images.
    Stdp = 10,
}

/// ChaCha with 8 rounds, whose numbers are the same on every machine: `stream` of `seed`.
///
/// ```
/// use evospike::random::{rng, Stream};
/// use rand::RngExt;
///
/// let draw = |seed, stream| rng(seed, stream).random::<u64>();
/// assert_eq!(draw(7, Stream::Split), draw(7, Stream::Split));
/// assert_ne!(draw(7, Stream::Split), draw(7, Stream::Batches));
/// ```
pub fn rng(seed: u64, stream: Stream) -> Rng {
    let mut rng = Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    rng
}

/// A generator for each image, whose numbers do not depend on the other images.
pub(crate) fn image_rng(seed: u64, stream: Stream, image: usize) -> Rng {
    let mut rng = Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64 | (image as u64) << 32);
    rng
}

/// A standard normal number, by Box and Muller's method.
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
