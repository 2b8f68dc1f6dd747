//! Seeded randomness: one generator, one independent stream for each step.
//!
//! Functions that draw random numbers take a seed instead of a generator, so that a notebook cell
//! gives the same result when it runs again. No global generator is used.

use rand::{RngExt, SeedableRng};
pub use rand_chacha::ChaCha8Rng as Rng;

/// Purpose of random numbers. Each purpose has an independent stream, so that a step that draws
/// more numbers does not change the steps after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Split of images into training, held-out and test parts.
    Split = 1,
    /// Initial weights of a network.
    Weights = 2,
    /// Order of the training images.
    Batches = 3,
    /// Optimiser of the evolution.
    Evolution = 4,
    /// Bootstrap resamples of images.
    Bootstrap = 5,
    /// Dropout masks.
    Dropout = 6,
    /// Input spikes that encode images.
    InputSpikes = 7,
    /// Noise on images, and starting points of attacks.
    Attack = 8,
    /// Trajectories of a sensitivity analysis.
    Sensitivity = 9,
    /// Initial weights of a layer that STDP trains, and the order of its images.
    Stdp = 10,
}

/// Returns the generator of one stream of a seed: ChaCha with 8 rounds, the same on every machine.
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
    image_rng(seed, stream, 0)
}

/// Returns the generator of one image, independent of the other images.
pub(crate) fn image_rng(seed: u64, stream: Stream, image: usize) -> Rng {
    let mut rng = Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64 | (image as u64) << 32);
    rng
}

/// Draws a standard normal number (Box-Muller method).
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
