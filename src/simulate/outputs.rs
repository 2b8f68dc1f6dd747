//! Outputs of a network after every timestep, and how far they are from the ANN's.

use serde::{Deserialize, Serialize};

use crate::base::one_line;

/// Outputs of a network on some images, summed over timesteps, and the number of its spikes.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Outputs {
    pub(crate) classes: usize,
    /// Summed outputs: by image, timestep and class.
    pub(crate) sums: Vec<f32>,
    /// Number of spikes of all neurons: by image and timestep.
    pub(crate) spikes: Vec<u32>,
}

one_line!(
    impl [] Outputs: outputs,
    "outputs of {} classes, summed over timesteps: {} images times timesteps",
    outputs.classes,
    outputs.spikes.len()
);

impl Outputs {
    /// Returns the summed outputs, one value per class: image after image, and of an image timestep
    /// after timestep.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.sums.chunks_exact(self.classes)
    }

    /// Returns the places of the outputs and spikes of each image, empty where none are kept.
    pub(super) fn pieces(&mut self, images: usize) -> Vec<(&mut [f32], &mut [u32])> {
        let [each, timesteps] = [self.sums.len(), self.spikes.len()].map(|all| all / images.max(1));
        let (mut sums, mut spikes) = (&mut self.sums[..], &mut self.spikes[..]);
        let piece = |_| Some((sums.split_off_mut(..each)?, spikes.split_off_mut(..timesteps)?));
        (0..images).filter_map(piece).collect()
    }

    /// Divergence of an image's outputs in timesteps `from..=timesteps` from the ANN's logits: the
    /// Kullback-Leibler divergence of the softmax of the mean output from the softmax of the logits,
    /// in nats, averaged over these timesteps and all images.
    pub(crate) fn divergence(&self, logits: &[f32], timesteps: usize, from: usize) -> f64 {
        self.mean(timesteps, from, |image, output| {
            let ann = log_softmax(&logits[image * self.classes..][..self.classes], 1.0);
            let terms = ann.iter().zip(output).map(|(p, q)| p.exp() * (p - q));
            terms.sum()
        })
    }

    /// Cross-entropy of an image's outputs with its label, averaged like
    /// [`divergence`](Self::divergence), in nats.
    pub(crate) fn cross_entropy(
        &self,
        label: impl Fn(usize) -> usize,
        timesteps: usize,
        from: usize,
    ) -> f64 {
        self.mean(timesteps, from, |image, output| -output[label(image)])
    }

    /// Mean of `of` over all images and timesteps `from..=timesteps`, from the logarithms of the
    /// softmax of the mean output.
    fn mean(&self, timesteps: usize, from: usize, of: impl Fn(usize, &[f64]) -> f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0);
        for (place, row) in self.rows().enumerate() {
            let (image, t) = (place / timesteps, place % timesteps + 1);
            if t >= from {
                sum += of(image, &log_softmax(row, t as f64));
                count += 1;
            }
        }
        sum / f64::from(count)
    }
}

/// Logarithms of the softmax of `row` divided by `by`.
fn log_softmax(row: &[f32], by: f64) -> Vec<f64> {
    let values = || row.iter().map(|&x| f64::from(x) / by);
    let most = values().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = values().map(|x| (x - most).exp()).sum();
    values().map(|x| x - most - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_and_cross_entropy_are_those_of_the_mean_output() {
        // Two images of two classes in three timesteps.
        let sums = vec![0.0, 1.0, 0.0, 2.0, 0.0, 6.0, /**/ 1.0, 0.0, 1.0, 0.5, 1.0, 3.0];
        let outputs = Outputs { classes: 2, sums, spikes: vec![0; 6] };
        let softmax = |x: f64| 1.0 / (1.0 + (-x).exp()); // of the second of two logits
        let (ann, found) = ([2.0, 0.5], [6.0 / 3.0, 2.0 / 3.0]); // how far the second is above
        let entropy = found.iter().map(|&x| -softmax(x).ln()).sum::<f64>() / 2.0;
        assert!((outputs.cross_entropy(|_| 1, 3, 3) - entropy).abs() < 1e-12);
        let divergence = ann.iter().zip(&found).map(|(&p, &q)| {
            let terms = [(softmax(p), softmax(q)), (softmax(-p), softmax(-q))];
            terms.iter().map(|(p, q)| p * (p / q).ln()).sum::<f64>()
        });
        let divergence = divergence.sum::<f64>() / 2.0;
        let logits = [0.0, 2.0, 1.0, 1.5];
        assert!((outputs.divergence(&logits, 3, 3) - divergence).abs() < 1e-12);
        // From the second timestep on, the mean over two timesteps.
        let both = outputs.cross_entropy(|_| 1, 3, 2);
        let second =
            [2.0 / 2.0, -0.5 / 2.0].iter().map(|&x: &f64| -softmax(x).ln()).sum::<f64>() / 2.0;
        assert!((both - (entropy + second) / 2.0).abs() < 1e-12);
    }
}
